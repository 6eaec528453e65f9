//! What a store keeps for CRAM-MD5.

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

/// What it takes to check a CRAM-MD5 response: the two MD5 states that stand behind HMAC's keyed
/// blocks (RFC 2104 §2).
///
/// They serve as well as the password for CRAM-MD5, so a store must keep them as safe, but the
/// password cannot be read out of them.
///
/// As text they are Dovecot's `{CRAM-MD5}` and 64 hexadecimal digits, the outer state first. It is read in
/// upper and lower case, and by Dovecot's other name for it, `{HMAC-MD5}`, too.
#[derive(Clone)]
pub struct CramSecret(Arc<States>);

/// Shared, so that who gives them out leaves no copy.
#[derive(Default, ZeroizeOnDrop)]
pub(super) struct States {
    outer: [u8; 16],
    inner: [u8; 16],
}

impl CramSecret {
    /// Computes the states from a password: two blocks of MD5, and as many again for a password
    /// of over 64 octets.
    #[cfg(feature = "cram-md5")]
    pub fn from_password(password: &str) -> Self {
        apart(1, || Self(Arc::new(States::of_password(password))))
    }

    /// Takes the two states as a store kept them: four words each, low octet first.
    pub fn from_states(outer: [u8; 16], inner: [u8; 16]) -> Self {
        Self(Arc::new(States { outer, inner }))
    }

    /// The outer and the inner state, to keep in a store.
    pub fn states(&self) -> (&[u8; 16], &[u8; 16]) {
        (&self.0.outer, &self.0.inner)
    }

    /// The text form, to keep in a store as safely as the password itself.
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

    /// Whether that is the password, in constant time. So a store with these alone serves PLAIN and
    /// LOGIN too.
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
        // A key of just the block's size is used as it is.
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

    /// Whether that is HMAC-MD5 of the message under the password, in constant time.
    pub(super) fn verifies(&self, message: &[u8], digest: &[u8; 16]) -> bool {
        let Ok(inner) = resume(&self.inner, message) else {
            return false;
        };
        resume(&self.outer, &inner).is_ok_and(|own| equal(&own, digest).into())
    }
}

/// MD5 of a message whose first block led to that state. The state's serialized form is its four
/// words and the count of blocks.
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

/// How the text form begins.
const DOVECOT: &str = "{CRAM-MD5}";

/// Dovecot's other name for the same.
const ALIAS: &str = "{HMAC-MD5}";

/// The text is not the form of [`CramSecret`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub struct CramSecretError;

impl CramSecretError {
    /// What `Display` says, as a fixed text.
    pub const fn as_str(&self) -> &'static str {
        "not a text form of CRAM-MD5 states: {CRAM-MD5} and 64 hexadecimal digits"
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
