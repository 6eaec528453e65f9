//! The server, on loopback and in memory.
#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#![allow(clippy::restriction, clippy::unwrap_used, reason = "a test fails by panicking")]

mod any_dialogue;
mod cancelled;
mod certificates;
mod dialogue;
mod handlers;
mod limits;
mod observers;
mod proxies;
mod rate_limits;
mod shutdown;
mod support;
mod time;
