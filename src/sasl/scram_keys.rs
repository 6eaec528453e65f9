//! The hashes of SCRAM, and what a store keeps for it (RFC 5802 §3, RFC 5803).

use alloc::{boxed::Box, format, sync::Arc, vec::Vec};
use core::{fmt, str::FromStr};

use ::base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::{Zeroize, Zeroizing};

use super::{Mechanism, prepare};
use crate::{
    base64::{encode, encoded},
    secret::{Secret, SecretBytes, apart, equal},
};

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

/// A mechanism of SCRAM, in less room than a [`Mechanism`] takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) hash: ScramHash,
    /// Whether it is the -PLUS one.
    pub(super) bound: bool,
}

impl Kind {
    pub(super) fn of(mechanism: Mechanism) -> Option<Self> {
        Some(Self { hash: ScramHash::of(mechanism)?, bound: mechanism.binds_channel() })
    }

    pub(super) const fn mechanism(self) -> Mechanism {
        match (self.hash.mechanism(), self.bound) {
            (Mechanism::ScramSha1, true) => Mechanism::ScramSha1Plus,
            (Mechanism::ScramSha256, true) => Mechanism::ScramSha256Plus,
            (Mechanism::ScramSha512, true) => Mechanism::ScramSha512Plus,
            (unbound, _) => unbound,
        }
    }
}

impl ScramHash {
    const COMPILED: &'static [Self] = &[
        #[cfg(feature = "scram-sha-1")]
        Self::Sha1,
        #[cfg(feature = "scram-sha-256")]
        Self::Sha256,
        #[cfg(feature = "scram-sha-512")]
        Self::Sha512,
    ];

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

    /// `HMAC(key, message)`
    fn mac(self, key: &Digest, message: &[u8]) -> Digest {
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
            Self::Sha1 => on::hi::<sha1::Sha1>(password, salt, iterations),
            #[cfg(feature = "scram-sha-256")]
            Self::Sha256 => on::hi::<sha2::Sha256>(password, salt, iterations),
            #[cfg(feature = "scram-sha-512")]
            Self::Sha512 => on::hi::<sha2::Sha512>(password, salt, iterations),
        }
    }
}

/// HMAC under the StoredKey and under the ServerKey, whose blocks of padded key are hashed already
/// (RFC 2104 §4). Boxed each for itself, as the memory of the largest holds whatever the stack held where
/// a smaller one is moved there: a key, say, and nothing would zero it.
enum Signatures {
    #[cfg(feature = "scram-sha-1")]
    Sha1(on::Pair<sha1::Sha1>),
    #[cfg(feature = "scram-sha-256")]
    Sha256(on::Pair<sha2::Sha256>),
    #[cfg(feature = "scram-sha-512")]
    Sha512(on::Pair<sha2::Sha512>),
}

impl Signatures {
    fn new(hash: ScramHash, stored_key: &Digest, server_key: &Digest) -> Self {
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
    fn client(&self, message: &[u8]) -> Digest {
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
    fn server(&self, message: &[u8]) -> Digest {
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
mod on {
    use alloc::boxed::Box;

    use hmac::{EagerHash, Hmac, KeyInit, Mac};
    use siphasher::sip128::SipHasher24;

    use super::Digest;

    pub(super) fn keyed<D: EagerHash>(key: &[u8]) -> Hmac<D> {
        // HMAC takes a key of any length (RFC 2104 §3), so this never comes to the second.
        Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()))
    }

    pub(super) type Pair<D> = Box<(Hmac<D>, Hmac<D>)>;

    pub(super) fn pair<D: EagerHash>(one: &Digest, other: &Digest) -> Pair<D> {
        Box::new((keyed(one.as_slice()), keyed(other.as_slice())))
    }

    pub(super) fn sign<D: EagerHash>(mac: &Hmac<D>, message: &[u8]) -> Digest {
        Digest::new(&mac.clone().chain_update(message).finalize().into_bytes())
    }

    pub(super) fn salt(key: &[u8; 16], name: &str) -> [u8; 16] {
        SipHasher24::new_with_key(key).hash(name.as_bytes()).as_bytes()
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
#[derive(Clone)]
pub(super) struct Digest {
    octets: [u8; 64],
    length: usize,
}

impl Drop for Digest {
    fn drop(&mut self) {
        self.octets.as_mut_slice().zeroize();
    }
}

impl Digest {
    /// No hash has more than 64 octets.
    fn new(from: &[u8]) -> Self {
        let mut digest = Self { octets: [0; 64], length: from.len().min(64) };
        if let Some(octets) = digest.octets.get_mut(..from.len()) {
            octets.copy_from_slice(from);
        }
        digest
    }

    /// `None` for what is not base64 (RFC 4648 §4), or too long for any hash.
    pub(super) fn from_base64(text: &str) -> Option<Self> {
        let mut room = Zeroizing::new([0; 66]);
        let length = STANDARD.decode_slice(text, &mut *room).ok()?;
        room.get(..length).filter(|octets| octets.len() <= 64).map(Self::new)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }

    fn as_mut(&mut self) -> &mut [u8] {
        self.octets.get_mut(..self.length).unwrap_or_default()
    }

    fn xor(mut self, other: &Self) -> Self {
        self.octets.iter_mut().zip(&other.octets).for_each(|(to, from)| *to ^= *from);
        self
    }

    /// In constant time.
    pub(super) fn equals(&self, other: &Self) -> bool {
        equal(self.as_slice(), other.as_slice()).into()
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
        if salt.is_empty() || iterations == 0 {
            return None;
        }
        let password = Secret::new(prepare(password)?);
        Some(apart(2, || {
            let salted = hash.hi(password.expose().as_bytes(), salt, iterations);
            Self::from_salted(hash, &salted, salt, iterations).0
        }))
    }

    /// The keys, and the ClientKey behind them (RFC 5802 §3).
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

    /// The text form, to keep in a store as safely as a password's hash.
    pub fn to_text(&self) -> Secret {
        let Keys { hash, iterations, ref salt, ref stored_key, ref server_key, .. } = *self.0;
        let start = format!("{}${iterations}:", hash.mechanism());
        let parts = [&**salt, stored_key.as_slice(), server_key.as_slice()];
        let length = parts.map(|part| "$".len() + encoded(part.len())).iter().sum::<usize>();
        let mut text = Vec::with_capacity(start.len() + length);
        text.extend_from_slice(start.as_bytes());
        for (part, behind) in parts.into_iter().zip(["$", ":", ""]) {
            encode(part, &mut text);
            text.extend_from_slice(behind.as_bytes());
        }
        SecretBytes::new(text).into_text().unwrap_or_else(|| Secret::new(""))
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
        let fits = proof.length == signature.length;
        let client_key = signature.xor(proof);
        let stored_key = self.0.hash.hash(client_key.as_slice());
        fits & stored_key.equals(&self.0.stored_key)
    }

    /// What a client believes a server by.
    pub(super) fn server_signature(&self, auth_message: &[u8]) -> Digest {
        self.0.signatures.server(auth_message)
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
            _ => on::salt(&self.salt_key, name),
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

/// The text is not the form of [`ScramKeys`], or its hash is not compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub struct ScramKeysError;

impl ScramKeysError {
    /// What `Display` says, as a fixed text.
    pub const fn as_str(&self) -> &'static str {
        "not a text form of SCRAM keys whose hash is compiled in"
    }
}

impl FromStr for ScramKeys {
    type Err = ScramKeysError;

    fn from_str(text: &str) -> Result<Self, ScramKeysError> {
        apart(2, || Self::read(text)).ok_or(ScramKeysError)
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
        let key = |text| Digest::from_base64(text).filter(|key| key.length == length);
        let iterations = positive(iterations)?;
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        Some(Self::new(hash, iterations, &salt, key(stored)?, key(server)?))
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

/// `posit-number = %x31-39 *DIGIT` (RFC 5802 §7), as far as it can be counted to.
pub(super) fn positive(text: &str) -> Option<u32> {
    let digits = !text.starts_with('0') && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
