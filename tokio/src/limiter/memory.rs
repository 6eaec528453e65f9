//! The built-in rate limiter.

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

/// The upper bound of durations, which keeps their sums small. A longer duration would not be useful.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A [`RateLimiter`] that keeps its counts in memory.
///
/// | setting | default | method |
/// | --- | --- | --- |
/// | the number of failures at which a network is limited | 20 | [`network_limit`](Self::network_limit) |
/// | the number of failures at which an account is limited, whether or not the account exists | 10 | [`account_limit`](Self::account_limit) |
/// | how long it takes for all failures to expire, one by one, after a limit has been reached. With a limit of 10 and the default period, one failure expires each minute. | 10 minutes | [`window`](Self::window) |
/// | the size of a network | one IPv4 address, or an IPv6 /64 | [`prefixes`](Self::prefixes) |
/// | how long the limiter remembers a network from which an account has authenticated | 30 days | [`known_for`](Self::known_for) |
/// | the maximum number of entries in each of three tables | 65,536 (about 20 MB in total) | [`max_entries`](Self::max_entries) |
///
/// An attempt is rate-limited, and therefore fails, if the client's network has reached the network limit or the
/// account has reached the account limit. All clients without an address, such as those on Unix sockets, count as one
/// network.
///
/// **Known networks have separate limits.** A network from which an account has recently authenticated is a known
/// network of that account. The account's failures from a known network are counted separately for that network. When
/// this count reaches the account limit, further attempts for the account from that network are rate-limited. No other
/// limit applies to attempts to authenticate as that account from a known network. An attacker on another network
/// therefore cannot block the account owner's attempts from a known network. A program that uses an old password does
/// not lock out other users on its network. However, the limiter distinguishes clients only by address. An attacker on
/// the owner's own network can therefore exhaust the account's limit for that network, and so block the owner's
/// attempts. This is possible, for example, in a company that has a single IPv4 address. For each account, the limiter
/// keeps the 32 most recent pairs of a name and a network. These pairs are enough for 32 networks. If the owner
/// authenticates with an alias, each network needs two of the 32 pairs, one for the alias and one for the account's
/// name. With an alias, the 32 pairs therefore cover only 16 networks.
///
/// **A rate-limited attempt never counts towards the account's limit.** The limiter counts such an attempt only towards
/// the limit for the client's network. If the client's network has reached its limit, or is a known network of the
/// account, the limiter does not count the rate-limited attempt at all. Therefore, an account's failures expire even
/// while an attack continues, and further attempts are then allowed. Once a network has reached its limit, failed
/// attempts from that network count only against accounts that have recently authenticated from it.
///
/// **The tables are bounded.** If a table is full, the limiter drops the entry with the fewest failures, but never an
/// entry that has reached its limit. If all entries have reached their limits, attempts from a new network or with a
/// new name are rate-limited. Otherwise, an attacker with 65,536 IPv6 /64 networks could fill the table and then try
/// passwords without a limit. Known networks are not affected, because they are kept in a separate table. Each entry in
/// the table of known networks consists of a name and a network. If this table is full, the limiter drops the entry
/// that has gone longest without a successful attempt. The limiter stores only keyed hashes of names, because some
/// people type their password instead of their name. The key of these hashes is random.
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
    /// Creates a limiter with the [default settings](Self).
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

    /// Sets the number of failures at which a network is limited. A failure from a known network of the account does
    /// not count towards this limit.
    #[must_use]
    pub fn network_limit(mut self, failures: NonZeroU32) -> Self {
        self.networks.limit = failures;
        self
    }

    /// Sets the number of failures at which an account is limited. Failures from all unknown networks are counted
    /// together. Failures from each known network are counted separately.
    #[must_use]
    pub fn account_limit(mut self, failures: NonZeroU32) -> Self {
        self.accounts.limit = failures;
        self
    }

    /// Sets how long it takes for all failures to expire after a limit has been reached. Failures expire one by one.
    /// For example, with a limit of 10 and a window of 10 minutes, one failure expires each minute. The value is
    /// clamped to between one second and one year.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        let window = window.clamp(Duration::from_secs(1), MAX_DURATION);
        (self.networks.window, self.accounts.window) = (window, window);
        self
    }

    /// Sets how many leading bits of an IPv4 address and of an IPv6 address form the network. If a value is greater
    /// than the length of the address, the whole address is used. Do not use more than 64 for IPv6, because a client
    /// usually controls a whole /64 and could use a new address for each attempt.
    #[must_use]
    pub fn prefixes(mut self, ipv4: u8, ipv6: u8) -> Self {
        self.prefixes = (ipv4, ipv6);
        self
    }

    /// Sets how long a network stays known after the account has authenticated from it. The maximum is one year.
    #[must_use]
    pub fn known_for(mut self, time: Duration) -> Self {
        self.known_for = time.min(MAX_DURATION);
        self
    }

    /// Sets the maximum number of entries in each of the three tables, which contain networks, account names, and pairs
    /// of a name and a network.
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

    /// Ignores poisoning: no code that holds this lock leaves the tables half changed.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares an attempt with the limits.
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
        // An attempt without a name counts only towards the limit of its network.
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
    /// Whether the network's limit applies: the attempt has no name, or the network is not known for one of its names.
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
        // A full bucket counts no more failures, because otherwise an attacker could keep it full by continuing.
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
