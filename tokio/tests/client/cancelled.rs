//! Futures that are dropped at each poll.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context, Poll},
    time::Duration,
};

use smtp_auth_tokio::{
    client::{Connector, ErrorKind, Pool},
    server::Server,
    smtp_auth::{sasl::Immediate, server::Config},
    tls,
};
use tokio::{
    io::{AsyncRead, ReadBuf, duplex},
    net::TcpListener,
    time::{Instant, sleep, timeout},
};

use crate::{
    runtimes::{on_both, on_both_in_real_time},
    support::{
        HELLO, Inbox, LOCALHOST, Users, cleartext, listening, pipe, polled, server, soon, starttls,
        to,
    },
};

#[tokio::test]
async fn a_dropped_send_leaves_no_half_message_and_no_second_one() {
    let (server, inbox) = server();
    let connector = starttls();
    let long: Vec<u8> = (0..2000).flat_map(|n| format!("line {n}\r\n").into_bytes()).collect();
    let mut times = 0;
    loop {
        let mut client = soon(connector.connect_over(pipe(&server))).await.unwrap();
        let before = inbox.messages().len();
        let sent = soon(polled(client.send(&to(&["ann", "bob"]), &long), times)).await;
        let is_done = sent.is_some();
        let next = soon(client.noop()).await;
        match sent {
            Some(sent) => {
                let _ = sent.unwrap();
                next.unwrap();
            }
            None if times == 0 => next.unwrap(),
            None => {
                let error = next.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Unusable), "{times}: {error:?}");
                // It stays so.
                assert!(soon(client.send(&to(&["ann"]), HELLO)).await.is_err());
            }
        }
        sleep(Duration::from_millis(10)).await;
        let arrived = inbox.messages();
        soon(client.quit()).await;
        sleep(Duration::from_millis(10)).await;
        assert_eq!(inbox.messages().len(), arrived.len(), "quitting has sent the rest");
        assert!(arrived.len() <= before + 1);
        assert!(arrived.iter().all(|message| *message == long), "half a message");
        if is_done {
            break;
        }
        times += 1;
        assert!(times < 10_000);
    }
    assert!(times > 5, "{times}");
    sleep(Duration::from_millis(100)).await;
    assert_eq!(inbox.open(), 0);
}

#[tokio::test]
async fn a_pool_outlives_dropped_futures() {
    let (address, _, inbox) = listening().await;
    let pool = Pool::new(starttls().addresses([address])).connections(2);
    let envelope = to(&["ann"]);
    for times in 0.. {
        if let Some(sent) = soon(polled(pool.send(&envelope, HELLO), times)).await {
            let _ = sent.unwrap();
            assert!(times > 1, "{times}");
            break;
        }
    }
    // Both places are free.
    let (one, two) = (pool.send(&envelope, HELLO), pool.send(&envelope, HELLO));
    let (one, two) = soon(async { tokio::join!(one, two) }).await;
    assert!(one.is_ok() && two.is_ok());
    assert!(inbox.open() <= 2);
    assert!(inbox.messages().iter().all(|message| message == HELLO));
}

/// A server for clients that need not authenticate, which takes no time.
fn open() -> (Server<Immediate<Users>, Inbox>, Inbox) {
    let inbox = Inbox::default();
    let config = Config::builder("localhost").allow_unauthenticated(true).build().unwrap();
    let [cert, key] = &*LOCALHOST;
    let server = Server::new(config, Immediate(Users), inbox.clone()).observer(inbox.clone());
    (server.tls(tls::server(cert, key).unwrap()), inbox)
}

/// A message that comes a few octets at a time, each of them after another poll.
struct Trickle(&'static [u8], bool);

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.1 = !self.1;
        if self.1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (part, rest) = self.0.split_at(self.0.len().min(5));
        room.put_slice(part);
        self.0 = rest;
        Poll::Ready(Ok(()))
    }
}

/// All that a client does, from the connection to QUIT. After any number of polls: each message that was accepted is there
/// once, no other is but the one under way, none of them half, and the server sees the end.
async fn all_at_each_poll(connector: &Connector, pipe: usize) -> usize {
    let (server, inbox) = open();
    let envelope = to(&["ann", "bob"]);
    let mut before = 0;
    for times in 0.. {
        let (begun, accepted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (own, theirs) = duplex(pipe);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve_stream(theirs, None).await }
        });
        let all = async {
            let mut client = connector.connect_over(own).await.unwrap();
            for turn in [1, 2] {
                begun.store(turn, SeqCst);
                let sent = match turn {
                    1 => client.send(&envelope, HELLO).await,
                    _ => client.send_from(&envelope, Trickle(HELLO, false)).await,
                };
                assert!(sent.unwrap().refused.is_empty());
                accepted.store(turn, SeqCst);
            }
            client.noop().await.unwrap();
            client.quit().await;
        };
        let is_done = polled(all, times).await.is_some();
        let began = Instant::now();
        serving.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(20), "{times}: the server sees no end");
        let (begun, accepted) = (begun.into_inner(), accepted.into_inner());
        let arrived = inbox.messages();
        let new = arrived.len() - before;
        assert!((accepted..=begun).contains(&new), "{times}: {accepted} {new} {begun}");
        assert!(arrived.iter().all(|message| message == HELLO), "{times}: half a message");
        assert_eq!(inbox.open(), 0, "{times}");
        before = arrived.len();
        if is_done {
            assert_eq!((new, inbox.orderly() > 0), (2, true));
            return times;
        }
    }
    unreachable!()
}

#[test]
fn a_client_can_be_dropped_at_any_poll() {
    on_both(async |pace| {
        for (pipe, least) in [(1, 300), (7, 40), (64, 10)] {
            // With many threads each octet is a way from one to another.
            if pipe > 1 || pace.is_paused() {
                let polls = all_at_each_poll(&cleartext(), pipe).await;
                // With many threads it depends on who is faster.
                assert!(polls >= least || !pace.is_paused(), "{polls} by {pipe}");
            }
        }
    });
}

#[test]
fn a_client_inside_tls_can_be_dropped_at_any_poll() {
    on_both(async |pace| {
        let trusting = Connector::starttls("localhost").trust(tls::client(&LOCALHOST[0]).unwrap());
        let polls = all_at_each_poll(&trusting, 64).await;
        assert!(polls > 20 || !pace.is_paused(), "{polls}");
    });
}

/// The one place is in use: whoever waits for it can be dropped, and so can whoever has it.
#[test]
fn a_pools_place_comes_back_at_any_poll() {
    on_both_in_real_time(async |_| {
        let (server, inbox) = open();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connector = cleartext().addresses([listener.local_addr().unwrap()]);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve(listener).await }
        });
        let (pool, envelope) = (Pool::new(connector).connections(1), to(&["ann"]));
        let mut accepted = 0;
        for times in 0.. {
            {
                // The message never comes to its end. Nothing wakes those that wait meanwhile.
                let (_source, message) = duplex(64);
                let mut first = Box::pin(pool.send_from(&envelope, message));
                let limit = Duration::from_millis(3);
                let _ = timeout(limit, polled(first.as_mut(), 1 + times % 7)).await;
                let waiting = async { tokio::join!(pool.send(&envelope, HELLO), pool.close()) };
                let waited = timeout(limit, polled(waiting, times % 3)).await;
                assert!(waited.is_err() || waited.is_ok_and(|sent| sent.is_none()), "{times}");
            }
            let sent = polled(pool.send_from(&envelope, Trickle(HELLO, false)), times).await;
            // Over a connection that nothing half has gone over: the server would say what it does not understand.
            let again = soon(pool.send(&envelope, HELLO)).await.unwrap();
            assert_eq!(again.reply.code(), 250);
            accepted += 1 + usize::from(sent.is_some());
            // What was sent by a future that is dropped may arrive later, and once.
            let arrived = inbox.messages();
            assert!((accepted..=2 * (times + 1)).contains(&arrived.len()), "{times}");
            assert!(arrived.iter().all(|message| message == HELLO), "{times}: half a message");
            if sent.is_some() {
                break;
            }
        }
        soon(pool.close()).await;
        server.shutdown();
        soon(serving).await.unwrap();
        assert_eq!((inbox.open(), inbox.most() <= 3), (0, true), "{}", inbox.most());
    });
}

/// It has taken the connections out of the pool by then.
#[test]
fn a_pool_whose_closing_is_dropped_keeps_no_connection() {
    on_both_in_real_time(async |_| {
        for times in 0..4 {
            let (address, server, inbox) = listening().await;
            let pool = Pool::new(starttls().addresses([address]));
            let envelope = to(&["ann"]);
            let send = || pool.send(&envelope, HELLO);
            let (one, two) = soon(async { tokio::join!(send(), send()) }).await;
            assert!(one.is_ok() && two.is_ok());
            assert_eq!(inbox.open(), 2);
            polled(pool.close(), times).await;
            sleep(Duration::from_millis(100)).await;
            let left = if times == 0 { 2 } else { 0 };
            assert_eq!(inbox.open(), left, "{times}");
            server.shutdown();
        }
    });
}
