//! What a session keeps of a client is bounded, and what is beyond ends as it is documented.

use smtp_auth::{
    dovecot::{CloseReason, Event, MAX_EXCHANGES, MAX_LINE, Session},
    sasl::{Failure, Mechanism},
};

use super::{auth, config, ready, session_of};

/// Answers nothing. Returns the events in short, and what is sent.
fn run(session: &mut Session) -> (Vec<String>, String) {
    let (mut out, mut events) = (Vec::new(), Vec::new());
    loop {
        events.push(match session.next(&mut out) {
            Event::NeedInput => return (events, String::from_utf8(out).unwrap()),
            Event::Query(request, _) => format!("query {}", request.id()),
            Event::AuthFailed(failed) => format!("failed {} {:?}", failed.request.id(), failed.why),
            Event::Authenticated(request, _) => format!("authenticated {}", request.id()),
            Event::Close(why) => panic!("{why}"),
        });
    }
}

/// What a client claims of a TLS connection is not believed, and the properties of a custom mechanism are unknown.
#[test]
fn a_mechanism_that_is_not_offered_cannot_be_used() {
    let own = Mechanism::custom("X-OWN").unwrap();
    let config = config().mechanisms([own, Mechanism::External, Mechanism::ScramSha256]);
    let mut session = session_of(config.build().unwrap().into());
    session.receive(b"VERSION\t1\t0\nCPID\t7\n");
    let out = run(&mut session).1;
    assert!(out.starts_with("VERSION\t1\t2\nMECH\tSCRAM-SHA-256\tmutual-auth\nSPID\t"), "{out}");
    for (id, name) in
        ["X-OWN", "x-own", "EXTERNAL", "SCRAM-SHA-256-PLUS", "PLAIN"].iter().enumerate()
    {
        session.receive(format!("AUTH\t{id}\t{name}\tservice=smtp\tsecured\tresp=\n").as_bytes());
        assert_eq!(run(&mut session).0, [format!("failed {id} Unsupported")], "{name}");
    }
}

#[test]
fn the_longest_line() {
    let line = |length: usize| {
        let begin = "AUTH\t1\tPLAIN\tservice=smtp\tsecured\tx=";
        [begin, &"x".repeat(length - begin.len()), "\n"].concat()
    };
    let mut session = ready(0);
    session.receive(line(MAX_LINE).as_bytes());
    assert_eq!(run(&mut session).1, "CONT\t1\t\n");
    for octets in [line(MAX_LINE + 1), "x".repeat(MAX_LINE + 1)] {
        let mut session = ready(0);
        session.receive(octets.as_bytes());
        let mut out = Vec::new();
        assert!(matches!(session.next(&mut out), Event::Close(CloseReason::TooLong)));
        // Nothing that comes later is kept.
        session.receive(auth(1).as_bytes());
        assert!(matches!(session.next(&mut out), Event::Close(CloseReason::TooLong)));
        assert!(out.is_empty());
    }
}

#[test]
fn the_oldest_exchange_that_waits_for_the_client_gives_way() {
    let mut session = ready(0);
    let most = u32::try_from(MAX_EXCHANGES).unwrap();
    // This one waits for the application.
    session.receive(auth(0).as_bytes());
    assert_eq!(run(&mut session).0, ["query 0"]);
    for id in 1..most {
        session.receive(format!("AUTH\t{id}\tLOGIN\tservice=smtp\tsecured\n").as_bytes());
    }
    let (events, out) = run(&mut session);
    assert!(events.is_empty());
    assert_eq!(out.lines().count(), MAX_EXCHANGES - 1);
    for id in most..3 * most {
        session.receive(auth(id).as_bytes());
        let (events, out) = run(&mut session);
        let dropped = id - most + 1;
        if dropped < most {
            let failed = format!("failed {dropped} {:?}", Failure::Cancelled);
            assert_eq!(events, [failed, format!("query {id}")]);
            assert_eq!(out, format!("FAIL\t{dropped}\treason=Authentication cancelled\n"));
        } else {
            // None waits for the client.
            assert!(events.is_empty());
            assert!(
                out.starts_with(&format!("FAIL\t{id}\t")) && out.ends_with("\tcode=temp_fail\n")
            );
        }
        assert_eq!(session.open_exchanges(), MAX_EXCHANGES);
    }
}

/// An application that holds everything back does not make the session keep more.
#[test]
fn what_gives_way_cannot_be_held_back() {
    let mut session = ready(2);
    for id in 0..1000 {
        session.receive(format!("AUTH\t{id}\tPLAIN\tservice=smtp\tsecured\n").as_bytes());
        let mut out = Vec::new();
        loop {
            match session.next(&mut out) {
                Event::NeedInput => break,
                Event::AuthFailed(failed) => drop(failed.hold()),
                other => panic!("{other:?}"),
            }
        }
        assert!(session.open_exchanges() <= MAX_EXCHANGES);
    }
}

#[test]
fn a_question_is_not_asked_again_and_stays() {
    let mut session = ready(0);
    session.receive([auth(1), auth(2)].concat().as_bytes());
    let mut out = Vec::new();
    let serial = match session.next(&mut out) {
        Event::Query(request, query) if request.id() == 1 => query.serial(),
        other => panic!("{other:?}"),
    };
    assert_eq!(run(&mut session).0, ["query 2"]);
    assert!(run(&mut session).0.is_empty());
    let query = session.query(serial).unwrap();
    assert_eq!(query.authcid(), Some("tim"));
    query.reject();
    assert_eq!(run(&mut session).0, ["failed 1 Rejected"]);
    assert!(session.query(serial).is_none());
    assert_eq!(session.open_exchanges(), 1);
    assert!(!session.is_waiting_for_client(), "the client waits for an answer");
}

/// What was held back in an exchange that was cancelled does not release what a later one of the same number holds back.
#[test]
fn a_handle_is_of_one_exchange() {
    let mut session = ready(0);
    let hold = |session: &mut Session| {
        session.receive(auth(1).as_bytes());
        let mut out = Vec::new();
        loop {
            match session.next(&mut out) {
                Event::Query(_, query) => query.reject(),
                Event::AuthFailed(failed) => break failed.hold(),
                other => panic!("{other:?}"),
            }
        }
    };
    let first = hold(&mut session);
    session.receive(b"CANCEL\t1\n");
    assert_eq!(run(&mut session), (Vec::new(), String::new()));
    let second = hold(&mut session);
    assert!(!session.release(first));
    assert_eq!(run(&mut session), (Vec::new(), String::new()));
    assert!(session.release(second));
    assert!(run(&mut session).1.starts_with("FAIL\t1\t"));
}
