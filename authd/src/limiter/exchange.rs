//! The exchange of the limits with the other processes, in batches.

use core::time::Duration;
use std::sync::Arc;

use super::{Limiter, table::PER_ACCOUNT};
use crate::{
    clock::now_ms,
    store::{Store, StoreError},
};

/// By how much the clocks of the machines may differ, and a transaction may take, so that no change is missed.
const SLACK: i64 = 10_000;

/// How often rows that have expired are deleted from the database.
const TIDY: i64 = 60_000;

/// Reads the counts of before this process's start, so that a restart does not lift a limit.
pub(crate) async fn read_all(limiter: &Limiter, store: &Store) {
    if let Err(error) = batch(limiter, store, 0, now_ms()).await {
        tracing::warn!(%error, "the earlier failures could not be read: limits that were reached before the start do not hold until the database answers");
    }
}

/// Exchanges the limits with the other processes until the task is aborted, once in each interval. While the database
/// does not answer, each process limits by the failures that it knows.
pub(crate) async fn exchange(limiter: Arc<Limiter>, store: Store, interval: Duration) {
    let mut since = 0;
    let mut tidied = 0;
    let mut is_down = false;
    loop {
        let now = now_ms();
        let done = batch(&limiter, &store, since, now).await;
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
        if !is_down && now - tidied > TIDY {
            let _ = store.forget(now, now - limiter.known_for, PER_ACCOUNT).await;
            tidied = now;
        }
        tokio::time::sleep(interval).await;
    }
}

/// Sends this process's changes to the database, and reads those of all processes.
pub(super) async fn batch(
    limiter: &Limiter,
    store: &Store,
    since: i64,
    now: i64,
) -> Result<(), StoreError> {
    let changes = limiter.take_changes();
    if let Err(error) = store.add_changes(&changes, now).await {
        limiter.put_back(changes);
        return Err(error);
    }
    let shared = store.shared_since(since, limiter.max_entries).await?;
    limiter.merge(shared, now_ms().max(now));
    Ok(())
}
