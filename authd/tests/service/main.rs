//! The service as a process: what mail servers and the owner of the accounts see of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod accounts;
mod bounds;
mod fleet;
mod load;
#[path = "../support/postgres.rs"]
mod postgres;
mod process;
mod settings;
mod sign_in;
mod support;
