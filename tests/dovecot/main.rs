//! Dovecot's authentication protocol: dialogues, lines of both sides, limits, and what a trace shows.
#![cfg(all(feature = "default", feature = "dovecot-auth"))]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

mod any_order;
mod limits;
mod lines;
mod pair;
mod secrets;
mod transcripts;

use std::sync::Arc;

use smtp_auth::{
    dovecot::{Cookie, Event, Session},
    sasl::{Mechanism, Nonce, server::Config},
};

/// A session with every mechanism that is compiled in, of which some are not offered.
fn session() -> Session {
    session_of(config().build().unwrap().into())
}

fn session_of(config: Arc<Config>) -> Session {
    Session::new(config, 11, 22, Cookie::new(*b"0123456789abcdef"))
}

fn config() -> smtp_auth::sasl::server::Builder {
    Config::builder("mail.example.org")
        .mechanisms(Mechanism::COMPILED)
        .nonces(|| Nonce::new("ofTheServer"))
        .salt_key("0123456789abcdef")
        .scram_iterations(1)
}

/// A session that has shaken hands with a client of that minor version, which has read all.
fn ready(minor: u32) -> Session {
    let mut session = session();
    session.receive(format!("VERSION\t1\t{minor}\nCPID\t7\n").as_bytes());
    let mut out = Vec::new();
    assert!(matches!(session.next(&mut out), Event::NeedInput));
    assert!(out.ends_with(b"\nDONE\n"));
    session
}

/// A request with an initial response of PLAIN: `\0tim\0tanstaaf`.
fn auth(id: u32) -> String {
    format!("AUTH\t{id}\tPLAIN\tservice=smtp\tsecured\tresp=AHRpbQB0YW5zdGFhZg==\n")
}
