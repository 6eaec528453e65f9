//! The hashes of SCRAM (RFC 5802 §2.2), and computations with them.

use ::base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::{Zeroize, Zeroizing};

#[cfg(any(feature = "scram-sha-1", feature = "scram-sha-256", feature = "scram-sha-512"))]
use super::hi;
use crate::{sasl::Mechanism, secret::equal};

/// The hash of a SCRAM mechanism. A variant exists only if its Cargo feature is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScramHash {
    /// SHA-1 (RFC 5802). The keys are 20 octets long.
    #[cfg(feature = "scram-sha-1")]
    Sha1,
    /// SHA-256 (RFC 7677). The keys are 32 octets long.
    #[cfg(feature = "scram-sha-256")]
    Sha256,
    /// SHA-512, with the rules that RFC 7677 defines for SHA-256. The keys are 64 octets long.
    #[cfg(feature = "scram-sha-512")]
    Sha512,
}

/// A SCRAM mechanism, stored in less memory than a [`Mechanism`].
#[derive(Clone, Copy, Debug)]
pub(in crate::sasl) struct Kind {
    pub(in crate::sasl) hash: ScramHash,
    /// Whether the mechanism is the -PLUS form.
    pub(in crate::sasl) bound: bool,
}

impl Kind {
    pub(in crate::sasl) fn of(mechanism: Mechanism) -> Option<Self> {
        Some(Self { hash: ScramHash::of(mechanism)?, bound: mechanism.binds_channel() })
    }

    pub(in crate::sasl) const fn mechanism(self) -> Mechanism {
        match (self.hash.mechanism(), self.bound) {
            (Mechanism::ScramSha1, true) => Mechanism::ScramSha1Plus,
            (Mechanism::ScramSha256, true) => Mechanism::ScramSha256Plus,
            (Mechanism::ScramSha512, true) => Mechanism::ScramSha512Plus,
            (unbound, _) => unbound,
        }
    }
}

impl ScramHash {
    pub(super) const COMPILED: &'static [Self] = &[
        #[cfg(feature = "scram-sha-1")]
        Self::Sha1,
        #[cfg(feature = "scram-sha-256")]
        Self::Sha256,
        #[cfg(feature = "scram-sha-512")]
        Self::Sha512,
    ];

    /// Returns the hash that the mechanism uses. Returns `None` if the mechanism is not a SCRAM mechanism, or is not
    /// compiled in.
    pub const fn of(mechanism: Mechanism) -> Option<Self> {
        match mechanism {
            #[cfg(feature = "scram-sha-1")]
            Mechanism::ScramSha1 | Mechanism::ScramSha1Plus => Some(Self::Sha1),
            #[cfg(feature = "scram-sha-256")]
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => Some(Self::Sha256),
            #[cfg(feature = "scram-sha-512")]
            Mechanism::ScramSha512 | Mechanism::ScramSha512Plus => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Returns the mechanism without channel binding that uses this hash.
    pub const fn mechanism(self) -> Mechanism {
        match self {
            #[cfg(feature = "scram-sha-1")]
            Self::Sha1 => Mechanism::ScramSha1,
            #[cfg(feature = "scram-sha-256")]
            Self::Sha256 => Mechanism::ScramSha256,
            #[cfg(feature = "scram-sha-512")]
            Self::Sha512 => Mechanism::ScramSha512,
        }
    }

    pub(in crate::sasl) fn hash(self, message: &[u8]) -> Digest {
        let _ = message;
        match self {
            #[cfg(feature = "scram-sha-1")]
            Self::Sha1 => on::hash::<sha1::Sha1>(message),
            #[cfg(feature = "scram-sha-256")]
            Self::Sha256 => on::hash::<sha2::Sha256>(message),
            #[cfg(feature = "scram-sha-512")]
            Self::Sha512 => on::hash::<sha2::Sha512>(message),
        }
    }

    /// Returns the octets as a digest, if their number is the length of the hash's output.
    pub(super) fn digest(self, octets: &[u8]) -> Option<Digest> {
        (octets.len() == self.hash(b"").length).then(|| Digest::new(octets))
    }

    /// `HMAC(key, message)`
    pub(super) fn mac(self, key: &Digest, message: &[u8]) -> Digest {
        let _ = (key, message);
        match self {
            #[cfg(feature = "scram-sha-1")]
            Self::Sha1 => on::sign::<sha1::Sha1>(&on::keyed(key.as_slice()), message),
            #[cfg(feature = "scram-sha-256")]
            Self::Sha256 => on::sign::<sha2::Sha256>(&on::keyed(key.as_slice()), message),
            #[cfg(feature = "scram-sha-512")]
            Self::Sha512 => on::sign::<sha2::Sha512>(&on::keyed(key.as_slice()), message),
        }
    }

    /// `Hi(password, salt, iterations)` (RFC 5802 §2.2), which is PBKDF2.
    pub(super) fn hi(self, password: &[u8], salt: &[u8], iterations: u32) -> Digest {
        let _ = (password, salt, iterations);
        match self {
            #[cfg(feature = "scram-sha-1")]
            Self::Sha1 => hi::sha1(password, salt, iterations),
            #[cfg(feature = "scram-sha-256")]
            Self::Sha256 => hi::sha256(password, salt, iterations),
            #[cfg(feature = "scram-sha-512")]
            Self::Sha512 => hi::sha512(password, salt, iterations),
        }
    }
}

/// HMAC under the StoredKey and under the ServerKey, with the blocks of the padded keys already hashed (RFC 2104 §4).
///
/// Each variant is boxed separately. In an unboxed enum, a smaller variant would be moved into the room of the
/// largest together with unrelated stack contents, which may include a key and would never be zeroed.
pub(super) enum Signatures {
    #[cfg(feature = "scram-sha-1")]
    Sha1(on::Pair<sha1::Sha1>),
    #[cfg(feature = "scram-sha-256")]
    Sha256(on::Pair<sha2::Sha256>),
    #[cfg(feature = "scram-sha-512")]
    Sha512(on::Pair<sha2::Sha512>),
}

impl Signatures {
    pub(super) fn new(hash: ScramHash, stored_key: &Digest, server_key: &Digest) -> Self {
        let _ = (stored_key, server_key);
        match hash {
            #[cfg(feature = "scram-sha-1")]
            ScramHash::Sha1 => Self::Sha1(on::pair(stored_key, server_key)),
            #[cfg(feature = "scram-sha-256")]
            ScramHash::Sha256 => Self::Sha256(on::pair(stored_key, server_key)),
            #[cfg(feature = "scram-sha-512")]
            ScramHash::Sha512 => Self::Sha512(on::pair(stored_key, server_key)),
        }
    }

    /// `ClientSignature = HMAC(StoredKey, AuthMessage)`
    pub(super) fn client(&self, message: &[u8]) -> Digest {
        let _ = message;
        match *self {
            #[cfg(feature = "scram-sha-1")]
            Self::Sha1(ref keyed) => on::sign(&keyed.0, message),
            #[cfg(feature = "scram-sha-256")]
            Self::Sha256(ref keyed) => on::sign(&keyed.0, message),
            #[cfg(feature = "scram-sha-512")]
            Self::Sha512(ref keyed) => on::sign(&keyed.0, message),
        }
    }

    /// `ServerSignature = HMAC(ServerKey, AuthMessage)`
    pub(super) fn server(&self, message: &[u8]) -> Digest {
        let _ = message;
        match *self {
            #[cfg(feature = "scram-sha-1")]
            Self::Sha1(ref keyed) => on::sign(&keyed.1, message),
            #[cfg(feature = "scram-sha-256")]
            Self::Sha256(ref keyed) => on::sign(&keyed.1, message),
            #[cfg(feature = "scram-sha-512")]
            Self::Sha512(ref keyed) => on::sign(&keyed.1, message),
        }
    }
}

#[cfg(any(feature = "scram-sha-1", feature = "scram-sha-256", feature = "scram-sha-512"))]
pub(super) mod on {
    use alloc::boxed::Box;

    use hmac::{EagerHash, Hmac, KeyInit, Mac};

    use super::Digest;

    pub(in crate::sasl) fn keyed<D: EagerHash>(key: &[u8]) -> Hmac<D> {
        // HMAC accepts a key of any length (RFC 2104 §3), so the alternative is never used.
        Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()))
    }

    pub(super) type Pair<D> = Box<(Hmac<D>, Hmac<D>)>;

    pub(super) fn pair<D: EagerHash>(one: &Digest, other: &Digest) -> Pair<D> {
        Box::new((keyed(one.as_slice()), keyed(other.as_slice())))
    }

    pub(super) fn sign<D: EagerHash>(mac: &Hmac<D>, message: &[u8]) -> Digest {
        Digest::new(&mac.clone().chain_update(message).finalize().into_bytes())
    }

    pub(super) fn hash<D: hmac::digest::Digest>(message: &[u8]) -> Digest {
        Digest::new(&D::digest(message))
    }
}

/// The result of a hash: 20, 32 or 64 octets.
#[derive(Clone)]
pub(in crate::sasl) struct Digest {
    octets: [u8; 64],
    length: usize,
}

impl Drop for Digest {
    fn drop(&mut self) {
        self.octets.as_mut_slice().zeroize();
    }
}

impl Digest {
    /// Creates a digest from up to 64 octets, the length of the longest hash.
    pub(super) fn new(from: &[u8]) -> Self {
        let mut digest = Self { octets: [0; 64], length: from.len().min(64) };
        if let Some(octets) = digest.octets.get_mut(..from.len()) {
            octets.copy_from_slice(from);
        }
        digest
    }

    /// Returns `None` for text that is not base64 (RFC 4648 §4), or is too long for any hash.
    pub(in crate::sasl) fn from_base64(text: &str) -> Option<Self> {
        let mut room = Zeroizing::new([0; 66]);
        let length = STANDARD.decode_slice(text, &mut *room).ok()?;
        room.get(..length).filter(|octets| octets.len() <= 64).map(Self::new)
    }

    pub(in crate::sasl) fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }

    pub(super) fn xor(mut self, other: &Self) -> Self {
        self.octets.iter_mut().zip(&other.octets).for_each(|(to, from)| *to ^= *from);
        self
    }

    /// Compares two digests in constant time.
    pub(in crate::sasl) fn equals(&self, other: &Self) -> bool {
        equal(self.as_slice(), other.as_slice()).into()
    }
}
