//! Messages over one connection, and what is known of one that was not accepted.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use smtp_auth_tokio::{
    client::{Client, Delivery, Error, ErrorKind, Stage},
    smtp_auth::client,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf, duplex},
    time::sleep,
};

use crate::support::{
    GREETING, HELLO, TRANSACTION, cleartext, listening, pipe, scripted, scripts, server, soon,
    starttls, to,
};

/// They can be spawned.
#[test]
fn futures_are_send() {
    fn is_send(_: impl Send) {}
    is_send(async {
        let mut client = starttls().connect().await.unwrap();
        let _ = client.send_from(&to(&["ann"]), tokio::io::empty()).await;
        let _ = client.noop().await;
        client.quit().await;
    });
}

#[tokio::test]
async fn messages_go_one_after_the_other() {
    let (address, _, inbox) = listening().await;
    let mut client = soon(starttls().addresses([address]).connect()).await.unwrap();
    let sent = soon(client.send(&to(&["ann"]), HELLO)).await.unwrap();
    assert_eq!((sent.reply.code(), sent.refused.len()), (250, 0));

    let sent = soon(client.send(&to(&["ann", "nobody", "bob"]), b"Two\r\n")).await.unwrap();
    let [refused] = sent.refused.as_slice() else { panic!("{sent:?}") };
    assert_eq!(refused.address(), "nobody@example.org");
    assert_eq!(refused.refusal().unwrap().reply().code(), 550);

    let error = soon(client.send(&to(&["nobody"]), HELLO)).await.unwrap_err();
    assert_eq!((error.stage(), error.delivery()), (Some(Stage::Rcpt), Delivery::Refused));
    assert!(error.to_string().contains("nobody@example.org: the server refused"), "{error}");
    let error = soon(client.send(&to(&["ann"]), b"Subject: Spam\r\n")).await.unwrap_err();
    assert_eq!((error.stage(), error.delivery()), (Some(Stage::Message), Delivery::Refused));
    assert!(!error.is_transient());
    assert!(error.to_string().contains("554 5.7.1 Spam"), "{error}");

    let long: Vec<u8> = (0..60_000).flat_map(|n| format!(".{n}\r\n").into_bytes()).collect();
    let sent = soon(client.send(&to(&["ann"]), &long)).await.unwrap();
    assert_eq!(sent.reply.code(), 250);
    // A last line that has no end gets one.
    let _ = soon(client.send_from(&to(&["ann"]), &b"no end"[..])).await.unwrap();
    assert_eq!(inbox.messages(), [HELLO, b"Two\r\n", &long, b"no end\r\n"]);
    assert_eq!(inbox.recipients()[1], ["ann@example.org", "bob@example.org"]);
    assert_eq!(inbox.connections(), 1);
    soon(client.quit()).await;
}

/// As a program that makes its message would do.
#[tokio::test]
async fn a_message_is_sent_as_it_comes() {
    let (server, inbox) = server();
    let mut client = soon(starttls().connect_over(pipe(&server))).await.unwrap();
    let (mut source, message) = duplex(64);
    let envelope = to(&["ann"]);
    let sending = client.send_from(&envelope, message);
    let writing = async move {
        for _ in 0..5 {
            source.write_all(b"A line\r\n").await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    };
    let (sent, ()) = soon(async { tokio::join!(sending, writing) }).await;
    assert_eq!(sent.unwrap().reply.code(), 250);
    assert_eq!(inbox.messages(), ["A line\r\n".repeat(5).into_bytes()]);
}

/// A message without end, of which it is known how much has been read.
struct Endless(Arc<AtomicUsize>);

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n";
        while room.remaining() >= line.len() {
            room.put_slice(line);
            self.0.fetch_add(line.len(), SeqCst);
        }
        Poll::Ready(Ok(()))
    }
}

async fn send_without_end(client: &mut Client) -> (Error, usize) {
    let read = Arc::new(AtomicUsize::new(0));
    let sent = soon(client.send_from(&to(&["ann"]), Endless(Arc::clone(&read)))).await;
    (sent.unwrap_err(), read.load(SeqCst))
}

const UNTIL_354: &str = "C: MAIL\nC: RCPT\nS: 250 ok\nS: 250 ok\nC: DATA\nS: 354 go on\n";

#[tokio::test]
async fn a_refusal_is_heard_while_the_message_goes_out() {
    for (last, code, delivery) in [
        ("S: 552 5.3.4 Too big\nWAIT", 552, Delivery::Refused),
        ("S: 552 5.3.4 Too big", 552, Delivery::Refused),
        ("S: 452 4.3.1 Full\nWAIT", 452, Delivery::Refused),
        ("S: 421 4.3.2 Shutting down", 421, Delivery::NotSent),
        // In pieces.
        (
            "T: 552-5.3.4 Too\nR: 2000\nS:  big\nR: 2000\nS: 552 5.3.4 By far\nWAIT",
            552,
            Delivery::Refused,
        ),
    ] {
        let script = format!("{GREETING}{UNTIL_354}R: 10000\n{last}");
        let (mut client, _playing) = scripted(&script).await;
        let began = Instant::now();
        let (error, read) = send_without_end(&mut client).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{last}: {:?}", began.elapsed());
        assert!((10_000..100_000).contains(&read), "{read} octets were read");
        assert_eq!(error.reply().map(|reply| reply.code()), Some(code), "{last}: {error:?}");
        assert_eq!((error.stage(), error.delivery()), (Some(Stage::Message), delivery), "{last}");
        let next = soon(client.send(&to(&["ann"]), HELLO)).await.unwrap_err();
        assert!(matches!(next.kind(), ErrorKind::Unusable), "{next:?}");
        assert_eq!((next.delivery(), next.is_transient()), (Delivery::NotSent, true));
    }
}

/// A socket that is closed while octets lie unread in it is reset. The words before that count all the same.
#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "others drop what came before a reset")]
async fn a_refusal_is_heard_before_the_connection_is_reset() {
    for (last, delivery) in [
        ("S: 552 5.3.4 Too big", Delivery::Refused),
        ("S: 421 4.3.2 Shutting down", Delivery::NotSent),
    ] {
        let script = format!("{GREETING}{UNTIL_354}R: 100000\n{last}");
        for _ in 0..20 {
            let (address, _) = scripts(std::slice::from_ref(&script)).await;
            let mut client = soon(cleartext().addresses([address]).connect()).await.unwrap();
            let (error, _) = send_without_end(&mut client).await;
            assert_eq!((error.stage(), error.delivery()), (Some(Stage::Message), delivery));
            assert!(error.reply().is_some(), "{error:?}");
        }
    }
}

/// While a server takes nothing, little is read of a message.
#[tokio::test(start_paused = true)]
async fn a_message_is_not_held_in_memory() {
    let (mut client, _playing) = scripted(&format!("{GREETING}{UNTIL_354}WAIT")).await;
    let began = tokio::time::Instant::now();
    let read = Arc::new(AtomicUsize::new(0));
    let sent = client.send_from(&to(&["ann"]), Endless(Arc::clone(&read))).await;
    let error = sent.unwrap_err();
    assert!(read.load(SeqCst) <= 50_000, "{}", read.load(SeqCst));
    assert_eq!(began.elapsed().as_secs(), 180);
    assert_eq!((error.stage(), error.delivery()), (Some(Stage::Message), Delivery::NotSent));
    assert!(error.is_transient());
}

/// Nor is one waited for that takes nothing and says now and then an octet of a line that does not end.
#[tokio::test(start_paused = true)]
async fn octets_of_a_line_that_does_not_end_win_no_time_for_a_message() {
    let trickle = "T: 4\nP: 60000\n".repeat(100);
    let script = format!("{GREETING}{UNTIL_354}{trickle}WAIT");
    let (mut client, _playing) = scripted(&script).await;
    let began = tokio::time::Instant::now();
    let sent = client.send_from(&to(&["ann"]), Endless(Arc::default())).await;
    let error = sent.unwrap_err();
    assert_eq!(error.stage(), Some(Stage::Message), "{error:?}");
    assert_eq!(began.elapsed().as_secs(), 180);
}

/// Where a connection ends, and what is known of the message then.
#[tokio::test]
async fn what_is_known_of_a_message_depends_on_its_end() {
    for (script, stage, delivery) in [
        ("", Stage::Rest, Delivery::NotSent),
        ("C: MAIL\n", Stage::Rest, Delivery::NotSent),
        ("C: MAIL\nC: RCPT\nS: 250 ok\n", Stage::Rcpt, Delivery::NotSent),
        ("C: MAIL\nC: RCPT\nS: 250 ok\nS: 421 bye\n", Stage::Rcpt, Delivery::NotSent),
        ("C: MAIL\nC: RCPT\nS: 250 ok\nS: 250 ok\nC: DATA\n", Stage::Data, Delivery::NotSent),
        (TRANSACTION, Stage::Message, Delivery::Unknown),
        (&format!("{TRANSACTION}T: 25"), Stage::Message, Delivery::Unknown),
        (&format!("{TRANSACTION}S: nonsense"), Stage::Message, Delivery::Unknown),
        (&format!("{TRANSACTION}S: 554 no"), Stage::Message, Delivery::Refused),
        (&format!("{TRANSACTION}S: 451 no"), Stage::Message, Delivery::Refused),
        (&format!("{TRANSACTION}S: 421 no"), Stage::Message, Delivery::NotSent),
    ] {
        let (mut client, playing) = scripted(&format!("{GREETING}{script}")).await;
        let error = soon(client.send(&to(&["ann"]), HELLO)).await.unwrap_err();
        assert_eq!(
            (error.stage(), error.delivery()),
            (Some(stage), delivery),
            "{script}: {error:?}"
        );
        let says_so = error.to_string().ends_with(
            "after the whole message had been sent: the server may have accepted it, so check before you send it again",
        );
        assert_eq!(says_so, delivery == Delivery::Unknown, "{error}");
        // Whoever sends again what may succeed later sends nothing twice.
        let is_transient = delivery == Delivery::NotSent || error.to_string().contains("451");
        assert_eq!(error.is_transient(), is_transient, "{error:?}");
        drop(client);
        playing.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_does_not_come_is_waited_for_as_long_as_the_standard_says() {
    for (script, stage, minutes, delivery) in [
        ("C: MAIL\nWAIT", Stage::Mail, 5, Delivery::NotSent),
        ("C: MAIL\nC: RCPT\nS: 250 ok\nWAIT", Stage::Rcpt, 5, Delivery::NotSent),
        (&UNTIL_354.replace("S: 354 go on", "WAIT"), Stage::Data, 2, Delivery::NotSent),
        (&format!("{TRANSACTION}WAIT"), Stage::Message, 10, Delivery::Unknown),
    ] {
        let (mut client, _playing) = scripted(&format!("{GREETING}{script}")).await;
        let began = tokio::time::Instant::now();
        let error = client.send(&to(&["ann"]), HELLO).await.unwrap_err();
        assert_eq!((error.stage(), error.delivery()), (Some(stage), delivery), "{error:?}");
        assert_eq!(began.elapsed().as_secs(), minutes * 60);
    }
}

/// Not all of the message has gone out, and the server has its last word: a yes is none, as it has not seen the end, and the
/// rest of the message would be taken for commands.
#[tokio::test]
async fn a_reply_before_the_end_is_the_last() {
    // It does not fit into the pipe, whose other end is not read.
    let message = "A line\r\n".repeat(1000).into_bytes();
    for (reply, delivery) in
        [("250 ok", Delivery::Unknown), ("552 5.3.4 Too big", Delivery::Refused)]
    {
        let script = format!("{GREETING}{UNTIL_354}R: 10\nS: {reply}\nWAIT");
        let (mut client, _playing) = scripted(&script).await;
        let error = soon(client.send(&to(&["ann"]), &message)).await.unwrap_err();
        assert_eq!(
            (error.stage(), error.delivery()),
            (Some(Stage::Message), delivery),
            "{error:?}"
        );
        let next = soon(client.send(&to(&["ann"]), HELLO)).await.unwrap_err();
        assert_eq!((next.delivery(), next.reply()), (Delivery::NotSent, None), "{next:?}");
        soon(client.quit()).await;
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_not_sent() {
    let (server, inbox) = server();
    let mut client = soon(starttls().connect_over(pipe(&server))).await.unwrap();
    let source = (&b"Subject: Half\r\n\r\n"[..]).chain(broken());
    let error = soon(client.send_from(&to(&["ann"]), source)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Read(_)), "{error:?}");
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert!(error.to_string().contains("could not be read, and was not sent: the disk"), "{error}");
    let error = soon(client.noop()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unusable), "{error:?}");

    let mut client = soon(starttls().connect_over(pipe(&server))).await.unwrap();
    let error = soon(client.send(&to(&["ann"]), b"Subject: Unix\n\nHi\n")).await.unwrap_err();
    assert!(error.to_string().contains("end each of its lines in CRLF"), "{error}");
    assert_eq!((error.delivery(), error.is_transient()), (Delivery::NotSent, false));
    sleep(Duration::from_millis(50)).await;
    assert!(inbox.messages().is_empty());
}

/// A reader that fails.
fn broken() -> impl AsyncRead + Send + Unpin {
    struct Broken;
    impl AsyncRead for Broken {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other("the disk is broken")))
        }
    }
    Broken
}

#[tokio::test]
async fn an_envelope_has_what_the_message_tells() {
    let script = format!("{GREETING}C: QUIT\nS: 221 bye");
    let (mut client, playing) = scripted(&script).await;
    let error = soon(client.send(&to(&["ann"]), "Grüße\r\n".as_bytes())).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotAccepted(_)), "{error:?}");
    assert!(error.to_string().contains("8BITMIME, which the server does not offer"), "{error}");
    assert_eq!((error.delivery(), error.is_transient()), (Delivery::NotSent, false));
    soon(client.quit()).await;
    playing.await.unwrap();

    let greeting = "S: 220 script\nC: EHLO\nS: 250-script\nS: 250-SIZE\nS: 250 8BITMIME\n";
    let script = format!("{greeting}C: MAIL FROM:<tim@example.org> SIZE=9 BODY=8BITMIME");
    let (mut client, playing) = scripted(&script).await;
    assert!(soon(client.send(&to(&["ann"]), "Grüße\r\n".as_bytes())).await.is_err());
    playing.await.unwrap();
}

#[tokio::test]
async fn a_closed_connection_is_found_at_the_next_message() {
    for end in ["", "S: 421 4.3.2 Idle for too long"] {
        let (mut client, playing) =
            scripted(&format!("{GREETING}{TRANSACTION}S: 250 ok\n{end}")).await;
        let _ = soon(client.send(&to(&["ann"]), HELLO)).await.unwrap();
        playing.await.unwrap();
        let error = soon(client.send(&to(&["ann"]), HELLO)).await.unwrap_err();
        let found = matches!(error.kind(), ErrorKind::Session(client::Error::Closed(_)));
        assert!(found && error.is_transient(), "{error:?}");
        assert_eq!(error.delivery(), Delivery::NotSent);
        assert_eq!(error.reply().is_some(), !end.is_empty());
        let again = soon(client.noop()).await.unwrap_err();
        assert!(matches!(again.kind(), ErrorKind::Unusable), "{again:?}");
    }
}

#[tokio::test]
async fn the_dialogue_can_be_traced() {
    let lines = Arc::new(std::sync::Mutex::new(String::new()));
    let traced = Arc::clone(&lines);
    let (server, _) = server();
    let connector = starttls().trace(move |side, line| {
        *traced.lock().unwrap() += &format!("{side}: {line}\n");
    });
    let mut client = soon(connector.connect_over(pipe(&server))).await.unwrap();
    let _ = soon(client.send(&to(&["ann"]), HELLO)).await.unwrap();
    let lines = lines.lock().unwrap();
    assert!(lines.contains("AUTH SCRAM-SHA-256-PLUS ***") && lines.contains("RCPT TO"), "{lines}");
}
