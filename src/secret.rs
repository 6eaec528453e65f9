//! [`Secret`], text that must not be shown.

use alloc::{string::String, vec::Vec};
use core::{fmt, mem, ops::Range};

use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Secret text: a password, a token, a stored credential that is derived from a password, or any text that may contain
/// one of these.
///
/// `Debug` shows `Secret(***)` in every build. The memory is zeroed on drop. The operator `==` compares two secrets, or
/// a secret and a `str`, in constant time to prevent timing attacks. If both have the same length, the time that the
/// comparison takes does not depend on where they differ.
///
/// ```
/// use smtp_auth::Secret;
///
/// let password = Secret::new(String::from("tanstaaftanstaaf"));
/// assert_eq!(format!("{password:?}"), "Secret(***)");
/// assert!(password == *"tanstaaftanstaaf");
/// assert_eq!(password.expose().len(), 16);
/// ```
#[derive(Clone)]
pub struct Secret {
    memory: String,
    /// The position at which the text begins. The octets before it are in the same memory.
    start: usize,
}

impl Secret {
    /// Creates a secret. A `String` is moved rather than copied, so no second copy is left in memory. A `&str` is
    /// copied, and the caller is responsible for zeroing the original.
    pub fn new(text: impl Into<String>) -> Self {
        Self { memory: text.into(), start: 0 }
    }

    /// Moves the secret out and leaves an empty one.
    pub(crate) fn take(&mut self) -> Self {
        Self { memory: mem::take(&mut self.memory), start: self.start }
    }

    /// Makes the text begin at the octet `start`, in the same memory.
    pub(crate) fn behind(mut self, start: usize) -> Self {
        self.start = start;
        self
    }

    /// Cuts the text to the given part, in the same memory.
    pub(crate) fn cut(mut self, part: Range<usize>) -> Self {
        let end = self.start.saturating_add(part.end);
        if self.memory.is_char_boundary(end) {
            self.memory.truncate(end);
        }
        self.start = self.start.saturating_add(part.start);
        self
    }

    /// Returns the given part of the memory.
    #[inline]
    pub(crate) fn part(&self, range: Range<usize>) -> &str {
        self.memory.get(range).unwrap_or_default()
    }

    /// Returns the part of the memory before the text.
    pub(crate) fn in_front(&self) -> &str {
        self.part(0..self.start)
    }

    /// Moves all of the memory out, after it has turned out not to be secret.
    pub(crate) fn take_all(&mut self) -> String {
        mem::take(&mut self.memory)
    }

    /// Moves out the given part, which is not secret, in the same memory, and zeroes the octets after it.
    pub(crate) fn take_part(&mut self, range: Range<usize>) -> String {
        let mut octets = mem::take(&mut self.memory).into_bytes();
        octets.truncate(range.end);
        octets.spare_capacity_mut().zeroize();
        drop(octets.drain(..range.start));
        String::from_utf8(octets).unwrap_or_default()
    }

    /// Returns the text, for instance to hash a password. Do not log or copy the text, because copies are not zeroed.
    #[inline]
    pub fn expose(&self) -> &str {
        self.part(self.start..self.memory.len())
    }
}

/// Skips memory that was moved out, because there is nothing to zero, and zeroing is not cheap even then.
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

/// Zeroes all of the memory and frees it.
#[inline]
pub(crate) fn wipe(mut octets: Vec<u8>) {
    octets.clear();
    octets.spare_capacity_mut().zeroize();
}

/// Reserves room for `more` additional octets. If the octets move to new memory, the old memory is zeroed, unlike when
/// a `Vec` grows by itself.
pub(crate) fn reserve(octets: &mut Vec<u8>, more: usize) {
    if octets.capacity() - octets.len() < more {
        let room = (octets.len() + more).max(octets.capacity() * 2);
        let mut grown = Vec::with_capacity(room);
        grown.extend_from_slice(octets);
        wipe(mem::replace(octets, grown));
    }
}

/// Appends octets, and reserves room as [`reserve`] does.
pub(crate) fn append(octets: &mut Vec<u8>, more: &[u8]) {
    reserve(octets, more.len());
    octets.extend_from_slice(more);
}

/// Truncates to the given length, and zeroes the octets that are cut off.
pub(crate) fn truncate(octets: &mut Vec<u8>, length: usize) {
    if let Some(cut_off @ [_, ..]) = octets.get_mut(length..) {
        cut_off.zeroize();
        octets.truncate(length);
    }
}

/// Runs `work`, which computes with secrets, and then zeroes the stack that it used. Moved values leave copies on the
/// stack. These copies could end up in the unused parts of values that are created there next, and thus in memory that
/// is freed. The result is moved as well, so it should not be one of the secrets.
///
/// `pieces` is the number of pieces of nearly 2 KiB that are zeroed. In an optimized build, MD5 uses less than one, and
/// SHA-512 with PBKDF2 less than two.
pub(crate) fn apart<T>(pieces: u8, work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn run<T>(work: impl FnOnce() -> T) -> T {
        work()
    }

    #[inline(never)]
    fn clear(pieces: u8) {
        // A larger array is zeroed octet by octet on old processors, which takes ten times as long.
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

/// Returns whether two slices are equal, in constant time for their length. It compares word by word, because keeping
/// the compiler from an early exit costs as much for an octet as for a word.
pub(crate) fn equal(one: &[u8], other: &[u8]) -> Choice {
    let (ones, others) = (one.chunks_exact(8), other.chunks_exact(8));
    let word = |octets: &[u8]| u64::from_le_bytes(octets.try_into().unwrap_or_default());
    let ends = one.len().ct_eq(&other.len()) & ones.remainder().ct_eq(others.remainder());
    ones.zip(others).fold(ends, |equal, (one, other)| equal & word(one).ct_eq(&word(other)))
}

/// Octets of an exchange, which may be secret.
#[derive(Clone, Default)]
pub(crate) struct SecretBytes(Vec<u8>);

impl SecretBytes {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Moves the octets out. The caller must zero them.
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        mem::take(&mut self.0)
    }

    /// Appends an octet, and reserves room as [`reserve`] does.
    pub(crate) fn push(&mut self, octet: u8) {
        append(&mut self.0, &[octet]);
    }

    /// Returns the octets as text in the same memory, or zeroes them and returns `None` if they are not UTF-8.
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
