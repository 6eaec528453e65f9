//! SMTP AUTH.
#![no_std]
#![forbid(unsafe_code)]

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
