//! Strict base64 (RFC 4648 §4).

use alloc::vec::Vec;

use ::base64::{Engine, engine::general_purpose::STANDARD};

use crate::secret::wipe;

/// Returns the number of characters in the base64 form of that many octets.
pub(crate) const fn encoded(octets: usize) -> usize {
    octets.div_ceil(3) * 4
}

/// Appends the base64 form of `data`, without another copy of the data, which may be secret.
pub(crate) fn encode(data: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + encoded(data.len()), b'=');
    let (_, room) = out.split_at_mut(start);
    let written = STANDARD.encode_slice(data, room);
    debug_assert_eq!(written, Ok(room.len()));
}

/// Decodes base64 strictly: only the alphabet, canonical padding, no white space, no stray bits. If it fails, what was
/// decoded before the fault is zeroed.
///
/// It is inlined so that the result is not moved through memory.
#[inline(always)]
#[expect(
    clippy::slow_vector_initialization,
    reason = "for small sizes, glibc allocates zeroed memory more slowly than other memory"
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
