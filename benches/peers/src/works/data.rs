//! The octets of a message: received by DATA on a server, in pieces as they arrive, into a new buffer for each message;
//! and sent by a client, out of such pieces.

use std::hint::black_box;

use smtp_auth::{client, sasl, server};
use smtp_proto::request::receiver::DataReceiver;

use super::{Row, Run, Work};

/// How many a message has, to within a line.
const OCTETS: usize = 1_000_000;

/// The length of the lines, CRLF not counted, and what they begin with.
type Lines = (usize, &'static str);

macro_rules! received {
    ($name:literal, $what:literal, $lines:expr, $kib:literal) => {
        received!($name, $what, $lines, $kib, OCTETS)
    };
    ($name:literal, $what:literal, $lines:expr, $kib:literal, $octets:expr) => {
        Work {
            name: $name,
            about: concat!(
                "1,000 octets of a message received by DATA (allocations: all of it), ",
                $what,
                ", ",
                $kib,
                " KiB at a time"
            ),
            times: 3,
            parts: $octets as u64 / 1000,
            rows: &[
                Row::ours(|| session($lines, $kib << 10, $octets)),
                Row::peer("smtp-proto", || receiver($lines, $kib << 10, $octets))
                    .note("finds no bare CR or LF"),
                Row::yardstick("memcpy", || copied($lines, $kib << 10, $octets)),
            ],
        }
    };
}

macro_rules! sent {
    ($name:literal, $what:literal, $lines:expr) => {
        Work {
            name: $name,
            about: concat!(
                "1,000 octets of a message sent by a client (allocations: all of it), ",
                $what,
                ", 16 KiB at a time"
            ),
            times: 3,
            parts: OCTETS as u64 / 1000,
            rows: &[
                Row::ours(|| body($lines, write)),
                Row::ours(|| body($lines, pieces)).named("smtp-auth, pieces"),
                Row::peer("smtp-proto", || receiver($lines, 16 << 10, OCTETS)).note("receives it"),
                Row::yardstick("memcpy", || copied($lines, 16 << 10, OCTETS)),
            ],
        }
    };
}

pub const LINES_76: Work = received!("data", "lines of 76", (76, ""), 16);
pub const SMALL_PIECES: Work = received!("data-4k", "lines of 76", (76, ""), 4);
pub const LARGE: Work =
    received!("data-20m", "lines of 76, in a message of 20 MB", (76, ""), 16, 20 * OCTETS);
pub const LARGE_PIECES: Work = received!("data-64k", "lines of 76", (76, ""), 64);
pub const LINES_998: Work = received!("data-998", "lines of 998", (998, ""), 16);
pub const LINES_1: Work = received!("data-1", "lines of 1", (1, ""), 16);
pub const EMPTY: Work = received!("data-0", "empty lines", (0, ""), 16);
pub const DOTS_76: Work = received!("data-dots", "lines of 76, each stuffed", (77, ".."), 16);
pub const DOTS_1: Work = received!("data-dots-1", "lines of 1, each stuffed", (2, ".."), 16);
pub const SENT_76: Work = sent!("body", "lines of 76", (76, ""));
pub const SENT_1: Work = sent!("body-1", "lines of 1", (1, ""));
pub const SENT_DOTS: Work = sent!("body-dots", "lines of 76, each to be stuffed", (76, "."));

fn text((length, begin): Lines, octets: usize) -> Vec<u8> {
    let line = format!("{begin:x<length$}\r\n");
    line.repeat(octets / line.len()).into_bytes()
}

/// A session within a message that does not end.
fn session(lines: Lines, piece: usize, octets: usize) -> Run {
    let sasl = sasl::server::Config::builder("mail.example.org")
        .mechanisms(sasl::Mechanism::COMPILED)
        .build()
        .unwrap();
    let config = server::Config::builder("mail.example.org").sasl(sasl);
    let config = config.allow_unauthenticated(true).max_message(u64::MAX).build().unwrap();
    let (mut session, mut out) = (server::Session::new(config.into()), Vec::new());
    session.receive(b"EHLO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    loop {
        match session.next(&mut out) {
            server::Event::Command(_, ask) => ask.reply(smtp_auth::reply::Reply::OK),
            server::Event::StartOfData(permission) => permission.accept(),
            server::Event::NeedInput => break,
            _ => {}
        }
    }
    assert!(out.windows(6).any(|octets| octets == b"\r\n354 "));
    let text = text(lines, octets);
    let stuffed = if lines.1 == ".." { octets / (lines.0 + 2) } else { 0 };
    let expected = text.len() - stuffed;
    Box::new(move || {
        let mut message = Vec::new();
        for octets in black_box(&text).chunks(piece) {
            session.receive(octets);
            while let server::Event::Data(octets) = session.next(&mut out) {
                message.extend_from_slice(octets);
            }
        }
        assert_eq!(black_box(&message).len(), expected);
    })
}

fn receiver(lines: Lines, piece: usize, octets: usize) -> Run {
    let text = text(lines, octets);
    let mut receiver = DataReceiver::new();
    Box::new(move || {
        let mut message = Vec::new();
        for octets in black_box(&text).chunks(piece) {
            assert!(!receiver.ingest(&mut octets.iter(), &mut message));
        }
        black_box(&message);
    })
}

fn copied(lines: Lines, piece: usize, octets: usize) -> Run {
    let text = text(lines, octets);
    Box::new(move || {
        let mut message = Vec::new();
        for octets in black_box(&text).chunks(piece) {
            message.extend_from_slice(octets);
        }
        black_box(&message);
    })
}

/// A client within a message that does not end.
fn body(lines: Lines, send: fn(&mut client::Body, &[u8], &mut Vec<u8>)) -> Run {
    let config = client::Config::builder("c").tls(client::Tls::Never).build().unwrap();
    let (mut session, mut out) = (client::Session::without_credentials(config.into()), Vec::new());
    session.receive(b"220 s\r\n");
    loop {
        match session.next(&mut out).unwrap() {
            client::Event::NeedInput => session.receive(match &out[..4] {
                b"DATA" => b"354 go on\r\n",
                _ => b"250 OK\r\n",
            }),
            client::Event::Ready(ready) => {
                ready
                    .send(client::Envelope::new(Some("a@example.org"), ["b@example.org"]).unwrap());
            }
            client::Event::Message(_) => break,
            other => panic!("{other:?}"),
        }
        out.clear();
    }
    let (text, mut out) = (text(lines, OCTETS), Vec::with_capacity(64 << 10));
    Box::new(move || {
        let Ok(client::Event::Message(body)) = session.next(&mut out) else { panic!("over") };
        for octets in black_box(&text).chunks(16 << 10) {
            out.clear();
            send(body, octets, &mut out);
            black_box(&out);
        }
    })
}

fn write(body: &mut client::Body, octets: &[u8], out: &mut Vec<u8>) {
    body.write(octets, out).unwrap();
}

fn pieces(body: &mut client::Body, octets: &[u8], _: &mut Vec<u8>) {
    body.pieces(octets).unwrap().for_each(|piece| {
        black_box(piece);
    });
}
