//! [`Secret`]: text that must not be seen.

use alloc::{string::String, vec::Vec};
use core::{fmt, mem, ops::Range};

use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A password, a token, or what a store keeps of one; or what may repeat one.
///
/// `Debug` shows `Secret(***)` in every build, the memory is zeroed on drop, and `==` takes the
/// same time wherever two secrets of one length differ, or a secret and a `str`.
#[derive(Clone)]
pub struct Secret {
    memory: String,
    /// The text stands behind this; in front of it, in the same memory, is what came with it.
    start: usize,
}

impl Secret {
    /// Takes the text over. A `String` is moved, not copied, so that no second copy is left behind.
    pub fn new(text: impl Into<String>) -> Self {
        Self { memory: text.into(), start: 0 }
    }

    /// The same; nothing is left here.
    pub(crate) fn take(&mut self) -> Self {
        Self { memory: mem::take(&mut self.memory), start: self.start }
    }

    /// What stands from that octet on, in the same memory.
    pub(crate) fn behind(mut self, start: usize) -> Self {
        self.start = start;
        self
    }

    /// That part alone, in the same memory.
    pub(crate) fn cut(mut self, part: Range<usize>) -> Self {
        let end = self.start.saturating_add(part.end);
        if self.memory.is_char_boundary(end) {
            self.memory.truncate(end);
        }
        self.start = self.start.saturating_add(part.start);
        self
    }

    /// That part of the memory.
    #[inline]
    pub(crate) fn part(&self, range: Range<usize>) -> &str {
        self.memory.get(range).unwrap_or_default()
    }

    /// What stands in front of the text, in the same memory.
    pub(crate) fn in_front(&self) -> &str {
        self.part(0..self.start)
    }

    /// All of the memory, as it came, which is no secret after all; nothing is left here.
    pub(crate) fn take_all(&mut self) -> String {
        mem::take(&mut self.memory)
    }

    /// That part alone, which is no secret, in the same memory; nothing is left here.
    pub(crate) fn take_part(&mut self, range: Range<usize>) -> String {
        let mut octets = mem::take(&mut self.memory).into_bytes();
        octets.truncate(range.end);
        octets.spare_capacity_mut().zeroize();
        drop(octets.drain(..range.start));
        String::from_utf8(octets).unwrap_or_default()
    }

    /// Shows the text.
    #[inline]
    pub fn expose(&self) -> &str {
        self.part(self.start..self.memory.len())
    }
}

/// Where the memory was taken out there is none to zero, and to ask for that is not cheap.
impl Drop for Secret {
    fn drop(&mut self) {
        if self.memory.capacity() > 0 {
            wipe(mem::take(&mut self.memory).into_bytes());
        }
    }
}

impl ZeroizeOnDrop for Secret {}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&String> for Secret {
    fn from(text: &String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        equal(self.expose().as_bytes(), other.expose().as_bytes()).into()
    }
}

impl Eq for Secret {}

impl PartialEq<str> for Secret {
    fn eq(&self, other: &str) -> bool {
        equal(self.expose().as_bytes(), other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Zeroes all of the memory, and gives it back.
#[inline]
pub(crate) fn wipe(mut octets: Vec<u8>) {
    octets.clear();
    octets.spare_capacity_mut().zeroize();
}

/// Makes room for that many octets more. The memory that is given back for it is zeroed, which a `Vec`
/// that grows by itself does not.
pub(crate) fn reserve(octets: &mut Vec<u8>, more: usize) {
    if octets.capacity() - octets.len() < more {
        let room = (octets.len() + more).max(octets.capacity() * 2);
        let mut grown = Vec::with_capacity(room);
        grown.extend_from_slice(octets);
        wipe(mem::replace(octets, grown));
    }
}

/// Appends octets, with room made as [`reserve`] makes it.
pub(crate) fn append(octets: &mut Vec<u8>, more: &[u8]) {
    reserve(octets, more.len());
    octets.extend_from_slice(more);
}

/// Cuts off what stands after that length, and zeroes it.
pub(crate) fn truncate(octets: &mut Vec<u8>, length: usize) {
    if let Some(cut_off @ [_, ..]) = octets.get_mut(length..) {
        cut_off.zeroize();
        octets.truncate(length);
    }
}

/// Computes with secrets, and zeroes the stack that it took: the copies that values leave there when they are
/// moved would get into the unused parts of what is made there next, and with that into memory that is given
/// back. What it gives is moved, too, and had better be none of the secrets.
///
/// So many pieces of nearly two KiB are zeroed: in an optimised build MD5 takes less than one, and SHA-512, with
/// PBKDF2 and all, less than two.
pub(crate) fn apart<T>(pieces: u8, work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn run<T>(work: impl FnOnce() -> T) -> T {
        work()
    }

    #[inline(never)]
    fn clear(pieces: u8) {
        // A larger one is zeroed octet by octet where the processor is old, which takes ten times as long.
        let mut room = [0_u64; 248];
        if pieces > 1 {
            clear(pieces - 1);
        }
        core::hint::black_box(&mut room);
    }

    let done = run(work);
    clear(pieces);
    done
}

/// Whether they are the same, in constant time for their length: word by word, as to keep the
/// compiler from an early end costs as much for an octet as for a word.
pub(crate) fn equal(one: &[u8], other: &[u8]) -> Choice {
    let (ones, others) = (one.chunks_exact(8), other.chunks_exact(8));
    let word = |octets: &[u8]| u64::from_le_bytes(octets.try_into().unwrap_or_default());
    let ends = one.len().ct_eq(&other.len()) & ones.remainder().ct_eq(others.remainder());
    ones.zip(others).fold(ends, |equal, (one, other)| equal & word(one).ct_eq(&word(other)))
}

/// Octets of an exchange, any of which may be secret.
#[derive(Clone, Default)]
pub(crate) struct SecretBytes(Vec<u8>);

impl SecretBytes {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Appends an octet, with room made as [`reserve`] makes it.
    pub(crate) fn push(&mut self, octet: u8) {
        append(&mut self.0, &[octet]);
    }

    /// The text, in the same memory; `None`, and zeroed, where it is not UTF-8.
    #[inline(always)]
    pub(crate) fn into_text(mut self) -> Option<Secret> {
        match String::from_utf8(mem::take(&mut self.0)) {
            Ok(text) => Some(Secret::new(text)),
            Err(error) => {
                wipe(error.into_bytes());
                None
            }
        }
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        if self.0.capacity() > 0 {
            wipe(mem::take(&mut self.0));
        }
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_itself() {
        assert_eq!(alloc::format!("{:?}", Secret::new("hunter2")), "Secret(***)");
    }

    #[test]
    fn every_octet_counts() {
        let octets = [7; 40];
        for length in 0..octets.len() {
            let one = &octets[..length];
            assert!(bool::from(equal(one, one)), "{length}");
            assert!(!bool::from(equal(one, &octets[..=length])), "{length}");
            for at in 0..length {
                let mut other = octets;
                other[at] ^= 0x80;
                assert!(!bool::from(equal(one, &other[..length])), "{at} of {length}");
            }
        }
    }

    #[test]
    fn compares_by_content() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("ab"));
    }
}
