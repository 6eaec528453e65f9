//! The data of challenges and responses, and the cookie of a connection.

use alloc::vec::Vec;
use core::fmt;

use super::LineError;
#[cfg(feature = "getrandom")]
use crate::sasl::NonceError;
use crate::{
    base64::{decode, encode, encoded},
    secret::{SecretBytes, equal},
};

/// The octets of a challenge or a response. On the wire, the octets are encoded in base64.
///
/// The octets may be a password. Therefore, `Debug` writes only `Data(***)`, and the memory is zeroed on drop. The
/// comparison `==` takes the same time for all data of the same length, which prevents timing attacks.
#[derive(Clone, Default)]
pub struct Data(SecretBytes);

impl Data {
    /// Creates data from octets that are not in base64. A `Vec` is moved instead of copied.
    pub fn new(octets: impl Into<Vec<u8>>) -> Self {
        Self(SecretBytes::new(octets.into()))
    }

    /// Returns the octets.
    pub fn expose(&self) -> &[u8] {
        self.0.as_slice()
    }

    pub(super) fn into_vec(self) -> Vec<u8> {
        self.0.into_vec()
    }

    pub(super) fn read(base64: &[u8]) -> Option<Self> {
        decode(base64).map(Self::new)
    }

    /// Returns the length of the data in base64, in octets.
    pub(super) fn written(&self) -> usize {
        encoded(self.expose().len())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        encode(self.expose(), out);
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        equal(self.expose(), other.expose()).into()
    }
}

impl Eq for Data {}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Data(***)")
    }
}

/// The 128 random bits that the service sends on each connection. Dovecot's own services use them to prove which connection
/// a request belongs to. Mail servers do not use them. `Debug` does not show them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cookie([u8; 16]);

impl Cookie {
    /// Creates a cookie from these octets, which must be unpredictable.
    pub const fn new(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// Creates a cookie from the operating system's random source.
    ///
    /// # Errors
    /// [`NonceError`] if the operating system cannot supply random numbers.
    #[cfg(feature = "getrandom")]
    pub fn random() -> Result<Self, NonceError> {
        let mut octets = [0; 16];
        getrandom::fill(&mut octets).map_err(|_| NonceError)?;
        Ok(Self(octets))
    }

    /// Returns the octets.
    pub const fn octets(&self) -> [u8; 16] {
        self.0
    }

    /// Reads the 32 hexadecimal digits, in either case.
    pub(super) fn read(digits: &[u8]) -> Result<Self, LineError> {
        let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let mut octets = [0; 16];
        if digits.len() != 2 * octets.len() {
            return Err(LineError::COOKIE);
        }
        for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
            for &half in pair {
                *octet = *octet << 4 | digit(half).ok_or(LineError::COOKIE)?;
            }
        }
        Ok(Self(octets))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' - 10 + half };
        out.extend(self.0.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]));
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(***)")
    }
}
