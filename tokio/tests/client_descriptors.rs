//! Connections that are dropped at each poll leave no descriptor. In a process of its own, where no other test has any.
#![cfg(all(target_os = "linux", any(feature = "ring", feature = "aws-lc-rs")))]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

#[path = "support/runtimes.rs"]
#[expect(dead_code, reason = "some of it is for the other tests")]
mod runtimes;
#[path = "client/support.rs"]
#[expect(dead_code, reason = "most of it is for the other tests")]
mod support;

use std::{fs, time::Duration};

use tokio::time::sleep;

use runtimes::on_both_in_real_time;
use support::{HELLO, Inbox, listening, polled, soon, starttls, to};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits for the server's ends of all connections, which are closed after its observer is told.
async fn ended(inbox: &Inbox) {
    while inbox.open() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(100)).await;
}

#[test]
fn dropped_futures_leave_no_descriptor() {
    on_both_in_real_time(async |_| {
        let (address, server, inbox) = listening().await;
        let connector = starttls().addresses([address]);
        drop(soon(connector.connect()).await.unwrap());
        ended(&inbox).await;
        let before = descriptors();
        let envelope = to(&["ann"]);
        for times in 0.. {
            // It derives the salted password, too.
            let connector = connector.clone().credentials(support::tim());
            let work = async {
                let mut client = connector.connect().await.unwrap();
                let _ = client.send(&envelope, HELLO).await.unwrap();
                client.quit().await;
            };
            if soon(polled(work, times)).await.is_some() {
                break;
            }
        }
        ended(&inbox).await;
        assert_eq!((descriptors(), inbox.open()), (before, 0));
        server.shutdown();
    });
}
