//! The example client against servers that misbehave, and the example server against clients that
//! do: at every line of a good dialogue, one after the other. All on loopback.

mod against_clients;
mod against_servers;
mod client;
mod server;
mod wire;
