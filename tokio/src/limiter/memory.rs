//! The rate limiter that is built in.

use core::{
    fmt,
    hash::BuildHasher,
    net::IpAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};
use std::{
    hash::RandomState,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    Attempt, RateLimiter,
    table::{Known, Rate, Table},
};
use crate::network::Network;

/// Longer ones serve nobody, and sums of times have to stay small.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A [`RateLimiter`] in memory.
///
/// | what | default | set by |
/// | --- | --- | --- |
/// | failures of a network | 20 | [`network_limit`](Self::network_limit) |
/// | failures at an account, whether it exists or not | 10 | [`account_limit`](Self::account_limit) |
/// | the time in which that many failures leak away, one by one: of 10 failures in 10 minutes, one each minute | 10 minutes | [`window`](Self::window) |
/// | what a network is | an IPv4 address, the /64 of an IPv6 address | [`prefixes`](Self::prefixes) |
/// | how long an account is known at a network | 30 days | [`known_for`](Self::known_for) |
/// | entries in each of three tables | 65,536: some 20 MB in all | [`max_entries`](Self::max_entries) |
///
/// An attempt is limited while its network, or the account, has used up its failures. All clients without an address, on
/// Unix sockets, are one network.
///
/// **Known networks have a limit of their own.** A network is known for an account that has authenticated from it lately. The
/// account's failures there count apart from all others, up to the account's limit, and no other limit applies. So nobody can
/// lock an owner out by guessing from elsewhere, and one program with an old password does not lock out its neighbours. Someone
/// who shares a network with the owner, such as one IPv4 address of a whole company, can use up the owner's failures there:
/// only the address tells them apart. The last 32 pairs of a name and a network are remembered for an account: 32 networks, or
/// 16 where its owner gives an alias.
///
/// **A limited attempt counts at its network alone,** and not at all where the network has used up its failures. So an account
/// takes attempts again as its failures leak away, though an attacker goes on, and a network that is full cannot use up the
/// failures of account after account.
///
/// **Tables are bounded.** A full table forgets the entry with the fewest failures, but none that has reached its limit. Where
/// all have reached it, an attempt by a new network or name is limited: otherwise an attacker with an IPv6 network of 65,536
/// times a /64 could fill the table, and then guess without a limit. Known networks are not affected; a full table of these
/// forgets the one of the oldest success. Names are kept as hashes under a random key, as some people type their password in
/// place of the name.
///
/// ```
/// use std::{net::IpAddr, num::NonZeroU32, time::Instant};
/// use smtp_auth_tokio::{Attempt, MemoryRateLimiter, RateLimiter};
///
/// let limiter = MemoryRateLimiter::new().account_limit(NonZeroU32::MIN);
/// let (owner, attacker) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([198, 51, 100, 1]));
/// let now = Instant::now();
/// limiter.authenticated(&Attempt::new(Some(owner), Some("tim"), None), now);
///
/// let guess = Attempt::new(Some(attacker), Some("tim"), None);
/// limiter.failed(&guess, now);
/// assert!(limiter.is_limited(&guess, now));
/// assert!(!limiter.is_limited(&Attempt::new(Some(owner), Some("tim"), None), now));
/// ```
pub struct MemoryRateLimiter {
    hasher: RandomState,
    networks: Rate,
    accounts: Rate,
    prefixes: (u8, u8),
    known_for: Duration,
    max_entries: usize,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    networks: Table,
    accounts: Table,
    known: Known,
}

impl Default for MemoryRateLimiter {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryRateLimiter {
    /// With the defaults of the table above.
    pub fn new() -> Self {
        let window = Duration::from_secs(10 * 60);
        let rate =
            |limit| Rate { limit: NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN), window };
        Self {
            hasher: RandomState::new(),
            networks: rate(20),
            accounts: rate(10),
            prefixes: (32, 64),
            known_for: Duration::from_secs(30 * 24 * 60 * 60),
            max_entries: 1 << 16,
            tables: Mutex::default(),
        }
    }

    /// How many failures a network may have at once.
    #[must_use]
    pub fn network_limit(mut self, failures: NonZeroU32) -> Self {
        self.networks.limit = failures;
        self
    }

    /// How many failures an account may have at once: from all networks together where it is not known, and from each where
    /// it is.
    #[must_use]
    pub fn account_limit(mut self, failures: NonZeroU32) -> Self {
        self.accounts.limit = failures;
        self
    }

    /// In what time as many failures as there may be leak away, one by one: with 10 failures and 10 minutes, one each
    /// minute. At least a second, at most a year.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        let window = window.clamp(Duration::from_secs(1), MAX_DURATION);
        (self.networks.window, self.accounts.window) = (window, window);
        self
    }

    /// How many leading bits of an IPv4 address, and of an IPv6 address, are the network. More than an address has are
    /// all of it. A client with one IPv6 address of a /64 has them all, so that more than 64 limit nothing.
    #[must_use]
    pub fn prefixes(mut self, ipv4: u8, ipv6: u8) -> Self {
        self.prefixes = (ipv4, ipv6);
        self
    }

    /// How long an account is known at a network after it has authenticated there; at most a year.
    #[must_use]
    pub fn known_for(mut self, time: Duration) -> Self {
        self.known_for = time.min(MAX_DURATION);
        self
    }

    /// How many entries each table has: of networks, of accounts, and of pairs of a name and a network.
    #[must_use]
    pub fn max_entries(mut self, entries: NonZeroUsize) -> Self {
        self.max_entries = entries.get();
        self
    }

    fn network(&self, address: Option<IpAddr>) -> u64 {
        let (ipv4, ipv6) = self.prefixes;
        let network = address.map(|address| {
            let address = address.to_canonical();
            Network::new(address, if address.is_ipv4() { ipv4 } else { ipv6 })
        });
        self.hasher.hash_one(network)
    }

    /// Nothing that is done under this lock leaves the tables half changed.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the limits stand for an attempt.
    fn judge(&self, tables: &Tables, attempt: &Attempt<'_>, now: Instant) -> Judged {
        let network = self.network(attempt.address());
        let mut names = attempt.names().map(|name| self.hasher.hash_one(name));
        let names = [names.next(), names.next()].map(|name| {
            let account = name?;
            let known =
                tables.known.is_full((account, network), self.accounts, self.known_for, now);
            let unknown = || tables.accounts.is_full(account, self.accounts, self.max_entries, now);
            Some(Name {
                account,
                is_known: known.is_some(),
                is_full: known.unwrap_or_else(unknown),
            })
        });
        let known = names.iter().flatten().filter(|name| name.is_known).count();
        // Without a name it counts by network alone.
        let by_network = known == 0 || known < names.iter().flatten().count();
        Judged {
            network,
            by_network,
            is_network_full: by_network
                && tables.networks.is_full(network, self.networks, self.max_entries, now),
            is_account_full: names.iter().flatten().any(|name| name.is_full),
            names,
        }
    }
}

struct Judged {
    network: u64,
    /// Whether the network's limit binds: one of the names is not known there.
    by_network: bool,
    is_network_full: bool,
    is_account_full: bool,
    names: [Option<Name>; 2],
}

#[derive(Clone, Copy)]
struct Name {
    account: u64,
    is_known: bool,
    is_full: bool,
}

impl RateLimiter for MemoryRateLimiter {
    fn is_limited(&self, attempt: &Attempt<'_>, now: Instant) -> bool {
        let judged = self.judge(&self.tables(), attempt, now);
        judged.is_network_full || judged.is_account_full
    }

    fn failed(&self, attempt: &Attempt<'_>, now: Instant) {
        let mut tables = self.tables();
        let judged = self.judge(&tables, attempt, now);
        // What is full takes no more: otherwise an attacker who goes on could keep it full.
        let Tables { networks, accounts, known } = &mut *tables;
        if judged.is_network_full {
            return;
        }
        if judged.by_network {
            networks.add(judged.network, self.networks, self.max_entries, now);
        }
        if judged.is_account_full {
            return;
        }
        for name in judged.names.into_iter().flatten() {
            match name.is_known {
                true => known.add((name.account, judged.network), self.accounts, now),
                false => accounts.add(name.account, self.accounts, self.max_entries, now),
            }
        }
    }

    fn authenticated(&self, attempt: &Attempt<'_>, now: Instant) {
        let network = self.network(attempt.address());
        let mut tables = self.tables();
        let Some(owner) = attempt.account().or(attempt.authcid()) else { return };
        let owner = self.hasher.hash_one(owner);
        for name in attempt.names() {
            let pair = (self.hasher.hash_one(name), network);
            tables.known.authenticated(pair, owner, self.max_entries, self.known_for, now);
        }
    }
}

impl fmt::Debug for MemoryRateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables();
        f.debug_struct("MemoryRateLimiter")
            .field("networks", &tables.networks.len())
            .field("accounts", &tables.accounts.len())
            .field("known", &tables.known.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
