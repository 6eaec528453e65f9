//! One AUTH exchange, as RFC 4954 puts it on the lines of SMTP: base64, `=`, `*`, `334`, `235`,
//! `535`.
//!
//! For a server or a client that has its own parser and loop and lacks only this. Between the
//! lines stands [`sasl`](crate::sasl), which knows the mechanisms.

use alloc::{vec, vec::Vec};

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroize;

use crate::sasl::{Channel, server::Config};

pub mod client;
pub mod server;

/// The longest line of an exchange, CRLF not counted (RFC 4954 §4): 12,288 octets.
pub const MAX_LINE: usize = 12_288;

/// Appends what EHLO says of AUTH over that connection, `AUTH CRAM-MD5 PLAIN`, without code and
/// CRLF; nothing where no mechanism is on offer.
pub fn advertise(config: &Config, channel: &Channel, out: &mut Vec<u8>) {
    let mut offered = config.offered(channel).peekable();
    if offered.peek().is_none() {
        return;
    }
    out.extend_from_slice(b"AUTH");
    for mechanism in offered {
        out.push(b' ');
        out.extend_from_slice(mechanism.name().as_bytes());
    }
}

/// Appends the base64 form of `data` (RFC 4648 §4), without a second copy of what may be secret.
fn encode(data: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + data.len().div_ceil(3) * 4, b'=');
    let (_, room) = out.split_at_mut(start);
    let written = STANDARD.encode_slice(data, room);
    debug_assert_eq!(written, Ok(room.len()));
}

/// Decodes base64 strictly: the alphabet, canonical padding, no white space, no stray bits. What was
/// decoded up to a fault is zeroed.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut octets = vec![0; text.len().div_ceil(4) * 3];
    match STANDARD.decode_slice(text, &mut octets) {
        Ok(length) => {
            octets.truncate(length);
            Some(octets)
        }
        Err(_) => {
            octets.zeroize();
            None
        }
    }
}
