use alloc::{format, vec::Vec};
use core::time::Duration;
use std::sync::OnceLock;

use smtp_auth::{
    sasl::{
        self, Authenticator, Channel, Immediate, ScramHash,
        client::{self, Credentials},
    },
    server::{Config, Event, Session},
};

use super::{
    memory::tests::{MINUTE, address, limiter},
    *,
};

const PASSWORD: &str = "tanstaaftanstaaf";

/// The account `tim` with the alias `info`. The alias `quiet` is reported only if the password is right.
struct Tim(ScramKeys);

impl Tim {
    fn new() -> Self {
        static KEYS: OnceLock<ScramKeys> = OnceLock::new();
        let keys = || ScramKeys::generate(ScramHash::Sha256, PASSWORD, 4096).unwrap();
        Self(KEYS.get_or_init(keys).clone())
    }
}

impl Authenticator for Tim {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256, Mechanism::Plain]
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        let right = ask.password() == PASSWORD;
        match ask.authcid() {
            "tim" => right.into(),
            "info" => Answer::from(right).of("tim"),
            "quiet" if right => Answer::accept(()).of("tim"),
            "down" => Answer::temp_fail(),
            _ => Answer::reject(),
        }
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        match ask.authcid() {
            "tim" => Answer::accept(self.0.clone()),
            "info" => Answer::accept(self.0.clone()).of("tim"),
            _ => Answer::reject(),
        }
    }
}

/// The server side of a connection.
struct Connection<L: RateLimiter> {
    users: Limited<Immediate<Tim>, L>,
    session: Session,
    out: Vec<u8>,
    /// The pause after the last failure.
    pause: Duration,
}

impl<L: RateLimiter> Connection<L> {
    async fn new(limiter: L, n: u16) -> Self {
        let users = Limited::new(Immediate(Tim::new()), limiter, address(n), false);
        let sasl = sasl::server::Config::builder("mail.example.org").authorize_always(true);
        let sasl = sasl.answered_by_async(&users).await.build().unwrap();
        let config = Config::builder("mail.example.org").sasl(sasl).build().unwrap();
        let mut session = Session::new(config.into());
        session.tls_started(Channel::tls());
        let mut connection = Self { users, session, out: Vec::new(), pause: Duration::ZERO };
        connection.say("EHLO client.example.org").await;
        connection
    }

    /// Sends a line, and returns the last line of the server's reply.
    async fn say(&mut self, line: &str) -> String {
        self.out.clear();
        self.session.receive(format!("{line}\r\n").as_bytes());
        while self.step().await {}
        let said = String::from_utf8(self.out.clone()).unwrap();
        said.lines().last().unwrap().into()
    }

    async fn step(&mut self) -> bool {
        match self.session.next(&mut self.out) {
            Event::NeedInput | Event::Close => return false,
            Event::Query(query) => query.answer_with_async(&self.users).await,
            Event::AuthFailed(failed) => {
                self.users.failed(&failed);
                self.pause = failed.pause;
            }
            Event::Authenticated(who) => self.users.authenticated(who),
            _ => {}
        }
        true
    }

    async fn plain(&mut self, name: &str, password: &str) -> String {
        let response = base64(format!("\0{name}\0{password}").as_bytes());
        self.say(&format!("AUTH PLAIN {response}")).await
    }

    /// Performs SCRAM up to the client's proof, which is returned.
    async fn begin(&mut self, name: &str, password: &str) -> String {
        let config = client::Config::builder().mechanisms([Mechanism::ScramSha256]).build();
        let credentials = Credentials::password(name, password).unwrap();
        let mut client = client::Exchange::new(
            &config.unwrap(),
            &Channel::tls(),
            Mechanism::ScramSha256,
            credentials,
        );
        loop {
            match client.step() {
                client::Step::Derive(derive) => derive.run(),
                client::Step::Response(response) => {
                    let line = base64(response.data().unwrap());
                    let first = self.say(&format!("AUTH SCRAM-SHA-256 {line}")).await;
                    response.challenge(unbase64(first.strip_prefix("334 ").unwrap()));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        loop {
            match client.step() {
                client::Step::Derive(derive) => derive.run(),
                client::Step::Response(response) => return base64(response.data().unwrap()),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns the salt that SCRAM sends for the name.
    async fn salt(&mut self, name: &str) -> String {
        self.begin(name, "wrong").await;
        let line = String::from_utf8(self.out.clone()).unwrap();
        let first = unbase64(line.trim_end().strip_prefix("334 ").unwrap());
        let first = String::from_utf8(first).unwrap();
        first.split(',').find(|part| part.starts_with("s=")).unwrap().into()
    }

    async fn scram(&mut self, name: &str, password: &str) -> String {
        let proof = self.begin(name, password).await;
        let reply = self.say(&proof).await;
        if reply.starts_with("334 ") { self.say("").await } else { reply }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(octets: &[u8]) -> String {
    let mut text = String::new();
    for chunk in octets.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, octet| bits << 8 | u32::from(*octet));
        let bits = bits << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { digit.into() } else { '=' });
        }
    }
    text
}

fn unbase64(text: &str) -> Vec<u8> {
    let digits: Vec<_> =
        text.bytes().filter_map(|c| ALPHABET.iter().position(|d| *d == c)).collect();
    let mut octets = Vec::new();
    for chunk in digits.chunks(4) {
        let bits = chunk.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - chunk.len()));
        octets.extend((1..chunk.len()).map(|i| (bits >> (24 - 8 * i)) as u8));
    }
    octets
}

const WRONG: &str = "535 5.7.8 ";

#[tokio::test]
async fn every_question_is_forwarded() {
    use crate::blocking::tests::{Each, assert_forwards};
    assert_forwards(&Limited::new(Immediate(Each), None::<MemoryRateLimiter>, None, true)).await;
    assert_forwards(&Limited::new(Immediate(Each), limiter(1), None, true)).await;
}

/// The limiter is asked before and after the store, so the right password fails like any other.
#[tokio::test]
async fn a_limited_attempt_looks_like_a_wrong_password() {
    for n in [1, 2] {
        let limiter = limiter(3);
        for guess in ["a", "b", "c"] {
            let reply = Connection::new(&limiter, 1).await.plain("tim", guess).await;
            assert!(reply.starts_with(WRONG), "{reply}");
        }
        // From the same network, and from another network to the same account.
        let mut limited = Connection::new(&limiter, n).await;
        let mut other = Connection::new(&limiter, 3).await;
        let wrong = other.plain("ann", "wrong").await;
        assert_eq!(limited.plain("tim", PASSWORD).await, wrong);
        assert_eq!((limited.pause, other.pause), (Duration::from_secs(1), other.pause));
        assert_eq!(limited.scram("tim", PASSWORD).await, wrong);
        assert_eq!(limited.pause, Duration::from_secs(2));
        assert_eq!(limited.scram("tim", "wrong").await, wrong);
        assert_eq!(limited.plain("info", PASSWORD).await, wrong);
        // The session counts limited attempts as well.
        let last = limited.plain("tim", PASSWORD).await;
        assert_eq!((last, limited.pause), (wrong, Duration::from_secs(16)));
        assert!(limited.plain("tim", PASSWORD).await.starts_with("421 "));
    }
}

#[tokio::test]
async fn failures_count_by_network_and_by_each_name() {
    let limiter = limiter(2);
    for n in [2, 3] {
        Connection::new(&limiter, n).await.plain("info", "wrong").await;
    }
    for name in ["tim", "info"] {
        let reply = Connection::new(&limiter, 9).await.plain(name, PASSWORD).await;
        assert!(reply.starts_with(WRONG), "{name} {reply}");
    }
    let free = self::limiter(2);
    for name in ["one", "two"] {
        Connection::new(&free, 1).await.plain(name, "wrong").await;
    }
    assert!(Connection::new(&free, 2).await.plain("tim", PASSWORD).await.starts_with("235 "));
    assert!(Connection::new(&free, 1).await.plain("tim", PASSWORD).await.starts_with(WRONG));
}

/// A different salt would reveal that the account exists.
#[tokio::test]
async fn a_limited_account_shows_its_own_salt() {
    let limiter = limiter(1);
    let salt = Connection::new(&limiter, 1).await.salt("tim").await;
    Connection::new(&limiter, 2).await.plain("tim", "wrong").await;
    assert!(Connection::new(&limiter, 3).await.plain("tim", PASSWORD).await.starts_with(WRONG));
    assert_eq!(Connection::new(&limiter, 4).await.salt("tim").await, salt);
}

#[tokio::test]
async fn a_failure_of_the_store_is_no_attempt() {
    let limiter = limiter(1);
    for _ in 0..3 {
        let mut connection = Connection::new(&limiter, 1).await;
        assert!(connection.plain("down", "x").await.starts_with("454 "));
    }
    let mut connection = Connection::new(&limiter, 1).await;
    assert!(connection.plain("tim", PASSWORD).await.starts_with("235 "));
    // A failure of the store does not reveal the limit either.
    assert!(Connection::new(&limiter, 2).await.plain("ann", "x").await.starts_with(WRONG));
    assert!(Connection::new(&limiter, 2).await.plain("down", "x").await.starts_with("454 "));
}

/// The store is asked for SCRAM's keys before the proof arrives.
#[tokio::test]
async fn exchanges_begun_before_are_no_more_guesses() {
    let limiter = limiter(3);
    let mut waiting = Vec::new();
    for n in 0..6 {
        let mut connection = Connection::new(&limiter, 10 + n).await;
        let name = if n == 5 { "info" } else { "tim" };
        let password = if n < 3 { "wrong" } else { PASSWORD };
        let proof = connection.begin(name, password).await;
        waiting.push((connection, proof));
    }
    let mut replies = Vec::new();
    for (connection, proof) in &mut waiting {
        replies.push(connection.say(proof).await);
    }
    assert!(replies.iter().all(|reply| reply.starts_with(WRONG)), "{replies:?}");
    assert!(replies.iter().all(|reply| *reply == replies[0]));
    // It succeeds without a limit.
    let free = Connection::new(None::<MemoryRateLimiter>, 10).await.scram("info", PASSWORD).await;
    assert!(free.starts_with("235 "), "{free}");
}

#[tokio::test]
async fn three_hundred_clients_that_hang_up() {
    let limiter = limiter(300);
    for n in 0..300 {
        let mut connection = Connection::new(&limiter, 1000 + n).await;
        connection.out.clear();
        let response = base64(format!("\0tim\0guess {n}").as_bytes());
        connection.session.receive(format!("AUTH PLAIN {response}\r\n").as_bytes());
        // Continues up to the failure, before any reply has been sent.
        while connection.pause.is_zero() {
            assert!(connection.step().await);
        }
        drop(connection);
    }
    let mut connection = Connection::new(&limiter, 1).await;
    assert!(connection.plain("tim", PASSWORD).await.starts_with(WRONG));
    let mut connection = Connection::new(&limiter, 1001).await;
    assert!(connection.plain("ann", "x").await.starts_with(WRONG));
}

#[tokio::test]
async fn a_known_owner_gets_in() {
    let limiter = limiter(3);
    // The identity does not contain the alias.
    for name in ["tim", "info", "quiet"] {
        assert!(Connection::new(&limiter, 1).await.plain(name, PASSWORD).await.starts_with("235 "));
        for n in 100..110 {
            Connection::new(&limiter, n).await.plain(name, "wrong").await;
        }
        let attacker = Connection::new(&limiter, 200).await.plain(name, PASSWORD).await;
        assert!(attacker.starts_with(WRONG), "{attacker}");
        let owner = Connection::new(&limiter, 1).await.plain(name, PASSWORD).await;
        assert!(owner.starts_with("235 "), "{owner}");
        if name != "quiet" {
            let owner = Connection::new(&limiter, 1).await.scram(name, PASSWORD).await;
            assert!(owner.starts_with("235 "), "{owner}");
        }
    }
}

/// The limiter uses the runtime's clock, which tests can control.
#[tokio::test(start_paused = true)]
async fn a_limit_passes() {
    let limiter = limiter(1);
    Connection::new(&limiter, 1).await.plain("tim", "wrong").await;
    assert!(Connection::new(&limiter, 1).await.plain("tim", PASSWORD).await.starts_with(WRONG));
    tokio::time::advance(MINUTE).await;
    assert!(Connection::new(&limiter, 1).await.plain("tim", PASSWORD).await.starts_with("235 "));
}

/// Returns the given answers, starting with the last.
#[derive(Default)]
struct Script(Mutex<Vec<bool>>);

impl RateLimiter for Script {
    fn is_limited(&self, _: &Attempt<'_>, _: Instant) -> bool {
        self.0.lock().unwrap().pop().unwrap_or_default()
    }

    fn failed(&self, _: &Attempt<'_>, _: Instant) {}

    fn authenticated(&self, _: &Attempt<'_>, _: Instant) {}
}

#[tokio::test]
async fn each_look_is_enough() {
    // The bits stand for the checks before the store, after it, and after the proof, from right to left.
    for (script, code) in [(0b000, "235 "), (0b001, WRONG), (0b010, WRONG), (0b100, WRONG)] {
        for is_scram in [false, true] {
            let looks = (0..3).rev().map(|bit| script >> bit & 1 == 1).collect();
            let script = Arc::new(Script::default());
            let mut connection = Connection::new(Arc::clone(&script), 1).await;
            *script.0.lock().unwrap() = looks;
            let reply = match is_scram {
                true => connection.scram("tim", PASSWORD).await,
                false => connection.plain("tim", PASSWORD).await,
            };
            assert!(reply.starts_with(code), "{reply}");
        }
    }
}
