//! The accounts.

use std::collections::HashMap;

use smtp_auth::{
    Secret,
    sasl::{Answer, Authenticator, CheckPassword, CramSecret, CramSecretFor, PasswordAnswer},
};

/// A table of names and passwords. A server with accounts worth stealing keeps hashes made for
/// passwords (Argon2, say) instead, and then offers no CRAM-MD5, which needs the password itself.
pub(crate) struct Users {
    accounts: HashMap<String, Account>,
    /// What the password of an account that does not exist is compared with.
    nobody: Secret,
}

struct Account {
    password: Secret,
    cram: CramSecret,
}

impl Users {
    pub(crate) fn new<'a>(accounts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let account = |(name, password): (&str, &str)| {
            let cram = CramSecret::from_password(password);
            (name.to_owned(), Account { password: password.into(), cram })
        };
        Self {
            accounts: accounts.into_iter().map(account).collect(),
            nobody: "no such account".into(),
        }
    }
}

impl Authenticator for Users {
    fn check_password(&self, ask: &CheckPassword) -> PasswordAnswer {
        let account = self.accounts.get(ask.authcid());
        let expected = account.map_or(&self.nobody, |account| &account.password);
        // Both are looked at, whatever the other says.
        let equal = expected == ask.password();
        (account.is_some() & equal).into()
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        self.accounts.get(ask.authcid()).map(|account| account.cram.clone()).into()
    }

    // `authorize` is left as it is: nobody acts as another.
}
