//! Futures that are dropped at each poll.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use smtp_auth_tokio::client::{ErrorKind, Pool};
use tokio::time::sleep;

use crate::support::{HELLO, listening, pipe, server, soon, starttls, to};

/// Polls a future so many times; `None` where it has not come to its end by then, and is dropped.
async fn polled<T>(work: impl Future<Output = T>, times: usize) -> Option<T> {
    let (mut work, mut left) = (pin!(work), times);
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        let polled = work.as_mut().poll(cx).map(Some);
        // Where nothing wakes it any more, this ends all the same.
        if polled.is_pending() && left == 0 {
            cx.waker().wake_by_ref();
        }
        polled
    })
    .await
}

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
