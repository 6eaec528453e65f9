//! One AUTH exchange, as RFC 4954 puts it on the lines of SMTP: base64, `=`, `*`, `334`, `235`,
//! `535`.
//!
//! For a server or a client that has its own parser and loop and lacks only this; what stays with a
//! server [is listed](server::Exchange). Between the lines stands [`sasl`](crate::sasl), which knows
//! the mechanisms.

use alloc::vec::Vec;

use crate::sasl::{Channel, server::Config};

pub mod client;
pub mod server;

/// The longest line of an exchange, its AUTH command included, CRLF not counted (RFC 4954 §4): 12,288
/// octets.
pub const MAX_LINE: usize = 12_288;

/// Appends what EHLO says of AUTH over that connection, `AUTH CRAM-MD5 PLAIN`, without code and
/// CRLF; nothing where no mechanism is on offer, and then the reply has no such line.
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
