//! A store of accounts as a mail server should keep them: of each password an argon2 hash, SCRAM's
//! keys and CRAM-MD5's states, which are replaced together when it is changed.
//!
//! `cargo run --example password_store` has clients sign in to a server in memory, as if inside TLS.
//! `store.rs`, `check.rs` and `worker.rs` are to copy from: the accounts, argon2 in memory that stays,
//! and the thread that computes it.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

mod check;
mod store;
mod worker;

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, phc::PasswordHash},
};
use smtp_auth::sasl::{
    Channel,
    Failure::{self, Locked, NoSecret, Rejected, TempFail},
    Mechanism::{self, CramMd5, Plain, ScramSha256},
    Query,
    client::{self, Credentials},
    server::{self, Config, Step},
};

use crate::{
    store::Store,
    worker::{QUEUE, Worker},
};

const ALL: [Mechanism; 3] = [Plain, ScramSha256, CramMd5];

fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::new()?;
    store.set_password("tim", "tanstaaf")?;
    // As an older server kept it.
    let old: PasswordHash = Argon2::default().hash_password(b"rosebud")?;
    let text = format!("{}ann\t{old}\n", store.to_text().expose());
    let server = Server::new(Store::from_text(&text.into())?)?;

    println!("Three clients at once: argon2 keeps nobody waiting but its own");
    let ends = server.expect(&ALL, "tim", "tanstaaf", Ok(()))?;
    if ends.last().map(|end| end.mechanism) != Some(Plain) {
        return Err("PLAIN was not the last to come to an end".into());
    }
    println!("A wrong password, and an account that does not exist: who guesses cannot tell");
    let (known, unknown) = (server.time("tim")?, server.time("nobody")?);
    // Argon2 takes some hundreds of times as long as all else.
    if known > unknown * 50 || unknown > known * 50 {
        return Err("an account that does not exist is told from one that does".into());
    }

    println!("Tim's password is changed");
    server.store.set_password("tim", "ginger")?;
    server.expect(&ALL, "tim", "tanstaaf", Err(Rejected))?;
    server.expect(&ALL, "tim", "ginger", Ok(()))?;

    println!("Ann has an old argon2 hash and nothing else, until she signs in by PLAIN");
    server.expect(&[ScramSha256, CramMd5], "ann", "rosebud", Err(NoSecret))?;
    server.expect(&[Plain], "ann", "rosebud", Ok(()))?;
    server.expect(&[ScramSha256, CramMd5], "ann", "rosebud", Ok(()))?;

    println!("One keyboard makes an é of one character, another of two");
    server.store.set_password("ren\u{e9}", "caf\u{e9}")?;
    server.expect(&ALL, "ren\u{e9}", "caf\u{e9}", Ok(()))?;
    server.expect(&[Plain, ScramSha256], "rene\u{301}", "cafe\u{301}", Ok(()))?;

    println!("The server is started again with what it has kept");
    let server = Server::new(Store::from_text(&server.store.to_text())?)?;
    server.expect(&ALL, "tim", "ginger", Ok(()))?;
    server.expect(&ALL, "ann", "rosebud", Ok(()))?;

    println!(
        "Too many passwords for ann were wrong: now the right one is, too, which clients cannot tell"
    );
    server.store.lock("ann");
    server.expect(&ALL, "ann", "rosebud", Err(Locked))?;
    server.expect(&[Plain], "ann", "wrong", Err(Locked))?;

    println!("More clients than the queue has room for");
    let ends = server.serve(&[Plain; 3 * QUEUE], "tim", "ginger")?;
    let full = ends.iter().filter(|end| end.outcome == Err(TempFail)).count();
    println!("  {full} of {} are to try again later", ends.len());
    if full == 0 || full > 2 * QUEUE {
        return Err("that is not what a queue of this length does".into());
    }
    Ok(())
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
    began: Instant,
}

/// How a sign-in ended.
struct End {
    mechanism: Mechanism,
    outcome: Result<(), Failure>,
    took: Duration,
}

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
        let (mut connections, mut ends) = (Vec::new(), Vec::new());
        for (number, &mechanism) in mechanisms.iter().enumerate() {
            let mut connection = Connection::new(&self.config, mechanism, name, password)?;
            ends.extend(self.go_on(number, &mut connection));
            connections.push(connection);
        }
        while ends.len() < connections.len() {
            // A server waits here for what clients send, too.
            let (number, job) = self.worker.done.recv_timeout(Duration::from_secs(60))?;
            let connection = connections.get_mut(number).ok_or("there is no such connection")?;
            // If not, nobody waits for the answer any more.
            if connection.exchange.query().is_some_and(|query| query.settle(job)) {
                ends.extend(self.go_on(number, connection));
            }
        }
        Ok(ends)
    }

    /// Does what can be done at once. Returns the end, or nothing while the worker is to be heard.
    fn go_on(&self, number: usize, connection: &mut Connection) -> Option<End> {
        loop {
            match connection.exchange.step() {
                Step::Challenge(challenge) => {
                    if let client::Step::Response(response) = connection.client.step() {
                        response.challenge(challenge.data());
                    }
                    match next_response(&mut connection.client) {
                        Some(response) => challenge.respond(response),
                        None => challenge.cancel(),
                    }
                }
                Step::Query(query @ Query::CheckPassword(_)) => {
                    if query.job().is_some_and(|job| self.worker.take(number, job)) {
                        return None;
                    }
                    query.temp_fail();
                }
                // What the store has ready.
                Step::Query(query) => query.answer_with(&*self.store),
                Step::Done(outcome) => {
                    let (outcome, mechanism) = (outcome.map(|_| ()), connection.mechanism);
                    return Some(End { mechanism, outcome, took: connection.began.elapsed() });
                }
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
        for End { mechanism, outcome, took } in &ends {
            let what = outcome.map_or_else(|why| why.to_string(), |()| "signed in".into());
            println!("  {name} by {mechanism}, {} ms: {what}", took.as_millis());
            if *outcome != expected {
                return Err("that is not what should have come of it".into());
            }
        }
        Ok(ends)
    }

    /// How long a wrong password takes by PLAIN. What else the machine has to do delays it, by chance,
    /// so that only the least of a few counts.
    fn time(&self, name: &str) -> Result<Duration, Box<dyn Error>> {
        let mut ends = Vec::new();
        for _ in 0..5 {
            ends.extend(self.expect(&[Plain], name, "wrong", Err(Rejected))?);
        }
        ends.iter().map(|end| end.took).min().ok_or("there is no time".into())
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
        let mut client = client::Exchange::new(&own, &channel, mechanism, credentials);
        let initial = next_response(&mut client);
        let exchange = server::Exchange::new(config, &channel, mechanism, initial);
        Ok(Self { client, exchange, mechanism, began: Instant::now() })
    }
}

/// What the client says next; `None` where it gives up.
fn next_response(client: &mut client::Exchange) -> Option<Vec<u8>> {
    loop {
        match client.step() {
            client::Step::Response(response) => return response.data().map(<[u8]>::to_vec),
            client::Step::Derive(work) => work.run(),
            client::Step::Custom(ask) => ask.fail(),
            client::Step::Done(_) => return None,
        }
    }
}
