//! How the cost of a session grows with the length of a line, and with the pieces that it comes in.

use std::{hint::black_box, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    sasl::{self, Mechanism, Query},
    server::{Config, Event, Session},
};

use super::{Row, Run, Work};

pub const COMMAND: Work = Work {
    name: "command-line",
    about: "a command line, in a session",
    times: 100,
    parts: 1,
    rows: &[
        whole(|| command(512, 4096)),
        twice(|| command(1024, 4096)),
        octets(|| command(512, 1)),
        octets_twice(|| command(1024, 1)),
    ],
};

pub const RESPONSE: Work = Work {
    name: "response-line",
    about: "the line of a response, in a session",
    times: 20,
    parts: 1,
    rows: &[
        whole(|| response(6144, 4096)),
        twice(|| response(12_288, 4096)),
        octets(|| response(6144, 1)),
        octets_twice(|| response(12_288, 1)),
    ],
};

pub const ENDLESS: Work = Work {
    name: "endless",
    about: "octets without a CRLF, read 4,096 at a time",
    times: 3,
    parts: 1,
    rows: &[whole(|| endless(500_000, 4096)), twice(|| endless(1_000_000, 4096))],
};

pub const TRACED: Work = Work {
    name: "traced",
    about: "EHLO, AUTH PLAIN and QUIT in a session",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(|| traced(false)).named("no hook"),
        Row::ours(|| traced(true)).named("a hook"),
    ],
};

const fn whole(make: fn() -> Run) -> Row {
    Row::ours(make).named("whole").aside(nothing)
}

const fn twice(make: fn() -> Run) -> Row {
    Row::ours(make).named("whole, twice as long").aside(nothing)
}

const fn octets(make: fn() -> Run) -> Row {
    Row::ours(make).named("octet by octet").aside(nothing)
}

const fn octets_twice(make: fn() -> Run) -> Row {
    Row::ours(make).named("octet by octet, twice as long").aside(nothing)
}

/// A session without the line.
fn nothing() -> Run {
    fed(b"EHLO c\r\nAUTH PLAIN\r\n".to_vec(), Vec::new(), 4096)
}

fn command(length: usize, piece: usize) -> Run {
    let line = format!("NOOP {:x<1$}\r\n", "", length - "NOOP \r\n".len());
    fed(b"EHLO c\r\n".to_vec(), line.into_bytes(), piece)
}

/// A password that the line is full of. CRLF is not counted.
fn response(length: usize, piece: usize) -> Run {
    let message = format!("\0u\0{:p<1$}", "", length / 4 * 3 - 3);
    let line = STANDARD.encode(message) + "\r\n";
    assert_eq!(line.len(), length + 2);
    fed(b"EHLO c\r\nAUTH PLAIN\r\n".to_vec(), line.into_bytes(), piece)
}

fn endless(length: usize, piece: usize) -> Run {
    fed(b"EHLO c\r\n".to_vec(), vec![b'x'; length], piece)
}

/// A session that is given `before`, and then `line` in pieces, and after each is asked what it needs.
fn fed(before: Vec<u8>, line: Vec<u8>, piece: usize) -> Run {
    let (config, mut out) = (config(), Vec::with_capacity(4096));
    Box::new(move || {
        out.clear();
        let mut session = Session::new(Arc::clone(&config));
        session.receive(black_box(&before));
        ask(&mut session, &mut out);
        for octets in line.chunks(piece) {
            session.receive(octets);
            ask(&mut session, &mut out);
        }
        black_box(&out);
    })
}

fn traced(hook: bool) -> Run {
    let (config, mut out) = (config(), Vec::with_capacity(4096));
    Box::new(move || {
        out.clear();
        let mut session = Session::new(Arc::clone(&config));
        if hook {
            session.trace(|side, line| {
                black_box((side, line));
            });
        }
        session.receive(b"EHLO c\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\nQUIT\r\n");
        ask(&mut session, &mut out);
        black_box(&out);
    })
}

fn config() -> Arc<Config> {
    let sasl = sasl::server::Config::builder("mail.example.org")
        .mechanisms(Mechanism::COMPILED)
        .allow_cleartext(true)
        .build()
        .unwrap();
    Arc::new(Config::builder("mail.example.org").sasl(sasl).build().unwrap())
}

/// Asks until more is needed. What need not be answered passes unseen.
fn ask(session: &mut Session, out: &mut Vec<u8>) {
    while !matches!(session.next(out), Event::NeedInput) {
        if !answered(session, out) {
            return;
        }
    }
}

#[inline(never)]
fn answered(session: &mut Session, out: &mut Vec<u8>) -> bool {
    match session.next(out) {
        Event::Close => false,
        Event::Query(Query::CheckPassword(ask)) => {
            let good = ask.password().expose().len() > 3;
            ask.answer(good);
            true
        }
        _ => true,
    }
}
