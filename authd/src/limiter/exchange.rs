//! The exchange of the limits with the other processes, in batches.

use core::time::Duration;
use std::{sync::Arc, time::Instant};

use tokio::{sync::oneshot, time::timeout};

use super::{BY_PRIORITY, KINDS, Limiter, table::PER_ACCOUNT};
use crate::{
    clock::now_ms,
    store::{Shared, Store, StoreError, WRITTEN},
};

/// By how much the clocks of the machines may differ, and a transaction may take, so that no change is missed.
pub(super) const SLACK: i64 = 10_000;

/// How often rows that have expired are deleted from the database, and how often a warning may be repeated.
const TIDY: i64 = 60_000;

/// Reads the counts of before this process's start, so that a restart does not lift a limit.
pub(crate) async fn read_all(limiter: &Limiter, store: &Store) {
    if let Err(error) = batch(limiter, store, 0, now_ms()).await {
        tracing::warn!(%error, "the earlier failures could not be read: limits that were reached before the start do not hold until the database answers");
    }
}

/// Exchanges the limits with the other processes, once in each interval, and a last time when the sender of `stop` is
/// dropped. While the database does not answer, each process limits by the failures that it knows.
pub(crate) async fn exchange(
    limiter: Arc<Limiter>,
    store: Store,
    interval: Duration,
    mut stop: oneshot::Receiver<()>,
) {
    let (mut since, mut tidied, mut warned) = (0, 0, 0);
    let (mut is_down, mut is_last) = (false, false);
    loop {
        let (now, begin) = (now_ms(), Instant::now());
        let done = batch(&limiter, &store, since, now).await;
        // The first batch reads all rows, the first one after a failure sends all that has waited, and of a database that
        // does not answer there is a warning below.
        let is_slow = done.is_ok() && !is_down && since > 0 && begin.elapsed() > interval;
        match &done {
            Ok(()) => since = now - SLACK,
            Err(error) if !is_down => {
                tracing::warn!(%error, "rate limits are not exchanged with other processes")
            }
            Err(_) => {}
        }
        if is_down && done.is_ok() {
            tracing::info!("rate limits are exchanged with other processes again");
        }
        is_down = done.is_err();
        // A clock that has been put back does not silence the warning.
        let is_loud = (now - warned).abs() > TIDY;
        if is_loud && warn(limiter.take_dropped(), is_slow) {
            warned = now;
        }
        if is_last {
            return;
        }
        if !is_down && (now - tidied).abs() > TIDY {
            let _ = store.forget(now, now - limiter.known_for, PER_ACCOUNT).await;
            tidied = now;
        }
        is_last = timeout(interval.saturating_sub(begin.elapsed()), &mut stop).await.is_ok();
    }
}

/// Warns if the other processes do not know all failures, or know them late. Returns whether it has.
fn warn(dropped: u64, is_slow: bool) -> bool {
    if dropped > 0 {
        tracing::warn!(
            dropped,
            "other processes do not count some failures: there were more than `max_entries` between two exchanges"
        );
    }
    if is_slow {
        tracing::warn!(
            "an exchange of rate limits took longer than `exchange_ms`: other processes count failures late"
        );
    }
    dropped > 0 || is_slow
}

/// Sends this process's changes to the database, and reads those of all processes.
///
/// Each statement is a transaction of its own. So the other processes know the first accounts at once, however many
/// networks follow, and an error puts back only the rest.
pub(super) async fn batch(
    limiter: &Limiter,
    store: &Store,
    since: i64,
    now: i64,
) -> Result<(), StoreError> {
    let successes = limiter.take_successes();
    for (at, rows) in successes.chunks(WRITTEN).enumerate() {
        if let Err(error) = store.add_known(rows, now).await {
            limiter.put_successes_back(successes.get(at * WRITTEN..).unwrap_or_default());
            return Err(error);
        }
    }
    for kind in BY_PRIORITY {
        let failures = limiter.take_failures(kind, now);
        for (at, rows) in failures.chunks(WRITTEN).enumerate() {
            if let Err(error) = store.add_failures(rows, now).await {
                limiter.put_failures_back(failures.get(at * WRITTEN..).unwrap_or_default());
                return Err(error);
            }
        }
    }
    let mut shared = Shared::default();
    for kind in BY_PRIORITY {
        let max = limiter.max_entries;
        shared.failures.extend(store.failures_since(since, (KINDS, kind), max, now).await?);
    }
    shared.known = store.known_since(since, limiter.max_known).await?;
    limiter.merge(shared, now_ms().max(now));
    Ok(())
}
