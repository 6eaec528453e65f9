//! Accounts and their passwords, one at a time.

use smtp_auth::Secret;
use sqlx::{Any, Transaction};

use super::{Store, StoreError, get};
use crate::credential::{Credential, Scheme};

/// The account and the password that a client's name belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The account, of which the client's name may be an alias.
    pub(crate) account: String,
    /// The application password that the name belongs to; empty for the account's own password.
    pub(crate) label: String,
    pub(crate) is_enabled: bool,
    /// When the password expires, in seconds since 1970.
    pub(crate) expires: Option<i64>,
    pub(crate) last_used: Option<i64>,
    pub(crate) credentials: Vec<Credential>,
    /// The credential that PLAIN and LOGIN are checked with.
    pub(crate) checks: Option<Scheme>,
}

/// A password to be stored. Times are seconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct NewPassword {
    /// Empty for the account's own password.
    pub(crate) label: String,
    /// The first is the one that PLAIN and LOGIN are checked with.
    pub(crate) credentials: Vec<Credential>,
    pub(crate) created: i64,
    pub(crate) expires: Option<i64>,
    pub(crate) last_used: Option<i64>,
}

/// The name to authenticate with by an application password.
pub(crate) fn login_name(account: &str, label: &str) -> String {
    if label.is_empty() { account.into() } else { format!("{account}/{label}") }
}

impl Store {
    /// Looks a client's folded name up: an account, an alias, or an application password's name.
    ///
    /// If there is no such name, the query returns the name that would come next, or the first, which are both looked up in
    /// any case. The row is read like the right one. So the time of the query does not reveal which names exist.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Found>, StoreError> {
        // One row costs fewer switches between threads than one for each credential.
        let select = "SELECT l.name, l.account, l.label, a.enabled, p.expires, p.last_used, \
                      (SELECT string_agg(c.checks || ' ' || c.scheme || ' ' || c.value, '\n') FROM credential c \
                      WHERE c.account = l.account AND c.label = l.label) AS credentials \
                      FROM login l JOIN account a ON a.name = l.account \
                      JOIN password p ON p.account = l.account AND p.label = l.label \
                      WHERE l.name = (SELECT COALESCE(MAX(next), MAX(first)) FROM (SELECT \
                      (SELECT name FROM login WHERE name >= $1 ORDER BY name LIMIT 1) AS next, \
                      (SELECT MIN(name) FROM login) AS first) AS either)";
        let query = async {
            // A connection in constant use is not tested. After an error, the database may have been restarted, and the
            // pool tests the connection that it returns.
            if let Some(mut connection) = self.lent.take() {
                let row = sqlx::query(select).bind(name).fetch_optional(&mut *connection).await;
                if let Ok(row) = row {
                    self.lent.keep(connection);
                    return Ok(row);
                }
                self.lent.clear();
            }
            let mut connection = self.pool.acquire().await?;
            let row = sqlx::query(select).bind(name).fetch_optional(&mut *connection).await?;
            self.lent.keep(connection);
            Ok(row)
        };
        let Some(row) = &self.within(query).await? else { return Ok(None) };
        let is_it = get::<String>(row, "name")? == name;
        let stored = get::<Option<String>>(row, "credentials")?.map(Secret::new);
        let (mut credentials, mut checks) = (Vec::new(), None);
        for line in stored.iter().flat_map(|stored| stored.expose().lines()) {
            let mut parts = line.splitn(3, ' ');
            let (checked, scheme) = (parts.next() == Some("1"), parts.next().unwrap_or_default());
            let value = parts.next().unwrap_or_default();
            let read = Scheme::named(scheme).and_then(|own| Credential::read(own, value).ok());
            // An error would be the answer to a name that exists, and to no other.
            let Some(credential) = read else {
                let scheme = Scheme::named(scheme).map(Scheme::name);
                tracing::error!(scheme, "a stored credential cannot be read, and counts as none");
                continue;
            };
            if checked {
                checks = Some(credential.scheme());
            }
            credentials.push(credential);
        }
        let found = Found {
            account: get(row, "account")?,
            label: get(row, "label")?,
            is_enabled: get::<i64>(row, "enabled")? != 0,
            expires: get(row, "expires")?,
            last_used: get(row, "last_used")?,
            credentials,
            checks,
        };
        Ok(Some(found).filter(|_| is_it))
    }

    /// Makes an account with its passwords and aliases. Names are folded. Nothing is stored if one of the names is in
    /// use.
    pub(crate) async fn add_account(
        &self,
        name: &str,
        aliases: &[String],
        passwords: &[NewPassword],
        is_enabled: bool,
        created: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let insert = "INSERT INTO account (name, enabled, created) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
        let insert = sqlx::query(insert).bind(name).bind(i64::from(is_enabled)).bind(created);
        let inserted = self.within(insert.execute(&mut *transaction)).await?;
        if inserted.rows_affected() == 0 {
            return Err(StoreError::NameInUse(name.into()));
        }
        for password in passwords {
            self.put(&mut transaction, name, password).await?;
            let login = login_name(name, &password.label);
            self.add_login(&mut transaction, &login, name, &password.label).await?;
        }
        for alias in aliases {
            self.add_login(&mut transaction, alias, name, "").await?;
        }
        self.within(transaction.commit()).await
    }

    /// Stores a password, and deletes the credentials of the previous one of that label.
    pub(crate) async fn set_password(
        &self,
        account: &str,
        password: &NewPassword,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.exists(&mut transaction, account).await?;
        let is_new = self.put(&mut transaction, account, password).await?;
        if is_new {
            let name = login_name(account, &password.label);
            self.add_login(&mut transaction, &name, account, &password.label).await?;
        }
        self.within(transaction.commit()).await
    }

    /// Adds another name for the account's own password.
    pub(crate) async fn add_alias(&self, account: &str, alias: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.exists(&mut transaction, account).await?;
        self.add_login(&mut transaction, alias, account, "").await?;
        self.within(transaction.commit()).await
    }

    /// Removes an alias. Returns whether the account had it.
    pub(crate) async fn remove_alias(
        &self,
        account: &str,
        alias: &str,
    ) -> Result<bool, StoreError> {
        let delete =
            "DELETE FROM login WHERE name = $1 AND account = $2 AND label = '' AND name <> account";
        let delete = sqlx::query(delete).bind(alias).bind(account);
        Ok(self.within(delete.execute(&self.pool)).await?.rows_affected() > 0)
    }

    /// Removes an application password and its name. Returns whether the account had it.
    pub(crate) async fn remove_password(
        &self,
        account: &str,
        label: &str,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        for table in ["login", "credential"] {
            let delete =
                format!("DELETE FROM {table} WHERE account = $1 AND label = $2 AND label <> ''");
            let delete = sqlx::query(&delete).bind(account).bind(label);
            self.within(delete.execute(&mut *transaction)).await?;
        }
        let delete = "DELETE FROM password WHERE account = $1 AND label = $2 AND label <> ''";
        let delete = sqlx::query(delete).bind(account).bind(label);
        let removed = self.within(delete.execute(&mut *transaction)).await?.rows_affected();
        self.within(transaction.commit()).await?;
        Ok(removed > 0)
    }

    /// Enables or disables the account, with all its names and passwords.
    pub(crate) async fn enable(&self, account: &str, is_enabled: bool) -> Result<(), StoreError> {
        let update = "UPDATE account SET enabled = $1 WHERE name = $2";
        let update = sqlx::query(update).bind(i64::from(is_enabled)).bind(account);
        match self.within(update.execute(&self.pool)).await?.rows_affected() {
            0 => Err(StoreError::NoAccount(account.into())),
            _ => Ok(()),
        }
    }

    /// Notes when the password was last used.
    pub(crate) async fn note_use(
        &self,
        account: &str,
        label: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        let update = "UPDATE password SET last_used = $1 WHERE account = $2 AND label = $3";
        let update = sqlx::query(update).bind(now).bind(account).bind(label);
        self.within(update.execute(&self.pool)).await.map(|_| ())
    }

    /// Fails if there is no such account.
    ///
    /// The statement is a write, although it changes nothing. In a transaction that has begun with a read, SQLite does
    /// not wait for another process that writes: the first write fails at once.
    async fn exists(
        &self,
        transaction: &mut Transaction<'_, Any>,
        account: &str,
    ) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE account SET enabled = enabled WHERE name = $1");
        let update = update.bind(account).execute(&mut **transaction);
        match self.within(update).await?.rows_affected() {
            0 => Err(StoreError::NoAccount(account.into())),
            _ => Ok(()),
        }
    }

    async fn add_login(
        &self,
        transaction: &mut Transaction<'_, Any>,
        name: &str,
        account: &str,
        label: &str,
    ) -> Result<(), StoreError> {
        let insert = "INSERT INTO login (name, account, label) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
        let insert = sqlx::query(insert).bind(name).bind(account).bind(label);
        match self.within(insert.execute(&mut **transaction)).await?.rows_affected() {
            0 => Err(StoreError::NameInUse(name.into())),
            _ => Ok(()),
        }
    }

    /// Replaces a password with all of its credentials. Returns whether the account had none of that label.
    async fn put(
        &self,
        transaction: &mut Transaction<'_, Any>,
        account: &str,
        password: &NewPassword,
    ) -> Result<bool, StoreError> {
        let NewPassword { label, credentials, created, expires, last_used } = password;
        let update = "UPDATE password SET created = $1, expires = $2, last_used = $3 WHERE account = $4 AND label = $5";
        let insert = "INSERT INTO password (created, expires, last_used, account, label) VALUES ($1, $2, $3, $4, $5)";
        let [update, insert] = [update, insert].map(|sql| {
            sqlx::query(sql)
                .bind(*created)
                .bind(*expires)
                .bind(*last_used)
                .bind(account)
                .bind(label)
        });
        let is_new = self.within(update.execute(&mut **transaction)).await?.rows_affected() == 0;
        if is_new {
            self.within(insert.execute(&mut **transaction)).await?;
        }
        let delete = sqlx::query("DELETE FROM credential WHERE account = $1 AND label = $2")
            .bind(account)
            .bind(label);
        self.within(delete.execute(&mut **transaction)).await?;
        for (at, credential) in credentials.iter().enumerate() {
            let insert = "INSERT INTO credential (account, label, scheme, value, cost, checks) VALUES ($1, $2, $3, $4, $5, $6)";
            let value = credential.value();
            let insert = sqlx::query(insert)
                .bind(account)
                .bind(label)
                .bind(credential.scheme().name())
                .bind(value.expose())
                .bind(credential.cost())
                .bind(i64::from(at == 0));
            self.within(insert.execute(&mut **transaction)).await?;
        }
        Ok(is_new)
    }
}
