//! Failures that leak away, and networks that are known, in tables of bounded size. Times are milliseconds since 1970.

use std::collections::{BTreeSet, HashMap};

/// The longest time between two exchanges. What leaks away in it is told to the other processes all the same, so that a
/// limit holds for all of them together however fast its failures leak.
const GRACE: i64 = 1000;

/// How many failures fill a bucket, and how long one takes to leak away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    limit: i64,
    leak: i64,
}

impl Rate {
    /// A full bucket of `limit` failures takes `window` to be empty.
    pub(super) fn new(limit: u32, window: i64) -> Self {
        let limit = i64::from(limit.max(1));
        Self { limit, leak: (window / limit).max(1) }
    }

    fn is_full(self, empty_at: i64, now: i64) -> bool {
        empty_at.saturating_sub(now) > self.leak * (self.limit - 1)
    }
}

/// The time at which each bucket with failures will be empty. A bucket needs no other state.
#[derive(Debug, Default)]
pub(super) struct Table {
    empty_at: HashMap<i64, i64>,
    /// The same, the emptiest first.
    order: BTreeSet<(i64, i64)>,
    /// By how many milliseconds failures that the other processes do not know yet have put off these times.
    untold: HashMap<i64, i64>,
    /// How many failures the other processes will never know, because there was no room in `untold`.
    dropped: u64,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.empty_at.len()
    }

    pub(super) fn is_full(&self, bucket: i64, rate: Rate, now: i64) -> bool {
        self.empty_at.get(&bucket).is_some_and(|empty_at| rate.is_full(*empty_at, now))
    }

    /// Counts a failure, unless the bucket is full. Returns whether it was counted.
    pub(super) fn add(&mut self, bucket: i64, rate: Rate, max: usize, now: i64) -> bool {
        if self.is_full(bucket, rate, now) {
            return false;
        }
        let begin = self.empty_at.get(&bucket).copied().unwrap_or(now).max(now);
        self.set(bucket, begin.saturating_add(rate.leak), max, now);
        self.keep_untold(bucket, rate.leak, max);
        true
    }

    /// Keeps what the other processes do not know yet.
    pub(super) fn keep_untold(&mut self, bucket: i64, added: i64, max: usize) {
        if self.untold.len() < max || self.untold.contains_key(&bucket) {
            *self.untold.entry(bucket).or_default() += added;
        } else {
            self.dropped += 1;
        }
    }

    /// Takes what the other processes do not know yet, by the numbers of the buckets.
    pub(super) fn take_untold(&mut self, now: i64) -> Vec<(i64, i64)> {
        let buckets: Vec<_> = self.untold.keys().copied().collect();
        let untold = buckets.into_iter().map(|bucket| (bucket, self.untold(bucket, now)));
        let mut untold: Vec<_> = untold.filter(|(_, added)| *added > 0).collect();
        untold.sort_unstable();
        self.untold.clear();
        untold
    }

    /// Returns what the other processes do not know yet of the bucket. It is no more than what the bucket still contains:
    /// the rest has leaked away while the database did not answer. A bucket that a full table has forgotten keeps all.
    fn untold(&self, bucket: i64, now: i64) -> i64 {
        let untold = self.untold.get(&bucket).copied().unwrap_or(0);
        let left =
            self.empty_at.get(&bucket).map_or(untold, |empty_at| (empty_at + GRACE - now).max(0));
        untold.min(left)
    }

    /// Returns how many failures have been dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        core::mem::take(&mut self.dropped)
    }

    /// Takes over the time that all processes together have counted. It does not contain the failures that the others
    /// do not know yet, nor those that were dropped.
    pub(super) fn merge(&mut self, bucket: i64, empty_at: i64, max: usize, now: i64) {
        let shared = empty_at.max(now).saturating_add(self.untold(bucket, now));
        let own = self.empty_at.get(&bucket).copied().unwrap_or(now);
        self.set(bucket, own.max(shared), max, now);
    }

    /// Moves all times back, as the clock has been put back by so many milliseconds.
    pub(super) fn put_back_clock(&mut self, by: i64) {
        self.empty_at.values_mut().for_each(|empty_at| *empty_at -= by);
        self.order = self.empty_at.iter().map(|(bucket, empty_at)| (*empty_at, *bucket)).collect();
    }

    /// Sets when the bucket will be empty. A full table forgets the emptiest bucket.
    fn set(&mut self, bucket: i64, empty_at: i64, max: usize, now: i64) {
        while let Some((_, bucket)) =
            self.order.first().filter(|(empty_at, _)| *empty_at + GRACE <= now)
        {
            self.untold.remove(bucket);
            self.forget_emptiest();
        }
        match self.empty_at.insert(bucket, empty_at) {
            Some(old) => {
                self.order.remove(&(old, bucket));
            }
            None if self.len() > max => self.forget_emptiest(),
            None => {}
        }
        self.order.insert((empty_at, bucket));
    }

    fn forget_emptiest(&mut self) {
        if let Some((_, bucket)) = self.order.pop_first() {
            self.empty_at.remove(&bucket);
        }
    }
}

/// The networks from which each account has authenticated, and when it last did.
#[derive(Debug, Default)]
pub(super) struct Known {
    accounts: HashMap<i64, Vec<(i64, i64)>>,
    /// The time, the account and the network, the oldest first.
    order: BTreeSet<(i64, i64, i64)>,
}

/// How many networks of one account are known. Without this limit, a user with one password could push out the networks
/// of all other accounts.
pub(super) const PER_ACCOUNT: usize = 32;

/// A success is noted again after a day, so that not every one is written to the database.
pub(super) const AGAIN: i64 = 24 * 60 * 60 * 1000;

impl Known {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn last(&self, account: i64, network: i64) -> Option<i64> {
        let networks = self.accounts.get(&account)?;
        networks.iter().find(|(own, _)| *own == network).map(|(_, last)| *last)
    }

    /// Notes a success. If there is no room, the oldest entry is removed. Returns whether the database has to be told.
    pub(super) fn note(&mut self, account: i64, network: i64, now: i64, max: usize) -> bool {
        let old = self.last(account, network);
        if old.is_some_and(|last| now - last < AGAIN) {
            return false;
        }
        if let Some(last) = old {
            self.forget((last, account, network));
        }
        let own = self.accounts.get(&account).into_iter().flatten();
        let oldest = own.clone().min_by_key(|(_, last)| *last).copied();
        let of_account = oldest.filter(|_| own.count() >= PER_ACCOUNT);
        let of_all = self.order.first().copied().filter(|_| self.len() >= max);
        let oldest = of_account.map(|(network, last)| (last, account, network)).or(of_all);
        if let Some(oldest) = oldest {
            self.forget(oldest);
        }
        self.accounts.entry(account).or_default().push((network, now));
        self.order.insert((now, account, network));
        true
    }

    fn forget(&mut self, (last, account, network): (i64, i64, i64)) {
        self.order.remove(&(last, account, network));
        if let Some(networks) = self.accounts.get_mut(&account) {
            networks.retain(|(own, _)| *own != network);
            if networks.is_empty() {
                self.accounts.remove(&account);
            }
        }
    }
}
