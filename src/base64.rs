//! Base64 (RFC 4648 §4), strictly.

use alloc::vec::Vec;

use ::base64::{Engine, engine::general_purpose::STANDARD};

use crate::secret::wipe;

/// How many characters the base64 form of so many octets has.
pub(crate) const fn encoded(octets: usize) -> usize {
    octets.div_ceil(3) * 4
}

/// Appends the base64 form of `data` without a second copy of what may be secret.
pub(crate) fn encode(data: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + encoded(data.len()), b'=');
    let (_, room) = out.split_at_mut(start);
    let written = STANDARD.encode_slice(data, room);
    debug_assert_eq!(written, Ok(room.len()));
}

/// Decodes base64 strictly: the alphabet, canonical padding, no white space, no stray bits. What was
/// decoded up to a fault is zeroed.
///
/// Inlined, so that the result is not moved through memory.
#[inline(always)]
#[expect(
    clippy::slow_vector_initialization,
    reason = "glibc takes longer for little memory that it has to zero than for other"
)]
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let room = text.len().div_ceil(4) * 3;
    let mut octets = Vec::with_capacity(room);
    octets.resize(room, 0);
    match STANDARD.decode_slice(text, &mut octets) {
        Ok(length) => {
            octets.truncate(length);
            Some(octets)
        }
        Err(_) => {
            wipe(octets);
            None
        }
    }
}
