//! The example client against servers that misbehave, and the example server against clients that
//! do: at every line of a good dialogue, one after the other. All on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "a panic is how a test fails, and nothing here is public"
)]
#![cfg(all(
    target_os = "linux",
    feature = "std",
    feature = "getrandom",
    feature = "plain",
    feature = "login",
    feature = "cram-md5",
    feature = "scram-sha-256"
))]

#[path = "misbehaviour/against_clients.rs"]
mod against_clients;
#[path = "misbehaviour/against_servers.rs"]
mod against_servers;
#[path = "misbehaviour/client.rs"]
mod client;
#[allow(dead_code, reason = "another test needs the rest")]
#[path = "robust/peers.rs"]
mod peers;
#[path = "misbehaviour/server.rs"]
mod server;
#[path = "misbehaviour/wire.rs"]
mod wire;
