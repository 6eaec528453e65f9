//! Dovecot's passwd-file: `name:{SCHEME}value:uid:gid:gecos:home:shell:extra fields`
//!
//! A name has one line with one password. The extra field `user=NAME` is Dovecot's own for the name that the client is
//! authenticated as. It marks aliases, whose password is that of the account, and names of application passwords.

use smtp_auth::{Secret, sasl::CramSecret};

use super::{Account, Line, LineError, Password, Stored, Written, scram, shown};
use crate::{
    credential::{Credential, CredentialError, Scheme},
    store::login_name,
};

/// Dovecot's extra fields that an error names. Any other field may be a part of a password.
const KNOWN: [&str; 14] = [
    "allow_nets",
    "allow_real_nets",
    "destuser",
    "fail",
    "host",
    "k5principals",
    "login_user",
    "master",
    "noauthenticate",
    "nopassword",
    "original_user",
    "pass",
    "proxy",
    "proxy_maybe",
];

/// The fields between the password and the extra fields. They concern only the mailbox.
const MAILBOX: [&str; 5] = ["uid", "gid", "gecos", "home", "shell"];

pub(super) fn read(text: &str) -> Result<Line, LineError> {
    let (name, rest) =
        text.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or(LineError::Fields)?;
    let password = rest.split(':').next().unwrap_or_default();
    let extra = text.splitn(8, ':').nth(7).unwrap_or_default();
    let (mut is_enabled, mut of) = (true, None);
    let mailbox = MAILBOX.into_iter().zip(text.split(':').skip(2));
    let mut left_out: Vec<_> =
        mailbox.filter(|(_, value)| !value.is_empty()).map(|(field, _)| field).collect();
    for field in extra.split_ascii_whitespace() {
        let (field, value) = field.split_once('=').unwrap_or((field, ""));
        match field {
            "nologin" => is_enabled = false,
            "user" => of = Some(value.into()),
            // It concerns only the time of an answer.
            "nodelay" => left_out.push("nodelay"),
            // It concerns only the mailbox.
            field if field.starts_with("userdb_") => left_out.push("userdb_…"),
            field => {
                let known = KNOWN.into_iter().find(|known| *known == field);
                return Err(LineError::ExtraField(known.unwrap_or("?")));
            }
        }
    }
    let account = Account::new(name, is_enabled, stored(password)?);
    Ok(Line { account, of, left_out })
}

/// `{SCHEME}value`, or the form of `crypt(3)` without a scheme.
fn stored(text: &str) -> Result<Stored, LineError> {
    if text.is_empty() {
        return Err(LineError::NoPassword);
    }
    let (scheme, value) = match text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        Some((scheme, value)) => (scheme.to_ascii_uppercase(), value),
        None => ("CRYPT".into(), text),
    };
    let unknown = || CredentialError::Scheme(shown(&scheme));
    let is = |names: &[&str]| names.contains(&&*scheme);
    if is(&["PLAIN", "CLEARTEXT", "CLEAR"]) {
        return match value {
            "" => Err(LineError::NoPassword),
            _ => Ok(Stored::PlainText(Secret::new(value))),
        };
    }
    if scheme.starts_with("SCRAM-") {
        // An encoding may follow the scheme's name, as in `SCRAM-SHA-256.B64`.
        return scram::stored(text, scheme.split('.').next().unwrap_or_default());
    }
    if is(&["CRAM-MD5", "HMAC-MD5"]) {
        let secret: CramSecret =
            text.parse().map_err(|_| CredentialError::Value(Scheme::CramMd5))?;
        return Ok(Stored::Credentials(vec![Credential::CramMd5(secret)]));
    }
    let own = match value {
        _ if is(&["ARGON2ID"]) => Scheme::Argon2id,
        _ if is(&["BLF-CRYPT"]) => Scheme::BlfCrypt,
        _ if is(&["SHA512-CRYPT"]) => Scheme::Sha512Crypt,
        value if is(&["CRYPT"]) && value.starts_with("$2") => Scheme::BlfCrypt,
        value if is(&["CRYPT"]) && value.starts_with("$6$") => Scheme::Sha512Crypt,
        _ if is(&["CRYPT"]) => return Err(LineError::Crypt),
        _ => return Err(unknown().into()),
    };
    Ok(Stored::Credentials(vec![Credential::read(own, value)?]))
}

pub(super) fn write(account: &Account, written: &mut Written) {
    let own = account.passwords.first().map(|own| line(account, own, &account.name));
    let is_written = own.is_some_and(|own| own.is_ok());
    for password in &account.passwords {
        let login = login_name(&account.name, &password.label);
        let aliases: &[String] = if password.label.is_empty() { &account.aliases } else { &[] };
        for name in [&login].into_iter().chain(aliases) {
            match line(account, password, name) {
                Ok(_) if !is_written => written.lacks(name, "its account is left out"),
                Ok(line) => written.lines.push(line),
                Err(why) => written.lacks(name, why),
            }
        }
        for further in password.stored.credentials().iter().skip(1) {
            let why = format!("{}, as a name has one scheme in a passwd-file", further.scheme());
            written.lacks(&login, why);
        }
    }
}

fn line(account: &Account, password: &Password, name: &str) -> Result<Secret, &'static str> {
    if password.expires.is_some() {
        return Err("the password expires, which no field of a passwd-file says");
    }
    let is_other = name != account.name;
    if name.contains(':') || name.starts_with('#') || (is_other && account.name.contains(' ')) {
        return Err("the name contains a character that a passwd-file cannot have there");
    }
    let credential =
        password.stored.credentials().first().ok_or("the password has no credentials")?;
    let value = value(credential).ok_or("the password has no credentials")?;
    let user = if is_other { format!("user={}", account.name) } else { String::new() };
    let nologin = if account.is_enabled { "" } else { "nologin" };
    let extra = [&*user, nologin].join(" ");
    let (scheme, value) = (credential.scheme(), value.expose());
    Ok(Secret::new(format!("{name}:{{{scheme}}}{value}::::::{}", extra.trim())))
}

fn value(credential: &Credential) -> Option<Secret> {
    let value = credential.value();
    Some(match credential {
        // `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`
        Credential::Scram(_) => {
            Secret::new(value.expose().split_once('$')?.1.replace(['$', ':'], ","))
        }
        Credential::CramMd5(_) => Secret::new(value.expose().split_once('}')?.1),
        _ => value,
    })
}
