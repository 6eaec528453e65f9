//! The example programs, and the documents' code as programs, on loopback, which has more
//! than one address on Linux alone.
#![cfg(all(feature = "default", target_os = "linux"))]
#![allow(
    clippy::restriction,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "a test fails by panicking, and nothing here is public"
)]

mod demo;
mod documents;
mod example_server;
mod guide;
mod minimal;
mod misbehaviour;
mod peers;
mod server;
mod setup;
