//! SMTP AUTH (RFC 4954) and SASL for mail servers and mail clients, without I/O ("sans-IO").
//!
//! Most users on tokio want [`smtp-auth-tokio`](https://docs.rs/smtp-auth-tokio). It drives this crate on sockets, adds
//! TLS, time limits and rate limiting, and needs about ten lines for a server or a client. Use this crate directly for
//! another async runtime, for blocking sockets, or for an event loop of your own.
//!
//! The crate opens no socket, never blocks and has no clock. You pass it the octets that the peer sent, and it returns
//! what your application must do next and the octets to send. It therefore works with any async runtime, or with none.
//!
//! ```text
//!              octets   ┌──────────┐  octets
//!        peer ────────→ │ session  │ ────────→ peer
//!              answers  │    or    │  events
//! application ────────→ │ exchange │ ────────→ application
//!                       └──────────┘
//! ```
//!
//! # Three API levels
//!
//! Each level exists for servers and for clients, and is built on the next one.
//!
//! | level | server, client | handles | use it for |
//! | --- | --- | --- | --- |
//! | session | [`server::Session`], [`client::Session`] | the whole SMTP dialogue | most servers and clients |
//! | AUTH exchange | [`auth::server::Exchange`], [`auth::client::Exchange`] | the lines of one AUTH command | a server or client with its own SMTP parser and loop |
//! | SASL exchange | [`sasl::server::Exchange`], [`sasl::client::Exchange`] | raw challenges and responses | IMAP, POP3, XMPP, LDAP, ManageSieve |
//!
//! There are two `Config` types on each side. The one in [`sasl::server`] or [`sasl::client`] configures authentication,
//! for any protocol. The one in [`server`] or [`client`] contains it, and configures the rest of the SMTP dialogue.
//!
//! The [guide](guide/index.html) begins with an authentication line by line, and goes on to storing credentials, OAuth,
//! brute force and rate limiting, testing, and porting from other crates.
//!
//! # The loop
//!
//! One method returns what your application must do next: `next` of a session, or `step` of an exchange. An event that
//! needs an answer carries a handle for it, and is returned again until it is answered. The handle's type accepts only
//! answers that fit. An [`Authenticator`] can answer a query at once, or your application can answer it later, after a
//! database lookup in another thread or async task. Nothing blocks, and nothing is queued.
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
//! // A client that begins to authenticate, cancels, and quits.
//! session.receive(b"EHLO client.example.org\r\nAUTH CRAM-MD5\r\n*\r\nQUIT\r\n");
//! loop {
//!     match session.next(&mut out) {
//!         Event::NeedInput => unreachable!("QUIT has been received"), // usually: send `out`, then receive
//!         Event::Query(query) => query.reject(), // returned again until it is answered
//!         Event::Command(_, pending) => pending.reply(Reply::NOT_IMPLEMENTED),
//!         Event::StartOfData(permission) => permission.refuse(Reply::NOT_IMPLEMENTED),
//!         Event::EndOfData(pending) => pending.reply(Reply::NOT_IMPLEMENTED),
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
//! These diagrams show the states of the two sessions. A test draws them from the code. They leave out refused commands
//! that change nothing.
//!
#![doc = include_str!("states.svg")]
//!
//! # Mechanisms
//!
#![doc = include_str!("mechanisms.md")]
//!
//! You can add a custom mechanism with [`Query::Custom`](sasl::Query::Custom) on a server and
//! [`Custom`](sasl::client::Custom) on a client. The example `custom_mechanism` adds one.
//!
//! # Features
//!
//! A feature only compiles something in. The mechanisms that are offered or used are those that a `Config` lists.
//!
//! | feature | on by default | adds |
//! | --- | --- | --- |
//! | `smtp` | yes | Everything but [`sasl`], [`dovecot`] and [`Secret`]. Without it the crate is a SASL library for IMAP, POP3, XMPP, LDAP and ManageSieve, and does not depend on nom. |
//! | `scram-sha-512`, `scram-sha-256`, `scram-sha-1` | yes | Each SCRAM mechanism and its -PLUS variant. |
//! | `cram-md5`, `plain`, `login`, `oauthbearer`, `xoauth2`, `external`, `anonymous` | yes | The mechanism of that name. |
//! | `getrandom` | yes | The operating system's random numbers for challenges. |
//! | `saslprep` | yes | SASLprep (RFC 4013) for account names and SCRAM passwords. Without it they must be printable ASCII. Needs `std`. |
//! | `std` | yes | The standard library. Without it the crate is `no_std` and needs only `alloc`. |
//! | `dovecot-auth` | no | [`dovecot`]: Dovecot's authentication protocol, for a service that authenticates the clients of Postfix, Exim and other servers. Does not need `smtp`. |
//! | `serde` | no | Reads every `Config` from a file, and reads and writes stored credentials ([`ScramKeys`](sasl::ScramKeys), [`CramSecret`](sasl::CramSecret)) as text. |
//!
//! With `serde`, the fields of a `Config` have the names of the builder methods that set them. A field that is left out
//! has its default:
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
//! Do not log the errors of a format's parser. They may quote the file, and with it a `salt_key`.
//!
//! # Limits
//!
//! A server accepts lines of up to 12,288 octets for AUTH and within its exchange, and up to 2,048 for other commands. A
//! client accepts replies of up to 128 lines and 65,536 octets, and keeps about 1,000 octets of the reply for each
//! recipient of a message. The constants of [`server`] give the defaults of a server's other limits.
//!
//! A session buffers the octets that it has received and not yet processed. Its memory is bounded if the application
//! reads only at `NeedInput`.
//!
//! # What your application does
//!
//! - It provides sockets, TLS, time limits and logging.
//! - It stores the accounts, verifies tokens, and decides which account a client certificate belongs to.
//! - It handles mail, apart from the framing of messages and the order of commands.
//! - It checks that the address in `MAIL FROM` belongs to the authenticated account.
//! - It applies rate limiting against brute force and credential stuffing over many connections. A session limits the
//!   attempts of its own connection only.
//!
//! A client must verify the server's certificate when it uses TLS. SCRAM alone proves that the server knows the
//! account's keys. It does not detect a man-in-the-middle: that takes a -PLUS mechanism and
//! [channel binding](sasl::ChannelBinding).
//!
//! [`Authenticator`]: sasl::Authenticator

#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
// These lints hold for the library only. Tests, benches and examples use the standard library.
#![deny(clippy::alloc_instead_of_core, clippy::std_instead_of_alloc, clippy::std_instead_of_core)]
// Shared code is unused where SMTP or the mechanisms that call it are compiled out.
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
        feature = "anonymous",
        feature = "dovecot-auth"
    )),
    allow(dead_code)
)]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

#[cfg(any(feature = "smtp", feature = "dovecot-auth"))]
mod advance;
mod base64;
mod decimal;
#[cfg(any(feature = "smtp", feature = "dovecot-auth"))]
mod line;
#[cfg(feature = "smtp")]
mod message;
mod secret;
#[cfg(feature = "serde")]
mod serde;
#[cfg(feature = "smtp")]
mod set;
mod shown;
#[cfg(any(feature = "smtp", feature = "dovecot-auth"))]
mod trace;

#[cfg(feature = "smtp")]
pub mod auth;
#[cfg(feature = "smtp")]
pub mod client;
#[cfg(feature = "smtp")]
pub mod command;
#[cfg(feature = "dovecot-auth")]
pub mod dovecot;
#[cfg(feature = "smtp")]
pub mod ehlo;
pub mod guide;
#[cfg(feature = "smtp")]
pub mod reply;
pub mod sasl;
#[cfg(feature = "smtp")]
pub mod server;

#[cfg(any(feature = "smtp", feature = "dovecot-auth"))]
pub use advance::Advance;
#[cfg(feature = "smtp")]
pub use reply::Reply;
pub use sasl::{
    Answer, AsyncAuthenticator, Authenticator, Channel, CheckPassword, ConfigError, Identity,
    Mechanism, client::Credentials,
};
pub use secret::Secret;
#[cfg(feature = "smtp")]
pub use trace::Mask;
#[cfg(any(feature = "smtp", feature = "dovecot-auth"))]
pub use trace::Side;

#[test]
fn the_readme_has_the_table_of_mechanisms() {
    assert!(include_str!("../README.md").contains(include_str!("mechanisms.md")));
}

/// Compiles the code of the README.
#[cfg(all(doctest, feature = "smtp", feature = "std", feature = "getrandom"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// A session takes a shared configuration. With a separate one, each session would present different decoy salts.
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
