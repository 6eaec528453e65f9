//! The rate limits that the processes of a fleet exchange.

use super::{Store, StoreError, get};

/// Changes of one process since its last batch.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// A bucket, and by how many milliseconds its failures put off the time when it will be empty.
    pub(crate) failures: Vec<(i64, i64)>,
    /// An account, a network, and when the account was authenticated from it.
    pub(crate) known: Vec<(i64, i64, i64)>,
}

/// The counts of all processes together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shared {
    /// A bucket, and when it will be empty.
    pub(crate) failures: Vec<(i64, i64)>,
    /// An account, a network, and when the account was last authenticated from it.
    pub(crate) known: Vec<(i64, i64, i64)>,
}

impl Store {
    /// Adds one process's changes to the shared counts. Times are milliseconds since 1970.
    ///
    /// The rows are written in the order of their keys, so that batches of several processes do not deadlock.
    pub(crate) async fn add_changes(&self, changes: &Changes, now: i64) -> Result<(), StoreError> {
        if changes.failures.is_empty() && changes.known.is_empty() {
            return Ok(());
        }
        let add = "INSERT INTO failure (bucket, empty_at, changed) VALUES ($1, $2 + $3, $2) \
                   ON CONFLICT (bucket) DO UPDATE SET changed = $2, empty_at = $3 + \
                   CASE WHEN failure.empty_at > $2 THEN failure.empty_at ELSE $2 END";
        let know = "INSERT INTO known_network (account, network, last, changed) VALUES ($1, $2, $3, $4) \
                    ON CONFLICT (account, network) DO UPDATE SET changed = $4, last = \
                    CASE WHEN known_network.last > $3 THEN known_network.last ELSE $3 END";
        let mut transaction = self.begin().await?;
        let mut failures = changes.failures.clone();
        failures.sort_unstable();
        for (bucket, added) in failures {
            let add = sqlx::query(add).bind(bucket).bind(now).bind(added);
            self.within(add.execute(&mut *transaction)).await?;
        }
        let mut known = changes.known.clone();
        known.sort_unstable();
        for (account, network, last) in known {
            let know = sqlx::query(know).bind(account).bind(network).bind(last).bind(now);
            self.within(know.execute(&mut *transaction)).await?;
        }
        self.within(transaction.commit()).await
    }

    /// Returns the rows that have changed since then, at most `max` rows of each kind, the latest first.
    pub(crate) async fn shared_since(&self, since: i64, max: usize) -> Result<Shared, StoreError> {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let mut shared = Shared::default();
        let failures = "SELECT bucket, empty_at FROM failure WHERE changed >= $1 ORDER BY changed DESC LIMIT $2";
        let select = sqlx::query(failures).bind(since).bind(max);
        for row in self.within(select.fetch_all(&self.pool)).await? {
            shared.failures.push((get(&row, "bucket")?, get(&row, "empty_at")?));
        }
        let known = "SELECT account, network, last FROM known_network WHERE changed >= $1 ORDER BY changed DESC LIMIT $2";
        let select = sqlx::query(known).bind(since).bind(max);
        for row in self.within(select.fetch_all(&self.pool)).await? {
            shared.known.push((get(&row, "account")?, get(&row, "network")?, get(&row, "last")?));
        }
        Ok(shared)
    }

    /// Deletes buckets that are empty, networks whose last success is older than `known_since`, and of each account all
    /// but the latest `per_account` networks.
    pub(crate) async fn forget(
        &self,
        now: i64,
        known_since: i64,
        per_account: usize,
    ) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM failure WHERE empty_at <= $1").bind(now);
        self.within(delete.execute(&self.pool)).await?;
        let delete = sqlx::query("DELETE FROM known_network WHERE last < $1").bind(known_since);
        self.within(delete.execute(&self.pool)).await?;
        let delete = "DELETE FROM known_network WHERE (account, network) IN (SELECT account, network FROM \
                      (SELECT account, network, ROW_NUMBER() OVER (PARTITION BY account ORDER BY last DESC) AS place \
                      FROM known_network) AS ranked WHERE place > $1)";
        let delete = sqlx::query(delete).bind(i64::try_from(per_account).unwrap_or(i64::MAX));
        self.within(delete.execute(&self.pool)).await.map(|_| ())
    }
}
