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
use smtp_auth::{
    reply::Reply,
    sasl::{
        Answer, Authenticator, CheckAnonymous, CheckExternal, CheckPassword, CheckToken,
        CramSecret, CramSecretFor, Mechanism, ScramKeys, ScramKeysFor, TokenAnswer,
    },
};

/// How long it takes to forget as many failed attempts to sign in as there may be.
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
/// An account that has too many gets no more of them: they are forgotten, and its owner can sign in
/// again, though somebody goes on guessing.
pub(crate) struct Guesses {
    hasher: RandomState,
    networks: Table<Network>,
    accounts: Table<Account>,
}

/// The hash of an account's folded name: names are as long as clients like, and some people type their
/// password in their place, which is not to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Account(u64);

impl Guesses {
    /// So many failures are taken at once, and so many in each [`WINDOW`] from then on.
    pub(crate) fn new(limit: NonZeroU32) -> Self {
        let (networks, accounts) = (Table::new(limit), Table::new(limit));
        Self { hasher: RandomState::new(), networks, accounts }
    }

    pub(crate) fn account(&self, name: &str) -> Account {
        Account(self.hasher.hash_one(name))
    }

    /// Whether the network has used up its attempts.
    pub(crate) fn bar_network(&self, network: Network, now: Instant) -> bool {
        self.networks.is_full(network, now)
    }

    /// Whether those at the account are used up.
    pub(crate) fn bar_account(&self, account: Account, now: Instant) -> bool {
        self.accounts.is_full(account, now)
    }

    /// Counts a failure under each of the names, of which there are none where the client did not get
    /// as far as that.
    pub(crate) fn failed<'a>(
        &self,
        network: Network,
        names: impl IntoIterator<Item = &'a str>,
        now: Instant,
    ) {
        self.networks.add(network, now);
        for name in names {
            self.accounts.add(self.account(name), now);
        }
    }

    /// The account's owner is there. The network's failures stay, or an account of one's own would
    /// buy guesses at others.
    pub(crate) fn signed_in(&self, account: Account) {
        self.accounts.forget(account);
    }
}

/// The store, with the accounts locked that have had too many failures.
///
/// The store is asked first, and what it has is passed on: SCRAM shows a locked account's own salt, and
/// fails at the proof. An answer of its own would tell that there is such an account.
pub(crate) struct Limited<'a, Users> {
    pub(crate) users: &'a Users,
    /// `None` where guessing is not limited.
    pub(crate) guesses: Option<&'a Guesses>,
    pub(crate) now: Instant,
}

impl<Users> Limited<'_, Users> {
    fn judge<T>(&self, name: &str, answer: Answer<T>) -> Answer<T> {
        let Some(guesses) = self.guesses else { return answer };
        let is_full = |name| guesses.bar_account(guesses.account(name), self.now);
        let full = is_full(name) | answer.account().is_some_and(is_full);
        if full { answer.lock() } else { answer }
    }
}

impl<Users: Authenticator> Authenticator for Limited<'_, Users> {
    fn mechanisms(&self) -> &[Mechanism] {
        self.users.mechanisms()
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        self.judge(ask.authcid(), self.users.check_password(ask))
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        self.judge(ask.authcid(), self.users.cram_secret(ask))
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.judge(ask.authcid(), self.users.scram_keys(ask))
    }

    // Nobody guesses a token or a key.

    fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        self.users.check_token(ask)
    }

    fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        self.users.check_external(ask)
    }

    fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        self.users.check_anonymous(ask)
    }
}

/// Failures by whose they are, in a leaky bucket each. They leak away one by one: what has to be known
/// of a bucket is when it will be empty.
struct Table<K: Hash + Eq> {
    limit: u32,
    empty: Mutex<LruCache<K, Instant>>,
}

impl<K: Hash + Eq> Table<K> {
    fn new(limit: NonZeroU32) -> Self {
        Self { limit: limit.get(), empty: Mutex::new(LruCache::new(MAX_REMEMBERED)) }
    }

    /// How long so many failures take to leak away.
    fn leak(&self, failures: u32) -> Duration {
        WINDOW / self.limit * failures
    }

    fn is_full(&self, key: K, now: Instant) -> bool {
        lock(&self.empty).peek(&key).is_some_and(|&empty| self.is_rest_full(empty, now))
    }

    fn is_rest_full(&self, empty: Instant, now: Instant) -> bool {
        empty.saturating_duration_since(now) > self.leak(self.limit - 1)
    }

    /// A full bucket takes no more: or who goes on guessing could keep it full.
    fn add(&self, key: K, now: Instant) {
        let mut table = lock(&self.empty);
        let empty = table.get_or_insert_mut(key, || now);
        if !self.is_rest_full(*empty, now) {
            *empty = now.max(*empty) + self.leak(1);
        }
    }

    fn forget(&self, key: K) {
        lock(&self.empty).pop(&key);
    }
}

/// Nothing that is done under these locks leaves a value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
