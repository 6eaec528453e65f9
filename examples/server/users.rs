//! The accounts.

use std::{collections::HashMap, error::Error};

use smtp_auth_tokio::smtp_auth::{
    Answer, Authenticator, CheckPassword, Credentials, Mechanism, Secret,
    sasl::{
        CheckAnonymous, CheckExternal, CheckToken, CramSecret, CramSecretFor, ScramHash, ScramKeys,
        ScramKeysFor, TokenAnswer, prepare,
    },
};

use crate::log;

/// What the library shows for an account that does not exist, so that these look like it.
const ITERATIONS: u32 = 4096;

/// Tables of names with passwords, and of tokens with names. A server with accounts worth stealing
/// keeps hashes made for passwords (Argon2, say) instead, and then offers no CRAM-MD5, which needs
/// the password itself; and it asks the issuer of a token, or checks its signature, whether it is
/// good.
pub(crate) struct Users {
    accounts: HashMap<String, Account>,
    /// With the account of each.
    tokens: Vec<(Secret, String)>,
    /// What the password of an account that does not exist is compared with.
    nobody: Secret,
}

/// An account with a password.
struct Account {
    password: Secret,
    scram: Vec<ScramKeys>,
}

impl Users {
    pub(crate) fn new(
        passwords: &[(&str, &str)],
        tokens: &[(&str, &str)],
    ) -> Result<Self, Box<dyn Error>> {
        let account = |&(name, password): &(&str, &str)| {
            let mut scram = Vec::new();
            for hash in Mechanism::COMPILED.iter().filter_map(|&name| ScramHash::of(name)) {
                // A password that SCRAM cannot have is no reason to refuse the account.
                scram.extend(ScramKeys::generate(hash, password, ITERATIONS));
            }
            let name =
                prepare(name).ok_or_else(|| format!("no client can send the name {name:?}"))?;
            Ok((name.into_owned(), Account { password: password.into(), scram }))
        };
        let token = |&(name, token): &(&str, &str)| {
            // A token that no client can send is a mistake.
            Credentials::token(name, token)?;
            let name = prepare(name).ok_or("no client can send that name")?;
            Ok((token.into(), name.into_owned()))
        };
        Ok(Self {
            accounts: passwords.iter().map(account).collect::<Result<_, Box<dyn Error>>>()?,
            tokens: tokens.iter().map(token).collect::<Result<_, Box<dyn Error>>>()?,
            nobody: "no such account".into(),
        })
    }

    /// Whether somebody has the password or the token that the mechanism takes, if it takes one.
    pub(crate) fn can_use(&self, mechanism: Mechanism) -> bool {
        (!mechanism.takes_password() || !self.accounts.is_empty())
            && (!mechanism.takes_token() || !self.tokens.is_empty())
    }

    fn exists(&self, name: &str) -> bool {
        self.accounts.contains_key(name) || self.tokens.iter().any(|(_, owner)| owner == name)
    }
}

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        let account = self.accounts.get(ask.authcid());
        let expected = account.map_or(&self.nobody, |account| &account.password);
        // Both are looked at, whatever the other says.
        let equal = expected == ask.password();
        (account.is_some() & equal).into()
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        let account = self.accounts.get(ask.authcid());
        account.map(|account| CramSecret::from_password(account.password.expose())).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let Some(account) = self.accounts.get(ask.authcid()) else { return Answer::reject() };
        let keys = account.scram.iter().find(|keys| keys.hash() == ask.hash());
        keys.cloned().map_or_else(Answer::no_secret, Answer::accept)
    }

    fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        let mut found = None;
        // All are looked at, or the time would tell the place of the one that is right.
        for (token, owner) in &self.tokens {
            if token == ask.token() {
                found = Some(owner.clone());
            }
        }
        found.into()
    }

    fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        let name = ask.identity();
        self.exists(name).then(|| name.to_owned()).into()
    }

    /// A guest may come in, and send nothing.
    fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        // The configuration asks, too, as it is made.
        if let Some(trace) = ask.trace() {
            log("guest", format_args!("says {trace:?}"));
        }
        Answer::accept(())
    }

    // `authorize` is left as it is: nobody acts as another.
}
