//! A guide to writing mail servers and mail clients with SMTP AUTH, from a first program to operation in production.
//!
//! The guide assumes that you know Rust and the basics of SMTP, but not SASL or this crate. The chapters are in reading
//! order, but each chapter can be read on its own:
//!
//! | chapter | subject |
//! | --- | --- |
//! | [`server`] | a complete submission server on tokio, with STARTTLS, SCRAM, accounts in SQLite and rate limiting |
//! | [`client`] | a complete client that sends messages over one connection and handles every outcome |
//! | [`levels`] | using the crate without tokio: driving a session from your own I/O loop, adding AUTH to your own server or client, using SASL with IMAP, POP3 and XMPP, and authenticating the users of Postfix and Exim |
//! | [`dialogue`] | a line-by-line walkthrough of an authentication dialogue |
//! | [`authenticator`] | answering the server's questions about accounts, immediately or later |
//! | [`credentials`] | storing credentials: what to store for each mechanism |
//! | [`migration`] | migrating from PLAIN to SCRAM without new passwords |
//! | [`oauth`] | using access tokens instead of passwords, with the large providers and on your own server |
//! | [`rate_limiting`] | rate limiting against brute force and credential stuffing, and checking who may send as whom |
//! | [`testing`] | testing a server's dialogues |
//! | [`operation`] | operating a server: logs with `tracing`, metrics and alerts |
//! | [`porting`] | porting from `rsasl`, from `lettre`, or from code written by hand |
//!
//! The project's tests run every dialogue and every program, and compile every code sample, except samples that show
//! other crates. These modules exist only in the documentation, not in a build of the crate.

// Otherwise rustdoc shows the condition below at the top of each page, where no reader needs it.
#![cfg_attr(docsrs, doc(auto_cfg = false))]
// The chapters use all mechanisms.
#![cfg(all(
    doc,
    feature = "smtp",
    feature = "getrandom",
    feature = "saslprep",
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
))]

// The chapters are in reading order. A test compares the first two with `examples/guide_server.rs` and
// `examples/guide_client.rs`.
#[doc = include_str!("guide/server.md")]
#[doc(alias("tokio", "async", "STARTTLS", "submission server", "sqlite", "graceful shutdown"))]
pub mod server {}

#[doc = include_str!("guide/client.md")]
#[doc(alias("tokio", "async", "keep-alive", "reconnect"))]
pub mod client {}

#[doc = include_str!("guide/levels.md")]
#[cfg_attr(feature = "dovecot-auth", doc = "[`dovecot`]: crate::dovecot")]
#[cfg_attr(
    not(feature = "dovecot-auth"),
    doc = "[`dovecot`]: https://docs.rs/smtp-auth/latest/smtp_auth/dovecot/index.html"
)]
#[doc(alias("runtime", "sans-IO", "Postfix", "Exim", "Dovecot"))]
pub mod levels {}

#[doc = include_str!("guide/dialogue.md")]
#[doc(alias("man-in-the-middle", "mitm", "eavesdropper", "downgrade"))]
pub mod dialogue {}

#[doc = include_str!("guide/authenticator.md")]
#[doc(alias("timing attack", "user enumeration", "wrong password"))]
pub mod authenticator {}

#[doc = include_str!("guide/credentials.md")]
#[doc(alias("database breach", "iteration count", "decoy keys", "argon2"))]
pub mod credentials {}

#[doc = include_str!("guide/migration.md")]
pub mod migration {}

#[doc = include_str!("guide/oauth.md")]
#[doc(alias("gmail", "outlook", "access token"))]
pub mod oauth {}

#[doc = include_str!("guide/rate_limiting.md")]
#[doc(alias(
    "rate limit",
    "brute force",
    "credential stuffing",
    "denial of service",
    "throttle",
    "lockout"
))]
pub mod rate_limiting {}

// The code at its end is a separate file, because the dialogues of the other chapters also use it.
#[doc = include_str!("guide/testing.md")]
#[doc = "```"]
#[doc = include_str!("guide/play.rs")]
#[doc = "```"]
pub mod testing {}

// The code at its end is a separate file, because it needs the driver. The driver's tests compile and run it.
#[doc = include_str!("guide/operation.md")]
#[doc = "```rust,ignore"]
#[doc = include_str!("guide/metrics.rs")]
#[doc = "```"]
#[doc = ""]
#[doc = "Next: [porting from `rsasl`, from `lettre`, or from code written by hand](crate::guide::porting)."]
#[doc(alias("metrics", "logging", "tracing", "prometheus"))]
pub mod operation {}

#[doc = include_str!("guide/porting.md")]
#[doc(alias("migrate"))]
pub mod porting {}
