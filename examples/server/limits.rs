//! What a client may take from the others: connections, and guesses at their passwords.

use core::{
    hash::{BuildHasher, Hash},
    net::{IpAddr, Ipv6Addr},
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};
use std::{
    collections::HashMap,
    hash::RandomState,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use lru::LruCache;
use smtp_auth::reply::Reply;

/// How long failed attempts to sign in are remembered, from the first on.
pub(crate) const WINDOW: Duration = Duration::from_secs(10 * 60);

/// How many networks, and how many accounts, are remembered with their failures: some megabytes.
/// Then the one that has not failed for longest is forgotten.
pub(crate) const MAX_REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add((1 << 16) - 1);

/// Who is at the other end, as far as an address tells: an IPv4 address, or the /64 of an IPv6 one,
/// as whoever has one address of it has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
            v4 => v4,
        })
    }
}

/// The connections that are open.
pub(crate) struct Connections {
    max: usize,
    max_per_network: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_network: HashMap<Network, usize>,
}

impl Connections {
    pub(crate) fn new(max: usize, max_per_network: usize) -> Self {
        Self { max, max_per_network, open: Mutex::default() }
    }

    /// Takes a place among them for as long as the [`Place`] lives.
    pub(crate) fn enter(self: &Arc<Self>, network: Network) -> Result<Place, Reply> {
        let mut open = lock(&self.open);
        if open.all >= self.max {
            return Err(Reply::SHUTTING_DOWN.with_text("Too many connections, try again later"));
        }
        let own = open.by_network.get(&network).copied().unwrap_or_default();
        if own >= self.max_per_network {
            let text = "Too many connections from your address, try again later";
            return Err(Reply::TOO_MANY_ATTEMPTS.with_text(text));
        }
        open.all += 1;
        open.by_network.insert(network, own + 1);
        Ok(Place { connections: Arc::clone(self), network })
    }
}

/// Free again when it goes out of scope.
pub(crate) struct Place {
    connections: Arc<Connections>,
    network: Network,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.connections.open);
        open.all = open.all.saturating_sub(1);
        match open.by_network.get_mut(&self.network) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(open.by_network.remove(&self.network)),
        }
    }
}

/// The failed attempts to sign in over all connections.
///
/// What is refused for an account because it has too many is no failure of that account: the window
/// ends, and its owner can sign in again, though somebody goes on guessing.
pub(crate) struct Guesses {
    limit: u32,
    hasher: RandomState,
    networks: Table<Network>,
    accounts: Table<Account>,
}

/// The hash of an account's name: names are as long as clients like, and some people type their
/// password in their place, which is not to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Account(u64);

impl Guesses {
    /// So many failures are taken in a window.
    pub(crate) fn new(limit: NonZeroU32) -> Self {
        let (networks, accounts) = (Table::new(), Table::new());
        Self { limit: limit.get(), hasher: RandomState::new(), networks, accounts }
    }

    pub(crate) fn account(&self, name: &str) -> Account {
        Account(self.hasher.hash_one(name))
    }

    /// Whether the network has used up its attempts.
    pub(crate) fn bar_network(&self, network: Network, now: Instant) -> bool {
        self.networks.count(network, now) >= self.limit
    }

    /// Whether those at the account are used up.
    pub(crate) fn bar_account(&self, account: Account, now: Instant) -> bool {
        self.accounts.count(account, now) >= self.limit
    }

    /// Counts a failure; the account is not known where the client did not get as far as a name.
    pub(crate) fn failed(&self, network: Network, account: Option<Account>, now: Instant) {
        self.networks.add(network, now);
        if let Some(account) = account {
            self.accounts.add(account, now);
        }
    }

    /// The account's owner is there. The network's failures stay, or an account of one's own would
    /// buy guesses at others.
    pub(crate) fn signed_in(&self, account: Account) {
        self.accounts.forget(account);
    }
}

/// Failures by whose they are.
struct Table<K: Hash + Eq>(Mutex<LruCache<K, Failures>>);

#[derive(Clone, Copy)]
struct Failures {
    first: Instant,
    count: u32,
}

impl Failures {
    fn are_past(self, now: Instant) -> bool {
        now.duration_since(self.first) >= WINDOW
    }
}

impl<K: Hash + Eq> Table<K> {
    fn new() -> Self {
        Self(Mutex::new(LruCache::new(MAX_REMEMBERED)))
    }

    fn count(&self, key: K, now: Instant) -> u32 {
        let failures = lock(&self.0).peek(&key).copied();
        failures.filter(|failures| !failures.are_past(now)).map_or(0, |failures| failures.count)
    }

    fn add(&self, key: K, now: Instant) {
        let none = Failures { first: now, count: 0 };
        let mut table = lock(&self.0);
        let failures = table.get_or_insert_mut(key, || none);
        if failures.are_past(now) {
            *failures = none;
        }
        failures.count = failures.count.saturating_add(1);
    }

    fn forget(&self, key: K) {
        lock(&self.0).pop(&key);
    }
}

/// Nothing that is done under these locks leaves a value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
