//! Connections that are kept.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use smtp_auth_tokio::client::{Delivery, ErrorKind, Pool};
use tokio::{
    io::duplex,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support::{
    GREETING, HELLO, TRANSACTION, cleartext, listening, scripts, soon, starttls, to,
};

#[tokio::test]
async fn a_connection_is_used_again() {
    let (address, _, inbox) = listening().await;
    let pool = Pool::new(starttls().addresses([address]));
    for _ in 0..5 {
        let _ = soon(pool.send(&to(&["ann"]), HELLO)).await.unwrap();
        assert!(soon(pool.send(&to(&["nobody"]), HELLO)).await.is_err());
        let _ = soon(pool.send_from(&to(&["ann"]), HELLO)).await.unwrap();
    }
    assert_eq!((inbox.connections(), inbox.messages().len()), (1, 10));
    soon(pool.close()).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(inbox.open(), 0);
    let error = soon(pool.send(&to(&["ann"]), HELLO)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::PoolClosed), "{error:?}");
}

/// A clone that is told how many there may be has connections of its own.
#[tokio::test]
async fn none_is_taken_as_one() {
    let (address, _, inbox) = listening().await;
    let pool = Pool::new(starttls().addresses([address]));
    let own = pool.clone().connections(0);
    for pool in [&pool, &own, &pool, &own] {
        let _ = soon(pool.send(&to(&["ann"]), HELLO)).await.unwrap();
    }
    assert_eq!(inbox.connections(), 2);
    soon(pool.close()).await;
    let _ = soon(own.send(&to(&["ann"]), HELLO)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_no_more_than_allowed() {
    let (address, _, inbox) = listening().await;
    let pool = Pool::new(starttls().addresses([address])).connections(3);
    let mut sending = JoinSet::new();
    for _ in 0..40 {
        let pool = pool.clone();
        sending.spawn(async move { pool.send(&to(&["ann"]), HELLO).await.unwrap().reply });
    }
    let sent = soon(sending.join_all()).await;
    assert_eq!((sent.len(), inbox.messages().len()), (40, 40));
    assert!(inbox.most() <= 3 && inbox.connections() <= 3, "{}", inbox.most());
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_replaced() {
    let good = format!("{GREETING}{TRANSACTION}S: 250 ok\n");
    for end in [
        // While nothing is under way: at once, with a word, and in answer to the next message.
        "",
        "S: 421 4.3.2 Idle for too long",
        "S: 421 4.3.2 Idle for too long\nWAIT",
        // A reply to nothing, which would be taken for the next one's.
        "P: 10\nS: 250 What did you say?\nWAIT",
        "C: MAIL",
        "C: MAIL\nS: 421 4.3.2 Idle for too long",
    ] {
        let (address, connections) = scripts(&[format!("{good}{end}"), good.clone()]).await;
        let pool = Pool::new(cleartext().addresses([address]));
        let _ = soon(pool.send(&to(&["ann"]), HELLO)).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        // Where the machine is busy, both have slept for as long, and the runtime has to look at sockets once more.
        sleep(Duration::from_millis(5)).await;
        let _ = soon(pool.send(&to(&["ann"]), HELLO)).await.unwrap();
        assert_eq!(connections.load(SeqCst), 2, "{end}");
    }
}

/// With `421` to the message itself, the next goes over another connection.
#[tokio::test]
async fn a_connection_that_is_closed_by_a_refusal_is_replaced() {
    let good = format!("{GREETING}{TRANSACTION}S: 250 ok\n");
    let bad = format!("{GREETING}{TRANSACTION}S: 421 4.3.2 Shutting down\nWAIT");
    let (address, connections) = scripts(&[bad, good]).await;
    let pool = Pool::new(cleartext().addresses([address]));
    let error = soon(pool.send(&to(&["ann"]), HELLO)).await.unwrap_err();
    assert_eq!((error.delivery(), error.is_transient()), (Delivery::NotSent, true));
    let _ = soon(pool.send(&to(&["ann"]), HELLO)).await.unwrap();
    assert_eq!(connections.load(SeqCst), 2);
}

#[tokio::test]
async fn a_message_is_never_sent_twice() {
    let good = format!("{GREETING}{TRANSACTION}S: 250 ok\n");
    let takes = format!("{GREETING}{TRANSACTION}");
    // Over a new connection, and over one that was idle.
    let (address, connections) =
        scripts(&[takes, format!("{good}{TRANSACTION}"), good.clone()]).await;
    let pool = Pool::new(cleartext().addresses([address]));
    for (expected, count) in [(false, 1), (true, 2), (false, 2), (true, 3)] {
        let sent = soon(pool.send(&to(&["ann"]), HELLO)).await;
        assert_eq!(sent.is_ok(), expected, "{sent:?}");
        if let Err(error) = sent {
            assert_eq!(error.delivery(), Delivery::Unknown);
        }
        assert_eq!(connections.load(SeqCst), count);
    }
}

#[tokio::test]
async fn waiting_has_an_end() {
    let (address, _) = scripts(&[format!("{GREETING}WAIT")]).await;
    let pool = Pool::new(cleartext().addresses([address]))
        .connections(1)
        .waiting(Duration::from_millis(100));
    let (envelope, sending) = (to(&["ann"]), pool.clone());
    let sending = tokio::spawn(async move { sending.send(&envelope, HELLO).await.is_ok() });
    sleep(Duration::from_millis(50)).await;
    let error = soon(pool.send(&to(&["ann"]), HELLO)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoFreeConnection(_)), "{error:?}");
    assert_eq!((error.delivery(), error.is_transient()), (Delivery::NotSent, true));
    assert!(error.to_string().contains("in use for 0.1 seconds"), "{error}");
    sending.abort();
}

#[tokio::test]
async fn an_idle_connection_says_quit() {
    let (address, _, inbox) = listening().await;
    let pool = Pool::new(starttls().addresses([address])).idle(Duration::from_millis(200));
    let (one, two) = (pool.clone(), pool.clone());
    let (envelope, other) = (to(&["ann"]), to(&["bob"]));
    let both = async { tokio::join!(one.send(&envelope, HELLO), two.send(&other, HELLO)) };
    let (one, two) = soon(both).await;
    assert!(one.is_ok() && two.is_ok());
    assert_eq!((inbox.connections(), inbox.open()), (2, 2));
    sleep(Duration::from_millis(500)).await;
    assert_eq!((inbox.orderly(), inbox.open()), (2, 0));
    // Another is made, and closed in its turn.
    let _ = soon(pool.send(&to(&["ann"]), HELLO)).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    assert_eq!((inbox.connections(), inbox.orderly()), (3, 3));
}

#[tokio::test]
async fn nothing_is_left_of_a_dropped_pool() {
    let (address, _, inbox) = listening().await;
    let pool = Pool::new(starttls().addresses([address]));
    let _ = soon(pool.send(&to(&["ann"]), HELLO)).await.unwrap();
    // The connection's at the server, and what closes idle ones; others have ended by then.
    sleep(Duration::from_millis(100)).await;
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    drop(pool);
    sleep(Duration::from_millis(100)).await;
    assert_eq!((inbox.open(), tasks.num_alive_tasks()), (0, before - 2));
}

#[tokio::test]
async fn a_dropped_future_gives_its_place_back() {
    let (address, _, inbox) = listening().await;
    let pool = Pool::new(starttls().addresses([address])).connections(1);
    for _ in 0..3 {
        // The message never comes to its end.
        let (_source, message) = duplex(64);
        let envelope = to(&["ann"]);
        let sending = pool.send_from(&envelope, message);
        assert!(timeout(Duration::from_millis(200), sending).await.is_err());
        let _ = soon(pool.send(&envelope, HELLO)).await.unwrap();
    }
    assert_eq!((inbox.messages().len(), inbox.open()), (3, 1));
}

/// LIMITS MAILMAX (RFC 9422).
#[tokio::test]
async fn a_connection_that_takes_no_more_messages_is_replaced() {
    let greeting = GREETING.replace("250-script\n", "250-script\nS: 250-LIMITS MAILMAX=1\n");
    let good = format!("{greeting}{TRANSACTION}S: 250 ok\n");
    let (address, connections) =
        scripts(&[format!("{good}C: QUIT\nS: 221 bye"), good.clone()]).await;
    let pool = Pool::new(cleartext().addresses([address]));
    for _ in 0..2 {
        let _ = soon(pool.send(&to(&["ann"]), HELLO)).await.unwrap();
    }
    assert_eq!(connections.load(SeqCst), 2);
}
