//! A submission server with STARTTLS, SCRAM and PLAIN, whose accounts and messages are in SQLite. The guide's chapter
//! `server` explains it. `cargo run --example guide_server -- add tim@example.org < password` adds an account,
//! `cargo run --example guide_server -- 127.0.0.1:2587` serves, by `cert.pem` and `key.pem` of the current directory.

use std::{
    env,
    error::Error,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension, params};
use smtp_auth_tokio::{
    Blocking, MemoryRateLimiter,
    server::{self, Config, Message, Reply, Server, StartTls},
    smtp_auth::{
        Answer, Authenticator, CheckPassword, Mechanism, Secret,
        sasl::{self, Nonce, ScramHash, ScramKeys, ScramKeysFor, prepare_lower_case},
    },
    tls,
};

type Failure = Box<dyn Error + Send + Sync>;

const HOSTNAME: &str = "mail.example.org";
const MECHANISMS: [Mechanism; 2] = [Mechanism::ScramSha256, Mechanism::Plain];
const ITERATIONS: u32 = 15_000;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, scram_keys TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS messages (sender TEXT, recipients TEXT NOT NULL, octets BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS secrets (salt_key TEXT NOT NULL);";

struct Store {
    database: Mutex<Connection>,
    sasl: Arc<sasl::server::Config>,
}

impl Store {
    fn open(path: &str) -> Result<Self, Failure> {
        let database = Connection::open(path)?;
        database.execute_batch(TABLES)?;
        let new_key = "INSERT INTO secrets SELECT ?1 WHERE NOT EXISTS (SELECT * FROM secrets)";
        database.execute(new_key, [Nonce::random()?.as_str()])?;
        let salt_key: String =
            database.query_row("SELECT salt_key FROM secrets", [], |row| row.get(0))?;
        let sasl = sasl::server::Config::builder(HOSTNAME)
            .mechanisms(MECHANISMS)
            .scram_iterations(ITERATIONS)
            .salt_key(salt_key)
            .fold_names(prepare_lower_case)
            .build()?;
        Ok(Self { database: Mutex::new(database), sasl: Arc::new(sasl) })
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Adds an account, or changes its password.
    fn set_password(&self, name: &str, password: &str) -> Result<(), Failure> {
        let name = self.sasl.fold(name).ok_or("an account's name cannot have these characters")?;
        let keys = ScramKeys::generate(ScramHash::Sha256, password, ITERATIONS)
            .ok_or("a password cannot be empty or have these characters")?;
        let insert = "INSERT OR REPLACE INTO accounts VALUES (?1, ?2)";
        self.database().execute(insert, params![&*name, keys.to_text().expose()])?;
        Ok(())
    }

    /// The account's keys, and `true`; or, if there is no such account, decoy keys, which no password fits, and `false`.
    /// Both take the same time. `None` if the database cannot be read.
    fn keys(&self, name: &str) -> Option<(ScramKeys, bool)> {
        let decoy = self.sasl.decoy_keys(ScramHash::Sha256, name)?.to_text();
        let select = "SELECT scram_keys FROM accounts WHERE name = ?1";
        let found = self.database().query_row(select, [name], |row| row.get::<_, String>(0));
        let found = found.optional().inspect_err(|why| eprintln!("no accounts: {why}")).ok()?;
        let exists = found.is_some();
        let keys = found.map_or(decoy, Secret::from).expose().parse();
        Some((keys.inspect_err(|why| eprintln!("no keys of {name}: {why}")).ok()?, exists))
    }
}

impl Authenticator for Store {
    fn mechanisms(&self) -> &[Mechanism] {
        &MECHANISMS
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        let Some((keys, exists)) = self.keys(ask.authcid()) else { return Answer::temp_fail() };
        (keys.check_password(ask.password().expose()) && exists).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let Some((keys, exists)) = self.keys(ask.authcid()) else { return Answer::temp_fail() };
        exists.then_some(keys).into()
    }
}

impl Store {
    /// Puts a message into the queue. It is on the disk when this returns.
    fn enqueue(&self, message: &Message) -> Result<(), Failure> {
        let mut octets = message.received().to_string().into_bytes();
        octets.extend_from_slice(&message.octets);
        let insert = "INSERT INTO messages VALUES (?1, ?2, ?3)";
        self.database().execute(insert, params![message.from, message.to.join("\n"), octets])?;
        Ok(())
    }
}

async fn submit(store: Arc<Store>, message: Message) -> Result<Reply, Reply> {
    let account = message.peer.identity().ok_or(Reply::AUTHENTICATION_REQUIRED)?.acts_as();
    if message.from.as_ref().is_some_and(|from| !from.eq_ignore_ascii_case(account)) {
        return Err(Reply::constant("553 5.7.1 This account may not send from that address"));
    }
    let queued = tokio::task::spawn_blocking(move || store.enqueue(&message)).await;
    match queued.unwrap_or_else(|panic| Err(panic.into())) {
        Ok(()) => Ok(Reply::constant("250 2.0.0 The message is in the queue")),
        Err(why) => {
            eprintln!("no message can be kept: {why}");
            Err(Reply::INSUFFICIENT_STORAGE)
        }
    }
}

async fn serve(store: Arc<Store>, address: &str) -> Result<(), Failure> {
    let sasl = Arc::clone(&store.sasl);
    let config = Config::builder(HOSTNAME).sasl(sasl).starttls(StartTls::Required).build()?;
    let users = Blocking::new(Arc::clone(&store));
    let server = Server::new(config, users, move |message| submit(Arc::clone(&store), message))
        .tls(tls::server("cert.pem", "key.pem")?)
        .rate_limiter(MemoryRateLimiter::new().window(Duration::from_secs(30 * 60)));
    let listener = server::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let stopping = server.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopping.shutdown();
        }
    });
    server.serve(listener).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let store = Store::open("mail.db")?;
    match &arguments[..] {
        [verb, account] if verb == "add" => {
            let password = io::read_to_string(io::stdin())?;
            store.set_password(account, password.trim_end_matches(['\r', '\n']))
        }
        [address] => serve(Arc::new(store), address).await,
        _ => Err("usage: guide_server ADDRESS:PORT, or guide_server add ACCOUNT < PASSWORD".into()),
    }
}
