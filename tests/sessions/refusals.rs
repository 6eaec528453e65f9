//! What the codes mean that mean the same at every step, and each piece of advice in each state of the
//! connection in which it can come.

use smtp_auth::{
    Advance,
    client::{Config, Envelope, Error, Event, Session, Stage, Tls},
    sasl::{self, Channel, client::Credentials},
};

/// Where the client waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    step: Stage,
    in_tls: bool,
    signed_in: bool,
}

impl Place {
    /// All that there are.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for in_tls in [false, true] {
            for step in [Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Auth] {
                if step != Stage::StartTls || !in_tls {
                    all.push(Self { step, in_tls, signed_in: false });
                }
            }
            for signed_in in [false, true] {
                for step in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Message] {
                    all.push(Self { step, in_tls, signed_in });
                }
            }
        }
        all
    }

    /// A session that waits there.
    fn session(self) -> Session {
        let sasl = sasl::client::Config::builder().allow_cleartext(true).build().unwrap();
        let tls = if self.step == Stage::StartTls { Tls::IfOffered } else { Tls::Never };
        let config = Config::builder("c").sasl(sasl).tls(tls).build().unwrap();
        let mut session = match self.signed_in || self.step == Stage::Auth {
            true => Session::new(config.into(), Credentials::password("tim", "pw").unwrap()),
            false => Session::without_credentials(config.into()),
        };
        if self.in_tls {
            session.tls_started(Channel::tls());
        }
        let ehlo = "250-s\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n";
        for reply in ["220 s\r\n", ehlo, "235 ok\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"] {
            if !self.signed_in && reply.starts_with("235") && self.step != Stage::Auth {
                continue;
            }
            loop {
                match session.next(&mut Vec::new()).unwrap() {
                    Event::Ready(ready) => ready.send(envelope()),
                    Event::Message(body) => body.end(&mut Vec::new()).unwrap(),
                    Event::NeedInput => break,
                    other => panic!("{other:?}"),
                }
            }
            if session.stage() == self.step {
                return session;
            }
            session.receive(reply.as_bytes());
        }
        loop {
            match session.next(&mut Vec::new()).unwrap() {
                Event::Message(body) => body.end(&mut Vec::new()).unwrap(),
                Event::NeedInput => return session,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn envelope() -> Envelope {
    Envelope::new(Some("ann@example.org"), ["bob@example.org"]).unwrap()
}

/// All that is said to the user when the server says this.
fn told(session: &mut Session, reply: &str) -> Vec<String> {
    let mut told = Vec::new();
    session.receive(reply.as_bytes());
    let mut ended = false;
    loop {
        match session.next(&mut Vec::new()) {
            Err(error) => {
                told.push(error.to_string());
                return told;
            }
            Ok(Event::Refused { refusal, .. }) => told.push(refusal.to_string()),
            Ok(Event::Sent(outcome)) => {
                told.push(outcome.to_string());
                return told;
            }
            Ok(Event::NotAuthenticated(failed)) => {
                told.push(failed.reason().to_string());
                return told;
            }
            // RSET.
            Ok(Event::NeedInput) if !ended => {
                ended = true;
                session.receive(b"250 ok\r\n");
            }
            Ok(other) => panic!("{other:?}"),
        }
    }
}

/// What a refusal of that step by that code says, up to the reply.
fn expected(code: u16, Place { step, in_tls, signed_in }: Place) -> String {
    match (code, in_tls, signed_in) {
        // It has taken nothing of the message.
        (421, ..) if step == Stage::Mail => AT_REST.into(),
        (421, ..) => format!("the server closed the connection at {step}"),
        (530, false, false) => "the server requires TLS or a sign-in first".into(),
        (523 | 524 | 530 | 538, false, _) => "the server requires TLS first".into(),
        (530, true, false) => "the server requires a sign-in first".into(),
        _ => match (step, code) {
            (Stage::Greeting | Stage::Ehlo, _) => {
                "the server refused to talk to this client".into()
            }
            (Stage::Auth, 535) => {
                "the server refused the user name, password or certificate".into()
            }
            (Stage::Auth, 432) => {
                "the server requires the user to sign in once by another mechanism first".into()
            }
            (Stage::Auth, 454) => {
                "the server cannot check passwords at the moment; try again later".into()
            }
            (Stage::Auth, 400..=499) => {
                "the server cannot sign the user in at the moment; try again later".into()
            }
            (Stage::Auth, 525) => "the server does not allow this account to sign in".into(),
            (Stage::Auth, 534) => {
                "the server requires a stronger mechanism for this account".into()
            }
            (Stage::Auth, _) => "the server refused the sign-in; ask its operator why".into(),
            (Stage::Rcpt, _) => "the server refused the recipient".into(),
            _ => format!("the server refused {step}"),
        },
    }
}

#[test]
fn each_code_at_each_step() {
    for place in Place::all() {
        for reply in [
            "421 4.3.2 x",
            "432 4.7.12 x",
            "450 4.2.0 x",
            "451 x",
            "454 4.7.0 x",
            "500 x",
            "502 x",
            "523 5.7.10 x",
            "524 5.7.11 x",
            "525 5.7.13 x",
            "530 5.7.0 x",
            "534 5.7.9 x",
            "535 5.7.8 x",
            "538 5.7.11 x",
            "550 5.7.1 x",
            "552 x",
            "554 x",
            // REQUIRETLS (RFC 8689) at MAIL, no more passwords at AUTH: it is not judged.
            "535 5.7.30 x",
            "550 5.7.30 x",
        ] {
            let code = reply[..3].parse().unwrap();
            // Another try, or the way without what was refused.
            let goes_on = match place.step {
                Stage::StartTls => code != 421,
                Stage::Ehlo => code >= 500,
                _ => false,
            };
            if goes_on {
                continue;
            }
            let told = told(&mut place.session(), &format!("{reply}\r\n"));
            assert!(!told.is_empty());
            for told in told {
                // Within an exchange these may repeat what was sent.
                let withheld = place.step == Stage::Auth && (500..=504).contains(&code);
                let shown =
                    if withheld { reply.replace('x', "[text withheld]") } else { reply.into() };
                assert_eq!(told, format!("{}: {shown}", expected(code, place)), "{place:?}");
            }
        }
    }
}

/// A session at rest, signed in.
fn at_rest() -> Session {
    let place = Place { step: Stage::Mail, in_tls: true, signed_in: true };
    let mut session = place.session();
    assert_eq!(told(&mut session, "550 5.7.1 no\r\n").len(), 1);
    assert!(matches!(session.next(&mut Vec::new()), Ok(Event::Ready(_))));
    session
}

const AT_REST: &str = "the server closed the connection while no message was in progress";

#[test]
fn a_connection_that_is_closed_at_rest_is_told_from_a_refusal() {
    for (said, error) in [
        (
            "421 4.4.2 idle\r\n",
            "the server closed the connection while no message was in progress: 421 4.4.2 idle",
        ),
        (
            "451 4.4.2 idle\r\n",
            "the server closed the connection while no message was in progress: 451 4.4.2 idle",
        ),
        (
            "250 ok\r\n",
            "at a time when nothing was under way, the server sent a reply before the client asked for one",
        ),
    ] {
        // Asked again, told to send, and at the end of the stream.
        let mut session = at_rest();
        session.receive(said.as_bytes());
        assert_eq!(session.next(&mut Vec::new()).unwrap_err().to_string(), error);

        let mut session = at_rest();
        send(&mut session);
        session.receive(said.as_bytes());
        let mut out = Vec::new();
        assert_eq!(session.next(&mut out).unwrap_err().to_string(), error);
        assert!(out.is_empty(), "nothing of the message is said");

        let mut session = at_rest();
        session.receive(said.as_bytes());
        assert_eq!(session.eof().unwrap_err().to_string(), error);
    }
    assert_eq!(at_rest().eof().unwrap_err().to_string(), AT_REST);
    // What has not come whole is waited for.
    let mut session = at_rest();
    session.receive(b"421 4.4.2 id");
    assert!(matches!(session.next(&mut Vec::new()), Ok(Event::Ready(_))));
    session.receive(b"le\r\n");
    assert!(session.next(&mut Vec::new()).unwrap_err().to_string().starts_with(AT_REST));
}

/// However the `421` and what the client wants cross, nothing of a message is lost, and none is refused.
#[test]
fn a_connection_that_was_closed_before_a_message_is_told_from_a_refusal() {
    let begins: [fn(&mut Session); 3] = [
        |session| session.ready().unwrap().send(envelope()),
        |session| session.ready().unwrap().noop(),
        |session| session.ready().unwrap().reset(),
    ];
    for begin in begins {
        // In two pieces, of which one has come before.
        let (mut session, mut out) = (at_rest(), Vec::new());
        session.receive(b"421 4.4.2 id");
        begin(&mut session);
        for _ in 0..2 {
            assert_eq!(session.advance(&mut out), Ok(Advance::NeedInput));
            assert!(session.ready().is_none() && matches!(session.pending(), Event::NeedInput));
            assert!(out.is_empty() && session.timeout().is_some());
        }
        session.receive(b"le\r\n");
        let error = session.next(&mut out).unwrap_err().to_string();
        assert_eq!((&*error, &*out), (&*format!("{AT_REST}: 421 4.4.2 idle"), &b""[..]));

        // And no second piece.
        let mut session = at_rest();
        session.receive(b"421 4.4.2 id");
        begin(&mut session);
        assert_eq!(session.advance(&mut out), Ok(Advance::NeedInput));
        assert_eq!(session.eof().unwrap_err().to_string(), AT_REST);

        // On its way already when the client speaks.
        for said in ["421 4.4.2 idle\r\n", ""] {
            let (mut session, mut out) = (at_rest(), Vec::new());
            begin(&mut session);
            assert_eq!(session.advance(&mut out), Ok(Advance::NeedInput));
            assert!(!out.is_empty());
            session.receive(said.as_bytes());
            let error = match said {
                "" => session.eof().unwrap_err(),
                _ => session.next(&mut Vec::new()).unwrap_err(),
            };
            assert!(matches!(&error, Error::Closed(reply) if reply.is_none() == said.is_empty()));
            assert!(error.to_string().starts_with(AT_REST));
        }
    }
    // To leave is no error.
    for said in ["421 4.4.2 idle\r\n", "421 4.4.2 id"] {
        let (mut session, mut out) = (at_rest(), Vec::new());
        session.receive(said.as_bytes());
        session.ready().unwrap().quit();
        if !said.ends_with('\n') {
            assert_eq!(session.advance(&mut out), Ok(Advance::NeedInput));
            session.eof().unwrap();
        }
        assert!(matches!(session.next(&mut out), Ok(Event::Close)));
        assert!(out.is_empty());
    }
}

fn send(session: &mut Session) {
    match session.next(&mut Vec::new()) {
        Ok(Event::Ready(ready)) => ready.send(envelope()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_said_to_a_server_that_has_closed() {
    for step in [Stage::Rcpt, Stage::Data, Stage::Message] {
        let mut session = Place { step, in_tls: true, signed_in: true }.session();
        assert_eq!(told(&mut session, "421 4.3.2 bye\r\n").len(), 1);
        send(&mut session);
        let mut out = Vec::new();
        let error = session.next(&mut out).unwrap_err().to_string();
        assert_eq!((error.as_str(), &*out), (&*format!("{AT_REST}: 421 4.3.2 bye"), &b""[..]));
    }
    // Other credentials change nothing.
    let mut session = Place { step: Stage::Auth, in_tls: true, signed_in: false }.session();
    let told = told(&mut session, "421 4.3.2 bye\r\n");
    match session.next(&mut Vec::new()) {
        Ok(Event::NotAuthenticated(failed)) => {
            failed.retry(Credentials::password("tim", "other").unwrap())
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(session.next(&mut Vec::new()).unwrap_err().to_string(), told.concat());
}

#[test]
fn a_recipient_that_is_answered_by_421_is_the_last() {
    let config = Config::builder("c").tls(Tls::Never).build().unwrap();
    let mut session = Session::without_credentials(config.into());
    let to = ["a@example.org", "b@example.org", "c@example.org"];
    let mut out = Vec::new();
    for reply in
        ["220 s\r\n", "250-s\r\n250 PIPELINING\r\n", "250 ok\r\n250 ok\r\n421 4.3.2 bye\r\n"]
    {
        match session.next(&mut out).unwrap() {
            Event::Ready(ready) => {
                ready.send(Envelope::new(Some("a@example.org"), to).unwrap());
                assert!(matches!(session.next(&mut out), Ok(Event::NeedInput)));
            }
            Event::NeedInput => {}
            other => panic!("{other:?}"),
        }
        session.receive(reply.as_bytes());
    }
    let told = told(&mut session, "");
    assert_eq!(
        told,
        ["the server closed the connection at the recipients' addresses (RCPT): 421 4.3.2 bye"]
    );
}

/// What a client with a password is told that cannot sign in.
fn not_begun(tls: Tls, in_tls: bool, keywords: &str, starttls: Option<&str>) -> String {
    let config = Config::builder("c").tls(tls).build().unwrap();
    let mut session = Session::new(config.into(), Credentials::password("tim", "pw").unwrap());
    if in_tls {
        session.tls_started(Channel::tls());
    }
    assert!(matches!(session.next(&mut Vec::new()), Ok(Event::NeedInput)));
    let ehlo = format!("250-s\r\n{keywords}250 SIZE\r\n");
    for said in ["220 s\r\n", &ehlo].into_iter().chain(starttls) {
        session.receive(said.as_bytes());
        match session.next(&mut Vec::new()) {
            Ok(Event::NotAuthenticated(failed)) => return failed.reason().to_string(),
            Ok(Event::NeedInput) => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("{keywords}")
}

#[test]
fn advice_to_use_tls_is_for_those_who_do_not() {
    const OTHERS: &str =
        "the server offers no way to sign in that this client supports and is configured to use";
    const NONE: &str = "the server offers no way to sign in: send without a user name, or use another port or server";
    const TOKENS: &str = "the server takes other credentials than these, such as a password or an access token (OAuth)";
    const BEFORE_TLS: &str = "the server offers no usable way to sign in before TLS: use STARTTLS, or a port with implicit TLS";
    const UNSAFE: &str = "the server offers no way to sign in that is safe without TLS: use STARTTLS, or a port with implicit TLS";
    for (auth, in_tls, in_clear) in [
        ("", NONE, NONE),
        ("250-AUTH GSSAPI\r\n", OTHERS, OTHERS),
        ("250-AUTH XOAUTH2\r\n", TOKENS, TOKENS),
    ] {
        let listed = format!("250-STARTTLS\r\n{auth}");
        let refused = Some("454 4.7.0 not now\r\n");
        for tls in [Tls::Required, Tls::IfOffered, Tls::Never] {
            // A server that lists it inside TLS is broken, and its users are not to be sent round in circles.
            assert_eq!(not_begun(tls, true, &listed, None), in_tls, "{tls:?}, {auth}");
            assert_eq!(not_begun(tls, true, auth, None), in_tls, "{tls:?}, {auth}");
        }
        for tls in [Tls::IfOffered, Tls::Never] {
            assert_eq!(not_begun(tls, false, auth, None), in_clear, "{tls:?}, {auth}");
        }
        assert_eq!(not_begun(Tls::Never, false, &listed, None), BEFORE_TLS, "{auth}");
        assert_eq!(not_begun(Tls::IfOffered, false, &listed, refused), BEFORE_TLS, "{auth}");
    }
    let plain = "250-AUTH PLAIN\r\n";
    let listed = format!("250-STARTTLS\r\n{plain}");
    for tls in [Tls::IfOffered, Tls::Never] {
        assert_eq!(not_begun(tls, false, plain, None), UNSAFE, "{tls:?}");
    }
    assert_eq!(not_begun(Tls::Never, false, &listed, None), UNSAFE);
    assert_eq!(not_begun(Tls::IfOffered, false, &listed, Some("454 4.7.0 not now\r\n")), UNSAFE);
}

#[test]
fn a_silent_server_is_said_to_be_one_and_where() {
    const TLS_FIRST: &str = "; if the port expects TLS from the start, as 465 does, the server is silent until TLS begins";
    for place in Place::all() {
        let mut session = place.session();
        let waited = match place.step {
            Stage::Greeting => "the greeting".to_owned(),
            step => format!("the reply to {step}"),
        };
        let expected = format!("the server did not answer in time: the client waited for {waited}");
        // These speak no STARTTLS.
        assert_eq!(session.timed_out().unwrap_err().to_string(), expected, "{place:?}");
        assert_eq!(session.next(&mut Vec::new()).unwrap_err().to_string(), expected);
        assert_eq!(session.eof().unwrap_err().to_string(), expected);
    }
    for (tls, in_tls, hint) in [
        (Tls::Required, false, TLS_FIRST),
        (Tls::IfOffered, false, TLS_FIRST),
        (Tls::Never, false, ""),
        (Tls::Required, true, ""),
    ] {
        let config = Config::builder("c").tls(tls).build().unwrap();
        let mut session = Session::without_credentials(config.into());
        if in_tls {
            session.tls_started(Channel::tls());
        }
        assert!(matches!(session.next(&mut Vec::new()), Ok(Event::NeedInput)));
        let expected = "the server did not answer in time: the client waited for the greeting";
        let told = session.timed_out().unwrap_err().to_string();
        assert_eq!(told, format!("{expected}{hint}"), "{tls:?} {in_tls}");
    }
    // Nothing is lost after QUIT; and a refusal is more than silence.
    let mut session = at_rest();
    match session.next(&mut Vec::new()) {
        Ok(Event::Ready(ready)) => ready.quit(),
        other => panic!("{other:?}"),
    }
    assert!(matches!(session.next(&mut Vec::new()), Ok(Event::NeedInput)));
    assert_eq!(session.timed_out(), Ok(()));
    assert!(matches!(session.next(&mut Vec::new()), Ok(Event::Close)));
    let mut session = Place { step: Stage::Mail, in_tls: true, signed_in: true }.session();
    session.receive(b"550 5.7.1 no\r\n");
    let told = session.timed_out().unwrap_err().to_string();
    assert_eq!(told, "the server refused the sender's address (MAIL): 550 5.7.1 no");
}

#[test]
fn a_domain_that_is_not_ascii_has_another_form() {
    let utf8 = "the message header or an address contains UTF-8 and needs SMTPUTF8, which the server does not offer";
    let a_label = "the domain of an address is not ASCII, and the server does not offer SMTPUTF8: write the domain in its A-label form (IDNA), which begins with xn--";
    for (from, to, header, expected) in [
        ("a@bücher.example", "b@example.org", false, a_label),
        ("a@example.org", "b@bücher.example", false, a_label),
        ("a@example.org", "\"x@y\"@bücher.example", false, a_label),
        ("", "b@bücher.example", false, a_label),
        ("é@example.org", "b@bücher.example", false, utf8),
        ("a@bücher.example", "\"é@\"@example.org", false, utf8),
        ("a@bücher.example", "b@example.org", true, utf8),
        ("a@example.org", "b@example.org", true, utf8),
    ] {
        let mut session = at_rest();
        let envelope = Envelope::new(Some(from), [to]).unwrap().smtputf8(header);
        match session.next(&mut Vec::new()) {
            Ok(Event::Ready(ready)) => ready.send(envelope),
            other => panic!("{other:?}"),
        }
        let told = match session.next(&mut Vec::new()) {
            Ok(Event::Sent(outcome)) => outcome.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told, expected, "{from} {to}");
    }
}
