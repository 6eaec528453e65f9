//! What an observer is told.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use smtp_auth_tokio::{
    MemoryRateLimiter,
    server::{Limits, Observer, Peer, Server},
    smtp_auth::{Identity, Reply, sasl::Immediate, server::AuthFailed},
};
use tokio::{io::duplex, time::sleep};

use crate::support::{Careless, Hand, Users, config, server};

/// Notes all that it is told.
#[derive(Default)]
struct Noting(Mutex<Vec<String>>);

impl Noting {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    async fn take(&self) -> Vec<String> {
        sleep(Duration::from_millis(50)).await;
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Observer for Noting {
    fn connected(&self, _: &Peer) {
        self.note("connected".into());
    }

    fn turned_away(&self, address: Option<SocketAddr>, reply: &Reply) {
        self.note(format!("turned away {address:?} {}", reply.code()));
    }

    fn authenticated(&self, peer: &Peer, who: &Identity) {
        self.note(format!("authenticated {} {}", who.acts_as(), peer.hello()));
    }

    fn auth_failed(&self, _: &Peer, failed: &AuthFailed<'_>, is_limited: bool) {
        self.note(format!("failed {} {is_limited}", failed.attempts));
    }

    fn message(&self, _: &Peer, octets: u64, reply: Option<&Reply>) {
        self.note(format!("message {octets} {:?}", reply.map(Reply::code)));
    }

    fn closed(&self, _: &Peer, outcome: Result<(), &io::Error>) {
        self.note(format!("closed {:?}", outcome.map_err(io::Error::kind)));
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_of_messages_with_their_octets() {
    let whole = "a line\r\n.\r\n";
    let large = format!("{}.\r\n", "0123456789012345678901234567890123456789\r\n".repeat(3_000));
    for (what, text, code, expected) in [
        ("", whole, "250", "message 8 Some(250)"),
        ("refuse", "", "452", "message 0 Some(452)"),
        ("refuse half", whole, "452", "message 8 Some(452)"),
        ("accept unread", "", "451", "message 0 Some(451)"),
        ("hang", whole, "451", "message 8 Some(451)"),
        ("", &large, "552", "None"),
    ] {
        let noting = Arc::<Noting>::default();
        let server = server(what, Limits::default()).0.observer(Arc::clone(&noting));
        let (mut hand, _) = Hand::to(&server).await;
        let reply = hand.until_data().await;
        if text.is_empty() {
            assert!(reply.starts_with(code), "{reply}");
        } else {
            hand.expect(text, &[code]).await;
        }
        hand.expect("QUIT\r\n", &["221"]).await;
        drop(hand);
        let noted = noting.take().await;
        assert_eq!((noted.len(), &*noted[0], &*noted[2]), (3, "connected", "closed Ok(())"));
        assert!(noted[1].starts_with("message ") && noted[1].ends_with(expected), "{noted:?}");
    }
}

/// Each connection ends once, whatever becomes of it.
#[tokio::test(start_paused = true)]
async fn it_is_told_of_each_end() {
    let noting = Arc::<Noting>::default();
    let server =
        server("panic half", Limits::default().connections(1)).0.observer(Arc::clone(&noting));
    let (mut hand, serving) = Hand::to(&server).await;
    hand.until_data().await;
    hand.write("half\r\n").await;
    assert!(serving.await.unwrap_err().is_panic());
    let ended = ["connected", "message 6 None", "closed Err(ConnectionAborted)"];
    assert_eq!(noting.take().await, ended);
    let (mut hand, serving) = Hand::to(&server).await;
    let (own, theirs) = duplex(1 << 16);
    let mut other = Hand::new(own);
    tokio::spawn({
        let (server, address) = (server.clone(), ([192, 0, 2, 1], 25).into());
        async move { server.serve_stream(theirs, Some(address)).await }
    });
    other.expect("", &["421"]).await;
    hand.expect("NOOP\r\n", &["250"]).await;
    serving.abort();
    let ended =
        ["connected", "turned away Some(192.0.2.1:25) 421", "closed Err(ConnectionAborted)"];
    assert_eq!(noting.take().await, ended);
    // One of which nothing has been told has no end either.
    let (_own, theirs) = duplex(1 << 16);
    drop(server.serve_stream(theirs, None));
    assert_eq!(noting.take().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn it_is_told_which_failures_are_the_limiters() {
    let noting = Arc::<Noting>::default();
    let limiter = MemoryRateLimiter::new().account_limit(2.try_into().unwrap());
    let server = Server::new(config().build().unwrap(), Immediate(Users), Careless::default());
    let server = server.rate_limiter(limiter).observer(Arc::clone(&noting));
    let (mut hand, _) = Hand::to(&server).await;
    for _ in 0..2 {
        hand.expect("AUTH PLAIN AHRpbQB3cm9uZw==\r\n", &["535"]).await;
    }
    hand.expect("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n", &["535"]).await;
    hand.expect("AUTH PLAIN AGFubgB3cm9uZw==\r\n", &["535"]).await;
    let expected =
        ["connected", "failed 1 false", "failed 2 false", "failed 3 true", "failed 4 false"];
    assert_eq!(noting.take().await, expected);
    let (mut hand, _) = Hand::to(&server.without_rate_limiter()).await;
    hand.expect("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n", &["235"]).await;
    assert_eq!(noting.take().await, ["connected", "authenticated tim hand"]);
}

#[tokio::test]
async fn a_hook_has_the_masked_dialogue() {
    let lines = Arc::<Noting>::default();
    let noting = Arc::clone(&lines);
    let server = Server::new(config().build().unwrap(), Immediate(Users), Careless::default());
    let server = server.trace(move |address, side, line| {
        noting.note(format!("{address:?} {side}: {line}"));
    });
    let (mut hand, _) = Hand::to(&server).await;
    hand.expect("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n", &["235"]).await;
    let lines = lines.take().await;
    assert!(lines.iter().any(|line| line == "None C: AUTH PLAIN ***"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("None S: 235 ")), "{lines:?}");
}
