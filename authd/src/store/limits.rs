//! The rate limits that the processes of a fleet exchange.

use core::fmt::Write;

use super::{Store, StoreError, get};

/// The counts of all processes together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shared {
    /// A bucket, and when it will be empty.
    pub(crate) failures: Vec<(i64, i64)>,
    /// An account, a network, and when the account was last authenticated from it.
    pub(crate) known: Vec<(i64, i64, i64)>,
}

/// How many rows one statement writes.
pub(crate) const WRITTEN: usize = 200;

/// How many rows of known networks one query reads. All of them at once could take longer than a query may.
const READ: usize = 20_000;

impl Store {
    /// Adds failures of one process to the shared counts: of each bucket, by how many milliseconds they put off the time
    /// when it will be empty. There are at most [`WRITTEN`] rows, in the order of their keys, so that statements of
    /// several processes do not deadlock. No bucket comes twice, which PostgreSQL would refuse.
    ///
    /// A row of a later time than `now` was written before the clock was put back, so no time has passed since then.
    pub(crate) async fn add_failures(
        &self,
        rows: &[(i64, i64)],
        now: i64,
    ) -> Result<(), StoreError> {
        let conflict = "(bucket) DO UPDATE SET changed = excluded.changed, empty_at = excluded.empty_at + \
                        CASE WHEN failure.changed > $1 THEN failure.empty_at - failure.changed \
                        WHEN failure.empty_at > $1 THEN failure.empty_at - $1 ELSE 0 END";
        let rows: Vec<_> = rows.iter().map(|(bucket, added)| [*bucket, now + added]).collect();
        self.write("failure (changed, bucket, empty_at)", &rows, conflict, now).await
    }

    /// Notes successes of one process: an account, a network, and the time. There are at most [`WRITTEN`] rows, in the
    /// order of their keys, and none comes twice.
    pub(crate) async fn add_known(
        &self,
        rows: &[(i64, i64, i64)],
        now: i64,
    ) -> Result<(), StoreError> {
        let conflict = "(account, network) DO UPDATE SET changed = excluded.changed, last = \
                        CASE WHEN known_network.last > excluded.last THEN known_network.last ELSE excluded.last END";
        let rows: Vec<_> =
            rows.iter().map(|(account, network, last)| [*account, *network, *last]).collect();
        self.write("known_network (changed, account, network, last)", &rows, conflict, now).await
    }

    /// Writes rows in one statement. `now` is the first column of each, and `$1`.
    async fn write<const N: usize>(
        &self,
        into: &str,
        rows: &[[i64; N]],
        conflict: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut insert = format!("INSERT INTO {into} VALUES ");
        for at in 0..rows.len() {
            insert.push_str(if at == 0 { "($1" } else { ", ($1" });
            for column in 0..N {
                // Writing to a string does not fail.
                let _ = write!(insert, ", ${}", at * N + column + 2);
            }
            insert.push(')');
        }
        let _ = write!(insert, " ON CONFLICT {conflict}");
        // Of the many lengths, only the longest is worth being kept as a prepared statement.
        let insert = sqlx::query(&insert).persistent(rows.len() == WRITTEN).bind(now);
        let insert = rows.iter().flatten().fold(insert, |insert, value| insert.bind(*value));
        self.within(insert.execute(&self.pool)).await.map(|_| ())
    }

    /// Returns the buckets that have changed since then, at most `max`, the latest first. They are those whose number has
    /// `kind` in the bits `kinds`. For a row of a later time than `now`, see [`add_failures`](Self::add_failures).
    pub(crate) async fn failures_since(
        &self,
        since: i64,
        (kinds, kind): (i64, i64),
        max: usize,
        now: i64,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        let select = "SELECT bucket, CASE WHEN changed > $1 THEN empty_at - changed + $1 ELSE empty_at END AS empty_at \
                      FROM failure WHERE changed >= $2 AND (bucket & $3) = $4 ORDER BY changed DESC LIMIT $5";
        let select = sqlx::query(select).bind(now).bind(since).bind(kinds).bind(kind);
        let select = select.bind(i64::try_from(max).unwrap_or(i64::MAX));
        let rows = self.within(select.fetch_all(&self.pool)).await?;
        rows.iter().map(|row| Ok((get(row, "bucket")?, get(row, "empty_at")?))).collect()
    }

    /// Returns the known networks that have changed since then, at most `max`, the latest first.
    pub(crate) async fn known_since(
        &self,
        since: i64,
        max: usize,
    ) -> Result<Vec<(i64, i64, i64)>, StoreError> {
        let select = "SELECT account, network, last, changed FROM known_network \
                      WHERE changed >= $1 AND changed <= $2 AND (changed, account, network) < ($2, $3, $4) \
                      ORDER BY changed DESC, account DESC, network DESC LIMIT $5";
        let (mut known, mut before) = (Vec::new(), [i64::MAX; 3]);
        while known.len() < max {
            let limit = READ.min(max - known.len());
            let page =
                before.iter().fold(sqlx::query(select).bind(since), |page, at| page.bind(*at));
            let page = page.bind(i64::try_from(limit).unwrap_or(i64::MAX));
            let rows = self.within(page.fetch_all(&self.pool)).await?;
            for row in &rows {
                let (account, network) = (get(row, "account")?, get(row, "network")?);
                known.push((account, network, get(row, "last")?));
                before = [get(row, "changed")?, account, network];
            }
            if rows.len() < limit {
                break;
            }
        }
        Ok(known)
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
