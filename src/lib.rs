//! SMTP AUTH (RFC 4954) for mail servers and mail clients, without input or output of its own.
//!
//! On tokio, most applications want [`smtp-auth-tokio`](https://docs.rs/smtp-auth-tokio), which does sockets, TLS, time
//! limits and rate limiting, and makes a server or a client in ten lines. This crate is for those with another runtime, with
//! none, or with a loop of their own.
//!
//! ```text
//! octets → line → command → server → auth → sasl → query → host
//!                              └──── reply ← outcome ←───────┘
//! ```
//!
//! There are three doors, each for both sides:
//!
//! | door | speaks | for |
//! | --- | --- | --- |
//! | [`server::Session`], [`client::Session`] | the whole dialogue | most |
//! | [`auth::server::Exchange`], [`auth::client::Exchange`] | the lines of one AUTH command | a server or client with its own parser and loop |
//! | [`sasl::server::Exchange`], [`sasl::client::Exchange`] | raw challenges and responses | IMAP, POP3, XMPP, LDAP, ManageSieve |
//!
//! There are two of each `Config`: that of [`sasl::server`] and [`sasl::client`] says who may sign in
//! and how, for any protocol; that of [`server`] and [`client`] holds one, and says the rest of the
//! dialogue.
//!
//! The [guide](guide/index.html) goes from the first line of a sign-in to what a store keeps, tokens,
//! guessers, tests, and the way here from other crates.
//!
//! # The loop
//!
//! One method says what is owed now: `next` of a session, `step` of an exchange. What is owed
//! carries the slot to settle it, and is shown again until it is settled; the slot's type has only
//! fitting answers. So a question may be answered at once, by an [`Authenticator`], or after a
//! look-up elsewhere; nothing blocks and nothing is queued.
//!
#![cfg_attr(all(feature = "smtp", feature = "cram-md5", feature = "getrandom"), doc = "```")]
#![cfg_attr(
    not(all(feature = "smtp", feature = "cram-md5", feature = "getrandom")),
    doc = "```ignore"
)]
//! use std::sync::Arc;
//! use smtp_auth::{Mechanism, Reply, sasl, server::{Config, Event, Session}};
//!
//! let sasl = sasl::server::Config::builder("mail.example.org").mechanisms([Mechanism::CramMd5]).build()?;
//! let config = Arc::new(Config::builder("mail.example.org").sasl(sasl).build()?);
//! let mut session = Session::new(config);
//! let mut out = Vec::new();
//! session.receive(b"EHLO client.example.org\r\nAUTH CRAM-MD5\r\n*\r\nQUIT\r\n");
//! loop {
//!     match session.next(&mut out) {
//!         Event::NeedInput => unreachable!("QUIT has been received"),
//!         Event::Query(query) => query.reject(), // shown again until it is answered
//!         Event::Command(_, ask) => ask.reply(Reply::NOT_IMPLEMENTED),
//!         Event::StartOfData(permission) => permission.refuse(Reply::NOT_IMPLEMENTED),
//!         Event::EndOfData(ask) => ask.reply(Reply::NOT_IMPLEMENTED),
//!         Event::AuthFailed(failed) => assert_eq!(failed.why, smtp_auth::sasl::Failure::Cancelled),
//!         Event::Hello(_) | Event::Authenticated(_) | Event::Data(_) | Event::Reset => {}
//!         Event::StartTls | Event::Close => break, // send `out` first
//!     }
//! }
//! assert!(out.ends_with(b"501 5.7.0 Authentication cancelled\r\n221 2.0.0 Goodbye\r\n"));
//! # Ok::<(), smtp_auth::sasl::ConfigError>(())
//! ```
//!
//! # States
//!
//! What the two sessions do, drawn from the code by a test. Refused commands, which leave all as it was,
//! are left out.
//!
#![doc = include_str!("states.svg")]
//!
//! # Mechanisms
//!
#![doc = include_str!("mechanisms.md")]
//!
//! A mechanism of the host's own takes part by [`Query::Custom`](sasl::Query::Custom) on a server, by
//! [`Custom`](sasl::client::Custom) on a client; the example `custom_mechanism` adds one.
//!
//! # Features
//!
//! `smtp`, all but [`sasl`] and [`Secret`]: without it the crate is SASL for IMAP, POP3, XMPP, LDAP and
//! ManageSieve, and needs no nom. One for each mechanism (`scram-sha-512`, `scram-sha-256` and
//! `scram-sha-1`, each with its -PLUS, `cram-md5`, `plain`, `login`, `oauthbearer`, `xoauth2`, `external`,
//! `anonymous`); `getrandom`, the operating system's random numbers for challenges; `saslprep`, RFC 4013 for
//! accounts' names and for the passwords of SCRAM, which without it are printable ASCII; `std`. All are on by
//! default, and without `std` the crate needs `alloc` alone. A feature only compiles something in: what is
//! offered or used is what a `Config` lists.
//!
//! `serde`, which is off by default, reads every `Config` from a file, and reads and writes what a store
//! keeps ([`ScramKeys`](sasl::ScramKeys), [`CramSecret`](sasl::CramSecret)) as its text. A `Config`'s
//! fields are named as the methods that set them, and what is left out has its default:
//!
#![cfg_attr(
    all(feature = "serde", feature = "smtp", feature = "plain", feature = "scram-sha-256"),
    doc = "```"
)]
#![cfg_attr(
    not(all(feature = "serde", feature = "smtp", feature = "plain", feature = "scram-sha-256")),
    doc = "```ignore"
)]
//! # let read = |text: &str| serde_json::from_str::<smtp_auth::server::Config>(text).map(drop);
//! read(r#"{
//!     "hostname": "mail.example.org",
//!     "sasl": {
//!         "hostname": "mail.example.org",
//!         "mechanisms": ["SCRAM-SHA-256", "PLAIN"],
//!         "allow_cleartext": false,
//!         "authorize_always": false,
//!         "without": ["SCRAM-SHA-256-PLUS"],
//!         "fold_names": "prepare_lower_case",
//!         "salt_key": "the same over restarts",
//!         "scram_iterations": 4096,
//!         "channel_binding": "preferred",
//!         "max_response": 2000,
//!         "token_error": { "scope": "mail", "openid_configuration": "https://id.example.org/" }
//!     },
//!     "keywords": ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING", "DSN"],
//!     "max_message": 52428800,
//!     "max_attempts": 5,
//!     "max_commands": 50,
//!     "max_recipients": 1000,
//!     "starttls": "offered",
//!     "allow_unauthenticated": false,
//!     "legacy_auth_line": false
//! }"#)?;
//! # let read = |text: &str| serde_json::from_str::<smtp_auth::client::Config>(text).map(drop);
//! read(r#"{
//!     "hostname": "laptop.example.org",
//!     "sasl": {
//!         "mechanisms": ["SCRAM-SHA-256", "PLAIN"],
//!         "allow_cleartext": false,
//!         "scram_iterations": [4096, 600000],
//!         "channel_binding": "preferred"
//!     },
//!     "tls": "required",
//!     "initial_response": true,
//!     "try_next": "if_unusable",
//!     "max_tries": 3,
//!     "x_exps": false,
//!     "lenient_challenges": false
//! }"#)?;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! A format's parser may quote the file in its own errors, and with it a `salt_key`: do not log them.
//!
//! # Limits
//!
//! A server takes lines of up to 12,288 octets for AUTH and in its exchange, up to 2,048 for other
//! commands; a client takes replies of up to 128 lines and 65,536 octets,
//! and keeps some 1,000 of them for each recipient of a message. What else a server bounds,
//! and how high by default, the constants of [`server`] say. A session holds what it has received and
//! not shown, so its memory is bounded if the host reads at `NeedInput` alone.
//!
//! # What is the host's to do
//!
//! Sockets, TLS, timeouts, logs; the store of accounts; all of mail but its framing and order; to
//! slow down who guesses from many connections; to compare `MAIL FROM` with the account's addresses;
//! to find out whether a token is genuine and whom a certificate names. Over TLS, verify the server's
//! certificate: SCRAM alone proves the server to the client, and not that nobody stands between, which
//! takes a -PLUS mechanism and [binding data](sasl::ChannelBinding).
//!
//! [`Authenticator`]: sasl::Authenticator

#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
// Of the library alone: tests, benches and examples have the standard library.
#![deny(clippy::alloc_instead_of_core, clippy::std_instead_of_alloc, clippy::std_instead_of_core)]
// SMTP, and each mechanism, leave some shared parts without a user where they are compiled out.
#![cfg_attr(
    not(all(
        feature = "smtp",
        feature = "plain",
        feature = "login",
        feature = "cram-md5",
        feature = "scram-sha-1",
        feature = "scram-sha-256",
        feature = "scram-sha-512",
        feature = "oauthbearer",
        feature = "xoauth2",
        feature = "external",
        feature = "anonymous"
    )),
    allow(dead_code)
)]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

#[cfg(feature = "smtp")]
mod advance;
mod base64;
mod decimal;
#[cfg(feature = "smtp")]
mod line;
#[cfg(feature = "smtp")]
mod message;
mod secret;
#[cfg(feature = "serde")]
mod serde;
#[cfg(feature = "smtp")]
mod set;
mod shown;
#[cfg(feature = "smtp")]
mod trace;

#[cfg(feature = "smtp")]
pub mod auth;
#[cfg(feature = "smtp")]
pub mod client;
#[cfg(feature = "smtp")]
pub mod command;
#[cfg(feature = "smtp")]
pub mod ehlo;
pub mod guide;
#[cfg(feature = "smtp")]
pub mod reply;
pub mod sasl;
#[cfg(feature = "smtp")]
pub mod server;

#[cfg(feature = "smtp")]
pub use advance::Advance;
#[cfg(feature = "smtp")]
pub use reply::Reply;
pub use sasl::{
    Answer, AsyncAuthenticator, Authenticator, Channel, CheckPassword, ConfigError, Identity,
    Mechanism, client::Credentials,
};
pub use secret::Secret;
#[cfg(feature = "smtp")]
pub use trace::{Mask, Side};

#[test]
fn the_readme_has_the_table_of_mechanisms() {
    assert!(include_str!("../README.md").contains(include_str!("mechanisms.md")));
}

/// The README's code, compiled.
#[cfg(all(doctest, feature = "smtp", feature = "std", feature = "getrandom"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// A session takes a configuration that is shared: with one of its own it would show salts of its own.
///
/// ```compile_fail,E0308
/// let config = smtp_auth::server::Config::builder("mail.example.org").allow_unauthenticated(true);
/// let session = smtp_auth::server::Session::new(config.build().unwrap());
/// ```
///
/// ```compile_fail,E0308
/// let config = smtp_auth::client::Config::builder("client.example.org").build().unwrap();
/// let session = smtp_auth::client::Session::without_credentials(config);
/// ```
#[cfg(all(doctest, feature = "smtp"))]
struct ConfigIsShared;
