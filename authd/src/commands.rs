//! The commands that manage accounts.

use core::time::Duration;
use std::{
    collections::HashMap,
    io::{self, BufWriter, Write, stdout},
    path::PathBuf,
};

use smtp_auth::Secret;
use time::UtcDateTime;

use crate::{
    cli::{Account, Password},
    clock::now_s,
    config::{Config, ConfigError},
    credential::Scheme,
    format::{MAX_NAME, is_label, is_name},
    passwords::{self, PasswordError},
    store::{NewPassword, Options, PasswordRow, Store, StoreError, login_name},
};

mod transfer;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    #[error("the file {} cannot be read: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error(
        "the name `{0}` is not allowed: it is empty, has more than {MAX_NAME} octets, or contains characters that SASLprep prohibits (RFC 4013)"
    )]
    Name(String),
    #[error(
        "the label of an application password is empty or too long, or contains a slash or a character that SASLprep prohibits (RFC 4013)"
    )]
    Label,
    #[error(
        "the account has no such alias or application password: `account list` shows those that exist"
    )]
    Nothing,
    #[error("{0} lines or accounts could not be imported: they are listed above, with the reasons")]
    NotImported(usize),
    #[error(
        "{0} names or credentials could not be exported: they are listed above, with the reasons. The format `json` has room for all"
    )]
    NotExported(usize),
}

/// The time limit of a command's query.
const PATIENCE: Duration = Duration::from_secs(120);

const DAY: i64 = 24 * 60 * 60;

/// Carries the command out.
pub(crate) async fn run(config: &Config, command: Account) -> Result<(), CommandError> {
    let database = config.database()?;
    // No mail server waits for the answer, and a list of all accounts may take long.
    let time_limit = database.time_limit.max(PATIENCE);
    let store = Store::open(&Options { time_limit, ..database }).await?;
    let fold = |name: &str| {
        (config.fold())(name)
            .filter(|name| is_name(name))
            .map(String::from)
            .ok_or_else(|| CommandError::Name(name.into()))
    };
    // The name to authenticate with is folded as a whole, and a character may become a slash by that.
    let label = |name: &str, app: &str| {
        let login = fold(&login_name(name, app)).map_err(|_| CommandError::Label)?;
        let label = login.strip_prefix(name).and_then(|rest| rest.strip_prefix('/'));
        let label = label.filter(|label| is_label(label));
        label.map(String::from).ok_or(CommandError::Label)
    };
    match command {
        Account::Add { name, aliases, disabled, password } => {
            let name = fold(&name)?;
            let aliases: Vec<_> =
                aliases.iter().map(|alias| fold(alias)).collect::<Result<_, _>>()?;
            let (new, shown) = make(config, "", &password)?;
            store.add_account(&name, &aliases, &[new], !disabled, now_s()).await?;
            show(shown)?;
        }
        Account::Passwd { name, app: Some(app), remove: true, .. } => {
            let name = fold(&name)?;
            if !store.remove_password(&name, &label(&name, &app)?).await? {
                return Err(CommandError::Nothing);
            }
        }
        Account::Passwd { name, app, password, .. } => {
            let (name, is_app) = (fold(&name)?, app.is_some());
            let label = app.map(|app| label(&name, &app)).transpose()?.unwrap_or_default();
            let (new, shown) = make(
                config,
                &label,
                &Password { generate: password.generate || is_app, ..password },
            )?;
            store.set_password(&name, &new).await?;
            if is_app {
                eprintln!("Authenticate as {}", login_name(&name, &label));
            }
            show(shown)?;
        }
        Account::Alias { name, alias, remove: false } => {
            store.add_alias(&fold(&name)?, &fold(&alias)?).await?
        }
        Account::Alias { name, alias, .. } => {
            if !store.remove_alias(&fold(&name)?, &fold(&alias)?).await? {
                return Err(CommandError::Nothing);
            }
        }
        Account::Disable { name } => store.enable(&fold(&name)?, false).await?,
        Account::Enable { name } => store.enable(&fold(&name)?, true).await?,
        Account::List { without_scram } => list(config, &store, without_scram).await?,
        Account::Import { format, file, dry_run } => {
            transfer::import(config, &store, format, &file, dry_run).await?
        }
        Account::Export { format } => transfer::export(&store, format).await?,
    }
    store.close().await;
    Ok(())
}

/// Makes a password to be stored, and returns it if it was generated.
fn make(
    config: &Config,
    label: &str,
    password: &Password,
) -> Result<(NewPassword, Option<Secret>), CommandError> {
    let (text, is_generated) = passwords::new(password.generate)?;
    let credentials = passwords::credentials(config, &text, password.cram_md5)?;
    let created = now_s();
    let expires = password.expires.map(|days| created + i64::from(days) * DAY);
    let new = NewPassword { label: label.into(), credentials, created, expires, last_used: None };
    Ok((new, Some(text).filter(|_| is_generated)))
}

/// Prints a generated password, which is kept nowhere.
fn show(password: Option<Secret>) -> io::Result<()> {
    match password {
        Some(password) => writeln!(stdout(), "{}", password.expose()),
        None => Ok(()),
    }
}

async fn list(config: &Config, store: &Store, without_scram: bool) -> Result<(), CommandError> {
    let mut passwords: HashMap<_, Vec<_>> = HashMap::new();
    let mut snapshot = store.snapshot().await?;
    for row in snapshot.passwords().await? {
        passwords.entry(row.account.clone()).or_default().push(row);
    }
    let mut out = BufWriter::new(stdout().lock());
    for account in snapshot.accounts().await? {
        let mut own = passwords.remove(&account.name).unwrap_or_default();
        own.retain(|row| !without_scram || (account.is_enabled && !has_scram(config, row)));
        if own.is_empty() && without_scram {
            continue;
        }
        let state = if account.is_enabled { "enabled" } else { "disabled" };
        writeln!(out, "{}\t{state}{}", account.name, list_of(" aliases=", &account.aliases))?;
        for row in own {
            let schemes: Vec<_> =
                row.schemes.iter().map(|scheme| scheme.name().to_owned()).collect();
            let label = if row.label.is_empty() { "(own password)" } else { &row.label };
            let (schemes, created) = (list_of(" ", &schemes), day(row.created));
            let [used, expires] =
                [row.last_used, row.expires].map(|time| time.map_or("never".into(), day));
            writeln!(
                out,
                "\t{label}{schemes} created={created} last-used={used} expires={expires}"
            )?;
        }
    }
    Ok(out.flush()?)
}

/// Returns whether there are keys for each SCRAM mechanism that the configuration names.
fn has_scram(config: &Config, row: &PasswordRow) -> bool {
    let schemes = config.hashes().into_iter().filter_map(Scheme::scram);
    schemes.into_iter().all(|scheme| row.schemes.contains(&scheme))
}

fn list_of(before: &str, all: &[String]) -> String {
    if all.is_empty() { String::new() } else { format!("{before}{}", all.join(",")) }
}

/// The day of a time in seconds since 1970, as YYYY-MM-DD in UTC.
fn day(time: i64) -> String {
    // An import accepts any number as a time.
    let day = UtcDateTime::from_unix_timestamp(time).map(UtcDateTime::date);
    day.map_or_else(|_| time.to_string(), |day| day.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_as_its_day() {
        for (time, expected) in [
            (1_709_164_800, "2024-02-29"),
            (1_735_689_599, "2024-12-31"),
            (i64::MAX, "9223372036854775807"),
        ] {
            assert_eq!(day(time), expected);
        }
    }
}
