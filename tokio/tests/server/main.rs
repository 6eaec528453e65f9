//! The server, on loopback and in memory.
#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#![allow(clippy::restriction, clippy::unwrap_used, reason = "a test fails by panicking")]

mod any_dialogue;
mod cancelled;
mod certificates;
mod closed_sides;
mod dialogue;
mod faults;
#[path = "../support/faulty.rs"]
mod faulty;
mod handlers;
mod held;
mod limits;
mod metrics;
mod observers;
mod proxies;
mod rate_limits;
#[path = "../support/runtimes.rs"]
mod runtimes;
mod shutdown;
mod shutdown_stages;
mod slow;
mod support;
mod time;
