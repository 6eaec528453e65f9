//! Compares the limiter with a model without bounds, in which levels are plain numbers.

use alloc::{format, vec::Vec};
use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Wait(u64),
    Fail(u16, u8, Option<u8>),
    Enter(u16, u8),
}

#[derive(Default)]
struct Model {
    seconds: u64,
    /// The level in seconds (60 for each failure), and the time at which it was computed.
    networks: HashMap<u16, (u64, u64)>,
    accounts: HashMap<u8, (u64, u64)>,
    known: HashMap<(u8, u16), (u64, u64)>,
}

/// The limit, in failures of 60 seconds each.
const LIMIT: u64 = 3;

fn level(bucket: Option<&(u64, u64)>, now: u64) -> u64 {
    bucket.map_or(0, |(level, then)| level.saturating_sub(now - then))
}

impl Model {
    fn is_full(&self, bucket: Option<&(u64, u64)>) -> bool {
        level(bucket, self.seconds) > (LIMIT - 1) * 60
    }

    fn bucket(&self, name: u8, network: u16) -> Option<&(u64, u64)> {
        self.known.get(&(name, network)).or(self.accounts.get(&name))
    }

    fn full_account(&self, network: u16, names: &[u8]) -> bool {
        names.iter().any(|name| self.is_full(self.bucket(*name, network)))
    }

    fn full_network(&self, network: u16, names: &[u8]) -> bool {
        let known = |name: &u8| self.known.contains_key(&(*name, network));
        !names.iter().all(known) && self.is_full(self.networks.get(&network))
    }

    fn fail(&mut self, network: u16, names: &[u8]) {
        let now = self.seconds;
        let add = |bucket: &mut (u64, u64)| *bucket = (level(Some(bucket), now) + 60, now);
        let full_account = self.full_account(network, names);
        if self.full_network(network, names) {
            return;
        }
        if !names.iter().all(|name| self.known.contains_key(&(*name, network))) {
            add(self.networks.entry(network).or_default());
        }
        for name in names.iter().filter(|_| !full_account) {
            match self.known.get_mut(&(*name, network)) {
                Some(bucket) => add(bucket),
                None => add(self.accounts.entry(*name).or_default()),
            }
        }
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => (0..150u64).prop_map(Act::Wait),
        4 => (0..4u16, 0..4u8, prop::option::of(0..4u8)).prop_map(|(n, a, b)| Act::Fail(n, a, b)),
        1 => (0..4u16, 0..4u8).prop_map(|(n, a)| Act::Enter(n, a)),
    ]
}

proptest! {
    #[test]
    fn is_as_the_model(acts in prop::collection::vec(act(), 0..200)) {
        let (limiter, begin) = (limiter(LIMIT as u32), Instant::now());
        let mut model = Model::default();
        for act in acts {
            let now = begin + Duration::from_secs(model.seconds);
            match act {
                Act::Wait(seconds) => model.seconds += seconds,
                Act::Fail(n, a, b) => {
                    let (authcid, account) = (format!("{a}"), b.map(|b| format!("{b}")));
                    let attempt = Attempt::new(address(n), Some(&authcid), account.as_deref());
                    limiter.failed(&attempt, now);
                    let names: Vec<u8> = [a].into_iter().chain(b.filter(|b| *b != a)).collect();
                    model.fail(n, &names);
                }
                Act::Enter(n, a) => {
                    limiter.authenticated(&attempt(n, &format!("{a}")), now);
                    model.known.entry((a, n)).or_default();
                }
            }
            let now = begin + Duration::from_secs(model.seconds);
            for (n, a) in (0..4).flat_map(|n| (0..4).map(move |a| (n, a))) {
                let limited = model.full_network(n, &[a]) || model.full_account(n, &[a]);
                prop_assert_eq!(limiter.is_limited(&attempt(n, &format!("{a}")), now), limited);
            }
        }
    }

    /// In a small table, no sequence of attempts makes a full bucket disappear.
    #[test]
    fn what_is_full_is_not_forgotten(acts in prop::collection::vec((0..30u16, 0..20u64), 0..300)) {
        let entries = NonZeroUsize::new(5).unwrap();
        let limiter = limiter(3).max_entries(entries).network_limit(number(3));
        let mut now = Instant::now();
        let at = |n| Attempt::new(address(n), None, None);
        for (n, seconds) in acts {
            now += Duration::from_secs(seconds);
            let full: Vec<_> = (0..30).filter(|n| limiter.is_limited(&at(*n), now)).collect();
            limiter.failed(&at(n), now);
            prop_assert!(full.iter().all(|n| limiter.is_limited(&at(*n), now)));
            prop_assert!(limiter.tables().networks.len() <= 5);
        }
    }
}
