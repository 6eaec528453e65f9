//! SMTP AUTH.
#![no_std]
#![forbid(unsafe_code)]
// Each mechanism that is compiled out leaves some shared parts without a user.
#![cfg_attr(not(all(feature = "plain", feature = "login", feature = "cram-md5")), allow(dead_code))]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod line;
mod message;
mod secret;
mod trace;

pub mod auth;
pub mod client;
pub mod command;
pub mod ehlo;
pub mod reply;
pub mod sasl;
pub mod server;

pub use secret::Secret;
pub use trace::Side;
