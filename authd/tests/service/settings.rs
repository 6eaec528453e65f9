//! The configuration file, its reload, and the metrics.

use std::{
    collections::HashSet,
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
};

use smtp_auth::sasl::Mechanism;

use crate::support::{Authd, BINARY, Outcome, PASSWORD, get};

const FAST: &str = "[limits]\nfailure_delay_ms = 10\n";

fn ok(authd: &Authd) {
    let outcome = authd.connect().sign_in(Mechanism::Plain, None, "tim", PASSWORD);
    assert_eq!(outcome, Outcome::Ok("tim".into()));
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let authd = Authd::new(None, "");
    let path = authd.path("authd.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    for arguments in [&["serve"][..], &["account", "list"]] {
        let said = authd.refused(arguments);
        assert!(said.contains(&format!("chmod 0600 {}", path.display())), "{said}");
    }
}

#[test]
fn a_reload_takes_a_good_file_and_leaves_a_bad_one() {
    let mut authd = Authd::new(None, FAST);
    authd.done(&["add", "tim"], PASSWORD);
    let pid = authd.start();
    let path = authd.path("authd.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let before = ["SCRAM-SHA-256", "PLAIN", "LOGIN"];
    let hunter2 = "[accounts]\ncram_md5 = \"hunter2\"\n";
    for (text, mode, expected) in [
        (format!("{good}{hunter2}"), 0o600, "authd.toml, line "),
        (format!("{good}[accounts]\niterations = 1\n"), 0o600, "`iterations` is not between"),
        (good.clone(), 0o644, "run `chmod 0600"),
        (format!("hostname = \"a b\"\n{good}"), 0o600, "host name"),
    ] {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        authd.signal(pid, "-HUP");
        authd.wait_for_all(&["the configuration is not reloaded", expected]);
        assert!(!authd.log().contains("hunter2"), "{}", authd.log());
        authd.wait_for("the configuration is not reloaded");
        assert_eq!(authd.connect().mechanisms, before);
        ok(&authd);
    }
    let mut open = authd.connect();
    authd.configure(None, &format!("{FAST}[accounts]\ncram_md5 = true\n[log]\nnames = false\n"));
    authd.signal(pid, "-HUP");
    authd.wait_for("reloaded");
    assert_eq!(authd.connect().mechanisms, ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"]);
    let outcome = open.sign_in(Mechanism::Plain, None, "tim", PASSWORD);
    assert_eq!(outcome, Outcome::Ok("tim".into()), "a connection stays open over a reload");
    ok(&authd);
    authd.wait_for("account=\"***\"");
    authd.configure(None, &format!("max_connections = 7\n{FAST}account = 3\n"));
    authd.signal(pid, "-HUP");
    authd.wait_for("settings=\"max_connections, [limits]\"");
}

/// Reads the text format of Prometheus. Each sample has one line, and its metric one type.
fn metrics(text: &str) -> Vec<(&str, &str)> {
    let (mut samples, mut types, mut names) = (Vec::new(), HashSet::new(), HashSet::new());
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            assert!(types.insert(name) && ["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        assert!(types.contains(name) && names.insert(sample), "{line}");
        assert!(name.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_'), "{line}");
        value.parse::<f64>().unwrap();
        for label in labels.strip_suffix('}').unwrap().split(',').filter(|label| !label.is_empty())
        {
            let (key, value) = label.split_once('=').unwrap();
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
            let allowed: &[&str] = match key {
                "mechanism" => &[
                    "SCRAM-SHA-512",
                    "SCRAM-SHA-256",
                    "SCRAM-SHA-1",
                    "CRAM-MD5",
                    "PLAIN",
                    "LOGIN",
                    "other",
                ],
                "outcome" => &["authenticated", "failed", "temporary", "aborted"],
                _ => &[],
            };
            assert!(allowed.contains(&value), "{line}");
        }
        samples.push((sample, value));
    }
    assert!(text.ends_with('\n') && !samples.is_empty());
    samples
}

#[test]
fn metrics_are_served_on_a_socket_or_loopback_and_have_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for listen in [format!("unix:{}", path.display()), free.to_string()] {
        let mut authd = Authd::new(None, &format!("{FAST}[metrics]\nlisten = \"{listen}\"\n"));
        authd.done(&["add", "tim"], PASSWORD);
        authd.start();
        let mut client = authd.connect();
        client.sign_in(Mechanism::Plain, None, "tim", PASSWORD);
        client.sign_in(Mechanism::ScramSha256, None, "mallory", "wrong");
        // A mechanism that is not offered has a name of the client's choice.
        client.unknown("HUNTER2");
        let text = match listen.starts_with("unix:") {
            true => get(UnixStream::connect(&path).unwrap()),
            false => get(TcpStream::connect(free).unwrap()),
        };
        let samples = metrics(&text);
        for expected in [
            ("smtp_authd_exchanges_total{mechanism=\"PLAIN\",outcome=\"authenticated\"}", "1"),
            ("smtp_authd_exchanges_total{mechanism=\"SCRAM-SHA-256\",outcome=\"failed\"}", "1"),
            ("smtp_authd_exchanges_total{mechanism=\"other\",outcome=\"aborted\"}", "1"),
            ("smtp_authd_connections", "1"),
            ("smtp_authd_limiter_accounts", "1"),
        ] {
            assert!(samples.contains(&expected), "{expected:?} in {text}");
        }
        for name in ["tim", "mallory", "HUNTER2", "hunter2"] {
            assert!(!text.contains(name), "{name} in {text}");
        }
    }
}

#[test]
fn metrics_are_not_served_to_other_machines_and_not_at_all_by_default() {
    let authd = Authd::new(None, "[metrics]\nlisten = \"0.0.0.0:0\"\n");
    let said = authd.refused(&["serve"]);
    assert!(said.contains("loopback"), "{said}");
    let mut quiet = Authd::new(None, "");
    let pid = quiet.start();
    let sockets = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let listening: HashSet<_> = sockets
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(3) == Some(&"0A"))
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        assert!(!listening.contains(target.to_str().unwrap_or_default()), "{target:?} of {BINARY}");
    }
}
