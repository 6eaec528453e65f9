//! Rate limiting of failed authentication, by network and by account, over all processes that share a database.

use core::{hash::Hasher, net::IpAddr};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use siphasher::sip::SipHasher24;

use crate::{
    config::Limits,
    random,
    store::{Changes, Shared},
};

mod exchange;
mod table;

pub(crate) use exchange::{exchange, read_all};
use table::{Known, Rate, Table};

/// Counts failed attempts, and limits further ones.
///
/// An attempt from a network from which the account has authenticated lately counts in a bucket of this account and
/// this network alone, so nobody can lock an owner out by guessing from elsewhere. Every other attempt counts at its
/// network and at the account. An account that does not exist is treated like one that does.
///
/// Each process knows its own failures at once, and those of the others after the next
/// [exchange](exchange()). Until then each of N processes may let as many failures through as one alone, so that there
/// are at most N times the limit, instead of the limit, in the time between two exchanges.
///
/// Names and addresses are kept as hashes under a secret that the processes share.
#[derive(Debug)]
pub(crate) struct Limiter {
    key: [u8; 16],
    networks: Rate,
    accounts: Rate,
    known_for: i64,
    max_entries: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    networks: Table,
    accounts: Table,
    /// The buckets of known networks, for an account and a network each.
    pairs: Table,
    known: Known,
    /// Changes that the other processes do not know yet.
    failures: HashMap<i64, i64>,
    successes: HashMap<(i64, i64), i64>,
}

/// The kinds of buckets, in the lowest bits of their numbers.
const NETWORK: i64 = 0;
const ACCOUNT: i64 = 1;
const PAIR: i64 = 2;
const KINDS: i64 = 3;

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
            key: random::key(secret),
            networks: rate(limits.network),
            accounts: rate(limits.account),
            known_for: days * 24 * 60 * 60 * 1000,
            max_entries: limits.max_entries,
            state: Mutex::default(),
        }
    }

    /// Returns whether an attempt fails whatever the password is. `name` is the account, or the name that the client
    /// claimed, if there is no such account; `now` is in milliseconds since 1970.
    pub(crate) fn is_limited(&self, address: Option<IpAddr>, name: &str, now: i64) -> bool {
        let buckets = self.buckets(address, name);
        let state = self.state();
        match self.is_known(&state, buckets, now) {
            true => state.pairs.is_full(buckets.pair, self.accounts, self.max_entries, now),
            false => {
                let network = buckets.network;
                network.is_some_and(|network| {
                    state.networks.is_full(network, self.networks, self.max_entries, now)
                }) || state.accounts.is_full(buckets.account, self.accounts, self.max_entries, now)
            }
        }
    }

    /// Counts an attempt that has failed. A full bucket counts no further failures. So an attacker who goes on cannot
    /// keep an account limited, and a limited network cannot fill the buckets of further accounts.
    pub(crate) fn failed(&self, address: Option<IpAddr>, name: Option<&str>, now: i64) {
        let buckets = self.buckets(address, name.unwrap_or_default());
        let mut state = self.state();
        if name.is_some() && self.is_known(&state, buckets, now) {
            self.add(&mut state, buckets.pair, now);
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
        let mut state = self.state();
        if state.known.note(buckets.account, network, now, self.max_entries) {
            self.keep_success(&mut state, (buckets.account, network), now);
        }
    }

    /// Counts a failure. Returns whether the bucket was not full.
    fn add(&self, state: &mut State, bucket: i64, now: i64) -> bool {
        let (table, rate) = self.table(state, bucket);
        if !table.add(bucket, rate, self.max_entries, now) {
            return false;
        }
        let is_new = !state.failures.contains_key(&bucket);
        if !is_new || state.failures.len() < self.max_entries {
            *state.failures.entry(bucket).or_default() += rate.leak();
        }
        true
    }

    fn keep_success(&self, state: &mut State, pair: (i64, i64), now: i64) {
        if state.successes.len() < self.max_entries {
            state.successes.insert(pair, now);
        }
    }

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
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_i64(kind);
        parts.iter().for_each(|part| hasher.write(part));
        (i64::from_be_bytes(hasher.finish().to_be_bytes()) & !KINDS) | kind
    }

    /// No other code runs under this lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the changes that the other processes do not know yet.
    fn take_changes(&self) -> Changes {
        let mut state = self.state();
        let failures = state.failures.drain().collect();
        let known =
            state.successes.drain().map(|((account, network), last)| (account, network, last));
        Changes { known: known.collect(), failures }
    }

    /// Puts changes back that could not be sent.
    fn put_back(&self, changes: Changes) {
        let mut state = self.state();
        for (bucket, added) in changes.failures {
            if state.failures.len() < self.max_entries || state.failures.contains_key(&bucket) {
                *state.failures.entry(bucket).or_default() += added;
            }
        }
        for (account, network, last) in changes.known {
            self.keep_success(&mut state, (account, network), last);
        }
    }

    /// Takes over the counts of all processes together.
    fn merge(&self, shared: Shared, now: i64) {
        let mut state = self.state();
        for (bucket, empty_at) in shared.failures {
            // The sum does not contain the failures that this process has counted since its last batch.
            let own = state.failures.get(&bucket).copied().unwrap_or(0);
            let (table, rate) = self.table(&mut state, bucket);
            table.set(bucket, empty_at.max(now) + own, rate, self.max_entries, now);
        }
        for (account, network, last) in shared.known {
            state.known.note(account, network, last, self.max_entries);
        }
    }

    /// Returns the numbers of networks, accounts and known pairs with entries.
    pub(crate) fn entries(&self) -> [usize; 3] {
        let state = self.state();
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
