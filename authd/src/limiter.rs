//! Rate limiting of failed authentication, by network and by account, over all processes that share a database.

use core::net::IpAddr;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{config::Limits, random::Key, store::Shared};

mod exchange;
mod table;

use exchange::SLACK;
pub(crate) use exchange::{exchange, read_all};
use table::{AGAIN, Known, Rate, Table};

/// Counts failed attempts, and limits further ones.
///
/// An attempt from a network from which the account has authenticated lately is limited by a bucket of this account and
/// this network alone, so nobody can lock an owner out of that network by guessing from elsewhere. Every other attempt is
/// limited by its network and by the account. Each failure counts at its network. An account that does not exist is treated
/// like one that does.
///
/// Each process knows its own failures at once, and those of the others after the next
/// [exchange](exchange()). Until then each of N processes may let as many failures through as one alone, so that there
/// are at most N times the limit, instead of the limit, in the time between two exchanges. A flood of failures can make
/// an exchange take longer than its interval; there is a warning then, and accounts are exchanged before networks.
///
/// A full table forgets its emptiest bucket. While more buckets than a table holds are in use, the limit of those that it
/// forgets does not hold, and nobody is refused for it.
///
/// Names and addresses are kept as hashes under a secret that the processes share.
#[derive(Debug)]
pub(crate) struct Limiter {
    key: Key,
    networks: Rate,
    accounts: Rate,
    known_for: i64,
    max_entries: usize,
    max_known: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    networks: Table,
    accounts: Table,
    /// The buckets of known networks, for an account and a network each.
    pairs: Table,
    known: Known,
    /// Successes that the other processes do not know yet.
    successes: HashMap<(i64, i64), i64>,
    /// The latest time of an attempt.
    latest: i64,
}

/// The kinds of buckets, in the lowest bits of their numbers.
const NETWORK: i64 = 0;
const ACCOUNT: i64 = 1;
const PAIR: i64 = 2;
const KINDS: i64 = 3;

/// The kinds of buckets in the order in which they are exchanged. An attacker can have any number of networks, at least
/// with IPv6, so their buckets come last.
const BY_PRIORITY: [i64; 3] = [ACCOUNT, PAIR, NETWORK];

/// An attempt, with the numbers of its buckets.
#[derive(Clone, Copy)]
struct Buckets {
    /// `None` if the client's address is unknown.
    network: Option<i64>,
    account: i64,
    pair: i64,
}

impl Limiter {
    /// Creates a limiter. `secret` is one that all processes share, in hexadecimal.
    pub(crate) fn new(limits: &Limits, secret: &str) -> Self {
        let window = limits.window_s.clamp(1, 366 * 24 * 60 * 60) * 1000;
        let rate = |limit| Rate::new(limit, i64::try_from(window).unwrap_or(i64::MAX));
        let days = i64::try_from(limits.known_days.min(366)).unwrap_or(0);
        Self {
            key: Key::new(secret),
            networks: rate(limits.network),
            accounts: rate(limits.account),
            // The last success may be noted up to a day late.
            known_for: days * 24 * 60 * 60 * 1000 + AGAIN,
            max_entries: limits.max_entries,
            max_known: limits.max_known,
            state: Mutex::default(),
        }
    }

    /// Returns whether an attempt fails whatever the password is. `name` is the account, or the name that the client
    /// claimed, if there is no such account; `now` is in milliseconds since 1970.
    pub(crate) fn is_limited(&self, address: Option<IpAddr>, name: &str, now: i64) -> bool {
        let buckets = self.buckets(address, name);
        let state = self.state(now);
        match self.is_known(&state, buckets, now) {
            true => state.pairs.is_full(buckets.pair, self.accounts, now),
            false => {
                let network = buckets.network;
                network.is_some_and(|network| state.networks.is_full(network, self.networks, now))
                    || state.accounts.is_full(buckets.account, self.accounts, now)
            }
        }
    }

    /// Counts an attempt that has failed. A full bucket counts no further failures. So a limited network cannot fill the
    /// buckets of further accounts, and an account is not limited any more once a failure has leaked away. An attacker
    /// who goes on from many networks takes up each such place, and so keeps the account limited for every network that
    /// is not known. On a known network, the owner does not notice it.
    pub(crate) fn failed(&self, address: Option<IpAddr>, name: Option<&str>, now: i64) {
        let buckets = self.buckets(address, name.unwrap_or_default());
        let mut state = self.state(now);
        if name.is_some() && self.is_known(&state, buckets, now) {
            self.add(&mut state, buckets.pair, now);
            if let Some(network) = buckets.network {
                self.add(&mut state, network, now);
            }
            return;
        }
        let is_counted = buckets.network.is_none_or(|network| self.add(&mut state, network, now));
        if is_counted && name.is_some() {
            self.add(&mut state, buckets.account, now);
        }
    }

    /// Notes that the account has authenticated from that address.
    pub(crate) fn authenticated(&self, address: Option<IpAddr>, account: &str, now: i64) {
        let buckets = self.buckets(address, account);
        let Some(network) = buckets.network else { return };
        let mut state = self.state(now);
        if state.known.note(buckets.account, network, now, self.max_known) {
            self.keep_success(&mut state, (buckets.account, network), now);
        }
    }

    /// Counts a failure. Returns whether the bucket was not full.
    fn add(&self, state: &mut State, bucket: i64, now: i64) -> bool {
        let (table, rate) = self.table(state, bucket);
        table.add(bucket, rate, self.max_entries, now)
    }

    fn keep_success(&self, state: &mut State, pair: (i64, i64), now: i64) {
        if state.successes.len() < self.max_known {
            state.successes.insert(pair, now);
        }
    }

    /// Returns the table of the bucket's kind.
    fn table<'a>(&self, state: &'a mut State, bucket: i64) -> (&'a mut Table, Rate) {
        match bucket & KINDS {
            NETWORK => (&mut state.networks, self.networks),
            ACCOUNT => (&mut state.accounts, self.accounts),
            _ => (&mut state.pairs, self.accounts),
        }
    }

    fn is_known(&self, state: &State, buckets: Buckets, now: i64) -> bool {
        let last = buckets.network.and_then(|network| state.known.last(buckets.account, network));
        last.is_some_and(|last| now - last < self.known_for)
    }

    fn buckets(&self, address: Option<IpAddr>, name: &str) -> Buckets {
        let network = address.map(|address| self.bucket(NETWORK, &[&network(address)]));
        let account = self.bucket(ACCOUNT, &[name.as_bytes()]);
        let of_network = network.unwrap_or_default().to_be_bytes();
        Buckets { network, account, pair: self.bucket(PAIR, &[&of_network, name.as_bytes()]) }
    }

    fn bucket(&self, kind: i64, parts: &[&[u8]]) -> i64 {
        let kind_octets = kind.to_be_bytes();
        let hash = self.key.hash([&kind_octets[..]].into_iter().chain(parts.iter().copied()));
        (i64::from_be_bytes(hash.to_be_bytes()) & !KINDS) | kind
    }

    /// No other code runs under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state at this time. If the clock has been put back, the times of the buckets are put back with it.
    /// Otherwise a bucket with one failure would count as full until the clock has caught up.
    fn state(&self, now: i64) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let back = state.latest - now;
        if back > SLACK {
            for kind in BY_PRIORITY {
                self.table(&mut state, kind).0.put_back_clock(back);
            }
        }
        if !(0..=SLACK).contains(&back) {
            state.latest = now;
        }
        state
    }

    /// Takes the failures in buckets of this kind that the other processes do not know yet.
    fn take_failures(&self, kind: i64, now: i64) -> Vec<(i64, i64)> {
        self.table(&mut self.lock(), kind).0.take_untold(now)
    }

    /// Puts failures back that could not be sent.
    fn put_failures_back(&self, failures: &[(i64, i64)]) {
        let mut state = self.lock();
        for (bucket, added) in failures {
            self.table(&mut state, *bucket).0.keep_untold(*bucket, *added, self.max_entries);
        }
    }

    /// Takes the successes that the other processes do not know yet.
    fn take_successes(&self) -> Vec<(i64, i64, i64)> {
        let taken = core::mem::take(&mut self.lock().successes);
        let mut all: Vec<_> =
            taken.into_iter().map(|((account, network), last)| (account, network, last)).collect();
        all.sort_unstable();
        all
    }

    /// Puts successes back that could not be sent.
    fn put_successes_back(&self, successes: &[(i64, i64, i64)]) {
        let mut state = self.lock();
        for (account, network, last) in successes {
            self.keep_success(&mut state, (*account, *network), *last);
        }
    }

    /// Returns how many failures the other processes will never know, since the last call.
    fn take_dropped(&self) -> u64 {
        let mut state = self.lock();
        BY_PRIORITY.iter().map(|kind| self.table(&mut state, *kind).0.take_dropped()).sum()
    }

    /// Takes over the counts of all processes together.
    fn merge(&self, shared: Shared, now: i64) {
        let mut state = self.state(now);
        for (bucket, empty_at) in shared.failures {
            let (table, _) = self.table(&mut state, bucket);
            table.merge(bucket, empty_at, self.max_entries, now);
        }
        for (account, network, last) in shared.known {
            state.known.note(account, network, last, self.max_known);
        }
    }

    /// Returns the numbers of networks, accounts and known pairs with entries.
    pub(crate) fn entries(&self) -> [usize; 3] {
        let state = self.lock();
        [state.networks.len(), state.accounts.len(), state.known.len()]
    }
}

/// The octets of an IPv4 address, or of the /64 of an IPv6 address: a client with one address of it has them all.
fn network(address: IpAddr) -> [u8; 9] {
    let mut octets = [0; 9];
    let (kind, own) = match address.to_canonical() {
        IpAddr::V4(address) => (4, u64::from(address.to_bits())),
        IpAddr::V6(address) => (6, u64::try_from(address.to_bits() >> 64).unwrap_or(0)),
    };
    let (first, rest) = octets.split_at_mut(1);
    first.fill(kind);
    rest.copy_from_slice(&own.to_be_bytes());
    octets
}

#[cfg(test)]
mod tests;
