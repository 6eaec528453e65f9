//! SMTP AUTH (RFC 4954) and SASL for mail servers and mail clients, without I/O ("sans-IO").
//!
//! Most users on tokio want [`smtp-auth-tokio`](https://docs.rs/smtp-auth-tokio). That crate runs `smtp-auth` on
//! tokio's sockets, and adds TLS, time limits and rate limiting. A server or a client needs about ten lines of code.
//! Use this crate directly if you use another async runtime, blocking sockets, or your own event loop.
//!
//! The crate opens no sockets, never blocks and never reads a clock. You pass in the octets that the peer sent. The
//! crate returns the octets to send, and tells your application what to do next. It therefore works with any async
//! runtime, or with none.
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
//! Each level is available for servers and for clients. A session is built on AUTH exchanges, and an AUTH exchange is
//! built on a SASL exchange.
//!
//! | level | server, client | handles | use it for |
//! | --- | --- | --- | --- |
//! | session | [`server::Session`], [`client::Session`] | the whole SMTP dialogue | most servers and clients |
//! | AUTH exchange | [`auth::server::Exchange`], [`auth::client::Exchange`] | the lines of one AUTH command | servers and clients that have their own SMTP parser and loop |
//! | SASL exchange | [`sasl::server::Exchange`], [`sasl::client::Exchange`] | raw challenges and responses | servers and clients for IMAP, POP3, XMPP, LDAP and ManageSieve |
//!
//! The server side and the client side each have two `Config` types. The `Config` in [`sasl::server`] or
//! [`sasl::client`] configures authentication for any protocol. The `Config` in [`server`] or [`client`] contains the
//! SASL configuration and configures the rest of the SMTP dialogue.
//!
//! The [guide](guide/index.html) begins with a complete server and a complete client on tokio. Later chapters cover the
//! other API levels, authentication line by line, storing credentials, OAuth, rate limiting against brute force,
//! testing, operation, and porting from other crates.
//!
//! # The loop
//!
//! The `next` method of a session and the `step` method of an exchange tell your application what to do next. An event
//! that needs an answer carries a handle for giving it. Each call of `next` or `step` returns the same event until your
//! application has answered. The handle has a method for each answer that is possible at that point. An
//! [`Authenticator`] can answer a query at once, or your application can answer it later, after a database lookup on
//! another thread or in an async task. The crate never blocks and does not queue events.
//!
#![cfg_attr(all(feature = "smtp", feature = "cram-md5", feature = "getrandom"), doc = "```")]
#![cfg_attr(
    not(all(feature = "smtp", feature = "cram-md5", feature = "getrandom")),
    doc = "```ignore"
)]
//! use std::sync::Arc;
//! use smtp_auth::{Mechanism, Reply, sasl, server::{Config, Event, Session}};
//!
//! let sasl = sasl::server::Config::builder("mail.example.org");
//! let sasl = sasl.mechanisms([Mechanism::CramMd5]).build()?;
//! let config = Arc::new(Config::builder("mail.example.org").sasl(sasl).build()?);
//! let mut session = Session::new(config);
//! let mut out = Vec::new();
//! // A client that begins to authenticate, cancels, and quits.
//! session.receive(b"EHLO client.example.org\r\nAUTH CRAM-MD5\r\n*\r\nQUIT\r\n");
//! loop {
//!     match session.next(&mut out) {
//!         // Usually: send `out`, then receive.
//!         Event::NeedInput => unreachable!("QUIT has been received"),
//!         Event::Query(query) => query.reject(), // returned by each `next` until it is answered
//!         Event::Command(_, pending) => pending.reply(Reply::NOT_IMPLEMENTED),
//!         Event::StartOfData(permission) => permission.refuse(Reply::NOT_IMPLEMENTED),
//!         Event::EndOfData(pending) => pending.reply(Reply::NOT_IMPLEMENTED),
//!         Event::AuthFailed(failed) => assert_eq!(failed.why, sasl::Failure::Cancelled),
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
//! These diagrams show the states of a server session and of a client session. A test generates them from the code.
//! The diagrams omit refused commands that leave the state unchanged.
//!
#![doc = include_str!("states.svg")]
//!
//! # Mechanisms
//!
#![doc = include_str!("mechanisms.md")]
//!
//! You can add a custom mechanism with [`Query::Custom`](sasl::Query::Custom) on a server and
//! [`Custom`](sasl::client::Custom) on a client. The `custom_mechanism` example shows both.
//!
//! # Features
//!
//! Enabling a feature only adds code to the build. A server offers a mechanism, and a client uses it, only if the
//! `Config` lists the mechanism.
//!
//! | feature | on by default | adds |
//! | --- | --- | --- |
//! | `smtp` | yes | Everything except [`sasl`], [`dovecot`] and [`Secret`]. Without this feature, the crate is a SASL library for IMAP, POP3, XMPP, LDAP and ManageSieve, and does not depend on nom. |
//! | `scram-sha-512`, `scram-sha-256`, `scram-sha-1` | yes | The SCRAM mechanism of the same name, and its -PLUS variant. |
//! | `cram-md5`, `plain`, `login`, `oauthbearer`, `xoauth2`, `external`, `anonymous` | yes | The mechanism of the same name. |
//! | `getrandom` | yes | Random numbers from the operating system, for challenges. |
//! | `saslprep` | yes | SASLprep (RFC 4013) for account names and SCRAM passwords. Without this feature, they must be printable ASCII. Requires `std`. |
//! | `std` | yes | Support for the standard library. Without this feature, the crate is `no_std` and requires only `alloc`. |
//! | `dovecot-auth` | no | [`dovecot`]: Dovecot's authentication protocol, for a service that authenticates the clients of Postfix, Exim and other mail servers. Does not require `smtp`. |
//! | `serde` | no | Deserialization of every `Config`. Serialization and deserialization of stored credentials ([`ScramKeys`](sasl::ScramKeys), [`CramSecret`](sasl::CramSecret)) as text. |
//!
//! With `serde`, each field of a `Config` is named after the builder method that sets it. An omitted field has its
//! default value. For example, these are the configurations of a server and of a client:
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
//! Do not log the errors that a parser for the file format returns, because they may quote the file, including its
//! `salt_key`.
//!
//! # Limits
//!
//! In an AUTH exchange, a server accepts lines of up to 12,288 octets. This limit also applies to the AUTH command.
//! Every other command line may be up to 2,048 octets long. The other limits of a server are configurable, and their
//! default values are constants in [`server`].
//!
//! A client accepts replies of up to 128 lines and 65,536 octets. For each recipient of a message, the client keeps up
//! to about 1,000 octets of text from the server's reply.
//!
//! A session buffers the octets that it has received but not yet processed. The size of this buffer is bounded if the
//! application reads only at `NeedInput`.
//!
//! # What your application does
//!
//! - It provides sockets, TLS, time limits and logging.
//! - It stores accounts, verifies tokens, and decides which account a client certificate belongs to.
//! - It handles mail, except that a session finds the end of each message and enforces the order of commands.
//! - It checks that the address in `MAIL FROM` belongs to the authenticated account.
//! - It applies rate limiting across connections, to slow down brute force and credential stuffing. A session limits
//!   only the attempts on its own connection.
//!
//! A client that uses TLS must verify the server's certificate. SCRAM alone proves that the server knows the account's
//! keys, but does not detect a man-in-the-middle. Only a -PLUS mechanism, which uses [channel
//! binding](sasl::ChannelBinding), detects a man-in-the-middle.
//!
//! [`Authenticator`]: sasl::Authenticator
#![cfg_attr(
    not(feature = "dovecot-auth"),
    doc = "[`dovecot`]: https://docs.rs/smtp-auth/latest/smtp_auth/dovecot/index.html"
)]
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

/// A session accepts only a shared configuration. If each session had its own, each would send different decoy salts.
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
