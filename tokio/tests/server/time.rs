//! What takes too long. The clock is paused: it moves on once nothing else can.

use std::time::Duration;

use smtp_auth_tokio::{
    server::{Limits, Message, Server},
    smtp_auth::{Answer, AsyncAuthenticator, CheckPassword, Mechanism, Reply, sasl::Immediate},
};
use tokio::{
    io::duplex,
    time::{Instant, sleep},
};

use crate::support::{Careless, Hand, Users, config, server};

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_told() {
    let (server, seen) = server("", Limits::default().idle(Duration::from_secs(60)));
    let (mut hand, serving) = Hand::to(&server).await;
    let began = Instant::now();
    hand.expect("", &["421 4.4.2"]).await;
    assert_eq!(began.elapsed().as_secs(), 60);
    hand.ends().await;
    serving.await.unwrap();
    assert_eq!(*seen.log.lock().unwrap(), ["closed: Ok(())"]);

    // NOOP keeps a connection, octets of a line that does not end do not.
    let (mut hand, _) = Hand::to(&server).await;
    for _ in 0..5 {
        sleep(Duration::from_secs(50)).await;
        hand.expect("NOOP\r\n", &["250"]).await;
    }
    let began = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(hand.0);
    tokio::spawn(async move {
        for _ in 0..20 {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut writer, b"N").await;
            sleep(Duration::from_secs(10)).await;
        }
    });
    let mut reply = [0; 9];
    tokio::io::AsyncReadExt::read_exact(&mut reader, &mut reply).await.unwrap();
    assert_eq!(&reply, b"421 4.4.2");
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_message_has_a_time_for_its_octets_and_one_as_a_whole() {
    let limits = Limits::default().idle(Duration::from_secs(60));
    for what in ["", "refuse half"] {
        let (server, seen) = server(what, limits.message(Duration::from_secs(937)));
        let (mut hand, _) = Hand::to(&server).await;
        hand.until_data().await;
        let began = Instant::now();
        for _ in 0..17 {
            hand.write("a line\r\n").await;
            sleep(Duration::from_secs(55)).await;
        }
        hand.expect("", &["421 4.4.2"]).await;
        assert_eq!(began.elapsed().as_secs(), 937, "the last octets came at 880");
        assert_eq!(seen.counts().await, (1, 1, 0));
    }
    // One that was refused has time for the rest, however large.
    let (server, _) = server("", limits.message(Duration::MAX));
    let (mut hand, _) = Hand::to(&server).await;
    hand.until_data().await;
    hand.write(&"0123456789\r\n".repeat(10_000)).await;
    for _ in 0..20 {
        hand.write("a line\r\n").await;
        sleep(Duration::from_secs(55)).await;
    }
    hand.expect(".\r\n", &["552"]).await;
    hand.expect("NOOP\r\n", &["250"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_left() {
    let (server, seen) = server("", Limits::default());
    let (own, theirs) = duplex(16);
    let serving = tokio::spawn(async move { server.serve_stream(theirs, None).await });
    let began = Instant::now();
    serving.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 300);
    assert_eq!(*seen.log.lock().unwrap(), ["closed: Err(ConnectionAborted)"]);
    drop(own);
}

/// An authenticator that waits for a database, which does not always answer.
struct Database;

impl AsyncAuthenticator for Database {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain]
    }

    async fn check_password(&self, ask: &CheckPassword) -> Answer {
        if ask.authcid() == "slow" {
            sleep(Duration::from_secs(3600)).await;
        }
        sleep(Duration::from_millis(5)).await;
        (ask.authcid() == "tim" && ask.password() == "tanstaaftanstaaf").into()
    }
}

#[tokio::test(start_paused = true)]
async fn authentication_right_wrong_and_slow() {
    let careless = Careless::default();
    let seen = careless.0.clone();
    let server = Server::new(config().build().unwrap(), Database, careless.clone());
    let server = server.observer(careless);
    let (mut hand, _) = Hand::to(&server).await;
    hand.expect("MAIL FROM:<a@b.c>\r\n", &["530"]).await;
    let began = Instant::now();
    // \0slow\0tanstaaftanstaaf: the time of the query.
    hand.expect("AUTH PLAIN AHNsb3cAdGFuc3RhYWZ0YW5zdGFhZg==\r\n", &["454 4.7.0"]).await;
    assert_eq!(began.elapsed().as_secs(), 30);
    // \0tim\0wrong: a pause that doubles.
    for pause in [1, 2, 4] {
        let began = Instant::now();
        hand.expect("AUTH PLAIN AHRpbQB3cm9uZw==\r\n", &["535 5.7.8"]).await;
        assert_eq!(began.elapsed().as_secs(), pause);
    }
    let began = Instant::now();
    hand.expect("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n", &["235"]).await;
    assert_eq!(began.elapsed().as_secs(), 0);
    hand.expect("MAIL FROM:<a@b.c>\r\n", &["250"]).await;
    let log = seen.log.lock().unwrap().clone();
    assert_eq!((log.len(), &*log[4]), (5, "tim by PLAIN"), "{log:?}");
    assert!(log[..4].iter().all(|line| line.starts_with("not authenticated")), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_authenticates_in_time_or_is_sent_away() {
    let server =
        Server::new(config().build().unwrap(), Immediate(Users), async |_: Message| Ok(Reply::OK));
    let (mut hand, _) = Hand::to(&server).await;
    let began = Instant::now();
    for _ in 0..3 {
        sleep(Duration::from_secs(50)).await;
        hand.expect("NOOP\r\n", &["250"]).await;
    }
    hand.expect("AUTH PLAIN\r\n", &["334", "421 4.4.2"]).await;
    assert_eq!(began.elapsed().as_secs(), 180);
    hand.ends().await;
    // Once it has, it may stay.
    let (mut hand, _) = Hand::to(&server).await;
    hand.expect("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n", &["235"]).await;
    sleep(Duration::from_secs(299)).await;
    hand.expect("NOOP\r\n", &["250"]).await;
    // So it may where its message follows in the same piece.
    let (mut hand, _) = Hand::to(&server).await;
    let both = "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\nMAIL FROM:<a@b.c>\r\n";
    hand.expect(both, &["235", "250"]).await;
    sleep(Duration::from_secs(299)).await;
    hand.expect("RCPT TO:<d@e.f>\r\n", &["250"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_a_time_in_all() {
    let limits = Limits::default().connection(Duration::from_secs(1000));
    let over = "421 4.4.2 Connected for too long, closing\r\n";
    // Between commands, and by a client that never ceases to send, whatever it sends.
    for (begin, line) in [("", "NOOP\r\n"), ("data", "a line\r\n")] {
        let (server, seen) = server("", limits);
        let (mut hand, _) = Hand::to(&server).await;
        let began = Instant::now();
        if begin == "data" {
            hand.until_data().await;
        }
        for _ in 0..20 {
            hand.write(line).await;
            sleep(Duration::from_secs(49)).await;
        }
        let mut reply = hand.hear().await;
        while reply.starts_with("250") {
            reply = hand.hear().await;
        }
        assert_eq!(reply, over, "{begin}");
        assert_eq!(began.elapsed().as_secs(), 1000);
        assert_eq!(seen.counts().await.2, 0);
    }
    // A message that is whole has its reply first.
    let (server, seen) = server("slow", limits);
    let (mut hand, _) = Hand::to(&server).await;
    for _ in 0..5 {
        sleep(Duration::from_secs(199)).await;
        hand.expect("NOOP\r\n", &["250"]).await;
    }
    hand.until_data().await;
    hand.write("Subject: a\r\n\r\n..b\r\n.\r\n").await;
    assert!(hand.hear().await.starts_with("250"));
    assert_eq!(hand.hear().await, over);
    assert_eq!(seen.counts().await.2, 1);
}

/// The client sends faster than the server reads, so that there is always something to read.
#[tokio::test]
async fn a_client_that_never_waits_has_a_time_in_all() {
    let (server, _) = server("", Limits::default().connection(Duration::from_millis(300)));
    let (own, theirs) = duplex(1 << 16);
    let serving = tokio::spawn(async move { server.serve_stream(theirs, None).await });
    let (mut reader, mut writer) = tokio::io::split(own);
    tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    let flood = async {
        let commands = "NOOP\r\n".repeat(1000);
        while tokio::io::AsyncWriteExt::write_all(&mut writer, commands.as_bytes()).await.is_ok() {}
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(flood, serving).1.unwrap();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_answered_as_late_as_the_limit_says() {
    let server = Server::new(config().build().unwrap(), Immediate(Users), Careless::default());
    let server = server.limits(Limits::default().pause(Duration::ZERO));
    let (mut hand, _) = Hand::to(&server).await;
    let began = Instant::now();
    for _ in 0..3 {
        hand.expect("AUTH PLAIN AHRpbQB3cm9uZw==\r\n", &["535 5.7.8"]).await;
    }
    assert_eq!(began.elapsed().as_millis(), 0);
}
