//! Nothing secret in `Debug` and in the trace, and nothing that cannot be read is repeated.

use std::sync::{Arc, Mutex};

use smtp_auth::dovecot::{ClientLine, Cookie, Event, ServerLine, Session};

use super::{auth, ready, session};

fn traced(mut session: Session, sent: &str) -> (Vec<String>, String) {
    let trace = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&trace);
    session.trace(move |side, line| lines.lock().unwrap().push(format!("{side}: {line}")));
    session.receive(sent.as_bytes());
    let (mut out, mut debug) = (Vec::new(), String::new());
    loop {
        let event = session.next(&mut out);
        debug += &format!("{event:?}\n");
        match event {
            Event::NeedInput | Event::Close(_) => break,
            Event::Query(_, query) => query.reject(),
            Event::Authenticated(..) | Event::AuthFailed(_) => {}
        }
        debug += &format!("{session:?}\n");
    }
    let lines = trace.lock().unwrap().clone();
    (lines, debug)
}

#[test]
fn a_trace_masks_secrets() {
    let sent = [
        &auth(1),
        "AUTH\t2\tPLAIN\tservice=smtp\tsession=x\tunknown=swordfish\tsecured\n",
        "CONT\t2\tAHRpbQB0YW5zdGFhZg==\n",
        "AUTH\t3\tCRAM-MD5\tservice=smtp\nCANCEL\t3\n",
        "AUTH\t4\tswordfish\tsession=swordfish\n",
        "AUTH\t5\tswordfish\tservice=smtp\tsession=x\n",
        "CONT\t9\t\nswordfish\n",
    ]
    .concat();
    let (lines, debug) = traced(ready(1), &sent);
    assert_eq!(
        lines,
        [
            "C: AUTH\t1\tPLAIN\tservice=smtp\tnologin\tsecured\tresp=***",
            "S: FAIL\t1\treason=The user name, password or token is wrong",
            "C: AUTH\t2\tPLAIN\tservice=smtp\tnologin\tsession=x\tsecured",
            "S: CONT\t2\t",
            "C: CONT\t2\t***",
            "S: FAIL\t2\treason=The user name, password or token is wrong",
            "C: AUTH\t3\tCRAM-MD5\tservice=smtp\tnologin",
            "S: CONT\t3\t***",
            "C: CANCEL\t3",
            "C: ***",
            "S: FAIL\t4\treason=The request is malformed",
            "C: AUTH\t5\t***",
            "S: FAIL\t5\treason=This mechanism is not offered here",
            "C: CONT\t9\t",
            "S: FAIL\t9\treason=Authentication cancelled",
            "C: ***",
        ]
    );
    for secret in ["tanstaaf", "swordfish", "AHRp"] {
        assert!(!debug.contains(secret), "{secret} in {debug}");
    }
    assert!(!debug.contains(&format!("{:?}", b"tanstaaf").replace(['[', ']'], "")));
}

#[test]
fn a_trace_masks_the_cookie() {
    let (lines, debug) = traced(session(), "");
    assert_eq!(lines.last().map(String::as_str), Some("S: DONE"));
    assert!(lines.contains(&"S: COOKIE\t***".to_owned()));
    assert!(!lines.concat().contains("303132") && !debug.contains("303132"));
    assert!(!format!("{:?}", Cookie::new([0x77; 16])).contains("77"));
}

#[test]
fn lines_hide_their_data() {
    for line in [&auth(1)[..], "CONT\t1\tAHRpbQB0YW5zdGFhZg==\n"] {
        let line = ClientLine::parse(line.trim_end().as_bytes()).unwrap();
        assert!(format!("{line:?}").contains("***"));
        assert!(!format!("{line:?}").contains("tanstaaf"));
    }
    let line = ServerLine::parse(b"CONT\t1\tAHRpbQB0YW5zdGFhZg==").unwrap();
    assert!(!format!("{line:?}").contains("116, 97, 110"));
}
