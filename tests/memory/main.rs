//! Whatever the peer sends, a session holds no more than a bound.
#![cfg(feature = "default")]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::Read,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    client,
    reply::Reply,
    sasl::{
        self, Answer, Channel, ChannelBinding, CramSecret, CustomAnswer, Mechanism, Nonce, Query,
        ScramKeys, TokenAnswer,
        client::{Credentials, CustomResponse},
    },
    server,
};

/// Counts what each thread holds, and the most that it has held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: everything is the system allocator's. What grows has the old memory and the new at once.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size() as isize);
        MOST.set(MOST.get().max(HELD.get()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How much the work holds at most, beyond what was held before.
fn most<T>(work: impl FnOnce() -> T) -> isize {
    let before = HELD.get();
    MOST.set(before);
    drop(work());
    MOST.get() - before
}

const PASSWORD: &str = "Pa55w0rd";
const NONCE: &str = "0123456789abcdef";
const OWN: Mechanism = match Mechanism::custom("X-OWN") {
    Ok(mechanism) => mechanism,
    Err(_) => panic!(),
};

fn mechanisms() -> Vec<Mechanism> {
    [Mechanism::COMPILED, &[OWN]].concat()
}

fn server_builder() -> server::Builder {
    let sasl = sasl::server::Config::builder("smtp.example.com").mechanisms(mechanisms());
    let sasl = sasl.nonces(|| Nonce::new(NONCE)).scram_iterations(1).build().unwrap();
    server::Config::builder("smtp.example.com").sasl(sasl)
}

fn server_config() -> server::Config {
    server_builder().build().unwrap()
}

fn channel() -> Channel {
    let bound = Channel::tls().with_binding(ChannelBinding::tls_exporter([7; 32]));
    bound.with_identity("tim").unwrap()
}

/// Says yes to all, until the session wants input. Returns whether it goes on.
fn serve(session: &mut server::Session, out: &mut Vec<u8>) -> bool {
    loop {
        match session.next(out) {
            server::Event::NeedInput => return true,
            server::Event::Close => return false,
            server::Event::Query(query) => answer(query),
            server::Event::Command(_, ask) => ask.reply(Reply::OK),
            server::Event::StartOfData(ask) => ask.accept(),
            server::Event::EndOfData(ask) => ask.reply(Reply::OK),
            _ => {}
        }
    }
}

fn answer(query: Query<'_>) {
    match query {
        Query::CheckPassword(ask) => ask.answer(Answer::accept(())),
        Query::CramSecret(ask) => ask.answer(Answer::accept(CramSecret::from_password(PASSWORD))),
        Query::ScramKeys(ask) => {
            let keys = ScramKeys::from_password(ask.hash(), PASSWORD, &[b's'; 1000], 1);
            ask.answer(Answer::accept(keys.unwrap()));
        }
        Query::CheckToken(ask) => ask.answer(TokenAnswer::Accept("tim".into())),
        Query::CheckExternal(ask) => ask.answer(Answer::accept("tim".into())),
        Query::CheckAnonymous(ask) => ask.answer(Answer::accept(())),
        Query::Authorize(ask) => ask.answer(true),
        Query::Custom(ask) => ask.answer(CustomAnswer::Challenge(b"more".into())),
        other => other.reject(),
    }
}

/// What a client says to be long, `…` for as much as there is room for.
fn responses(mechanism: Mechanism) -> &'static [&'static [&'static str]] {
    match mechanism {
        Mechanism::Plain => {
            &[&["…"], &["…\0tim\0Pa55w0rd"], &["\0…\0Pa55w0rd"], &["\0tim\0…"], &["…\0…\0…"]]
        }
        Mechanism::Login => &[&["…", "…"]],
        Mechanism::CramMd5 => &[&["…"], &["… 0123456789abcdef0123456789abcdef"]],
        Mechanism::OauthBearer => &[
            &["…"],
            &["n,a=…,\x01auth=Bearer x\x01\x01"],
            &["n,,\x01auth=Bearer …\x01\x01"],
            &["n,,\x01x=…\x01auth=Bearer x\x01\x01"],
            &["n,a=…,\x01auth=Bearer …\x01\x01"],
        ],
        Mechanism::Xoauth2 => &[
            &["…"],
            &["user=…\x01auth=Bearer x\x01\x01"],
            &["user=tim\x01auth=Bearer …\x01\x01"],
            &["user=…\x01auth=Bearer …\x01\x01"],
        ],
        Mechanism::External | Mechanism::Anonymous => &[&["…"]],
        Mechanism::Custom(_) => &[&["…"; 20]],
        // The flag comes before.
        _ => &[
            &["…"],
            &["a=…,n=tim,r=client"],
            &[",n=…,r=client"],
            &[",n=tim,r=…"],
            &[",n=tim,r=client,x=…"],
            &["a=…,n=…,r=…"],
            &[",n=tim,r=client", "…"],
            &[",n=tim,r=client", "c=…,r=client0123456789abcdef,p=AAAA"],
            &[",n=tim,r=client", "c=,r=…,p=AAAA"],
            &[",n=tim,r=client", "c=biws,r=client0123456789abcdef,p=…"],
            &[",n=tim,r=client", "c=biws,r=client0123456789abcdef,x=…,p=AAAA"],
        ],
    }
}

/// What it is filled with: what is short, what SASLprep makes eleven times as long, what names have
/// to write as three octets, and what takes the most octets to decode.
const FILLERS: [&str; 6] = ["x", "é", "\u{FDFA}", "=2C", "\u{1F600}", "\u{AD}"];

/// The message, with as many octets in the places as leave it at `size` octets.
fn fill(template: &str, filler: &str, size: usize) -> Vec<u8> {
    let places = template.matches('…').count().max(1);
    let fixed = template.replace('…', "").len();
    let long = filler.repeat(size.saturating_sub(fixed) / places / filler.len());
    template.replace('…', &long).into_bytes()
}

/// A line of 12,288 octets is 9,216 octets of message.
const MESSAGE: usize = 9216;

/// Sizes up to the longest message, some of them where memory that doubles has just grown.
const SIZES: [usize; 4] = [300, 3000, 4097, MESSAGE];

/// Each line that a peer could say to be long, for the templates of an exchange.
fn dialogues(templates: &[&str]) -> Vec<Vec<String>> {
    let line = |text: &str, filler: &str, size| STANDARD.encode(fill(text, filler, size)) + "\r\n";
    let shapes = FILLERS.iter().flat_map(|filler| SIZES.map(|size| (filler, size)));
    shapes
        .map(|(filler, size)| templates.iter().map(|text| line(text, filler, size)).collect())
        .collect()
}

/// What SASLprep makes of the longest name is eleven times as long, and is held twice while it grows.
const SERVER: isize = 320 << 10;

#[test]
fn an_idle_session_holds_nothing() {
    let config = std::sync::Arc::new(server_config());
    let mut out = Vec::with_capacity(4096);
    for channel in [Channel::cleartext(), Channel::tls()] {
        let before = HELD.get();
        let mut session = server::Session::new(std::sync::Arc::clone(&config));
        session.tls_started(channel);
        for said in ["", "EHLO c\r\n", "NOOP\r\n", "NOO", "P\r\n"] {
            session.receive(said.as_bytes());
            assert!(serve(&mut session, &mut out));
            assert_eq!(HELD.get() > before, said == "NOO", "{said}");
        }
    }
    // Nor does one that has looked for octets, and found none.
    let mut session = server::Session::new(std::sync::Arc::clone(&config));
    assert!(serve(&mut session, &mut out));
    let before = HELD.get();
    assert_eq!(session.receive_with(4096, |_| Err("would block")), Err("would block"));
    assert_eq!(session.receive_with::<()>(4096, |_| Ok(0)), Ok(0));
    assert_eq!(HELD.get(), before);
    // One that has said less than a line holds what it has said.
    for octet in b"NOO" {
        let read = session.receive_with::<()>(4096, |room| {
            room[0] = *octet;
            Ok(1)
        });
        assert_eq!(read, Ok(1));
        assert!(serve(&mut session, &mut out));
        assert!(HELD.get() - before <= 64, "{}", HELD.get() - before);
    }
    // Of a response nothing is held but what the mechanism keeps of it.
    let mut session = server::Session::new(std::sync::Arc::clone(&config));
    let before = HELD.get();
    session.tls_started(Channel::tls());
    for said in ["EHLO c\r\n", "AUTH LOGIN\r\n", "dGlt\r\n"] {
        session.receive(said.as_bytes());
        assert!(serve(&mut session, &mut out));
    }
    let kept = size_of::<smtp_auth::auth::server::Exchange>() + "tim".len();
    assert_eq!(HELD.get() - before, kept as isize);
    // A client that has signed in, as whom, and what binds to the connection.
    let mut session = server::Session::new(std::sync::Arc::clone(&config));
    let before = HELD.get();
    session.tls_started(channel());
    session.receive(b"EHLO c\r\n");
    assert!(serve(&mut session, &mut out));
    let known = HELD.get() - before;
    session.receive(b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n");
    assert!(serve(&mut session, &mut out));
    let identity = session.identity().unwrap();
    let of_identity = (size_of_val(identity) + identity.authcid().len()) as isize;
    assert!((1..200).contains(&known), "{known}");
    assert_eq!(HELD.get() - before, known + of_identity);
}

#[test]
fn a_servers_exchange_is_bounded() {
    for mechanism in mechanisms() {
        for said in responses(mechanism) {
            for lines in dialogues(said) {
                let mut session = server::Session::new(server_config().into());
                session.tls_started(channel());
                let mut out = Vec::with_capacity(1 << 16);
                serve(&mut session, &mut out);
                session.receive(b"EHLO x\r\n");
                serve(&mut session, &mut out);
                let command = format!("AUTH {mechanism}\r\n");
                let most = most(|| {
                    for line in [&command].into_iter().chain(&lines) {
                        session.receive(line.as_bytes());
                        serve(&mut session, &mut out);
                    }
                });
                assert!(most < SERVER, "{mechanism} {said:?}: {most}");
            }
        }
    }
}

/// What a server says to be long.
fn challenges(mechanism: Mechanism) -> &'static [&'static [&'static str]] {
    match mechanism {
        Mechanism::Login => &[&["…", "…"]],
        Mechanism::Custom(_) => &[&["…"; 20]],
        own if own.to_string().starts_with("SCRAM") => &[
            &["…"],
            &["r=client…,s=c2FsdA==,i=1"],
            &["r=clientserver,s=…,i=1"],
            &["r=clientserver,s=c2FsdA==,i=…"],
            &["r=clientserver,s=c2FsdA==,i=1,x=…"],
            &["r=clientserver,s=c2FsdA==,i=1", "…"],
            &["r=clientserver,s=c2FsdA==,i=1", "v=…"],
            &["r=clientserver,s=c2FsdA==,i=1", "e=…"],
        ],
        _ => &[&["…"]],
    }
}

fn credentials(mechanism: Mechanism) -> Credentials {
    match mechanism {
        own if own.takes_password() => Credentials::password("tim", PASSWORD).unwrap(),
        own if own.takes_token() => Credentials::token("tim", "ya29.token").unwrap(),
        Mechanism::External => Credentials::external(),
        Mechanism::Anonymous => Credentials::anonymous("trace").unwrap(),
        own => Credentials::custom(own),
    }
}

/// Does all that the session asks for, until it wants input.
fn sign_in(session: &mut client::Session, out: &mut Vec<u8>) {
    loop {
        match session.next(out) {
            Ok(client::Event::Derive(ask)) => ask.run(),
            Ok(client::Event::Custom(ask)) => ask.answer(CustomResponse::Respond(b"more".into())),
            _ => return,
        }
    }
}

const CLIENT: isize = 64 << 10;

#[test]
fn a_clients_exchange_is_bounded() {
    for mechanism in mechanisms() {
        for said in challenges(mechanism) {
            for lines in dialogues(said) {
                let sasl = sasl::client::Config::builder().mechanisms(mechanisms());
                let sasl = sasl.nonces(|| Nonce::new("client")).scram_iterations(1, 1);
                let sasl = sasl.build().unwrap();
                let config =
                    client::Config::builder("client.example.com").sasl(sasl).build().unwrap();
                let mut session = client::Session::new(config.into(), credentials(mechanism));
                session.tls_started(channel());
                let mut out = Vec::with_capacity(1 << 16);
                session.receive(b"220 x\r\n");
                sign_in(&mut session, &mut out);
                session.receive(format!("250-x\r\n250 AUTH {mechanism}\r\n").as_bytes());
                let most = most(|| {
                    sign_in(&mut session, &mut out);
                    for line in &lines {
                        session.receive(b"334 ");
                        session.receive(line.as_bytes());
                        sign_in(&mut session, &mut out);
                    }
                });
                assert!(most < CLIENT, "{mechanism} {said:?}: {most}");
            }
        }
    }
}

/// How much is held at most while the octets are fed over and over, in pieces of several sizes, up to
/// that many.
fn most_fed(
    octets: &[u8],
    sizes: &[usize],
    total: usize,
    mut feed: impl FnMut(&[u8]) -> bool,
) -> isize {
    most(|| {
        let mut fed = 0;
        for &size in sizes.iter().cycle() {
            let piece = &octets[..size.min(octets.len())];
            fed += piece.len();
            if !feed(piece) || fed > total {
                break;
            }
        }
    })
}

/// How much comes at a time: much and little, and octet by octet, which sessions treat apart.
const PIECES: [&[usize]; 2] = [&[4096, 1, 1000, 4095], &[1]];

#[test]
fn a_servers_session_is_bounded() {
    for pieces in PIECES {
        for straight in [false, true] {
            a_servers_session_is_bounded_in(pieces, straight);
        }
    }
}

fn a_servers_session_is_bounded_in(pieces: &[usize], straight: bool) {
    const MIB: usize = 1 << 20;
    let mail = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n";
    let data = format!("{mail}DATA\r\n");
    let bdat = format!("{mail}BDAT 9000000000\r\n");
    for (what, begun, octets) in [
        ("no line end", "", &[b'a'; 4096][..]),
        ("no line end in AUTH", "AUTH PLAIN ", &[b'a'; 4096]),
        ("no line end in an exchange", "AUTH PLAIN\r\n", &[b'A'; 4096]),
        ("no line end in the second response", "AUTH LOGIN\r\ndGlt\r\n", &[b'A'; 4096]),
        ("carriage returns", "", &[b'\r'; 4096]),
        ("line feeds in an exchange", "AUTH PLAIN\r\n", &[b'\n'; 4096]),
        ("lines", "", &b"NOOP\r\n".repeat(700)),
        ("empty lines", "", &b"\r\n".repeat(2048)),
        ("a message of one line", &data, &[b'a'; 4096]),
        ("a message of carriage returns", &data, &[b'\r'; 4096]),
        ("a message of dots", &data, &b"\r\n..".repeat(1024)),
        ("a chunk", &bdat, &[b'a'; 4096]),
        ("a chunk that has no place", "BDAT 9000000000\r\n", &[b'a'; 4096]),
    ] {
        let config = server_builder().allow_unauthenticated(true).max_message(MIB as u64 / 2);
        let config = config.build().unwrap();
        let mut session = server::Session::new(config.into());
        session.tls_started(channel());
        // Room for what thousands of lines are answered.
        let mut out = Vec::with_capacity(1 << 18);
        serve(&mut session, &mut out);
        session.receive(format!("EHLO x\r\n{begun}").as_bytes());
        serve(&mut session, &mut out);
        let total = if pieces == [1] { MIB / 8 } else { MIB };
        let most = most_fed(octets, pieces, total, |piece| {
            out.clear();
            if straight {
                let mut piece = piece;
                while !piece.is_empty() {
                    let read = |room: &mut [u8]| Read::read(&mut piece, room);
                    assert!(session.receive_with(4096, read).unwrap() > 0);
                }
            } else {
                session.receive(piece);
            }
            serve(&mut session, &mut out)
        });
        assert!(most < 32 << 10, "{what}, straight in: {straight}: {most}");
    }
}

#[test]
fn a_clients_session_is_bounded() {
    for (what, begun, octets, bound) in [
        ("no line end", "", &[b'a'; 4096][..], 64 << 10),
        ("no line end in a challenge", "334 ", &[b'a'; 4096], 64 << 10),
        // A reply of 64 KiB is read, in memory that doubles.
        ("lines of one reply", "", &b"220-x\r\n".repeat(600), 192 << 10),
        ("empty lines of one reply", "", &b"220-\r\n".repeat(700), 192 << 10),
    ] {
        let config = client::Config::builder("client.example.com").build().unwrap();
        let mut session = client::Session::new(config.into(), credentials(Mechanism::Login));
        session.tls_started(channel());
        let mut out = Vec::new();
        if !begun.is_empty() {
            session.receive(b"220 x\r\n");
            sign_in(&mut session, &mut out);
            session.receive(b"250-x\r\n250 AUTH LOGIN\r\n");
            sign_in(&mut session, &mut out);
            session.receive(begun.as_bytes());
        }
        let mut over = false;
        let most = most_fed(octets, PIECES[0], 1 << 20, |piece| {
            session.receive(piece);
            over = session.next(&mut out).is_err();
            !over
        });
        assert!(over, "{what}: it goes on for ever");
        assert!(most < bound, "{what}: {most}");
    }
}

/// What was sent is compared with the reply to it, by a table of eight octets for each two of what was sent at least.
#[test]
fn a_reply_that_may_repeat_what_was_sent_is_bounded() {
    let password = Credentials::password("tim", "x".repeat(MESSAGE)).unwrap();
    let token = Credentials::token("tim", "x".repeat(8000)).unwrap();
    for (credentials, challenges) in [(password, "334 \r\n334 \r\n"), (token, "")] {
        let config = client::Config::builder("client.example.com").build().unwrap();
        let mut session = client::Session::new(config.into(), credentials);
        session.tls_started(channel());
        let mut out = Vec::with_capacity(1 << 15);
        session.receive(b"220 x\r\n");
        sign_in(&mut session, &mut out);
        session.receive(b"250-x\r\n250 AUTH LOGIN XOAUTH2\r\n");
        sign_in(&mut session, &mut out);
        for challenge in challenges.split_inclusive('\n') {
            session.receive(challenge.as_bytes());
            sign_in(&mut session, &mut out);
        }
        let reply = format!("{}535 x\r\n", format!("535-{}\r\n", "a".repeat(1000)).repeat(60));
        let most = most(|| {
            session.receive(reply.as_bytes());
            sign_in(&mut session, &mut out);
        });
        assert!(most < 640 << 10, "{most}");
    }
}

/// Of the replies to its recipients a session keeps about a thousand octets each, and as much again while its memory
/// doubles.
#[test]
fn an_outcome_is_bounded() {
    const RECIPIENTS: usize = 60;
    let names: Vec<String> = (0..RECIPIENTS).map(|n| format!("a{n}@example.org")).collect();
    let lines = |code: u16, text: &str, n: usize| {
        format!("{}{code} {text}\r\n", format!("{code}-{text}\r\n").repeat(n))
    };
    for (what, reply) in [
        ("long lines", lines(550, &"a".repeat(1000), 60)),
        ("short lines", lines(550, "", 127)),
        ("enhanced codes", lines(550, "5.123.123 a", 127)),
        ("what is not UTF-8", lines(550, &"\u{fffd}".repeat(300), 60)),
        ("accepted", lines(250, &"a".repeat(1000), 60)),
    ] {
        let reply = match what {
            "what is not UTF-8" => reply.bytes().map(|o| if o > 127 { 0xff } else { o }).collect(),
            _ => reply.into_bytes(),
        };
        let config = client::Config::builder("client.example.com").build().unwrap();
        let mut session = client::Session::without_credentials(config.into());
        session.tls_started(channel());
        let mut out = Vec::with_capacity(1 << 16);
        for said in ["220 x\r\n", "250-x\r\n250 8BITMIME\r\n"] {
            assert!(session.advance(&mut out).is_ok());
            session.receive(said.as_bytes());
        }
        assert!(session.advance(&mut out).is_ok());
        let envelope = client::Envelope::new(None, names.iter().map(String::as_str)).unwrap();
        session.ready().unwrap().send(envelope);
        assert!(session.advance(&mut out).is_ok());
        session.receive(b"250 x\r\n");
        let mut kept = 0;
        let most = most(|| {
            let before = HELD.get();
            for _ in 0..RECIPIENTS {
                assert!(matches!(session.next(&mut out), Ok(client::Event::NeedInput)));
                session.receive(&reply);
                while let Ok(client::Event::Refused { .. }) = session.next(&mut out) {}
                out.clear();
            }
            let more: &[&str] = match what {
                "accepted" => &["354 x\r\n"],
                _ => &[],
            };
            for said in more {
                session.receive(said.as_bytes());
                if let Ok(client::Event::Message(body)) = session.next(&mut out) {
                    body.end(&mut out).unwrap();
                    assert!(session.advance(&mut out).is_ok());
                }
            }
            session.receive(&reply);
            let sent = matches!(session.next(&mut out), Ok(client::Event::Sent(_)));
            assert!(sent, "{what}");
            kept = HELD.get() - before;
        });
        let each = 1003 + size_of::<client::RecipientOutcome>() as isize;
        // The last replies are kept as they are, the first of the recipients' and that to the message.
        let bound = RECIPIENTS as isize * each + (256 << 10);
        assert!(kept < bound, "{what}: {kept} kept of {bound}");
        assert!(most < 2 * bound, "{what}: {most} of {bound}");
    }
}

#[cfg(feature = "dovecot-auth")]
mod dovecot {
    use super::*;
    use smtp_auth::dovecot::{Cookie, Event, MAX_EXCHANGES, Session};

    /// Each exchange keeps its response, of at most 12 KiB, and its request.
    const BOUND: isize = (MAX_EXCHANGES as isize) * (14 << 10);

    fn session() -> Session {
        let mut session = Session::new(server_config().sasl().clone(), 1, 2, Cookie::new([0; 16]));
        session.receive(b"VERSION\t1\t0\nCPID\t7\n");
        assert!(serve(&mut session));
        session
    }

    /// Leaves each question alone, and holds back what can be held. Returns whether it goes on.
    fn serve(session: &mut Session) -> bool {
        let mut out = Vec::with_capacity(1 << 16);
        loop {
            match session.next(&mut out) {
                Event::NeedInput => return true,
                Event::Close(_) => return false,
                Event::AuthFailed(failed) => drop(failed.hold()),
                Event::Query(..) | Event::Authenticated(..) => {}
            }
        }
    }

    #[test]
    fn an_idle_session_holds_nothing() {
        let before = HELD.get();
        let config = server_config().sasl().clone();
        let of_config = HELD.get() - before;
        let mut session = Session::new(config, 1, 2, Cookie::new([0; 16]));
        session.receive(b"VERSION\t1\t0\nCPID\t7\n");
        assert!(serve(&mut session));
        assert_eq!(HELD.get() - before, of_config);
        session.receive(b"CANCEL\t1\nCANC");
        assert!(serve(&mut session));
        assert!(HELD.get() - before - of_config <= 64);
    }

    #[test]
    fn a_session_is_bounded() {
        let mut session = session();
        let password = STANDARD.encode([&b"\0tim\0"[..], &[b'x'; 9000]].concat());
        let text = "x".repeat(256);
        let most = most(|| {
            for id in 0..300 {
                let auth = format!(
                    "AUTH\t{id}\tPLAIN\tservice=smtp\tsecured\tsession={text}\tlocal_name={text}\tresp={password}\n"
                );
                session.receive(auth.as_bytes());
                assert!(serve(&mut session));
            }
        });
        assert_eq!(session.open_exchanges(), MAX_EXCHANGES);
        assert!(most < BOUND + (100 << 10), "{most}");
        // Nothing is left of it at the end.
        let before = HELD.get();
        session.receive(b"QUIT\n");
        assert!(!serve(&mut session));
        assert!(before - HELD.get() > 800 << 10);
    }

    #[test]
    fn what_never_ends_is_bounded() {
        for octets in [&[b'a'; 4096][..], b"CANCEL\t1\n", b"AUTH\t1\n", b"CONT\t1\t\n", b"\0"] {
            let mut session = session();
            let most = most(|| {
                for _ in 0..1000 {
                    session.receive(octets);
                    if !serve(&mut session) {
                        break;
                    }
                }
            });
            // The output's buffer is 64 KiB.
            assert!(most < (64 << 10) + (40 << 10), "{most}");
        }
    }
}
