//! What is secret is zeroed before its memory is given back: an allocator looks at all that is freed.
#![cfg(feature = "default")]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

#[cfg(feature = "dovecot-auth")]
mod dovecot;
mod exchanges;
mod looking;
mod sessions;
mod stored;

use std::{cell::Cell, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use looking::{Stack, look_for, looking, unwind, unwinding};
use smtp_auth::{
    Secret, auth, client,
    reply::ReplyRef,
    sasl::{
        self, Channel, ChannelBinding, CramSecret, CustomAnswer, Mechanism, Nonce, Query,
        ScramHash, ScramKeys, ScramParts, TokenAnswer,
        client::{Credentials, CustomResponse, Derive},
    },
    server,
};

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
            assert!(query.answer_from(job));
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
fn respond_custom(ask: &mut sasl::client::Custom, secrets: &Secrets) {
    for _ in 0..2 {
        ask.answer(CustomResponse::Complete(secrets.password.clone().into_bytes()));
    }
}

/// What the client says next.
fn response<'a>(client: &'a mut sasl::client::Exchange, secrets: &Secrets) -> Option<&'a [u8]> {
    loop {
        match client.step() {
            sasl::client::Step::Derive(ask) => derive(ask),
            sasl::client::Step::Custom(ask) => respond_custom(ask, secrets),
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

/// A buffer that is never emptied, and zeroed in the end as far as it is written.
#[derive(Default)]
struct Zeroed(Vec<u8>);

impl Drop for Zeroed {
    fn drop(&mut self) {
        self.0.fill(0);
    }
}
