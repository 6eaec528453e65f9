//! The accounts: what is kept of each password, in memory and as text.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, phc::PasswordHash},
};
use smtp_auth::{
    Secret,
    sasl::{
        Answer, Authenticator, CheckPassword, ConfigError, CramSecret, CramSecretFor, Mechanism,
        Nonce, ScramHash, ScramKeys, ScramKeysFor, prepare, server::Config,
    },
};

use crate::check;

/// The least that clients take (RFC 7677 §4); more make each guess dearer, and each sign-in.
const ITERATIONS: u32 = 4096;

/// Shared by the loop that serves and the thread that computes argon2. No lock is held while
/// anything is computed. It has no `Debug`, as that of the hashes shows them.
pub(crate) struct Store {
    /// By their prepared names, as the questions have them.
    accounts: Mutex<HashMap<String, Account>>,
    /// Names for which too many passwords were wrong, as something that counts them says: no account need
    /// have them.
    locked: Mutex<HashSet<String>>,
    /// The password of an account that does not exist is checked against this, to take as long.
    nobody: PasswordHash,
    /// The key of the salts that SCRAM shows for such accounts. It is kept with them, because real
    /// salts are the same after a restart.
    salt_key: Secret,
}

/// What is kept of a password. For PLAIN: who steals it has to guess at argon2's price. For SCRAM: a
/// guess is much cheaper. For CRAM-MD5: it is as good as the password for that mechanism, and a guess
/// costs next to nothing; leave it out where no client needs it.
#[derive(Clone)]
struct Account {
    argon2: PasswordHash,
    /// Not there as long as the password has not been seen since the account had argon2 alone.
    others: Option<(ScramKeys, CramSecret)>,
}

/// What is made of a password beside its argon2 hash.
fn others(password: &str) -> Option<(ScramKeys, CramSecret)> {
    let scram = ScramKeys::generate(ScramHash::Sha256, password, ITERATIONS)?;
    Some((scram, CramSecret::from_password(password)))
}

impl Account {
    fn to_line(&self, name: &str) -> String {
        let others = self.others.as_ref();
        let texts = others.map(|(scram, cram)| {
            format!("\t{}\t{}", scram.to_text().expose(), cram.to_text().expose())
        });
        format!("{name}\t{}{}\n", self.argon2, texts.unwrap_or_default())
    }

    fn from_line(line: &str) -> Result<(&str, Self), &'static str> {
        let mut fields = line.split('\t');
        let name = fields.next().filter(|name| !name.is_empty()).ok_or("it has no name")?;
        let argon2 = fields.next().and_then(|hash| hash.parse().ok());
        let argon2 = argon2.ok_or("its argon2 hash cannot be read")?;
        let others = match fields.next() {
            None => None,
            Some(scram) => {
                let scram = scram.parse().map_err(|_| "its SCRAM keys cannot be read")?;
                let cram = fields.next().and_then(|cram| cram.parse().ok());
                Some((scram, cram.ok_or("its CRAM-MD5 states cannot be read")?))
            }
        };
        Ok((name, Self { argon2, others }))
    }
}

impl Store {
    /// Without accounts.
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        Self::with_salt_key(Nonce::random()?.as_str())
    }

    fn with_salt_key(salt_key: &str) -> Result<Self, Box<dyn Error>> {
        let nobody = Argon2::default().hash_password(Nonce::random()?.as_str().as_bytes())?;
        Ok(Self {
            accounts: Mutex::default(),
            locked: Mutex::default(),
            nobody,
            salt_key: salt_key.into(),
        })
    }

    /// What a server with these accounts offers: what they have the secrets for. SCRAM shows for
    /// accounts that do not exist what real ones have.
    pub(crate) fn config(&self, host: &str) -> Result<Config, ConfigError> {
        Config::builder(host)
            .answered_by(self)
            .salt_key(self.salt_key.clone())
            .scram_iterations(ITERATIONS)
            .build()
    }

    /// Makes the account, or replaces all that is kept of its password at once. This takes as long
    /// as argon2 and PBKDF2 do.
    ///
    /// The crate prepares names (RFC 4013), and SCRAM the password; PLAIN leaves that to the store. CRAM-MD5's
    /// client digests the password as it was typed, so that there it has to be typed as it is prepared.
    /// What is prepared holds no tab and no line end, either.
    pub(crate) fn set_password(&self, name: &str, password: &str) -> Result<(), Box<dyn Error>> {
        let name = prepare(name).ok_or("a name cannot have these characters")?;
        let password = prepare(password).ok_or("a password cannot have these characters")?;
        let argon2 = Argon2::default().hash_password(password.as_bytes())?;
        let account = Account { argon2, others: others(&password) };
        self.accounts().insert(name.into(), account);
        Ok(())
    }

    /// Judges the account's password, by argon2: tens of milliseconds, for accounts that do
    /// not exist too. (Old hashes of another cost take another time, which tells them apart; those of
    /// passwords that were not prepared, and that it changes, match no more.) An account that has no more
    /// than an old argon2 hash gets the others here, where its password is known for once; not while it is
    /// locked, as another salt would tell who has locked it by guessing which guess was right.
    fn check(&self, name: &str, password: &str) -> Answer {
        // What cannot be prepared is nobody's, and that is no secret.
        let Some(password) = prepare(password) else { return Answer::reject() };
        let found = self.accounts().get(name).cloned();
        let hash = found.as_ref().map_or(&self.nobody, |account| &account.argon2);
        let right = check::is_password(password.as_bytes(), hash);
        match found {
            Some(_) if right && self.is_locked(name) => Answer::accept(()),
            Some(mut account) if right => {
                account.others = account.others.or_else(|| others(&password));
                self.keep(name, account).into()
            }
            _ => Answer::reject(),
        }
    }

    /// Keeps what was made of a password that was right a moment ago, unless it has been changed
    /// since: the old one is wrong now, and what was made of it must not come back.
    fn keep(&self, name: &str, account: Account) -> bool {
        let mut accounts = self.accounts();
        let current = accounts.get_mut(name).filter(|current| current.argon2 == account.argon2);
        current.map(|current| *current = account).is_some()
    }

    /// What a file is to have, which is written whole or not at all, readable for its owner alone. A
    /// change that is to outlive the server is written before it is reported as done; an upgrade that is
    /// lost is made again at the next sign-in.
    pub(crate) fn to_text(&self) -> Secret {
        let mut text = format!("{}\n", self.salt_key.expose());
        text.extend(self.accounts().iter().map(|(name, account)| account.to_line(name)));
        text.into()
    }

    /// The first line is the key of the salts, each other an account.
    pub(crate) fn from_text(text: &Secret) -> Result<Self, Box<dyn Error>> {
        let mut lines = text.expose().lines();
        let salt_key = lines.next().filter(|key| !key.is_empty()).ok_or("there is no salt key")?;
        let store = Self::with_salt_key(salt_key)?;
        for (number, line) in (2..).zip(lines) {
            // The lines are secret, so that only the number is said.
            let (name, account) =
                Account::from_line(line).map_err(|why| format!("line {number}: {why}"))?;
            store.accounts().insert(name.to_owned(), account);
        }
        Ok(store)
    }

    /// From now on each password for that name is wrong, the right one too.
    pub(crate) fn lock(&self, name: &str) {
        self.locked().insert(name.to_owned());
    }

    fn is_locked(&self, name: &str) -> bool {
        self.locked().contains(name)
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<String>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept beside an account's argon2 hash, if anything is yet.
    fn look_up<T>(
        &self,
        name: &str,
        kept: impl FnOnce(&(ScramKeys, CramSecret)) -> T,
    ) -> Answer<T> {
        let answer = match self.accounts().get(name) {
            Some(Account { others: Some(others), .. }) => Answer::accept(kept(others)),
            Some(_) => Answer::no_secret(),
            None => Answer::reject(),
        };
        self.judge(name, answer)
    }

    /// The answer, which shows the same where the name is locked.
    fn judge<T>(&self, name: &str, answer: Answer<T>) -> Answer<T> {
        if self.is_locked(name) { answer.lock() } else { answer }
    }

    /// An account is replaced whole, so that a panic leaves none half changed.
    fn accounts(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authenticator for Store {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256, Mechanism::CramMd5, Mechanism::Plain]
    }

    /// To be called on the worker's thread, as it takes its time; `answered_by` calls it once when the program starts.
    fn check_password(&self, ask: &CheckPassword) -> Answer {
        self.judge(ask.authcid(), self.check(ask.authcid(), ask.password().expose()))
    }

    /// Looked up, without computing anything. Where there is nothing, the exchange does as much work as
    /// with a wrong password, and shows what `Config::decoy_keys` has.
    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.look_up(ask.authcid(), |(scram, _)| scram.clone())
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        self.look_up(ask.authcid(), |(_, cram)| cram.clone())
    }
}

/// The password is changed while the old one's sign-in is still computed.
#[test]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
fn keys_of_an_old_password_do_not_come_back() {
    let store = Store::new().unwrap();
    store.set_password("tim", "old").unwrap();
    let computed = store.accounts().get("tim").unwrap().clone();
    assert!(store.keep("tim", computed.clone()));
    store.set_password("tim", "new").unwrap();
    assert!(!store.keep("tim", computed));
    let (scram, cram) = store.accounts().get("tim").unwrap().others.clone().unwrap();
    assert!(scram.check_password("new") && cram.check_password("new"));
}

/// Whoever has locked a name by guessing sees nothing change when a guess is right: keys that are new would show
/// another salt.
#[test]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]
fn a_locked_account_gets_no_keys() {
    use smtp_auth::sasl::{
        Channel, Failure,
        server::{Exchange, Step},
    };
    use std::sync::Arc;

    let hash: PasswordHash = Argon2::default().hash_password(b"rosebud").unwrap();
    let text = format!("a salt key of 16 octets or more\nann\t{hash}\n");
    let store = Store::from_text(&text.into()).unwrap();
    let config = Arc::new(store.config("mail.example.org").unwrap());
    let sign_in = || {
        let response = b"\0ann\0rosebud".to_vec();
        let mut exchange =
            Exchange::new(&config, &Channel::tls(), Mechanism::Plain, Some(response));
        exchange.query().unwrap().answer_with(&store);
        let Step::Done(outcome) = exchange.step() else { panic!("it goes on") };
        let has_keys = store.accounts().get("ann").is_some_and(|ann| ann.others.is_some());
        (outcome.map(|_| ()), has_keys)
    };
    store.lock("ann");
    assert_eq!(sign_in(), (Err(Failure::Locked), false));
    store.locked().clear();
    assert_eq!(sign_in(), (Ok(()), true));
}
