//! Several processes that share a database, and many connections.

use std::{thread, time::Duration};

use smtp_auth::sasl::Mechanism;

use crate::{
    postgres::Postgres,
    support::{Authd, Client, Outcome, PASSWORD, resident, skipped},
};

const SCRAM: Mechanism = Mechanism::ScramSha256;

fn fleet(database: &str, more: &str) -> Vec<Authd> {
    let mut fleet: Vec<_> = (0..3).map(|_| Authd::new(Some(database), more)).collect();
    fleet[0].done(&["add", "tim"], PASSWORD);
    fleet[0].done(&["add", "ann"], PASSWORD);
    fleet.iter_mut().for_each(|authd| {
        authd.start();
    });
    fleet
}

#[test]
fn decoys_and_limits_are_those_of_the_whole_fleet() {
    let Some(mut postgres) = Postgres::start() else {
        return eprintln!("PostgreSQL is not installed: the test is skipped");
    };
    let limits = "[limits]\nfailure_delay_ms = 10\naccount = 6\nnetwork = 1000\nexchange_ms = 200";
    let fleet = fleet(&postgres.database(), limits);
    // An account that does not exist shows the same salt everywhere.
    let salts: Vec<_> =
        fleet.iter().map(|authd| authd.connect().first_challenge("nobody")).collect();
    assert!(salts.iter().all(|salt| *salt == salts[0]), "{salts:?}");
    // One is told of the owner's network, all know it.
    let owner = Some("192.0.2.1");
    assert_eq!(
        fleet[0].connect().sign_in(SCRAM, owner, "tim", PASSWORD),
        Outcome::Ok("tim".into())
    );
    thread::sleep(Duration::from_millis(1000));
    // Twice as many failures as one process lets through, and each process sees a third of them.
    for guess in 0..12 {
        let from = format!("198.51.100.{guess}");
        let outcome =
            fleet[guess % 3].connect().sign_in(Mechanism::Plain, Some(&from), "tim", "wrong");
        assert_eq!(outcome, Outcome::Fail);
        thread::sleep(Duration::from_millis(150));
    }
    thread::sleep(Duration::from_millis(1000));
    for authd in &fleet {
        let from = Some("198.51.100.99");
        assert_eq!(
            authd.connect().sign_in(SCRAM, from, "tim", PASSWORD),
            Outcome::Fail,
            "limited everywhere"
        );
        assert_eq!(
            authd.connect().sign_in(SCRAM, owner, "tim", PASSWORD),
            Outcome::Ok("tim".into())
        );
        assert_eq!(
            authd.connect().sign_in(SCRAM, from, "ann", PASSWORD),
            Outcome::Ok("ann".into())
        );
    }
}

#[test]
fn thousands_of_idle_connections_cost_little_and_hold_nobody_up() {
    let mut authd = Authd::new(None, "");
    authd.done(&["add", "tim"], PASSWORD);
    let pid = authd.start();
    // Both sides are processes with a limit of their own.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, ..limit },
    )
    .unwrap();
    let many = limit.maximum.map_or(10_000, |maximum| maximum.saturating_sub(200).min(10_000));
    if many < 10_000 {
        skipped(&format!("the limit of open files allows only {many} of 10000 connections"));
    }
    let before = resident(pid);
    let mut idle = Vec::new();
    while (idle.len() as u64) < many {
        idle.push(Client::connect_only(&authd.path("auth")));
    }
    let outcome = authd.connect().sign_in(SCRAM, None, "tim", PASSWORD);
    assert_eq!(outcome, Outcome::Ok("tim".into()));
    let each = (resident(pid) - before) / many;
    eprintln!("{many} connections take {each} octets each");
    assert!(each < 16 * 1024, "{each} octets for each of {many} connections");
    drop(idle);
    assert_eq!(authd.connect().sign_in(SCRAM, None, "tim", PASSWORD), Outcome::Ok("tim".into()));
}

#[test]
fn a_stop_forgets_no_failure() {
    let limits = "[limits]\nfailure_delay_ms = 10\naccount = 6\nnetwork = 1000\nexchange_ms = 1000";
    let mut authd = Authd::new(None, limits);
    authd.done(&["add", "tim"], PASSWORD);
    let pid = authd.start();
    for guess in 0..6 {
        let from = format!("198.51.100.{guess}");
        let outcome = authd.connect().sign_in(Mechanism::Plain, Some(&from), "tim", "wrong");
        assert_eq!(outcome, Outcome::Fail);
    }
    authd.signal(pid, "-TERM");
    assert!(authd.wait());
    authd.start();
    let outcome = authd.connect().sign_in(SCRAM, Some("198.51.100.99"), "tim", PASSWORD);
    assert_eq!(outcome, Outcome::Fail, "still limited");
}

#[test]
fn a_late_exchange_is_logged() {
    let Some(mut postgres) = Postgres::start() else {
        return eprintln!("PostgreSQL is not installed: the test is skipped");
    };
    let url = postgres.database();
    let mut authd = Authd::new(Some(&url), "[limits]\nfailure_delay_ms = 10\nexchange_ms = 200");
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    // Shorter than the time limit of a query, which is a second.
    let mut slow = postgres.slow(&url, "failure", 0.7);
    authd.connect().sign_in(Mechanism::Plain, None, "tim", "wrong");
    authd.wait_for_all(&["took longer than `exchange_ms`"]);
    assert!(slow.wait().unwrap().success());
}

#[test]
fn a_query_on_a_dead_connection_is_made_again() {
    let Some(mut postgres) = Postgres::start() else {
        return eprintln!("PostgreSQL is not installed: the test is skipped");
    };
    let url = postgres.database();
    let mut authd = Authd::new(Some(&url), "");
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    let mut client = authd.connect();
    for _ in 0..5 {
        // The connection that this look-up has used is used again without a test.
        assert_eq!(client.sign_in(SCRAM, None, "tim", PASSWORD), Outcome::Ok("tim".into()));
        postgres.end_connections(&url);
        assert_eq!(client.sign_in(SCRAM, None, "tim", PASSWORD), Outcome::Ok("tim".into()));
    }
}

#[test]
fn uses_that_cannot_be_noted_take_no_look_up_its_connection() {
    let Some(mut postgres) = Postgres::start() else {
        return eprintln!("PostgreSQL is not installed: the test is skipped");
    };
    let url = postgres.database();
    let mut authd = Authd::new(Some(&url), "connections = 4\n");
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    let mut locked = postgres.hold(&url, "SELECT * FROM password FOR UPDATE", 3);
    let mut client = Client::connect(&authd.path("auth"), 2);
    for _ in 0..50 {
        assert_eq!(client.sign_in(SCRAM, None, "tim", PASSWORD), Outcome::Ok("tim".into()));
    }
    assert!(locked.wait().unwrap().success());
}

#[test]
fn an_incomplete_exchange_is_logged() {
    let limits = "[limits]\nfailure_delay_ms = 10\nmax_entries = 1\nexchange_ms = 1000";
    let mut authd = Authd::new(None, limits);
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    for name in ["a", "b", "c", "d", "e", "f"] {
        authd.connect().sign_in(Mechanism::Plain, None, name, "wrong");
    }
    authd.wait_for_all(&["other processes do not count some failures"]);
}
