//! What a session owes stays until it is settled.

use super::*;

/// A server's session inside TLS, behind EHLO.
fn server_behind_ehlo(config: server::Config) -> server::Session {
    let mut session = server::Session::new(config.into());
    session.tls_started(Channel::tls());
    session.receive(b"EHLO client.example.com\r\n");
    let mut out = Vec::new();
    while !matches!(session.next(&mut out), server::Event::NeedInput) {}
    session
}

const AUTH_PLAIN: &[u8] = b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n";

#[test]
fn a_query_stays_until_it_is_answered() {
    let mut session = server_behind_ehlo(server_config());
    let mut out = Vec::new();
    session.receive(AUTH_PLAIN);
    let mut serials = Vec::new();
    for piece in [&b""[..], b"NOO", b"P\r\n", b"QUIT\r\n"] {
        session.receive(piece);
        let server::Event::Query(query) = session.next(&mut out) else { panic!() };
        serials.push(query.serial());
        let Query::CheckPassword(ask) = query else { panic!() };
        assert_eq!((ask.authcid(), ask.password().expose()), ("tim", "tanstaaftanstaaf"));
    }
    assert!(out.is_empty());
    assert!(serials.iter().all(|serial| *serial == serials[0]), "{serials:?}");
    // A second answer replaces the first.
    let server::Event::Query(Query::CheckPassword(ask)) = session.next(&mut out) else { panic!() };
    ask.answer(true);
    ask.answer(Answer::temp_fail());
    ask.answer(false);
    let server::Event::AuthFailed(failed) = session.next(&mut out) else { panic!() };
    assert_eq!(failed.why, Failure::Rejected);
    assert!(matches!(session.next(&mut out), server::Event::Close));
    let replies = String::from_utf8(out).unwrap();
    let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["535", "250", "221"]);
}

#[test]
fn an_answer_to_an_earlier_exchange_fits_no_later_one() {
    let mut session = server_behind_ehlo(server_config());
    let mut serials = Vec::new();
    for _ in 0..3 {
        session.receive(AUTH_PLAIN);
        loop {
            match session.next(&mut Vec::new()) {
                server::Event::Query(query) => {
                    serials.push(query.serial());
                    query.reject();
                }
                server::Event::AuthFailed(_) => break,
                _ => {}
            }
        }
    }
    serials.dedup();
    assert_eq!(serials.len(), 3);
}

#[test]
fn a_second_answer_replaces_the_first_for_each_query() {
    let mut session = server_behind_ehlo(server_config());
    let mut out = Vec::new();
    session.receive(b"AUTH PLAIN VXJzZWwAS3VydAB4aXBqM3BsbXE=\r\n");
    loop {
        match session.next(&mut out) {
            server::Event::Query(Query::CheckPassword(ask)) => {
                ask.answer(false);
                ask.answer(true);
            }
            server::Event::Query(Query::Authorize(ask)) => {
                assert_eq!((ask.authcid(), ask.authzid()), ("Kurt", Some("Ursel")));
                ask.answer(true);
                ask.answer(false);
            }
            server::Event::AuthFailed(failed) => {
                assert_eq!(failed.why, Failure::NotAuthorized);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(session.identity(), None);
}

#[test]
fn receiving_changes_nothing_that_is_on_show() {
    let config = server::Config::builder("smtp.example.com").sasl(sasl_config());
    let config = config.allow_unauthenticated(true).build().unwrap();
    let mut session = server_behind_ehlo(config);
    let mut out = Vec::new();
    session.receive(b"MAIL FROM:<a@example.org> SIZE=10\r\n");
    for n in 0..40 {
        match session.next(&mut out) {
            server::Event::Command(Command::Mail(mail), _) => {
                assert_eq!(mail.from().unwrap().as_str(), "a@example.org");
                assert_eq!(mail.parameters().as_str(), "SIZE=10");
            }
            other => panic!("{n}: {other:?}"),
        }
        session.receive(b"RCPT TO:<b@example.org>\r\nDATA\r\n"[n % 30..][..1].as_ref());
    }
    assert!(out.is_empty());

    let config = server::Config::builder("smtp.example.com").sasl(sasl_config());
    let config = config.allow_unauthenticated(true).build().unwrap();
    let mut session = server_behind_ehlo(config);
    let mut shown = Vec::new();
    session.receive(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    let mut rest = b"one\r\n..two\r\nthree\r\n.\r\nQUIT\r\n".iter();
    let mut asked = [0; 4];
    loop {
        // What is owed is looked at twice, with octets coming in between.
        let seen = format!("{:?}", session.next(&mut out));
        let fact = ["NeedInput", "Data", "Hello", "Reset"];
        if !fact.iter().any(|fact| seen.starts_with(fact)) {
            rest.next().into_iter().for_each(|octet| session.receive(&[*octet]));
            assert_eq!(format!("{:?}", session.next(&mut out)), seen);
        }
        if seen.starts_with("Data") {
            // The piece has gone by; this one is compared below.
            shown.push(seen);
            continue;
        }
        match session.next(&mut out) {
            server::Event::NeedInput => match rest.next() {
                Some(octet) => session.receive(&[*octet]),
                None => panic!("it ended early"),
            },
            server::Event::Command(_, ask) => {
                asked[0] += 1;
                ask.reply(Reply::OK);
            }
            server::Event::StartOfData(ask) => {
                asked[1] += 1;
                ask.accept();
            }
            server::Event::EndOfData(ask) => {
                asked[2] += 1;
                ask.reply(Reply::LOCAL_ERROR);
            }
            server::Event::Data(piece) => shown.push(format!("Data({piece:?})")),
            server::Event::Close => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(asked, [2, 1, 1, 0]);
    let message: String = shown.concat();
    for octet in b"one\r\n.two\r\nthree\r\n" {
        assert!(message.contains(&octet.to_string()));
    }
    let replies = String::from_utf8(out).unwrap();
    let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "354", "451", "221"]);
}

#[test]
fn a_piece_on_show_outlives_what_is_received() {
    let config = server::Config::builder("mail.example.org")
        .sasl(sasl_config())
        .allow_unauthenticated(true)
        .build()
        .unwrap();
    let mut session = server_behind_ehlo(config);
    let (mut out, mut message) = (Vec::new(), Vec::new());
    session.receive(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT 10\r\n");
    session.receive(b"one\r\n");
    let mut more = [&b"two\r"[..], b"\nBDAT 0 LAST\r\n", b"QUIT\r\n"].into_iter();
    loop {
        match session.next(&mut out) {
            server::Event::Data(piece) => {
                message.extend_from_slice(piece);
                more.next().into_iter().for_each(|piece| session.receive(piece));
            }
            server::Event::Command(_, ask) | server::Event::EndOfData(ask) => ask.reply(Reply::OK),
            server::Event::StartOfData(ask) => ask.accept(),
            server::Event::NeedInput => match more.next() {
                Some(piece) => session.receive(piece),
                None => panic!("it ended early"),
            },
            server::Event::Close => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(message, b"one\r\ntwo\r\n");
    let replies = String::from_utf8(out).unwrap();
    let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "250", "250", "221"]);
}

#[test]
fn unread_octets_go_to_the_host() {
    let mut session = server_behind_ehlo(server_config());
    let mut out = Vec::new();
    session.receive(AUTH_PLAIN);
    session.receive(b"MAIL FROM:<tim@exam");
    loop {
        match session.next(&mut out) {
            server::Event::Query(query) => query.answer_with(&Users),
            server::Event::Authenticated(_) => break,
            other => panic!("{other:?}"),
        }
    }
    let (identity, rest) = session.into_parts();
    assert_eq!(identity.unwrap().acts_as(), "tim");
    assert_eq!(rest, b"MAIL FROM:<tim@exam");
}

#[test]
fn the_host_can_close_at_any_time() {
    for begun in [&b""[..], b"AUTH LOGIN\r\n", AUTH_PLAIN, b"NOOP\r\nAUTH"] {
        let mut session = server_behind_ehlo(server_config());
        let mut out = Vec::new();
        session.receive(begun);
        let _ = session.next(&mut out);
        out.clear();
        session.close(&Reply::IDLE, &mut out);
        assert!(out.starts_with(b"421 4.4.2 "));
        let length = out.len();
        session.close(&Reply::IDLE, &mut out);
        session.receive(AUTH_PLAIN);
        assert!(matches!(session.next(&mut out), server::Event::Close));
        session.tls_started(Channel::tls());
        assert!(matches!(session.next(&mut out), server::Event::Close));
        assert_eq!(out.len(), length);
    }
}

#[test]
fn octets_behind_the_reply_to_starttls_end_it_before_tls_begins() {
    let config = client::Config::builder("client.example.com").build().unwrap();
    let mut session = client::Session::new(config.into(), tim());
    let mut out = Vec::new();
    for block in ["220 x\r\n", "250-x\r\n250 STARTTLS\r\n"] {
        session.receive(block.as_bytes());
        assert!(matches!(session.next(&mut out), Ok(client::Event::NeedInput)));
    }
    session.receive(b"220 go\r\n2");
    assert!(matches!(session.next(&mut out), Err(client::Error::InjectedBeforeTls)));
    session.tls_started(Channel::tls());
    assert!(matches!(session.next(&mut out), Err(client::Error::InjectedBeforeTls)));
}

/// A host's own values go with its configuration, and what they do must not leave a sign-in without
/// names.
#[test]
fn a_configuration_that_panics_when_dropped_changes_nothing() {
    struct Loud;

    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    let loud = Loud;
    let nonces = move || {
        let _ = &loud;
        Err(sasl::NonceError)
    };
    let config = Arc::new(sasl_server().nonces(nonces).build().unwrap());
    let first = b"user=Ursel\x01auth=Bearer a\x01\x01".to_vec();
    let mut server =
        sasl::server::Exchange::new(&config, &channel(), Mechanism::Xoauth2, Some(first));
    drop(config);
    let Some(Query::CheckToken(ask)) = server.query() else { panic!("no question") };
    ask.answer(TokenAnswer::Accept("Kurt".into()));
    let sasl::server::Step::Query(Query::Authorize(ask)) = server.step() else {
        panic!("no question");
    };
    ask.answer(true);
    let step = std::panic::AssertUnwindSafe(|| drop(server.step()));
    assert!(std::panic::catch_unwind(step).is_err());
    let sasl::server::Step::Done(Ok(who)) = server.step() else { panic!("not signed in") };
    assert_eq!((who.authcid(), who.authzid()), ("Kurt", Some("Ursel")));
}
