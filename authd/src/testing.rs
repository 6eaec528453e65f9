//! Databases for tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use core::time::Duration;
use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use tempfile::TempDir;

use crate::store::{Options, Store};

/// A database of one test, which ends with it.
pub(crate) struct Database {
    pub(crate) store: Store,
    pub(crate) url: String,
    _directory: Option<TempDir>,
}

pub(crate) fn options(url: &str) -> Options {
    Options { url: url.into(), connections: 4, time_limit: Duration::from_secs(10) }
}

/// A new SQLite database, and one of PostgreSQL where that is installed.
pub(crate) async fn databases() -> Vec<Database> {
    let mut all = vec![sqlite().await];
    match postgres_url() {
        Some(url) => {
            let store = Store::open(&options(&url)).await.unwrap();
            all.push(Database { store, url, _directory: None });
        }
        None => eprintln!("PostgreSQL is not installed: the test is run with SQLite alone"),
    }
    all
}

pub(crate) async fn sqlite() -> Database {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("accounts.db").display());
    let store = Store::open(&options(&url)).await.unwrap();
    Database { store, url, _directory: Some(directory) }
}

/// Makes a new database in the server of this test run, which is started when it is first needed.
fn postgres_url() -> Option<String> {
    static SERVER: Mutex<(u32, Option<TempDir>)> = Mutex::new((0, None));
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if server.1.is_none() {
        server.1 = start_postgres();
    }
    server.0 += 1;
    let socket = server.1.as_ref()?.path().display().to_string();
    let name = format!("test{}", server.0);
    let sql = format!("CREATE DATABASE {name}");
    let made = Command::new("psql")
        .args(["-h", &socket, "-U", "tests", "-d", "postgres", "-qc", &sql])
        .status()
        .unwrap();
    assert!(made.success());
    Some(format!("postgres://tests@localhost/{name}?host={socket}"))
}

/// The server and its files go when the tests' process ends.
fn start_postgres() -> Option<TempDir> {
    let bin = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().next()?.path().join("bin");
    let directory = tempfile::Builder::new().prefix("authd").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (bin, path, parent) = (bin.display(), directory.path().display(), std::process::id());
    // PostgreSQL refuses to run as root.
    let is_root = rustix::process::getuid().is_root();
    let user =
        if is_root { "setpriv --reuid=postgres --regid=postgres --clear-groups" } else { "" };
    let run = |script: String| {
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    let made = run(format!("{user} {bin}/initdb -D {path}/data -U tests -A trust --no-sync"))
        .status()
        .ok()?;
    assert!(made.success(), "initdb has failed");
    run(format!(
        "{user} {bin}/postgres -D {path}/data -k {path} -c listen_addresses='' -c fsync=off -c max_connections=200 & \
         while [ -d /proc/{parent} ]; do sleep 0.3; done; kill -QUIT $!; wait; rm -rf {path}"
    ))
    .spawn()
    .ok()?;
    let socket = directory.path().join(".s.PGSQL.5432");
    for _ in 0..100 {
        if Path::new(&socket).exists() {
            return Some(directory);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("PostgreSQL has not started");
}
