//! The client, over loopback and over pipes: with the server of this package, and with scripts of what a server does.
#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

mod any_server;
mod cancelled;
mod connect;
mod faults;
mod messages;
mod pool;
#[path = "../support/runtimes.rs"]
mod runtimes;
mod support;
mod types;
