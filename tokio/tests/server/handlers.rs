//! Handlers with every fault, and messages that do not come to a good end.

use smtp_auth_tokio::{
    server::{Limits, Message, Server},
    smtp_auth::{
        Answer, Authenticator, CheckPassword, Mechanism, Reply,
        ehlo::Keyword,
        sasl::{self, Immediate},
        server::Config,
    },
};
use tokio::sync::mpsc;

use crate::support::{Careless, Hand, Users, config, open, server};

const MESSAGE: &str = "Subject: a\r\n\r\n..b\r\n.\r\n";

#[tokio::test(start_paused = true)]
async fn half_a_message_is_never_a_whole_one() {
    for what in ["", "hang", "copy"] {
        // The client disconnects.
        let (server, seen) = server(what, Limits::default());
        let (mut hand, serving) = Hand::to(&server).await;
        assert!(hand.until_data().await.starts_with("354"));
        hand.write("Subject: half\r\n\r\nhalf a mes").await;
        drop(hand);
        serving.await.unwrap();
        assert_eq!(seen.counts().await, (1, 1, 0), "{what}");
        assert_eq!(*seen.log.lock().unwrap(), ["closed: Err(UnexpectedEof)"]);

        // It closes its side alone.
        let (mut hand, serving) = Hand::to(&server).await;
        hand.until_data().await;
        hand.write("Subject: half\r\n\r\nhalf a mes").await;
        tokio::io::AsyncWriteExt::shutdown(&mut hand.0).await.unwrap();
        hand.ends().await;
        serving.await.unwrap();
        assert_eq!(seen.counts().await, (2, 2, 0), "{what}");

        // It is silent.
        let (mut hand, _) = Hand::to(&server).await;
        hand.until_data().await;
        assert!(hand.say("Subject: half\r\n\r\nhalf a mes").await.starts_with("421 4.4.2"));
        hand.ends().await;
        assert_eq!(seen.counts().await, (3, 3, 0), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_does_not_swallow_the_next_command() {
    let (server, seen) = server("", Limits::default());
    let (mut hand, serving) = Hand::to(&server).await;
    let large = "0123456789\r\n".repeat(10_000);
    for (n, (message, refusal)) in
        [("a\nb\r\n.\r\n", "554 5.6.0"), (&*(large + ".\r\n"), "552 5.3.4")].iter().enumerate()
    {
        hand.until_data().await;
        // The next transaction comes at once.
        let next = "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nRSET\r\n";
        hand.expect(&format!("{message}{next}"), &[refusal, "250 2.1.0", "250 2.1.5", "250"]).await;
        assert_eq!(seen.counts().await, (2 * n + 2, 2 * n + 2, 0));
    }
    hand.until_data().await;
    hand.expect("good\r\n.\r\n", &["250"]).await;
    assert_eq!(seen.counts().await, (5, 5, 1));
    // Between the chunks of BDAT.
    hand.expect("MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n", &["250", "250"]).await;
    hand.expect("BDAT 5\r\nhello", &["250"]).await;
    hand.expect("VRFY x\r\n", &["252"]).await;
    hand.expect("RSET\r\nMAIL FROM:<a@b.c>\r\n", &["250", "250 2.1.0"]).await;
    hand.expect("RCPT TO:<d@e.f>\r\nBDAT 7 LAST\r\ngood.\r\nQUIT\r\n", &["250", "250", "221"])
        .await;
    assert_eq!(seen.counts().await, (7, 7, 2));
    hand.ends().await;
    drop(hand);
    serving.await.unwrap();
    assert_eq!(*seen.log.lock().unwrap(), ["closed: Ok(())"]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_read_to_the_end() {
    for (what, to_data, to_end, whole) in [
        ("refuse", "452", "", 0),
        ("accept unread", "451", "", 0),
        ("accept half", "354", "451", 0),
        ("refuse half", "354", "452", 0),
        ("stall unread", "451", "", 0),
        ("copy", "354", "250", 1),
        ("pieces", "354", "250", 1),
        ("hang", "354", "451", 0),
    ] {
        let (server, seen) = server(what, Limits::default());
        let (mut hand, _) = Hand::to(&server).await;
        let said = hand.until_data().await;
        assert!(said.starts_with(to_data), "{what}: {said}");
        if !to_end.is_empty() {
            hand.expect(MESSAGE, &[to_end]).await;
        }
        assert_eq!(seen.counts().await, (1, 1, whole), "{what}");
        // The next command is read as one.
        hand.expect("MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n", &["250", "250"]).await;
        let to_bdat = if whole == 1 {
            "250"
        } else if to_end.is_empty() {
            to_data
        } else {
            to_end
        };
        let bdat = format!("BDAT 18 LAST\r\n{}QUIT\r\n", "Subject: a\r\n\r\n.b\r\n");
        hand.expect(&bdat, &[to_bdat, "221"]).await;
    }
    // It stalls in the middle: the message takes too long as a whole.
    let (server, seen) = server("stall half", Limits::default());
    let (mut hand, _) = Hand::to(&server).await;
    hand.until_data().await;
    hand.expect(MESSAGE, &["421 4.4.2"]).await;
    assert_eq!(seen.counts().await, (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handlers_answers_to_mail_and_rcpt() {
    let (server, seen) = server("", Limits::default());
    let (mut hand, _) = Hand::to(&server).await;
    hand.expect("MAIL FROM:<nobody@b.c>\r\nDATA\r\n", &["550", "503"]).await;
    hand.expect("MAIL FROM:<a@b.c>\r\n", &["250"]).await;
    for (to, code) in [("nobody", "550"), ("fool", "451"), ("slow", "451")] {
        hand.expect(&format!("RCPT TO:<{to}@b.c>\r\n"), &[code]).await;
    }
    hand.expect("DATA\r\nHELP\r\n", &["503", "502"]).await;
    // All at once.
    let all = "RCPT TO:<a@b.c>\r\nDATA\r\na\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.c>\r\n\
        BDAT 2 LAST\r\n\r\nVRFY x\r\nQUIT\r\n";
    hand.expect(all, &["250", "354", "250", "250", "250", "250", "252", "221"]).await;
    assert_eq!(seen.counts().await, (2, 2, 2));
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_alone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (server, seen) = server("panic half", Limits::default().connections(2));
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    let connect = async || {
        let mut hand = Hand::new(tokio::net::TcpStream::connect(address).await.unwrap());
        assert!(hand.hear().await.starts_with("220"));
        hand.expect("EHLO hand\r\n", &["250"]).await;
        hand
    };
    let mut other = connect().await;
    for command in ["RCPT TO:<panic@e.f>\r\n", "RCPT TO:<d@e.f>\r\nDATA\r\na\r\n"] {
        let mut hand = connect().await;
        hand.expect("MAIL FROM:<a@b.c>\r\n", &["250"]).await;
        hand.write(command).await;
        while !hand.hear().await.is_empty() {}
        seen.counts().await;
    }
    assert_eq!(seen.counts().await, (2, 2, 0));
    other.expect("NOOP\r\n", &["250"]).await;
    // The places are free again.
    let _hand = connect().await;
    server.shutdown();
    other.expect("", &["421"]).await;
    drop((other, _hand));
    serving.await.unwrap();
}

#[tokio::test]
async fn parameters_that_are_not_offered_are_refused() {
    let (server, _) = server("", Limits::default());
    let (mut hand, _) = Hand::to(&server).await;
    hand.expect("MAIL FROM:<a@b.c> RET=HDRS\r\n", &["555"]).await;
    hand.expect("MAIL FROM:<a@b.c> SMTPUTF8\r\n", &["555"]).await;
    hand.expect("MAIL FROM:<\u{e9}@b.c>\r\n", &["553 5.6.7"]).await;
    hand.expect("MAIL FROM:<a@b.c> SIZE=10 BODY=8BITMIME\r\n", &["250"]).await;
    hand.expect("RCPT TO:<d@e.f> NOTIFY=NEVER\r\n", &["555"]).await;
    hand.expect("RCPT TO:<\u{e9}@e.f>\r\n", &["553 5.6.7"]).await;

    let dsn = config().allow_unauthenticated(true).keyword(Keyword::Dsn);
    let dsn = dsn.keyword(Keyword::SmtpUtf8).build().unwrap();
    let server = Server::new(dsn.clone(), Immediate(Users), Careless::default());
    let (mut hand, _) = Hand::to(&server).await;
    hand.expect("MAIL FROM:<\u{e9}@b.c> RET=HDRS SMTPUTF8\r\n", &["250"]).await;
    hand.expect("RCPT TO:<\u{e9}@e.f> NOTIFY=NEVER\r\n", &["250"]).await;

    // A function is not told of them.
    let server = Server::new(dsn, Immediate(Users), async |_: Message| Ok(Reply::OK));
    let (mut hand, _) = Hand::to(&server).await;
    hand.expect("MAIL FROM:<a@b.c> RET=HDRS\r\n", &["555"]).await;
    hand.expect("MAIL FROM:<a@b.c> SMTPUTF8\r\n", &["250"]).await;
    hand.expect("RCPT TO:<d@e.f> NOTIFY=NEVER\r\n", &["555"]).await;
}

#[tokio::test]
async fn a_function_takes_whole_messages() {
    let (sender, mut arrived) = mpsc::unbounded_channel();
    let deliver = move |message: Message| {
        let sent = sender.send(message).map_err(|_| Reply::LOCAL_ERROR);
        async { sent.map(|()| Reply::OK.with_text("queued as 17")) }
    };
    let server = Server::new(open(), Immediate(Users), deliver);
    let (mut hand, serving) = Hand::to(&server).await;
    for from in ["", "a@b.c"] {
        let text = format!("MAIL FROM:<{from}>\r\nRCPT TO:<d@e.f>\r\nRCPT TO:<g@h.i>\r\nDATA\r\n");
        hand.expect(&text, &["250", "250", "250", "354"]).await;
        assert_eq!(hand.say(MESSAGE).await, "250 2.0.0 queued as 17\r\n");
        let message = arrived.recv().await.unwrap();
        assert_eq!(message.from.as_deref().unwrap_or_default(), from);
        assert_eq!(message.to, ["d@e.f", "g@h.i"]);
        assert_eq!(message.octets, b"Subject: a\r\n\r\n.b\r\n");
        assert_eq!((message.peer.hello(), message.peer.is_extended()), ("hand", true));
        assert!(!message.peer.is_tls() && message.peer.identity().is_none());
    }
    drop(hand);
    serving.await.unwrap();
    assert!(arrived.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_unwelcome_client_is_sent_away() {
    let (server, _) = server("unwelcome", Limits::default());
    let (own, theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move { server.serve_stream(theirs, None).await });
    let mut hand = Hand::new(own);
    assert_eq!(hand.hear().await, "554 5.7.1 Not you\r\n");
    hand.ends().await;
}

/// The protocol is RFC 3848's; what a client calls itself comes from EHLO.
#[tokio::test]
async fn a_message_has_its_received_field() {
    use smtp_auth_tokio::{BoxStream, Handshake, TlsAccept, smtp_auth::Channel};
    struct Safe;
    impl TlsAccept for Safe {
        fn accept(&self, stream: BoxStream) -> Handshake<'_> {
            Box::pin(async { Ok((stream, Channel::tls())) })
        }
    }
    let auth = "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n";
    let guest = "AUTH ANONYMOUS =\r\n";
    for (tls, hello, before, parameter, expected) in [
        (
            false,
            "EHLO a.example",
            "",
            "",
            "from a.example ([192.0.2.1])\r\n by localhost with ESMTP;",
        ),
        (
            false,
            "HELO a.example",
            "",
            "",
            "from a.example ([192.0.2.1])\r\n by localhost with SMTP;",
        ),
        (true, "EHLO a.example", "", "", "\r\n by localhost with ESMTPS;"),
        (false, "EHLO a.example", auth, "", "\r\n by localhost with ESMTPA;"),
        (true, "EHLO a.example", auth, "", "\r\n by localhost with ESMTPSA;"),
        (true, "EHLO a.example", guest, "", "\r\n by localhost with ESMTPS;"),
        (false, "EHLO a.example", auth, " SMTPUTF8", "\r\n by localhost with UTF8SMTPA;"),
        (true, "EHLO a.example", auth, " SMTPUTF8", "\r\n by localhost with UTF8SMTPSA;"),
        (
            false,
            "EHLO x)(by\\y",
            "",
            "",
            "from [192.0.2.1] ([192.0.2.1]) (named x??by?y)\r\n by localhost with",
        ),
        (false, "EHLO x) by bank.example", "", "", ""),
    ] {
        let (sender, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        let deliver = move |message: Message| {
            let _ = sender.send(message.received().to_string());
            std::future::ready(Ok(Reply::OK))
        };
        let mechanisms = [Mechanism::Plain, Mechanism::Anonymous];
        let sasl = sasl::server::Config::builder("localhost").mechanisms(mechanisms);
        let sasl = sasl.allow_cleartext(true).build().unwrap();
        let config = Config::builder("localhost").sasl(sasl).allow_unauthenticated(true);
        let config = config.keyword(Keyword::SmtpUtf8).build().unwrap();
        let server = Server::new(config, Immediate(Guests), deliver).tls(Safe);
        let (own, theirs) = tokio::io::duplex(1 << 16);
        let address = Some(([192, 0, 2, 1], 25).into());
        tokio::spawn(async move {
            match tls {
                true => server.serve_tls_stream(theirs, address).await.unwrap(),
                false => server.serve_stream(theirs, address).await,
            }
        });
        let mut hand = Hand::new(own);
        if expected.is_empty() {
            // No more than a name gets as far as that.
            hand.expect(&format!("{hello}\r\n"), &["220", "501"]).await;
            continue;
        }
        hand.expect(&format!("{hello}\r\n"), &["220", "250"]).await;
        if !before.is_empty() {
            hand.expect(before, &["235"]).await;
        }
        let envelope = format!("MAIL FROM:<a@b.c>{parameter}\r\nRCPT TO:<d@e.f>\r\nDATA\r\n");
        hand.expect(&envelope, &["250", "250", "354"]).await;
        hand.expect("a\r\n.\r\n", &["250"]).await;
        let field = arrived.recv().await.unwrap();
        assert!(field.contains(expected), "{field}");
    }
}

struct Guests;

impl Authenticator for Guests {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain, Mechanism::Anonymous]
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        Users.check_password(ask)
    }

    fn check_anonymous(&self, _: &sasl::CheckAnonymous) -> Answer {
        true.into()
    }
}
