//! Accounts from and for other servers.

use smtp_auth::{
    Secret,
    sasl::{CramSecret, ScramKeys},
};

use crate::{
    cli::Format,
    credential::{Credential, CredentialError, Scheme},
};

/// An account of a file.
#[derive(Debug)]
pub(crate) struct Imported {
    /// As the file has it.
    pub(crate) name: String,
    pub(crate) is_enabled: bool,
    pub(crate) kept: Kept,
}

/// What a file has of a password.
#[derive(Debug)]
pub(crate) enum Kept {
    Credential(Box<Credential>),
    /// The password itself.
    Password(Secret),
}

/// Why a line is not an account. No text contains a part of the line but for the name of a scheme.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("the line has no name, or no value after it")]
    Fields,
    #[error("the account has no password")]
    NoPassword,
    #[error("the extra field `{0}` restricts the account, and there is no such restriction here")]
    Restricted(&'static str),
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// Reads a line. `None` for an empty one and a comment.
pub(crate) fn line(format: Format, text: &str) -> Option<Result<Imported, LineError>> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() || text.starts_with('#') {
        return None;
    }
    Some(match format {
        Format::Dovecot => dovecot(text),
        Format::Rfc5803 => pair(text, &[':', '\t']),
        Format::Postgresql => pair(text, &['|', '\t']),
    })
}

/// `name:password:uid:gid:gecos:home:shell:extra fields`
fn dovecot(text: &str) -> Result<Imported, LineError> {
    let (name, rest) =
        text.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or(LineError::Fields)?;
    let password = rest.split(':').next().unwrap_or_default();
    let extra = text.splitn(8, ':').nth(7).unwrap_or_default();
    let mut is_enabled = true;
    for field in extra.split_ascii_whitespace() {
        let field = field.split('=').next().unwrap_or_default();
        if let Some(restriction) =
            ["allow_nets", "allow_real_nets"].into_iter().find(|own| *own == field)
        {
            return Err(LineError::Restricted(restriction));
        }
        is_enabled &= field != "nologin";
    }
    Ok(Imported { name: name.into(), is_enabled, kept: of_dovecot(password)? })
}

/// `{SCHEME}value`, or the form of `crypt(3)` without a scheme.
fn of_dovecot(text: &str) -> Result<Kept, LineError> {
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
        return Ok(Kept::Password(Secret::new(value)));
    }
    if scheme.starts_with("SCRAM-") {
        // With the encoding that the scheme may name.
        let keys: ScramKeys = text.parse().map_err(|_| CredentialError::Scheme(shown(&scheme)))?;
        return scram(&keys);
    }
    if is(&["CRAM-MD5", "HMAC-MD5"]) {
        let secret: CramSecret =
            text.parse().map_err(|_| CredentialError::Value(Scheme::CramMd5))?;
        return Ok(Kept::Credential(Box::new(Credential::CramMd5(secret))));
    }
    let own = match value {
        _ if is(&["ARGON2ID"]) => Scheme::Argon2id,
        _ if is(&["BLF-CRYPT"]) => Scheme::BlfCrypt,
        _ if is(&["SHA512-CRYPT"]) => Scheme::Sha512Crypt,
        value if is(&["CRYPT"]) && value.starts_with("$2") => Scheme::BlfCrypt,
        value if is(&["CRYPT"]) && value.starts_with("$6$") => Scheme::Sha512Crypt,
        _ => return Err(unknown().into()),
    };
    Ok(Kept::Credential(Box::new(Credential::read(own, value)?)))
}

/// A name and SCRAM keys in the form of RFC 5803.
fn pair(text: &str, separators: &[char]) -> Result<Imported, LineError> {
    let (name, value) = text.split_once(separators).ok_or(LineError::Fields)?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() {
        return Err(LineError::Fields);
    }
    if value.is_empty() {
        return Err(LineError::NoPassword);
    }
    let scheme = || {
        CredentialError::Scheme(
            value.split('$').next().filter(|_| value.contains('$')).map_or("?".into(), shown),
        )
    };
    let keys: ScramKeys = value.parse().map_err(|_| scheme())?;
    Ok(Imported { name: name.into(), is_enabled: true, kept: scram(&keys)? })
}

fn scram(keys: &ScramKeys) -> Result<Kept, LineError> {
    let scheme = Scheme::scram(keys.hash())
        .ok_or_else(|| CredentialError::Scheme(format!("{:?}", keys.hash())))?;
    Ok(Kept::Credential(Box::new(Credential::read(scheme, keys.to_text().expose())?)))
}

/// A scheme's name, if it looks like one: in its place there may be a part of a password.
fn shown(scheme: &str) -> String {
    let is_name = scheme.len() <= 20
        && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-.".contains(&octet));
    if is_name { scheme.into() } else { "?".into() }
}

/// Writes a line for an account's own password. `None` if the format has no form for it.
pub(crate) fn export(
    format: Format,
    name: &str,
    is_enabled: bool,
    credential: &Credential,
) -> Option<Secret> {
    let value = credential.value();
    let text = match (format, credential) {
        (Format::Dovecot, _) if name.contains(':') => return None,
        (Format::Dovecot, credential) => {
            let scheme = credential.scheme();
            let value = match credential {
                // `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`
                Credential::Scram(_) => value.expose().split_once('$')?.1.replace(['$', ':'], ","),
                Credential::CramMd5(_) => value.expose().split_once('}')?.1.into(),
                _ => value.expose().into(),
            };
            let extra = if is_enabled { "" } else { "nologin" };
            format!("{name}:{{{scheme}}}{value}::::::{extra}")
        }
        (_, Credential::Scram(_)) if is_enabled => {
            let separator = if format == Format::Postgresql { '|' } else { ':' };
            if name.contains(separator) {
                return None;
            }
            format!("{name}{separator}{}", value.expose())
        }
        _ => return None,
    };
    Some(Secret::new(text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    /// Written by `doveadm pw` of Dovecot 2.3, each of the password `tanstaaf`.
    const DOVECOT: [&str; 8] = [
        "{BLF-CRYPT}$2y$05$UEeCJ.3mVU0iwitK2olMFuUJ4s6ZUlIKHuQoQTYYgsrFb31FKV0n2",
        "{CRYPT}$2y$05$UEeCJ.3mVU0iwitK2olMFuUJ4s6ZUlIKHuQoQTYYgsrFb31FKV0n2",
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$sscZCxyqCqUWXS90bL9vrA$fv16qF/PP8JrNbYONPmBhmy0jlGrq+zViceHxM+iQiU",
        "{SCRAM-SHA-256}4096,KTREo3okbQ2HdEb3k244Qw==,qn9JXxcA/1jiULQe1u4X4jr8gkNlAXw4hUU0pjt3Z0s=,h7iotWEbtcamNN0b71Yq9aWVgbn4FcUX4ViSWiLognA=",
        "{SCRAM-SHA-1}4096,bnKbWSkoug9vV2fz00CkXw==,j45cYjQJL21xW8dhu4O4i9M1c64=,5frXxARvEb5Plf0049xhIL9G6Hk=",
        "{CRAM-MD5}bc85c9a3cb6b88ebf5a19a22a3604ef939585872c1ade1a2bf44087948a852f4",
        "{SHA512-CRYPT}$6$lVEnC5WrqF5xFdi1$XPwjA1nQepCzJ6EMhOlX0YPcSv4WryHPpbace8SSO54VOAqe4RpWYgQC.Ran8ALEw2wtSg8zmqCXpa3BmaIS50",
        "$6$lVEnC5WrqF5xFdi1$XPwjA1nQepCzJ6EMhOlX0YPcSv4WryHPpbace8SSO54VOAqe4RpWYgQC.Ran8ALEw2wtSg8zmqCXpa3BmaIS50",
    ];

    fn credential(imported: Imported) -> Credential {
        match imported.kept {
            Kept::Credential(credential) => *credential,
            Kept::Password(_) => panic!("a password"),
        }
    }

    #[test]
    fn dovecots_schemes_are_read_and_written_again() {
        for value in DOVECOT {
            let imported = line(
                Format::Dovecot,
                &format!("tim:{value}:1000:1000::/home/tim::userdb_mail=x\n"),
            )
            .unwrap()
            .unwrap();
            assert_eq!((&*imported.name, imported.is_enabled), ("tim", true));
            let own = credential(imported);
            assert!(own.check_password(&Secret::new("tanstaaf")), "{value}");
            assert!(!own.check_password(&Secret::new("wrong")), "{value}");
            let written = export(Format::Dovecot, "tim", false, &own).unwrap();
            let again = line(Format::Dovecot, written.expose()).unwrap().unwrap();
            assert!(!again.is_enabled, "{value}");
            assert_eq!(credential(again).value(), own.value(), "{value}");
        }
    }

    #[test]
    fn scram_keys_of_ldap_and_postgresql_are_read_and_written_again() {
        let keys = "SCRAM-SHA-256$4096:KTREo3okbQ2HdEb3k244Qw==$qn9JXxcA/1jiULQe1u4X4jr8gkNlAXw4hUU0pjt3Z0s=:h7iotWEbtcamNN0b71Yq9aWVgbn4FcUX4ViSWiLognA=";
        for (format, separator) in
            [(Format::Rfc5803, ':'), (Format::Postgresql, '|'), (Format::Postgresql, '\t')]
        {
            let own = credential(line(format, &format!("tim{separator}{keys}")).unwrap().unwrap());
            assert!(own.check_password(&Secret::new("tanstaaf")));
            let written = export(format, "tim", true, &own).unwrap();
            assert_eq!(
                credential(line(format, written.expose()).unwrap().unwrap()).value(),
                own.value()
            );
        }
    }

    #[test]
    fn what_cannot_be_imported_is_an_error_that_shows_no_password() {
        let cases = [
            (
                "tim:{SSHA256}nMoS3OZ/atFR5kh1SmtYKBcQ6QVrYnXyHSsO7cUn5p3hJAYa",
                "the scheme SSHA256 is not supported",
            ),
            ("tim:hunter2secret", "the scheme CRYPT is not supported"),
            ("tim:{hunter2 secret}x", "the scheme ? is not supported"),
            ("tim:{BLF-CRYPT}hunter2", "the value is not one of the scheme BLF-CRYPT"),
            ("tim:{PLAIN}hunter2::::::allow_nets=192.0.2.0/24", "the extra field `allow_nets`"),
            ("tim::", "the account has no password"),
            ("tim", "the line has no name"),
        ];
        for (text, expected) in cases {
            let error = line(Format::Dovecot, text).unwrap().unwrap_err().to_string();
            assert!(error.starts_with(expected) && !error.contains("hunter2"), "{error}");
        }
        let md5 = line(Format::Postgresql, "tim|md59f1b0e2ad1c0e2f0a9a6a1e0a2b5c3d4")
            .unwrap()
            .unwrap_err();
        assert_eq!(md5.to_string(), "the scheme ? is not supported");
        assert!(
            line(Format::Dovecot, "# a comment").is_none()
                && line(Format::Dovecot, " \n").is_none()
        );
    }

    #[test]
    fn passwords_in_the_clear_are_taken_to_be_hashed() {
        let imported = line(Format::Dovecot, "tim:{PLAIN}tanstaaf").unwrap().unwrap();
        assert!(matches!(imported.kept, Kept::Password(password) if password == *"tanstaaf"));
    }
}
