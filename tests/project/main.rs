//! What the project says of itself: layers, sizes of types, and what is met in the field.
#![cfg(feature = "default")]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

mod field;
mod layers;
mod left_out;
mod types;
