//! Counts of failures that expire over time ("leaky buckets"), in tables of bounded size.

use alloc::collections::{BTreeMap, BTreeSet};
use core::{num::NonZeroU32, time::Duration};
use std::{collections::HashMap, time::Instant};

/// The number of failures that fill a bucket, and the time in which a full bucket empties. Failures leak away one by
/// one, so a bucket is fully described by the time at which it will be empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) limit: NonZeroU32,
    pub(super) window: Duration,
}

impl Rate {
    /// Returns the time in which one failure leaks away.
    fn leak(self) -> Duration {
        self.window / self.limit.get()
    }

    pub(super) fn is_full(self, empty_at: Instant, now: Instant) -> bool {
        let level = empty_at.saturating_duration_since(now);
        level > self.leak() * (self.limit.get() - 1)
    }

    /// Returns when the bucket will be empty after another failure.
    fn add(self, empty_at: Instant, now: Instant) -> Instant {
        let begin = empty_at.max(now);
        begin.checked_add(self.leak()).unwrap_or(begin)
    }
}

/// A bucket for each key with recent failures.
#[derive(Debug, Default)]
pub(super) struct Table {
    empty_at: HashMap<u64, Instant>,
    /// The same entries, with the emptiest bucket first.
    order: BTreeSet<(Instant, u64)>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.empty_at.len()
    }

    /// Returns whether the key's bucket is full. If all of `max` buckets are full, every other key counts as full,
    /// because its failures could not be counted.
    pub(super) fn is_full(&self, key: u64, rate: Rate, max: usize, now: Instant) -> bool {
        let own = self.empty_at.get(&key).copied();
        let emptiest =
            || self.order.first().filter(|_| self.len() >= max).map(|(empty_at, _)| *empty_at);
        own.or_else(emptiest).is_some_and(|empty_at| rate.is_full(empty_at, now))
    }

    /// Counts a failure of a key whose bucket is not full. If there would be more than `max` buckets, this drops the
    /// emptiest.
    pub(super) fn add(&mut self, key: u64, rate: Rate, max: usize, now: Instant) {
        while self.forget_emptiest(|empty_at| empty_at <= now) {}
        let old = self.empty_at.get(&key).copied();
        if old.is_none()
            && self.len() >= max
            && !self.forget_emptiest(|empty_at| !rate.is_full(empty_at, now))
        {
            return;
        }
        let new = rate.add(old.unwrap_or(now), now);
        if let Some(old) = self.empty_at.insert(key, new) {
            self.order.remove(&(old, key));
        }
        self.order.insert((new, key));
    }

    /// Drops the emptiest bucket if `these` returns `true` for it.
    fn forget_emptiest(&mut self, these: impl Fn(Instant) -> bool) -> bool {
        let emptiest = self.order.first().copied().filter(|(empty_at, _)| these(*empty_at));
        let Some(entry) = emptiest else { return false };
        self.order.remove(&entry);
        self.empty_at.remove(&entry.1);
        true
    }
}

/// The hash of a name with which an account has authenticated, and the hash of the network.
pub(super) type Pair = (u64, u64);

/// The networks from which accounts have authenticated recently.
#[derive(Debug, Default)]
pub(super) struct Known {
    pairs: BTreeMap<Pair, Entry>,
    /// The same entries, with the oldest success first.
    order: BTreeSet<(Instant, Pair)>,
    /// The same entries, ordered by account.
    owned: BTreeSet<(u64, Pair)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    last: Instant,
    /// The account. It differs from the name in the pair if the name is an alias.
    owner: u64,
    /// When the bucket of this account's failures from this network will be empty.
    empty_at: Instant,
}

impl Known {
    /// The maximum number of pairs for one account. It prevents an attacker who knows the password of one account from
    /// displacing the networks of all other accounts, even if the store accepts many names for that account.
    const PER_ACCOUNT: usize = 32;

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Returns whether the pair's bucket is full, or `None` if the pair is not known.
    pub(super) fn is_full(
        &self,
        pair: Pair,
        rate: Rate,
        lately: Duration,
        now: Instant,
    ) -> Option<bool> {
        let entry = self.pairs.get(&pair)?;
        let is_known = now.saturating_duration_since(entry.last) < lately;
        is_known.then(|| rate.is_full(entry.empty_at, now))
    }

    /// Counts a failure of a known pair.
    pub(super) fn add(&mut self, pair: Pair, rate: Rate, now: Instant) {
        if let Some(entry) = self.pairs.get_mut(&pair) {
            entry.empty_at = rate.add(entry.empty_at, now);
        }
    }

    /// Records a success of the account. If the account has too many pairs, its oldest pair is dropped. If there would
    /// be more than `max` pairs, the oldest of all pairs is dropped.
    pub(super) fn authenticated(
        &mut self,
        pair: Pair,
        owner: u64,
        max: usize,
        lately: Duration,
        now: Instant,
    ) {
        while self
            .order
            .first()
            .is_some_and(|(last, _)| now.saturating_duration_since(*last) >= lately)
        {
            self.forget(self.order.first().copied());
        }
        let old = self.pairs.get(&pair).copied();
        self.forget(old.map(|old| (old.last, pair)));
        let all = (owner, (u64::MIN, u64::MIN))..=(owner, (u64::MAX, u64::MAX));
        let own = self.owned.range(all);
        let own = own.filter_map(|(_, pair)| Some((self.pairs.get(pair)?.last, *pair)));
        if own.clone().count() >= Self::PER_ACCOUNT {
            self.forget(own.min());
        } else if self.len() >= max {
            self.forget(self.order.first().copied());
        }
        let empty_at = old.map_or(now, |old| old.empty_at);
        self.pairs.insert(pair, Entry { last: now, owner, empty_at });
        self.order.insert((now, pair));
        self.owned.insert((owner, pair));
    }

    fn forget(&mut self, entry: Option<(Instant, Pair)>) {
        if let Some(entry) = entry {
            self.order.remove(&entry);
            if let Some(old) = self.pairs.remove(&entry.1) {
                self.owned.remove(&(old.owner, entry.1));
            }
        }
    }
}
