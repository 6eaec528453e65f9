//! Credentials: the stored forms of a password, which other servers use as well.

use core::{cell::RefCell, fmt};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHasher, Version,
    password_hash::phc::{Output, PasswordHash},
};
use sha_crypt::{PasswordVerifier, ShaCrypt};
use smtp_auth::{
    Secret,
    sasl::{CramSecret, ScramHash, ScramKeys, ScramParts, prepare},
};

/// The largest costs that are accepted from an import. A hash with a higher one would occupy a thread for seconds, and
/// every client that knows the account's name could make it do so.
const MAX_ITERATIONS: u32 = 1_000_000;
const MAX_BCRYPT_COST: u32 = 14;
const MAX_ROUNDS: u32 = 1_000_000;
const MAX_ARGON2_KIB: u32 = 256 * 1024;
const MAX_ARGON2_PASSES: u32 = 10;
/// The longest salt of SCRAM keys, in octets.
const MAX_SALT: usize = 64;

/// The longest password, in octets. A longer one is wrong, and is not hashed, because the time of some hashes grows with
/// the password's length.
pub(crate) const MAX_PASSWORD: usize = 256;

/// The form of a credential, by the name that the database and Dovecot have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scheme {
    ScramSha256,
    ScramSha1,
    ScramSha512,
    Argon2id,
    BlfCrypt,
    Sha512Crypt,
    CramMd5,
}

impl Scheme {
    const ALL: [Self; 7] = [
        Self::ScramSha256,
        Self::ScramSha1,
        Self::ScramSha512,
        Self::Argon2id,
        Self::BlfCrypt,
        Self::Sha512Crypt,
        Self::CramMd5,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::Argon2id => "ARGON2ID",
            Self::BlfCrypt => "BLF-CRYPT",
            Self::Sha512Crypt => "SHA512-CRYPT",
            Self::CramMd5 => "CRAM-MD5",
        }
    }

    /// Compares without case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.name().eq_ignore_ascii_case(name))
    }

    pub(crate) const fn scram(hash: ScramHash) -> Option<Self> {
        match hash {
            ScramHash::Sha1 => Some(Self::ScramSha1),
            ScramHash::Sha256 => Some(Self::ScramSha256),
            ScramHash::Sha512 => Some(Self::ScramSha512),
            _ => None,
        }
    }

    /// Returns the hash, if it is SCRAM's.
    pub(crate) const fn hash(self) -> Option<ScramHash> {
        match self {
            Self::ScramSha1 => Some(ScramHash::Sha1),
            Self::ScramSha256 => Some(ScramHash::Sha256),
            Self::ScramSha512 => Some(ScramHash::Sha512),
            _ => None,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The stored form of a password. It needs the same protection as the password, because an attacker who has it can
/// search for the password by brute force.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    Scram(ScramKeys),
    Argon2id(Secret),
    BlfCrypt(Secret),
    Sha512Crypt(Secret),
    CramMd5(CramSecret),
}

/// Why a text is no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("the scheme {0} is not supported")]
    Scheme(String),
    #[error("the value is not one of the scheme {0}")]
    Value(Scheme),
    #[error("the cost of this {0} value is too high: checking it would take seconds")]
    Cost(Scheme),
}

impl Credential {
    /// Reads the form that the scheme has in the database, in which Dovecot's `{SCHEME}` is not part of the value.
    pub(crate) fn read(scheme: Scheme, value: &str) -> Result<Self, CredentialError> {
        let wrong = || CredentialError::Value(scheme);
        // The store keeps one credential in each line.
        if value.chars().any(char::is_control) {
            return Err(wrong());
        }
        let text = || Secret::new(value);
        let read = match scheme {
            Scheme::ScramSha256 | Scheme::ScramSha1 | Scheme::ScramSha512 => {
                let keys: ScramKeys = value.parse().map_err(|_| wrong())?;
                if Scheme::scram(keys.hash()) != Some(scheme) {
                    return Err(wrong());
                }
                Self::Scram(keys)
            }
            Scheme::Argon2id => Self::Argon2id(text()),
            Scheme::BlfCrypt => Self::BlfCrypt(text()),
            Scheme::Sha512Crypt => Self::Sha512Crypt(text()),
            Scheme::CramMd5 => Self::CramMd5(value.parse().map_err(|_| wrong())?),
        };
        let bounded = read.is_bounded().ok_or_else(wrong)?;
        if bounded { Ok(read) } else { Err(CredentialError::Cost(scheme)) }
    }

    /// Makes SCRAM keys with a random salt. `None` if the password cannot be prepared (RFC 4013).
    pub(crate) fn scram(hash: ScramHash, password: &Secret, iterations: u32) -> Option<Self> {
        ScramKeys::generate(hash, password.expose(), iterations).map(Self::Scram)
    }

    /// Makes an Argon2id hash with the parameters that OWASP recommends (19 MiB, two passes).
    pub(crate) fn argon2id(password: &Secret) -> Option<Self> {
        let hash = Argon2::default().hash_password(prepared(password).expose().as_bytes()).ok()?;
        Some(Self::Argon2id(Secret::new(hash.to_string())))
    }

    pub(crate) fn scheme(&self) -> Scheme {
        match self {
            Self::Scram(keys) => Scheme::scram(keys.hash()).unwrap_or(Scheme::ScramSha256),
            Self::Argon2id(_) => Scheme::Argon2id,
            Self::BlfCrypt(_) => Scheme::BlfCrypt,
            Self::Sha512Crypt(_) => Scheme::Sha512Crypt,
            Self::CramMd5(_) => Scheme::CramMd5,
        }
    }

    /// Returns the form for the database.
    pub(crate) fn value(&self) -> Secret {
        match self {
            Self::Scram(keys) => keys.to_text(),
            Self::Argon2id(text) | Self::BlfCrypt(text) | Self::Sha512Crypt(text) => text.clone(),
            Self::CramMd5(secret) => secret.to_text(),
        }
    }

    /// Returns the parameters that the time of a check depends on, or that SCRAM shows to a client: the number of
    /// iterations or rounds, or the parameters of Argon2. They are not secret. If the salt of SCRAM keys does not have 16
    /// octets, its length follows, as in `4096/12`.
    pub(crate) fn cost(&self) -> String {
        match self {
            Self::Scram(keys) => scram_cost(keys.iterations(), keys.parts().salt.len()),
            Self::Argon2id(text) => text.expose().split('$').nth(3).unwrap_or_default().into(),
            Self::BlfCrypt(text) => {
                bcrypt_cost(text).map(|cost| cost.to_string()).unwrap_or_default()
            }
            Self::Sha512Crypt(text) => {
                rounds(text).map(|rounds| rounds.to_string()).unwrap_or_default()
            }
            Self::CramMd5(_) => String::new(),
        }
    }

    /// Returns whether a check takes a bearable time; `None` if the text is not of the scheme.
    fn is_bounded(&self) -> Option<bool> {
        Some(match self {
            Self::Scram(keys) => {
                keys.iterations() <= MAX_ITERATIONS && keys.parts().salt.len() <= MAX_SALT
            }
            Self::Argon2id(text) => {
                let hash = PasswordHash::new(text.expose()).ok()?;
                let params = Params::try_from(&hash).ok()?;
                let is_argon2id =
                    Algorithm::try_from(hash.algorithm.as_str()).ok()? == Algorithm::Argon2id;
                if !is_argon2id
                    || hash.version.is_none()
                    || hash.salt.is_none()
                    || hash.hash.is_none()
                    // The key that is part of the hash is not known here.
                    || !params.keyid().is_empty()
                {
                    return None;
                }
                params.m_cost() <= MAX_ARGON2_KIB && params.t_cost() <= MAX_ARGON2_PASSES
            }
            Self::BlfCrypt(text) => bcrypt_cost(text)? <= MAX_BCRYPT_COST,
            Self::Sha512Crypt(text) => {
                let mut parts = text.expose().strip_prefix("$6$")?.rsplit('$');
                let (digest, salt) = (parts.next()?, parts.next()?);
                let is_salt = (1..=16).contains(&salt.len()) && is_crypt64(salt);
                let is_digest = digest.len() == 86 && is_crypt64(digest);
                let is_begun = parts.next().is_none_or(|first| first.starts_with("rounds="));
                if !is_salt || !is_digest || !is_begun || parts.next().is_some() {
                    return None;
                }
                rounds(text)? <= MAX_ROUNDS
            }
            Self::CramMd5(_) => true,
        })
    }

    /// Returns whether the password is the one that this was made of. It takes as long as the [cost](Self::cost) says,
    /// so it is called on the threads for hashing.
    pub(crate) fn check_password(&self, password: &Secret) -> bool {
        if password.expose().len() > MAX_PASSWORD {
            return false;
        }
        match self {
            Self::Scram(keys) => keys.check_password(password.expose()),
            Self::CramMd5(secret) => secret.check_password(password.expose()),
            // Hashes of other servers are made of the password as it is.
            _ => {
                let prepared = prepared(password);
                self.is_hash_of(&prepared) || (prepared != *password && self.is_hash_of(password))
            }
        }
    }

    fn is_hash_of(&self, password: &Secret) -> bool {
        let octets = password.expose().as_bytes();
        match self {
            Self::Argon2id(text) => check_argon2(octets, text) == Some(true),
            Self::BlfCrypt(text) => bcrypt::verify(octets, text.expose()).unwrap_or(false),
            Self::Sha512Crypt(text) => {
                ShaCrypt::default().verify_password(octets, text.expose()).is_ok()
            }
            Self::Scram(_) | Self::CramMd5(_) => false,
        }
    }

    /// Returns a credential of that scheme and cost that no known password matches, for an account that does not exist.
    /// Checking a password against it takes as long as against a real one. `None` if the cost is not one of the scheme.
    pub(crate) fn decoy(scheme: Scheme, cost: &str) -> Option<Self> {
        // The salt and the digest are as long as in a real hash.
        let text = match scheme {
            Scheme::Argon2id => {
                format!(
                    "$argon2id$v=19${cost}$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                )
            }
            Scheme::BlfCrypt => {
                let cost: u32 = cost.parse().ok()?;
                format!("$2y${cost:02}${:.<53}", "")
            }
            Scheme::Sha512Crypt => format!("$6$rounds={cost}$decoydecoydecoyd${:.<86}", ""),
            Scheme::CramMd5 => {
                return Some(Self::CramMd5(CramSecret::from_states([0; 16], [0; 16])));
            }
            Scheme::ScramSha256 => return decoy_keys(ScramHash::Sha256, &[0; 32], cost),
            Scheme::ScramSha1 => return decoy_keys(ScramHash::Sha1, &[0; 20], cost),
            Scheme::ScramSha512 => return decoy_keys(ScramHash::Sha512, &[0; 64], cost),
        };
        Self::read(scheme, &text).ok()
    }
}

/// Returns keys to check passwords with while SCRAM is not on offer. A client that sees the salt needs that of its name:
/// see `decoys`.
fn decoy_keys(hash: ScramHash, key: &[u8], cost: &str) -> Option<Credential> {
    let (iterations, salt) = read_scram_cost(cost)?;
    let parts =
        ScramParts { hash, iterations, salt: &vec![0; salt], stored_key: key, server_key: key };
    ScramKeys::from_parts(parts).map(Credential::Scram)
}

/// Returns the form of a password that is the same on every keyboard (SASLprep, RFC 4616 section 2), or the password as it
/// is, if it has none.
fn prepared(password: &Secret) -> Secret {
    let prepared = prepare(password.expose()).filter(|own| own.len() <= MAX_PASSWORD);
    prepared.map_or_else(|| password.clone(), |own| Secret::new(own.into_owned()))
}

/// Returns the cost of SCRAM keys in the form of [`Credential::cost`].
fn scram_cost(iterations: u32, salt: usize) -> String {
    match salt {
        16 => iterations.to_string(),
        _ => format!("{iterations}/{salt}"),
    }
}

/// Reads the number of iterations and the length of the salt.
pub(crate) fn read_scram_cost(cost: &str) -> Option<(u32, usize)> {
    match cost.split_once('/') {
        None => Some((cost.parse().ok()?, 16)),
        Some((iterations, salt)) => Some((iterations.parse().ok()?, salt.parse().ok()?)),
    }
}

/// Returns whether the text consists of the characters of `crypt(3)`.
fn is_crypt64(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'/'))
}

/// `$2b$12$…` has the cost 12.
fn bcrypt_cost(text: &Secret) -> Option<u32> {
    let mut parts = text.expose().strip_prefix("$2")?.split('$');
    let is_known = ["a", "b", "x", "y"].contains(&parts.next()?);
    let cost = parts.next()?.parse().ok().filter(|cost| (4..=31).contains(cost));
    cost.filter(|_| {
        is_known && parts.next().is_some_and(|rest| rest.len() == 53 && is_crypt64(rest))
    })
}

/// `$6$rounds=N$…`, or 5,000 without that.
fn rounds(text: &Secret) -> Option<u32> {
    let parts = text.expose().strip_prefix("$6$")?;
    match parts.split('$').next()?.strip_prefix("rounds=") {
        Some(rounds) => rounds.parse().ok().filter(|rounds| *rounds >= 1000),
        None => Some(5000),
    }
}

/// Computes Argon2 in memory that stays with the thread: an allocator may keep many pieces of 19 MiB that it does not
/// use again.
fn check_argon2(password: &[u8], text: &Secret) -> Option<bool> {
    thread_local!(static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) });
    let hash = PasswordHash::new(text.expose()).ok()?;
    let (salt, expected) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let (blocks, mut output) = (params.block_count(), vec![0; expected.len()]);
    let argon2 = Argon2::new(algorithm, Version::try_from(hash.version?).ok()?, params);
    MEMORY.with_borrow_mut(|memory| {
        memory.resize(memory.len().max(blocks), Block::new());
        argon2.hash_password_into_with_memory(password, salt, &mut output, memory).ok()
    })?;
    // In constant time.
    Some(Output::new(&output).ok()? == *expected)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    /// Made by others: `openssl passwd -6`, and `doveadm pw` of Dovecot.
    const FOREIGN: [(Scheme, &str, &str); 2] = [
        (
            Scheme::Sha512Crypt,
            "Hello world!",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        (
            Scheme::BlfCrypt,
            "tanstaaf",
            "$2y$05$UEeCJ.3mVU0iwitK2olMFuUJ4s6ZUlIKHuQoQTYYgsrFb31FKV0n2",
        ),
    ];

    #[test]
    fn hashes_of_others_are_checked() {
        for (scheme, password, text) in FOREIGN {
            let credential = Credential::read(scheme, text).unwrap();
            assert!(credential.check_password(&Secret::new(password)), "{scheme}");
            assert!(!credential.check_password(&Secret::new("wrong")), "{scheme}");
        }
    }

    #[test]
    fn own_credentials_are_read_again_and_checked() {
        let password = Secret::new("tanstaaf");
        let own = [
            Credential::scram(ScramHash::Sha256, &password, 4096).unwrap(),
            Credential::scram(ScramHash::Sha1, &password, 4096).unwrap(),
            Credential::argon2id(&password).unwrap(),
            Credential::CramMd5(CramSecret::from_password(password.expose())),
        ];
        for credential in own {
            let scheme = credential.scheme();
            let read = Credential::read(scheme, credential.value().expose()).unwrap();
            assert!(read.check_password(&password), "{scheme}");
            assert!(!read.check_password(&Secret::new("tanstaa")), "{scheme}");
            assert_eq!(read.cost(), credential.cost(), "{scheme}");
        }
    }

    /// A password with `é` as one character or as two.
    #[test]
    fn a_password_is_the_same_in_every_form_of_unicode() {
        let [one, two] = ["caf\u{e9} tanstaaf", "cafe\u{301} tanstaaf"].map(Secret::new);
        for own in [Credential::argon2id(&one), Credential::argon2id(&two)].map(Option::unwrap) {
            assert!(own.check_password(&one) && own.check_password(&two));
        }
        // Another server has not prepared it, and a control character cannot be prepared.
        for raw in [two, Secret::new("tans\u{7}taaf")] {
            let hash = Argon2::default().hash_password(raw.expose().as_bytes()).unwrap();
            let own = Credential::read(Scheme::Argon2id, &hash.to_string()).unwrap();
            assert!(own.check_password(&raw) && !own.check_password(&Secret::new("x")));
        }
    }

    #[test]
    fn decoys_can_be_made_for_each_cost_and_match_nothing() {
        let own = Credential::argon2id(&Secret::new("x")).unwrap();
        let [sha512, bcrypt] =
            FOREIGN.map(|(scheme, _, text)| Credential::read(scheme, text).unwrap());
        for real in [own, sha512, bcrypt] {
            let decoy = Credential::decoy(real.scheme(), &real.cost()).unwrap();
            assert_eq!((decoy.scheme(), decoy.cost()), (real.scheme(), real.cost()));
            for password in ["", "x", "tanstaaf"] {
                assert!(!decoy.check_password(&Secret::new(password)), "{}", real.scheme());
            }
        }
    }

    /// The time of `crypt(3)` grows with the password's length.
    #[test]
    fn a_password_that_is_too_long_is_wrong() {
        let long = |length: usize| Secret::new("x".repeat(length));
        let longest = Credential::argon2id(&long(MAX_PASSWORD)).unwrap();
        assert!(longest.check_password(&long(MAX_PASSWORD)));
        let longer = Credential::argon2id(&long(MAX_PASSWORD + 1)).unwrap();
        assert!(!longer.check_password(&long(MAX_PASSWORD + 1)));
    }

    /// Decoys are made like the credentials of real accounts, so each of these has to be one that can be checked.
    #[test]
    fn a_hash_that_no_password_can_match_is_not_read() {
        let bcrypt = "$2b$05$!CCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        let argon2 = "$argon2id$m=65536,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let keyed = "$argon2id$v=19$m=65536,t=2,p=1,keyid=AAAA$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let crypt = format!("$6$saltstring${}", "-".repeat(86));
        for (scheme, text) in [
            (Scheme::BlfCrypt, bcrypt),
            (Scheme::Argon2id, argon2),
            (Scheme::Argon2id, keyed),
            (Scheme::Sha512Crypt, &*crypt),
        ] {
            assert_eq!(Credential::read(scheme, text).unwrap_err(), CredentialError::Value(scheme));
        }
    }

    #[test]
    fn the_length_of_a_salt_is_part_of_the_cost() {
        let scheme = Scheme::ScramSha256;
        for (salt, cost) in [(&[7; 16][..], "4096"), (&[7; 12], "4096/12"), (&[7; 64], "4096/64")] {
            let keys = ScramKeys::from_password(ScramHash::Sha256, "x", salt, 4096).unwrap();
            let read = Credential::read(scheme, keys.to_text().expose()).unwrap();
            assert_eq!(read.cost(), cost);
            assert_eq!(read_scram_cost(cost), Some((4096, salt.len())));
        }
        let keys = ScramKeys::from_password(ScramHash::Sha256, "x", &[7; 65], 4096).unwrap();
        assert!(Credential::read(scheme, keys.to_text().expose()).is_err());
    }

    #[test]
    fn costs_that_would_take_seconds_are_refused() {
        let bcrypt = "$2b$15$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        let argon2 = "$argon2id$v=19$m=65536,t=64,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (scheme, text) in [(Scheme::BlfCrypt, bcrypt), (Scheme::Argon2id, argon2)] {
            assert_eq!(Credential::read(scheme, text).unwrap_err(), CredentialError::Cost(scheme));
        }
        for (scheme, text) in [
            (Scheme::BlfCrypt, "$2b$"),
            (Scheme::Sha512Crypt, "$6$"),
            (Scheme::Argon2id, "$argon2i$"),
        ] {
            assert_eq!(Credential::read(scheme, text).unwrap_err(), CredentialError::Value(scheme));
        }
    }
}
