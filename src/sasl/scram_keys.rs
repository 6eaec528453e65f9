//! What a store keeps for SCRAM (RFC 5802 §3, RFC 5803).

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

/// How long a salt is: one of a real account, and one shown for an account that does not exist.
const SALT: usize = 16;

/// What a store keeps of a password for SCRAM with one hash. Nobody can sign in with it alone, but
/// the password can be guessed by it; and with one sign-in listened to as well, or a client that was
/// deceived, it is enough to sign in (RFC 5802 §9).
///
/// As text it is `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` (RFC 5803), as PostgreSQL writes it too.
/// [`str::parse`] takes that, also with the spaces of LDAP's `authPassword` (RFC 3112 §2.1), and Dovecot's
/// `{SCRAM-SHA-256}iterations,salt,StoredKey,ServerKey`, also as Dovecot encodes it once more
/// (`{SCRAM-SHA-256.b64}`, `.base64`, `.hex`). For other stores there are [`from_parts`](Self::from_parts) and
/// [`from_salted_password`](Self::from_salted_password).
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

/// Shared, so that a store that holds them ready gives them out without a copy.
struct Keys {
    hash: ScramHash,
    iterations: u32,
    salt: Box<[u8]>,
    stored_key: Digest,
    server_key: Digest,
    signatures: Signatures,
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
        if !usable(salt, iterations) {
            return None;
        }
        let password = Secret::new(prepare(password)?);
        Some(apart(2, || {
            let salted = hash.hi(password.expose().as_bytes(), salt, iterations);
            Self::from_salted(hash, &salted, salt, iterations).0
        }))
    }

    /// Keys from a SaltedPassword (RFC 5802 §3), the result of `Hi`, and the salt and the iterations that it was
    /// made with: what mox stores.
    ///
    /// Whoever has a salted password can authenticate with it, which [`ScramKeys`] alone do not allow: once the
    /// keys are stored, delete it. `None` where it is not as long as the hash's result, the salt is empty, or
    /// there are no iterations.
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

    /// Keys from their parts, out of a store that has columns of its own for them.
    ///
    /// `None` where the salt is empty, there are no iterations, or a key is not as long as the hash's result.
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

    /// The parts, for a store that has columns of its own for them.
    pub fn parts(&self) -> ScramParts<'_> {
        let Keys { hash, iterations, ref salt, ref stored_key, ref server_key, .. } = *self.0;
        let (stored_key, server_key) = (stored_key.as_slice(), server_key.as_slice());
        ScramParts { hash, iterations, salt, stored_key, server_key }
    }

    /// The keys, and the ClientKey that they were made of (RFC 5802 §3).
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

    /// Whether that is the password: PBKDF2 again, compared in constant time. So a store with
    /// these keys alone serves PLAIN and LOGIN too.
    pub fn check_password(&self, password: &str) -> bool {
        let own = Self::from_password(self.hash(), password, self.salt(), self.iterations());
        own.is_some_and(|own| own.0.stored_key.equals(&self.0.stored_key))
    }

    /// The hash that they are for.
    pub fn hash(&self) -> ScramHash {
        self.0.hash
    }

    /// The number of iterations.
    pub fn iterations(&self) -> u32 {
        self.0.iterations
    }

    pub(super) fn salt(&self) -> &[u8] {
        &self.0.salt
    }

    /// Whether the client's proof is right (RFC 5802 §3).
    pub(super) fn verify(&self, auth_message: &[u8], proof: &Digest) -> bool {
        let signature = self.0.signatures.client(auth_message);
        let fits = proof.as_slice().len() == signature.as_slice().len();
        let client_key = signature.xor(proof);
        let stored_key = self.0.hash.hash(client_key.as_slice());
        fits & stored_key.equals(&self.0.stored_key)
    }

    /// What a client believes a server by.
    pub(super) fn server_signature(&self, auth_message: &[u8]) -> Digest {
        self.0.signatures.server(auth_message)
    }
}

/// Whether PBKDF2 may be asked for it.
fn usable(salt: &[u8], iterations: u32) -> bool {
    !salt.is_empty() && iterations > 0
}

/// The parts of [`ScramKeys`] (RFC 5802 §3). Keep them as safely as a password's hash; `Debug` shows the hash
/// and the iterations alone.
#[derive(Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "SCRAM has no other parts")]
pub struct ScramParts<'a> {
    /// The hash that they are for.
    pub hash: ScramHash,
    /// The number of iterations, which is not 0.
    pub iterations: u32,
    /// The salt, which is not empty.
    pub salt: &'a [u8],
    /// `StoredKey = H(ClientKey)`: as many octets as the hash's result has, 20, 32 or 64.
    pub stored_key: &'a [u8],
    /// `ServerKey = HMAC(SaltedPassword, "Server Key")`, of the same length.
    pub server_key: &'a [u8],
}

impl fmt::Debug for ScramParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash, iterations, .. } = self;
        let mut shown = f.debug_struct("ScramParts");
        shown.field("hash", hash).field("iterations", iterations).finish_non_exhaustive()
    }
}

/// What SCRAM shows for accounts that do not exist: a salt for each name, and keys that no password
/// has. Nobody can tell them from real ones.
#[derive(Clone)]
pub(super) struct Decoys {
    /// Of SipHash, a keyed function of 128 bits whose values cannot be foreseen without the key, and
    /// cheap: a salt is made in every exchange, whether there is an account or not.
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

    /// One for each hash.
    pub(super) fn of_each(key: &Secret) -> Vec<Self> {
        ScramHash::COMPILED.iter().map(|&hash| Self::new(hash, key)).collect()
    }

    pub(super) fn keys(&self) -> &ScramKeys {
        &self.keys
    }

    /// It stays the same for the name.
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

    /// As [`keys`](Self::keys), with the salt of that name.
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

/// A password after PBKDF2, with what it was made of, the password included: kept and given again with
/// [`Credentials::salted`](super::client::Credentials::salted), it spares a client the work.
#[derive(Clone)]
pub struct SaltedPassword(Arc<Salted>);

struct Salted {
    /// As it was prepared: salts are stable, so that they do not tell one password from another.
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

    /// Whether that is what it was made of.
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

    /// The client's proof (RFC 5802 §3).
    pub(super) fn prove(&self, auth_message: &[u8]) -> Digest {
        self.0.keys.0.signatures.client(auth_message).xor(&self.0.client_key)
    }

    /// What the server is believed by.
    pub(super) fn server_signature(&self, auth_message: &[u8]) -> Digest {
        self.0.keys.server_signature(auth_message)
    }
}

impl fmt::Debug for SaltedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltedPassword(***)")
    }
}
