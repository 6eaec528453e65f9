//! The accounts.

use core::error::Error;
use std::collections::HashMap;

use smtp_auth::{
    Secret,
    sasl::{
        Answer, Authenticator, CheckPassword, CramSecret, CramSecretFor, Mechanism, PasswordAnswer,
        ScramHash, ScramKeys, ScramKeysFor,
    },
};

use crate::tls;

/// What the library shows for an account that does not exist, so that these look like it.
const ITERATIONS: u32 = 4096;

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
    scram: Vec<ScramKeys>,
}

impl Users {
    pub(crate) fn new<'a>(
        accounts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Box<dyn Error>> {
        let account = |(name, password): (&str, &str)| {
            let cram = CramSecret::from_password(password);
            let mut scram = Vec::new();
            for hash in Mechanism::COMPILED.iter().filter_map(|&name| ScramHash::of(name)) {
                let salt: [u8; 16] = tls::random()?;
                // A password that SCRAM cannot have is no reason to refuse the account.
                scram.extend(ScramKeys::from_password(hash, password, &salt, ITERATIONS));
            }
            Ok((name.to_owned(), Account { password: password.into(), cram, scram }))
        };
        Ok(Self {
            accounts: accounts.into_iter().map(account).collect::<Result<_, Box<dyn Error>>>()?,
            nobody: "no such account".into(),
        })
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

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let keys = self.accounts.get(ask.authcid()).map(|account| &account.scram);
        keys.and_then(|keys| keys.iter().find(|keys| keys.hash() == ask.hash())).cloned().into()
    }

    // `authorize` is left as it is: nobody acts as another.
}
