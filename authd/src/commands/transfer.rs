//! `account import` and `account export`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::{BufRead, BufReader, BufWriter, Write, stdin, stdout},
    path::Path,
};

use smtp_auth::Secret;

use super::CommandError;
use crate::{
    cli::Format,
    clock::now_s,
    config::Config,
    format::{self, Account, LineError, Password, Stored},
    passwords,
    store::{NewPassword, Store, StoreError, login_name},
};

/// How many lines a note lists.
const LISTED: usize = 10;

pub(super) async fn import(
    config: &Config,
    store: &Store,
    format: Format,
    file: &Path,
    dry_run: bool,
) -> Result<(), CommandError> {
    let unreadable = |error| CommandError::File { path: file.into(), error };
    let input: Box<dyn BufRead> = match file.as_os_str() == "-" {
        true => Box::new(stdin().lock()),
        false => Box::new(BufReader::new(fs::File::open(file).map_err(unreadable)?)),
    };
    let text = |line| String::from_utf8(line).map(Secret::new).map_err(|_| LineError::NotUtf8);
    let lines: Vec<_> = input
        .split(b'\n')
        .map(|line| line.map(text))
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    let lines = lines.into_iter().enumerate().map(|(at, text)| (at + 1, text));
    let mut contents = format::read(format, lines, config.fold());
    let (mut imported, mut refused) = (0_usize, contents.refused.len());
    let mut left_out = BTreeMap::new();
    for (number, error) in contents.refused {
        eprintln!("line {number}: not imported: {error}");
    }
    for (lines, account) in contents.accounts {
        let name = account.name.clone();
        match add(config, store, account, dry_run).await {
            Ok(()) => {
                imported += 1;
                let of = lines.iter().filter_map(|number| contents.left_out.remove_entry(number));
                left_out.extend(of);
            }
            // The remaining accounts would fail as well.
            Err(error @ CommandError::Store(StoreError::Slow(_) | StoreError::Database(_))) => {
                return Err(error);
            }
            Err(error) => {
                refused += lines.len();
                for number in lines {
                    eprintln!("line {number}: not imported: {name}: {error}");
                }
            }
        }
    }
    note(&left_out);
    let done = if dry_run { "can be imported" } else { "have been imported" };
    eprintln!("{imported} accounts {done}");
    if refused > 0 { Err(CommandError::NotImported(refused)) } else { Ok(()) }
}

/// Names the fields that are left out, once for the whole file.
fn note(left_out: &BTreeMap<usize, Vec<&str>>) {
    let fields: BTreeSet<_> = left_out.values().flatten().copied().collect();
    if fields.is_empty() {
        return;
    }
    let fields = Vec::from_iter(fields).join(", ");
    let first: Vec<_> = left_out.keys().take(LISTED).map(usize::to_string).collect();
    let more = match left_out.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    eprintln!(
        "note: these fields have no equivalent here, and are left out: {fields} (lines: {}{more})",
        first.join(", ")
    );
}

async fn add(
    config: &Config,
    store: &Store,
    account: Account,
    dry_run: bool,
) -> Result<(), CommandError> {
    let Account { name, is_enabled, created, aliases, passwords } = account;
    let (now, mut new) = (now_s(), Vec::new());
    for Password { label, created, expires, last_used, stored } in passwords {
        let credentials = match stored {
            Stored::Credentials(credentials) => credentials,
            Stored::PlainText(password) => passwords::credentials(config, &password, false)?,
        };
        let created = created.unwrap_or(now);
        new.push(NewPassword { label, credentials, created, expires, last_used });
    }
    if !dry_run {
        let created = created.unwrap_or(now);
        return Ok(store.add_account(&name, &aliases, &new, is_enabled, created).await?);
    }
    let logins = new.iter().map(|password| login_name(&name, &password.label));
    for login in logins.chain(aliases) {
        if store.find(&login).await?.is_some() {
            return Err(StoreError::NameInUse(login).into());
        }
    }
    Ok(())
}

pub(super) async fn export(store: &Store, format: Format) -> Result<(), CommandError> {
    let mut out = BufWriter::new(stdout().lock());
    let mut refused = 0;
    for account in accounts(store).await? {
        let written = format::write(format, &account);
        for line in written.lines {
            writeln!(out, "{}", line.expose())?;
        }
        refused += written.lacking.len();
        for (name, why) in written.lacking {
            eprintln!("{name}: not exported: {why}");
        }
    }
    out.flush()?;
    if refused > 0 { Err(CommandError::NotExported(refused)) } else { Ok(()) }
}

/// Returns all accounts with their credentials.
async fn accounts(store: &Store) -> Result<Vec<Account>, StoreError> {
    let mut credentials: HashMap<_, Vec<_>> = HashMap::new();
    let mut snapshot = store.snapshot().await?;
    for row in snapshot.credentials().await? {
        credentials.entry((row.account, row.label)).or_default().push(row.credential);
    }
    let mut passwords: HashMap<_, Vec<_>> = HashMap::new();
    // The account's own password is the first, as its label is empty.
    for row in snapshot.passwords().await? {
        let key = (row.account, row.label);
        let stored = Stored::Credentials(credentials.remove(&key).unwrap_or_default());
        let (account, label) = key;
        let (created, expires, last_used) = (Some(row.created), row.expires, row.last_used);
        let password = Password { label, created, expires, last_used, stored };
        passwords.entry(account).or_default().push(password);
    }
    let account = |row: crate::store::AccountRow| {
        let passwords = passwords.remove(&row.name).unwrap_or_default();
        let crate::store::AccountRow { name, is_enabled, created, aliases } = row;
        Account { name, is_enabled, created: Some(created), aliases, passwords }
    };
    Ok(snapshot.accounts().await?.into_iter().map(account).collect())
}
