//! A store of accounts as a mail server should keep them: of each password an argon2 hash, and what
//! SCRAM and CRAM-MD5 need, so that clients can move from PLAIN to SCRAM without new passwords.
//!
//! `cargo run --example password_store` has clients sign in to a server in memory, as if inside TLS.
//! `store.rs` and `worker.rs` are to copy from: the accounts, and the thread that computes argon2.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

mod store;
mod worker;

use std::{
    error::Error,
    fs,
    io::Write,
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    time::{Duration, Instant},
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, phc::PasswordHash},
};
use smtp_auth::sasl::{
    Channel,
    Failure::{self, Rejected, TempFail},
    Mechanism::{self, CramMd5, Plain, ScramSha256},
    PasswordAnswer, Query,
    client::{self, Choice, Credentials},
    server::{self, Config},
};

use crate::{
    store::Store,
    worker::{QUEUE, Worker},
};

const ALL: [Mechanism; 3] = [Plain, CramMd5, ScramSha256];

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("wrong: {why}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("accounts");
    let store = Store::new()?;
    store.set_password("tim", "tanstaaf")?;
    store.save(&path)?;
    // As an older server kept it.
    let old: PasswordHash = Argon2::default().hash_password(b"rosebud")?;
    writeln!(fs::File::options().append(true).open(&path)?, "ann\t{old}")?;

    let server = Server::new(Store::load(&path)?)?;
    println!("Three clients at once: argon2 keeps nobody waiting but its own");
    let ends = server.expect(&ALL, "tim", "tanstaaf", Ok(()))?;
    if ends.last().map(|end| end.mechanism) != Some(Plain) {
        return Err("PLAIN was not the last to come to an end".into());
    }
    println!("A wrong password, and an account that does not exist");
    server.alike(["tim", "nobody"])?;

    println!("Tim's password is changed");
    server.store.set_password("tim", "ginger")?;
    server.expect(&ALL, "tim", "tanstaaf", Err(Rejected))?;
    server.expect(&ALL, "tim", "ginger", Ok(()))?;

    println!("Ann has an old argon2 hash and nothing else, until she signs in by PLAIN");
    server.expect(&[CramMd5, ScramSha256], "ann", "rosebud", Err(Rejected))?;
    server.expect(&[Plain], "ann", "rosebud", Ok(()))?;
    server.expect(&[CramMd5, ScramSha256], "ann", "rosebud", Ok(()))?;

    println!("The server is started again with what it has saved");
    server.store.save(&path)?;
    let server = Server::new(Store::load(&path)?)?;
    server.expect(&ALL, "tim", "ginger", Ok(()))?;
    server.expect(&ALL, "ann", "rosebud", Ok(()))?;

    println!("What a log would have of the store");
    hides_itself(&server.store, &fs::read_to_string(&path)?)?;
    println!("More clients than the queue has room for");
    server.overflow()
}

/// Whether nothing that is long and in the file is shown.
fn hides_itself(store: &Store, saved: &str) -> Result<(), Box<dyn Error>> {
    let shown = format!("{store:?}");
    println!("  {shown}");
    let parts = saved.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '/' | '='));
    match parts.filter(|part| part.len() >= 16).any(|secret| shown.contains(secret)) {
        true => Err("a secret is in it".into()),
        false => Ok(()),
    }
}

/// The loop that serves, and what it shares with the worker.
struct Server {
    store: Arc<Store>,
    config: Arc<Config>,
    worker: Worker,
}

/// A client, and the server's exchange with it.
struct Connection {
    client: client::Exchange,
    exchange: server::Exchange,
    mechanism: Mechanism,
    challenges: usize,
    began: Instant,
}

/// How a sign-in ended.
struct End {
    mechanism: Mechanism,
    outcome: Result<(), Failure>,
    challenges: usize,
    took: Duration,
}

/// The worker's answer: for which connection, to which question, and whether the password is right.
type Checked = (usize, u64, bool);

impl Server {
    fn new(store: Store) -> Result<Self, Box<dyn Error>> {
        let (config, store) = (Arc::new(store.config("mail.example.org")?), Arc::new(store));
        Ok(Self { worker: Worker::start(Arc::clone(&store))?, store, config })
    }

    /// Serves one client for each of the mechanisms, all at once. The ends are in the order in which
    /// they came.
    fn serve(
        &self,
        mechanisms: &[Mechanism],
        name: &str,
        password: &str,
    ) -> Result<Vec<End>, Box<dyn Error>> {
        let (done, checked) = channel();
        let (mut connections, mut ends) = (Vec::new(), Vec::new());
        for (number, &mechanism) in mechanisms.iter().enumerate() {
            let mut connection = Connection::new(&self.config, mechanism, name, password)?;
            ends.extend(self.go_on(number, &mut connection, &done)?);
            connections.push(connection);
        }
        while ends.len() < connections.len() {
            // A server waits here for what clients send, too.
            let (number, serial, right) = checked.recv_timeout(Duration::from_secs(60))?;
            let connection = connections.get_mut(number).ok_or("there is no such connection")?;
            if connection.answer(serial, right) {
                ends.extend(self.go_on(number, connection, &done)?);
            }
        }
        Ok(ends)
    }

    /// Does what can be done at once. Returns the end, or nothing while the worker is to be heard.
    fn go_on(
        &self,
        number: usize,
        connection: &mut Connection,
        done: &Sender<Checked>,
    ) -> Result<Option<End>, Box<dyn Error>> {
        loop {
            match connection.exchange.step() {
                server::Step::Challenge(challenge) => {
                    connection.challenges += 1;
                    match respond(&mut connection.client, challenge.data()) {
                        Some(response) => challenge.respond(response),
                        None => challenge.cancel(),
                    }
                }
                server::Step::Query(query) => {
                    if !self.answers(number, query, done) {
                        return Ok(None);
                    }
                }
                server::Step::Done(outcome) => {
                    let outcome = outcome.map(|_| ());
                    return connection.end(outcome).map(Some);
                }
            }
        }
    }

    /// Answers what the store has ready, and gives a password to the worker. Returns whether there is
    /// an answer already.
    fn answers(&self, number: usize, query: Query<'_>, done: &Sender<Checked>) -> bool {
        let (serial, done) = (query.serial(), done.clone());
        match query {
            Query::CheckPassword(ask) => {
                let wake = move |right| {
                    // The loop may be gone by then.
                    let _ = done.send((number, serial, right));
                };
                let waits = self.worker.check(ask, wake);
                if !waits {
                    ask.answer(PasswordAnswer::TempFail);
                }
                !waits
            }
            other => {
                other.answer_with(&*self.store);
                true
            }
        }
    }

    /// Serves, and says how each sign-in ended, which has to be so for all.
    fn expect(
        &self,
        mechanisms: &[Mechanism],
        name: &str,
        password: &str,
        expected: Result<(), Failure>,
    ) -> Result<Vec<End>, Box<dyn Error>> {
        let ends = self.serve(mechanisms, name, password)?;
        for End { mechanism, outcome, took, .. } in &ends {
            let what = outcome.map_or_else(|why| why.to_string(), |()| "signed in".into());
            println!("  {name} by {mechanism}, {} ms: {what}", took.as_millis());
            if *outcome != expected {
                return Err("that is not what should have come of it".into());
            }
        }
        Ok(ends)
    }

    /// Whether who guesses cannot tell that one of the accounts does not exist: by what is said, or
    /// because no argon2 is computed, which takes some hundreds of times as long as all else. What
    /// else the machine has to do delays both, by chance, so that only the least of a few counts.
    fn alike(&self, names: [&str; 2]) -> Result<(), Box<dyn Error>> {
        let [one, other] = names.map(|name| -> Result<_, Box<dyn Error>> {
            let ends = self.expect(&ALL, name, "wrong", Err(Rejected))?;
            let said: Vec<_> = ends.iter().map(|end| (end.mechanism, end.challenges)).collect();
            let mut times = Vec::new();
            for _ in 0..5 {
                times.extend(self.serve(&[Plain], name, "wrong")?.iter().map(|end| end.took));
            }
            Ok((said, times.into_iter().min().unwrap_or_default()))
        });
        let ((said, time), (other_said, other_time)) = (one?, other?);
        if said != other_said || time > other_time * 50 || other_time > time * 50 {
            return Err("an account that does not exist is told from one that does".into());
        }
        Ok(())
    }

    /// Has three times as many passwords to check as can wait.
    fn overflow(&self) -> Result<(), Box<dyn Error>> {
        let ends = self.serve(&[Plain; 3 * QUEUE], "tim", "ginger")?;
        let count = |outcome| ends.iter().filter(|end| end.outcome == outcome).count();
        let (good, full) = (count(Ok(())), count(Err(TempFail)));
        println!("  {good} signed in, {full} are to try again later");
        if good < QUEUE || full == 0 || good + full != ends.len() {
            return Err("that is not what a queue of this length does".into());
        }
        Ok(())
    }
}

impl Connection {
    fn new(
        config: &Arc<Config>,
        mechanism: Mechanism,
        name: &str,
        password: &str,
    ) -> Result<Self, Box<dyn Error>> {
        let credentials = Credentials::password(name, password)?;
        let (own, channel) = (client::Config::default(), Channel::tls());
        let choice = Choice::without_list(mechanism);
        let mut client = client::Exchange::new(&own, &channel, choice, credentials);
        let initial = next_response(&mut client);
        let exchange = server::Exchange::new(config, &channel, mechanism, initial);
        Ok(Self { client, exchange, mechanism, challenges: 0, began: Instant::now() })
    }

    /// Answers the question of that number, if it is still asked.
    fn answer(&mut self, serial: u64, right: bool) -> bool {
        match self.exchange.step() {
            server::Step::Query(query) if query.serial() == serial => match query {
                Query::CheckPassword(ask) => ask.answer(right),
                other => other.reject(),
            },
            _ => return false,
        }
        true
    }

    /// Tells the client, which has to come to the same.
    fn end(&mut self, outcome: Result<(), Failure>) -> Result<End, Box<dyn Error>> {
        if let client::Step::Response(response) = self.client.step() {
            match outcome {
                Ok(()) => response.success(),
                Err(_) => response.refused(),
            }
        }
        match self.client.step() {
            client::Step::Done(end) if end.is_ok() == outcome.is_ok() => {}
            _ => return Err("client and server do not agree on the outcome".into()),
        }
        let Self { mechanism, challenges, .. } = *self;
        Ok(End { mechanism, outcome, challenges, took: self.began.elapsed() })
    }
}

/// What the client says to a challenge; `None` where it gives up.
fn respond(client: &mut client::Exchange, challenge: &[u8]) -> Option<Vec<u8>> {
    if let client::Step::Response(response) = client.step() {
        response.challenge(challenge);
    }
    next_response(client)
}

/// What the client says next, if anything.
fn next_response(client: &mut client::Exchange) -> Option<Vec<u8>> {
    loop {
        match client.step() {
            client::Step::Response(response) => return response.data().map(<[u8]>::to_vec),
            client::Step::Derive(work) => work.run(),
            client::Step::Challenge(ask) => ask.fail(),
            client::Step::Done(_) => return None,
        }
    }
}
