//! The parameters of MAIL and RCPT.

use alloc::string::{String, ToString};
use core::{
    fmt::{self, Write as _},
    ops::BitOr,
};

use super::EnvelopeError;
use crate::command::{self, Xtext};

/// The maximum length of the encoded value of ENVID (RFC 3461 §4.4).
const MAX_ENVID: usize = 100;

/// The maximum length of the encoded value of ORCPT (RFC 3461 §4.2).
const MAX_ORCPT: usize = 500;

/// The maximum length of a parameter that has no method of its own. `SOLICIT` (RFC 3865) may have 1,000 octets.
const MAX_PARAMETER: usize = 1024;

/// The parameters that have their own methods.
const TYPED: [&str; 9] =
    ["SIZE", "BODY", "AUTH", "SMTPUTF8", "RET", "ENVID", "NOTIFY", "ORCPT", "REQUIRETLS"];

/// The encoding of a message, for the BODY parameter (RFC 6152).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyType {
    /// `7BIT`: every octet is below 128, and no line exceeds 998 octets. This is the default in SMTP, so the parameter
    /// is omitted if the server does not offer 8BITMIME.
    SevenBit,
    /// `8BITMIME`: the message contains octets above 127. If the server does not offer 8BITMIME, the message is not
    /// sent (RFC 6152 §3).
    EightBitMime,
}

/// How much of the message a failure notification returns (RET, RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the standard has no third value")]
pub enum Ret {
    /// `FULL`: the notification returns the whole message.
    Full,
    /// `HDRS`: the notification returns only the header.
    Headers,
}

/// The delivery notifications that the sender wants for a recipient (NOTIFY, RFC 3461 §4.1).
///
/// Without this parameter, servers report failures and may report delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the standard has no third value")]
pub enum Notify {
    /// `NEVER`: no notifications. The standard does not allow this value to be combined with others.
    Never,
    /// Notifications are sent only in the cases listed here.
    On(NotifyOn),
}

/// A set of cases in which the sender is notified, such as `NotifyOn::FAILURE | NotifyOn::DELAY`. The set is never
/// empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotifyOn(u8);

impl NotifyOn {
    /// The message was delivered.
    pub const SUCCESS: Self = Self(1);
    /// The message could not be delivered.
    pub const FAILURE: Self = Self(2);
    /// Delivery of the message is delayed.
    pub const DELAY: Self = Self(4);
}

impl BitOr for NotifyOn {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Notify {
    /// Writes the value of the NOTIFY parameter, such as `FAILURE,DELAY`.
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

/// The parameters that the application gives by name, each with the keyword that the server has to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needed {
    /// Keyword, name and value.
    all: alloc::vec::Vec<(String, String, Option<String>)>,
}

impl Needed {
    /// Adds a parameter.
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

    /// Returns the keywords that the server has to list.
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

/// `envid-parameter = xtext`, which encodes printable ASCII (RFC 3461 §4.4)
pub(super) fn envelope_id(id: &str) -> Result<String, EnvelopeError> {
    let written = xtext(id).filter(|written| written.len() <= MAX_ENVID);
    written.ok_or(EnvelopeError::EnvelopeId)
}

/// `original-recipient-address = addr-type ";" xtext` (RFC 3461 §4.2)
///
/// An address type is an atom. The registered types consist of letters, digits and `-`.
pub(super) fn original_recipient(addr_type: &str, address: &str) -> Result<String, EnvelopeError> {
    let is_type = command::Parameter::new(addr_type, None).is_ok();
    let written = xtext(address).filter(|_| is_type).map(|address| {
        let mut written = String::from(addr_type);
        // Writing to a `String` does not fail.
        let _ = write!(written, ";{address}");
        written
    });
    written.filter(|written| written.len() <= MAX_ORCPT).ok_or(EnvelopeError::OriginalRecipient)
}

/// Returns the text encoded as xtext, or `None` if it is empty or contains anything but printable ASCII.
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
        // An encoded octet takes three octets.
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
