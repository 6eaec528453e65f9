//! A client that stops reading, or sends an octet a minute.

use std::time::Duration;

use smtp_auth_tokio::{
    server::{Limits, Server},
    smtp_auth::sasl::Immediate,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex, split},
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    faulty::{At, Faulty, How, Listener, MESSAGE, served},
    runtimes::{CLOSE, Pace, on_both},
    support::{Certificate, Users, open},
};

const IDLE: u32 = 10;

fn server(pace: Pace) -> (Server<Immediate<Users>, Faulty>, std::sync::Arc<crate::faulty::Book>) {
    let faulty = Faulty::new(At::Never, How::Stall);
    let book = faulty.book.clone();
    let limits = Limits::default()
        .idle(pace.units(IDLE))
        .message(pace.units(4 * IDLE))
        .handshake(pace.units(3));
    let server = Server::new(open(), Immediate(Users), faulty);
    (server.tls(Certificate::new().server()).limits(limits), book)
}

/// Nothing more is read of it than fits, it is left after its time, and what it was told nothing of is kept all the same.
async fn stops_reading(pace: Pace, said: &'static [&'static str], then: String, kept: usize) {
    let (server, book) = server(pace);
    let (own, serving) = served(&server, 16);
    let mut client = Listener::new(own);
    client.say_all(said).await;
    let (began, what) = (Instant::now(), then.len());
    let writing = tokio::spawn(async move {
        client.write(&then).await;
        std::future::pending::<()>().await;
    });
    serving.await.unwrap();
    // The one reply to the message fits into the pipe, so that only the last words are not taken.
    let last_words = if kept == 0 { Duration::ZERO } else { CLOSE };
    pace.assert_took(began, pace.units(IDLE) + last_words, (said, what));
    book.assert_kept(kept, (said, what));
    writing.abort();
}

#[test]
fn a_client_that_stops_reading_is_left() {
    const EHLO: &str = "EHLO c\r\n";
    const MAIL: &str = "MAIL FROM:<a@b.c>\r\n";
    const RCPT: &str = "RCPT TO:<d@e.f>\r\n";
    on_both(async |pace| {
        let mut cases = JoinSet::new();
        cases.spawn(stops_reading(pace, &[], EHLO.to_owned(), 0));
        cases.spawn(stops_reading(pace, &[EHLO], "NOOP\r\n".repeat(10_000), 0));
        cases.spawn(stops_reading(pace, &[EHLO, MAIL], RCPT.repeat(10_000), 0));
        cases.spawn(stops_reading(pace, &[EHLO, MAIL, RCPT, "DATA\r\n"], MESSAGE.to_owned(), 1));
        // Between the chunks.
        let chunks = "BDAT 5\r\nhello".repeat(1000);
        cases.spawn(stops_reading(pace, &[EHLO, MAIL, RCPT], chunks, 0));
        cases.join_all().await;
    });
}

/// One octet in each unit of time, as far as the server listens. What it says, and when.
async fn one_by_one(
    pace: Pace,
    said: &'static [&'static str],
    then: &'static str,
    told: &'static str,
    after: u32,
) {
    let (server, book) = server(pace);
    let (own, serving) = served(&server, 1 << 10);
    let mut client = Listener::new(own);
    // The time begins before the client hears of it.
    let began = Instant::now();
    client.say_all(said).await;
    let (mut reader, mut writer) = split(client.stream);
    let writing = tokio::spawn(async move {
        for octet in then.as_bytes().iter().cycle() {
            if writer.write_all(&[*octet]).await.is_err() || writer.flush().await.is_err() {
                return;
            }
            sleep(pace.units(1)).await;
        }
    });
    let mut heard = String::new();
    reader.read_to_string(&mut heard).await.unwrap();
    assert!(heard.starts_with(told), "{then}: {heard}");
    pace.assert_took(began, pace.units(after), then);
    writing.abort();
    drop(reader);
    serving.await.unwrap();
    book.assert_kept(0, said);
}

#[test]
fn an_octet_in_each_unit_of_time_wins_no_more_than_the_limits() {
    const UNTIL_DATA: &[&str] =
        &["EHLO c\r\n", "MAIL FROM:<a@b.c>\r\n", "RCPT TO:<d@e.f>\r\n", "DATA\r\n"];
    on_both(async |pace| {
        let mut cases = JoinSet::new();
        for (said, then, told, after) in [
            // A command, and a line of an exchange, have the time of one.
            (&UNTIL_DATA[..1], "NOOP NOOP NOOP", "421 4.4.2", IDLE),
            (&["EHLO c\r\n", "AUTH PLAIN\r\n"], "AHRpbQB0YW5zdGFhZnRhbnN0", "421 4.4.2", IDLE),
            // A message has one as a whole. Of a chunk, the command comes first.
            (UNTIL_DATA, "a line\r\n", "421 4.4.2", 4 * IDLE),
            (&UNTIL_DATA[..3], "BDAT 1000\r\n", "421 4.4.2", IDLE),
        ] {
            cases.spawn(one_by_one(pace, said, then, told, after));
        }
        cases.join_all().await;
        // So has a handshake.
        let (server, _) = server(pace);
        let (mut own, theirs) = duplex(1 << 10);
        let began = Instant::now();
        let writing = tokio::spawn(async move {
            let record = [0x16, 3, 1, 2, 0, 1].into_iter().chain(std::iter::repeat(0));
            for octet in record {
                if own.write_all(&[octet]).await.is_err() {
                    break;
                }
                sleep(pace.units(1) / 2).await;
            }
        });
        server.serve_tls_stream(theirs, None).await.unwrap();
        pace.assert_took(began, pace.units(3), "TLS");
        writing.await.unwrap();
    });
}
