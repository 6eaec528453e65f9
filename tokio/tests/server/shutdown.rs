//! A shutdown in each stage of a connection.

use std::{sync::Arc, time::Duration};

use smtp_auth_tokio::{
    BoxStream, Handshake, TlsAccept,
    server::{Limits, Message, Server},
    smtp_auth::{Reply, sasl::Immediate},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

use crate::support::{Hand, Users, config, open, server};

#[tokio::test(start_paused = true)]
async fn a_client_between_messages_is_sent_away_at_once() {
    let config = Arc::new(config().build().unwrap());
    for (before, codes) in [
        ("", &[][..]),
        ("NOOP\r\n", &["250"]),
        ("AUTH PLAIN\r\n", &["334"]),
        ("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n", &["235"]),
        ("MAIL FR", &[]),
    ] {
        let deliver = async |_: Message| Ok(Reply::OK);
        let server = Server::new(Arc::clone(&config), Immediate(Users), deliver);
        let (mut hand, serving) = Hand::to(&server).await;
        hand.expect(before, codes).await;
        let began = Instant::now();
        server.shutdown();
        hand.expect("", &["421 4.3.2"]).await;
        hand.ends().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "{before}");
        drop(hand);
        serving.await.unwrap();
        // Whoever comes later is told, too.
        let (own, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move { server.serve_stream(theirs, None).await });
        let mut late = Hand::new(own);
        late.expect("", &["421 4.3.2"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_finished() {
    for (before, codes) in [
        ("", &[][..]),
        ("RCPT TO:<d@e.f>\r\n", &["250"]),
        ("RCPT TO:<d@e.f>\r\nDATA\r\n", &["250", "354"]),
        ("RCPT TO:<d@e.f>\r\nDATA\r\nhalf\r\n", &["250", "354"]),
        ("RCPT TO:<d@e.f>\r\nDATA\r\nwhole\r\n.\r\n", &["250", "354"]),
    ] {
        let (server, seen) = server("slow", Limits::default());
        let (mut hand, serving) = Hand::to(&server).await;
        hand.expect(&format!("MAIL FROM:<a@b.c>\r\n{before}"), &[&["250"], codes].concat()).await;
        server.shutdown();
        sleep(Duration::from_secs(1)).await;
        let all = "RCPT TO:<d@e.f>\r\nDATA\r\nwhole\r\n.\r\n";
        let rest = match before.len() {
            0 => all,
            17 => &all[17..],
            23 => &all[23..],
            29 => ".\r\n",
            _ => "",
        };
        let ends = [&["250", "354"][codes.len().min(2)..], &["250 2.0.0", "421 4.3.2"]].concat();
        for line in rest.split_inclusive('\n') {
            hand.write(line).await;
            sleep(Duration::from_millis(10)).await;
        }
        hand.expect("", &ends).await;
        hand.ends().await;
        drop(hand);
        serving.await.unwrap();
        assert_eq!(seen.counts().await, (1, 1, 1), "{before}");
    }
}

/// TLS that does not begin.
pub(crate) struct Never;

impl TlsAccept for Never {
    fn accept(&self, stream: BoxStream) -> Handshake<'_> {
        Box::pin(async move {
            let _stream = stream;
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn the_server_ends_with_its_connections_or_after_the_grace() {
    let grace = Duration::from_secs(2);
    // Idle, in a handshake, and in a message that does not end.
    for (before, codes, least) in [
        ("", &[][..], Duration::ZERO),
        ("STARTTLS\r\n", &["220"], Duration::ZERO),
        ("MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n", &["250", "250", "354"], grace),
    ] {
        let deliver = async |_: Message| Ok(Reply::OK);
        let server = Server::new(open(), Immediate(Users), deliver);
        let server = server.tls(Never).limits(Limits::default().grace(grace));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve(listener).await }
        });
        let mut hand = Hand::new(TcpStream::connect(address).await.unwrap());
        hand.expect("EHLO hand\r\n", &["220", "250"]).await;
        hand.expect(before, codes).await;
        sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        server.shutdown();
        let ends = async {
            let last = hand.hear().await;
            hand.ends().await;
            // In the middle of a handshake there is nobody to be told.
            let told = if before == "STARTTLS\r\n" { "" } else { "421 4.3.2" };
            assert!(last.starts_with(told), "{before}: {last}");
            drop(hand);
            serving.await.unwrap();
        };
        timeout(Duration::from_secs(5), ends).await.unwrap();
        assert!(began.elapsed() >= least, "{before}");
        assert!(began.elapsed() < grace || least > Duration::ZERO, "{before}");
        assert!(TcpStream::connect(address).await.is_err());
    }
}

/// Whatever has not ended within the grace is told so, and nothing of it is taken.
#[tokio::test(start_paused = true)]
async fn what_goes_on_after_the_grace_is_cut_off_with_a_reply() {
    let grace = Duration::from_secs(20);
    let whole = "whole\r\n.\r\n";
    for (what, recipient, message) in [
        ("", "d", None),
        ("", "d", Some("half\r\n")),
        ("stall half", "d", Some("half\r\n")),
        ("refuse half", "d", Some("half\r\n")),
        ("stall unread", "d", Some("")),
        ("hang", "d", Some(whole)),
        ("", "slow", None),
    ] {
        let (server, seen) = server(what, Limits::default().grace(grace));
        let (mut hand, serving) = Hand::to(&server).await;
        hand.expect("MAIL FROM:<a@b.c>\r\n", &["250"]).await;
        let rcpt = format!("RCPT TO:<{recipient}@e.f>\r\n");
        hand.expect(&rcpt, if recipient == "d" { &["250"] } else { &[] }).await;
        if let Some(message) = message {
            hand.expect("DATA\r\n", if message.is_empty() { &[] } else { &["354"] }).await;
            hand.write(message).await;
        }
        let began = Instant::now();
        server.shutdown();
        sleep(grace / 2).await;
        // A second call changes nothing.
        server.shutdown();
        hand.expect("", &["421 4.3.2"]).await;
        assert_eq!(began.elapsed().as_secs(), grace.as_secs(), "{what} {message:?}");
        hand.ends().await;
        drop(hand);
        serving.await.unwrap();
        assert_eq!(seen.counts().await, (1, 1, 0), "{what} {message:?}");
        assert_eq!(*seen.log.lock().unwrap(), ["closed: Ok(())"]);
    }
}

#[tokio::test]
async fn to_listen_is_good_after_a_shutdown_and_an_error_names_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let deliver = async |_: Message| Ok(Reply::OK);
    let server = Server::new(config().build().unwrap(), Immediate(Users), deliver);
    let error = server.listen(address).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    let expected = format!("cannot listen on {address}: ");
    assert!(error.to_string().starts_with(&expected), "{error}");
    server.shutdown();
    server.listen("127.0.0.1:0").await.unwrap();
}
