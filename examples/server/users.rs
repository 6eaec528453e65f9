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

/// The iteration count that the library uses for accounts that do not exist. Real accounts use the same count, so that
/// the two look alike.
const ITERATIONS: u32 = 4096;

/// Passwords by account, and tokens with their accounts.
///
/// A real server should store password hashes, such as Argon2. It then cannot offer CRAM-MD5, which needs the password
/// itself. It should verify a token by asking its issuer or by checking its signature.
pub(crate) struct Users {
    accounts: HashMap<String, Account>,
    /// Each token with its account.
    tokens: Vec<(Secret, String)>,
    /// The password that is compared if the account does not exist.
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
                // A password that SCRAM cannot represent is still accepted.
                scram.extend(ScramKeys::generate(hash, password, ITERATIONS));
            }
            let name =
                prepare(name).ok_or_else(|| format!("no client can send the name {name:?}"))?;
            Ok((name.into_owned(), Account { password: password.into(), scram }))
        };
        let token = |&(name, token): &(&str, &str)| {
            // A token that no client can send is an error in the configuration.
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

    /// Returns whether any account has the credentials that the mechanism needs.
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
        // Both are always evaluated, to prevent a timing attack.
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
        // All tokens are compared, because the time would otherwise reveal the position of the right one.
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

    /// A guest may authenticate, but not send mail.
    fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        // The configuration also calls this when it is built.
        if let Some(trace) = ask.trace() {
            log("guest", format_args!("trace information: {trace:?}"));
        }
        Answer::accept(())
    }

    // `authorize` keeps its default: no account may act as another.
}
