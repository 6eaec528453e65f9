//! What has become of a message, for each recipient; and the messages that follow.

use smtp_auth::{
    Advance,
    client::{
        Config, Envelope, Error, Event, Limits, NotSent, Outcome, Ready, RecipientStatus, Session,
        Stage, Tls,
    },
    ehlo::Keyword,
    sasl::{Channel, Mechanism},
};

const TO: [&str; 3] = ["ann@example.org", "bob@example.org", "carl@example.org"];

fn session(keywords: &str) -> Session {
    let config = Config::builder("c").tls(Tls::Never).build().unwrap();
    let mut session = Session::without_credentials(config.into());
    for reply in ["220 s\r\n", &format!("250-s\r\n{keywords}250 PIPELINING\r\n")] {
        assert_eq!(session.advance(&mut Vec::new()), Ok(Advance::NeedInput));
        session.receive(reply.as_bytes());
    }
    assert_eq!(session.advance(&mut Vec::new()), Ok(Advance::Event));
    session
}

fn envelope() -> Envelope {
    Envelope::new(Some("tim@example.org"), TO).unwrap()
}

/// The outcome of a message by these replies, and who was shown as refused on the way.
fn send(session: &mut Session, envelope: Envelope, replies: &[&str]) -> (Outcome, Vec<String>) {
    session.ready().unwrap().send(envelope);
    let (mut refused, mut replies) = (Vec::new(), replies.iter());
    loop {
        match session.next(&mut Vec::new()).unwrap() {
            Event::NeedInput => {
                let reply = replies.next().unwrap();
                session.receive(format!("{}\r\n", reply.replace('|', "\r\n")).as_bytes());
            }
            Event::Refused { recipient, refusal } => {
                assert_eq!(refusal.stage(), Stage::Rcpt);
                refused.push(format!("{recipient} {}", refusal.reply().code()));
                assert!(session.ready().is_none(), "a message within a message");
            }
            Event::Message(body) => {
                body.end(&mut Vec::new()).unwrap();
                assert!(session.ready().is_none(), "a message within a message");
            }
            Event::Sent(outcome) => return (outcome.clone(), refused),
            other => panic!("{other:?}"),
        }
    }
}

/// A letter for the whole, and one for each recipient, with the stage of its refusal.
fn short(outcome: &Outcome) -> String {
    let whole = match outcome {
        Outcome::Accepted { .. } => "all",
        Outcome::AcceptedForSome { .. } => "some",
        Outcome::Refused { .. } => "none",
        Outcome::NotSent { .. } => "not sent",
    };
    let addresses = outcome.recipients().iter().map(|recipient| recipient.address());
    assert!(addresses.eq(TO));
    outcome.recipients().iter().fold(whole.to_owned(), |text, recipient| {
        text + &match recipient.status() {
            RecipientStatus::Accepted(reply) => format!(", {}", reply.code()),
            RecipientStatus::Refused(refusal) => {
                format!(", {:?} {}", refusal.stage(), refusal.reply().code())
            }
            RecipientStatus::NotSent => ", -".to_owned(),
        }
    })
}

#[test]
fn each_recipient_has_its_own() {
    let ok = "250 ok|250 a|251 b|250 c";
    let some = "250 ok|250 a|550 b|450 c";
    for (every, replies, refused, expected) in [
        (false, &[ok, "354 go", "250 queued"][..], "", "all, 250, 251, 250"),
        (
            false,
            &[some, "354 go", "250 queued"],
            "bob@example.org 550, carl@example.org 450",
            "some, 250, Rcpt 550, Rcpt 450",
        ),
        // What was refused with the message was not taken before.
        (false, &[ok, "354 go", "554 spam"], "", "none, Message 554, Message 554, Message 554"),
        (false, &[ok, "452 full", "250 ok"], "", "none, Data 452, Data 452, Data 452"),
        (
            false,
            &[some, "354 go", "554 spam"],
            "bob@example.org 550, carl@example.org 450",
            "none, Message 554, Rcpt 550, Rcpt 450",
        ),
        (
            false,
            &["250 ok|550 a|551 b|552 c", "250 ok"],
            "ann@example.org 550, bob@example.org 551, carl@example.org 552",
            "none, Rcpt 550, Rcpt 551, Rcpt 552",
        ),
        // Without a sender there are no recipients.
        (false, &["550 no|503 a|503 b|503 c", "250 ok"], "", "none, Mail 550, Mail 550, Mail 550"),
        (false, &["550 no|250 a|250 b|250 c", "250 ok"], "", "none, Mail 550, Mail 550, Mail 550"),
        // One stops it for all: the others were not refused.
        (
            true,
            &["250 ok|250 a|550 b|250 c", "250 ok"],
            "bob@example.org 550",
            "none, -, Rcpt 550, -",
        ),
        (true, &[ok, "354 go", "250 queued"], "", "all, 250, 251, 250"),
        // A `421` says nothing of a recipient.
        (
            false,
            &["250 ok|250 a|550 b|421 bye"],
            "bob@example.org 550",
            "none, Rcpt 421, Rcpt 550, Rcpt 421",
        ),
    ] {
        let mut session = session("");
        let (outcome, seen) = send(&mut session, envelope().every_recipient(every), replies);
        assert_eq!((seen.join(", "), short(&outcome)), (refused.to_owned(), expected.to_owned()));
    }
    let mut session = session("250-SIZE 10\r\n");
    let (outcome, _) = send(&mut session, envelope().size(11), &[]);
    assert_eq!(short(&outcome), "not sent, -, -, -");
}

#[test]
fn it_says_so_in_sentences() {
    let told = |replies: &[&str]| send(&mut session(""), envelope(), replies).0.to_string();
    assert_eq!(
        told(&["250 ok|250 a|550 5.1.1 no|450 c", "354 go", "250 2.0.0 queued"]),
        "the server accepted the message, but refused 2 of 3 recipients: 250 2.0.0 queued; \
         bob@example.org: the server refused the recipient: 550 5.1.1 no; \
         carl@example.org: the server refused the recipient: 450 c"
    );
    assert_eq!(
        told(&["250 ok|250 a|250 b|250 c", "354 go", "250 2.0.0 queued"]),
        "the server accepted the message: 250 2.0.0 queued"
    );
    let not_sent =
        |keywords: &str, envelope| send(&mut session(keywords), envelope, &[]).0.to_string();
    let to_two = || Envelope::new(None, ["a@one.example", "b@two.example"]).unwrap();
    for (keywords, envelope, expected) in [
        (
            "",
            to_two().parameter("FUTURERELEASE", "HOLDFOR", Some("1")).unwrap(),
            "needs FUTURERELEASE",
        ),
        (
            "",
            to_two().envelope_id("x").unwrap(),
            "the message needs DSN, which the server does not offer",
        ),
        (
            "",
            to_two().body(smtp_auth::client::BodyType::EightBitMime),
            "quoted-printable or base64",
        ),
        ("", to_two().require_tls(), "(REQUIRETLS)"),
        ("250-LIMITS RCPTMAX=1\r\n", to_two(), "at most 1 recipients for one message (RCPTMAX)"),
        (
            "250-LIMITS RCPTDOMAINMAX=1\r\n",
            to_two(),
            "at most 1 domains over one connection (RCPTDOMAINMAX)",
        ),
    ] {
        let told = not_sent(keywords, envelope);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_second_message_begins_without_a_buffer() {
    let mut session = session("250-LIMITS MAILMAX=2\r\n");
    for _ in 0..2 {
        // Whether the notification is passed or not, and only once.
        session.ready().unwrap().send(envelope());
        assert!(session.ready().is_none(), "another message could replace it");
        let mut out = Vec::new();
        assert_eq!(session.advance(&mut out), Ok(Advance::NeedInput));
        assert!(out.starts_with(b"MAIL FROM:<tim@example.org>\r\nRCPT "));
        assert!(session.ready().is_none());
        session.receive(b"550 no\r\n503 a\r\n503 b\r\n503 c\r\n");
        assert_eq!(session.advance(&mut out), Ok(Advance::NeedInput));
        assert!(session.ready().is_none(), "RSET is under way");
        session.receive(b"250 ok\r\n");
        assert_eq!(session.advance(&mut out), Ok(Advance::Event));
        assert!(matches!(session.pending(), Event::Sent(Outcome::Refused { .. })));
    }
    session.ready().unwrap().send(envelope());
    assert_eq!(session.advance(&mut Vec::new()), Ok(Advance::Event));
    let Event::Sent(Outcome::NotSent { why: NotSent::OverLimit(limit), .. }) = session.pending()
    else {
        panic!()
    };
    assert!(limit.to_string().contains("at most 2 messages"), "{limit}");
    session.ready().unwrap().quit();
    let mut out = Vec::new();
    assert_eq!(session.advance(&mut out), Ok(Advance::NeedInput));
    assert_eq!(out, b"QUIT\r\n");
    assert!(session.ready().is_none());
}

#[test]
fn what_was_said_before_tls_does_not_count() {
    let mut session = session("250-LIMITS MAILMAX=1\r\n");
    let (outcome, _) = send(&mut session, envelope(), &["550 no|503 a|503 b|503 c", "250 ok"]);
    assert!(matches!(outcome, Outcome::Refused { .. }));
    session.tls_started(Channel::tls());
    assert!(session.ready().is_none(), "nothing is known of what the server takes");
    assert_eq!(session.advance(&mut Vec::new()), Ok(Advance::NeedInput));
    session.receive(b"250-s\r\n250-LIMITS MAILMAX=1\r\n250 PIPELINING\r\n");
    assert_eq!(session.advance(&mut Vec::new()), Ok(Advance::Event));
    let (outcome, _) = send(&mut session, envelope(), &["550 no|503 a|503 b|503 c", "250 ok"]);
    assert!(matches!(outcome, Outcome::Refused { .. }));
    let (outcome, _) = send(&mut session, envelope(), &[]);
    assert!(matches!(outcome, Outcome::NotSent { .. }));
}

#[test]
fn nothing_is_begun_over_a_connection_that_is_closed() {
    for closing in ["421 4.4.2 idle\r\n", ""] {
        let mut session = session("");
        let (_, _) = send(&mut session, envelope(), &["550 no|503 a|503 b|503 c", "250 ok"]);
        session.receive(closing.as_bytes());
        session.ready().unwrap().send(envelope());
        let mut out = Vec::new();
        let error = match closing {
            "" => session.eof().unwrap_err(),
            _ => session.advance(&mut out).unwrap_err(),
        };
        assert!(matches!(error, Error::Closed(_)), "{error}");
        assert!(out.is_empty() && session.ready().is_none());
    }
    // It was the message's refusal, and then the end.
    let begins: [fn(Ready<'_>); 3] =
        [|ready| ready.send(envelope()), |ready| ready.noop(), |ready| ready.reset()];
    for begin in begins {
        let mut session = session("");
        let (outcome, _) = send(&mut session, envelope(), &["250 ok|421 4.3.2 bye"]);
        assert!(matches!(outcome, Outcome::Refused { .. }));
        begin(session.ready().unwrap());
        let mut out = Vec::new();
        let error = session.advance(&mut out).unwrap_err();
        assert!(matches!(error, Error::Closed(Some(reply)) if reply.code() == 421));
        assert!(out.is_empty());
    }
}

#[test]
fn a_silent_server_is_found_by_noop() {
    let mut session = session("");
    session.ready().unwrap().noop();
    let mut out = Vec::new();
    assert_eq!(session.advance(&mut out), Ok(Advance::NeedInput));
    assert_eq!((&*out, session.stage()), (&b"NOOP\r\n"[..], Stage::Noop));
    assert!(session.ready().is_none());
    let error = session.timed_out().unwrap_err();
    assert!(error.to_string().contains("the client waited for the reply to NOOP"), "{error}");
}

#[test]
fn every_keyword_can_be_read() {
    let keywords = "250-FutureRelease  86400 2030-01-01T00:00:00Z \r\n250-X_OTHER\r\n250-\r\n\
        250-auth PLAIN X-NEW\r\n250-AUTH=LOGIN\r\n250-X_OTHER twice\r\n250-SIZE 0\r\n\
        250-LIMITS RCPTMAX=9\r\n250-DSN\r\n";
    let mut session = session(keywords);
    let offered = session.extensions();
    for (keyword, parameters) in [
        ("FUTURERELEASE", Some("86400 2030-01-01T00:00:00Z")),
        ("x_other", Some("")),
        ("Auth", Some("PLAIN X-NEW")),
        ("PIPELINING", Some("")),
        ("8BITMIME", None),
        ("X_OTH", None),
        ("", None),
        ("s", None),
    ] {
        assert_eq!(offered.parameters(keyword), parameters, "{keyword}");
        assert_eq!(offered.offers(keyword), parameters.is_some(), "{keyword}");
    }
    let names: Vec<_> = offered.keywords().map(|keyword| keyword.name()).collect();
    let expected = ["FutureRelease", "X_OTHER", "AUTH", "AUTH", "X_OTHER", "SIZE", "LIMITS", "DSN"];
    assert_eq!(names[..8], expected);
    assert!(offered.keywords().any(|keyword| keyword == Keyword::Dsn));
    assert_eq!(offered.mechanisms(), Some(&[Mechanism::Plain, Mechanism::Login][..]));
    assert_eq!(offered.max_size(), None);
    assert!(matches!(offered.limits(), Limits { mail_max: None, rcpt_max: Some(9), .. }));
    session.tls_started(Channel::tls());
    assert!(session.extensions().keywords().next().is_none());
    assert_eq!(session.extensions().limits(), Limits::default());
}

#[test]
fn an_outcome_is_seen_before_the_next_message() {
    let mut session = session("250-LIMITS RCPTMAX=1\r\n");
    session.ready().unwrap().send(envelope());
    assert_eq!(session.advance(&mut Vec::new()), Ok(Advance::Event));
    assert!(session.ready().is_none(), "it has not been shown");
    assert!(matches!(session.pending(), Event::Sent(Outcome::NotSent { .. })));
    assert!(session.ready().is_some());
}

#[test]
fn an_outcome_outlives_the_reply_to_rset() {
    let ends: [fn(&mut Session); 3] = [
        |session| session.eof().unwrap(),
        |session| session.timed_out().unwrap(),
        |session| session.receive(b"250-x\r\n421 bye\r\n"),
    ];
    for end in ends {
        let mut session = session("");
        session.ready().unwrap().send(envelope());
        let mut out = Vec::new();
        let mut replies = ["250 ok\r\n550 a\r\n550 b\r\n550 c\r\n"].iter();
        loop {
            match session.next(&mut out).unwrap() {
                Event::NeedInput => match replies.next() {
                    Some(reply) => session.receive(reply.as_bytes()),
                    None => break,
                },
                Event::Refused { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(out.ends_with(b"RSET\r\n"));
        end(&mut session);
        let Ok(Event::Sent(outcome)) = session.next(&mut out) else { panic!("no outcome") };
        assert_eq!(short(outcome), "none, Rcpt 550, Rcpt 550, Rcpt 550");
        assert!(matches!(session.next(&mut out), Ok(Event::Ready(_))));
        session.ready().unwrap().send(envelope());
        assert!(matches!(session.next(&mut out), Err(Error::Closed(_))));
    }
}
