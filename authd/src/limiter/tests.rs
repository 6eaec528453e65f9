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

/// Otherwise an attacker who shares a network with the owner could find out that the account exists.
#[test]
fn failures_from_a_known_network_count_at_the_network_too() {
    for name in ["tim", "nobody"] {
        let limiter = Limiter::new(&limits(), SECRET);
        limiter.authenticated(address(1), "tim", NOW);
        for _ in 0..25 {
            limiter.failed(address(1), Some(name), NOW);
        }
        assert!(limiter.is_limited(address(1), "ann", NOW), "{name}");
    }
    let limiter = Limiter::new(&limits(), SECRET);
    limiter.authenticated(address(1), "tim", NOW);
    let_through(&limiter, 50, |_| address(1), "nobody", NOW);
    let_through(&limiter, 50, |_| address(1), "ann", NOW);
    assert!(!limiter.is_limited(address(1), "tim", NOW), "the owner has a bucket of its own");
}

#[test]
fn a_full_table_forgets_the_emptiest_entry_and_stays_bounded() {
    let limiter = Limiter::new(&Limits { max_entries: 5, max_known: 5, ..limits() }, SECRET);
    let_through(&limiter, 50, |_| None, "tim", NOW);
    for number in 0..100 {
        limiter.failed(None, Some(&number.to_string()), NOW + number);
    }
    assert_eq!(limiter.entries()[1], 5);
    assert!(limiter.is_limited(None, "tim", NOW + 100), "another one is emptier");
    for number in 0..5 {
        let_through(&limiter, 50, |_| None, &format!("full {number}"), NOW + 1000);
    }
    assert!(!limiter.is_limited(None, "tim", NOW + 1000), "every other one is fuller");
    assert_eq!(
        let_through(&limiter, 50, |_| None, "new", NOW + 1000),
        10,
        "nobody is refused for lack of room"
    );
    for number in 0..100 {
        limiter.authenticated(address(number), &number.to_string(), NOW);
    }
    assert_eq!(limiter.entries()[2], 5);
    assert!(limiter.take_failures(ACCOUNT, NOW).len() <= 5 && limiter.take_successes().len() <= 5);
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
    let told = limiter.take_failures(ACCOUNT, NOW);
    let_through(&limiter, 1, |_| None, "tim", NOW);
    let failures = told.iter().map(|(bucket, added)| (*bucket, NOW + added)).collect();
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

#[tokio::test]
async fn a_flood_of_networks_does_not_keep_accounts_from_the_other_processes() {
    for Database { store, .. } in &databases().await {
        let [flooded, other] = [(); 2].map(|()| Limiter::new(&limits(), SECRET));
        let now = crate::clock::now_ms();
        for number in 0..2000_u128 {
            let network = Ipv6Addr::from_bits(0x2001_0db8 << 96 | number << 64);
            flooded.failed(Some(network.into()), None, now);
        }
        assert_eq!(let_through(&flooded, 50, |_| None, "tim", now), 10);
        assert_eq!(flooded.take_dropped(), 1000);
        exchange::batch(&flooded, store, 0, now).await.unwrap();
        exchange::batch(&other, store, 0, now).await.unwrap();
        assert!(other.is_limited(None, "tim", now));
        assert_eq!(other.entries()[..2], [1000, 1]);
    }
}

/// While the database does not answer, failures leak away at the process that has counted them.
#[tokio::test]
async fn failures_that_have_leaked_away_are_not_sent() {
    for Database { store, .. } in &databases().await {
        let [limiter, other] = [(); 2].map(|()| Limiter::new(&limits(), SECRET));
        let end = crate::clock::now_ms() + 3600 * 1000;
        limiter.failed(None, Some("ann"), end - 3600 * 1000);
        for second in 0..=3600 {
            limiter.failed(None, Some("tim"), end - 3600 * 1000 + second * 1000);
        }
        for limiter in [&limiter, &other, &limiter] {
            exchange::batch(limiter, store, 0, end).await.unwrap();
            assert!(limiter.is_limited(None, "tim", end));
            assert!(!limiter.is_limited(None, "tim", end + 61_000));
        }
        assert_eq!(other.entries()[1], 1, "the failure of long ago");
    }
}

/// A failure leaks away in 100 ms here, and an exchange comes each 500 ms.
#[tokio::test]
async fn failures_add_up_over_processes_however_fast_they_leak() {
    for Database { store, .. } in &databases().await {
        let quick = Limits { account: 60, window_s: 6, ..limits() };
        let fleet = [(); 3].map(|()| Limiter::new(&quick, SECRET));
        let (begin, mut through) = (crate::clock::now_ms() + 3600 * 1000, 0);
        for step in 0..160 {
            let now = begin + step * 125;
            for limiter in &fleet {
                through += let_through(limiter, 1, |_| None, "tim", now);
            }
            if step % 4 == 3 {
                for limiter in &fleet {
                    exchange::batch(limiter, store, 0, now + 124).await.unwrap();
                }
            }
        }
        // In 20 seconds, 200 leak away, and 60 fill the bucket.
        assert!((250..330).contains(&through), "{through} of 480");
    }
}

#[tokio::test]
async fn many_rows_are_written_and_read_without_a_loss() {
    let many = 2 * i64::try_from(crate::store::WRITTEN).unwrap() + 7;
    for Database { store, .. } in &databases().await {
        let now = crate::clock::now_ms();
        let rows: Vec<_> = (0..many).map(|at| (at * 4, at)).collect();
        let known: Vec<_> = (0..50_007).map(|at| (at % 977, at, now - at)).collect();
        for _ in 0..2 {
            for rows in rows.chunks(crate::store::WRITTEN) {
                store.add_failures(rows, now).await.unwrap();
            }
        }
        for rows in known.chunks(crate::store::WRITTEN) {
            store.add_known(rows, now).await.unwrap();
        }
        let mut read = store.failures_since(now, (KINDS, NETWORK), 10_000, now).await.unwrap();
        read.sort_unstable();
        let expected: Vec<_> =
            rows.iter().map(|(bucket, added)| (*bucket, now + 2 * added)).collect();
        assert_eq!(read, expected);
        assert_eq!(store.failures_since(now, (KINDS, PAIR), 10_000, now).await.unwrap(), []);
        let mut read = store.known_since(now, 1_000_000).await.unwrap();
        read.sort_unstable_by_key(|(_, network, _)| *network);
        assert!(read == known, "{} rows", read.len());
        assert_eq!(store.known_since(now, 30_000).await.unwrap().len(), 30_000);
        assert_eq!(store.known_since(now + 1, 30_000).await.unwrap(), []);
    }
}

#[test]
fn failures_elsewhere_do_not_push_known_networks_out() {
    let limiter = Limiter::new(&Limits { max_entries: 5, max_known: 100, ..limits() }, SECRET);
    for owner in 0..100 {
        limiter.authenticated(address(owner), &owner.to_string(), NOW);
    }
    assert_eq!((limiter.entries()[2], limiter.take_successes().len()), (100, 100));
    let_through(&limiter, 50, |_| None, "0", NOW);
    assert!(
        limiter.is_limited(address(200), "0", NOW) && !limiter.is_limited(address(0), "0", NOW)
    );
}

/// What the documentation says of an attacker who goes on.
#[test]
fn an_attacker_who_goes_on_keeps_an_account_limited_for_new_networks_alone() {
    let limiter = Limiter::new(&limits(), SECRET);
    limiter.authenticated(address(1), "tim", NOW);
    for second in 0..3600 {
        let now = NOW + second * 1000;
        limiter.failed(address(u8::try_from(second % 200).unwrap() + 50), Some("tim"), now);
        assert!(!limiter.is_limited(address(1), "tim", now));
        assert!(second < 60 || limiter.is_limited(address(2), "tim", now));
    }
    let end = NOW + 3600 * 1000;
    assert!(!limiter.is_limited(address(2), "tim", end + 60_000), "it ends with the attack");
}

#[tokio::test]
async fn a_clock_that_is_put_back_does_not_fill_buckets() {
    const HOUR: i64 = 60 * 60 * 1000;
    let limiter = Limiter::new(&limits(), SECRET);
    limiter.failed(address(1), Some("tim"), NOW);
    let_through(&limiter, 50, |_| None, "ann", NOW);
    assert!(!limiter.is_limited(address(1), "tim", NOW - HOUR));
    assert_eq!(let_through(&limiter, 50, |_| None, "tim", NOW - HOUR), 9);
    assert!(limiter.is_limited(None, "ann", NOW - HOUR));
    assert!(!limiter.is_limited(None, "ann", NOW - HOUR + 60_000), "failures leak away as before");
    for Database { store, .. } in &databases().await {
        let now = crate::clock::now_ms();
        let [before, after, third] = [(); 3].map(|()| Limiter::new(&limits(), SECRET));
        before.failed(None, Some("tim"), now + HOUR);
        exchange::batch(&before, store, 0, now + HOUR).await.unwrap();
        exchange::batch(&after, store, 0, now).await.unwrap();
        assert_eq!(let_through(&after, 50, |_| None, "tim", now), 9);
        exchange::batch(&after, store, 0, now).await.unwrap();
        exchange::batch(&third, store, 0, now).await.unwrap();
        assert!(third.is_limited(None, "tim", now + 1000));
        assert!(!third.is_limited(None, "tim", now + 61_000), "and the shared row as well");
    }
}
