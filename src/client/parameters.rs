//! The parameters of MAIL and RCPT that an envelope may have.

use alloc::string::{String, ToString};
use core::{
    fmt::{self, Write as _},
    ops::BitOr,
};

use super::EnvelopeError;
use crate::command::{self, Xtext};

/// The longest value of ENVID as it is written (RFC 3461 §4.4).
const MAX_ENVID: usize = 100;

/// The longest value of ORCPT as it is written (RFC 3461 §4.2).
const MAX_ORCPT: usize = 500;

/// The longest parameter without a method of its own: `SOLICIT` (RFC 3865) may have 1,000 octets.
const MAX_PARAMETER: usize = 1024;

/// The parameters that methods of their own write.
const TYPED: [&str; 9] =
    ["SIZE", "BODY", "AUTH", "SMTPUTF8", "RET", "ENVID", "NOTIFY", "ORCPT", "REQUIRETLS"];

/// How the message is encoded, as BODY says it (RFC 6152).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyType {
    /// `7BIT`: every octet is below 128, and lines have up to 998 of them. This is what a server takes for granted,
    /// so that nothing is said to one that does not offer 8BITMIME.
    SevenBit,
    /// `8BITMIME`: there are octets over 127. To a server that does not offer 8BITMIME the message is not sent
    /// (RFC 6152 §3).
    EightBitMime,
}

/// How much of the message a failed delivery's notification returns: RET (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the standard has no third")]
pub enum Ret {
    /// `FULL`: all of it.
    Full,
    /// `HDRS`: its header.
    Headers,
}

/// Which notifications a recipient's delivery causes: NOTIFY (RFC 3461 §4.1). Where nothing is said, a server
/// reports failures, and delays perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the standard has no third")]
pub enum Notify {
    /// `NEVER`: none, which goes with no other.
    Never,
    /// On these occasions.
    On(NotifyOn),
}

/// One or more occasions to notify the sender: `NotifyOn::FAILURE | NotifyOn::DELAY`. There is always one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotifyOn(u8);

impl NotifyOn {
    /// The message was delivered.
    pub const SUCCESS: Self = Self(1);
    /// It could not be delivered.
    pub const FAILURE: Self = Self(2);
    /// It is still on its way.
    pub const DELAY: Self = Self(4);
}

impl BitOr for NotifyOn {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Notify {
    /// The value as it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::On(occasions) = self else { return f.write_str("NEVER") };
        let mut separator = "";
        for (occasion, name) in [
            (NotifyOn::SUCCESS, "SUCCESS"),
            (NotifyOn::FAILURE, "FAILURE"),
            (NotifyOn::DELAY, "DELAY"),
        ] {
            if occasions.0 & occasion.0 != 0 {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

/// The parameters of one command that need a keyword: as they are written, and what the server has to list for each.
#[derive(Clone, Debug, Default)]
pub(super) struct Needed {
    /// Keyword, name and value.
    all: alloc::vec::Vec<(String, String, Option<String>)>,
}

impl Needed {
    /// Adds one that the application names itself.
    pub(super) fn add(
        &mut self,
        keyword: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), EnvelopeError> {
        let length = name.len() + value.map_or(0, str::len);
        let is_good = command::Parameter::new(name, value).is_ok()
            && command::Parameter::new(keyword, None).is_ok()
            && value.is_none_or(str::is_ascii);
        if !is_good || length > MAX_PARAMETER || keyword.len() > MAX_PARAMETER {
            return Err(EnvelopeError::Parameter);
        }
        if TYPED.iter().any(|typed| typed.eq_ignore_ascii_case(name)) {
            return Err(EnvelopeError::TypedParameter);
        }
        if self.all.iter().any(|(_, given, _)| given.eq_ignore_ascii_case(name)) {
            return Err(EnvelopeError::RepeatedParameter);
        }
        self.all.push((keyword.to_string(), name.to_string(), value.map(Into::into)));
        Ok(())
    }

    /// The keywords that the server has to list.
    pub(super) fn keywords(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(keyword, ..)| keyword.as_str())
    }

    /// Appends the parameters to a command line.
    pub(super) fn write(&self, line: &mut String) {
        for (_, name, value) in &self.all {
            write(line, name, value.as_deref());
        }
    }
}

/// Appends a parameter to a command line.
pub(super) fn write(line: &mut String, name: &str, value: Option<&str>) {
    line.push(' ');
    line.push_str(name);
    if let Some(value) = value {
        line.push('=');
        line.push_str(value);
    }
}

/// `envid-parameter = xtext`, of printable ASCII (RFC 3461 §4.4)
pub(super) fn envelope_id(id: &str) -> Result<String, EnvelopeError> {
    let written = xtext(id).filter(|written| written.len() <= MAX_ENVID);
    written.ok_or(EnvelopeError::EnvelopeId)
}

/// `original-recipient-address = addr-type ";" xtext` (RFC 3461 §4.2)
///
/// A type is an atom, and those registered are letters, digits and `-`.
pub(super) fn original_recipient(addr_type: &str, address: &str) -> Result<String, EnvelopeError> {
    let is_type = command::Parameter::new(addr_type, None).is_ok();
    let written = xtext(address).filter(|_| is_type).map(|address| {
        let mut written = String::from(addr_type);
        // A `String` takes all that is written to it.
        let _ = write!(written, ";{address}");
        written
    });
    written.filter(|written| written.len() <= MAX_ORCPT).ok_or(EnvelopeError::OriginalRecipient)
}

/// A text of printable ASCII, encoded; `None` if it is another, or empty.
fn xtext(text: &str) -> Option<String> {
    let is_printable = !text.is_empty() && text.bytes().all(|octet| matches!(octet, b' '..=b'~'));
    is_printable.then(|| Xtext(text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_is_a_list_that_is_not_empty() {
        let on = |occasions| Notify::On(occasions).to_string();
        let all = NotifyOn::DELAY | NotifyOn::SUCCESS | NotifyOn::FAILURE;
        assert_eq!(on(all), "SUCCESS,FAILURE,DELAY");
        assert_eq!(on(NotifyOn::FAILURE | NotifyOn::FAILURE), "FAILURE");
        assert_eq!(on(NotifyOn::DELAY), "DELAY");
        assert_eq!(Notify::Never.to_string(), "NEVER");
    }

    #[test]
    fn lengths_count_what_is_written() {
        let id = |text: &str| envelope_id(text).map(|written| written.len());
        assert_eq!(id(&"x".repeat(100)), Ok(100));
        assert_eq!(id(&"x".repeat(101)), Err(EnvelopeError::EnvelopeId));
        // An encoded octet is three.
        assert_eq!(id(&"+".repeat(33)), Ok(99));
        assert_eq!(id(&"=".repeat(34)), Err(EnvelopeError::EnvelopeId));
        let original = |text: &str| original_recipient("rfc822", text).map(|all| all.len());
        assert_eq!(original(&"x".repeat(493)), Ok(500));
        assert_eq!(original(&"x".repeat(494)), Err(EnvelopeError::OriginalRecipient));
        for text in ["", "é", "a\r\nb", "\t", "\u{7f}"] {
            assert_eq!(id(text), Err(EnvelopeError::EnvelopeId));
            assert_eq!(original(text), Err(EnvelopeError::OriginalRecipient));
        }
        assert_eq!(envelope_id("a b+c").as_deref(), Ok("a+20b+2Bc"));
        for addr_type in ["", "rfc 822", "rfc822;", "é", "-x"] {
            let found = original_recipient(addr_type, "a@b.c");
            assert_eq!(found, Err(EnvelopeError::OriginalRecipient));
        }
    }

    #[test]
    fn parameters_of_other_extensions_cannot_be_anything() {
        for (keyword, name, value, expected) in [
            ("FUTURERELEASE", "HOLDFOR", Some("60"), Ok(())),
            ("X-A", "X", None, Ok(())),
            ("X-A", "", None, Err(EnvelopeError::Parameter)),
            ("", "X", None, Err(EnvelopeError::Parameter)),
            ("X-A", "X", Some(""), Err(EnvelopeError::Parameter)),
            ("X-A", "X", Some("a b"), Err(EnvelopeError::Parameter)),
            ("X-A", "X", Some("a=b"), Err(EnvelopeError::Parameter)),
            ("X-A", "X", Some("é"), Err(EnvelopeError::Parameter)),
            ("X-A", "X", Some("a\r\nQUIT"), Err(EnvelopeError::Parameter)),
            ("X-A", "X Y", None, Err(EnvelopeError::Parameter)),
            ("X-A", "X=1", None, Err(EnvelopeError::Parameter)),
            ("X A", "X", None, Err(EnvelopeError::Parameter)),
            ("SIZE", "size", Some("1"), Err(EnvelopeError::TypedParameter)),
            ("X-A", "ReT", Some("FULL"), Err(EnvelopeError::TypedParameter)),
            ("X-A", "given", None, Err(EnvelopeError::RepeatedParameter)),
        ] {
            let mut needed = Needed::default();
            assert_eq!(needed.add("X-B", "Given", Some("1")), Ok(()));
            assert_eq!(needed.add(keyword, name, value), expected, "{keyword} {name}");
        }
        let long = |length: usize| Needed::default().add("X", "X", Some(&"x".repeat(length)));
        assert_eq!(long(1023), Ok(()));
        assert_eq!(long(1024), Err(EnvelopeError::Parameter));
    }
}
