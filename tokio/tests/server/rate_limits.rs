//! Rate limiting of failed authentication, over the connections of a server.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use smtp_auth_tokio::{
    Attempt, MemoryRateLimiter, RateLimiter,
    server::{Message, Server},
    smtp_auth::{
        Answer, AsyncAuthenticator, Authenticator, CheckPassword, Mechanism, Reply,
        sasl::{self, Authorize, AuthorizeAnswer, Immediate, client::Step},
        server::Config,
    },
};
use tokio::{io::duplex, time::timeout};

use crate::support::{Careless, Hand, Tested, Users, config};

const RIGHT: &str = "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n";
const WRONG: &str = "AUTH PLAIN AHRpbQB3cm9uZw==\r\n";

fn address(n: u8) -> SocketAddr {
    ([192, 0, 2, n], 25).into()
}

fn server() -> Tested {
    Server::new(config().build().unwrap(), Immediate(Users), Careless::default())
}

/// A connection from that address, greeted.
async fn from<A, H>(server: &Server<A, H>, n: u8) -> Hand
where
    A: AsyncAuthenticator + 'static,
    H: smtp_auth_tokio::server::Handler,
{
    let (own, theirs) = duplex(1 << 16);
    let server = server.clone();
    tokio::spawn(async move { server.serve_stream(theirs, Some(address(n))).await });
    let mut hand = Hand::new(own);
    hand.expect("EHLO hand\r\n", &["220", "250"]).await;
    hand
}

#[tokio::test(start_paused = true)]
async fn a_new_server_limits_failed_attempts() {
    let server = server();
    from(&server, 1).await.expect(RIGHT, &["235"]).await;
    for n in 10..20 {
        from(&server, n).await.expect(WRONG, &["535 5.7.8"]).await;
    }
    // Everywhere else the right password is as wrong as any, in the same words and after the same time.
    let (mut limited, mut other) = (from(&server, 30).await, from(&server, 31).await);
    let began = tokio::time::Instant::now();
    let reply = limited.say(RIGHT).await;
    assert_eq!((reply, began.elapsed().as_secs()), (other.say(WRONG).await, 1));
    // Its owner gets in from where he has been.
    from(&server, 1).await.expect(RIGHT, &["235"]).await;
    // Failures leak away.
    tokio::time::advance(Duration::from_secs(600)).await;
    from(&server, 30).await.expect(RIGHT, &["235"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_without_rate_limiter_does_not() {
    let server = server().without_rate_limiter();
    for n in 10..50 {
        from(&server, n).await.expect(WRONG, &["535 5.7.8"]).await;
    }
    from(&server, 30).await.expect(RIGHT, &["235"]).await;
}

/// SCRAM's keys are asked for before the proof comes.
#[tokio::test(start_paused = true)]
async fn exchanges_begun_before_the_limit_are_no_more_guesses() {
    let limiter = MemoryRateLimiter::new().account_limit(NonZeroU32::MIN);
    let server = server().rate_limiter(limiter);
    let mut waiting = Vec::new();
    for n in 1..4 {
        let mut hand = from(&server, n).await;
        let proof = proof(&mut hand).await;
        waiting.push((hand, proof));
    }
    let (mut first, proof) = waiting.remove(0);
    first.expect(&proof, &["334"]).await;
    first.expect("\r\n", &["235"]).await;
    from(&server, 10).await.expect(WRONG, &["535 5.7.8"]).await;
    for (mut hand, proof) in waiting {
        hand.expect(&proof, &["535 5.7.8"]).await;
    }
    from(&server, 1).await.expect(RIGHT, &["235"]).await;
}

/// As far as the line with the proof, which is right.
async fn proof(hand: &mut Hand) -> String {
    use sasl::client::{Config, Credentials, Exchange};
    let own = Config::builder().mechanisms([Mechanism::ScramSha256]).build().unwrap();
    let credentials = Credentials::password("tim", "tanstaaftanstaaf").unwrap();
    let channel = smtp_auth_tokio::smtp_auth::Channel::cleartext();
    let mut client = Exchange::new(&own, &channel, Mechanism::ScramSha256, credentials);
    let mut lines = 0;
    loop {
        match client.step() {
            Step::Derive(derive) => derive.run(),
            Step::Response(response) => {
                let line = base64(response.data().unwrap());
                lines += 1;
                if lines == 2 {
                    return format!("{line}\r\n");
                }
                let challenge = hand.say(&format!("AUTH SCRAM-SHA-256 {line}\r\n")).await;
                let challenge = challenge.strip_prefix("334 ").unwrap().trim_end();
                response.challenge(unbase64(challenge));
            }
            other => panic!("{other:?}"),
        }
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(octets: &[u8]) -> String {
    let digit = |octet: Option<&u8>| u32::from(octet.copied().unwrap_or_default());
    let quads = octets.chunks(3).map(|three| {
        let bits = digit(three.first()) << 16 | digit(three.get(1)) << 8 | digit(three.get(2));
        let one = |n: usize| match n <= three.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * n)) as usize & 63]),
            false => '=',
        };
        [one(0), one(1), one(2), one(3)]
    });
    quads.flatten().collect()
}

fn unbase64(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|c| DIGITS.iter().position(|digit| *digit == c));
    let (mut bits, mut held, mut octets) = (0, 0, Vec::new());
    for digit in digits {
        (bits, held) = (bits << 6 & 0xFFFF | digit, held + 6);
        if held >= 8 {
            held -= 8;
            octets.push((bits >> held & 0xFF) as u8);
        }
    }
    octets
}

/// Notes what it is told, and limits nothing.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<String>>>);

impl Noting {
    fn note(&self, what: &str, attempt: &Attempt<'_>) {
        let address: Option<IpAddr> = attempt.address();
        let names: Vec<_> = attempt.names().collect();
        self.0.lock().unwrap().push(format!(
            "{what} {} from {}",
            names.join("="),
            address.unwrap()
        ));
    }
}

impl RateLimiter for Noting {
    fn is_limited(&self, _: &Attempt<'_>, _: Instant) -> bool {
        false
    }

    fn failed(&self, attempt: &Attempt<'_>, _: Instant) {
        self.note("failed", attempt);
    }

    fn authenticated(&self, attempt: &Attempt<'_>, _: Instant) {
        self.note("authenticated", attempt);
    }
}

#[tokio::test(start_paused = true)]
async fn another_limiter_is_told_of_each_attempt_before_its_reply() {
    let noting = Noting::default();
    let server = server().rate_limiter(noting.clone());
    let mut hand = from(&server, 7).await;
    // `ＴＩＭ` in fullwidth letters is one name with `TIM`.
    hand.write("AUTH PLAIN AO+8tO+8qe+8rQB3cm9uZw==\r\n").await;
    assert!(timeout(Duration::from_millis(500), hand.hear()).await.is_err());
    assert_eq!(*noting.0.lock().unwrap(), ["failed TIM from 192.0.2.7"]);
    drop(hand);
    let mut hand = from(&server, 8).await;
    // What is no attempt is not counted.
    hand.expect("AUTH FOO\r\n", &["504"]).await;
    hand.expect(RIGHT, &["235"]).await;
    let told = ["failed TIM from 192.0.2.7", "authenticated tim from 192.0.2.8"];
    assert_eq!(*noting.0.lock().unwrap(), told);
}

/// An authenticator in front of another, which says whether it was asked who may come in, and may not hand that on.
struct InFront {
    hands_on: bool,
    asked: Arc<Mutex<usize>>,
}

impl AsyncAuthenticator for InFront {
    fn mechanisms(&self) -> &[Mechanism] {
        Users.mechanisms()
    }

    async fn check_password(&self, ask: &CheckPassword) -> Answer {
        Users.check_password(ask)
    }

    async fn authorize(&self, _: &Authorize) -> AuthorizeAnswer {
        *self.asked.lock().unwrap() += 1;
        match self.hands_on {
            true => AuthorizeAnswer::Accept,
            false => AuthorizeAnswer::NotImplemented,
        }
    }
}

/// Whoever asked for `authorize_always`, and has an authenticator that does not answer, lets nobody in; whoever has not asked
/// for it is not asked.
#[tokio::test(start_paused = true)]
async fn who_may_come_in_is_asked_where_the_application_wants_that() {
    for (always, hands_on, code, times) in [
        (false, false, "235", 0),
        (false, true, "235", 0),
        (true, true, "235", 1),
        (true, false, "454 4.7.0", 1),
    ] {
        for limits in [true, false] {
            let asked = Arc::default();
            let users = InFront { hands_on, asked: Arc::clone(&asked) };
            let sasl = sasl::server::Config::builder("localhost").allow_cleartext(true);
            let sasl = sasl.mechanisms([Mechanism::Plain]).authorize_always(always);
            let config = Config::builder("localhost").sasl(sasl.build().unwrap());
            let deliver = async |_: Message| Ok(Reply::OK);
            let server = Server::new(config.build().unwrap(), users, deliver);
            let server = if limits { server } else { server.without_rate_limiter() };
            from(&server, 1).await.expect(RIGHT, &[code]).await;
            assert_eq!(*asked.lock().unwrap(), times, "{always} {hands_on} {limits}");
        }
    }
}

/// Answers when all the others have been asked, too.
struct AllAtOnce(Arc<tokio::sync::Barrier>);

impl AsyncAuthenticator for AllAtOnce {
    fn mechanisms(&self) -> &[Mechanism] {
        Users.mechanisms()
    }

    async fn check_password(&self, ask: &CheckPassword) -> Answer {
        self.0.wait().await;
        Users.check_password(ask)
    }
}

#[derive(Clone, Default)]
struct Counting(Arc<Mutex<(usize, usize)>>);

impl smtp_auth_tokio::server::Observer for Counting {
    fn auth_failed(
        &self,
        _: &smtp_auth_tokio::server::Peer,
        _: &smtp_auth_tokio::smtp_auth::server::AuthFailed<'_>,
        is_limited: bool,
    ) {
        let mut counts = self.0.lock().unwrap();
        if is_limited { counts.1 += 1 } else { counts.0 += 1 }
    }
}

/// Many attempts that wait for the store at once are not many guesses: each is looked at again once the store has answered,
/// and is counted in the same breath. So there is one more for each thread of the runtime at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attempts_that_wait_at_once_are_no_more_guesses() {
    let counting = Counting::default();
    let sasl = sasl::server::Config::builder("localhost").allow_cleartext(true);
    let sasl = sasl.mechanisms([Mechanism::Plain]);
    let config = Config::builder("localhost").sasl(sasl.build().unwrap()).build().unwrap();
    let users = AllAtOnce(Arc::new(tokio::sync::Barrier::new(64)));
    let server = Server::new(config, users, Careless::default()).observer(counting.clone());
    let mut hands = Vec::new();
    for n in 0..64 {
        let mut hand = from(&server, n).await;
        hand.write(WRONG).await;
        hands.push(hand);
    }
    for mut hand in hands {
        hand.expect("", &["535"]).await;
    }
    let (guesses, limited) = *counting.0.lock().unwrap();
    assert_eq!(guesses + limited, 64);
    assert!((10..14).contains(&guesses), "{guesses}");
}
