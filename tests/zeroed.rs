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

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, RefCell},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    auth, client,
    reply::ReplyRef,
    sasl::{
        self, Channel, ChannelBinding, CramSecret, Mechanism, Query, ScramKeys, TokenAnswer,
        client::Credentials,
    },
    server,
};

/// Looks at what is freed.
struct Looking;

thread_local! {
    static LOOKED_FOR: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    /// How much freed memory held something of it.
    static FOUND: Cell<usize> = const { Cell::new(0) };
    static ON: Cell<bool> = const { Cell::new(false) };
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: everything is the system allocator's; `realloc` is the trait's own, made of the other two,
// so that what a growing buffer leaves behind is seen as well.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise. Zeroed, as what was never written may be read below.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if ON.get() {
            ON.set(false);
            // SAFETY: the memory is the caller's until it is freed, and was zeroed when it was made.
            let freed = unsafe { std::slice::from_raw_parts(at, layout.size()) };
            LOOKED_FOR.with_borrow(|secrets| {
                let seen = secrets.iter().any(|s| freed.windows(s.len()).any(|part| part == &**s));
                FOUND.set(FOUND.get() + usize::from(seen));
            });
            ON.set(true);
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Looking = Looking;

const PASSWORD: &str = "correct horse battery staple";
const TOKEN: &str = "ya29.correct-horse-battery-staple";

/// The secrets, and what base64 makes of them wherever they begin in a group of three.
fn look_for(secrets: &[&str]) {
    let mut all = Vec::new();
    for secret in secrets {
        all.push(secret.as_bytes().to_vec());
        for before in 0..3 {
            let padded = [&b"xx"[..before], secret.as_bytes()].concat();
            let text = STANDARD.encode(padded).into_bytes();
            // The ends depend on what stands beside.
            all.push(text[4..text.len() - 8].to_vec());
        }
    }
    LOOKED_FOR.set(all);
}

/// Runs with the allocator looking.
fn looking<T>(run: impl FnOnce() -> T) -> T {
    ON.set(true);
    let done = run();
    ON.set(false);
    done
}

fn channel() -> Channel {
    Channel::tls().with_binding(ChannelBinding::tls_exporter([7; 32])).with_identity("tim").unwrap()
}

fn credentials(mechanism: Mechanism) -> Credentials {
    match mechanism {
        Mechanism::External => Credentials::external(),
        Mechanism::Anonymous => Credentials::anonymous("trace").unwrap(),
        _ if mechanism.takes_token() => Credentials::token("tim", TOKEN).unwrap(),
        _ => Credentials::password("tim", PASSWORD).unwrap(),
    }
}

/// One iteration is enough where nothing is secret.
fn sasl_client() -> sasl::client::Builder {
    sasl::client::Config::builder().scram_iterations(1, 1)
}

fn client_config() -> sasl::client::Config {
    sasl_client().build().unwrap()
}

fn server_config() -> Arc<sasl::server::Config> {
    let config = sasl::server::Config::builder("mail.example.org").mechanisms(Mechanism::COMPILED);
    Arc::new(config.build().unwrap())
}

/// By a copy, which may hold all that the question holds.
fn answer(query: Query<'_>) {
    match query.job() {
        None => query.reject(),
        Some(mut job) => {
            answer_here(job.query());
            assert!(query.settle(job));
        }
    }
}

fn answer_here(query: Query<'_>) {
    match query {
        Query::CheckPassword(ask) => {
            let good = ask.password().expose() == PASSWORD;
            ask.answer(good);
        }
        Query::CramSecret(ask) => ask.answer(Some(CramSecret::from_password(PASSWORD))),
        Query::ScramKeys(ask) => {
            ask.answer(ScramKeys::from_password(ask.hash(), PASSWORD, b"salt", 1));
        }
        Query::CheckToken(ask) => {
            let good = ask.token().expose() == TOKEN;
            ask.answer(if good { TokenAnswer::Accept("tim".into()) } else { TokenAnswer::Reject });
        }
        Query::CheckExternal(ask) => ask.answer(Some("tim".to_owned())),
        Query::CheckAnonymous(ask) => ask.answer(true),
        other => other.reject(),
    }
}

/// A client's and a server's exchange of the same door, dropped after so many steps of both. `true`
/// where there are no more.
fn bare_sasl(mechanism: Mechanism, steps: usize) -> bool {
    let mut client = sasl::client::Exchange::new(
        &client_config(),
        &channel(),
        mechanism,
        credentials(mechanism),
    );
    let initial = match client.step() {
        sasl::client::Step::Response(response) => response.data().map(<[u8]>::to_vec),
        other => panic!("{other:?}"),
    };
    let mut server = sasl::server::Exchange::new(&server_config(), &channel(), mechanism, initial);
    for _ in 0..steps {
        match server.step() {
            sasl::server::Step::Query(query) => answer(query),
            sasl::server::Step::Challenge(challenge) => {
                let data = match client.step() {
                    sasl::client::Step::Derive(derive) => {
                        derive.run();
                        continue;
                    }
                    sasl::client::Step::Response(response) => {
                        response.challenge(challenge.data());
                        match client.step() {
                            sasl::client::Step::Response(response) => response.data().unwrap(),
                            sasl::client::Step::Derive(derive) => {
                                derive.run();
                                match client.step() {
                                    sasl::client::Step::Response(r) => r.data().unwrap(),
                                    other => panic!("{other:?}"),
                                }
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    other => panic!("{other:?}"),
                };
                challenge.respond(data);
            }
            sasl::server::Step::Done(outcome) => {
                assert!(outcome.is_ok(), "{mechanism}: {outcome:?}");
                return true;
            }
        }
    }
    false
}

#[test]
fn exchanges() {
    look_for(&[PASSWORD, TOKEN]);
    for &mechanism in Mechanism::COMPILED {
        for steps in 0..20 {
            FOUND.set(0);
            let over = looking(|| bare_sasl(mechanism, steps));
            assert_eq!(FOUND.get(), 0, "{mechanism} after {steps} steps");
            if over {
                break;
            }
            assert!(steps < 19, "{mechanism} does not end");
        }
    }
}

#[test]
fn exchanges_that_are_refused_at_once() {
    look_for(&[PASSWORD]);
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
                FOUND.set(0);
                looking(|| {
                    let first = format!("\0tim\0{PASSWORD}").into_bytes();
                    sasl::server::Exchange::new(&config, &channel, mechanism, Some(first));
                });
                assert_eq!(FOUND.get(), 0, "{mechanism}");
            }
        }
    }
}

/// The lines of AUTH. What is appended to the caller's buffer is the caller's.
fn lines(mechanism: Mechanism, steps: usize) -> bool {
    let mut client = auth::client::Exchange::new(
        &client_config(),
        &channel(),
        mechanism,
        credentials(mechanism),
    );
    // With room, so that they do not move while they grow.
    let (mut from_client, mut from_server) =
        (Vec::with_capacity(1 << 14), Vec::with_capacity(1 << 14));
    let _ = client.step(&mut from_client);
    let mut server = {
        let args = from_client.strip_prefix(b"AUTH ").unwrap().strip_suffix(b"\r\n").unwrap();
        auth::server::Exchange::new(&server_config(), &channel(), args)
    };
    let mut over = false;
    for _ in 0..steps {
        match server.step(&mut from_server) {
            auth::server::Step::Query(query) => answer(query),
            auth::server::Step::NeedLine(slot) => {
                from_client.fill(0);
                from_client.clear();
                match client.step(&mut from_client) {
                    auth::client::Step::NeedReply(reply) => {
                        reply.reply(ReplyRef::parse(&from_server).unwrap());
                    }
                    other => panic!("{other:?}"),
                }
                from_server.clear();
                if let auth::client::Step::Derive(derive) = client.step(&mut from_client) {
                    derive.run();
                }
                let _ = client.step(&mut from_client);
                slot.line(from_client.strip_suffix(b"\r\n").unwrap());
            }
            auth::server::Step::Done(outcome) => {
                assert!(outcome.is_ok());
                over = true;
                break;
            }
        }
    }
    from_client.fill(0);
    over
}

#[test]
fn exchanges_of_lines() {
    look_for(&[PASSWORD, TOKEN]);
    for &mechanism in Mechanism::COMPILED {
        for steps in 0..20 {
            FOUND.set(0);
            let over = looking(|| lines(mechanism, steps));
            assert_eq!(FOUND.get(), 0, "{mechanism} after {steps} steps");
            if over {
                break;
            }
            assert!(steps < 19, "{mechanism} does not end");
        }
    }
}

/// A whole dialogue, both sides, cut off when so many octets have passed.
fn dialogue(mechanism: Mechanism, octets: usize) -> bool {
    let sasl = sasl_client().mechanisms([mechanism]).build().unwrap();
    let config = client::Config::builder("client.example.org").sasl(sasl).build().unwrap();
    let mut client = client::Session::new(config.into(), credentials(mechanism));
    let mut server = server::Session::new(
        server::Config::builder("mail.example.org").sasl(server_config()).build().unwrap().into(),
    );
    client.tls_started(channel());
    let _ = server.tls_started(channel());
    let (mut to_client, mut to_server) = (Vec::with_capacity(1 << 14), Vec::with_capacity(1 << 14));
    let (mut passed, mut over) = (0, false);
    while passed < octets && !over {
        loop {
            match server.next(&mut to_client) {
                server::Event::NeedInput => break,
                server::Event::Query(query) => answer(query),
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
            match client.next(&mut to_server).unwrap() {
                client::Event::NeedInput | client::Event::Close => break,
                client::Event::Derive(ask) => ask.run(),
                client::Event::Ready(ready) => ready.quit(),
                other => panic!("{other:?}"),
            }
        }
        let left = to_server.len().min(octets - passed);
        server.receive(&to_server[..left]);
        passed += left;
        to_server.fill(0);
        to_server.clear();
    }
    over
}

#[test]
fn sessions() {
    look_for(&[PASSWORD, TOKEN]);
    for &mechanism in Mechanism::COMPILED {
        for octets in (0..).step_by(83) {
            FOUND.set(0);
            let over = looking(|| dialogue(mechanism, octets));
            assert_eq!(FOUND.get(), 0, "{mechanism} after {octets} octets");
            if over {
                break;
            }
            assert!(octets < 5000, "{mechanism} does not end");
        }
    }
}

/// The allocator sees what it is to see.
#[test]
fn what_is_not_zeroed_is_found() {
    look_for(&[PASSWORD]);
    looking(|| drop(PASSWORD.to_owned()));
    looking(|| drop(STANDARD.encode(format!("\0tim\0{PASSWORD}"))));
    assert!(FOUND.get() >= 2);
}
