//! A guide for who writes a mail server or a mail client, and has not seen SASL or this crate before.
//!
//! | chapter | |
//! | --- | --- |
//! | [`steps`] | how a sign-in goes, line by line |
//! | [`authenticator`] | who may sign in: answering the server's questions, at once or later |
//! | [`credentials`] | what a server keeps of a password |
//! | [`migration`] | from PLAIN to SCRAM without new passwords |
//! | [`oauth`] | tokens in place of passwords: the large providers, and a server of one's own |
//! | [`rate_limiting`] | rate limiting, brute force, user enumeration, and who may send as whom |
//! | [`testing`] | a server's dialogues as tests |
//! | [`porting`] | from `rsasl`, from `lettre`, from code written by hand |
//!
//! Each dialogue in it is played by the crate's tests, and each piece of code compiled, but for that of
//! other crates.
//! The chapters are there in the documentation alone: a build of the crate has none of these modules.

// Its condition is no user's concern, and would be the first thing on each page.
#![cfg_attr(docsrs, doc(auto_cfg = false))]
// The chapters speak of all mechanisms.
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

#[doc = include_str!("guide/authenticator.md")]
pub mod authenticator {}

#[doc = include_str!("guide/credentials.md")]
pub mod credentials {}

#[doc = include_str!("guide/rate_limiting.md")]
pub mod rate_limiting {}

#[doc = include_str!("guide/migration.md")]
pub mod migration {}

#[doc = include_str!("guide/oauth.md")]
pub mod oauth {}

#[doc = include_str!("guide/porting.md")]
pub mod porting {}

#[doc = include_str!("guide/steps.md")]
pub mod steps {}

// The code at its end is a file of its own, as the dialogues of the other chapters are played by it.
#[doc = include_str!("guide/testing.md")]
#[doc = "```"]
#[doc = include_str!("guide/play.rs")]
#[doc = "```"]
pub mod testing {}
