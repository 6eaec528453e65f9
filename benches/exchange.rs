//! Lines parsed, replies read, and whole exchanges on a server.
//!
//! `cargo bench --bench exchange`

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may stop at the first surprise")]

use core::hint::black_box;
use std::sync::Arc;

use divan::{Bencher, counter::BytesCount};
use smtp_auth::{
    auth, command,
    ehlo::Ehlo,
    reply::ReplyRef,
    sasl::{self, Channel, CramSecret, Mechanism, Nonce, Query},
    server,
};

fn main() {
    divan::main();
}

const LINES: &[&str] = &[
    "EHLO client.example.org",
    "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm",
    "AUTH LOGIN",
    "AUTH CRAM-MD5",
    "MAIL FROM:<tim@example.org> SIZE=12345 BODY=8BITMIME AUTH=tim@example.org",
    "RCPT TO:<ann@example.net>",
    "DATA",
    "QUIT",
    "STARTTLS",
];

#[divan::bench]
fn nine_command_lines(bencher: Bencher<'_, '_>) {
    let octets: usize = LINES.iter().map(|line| line.len()).sum();
    bencher.counter(BytesCount::new(octets)).bench_local(|| {
        for line in LINES {
            black_box(command::parse(black_box(line.as_bytes())).unwrap());
        }
    });
}

#[divan::bench]
fn ehlo_reply_of_ten_lines(bencher: Bencher<'_, '_>) {
    const REPLY: &[u8] = b"250-mail.example.org at your service\r\n250-SIZE 35882577\r\n\
        250-8BITMIME\r\n250-AUTH LOGIN PLAIN CRAM-MD5\r\n250-ENHANCEDSTATUSCODES\r\n\
        250-PIPELINING\r\n250-CHUNKING\r\n250-STARTTLS\r\n250-DSN\r\n250 SMTPUTF8\r\n";
    bencher.counter(BytesCount::new(REPLY.len())).bench_local(|| {
        let ehlo = Ehlo::new(ReplyRef::parse(black_box(REPLY)).unwrap());
        (ehlo.keywords().count(), ehlo.mechanisms().count())
    });
}

fn config() -> Arc<sasl::server::Config> {
    let config = sasl::server::Config::builder("mail.example.org")
        .mechanisms(Mechanism::COMPILED)
        .nonces(|| Nonce::new("0123456789abcdef"))
        .build()
        .unwrap();
    Arc::new(config)
}

fn answer(query: Query<'_>, secret: &CramSecret) {
    match query {
        Query::CheckPassword(ask) => {
            let good = ask.password() == "tanstaaftanstaaf";
            ask.answer(good);
        }
        Query::CramSecret(ask) => ask.answer(Some(secret.clone())),
        other => other.reject(),
    }
}

/// One AUTH command on a server, from its arguments to the reply's octets.
fn exchange(bencher: Bencher<'_, '_>, args: &str, lines: &[&str]) {
    let (config, channel) = (config(), Channel::tls());
    let secret = CramSecret::from_password("tanstaaftanstaaf");
    let mut out = Vec::with_capacity(256);
    bencher.bench_local(|| {
        out.clear();
        let mut lines = lines.iter();
        let mut auth = auth::server::Exchange::new(&config, &channel, black_box(args.as_bytes()));
        loop {
            match auth.step(&mut out) {
                auth::server::Step::NeedLine(slot) => slot.line(lines.next().unwrap().as_bytes()),
                auth::server::Step::Query(query) => answer(query, &secret),
                auth::server::Step::Done(outcome) => break outcome.is_ok(),
            }
        }
    });
    assert!(out.ends_with(b"235 2.7.0 Authentication succeeded\r\n"));
}

#[divan::bench]
fn server_plain(bencher: Bencher<'_, '_>) {
    exchange(bencher, "PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm", &[]);
}

#[divan::bench]
fn server_login(bencher: Bencher<'_, '_>) {
    exchange(bencher, "LOGIN", &["dGlt", "dGFuc3RhYWZ0YW5zdGFhZg=="]);
}

#[divan::bench]
fn server_cram_md5(bencher: Bencher<'_, '_>) {
    // The digest of `<0123456789abcdef@mail.example.org>` under the password.
    exchange(bencher, "CRAM-MD5", &["dGltIDY4YzEwZjc4YTRiMjk2MmNiNDJkNjgxYjNjOTZhYWU1"]);
}

#[divan::bench]
fn server_session_with_plain(bencher: Bencher<'_, '_>) {
    let sasl = sasl::server::Config::builder("mail.example.org")
        .mechanisms(Mechanism::COMPILED)
        .allow_cleartext(true)
        .build()
        .unwrap();
    let config = Arc::new(server::Config::builder("mail.example.org").sasl(sasl).build().unwrap());
    let secret = CramSecret::from_password("tanstaaftanstaaf");
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        let mut session = server::Session::new(Arc::clone(&config));
        session.receive(b"EHLO c\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\nQUIT\r\n");
        loop {
            match session.next(&mut out) {
                server::Event::Query(query) => answer(query, &secret),
                server::Event::Hello(_) | server::Event::Authenticated(_) => {}
                _ => break,
            }
        }
    });
    assert!(out.ends_with(b"221 2.0.0 Goodbye\r\n"));
}
