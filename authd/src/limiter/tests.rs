//! The limits of one process, and of several that share a database.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use core::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::testing::{Database, databases};

const SECRET: &str = "00112233445566778899aabbccddeeff";
const NOW: i64 = 1_700_000_000_000;

fn limits() -> Limits {
    Limits { network: 20, account: 10, window_s: 600, max_entries: 1000, ..Limits::default() }
}

fn address(last: u8) -> Option<IpAddr> {
    Some(Ipv4Addr::new(192, 0, 2, last).into())
}

/// How many failures are let through, of so many attempts.
fn let_through(
    limiter: &Limiter,
    attempts: u32,
    from: impl Fn(u32) -> Option<IpAddr>,
    name: &str,
    now: i64,
) -> u32 {
    let mut through = 0;
    for attempt in 0..attempts {
        through += u32::from(!limiter.is_limited(from(attempt), name, now));
        limiter.failed(from(attempt), Some(name), now);
    }
    through
}

#[test]
fn an_account_has_ten_failures_whether_it_exists_or_not() {
    let limiter = Limiter::new(&limits(), SECRET);
    limiter.authenticated(address(250), "tim", NOW);
    let own = |attempt| address(u8::try_from(attempt).unwrap());
    for name in ["tim", "nobody"] {
        assert_eq!(let_through(&limiter, 50, own, name, NOW), 10, "{name}");
        assert_eq!(
            let_through(&limiter, 5, own, name, NOW + 60_000),
            1,
            "{name}: one leaks away each minute"
        );
    }
}

#[test]
fn a_network_has_twenty_failures_over_all_accounts() {
    let limiter = Limiter::new(&limits(), SECRET);
    let through =
        (0..100).map(|number| let_through(&limiter, 1, |_| address(1), &number.to_string(), NOW));
    assert_eq!(through.sum::<u32>(), 20);
    assert!(!limiter.is_limited(address(2), "50", NOW));
    // A limited network uses up no account's failures.
    assert_eq!(let_through(&limiter, 50, |_| address(1), "tim", NOW), 0);
    assert_eq!(let_through(&limiter, 50, |_| None, "tim", NOW), 10);
}

#[test]
fn a_network_of_ipv6_is_a_64() {
    let limiter = Limiter::new(&limits(), SECRET);
    let from = |host: u32| Some(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(host)).into());
    let through =
        (0..100).map(|host| let_through(&limiter, 1, |_| from(host), &host.to_string(), NOW));
    assert_eq!(through.sum::<u32>(), 20);
    assert!(!limiter.is_limited(Some("2001:db8:0:1::1".parse().unwrap()), "x", NOW));
    assert!(limiter.is_limited(Some("2001:db8::ffff:1".parse().unwrap()), "x", NOW));
}

#[test]
fn an_owner_is_not_locked_out_from_a_known_network() {
    let limiter = Limiter::new(&limits(), SECRET);
    limiter.authenticated(address(1), "tim", NOW);
    assert_eq!(let_through(&limiter, 50, |_| address(9), "tim", NOW), 10);
    assert!(!limiter.is_limited(address(1), "tim", NOW));
    assert_eq!(
        let_through(&limiter, 50, |_| address(1), "tim", NOW),
        10,
        "the known network has a limit of its own"
    );
    let later = NOW + 31 * 24 * 60 * 60 * 1000;
    let_through(&limiter, 50, |_| address(9), "tim", later);
    assert!(limiter.is_limited(address(1), "tim", later), "after 30 days it is not known any more");
}

#[test]
fn a_full_table_forgets_the_emptiest_entry_and_stays_bounded() {
    let limiter = Limiter::new(&Limits { max_entries: 5, ..limits() }, SECRET);
    let_through(&limiter, 50, |_| None, "tim", NOW);
    for number in 0..100 {
        limiter.failed(None, Some(&number.to_string()), NOW + number);
    }
    assert_eq!(limiter.entries()[1], 5);
    assert!(limiter.is_limited(None, "tim", NOW + 100), "a full entry is not forgotten");
    for number in 0..100 {
        limiter.authenticated(address(number), &number.to_string(), NOW);
    }
    assert_eq!(limiter.entries()[2], 5);
    assert!(limiter.state().failures.len() <= 5 && limiter.state().successes.len() <= 5);
}

#[tokio::test]
async fn the_limit_holds_over_several_processes_after_an_exchange() {
    for Database { store, .. } in &databases().await {
        let processes = [(); 3].map(|()| Limiter::new(&limits(), SECRET));
        let now = crate::clock::now_ms();
        // All at once, before any exchange: the overshoot is N times the limit, and no more.
        let through =
            processes.iter().map(|process| let_through(process, 50, |_| None, "tim", now));
        assert_eq!(through.sum::<u32>(), 30);
        for _ in 0..2 {
            for process in &processes {
                exchange::batch(process, store, 0, now).await.unwrap();
            }
        }
        // Thirty failures leak away one by one: the limit holds for all together.
        for process in &processes {
            assert!(process.is_limited(None, "tim", now + 19 * 60_000));
            assert!(!process.is_limited(None, "tim", now + 22 * 60_000));
        }
        // One after the other, with an exchange between them: no overshoot.
        let mut through = 0;
        for attempt in 0..30 {
            let process = &processes[attempt % 3];
            through += let_through(process, 1, |_| None, "ann", now);
            exchange::batch(process, store, 0, now).await.unwrap();
            exchange::batch(&processes[(attempt + 1) % 3], store, 0, now).await.unwrap();
        }
        assert_eq!(through, 10);
    }
}

#[test]
fn failures_during_an_exchange_are_not_lost() {
    let limiter = Limiter::new(&limits(), SECRET);
    let_through(&limiter, 9, |_| None, "tim", NOW);
    let told = limiter.take_changes();
    let_through(&limiter, 1, |_| None, "tim", NOW);
    let failures = told.failures.iter().map(|(bucket, added)| (*bucket, NOW + added)).collect();
    limiter.merge(Shared { failures, known: Vec::new() }, NOW);
    assert!(limiter.is_limited(None, "tim", NOW));
}

#[tokio::test]
async fn known_networks_are_shared_and_survive_a_restart() {
    for Database { store, .. } in &databases().await {
        let now = crate::clock::now_ms();
        let first = Limiter::new(&limits(), SECRET);
        first.authenticated(address(1), "tim", now);
        exchange::batch(&first, store, 0, now).await.unwrap();
        let second = Limiter::new(&limits(), SECRET);
        exchange::batch(&second, store, 0, now).await.unwrap();
        let_through(&second, 50, |_| address(9), "tim", now);
        assert!(second.is_limited(address(8), "tim", now));
        assert!(!second.is_limited(address(1), "tim", now));
    }
}

#[tokio::test]
async fn changes_are_kept_while_the_database_is_down() {
    let database = crate::testing::sqlite().await;
    let store = &database.store;
    let limiter = Limiter::new(&limits(), SECRET);
    let now = crate::clock::now_ms();
    let_through(&limiter, 10, |_| None, "tim", now);
    let down =
        crate::store::Store::connect_later(&crate::testing::options("postgres:///x?host=/nowhere"))
            .unwrap();
    assert!(exchange::batch(&limiter, &down, 0, now).await.is_err());
    assert!(limiter.is_limited(None, "tim", now));
    exchange::batch(&limiter, store, 0, now).await.unwrap();
    let other = Limiter::new(&limits(), SECRET);
    exchange::batch(&other, store, 0, now).await.unwrap();
    assert!(other.is_limited(None, "tim", now));
}
