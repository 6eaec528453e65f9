//! The hashes of SCRAM, and what a store keeps for it (RFC 5802 §3, RFC 5803).

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use subtle::ConstantTimeEq;
use zeroize::ZeroizeOnDrop;

use super::{Mechanism, prepare};
use crate::secret::Secret;

/// The hash of a SCRAM mechanism. Only those whose feature is on are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScramHash {
    /// SHA-1 (RFC 5802).
    #[cfg(feature = "scram-sha-1")]
    Sha1,
    /// SHA-256 (RFC 7677).
    #[cfg(feature = "scram-sha-256")]
    Sha256,
    /// SHA-512, by the same rules.
    #[cfg(feature = "scram-sha-512")]
    Sha512,
}

impl ScramHash {
    /// The hash that the mechanism uses, if it is one of SCRAM's and compiled in.
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

    /// The mechanism that uses it, without channel binding.
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

    pub(super) fn hmac(self, key: &[u8], message: &[u8]) -> Digest {
        let _ = (key, message);
        match self {
            #[cfg(feature = "scram-sha-1")]
            Self::Sha1 => on::hmac::<sha1::Sha1>(key, message),
            #[cfg(feature = "scram-sha-256")]
            Self::Sha256 => on::hmac::<sha2::Sha256>(key, message),
            #[cfg(feature = "scram-sha-512")]
            Self::Sha512 => on::hmac::<sha2::Sha512>(key, message),
        }
    }

    pub(super) fn hash(self, message: &[u8]) -> Digest {
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

    /// `Hi(password, salt, iterations)` (RFC 5802 §2.2), which is PBKDF2.
    pub(super) fn hi(self, password: &[u8], salt: &[u8], iterations: u32) -> Digest {
        let _ = (password, salt, iterations);
        match self {
            #[cfg(feature = "scram-sha-1")]
            Self::Sha1 => on::hi::<sha1::Sha1>(password, salt, iterations),
            #[cfg(feature = "scram-sha-256")]
            Self::Sha256 => on::hi::<sha2::Sha256>(password, salt, iterations),
            #[cfg(feature = "scram-sha-512")]
            Self::Sha512 => on::hi::<sha2::Sha512>(password, salt, iterations),
        }
    }
}

#[cfg(any(feature = "scram-sha-1", feature = "scram-sha-256", feature = "scram-sha-512"))]
mod on {
    use hmac::{EagerHash, Hmac, KeyInit, Mac};

    use super::Digest;

    pub(super) fn hmac<D: EagerHash>(key: &[u8], message: &[u8]) -> Digest {
        // HMAC takes a key of any length (RFC 2104 §3), so this is never without one.
        Hmac::<D>::new_from_slice(key).map_or(Digest::NONE, |mac| {
            Digest::new(&mac.chain_update(message).finalize().into_bytes())
        })
    }

    pub(super) fn hash<D: hmac::digest::Digest>(message: &[u8]) -> Digest {
        Digest::new(&D::digest(message))
    }

    pub(super) fn hi<D: EagerHash + hmac::digest::Digest>(
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Digest {
        let mut digest = Digest::new(&D::digest([]));
        pbkdf2::pbkdf2_hmac::<D>(password, salt, iterations, digest.as_mut());
        digest
    }
}

/// How long a salt is: one of a real account, and one shown for an account that does not exist.
const SALT: usize = 16;

/// A hash's result: 20, 32 or 64 octets.
#[derive(Clone, ZeroizeOnDrop)]
pub(super) struct Digest {
    octets: [u8; 64],
    length: usize,
}

impl Digest {
    const NONE: Self = Self { octets: [0; 64], length: 0 };

    fn new(from: &[u8]) -> Self {
        let mut digest = Self { length: from.len().min(64), ..Self::NONE };
        digest.octets.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        digest
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }

    fn as_mut(&mut self) -> &mut [u8] {
        self.octets.get_mut(..self.length).unwrap_or_default()
    }

    pub(super) fn xor(mut self, other: &[u8]) -> Self {
        self.octets.iter_mut().zip(other).for_each(|(to, from)| *to ^= *from);
        self
    }

    /// In constant time.
    pub(super) fn equals(&self, other: &[u8]) -> bool {
        self.length > 0 && bool::from(self.as_slice().ct_eq(other))
    }
}

/// What a store keeps of a password for SCRAM with one hash. Nobody can sign in with it alone, but
/// the password can be guessed by it; and with one sign-in listened to as well, or a client that was
/// deceived, it is enough to sign in (RFC 5802 §9).
///
/// As text it is `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` (RFC 5803); Dovecot's
/// `{SCRAM-SHA-256}iterations,salt,StoredKey,ServerKey` is read as well.
///
#[cfg_attr(all(feature = "getrandom", feature = "scram-sha-256"), doc = "```")]
#[cfg_attr(not(all(feature = "getrandom", feature = "scram-sha-256")), doc = "```ignore")]
/// use smtp_auth::sasl::{ScramHash, ScramKeys};
///
/// let keys = ScramKeys::generate(ScramHash::Sha256, "pencil", 4096).ok_or("not a password")?;
/// let stored = keys.to_text(); // for the store
/// let read: ScramKeys = stored.parse()?;
/// assert!(read.check_password("pencil"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ScramKeys {
    hash: ScramHash,
    iterations: u32,
    salt: Box<[u8]>,
    stored_key: Digest,
    server_key: Digest,
}

impl ScramKeys {
    /// Keys with a salt of the operating system's random numbers; 4,096 iterations are the least that
    /// clients take (RFC 7677 §4). PBKDF2 takes its time.
    ///
    /// `None` where the password cannot be prepared (RFC 4013), there are no iterations, or no random
    /// numbers.
    #[cfg(feature = "getrandom")]
    pub fn generate(hash: ScramHash, password: &str, iterations: u32) -> Option<Self> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).ok()?;
        Self::from_password(hash, password, &salt, iterations)
    }

    /// The same with a salt that the caller made.
    ///
    /// The salt is to be random, of 16 octets, another for each account and hash: such are those that
    /// a server shows for accounts that do not exist. `None` where the
    /// password cannot be prepared (RFC 4013), the salt is empty, or there are no iterations.
    pub fn from_password(
        hash: ScramHash,
        password: &str,
        salt: &[u8],
        iterations: u32,
    ) -> Option<Self> {
        if salt.is_empty() || iterations == 0 {
            return None;
        }
        let password = Secret::new(prepare(password)?);
        let salted = hash.hi(password.expose().as_bytes(), salt, iterations);
        Some(Self::from_salted(hash, &salted, salt, iterations))
    }

    fn from_salted(hash: ScramHash, salted: &Digest, salt: &[u8], iterations: u32) -> Self {
        let client_key = hash.hmac(salted.as_slice(), b"Client Key");
        Self {
            hash,
            iterations,
            salt: salt.into(),
            stored_key: hash.hash(client_key.as_slice()),
            server_key: hash.hmac(salted.as_slice(), b"Server Key"),
        }
    }

    /// Keys that no password has, for an account that does not exist. Its salt stays the same for the
    /// name, and nobody can tell it from a real one.
    pub(super) fn of_nobody(hash: ScramHash, key: &[u8], name: &str, iterations: u32) -> Self {
        let salt = hash.hmac(key, format!("{}:{name}", hash.mechanism()).as_bytes());
        let nothing = hash.hash(salt.as_slice());
        Self {
            hash,
            iterations,
            salt: salt.as_slice().iter().take(SALT).copied().collect(),
            stored_key: nothing.clone(),
            server_key: nothing,
        }
    }

    /// The text form, to keep in a store as safely as a password's hash.
    pub fn to_text(&self) -> String {
        let [salt, stored, server] =
            [&self.salt, self.stored_key.as_slice(), self.server_key.as_slice()].map(encode);
        format!("{}${}:{salt}${stored}:{server}", self.hash.mechanism(), self.iterations)
    }

    /// Whether that is the password: PBKDF2 again, compared in constant time. So a store with
    /// these keys alone serves PLAIN and LOGIN too.
    pub fn check_password(&self, password: &str) -> bool {
        let own = Self::from_password(self.hash, password, &self.salt, self.iterations);
        own.is_some_and(|own| own.stored_key.equals(self.stored_key.as_slice()))
    }

    /// The hash that they are for.
    pub fn hash(&self) -> ScramHash {
        self.hash
    }

    /// The number of iterations.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    pub(super) fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The server's signature, if the proof is right (RFC 5802 §3).
    pub(super) fn verify(&self, auth_message: &str, proof: &[u8]) -> (bool, Digest) {
        let auth_message = auth_message.as_bytes();
        let signature = self.hash.hmac(self.stored_key.as_slice(), auth_message);
        let fits = proof.len() == signature.length;
        let client_key = signature.xor(proof);
        let proven = self.hash.hash(client_key.as_slice()).equals(self.stored_key.as_slice());
        (fits & proven, self.hash.hmac(self.server_key.as_slice(), auth_message))
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// The text is not the form of [`ScramKeys`], or its hash is not compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a text form of SCRAM keys whose hash is compiled in")]
#[non_exhaustive]
pub struct ScramKeysError;

impl FromStr for ScramKeys {
    type Err = ScramKeysError;

    fn from_str(text: &str) -> Result<Self, ScramKeysError> {
        Self::read(text).ok_or(ScramKeysError)
    }
}

impl ScramKeys {
    fn read(text: &str) -> Option<Self> {
        let (name, fields) = match text.strip_prefix('{') {
            Some(dovecot) => {
                let (name, fields) = dovecot.split_once('}')?;
                (name, fields.split(',').collect::<Vec<_>>())
            }
            None => {
                let mut parts = text.split('$');
                let (name, work, keys) = (parts.next()?, parts.next()?, parts.next()?);
                let ((iterations, salt), (stored, server)) =
                    (work.split_once(':')?, keys.split_once(':')?);
                if parts.next().is_some() {
                    return None;
                }
                (name, alloc::vec![iterations, salt, stored, server])
            }
        };
        let [iterations, salt, stored, server] = fields.as_slice() else { return None };
        let mechanism = Mechanism::from_name(name).filter(|scram| !scram.binds_channel())?;
        let hash = ScramHash::of(mechanism)?;
        let length = hash.hash(b"").length;
        let key =
            |text| decode(text).filter(|key| key.len() == length).map(|key| Digest::new(&key));
        let iterations = positive(iterations)?;
        let salt = decode(salt).filter(|salt| !salt.is_empty())?;
        Some(Self {
            hash,
            iterations,
            salt: salt.into(),
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }
}

/// A password after PBKDF2, with what it was made of, the password included: kept and given again with
/// [`Credentials::salted`](super::client::Credentials::salted), it spares a client the work.
#[derive(Clone)]
pub struct SaltedPassword {
    pub(super) hash: ScramHash,
    pub(super) salt: Box<[u8]>,
    pub(super) iterations: u32,
    /// As it was prepared: salts are stable, so that they do not tell one password from another.
    pub(super) password: Secret,
    salted: Digest,
}

impl SaltedPassword {
    pub(super) fn derive(hash: ScramHash, password: Secret, salt: &[u8], iterations: u32) -> Self {
        let salted = hash.hi(password.expose().as_bytes(), salt, iterations);
        Self { hash, salt: salt.into(), iterations, password, salted }
    }

    /// The client's proof, and the signature to expect of the server (RFC 5802 §3).
    pub(super) fn prove(&self, auth_message: &str) -> (Digest, Digest) {
        let (hash, salted) = (self.hash, self.salted.as_slice());
        let client_key = hash.hmac(salted, b"Client Key");
        let stored_key = hash.hash(client_key.as_slice());
        let signature = hash.hmac(stored_key.as_slice(), auth_message.as_bytes());
        let server_key = hash.hmac(salted, b"Server Key");
        let expected = hash.hmac(server_key.as_slice(), auth_message.as_bytes());
        (client_key.xor(signature.as_slice()), expected)
    }
}

impl fmt::Debug for SaltedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltedPassword(***)")
    }
}

/// `posit-number = %x31-39 *DIGIT` (RFC 5802 §7), as far as it can be counted to.
pub(super) fn positive(text: &str) -> Option<u32> {
    let digits = !text.starts_with('0') && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

pub(super) fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
