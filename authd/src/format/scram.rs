//! Names and SCRAM keys in the form of RFC 5803, which PostgreSQL has as well:
//! `name:SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`

use smtp_auth::{Secret, sasl::ScramKeys};

use super::{Account, LineError, Stored, Written, shown};
use crate::{
    credential::{Credential, CredentialError, Scheme},
    store::login_name,
};

pub(super) fn read(text: &str, separators: &[char]) -> Result<Account, LineError> {
    let (name, value) = text.split_once(separators).ok_or(LineError::Fields)?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() {
        return Err(LineError::Fields);
    }
    if value.is_empty() {
        return Err(LineError::NoPassword);
    }
    let scheme = value.split_once('$').map_or("?", |(scheme, _)| scheme);
    Ok(Account::new(name, true, stored(value, scheme)?))
}

/// Reads keys. The scheme is the one that the text names.
pub(super) fn stored(text: &str, scheme: &str) -> Result<Stored, LineError> {
    let named = Scheme::named(scheme).filter(|own| own.hash().is_some());
    let scheme = named.ok_or_else(|| CredentialError::Scheme(shown(scheme)))?;
    let keys: ScramKeys = text.parse().map_err(|_| CredentialError::Value(scheme))?;
    Ok(Stored::Credentials(vec![Credential::read(scheme, keys.to_text().expose())?]))
}

/// Writes the keys of the account's own password, one line for each scheme. `only` is the scheme of a reader
/// that has no other.
pub(super) fn write(
    account: &Account,
    separator: char,
    only: Option<Scheme>,
    written: &mut Written,
) {
    let name = &account.name;
    for alias in &account.aliases {
        written.lacks(alias, "the format has no aliases");
    }
    for password in &account.passwords {
        let login = login_name(name, &password.label);
        let lacking = match password {
            password if !password.label.is_empty() => "the format has no application passwords",
            _ if !account.is_enabled => "the account is disabled, which the format cannot say",
            password if password.expires.is_some() => {
                "the password expires, which the format cannot say"
            }
            _ if name.contains([separator, '\t'])
                || name.starts_with('#')
                || name.trim() != name =>
            {
                "the name contains a character that the format cannot have there"
            }
            _ => {
                for credential in password.stored.credentials() {
                    let scheme = credential.scheme();
                    if scheme.hash().is_some() && only.is_none_or(|only| only == scheme) {
                        let text = format!("{name}{separator}{}", credential.value().expose());
                        written.lines.push(Secret::new(text));
                    } else {
                        written.lacks(name, format!("{scheme}, which the format does not have"));
                    }
                }
                continue;
            }
        };
        written.lacks(&login, lacking);
    }
}
