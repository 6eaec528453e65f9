//! Both databases answer alike. PostgreSQL is tested if `postgres` and `initdb` are installed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use super::*;
use crate::{
    credential::{Credential, Scheme},
    testing::{Database, databases, options, postgres_url},
};
use smtp_auth::{Secret, sasl::ScramHash};

pub(crate) fn password(text: &str) -> NewPassword {
    let keys = Credential::scram(ScramHash::Sha256, &Secret::new(text), 4096).unwrap();
    NewPassword { credentials: vec![keys], ..NewPassword::default() }
}

async fn each(test: impl AsyncFn(&Store)) {
    for Database { store, .. } in &databases().await {
        test(store).await;
    }
}

#[tokio::test]
async fn an_account_is_found_by_each_of_its_names() {
    each(async |store| {
        store
            .add_account("tim", &["tim@example.org".into()], &[password("one")], true, 1)
            .await
            .unwrap();
        store.add_alias("tim", "timothy").await.unwrap();
        let phone = NewPassword { label: "phone".into(), expires: Some(9), ..password("two") };
        store.set_password("tim", &phone).await.unwrap();
        for name in ["tim", "tim@example.org", "timothy"] {
            let found = store.find(name).await.unwrap().unwrap();
            assert_eq!(
                (&*found.account, &*found.label, found.is_enabled),
                ("tim", "", true),
                "{name}"
            );
            assert!(found.credentials[0].check_password(&Secret::new("one")), "{name}");
            assert_eq!(found.checks, Some(Scheme::ScramSha256));
        }
        let found = store.find("tim/phone").await.unwrap().unwrap();
        assert_eq!((&*found.account, &*found.label, found.expires), ("tim", "phone", Some(9)));
        assert!(found.credentials[0].check_password(&Secret::new("two")));
        for name in ["Tim", "", "a", "timo", "tim/", "zzz", "\u{10ffff}"] {
            assert!(store.find(name).await.unwrap().is_none(), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn processes_that_make_the_tables_of_a_file_at_once_all_succeed() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let path = directory.path().join(round.to_string());
        let options = Options {
            url: format!("sqlite:{}", path.display()).into(),
            connections: 1,
            time_limit: Duration::from_secs(5),
        };
        let open = || Store::open(&options);
        let opened = futures_util::future::join4(open(), open(), open(), open()).await;
        for store in <[_; 4]>::from(opened) {
            store.unwrap().close().await;
        }
    }
}

/// Otherwise a client could send a name that the database cannot read.
#[tokio::test]
async fn a_database_with_room_for_some_names_only_is_refused() {
    let latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    let Some(url) = postgres_url(latin) else {
        return eprintln!("PostgreSQL is not installed: the test is skipped");
    };
    let refused = Store::open(&options(&url)).await;
    assert!(matches!(refused, Err(StoreError::Encoding(own)) if own == "LATIN1"));
}

#[tokio::test]
async fn the_tables_of_an_older_version_are_brought_up_to_date_and_keep_the_accounts() {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite:{}", directory.path().join("accounts.db").display());
    for url in core::iter::once(sqlite).chain(postgres_url("")) {
        let older = Store::connect_later(&options(&url)).unwrap();
        let first = migrator().migrations[..1].to_vec();
        let first = Migrator { migrations: first.into(), ..Migrator::DEFAULT };
        first.run(&older.pool).await.unwrap();
        older.add_account("tim", &["t".into()], &[password("one")], true, 1).await.unwrap();
        let secret = older.secret("salt").await.unwrap();
        assert!(older.add_failures(&[(7, 120)], 1000).await.is_err(), "there is no such table");
        older.close().await;
        let store = Store::open(&options(&url)).await.unwrap();
        store.add_failures(&[(7, 120)], 1000).await.unwrap();
        let found = store.find("t").await.unwrap().unwrap();
        assert_eq!((&*found.account, found.is_enabled), ("tim", true));
        assert!(found.credentials[0].check_password(&Secret::new("one")));
        assert_eq!(store.secret("salt").await.unwrap(), secret);
    }
}

#[tokio::test]
async fn a_name_belongs_to_one_account() {
    each(async |store| {
        store.add_account("tim", &["t".into()], &[password("one")], true, 1).await.unwrap();
        for (name, aliases) in [("tim", vec![]), ("t", vec![]), ("ann", vec!["t".to_owned()])] {
            let refused = store.add_account(name, &aliases, &[password("x")], true, 1).await;
            assert!(matches!(refused, Err(StoreError::NameInUse(_))), "{name}: {refused:?}");
        }
        assert!(store.find("ann").await.unwrap().is_none(), "nothing is left of a refused account");
        assert!(matches!(store.add_alias("nobody", "n").await, Err(StoreError::NoAccount(_))));
        assert!(matches!(
            store.set_password("nobody", &password("x")).await,
            Err(StoreError::NoAccount(_))
        ));
    })
    .await;
}

#[tokio::test]
async fn passwords_are_replaced_whole_and_removed() {
    each(async |store| {
        let first = Credential::argon2id(&Secret::new("one")).unwrap();
        let first = NewPassword { credentials: vec![first], ..password("one") };
        store.add_account("tim", &[], &[first], true, 1).await.unwrap();
        store.note_use("tim", "", 7).await.unwrap();
        assert_eq!(store.find("tim").await.unwrap().unwrap().last_used, Some(7));
        store.set_password("tim", &password("two")).await.unwrap();
        let found = store.find("tim").await.unwrap().unwrap();
        assert_eq!(found.credentials.len(), 1);
        assert_eq!((found.credentials[0].scheme(), found.last_used), (Scheme::ScramSha256, None));
        let phone = NewPassword { label: "phone".into(), ..password("three") };
        store.set_password("tim", &phone).await.unwrap();
        assert!(store.remove_password("tim", "phone").await.unwrap());
        assert!(!store.remove_password("tim", "phone").await.unwrap());
        assert!(!store.remove_password("tim", "").await.unwrap(), "the own password stays");
        assert!(store.find("tim/phone").await.unwrap().is_none());
        store.enable("tim", false).await.unwrap();
        assert!(!store.find("tim").await.unwrap().unwrap().is_enabled);
        assert!(store.enable("nobody", false).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn accounts_are_listed_and_their_costs_counted() {
    each(async |store| {
        store
            .add_account("tim", &["t".into(), "ti".into()], &[password("one")], true, 1)
            .await
            .unwrap();
        let argon2 = Credential::argon2id(&Secret::new("one")).unwrap();
        let argon2 = NewPassword { credentials: vec![argon2], ..password("one") };
        store.add_account("ann", &[], &[argon2], true, 1).await.unwrap();
        store.add_account("off", &[], &[password("one")], false, 1).await.unwrap();
        let names = store.snapshot().await.unwrap().accounts().await.unwrap();
        let names: Vec<_> =
            names.iter().map(|row| (&*row.name, row.is_enabled, row.aliases.len())).collect();
        assert_eq!(names, [("ann", true, 0), ("off", false, 0), ("tim", true, 2)]);
        assert_eq!(store.snapshot().await.unwrap().passwords().await.unwrap().len(), 3);
        assert_eq!(store.count_without(Scheme::ScramSha256).await.unwrap(), 1);
        assert_eq!(store.count_without(Scheme::Argon2id).await.unwrap(), 1);
        let costs = store.costs().await.unwrap();
        assert_eq!(
            (costs.len(), costs[0].scheme, &*costs[0].cost, costs[0].checks),
            (2, Scheme::ScramSha256, "4096", 2),
            "a disabled account shows its own keys, so decoys have to be like them"
        );
        assert_eq!(store.snapshot().await.unwrap().credentials().await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_does_not_see_what_changes_after_its_first_look() {
    each(async |store| {
        store.add_account("tim", &[], &[password("one")], true, 1).await.unwrap();
        let mut snapshot = store.snapshot().await.unwrap();
        assert_eq!(snapshot.credentials().await.unwrap().len(), 1);
        store.add_account("ann", &[], &[password("two")], true, 2).await.unwrap();
        assert_eq!(snapshot.passwords().await.unwrap().len(), 1);
        assert_eq!(snapshot.accounts().await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn secrets_and_limits_are_shared() {
    each(async |store| {
        let one = store.secret("salt").await.unwrap();
        assert_eq!((store.secret("salt").await.unwrap(), one.len()), (one, 64));
        let all = (0, 0);
        for now in [1000, 1010] {
            store.add_failures(&[(-1, 60), (7, 120)], now).await.unwrap();
            store.add_known(&[(3, 4, 500)], now).await.unwrap();
        }
        let mut failures = store.failures_since(1010, all, 10, 1010).await.unwrap();
        failures.sort_unstable();
        assert_eq!(failures, [(-1, 1120), (7, 1240)]);
        assert_eq!(store.known_since(1010, 10).await.unwrap(), [(3, 4, 500)]);
        assert_eq!(store.failures_since(1011, all, 10, 1011).await.unwrap(), []);
        assert_eq!(store.known_since(1011, 10).await.unwrap(), []);
        store.add_known(&[(8, 1, 600), (8, 2, 700), (8, 3, 650)], 1020).await.unwrap();
        store.forget(1120, 501, 2).await.unwrap();
        assert_eq!(store.failures_since(0, all, 10, 1020).await.unwrap(), [(7, 1240)]);
        let mut known = store.known_since(0, 10).await.unwrap();
        known.sort_unstable();
        assert_eq!(known, [(8, 2, 700), (8, 3, 650)]);
    })
    .await;
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_an_error_within_the_bound() {
    let options = Options {
        url: "postgres:///x?host=/nowhere/at/all".into(),
        connections: 1,
        time_limit: Duration::from_millis(300),
    };
    let begin = std::time::Instant::now();
    let store = Store::connect_later(&options).unwrap();
    assert!(store.find("tim").await.is_err());
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(matches!(
        Store::connect_later(&Options { url: "mysql://".into(), ..options }),
        Err(StoreError::Scheme)
    ));
}

#[tokio::test]
async fn a_database_file_is_private_and_refused_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("accounts.db");
    let options = crate::testing::options(&format!("sqlite:{}", path.display()));
    Store::open(&options).await.unwrap().close().await;
    for entry in fs::read_dir(directory.path()).unwrap().flatten() {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(matches!(Store::connect_later(&options), Err(StoreError::Mode { .. })));
}

#[tokio::test]
async fn commands_wait_for_another_process_that_writes_to_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("accounts.db").display());
    let options = crate::testing::options(&url);
    let store = Store::open(&options).await.unwrap();
    let other = Store::open(&options).await.unwrap();
    store.add_account("tim", &[], &[password("one")], true, 1).await.unwrap();
    for command in 0..2 {
        let mut transaction = other.begin().await.unwrap();
        transaction.execute("UPDATE account SET created = created").await.unwrap();
        let ends = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            transaction.commit().await.unwrap();
        };
        let done = async {
            match command {
                0 => store.set_password("tim", &password("two")).await,
                _ => store.add_alias("tim", "t").await,
            }
        };
        let ((), done) = tokio::join!(ends, done);
        done.unwrap();
    }
    let found = store.find("t").await.unwrap().unwrap();
    assert!(found.is_enabled && found.credentials[0].check_password(&Secret::new("two")));
}

/// The name in the URL is encoded, and may have parameters after it.
#[tokio::test]
async fn a_sqlite_file_of_any_name_is_private() {
    let directory = tempfile::tempdir().unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for (place, (encoded, name)) in
        [("a.db", "a.db"), ("b%20b.db", "b b.db"), ("c%3fc.db", "c?c.db"), ("d d.db", "d d.db")]
            .into_iter()
            .enumerate()
    {
        let slashes = ["", "//"][place % 2];
        let url = format!("sqlite:{slashes}{}/{encoded}?mode=rwc", directory.path().display());
        let options = crate::testing::options(&url);
        let store = Store::open(&options).await.unwrap();
        store.add_account("tim", &[], &[password("one")], true, 1).await.unwrap();
        let path = directory.path().join(name);
        assert_eq!(mode(&path), 0o600, "{name}");
        for end in ["-wal", "-shm"] {
            assert_eq!(mode(&directory.path().join(format!("{name}{end}"))), 0o600, "{name}{end}");
        }
        store.close().await;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let refused = Store::connect_later(&options).map(|_| ());
        assert!(matches!(refused, Err(StoreError::Mode { .. })), "{name}: {refused:?}");
    }
    let files = fs::read_dir(directory.path()).unwrap().flatten();
    let files = files.filter(|file| file.path().extension().is_some_and(|end| end == "db"));
    assert_eq!(files.count(), 4, "no file of another name is made");
}
