//! Any octets in any pieces, and a store that answers each question in any way: the session answers or
//! waits, nobody is signed in without a yes, and each failure is shown once, and before the client is told.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth::{
    command::{Command, Parameters},
    ehlo::Keyword,
    reply::Reply,
    sasl::{Channel, ChannelBinding, Mechanism, Nonce, Query, server as sasl},
    server::{Config, Event, Session},
};
use smtp_auth_fuzz::{
    FOLDS, ITERATIONS, OWN, POLICIES, SALT_KEY, encode, mechanisms, pick, store::Store,
};

/// Messages with which a client may sign in, where the store says yes.
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

/// What the client sends: octets as they are, or a line made with them, or they would hardly ever be
/// one.
fn piece((kind, octets): (u8, Vec<u8>)) -> Vec<u8> {
    let (mechanism, good) = GOOD[usize::from(kind >> 4) % GOOD.len()];
    let any = Mechanism::COMPILED[usize::from(kind >> 4) % Mechanism::COMPILED.len()];
    let base64 = encode(&octets);
    match kind % 8 {
        0 => "EHLO c\r\n".into(),
        1 => "STARTTLS\r\n".into(),
        2 => format!("AUTH {any}\r\n").into(),
        3 => format!("AUTH {any} {base64}\r\n").into(),
        4 => format!("AUTH {mechanism} {}\r\n", encode(good)).into(),
        5 => {
            let octets = [good.as_bytes(), &octets].concat();
            format!("AUTH {mechanism} {}\r\n", encode(octets)).into()
        }
        6 => format!("{base64}\r\n").into(),
        _ => octets,
    }
}

fn config(choice: u8) -> Config {
    let sasl = sasl::Config::builder("mail.example.org")
        .mechanisms(mechanisms())
        .nonces(|| Nonce::new("nonce"))
        .salt_key(SALT_KEY)
        .scram_iterations(ITERATIONS)
        .allow_cleartext(choice & 1 != 0)
        .channel_binding(pick(&POLICIES, choice >> 1))
        .fold_names(pick(&FOLDS, choice >> 3))
        .authorize_always(choice & 64 != 0);
    let config = Config::builder("mail.example.org")
        .sasl(sasl.build().expect("a good name, and what is compiled in"))
        .verb("ETRN", Keyword::other("ETRN", "").expect("a keyword"))
        .allow_unauthenticated(choice & 128 != 0);
    config.build().expect("a good name")
}

fn channel() -> Channel {
    let end_point = ChannelBinding::tls_server_end_point(b"end point").expect("it has data");
    Channel::tls()
        .with_binding(ChannelBinding::tls_exporter([7; 32]))
        .with_binding(end_point)
        .with_identity("tim@example.org")
        .expect("a good name")
}

/// The application: its store, and what it was shown.
struct Host {
    store: Store,
    /// The question that was left as it is.
    waiting: Option<u64>,
    /// The last one that was answered.
    settled: u64,
    attempts: u32,
    failures: usize,
    /// How much stood in the output when the last failure was shown.
    told: usize,
}

impl Host {
    /// Answers, or leaves it for later.
    fn answer(&mut self, query: Query<'_>, config: &sasl::Config) {
        let octet = self.store.octet();
        let serial = query.serial();
        assert!(serial > self.settled, "each question has a serial of its own");
        assert_eq!(self.waiting.take().unwrap_or(serial), serial, "it stands until it is answered");
        if octet == 255 {
            self.waiting = Some(serial);
            return;
        }
        self.settled = serial;
        self.store.answer(query, config, octet);
    }
}

/// Whether no parameter comes twice.
fn are_unlike(parameters: Parameters<'_>) -> bool {
    let mut names: Vec<_> = parameters.iter().map(|own| own.name().to_ascii_uppercase()).collect();
    names.sort_unstable();
    names.windows(2).all(|two| two[0] != two[1])
}

/// Whether the last line tells the client that its token is no good, by a challenge that begins with
/// `{"status"`.
fn refuses_token(out: &[u8]) -> bool {
    let last = out.split_inclusive(|&octet| octet == b'\n').next_back();
    last.is_some_and(|line| line.starts_with(b"334 eyJzdGF0dXMi"))
}

fuzz_target!(|input: (u8, Vec<u8>, Vec<(u8, Vec<u8>)>)| {
    let (choice, answers, pieces) = input;
    let config = config(choice);
    let sasl = config.sasl().clone();
    let mut session = Session::new(config.into());
    if choice & 64 != 0 {
        session.tls_started(channel());
    }
    let pieces: Vec<_> = pieces.into_iter().map(piece).collect();
    let said = pieces.concat();
    let (mut out, mut pieces) = (Vec::new(), pieces.into_iter());
    // Where the input ends, each answer is no.
    let mut store = Store::new(answers, 0);
    store.always = choice & 64 != 0;
    let mut host = Host { store, waiting: None, settled: 0, attempts: 0, failures: 0, told: 0 };
    loop {
        match session.next(&mut out) {
            Event::NeedInput => {
                assert!(!refuses_token(&out) || host.told == out.len(), "the client is told first");
                match pieces.next() {
                    Some(piece) => session.receive(&piece),
                    None => break,
                }
            }
            Event::Query(query) => host.answer(query, &sasl),
            Event::Authenticated(who) => {
                host.store.check(who);
                host.store.forget();
            }
            Event::AuthFailed(failed) => {
                host.store.check_failed(&failed, host.attempts);
                host.attempts = failed.attempts;
                host.failures += 1;
                host.store.forget();
                host.told = out.len();
            }
            Event::Command(Command::Unknown(unknown), ask) => {
                assert!(unknown.verb().eq_ignore_ascii_case("ETRN"), "an unknown command is shown");
                ask.reply(Reply::OK);
            }
            Event::Command(Command::Mail(mail), ask) => {
                assert!(are_unlike(mail.parameters()));
                ask.reply(Reply::OK);
            }
            Event::Command(Command::Rcpt(rcpt), ask) => {
                assert!(are_unlike(rcpt.parameters()));
                ask.reply(Reply::OK);
            }
            Event::Command(_, ask) | Event::EndOfData(ask) => ask.reply(Reply::OK),
            Event::StartOfData(permission) => permission.accept(),
            Event::StartTls => {
                let _ = session.tls_started(channel());
                assert!(session.identity().is_none());
                host.store.forget();
            }
            Event::Hello(_) | Event::Data(_) | Event::Reset => {}
            Event::Close => break,
        }
    }
    let commands = said.windows(5).filter(|octets| octets.eq_ignore_ascii_case(b"AUTH ")).count();
    assert!(host.failures <= commands, "a failure is shown twice");
    assert!(out.is_empty() || out.ends_with(b"\r\n"));
    for line in out.split_inclusive(|&octet| octet == b'\n') {
        assert!(line.len() <= 512 && line.is_ascii());
    }
});
