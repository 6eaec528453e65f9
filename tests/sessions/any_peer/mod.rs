//! Whatever the peer sends: no panic, no reply that breaks the rules, no secret shown.

mod messages;
mod octets;
mod secrets;

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
                let (authcid, authzid) =
                    (ask.authcid().to_owned(), ask.authzid().unwrap().to_owned());
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
            server::Event::StartOfData(ask) => match answers.next() % 4 {
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
