//! Questions about all accounts at once.

use smtp_auth::Secret;
use sqlx::{Any, Transaction, any::AnyRow};

use super::{Store, StoreError, get};
use crate::credential::{Credential, Scheme};

/// An account in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccountRow {
    pub(crate) name: String,
    pub(crate) is_enabled: bool,
    pub(crate) created: i64,
    pub(crate) aliases: Vec<String>,
}

/// A password of an account, without its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PasswordRow {
    pub(crate) account: String,
    /// Empty for the account's own password.
    pub(crate) label: String,
    pub(crate) created: i64,
    pub(crate) expires: Option<i64>,
    pub(crate) last_used: Option<i64>,
    /// The first is the one that PLAIN and LOGIN are checked with.
    pub(crate) schemes: Vec<Scheme>,
}

/// A credential, and the password that it belongs to.
#[derive(Debug)]
pub(crate) struct CredentialRow {
    pub(crate) account: String,
    pub(crate) label: String,
    pub(crate) credential: Credential,
}

/// How many passwords have a credential of that scheme and cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) scheme: Scheme,
    pub(crate) cost: String,
    pub(crate) passwords: u64,
    /// The same, of those that PLAIN and LOGIN are checked with.
    pub(crate) checks: u64,
}

/// All accounts at one moment, whatever other processes change meanwhile.
pub(crate) struct Snapshot {
    store: Store,
    transaction: Transaction<'static, Any>,
}

impl Snapshot {
    async fn rows(&mut self, select: &str) -> Result<Vec<AnyRow>, StoreError> {
        let rows = sqlx::query(select).fetch_all(&mut *self.transaction);
        self.store.within(rows).await
    }

    /// Returns all accounts with their aliases, by name.
    pub(crate) async fn accounts(&mut self) -> Result<Vec<AccountRow>, StoreError> {
        let select = "SELECT a.name, a.enabled, a.created, l.name AS alias FROM account a \
                      LEFT JOIN login l ON l.account = a.name AND l.label = '' AND l.name <> a.name \
                      ORDER BY a.name, l.name";
        let mut accounts: Vec<AccountRow> = Vec::new();
        for row in self.rows(select).await? {
            let name: String = get(&row, "name")?;
            if accounts.last().is_none_or(|last| last.name != name) {
                let is_enabled = get::<i64>(&row, "enabled")? != 0;
                let created = get(&row, "created")?;
                accounts.push(AccountRow { name, is_enabled, created, aliases: Vec::new() });
            }
            if let (Some(account), Some(alias)) = (accounts.last_mut(), get(&row, "alias")?) {
                account.aliases.push(alias);
            }
        }
        Ok(accounts)
    }

    /// Returns all passwords, by account and label.
    pub(crate) async fn passwords(&mut self) -> Result<Vec<PasswordRow>, StoreError> {
        let select = "SELECT p.account, p.label, p.created, p.expires, p.last_used, c.scheme FROM password p \
                      LEFT JOIN credential c ON c.account = p.account AND c.label = p.label \
                      ORDER BY p.account, p.label, c.checks DESC, c.scheme";
        let mut passwords: Vec<PasswordRow> = Vec::new();
        for row in self.rows(select).await? {
            let (account, label): (String, String) = (get(&row, "account")?, get(&row, "label")?);
            if passwords.last().is_none_or(|last| last.account != account || last.label != label) {
                let (expires, last_used) = (get(&row, "expires")?, get(&row, "last_used")?);
                passwords.push(PasswordRow {
                    account,
                    label,
                    created: get(&row, "created")?,
                    expires,
                    last_used,
                    schemes: Vec::new(),
                });
            }
            let scheme = get::<Option<String>>(&row, "scheme")?;
            if let (Some(password), Some(scheme)) = (passwords.last_mut(), scheme) {
                let known = Scheme::named(&scheme);
                password
                    .schemes
                    .push(known.ok_or_else(|| StoreError::Damaged(password.account.clone()))?);
            }
        }
        Ok(passwords)
    }

    /// Returns the credentials of each password, by account and label. PLAIN and LOGIN are checked with the first of a
    /// password.
    pub(crate) async fn credentials(&mut self) -> Result<Vec<CredentialRow>, StoreError> {
        let select = "SELECT account, label, scheme, value FROM credential ORDER BY account, label, checks DESC, scheme";
        let rows = self.rows(select).await?;
        let read = |row| {
            let (account, label): (String, String) = (get(row, "account")?, get(row, "label")?);
            let scheme: String = get(row, "scheme")?;
            let value = Secret::new(get::<String>(row, "value")?);
            let read =
                Scheme::named(&scheme).and_then(|own| Credential::read(own, value.expose()).ok());
            let credential = read.ok_or_else(|| StoreError::Damaged(account.clone()))?;
            Ok(CredentialRow { account, label, credential })
        };
        rows.iter().map(read).collect()
    }
}

impl Store {
    /// Begins to read all accounts.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let begin = match self.is_sqlite {
            true => "BEGIN",
            false => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        };
        let transaction = self.within(self.pool.begin_with(begin)).await?;
        Ok(Snapshot { store: self.clone(), transaction })
    }

    /// Returns how the credentials of all accounts are distributed, the cheapest first within a scheme. Disabled accounts
    /// count as well, because they still show their own keys.
    pub(crate) async fn costs(&self) -> Result<Vec<Cost>, StoreError> {
        let select = "SELECT scheme, cost, COUNT(*) AS passwords, CAST(SUM(checks) AS BIGINT) AS checks \
                      FROM credential GROUP BY scheme, cost";
        let mut costs = Vec::new();
        for row in self.within(sqlx::query(select).fetch_all(&self.pool)).await? {
            let (scheme, cost): (String, String) = (get(&row, "scheme")?, get(&row, "cost")?);
            let Some(scheme) = Scheme::named(&scheme) else { continue };
            let count = |count: i64| u64::try_from(count).unwrap_or(0);
            let (passwords, checks) = (count(get(&row, "passwords")?), count(get(&row, "checks")?));
            costs.push(Cost { scheme, cost, passwords, checks });
        }
        let order =
            |cost: &Cost| (cost.scheme, cost.cost.parse::<u64>().unwrap_or(0), cost.cost.clone());
        costs.sort_by_key(order);
        Ok(costs)
    }

    /// Returns how many passwords of enabled accounts lack a credential of that scheme.
    pub(crate) async fn count_without(&self, scheme: Scheme) -> Result<u64, StoreError> {
        let select = "SELECT COUNT(*) AS missing FROM password p JOIN account a ON a.name = p.account \
                      LEFT JOIN credential c ON c.account = p.account AND c.label = p.label AND c.scheme = $1 \
                      WHERE a.enabled = 1 AND c.scheme IS NULL";
        let select = sqlx::query(select).bind(scheme.name());
        let row = self.within(select.fetch_one(&self.pool)).await?;
        Ok(u64::try_from(get::<i64>(&row, "missing")?).unwrap_or(0))
    }
}
