//! What goes over the wire, written and read: commands, replies, and the text in them.
#![cfg(feature = "default")]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

mod commands;
mod injection;
mod replies;
mod shown;
