//! Parses and writes SMTP commands.
//!
//! [`parse`] takes a complete line without its CRLF. The result borrows from the line; nothing is copied or allocated.
//! The parser implements the grammar of RFC 5321 §4.1, and supports UTF-8 (RFC 6531), AUTH (RFC 4954 §4), STARTTLS (RFC
//! 3207) and BDAT (RFC 3030). It also tolerates two common client mistakes: spaces after the colon in MAIL and RCPT,
//! and addresses without angle brackets. The parser tolerates these mistakes because they do not make a command
//! ambiguous.
//!
//! The text in a parsed command contains no control characters, and no other characters that end a line or change the
//! text direction. It can therefore be logged without the risk of log injection. There are two exceptions:
//!
//! - A [`Mailbox`] or a [`Parameter`] may contain direction marks (U+061C, U+200E, U+200F). `Display` and `Debug`
//!   escape these marks.
//! - The text of an [unknown command](Unknown) or of [AUTH](Auth) may be a password, so do not log it.
//!
//! [`Command::write`] writes a command. The constructors of commands and of their parts accept only text that the
//! parser also accepts. Therefore, a command is always written as a single line, and [`parse`] turns this line back
//! into an equal command. This prevents command injection.
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

/// Parses a command line without its CRLF. Verbs and keywords may be in upper or lower case, and spaces at the end of
/// the line are ignored (RFC 5321 §4.1.1).
///
/// ```
/// use smtp_auth::command::{Command, parse};
///
/// assert_eq!(parse(b"quit"), Ok(Command::Quit));
/// let error = parse(b"MAIL FROM:<ann@>").err().ok_or("it has no domain")?;
/// assert_eq!((error.rule(), error.offset()), ("sub-domain", 15));
/// # Ok::<(), &str>(())
/// ```
///
/// # Errors
/// Returns an error if the line is not a command, or if the arguments of a known command are malformed.
pub fn parse(line: &[u8]) -> Result<Command<'_>, Error> {
    grammar::command(trim_end(line))
}

/// Returns the text before the first space: the verb, if the line has one.
pub(crate) fn verb(line: &[u8]) -> &[u8] {
    line.split(|&octet| octet == b' ').next().unwrap_or_default()
}

/// The address that cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadPath {
    Sender,
    Recipient,
}

/// Returns which address is malformed in a MAIL or RCPT line that [`parse`] rejects. Returns `None` if the line is
/// another command, or if another part of the line is malformed.
pub(crate) fn bad_path(line: &[u8]) -> Option<BadPath> {
    grammar::bad_path(line)
}

/// Parses the text after `AUTH` and a space.
pub(crate) fn auth_args(args: &[u8]) -> Result<Auth<'_>, Error> {
    grammar::auth_args(trim_end(args))
}

fn trim_end(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b' '] = line {
        line = rest;
    }
    line
}

/// A syntax error. It records which grammar rule the line violates, and at which position.
///
/// The error contains no text from the line, because the line may be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in {rule} at octet {offset}")]
pub struct Error {
    rule: &'static str,
    offset: usize,
}

impl Error {
    /// Returns the name of the grammar rule that failed, as in the standard's ABNF, or the octet that was expected.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        self.rule
    }

    /// Returns the position of the error, in octets from the start of the parsed text. The position is at most the
    /// length of the text.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Returns whether the line is not a command at all. This is the case if the line does not begin with a verb, or if
    /// neither a space nor the end of the line follows the verb. A server replies `500` in this case, and `501` to any
    /// other error.
    #[must_use]
    pub fn in_verb(&self) -> bool {
        self.rule == grammar::VERB
    }

    /// Returns whether the initial response of AUTH contains something other than printable ASCII, so that it cannot
    /// be base64.
    pub(crate) fn in_initial_response(self) -> bool {
        self.rule == grammar::INITIAL_RESPONSE
    }
}

/// Octets that the grammar has checked to be UTF-8. Most of them are only compared, decoded or counted, so they are
/// converted to `&str` only for callers that need text.
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

/// A command of an SMTP client, with its arguments (RFC 5321 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new command must break the build of an application that ignores it"
)]
pub enum Command<'a> {
    /// `EHLO`, which gives the client's name and requests the list of extensions (RFC 5321 §4.1.1.1).
    Ehlo(EhloName<'a>),
    /// `HELO` with the client's name, from a client that does not support extensions (RFC 5321 §4.1.1.1).
    Helo(EhloName<'a>),
    /// `AUTH` with a mechanism, and optionally an initial response (RFC 4954 §4).
    Auth(Auth<'a>),
    /// `STARTTLS`, which requests TLS (RFC 3207 §4).
    StartTls,
    /// `MAIL`, which names the sender and begins a transaction (RFC 5321 §4.1.1.2).
    Mail(Mail<'a>),
    /// `RCPT`, which names one recipient (RFC 5321 §4.1.1.3).
    Rcpt(Rcpt<'a>),
    /// `DATA`, which announces the message. The client sends the message after the server's `354` reply (RFC 5321
    /// §4.1.1.4).
    Data,
    /// `BDAT`, which is followed by a chunk of the message (RFC 3030 §2).
    Bdat {
        /// The number of octets in the chunk.
        size: u64,
        /// Whether this is the last chunk of the message.
        last: bool,
    },
    /// `RSET`, which aborts the transaction (RFC 5321 §4.1.1.5).
    Rset,
    /// `NOOP`, optionally with text that the server ignores (RFC 5321 §4.1.1.9).
    Noop(Option<Text<'a>>),
    /// `VRFY`, which asks whether a user or a mailbox exists (RFC 5321 §4.1.1.6).
    Vrfy(Text<'a>),
    /// `EXPN`, which asks for the members of a mailing list (RFC 5321 §4.1.1.7).
    Expn(Text<'a>),
    /// `HELP`, optionally with a topic (RFC 5321 §4.1.1.8).
    Help(Option<Text<'a>>),
    /// `QUIT`, after which the server replies and closes the connection (RFC 5321 §4.1.1.10).
    Quit,
    /// A command with any other verb. `Debug` shows neither the verb nor the arguments, because the line may be a
    /// password.
    Unknown(Unknown<'a>),
}

impl Command<'_> {
    /// Appends the command line to `out`, with its CRLF.
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

/// Defines a type for checked text, with its constructor and accessors.
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

            /// Returns the text as it was sent.
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
    /// The name that a client gives in EHLO or HELO. It can be any printable text without spaces.
    ///
    /// A client can claim any name, so no decision should be based on the name. Therefore, the crate also accepts text
    /// that is not a domain name or not ASCII.
    #[derive(Debug)]
    struct EhloName;
    /// Creates a name from text.
    ///
    /// # Errors
    /// Returns an error if the name is empty, or contains spaces, control characters, or characters that end a line or
    /// change the text direction.
    new = |text| grammar::whole(grammar::ehlo_name, text)
}

checked_text! {
    /// The argument of NOOP, VRFY, EXPN or HELP. It consists of one or more words.
    #[derive(Debug)]
    struct Text;
    /// Creates the argument from text.
    ///
    /// # Errors
    /// Returns an error if the text is empty, starts or ends with a space, or contains control characters or other
    /// characters that end a line or change the text direction.
    new = |text| grammar::whole(grammar::text, text)
}

/// A command that this crate does not implement. The command consists of a verb and optional arguments. The verb
/// contains only letters.
///
/// If a client is out of sync with the server, the line may be a password, possibly in base64. Therefore, `Debug` shows
/// neither the verb nor the arguments, and this type does not implement `Display`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Unknown<'a> {
    verb: Utf8<'a>,
    arguments: Option<Utf8<'a>>,
}

impl<'a> Unknown<'a> {
    /// Creates a command from a verb and its arguments, if it has any.
    ///
    /// # Errors
    /// Returns an error if the verb does not consist of one or more ASCII letters, if it is the verb of a known
    /// command, or if the arguments are not a valid [`Text`].
    pub fn new(verb: &'a str, arguments: Option<&'a str>) -> Result<Self, Error> {
        let arguments = arguments.map(Text::new).transpose()?.map(|text| text.0);
        match grammar::command(verb.as_bytes())? {
            Command::Unknown(unknown) if unknown.verb.0.len() == verb.len() => {
                Ok(Self { arguments, ..unknown })
            }
            _ => Err(Error { rule: grammar::VERB, offset: 0 }),
        }
    }

    /// Returns the verb as it was sent. Compare the verb, ignoring case, with the verbs that you implement. Do not log
    /// a verb that you do not implement.
    #[must_use]
    pub const fn verb(&self) -> &'a str {
        self.verb.as_str()
    }

    /// Returns the text after the verb, if there is any. The text contains no control characters, and no other
    /// characters that end a line or change the text direction.
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

/// The arguments of AUTH (RFC 4954 §4).
///
/// `Debug` does not show the arguments. If the client omitted the mechanism, the first argument may be the password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    mechanism: Utf8<'a>,
    initial_response: Option<Utf8<'a>>,
}

impl<'a> Auth<'a> {
    /// Creates the arguments from the name of a mechanism and an initial response, which is base64 or `=`.
    ///
    /// # Errors
    /// Returns an error if the name does not consist of 1 to 20 letters, digits, `-` and `_`, or if the response is not
    /// printable ASCII without spaces.
    pub fn new(mechanism: &'a str, initial_response: Option<&'a str>) -> Result<Self, Error> {
        let mechanism = grammar::whole(grammar::sasl_mech, mechanism.as_bytes())?;
        let initial_response = initial_response
            .map(|text| grammar::whole(grammar::initial_response, text.as_bytes()))
            .transpose()?;
        Ok(Self { mechanism, initial_response })
    }

    /// Returns the mechanism's name as it was sent, in upper or lower case. Text that is not the name of a mechanism
    /// may be a password, so do not log such text.
    #[must_use]
    pub const fn mechanism(&self) -> &'a str {
        self.mechanism.as_str()
    }

    pub(crate) fn octets(&self) -> (&'a [u8], Option<&'a [u8]>) {
        (self.mechanism.0, self.initial_response.map(|text| text.0))
    }

    /// Returns the initial response as it was sent, or `None` if there is none. The text `=` means that the response is
    /// empty. Any other text may be invalid base64, because it has not been decoded yet.
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
