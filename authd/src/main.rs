//! An authentication service for Postfix and Exim.

mod config;
mod credential;
mod decoys;
mod hashing;
mod random;
mod store;
#[cfg(test)]
mod testing;

fn main() {}
