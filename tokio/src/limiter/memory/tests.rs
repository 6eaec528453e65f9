use alloc::format;

use super::*;

mod model;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn number(many: u32) -> NonZeroU32 {
    NonZeroU32::new(many).unwrap()
}

/// Creates a limiter with the same limit for networks and accounts, at which one failure expires each minute.
pub(crate) fn limiter(failures: u32) -> MemoryRateLimiter {
    let limiter = MemoryRateLimiter::new().window(MINUTE * failures);
    limiter.network_limit(number(failures)).account_limit(number(failures))
}

pub(crate) fn address(n: u16) -> Option<IpAddr> {
    let [high, low] = n.to_be_bytes();
    Some([192, 0, high, low].into())
}

pub(crate) fn attempt(n: u16, name: &str) -> Attempt<'_> {
    Attempt::new(address(n), Some(name), None)
}

#[test]
fn a_network_has_so_many_failures() {
    let (limiter, now) = (limiter(3), Instant::now());
    for name in ["one", "two", "three"] {
        assert!(!limiter.is_limited(&attempt(1, "ann"), now));
        limiter.failed(&attempt(1, name), now);
    }
    assert!(limiter.is_limited(&attempt(1, "ann"), now));
    assert!(limiter.is_limited(&Attempt::new(address(1), None, None), now));
    assert!(!limiter.is_limited(&attempt(2, "ann"), now));
}

#[test]
fn an_account_has_so_many_failures() {
    let (limiter, now) = (limiter(3), Instant::now());
    for n in 1..=3 {
        assert!(!limiter.is_limited(&attempt(9, "tim"), now));
        limiter.failed(&attempt(n, "tim"), now);
    }
    assert!(limiter.is_limited(&attempt(9, "tim"), now));
    assert!(!limiter.is_limited(&attempt(9, "ann"), now));
}

#[test]
fn an_alias_and_its_account_count_both() {
    let now = Instant::now();
    let alias = |n, name| Attempt::new(address(n), Some(name), Some("tim"));
    // Using several names does not allow more attempts.
    let accounts = limiter(3);
    for (n, name) in [(1, "info"), (2, "sales"), (3, "help")] {
        accounts.failed(&alias(n, name), now);
    }
    assert!(accounts.is_limited(&attempt(9, "tim"), now));
    assert!(accounts.is_limited(&alias(9, "press"), now));
    assert!(!accounts.is_limited(&attempt(9, "press"), now));
    // The store reports the account of the alias only if the password is right.
    let aliases = limiter(3);
    (1..=3).for_each(|n| aliases.failed(&attempt(n, "info"), now));
    assert!(aliases.is_limited(&alias(9, "info"), now));
    assert!(!aliases.is_limited(&attempt(9, "tim"), now));
    // An account does not count as its own alias.
    let own = limiter(2);
    own.failed(&alias(1, "tim"), now);
    assert!(!own.is_limited(&attempt(9, "tim"), now));
}

#[test]
fn failures_leak_away() {
    let (limiter, now) = (limiter(3), Instant::now());
    (0..3).for_each(|_| limiter.failed(&attempt(1, "tim"), now));
    let limited = |minutes: f64| {
        let later = now + MINUTE.mul_f64(minutes);
        [limiter.is_limited(&attempt(1, "x"), later), limiter.is_limited(&attempt(2, "tim"), later)]
    };
    assert_eq!(limited(0.99), [true, true]);
    assert_eq!(limited(1.0), [false, false]);
    limiter.failed(&attempt(1, "tim"), now + MINUTE);
    assert_eq!(limited(1.5), [true, true]);
    assert_eq!(limited(2.0), [false, false]);
}

#[test]
fn a_limited_attempt_is_no_guess() {
    let (limiter, now) = (limiter(3), Instant::now());
    // A full bucket counts no more failures.
    (0..1000).for_each(|_| limiter.failed(&attempt(1, "tim"), now));
    assert!(!limiter.is_limited(&attempt(1, "ann"), now + MINUTE));
    // A network that has reached its limit cannot lock one account after the other.
    (0..1000).for_each(|_| limiter.failed(&attempt(1, "ann"), now));
    assert!(!limiter.is_limited(&attempt(2, "ann"), now));
    // Attempts on a full account count for the network.
    (0..3).for_each(|_| limiter.failed(&attempt(3, "tim"), now));
    assert!(limiter.is_limited(&attempt(3, "ann"), now));
}

#[test]
fn an_owner_is_not_locked_out() {
    let (limiter, now) = (limiter(3), Instant::now());
    limiter.authenticated(&attempt(1, "tim"), now);
    for n in 100..200 {
        limiter.failed(&attempt(n, "tim"), now);
    }
    assert!(limiter.is_limited(&attempt(9, "tim"), now));
    assert!(!limiter.is_limited(&attempt(1, "tim"), now));
    // A neighbour with the same address, who is limited for other names, does not lock out the owner either.
    (0..100).for_each(|_| limiter.failed(&attempt(1, "ann"), now));
    assert!(limiter.is_limited(&attempt(1, "ann"), now));
    assert!(limiter.is_limited(&attempt(1, "bob"), now));
    assert!(!limiter.is_limited(&attempt(1, "tim"), now));
    // The owner's own failures are limited, and are counted separately.
    (0..3).for_each(|_| limiter.failed(&attempt(1, "tim"), now));
    assert!(limiter.is_limited(&attempt(1, "tim"), now));
    assert!(!limiter.is_limited(&attempt(1, "tim"), now + MINUTE));
}

#[test]
fn what_fails_at_a_known_network_counts_for_nobody_else() {
    let (limiter, now) = (limiter(3), Instant::now());
    limiter.authenticated(&attempt(1, "tim"), now);
    (0..100).for_each(|_| limiter.failed(&attempt(1, "tim"), now));
    assert!(!limiter.is_limited(&attempt(1, "ann"), now));
    assert!(!limiter.is_limited(&attempt(2, "tim"), now));
}

#[test]
fn an_account_of_ones_own_buys_no_guesses() {
    let (limiter, now) = (limiter(3), Instant::now());
    for _ in 0..3 {
        limiter.authenticated(&attempt(1, "mallory"), now);
        limiter.failed(&attempt(1, "tim"), now);
    }
    limiter.authenticated(&attempt(1, "mallory"), now);
    assert!(limiter.is_limited(&attempt(1, "tim"), now));
    assert!(limiter.is_limited(&attempt(1, "ann"), now));
    // A success does not reset failures either.
    limiter.authenticated(&attempt(9, "tim"), now);
    assert!(limiter.is_limited(&attempt(2, "tim"), now));
}

#[test]
fn an_account_is_known_lately() {
    let day = MINUTE * 60 * 24;
    let (limiter, now) = (limiter(3).known_for(day * 7), Instant::now());
    limiter.authenticated(&attempt(1, "tim"), now);
    let attack = |now| (100..120).for_each(|n| limiter.failed(&attempt(n, "tim"), now));
    attack(now + day * 6);
    assert!(!limiter.is_limited(&attempt(1, "tim"), now + day * 6));
    limiter.authenticated(&attempt(1, "tim"), now + day * 6);
    attack(now + day * 12);
    assert!(!limiter.is_limited(&attempt(1, "tim"), now + day * 12));
    attack(now + day * 13);
    assert!(limiter.is_limited(&attempt(1, "tim"), now + day * 13));
}

#[test]
fn an_account_is_known_at_its_last_networks() {
    let entries = NonZeroUsize::new(100).unwrap();
    let (limiter, now) = (limiter(1).max_entries(entries), Instant::now());
    let later = |n: u16| now + Duration::from_secs(n.into());
    limiter.authenticated(&attempt(1, "tim"), now);
    (1..=1000).for_each(|n| limiter.authenticated(&attempt(n, "mallory"), later(n)));
    for (n, name) in [(2000, "tim"), (2001, "mallory")] {
        limiter.failed(&attempt(n, name), later(1000));
    }
    assert!(!limiter.is_limited(&attempt(1, "tim"), later(1000)));
    let known = (1..=1000).filter(|&n| !limiter.is_limited(&attempt(n, "mallory"), later(1000)));
    assert!(known.eq(969..=1000));
    // The same holds if a store accepts one alias after the other for the same account.
    for n in 1..=1000 {
        let alias = format!("mallory+{n}");
        let attempt = Attempt::new(address(n), Some(&alias), Some("mallory"));
        limiter.authenticated(&attempt, later(1000));
    }
    assert!(!limiter.is_limited(&attempt(1, "tim"), later(1000)));
    // If there are too many, the oldest is dropped.
    for n in 1..=99 {
        limiter.authenticated(&attempt(1, &format!("user {n}")), later(1000 + n));
    }
    assert!(limiter.is_limited(&attempt(1, "tim"), later(1001)));
    assert_eq!(limiter.tables().known.len(), 100);
}

#[test]
fn networks() {
    fn share(limiter: &MemoryRateLimiter, one: &str, other: &str) -> bool {
        let [one, other] = [one, other].map(|address| Some(address.parse().unwrap()));
        let now = Instant::now();
        let limiter = MemoryRateLimiter::new()
            .prefixes(limiter.prefixes.0, limiter.prefixes.1)
            .network_limit(NonZeroU32::MIN);
        limiter.failed(&Attempt::new(one, Some("tim"), None), now);
        limiter.is_limited(&Attempt::new(other, Some("ann"), None), now)
    }
    let limiter = MemoryRateLimiter::new();
    assert!(share(&limiter, "2001:db8::1:2:3:4", "2001:db8::5"));
    assert!(!share(&limiter, "2001:db8::1:2:3:4", "2001:db8:0:1::5"));
    assert!(share(&limiter, "::ffff:192.0.2.1", "192.0.2.1"));
    assert!(!share(&limiter, "192.0.2.1", "192.0.2.2"));
    assert!(!share(&limiter, "::ffff:192.0.2.1", "::ffff:192.0.2.2"));
    let wide = limiter.prefixes(24, 56);
    assert!(share(&wide, "192.0.2.1", "192.0.2.255"));
    assert!(!share(&wide, "192.0.2.1", "192.0.3.1"));
    assert!(share(&wide, "2001:db8::", "2001:db8:0:ff::"));
    assert!(!share(&wide, "2001:db8::", "2001:db8:0:100::"));
    let all = wide.prefixes(0, 0);
    assert!(share(&all, "192.0.2.1", "203.0.113.1") && share(&all, "2001:db8::", "::1"));
    assert!(!share(&all, "192.0.2.1", "2001:db8::"));
    let none = all.prefixes(255, 255);
    assert!(!share(&none, "192.0.2.1", "192.0.2.2") && !share(&none, "::1", "::2"));
}

#[test]
fn unix_sockets_are_one_network() {
    let (limiter, now) = (limiter(1), Instant::now());
    let local = |name| Attempt::new(None, Some(name), None);
    limiter.authenticated(&local("tim"), now);
    limiter.failed(&local("ann"), now);
    assert!(limiter.is_limited(&local("bob"), now));
    assert!(!limiter.is_limited(&local("tim"), now));
    assert!(!limiter.is_limited(&attempt(1, "bob"), now));
}

#[test]
fn a_full_table_forgets_the_emptiest() {
    let entries = NonZeroUsize::new(4).unwrap();
    let (limiter, now) = (limiter(3).max_entries(entries), Instant::now());
    let fail = |n, many| {
        (0..many).for_each(|i| {
            limiter.failed(&Attempt::new(address(n), None, None), now + Duration::from_secs(i));
        })
    };
    let is_limited =
        |n| limiter.is_limited(&Attempt::new(address(n), None, None), now + Duration::from_secs(5));
    (1..=2).for_each(|n| fail(n, 3));
    fail(3, 1);
    fail(4, 2);
    // Each of the new networks replaces the one before.
    (100..1000).for_each(|n| fail(n, 1));
    assert_eq!((1..=2).filter(|&n| is_limited(n)).count(), 2);
    assert_eq!(limiter.tables().networks.len(), 4);
    fail(4, 1);
    assert!(is_limited(4));
    fail(5, 3);
    assert!(is_limited(5));
    // All are full: none is dropped, and a new network counts as full.
    (100..1000).for_each(|n| fail(n, 3));
    assert!([1, 2, 4, 5, 999].into_iter().all(is_limited));
    assert_eq!(limiter.tables().networks.len(), 4);
    // Buckets that have become empty make room.
    let later = now + MINUTE * 4;
    limiter.failed(&Attempt::new(address(7), None, None), later);
    assert_eq!(limiter.tables().networks.len(), 1);
}

#[test]
fn what_there_is_of_a_name_is_a_hash() {
    let limiter = limiter(3);
    limiter.failed(&attempt(1, "rosebud"), Instant::now());
    limiter.authenticated(&attempt(1, "rosebud"), Instant::now());
    let shown = [format!("{limiter:?}"), format!("{:?}", limiter.tables().accounts)].concat();
    assert!(!shown.contains("rosebud"), "{shown}");
}

#[test]
fn extreme_settings() {
    let now = Instant::now();
    for window in [Duration::ZERO, Duration::MAX] {
        let most = MemoryRateLimiter::new().window(window).network_limit(NonZeroU32::MAX);
        let limiter = most.known_for(Duration::MAX);
        (0..100).for_each(|_| limiter.failed(&Attempt::new(None, None, None), now));
        assert!(!limiter.is_limited(&Attempt::new(None, None, None), now));
        limiter.authenticated(&attempt(1, "tim"), now);
    }
}
