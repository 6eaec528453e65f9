//! The keys that a store keeps for SCRAM (RFC 5802 §3, RFC 5803).

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::fmt;

use zeroize::Zeroizing;

use super::prepare;
use crate::secret::{Secret, apart};

mod hash;
#[cfg(any(feature = "scram-sha-1", feature = "scram-sha-256", feature = "scram-sha-512"))]
mod hi;
mod text;

pub use hash::ScramHash;
pub(super) use hash::{Digest, Kind};
pub use text::ScramKeysError;

use hash::Signatures;

/// The length of a salt in octets, for a real account and for a decoy.
const SALT: usize = 16;

/// An account's SCRAM keys for one hash function. A store keeps these keys instead of the password.
///
/// After a database breach, an attacker cannot authenticate with the keys alone, but can guess the password offline by
/// brute force, and can impersonate the server. The attacker can authenticate with the keys only after recording an
/// exchange, or after tricking a client into connecting to the attacker's server (RFC 5802 §9).
///
/// The text form is `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` (RFC 5803), which PostgreSQL also uses.
/// [`str::parse`] reads this form, with or without the spaces that LDAP's `authPassword` allows (RFC 3112 §2.1). It
/// also reads Dovecot's form, `{SCRAM-SHA-256}iterations,salt,StoredKey,ServerKey`, and the variants in which Dovecot
/// encodes these fields a second time (`{SCRAM-SHA-256.b64}`, `.base64`, `.hex`). For other stores, use
/// [`from_parts`](Self::from_parts) or [`from_salted_password`](Self::from_salted_password).
///
#[cfg_attr(all(feature = "getrandom", feature = "scram-sha-256"), doc = "```")]
#[cfg_attr(not(all(feature = "getrandom", feature = "scram-sha-256")), doc = "```ignore")]
/// use smtp_auth::sasl::{ScramHash, ScramKeys};
///
/// let keys = ScramKeys::generate(ScramHash::Sha256, "pencil", 4096).ok_or("not a password")?;
/// let stored = keys.to_text(); // for the store
/// let read: ScramKeys = stored.expose().parse()?;
/// assert!(read.check_password("pencil"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ScramKeys(Arc<Keys>);

/// Shared, so that a store that keeps keys in memory can return them without a copy.
struct Keys {
    hash: ScramHash,
    iterations: u32,
    salt: Box<[u8]>,
    stored_key: Digest,
    server_key: Digest,
    signatures: Signatures,
}

impl ScramKeys {
    /// Creates keys from a password, with a random salt from the operating system.
    ///
    /// Use at least 4,096 iterations (RFC 7677 §4). Clients may refuse a smaller number, as this crate's client does by
    /// default. This method blocks the thread while one PBKDF2 computation runs.
    ///
    /// Returns `None` if the password cannot be prepared (RFC 4013), if `iterations` is 0, or if the operating
    /// system cannot supply random numbers.
    #[cfg(feature = "getrandom")]
    pub fn generate(hash: ScramHash, password: &str, iterations: u32) -> Option<Self> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).ok()?;
        Self::from_password(hash, password, &salt, iterations)
    }

    /// Creates keys from a password and a given salt.
    ///
    /// Use a different salt of 16 random octets for each account and each hash. Clients then cannot distinguish the
    /// salt from the decoy salts that a server sends for accounts that do not exist. This method blocks the thread
    /// while one PBKDF2 computation runs.
    ///
    /// Returns `None` if the password cannot be prepared (RFC 4013), if the salt is empty, or if `iterations`
    /// is 0.
    pub fn from_password(
        hash: ScramHash,
        password: &str,
        salt: &[u8],
        iterations: u32,
    ) -> Option<Self> {
        if !usable(salt, iterations) {
            return None;
        }
        let password = Secret::new(prepare(password)?);
        Some(apart(2, || {
            let salted = hash.hi(password.expose().as_bytes(), salt, iterations);
            Self::from_salted(hash, &salted, salt, iterations).0
        }))
    }

    /// Creates keys from a SaltedPassword (the result of `Hi`, RFC 5802 §3), and from the salt and the number of
    /// iterations that were used to compute it. The mail server mox stores passwords in this form.
    ///
    /// Unlike [`ScramKeys`], a salted password alone is enough to authenticate. Delete the salted password once the
    /// keys are stored.
    ///
    /// Returns `None` if the salted password is not as long as the hash's output, if the salt is empty, or if
    /// `iterations` is 0.
    pub fn from_salted_password(
        hash: ScramHash,
        salted_password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Option<Self> {
        apart(2, || {
            let salted = hash.digest(salted_password).filter(|_| usable(salt, iterations))?;
            Some(Self::from_salted(hash, &salted, salt, iterations).0)
        })
    }

    /// Creates keys from their parts, for a store that has a column for each part.
    ///
    /// Returns `None` if the salt is empty, if the number of iterations is 0, or if a key is not as long as the
    /// hash's output.
    ///
    #[cfg_attr(feature = "scram-sha-256", doc = "```")]
    #[cfg_attr(not(feature = "scram-sha-256"), doc = "```ignore")]
    /// use smtp_auth::sasl::{ScramHash, ScramKeys, ScramParts};
    ///
    /// let salt = b"of sixteen octet";
    /// let keys = ScramKeys::from_password(ScramHash::Sha256, "pencil", salt, 4096).ok_or("no password")?;
    /// let ScramParts { stored_key, server_key, .. } = keys.parts(); // into the columns
    /// let row = ScramParts { hash: ScramHash::Sha256, iterations: 4096, salt, stored_key, server_key };
    /// assert!(ScramKeys::from_parts(row).is_some_and(|keys| keys.check_password("pencil")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_parts(parts: ScramParts<'_>) -> Option<Self> {
        apart(2, || Self::of_parts(parts))
    }

    fn of_parts(parts: ScramParts<'_>) -> Option<Self> {
        let ScramParts { hash, iterations, salt, stored_key, server_key } = parts;
        let (stored_key, server_key) = (hash.digest(stored_key)?, hash.digest(server_key)?);
        usable(salt, iterations).then(|| Self::new(hash, iterations, salt, stored_key, server_key))
    }

    /// Returns the parts of the keys, for a store that has a column for each part.
    pub fn parts(&self) -> ScramParts<'_> {
        let Keys { hash, iterations, ref salt, ref stored_key, ref server_key, .. } = *self.0;
        let (stored_key, server_key) = (stored_key.as_slice(), server_key.as_slice());
        ScramParts { hash, iterations, salt, stored_key, server_key }
    }

    /// Returns the keys, and the ClientKey from which they were computed (RFC 5802 §3).
    fn from_salted(
        hash: ScramHash,
        salted: &Digest,
        salt: &[u8],
        iterations: u32,
    ) -> (Self, Digest) {
        let client_key = hash.mac(salted, b"Client Key");
        let (stored_key, server_key) =
            (hash.hash(client_key.as_slice()), hash.mac(salted, b"Server Key"));
        (Self::new(hash, iterations, salt, stored_key, server_key), client_key)
    }

    fn new(
        hash: ScramHash,
        iterations: u32,
        salt: &[u8],
        stored_key: Digest,
        server_key: Digest,
    ) -> Self {
        Self(Arc::new(Keys {
            hash,
            iterations,
            salt: salt.into(),
            signatures: Signatures::new(hash, &stored_key, &server_key),
            stored_key,
            server_key,
        }))
    }

    /// Returns whether the keys were computed from this password. This method runs PBKDF2 again, and compares the
    /// result in constant time.
    ///
    /// With this method, a store that keeps only these keys can also support PLAIN and LOGIN. To prevent user
    /// enumeration by a timing attack, check the password against [decoy keys](super::server::Config::decoy_keys) if
    /// the account does not exist.
    pub fn check_password(&self, password: &str) -> bool {
        let own = Self::from_password(self.hash(), password, self.salt(), self.iterations());
        own.is_some_and(|own| own.0.stored_key.equals(&self.0.stored_key))
    }

    /// Returns the hash for which the keys were computed.
    pub fn hash(&self) -> ScramHash {
        self.0.hash
    }

    /// Returns the number of iterations.
    pub fn iterations(&self) -> u32 {
        self.0.iterations
    }

    pub(super) fn salt(&self) -> &[u8] {
        &self.0.salt
    }

    /// Returns whether the client's proof is right (RFC 5802 §3).
    pub(super) fn verify(&self, auth_message: &[u8], proof: &Digest) -> bool {
        let signature = self.0.signatures.client(auth_message);
        let fits = proof.as_slice().len() == signature.as_slice().len();
        let client_key = signature.xor(proof);
        let stored_key = self.0.hash.hash(client_key.as_slice());
        fits & stored_key.equals(&self.0.stored_key)
    }

    /// Returns the signature that proves the server's identity to the client.
    pub(super) fn server_signature(&self, auth_message: &[u8]) -> Digest {
        self.0.signatures.server(auth_message)
    }
}

/// Returns whether PBKDF2 can be computed with these parameters.
fn usable(salt: &[u8], iterations: u32) -> bool {
    !salt.is_empty() && iterations > 0
}

/// The parts of [`ScramKeys`] (RFC 5802 §3). Protect the keys as you would protect password hashes. The `Debug` output
/// contains only the hash and the number of iterations.
#[derive(Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "SCRAM has no other parts")]
pub struct ScramParts<'a> {
    /// The hash for which the keys were computed.
    pub hash: ScramHash,
    /// The number of iterations, which is at least 1.
    pub iterations: u32,
    /// The salt. It must not be empty.
    pub salt: &'a [u8],
    /// `StoredKey = H(ClientKey)`. This key is as long as the hash's output: 20, 32 or 64 octets.
    pub stored_key: &'a [u8],
    /// `ServerKey = HMAC(SaltedPassword, "Server Key")`. This key is as long as the hash's output.
    pub server_key: &'a [u8],
}

impl fmt::Debug for ScramParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash, iterations, .. } = self;
        let mut shown = f.debug_struct("ScramParts");
        shown.field("hash", hash).field("iterations", iterations).finish_non_exhaustive()
    }
}

/// Decoy keys for accounts that do not exist: a salt for each name, and keys that no password matches. They
/// prevent user enumeration, because a client cannot distinguish them from real ones.
#[derive(Clone)]
pub(super) struct Decoys {
    /// The key of SipHash, a keyed function with a result of 128 bits that cannot be predicted without the key. SipHash
    /// is used because it is cheap: a decoy salt is computed in every exchange, whether or not the account exists.
    salt_key: Zeroizing<[u8; 16]>,
    keys: ScramKeys,
}

impl Decoys {
    pub(super) fn new(hash: ScramHash, key: &Secret) -> Self {
        let seed = hash.hash(key.expose().as_bytes());
        let mut salt_key = Zeroizing::new([0; 16]);
        salt_key.iter_mut().zip(seed.as_slice()).for_each(|(to, from)| *to = *from);
        let nothing = hash.hash(seed.as_slice());
        Self { salt_key, keys: ScramKeys::new(hash, 1, &[], nothing.clone(), nothing) }
    }

    /// Creates decoys for each hash.
    pub(super) fn of_each(key: &Secret) -> Vec<Self> {
        ScramHash::COMPILED.iter().map(|&hash| Self::new(hash, key)).collect()
    }

    pub(super) fn keys(&self) -> &ScramKeys {
        &self.keys
    }

    /// Returns the decoy salt of a name, which is always the same for this name.
    pub(super) fn salt(&self, name: &str) -> [u8; SALT] {
        let _ = name;
        match self.keys.0.hash {
            #[cfg(any(
                feature = "scram-sha-1",
                feature = "scram-sha-256",
                feature = "scram-sha-512"
            ))]
            _ => {
                let hasher = siphasher::sip128::SipHasher24::new_with_key(&self.salt_key);
                hasher.hash(name.as_bytes()).as_bytes()
            }
        }
    }

    /// Returns the [`keys`](Self::keys) with the decoy salt of this name.
    pub(super) fn keys_of(&self, name: &str, iterations: u32) -> ScramKeys {
        let Keys { hash, ref stored_key, ref server_key, .. } = *self.keys.0;
        let (stored_key, server_key) = (stored_key.clone(), server_key.clone());
        ScramKeys::new(hash, iterations, &self.salt(name), stored_key, server_key)
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys").field("hash", &self.hash()).finish_non_exhaustive()
    }
}

/// A salted password for SCRAM (RFC 5802 §3), and the inputs from which PBKDF2 computes it. The inputs include the
/// password itself.
///
/// A client can keep this value, and pass it to [`Credentials::salted`](super::client::Credentials::salted) for the
/// next authentication. The client then does not have to run PBKDF2 again.
#[derive(Clone)]
pub struct SaltedPassword(Arc<Salted>);

struct Salted {
    /// The prepared password. It is kept because a salt may stay the same when the password changes.
    password: Secret,
    client_key: Digest,
    keys: ScramKeys,
}

impl SaltedPassword {
    pub(super) fn derive(hash: ScramHash, password: Secret, salt: &[u8], iterations: u32) -> Self {
        apart(2, || {
            let salted = hash.hi(password.expose().as_bytes(), salt, iterations);
            let (keys, client_key) = ScramKeys::from_salted(hash, &salted, salt, iterations);
            Self(Arc::new(Salted { password, client_key, keys }))
        })
    }

    /// Returns whether the salted password was computed from these inputs.
    pub(super) fn is_of(
        &self,
        hash: ScramHash,
        password: &Secret,
        salt: &[u8],
        iterations: u32,
    ) -> bool {
        let keys = &*self.0.keys.0;
        self.0.password == *password
            && (keys.hash, &*keys.salt, keys.iterations) == (hash, salt, iterations)
    }

    /// Returns the client's proof (RFC 5802 §3).
    pub(super) fn prove(&self, auth_message: &[u8]) -> Digest {
        self.0.keys.0.signatures.client(auth_message).xor(&self.0.client_key)
    }

    /// Returns the signature that the server has to send to prove its identity.
    pub(super) fn server_signature(&self, auth_message: &[u8]) -> Digest {
        self.0.keys.server_signature(auth_message)
    }
}

impl fmt::Debug for SaltedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltedPassword(***)")
    }
}
