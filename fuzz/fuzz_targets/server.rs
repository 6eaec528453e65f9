//! Any octets in any pieces, and a host that answers each question in any way: the session answers or
//! waits, and nobody is signed in without a yes.
#![no_main]

use std::{sync::LazyLock, vec};

use base64::{Engine, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use smtp_auth::{
    command::Command,
    reply::Reply,
    sasl::{
        Answer, BindingPolicy, Channel, ChannelBinding, CramSecret, Custom, CustomAnswer, Failure,
        Identity, Mechanism, Nonce, Query, ScramHash, ScramKeys, TokenAnswer,
        TokenError, server as sasl,
    },
    server::{Config, Event, Session},
};

const OWN: Mechanism = match Mechanism::custom("X-OWN") {
    Ok(mechanism) => mechanism,
    Err(_) => panic!("a good name"),
};

const POLICIES: [BindingPolicy; 3] =
    [BindingPolicy::Preferred, BindingPolicy::Required, BindingPolicy::None];

const FAILURES: [Failure; 6] = [
    Failure::Rejected,
    Failure::Malformed("it is not\r\n250 good"),
    Failure::TempFail,
    Failure::UnexpectedInitialResponse,
    Failure::TooWeak,
    Failure::Cancelled,
];

/// Messages with which a client may sign in, where the host says yes.
const GOOD: [(Mechanism, &str); 9] = [
    (OWN, "tim"),
    (OWN, "tim,ann"),
    (Mechanism::Plain, "ann\0tim\0tanstaaf"),
    (Mechanism::OauthBearer, "n,a=ann,\x01auth=Bearer token\x01\x01"),
    (Mechanism::Xoauth2, "user=ann\x01auth=Bearer token\x01\x01"),
    (Mechanism::External, "ann"),
    (Mechanism::Anonymous, "trace"),
    (Mechanism::ScramSha256Plus, "p=tls-exporter,,n=tim,r=nonce"),
    (Mechanism::ScramSha1, "y,a=ann,n=tim,r=nonce"),
];

/// Too slow to be made for each input.
static KEYS: LazyLock<Vec<ScramKeys>> = LazyLock::new(|| {
    let keys = |hash| ScramKeys::from_password(hash, "pencil", b"salt", 4096);
    [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512].into_iter().filter_map(keys).collect()
});

/// What the client sends: octets as they are, or a line made with them, or they would hardly ever be
/// one.
fn piece((kind, octets): (u8, Vec<u8>)) -> Vec<u8> {
    let (mechanism, good) = GOOD[usize::from(kind >> 4) % GOOD.len()];
    let any = Mechanism::COMPILED[usize::from(kind >> 4) % Mechanism::COMPILED.len()];
    let base64 = STANDARD.encode(&octets);
    match kind % 8 {
        0 => "EHLO c\r\n".into(),
        1 => "STARTTLS\r\n".into(),
        2 => format!("AUTH {any}\r\n").into(),
        3 => format!("AUTH {any} {base64}\r\n").into(),
        4 => format!("AUTH {mechanism} {}\r\n", STANDARD.encode(good)).into(),
        5 => {
            let octets = [good.as_bytes(), &octets].concat();
            format!("AUTH {mechanism} {}\r\n", STANDARD.encode(octets)).into()
        }
        6 => format!("{base64}\r\n").into(),
        _ => octets,
    }
}

fn config(choice: u8) -> Config {
    let all = [Mechanism::COMPILED, &[OWN]].concat();
    let sasl = sasl::Config::builder("mail.example.org").mechanisms(Mechanism::COMPILED).build().unwrap().and_then(|config| config.mechanisms(&all)).expect("a good name, and what is compiled in").nonces(|| Nonce::new("nonce")).salt_key("key").allow_cleartext(choice & 1 != 0).channel_binding(POLICIES[usize::from(choice >> 1) % 3]);
    Config::builder("mail.example.org").sasl(sasl).allow_unauthenticated(choice & 128 != 0).build().unwrap()
}

fn channel() -> Channel {
    let end_point = ChannelBinding::tls_server_end_point(b"end point").expect("it has data");
    Channel::tls()
        .with_binding(ChannelBinding::tls_exporter([7; 32]))
        .with_binding(end_point)
        .with_identity("tim@example.org")
        .expect("a good name")
}

/// What the host has said in the exchange under way.
#[derive(Debug, Default)]
struct Host {
    answers: vec::IntoIter<u8>,
    /// Who may have been proven, by whatever the client has sent.
    accepted: Option<String>,
    authorized: Option<String>,
    /// Whom the client wants to act as, where the question says so.
    wanted: Option<String>,
    /// The question that was left as it is.
    waiting: Option<u64>,
    /// The last one that was answered.
    settled: u64,
}

impl Host {
    /// Answers, or leaves it for later.
    fn answer(&mut self, query: Query<'_>) {
        // Where the input ends, each answer is no.
        let byte = self.answers.next().unwrap_or(0);
        let serial = query.serial();
        assert!(serial > self.settled, "each question has a serial of its own");
        assert_eq!(self.waiting.take().unwrap_or(serial), serial, "it stands until it is answered");
        if byte == 255 {
            self.waiting = Some(serial);
            return;
        }
        self.settled = serial;
        let answer = match byte % 4 {
            0 => Answer::reject(),
            1 => Answer::temp_fail(),
            _ => Answer::accept(()),
        };
        let yes = answer == Answer::accept(());
        let accept = |name: &str| yes.then(|| name.to_owned());
        match query {
            Query::CheckPassword(ask) => {
                self.accepted = accept(ask.authcid());
                self.wanted = ask.authzid().map(str::to_owned);
                ask.answer(match answer {
                    Answer::accept(()) => Answer::accept(()),
                    Answer::reject() => Answer::reject(),
                    Answer::temp_fail() if byte & 4 != 0 => Answer::too_weak(),
                    Answer::temp_fail() if byte & 8 != 0 => Answer::transition_needed(),
                    Answer::temp_fail() => Answer::temp_fail(),
                });
            }
            Query::CramSecret(ask) => {
                self.accepted = accept(ask.authcid());
                ask.answer(with(answer, CramSecret::from_password("tanstaaf")));
            }
            Query::ScramKeys(ask) => {
                self.accepted = accept(ask.authcid());
                // Perhaps those of another hash.
                ask.answer(with(answer, KEYS[usize::from(byte >> 2) % KEYS.len()].clone()));
            }
            Query::CheckToken(ask) => {
                self.accepted = accept("tim");
                self.wanted = ask.authzid().map(str::to_owned);
                ask.answer(match answer {
                    Answer::accept(()) => TokenAnswer::Accept("tim".into()),
                    Answer::temp_fail() => TokenAnswer::TempFail,
                    Answer::reject() if byte & 4 != 0 => {
                        TokenAnswer::RejectWith(TokenError::INVALID_TOKEN)
                    }
                    Answer::reject() => TokenAnswer::Reject,
                });
            }
            Query::CheckExternal(ask) => {
                let name = ask.identity().to_owned();
                self.accepted = accept(&name);
                self.wanted = ask.authzid().map(str::to_owned);
                ask.answer(with(answer, name));
            }
            Query::CheckAnonymous(ask) => {
                self.accepted = accept("anonymous");
                ask.answer(answer);
            }
            Query::Custom(ask) => self.custom(ask, byte),
            Query::Authorize(ask) => {
                assert_eq!(self.accepted.as_deref(), Some(ask.authcid()));
                assert_ne!(ask.authcid(), ask.authzid());
                self.authorized = accept(ask.authzid());
                ask.answer(answer);
            }
            other => other.reject(),
        }
    }

    /// The names of a mechanism of the host's own may be anything: here what the client has sent.
    fn custom(&mut self, ask: &mut Custom, byte: u8) {
        let rounds = ask.state().get_or_insert_with(|| Box::new(0_u8));
        let rounds = rounds.downcast_mut::<u8>().expect("what was put there");
        *rounds += 1;
        assert!(*rounds <= 21, "the exchange comes to an end");
        let sent = ask.response().map(|octets| String::from_utf8_lossy(octets).into_owned());
        ask.answer(match (byte % 4, sent) {
            (0, _) => CustomAnswer::Fail(FAILURES[usize::from(byte >> 2) % FAILURES.len()]),
            (1, _) | (_, None) => CustomAnswer::Challenge(vec![byte; usize::from(byte)]),
            (_, Some(sent)) => {
                let (authcid, authzid) = match sent.split_once(',') {
                    Some((authcid, authzid)) => (authcid.to_owned(), Some(authzid.to_owned())),
                    None => (sent, None),
                };
                self.accepted = Some(authcid.clone());
                self.wanted = authzid.clone();
                CustomAnswer::Accept { authcid, authzid }
            }
        });
    }

    /// Whether that can be, by what was answered.
    fn check(&self, who: &Identity) {
        let printable = |name: &str| !name.is_empty() && !name.contains(char::is_control);
        assert_eq!(self.accepted.as_deref(), Some(who.authcid()));
        assert_eq!(self.authorized.as_deref(), who.authzid());
        assert_eq!(self.wanted.as_deref().unwrap_or(who.acts_as()), who.acts_as());
        assert!(printable(who.authcid()) && printable(who.acts_as()));
    }

    /// The next exchange begins with no answer.
    fn forget(&mut self) {
        let answers = std::mem::take(&mut self.answers);
        *self = Self { answers, ..Self::default() };
    }
}

fn with<T>(answer: Answer, found: T) -> Answer<T> {
    match answer {
        Answer::accept(()) => Answer::accept(found),
        Answer::reject() => Answer::reject(),
        Answer::temp_fail() => Answer::temp_fail(),
    }
}

fuzz_target!(|input: (u8, Vec<u8>, Vec<(u8, Vec<u8>)>)| {
    let (choice, answers, pieces) = input;
    let mut session = Session::new(config(choice).into());
    if choice & 64 != 0 {
        session.tls_started(channel());
    }
    let (mut out, mut pieces) = (Vec::new(), pieces.into_iter().map(piece));
    let mut host = Host { answers: answers.into_iter(), ..Host::default() };
    loop {
        match session.next(&mut out) {
            Event::NeedInput => match pieces.next() {
                Some(piece) => session.receive(&piece),
                None => break,
            },
            Event::Query(query) => host.answer(query),
            Event::Authenticated(who) => host.check(who),
            Event::AuthFailed(_) => host.forget(),
            Event::Command(Command::Unknown(_), _) => panic!("an unknown command is shown"),
            Event::Command(_, ask) | Event::EndOfData(ask) => ask.reply(Reply::OK),
            Event::Message(permission) => permission.accept(),
            Event::StartTls => {
                let _ = session.tls_started(channel());
                assert!(session.identity().is_none());
                host.forget();
            }
            Event::Hello(_) | Event::Data(_) | Event::Reset => {}
            Event::Close => break,
        }
    }
    assert!(out.is_empty() || out.ends_with(b"\r\n"));
    for line in out.split_inclusive(|&octet| octet == b'\n') {
        assert!(line.len() <= 512 && line.is_ascii());
    }
});
