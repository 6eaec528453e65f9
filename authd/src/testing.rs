//! Databases for tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use core::time::Duration;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::store::{Options, Store};

#[path = "../tests/support/postgres.rs"]
#[allow(dead_code, reason = "the tests of the service use the rest")]
mod postgres;

use postgres::Postgres;

/// A database of one test, which ends with it.
pub(crate) struct Database {
    pub(crate) store: Store,
    _directory: Option<TempDir>,
}

pub(crate) fn options(url: &str) -> Options {
    Options { url: url.into(), connections: 4, time_limit: Duration::from_secs(10) }
}

/// A new SQLite database, and one of PostgreSQL where that is installed.
pub(crate) async fn databases() -> Vec<Database> {
    let mut all = vec![sqlite().await];
    match postgres_url("") {
        Some(url) => {
            let store = Store::open(&options(&url)).await.unwrap();
            all.push(Database { store, _directory: None });
        }
        None => eprintln!("PostgreSQL is not installed: the test is run with SQLite alone"),
    }
    all
}

pub(crate) async fn sqlite() -> Database {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("accounts.db").display());
    let store = Store::open(&options(&url)).await.unwrap();
    Database { store, _directory: Some(directory) }
}

/// Makes a new database with these options in the server of this test run, which is started when it is first needed and
/// ends with the process.
pub(crate) fn postgres_url(options: &str) -> Option<String> {
    static SERVER: Mutex<Option<Postgres>> = Mutex::new(None);
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if server.is_none() {
        *server = Postgres::start();
    }
    server.as_mut().map(|server| server.database_with(options))
}
