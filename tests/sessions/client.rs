//! What a client does where a peer, or its host, does not keep to the usual course.

use std::sync::{Arc, Mutex};

use smtp_auth::{
    client::{self, AuthError, Envelope, Error, Stage, Tls},
    sasl::{self, Mechanism, client::Credentials},
};

struct Client {
    session: client::Session,
    out: Vec<u8>,
    trace: Arc<Mutex<String>>,
}

impl Client {
    fn new(mechanisms: &[Mechanism]) -> Self {
        let sasl = sasl::client::Config::builder().mechanisms(mechanisms).allow_cleartext(true);
        let sasl = sasl.build().unwrap();
        let config = client::Config::builder("c").tls(Tls::Never).sasl(sasl).build().unwrap();
        let credentials = Credentials::password("NEEDLE-name", "NEEDLE-password").unwrap();
        let mut session = client::Session::new(config.into(), credentials);
        let trace = Arc::new(Mutex::new(String::new()));
        let log = Arc::clone(&trace);
        session.trace(move |side, line| {
            *log.lock().unwrap() += &format!("{side}: {line}\n");
        });
        Self { session, out: Vec::new(), trace }
    }

    /// One event, in words, behind what the server says.
    fn hear(&mut self, said: &str) -> String {
        self.session.receive(said.as_bytes());
        match self.session.next(&mut self.out) {
            Ok(event) => format!("{event:?}").split('(').next().unwrap().to_owned(),
            Err(error) => format!("{error}"),
        }
    }

    fn sent(&mut self) -> String {
        String::from_utf8(core::mem::take(&mut self.out)).unwrap()
    }

    fn error(&mut self) -> Error {
        self.session.next(&mut self.out).map(|event| format!("{event:?}")).unwrap_err()
    }

    fn ready(&mut self) -> client::Ready<'_> {
        match self.session.next(&mut self.out) {
            Ok(client::Event::Ready(ready)) => ready,
            other => panic!("{other:?}"),
        }
    }
}

const OFFER: &str = "220 s\r\n250-s\r\n250-PIPELINING\r\n250 AUTH CRAM-MD5 PLAIN LOGIN\r\n";

fn offer(client: &mut Client) {
    let (greeting, ehlo) = OFFER.split_at(7);
    assert_eq!(client.hear(greeting), "NeedInput");
    assert_eq!(client.sent(), "EHLO c\r\n");
    assert_eq!(client.hear(ehlo), "NeedInput");
}

/// A client that has been told to send its message.
fn at_message() -> Client {
    let mut client = Client::new(&[Mechanism::Plain]);
    offer(&mut client);
    client.hear("235 ok\r\n");
    client.ready().send(Envelope::new(Some("a@b.c"), ["d@e.f"]).unwrap());
    client.hear("");
    client.hear("250 ok\r\n250 ok\r\n");
    client.hear("354 go\r\n");
    client
}

#[test]
fn replies_ahead_of_their_command_are_not_taken() {
    let mut client = Client::new(&[Mechanism::Plain]);
    client.hear(&format!("{OFFER}235 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 queued\r\n"));
    assert_eq!(client.error(), Error::Unsolicited(Stage::Ehlo));
    assert_eq!(client.sent(), "", "nothing is said to such a server");
    assert_eq!(client.session.authenticated(), None);

    let mut client = Client::new(&[Mechanism::Plain]);
    client.hear("220 s\r\n");
    client.hear("250-s\r\n250 AUTH PLAIN\r\n235 ok\r\n");
    assert!(matches!(client.error(), Error::Unsolicited(_)));
    assert!(!client.sent().contains("AUTH"), "no password is said to such a server");

    // MAIL is answered twice, and RCPT was not said yet.
    let mut client = Client::new(&[Mechanism::Plain]);
    client.hear("220 s\r\n");
    client.hear("250-s\r\n250 AUTH PLAIN\r\n");
    client.hear("235 ok\r\n");
    client.ready().send(Envelope::new(Some("a@b.c"), ["d@e.f"]).unwrap());
    client.hear("");
    client.sent();
    client.hear("250 ok\r\n250 ok\r\n");
    assert_eq!(client.error(), Error::Unsolicited(Stage::Rcpt));
    assert_eq!(client.sent(), "", "nothing is said to such a server");

    let mut client = Client::new(&[Mechanism::Plain]);
    client.hear("220 s\r\n421 4.3.2 shutting down\r\n");
    assert!(matches!(client.error(), Error::Refused(refusal) if refusal.reply().code() == 421));
}

#[test]
fn the_trace_is_masked_whatever_comes() {
    for (mechanism, replies) in [
        (Mechanism::Plain, &["\0garbage\r\n"][..]),
        (Mechanism::Plain, &["235 ok\r\n\0"]),
        (Mechanism::Login, &["334 \r\n", "334 \r\n", "???\r\n"]),
        (Mechanism::Login, &["334 \r\n???\r\n"]),
        (Mechanism::CramMd5, &["334 PDEuMkB4Pg==\r\n???\r\n"]),
    ] {
        let mut client = Client::new(&[mechanism]);
        offer(&mut client);
        let mut sent = client.sent();
        for reply in replies {
            client.hear(reply);
            sent += &client.sent();
        }
        let trace = client.trace.lock().unwrap();
        assert!(trace.contains(&format!("C: AUTH {mechanism}")), "{trace}");
        for line in sent.lines().filter(|line| !line.is_empty() && *line != "*") {
            let secret = line.rsplit(' ').next().unwrap();
            let shown = trace.lines().any(|traced| traced.contains(secret));
            assert!(!shown || secret == mechanism.name(), "{mechanism}: {trace}");
        }
    }
}

#[test]
fn the_refusal_outlives_the_connection() {
    // Both mechanisms are refused, then the line is cut: the last word counts.
    let mut client = Client::new(&[Mechanism::CramMd5, Mechanism::Plain]);
    offer(&mut client);
    client.hear("534 5.7.9 too weak\r\n");
    assert!(client.sent().contains("AUTH PLAIN "));
    let error = client.session.eof().unwrap_err();
    assert!(
        matches!(&error, Error::NotAuthenticated(AuthError::Refused(refusal)) if refusal.reply().code() == 534)
    );
    assert_eq!(client.error(), error);

    let mut client = Client::new(&[Mechanism::Plain]);
    offer(&mut client);
    client.session.receive(b"535 5.7.8 wrong\r\n");
    let error = client.session.eof().unwrap_err();
    assert!(
        matches!(&error, Error::NotAuthenticated(AuthError::Refused(refusal)) if refusal.reply().code() == 535)
    );

    let mut client = Client::new(&[Mechanism::Plain]);
    offer(&mut client);
    assert_eq!(client.hear("235 ok\r\n"), "Ready");
    client.ready().send(Envelope::new(Some("a@b.c"), ["d@e.f"]).unwrap());
    assert_eq!(client.hear(""), "NeedInput");
    client.session.receive(b"421 4.3.2 shutting down\r\n");
    let error = client.session.eof().unwrap_err();
    assert!(matches!(&error, Error::Closed(Some(reply)) if reply.code() == 421), "{error}");
}

#[test]
fn the_host_can_ask_for_the_next_mechanism() {
    let mut client = Client::new(&[Mechanism::CramMd5, Mechanism::Plain]);
    offer(&mut client);
    for (mechanism, command) in [
        (Some(Mechanism::CramMd5), "AUTH PLAIN "),
        (Some(Mechanism::Plain), ""),
        (None, "QUIT\r\n"),
    ] {
        client.sent();
        if mechanism.is_some() {
            client.session.receive(b"535 5.7.8 no\r\n");
        }
        match client.session.next(&mut client.out).unwrap() {
            client::Event::NotAuthenticated(failed) => {
                assert_eq!(failed.mechanism(), mechanism);
                assert!(matches!(failed.reason(), AuthError::Refused(_)));
                failed.try_next();
            }
            other => panic!("{other:?}"),
        }
        client.hear("");
        assert!(client.sent().starts_with(command));
    }
}

#[test]
fn a_broken_message_is_never_ended() {
    let mut client = at_message();
    client.sent();
    let mut out = Vec::new();
    match client.session.next(&mut client.out).unwrap() {
        client::Event::Message(body) => {
            assert_eq!(body.write(b"a\nb", &mut out), Err(Error::BareLineEnd));
            assert_eq!(body.write(b"more\r\n", &mut out), Err(Error::BareLineEnd));
            assert_eq!(body.end(&mut out), Err(Error::BareLineEnd));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(out, b"");
    assert_eq!(client.error(), Error::BareLineEnd);
}

#[test]
fn nothing_is_written_behind_a_message() {
    let mut client = at_message();
    let mut out = Vec::new();
    match client.session.next(&mut client.out).unwrap() {
        client::Event::Message(body) => {
            assert_eq!(body.write(b"a\r\n", &mut out), Ok(()));
            assert_eq!(body.end(&mut out), Ok(()));
            assert_eq!(body.write(b"RSET\r\n", &mut out), Err(Error::MessageEnded));
            assert_eq!(body.end(&mut out), Err(Error::MessageEnded));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(out, b"a\r\n.\r\n");
    assert_eq!(client.hear("250 2.0.0 queued\r\n"), "Sent");
}

#[test]
fn a_reply_before_the_message_is_the_last_word() {
    for (first, rest, error) in [
        ("", "552 5.3.4 too big\r\n", Err(552)),
        ("552-5.3.4 too", " big\r\n552 5.3.4 by far\r\n", Err(552)),
        ("552-5.3.4 too big\r\n", "552 5.3.4 by far\r\n", Err(552)),
        ("", "250 2.0.0 queued\r\n", Ok(Error::Unsolicited(Stage::Message))),
        ("25", "0 2.0.0 queued\r\n", Ok(Error::Unsolicited(Stage::Message))),
    ] {
        let mut client = at_message();
        if !first.is_empty() {
            assert_eq!(client.hear(first), "Message");
        }
        client.hear(rest);
        match (client.error(), error) {
            (Error::Refused(refusal), Err(code)) => {
                assert_eq!((refusal.stage(), refusal.reply().code()), (Stage::Message, code));
            }
            (found, error) => assert_eq!(Ok(found), error),
        }
    }
}
