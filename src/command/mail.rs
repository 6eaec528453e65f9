//! The arguments of MAIL and RCPT: paths and parameters.

use alloc::{borrow::Cow, string::String};
use core::{
    fmt::{self, Write as _},
    iter,
};

use super::{Error, Utf8, grammar};
use crate::shown::is_mark;

/// A mailbox: `local-part@domain`, or [`POSTMASTER`](Self::POSTMASTER).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mailbox<'a> {
    pub(super) text: Utf8<'a>,
    /// Where the `@` is, or the length of the text if there is none.
    pub(super) at: usize,
}

impl<'a> Mailbox<'a> {
    /// The one mailbox without a domain, which every server has. Only RCPT takes it, and there it
    /// is read in any case.
    pub const POSTMASTER: Mailbox<'static> = Mailbox { text: Utf8(b"Postmaster"), at: 10 };

    /// Reads `local-part@domain`, the domain an address literal perhaps.
    ///
    /// # Errors
    /// It is anything else; a name in front of it or angle brackets too.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        grammar::whole(grammar::mailbox, text.as_bytes())
    }

    /// The whole mailbox as it was sent, without a source route. It may hold marks of direction (U+061C,
    /// U+200E, U+200F), but no other control.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text.as_str()
    }

    /// What stands in front of the `@`, in quotes if it was sent so.
    #[must_use]
    pub fn local_part(&self) -> &'a str {
        self.as_str().get(..self.at).unwrap_or_default()
    }

    /// The domain or the address literal. `None` for Postmaster in RCPT alone.
    #[must_use]
    pub fn domain(&self) -> Option<&'a str> {
        self.as_str().get(self.at + 1..)
    }

    /// Whether it can be used without SMTPUTF8 (RFC 6531).
    #[must_use]
    pub const fn is_ascii(&self) -> bool {
        self.text.0.is_ascii()
    }
}

/// For logs and people: marks of direction are escaped. The address is [`as_str`](Mailbox::as_str).
impl fmt::Display for Mailbox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().chars().try_for_each(|c| match is_mark(c) {
            true => write!(f, "{}", c.escape_unicode()),
            false => f.write_char(c),
        })
    }
}

/// The arguments of MAIL (RFC 5321 §4.1.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mail<'a> {
    pub(super) from: Option<Mailbox<'a>>,
    pub(super) parameters: Parameters<'a>,
}

impl<'a> Mail<'a> {
    /// The null path or a mailbox, with parameters.
    ///
    /// # Errors
    /// The mailbox is [`Mailbox::POSTMASTER`], which cannot send.
    pub fn new(from: Option<Mailbox<'a>>, parameters: Parameters<'a>) -> Result<Self, Error> {
        match from {
            Some(Mailbox { text, at }) if at == text.0.len() => {
                Err(Error { rule: "@", offset: at })
            }
            _ => Ok(Self { from, parameters }),
        }
    }

    /// The sender. `None` is the null path `<>`: a notification, to which none may answer.
    #[must_use]
    pub const fn from(&self) -> Option<Mailbox<'a>> {
        self.from
    }

    /// What follows the path.
    #[must_use]
    pub const fn parameters(&self) -> Parameters<'a> {
        self.parameters
    }

    /// The parameter AUTH: who the client says submitted the message (RFC 4954 §5).
    ///
    /// Only a trusted client's word counts. Any other's is as [`MailAuth::UNKNOWN`].
    ///
    /// # Errors
    /// It is given twice, has no value, or its value is not the xtext of a mailbox. The offset
    /// counts from the start of the value.
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

/// The value of MAIL's parameter AUTH. `Display` writes it as it stands behind the `=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAuth<'a>(Option<Cow<'a, str>>);

impl<'a> MailAuth<'a> {
    /// `<>`: the submitter is not known, or not to be told.
    pub const UNKNOWN: MailAuth<'static> = MailAuth(None);

    /// The same with text of its own, to be kept.
    #[must_use]
    pub fn into_owned(self) -> MailAuth<'static> {
        MailAuth(self.0.map(|mailbox| Cow::Owned(mailbox.into_owned())))
    }

    /// A submitter.
    ///
    /// # Errors
    /// It is not a [`Mailbox`].
    pub fn new(mailbox: impl Into<Cow<'a, str>>) -> Result<Self, Error> {
        let mailbox = mailbox.into();
        Mailbox::parse(&mailbox)?;
        Ok(Self(Some(mailbox)))
    }

    /// The submitter's mailbox. `None` is `<>`.
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

/// A text in the form that a parameter may have (RFC 3461 §4).
pub(crate) struct Xtext<'a>(pub(crate) &'a str);

impl fmt::Display for Xtext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|octet| match grammar::XCHAR.has(octet) {
            true => f.write_char(char::from(octet)),
            false => write!(f, "+{octet:02X}"),
        })
    }
}

/// The arguments of RCPT (RFC 5321 §4.1.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rcpt<'a> {
    pub(super) to: Mailbox<'a>,
    pub(super) parameters: Parameters<'a>,
}

impl<'a> Rcpt<'a> {
    /// A recipient, with parameters.
    #[must_use]
    pub const fn new(to: Mailbox<'a>, parameters: Parameters<'a>) -> Self {
        Self { to, parameters }
    }

    /// The recipient.
    #[must_use]
    pub const fn to(&self) -> Mailbox<'a> {
        self.to
    }

    /// What follows the path.
    #[must_use]
    pub const fn parameters(&self) -> Parameters<'a> {
        self.parameters
    }
}

/// More than all extensions of MAIL or RCPT have together.
const MAX_PARAMETERS: usize = 32;

/// The parameters of MAIL and RCPT. The default is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parameters<'a>(pub(super) Utf8<'a>);

impl<'a> Parameters<'a> {
    /// Reads parameters as they are sent, `SIZE=10 BODY=8BITMIME`, or none.
    ///
    /// # Errors
    /// A name or a value is malformed, or there are spaces in front or at the end.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        grammar::whole(grammar::parameters, text.as_bytes())
    }

    /// The parameters as they were sent.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0.as_str()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Parameter<'a>> + Clone + use<'a> {
        let mut rest = self.0.0;
        iter::from_fn(move || {
            let (more, parameter) = grammar::next_parameter(rest).ok()?;
            rest = more;
            Some(parameter)
        })
    }

    /// The first of this name, in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Parameter<'a>> {
        self.iter().find(|given| given.is(name))
    }

    /// Whether each comes once. More than [`MAX_PARAMETERS`] are not looked at, as that takes the square of their
    /// number.
    pub(crate) fn come_once(&self) -> bool {
        let again = |(n, one): (usize, Parameter<'_>)| {
            self.iter().skip(n + 1).any(|other| other.is(one.name()))
        };
        self.iter().nth(MAX_PARAMETERS).is_none() && !self.iter().enumerate().any(again)
    }

    /// As an argument of a line, which has none if there are no parameters.
    pub(super) fn written(self) -> Option<&'a [u8]> {
        Some(self.0.0).filter(|list| !list.is_empty())
    }
}

/// One parameter of MAIL or RCPT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    pub(super) name: Utf8<'a>,
    pub(super) value: Option<Utf8<'a>>,
}

impl<'a> Parameter<'a> {
    /// A parameter to be written.
    ///
    /// # Errors
    /// It is not an `esmtp-keyword` with an `esmtp-value`, or without one (RFC 5321 §4.1.2).
    pub(crate) fn new(name: &'a str, value: Option<&'a str>) -> Result<Self, Error> {
        let whole = |rule: fn(&'a [u8]) -> _, text: &'a str| {
            grammar::whole(rule, text.as_bytes()).map(Utf8)
        };
        let value = value.map(|value| whole(grammar::value, value)).transpose()?;
        Ok(Self { name: whole(grammar::keyword, name)?, value })
    }

    /// The name as it was sent, in whatever case.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name.as_str()
    }

    /// The value, where there is one.
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
