//! The process: its sockets, signals, and hostile clients.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use smtp_auth::sasl::Mechanism;

use crate::{
    postgres::Postgres,
    support::{Authd, BINARY, Client, Outcome, PASSWORD},
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
    let demo = directory.path().join("demo");
    let mut command = Command::new(BINARY);
    command.args(["--demo", "--directory"]).arg(&demo).env_remove("DATABASE_URL");
    command.envs(database.map(|url| ("DATABASE_URL", url)));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with("Serving")).collect();
    let password = lines.iter().find_map(|line| line.strip_prefix("Password: ")).unwrap();
    let password = password.split(' ').next().unwrap();
    assert!(lines.iter().any(|line| line.trim() == "smtpd_sasl_type = dovecot"));
    assert!(lines.iter().any(|line| line.trim() == "driver = dovecot"));
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
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!socket.exists());
}

#[test]
fn a_second_process_does_not_take_the_socket_and_a_killed_one_is_replaced() {
    let mut authd = Authd::new(None, "");
    authd.done(&["add", "tim"], PASSWORD);
    let first = authd.start();
    let second = authd.command(&["serve"]).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8(second.stderr).unwrap().contains("another process serves"));
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

#[test]
fn a_socket_of_the_service_manager_is_used() {
    let authd = Authd::new(None, "[limits]\nfailure_delay_ms = 10");
    authd.done(&["add", "tim"], PASSWORD);
    let socket = authd.path("activated");
    let Ok(mut child) = Command::new("systemd-socket-activate")
        .arg("-l")
        .arg(&socket)
        .args([BINARY, "--config"])
        .arg(authd.path("authd.toml"))
        .stderr(Stdio::null())
        .spawn()
    else {
        return eprintln!("systemd-socket-activate is not installed: the test is skipped");
    };
    let begin = Instant::now();
    while !socket.exists() && begin.elapsed() < Duration::from_secs(10) {}
    let outcome = Client::connect(&socket, 0).sign_in(Mechanism::Plain, None, "tim", PASSWORD);
    assert_eq!(outcome, Outcome::Ok("tim".into()));
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    child.wait().unwrap();
}

#[test]
fn metrics_are_served_on_a_socket_and_have_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics");
    let mut authd = Authd::new(
        None,
        &format!(
            "[limits]\nfailure_delay_ms = 10\n[metrics]\nlisten = \"unix:{}\"",
            path.display()
        ),
    );
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    let mut client = authd.connect();
    client.sign_in(Mechanism::Plain, None, "tim", PASSWORD);
    client.sign_in(Mechanism::ScramSha256, None, "mallory", "wrong");
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    for line in [
        "smtp_authd_exchanges_total{mechanism=\"PLAIN\",outcome=\"authenticated\"} 1",
        "smtp_authd_exchanges_total{mechanism=\"SCRAM-SHA-256\",outcome=\"failed\"} 1",
        "smtp_authd_connections 1",
        "smtp_authd_limiter_accounts 1",
    ] {
        assert!(text.lines().any(|own| own == line), "{line} in {text}");
    }
    assert!(!text.contains("tim") && !text.contains("mallory"));
}

#[test]
fn the_log_has_no_secret_even_if_it_has_everything_else() {
    let mut authd = Authd::new(
        None,
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
}

#[test]
fn hostile_clients_end_neither_the_service_nor_anothers_exchange() {
    let mut authd = Authd::new(None, "[limits]\nfailure_delay_ms = 10");
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    let mut good = authd.connect();
    let lines: [&[u8]; 6] = [
        b"VERSION\t2\t0\n",
        b"VERSION\t1\t0\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\nAUTH\t1\tPLAIN\tservice=smtp\n",
        b"VERSION\t1\t0\nCPID\t1\nAUTH\tx\n",
        b"\0\xff\n",
        b"VERSION\t1\t0\nCPID\t1\nAUTH\t1\tSCRAM-SHA-256\tservice=smtp\tresp=",
        b"VERSION",
    ];
    for line in lines {
        for _ in 0..50 {
            let mut stream = UnixStream::connect(authd.path("auth")).unwrap();
            stream.write_all(line).unwrap();
        }
    }
    let mut endless = UnixStream::connect(authd.path("auth")).unwrap();
    let written = (0..1000).map_while(|_| endless.write_all(&[b'x'; 4096]).ok()).count();
    assert!(written < 1000, "a line without an end is cut off");
    let outcome = good.sign_in(Mechanism::ScramSha256, None, "tim", PASSWORD);
    assert_eq!(outcome, Outcome::Ok("tim".into()));
}
