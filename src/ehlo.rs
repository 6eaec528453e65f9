//! The reply to EHLO (RFC 5321 §4.1.1.1). A server lists its extensions in this reply, with one keyword on each line.
//!
//! A client reads the reply as an [`Ehlo`]. A server writes the reply with [`write()`].

use alloc::vec::Vec;
use core::{iter, str};

use nom::{
    Parser,
    character::complete::u64,
    combinator::{all_consuming, opt},
};

use crate::{
    decimal::decimal,
    reply::{self, Error, Fault, MAX_WRITTEN_LINE, Parsed, ReplyRef},
    set::{MAX_MECHANISM, MECH_CHAR},
};

/// The longest domain name (RFC 5321 §4.5.3.1.2).
const MAX_DOMAIN: usize = 255;

/// The longest keyword, with its parameters, that [`write()`] can write on a line.
pub(crate) const MAX_KEYWORD: usize = MAX_WRITTEN_LINE - "250-\r\n".len();

/// A keyword that announces a service extension in the reply to EHLO (`ehlo-keyword *( SP ehlo-param )`).
///
/// A parsed keyword borrows from the line. If a keyword is written and then parsed, the result is equal to the
/// original, except that [`LegacyAuth`](Self::LegacyAuth) becomes [`Auth`](Self::Auth).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keyword<'a> {
    /// `STARTTLS` (RFC 3207).
    StartTls,
    /// `AUTH` with the names of mechanisms (RFC 4954 §3).
    Auth(MechanismNames<'a>),
    /// `AUTH=` with the names of mechanisms. Old versions of Outlook Express need this form. Use this variant only to
    /// write a reply. The parser returns [`Auth`](Self::Auth) both for `AUTH` and for `AUTH=`.
    LegacyAuth(MechanismNames<'a>),
    /// `PIPELINING` (RFC 2920).
    Pipelining,
    /// `SIZE` with the maximum size of a message in octets (RFC 1870 §4). 0 means that there is no fixed limit, and
    /// `None` means that the server does not announce a number.
    Size(Option<u64>),
    /// `8BITMIME` (RFC 6152).
    EightBitMime,
    /// `SMTPUTF8` (RFC 6531).
    SmtpUtf8,
    /// `ENHANCEDSTATUSCODES` (RFC 2034).
    EnhancedStatusCodes,
    /// `CHUNKING` (RFC 3030).
    Chunking,
    /// `DSN` (RFC 3461).
    Dsn,
    /// A keyword whose name is unknown to this crate, or a known keyword with unexpected parameters. [`Keyword::other`]
    /// creates this variant.
    #[non_exhaustive]
    Other {
        /// The keyword as it was received.
        name: &'a str,
        /// The text after the keyword, without leading or trailing spaces.
        parameters: &'a str,
    },
}

macro_rules! keywords {
    ($($keyword:ident $name:literal)*) => {
        impl<'a> Keyword<'a> {
            /// Returns the keyword without its parameters, such as `"AUTH"`.
            pub fn name(&self) -> &'a str {
                match self {
                    $(Self::$keyword => $name,)*
                    Self::Auth(_) | Self::LegacyAuth(_) => "AUTH",
                    Self::Size(_) => "SIZE",
                    Self::Other { name, .. } => name,
                }
            }

            /// Returns the keyword without parameters that has this name, in upper case. Each name is compared as a
            /// whole; for a `match` the compiler would compare octet by octet.
            #[inline(always)]
            fn bare(name: &[u8]) -> Option<Self> {
                $(
                    if name == $name.as_bytes() {
                        return Some(Self::$keyword);
                    }
                )*
                None
            }
        }
    };
}

keywords! {
    StartTls "STARTTLS"
    Pipelining "PIPELINING"
    EightBitMime "8BITMIME"
    SmtpUtf8 "SMTPUTF8"
    EnhancedStatusCodes "ENHANCEDSTATUSCODES"
    Chunking "CHUNKING"
    Dsn "DSN"
}

impl<'a> Keyword<'a> {
    /// Creates a keyword for which this enum has no variant. Parameters are separated by spaces.
    ///
    /// # Errors
    /// Returns an error if the written keyword would not parse as an equal value, that is, in any of these cases:
    /// - The name is empty, or contains `=` or anything but visible ASCII.
    /// - The parameters contain anything but printable ASCII, or start or end with a space.
    /// - The name and the parameters, with the space between them, exceed 506 octets.
    /// - The enum has a variant for this name with these parameters.
    pub fn other(name: &'a str, parameters: &'a str) -> Result<Self, Error> {
        let is_name = |octet: u8| octet.is_ascii_graphic() && octet != b'=';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(Error::new("ehlo-keyword", 0));
        }
        reply::parse_all(parameters.as_bytes(), printable)?;
        if parameters.trim_ascii() != parameters {
            return Err(Error::new("ehlo-param", 0));
        }
        match Self::new(name, parameters) {
            Self::Other { .. } if name.len() + 1 + parameters.len() > MAX_KEYWORD => {
                Err(Error::new("line length", MAX_KEYWORD))
            }
            other @ Self::Other { .. } => Ok(other),
            _ => Err(Error::new("keyword without a variant", 0)),
        }
    }

    /// Parses the text of one line of the reply, that is, the part after `250-`.
    ///
    /// Keywords may be in upper or lower case. Any number of spaces may appear between parameters and at the end of the
    /// line. The first space may be replaced by `=`, because some servers send `AUTH=LOGIN PLAIN` for old versions of
    /// Outlook Express. Such servers send this line either instead of the correct line or in addition to it.
    ///
    /// # Errors
    /// Returns an error if the line is empty, begins with a space or `=`, or contains anything but printable ASCII.
    pub fn parse(line: &'a [u8]) -> Result<Self, Error> {
        match Self::usual(line) {
            Some(keyword) => Ok(keyword),
            None => Self::any(line),
        }
    }

    /// Parses the form that most servers write, which is in upper case with one space.
    #[inline(always)]
    fn usual(line: &'a [u8]) -> Option<Self> {
        if let Some(keyword) = Self::bare(line) {
            Some(keyword)
        } else if let Some(names) = line.strip_prefix(b"AUTH ") {
            names_of_auth(names).map(Self::Auth)
        } else if let Some(octets) = line.strip_prefix(b"SIZE ") {
            size(octets).map(Self::Size)
        } else {
            None
        }
    }

    /// Not part of [`parse`](Self::parse), because its registers would slow down the usual keywords.
    #[inline(never)]
    fn any(line: &'a [u8]) -> Result<Self, Error> {
        let (name, parameters) = reply::parse_all(line, ehlo_line)?;
        Ok(Self::new(name, parameters))
    }

    /// Creates the keyword from its name and its parameters as they were received.
    pub(crate) fn new(name: &'a str, parameters: &'a str) -> Self {
        let in_upper_case = || {
            let mut upper_case = [0; "ENHANCEDSTATUSCODES".len()];
            let upper_case = upper_case.get_mut(..name.len())?;
            upper_case.copy_from_slice(name.as_bytes());
            upper_case.make_ascii_uppercase();
            Self::known(upper_case, parameters)
        };
        Self::known(name.as_bytes(), parameters)
            .or_else(in_upper_case)
            .unwrap_or(Self::Other { name, parameters })
    }

    /// Returns the variant for a name in upper case.
    fn known(name: &[u8], parameters: &'a str) -> Option<Self> {
        match (name, parameters) {
            (b"AUTH", names) => Some(Self::Auth(MechanismNames(names))),
            (b"SIZE", octets) => size(octets.as_bytes()).map(Self::Size),
            (name, "") => Self::bare(name),
            _ => None,
        }
    }

    /// Appends the keyword and its parameters to `out`, without the reply code and the CRLF.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name().as_bytes());
        match self {
            Self::Auth(mechanisms) | Self::LegacyAuth(mechanisms) => {
                let start = out.len();
                for name in mechanisms.iter() {
                    out.push(b' ');
                    out.extend_from_slice(name.as_bytes());
                }
                let names = out.get_mut(start..).unwrap_or_default();
                names.make_ascii_uppercase();
                if let (Self::LegacyAuth(_), [separator, ..]) = (self, names) {
                    *separator = b'=';
                }
            }
            Self::Size(Some(octets)) => {
                out.push(b' ');
                decimal(*octets, out);
            }
            Self::Other { parameters, .. } if !parameters.is_empty() => {
                out.push(b' ');
                out.extend_from_slice(parameters.as_bytes());
            }
            _ => {}
        }
    }
}

/// The names of the mechanisms in an AUTH line. Each name consists of 1 to 20 characters from the set `A-Z`, `0-9`, `-`
/// and `_` (RFC 4422 §3.1).
///
/// Two lists are equal if they contain the same names in the same order, ignoring case.
#[derive(Clone, Copy, Debug)]
pub struct MechanismNames<'a>(&'a str);

impl<'a> MechanismNames<'a> {
    /// Creates the list from names that are separated by spaces, such as `"SCRAM-SHA-256 PLAIN"`. The names may be in
    /// upper or lower case, and the list may be empty.
    ///
    /// # Errors
    /// Returns an error if a name is not a valid mechanism name, or if the AUTH line would exceed 512 octets.
    pub fn new(names: &'a str) -> Result<Self, Error> {
        if names.len() > MAX_KEYWORD - "AUTH ".len() {
            return Err(Error::new("line length", MAX_KEYWORD - "AUTH ".len()));
        }
        let mut offset = 0;
        for word in names.split(' ') {
            if !word.is_empty() && !is_mechanism(word.as_bytes()) {
                return Err(Error::new("sasl-mech", offset));
            }
            offset += word.len() + 1;
        }
        Ok(Self(names))
    }

    /// Returns the names in order, as they were received. Words that are not valid names are skipped.
    pub fn iter(self) -> impl Iterator<Item = &'a str> + Clone {
        let mut rest = self.0;
        iter::from_fn(move || {
            while !rest.is_empty() {
                let length = MECH_CHAR.run(rest.as_bytes());
                let (name, behind) = rest.split_at_checked(length)?;
                let is_word = matches!(behind.as_bytes(), [] | [b' ', ..]);
                rest = match is_word {
                    true => behind.get(1..).unwrap_or_default(),
                    false => behind.split_once(' ').unwrap_or_default().1,
                };
                if is_word && (1..=MAX_MECHANISM).contains(&length) {
                    return Some(name);
                }
            }
            None
        })
    }
}

impl PartialEq for MechanismNames<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().count() == other.iter().count()
            && self.iter().zip(other.iter()).all(|(a, b)| a.eq_ignore_ascii_case(b))
    }
}

impl Eq for MechanismNames<'_> {}

/// A server's reply to EHLO. This type does not allocate memory. Instead, each method call parses the reply again.
///
/// After STARTTLS, discard the reply and send EHLO again (RFC 3207 §4.2), because a man-in-the-middle may have changed
/// what was received before TLS.
///
/// ```
/// use smtp_auth::{ehlo::{Ehlo, Keyword}, reply::ReplyRef};
///
/// let reply = ReplyRef::parse(b"250-mx.example hello\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n")?;
/// let ehlo = Ehlo::new(reply);
/// assert_eq!(ehlo.domain(), b"mx.example");
/// assert!(ehlo.keywords().any(|keyword| keyword == Keyword::StartTls));
/// assert!(ehlo.mechanisms().eq(["PLAIN"]));
/// # Ok::<(), smtp_auth::reply::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ehlo<'a>(ReplyRef<'a>);

impl<'a> Ehlo<'a> {
    /// Creates an `Ehlo` from a reply. The caller must check that EHLO has succeeded, that is, that the reply code is
    /// 250.
    pub fn new(reply: ReplyRef<'a>) -> Self {
        Self(reply)
    }

    /// Returns the name of the server, which is the text of the first line up to the first space. A server can send any
    /// text as its name.
    pub fn domain(self) -> &'a [u8] {
        let first = self.0.lines().next().unwrap_or_default();
        first.split(|&octet| octet == b' ').next().unwrap_or_default()
    }

    /// Returns the name and the parameters of each keyword as they were received, without leading or trailing spaces.
    /// Lines that cannot be parsed are skipped.
    pub(crate) fn words(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.lines().skip(1).filter_map(|line| reply::parse_all(line, ehlo_line).ok())
    }

    /// Returns the keyword of each line after the first. Lines that cannot be parsed are skipped.
    pub fn keywords(self) -> impl Iterator<Item = Keyword<'a>> + Clone {
        let mut lines = self.0.lines();
        lines.next();
        lines.filter_map(|line| Keyword::parse(line).ok())
    }

    /// Returns the names of the mechanisms in all AUTH lines, in upper or lower case. A name may occur more than once,
    /// because some servers repeat the AUTH line or add an `AUTH=` line.
    pub fn mechanisms(self) -> impl Iterator<Item = &'a str> + Clone {
        self.keywords()
            .filter_map(|keyword| match keyword {
                Keyword::Auth(mechanisms) => Some(mechanisms.iter()),
                _ => None,
            })
            .flatten()
    }
}

/// Appends a server's EHLO reply to `out`.
///
/// At most 255 characters of the host name are written. Characters other than visible ASCII are replaced by `?`. An
/// empty name is also replaced by `?`.
///
/// ```
/// use smtp_auth::ehlo::{self, Keyword};
///
/// let mut out = Vec::new();
/// ehlo::write("mx.example", &[Keyword::StartTls, Keyword::Size(Some(1000))], &mut out);
/// assert_eq!(out, b"250-mx.example\r\n250-STARTTLS\r\n250 SIZE 1000\r\n");
/// ```
pub fn write(hostname: &str, keywords: &[Keyword<'_>], out: &mut Vec<u8>) {
    let separator = |last: bool| if last { b"250 " } else { b"250-" };
    out.extend_from_slice(separator(keywords.is_empty()));
    let hostname = if hostname.is_empty() { "?" } else { hostname };
    out.extend(hostname.chars().take(MAX_DOMAIN).map(|c| match u8::try_from(c) {
        Ok(octet) if octet.is_ascii_graphic() => octet,
        _ => b'?',
    }));
    out.extend_from_slice(b"\r\n");
    for (n, keyword) in keywords.iter().enumerate() {
        out.extend_from_slice(separator(n + 1 == keywords.len()));
        keyword.write(out);
        out.extend_from_slice(b"\r\n");
    }
}

/// `ehlo-line = ehlo-keyword *( SP ehlo-param )`; `AUTH=`, and spaces at the end, are also accepted here
#[inline(always)]
fn ehlo_line(line: &[u8]) -> Parsed<'_, (&str, &str)> {
    let (rest, line) = printable(line)?;
    let is_end = |octet: u8| matches!(octet, b' ' | b'=');
    match line.bytes().position(is_end).and_then(|end| line.split_at_checked(end)) {
        None if line.is_empty() => reply::fail("ehlo-keyword", rest),
        None => Ok((rest, (line, ""))),
        Some(("", _)) => reply::fail("ehlo-keyword", line.as_bytes()),
        Some((name, end)) => Ok((rest, (name, end.get(1..).unwrap_or_default().trim_ascii()))),
    }
}

/// `1*(%d33-126)`, one or more, with spaces between them: the contents of an `ehlo-line`.
///
/// The standard's `ehlo-keyword` consists of letters, digits and `-`, but some servers use other characters.
#[inline(always)]
fn printable(line: &[u8]) -> Parsed<'_, &str> {
    let is_printable = |octet: &u8| matches!(octet, b' '..=b'~');
    // Does not stop early, so that the compiler checks many octets at a time.
    let valid = line.iter().fold(true, |all, octet| all & is_printable(octet));
    match str::from_utf8(line) {
        Ok(text) if valid => Ok((&[], text)),
        _ => {
            let end = line.iter().position(|octet| !is_printable(octet));
            reply::fail("ehlo-line", end.and_then(|end| line.get(end..)).unwrap_or_default())
        }
    }
}

/// Not inlined, like [`size`], because its registers would slow down the keywords without parameters.
#[inline(never)]
fn names_of_auth(names: &[u8]) -> Option<MechanismNames<'_>> {
    printable(names).ok().map(|(_, names)| MechanismNames(names))
}

/// `size-param ::= [1*DIGIT]` (RFC 1870 §4). Returns `None` for anything else.
#[inline(never)]
fn size(parameters: &[u8]) -> Option<Option<u64>> {
    let mut size = all_consuming(opt(u64::<_, Fault>));
    size.parse(parameters).ok().map(|(_, octets)| octets)
}

/// `sasl-mech = 1*20mech-char` (RFC 4422 §3.1)
fn is_mechanism(word: &[u8]) -> bool {
    (1..=MAX_MECHANISM).contains(&word.len()) && MECH_CHAR.run(word) == word.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use alloc::{string::String, vec};

    use super::*;

    fn other<'a>(name: &'a str, parameters: &'a str) -> Keyword<'a> {
        Keyword::Other { name, parameters }
    }

    #[test]
    fn lines() {
        let auth = |names| Keyword::Auth(MechanismNames::new(names).unwrap());
        for (line, keyword) in [
            ("STARTTLS", Keyword::StartTls),
            ("starttls  ", Keyword::StartTls),
            ("AUTH PLAIN LOGIN", auth("PLAIN LOGIN")),
            ("Auth=login  plain ", auth("LOGIN PLAIN")),
            ("AUTH = PLAIN X! WAY-TOO-LONG-TO-BE-A-NAME", auth("PLAIN")),
            ("AUTH", auth("")),
            ("AUTH=", auth("")),
            ("SIZE", Keyword::Size(None)),
            ("SIZE 0", Keyword::Size(Some(0))),
            ("size=35882577", Keyword::Size(Some(35_882_577))),
            ("SIZE 18446744073709551616", other("SIZE", "18446744073709551616")),
            ("SIZE 1 2", other("SIZE", "1 2")),
            ("DSN x", other("DSN", "x")),
            ("X-EXPS=LOGIN", other("X-EXPS", "LOGIN")),
            ("X_a  b  c ", other("X_a", "b  c")),
            ("8BITMIME", Keyword::EightBitMime),
            ("EnhancedStatusCodes", Keyword::EnhancedStatusCodes),
        ] {
            assert_eq!(Keyword::parse(line.as_bytes()), Ok(keyword), "{line}");
        }
    }

    #[test]
    fn faults() {
        for (line, rule, offset) in [
            (&b""[..], "ehlo-keyword", 0),
            (b" AUTH", "ehlo-keyword", 0),
            (b"=AUTH", "ehlo-keyword", 0),
            (b"X\xe9", "ehlo-line", 1),
            (b"AUTH PLAIN\tLOGIN", "ehlo-line", 10),
        ] {
            assert_eq!(Keyword::parse(line), Err(Error::new(rule, offset)));
        }
        for (name, parameters) in [
            ("", ""),
            ("X Y", ""),
            ("X=Y", ""),
            ("X\r", ""),
            ("X", "a\nb"),
            ("X", " a"),
            ("X", "a "),
            ("STARTTLS", ""),
            ("auth", "!"),
            ("X", &"a".repeat(505)),
        ] {
            assert!(Keyword::other(name, parameters).is_err(), "{name} {parameters}");
        }
        assert_eq!(MechanismNames::new("PLAIN a\r"), Err(Error::new("sasl-mech", 6)));
        assert!(MechanismNames::new(&"A ".repeat(251)).is_err());
    }

    #[test]
    fn names_are_equal_whatever_their_case() {
        let names = |names| MechanismNames::new(names).unwrap();
        assert_eq!(names("plain LOGIN"), names(" PLAIN  login"));
        assert_ne!(names("PLAIN"), names("PLAIN LOGIN"));
        assert_ne!(names("PLAIN LOGIN"), names("PLAIN"));
        assert_ne!(names("PLAIN LOGIN"), names("LOGIN PLAIN"));
    }

    #[test]
    fn written() {
        let auth = Keyword::Auth(MechanismNames::new("plain Login").unwrap());
        let keywords = [Keyword::Size(Some(10)), auth, other("LIMITS", "RCPTMAX=1")];
        let mut out = vec![];
        write("mx .é", &keywords, &mut out);
        write("", &[], &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "250-mx?.?\r\n250-SIZE 10\r\n250-AUTH PLAIN LOGIN\r\n250 LIMITS RCPTMAX=1\r\n250 ?\r\n",
        );
    }
}
