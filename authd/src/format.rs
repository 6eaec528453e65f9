//! Files of accounts, from and for other servers and databases.

use std::collections::{HashMap, HashSet};

use smtp_auth::{Secret, sasl::FoldName};

use crate::{
    cli::Format,
    credential::{Credential, CredentialError, Scheme},
    store::login_name,
};

mod dovecot;
mod json;
mod scram;

/// The longest name, in octets.
pub(crate) const MAX_NAME: usize = 256;

/// An account with all of its passwords.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) is_enabled: bool,
    /// In seconds since 1970, if the format says so.
    pub(crate) created: Option<i64>,
    pub(crate) aliases: Vec<String>,
    /// The account's own password is the first.
    pub(crate) passwords: Vec<Password>,
}

/// A password of an account. Times are seconds since 1970.
#[derive(Debug)]
pub(crate) struct Password {
    /// Empty for the account's own password.
    pub(crate) label: String,
    pub(crate) created: Option<i64>,
    pub(crate) expires: Option<i64>,
    pub(crate) last_used: Option<i64>,
    pub(crate) stored: Stored,
}

/// A password, as a file contains it.
#[derive(Debug)]
pub(crate) enum Stored {
    /// The first is the one that PLAIN and LOGIN are checked with.
    Credentials(Vec<Credential>),
    /// The password itself.
    PlainText(Secret),
}

/// A line of a file.
#[derive(Debug)]
struct Line {
    account: Account,
    /// If the line is for another name of an account, that account. The name is an alias, or an application password's.
    of: Option<String>,
    /// The fields that have no equivalent, and do not restrict the account.
    left_out: Vec<&'static str>,
}

impl From<Account> for Line {
    fn from(account: Account) -> Self {
        Self { account, of: None, left_out: Vec::new() }
    }
}

/// Why a line cannot be imported. No text contains a part of the line but for the names of accounts and schemes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("the line is not UTF-8")]
    NotUtf8,
    #[error("the line has no name, or no value after it")]
    Fields,
    #[error("the account has no password")]
    NoPassword,
    #[error(
        "the extra field `{0}` has no equivalent here, and may restrict the account: remove the field to import the account without it"
    )]
    ExtraField(&'static str),
    #[error("the line is not one that `account export json` writes: see its column {0}")]
    Json(usize),
    #[error(
        "the name `{0}` is not allowed: it is empty, has more than {MAX_NAME} octets, or contains characters that SASLprep prohibits (RFC 4013)"
    )]
    Name(String),
    #[error(
        "an application password of `{0}` has a label that is empty, not folded or too long, or that contains a slash or a control character"
    )]
    Label(String),
    #[error("the name `{0}` is already in use, by an earlier line")]
    Twice(String),
    #[error("the line belongs to the account `{0}`, which no line that can be imported describes")]
    NoAccount(String),
    #[error(
        "the name is disabled, and the account `{0}` is not: all names of an account share its state"
    )]
    Disabled(String),
    #[error(
        "the name has another password than its account `{0}`, and is no name of an application password, such as `{0}/phone`"
    )]
    OtherPassword(String),
    #[error(
        "the scheme CRYPT is supported only for bcrypt (`$2…`) and SHA512-CRYPT (`$6$…`), and the value is neither"
    )]
    Crypt,
    #[error("the password has two values of the scheme {0}")]
    SchemeTwice(Scheme),
    #[error(
        "a password has several forms, and an attacker with a stolen database would attack the weakest: keep either its SCRAM keys or one hash"
    )]
    SeveralForms,
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// The accounts of a file, each with the numbers of all its lines, and the lines that cannot be imported.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) accounts: Vec<(Vec<usize>, Account)>,
    pub(crate) refused: Vec<(usize, LineError)>,
    /// The fields that are left out of each line, by its number.
    pub(crate) left_out: HashMap<usize, Vec<&'static str>>,
    /// The place in `accounts` of each name.
    names: HashMap<String, usize>,
}

/// Reads a whole file, as the line of an account may come after those of its aliases.
pub(crate) fn read(
    format: Format,
    lines: impl Iterator<Item = (usize, Result<Secret, LineError>)>,
    fold: FoldName,
) -> Contents {
    let (mut contents, mut later) = (Contents::default(), Vec::new());
    for (number, text) in lines {
        let read = text.map_or_else(|error| Some(Err(error)), |text| line(format, text.expose()));
        let read = match read {
            None => continue,
            Some(Err(error)) => Err(error),
            Some(Ok(Line { account, of, left_out })) => {
                if !left_out.is_empty() {
                    contents.left_out.insert(number, left_out);
                }
                match of {
                    None => contents.add(format, number, account, fold),
                    Some(of) => {
                        later.push((number, of, account));
                        continue;
                    }
                }
            }
        };
        contents.refused.extend(read.err().map(|error| (number, error)));
    }
    for (number, of, account) in later {
        let read = contents.add_name(format, number, &of, account, fold);
        contents.refused.extend(read.err().map(|error| (number, error)));
    }
    contents.refused.sort_by_key(|(number, _)| *number);
    contents
}

/// Reads a line. `None` for an empty one and a comment.
fn line(format: Format, text: &str) -> Option<Result<Line, LineError>> {
    // Some editors begin a file with a byte order mark.
    let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() || text.starts_with('#') {
        return None;
    }
    Some(match format {
        Format::Json => json::read(text).map(Line::from),
        Format::Dovecot => dovecot::read(text),
        Format::Rfc5803 => scram::read(text, &[':', '\t']).map(Line::from),
        Format::Postgresql => scram::read(text, &['|', '\t']).map(Line::from),
    })
}

/// The lines of an account, and the parts that the format has no room for: a name and the reason each.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) lines: Vec<Secret>,
    pub(crate) lacking: Vec<(String, String)>,
}

impl Written {
    fn lacks(&mut self, name: &str, why: impl Into<String>) {
        self.lacking.push((name.into(), why.into()));
    }
}

/// Writes an account, as far as the format can hold it.
pub(crate) fn write(format: Format, account: &Account) -> Written {
    let mut written = Written::default();
    match format {
        Format::Json => written.lines.extend(json::write(account)),
        Format::Dovecot => dovecot::write(account, &mut written),
        Format::Rfc5803 => scram::write(account, ':', None, &mut written),
        Format::Postgresql => scram::write(account, '|', Some(Scheme::ScramSha256), &mut written),
    }
    written
}

impl Account {
    /// An account with only its own password.
    fn new(name: &str, is_enabled: bool, stored: Stored) -> Self {
        let label = String::new();
        let own = Password { label, created: None, expires: None, last_used: None, stored };
        let (name, aliases, passwords) = (name.into(), Vec::new(), vec![own]);
        Self { name, is_enabled, created: None, aliases, passwords }
    }

    /// Returns all names to authenticate with.
    fn names(&self) -> Vec<String> {
        let passwords = self.passwords.iter().map(|own| login_name(&self.name, &own.label));
        passwords.chain(self.aliases.iter().cloned()).collect()
    }

    /// Folds the names.
    fn folded(mut self, fold: FoldName) -> Result<Self, LineError> {
        self.name = folded(&self.name, fold)?;
        for alias in &mut self.aliases {
            *alias = folded(alias, fold)?;
        }
        for password in self.passwords.iter().skip(1) {
            let login = login_name(&self.name, &password.label);
            if !is_label(&password.label) || folded(&login, fold)? != login {
                return Err(LineError::Label(self.name));
            }
        }
        Ok(self)
    }
}

impl Stored {
    /// Returns the credentials, of which a password in the clear has none.
    fn credentials(&self) -> &[Credential] {
        match self {
            Self::Credentials(credentials) => credentials,
            Self::PlainText(_) => &[],
        }
    }

    /// Returns whether both are made of the same password in the same way.
    fn is_same(&self, other: &Self) -> bool {
        let value = |own: &Credential| (own.scheme(), own.value());
        match (self, other) {
            (Self::PlainText(own), Self::PlainText(other)) => own == other,
            _ => {
                let both = (self.credentials().first(), other.credentials().first());
                matches!(both, (Some(own), Some(other)) if value(own) == value(other))
            }
        }
    }
}

impl Contents {
    fn add(
        &mut self,
        format: Format,
        number: usize,
        account: Account,
        fold: FoldName,
    ) -> Result<(), LineError> {
        let account = account.folded(fold)?;
        if let Some((lines, own)) =
            self.names.get(&account.name).and_then(|at| self.accounts.get_mut(*at))
        {
            // An attribute of LDAP may have several values, one for each scheme.
            if format != Format::Rfc5803 || !own.add_scheme(&account) {
                return Err(LineError::Twice(account.name));
            }
            lines.push(number);
            return Ok(());
        }
        let (names, mut seen) = (account.names(), HashSet::new());
        let twice = names.iter().find(|name| self.names.contains_key(*name) || !seen.insert(*name));
        if let Some(twice) = twice {
            return Err(LineError::Twice(twice.clone()));
        }
        self.names.extend(names.into_iter().map(|name| (name, self.accounts.len())));
        self.accounts.push((vec![number], account));
        Ok(())
    }

    /// Adds a name that belongs to the account `of`.
    fn add_name(
        &mut self,
        format: Format,
        number: usize,
        of: &str,
        name: Account,
        fold: FoldName,
    ) -> Result<(), LineError> {
        let (of, name) = (folded(of, fold)?, name.folded(fold)?);
        if of == name.name {
            return self.add(format, number, name, fold);
        }
        let at = self.names.get(&of).copied();
        let account = at.and_then(|at| self.accounts.get_mut(at));
        let (lines, account) =
            account.filter(|(_, account)| account.name == of).ok_or(LineError::NoAccount(of))?;
        let of = || account.name.clone();
        if self.names.contains_key(&name.name) {
            return Err(LineError::Twice(name.name));
        }
        if account.is_enabled && !name.is_enabled {
            return Err(LineError::Disabled(of()));
        }
        let (Some(own), Some(password)) =
            (account.passwords.first(), name.passwords.into_iter().next())
        else {
            return Err(LineError::NoPassword);
        };
        let label = name.name.strip_prefix(&account.name).and_then(|rest| rest.strip_prefix('/'));
        if own.stored.is_same(&password.stored) {
            account.aliases.push(name.name.clone());
        } else if let Some(label) = label.filter(|label| is_label(label)) {
            account.passwords.push(Password { label: label.into(), ..password });
        } else {
            return Err(LineError::OtherPassword(of()));
        }
        lines.push(number);
        self.names.extend(at.map(|at| (name.name, at)));
        Ok(())
    }
}

impl Account {
    /// Adds the credentials of the other account's own password. Returns whether their schemes are further ones.
    fn add_scheme(&mut self, other: &Self) -> bool {
        let further = other.passwords.first().map(|password| password.stored.credentials());
        let Some(Stored::Credentials(own)) = self.passwords.first_mut().map(|own| &mut own.stored)
        else {
            return false;
        };
        let further = further.unwrap_or_default();
        let is_new = |new: &Credential| own.iter().all(|own| own.scheme() != new.scheme());
        let is_further = further.iter().all(is_new);
        if is_further {
            own.extend_from_slice(further);
        }
        is_further
    }
}

/// Returns whether an application password may have this label.
pub(crate) fn is_label(label: &str) -> bool {
    !label.is_empty() && !label.contains('/') && !label.chars().any(char::is_control)
}

fn folded(name: &str, fold: FoldName) -> Result<String, LineError> {
    fold(name)
        .filter(|name| is_name(name))
        .map(String::from)
        .ok_or_else(|| LineError::Name(name.into()))
}

/// Returns whether a folded name may be stored. A longer one does not fit into a client's response.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

/// A scheme's name, if it looks like one: in its place there may be a part of a password.
fn shown(scheme: &str) -> String {
    let is_name = scheme.len() <= 20
        && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-.".contains(&octet));
    if is_name { scheme.into() } else { "?".into() }
}

#[cfg(test)]
mod tests;
