//! A whole session with a message of two kilobytes, on a server and on a client. What one side says is at hand, and
//! comes in as many pieces as the other has to wait for.

use std::{
    hint::black_box,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    slice,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use lettre::{
    address::Envelope,
    transport::smtp::{
        authentication::{Credentials as LettreCredentials, Mechanism as LettreMechanism},
        client::{AsyncSmtpConnection, AsyncTokioStream},
        extension::ClientId,
    },
};
use mail_send::{Credentials as MailSendCredentials, SmtpClient, smtp::message::Message};
use mailin::{AuthMechanism, Handler, Response, SessionBuilder, response};
use smtp_auth::{
    Channel, client,
    reply::Reply,
    sasl::{self, Mechanism, Query, client::Credentials},
    server,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Row, Run, Work};
use crate::inputs::{AUTH_PLAIN, PASSWORD, USER};

pub const SERVER: Work = Work {
    name: "session-server",
    about: "EHLO, AUTH PLAIN, MAIL, RCPT, DATA of 2 kB and QUIT on a server, from its first octet to its last",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(server),
        Row::peer("mailin", mailin),
        Row::yardstick("copies and base64", server_floor)
            .note("of the octets in and out; nothing is read in them"),
    ],
};

pub const CLIENT: Work = Work {
    name: "session-client",
    about: "EHLO, AUTH PLAIN, MAIL, RCPT, DATA of 2 kB and QUIT on a client, from its first octet to its last",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(client),
        Row::peer("mail-send", mail_send),
        Row::peer("lettre", lettre),
        Row::yardstick("copies and base64", client_floor)
            .note("of the octets in and out; nothing is read in them"),
    ],
};

/// What a client sends, and waits after. The message stands before `QUIT`.
const TURNS: [&[u8]; 5] = [
    b"EHLO client.example.org\r\n",
    AUTH_PLAIN,
    b"MAIL FROM:<tim@example.org>\r\n",
    b"RCPT TO:<ann@example.net>\r\n",
    b"DATA\r\n",
];

const QUIT: &[u8] = b"QUIT\r\n";

/// What a server sends, and waits after. It does not list PIPELINING, as not all of the clients make use of it.
const REPLIES: [&[u8]; 8] = [
    b"220 mail.example.org ESMTP\r\n",
    b"250-mail.example.org\r\n250-SIZE 35882577\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n250 ENHANCEDSTATUSCODES\r\n",
    b"235 2.7.0 Authentication succeeded\r\n",
    b"250 2.1.0 OK\r\n",
    b"250 2.1.5 OK\r\n",
    b"354 Start mail input; end with <CRLF>.<CRLF>\r\n",
    b"250 2.0.0 OK\r\n",
    b"221 2.0.0 Bye\r\n",
];

/// Twenty-six lines of 76.
fn message() -> Vec<u8> {
    format!("{:x<76}\r\n", "").repeat(26).into_bytes()
}

/// What a client sends in place of a message.
fn data() -> Vec<u8> {
    [message(), b".\r\n".to_vec()].concat()
}

fn server() -> Run {
    let sasl = sasl::server::Config::builder("mail.example.org").mechanisms([Mechanism::Plain]);
    let config = server::Config::builder("mail.example.org").sasl(sasl.build().unwrap());
    let config = Arc::new(config.build().unwrap());
    let (data, mut out) = (data(), Vec::with_capacity(1024));
    Box::new(move || {
        out.clear();
        let mut message = Vec::new();
        let mut session = server::Session::new(Arc::clone(&config));
        session.tls_started(Channel::tls());
        let mut turns = TURNS.into_iter().chain([&data[..], QUIT]);
        loop {
            match session.next(&mut out) {
                server::Event::NeedInput => session.receive(black_box(turns.next().unwrap())),
                server::Event::Query(Query::CheckPassword(ask)) => {
                    let good = ask.authcid() == USER && ask.password().expose() == PASSWORD;
                    ask.answer(good);
                }
                server::Event::Command(_, ask) => ask.reply(Reply::OK),
                server::Event::StartOfData(permission) => permission.accept(),
                server::Event::Data(octets) => message.extend_from_slice(octets),
                server::Event::EndOfData(ask) => ask.reply(Reply::OK),
                server::Event::Close => break,
                server::Event::Hello(_) | server::Event::Authenticated(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(black_box(&message).len(), data.len() - 3);
        assert!(black_box(&out).windows(4).rev().any(|octets| octets == b"221 "));
    })
}

/// Keeps the message as the application around this crate's session does.
#[derive(Default)]
struct Keeping {
    message: Vec<u8>,
}

impl Handler for &mut Keeping {
    fn data(&mut self, octets: &[u8]) -> io::Result<()> {
        self.message.extend_from_slice(octets);
        Ok(())
    }

    fn auth_plain(&mut self, _: &str, name: &str, password: &str) -> Response {
        let good = name == USER && password == PASSWORD;
        if good { response::AUTH_OK } else { response::INVALID_CREDENTIALS }
    }
}

fn mailin() -> Run {
    let mut builder = SessionBuilder::new("mail.example.org");
    builder.enable_auth(AuthMechanism::Plain).enable_start_tls();
    let (data, mut out) = (data(), Vec::with_capacity(1024));
    Box::new(move || {
        out.clear();
        let mut kept = Keeping::default();
        let mut session = builder.build(IpAddr::V4(Ipv4Addr::LOCALHOST), &mut kept);
        session.tls_active();
        session.greeting().write_to(&mut out).unwrap();
        for octets in TURNS.into_iter().chain([&data[..], QUIT]) {
            for line in black_box(octets).split_inclusive(|octet| *octet == b'\n') {
                let response = session.process(line);
                if response.action != response::Action::NoReply {
                    response.write_to(&mut out).unwrap();
                }
            }
        }
        drop(session);
        assert_eq!(black_box(&kept.message).len(), data.len() - 3);
        assert!(black_box(&out).windows(4).rev().any(|octets| octets == b"221 "));
    })
}

fn server_floor() -> Run {
    let (data, replies) = (data(), REPLIES.concat());
    let mut out = Vec::with_capacity(1024);
    Box::new(move || {
        out.clear();
        let (mut arrived, mut message) = (Vec::new(), Vec::new());
        for octets in TURNS.into_iter().chain([&data[..], QUIT]) {
            arrived.clear();
            arrived.extend_from_slice(black_box(octets));
        }
        message.extend_from_slice(black_box(&data));
        out.extend_from_slice(black_box(&replies));
        let response = &AUTH_PLAIN["AUTH PLAIN ".len()..AUTH_PLAIN.len() - 2];
        black_box((STANDARD.decode(response).unwrap(), &arrived, &message, &out));
    })
}

fn client() -> Run {
    let config = Arc::new(client::Config::builder("client.example.org").build().unwrap());
    let credentials = Credentials::password(USER, PASSWORD).unwrap();
    let (message, mut out) = (message(), Vec::with_capacity(4096));
    Box::new(move || {
        out.clear();
        let mut session = client::Session::new(Arc::clone(&config), credentials.clone());
        session.tls_started(Channel::tls());
        let mut replies = REPLIES.into_iter();
        let mut sent = false;
        loop {
            match session.next(&mut out).unwrap() {
                client::Event::NeedInput => session.receive(black_box(replies.next().unwrap())),
                client::Event::Ready(ready) if sent => ready.quit(),
                client::Event::Ready(ready) => ready.send(
                    client::Envelope::new(Some("tim@example.org"), ["ann@example.net"]).unwrap(),
                ),
                client::Event::Message(body) => {
                    body.write(black_box(&message), &mut out).unwrap();
                    body.end(&mut out).unwrap();
                }
                client::Event::Sent(outcome) => {
                    sent = matches!(outcome, client::Outcome::Accepted { .. });
                }
                client::Event::Close => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(sent && black_box(&out).ends_with(QUIT));
    })
}

/// A server whose replies are at hand, and what it has been sent.
#[derive(Debug)]
struct Server {
    replies: slice::Iter<'static, &'static [u8]>,
    sent: Vec<u8>,
}

impl Server {
    fn new() -> Self {
        Self { replies: REPLIES.iter(), sent: Vec::with_capacity(4096) }
    }
}

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        room.put_slice(black_box(self.replies.next().unwrap()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Server {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sent.extend_from_slice(octets);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncTokioStream for Server {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 25)))
    }
}

/// A runtime with its timer, which mail-send asks for.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// What never has to wait is done at the first poll.
fn at_once<T>(task: impl Future<Output = T>) -> T {
    match pin!(task).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn mail_send() -> Run {
    let runtime = runtime();
    let message = message();
    let credentials = MailSendCredentials::new(USER, PASSWORD);
    Box::new(move || {
        let _entered = runtime.enter();
        at_once(async {
            let (stream, timeout) = (Server::new(), Duration::from_secs(60));
            let mut client = SmtpClient { stream, timeout };
            assert_eq!(client.read().await.unwrap().code, 220);
            let ehlo = client.ehlo("client.example.org").await.unwrap();
            client.authenticate(&credentials, &ehlo).await.unwrap();
            let message =
                Message::new("tim@example.org", ["ann@example.net"], black_box(&message[..]));
            client.send(message).await.unwrap();
            assert!(client.stream.sent.ends_with(b"\r\n.\r\n"));
            client.quit().await.unwrap();
        });
    })
}

fn lettre() -> Run {
    let message = message();
    let credentials = LettreCredentials::new(USER.to_owned(), PASSWORD.to_owned());
    let name = ClientId::Domain("client.example.org".to_owned());
    let from = "tim@example.org".parse().unwrap();
    let envelope = Envelope::new(Some(from), vec!["ann@example.net".parse().unwrap()]).unwrap();
    Box::new(move || {
        at_once(async {
            let stream = Box::new(Server::new());
            let connected = AsyncSmtpConnection::connect_with_transport(stream, &name).await;
            let mut client = connected.unwrap();
            client.auth(&[LettreMechanism::Plain], &credentials).await.unwrap();
            client.send(&envelope, black_box(&message)).await.unwrap();
            client.quit().await.unwrap();
        });
    })
}

fn client_floor() -> Run {
    let (message, mut out) = (message(), Vec::with_capacity(4096));
    let response = format!("\0{USER}\0{PASSWORD}");
    Box::new(move || {
        out.clear();
        let mut arrived = Vec::new();
        for octets in REPLIES {
            arrived.clear();
            arrived.extend_from_slice(black_box(octets));
        }
        for octets in TURNS.into_iter().chain([&message[..], b".\r\n", QUIT]) {
            out.extend_from_slice(black_box(octets));
        }
        black_box((STANDARD.encode(black_box(&response)), &arrived, &out));
    })
}
