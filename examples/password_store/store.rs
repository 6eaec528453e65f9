//! The accounts: what is kept of each password, in memory and in a text file.

use std::{
    collections::HashMap,
    error::Error,
    fmt, fs,
    io::{self, Write},
    path::Path,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use smtp_auth::{
    Secret,
    sasl::{
        Answer, Authenticator, ConfigError, CramSecret, CramSecretFor, Mechanism, Nonce, ScramHash,
        ScramKeys, ScramKeysFor, server::Config,
    },
};
use tempfile::NamedTempFile;

/// The least that clients take (RFC 7677 §4); more make each guess dearer, and each sign-in.
const ITERATIONS: u32 = 4096;

/// Shared by the loop that serves and the thread that computes argon2. No lock is held while
/// anything is computed.
pub(crate) struct Store {
    accounts: RwLock<HashMap<String, Account>>,
    /// The password of an account that does not exist is checked against this, to take as long.
    nobody: PasswordHash,
    /// The key of the salts that SCRAM shows for such accounts. It is kept with them, because real
    /// salts are the same after a restart.
    salt_key: Secret,
}

/// What is kept of a password: for PLAIN, where whoever steals it has to guess at argon2's price;
/// and for the mechanisms that do not send the password, where a guess is much cheaper. Who
/// needs no CRAM-MD5 leaves it out: its states are enough to sign in by it.
#[derive(Clone)]
struct Account {
    argon2: PasswordHash,
    cram: Option<CramSecret>,
    scram: Option<ScramKeys>,
}

impl Account {
    fn new(password: &str) -> Result<Self, Box<dyn Error>> {
        let argon2 = Argon2::default().hash_password(password.as_bytes())?;
        let mut account = Self { argon2, cram: None, scram: None };
        account.complete(password);
        Ok(account)
    }

    /// Adds what is missing. A password that SCRAM cannot have is no reason to refuse it.
    fn complete(&mut self, password: &str) {
        self.cram.get_or_insert_with(|| CramSecret::from_password(password));
        if self.scram.is_none() {
            self.scram = ScramKeys::generate(ScramHash::Sha256, password, ITERATIONS);
        }
    }

    fn to_line(&self, name: &str) -> String {
        let (cram, scram) = (&self.cram, &self.scram);
        let fields =
            [cram.as_ref().map(CramSecret::to_text), scram.as_ref().map(ScramKeys::to_text)];
        let fields = fields.into_iter().flatten().map(|field| format!("\t{field}"));
        format!("{name}\t{}{}\n", self.argon2, fields.collect::<String>())
    }

    /// Each field says by its beginning what it is.
    fn from_line(line: &str) -> Result<(&str, Self), &'static str> {
        let (name, fields) = line.split_once('\t').ok_or("it has no password")?;
        let (mut argon2, mut cram, mut scram) = (None, None, None);
        for field in fields.split('\t') {
            if field.starts_with("$argon2") {
                argon2 = Some(field.parse().map_err(|_| "its argon2 hash cannot be read")?);
            } else if field.starts_with("{CRAM-MD5}") {
                cram = Some(field.parse().map_err(|_| "its CRAM-MD5 states cannot be read")?);
            } else if field.starts_with("SCRAM-SHA-256$") {
                scram = Some(field.parse().map_err(|_| "its SCRAM keys cannot be read")?);
            } else {
                return Err("it has a field that is of no known kind");
            }
        }
        Ok((name, Self { argon2: argon2.ok_or("it has no argon2 hash")?, cram, scram }))
    }
}

impl Store {
    /// Without accounts.
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        Self::with_salt_key(Nonce::random()?.as_str())
    }

    fn with_salt_key(salt_key: &str) -> Result<Self, Box<dyn Error>> {
        let nobody = Argon2::default().hash_password(Nonce::random()?.as_str().as_bytes())?;
        Ok(Self { accounts: RwLock::default(), nobody, salt_key: salt_key.into() })
    }

    /// What a server with these accounts offers: what they have the secrets for. SCRAM shows for
    /// accounts that do not exist what real ones have.
    pub(crate) fn config(&self, host: &str) -> Result<Config, ConfigError> {
        use Mechanism::{CramMd5, Plain, ScramSha256, ScramSha256Plus};
        let config =
            Config::new(host)?.mechanisms(&[ScramSha256Plus, ScramSha256, CramMd5, Plain])?;
        Ok(config.salt_key(self.salt_key.clone()).scram_iterations(ITERATIONS))
    }

    /// Makes the account, or replaces all that is kept of its password at once. This takes as long
    /// as argon2 and PBKDF2 do.
    pub(crate) fn set_password(&self, name: &str, password: &str) -> Result<(), Box<dyn Error>> {
        // SCRAM prepares names (RFC 4013), PLAIN leaves that to the store: these are alike in both.
        if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err("a name must have printable ASCII characters only".into());
        }
        let account = Account::new(password)?;
        self.write().insert(name.to_owned(), account);
        Ok(())
    }

    /// Whether that is the account's password, by argon2: tens of milliseconds, for accounts that do
    /// not exist too. (Old hashes of another cost take another time, which tells them apart.) An account
    /// that has no more than an old argon2 hash gets the rest here, where its password is known for
    /// once.
    pub(crate) fn check_password(&self, name: &str, password: &str) -> bool {
        let found = self.read().get(name).cloned();
        let hash = found.as_ref().map_or(&self.nobody, |account| &account.argon2);
        let right = Argon2::default().verify_password(password.as_bytes(), hash).is_ok();
        match found {
            Some(mut account) if right => {
                account.complete(password);
                self.keep(name, account)
            }
            _ => false,
        }
    }

    /// Keeps what was made of a password that was right a moment ago, unless it has been changed
    /// since: the old one is wrong now, and its keys must not come back.
    fn keep(&self, name: &str, account: Account) -> bool {
        let mut accounts = self.write();
        let current = accounts.get_mut(name).filter(|current| current.argon2 == account.argon2);
        current.map(|current| *current = account).is_some()
    }

    /// Writes the file anew, whole or not at all, readable for its owner alone. A change that is to
    /// outlive the server is saved before it is reported as done; an upgrade that is lost is made again
    /// at the next sign-in.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let mut lines: Vec<_> =
            self.read().iter().map(|(name, account)| account.to_line(name)).collect();
        lines.sort();
        let mut file = NamedTempFile::new_in(path.parent().unwrap_or(Path::new("")))?;
        writeln!(file, "{}", self.salt_key.expose())?;
        lines.iter().try_for_each(|line| file.write_all(line.as_bytes()))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }

    pub(crate) fn load(path: &Path) -> Result<Self, Box<dyn Error>> {
        Self::from_text(Secret::new(fs::read_to_string(path)?).expose())
            .map_err(|why| format!("{}: {why}", path.display()).into())
    }

    /// The first line is the key of the salts, each other an account.
    fn from_text(text: &str) -> Result<Self, Box<dyn Error>> {
        let mut lines = text.lines();
        let salt_key = lines.next().filter(|key| !key.is_empty()).ok_or("it has no salt key")?;
        let store = Self::with_salt_key(salt_key)?;
        for (number, line) in (2..).zip(lines) {
            // The lines are secret, so that only the number is said.
            let (name, account) =
                Account::from_line(line).map_err(|why| format!("line {number}: {why}"))?;
            if store.write().insert(name.to_owned(), account).is_some() {
                return Err(format!("line {number}: the account was there before").into());
            }
        }
        Ok(store)
    }

    /// An account is replaced whole, so that a panic leaves none half changed.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, Account>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Account>> {
        self.accounts.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is looked up, without computing anything. Where there is nothing, the exchange does as much
/// work as with a wrong password, and shows for SCRAM what `Config::keys_of_nobody` has.
///
/// `check_password` is left as it is, which is to refuse: it is the worker's.
impl Authenticator for Store {
    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        self.read().get(ask.authcid()).and_then(|account| account.cram.clone()).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.read().get(ask.authcid()).and_then(|account| account.scram.clone()).into()
    }
}

/// What there is, not what it says: the hashes' own `Debug` shows them.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("cram", &self.cram.is_some())
            .field("scram", &self.scram.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("accounts", &*self.read()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The password is changed while the old one's sign-in is still computed.
    #[test]
    fn keys_of_an_old_password_do_not_come_back() {
        let store = Store::new().unwrap();
        store.set_password("tim", "old").unwrap();
        let computed = store.read().get("tim").unwrap().clone();
        assert!(store.keep("tim", computed.clone()));
        store.set_password("tim", "new").unwrap();
        assert!(!store.keep("tim", computed));
        let scram = store.read().get("tim").unwrap().scram.clone().unwrap();
        assert!(scram.check_password("new"));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_told_by_its_number() {
        let hash = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA";
        assert!(Store::from_text(&format!("key\ntim\t{hash}\n")).is_ok());
        for (text, why) in [
            (String::new(), "it has no salt key"),
            ("key\ntim".into(), "line 2: it has no password"),
            ("key\ntim\t{CRAM-MD5}00".into(), "line 2: its CRAM-MD5 states cannot be read"),
            ("key\ntim\t$argon2id$=".into(), "line 2: its argon2 hash cannot be read"),
            (
                format!("key\nann\t{hash}\ntim\tsecret"),
                "line 3: it has a field that is of no known kind",
            ),
            (format!("key\ntim\t{hash}\ntim\t{hash}"), "line 3: the account was there before"),
        ] {
            assert_eq!(Store::from_text(&text).unwrap_err().to_string(), why);
        }
    }
}
