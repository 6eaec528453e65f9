//! Looks for timing attacks: whether the time that an answer takes reveals how much of a password, a
//! digest or a proof is right, or whether an account exists.
//!
//! `cargo bench --bench timing`
//!
//! In the manner of dudect (Reparaz, Balasch, Verbauwhede, 2017): two classes of input, in random
//! order, and Welch's t for the difference of their means, without the slowest twentieth of the runs.
//! Beyond some 10 in either direction there is something to look into. Timing on a machine that
//! others use, or whose clock rate varies, is noisy: a t beyond the bound on one run is no proof, and
//! one below it is none either. So it fails by itself only where `TIMING_STRICT=1` is set.
//! `TIMING_RUNS` is the number of runs of each table, 4,000 by default; those that hash a password at
//! its full price take a tenth of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench may stop at the first surprise"
)]

use std::{env, hint::black_box, process::ExitCode, sync::Arc, time::Instant};

use smtp_auth::{
    Secret,
    sasl::{
        Answer, Authenticator, Channel, CheckPassword, CramSecret, CramSecretFor, Failure,
        Mechanism, Nonce, Query, ScramHash, ScramKeys, ScramKeysFor,
        client::{self, Credentials},
        server::{Config, Exchange, Step},
    },
};

const BOUND: f64 = 10.0;
const ITERATIONS: u32 = 4096;
const PASSWORD: &str = "tanstaaftanstaaf";
/// Of one length: right but for the last octet, and wrong in the first.
const WRONG: [&str; 2] = ["tanstaaftanstaag", "Xanstaaftanstaaf"];
/// Of one length: an account, and none.
const NAMES: [&str; 2] = ["timothy", "nobody1"];

fn main() -> ExitCode {
    let runs = env::var("TIMING_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(4000);
    let strict = env::var("TIMING_STRICT").is_ok_and(|strict| strict == "1");
    println!("{:<44} {:>6} {:>12} {:>9} {:>8}", "table", "runs", "mean", "apart", "t");
    let dear = runs / 10;
    let told = [
        table("Secret ==, last or first octet", runs, secret),
        table("CRAM-MD5 digest, last or first octet", runs, cram_digest()),
        table("SCRAM-SHA-256 proof, last or first octet", runs, scram_proof()),
        table("ScramKeys::check_password, the same", runs, scram_keys()),
        table("CramSecret::check_password, the same", runs, cram_secret()),
        table("PLAIN, account or none", dear, names(Mechanism::Plain)),
        table("CRAM-MD5, account or none", runs, names(Mechanism::CramMd5)),
        table("SCRAM-SHA-256, account or none", runs, names(Mechanism::ScramSha256)),
    ];
    match strict && told.contains(&true) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Prints a table's line, and says whether the times of the two classes differ. `run` does one run of a class, and says how many
/// nanoseconds of it count.
fn table(name: &str, runs: usize, mut run: impl FnMut(usize) -> u128) -> bool {
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for n in 0..runs + runs / 10 {
        let class = (getrandom::u32().unwrap() & 1) as usize;
        let time = run(class);
        // The first ones warm up.
        if n >= runs / 10 {
            times.get_mut(class).unwrap().push(time as f64);
        }
    }
    let (mean, apart, t) = welch(&times);
    println!("{name:<44} {runs:>6} {mean:>9.0} ns {apart:>6.1} ns {t:>8.2}");
    t.abs() > BOUND
}

/// The first sample's mean, how much it is beyond the other's, and Welch's t of the two, without what
/// is slower than nineteen twentieths of both.
fn welch(times: &[Vec<f64>; 2]) -> (f64, f64, f64) {
    let mut all = times.concat();
    all.sort_by(f64::total_cmp);
    let slowest = all.get(all.len() * 19 / 20).copied().unwrap_or(f64::INFINITY);
    let moments = |sample: &Vec<f64>| {
        let kept: Vec<f64> = sample.iter().copied().filter(|time| *time <= slowest).collect();
        let count = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / count;
        let squares: f64 = kept.iter().map(|time| (time - mean).powi(2)).sum();
        (mean, squares / (count - 1.0) / count)
    };
    let [(first, first_error), (second, second_error)] = [moments(&times[0]), moments(&times[1])];
    let error = (first_error + second_error).sqrt();
    (first, first - second, if error > 0.0 { (first - second) / error } else { 0.0 })
}

/// The nanoseconds that this takes.
fn time<T>(work: impl FnOnce() -> T) -> u128 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_nanos()
}

fn secret(class: usize) -> u128 {
    // Long enough that a comparison which stops early would show.
    let text = |start: &str, end: &str| Secret::new([start, &"x".repeat(1000), end].concat());
    let own = text("a", "a");
    let other = if class == 0 { text("a", "b") } else { text("b", "a") };
    time(|| (0..20).filter(|_| black_box(&own) == black_box(&other)).count())
}

fn scram_keys() -> impl FnMut(usize) -> u128 {
    // One iteration, so that the comparison is not lost in the work before it.
    let keys = ScramKeys::from_password(ScramHash::Sha256, PASSWORD, b"salt of sixteen.", 1);
    let keys = keys.unwrap();
    move |class| time(|| keys.check_password(black_box(WRONG[class])))
}

fn cram_secret() -> impl FnMut(usize) -> u128 {
    let secret = CramSecret::from_password(PASSWORD);
    move |class| time(|| secret.check_password(black_box(WRONG[class])))
}

fn config() -> Arc<Config> {
    let config = Config::builder("smtp.example.com")
        .mechanisms(Mechanism::COMPILED)
        .scram_iterations(ITERATIONS)
        .salt_key("a key of the server")
        // A fixed nonce has the messages of all runs be the same.
        .nonces(|| Nonce::new("0123456789abcdef"))
        .build()
        .unwrap();
    Arc::new(config)
}

/// The client's responses for that name and password.
fn responses(mechanism: Mechanism, name: &str, password: &str) -> Vec<Vec<u8>> {
    let mut client = client::Exchange::new(
        &client::Config::builder().nonces(|| Nonce::new("fedcba9876543210")).build().unwrap(),
        &Channel::tls(),
        mechanism,
        Credentials::password(name, password).unwrap(),
    );
    let initial = response(&mut client);
    let mut said = Vec::from_iter(initial.clone());
    let (config, store) = (config(), Store::new(config()));
    let mut server = Exchange::new(&config, &Channel::tls(), mechanism, initial);
    loop {
        match server.step() {
            Step::Query(query) => query.answer_with(&store),
            Step::Challenge(challenge) => {
                let client::Step::Response(slot) = client.step() else { panic!() };
                slot.challenge(challenge.data());
                match response(&mut client) {
                    Some(own) if !own.is_empty() => said.push(own),
                    // All that is left is to confirm the server's proof.
                    _ => return said,
                }
                challenge.respond(said.last().unwrap().clone());
            }
            Step::Done(_) => return said,
        }
    }
}

fn response(client: &mut client::Exchange) -> Option<Vec<u8>> {
    if let client::Step::Derive(derive) = client.step() {
        derive.run();
    }
    match client.step() {
        client::Step::Response(slot) => slot.data().map(<[u8]>::to_vec),
        other => panic!("{other:?}"),
    }
}

/// The right message, with a hexadecimal digit or a character of base64 at that place made another.
fn broken(message: &[u8], at: usize) -> Vec<u8> {
    let mut broken = message.to_vec();
    broken[at] = if broken[at] == b'a' { b'b' } else { b'a' };
    broken
}

/// What the server does behind the store's answer to a digest.
fn cram_digest() -> impl FnMut(usize) -> u128 {
    let config = config();
    let right = responses(Mechanism::CramMd5, NAMES[0], PASSWORD).remove(0);
    let said = [broken(&right, right.len() - 1), broken(&right, right.len() - 32)];
    let secret = CramSecret::from_password(PASSWORD);
    move |class| {
        let mut exchange = Exchange::new(&config, &Channel::tls(), Mechanism::CramMd5, None);
        let Step::Challenge(challenge) = exchange.step() else { panic!() };
        challenge.respond(said[class].clone());
        let Step::Query(Query::CramSecret(ask)) = exchange.step() else { panic!() };
        ask.answer(Answer::accept(secret.clone()));
        time(|| assert!(matches!(exchange.step(), Step::Done(Err(_)))))
    }
}

/// What the server does with a proof.
fn scram_proof() -> impl FnMut(usize) -> u128 {
    let (config, store) = (config(), Store::new(config()));
    let mechanism = Mechanism::ScramSha256;
    let [first, right] = responses(mechanism, NAMES[0], PASSWORD).try_into().unwrap();
    // 32 octets end in a character of base64 that has no bits to spare, and `=`.
    let said = [broken(&right, right.len() - 3), broken(&right, right.len() - 44)];
    move |class| {
        let initial = Some(first.clone());
        let mut exchange = Exchange::new(&config, &Channel::tls(), mechanism, initial);
        let Step::Query(query) = exchange.step() else { panic!() };
        query.answer_with(&store);
        let Step::Challenge(challenge) = exchange.step() else { panic!() };
        challenge.respond(said[class].clone());
        time(|| assert!(matches!(exchange.step(), Step::Done(Err(Failure::Rejected)))))
    }
}

/// One account, whose keys are copied; what it does for a password takes as long for every other name.
struct Store {
    config: Arc<Config>,
    keys: ScramKeys,
    cram: CramSecret,
}

impl Store {
    fn new(config: Arc<Config>) -> Self {
        let salt = b"salt of sixteen.";
        let keys = ScramKeys::from_password(ScramHash::Sha256, PASSWORD, salt, ITERATIONS);
        Self { config, keys: keys.unwrap(), cram: CramSecret::from_password(PASSWORD) }
    }
}

impl Authenticator for Store {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        // Made for every name, as the account's own are looked up.
        let decoy = self.config.decoy_keys(ScramHash::Sha256, ask.authcid()).unwrap();
        let keys = if ask.authcid() == NAMES[0] { &self.keys } else { &decoy };
        keys.check_password(ask.password().expose()).into()
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        (ask.authcid() == NAMES[0]).then(|| self.cram.clone()).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        (ask.authcid() == NAMES[0]).then(|| self.keys.clone()).into()
    }
}

/// A whole exchange of a wrong password, for an account and for a name that has none.
fn names(mechanism: Mechanism) -> impl FnMut(usize) -> u128 {
    let (config, store) = (config(), Store::new(config()));
    let said = NAMES.map(|name| responses(mechanism, name, WRONG[1]));
    move |class| {
        let mut said = said[class].clone().into_iter();
        let initial = (mechanism != Mechanism::CramMd5).then(|| said.next().unwrap());
        time(|| {
            let mut exchange = Exchange::new(&config, &Channel::tls(), mechanism, initial);
            loop {
                match exchange.step() {
                    Step::Challenge(challenge) => challenge.respond(said.next().unwrap()),
                    Step::Query(query) => query.answer_with(&store),
                    Step::Done(outcome) => break assert!(outcome.is_err()),
                }
            }
        })
    }
}
