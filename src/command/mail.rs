//! The arguments of MAIL and RCPT: mailboxes and parameters.

use alloc::{borrow::Cow, string::String};
use core::{
    fmt::{self, Write as _},
    iter,
};

use super::{Error, Utf8, grammar};
use crate::shown::is_mark;

/// A mailbox: `local-part@domain` (RFC 5321 §4.1.2), or [`POSTMASTER`](Self::POSTMASTER).
///
/// Two mailboxes are equal if they consist of the same octets. This comparison is case-sensitive. In SMTP, however,
/// domains are case-insensitive, and each server decides whether its local parts are case-sensitive (RFC 5321 §2.4).
///
/// ```
/// use smtp_auth::command::Mailbox;
///
/// let ann = Mailbox::parse("ann@[192.0.2.1]")?;
/// assert_eq!((ann.local_part(), ann.domain()), ("ann", Some("[192.0.2.1]")));
/// # Ok::<(), smtp_auth::command::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mailbox<'a> {
    pub(super) text: Utf8<'a>,
    /// The position of the `@`, or the length of the text if there is none.
    pub(super) at: usize,
}

impl<'a> Mailbox<'a> {
    /// The mailbox `Postmaster`, which every server must support. It is the only mailbox without a domain. Only RCPT
    /// accepts this mailbox, which may be written in upper or lower case.
    pub const POSTMASTER: Mailbox<'static> = Mailbox { text: Utf8(b"Postmaster"), at: 10 };

    /// Parses `local-part@domain`. The domain may be an address literal.
    ///
    /// # Errors
    /// Returns an error if the text is not a mailbox. Angle brackets and display names are not accepted.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        grammar::whole(grammar::mailbox, text.as_bytes())
    }

    /// Returns the whole mailbox as it was sent, without a source route. The text may contain direction marks (U+061C,
    /// U+200E, U+200F). It contains no control characters, and no other characters that end a line or change the text
    /// direction.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text.as_str()
    }

    /// Returns the part before the `@`, including quotes if it was sent with quotes.
    #[must_use]
    pub fn local_part(&self) -> &'a str {
        self.as_str().get(..self.at).unwrap_or_default()
    }

    /// Returns the domain or the address literal, or `None` for [`POSTMASTER`](Self::POSTMASTER).
    #[must_use]
    pub fn domain(&self) -> Option<&'a str> {
        self.as_str().get(self.at + 1..)
    }

    /// Returns whether the mailbox consists only of ASCII characters. Any other mailbox requires SMTPUTF8 (RFC 6531).
    #[must_use]
    pub const fn is_ascii(&self) -> bool {
        self.text.0.is_ascii()
    }
}

/// Writes the mailbox for logs or for display, with direction marks escaped. [`as_str`](Mailbox::as_str) returns the
/// mailbox without escapes.
impl fmt::Display for Mailbox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().chars().try_for_each(|c| match is_mark(c) {
            true => write!(f, "{}", c.escape_unicode()),
            false => f.write_char(c),
        })
    }
}

/// The arguments of MAIL: the sender and the parameters (RFC 5321 §4.1.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mail<'a> {
    pub(super) from: Option<Mailbox<'a>>,
    pub(super) parameters: Parameters<'a>,
}

impl<'a> Mail<'a> {
    /// Creates the arguments from a sender and parameters. If the sender is `None`, MAIL specifies the null path `<>`.
    ///
    /// # Errors
    /// Returns an error if the mailbox is [`Mailbox::POSTMASTER`], which cannot be a sender.
    pub fn new(from: Option<Mailbox<'a>>, parameters: Parameters<'a>) -> Result<Self, Error> {
        match from {
            Some(Mailbox { text, at }) if at == text.0.len() => {
                Err(Error { rule: "@", offset: at })
            }
            _ => Ok(Self { from, parameters }),
        }
    }

    /// Returns the sender, or `None` for the null path `<>`, which marks a notification that must not be replied to.
    #[must_use]
    pub const fn from(&self) -> Option<Mailbox<'a>> {
        self.from
    }

    /// Returns the parameters after the path.
    #[must_use]
    pub const fn parameters(&self) -> Parameters<'a> {
        self.parameters
    }

    /// Returns the value of the AUTH parameter, which is the client's claim about who submitted the message (RFC 4954
    /// §5).
    ///
    /// Believe this claim only if the client is trusted. Otherwise treat it as [`MailAuth::UNKNOWN`].
    ///
    /// # Errors
    /// Returns an error if the parameter is given twice or has no value, or if its value is not a mailbox encoded as
    /// xtext. The error's offset is counted from the start of the value.
    pub fn auth(&self) -> Result<Option<MailAuth<'a>>, Error> {
        let mut given = self.parameters.iter().filter(|given| given.is("AUTH"));
        match (given.next(), given.next()) {
            (None, _) => Ok(None),
            (Some(parameter), None) => {
                MailAuth::read(parameter.value().unwrap_or_default()).map(Some)
            }
            (Some(_), Some(_)) => Err(Error { rule: "AUTH", offset: 0 }),
        }
    }
}

/// The value of the AUTH parameter of MAIL (RFC 4954 §5). `Display` writes the value as it is encoded in the command,
/// without the `AUTH=` prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAuth<'a>(Option<Cow<'a, str>>);

impl<'a> MailAuth<'a> {
    /// The value `<>`, which means that the submitter is unknown or must not be disclosed.
    pub const UNKNOWN: MailAuth<'static> = MailAuth(None);

    /// Converts the value into one that owns its text.
    #[must_use]
    pub fn into_owned(self) -> MailAuth<'static> {
        MailAuth(self.0.map(|mailbox| Cow::Owned(mailbox.into_owned())))
    }

    /// Creates the value from the submitter's mailbox.
    ///
    /// # Errors
    /// Returns an error if the text is not a valid [`Mailbox`].
    pub fn new(mailbox: impl Into<Cow<'a, str>>) -> Result<Self, Error> {
        let mailbox = mailbox.into();
        Mailbox::parse(&mailbox)?;
        Ok(Self(Some(mailbox)))
    }

    /// Returns the submitter's mailbox, or `None` for `<>`.
    #[must_use]
    pub fn mailbox(&self) -> Option<&str> {
        self.0.as_deref()
    }

    fn read(value: &'a str) -> Result<Self, Error> {
        if value == "<>" {
            return Ok(Self(None));
        }
        let decoded = grammar::whole(grammar::xtext, value.as_bytes())?;
        let not_a_mailbox = |rule| Error { rule, offset: 0 };
        if decoded.len() == value.len() {
            return Self::new(value).map_err(|error| not_a_mailbox(error.rule));
        }
        let decoded = String::from_utf8(decoded).map_err(|_| not_a_mailbox("UTF-8"))?;
        Self::new(decoded).map_err(|error| not_a_mailbox(error.rule))
    }
}

impl fmt::Display for MailAuth<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mailbox() {
            Some(mailbox) => Xtext(mailbox).fmt(f),
            None => f.write_str("<>"),
        }
    }
}

/// Text that is written as xtext, the encoding for a parameter's value (RFC 3461 §4).
pub(crate) struct Xtext<'a>(pub(crate) &'a str);

impl fmt::Display for Xtext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|octet| match grammar::XCHAR.has(octet) {
            true => f.write_char(char::from(octet)),
            false => write!(f, "+{octet:02X}"),
        })
    }
}

/// The arguments of RCPT: the recipient and the parameters (RFC 5321 §4.1.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rcpt<'a> {
    pub(super) to: Mailbox<'a>,
    pub(super) parameters: Parameters<'a>,
}

impl<'a> Rcpt<'a> {
    /// Creates the arguments from a recipient and parameters.
    #[must_use]
    pub const fn new(to: Mailbox<'a>, parameters: Parameters<'a>) -> Self {
        Self { to, parameters }
    }

    /// Returns the recipient.
    #[must_use]
    pub const fn to(&self) -> Mailbox<'a> {
        self.to
    }

    /// Returns the parameters after the path.
    #[must_use]
    pub const fn parameters(&self) -> Parameters<'a> {
        self.parameters
    }
}

/// The maximum number of parameters, which is more than all extensions of MAIL or RCPT define together.
const MAX_PARAMETERS: usize = 32;

/// The parameters of MAIL or RCPT, separated by spaces (`esmtp-param`, RFC 5321 §4.1.2). The default value contains no
/// parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parameters<'a>(pub(super) Utf8<'a>);

impl<'a> Parameters<'a> {
    /// Parses parameters as they appear in a command, such as `SIZE=10 BODY=8BITMIME`. The text may be empty.
    ///
    /// # Errors
    /// Returns an error if a name or a value is malformed, or if the text starts or ends with a space.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        grammar::whole(grammar::parameters, text.as_bytes())
    }

    /// Returns the parameters as they were sent.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0.as_str()
    }

    /// Returns an iterator over the parameters, in the order in which they were sent. A name may occur more than once,
    /// unless the command comes from a [server session](crate::server::Event::Command).
    pub fn iter(&self) -> impl Iterator<Item = Parameter<'a>> + Clone + use<'a> {
        let mut rest = self.0.0;
        iter::from_fn(move || {
            let (more, parameter) = grammar::next_parameter(rest).ok()?;
            rest = more;
            Some(parameter)
        })
    }

    /// Returns the first parameter with this name, ignoring case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Parameter<'a>> {
        self.iter().find(|given| given.is(name))
    }

    /// Returns whether no parameter is repeated. For more than [`MAX_PARAMETERS`], this returns `false` without
    /// comparing them, which would take quadratic time.
    pub(crate) fn come_once(&self) -> bool {
        let again = |(n, one): (usize, Parameter<'_>)| {
            self.iter().skip(n + 1).any(|other| other.is(one.name()))
        };
        self.iter().nth(MAX_PARAMETERS).is_none() && !self.iter().enumerate().any(again)
    }

    /// Returns the parameters as an argument of a command line, or `None` if there are none.
    pub(super) fn written(self) -> Option<&'a [u8]> {
        Some(self.0.0).filter(|list| !list.is_empty())
    }
}

/// A parameter of MAIL or RCPT (`esmtp-param`, RFC 5321 §4.1.2). It consists of a name, optionally followed by `=` and
/// a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    pub(super) name: Utf8<'a>,
    pub(super) value: Option<Utf8<'a>>,
}

impl<'a> Parameter<'a> {
    /// Creates a parameter to be written.
    ///
    /// # Errors
    /// Returns an error if the name is not an `esmtp-keyword`, or if the value is not an `esmtp-value` (RFC 5321
    /// §4.1.2).
    pub(crate) fn new(name: &'a str, value: Option<&'a str>) -> Result<Self, Error> {
        let whole = |rule: fn(&'a [u8]) -> _, text: &'a str| {
            grammar::whole(rule, text.as_bytes()).map(Utf8)
        };
        let value = value.map(|value| whole(grammar::value, value)).transpose()?;
        Ok(Self { name: whole(grammar::keyword, name)?, value })
    }

    /// Returns the name as it was sent, in upper or lower case.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name.as_str()
    }

    /// Returns the text after the `=`, or `None` if the parameter has no value.
    #[must_use]
    pub const fn value(&self) -> Option<&'a str> {
        match self.value {
            Some(value) => Some(value.as_str()),
            None => None,
        }
    }

    fn is(self, name: &str) -> bool {
        self.name.0.eq_ignore_ascii_case(name.as_bytes())
    }
}
