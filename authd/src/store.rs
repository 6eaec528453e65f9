//! The accounts, in SQLite or PostgreSQL.
//!
//! One code serves both databases: each statement is written in the SQL that they have in common, takes its values as
//! parameters, and is prepared once for each connection.

use core::{future::Future, time::Duration};
use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use smtp_auth::Secret;
use sqlx::{
    Any, AnyConnection, AnyPool, Connection, Executor, Row,
    any::{AnyConnectOptions, AnyPoolOptions, AnyRow},
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::SqliteConnectOptions,
};
use tokio::time::{sleep, timeout};

mod accounts;
mod lent;
mod limits;
mod listing;
mod settings;

pub(crate) use accounts::{Found, NewPassword, login_name};
pub(crate) use limits::{Shared, WRITTEN};
pub(crate) use listing::{AccountRow, Cost, PasswordRow};

/// The database and the bounds on its use.
#[derive(Clone)]
pub(crate) struct Options {
    /// `sqlite:PATH` or `postgres://…`. It may contain a password.
    pub(crate) url: Secret,
    /// The largest number of connections.
    pub(crate) connections: u32,
    /// The time limit of one query, with the wait for a connection.
    pub(crate) time_limit: Duration,
}

/// The time limit of the first connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a process tries again that meets another one at work on the tables of a SQLite file.
const RACE: Duration = Duration::from_secs(2);

/// The time limit of the migrations.
const MIGRATE: Duration = Duration::from_secs(60);

/// Why the database gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the database did not answer within {} ms (`query_time_limit_ms`)", .0.as_millis())]
    Slow(Duration),
    #[error("the database cannot be used: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the tables of the database cannot be brought up to date: {0}")]
    Migration(#[from] MigrateError),
    #[error("the database's file {} cannot be created: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error(
        "every user of this machine has access to {path}, which contains credentials: run `chmod 0600 {path}`",
        path = path.display()
    )]
    Mode { path: PathBuf },
    #[error("the database's URL begins neither with `sqlite:` nor with `postgres:`")]
    Scheme,
    #[error(
        "the database stores text as {0}, which has no room for all names: create it with `ENCODING 'UTF8'`"
    )]
    Encoding(String),
    #[error("the account `{0}` does not exist")]
    NoAccount(String),
    #[error("the name `{0}` is already in use, by an account, an alias or an application password")]
    NameInUse(String),
    #[error("a stored credential of `{0}` cannot be read: set the password of the account again")]
    Damaged(String),
    #[error(
        "the row `{0}` of the table `setting` does not contain 64 hexadecimal digits: delete the row, and a new one is made"
    )]
    DamagedSecret(String),
    #[error("the operating system supplies no random numbers")]
    NoRandomNumbers,
}

impl StoreError {
    /// Returns whether the same query may succeed later, because the database is down or slow.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Slow(_) | Self::Database(_) => true,
            Self::Migration(error) => {
                matches!(error, MigrateError::Execute(_) | MigrateError::ExecuteMigration(..))
            }
            _ => false,
        }
    }
}

/// A pool of connections to the database. A clone is another handle of the same pool.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: AnyPool,
    lent: lent::Lent,
    is_sqlite: bool,
    time_limit: Duration,
}

impl Store {
    /// Connects, and brings the tables up to date. A SQLite file that does not exist is made, readable by its owner
    /// only.
    pub(crate) async fn open(options: &Options) -> Result<Self, StoreError> {
        let store = Self::connect_later(options)?;
        store.migrate().await?;
        Ok(store)
    }

    /// Returns a pool that connects when it is first used.
    pub(crate) fn connect_later(options: &Options) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let url = options.url.expose();
        let is_sqlite = url.starts_with("sqlite:");
        let connect: AnyConnectOptions = url.parse()?;
        if is_sqlite {
            // The URL is decoded by the code that opens the file, so that both mean the same one.
            let sqlite = SqliteConnectOptions::try_from(&connect)?;
            if connect.database_url.path() != ":memory:" {
                create_private(sqlite.get_filename())?;
            }
        } else if !url.starts_with("postgres:") && !url.starts_with("postgresql:") {
            return Err(StoreError::Scheme);
        }
        let setup = setup(is_sqlite, options.time_limit);
        let pool = AnyPoolOptions::new()
            .max_connections(options.connections.max(1))
            .acquire_timeout(options.time_limit)
            .after_connect(move |connection, _| {
                let setup = setup.clone();
                Box::pin(async move { connection.execute(&*setup).await.map(|_| ()) })
            })
            .connect_lazy_with(connect);
        let lent = lent::Lent::new(usize::try_from(options.connections / 2).unwrap_or(0));
        Ok(Self { pool, lent, is_sqlite, time_limit: options.time_limit })
    }

    /// Brings the tables up to date. Several processes may do so at once: on PostgreSQL, a lock orders them. On SQLite, one
    /// that meets another at work fails, and tries again.
    pub(crate) async fn migrate(&self) -> Result<(), StoreError> {
        let begin = Instant::now();
        loop {
            match self.migrate_once().await {
                Err(error) if self.is_sqlite && error.may_pass() && begin.elapsed() < RACE => {
                    sleep(Duration::from_millis(20)).await;
                }
                migrated => return migrated,
            }
        }
    }

    async fn migrate_once(&self) -> Result<(), StoreError> {
        // The pool tries again until its time is up, and does not say why it has failed. Its connections also limit each
        // query, and a large table may take longer.
        let limit = self.time_limit.min(CONNECT);
        let connected =
            timeout(limit, AnyConnection::connect_with(&self.pool.connect_options())).await;
        let mut connection = connected.map_err(|_| StoreError::Slow(limit))??;
        if self.is_sqlite {
            connection.execute(&*setup(true, self.time_limit)).await?;
        } else {
            let encoding = sqlx::query("SHOW server_encoding").fetch_one(&mut connection).await?;
            let encoding: String = encoding.try_get(0)?;
            // SQL_ASCII stores the octets as they are.
            if !["UTF8", "SQL_ASCII"].contains(&&*encoding) {
                return Err(StoreError::Encoding(encoding));
            }
        }
        let limit = self.time_limit.max(MIGRATE);
        let migrated = timeout(limit, migrator().run(&mut connection)).await;
        migrated.map_err(|_| StoreError::Slow(limit))??;
        Ok(connection.close().await?)
    }

    /// Closes the connections, after the queries that are being answered.
    pub(crate) async fn close(&self) {
        self.lent.clear();
        self.pool.close().await;
    }

    /// Awaits a query within the time limit.
    async fn within<T>(
        &self,
        query: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let answered = timeout(self.time_limit, query).await;
        Ok(answered.map_err(|_| StoreError::Slow(self.time_limit))??)
    }

    async fn begin(&self) -> Result<sqlx::Transaction<'static, Any>, StoreError> {
        self.within(self.pool.begin()).await
    }
}

/// The statements that each connection begins with.
fn setup(is_sqlite: bool, time_limit: Duration) -> String {
    let limit = time_limit.as_millis();
    if is_sqlite {
        // With the write-ahead log, readers and a writer do not wait for each other.
        format!(
            "PRAGMA busy_timeout = {limit}; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
             PRAGMA foreign_keys = ON"
        )
    } else {
        // PostgreSQL ends a query itself once this process has given it up.
        format!("SET statement_timeout = {limit}")
    }
}

/// Makes the file, if there is none, so that only its owner can read it. SQLite gives its other files the same mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    if let Ok(metadata) = fs::metadata(path) {
        // A group may have been given access on purpose.
        let is_private = metadata.permissions().mode() & 0o007 == 0;
        return if is_private { Ok(()) } else { Err(StoreError::Mode { path: path.into() }) };
    }
    let created =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    created.map(|_| ()).map_err(|error| StoreError::File { path: path.into(), error })
}

/// The migrations in `migrations`. An old one is never edited: a change is a new file.
fn migrator() -> Migrator {
    let files = [
        (1, "accounts", include_str!("../migrations/0001_accounts.sql")),
        (2, "limits", include_str!("../migrations/0002_limits.sql")),
    ];
    let migrations = files.map(|(version, description, sql)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into(), false)
    });
    Migrator { migrations: Vec::from(migrations).into(), ..Migrator::DEFAULT }
}

/// Reads a column.
fn get<'r, T>(row: &'r AnyRow, column: &str) -> Result<T, sqlx::Error>
where
    T: sqlx::Decode<'r, Any> + sqlx::Type<Any>,
{
    row.try_get(column)
}

#[cfg(test)]
pub(crate) mod tests;
