//! Nothing secret in what a server session shows: its events in `Debug`, and its trace.

use smtp_auth::{
    sasl::{Channel, Query},
    server::{Config, Event, Session},
};
use std::sync::{Arc, Mutex};

fn session() -> Session {
    let mut session = Session::new(Arc::new(
        Config::builder("smtp.example.com")
            .sasl(
                smtp_auth::sasl::server::Config::builder("smtp.example.com")
                    .mechanisms(smtp_auth::sasl::Mechanism::COMPILED)
                    .build()
                    .unwrap(),
            )
            .build()
            .unwrap(),
    ));
    session.tls_started(Channel::tls());
    session.receive(b"EHLO x\r\n");
    while !matches!(session.next(&mut Vec::new()), Event::NeedInput) {}
    session
}

#[test]
fn a_line_under_way_is_not_in_debug() {
    let mut session = session();
    session.receive(b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
    let _ = session.next(&mut Vec::new());
    let shown = format!("{session:?}");
    let secret = format!("{:?}", b"AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
    assert!(!shown.contains(secret.trim_matches(['[', ']'])), "{shown}");
}

#[test]
fn the_digest_is_not_in_debug() {
    let mut session = session();
    session.receive(b"AUTH CRAM-MD5\r\ndGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw\r\n");
    let mut out = Vec::new();
    let event = session.next(&mut out);
    assert!(matches!(event, Event::Query(Query::CramSecret(_))));
    let shown = format!("{event:?}");
    assert!(!shown.contains("185, 19, 166, 2"), "{shown}");
}

#[test]
fn a_name_that_is_no_mechanism_is_not_in_the_trace() {
    let mut session = session();
    let trace = Arc::new(Mutex::new(String::new()));
    let hook = Arc::clone(&trace);
    session.trace(move |_, line| hook.lock().unwrap().push_str(line));
    // A client that forgets the mechanism, or has its words in the wrong order.
    session.receive(b"AUTH AHUAc2VjcmV0\r\n");
    let _ = session.next(&mut Vec::new());
    assert!(!trace.lock().unwrap().contains("AHUAc2VjcmV0"));
}

/// It may be a password, or its base64, where a client is out of step.
#[test]
fn a_line_that_is_no_known_command_is_shown_to_nobody() {
    use smtp_auth::command::{Command, parse};
    for line in ["swordfish", "c3dvcmRmaXNo", "swordfish twice", "\u{fc}swordfish", " swordfish"] {
        let mut session = session();
        let trace = Arc::new(Mutex::new(String::new()));
        let hook = Arc::clone(&trace);
        session.trace(move |_, line| hook.lock().unwrap().push_str(line));
        session.receive(format!("{line}\r\n").as_bytes());
        let mut out = Vec::new();
        let event = session.next(&mut out);
        assert!(matches!(event, Event::NeedInput), "{line}: {event:?}");
        assert!(out.starts_with(b"500 5.5.2 "), "{line}: {}", out.escape_ascii());
        let parsed = parse(line.as_bytes());
        if let Ok(Command::Unknown(unknown)) = parsed {
            assert!(line.starts_with(unknown.verb()));
        }
        let shown = format!("{parsed:?} {parsed:#?} {session:?} {}", trace.lock().unwrap());
        assert!(!shown.contains("swordfish") && !shown.contains("c3dvcmRmaXNo"), "{shown}");
    }
}

/// With the server's proof, and what else is in the clear, a password can be guessed.
#[test]
fn the_proof_of_a_server_is_neither_in_the_trace_nor_in_debug() {
    use smtp_auth::sasl::ScramKeys;
    let mut session = session();
    let trace = Arc::new(Mutex::new(String::new()));
    let hook = Arc::clone(&trace);
    session.trace(move |_, line| hook.lock().unwrap().push_str(line));
    let config = smtp_auth::client::Config::builder("client.example.com");
    let scram = smtp_auth::sasl::client::Config::builder();
    let scram = scram.mechanisms([smtp_auth::sasl::Mechanism::ScramSha256]).build().unwrap();
    let config = config.sasl(scram).build().unwrap();
    let credentials = smtp_auth::sasl::client::Credentials::password("tim", "pencil").unwrap();
    let mut client = smtp_auth::client::Session::new(config.into(), credentials);
    client.tls_started(Channel::tls());
    let hook = Arc::clone(&trace);
    client.trace(move |_, line| hook.lock().unwrap().push_str(line));
    client.receive(b"220 x\r\n");
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    let _ = client.next(&mut to_server);
    client.receive(b"250-x\r\n250 AUTH SCRAM-SHA-256\r\n");
    let (mut challenges, mut shown) = (Vec::new(), String::new());
    to_server.clear();
    loop {
        match client.next(&mut to_server).unwrap() {
            smtp_auth::client::Event::Derive(ask) => ask.run(),
            smtp_auth::client::Event::NeedInput => {
                session.receive(&to_server);
                to_server.clear();
                while let Event::Query(Query::ScramKeys(ask)) = session.next(&mut to_client) {
                    ask.answer(ScramKeys::from_password(ask.hash(), "pencil", b"salt", 4096));
                }
                shown.push_str(&format!("{session:?}{client:?}"));
                if let Some(challenge) = to_client.strip_prefix(b"334 ") {
                    challenges.push(String::from_utf8_lossy(challenge.trim_ascii()).into_owned());
                }
                client.receive(&to_client);
                to_client.clear();
            }
            _ => break,
        }
    }
    shown.push_str(&trace.lock().unwrap());
    assert_eq!(challenges.len(), 2);
    assert!(shown.contains("AUTH SCRAM-SHA-256 ***") && shown.contains("334 ***"));
    for challenge in challenges {
        assert!(!shown.contains(&challenge), "{challenge} in {shown}");
    }
}

/// A hook that is set while an exchange is under way knows no more of it than any other.
#[test]
fn a_trace_that_begins_late_masks_challenges_too() {
    let mut session = session();
    session.receive(b"AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9YWJj\r\n");
    let _ = session.next(&mut Vec::new());
    let trace = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&trace);
    session.trace(move |side, line| hook.lock().unwrap().push(format!("{side}: {line}")));
    let mut out = Vec::new();
    while let Event::Query(query) = session.next(&mut out) {
        query.reject();
    }
    assert!(out.starts_with(b"334 c"));
    assert_eq!(*trace.lock().unwrap(), ["S: 334 ***"]);
}

#[test]
fn the_trace_is_in_the_order_of_the_wire() {
    let mut session = session();
    let trace = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&trace);
    session.trace(move |side, line| hook.lock().unwrap().push(format!("{side}: {line}")));
    session.receive(b"AUTH LOGIN\r\n*\r\n");
    let _ = session.next(&mut Vec::new());
    let trace = trace.lock().unwrap();
    let found: Vec<&str> = trace.iter().map(|line| line.get(..6).unwrap_or(line)).collect();
    assert_eq!(found, ["C: AUT", "S: 334", "C: *", "S: 501"]);
}
