//! The example programs, and the documents' code as programs, on loopback.
#![cfg(feature = "default")]
#![allow(
    clippy::restriction,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "a test fails by panicking, and nothing here is public"
)]

#[cfg(unix)]
mod documents;
#[cfg(target_os = "linux")]
mod example;
#[cfg(target_os = "linux")]
mod misbehaviour;
mod others;
#[cfg(target_os = "linux")]
mod server;
mod setup;
