//! Processes under load, one of which is killed again and again, while their database restarts.
//!
//! `LOAD_SECONDS=600 cargo test -p smtp-authd --test service load -- --nocapture` is the long form, with its figures.

use std::{
    env,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, sleep},
    time::{Duration, Instant, SystemTime},
};

use smtp_auth::sasl::Mechanism;
use sqlx::{AnyPool, Row};

use crate::{
    postgres::Postgres,
    support::{Authd, Client, Outcome, PASSWORD},
};

/// Failures at an account. In the time of the test none leaks away: that takes 6,000 seconds.
const LIMIT: i64 = 6;
const LEAK_MS: i64 = 6_000_000;

const OPTIONS: &str = "[accounts]\niterations = 4096\n\
    [limits]\naccount = 6\nwindow_s = 36000\nnetwork = 1000\nfailure_delay_ms = 10\nexchange_ms = 200\n\
    [log]\nfilter = \"error,smtp_authd::serve=info\"\n";

const OWNER: Option<&str> = Some("192.0.2.1");

#[derive(Debug, Default)]
struct Figures {
    /// Right passwords that were accepted.
    right: AtomicU32,
    /// Right passwords that were refused as wrong.
    refused: AtomicU32,
    /// Attempts that were to be repeated, and connections that could not be made.
    temporary: AtomicU32,
    guesses: AtomicU32,
    /// How long the slowest reply took.
    slowest: Mutex<Duration>,
}

#[test]
fn three_processes_on_postgresql() {
    let Some(mut postgres) = Postgres::start() else {
        return eprintln!("PostgreSQL is not installed: the test is skipped");
    };
    let url = postgres.database();
    let fleet = (0..3).map(|_| Authd::new(Some(&url), OPTIONS)).collect();
    under_load(fleet, &url, Some(&mut postgres));
}

#[test]
fn one_process_on_sqlite() {
    let authd = Authd::new(None, OPTIONS);
    let url = format!("sqlite:{}", authd.path("accounts.db").display());
    under_load(vec![authd], &url, None);
}

fn under_load(mut fleet: Vec<Authd>, url: &str, mut postgres: Option<&mut Postgres>) {
    let seconds = env::var("LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let (begin, began_at) = (Instant::now(), now_ms());
    for name in ["tim", "victim0", "ann"] {
        fleet[0].done(&["add", name], PASSWORD);
    }
    fleet.iter_mut().for_each(|authd| {
        authd.start();
    });
    let sockets: Vec<_> = fleet.iter().map(|authd| authd.path("auth")).collect();
    // All processes come to know the owner's network before the guesses begin.
    let outcome = fleet[0].connect().sign_in(Mechanism::Plain, OWNER, "victim0", PASSWORD);
    assert_eq!(outcome, Outcome::Ok("victim0".into()));
    sleep(Duration::from_secs(1));
    let (figures, is_over, victim) =
        (Figures::default(), AtomicBool::new(false), AtomicU32::new(0));
    let (mut kills, mut restarts) = (0, 0);
    thread::scope(|scope| {
        for socket in &sockets {
            for (mechanism, account) in [
                (Mechanism::ScramSha256, "tim"),
                (Mechanism::Plain, "tim"),
                (Mechanism::ScramSha256, "victim0"),
            ] {
                let (figures, is_over) = (&figures, &is_over);
                scope.spawn(move || own(socket, mechanism, account, figures, is_over));
            }
            let (figures, is_over, victim) = (&figures, &is_over, &victim);
            scope.spawn(move || guess(socket, victim, figures, is_over));
        }
        let end = begin + Duration::from_secs(seconds);
        while Instant::now() < end {
            sleep(Duration::from_secs(2));
            let killed = kills % fleet.len();
            fleet[killed].kill();
            kills += 1;
            victim.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_secs(1));
            if let Some(postgres) = &mut postgres {
                postgres.stop();
                victim.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_secs(2));
                postgres.run();
                restarts += 1;
            }
            fleet[killed].start();
            sleep(Duration::from_secs(2));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // What one process has seen limits the account at all of them.
    let mut client = fleet[0].connect();
    for guess in 0..LIMIT {
        let from = format!("198.51.100.{guess}");
        let outcome = client.sign_in(Mechanism::Plain, Some(&from), "ann", "wrong");
        assert_eq!(outcome, Outcome::Fail);
    }
    sleep(Duration::from_secs(1));
    let counted = counted(url, began_at);
    eprintln!(
        "{} processes, {} s, killed {kills} times, database restarted {restarts} times: {figures:?}; \
         failures counted at each account that was guessed at, with a limit of {LIMIT}: {counted:?}",
        fleet.len(),
        begin.elapsed().as_secs(),
    );
    assert_eq!(figures.refused.into_inner(), 0, "a right password was refused");
    assert!(figures.right.into_inner() > 100 && figures.temporary.into_inner() > 0);
    assert!(figures.slowest.into_inner().unwrap() < Duration::from_secs(8));
    // Each process may let the limit through before the next exchange.
    let most = LIMIT * i64::try_from(fleet.len()).unwrap();
    assert!(
        counted.iter().all(|count| *count <= most) && counted.iter().any(|count| *count >= LIMIT)
    );
    for authd in &fleet {
        let elsewhere = Some("203.0.113.1");
        let mut client = authd.connect();
        for (from, name, expected) in [
            (elsewhere, "victim0", Outcome::Fail),
            (OWNER, "victim0", Outcome::Ok("victim0".into())),
            (elsewhere, "tim", Outcome::Ok("tim".into())),
            (elsewhere, "ann", Outcome::Fail),
        ] {
            assert_eq!(client.sign_in(Mechanism::Plain, from, name, PASSWORD), expected, "{name}");
        }
    }
}

/// Authenticates with the right password, one time after the other.
fn own(
    socket: &Path,
    mechanism: Mechanism,
    account: &str,
    figures: &Figures,
    is_over: &AtomicBool,
) {
    let mut client = None;
    while !is_over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let outcome = attempt(&mut client, socket, mechanism, OWNER, account, PASSWORD);
        let mut slowest = figures.slowest.lock().unwrap();
        *slowest = (*slowest).max(begin.elapsed());
        drop(slowest);
        let count = match outcome {
            Outcome::Ok(own) if own == account => &figures.right,
            Outcome::Code("temp_fail") | Outcome::Closed => &figures.temporary,
            _ => &figures.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Guesses, each time from another network.
fn guess(socket: &Path, victim: &AtomicU32, figures: &Figures, is_over: &AtomicBool) {
    let (mut client, mut number) = (None, 0_u32);
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        let [_, high, middle, low] = number.to_be_bytes();
        let from = format!("10.{high}.{middle}.{low}");
        let name = format!("victim{}", victim.load(Ordering::Relaxed));
        let outcome = attempt(&mut client, socket, Mechanism::Plain, Some(&from), &name, "wrong");
        assert!(!matches!(outcome, Outcome::Ok(_)), "a wrong password is accepted");
        figures.guesses.fetch_add(u32::from(outcome == Outcome::Fail), Ordering::Relaxed);
    }
}

/// Authenticates on the connection, or on a new one if there is none.
fn attempt(
    client: &mut Option<Client>,
    socket: &Path,
    mechanism: Mechanism,
    from: Option<&str>,
    name: &str,
    password: &str,
) -> Outcome {
    let connected = client.take().or_else(|| Client::try_connect(socket, 2));
    let Some(mut connected) = connected else {
        sleep(Duration::from_millis(20));
        return Outcome::Closed;
    };
    let outcome = connected.sign_in(mechanism, from, name, password);
    if outcome != Outcome::Closed {
        *client = Some(connected);
    }
    if let Outcome::Code(_) | Outcome::Closed = outcome {
        sleep(Duration::from_millis(20));
    }
    outcome
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Returns how many failures the database has of each account. A bucket has the kind of an account in its lowest bits.
fn counted(url: &str, began_at: i64) -> Vec<i64> {
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = AnyPool::connect(url).await.unwrap();
        let select = "SELECT empty_at FROM failure WHERE (bucket & 3) = 1 ORDER BY changed";
        let rows = sqlx::query(select).fetch_all(&pool).await.unwrap();
        rows.iter().map(|row| (row.get::<i64, _>("empty_at") - began_at) / LEAK_MS).collect()
    })
}
