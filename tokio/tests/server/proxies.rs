//! The PROXY protocol, on a port: from whom it is taken, and what follows from it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use smtp_auth_tokio::{
    Network, TlsConnect, rustls,
    server::{Limits, Observer, Peer, Server},
    smtp_auth::sasl::Immediate,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

use crate::support::{Careless, Certificate, Hand, Tested, Users, config, server};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56789 587\r\n";
/// The same in version 2, with a TLV that says TLS and a client certificate, as `send-proxy-v2-ssl-cn` of HAProxy does.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x25\xC0\x00\x02\x01\xC0\x00\x02\x02\xDD\xD5\x02\x4B\
    \x20\x00\x16\x07\x00\x00\x00\x00\x21\x00\x07TLSv1.3\x22\x00\x03tim\x01";
/// As HAProxy 2.6 sent it, with `ssl,cert-cn,crc32c,unique-id`, from a client at 127.0.0.9.
const HAPROXY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n!\x11\x00B\x7f\x00\x00\t\x7f\x00\x00\x01\xe1\x15\x0b\xbd\x03\x00\x04\x86UJ\x95\
    \x05\x00$10560d4e-3809-4e81-99c3-320425fd1e20 \x00\x05\x00\x00\x00\x00\x00";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
const CLIENT: &str = "192.0.2.1:56789";

/// Notes whose connections there were, and how they ended.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<String>>>);

impl Noting {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl Observer for Noting {
    fn connected(&self, peer: &Peer) {
        self.note(format!("connected {}", peer.address().unwrap()));
    }

    fn closed(&self, _: &Peer, outcome: Result<(), &std::io::Error>) {
        self.note(format!("closed {:?}", outcome.map_err(std::io::Error::kind)));
    }

    fn turned_away(&self, address: Option<SocketAddr>, _: &smtp_auth_tokio::smtp_auth::Reply) {
        self.note(format!("turned away {}", address.unwrap()));
    }
}

/// A server that takes the header from 127.0.0.1, on a port.
async fn proxied(server: Tested, tls: bool) -> (Noting, SocketAddr) {
    listening(server, [127, 0, 0, 1], tls).await
}

/// A server that takes the header from that address. Where it is another than 127.0.0.1, the clients here are no proxies.
async fn listening(server: Tested, proxy: [u8; 4], tls: bool) -> (Noting, SocketAddr) {
    let noting = Noting::default();
    let server = server.proxies([IpAddr::from(proxy).into()]).observer(noting.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        match tls {
            true => server.serve_tls(listener).await.unwrap(),
            false => server.serve(listener).await,
        }
    });
    (noting, address)
}

/// All that is heard.
async fn all(socket: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = timeout(Duration::from_secs(5), socket.read_to_end(&mut heard)).await.unwrap();
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_address_is_the_headers_however_that_is_split() {
    let (noting, address) = proxied(server("", Limits::default()).0, false).await;
    for (header, said) in [
        (V1, Some(CLIENT)),
        (V2, Some(CLIENT)),
        (HAPROXY, Some("127.0.0.9:57621")),
        (LOCAL, None),
        (b"PROXY UNKNOWN\r\n", None),
    ] {
        for split in 1..=header.len() {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.set_nodelay(true).unwrap();
            let own = socket.local_addr().unwrap().to_string();
            socket.write_all(&header[..split]).await.unwrap();
            if split % 8 == 0 {
                sleep(Duration::from_millis(5)).await;
            }
            // What follows in the same piece is the dialogue's.
            let rest = [&header[split..], b"EHLO hand\r\nQUIT\r\n"].concat();
            socket.write_all(&rest).await.unwrap();
            let heard = String::from_utf8(all(&mut socket).await).unwrap();
            assert!(heard.starts_with("220 ") && heard.contains("\r\n221 "), "{heard:?}");
            drop(socket);
            sleep(Duration::from_millis(1)).await;
            let expected = said.unwrap_or(&own);
            assert!(noting.take().contains(&format!("connected {expected}")), "{split}");
        }
    }
}

#[tokio::test]
async fn a_header_that_is_missing_or_out_of_place_ends_the_connection_without_a_reply() {
    let (noting, address) = proxied(server("", Limits::default()).0, false).await;
    for wrong in [&b"EHLO hand\r\n"[..], b"PROXY TCP4 nobody\r\n", b"\x16\x03\x01", b"PROX", b""] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(wrong).await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(all(&mut socket).await, b"", "{}", wrong.escape_ascii());
    }
    sleep(Duration::from_millis(20)).await;
    let noted = noting.take();
    assert_eq!(noted.len(), 10, "{noted:?}");
    assert!(noted.contains(&"closed Err(InvalidData)".to_owned()));
    assert!(noted.contains(&"closed Err(UnexpectedEof)".to_owned()));
    // From another address. The greeting is out by then.
    let (noting, address) = listening(server("", Limits::default()).0, [192, 0, 2, 7], false).await;
    for header in [V1, V2, LOCAL] {
        for split in 1..=header.len() {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.set_nodelay(true).unwrap();
            let mut greeting = [0; 512];
            let greeted = socket.read(&mut greeting).await.unwrap();
            assert!(
                greeting[..greeted].starts_with(b"220 ") && greeting[..greeted].ends_with(b"\r\n")
            );
            socket.write_all(&header[..split]).await.unwrap();
            if split < 14 {
                sleep(Duration::from_millis(5)).await;
            }
            // It may be closed already.
            let _ = socket.write_all(&[&header[split..], b"EHLO hand\r\n"].concat()).await;
            let heard = String::from_utf8(all(&mut socket).await).unwrap();
            // Version 2 begins with empty lines, which are answered where the rest of it comes later.
            let is_answered = header != V1 && (2..12).contains(&split);
            let is_right = heard.lines().all(|line| line.starts_with("500 ") && is_answered);
            assert!(is_right, "{split}: {heard}");
        }
    }
    sleep(Duration::from_millis(20)).await;
    let noted = noting.take();
    let closed = noted.iter().filter(|line| *line == "closed Err(InvalidData)").count();
    assert_eq!(closed, V1.len() + V2.len() + LOCAL.len(), "{noted:?}");
    // Whoever only begins like that is heard.
    let mut hand = Hand::new(TcpStream::connect(address).await.unwrap());
    hand.expect("\r\n\r\nPROX\r\nNOOP\r\n", &["220", "500", "500", "500", "250"]).await;
    let mut hand = Hand::new(TcpStream::connect(address).await.unwrap());
    hand.expect("\r\n", &["220", "500"]).await;
    hand.expect("\r\n", &["500"]).await;
    hand.expect("NOOP\r\n", &["250"]).await;
    let mut hand = Hand::new(TcpStream::connect(address).await.unwrap());
    hand.expect("PROXIMITY\r\nPROXY TCP4\r\nNOOP\r\n", &["220", "500", "500", "250"]).await;
}

#[tokio::test]
async fn the_header_has_the_time_of_the_handshake() {
    let limits = Limits::default().handshake(Duration::from_millis(300));
    let (noting, address) = proxied(server("", limits).0, false).await;
    for part in [&b""[..], &V1[..20], &V2[..20]] {
        let began = Instant::now();
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(part).await.unwrap();
        assert_eq!(all(&mut socket).await, b"");
        assert!((200..2_000).contains(&began.elapsed().as_millis()));
        assert_eq!(noting.take()[1..], ["closed Err(TimedOut)"]);
    }
}

#[tokio::test]
async fn limits_by_address_count_the_client_and_not_the_proxy() {
    let limits = Limits::default().connections_each(1).connections(3);
    let (noting, address) = proxied(server("", limits).0, false).await;
    let connect = async |n: u8| {
        let mut hand = Hand::new(TcpStream::connect(address).await.unwrap());
        hand.write(&format!("PROXY TCP4 192.0.2.{n} 192.0.2.200 1000 25\r\n")).await;
        hand.write("NOOP\r\n").await;
        hand.0.flush().await.unwrap();
        let heard = hand.hear().await;
        (hand, heard)
    };
    let (one, greeting) = connect(1).await;
    assert!(greeting.starts_with("220"));
    let (two, greeting) = connect(2).await;
    assert!(greeting.starts_with("220"));
    let (_again, refusal) = connect(1).await;
    assert!(refusal.starts_with("421 4.7.0"), "{refusal}");
    assert!(noting.take().contains(&"turned away 192.0.2.1:1000".to_owned()));
    // The place of the one that was sent away is free, also in all.
    let (_three, greeting) = connect(3).await;
    assert!(greeting.starts_with("220"));
    drop(one);
    sleep(Duration::from_millis(50)).await;
    let (_one, greeting) = connect(1).await;
    assert!(greeting.starts_with("220"));
    drop(two);
    sleep(Duration::from_millis(50)).await;
    // A header that does not come takes a place in all.
    let _silent = TcpStream::connect(address).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let (_five, refusal) = connect(5).await;
    assert!(refusal.starts_with("421 4.3.2"), "{refusal}");
}

/// So does the rate limiter.
#[tokio::test]
async fn failures_count_at_the_clients_network() {
    let limiter =
        smtp_auth_tokio::MemoryRateLimiter::new().network_limit(std::num::NonZeroU32::MIN);
    let users = Server::new(config().build().unwrap(), Immediate(Users), Careless::default());
    let (_, address) = proxied(users.rate_limiter(limiter), false).await;
    let sign_in = async |n: u8, response: &str| {
        let mut hand = Hand::new(TcpStream::connect(address).await.unwrap());
        hand.write(&format!("PROXY TCP4 192.0.2.{n} 192.0.2.200 1000 25\r\n")).await;
        hand.expect("EHLO hand\r\n", &["220", "250"]).await;
        hand.say(&format!("AUTH PLAIN {response}\r\n")).await
    };
    let right = "AHRpbQB0YW5zdGFhZnRhbnN0YWFm";
    assert!(sign_in(1, "AHRvbQB3cm9uZw==").await.starts_with("535"));
    assert!(sign_in(2, right).await.starts_with("235"));
    assert!(sign_in(1, right).await.starts_with("535"));
}

/// What the TLVs say of TLS and a certificate is nothing to this server; TLS begins after the header.
#[tokio::test]
async fn the_header_comes_before_tls_and_is_none() {
    let own = Certificate::new();
    let server = || server("", Limits::default()).0.tls(own.server());
    let (_, clear) = proxied(server(), false).await;
    let mut hand = Hand::new(TcpStream::connect(clear).await.unwrap());
    hand.0.write_all(V2).await.unwrap();
    hand.hear().await;
    let ehlo = hand.say("EHLO hand\r\n").await;
    assert!(ehlo.contains("STARTTLS") && !ehlo.contains("EXTERNAL"), "{ehlo}");
    hand.expect("AUTH EXTERNAL =\r\n", &["504"]).await;
    for implicit in [false, true] {
        let (noting, address) = proxied(server(), implicit).await;
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(V2).await.unwrap();
        if !implicit {
            let mut hand = Hand::new(socket);
            hand.expect("EHLO hand\r\nSTARTTLS\r\n", &["220", "250", "220"]).await;
            let client = own.client(rustls::ALL_VERSIONS);
            let (stream, _) = client.connect("localhost", hand.0.into_inner()).await.unwrap();
            Hand::new(stream).expect("EHLO hand\r\n", &["250"]).await;
        } else {
            let client = own.client(rustls::ALL_VERSIONS);
            let (stream, _) = client.connect("localhost", Box::new(socket)).await.unwrap();
            Hand::new(stream).expect("EHLO hand\r\n", &["220", "250"]).await;
        }
        assert_eq!(noting.take()[0], format!("connected {CLIENT}"));
    }
}

/// Whoever stops in the middle of what may become a header is a client that takes too long, as any other: at the end of the
/// idle time, of the time to authenticate, and at a shutdown.
#[tokio::test(start_paused = true)]
async fn a_beginning_that_is_left_undecided_ends_as_any_other_silence() {
    // The empty lines are answered.
    for (begin, answers) in [("P", &[][..]), ("PROXY", &[]), ("\r\n\r\n", &["500", "500"])] {
        let (idle, _) = server("", Limits::default());
        let slow = Server::new(config().build().unwrap(), Immediate(Users), Careless::default());
        let (stopped, _) = server("", Limits::default());
        for (server, seconds, reply) in
            [(idle, 300, "421 4.4.2 "), (slow, 180, "421 4.4.2 "), (stopped, 1, "421 4.3.2 ")]
        {
            let (own, theirs) = tokio::io::duplex(1 << 16);
            let serving = server.clone();
            let serving = tokio::spawn(async move { serving.serve_stream(theirs, None).await });
            let mut hand = Hand::new(own);
            hand.expect("", &["220"]).await;
            let began = Instant::now();
            hand.expect(begin, answers).await;
            if seconds == 1 {
                sleep(Duration::from_secs(1)).await;
                server.shutdown();
            }
            hand.expect("", &[reply]).await;
            hand.ends().await;
            assert_eq!(began.elapsed().as_secs(), seconds);
            serving.await.unwrap();
        }
    }
}

/// A listener on `[::]` sees IPv4 clients as `::ffff:192.0.2.1`, and so may a proxy write them: a list of addresses in the
/// application would miss them.
#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "others listen on `[::]` for IPv6 alone")]
async fn an_ipv4_address_is_one_however_it_is_written() {
    let noting = Noting::default();
    let proxy = Network::from(IpAddr::from([127, 0, 0, 1]));
    let server = server("", Limits::default()).0.proxies([proxy]).observer(noting.clone());
    let listener = TcpListener::bind("[::]:0").await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    // There is no header: whose connection that would have been is noted all the same.
    drop(TcpStream::connect(address).await.unwrap());
    sleep(Duration::from_millis(50)).await;
    assert!(noting.take()[0].starts_with("connected 127.0.0.1:"));
    let mut hand = Hand::new(TcpStream::connect(address).await.unwrap());
    hand.write("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 56789 587\r\n").await;
    hand.expect("QUIT\r\n", &["220", "221"]).await;
    assert!(noting.take().contains(&"connected 192.0.2.1:56789".to_owned()));
    let (own, theirs) = tokio::io::duplex(1 << 16);
    let mapped = "[::ffff:192.0.2.1]:25".parse().unwrap();
    tokio::spawn(async move { server.serve_stream(theirs, Some(mapped)).await });
    Hand::new(own).expect("QUIT\r\n", &["220", "221"]).await;
    assert!(noting.take().contains(&"connected 192.0.2.1:25".to_owned()));
}
