//! A connection whose future is dropped after any number of polls.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::Ordering::SeqCst,
    task::Poll,
};

use smtp_auth_tokio::server::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::support::server;

/// Reads and writes few octets at a time, so that there are many polls.
#[tokio::test(start_paused = true)]
async fn dropped_at_any_poll_it_leaves_nothing() {
    let (mut acknowledged, mut polls) = (0, 0);
    loop {
        let (server, seen) = server("", Limits::default());
        let (mut client, theirs) = duplex(3);
        let talk = tokio::spawn(async move {
            let mut said = Vec::new();
            let dialogue = b"EHLO c\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n\
                Subject: a\r\n\r\nText of some length\r\n.\r\nQUIT\r\n";
            let (mut reader, mut writer) = tokio::io::split(&mut client);
            let write = async {
                let _ = writer.write_all(dialogue).await;
            };
            let read = async {
                let _ = reader.read_to_end(&mut said).await;
            };
            tokio::join!(write, read);
            String::from_utf8(said).unwrap()
        });
        let mut left = polls;
        let whole = {
            let mut serving = pin!(server.serve_stream(theirs, None));
            poll_fn(|cx| {
                if left == 0 {
                    return Poll::Ready(false);
                }
                left -= 1;
                serving.as_mut().poll(cx).map(|()| true)
            })
            .await
        };
        let said = talk.await.unwrap();
        let (begun, dropped, taken) = seen.counts().await;
        assert_eq!(begun, dropped, "after {polls} polls");
        let told = said.lines().filter(|line| line.starts_with("250 2.0.0")).count();
        assert!(told <= taken, "after {polls} polls: {said}");
        acknowledged += told;
        if whole {
            assert_eq!((taken, seen.whole.load(SeqCst)), (1, 1));
            break;
        }
        polls += 1;
    }
    assert!(polls > 20 && acknowledged > 0, "{polls}");
}
