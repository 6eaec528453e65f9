//! What is secret is zeroed before its memory is given back: an allocator looks at all that is freed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test fails by panicking"
)]
#![cfg(all(
    feature = "plain",
    feature = "login",
    feature = "cram-md5",
    feature = "scram-sha-1",
    feature = "scram-sha-256",
    feature = "scram-sha-512",
    feature = "oauthbearer",
    feature = "xoauth2",
    feature = "external",
    feature = "anonymous"
))]

use std::{cell::Cell, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use smtp_auth::{
    Secret, auth, client,
    reply::ReplyRef,
    sasl::{
        self, Channel, ChannelBinding, CramSecret, CustomAnswer, Mechanism, Nonce, Query,
        ScramHash, ScramKeys, TokenAnswer,
        client::{Credentials, CustomResponse, Derive},
    },
    server,
};

#[path = "zeroed/looking.rs"]
mod looking;

use looking::{look_for, looking, unwind, unwinding};

/// Among these are lengths at which a buffer that doubles is full, and such at which it is not.
const LENGTHS: [usize; 12] = [16, 17, 28, 33, 64, 100, 250, 257, 1000, 1024, 2500, 4096];

const CUSTOM: &str = "X-OWN-MECHANISM";

/// A text that repeats no part of itself, of octets that a password and a token can have.
fn secret(of: char, length: usize) -> String {
    (0..).flat_map(|n: u32| format!("{of}{n}-").into_bytes()).map(char::from).take(length).collect()
}

#[derive(Clone)]
struct Secrets {
    password: String,
    token: String,
}

impl Secrets {
    /// Looked for from here on.
    fn of(length: usize) -> Self {
        let secrets = Self { password: secret('p', length), token: secret('t', length) };
        look_for(&[secrets.password.as_bytes(), secrets.token.as_bytes()]);
        secrets
    }
}

fn mechanisms() -> Vec<Mechanism> {
    [Mechanism::COMPILED, &[Mechanism::custom(CUSTOM).unwrap()]].concat()
}

fn channel() -> Channel {
    Channel::tls().with_binding(ChannelBinding::tls_exporter([7; 32])).with_identity("tim").unwrap()
}

fn credentials(mechanism: Mechanism, secrets: &Secrets) -> Credentials {
    match mechanism {
        Mechanism::External => Credentials::external(),
        Mechanism::Anonymous => Credentials::anonymous("trace").unwrap(),
        Mechanism::Custom(_) => Credentials::custom(mechanism),
        _ if mechanism.takes_token() => Credentials::token("tim", secrets.token.clone()).unwrap(),
        _ => Credentials::password("tim", secrets.password.clone()).unwrap(),
    }
}

/// That mechanism and no other, and one iteration, which is enough where nothing is secret.
fn client_config(mechanism: Mechanism) -> sasl::client::Config {
    let config = sasl::client::Config::builder().mechanisms([mechanism]).without(mechanism.plus());
    config.scram_iterations(1, 1).nonces(|| Nonce::new("ofTheClient")).build().unwrap()
}

fn server_config() -> Arc<sasl::server::Config> {
    let config = sasl::server::Config::builder("mail.example.org").mechanisms(mechanisms());
    Arc::new(config.nonces(|| Nonce::new("ofTheServer")).build().unwrap())
}

thread_local! {
    /// Whether the stack is unwound out of the next answer.
    static UNWIND: Cell<bool> = const { Cell::new(false) };
}

/// By a copy, which may hold all that the question holds.
fn answer(query: Query<'_>, secrets: &Secrets) {
    let job = query.job();
    if UNWIND.get() {
        unwind();
    }
    match (query, job) {
        (Query::Custom(ask), _) => {
            ask.answer(match ask.response() {
                None => CustomAnswer::Challenge(Vec::new()),
                Some(_) => CustomAnswer::Accept { authcid: "tim".into(), authzid: None },
            });
        }
        (query, Some(mut job)) => {
            answer_here(job.query(), secrets);
            // A second answer replaces the first.
            answer_here(job.query(), secrets);
            assert!(query.settle(job));
        }
        (other, None) => panic!("{other:?}"),
    }
}

fn answer_here(query: Query<'_>, secrets: &Secrets) {
    match query {
        Query::CheckPassword(ask) => {
            let good = ask.password().expose() == secrets.password;
            ask.answer(good);
        }
        Query::CramSecret(ask) => ask.answer(Some(CramSecret::from_password(&secrets.password))),
        Query::ScramKeys(ask) => {
            ask.answer(ScramKeys::from_password(ask.hash(), &secrets.password, b"salt", 1));
        }
        Query::CheckToken(ask) => {
            let good = ask.token().expose() == secrets.token;
            ask.answer(if good { TokenAnswer::Accept("tim".into()) } else { TokenAnswer::Reject });
        }
        Query::CheckExternal(ask) => ask.answer(Some("tim".to_owned())),
        Query::CheckAnonymous(ask) => ask.answer(true),
        other => other.reject(),
    }
}

fn derive(ask: &mut Derive) {
    let job = ask.job();
    ask.run();
    ask.answer(job.run());
}

/// The first of these is dropped where it is replaced.
fn respond_custom(ask: &mut sasl::client::Challenge, secrets: &Secrets) {
    for _ in 0..2 {
        ask.answer(CustomResponse::Complete(secrets.password.clone().into_bytes()));
    }
}

/// What the client says next.
fn response<'a>(client: &'a mut sasl::client::Exchange, secrets: &Secrets) -> Option<&'a [u8]> {
    loop {
        match client.step() {
            sasl::client::Step::Derive(ask) => derive(ask),
            sasl::client::Step::Challenge(ask) => respond_custom(ask, secrets),
            sasl::client::Step::Response(_) => break,
            sasl::client::Step::Done(outcome) => panic!("{outcome:?}"),
        }
    }
    match client.step() {
        sasl::client::Step::Response(response) => response.data(),
        other => panic!("{other:?}"),
    }
}

/// How an exchange is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Dropped,
    /// By a panic in the loop.
    Unwound,
    /// By one while an answer is looked for.
    UnwoundInAnswer,
}

const ENDS: [End; 3] = [End::Dropped, End::Unwound, End::UnwoundInAnswer];

impl End {
    /// Before each step: there are so many left.
    fn before(self, left: usize) {
        UNWIND.set(self == Self::UnwoundInAnswer && left == 1);
    }

    fn after(self) {
        if self != Self::Dropped {
            unwind();
        }
    }
}

/// Has it run, cut off in every way after each number of steps up to its last.
fn cut_off(what: &str, run: impl Fn(usize, End) -> bool) {
    for steps in 0.. {
        let (over, found) = looking(|| run(steps, End::Dropped));
        assert_eq!(found, 0, "{what}: after {steps} steps");
        for end in &ENDS[1..] {
            let found = unwinding(|| {
                run(steps, *end);
            });
            assert_eq!(found, 0, "{what}: {end:?} after {steps} steps");
        }
        UNWIND.set(false);
        if over {
            return;
        }
        assert!(steps < 20, "{what} does not end");
    }
}

/// Both sides of a SASL exchange. `true` where there are no more steps.
fn bare_sasl(mechanism: Mechanism, secrets: &Secrets, steps: usize, end: End) -> bool {
    let choice = mechanism;
    let credentials = credentials(mechanism, secrets);
    let mut client =
        sasl::client::Exchange::new(&client_config(choice), &channel(), choice, credentials);
    let initial = response(&mut client, secrets).map(<[u8]>::to_vec);
    let server = sasl::server::Exchange::new(&server_config(), &channel(), mechanism, initial);
    // What stays in a slot is seen where the memory of all is given back.
    let (mut client, mut server) = (Box::new(client), Box::new(server));
    for step in 0..steps {
        end.before(steps - step);
        match server.step() {
            sasl::server::Step::Query(query) => answer(query, secrets),
            sasl::server::Step::Challenge(challenge) => {
                match client.step() {
                    sasl::client::Step::Response(response) => response.challenge(challenge.data()),
                    other => panic!("{other:?}"),
                }
                challenge.respond(response(&mut client, secrets).unwrap());
            }
            sasl::server::Step::Done(outcome) => {
                assert!(outcome.is_ok(), "{mechanism}: {outcome:?}");
                end.after();
                return true;
            }
        }
    }
    end.after();
    false
}

#[test]
fn exchanges() {
    for length in LENGTHS {
        let secrets = Secrets::of(length);
        for mechanism in mechanisms() {
            cut_off(&format!("{mechanism}, {length}"), |steps, end| {
                bare_sasl(mechanism, &secrets, steps, end)
            });
        }
    }
}

/// What is made of a password, and is as good as it in one mechanism or one exchange.
#[test]
fn keys_states_and_proofs() {
    let secrets = Secrets::of(40);
    for mechanism in mechanisms() {
        let made = made_of_password(mechanism, &secrets);
        look_for(&made.iter().map(|octets| &**octets).collect::<Vec<_>>());
        cut_off(&format!("{mechanism}"), |steps, end| bare_sasl(mechanism, &secrets, steps, end));
        cut_off(&format!("{mechanism}"), |steps, end| lines(mechanism, &secrets, steps, end));
    }
}

fn made_of_password(mechanism: Mechanism, secrets: &Secrets) -> Vec<Vec<u8>> {
    let mut made = Vec::new();
    let states = CramSecret::from_password(&secrets.password);
    made.extend([states.states().0.to_vec(), states.states().1.to_vec()]);
    if let Some(hash) = ScramHash::of(mechanism) {
        let keys = ScramKeys::from_password(hash, &secrets.password, b"salt", 1).unwrap();
        let text = keys.to_text();
        let (_, stored) = text.expose().rsplit_once('$').unwrap();
        made.extend(stored.split(':').map(|key| STANDARD.decode(key).unwrap()));
        made.extend(salted(hash, &secrets.password));
        // As HMAC uses them.
        for pad in [0x36, 0x5c] {
            let padded = |key: &Vec<u8>| key.iter().map(|octet| octet ^ pad).collect();
            made.extend(made.iter().skip(2).take(4).map(padded).collect::<Vec<_>>());
        }
    }
    // The last response of the client ends in its proof or digest.
    let choice = mechanism;
    let credentials = credentials(mechanism, secrets);
    let mut client =
        sasl::client::Exchange::new(&client_config(choice), &channel(), choice, credentials);
    let initial = response(&mut client, secrets).map(<[u8]>::to_vec);
    let mut server = sasl::server::Exchange::new(&server_config(), &channel(), mechanism, initial);
    loop {
        match server.step() {
            sasl::server::Step::Query(query) => answer(query, secrets),
            sasl::server::Step::Challenge(challenge) => {
                if let sasl::client::Step::Response(slot) = client.step() {
                    slot.challenge(challenge.data());
                }
                let said = response(&mut client, secrets).unwrap();
                let text = String::from_utf8_lossy(said).into_owned();
                if let Some((_, proof)) = text.rsplit_once(",p=") {
                    made.push(STANDARD.decode(proof).unwrap());
                }
                if mechanism == Mechanism::CramMd5 {
                    let digits = text.rsplit_once(' ').unwrap().1;
                    let octet = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
                    made.extend([digits.into(), (0..32).step_by(2).map(octet).collect()]);
                }
                challenge.respond(said);
            }
            sasl::server::Step::Done(_) => return made,
        }
    }
}

/// SaltedPassword and ClientKey (RFC 5802 §3).
fn salted(hash: ScramHash, password: &str) -> [Vec<u8>; 2] {
    macro_rules! of {
        ($hash:ty, $length:literal) => {{
            let mut salted = vec![0; $length];
            pbkdf2::pbkdf2_hmac::<$hash>(password.as_bytes(), b"salt", 1, &mut salted);
            let mut client_key = Hmac::<$hash>::new_from_slice(&salted).unwrap();
            client_key.update(b"Client Key");
            [salted, client_key.finalize().into_bytes().to_vec()]
        }};
    }
    match hash {
        ScramHash::Sha1 => of!(sha1::Sha1, 20),
        ScramHash::Sha256 => of!(sha2::Sha256, 32),
        _ => of!(sha2::Sha512, 64),
    }
}

#[test]
fn exchanges_that_are_refused_at_once() {
    let secrets = Secrets::of(28);
    let none = sasl::server::Config::builder("mail.example.org")
        .mechanisms([Mechanism::Anonymous])
        .build()
        .unwrap();
    let short = sasl::server::Config::builder("mail.example.org")
        .mechanisms(Mechanism::COMPILED)
        .max_response(8)
        .build()
        .unwrap();
    for config in [none, short].map(Arc::new) {
        for &mechanism in Mechanism::COMPILED {
            for channel in [channel(), Channel::cleartext()] {
                let ((), found) = looking(|| {
                    let first = [b"\0tim\0", secrets.password.as_bytes()].concat();
                    sasl::server::Exchange::new(&config, &channel, mechanism, Some(first));
                });
                assert_eq!(found, 0, "{mechanism}");
            }
        }
    }
}

/// The lines of AUTH. What is appended to the caller's buffers is the caller's, who has them zeroed;
/// that they grow meanwhile leaves nothing.
fn lines(mechanism: Mechanism, secrets: &Secrets, steps: usize, end: End) -> bool {
    let choice = mechanism;
    let credentials = credentials(mechanism, secrets);
    let mut client =
        auth::client::Exchange::new(&client_config(choice), &channel(), choice, credentials);
    let (mut from_client, mut from_server) = (Zeroed::default(), Vec::new());
    let mut sent = client_lines(&mut client, &mut from_client.0, secrets);
    let server = {
        let line = from_client.0[sent..].trim_ascii_end();
        auth::server::Exchange::new(&server_config(), &channel(), &line["AUTH ".len()..])
    };
    let (mut client, mut server, mut over) = (Box::new(client), Box::new(server), false);
    for step in 0..steps {
        end.before(steps - step);
        match server.step(&mut from_server) {
            auth::server::Step::Query(query) => answer(query, secrets),
            auth::server::Step::NeedLine(slot) => {
                if let auth::client::Step::NeedReply(reply) = client.step(&mut from_client.0) {
                    reply.reply(ReplyRef::parse(&from_server).unwrap());
                }
                from_server.clear();
                sent = client_lines(&mut client, &mut from_client.0, secrets);
                slot.line(from_client.0[sent..].trim_ascii_end());
            }
            auth::server::Step::Done(outcome) => {
                assert!(outcome.is_ok(), "{mechanism}");
                over = true;
                break;
            }
        }
    }
    end.after();
    over
}

/// A buffer that is never emptied, and zeroed in the end as far as it is written.
#[derive(Default)]
struct Zeroed(Vec<u8>);

impl Drop for Zeroed {
    fn drop(&mut self) {
        self.0.fill(0);
    }
}

/// Where what the client writes next begins.
fn client_lines(
    client: &mut auth::client::Exchange,
    out: &mut Vec<u8>,
    secrets: &Secrets,
) -> usize {
    let mark = out.len();
    loop {
        match client.step(out) {
            auth::client::Step::Derive(ask) => derive(ask),
            auth::client::Step::Challenge(ask) => respond_custom(ask, secrets),
            auth::client::Step::NeedReply(_) => return mark,
            auth::client::Step::Done(outcome) => panic!("{outcome:?}"),
        }
    }
}

#[test]
fn exchanges_of_lines() {
    for length in LENGTHS {
        let secrets = Secrets::of(length);
        for mechanism in mechanisms() {
            cut_off(&format!("{mechanism}, {length}"), |steps, end| {
                lines(mechanism, &secrets, steps, end)
            });
        }
    }
}

/// A whole dialogue, both sides, cut off when so many octets have passed.
fn dialogue(mechanism: Mechanism, secrets: &Secrets, octets: usize, end: End) -> bool {
    let sasl = client_config(mechanism);
    let config = client::Config::builder("client.example.org").sasl(sasl).build().unwrap();
    let mut client = client::Session::new(config.into(), credentials(mechanism, secrets));
    let mut server = server::Session::new(
        server::Config::builder("mail.example.org").sasl(server_config()).build().unwrap().into(),
    );
    client.tls_started(channel());
    let _ = server.tls_started(channel());
    let (mut to_client, mut to_server, mut sent) = (Vec::new(), Zeroed::default(), 0);
    let (mut passed, mut over) = (0, false);
    while passed < octets && !over {
        loop {
            match server.next(&mut to_client) {
                server::Event::NeedInput => break,
                server::Event::Query(query) => answer(query, secrets),
                server::Event::Close => {
                    over = true;
                    break;
                }
                server::Event::Hello(_) | server::Event::Authenticated(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let left = to_client.len().min(octets - passed);
        client.receive(&to_client[..left]);
        passed += left;
        to_client.clear();
        loop {
            match client.next(&mut to_server.0).unwrap() {
                client::Event::NeedInput | client::Event::Close => break,
                client::Event::Derive(ask) => derive(ask),
                client::Event::Challenge(ask) => respond_custom(ask, secrets),
                client::Event::Ready(ready) => ready.quit(),
                other => panic!("{other:?}"),
            }
        }
        let left = (to_server.0.len() - sent).min(octets - passed);
        server.receive(&to_server.0[sent..sent + left]);
        (passed, sent) = (passed + left, sent + left);
    }
    end.after();
    over
}

#[test]
fn sessions() {
    for length in [16, 33, 250, 1024] {
        let secrets = Secrets::of(length);
        for mechanism in mechanisms() {
            for octets in (0..).step_by(83 + length / 4) {
                let (over, found) = looking(|| dialogue(mechanism, &secrets, octets, End::Dropped));
                assert_eq!(found, 0, "{mechanism} after {octets} octets");
                let found = unwinding(|| {
                    dialogue(mechanism, &secrets, octets, End::Unwound);
                });
                assert_eq!(found, 0, "{mechanism} unwound after {octets} octets");
                if over {
                    break;
                }
                assert!(octets < 20_000, "{mechanism} does not end");
            }
        }
    }
}

/// An AUTH command that is not sent after all, as the server has said something before it.
#[test]
fn a_command_that_is_taken_back() {
    let secrets = Secrets::of(100);
    let ((), found) = looking(|| {
        let sasl = client_config(Mechanism::Plain);
        let config = client::Config::builder("client.example.org").sasl(sasl).build().unwrap();
        let mut client =
            client::Session::new(config.into(), credentials(Mechanism::Plain, &secrets));
        client.tls_started(channel());
        let mut out = Zeroed::default();
        client.receive(b"220 x\r\n");
        let _ = client.next(&mut out.0);
        client.receive(b"250-x\r\n250 AUTH PLAIN\r\n250 x\r\n");
        assert!(client.next(&mut out.0).is_err());
    });
    assert_eq!(found, 0);
}

/// A buffer that still holds a line of AUTH when a message is written to it.
#[test]
fn a_buffer_that_is_never_emptied() {
    let secrets = Secrets::of(100);
    let ((), found) = looking(|| {
        let sasl = client_config(Mechanism::Plain);
        let config = client::Config::builder("client.example.org").sasl(sasl).build().unwrap();
        let mut client =
            client::Session::new(config.into(), credentials(Mechanism::Plain, &secrets));
        client.tls_started(channel());
        let mut out = Zeroed::default();
        let replies = ["220 x", "250-x\r\n250 AUTH PLAIN", "235 x", "250 x", "250 x", "354 x"];
        let mut replies = replies.iter();
        loop {
            match client.next(&mut out.0).unwrap() {
                client::Event::NeedInput => match replies.next() {
                    Some(reply) => client.receive(format!("{reply}\r\n").as_bytes()),
                    None => break,
                },
                client::Event::Ready(ready) => {
                    let envelope = client::Envelope::new(None, ["ann@example.org"]).unwrap();
                    ready.send(envelope);
                }
                client::Event::Message(body) => {
                    body.write(&b".\r\n".repeat(500), &mut out.0).unwrap();
                    body.end(&mut out.0).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(out.0.len() > 2000);
    });
    assert_eq!(found, 0);
}

/// What a server says of a token, and repeats it.
#[test]
fn a_token_that_is_repeated() {
    let secrets = Secrets::of(100);
    // What is not UTF-8 is shown by something longer.
    for junk in [&b""[..], &[0xff; 60]] {
        repeat_token(&secrets, junk);
    }
}

fn repeat_token(secrets: &Secrets, junk: &[u8]) {
    let ((), found) = looking(|| {
        let (choice, mut out) = (Mechanism::OauthBearer, Zeroed::default());
        let credentials = credentials(Mechanism::OauthBearer, secrets);
        let mut client =
            auth::client::Exchange::new(&client_config(choice), &channel(), choice, credentials);
        let mut challenge = Zeroed(Vec::with_capacity(1000));
        challenge.0.extend_from_slice(b"334 ");
        let at = challenge.0.len();
        let said = Zeroed([secrets.token.as_bytes(), junk].concat());
        challenge.0.resize(at + said.0.len().div_ceil(3) * 4, b'=');
        STANDARD.encode_slice(&said.0, &mut challenge.0[at..]).unwrap();
        challenge.0.extend_from_slice(b"\r\n");
        let auth::client::Step::NeedReply(slot) = client.step(&mut out.0) else { panic!() };
        slot.reply(ReplyRef::parse(&challenge.0).unwrap());
        let _ = client.step(&mut out.0);
        assert!(client.token_error().is_some());
    });
    assert_eq!(found, 0);
}

/// A refusal that repeats the password: what it is found by is zeroed, and its text not kept.
#[test]
fn a_password_that_is_repeated() {
    let secrets = Secrets::of(100);
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let ((), found) = looking(|| {
            let (choice, mut out) = (mechanism, Zeroed::default());
            let credentials = credentials(mechanism, &secrets);
            let mut client = auth::client::Exchange::new(
                &client_config(choice),
                &channel(),
                choice,
                credentials,
            );
            let mut refusal = Zeroed(Vec::with_capacity(1000));
            refusal.0.extend_from_slice(b"535 wrong: ");
            refusal.0.extend_from_slice(secrets.password.as_bytes());
            refusal.0.extend_from_slice(b"\r\n");
            let login = [&b"334 \r\n"[..], b"334 \r\n", &refusal.0];
            let replies = if mechanism == Mechanism::Login { &login[..] } else { &login[2..] };
            for reply in replies {
                let auth::client::Step::NeedReply(slot) = client.step(&mut out.0) else { panic!() };
                slot.reply(ReplyRef::parse(reply).unwrap());
            }
            let step = client.step(&mut out.0);
            assert!(matches!(step, auth::client::Step::Done(Err(_))));
        });
        assert_eq!(found, 0, "{mechanism}");
    }
}

/// A response of the application's own mechanism that nobody has taken.
#[test]
fn responses_that_are_not_used() {
    let secrets = Secrets::of(100);
    let respond = || CustomResponse::Respond(secrets.password.clone().into_bytes());
    let ((), found) = looking(|| {
        drop(respond());
        drop(respond().clone());
        let mechanism = Mechanism::custom(CUSTOM).unwrap();
        let choice = mechanism;
        let credentials = credentials(mechanism, &secrets);
        let mut client =
            sasl::client::Exchange::new(&client_config(choice), &channel(), choice, credentials);
        if let sasl::client::Step::Challenge(ask) = client.step() {
            ask.answer(respond());
        }
    });
    assert_eq!(found, 0);
}

/// The texts of what a store keeps.
#[test]
fn stored_forms() {
    let secrets = Secrets::of(40);
    let states = CramSecret::from_password(&secrets.password);
    let upper = {
        let text = states.to_text();
        Secret::new(format!("{{CRAM-MD5}}{}", text.expose()[10..].to_ascii_uppercase()))
    };
    let keys = |hash| ScramKeys::from_password(hash, &secrets.password, b"salt", 1).unwrap();
    let text = states.to_text();
    let mut made = vec![&text.expose().as_bytes()[10..42], &text.expose().as_bytes()[42..]];
    made.extend([&states.states().0[..], &states.states().1[..]]);
    let lower = &text.expose().as_bytes()[10..];
    made.push(lower);
    look_for(&made);
    let ((), found) = looking(|| {
        assert_eq!(states.to_text(), text);
        for text in [text.expose(), upper.expose()] {
            assert!(text.parse::<CramSecret>().unwrap().check_password(&secrets.password));
        }
        assert!(format!("{}0", &upper.expose()[..10]).parse::<CramSecret>().is_err());
    });
    assert_eq!(found, 0, "CRAM-MD5");
    for hash in [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512] {
        let text = keys(hash).to_text();
        let stored = text.expose().rsplit_once('$').unwrap().1;
        let decoded: Vec<_> = stored.split(':').map(|key| STANDARD.decode(key).unwrap()).collect();
        let mut made: Vec<&[u8]> = decoded.iter().map(|key| &**key).collect();
        made.extend(stored.split(':').map(str::as_bytes));
        look_for(&made);
        let ((), found) = looking(|| {
            assert_eq!(keys(hash).to_text(), text);
            let read: ScramKeys = text.expose().parse().unwrap();
            assert_eq!(read.to_text(), text);
        });
        assert_eq!(found, 0, "{hash:?}");
    }
}

/// The allocator sees what it is to see.
#[test]
fn what_is_not_zeroed_is_found() {
    let secrets = Secrets::of(28);
    let ((), found) = looking(|| {
        drop(secrets.password.clone());
        drop(STANDARD.encode(format!("\0tim\0{}", secrets.password)));
    });
    assert!(found >= 2);
}
