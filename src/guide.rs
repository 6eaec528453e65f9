//! The guide: mail servers and mail clients with SMTP AUTH, from the first program to operation.
//!
//! You need to know Rust, and roughly what SMTP is. You do not need to know SASL or this crate. The chapters are in reading
//! order, and each can be read alone:
//!
//! | chapter | what it is about |
//! | --- | --- |
//! | [`server`] | a submission server on tokio with STARTTLS: a whole program, with SCRAM, accounts in SQLite, rate limiting |
//! | [`client`] | a client that keeps its connection: a whole program that does the right thing after each outcome |
//! | [`levels`] | without tokio: the session in a loop of your own, AUTH in your own server, SASL for IMAP, POP3 and XMPP |
//! | [`dialogue`] | how authentication goes, line by line |
//! | [`authenticator`] | answering the server's questions about accounts, at once or later |
//! | [`credentials`] | storing credentials: what a server keeps of a password |
//! | [`migration`] | from PLAIN to SCRAM without new passwords |
//! | [`oauth`] | tokens in place of passwords: the large providers, and a server of your own |
//! | [`rate_limiting`] | rate limiting, against brute force and credential stuffing; who may send as whom |
//! | [`testing`] | a server's dialogues as tests |
//! | [`operation`] | logs by `tracing`, metrics, and when to alert |
//! | [`porting`] | from `rsasl`, from `lettre`, from code written by hand |
//!
//! The project's tests play each dialogue, run each of the programs, and compile each piece of code, except that of other
//! crates. These modules exist in the documentation only: a build of the crate has none of them.

// The condition below would otherwise stand at the top of each page, where no reader needs it.
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

// In reading order. Their programs are `examples/guide_server.rs` and `examples/guide_client.rs`, which a test compares.
#[doc = include_str!("guide/server.md")]
#[doc(alias("tokio", "async", "STARTTLS", "submission server", "sqlite", "graceful shutdown"))]
pub mod server {}

#[doc = include_str!("guide/client.md")]
#[doc(alias("tokio", "async", "keep-alive", "reconnect"))]
pub mod client {}

#[doc = include_str!("guide/levels.md")]
#[doc(alias("runtime", "sans-IO"))]
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

// The code at its end is a file, because the dialogues of the other chapters are played by it.
#[doc = include_str!("guide/testing.md")]
#[doc = "```"]
#[doc = include_str!("guide/play.rs")]
#[doc = "```"]
pub mod testing {}

// The code at its end is a file, because it needs the driver, whose tests compile and run it.
#[doc = include_str!("guide/operation.md")]
#[doc = "```rust,ignore"]
#[doc = include_str!("guide/metrics.rs")]
#[doc = "```"]
#[doc = ""]
#[doc = "Next: [from `rsasl`, from `lettre`, from code written by hand](crate::guide::porting)."]
#[doc(alias("metrics", "logging", "tracing", "prometheus"))]
pub mod operation {}

#[doc = include_str!("guide/porting.md")]
#[doc(alias("migrate"))]
pub mod porting {}
