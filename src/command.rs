//! The commands of a client: read from a line, and written as one.
//!
//! [`parse`] takes a complete line without its CRLF and lends from it: nothing is copied, nothing
//! is allocated. The grammar is that of RFC 5321 §4.1 with UTF-8 as in RFC 6531, with AUTH of
//! RFC 4954 §4, STARTTLS of RFC 3207 and BDAT of RFC 3030. Whatever text a command yields has no control
//! characters, those that end a line or change its direction included, so it can be logged; a [`Mailbox`] and
//! a parameter may have marks of direction, which `Display` and `Debug` escape. Two texts may be a password, and are
//! not to be logged: an [unknown command](Unknown), and what AUTH says. More is taken than the grammar has where clients send it and it can
//! mean one thing only: spaces after the colon of MAIL and RCPT, and addresses without angle brackets.
//!
//! [`Command::write`] is the other direction. A value can only be made by checks of the same
//! grammar, so that what is written is one line that reads back as the same command.
//!
//! ```
//! use smtp_auth::command::{Command, parse};
//!
//! let Ok(Command::Mail(mail)) = parse(b"mail FROM:<ann@example.org> SIZE=1000") else {
//!     unreachable!()
//! };
//! assert_eq!(mail.from().and_then(|from| from.domain()), Some("example.org"));
//! assert_eq!(mail.parameters().get("size").and_then(|size| size.value()), Some("1000"));
//!
//! let mut out = Vec::new();
//! Command::Mail(mail).write(&mut out);
//! assert_eq!(out, b"MAIL FROM:<ann@example.org> SIZE=1000\r\n");
//! ```

mod grammar;
mod mail;

use alloc::vec::Vec;
use core::fmt;

use crate::decimal::decimal;

pub(crate) use mail::Xtext;
pub use mail::{Mail, MailAuth, Mailbox, Parameter, Parameters, Rcpt};

/// Reads a line, given without its CRLF. Verbs and keywords are taken in any case.
///
/// Spaces at the end are ignored (RFC 5321 §4.1.1).
///
/// # Errors
/// The line is not a command, or a known command's arguments are malformed.
pub fn parse(line: &[u8]) -> Result<Command<'_>, Error> {
    grammar::command(trim_end(line))
}

/// What stands in front of the first space: the verb, if the line has one.
pub(crate) fn verb(line: &[u8]) -> &[u8] {
    line.split(|&octet| octet == b' ').next().unwrap_or_default()
}

/// The address that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadPath {
    Sender,
    Recipient,
}

/// Of a line that [`parse`] does not take: whether it is MAIL or RCPT, and the address is what is wrong.
pub(crate) fn bad_path(line: &[u8]) -> Option<BadPath> {
    grammar::bad_path(line)
}

/// Reads what stands behind `AUTH` and a space.
pub(crate) fn auth_args(args: &[u8]) -> Result<Auth<'_>, Error> {
    grammar::auth_args(trim_end(args))
}

fn trim_end(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b' '] = line {
        line = rest;
    }
    line
}

/// Where a line goes wrong, and in which rule of the grammar.
///
/// It never holds what the line says, which may be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in {rule} at octet {offset}")]
pub struct Error {
    rule: &'static str,
    offset: usize,
}

impl Error {
    /// The name of the rule that failed, as the ABNF of the standards has it, or the octet that
    /// was expected.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        self.rule
    }

    /// The number of octets in front of the fault: at most the length of what was read.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the line is no command at all: there is no verb, or something other than a space
    /// follows it. A server answers `500` to that, and `501` to any other error.
    #[must_use]
    pub fn in_verb(&self) -> bool {
        self.rule == grammar::VERB
    }

    /// Whether the initial response of AUTH is not even printable ASCII, to say nothing of base64.
    pub(crate) fn in_initial_response(self) -> bool {
        self.rule == grammar::INITIAL_RESPONSE
    }
}

/// Octets that the grammar has found to be UTF-8. Most of them are compared, decoded or counted and
/// never wanted as text, so that making them a `&str` in the parser would cost more than it does here.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Utf8<'a>(&'a [u8]);

impl<'a> Utf8<'a> {
    const fn as_str(self) -> &'a str {
        match core::str::from_utf8(self.0) {
            Ok(text) => text,
            Err(_) => "",
        }
    }
}

impl fmt::Debug for Utf8<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A command with its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new command must break the build of a host that ignores it"
)]
pub enum Command<'a> {
    /// `EHLO` and the client's name, which asks for the list of extensions.
    Ehlo(EhloName<'a>),
    /// `HELO` and the client's name.
    Helo(EhloName<'a>),
    /// `AUTH` (RFC 4954).
    Auth(Auth<'a>),
    /// `STARTTLS` (RFC 3207).
    StartTls,
    /// `MAIL`, which starts a transaction.
    Mail(Mail<'a>),
    /// `RCPT`, one recipient.
    Rcpt(Rcpt<'a>),
    /// `DATA`.
    Data,
    /// `BDAT`, behind whose line a chunk of a message follows (RFC 3030).
    Bdat {
        /// The number of octets in the chunk.
        size: u64,
        /// Whether it is the message's last.
        last: bool,
    },
    /// `RSET`.
    Rset,
    /// `NOOP`; its text means nothing.
    Noop(Option<Text<'a>>),
    /// `VRFY`: a user or a mailbox.
    Vrfy(Text<'a>),
    /// `EXPN`: a mailing list.
    Expn(Text<'a>),
    /// `HELP`, and with what.
    Help(Option<Text<'a>>),
    /// `QUIT`.
    Quit,
    /// A verb that is none of these, and its arguments. `Debug` shows neither, as they may be a password.
    Unknown(Unknown<'a>),
}

impl Command<'_> {
    /// Appends the command's line with its CRLF.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ehlo(name) => put(out, &[b"EHLO ", name.0.0]),
            Self::Helo(name) => put(out, &[b"HELO ", name.0.0]),
            Self::Auth(auth) => {
                put(out, &[b"AUTH ", auth.mechanism.0]);
                put_argument(out, auth.initial_response.map(|text| text.0));
            }
            Self::StartTls => put(out, &[b"STARTTLS"]),
            Self::Mail(mail) => {
                put(out, &[b"MAIL FROM:<", mail.from.map_or(b"", |from| from.text.0), b">"]);
                put_argument(out, mail.parameters.written());
            }
            Self::Rcpt(rcpt) => {
                put(out, &[b"RCPT TO:<", rcpt.to.text.0, b">"]);
                put_argument(out, rcpt.parameters.written());
            }
            Self::Data => put(out, &[b"DATA"]),
            Self::Bdat { size, last } => {
                put(out, &[b"BDAT "]);
                decimal(*size, out);
                put_argument(out, last.then_some(b"LAST"));
            }
            Self::Rset => put(out, &[b"RSET"]),
            Self::Noop(text) => {
                put(out, &[b"NOOP"]);
                put_argument(out, text.map(|text| text.0.0));
            }
            Self::Vrfy(text) => put(out, &[b"VRFY ", text.0.0]),
            Self::Expn(text) => put(out, &[b"EXPN ", text.0.0]),
            Self::Help(text) => {
                put(out, &[b"HELP"]);
                put_argument(out, text.map(|text| text.0.0));
            }
            Self::Quit => put(out, &[b"QUIT"]),
            Self::Unknown(unknown) => {
                put(out, &[unknown.verb.0]);
                put_argument(out, unknown.arguments.map(|text| text.0));
            }
        }
        put(out, &[b"\r\n"]);
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn put_argument(out: &mut Vec<u8>, argument: Option<&[u8]>) {
    if let Some(argument) = argument {
        put(out, &[b" ", argument]);
    }
}

/// A piece of checked text: the type, its constructor and its accessors.
macro_rules! checked_text {
    ($(#[$doc:meta])* struct $name:ident; $(#[$new_doc:meta])* new = $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name<'a>(Utf8<'a>);

        impl<'a> $name<'a> {
            $(#[$new_doc])*
            pub fn new(text: &'a str) -> Result<Self, Error> {
                $check(text.as_bytes())
            }

            /// The text as it was sent.
            #[must_use]
            pub const fn as_str(&self) -> &'a str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

checked_text! {
    /// The name by which a client introduces itself: anything printable without spaces.
    ///
    /// No more is asked of it than that (not a domain, not ASCII): nothing can be based on it.
    #[derive(Debug)]
    struct EhloName;
    /// Checks a name.
    ///
    /// # Errors
    /// It is empty, or has spaces, control characters or characters that end a line or change its direction.
    new = |text| grammar::whole(grammar::ehlo_name, text)
}

checked_text! {
    /// One or more words, as the argument of NOOP, VRFY, EXPN and HELP.
    #[derive(Debug)]
    struct Text;
    /// Checks a text.
    ///
    /// # Errors
    /// It is empty, starts or ends with a space, or has control characters or characters that end a line or
    /// change its direction.
    new = |text| grammar::whole(grammar::text, text)
}

/// A command that the crate does not know: its verb, which is letters, and its arguments.
///
/// A client that is out of step says its password here, or the base64 of it. So `Debug` shows neither, and there is
/// no `Display`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Unknown<'a> {
    verb: Utf8<'a>,
    arguments: Option<Utf8<'a>>,
}

impl<'a> Unknown<'a> {
    /// Checks a verb and its arguments, if it has any.
    ///
    /// # Errors
    /// The verb is not one or more letters of ASCII, or it is that of a known command; or the arguments are no
    /// [`Text`].
    pub fn new(verb: &'a str, arguments: Option<&'a str>) -> Result<Self, Error> {
        let arguments = arguments.map(Text::new).transpose()?.map(|text| text.0);
        match grammar::command(verb.as_bytes())? {
            Command::Unknown(unknown) if unknown.verb.0.len() == verb.len() => {
                Ok(Self { arguments, ..unknown })
            }
            _ => Err(Error { rule: grammar::VERB, offset: 0 }),
        }
    }

    /// The verb as it was sent, to be compared, in any case, with those that the caller knows. Any other is not to be
    /// logged.
    #[must_use]
    pub const fn verb(&self) -> &'a str {
        self.verb.as_str()
    }

    /// What stands after the verb, if anything does: words, without control characters and characters that end a
    /// line or change its direction.
    #[must_use]
    pub const fn arguments(&self) -> Option<&'a str> {
        match self.arguments {
            Some(text) => Some(text.as_str()),
            None => None,
        }
    }
}

impl fmt::Debug for Unknown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unknown(***)")
    }
}

/// The arguments of AUTH (RFC 4954 §4). `Debug` shows neither: what stands for a mechanism may be a
/// password whose mechanism was left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    mechanism: Utf8<'a>,
    initial_response: Option<Utf8<'a>>,
}

impl<'a> Auth<'a> {
    /// Checks a mechanism's name and an initial response, which is base64 or `=`.
    ///
    /// # Errors
    /// The name is not 1 to 20 letters, digits, `-` and `_`, or the response is not printable ASCII
    /// without spaces.
    pub fn new(mechanism: &'a str, initial_response: Option<&'a str>) -> Result<Self, Error> {
        let mechanism = grammar::whole(grammar::sasl_mech, mechanism.as_bytes())?;
        let initial_response = initial_response
            .map(|text| grammar::whole(grammar::initial_response, text.as_bytes()))
            .transpose()?;
        Ok(Self { mechanism, initial_response })
    }

    /// The mechanism's name as it was sent, in whatever case. Where no mechanism has that name it may be a
    /// password, and is not to be logged.
    #[must_use]
    pub const fn mechanism(&self) -> &'a str {
        self.mechanism.as_str()
    }

    pub(crate) fn octets(&self) -> (&'a [u8], Option<&'a [u8]>) {
        (self.mechanism.0, self.initial_response.map(|text| text.0))
    }

    /// The initial response as it was sent: `=` is an empty one, `None` is none at all. That it is
    /// base64 is not checked.
    #[must_use]
    pub const fn initial_response(&self) -> Option<&'a str> {
        match self.initial_response {
            Some(text) => Some(text.as_str()),
            None => None,
        }
    }
}

impl fmt::Debug for Auth<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_args_are_the_text_behind_the_verb() {
        let plain = Auth::new("PLAIN", Some("AGEAYg==")).unwrap();
        let login = Auth::new("login", None).unwrap();
        assert_eq!(auth_args(b"PLAIN AGEAYg=="), Ok(plain));
        assert_eq!(auth_args(b"  PLAIN  AGEAYg==  "), Ok(plain));
        assert_eq!(auth_args(b"login "), Ok(login));
        assert_eq!(auth_args(b""), Err(Error { rule: "sasl-mech", offset: 0 }));
        assert_eq!(auth_args(b"PLAIN a b"), Err(Error { rule: "end of line", offset: 7 }));
    }
}
