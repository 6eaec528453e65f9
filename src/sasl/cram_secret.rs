//! The data that a store keeps for CRAM-MD5.

use alloc::{string::String, sync::Arc};
use core::{fmt, str::FromStr};

use super::hex;
#[cfg(feature = "cram-md5")]
use crate::secret::equal;
use crate::secret::{Secret, apart};

#[cfg(feature = "cram-md5")]
use md5::{
    Digest, Md5,
    block_api::Md5Core,
    digest::{
        array::Array,
        block_api::{Buffer, FixedOutputCore, UpdateCore},
        common::hazmat::{DeserializeStateError, SerializableState, SerializedState},
    },
};
#[cfg(feature = "cram-md5")]
use zeroize::Zeroize;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// The data that a store keeps to verify CRAM-MD5 responses. HMAC begins each of its two hashes with a block that
/// depends only on the password (RFC 2104 §2). The secret consists of the two MD5 states after these blocks.
///
/// Anyone who has the states can authenticate with CRAM-MD5, so a store must protect the states as carefully as the
/// password itself. The password cannot be computed directly from the states, but an attacker who has the states can
/// find the password by brute force.
///
/// The text form, which Dovecot also uses, is `{CRAM-MD5}` followed by 64 hexadecimal digits, with the outer state
/// first. [`str::parse`] reads this form, ignoring case. `parse` also accepts Dovecot's other name for the scheme,
/// `{HMAC-MD5}`.
#[derive(Clone)]
pub struct CramSecret(Arc<States>);

/// Shared, so that a store can return them without a copy.
#[derive(Default, ZeroizeOnDrop)]
pub(super) struct States {
    outer: [u8; 16],
    inner: [u8; 16],
}

impl CramSecret {
    /// Computes the states from a password. The computation hashes two blocks with MD5. A password of more than 64
    /// octets is hashed first.
    #[cfg(feature = "cram-md5")]
    pub fn from_password(password: &str) -> Self {
        apart(1, || Self(Arc::new(States::of_password(password))))
    }

    /// Creates the secret from two stored states. Each state consists of four 32-bit words in little-endian order.
    pub fn from_states(outer: [u8; 16], inner: [u8; 16]) -> Self {
        Self(Arc::new(States { outer, inner }))
    }

    /// Returns the outer and the inner state, in that order, for storage.
    pub fn states(&self) -> (&[u8; 16], &[u8; 16]) {
        (&self.0.outer, &self.0.inner)
    }

    /// Returns the text form of the states. A store must protect this text as carefully as the password itself.
    pub fn to_text(&self) -> Secret {
        apart(1, || {
            let (outer, inner) = self.states();
            let digits = Zeroizing::new([hex::encode(outer), hex::encode(inner)]);
            let digits = digits.as_flattened().as_flattened();
            let mut text = String::with_capacity(DOVECOT.len() + digits.len());
            text.push_str(DOVECOT);
            text.extend(digits.iter().copied().map(char::from));
            Secret::new(text)
        })
    }

    /// Returns whether the states were computed from this password. The comparison takes constant time.
    ///
    /// With this method, a store that keeps only these states can also support PLAIN and LOGIN.
    #[cfg(feature = "cram-md5")]
    pub fn check_password(&self, password: &str) -> bool {
        apart(1, || {
            let (own, States { outer, inner }) = (States::of_password(password), &*self.0);
            (equal(&own.outer, outer) & equal(&own.inner, inner)).into()
        })
    }

    #[cfg(feature = "cram-md5")]
    pub(super) fn as_states(&self) -> &States {
        &self.0
    }
}

#[cfg(feature = "cram-md5")]
impl States {
    fn of_password(password: &str) -> Self {
        let mut key = Zeroizing::new([0; 64]);
        // HMAC uses a key of up to one block as it is, and hashes a longer one.
        if password.len() <= key.len() {
            key.iter_mut().zip(password.as_bytes()).for_each(|(to, from)| *to = *from);
        } else {
            let hashed = Zeroizing::new(<[u8; 16]>::from(Md5::digest(password)));
            key.iter_mut().zip(hashed.iter()).for_each(|(to, from)| *to = *from);
        }
        let state_behind = |pad: u8| {
            let block = Zeroizing::new(key.map(|octet| octet ^ pad));
            let mut hasher = Md5::new_with_prefix(*block).serialize();
            let mut state = [0; 16];
            state.iter_mut().zip(&hasher).for_each(|(to, from)| *to = *from);
            hasher.as_mut_slice().zeroize();
            state
        };
        Self { outer: state_behind(0x5c), inner: state_behind(0x36) }
    }

    /// Returns whether the digest is the HMAC-MD5 of the message. The comparison takes constant time.
    pub(super) fn verifies(&self, message: &[u8], digest: &[u8; 16]) -> bool {
        let Ok(inner) = resume(&self.inner, message) else {
            return false;
        };
        resume(&self.outer, &inner).is_ok_and(|own| equal(&own, digest).into())
    }
}

/// Computes the MD5 hash of one block and the `message` that follows it. `state` is the result of hashing the block.
/// The serialized form of MD5's state is its four words and the number of blocks.
#[cfg(feature = "cram-md5")]
fn resume(state: &[u8; 16], message: &[u8]) -> Result<[u8; 16], DeserializeStateError> {
    let mut serialized = SerializedState::<Md5Core>::default();
    let (words, blocks) = serialized.split_at_mut(state.len());
    words.copy_from_slice(state);
    if let Some(count) = blocks.first_chunk_mut() {
        *count = 1u64.to_le_bytes();
    }
    let resumed = Md5Core::deserialize(&serialized);
    serialized.as_mut_slice().zeroize();
    let (mut md5, mut rest, mut digest) =
        (resumed?, Buffer::<Md5Core>::default(), Array::default());
    rest.digest_blocks(message, |blocks| md5.update_blocks(blocks));
    md5.finalize_fixed_core(&mut rest, &mut digest);
    Ok(digest.into())
}

/// The prefix of the text form.
const DOVECOT: &str = "{CRAM-MD5}";

/// Dovecot's other name for the same scheme.
const ALIAS: &str = "{HMAC-MD5}";

/// The error returned if a string cannot be parsed as a [`CramSecret`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub struct CramSecretError;

impl CramSecretError {
    /// Returns the `Display` text as a static string.
    pub const fn as_str(&self) -> &'static str {
        "the text form of CRAM-MD5 states must be {CRAM-MD5} followed by 64 hexadecimal digits"
    }
}

impl FromStr for CramSecret {
    type Err = CramSecretError;

    fn from_str(text: &str) -> Result<Self, CramSecretError> {
        let (scheme, text) = text.split_at_checked(DOVECOT.len()).ok_or(CramSecretError)?;
        if ![DOVECOT, ALIAS].iter().any(|own| own.eq_ignore_ascii_case(scheme)) {
            return Err(CramSecretError);
        }
        apart(1, || {
            let mut digits = Zeroizing::new([0; 64]);
            digits.get_mut(..text.len()).ok_or(CramSecretError)?.copy_from_slice(text.as_bytes());
            digits.make_ascii_lowercase();
            let (outer, inner) = digits.split_at(32);
            match (hex::decode(outer), hex::decode(inner)) {
                (Some(outer), Some(inner)) => Ok(Self::from_states(outer, inner)),
                _ => Err(CramSecretError),
            }
        })
    }
}

impl fmt::Debug for CramSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CramSecret(***)")
    }
}

#[cfg(all(test, feature = "cram-md5"))]
mod tests {
    use alloc::vec;

    use hmac::{Hmac, KeyInit, Mac};

    use super::*;

    #[test]
    fn agrees_with_hmac_for_every_length() {
        for len in 0..200 {
            let (password, message) = ("k".repeat(len), vec![b'm'; len]);
            let mac =
                Hmac::<Md5>::new_from_slice(password.as_bytes()).map(|m| m.chain_update(&message));
            let digest = mac.map(|m| m.finalize().into_bytes().into()).unwrap_or_default();
            let secret = CramSecret::from_password(&password);
            assert!(secret.as_states().verifies(&message, &digest), "length {len}");
            assert!(!secret.as_states().verifies(&message, &[0; 16]), "length {len}");
        }
    }
}
