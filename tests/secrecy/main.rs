//! Nothing secret in `Debug`, errors, replies and traces.
#![cfg(feature = "default")]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

mod debug;
mod echo;
mod forms;
mod printed;
mod trace;
