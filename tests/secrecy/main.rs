//! Nothing secret in `Debug`, errors, replies and traces.
#![cfg(feature = "default")]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

mod debug;
mod echo;
mod forms;
mod mask;
mod printed;
#[path = "../sessions/transcripts/script.rs"]
#[allow(dead_code, reason = "the dialogues' lines alone are looked at")]
mod script;
mod trace;
