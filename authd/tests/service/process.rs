//! The process: its start and end, its sockets and its log.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixDatagram, UnixStream},
    },
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use smtp_auth::sasl::Mechanism;

use crate::{
    postgres::Postgres,
    sign_in::each,
    support::{Authd, BINARY, Client, Outcome, PASSWORD, skipped},
};

#[test]
fn the_demo_works_with_nothing_configured() {
    demo(None);
}

#[test]
fn the_demo_works_on_postgresql() {
    match Postgres::start() {
        Some(mut postgres) => demo(Some(&postgres.database())),
        None => eprintln!("PostgreSQL is not installed: the test is skipped"),
    }
}

fn demo(database: Option<&str>) {
    let directory = tempfile::tempdir().unwrap();
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(directory.path(), private).unwrap();
    let (demo, file) = (directory.path().join("demo"), directory.path().join("authd.toml"));
    let other = directory.path().join("other");
    // The demo has its own socket, whatever the configuration says.
    std::fs::write(&file, format!("[[socket]]\npath = \"{}\"\n", other.display())).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["--demo", "--directory"]).arg(&demo).env_remove("DATABASE_URL");
    command.arg("--config").arg(&file);
    command.envs(database.map(|url| ("DATABASE_URL", url)));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with("Serving")).collect();
    let password = lines.iter().find_map(|line| line.strip_prefix("Password: ")).unwrap();
    let password = password.split(' ').next().unwrap();
    // The lines that it shows are those of the page, except for the paths.
    let page = include_str!("../../../docs/postfix-and-exim.md");
    let blocks = page.split("```text").skip(1).filter_map(|rest| rest.split("```").next());
    let is_path = |line: &&str| line.contains("smtpd_sasl_path") || line.contains("server_socket");
    let expected: Vec<_> =
        blocks.flat_map(str::lines).map(str::trim).filter(|line| !is_path(line)).collect();
    assert!(expected.len() > 10, "{expected:?}");
    for line in expected {
        assert!(lines.iter().any(|shown| shown.trim() == line), "the demo does not show {line:?}");
    }
    let warning = lines.iter().find(|line| line.starts_with("Warning:")).unwrap();
    let closed = directory.path().canonicalize().unwrap();
    assert!(warning.contains(closed.to_str().unwrap()), "{warning}");
    let socket = demo.join("auth");
    let begin = Instant::now();
    while UnixStream::connect(&socket).is_err() && begin.elapsed() < Duration::from_secs(10) {}
    let mut client = Client::connect(&socket, 0);
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256] {
        assert_eq!(client.sign_in(mechanism, None, "demo", password), Outcome::Ok("demo".into()));
    }
    for entry in std::fs::read_dir(&demo).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        let expected = if metadata.file_type().is_socket() { 0o666 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, expected, "{:?}", entry.path());
    }
    assert_eq!(demo.join("accounts.db").exists(), database.is_none());
    assert!(!other.exists());
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!socket.exists());
}

#[test]
fn a_second_process_does_not_take_the_socket_and_a_killed_one_is_replaced() {
    let mut authd = Authd::new(None, "");
    authd.done(&["add", "tim"], PASSWORD);
    let first = authd.start();
    let said = authd.refused(&["serve"]);
    assert!(said.contains("another process serves"), "{said}");
    let outcome = authd.connect().sign_in(Mechanism::ScramSha256, None, "tim", PASSWORD);
    assert_eq!(outcome, Outcome::Ok("tim".into()), "the first goes on");
    authd.signal(first, "-KILL");
    assert!(!authd.wait());
    assert!(authd.path("auth").metadata().unwrap().file_type().is_socket());
    authd.start();
    let outcome = authd.connect().sign_in(Mechanism::ScramSha256, None, "tim", PASSWORD);
    assert_eq!(outcome, Outcome::Ok("tim".into()));
}

#[test]
fn a_stop_lets_open_exchanges_end() {
    let mut authd = Authd::new(None, "[limits]\nfailure_delay_ms = 1000");
    authd.done(&["add", "tim"], PASSWORD);
    let pid = authd.start();
    let (mut idle, mut busy) = (authd.connect(), authd.connect());
    let id = busy.begin(None, "tim", "wrong");
    authd.wait_for("not authenticated");
    authd.signal(pid, "-TERM");
    assert_eq!(idle.end().1, Outcome::Closed);
    assert_eq!(busy.end(), (id, Outcome::Fail));
    assert_eq!(busy.end().1, Outcome::Closed);
    assert!(authd.wait());
    assert!(!authd.path("auth").exists());
}

/// Postfix leaves the exchange of a user who hangs up open.
#[test]
fn a_stop_does_not_wait_for_an_exchange_that_its_user_has_abandoned() {
    let mut authd = Authd::new(None, "");
    authd.done(&["add", "tim"], PASSWORD);
    let pid = authd.start();
    let mut client = authd.connect();
    client.first_challenge("tim");
    let begin = Instant::now();
    authd.signal(pid, "-TERM");
    assert_eq!(client.end().1, Outcome::Closed);
    assert!(authd.wait());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn a_socket_has_the_owner_and_the_group_of_the_configuration() {
    let mut authd = Authd::new(None, "");
    let path = authd.path("own");
    let socket = |owner: &str, group: &str| {
        let path = path.display();
        format!(
            "[[socket]]\npath = \"{path}\"\nmode = \"0660\"\nowner = \"{owner}\"\ngroup = \"{group}\"\n"
        )
    };
    authd.configure(None, &socket("root", "no such group"));
    let said = authd.refused(&["serve"]);
    assert!(said.contains("no group named `no such group`"), "{said}");
    if !rustix::process::getuid().is_root() {
        return eprintln!("only root can give a socket to another user: the rest is skipped");
    }
    authd.configure(None, &socket("daemon", "mail"));
    authd.start();
    let metadata = path.metadata().unwrap();
    let id = |file: &str, name: &str| -> u32 {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        line.split(':').nth(2).unwrap().parse().unwrap()
    };
    let expected = (id("/etc/passwd", "daemon"), id("/etc/group", "mail"), 0o660);
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), expected);
}

#[test]
fn the_service_manager_is_told_of_the_start_and_the_end() {
    let authd = Authd::new(None, "");
    let path = authd.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let next = || {
        let mut octets = [0; 64];
        let length = manager.recv(&mut octets).unwrap();
        String::from_utf8(octets[..length].to_vec()).unwrap()
    };
    let mut command = authd.command(&["serve"]);
    let mut child = command.env("NOTIFY_SOCKET", &path).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(next(), "READY=1");
    authd.signal(child.id(), "-TERM");
    assert_eq!(next(), "STOPPING=1");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_units_of_systemd_are_valid() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-analyze");
    command.arg("verify");
    let page = include_str!("../../../docs/postfix-and-exim.md");
    for name in ["smtp-authd.service", "smtp-authd-postfix.socket", "smtp-authd-exim.socket"] {
        let text =
            std::fs::read_to_string(format!("{}/systemd/{name}", env!("CARGO_MANIFEST_DIR")));
        let text = text.unwrap().replace("/usr/local/bin/smtp-authd", BINARY);
        assert!(page.contains(name), "the page does not explain {name}");
        // Without a section of the same path, the addresses that come by the socket are not trusted.
        if let Some(path) = text.lines().find_map(|line| line.strip_prefix("ListenStream=")) {
            let section = format!("[[socket]]\npath = \"{path}\"\ntrusted = true");
            assert!(page.contains(&section), "the page does not show {section:?}");
        }
        std::fs::write(directory.path().join(name), text).unwrap();
        command.arg(directory.path().join(name));
    }
    let Ok(output) = command.output() else {
        return skipped("systemd-analyze is not installed");
    };
    // It warns of other units of this machine as well.
    let said = String::from_utf8(output.stderr).unwrap();
    let own: Vec<_> = said.lines().filter(|line| line.contains("smtp-authd")).collect();
    assert!(output.status.success() && own.is_empty(), "{said}");
}

#[test]
fn a_socket_of_the_service_manager_is_used_and_trusted_only_if_its_section_says_so() {
    let authd = Authd::new(None, "");
    let untrusted = authd.path("untrusted");
    let [not_trusted, not_passed] = [&untrusted, &authd.path("not-passed")]
        .map(|path| format!("[[socket]]\npath = \"{}\"\n", path.display()));
    authd.configure(None, &format!("{not_trusted}{not_passed}"));
    authd.done(&["add", "tim"], PASSWORD);
    let sockets = [authd.path("auth"), untrusted, authd.path("without-section")];
    let Ok(mut child) = Command::new("systemd-socket-activate")
        .args(sockets.iter().flat_map(|socket| [OsStr::new("-l"), socket.as_os_str()]))
        .args([BINARY, "--config"])
        .arg(authd.path("authd.toml"))
        .stderr(std::fs::File::create(authd.path("log")).unwrap())
        .spawn()
    else {
        return skipped("systemd-socket-activate is not installed");
    };
    let signed_in = std::panic::catch_unwind(|| {
        for (socket, rip) in sockets.iter().zip(["192.0.2.1", "192.0.2.2", "192.0.2.3"]) {
            let begin = Instant::now();
            while UnixStream::connect(socket).is_err() && begin.elapsed() < Duration::from_secs(10)
            {
            }
            let mut client = Client::connect(socket, 0);
            let outcome = client.sign_in(Mechanism::Plain, Some(rip), "tim", PASSWORD);
            assert_eq!(outcome, Outcome::Ok("tim".into()), "{socket:?}");
        }
    });
    // The program has taken the place of systemd-socket-activate.
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    child.wait().unwrap();
    signed_in.unwrap();
    // The log shows only the addresses that are used.
    let log = authd.log();
    let shown = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|rip| log.contains(rip));
    assert_eq!(shown, [true, false, false], "{log}");
    let warned: Vec<_> =
        log.lines().filter(|line| line.contains("no [[socket]] section")).collect();
    assert!(matches!(warned[..], [line] if line.contains("without-section")), "{log}");
    let warned: Vec<_> =
        log.lines().filter(|line| line.contains("this socket is not served")).collect();
    assert!(matches!(warned[..], [line] if line.contains("not-passed")), "{log}");
}

#[test]
fn the_log_has_no_secret_even_if_it_has_everything_else() {
    each(|database| {
        let mut authd = Authd::new(
            database,
            "[limits]\nfailure_delay_ms = 10\n[log]\nfilter = \"trace\"\nformat = \"json\"\nnames = false",
        );
        authd.done(&["add", "account-of-tim"], PASSWORD);
        let stored = authd.done(&["export", "rfc5803"], "");
        authd.start();
        let mut client = authd.connect();
        for mechanism in [Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256] {
            client.sign_in(mechanism, Some("192.0.2.1"), "account-of-tim", PASSWORD);
            client.sign_in(mechanism, Some("192.0.2.1"), "hunter2-in-place-of-a-name", "hunter3");
        }
        authd.wait_for_all(&["\"message\":\"authenticated\"", "smtp_authd::dialogue"]);
        let log = authd.log();
        assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
        let base64 = ["aHVudGVy", "dGFuc3RhYWZ0YW5zdGFhZg", "YWNjb3VudC1vZi10aW0"];
        let keys = stored.split(['$', ':']).filter(|part| part.len() > 20);
        for secret in [PASSWORD, "hunter", "account-of-tim"].into_iter().chain(base64).chain(keys) {
            assert!(!log.contains(secret.trim()), "{secret} in {log}");
        }
    });
}
