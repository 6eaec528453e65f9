//! Whole sessions of both sides: dialogues, refusals, and peers that keep to nothing.
#![cfg(feature = "default")]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

mod any_peer;
mod client;
mod client_and_server;
mod outcomes;
mod refusals;
mod server;
mod transcripts;
