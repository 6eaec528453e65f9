//! Whole accounts, one in each line.

use std::collections::HashSet;

use serde::{Deserialize, Serialize, Serializer};
use smtp_auth::Secret;

use super::{Account, LineError, Password, Stored};
use crate::credential::{Credential, CredentialError, Scheme};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountLine {
    account: String,
    enabled: bool,
    created: Option<i64>,
    #[serde(default)]
    aliases: Vec<String>,
    password: PasswordPart,
    /// The application passwords.
    #[serde(default)]
    applications: Vec<ApplicationPart>,
}

/// Times are seconds since 1970.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordPart {
    created: Option<i64>,
    expires: Option<i64>,
    last_used: Option<i64>,
    credentials: Vec<CredentialPart>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplicationPart {
    label: String,
    password: PasswordPart,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialPart {
    scheme: String,
    #[serde(serialize_with = "expose")]
    value: Secret,
}

fn expose<S: Serializer>(value: &Secret, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(value.expose())
}

pub(super) fn read(text: &str) -> Result<Account, LineError> {
    // The error's own text may contain a part of the line.
    let line: AccountLine =
        serde_json::from_str(text).map_err(|error| LineError::Json(error.column()))?;
    let mut passwords = vec![password(String::new(), line.password)?];
    for application in line.applications {
        passwords.push(password(application.label, application.password)?);
    }
    let AccountLine { account: name, enabled: is_enabled, created, aliases, .. } = line;
    Ok(Account { name, is_enabled, created, aliases, passwords })
}

fn password(label: String, part: PasswordPart) -> Result<Password, LineError> {
    let PasswordPart { created, expires, last_used, credentials } = part;
    let read = |part: CredentialPart| {
        let scheme = Scheme::named(&part.scheme)
            .ok_or_else(|| CredentialError::Scheme(super::shown(&part.scheme)))?;
        Credential::read(scheme, part.value.expose())
    };
    let credentials: Vec<_> = credentials.into_iter().map(read).collect::<Result<_, _>>()?;
    if credentials.is_empty() {
        return Err(LineError::NoPassword);
    }
    let mut schemes = HashSet::new();
    let twice = credentials.iter().map(Credential::scheme).find(|scheme| !schemes.insert(*scheme));
    if let Some(scheme) = twice {
        return Err(LineError::SchemeTwice(scheme));
    }
    let (keys, others): (Vec<_>, Vec<_>) =
        schemes.into_iter().partition(|scheme| scheme.hash().is_some());
    let hashes = others.into_iter().filter(|scheme| *scheme != Scheme::CramMd5).count();
    if hashes + usize::from(!keys.is_empty()) > 1 {
        return Err(LineError::SeveralForms);
    }
    Ok(Password { label, created, expires, last_used, stored: Stored::Credentials(credentials) })
}

pub(super) fn write(account: &Account) -> Option<Secret> {
    let part = |password: &Password| PasswordPart {
        created: password.created,
        expires: password.expires,
        last_used: password.last_used,
        credentials: password.stored.credentials().iter().map(credential).collect(),
    };
    let (own, applications) = account.passwords.split_first()?;
    let line = AccountLine {
        account: account.name.clone(),
        enabled: account.is_enabled,
        created: account.created,
        aliases: account.aliases.clone(),
        password: part(own),
        applications: applications
            .iter()
            .map(|own| ApplicationPart { label: own.label.clone(), password: part(own) })
            .collect(),
    };
    serde_json::to_string(&line).ok().map(Secret::new)
}

fn credential(own: &Credential) -> CredentialPart {
    CredentialPart { scheme: own.scheme().name().into(), value: own.value() }
}
