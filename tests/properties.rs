//! Whatever the peer sends: no panic, no reply that breaks the rules, no secret shown.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test fails by panicking"
)]
#![cfg(all(feature = "plain", feature = "login", feature = "cram-md5"))]

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use proptest::{collection::vec, prelude::*, sample::select};
use smtp_auth::{
    client,
    command::Command,
    reply::Reply,
    sasl::{self, Answer, Channel, CramSecret, Mechanism, Nonce, Query, client::Credentials},
    server,
};

const PASSWORD: &str = "Pa55w0rd-zyxw";
const NONCE: &str = "0123456789abcdef";

fn server_builder() -> server::Builder {
    let sasl = sasl::server::Config::builder("smtp.example.com").mechanisms(Mechanism::COMPILED);
    let sasl = sasl.nonces(|| Nonce::new(NONCE)).build().unwrap();
    server::Config::builder("smtp.example.com").sasl(sasl).max_attempts(4)
}

fn server_config() -> server::Config {
    server_builder().build().unwrap()
}

fn client_config() -> client::Config {
    client::Config::builder("client.example.com").build().unwrap()
}

fn tim() -> Credentials {
    Credentials::password("tim", PASSWORD).unwrap()
}

/// The host's answers, one after the other.
#[derive(Clone, Debug)]
struct Answers {
    all: Vec<u8>,
    at: usize,
}

impl Answers {
    fn new(all: Vec<u8>) -> Self {
        Self { all, at: 0 }
    }

    fn next(&mut self) -> u8 {
        self.at += 1;
        self.all.get(self.at % self.all.len().max(1)).copied().unwrap_or(0)
    }
}

/// What a host sees of a server's session.
#[derive(Debug, Default)]
struct Seen {
    out: Vec<u8>,
    events: usize,
    closed: bool,
    tls: bool,
    /// Who was accepted by the last query, and as whom.
    accepted: Option<(String, Option<String>)>,
    signed_in: Option<String>,
}

/// Plays the host until the session wants input.
fn turn(session: &mut server::Session, answers: &mut Answers, seen: &mut Seen) {
    loop {
        seen.events += 1;
        match session.next(&mut seen.out) {
            server::Event::NeedInput => return,
            server::Event::Query(Query::CheckPassword(ask)) => {
                let answer = match answers.next() % 5 {
                    0 | 1 => Answer::accept(()),
                    2 => Answer::reject(),
                    3 => Answer::temp_fail(),
                    _ => Answer::too_weak(),
                };
                let good = answer == Answer::accept(());
                seen.accepted = good.then(|| (ask.authcid().into(), None));
                ask.answer(answer);
            }
            server::Event::Query(Query::CramSecret(ask)) => {
                let good = answers.next() % 3 < 2;
                let secret = CramSecret::from_password(PASSWORD);
                seen.accepted = good.then(|| (ask.authcid().into(), None));
                ask.answer(if good { Answer::accept(secret) } else { Answer::reject() });
            }
            server::Event::Query(Query::Authorize(ask)) => {
                let good = answers.next() % 2 == 0;
                let (authcid, authzid) = (ask.authcid().to_owned(), ask.authzid().to_owned());
                assert_eq!(seen.accepted.take(), Some((authcid.clone(), None)));
                assert_ne!(authcid, authzid);
                seen.accepted = good.then_some((authcid, Some(authzid)));
                ask.answer(good);
            }
            server::Event::Query(other) => other.reject(),
            server::Event::Authenticated(who) => {
                let (authcid, authzid) = seen.accepted.take().expect("nobody was accepted");
                assert_eq!(who.authcid(), authcid);
                assert_eq!(who.authzid(), authzid.as_deref());
                assert_ne!(who.authcid(), "wrong", "its digest does not verify");
                seen.signed_in = Some(authcid);
            }
            server::Event::AuthFailed(_) => seen.accepted = None,
            server::Event::Command(Command::Mail(_) | Command::Rcpt(_), _)
                if seen.signed_in.is_none() =>
            {
                panic!("mail before sign-in")
            }
            server::Event::Command(Command::Unknown(_), _) => panic!("an unknown verb"),
            server::Event::Command(_, ask) => {
                ask.reply(if answers.next() % 4 == 0 { Reply::LOCAL_ERROR } else { Reply::OK });
            }
            server::Event::Message(ask) => match answers.next() % 4 {
                0 => ask.refuse(Reply::LOCAL_ERROR),
                _ => ask.accept(),
            },
            server::Event::EndOfData(ask) => ask.reply(Reply::OK),
            server::Event::Hello(_) | server::Event::Data(_) | server::Event::Reset => {}
            server::Event::StartTls => {
                session.tls_started(Channel::tls());
                (seen.tls, seen.signed_in) = (true, None);
            }
            server::Event::Close => {
                seen.closed = true;
                return;
            }
        }
    }
}

/// The replies in what was sent, each of good lines.
fn replies(out: &[u8]) -> Vec<String> {
    let (mut replies, mut reply) = (Vec::new(), String::new());
    for line in out.split_inclusive(|&octet| octet == b'\n') {
        let shown = line.escape_ascii();
        let text = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("half a line: {shown}"));
        assert!(line.len() <= 512, "{shown}");
        assert!(text.iter().all(|octet| (b' '..=b'~').contains(octet)), "{shown}");
        assert!(text.len() >= 3 && text[..3].iter().all(u8::is_ascii_digit), "{shown}");
        reply.push_str(std::str::from_utf8(text).unwrap());
        if text.get(3) != Some(&b'-') {
            replies.push(std::mem::take(&mut reply));
        }
    }
    assert_eq!(reply, "", "a reply without its last line");
    replies
}

/// What no reply may repeat.
const MARK: &str = "zqxjkv";

const LINES: &[&str] = &[
    "EHLO zqxjkv.example.com",
    "HELO zqxjkv",
    "NOOP zqxjkv",
    "RSET",
    "ZQXJKV zqxjkv",
    "VRFY zqxjkv",
    "EXPN zqxjkv",
    "HELP zqxjkv",
    "MAIL FROM:<zqxjkv@example.org>",
    "MAIL FROM:<zqxjkv@example.org> AUTH=<>",
    "MAIL FROM:<zqxjkv@example.org> AUTH=+zqxjkv",
    "MAIL FROM:<zqxjkv@example.org> SIZE=99999999999",
    "RCPT TO:<zqxjkv@example.org>",
    "RCPT TO:<zqxjkv>",
    "DATA",
    "BDAT 6 LAST\r\nzqxjkv",
    "BDAT 6\r\nzqxjkv",
    "BDAT 0 LAST",
    "BDAT zqxjkv",
    "AUTH PLAIN AHRpbQBQYTU1dzByZC16eXh3",
    "AUTH PLAIN VXJzZWwAdGltAFBhNTV3MHJkLXp5eHc=",
    "AUTH PLAIN dGltAHRpbQBQYTU1dzByZC16eXh3",
    "AUTH PLAIN",
    "AUTH PLAIN zqxjkv",
    "AUTH LOGIN",
    "AUTH LOGIN dGlt",
    "AUTH CRAM-MD5",
    "AUTH zqxjkv",
    "AUTH zqxjkv zqxjkv zqxjkv",
    "AHRpbQBQYTU1dzByZC16eXh3",
    "dGlt",
    "UGE1NXcwcmQtenl4dw==",
    "CRAM",
    "d3JvbmcgMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "*",
    "",
    "zqxjkv\nzqxjkv",
];

/// The response to the challenge by the fixed nonce.
fn cram_response() -> String {
    let config = sasl::client::Config::default();
    let (mechanism, channel) = (Mechanism::CramMd5, Channel::tls());
    let mut exchange = sasl::client::Exchange::new(&config, &channel, mechanism, tim());
    let sasl::client::Step::Response(response) = exchange.step() else { panic!() };
    response.challenge(format!("<{NONCE}@smtp.example.com>"));
    let sasl::client::Step::Response(response) = exchange.step() else { panic!() };
    base64(response.data().unwrap())
}

fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in octets.chunks(3) {
        let mut bits = 0;
        (0..3).for_each(|n| bits = bits << 8 | u32::from(*three.get(n).unwrap_or(&0)));
        for n in 0..4 {
            let six = (bits >> (18 - 6 * n)) as usize & 63;
            text.push(if n <= three.len() { ALPHABET[six].into() } else { '=' });
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_to_a_server(
        pieces in vec(
            prop_oneof![
                vec(any::<u8>(), 0..40),
                select(LINES).prop_map(|line| format!("{line}\r\n").into_bytes()),
                select(vec!["\r", "\n", "\r\n", ".\r\n", "\r\n.\r\n", "\0"])
                    .prop_map(|end| end.as_bytes().to_vec()),
            ],
            0..40,
        ),
        answers in vec(any::<u8>(), 1..8),
        tls in any::<bool>(),
    ) {
        let mut session = server::Session::new(server_config().into());
        if tls {
            session.tls_started(Channel::tls());
        }
        let (mut answers, mut seen) = (Answers::new(answers), Seen::default());
        let (mut octets, mut lines) = (0, 0);
        turn(&mut session, &mut answers, &mut seen);
        for piece in pieces {
            octets += piece.len();
            lines += piece.iter().filter(|octet| **octet == b'\n').count();
            session.receive(&piece);
            turn(&mut session, &mut answers, &mut seen);
            prop_assert!(seen.events <= 10 + 4 * octets + 2 * lines, "{seen:?}");
            // A greeting, and a reply of at most nine short lines to each line.
            prop_assert!(seen.out.len() <= 100 + 300 * lines);
            if seen.closed {
                break;
            }
        }
        // A reply to each line at most, but for the greeting.
        prop_assert!(replies(&seen.out).len() <= lines + 1);
    }

    #[test]
    fn nothing_runs_after_a_bdat_that_cannot_be_read(
        before in select(vec!["", " ", "\t \0", "NOOP\n", "x\r\r ", "\n"]),
        long in select(vec![0, 0, 0, 13_000]),
        verb in "[Bb][Dd][Aa][Tt]",
        after in select(vec!["", " ", " x", " 5 LAST x", " -1", "\t5", " 5\n", " 5\r", " 5\0", "5"]),
        size in select(vec![1, 2, 3, 10, 20_000]),
        tls in any::<bool>(),
    ) {
        let mut session = server::Session::new(server_config().into());
        if tls {
            session.tls_started(Channel::tls());
        }
        let (mut answers, mut seen) = (Answers::new(vec![0]), Seen::default());
        let blanks = " ".repeat(long);
        let line = format!("{before}{blanks}{verb}{after}\r\nNOOP\r\nNOOP\r\n");
        for piece in line.as_bytes().chunks(size) {
            session.receive(piece);
            turn(&mut session, &mut answers, &mut seen);
        }
        prop_assert!(seen.closed, "{}", seen.out.escape_ascii());
        let replies = replies(&seen.out);
        prop_assert!(replies.len() == 2 && replies[1].starts_with("50"), "{replies:?}");
    }

    #[test]
    fn commands_in_any_order(
        lines in vec(prop_oneof![1 => Just("STARTTLS"), 30 => select(LINES)], 0..60),
        answers in vec(any::<u8>(), 1..12),
        tls in any::<bool>(),
    ) {
        let cram = cram_response();
        let (mut octets, mut pipelined) = (Vec::new(), true);
        let start = |answers: &Vec<u8>| {
            let mut session = server::Session::new(server_config().into());
            if tls {
                session.tls_started(Channel::tls());
            }
            let (mut answers, mut seen) = (Answers::new(answers.clone()), Seen::default());
            turn(&mut session, &mut answers, &mut seen);
            (session, answers, seen)
        };
        let (mut session, mut own_answers, mut seen) = start(&answers);
        let (mut all, mut before) = (std::mem::take(&mut seen.out), 0);
        let lines = ["EHLO zqxjkv"].into_iter().chain(lines);
        for line in lines {
            let unit = match (before, line) {
                (354, _) => format!("{MARK}\r\n..{MARK}\r\n.\r\n"),
                (_, "CRAM") => format!("{cram}\r\n"),
                // A chunk has no line end of its own, and has no place in an exchange.
                (334, line) if line.starts_with("BDAT") => "*\r\n".into(),
                (_, line) if line.contains("\r\n") => line.into(),
                (_, line) => format!("{line}\r\n"),
            };
            pipelined &= line != "STARTTLS";
            octets.extend_from_slice(unit.as_bytes());
            session.receive(unit.as_bytes());
            turn(&mut session, &mut own_answers, &mut seen);
            let said = std::mem::take(&mut seen.out);
            let found = replies(&said);
            prop_assert_eq!(found.len(), 1, "to {:?}: {:?}", unit, found);
            prop_assert!(!found[0].contains(MARK), "{}", found[0]);
            before = found[0][..3].parse().unwrap();
            all.extend(said);
            // 235 goes with the event, and the event with the state.
            let identity = session.identity().map(|who| who.authcid().to_owned());
            prop_assert_eq!(&identity, &seen.signed_in);
            if before == 235 {
                prop_assert!(identity.is_some());
            }
            if matches!(before, 221 | 421) {
                prop_assert!(seen.closed);
            }
            if seen.closed {
                break;
            }
        }
        if pipelined {
            // All at once, the same.
            let (mut session, mut own_answers, mut seen) = start(&answers);
            session.receive(&octets);
            turn(&mut session, &mut own_answers, &mut seen);
            prop_assert_eq!(
                seen.out.escape_ascii().to_string(),
                all.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn any_octets_to_a_client(
        pieces in vec(
            prop_oneof![
                1 => vec(any::<u8>(), 0..40),
                4 => "[2-5][0-5][0-9]([- ][ -~]{0,20})?\r\n".prop_map(String::into_bytes),
                12 => select(vec![
                    "220 x\r\n",
                    "250 x\r\n",
                    "250-x\r\n250-PIPELINING\r\n250 AUTH PLAIN LOGIN CRAM-MD5\r\n",
                    "250-x\r\n250 STARTTLS\r\n",
                    "334 PDEuMkB4Pg==\r\n",
                    "334 \r\n",
                    "235 2.7.0 x\r\n",
                    "535 5.7.8 x\r\n",
                    "504 x\r\n",
                    "354 x\r\n",
                    "221 x\r\n",
                ])
                .prop_map(|reply| reply.as_bytes().to_vec()),
            ],
            0..40,
        ),
        tls in any::<bool>(),
        go_on in any::<bool>(),
        credentials in any::<bool>(),
    ) {
        let mut session = match credentials {
            true => client::Session::new(client_config().into(), tim()),
            false => client::Session::without_credentials(client_config().into()),
        };
        if tls {
            session.tls_started(Channel::tls());
        }
        let (mut out, mut events, mut octets, mut input) = (Vec::new(), 0, 0, Vec::new());
        let mut replies = 0;
        let mut pieces = pieces.into_iter();
        loop {
            events += 1;
            prop_assert!(events <= 20 + 4 * octets);
            match session.next(&mut out) {
                Ok(client::Event::NeedInput) => {
                    if !session.channel().is_tls() {
                        let said = String::from_utf8(out.clone()).unwrap();
                        let good = ["EHLO client.example.com", "STARTTLS"];
                        prop_assert!(said.lines().all(|line| good.contains(&line)), "{}", said);
                    }
                    let Some(piece) = pieces.next() else { break };
                    octets += piece.len();
                    replies += piece.iter().filter(|octet| **octet == b'\n').count();
                    session.receive(&piece);
                    input.extend(piece);
                }
                Ok(client::Event::StartTls) => session.tls_started(Channel::tls()),
                // No mechanism of our own is listed.
                Ok(client::Event::Challenge(ask)) => ask.fail(),
                Ok(client::Event::Derive(ask)) => ask.run(),
                Ok(client::Event::AuthFailed(failed)) => {
                    if go_on { failed.go_on() } else { failed.quit() }
                }
                Ok(client::Event::Ready(ready)) => {
                    let to = ["b@example.org", "c@example.org"];
                    ready.send(client::Envelope::new(Some("a@example.org"), to).unwrap());
                    if session.authenticated().is_some() {
                        prop_assert!(input.windows(3).any(|code| code == b"235"));
                    }
                }
                Ok(client::Event::Message(body)) => {
                    body.write(b".dot\r\n", &mut out).unwrap();
                    body.end(&mut out).unwrap();
                }
                Ok(client::Event::Refused(..) | client::Event::Sent(_)) => {}
                Ok(client::Event::Close) | Err(_) => break,
            }
            prop_assert!(out.len() <= 700 * (replies + 1));
        }
    }
}

/// The forms in which a secret could be seen.
fn forms(secret: &str) -> Vec<String> {
    let of = |text: &str| {
        let decimals = format!("{:?}", text.as_bytes());
        [text.to_owned(), decimals.trim_matches(['[', ']']).to_owned()]
    };
    of(secret).into_iter().chain(of(&base64(secret.as_bytes()))).collect()
}

#[track_caller]
fn hides(shown: &impl Debug, secrets: &[String]) {
    let (shown, pretty) = (format!("{shown:?}"), format!("{shown:#?}"));
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} in {shown}");
        assert!(!pretty.contains(secret), "{secret} in {pretty}");
    }
}

#[test]
fn no_secret_is_shown_by_a_server() {
    let cram = cram_response();
    assert_eq!(base64(format!("tim {PASSWORD}").as_bytes()), "dGltIFBhNTV3MHJkLXp5eHc=");
    let plain = format!("\0tim\0{PASSWORD}");
    let mut secrets = [forms(PASSWORD), forms(&plain)].concat();
    secrets.push(cram.clone());
    let lines = [
        "EHLO x".to_owned(),
        format!("AUTH PLAIN {}", base64(plain.as_bytes())),
        "AUTH PLAIN".into(),
        base64(plain.as_bytes()),
        "AUTH LOGIN".into(),
        "dGlt".into(),
        base64(PASSWORD.as_bytes()),
        "AUTH CRAM-MD5".into(),
        cram,
        // Out of step: behind what was refused comes what was meant as a response.
        "AUTH PLAIN x y".into(),
        base64(plain.as_bytes()),
        base64(PASSWORD.as_bytes()),
        PASSWORD.into(),
        format!("AUTH PLAIN {PASSWORD} {PASSWORD}"),
        format!("{PASSWORD}\n"),
    ];
    let mut session =
        server::Session::new(server_builder().max_attempts(99).build().unwrap().into());
    session.tls_started(Channel::tls());
    let trace = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&trace);
    session.trace(move |side, line| hook.lock().unwrap().push(format!("{side}: {line}")));
    let mut out = Vec::new();
    for line in lines {
        session.receive(format!("{line}\r\n").as_bytes());
        loop {
            let event = session.next(&mut out);
            hides(&event, &secrets);
            match event {
                server::Event::NeedInput => break,
                server::Event::Query(query) => {
                    let secret = CramSecret::from_password(PASSWORD);
                    hides(&secret, &secrets);
                    match query {
                        Query::CramSecret(ask) => ask.answer(Answer::accept(secret)),
                        other => other.reject(),
                    }
                }
                server::Event::AuthFailed(failure) => {
                    let words = failure.to_string();
                    assert!(!secrets.iter().any(|secret| words.contains(secret)), "{words}");
                }
                server::Event::Command(_, ask) => ask.reply(Reply::UNRECOGNIZED),
                _ => {}
            }
        }
        hides(&session, &secrets);
    }
    assert!(session.identity().is_some());
    let said = String::from_utf8(out).unwrap();
    let trace = trace.lock().unwrap();
    assert!(trace.len() > 30);
    for secret in &secrets {
        assert!(!said.contains(secret));
        let found = trace.iter().find(|line| line.contains(secret));
        assert_eq!(found, None, "{trace:#?}");
    }
}

#[test]
fn no_secret_is_shown_by_a_client() {
    let plain = format!("\0tim\0{PASSWORD}");
    let secrets = [forms(PASSWORD), forms(&plain), vec![cram_response()]].concat();
    let config = Arc::new(client_config());
    let mut session = client::Session::new(Arc::clone(&config), tim());
    session.tls_started(Channel::tls());
    hides(&tim(), &secrets);
    hides(&config, &secrets);
    let trace = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&trace);
    session.trace(move |side, line| hook.lock().unwrap().push(format!("{side}: {line}")));
    let challenge = base64(format!("<{NONCE}@smtp.example.com>").as_bytes());
    let (mut out, mut retried) = (Vec::new(), false);
    for reply in [
        "220 x",
        "250-x\r\n250 AUTH CRAM-MD5 PLAIN LOGIN",
        &format!("334 {challenge}"),
        "534 x",
        "504 x",
        "334 VXNlcm5hbWU6",
        "334 UGFzc3dvcmQ6",
        "535 5.7.8 x",
        "334 !",
        "501 x",
        "235 x",
    ] {
        session.receive(format!("{reply}\r\n").as_bytes());
        loop {
            hides(&session, &secrets);
            let event = session.next(&mut out);
            hides(&event, &secrets);
            match event {
                Ok(client::Event::NeedInput) => break,
                Ok(client::Event::AuthFailed(failed)) => {
                    hides(&failed.error(), &secrets);
                    assert!(!std::mem::replace(&mut retried, true));
                    failed.retry(tim());
                }
                Ok(client::Event::Ready(_)) => break,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(session.authenticated().is_some());
    let said = String::from_utf8(out).unwrap();
    assert!(said.contains(&cram_response()) && said.contains(&base64(plain.as_bytes())));
    for secret in &secrets {
        let trace = trace.lock().unwrap();
        let found = trace.iter().find(|line| line.contains(secret));
        assert_eq!(found, None, "{trace:#?}");
    }
}
