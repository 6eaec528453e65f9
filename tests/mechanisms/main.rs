//! The SASL mechanisms: what is offered, who is asked what, and whose word is believed.
#![cfg(feature = "default")]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

mod accounts;
mod answered_later;
mod custom;
mod downgrade;
mod end_point;
mod fixed_texts;
mod lengths;
mod offers;
mod round_trips;
mod scram;
#[cfg(feature = "serde")]
mod serde;
