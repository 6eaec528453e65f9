//! New passwords, and the credentials that are made of them.

use std::io::{self, IsTerminal, stdin};

use smtp_auth::{
    Secret,
    sasl::{CramSecret, ScramHash},
};

use crate::{
    config::{Config, Keep},
    credential::{Credential, MAX_PASSWORD},
    random,
};

/// The shortest password that is accepted, in characters.
const SHORTEST: usize = 8;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("the password cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("the two passwords differ: nothing was changed")]
    Differ,
    #[error(
        "the password has fewer than {SHORTEST} characters: choose a longer one, or let `--generate` make one"
    )]
    Short,
    #[error("the password has more than {MAX_PASSWORD} octets: choose a shorter one")]
    Long,
    #[error("the password contains a control character")]
    Control,
    #[error(
        "the password cannot be used: it contains characters that SCRAM does not allow (RFC 4013), or the operating system supplies no random numbers"
    )]
    Unusable,
}

/// Returns a new password, and whether it was generated and has to be shown.
pub(crate) fn new(generate: bool) -> Result<(Secret, bool), PasswordError> {
    if generate {
        let password = random::password().ok_or(PasswordError::Unusable)?;
        return Ok((Secret::new(password), true));
    }
    let password = if stdin().is_terminal() {
        let password = Secret::new(rpassword::prompt_password("New password: ")?);
        if Secret::new(rpassword::prompt_password("Once more: ")?) != password {
            return Err(PasswordError::Differ);
        }
        password
    } else {
        // With room for the longest password, so that the line does not move and leave a copy in freed memory.
        let mut line = String::with_capacity(MAX_PASSWORD + "\r\n".len());
        stdin().read_line(&mut line)?;
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Secret::new(line)
    };
    check(&password).map(|()| (password, false))
}

/// Other characters are the owner's choice.
fn check(password: &Secret) -> Result<(), PasswordError> {
    if password.expose().chars().any(char::is_control) {
        return Err(PasswordError::Control);
    }
    if password.expose().chars().count() < SHORTEST {
        return Err(PasswordError::Short);
    }
    is_short_enough(password)
}

fn is_short_enough(password: &Secret) -> Result<(), PasswordError> {
    if password.expose().len() > MAX_PASSWORD {
        return Err(PasswordError::Long);
    }
    Ok(())
}

/// Makes the credentials that the configuration asks for: SCRAM keys or an Argon2id hash. An account never has both,
/// because an attacker could choose the weaker one after a database breach. PLAIN and LOGIN are checked with the first.
/// CRAM-MD5 states are made only if `cram_md5` is set, as a stolen state is as good as the password.
pub(crate) fn credentials(
    config: &Config,
    password: &Secret,
    cram_md5: bool,
) -> Result<Vec<Credential>, PasswordError> {
    is_short_enough(password)?;
    let scram = |hash: ScramHash| Credential::scram(hash, password, config.accounts.iterations);
    let mut made: Vec<_> = match config.accounts.keep {
        Keep::Scram => config.hashes().into_iter().map(scram).collect(),
        Keep::Argon2id => vec![Credential::argon2id(password)],
    };
    if cram_md5 {
        made.push(Some(Credential::CramMd5(CramSecret::from_password(password.expose()))));
    }
    made.into_iter().collect::<Option<_>>().ok_or(PasswordError::Unusable)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;
    use crate::credential::Scheme;

    #[test]
    fn scram_keys_or_argon2id_are_kept_and_not_both() {
        let mut config = Config::default();
        let password = Secret::new("tanstaaftanstaaf");
        let schemes = |config: &Config, cram| {
            let made = credentials(config, &password, cram).unwrap();
            made.iter().map(Credential::scheme).collect::<Vec<_>>()
        };
        assert_eq!(schemes(&config, false), [Scheme::ScramSha256]);
        assert_eq!(credentials(&config, &password, false).unwrap()[0].cost(), "15000");
        assert_eq!(schemes(&config, true), [Scheme::ScramSha256, Scheme::CramMd5]);
        config.accounts.cram_md5 = true;
        assert_eq!(schemes(&config, false), [Scheme::ScramSha256], "the setting only offers");
        config.accounts.scram.push("SCRAM-SHA-1".into());
        assert_eq!(schemes(&config, false), [Scheme::ScramSha256, Scheme::ScramSha1]);
        config.accounts.keep = Keep::Argon2id;
        assert_eq!(schemes(&config, false), [Scheme::Argon2id]);
    }

    #[test]
    fn weak_passwords_are_refused() {
        let long = Secret::new("x".repeat(MAX_PASSWORD + 1));
        assert!(matches!(check(&long), Err(PasswordError::Long)));
        let made = credentials(&Config::default(), &long, false);
        assert!(matches!(made, Err(PasswordError::Long)));
        assert!(matches!(check(&Secret::new("short")), Err(PasswordError::Short)));
        assert!(matches!(check(&Secret::new("long enough\u{7}")), Err(PasswordError::Control)));
        assert!(check(&Secret::new("pässwört")).is_ok());
    }
}
