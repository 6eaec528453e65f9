//! Random octets of the operating system, as text, and keys that are made of them.

use core::{
    fmt::{self, Write},
    hash::Hasher,
};

use siphasher::sip::SipHasher24;

/// Returns `N` random octets in hexadecimal. `None` if the operating system supplies none.
pub(crate) fn hexadecimal<const N: usize>() -> Option<String> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).ok()?;
    let mut text = String::with_capacity(2 * N);
    octets.iter().try_for_each(|octet| write!(text, "{octet:02x}")).ok()?;
    Some(text)
}

/// A key for hashes that nobody can compute without it.
pub(crate) struct Key([u8; 16]);

impl Key {
    /// Reads the first 128 bits of a secret in hexadecimal.
    pub(crate) fn new(secret: &str) -> Self {
        let digits = secret.get(..32).unwrap_or(secret);
        Self(u128::from_str_radix(digits, 16).unwrap_or(0).to_be_bytes())
    }

    /// Returns the hash of the parts, one after the other.
    pub(crate) fn hash<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        parts.into_iter().for_each(|part| hasher.write(part));
        hasher.finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Returns a password that is easy to type: 25 letters and digits in five groups, with 125 random bits. No character is
/// easily taken for another.
pub(crate) fn password() -> Option<String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut octets = [0; 25];
    getrandom::fill(&mut octets).ok()?;
    let mut text = String::with_capacity(29);
    for (at, octet) in octets.iter().enumerate() {
        if at > 0 && at % 5 == 0 {
            text.push('-');
        }
        text.push(char::from(*ALPHABET.get(usize::from(*octet % 32))?));
    }
    Some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn passwords_differ_and_have_five_groups() {
        let (one, other) = (password().unwrap(), password().unwrap());
        assert_ne!(one, other);
        assert!(
            one.split('-').all(|group| group.len() == 5) && one.split('-').count() == 5,
            "{one}"
        );
    }
}
