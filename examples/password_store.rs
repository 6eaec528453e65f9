//! An account store that is suitable for a mail server. It keeps an Argon2 hash and the SCRAM keys of each password,
//! and replaces both when the password changes. Argon2 runs on dedicated threads, which keep its memory.
//!
//! Keep both only while your users migrate from PLAIN to SCRAM, as the guide's chapter `migration` explains: after a
//! database breach, an attacker chooses the weaker of the two.
//!
//! `cargo run --example password_store` runs a server and clients that authenticate over loopback, without TLS.

use std::{
    cell::RefCell,
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHasher, Version,
    password_hash::phc::{Output, PasswordHash},
};
use smtp_auth_tokio::{
    Blocking,
    client::{Connector, Credentials},
    server::{Message, Server},
    smtp_auth::{
        Answer, Authenticator, CheckPassword, Mechanism, Reply,
        sasl::{self, Nonce, ScramHash, ScramKeys, ScramKeysFor, prepare},
        server::Config,
    },
};

const MECHANISMS: [Mechanism; 3] = [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login];

/// What is stored for a password, for example in two columns of a table: the PHC string and [`ScramKeys::to_text`].
#[derive(Clone)]
struct Account {
    argon2: PasswordHash,
    /// `None` for an account that has only an Argon2 hash, until its password is seen for the first time.
    scram: Option<ScramKeys>,
}

struct Store {
    /// The accounts by prepared name, which is the form that questions contain. The lock is not held during any
    /// computation.
    accounts: Mutex<HashMap<String, Account>>,
    /// The hash that is checked for an account that does not exist, so that this takes as long.
    dummy: PasswordHash,
    /// The configuration, which determines the decoy salt that SCRAM sends for an account without keys.
    sasl: Arc<sasl::server::Config>,
}

impl Store {
    fn new(sasl: Arc<sasl::server::Config>) -> Result<Self, Box<dyn Error>> {
        let dummy = Argon2::default().hash_password(Nonce::random()?.as_str().as_bytes())?;
        Ok(Self { accounts: Mutex::default(), dummy, sasl })
    }

    /// Creates the account, or replaces everything stored for its password. SCRAM prepares passwords (RFC 4013), so the
    /// hash is also computed from the prepared password.
    fn set_password(&self, name: &str, password: &str) -> Result<(), Box<dyn Error>> {
        let name = prepare(name).ok_or("the name contains a character that is not allowed")?;
        let password =
            prepare(password).ok_or("the password contains a character that is not allowed")?;
        let argon2 = Argon2::default().hash_password(password.as_bytes())?;
        let account = Account { argon2, scram: self.new_keys(&name, &password) };
        self.accounts().insert(name.into(), account);
        Ok(())
    }

    /// Computes new keys with the decoy salt that SCRAM has sent while the account had no keys. A different salt would
    /// reveal to an attacker whose attempts are limited that a guess was correct.
    fn new_keys(&self, name: &str, password: &str) -> Option<ScramKeys> {
        let decoy = self.sasl.decoy_keys(ScramHash::Sha256, name)?;
        ScramKeys::from_password(decoy.hash(), password, decoy.parts().salt, decoy.iterations())
    }

    /// Checks a password with Argon2, whether or not the account exists. If an account has only an Argon2 hash, its
    /// SCRAM keys are computed here, because this is the only time at which its password is known.
    fn is_password(&self, name: &str, password: &str) -> bool {
        let Some(password) = prepare(password) else { return false };
        let found = self.accounts().get(name).cloned();
        let hash = found.as_ref().map_or(&self.dummy, |account| &account.argon2);
        let right = computes(password.as_bytes(), hash) == Some(true);
        let Some(Account { argon2, scram }) = found.filter(|_| right) else { return false };
        let scram = scram.or_else(|| self.new_keys(name, &password));
        self.keep(name, Account { argon2, scram })
    }

    /// Stores the keys of a password that was correct a moment ago, unless the password has been changed meanwhile. In
    /// that case it is wrong, and its keys must not be stored again.
    fn keep(&self, name: &str, account: Account) -> bool {
        let mut accounts = self.accounts();
        let current = accounts.get_mut(name).filter(|current| current.argon2 == account.argon2);
        current.map(|current| *current = account).is_some()
    }

    /// Ignores poisoning: each account is replaced in one step, so a panic cannot leave one half changed.
    fn accounts(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authenticator for Store {
    fn mechanisms(&self) -> &[Mechanism] {
        &MECHANISMS
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        self.is_password(ask.authcid(), ask.password().expose()).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.accounts().get(ask.authcid()).and_then(|account| account.scram.clone()).into()
    }
}

/// Returns whether the password matches the hash, or `None` if it is not an Argon2 hash. The result is that of
/// `Argon2::verify_password`, which allocates 19 MiB for each call; an allocator may retain many such blocks.
fn computes(password: &[u8], hash: &PasswordHash) -> Option<bool> {
    thread_local!(static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) });
    let (salt, expected) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let params = Params::try_from(hash).ok()?;
    let (blocks, mut output) = (params.block_count(), vec![0; expected.len()]);
    let argon2 = Argon2::new(algorithm, Version::try_from(hash.version?).ok()?, params);
    MEMORY.with_borrow_mut(|memory| {
        memory.resize(memory.len().max(blocks), Block::new());
        argon2.hash_password_into_with_memory(password, salt, &mut output, memory).ok()
    })?;
    // This comparison takes constant time.
    Some(Output::new(&output).ok()? == *expected)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // In a real server, store this key with the accounts. Otherwise the salts of accounts that do not exist change with
    // each start, which allows user enumeration.
    let salt_key = Nonce::random()?;
    let sasl = sasl::server::Config::builder("mail.example.org").mechanisms(MECHANISMS);
    let sasl = Arc::new(sasl.salt_key(salt_key.as_str()).allow_cleartext(true).build()?);
    let store = Arc::new(Store::new(Arc::clone(&sasl))?);
    store.set_password("tim", "tanstaaf")?;
    // An account as an older server stored it.
    let argon2 = Argon2::default().hash_password(b"rosebud")?;
    store.accounts().insert("ann".into(), Account { argon2, scram: None });

    let config = Config::builder("mail.example.org").sasl(sasl).build()?;
    let users = Blocking::new(Arc::clone(&store));
    let server = Server::new(config, users, async |_: Message| Ok(Reply::OK));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move { server.serve(listener).await });

    println!("A wrong password and an account that does not exist get the same reply");
    expect(port, &MECHANISMS, "tim", "wrong", false).await?;
    expect(port, &MECHANISMS, "nobody", "wrong", false).await?;
    println!("Tim's password is changed");
    expect(port, &MECHANISMS, "tim", "tanstaaf", true).await?;
    store.set_password("tim", "ginger")?;
    expect(port, &MECHANISMS, "tim", "tanstaaf", false).await?;
    expect(port, &MECHANISMS, "tim", "ginger", true).await?;
    println!("Ann has only an old Argon2 hash, until she signs in with PLAIN");
    expect(port, &[Mechanism::ScramSha256], "ann", "rosebud", false).await?;
    expect(port, &[Mechanism::Plain, Mechanism::ScramSha256], "ann", "rosebud", true).await
}

/// Authenticates with each of the mechanisms, and checks whether this succeeds as expected.
async fn expect(
    port: u16,
    mechanisms: &[Mechanism],
    name: &str,
    password: &str,
    is_right: bool,
) -> Result<(), Box<dyn Error>> {
    for &mechanism in mechanisms {
        let sasl = sasl::client::Config::builder().mechanisms([mechanism]).allow_cleartext(true);
        let server = Connector::insecure_cleartext("localhost").port(port).sasl(sasl.build()?);
        let server = server.credentials(Credentials::password(name, password)?);
        let refused = server.connect().await.err().map(|error| error.to_string());
        println!("  {name} with {mechanism}: {}", refused.as_deref().unwrap_or("signed in"));
        if refused.is_none() != is_right {
            return Err("this is not the expected outcome".into());
        }
    }
    Ok(())
}

#[test]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
fn keys_are_of_the_last_password_and_have_the_salt_that_was_shown() {
    let sasl = sasl::server::Config::builder("mail.example.org").mechanisms(MECHANISMS).build();
    let store = Store::new(sasl.unwrap().into()).unwrap();
    store.set_password("tim", "old").unwrap();
    let computed = store.accounts()["tim"].clone();
    assert!(store.keep("tim", computed.clone()));
    store.set_password("tim", "new").unwrap();
    assert!(!store.keep("tim", computed));
    assert!(store.is_password("tim", "new") && !store.is_password("tim", "old"));
    let (tim, shown) = (&store.accounts()["tim"], store.sasl.decoy_keys(ScramHash::Sha256, "tim"));
    assert_eq!(tim.scram.as_ref().unwrap().parts().salt, shown.unwrap().parts().salt);
}
