//! How many there may be, and that last words arrive.

use std::{sync::Arc, time::Duration};

use smtp_auth_tokio::server::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::support::{Certificate, Hand, server};

#[tokio::test]
async fn one_connection_too_many() {
    let limits = Limits::default().connections(3).connections_each(2);
    let (server, _) = server("", limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    let connect = async || Hand::new(TcpStream::connect(address).await.unwrap());
    let (mut one, mut two, mut three) = (connect().await, connect().await, connect().await);
    assert!(one.hear().await.starts_with("220"));
    assert!(two.hear().await.starts_with("220"));
    assert!(three.hear().await.starts_with("421 4.7.0 Too many connections from your address"));
    three.ends().await;
    // Without an address it counts in all alone.
    let (mut four, _) = Hand::to(&server).await;
    let (own, theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn({
        let server = server.clone();
        async move { server.serve_stream(theirs, None).await }
    });
    let mut five = Hand::new(own);
    assert!(five.hear().await.starts_with("421 4.3.2 Too many connections"));
    five.ends().await;
    // Its place is free once one has gone.
    one.expect("QUIT\r\n", &["221"]).await;
    one.ends().await;
    drop(one);
    sleep(Duration::from_millis(50)).await;
    let mut six = connect().await;
    assert!(six.hear().await.starts_with("220"));
    four.expect("NOOP\r\n", &["250"]).await;
    two.expect("NOOP\r\n", &["250"]).await;
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_for_all_connections_together() {
    let (server, seen) = server("hang", Limits::default().memory(64 << 10));
    let (mut hand, _) = Hand::to(&server).await;
    hand.until_data().await;
    let part = "0123456789\r\n".repeat(3_000);
    hand.write(&part).await;
    sleep(Duration::from_millis(10)).await;
    let (mut other, _) = Hand::to(&server).await;
    other.until_data().await;
    other.expect(&format!("{part}.\r\nNOOP\r\n"), &["452 4.3.1", "250"]).await;
    assert_eq!(seen.counts().await, (2, 1, 0));
    // What has gone has given back its part.
    drop(hand);
    sleep(Duration::from_millis(10)).await;
    other.until_data().await;
    other.expect(&format!("{part}.\r\n"), &["451"]).await;
}

#[tokio::test]
async fn last_words_survive_unread_input() {
    let own = Certificate::new();
    for tls in [false, true] {
        let server = server("", Limits::default()).0.tls(own.server());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn({
            let server = server.clone();
            async move {
                match tls {
                    true => server.serve_tls(listener).await.unwrap(),
                    false => server.serve(listener).await,
                }
            }
        });
        let socket = TcpStream::connect(address).await.unwrap();
        let mut hand = if tls {
            let client = own.client(smtp_auth_tokio::rustls::ALL_VERSIONS);
            let client: Arc<dyn smtp_auth_tokio::TlsConnect> = Arc::new(client);
            let (stream, _) = client.connect("localhost", Box::new(socket)).await.unwrap();
            Hand::new(stream)
        } else {
            Hand::new(socket)
        };
        // The server says goodbye at the first command, and has not read what follows.
        hand.hear().await;
        hand.write("QUIT\r\n").await;
        let junk = "x".repeat(1000);
        for _ in 0..100 {
            hand.write(&junk).await;
        }
        hand.0.flush().await.unwrap();
        sleep(Duration::from_millis(200)).await;
        // A reset would have come by now, and may overtake the last words.
        hand.write(&junk).await;
        hand.0.flush().await.unwrap();
        assert!(hand.hear().await.starts_with("221"), "TLS: {tls}");
        assert_eq!(hand.0.read(&mut [0; 16]).await.unwrap(), 0, "TLS: {tls}");
        // It does not listen for ever to a client that goes on: to so many octets, and for so long.
        let mut octets = 0;
        let goes_on = async {
            while hand.0.write_all(junk.as_bytes()).await.is_ok() {
                octets += junk.len();
            }
        };
        timeout(Duration::from_secs(20), goes_on).await.unwrap();
        assert!(octets < 64 << 20, "{octets}");
    }
}

/// Whoever is sent away may have said much before it hears why.
#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "others drop what came before a reset")]
async fn being_sent_away_survives_unread_input() {
    let (server, _) = server("", Limits::default().connections(1));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    let mut first = Hand::new(TcpStream::connect(address).await.unwrap());
    assert!(first.hear().await.starts_with("220"));
    let mut second = Hand::new(TcpStream::connect(address).await.unwrap());
    for _ in 0..3 {
        second.write(&"NOOP\r\n".repeat(1000)).await;
        second.0.flush().await.unwrap();
        // A reset would have come by now, and may overtake the reply.
        sleep(Duration::from_millis(100)).await;
    }
    assert!(second.hear().await.starts_with("421 4.3.2 Too many connections"));
    second.ends().await;
    drop(second);
    // Only so many are listened to, and each is told all the same.
    let crowd = (0..150).map(|_| TcpStream::connect(address));
    let mut told = Vec::new();
    for connected in crowd {
        let mut hand = Hand::new(connected.await.unwrap());
        assert!(hand.hear().await.starts_with("421 4.3.2"));
        told.push(hand);
    }
    sleep(Duration::from_millis(100)).await;
    let mut listened_to = 0;
    for hand in &mut told {
        // The end is heard by all; what is said to a socket that is closed comes back as an error.
        hand.ends().await;
        let _ = hand.0.write_all(b"NOOP\r\n").await;
        let _ = hand.0.flush().await;
    }
    sleep(Duration::from_millis(100)).await;
    for hand in &mut told {
        let said = hand.0.write_all(b"NOOP\r\n").await;
        listened_to += usize::from(said.is_ok() && hand.0.flush().await.is_ok());
    }
    assert_eq!(listened_to, 100);
    drop(told);
    first.expect("QUIT\r\n", &["221"]).await;
    server.shutdown();
    timeout(Duration::from_secs(15), serving).await.unwrap().unwrap();
}

/// A client that expects TLS could not read a reply.
#[tokio::test]
async fn one_too_many_inside_tls_is_closed_without_a_word() {
    let (server, _) = server("", Limits::default().connections(0));
    let server = server.tls(Certificate::new().server());
    let (own, theirs) = tokio::io::duplex(1 << 16);
    let mut hand = Hand::new(own);
    server.serve_tls_stream(theirs, None).await.unwrap();
    hand.ends().await;
}
