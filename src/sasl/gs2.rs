//! The header at the start of messages of SCRAM and OAUTHBEARER (RFC 5801 §4).

use alloc::{borrow::Cow, format, string::String};

use super::{Failure, check_name};

/// `gs2-cbind-flag = ("p=" cb-name) / "n" / "y"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag<'a> {
    /// The client does not support channel binding.
    No,
    /// The client supports channel binding, but saw no mechanism with channel binding in the server's list.
    NotSeen,
    /// The client binds to the channel with this type of binding.
    Bound(&'a str),
}

/// `gs2-header = gs2-cbind-flag "," [gs2-authzid] ","`
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) flag: Flag<'a>,
    pub(super) authzid: Option<String>,
    /// The header, as it was received.
    pub(super) text: &'a str,
    pub(super) rest: &'a str,
}

const MALFORMED: Failure = Failure::Malformed("the header before the message is malformed");

impl<'a> Header<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Failure> {
        let (flag, rest) = field(text).ok_or(MALFORMED)?;
        let (authzid, rest) = field(rest).ok_or(MALFORMED)?;
        let flag = match (flag, flag.strip_prefix("p=")) {
            ("n", _) => Flag::No,
            ("y", _) => Flag::NotSeen,
            (_, Some(name)) => Flag::Bound(name),
            _ => return Err(MALFORMED),
        };
        let authzid = match authzid {
            "" => None,
            _ => Some(saslname(authzid.strip_prefix("a=").ok_or(MALFORMED)?)?.into_owned()),
        };
        let (text, rest) = text.split_at(text.len() - rest.len());
        Ok(Self { flag, authzid, text, rest })
    }
}

/// Returns the text before the first comma, and the text after it.
pub(super) fn field(text: &str) -> Option<(&str, &str)> {
    match last_or_field(text) {
        (field, Some(rest)) => Some((field, rest)),
        (_, None) => None,
    }
}

/// Like [`field`], but for a field that may be the last one, without a comma after it.
pub(super) fn last_or_field(text: &str) -> (&str, Option<&str>) {
    match memchr::memchr(b',', text.as_bytes()) {
        Some(comma) => (text.get(..comma).unwrap_or_default(), text.get(comma + 1..)),
        None => (text, None),
    }
}

pub(super) fn write(flag: Flag<'_>, authzid: Option<&str>) -> String {
    let (flag, name) = match flag {
        Flag::No => ("n", ""),
        Flag::NotSeen => ("y", ""),
        Flag::Bound(name) => ("p=", name),
    };
    let authzid = authzid.map(|authzid| format!("a={}", escape(authzid)));
    format!("{flag}{name},{},", authzid.unwrap_or_default())
}

/// `saslname = 1*(value-safe-char / "=2C" / "=3D")`
pub(super) fn saslname(text: &str) -> Result<Cow<'_, str>, Failure> {
    let name =
        unescape(text).ok_or(Failure::Malformed("a name is empty or has an invalid escape"))?;
    check_name(&name)?;
    Ok(name)
}

pub(super) fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// Decodes the escapes. Returns `None` if a `=` does not begin an escape, or if the name is empty.
fn unescape(text: &str) -> Option<Cow<'_, str>> {
    let mut parts = text.split('=');
    let mut name = Cow::from(parts.next()?);
    for part in parts {
        let (c, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        let name = name.to_mut();
        name.push(c);
        name.push_str(rest);
    }
    (!name.is_empty()).then_some(name)
}
