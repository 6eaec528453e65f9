//! Replies (RFC 5321 §4.2) and their enhanced codes (RFC 2034, RFC 3463, RFC 5248).
//!
//! A server says a [`Reply`], which owns its text and can always be written; a client reads a
//! [`ReplyRef`], which borrows what came over the wire.

use alloc::{borrow::Cow, string::String, vec::Vec};
use core::{fmt, iter};

use nom::{
    IResult, Parser,
    bytes::complete::take_while_m_n,
    character::complete::char,
    combinator::{eof, map},
    error::{ContextError, ErrorKind, ParseError, context},
};

/// The longest line read, CRLF included: `334 ` and a challenge, which may be as long as the
/// longest response, 12,288 octets (RFC 4954 §4). RFC 5321 §4.5.3.1.5 asks for 512.
pub(crate) const MAX_REPLY_LINE: usize = 4 + 12_288 + 2;

/// The most lines read or written. Long EHLO replies have some twenty.
pub(crate) const MAX_REPLY_LINES: usize = 128;

/// The most octets read: as many lines of the standard's length. Without a bound a hostile server
/// fills the client's memory with a reply that does not end.
pub(crate) const MAX_REPLY_OCTETS: usize = MAX_REPLY_LINES * MAX_WRITTEN_LINE;

/// The longest line written, CRLF included (RFC 5321 §4.5.3.1.5).
pub(crate) const MAX_WRITTEN_LINE: usize = 512;

/// An enhanced status code, `5.7.8` (RFC 2034, RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedCode {
    /// `None` unless the class is 2, 4 or 5, and subject and detail have up to three digits
    /// (RFC 3463 §2).
    pub const fn new(class: u8, subject: u16, detail: u16) -> Option<Self> {
        if matches!(class, 2 | 4 | 5) && subject <= 999 && detail <= 999 {
            Some(Self { class, subject, detail })
        } else {
            None
        }
    }

    /// The first number: 2 success, 4 transient failure, 5 permanent failure.
    pub const fn class(self) -> u8 {
        self.class
    }

    /// The second number: 7, as an example, is security.
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// The third number: what precisely happened.
    pub const fn detail(self) -> u16 {
        self.detail
    }

    /// Whether it may stand in a reply of this code: the classes are equal (RFC 2034 §4).
    const fn belongs_to(self, code: u16) -> bool {
        self.class as u16 == code / 100
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// Why [`Reply::new`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReply {
    /// The code is not one of 200 to 599.
    #[error("reply code outside 200 to 599")]
    Code,
    /// The enhanced code is out of range, or its class is not the code's first digit.
    #[error("enhanced code out of range or of another class than the reply code")]
    EnhancedCode,
}

/// A reply that owns its text: what a server says, or a copy of what a client got.
///
/// The text has no control characters but `\n`, which separates lines, so no text can end the reply
/// early or forge another one. [`to_string`](alloc::string::ToString) gives it in one line,
/// `535 5.7.8 text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: Cow<'static, str>,
}

impl Reply {
    /// A reply of the host's own.
    ///
    /// Every character of the text but printable ASCII and `\n` becomes `?`. Where no enhanced code
    /// is given and the text begins with one of the code's class, it is taken from there, as the
    /// client will read it: `(250, None, "2.1.0 ok")` is `(250, Some((2, 1, 0)), "ok")`.
    ///
    /// # Errors
    /// The code is outside 200 to 599, or the enhanced code is out of range or of another class.
    ///
    /// ```
    /// use smtp_auth::reply::Reply;
    ///
    /// let reply = Reply::new(550, Some((5, 1, 1)), "No such user\nAsk postmaster")?;
    /// let mut out = Vec::new();
    /// reply.write(&mut out);
    /// assert_eq!(out, b"550-5.1.1 No such user\r\n550 5.1.1 Ask postmaster\r\n");
    /// # Ok::<(), smtp_auth::reply::InvalidReply>(())
    /// ```
    pub fn new(
        code: u16,
        enhanced: Option<(u8, u16, u16)>,
        text: impl Into<Cow<'static, str>>,
    ) -> Result<Self, InvalidReply> {
        if !(200..=599).contains(&code) {
            return Err(InvalidReply::Code);
        }
        let enhanced = match enhanced {
            None => None,
            Some((class, subject, detail)) => Some(
                EnhancedCode::new(class, subject, detail)
                    .filter(|enhanced| enhanced.belongs_to(code))
                    .ok_or(InvalidReply::EnhancedCode)?,
            ),
        };
        Ok(Self { code, enhanced, text: Cow::Borrowed("") }.with_text(text))
    }

    /// The same codes with another text, treated as in [`Reply::new`].
    #[must_use]
    pub fn with_text(self, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        let text = if is_writable(&text) { text } else { Cow::Owned(writable(&text)) };
        Self { text, ..self }.lift()
    }

    /// Takes the enhanced code out of the text, if it is only there: out of the first line, and of
    /// the others that repeat it.
    fn lift(self) -> Self {
        let first = self.text.split('\n').next().unwrap_or_default();
        let found = strip_enhanced(first).filter(|(enhanced, _)| enhanced.belongs_to(self.code));
        let (None, Some((enhanced, _))) = (self.enhanced, found) else {
            return self;
        };
        let mut text = String::with_capacity(self.text.len());
        for (n, line) in self.text.split('\n').enumerate() {
            if n > 0 {
                text.push('\n');
            }
            text.push_str(match strip_enhanced(line) {
                Some((repeated, rest)) if repeated == enhanced => rest,
                _ => line,
            });
        }
        Self { enhanced: Some(enhanced), text: Cow::Owned(text), ..self }
    }

    /// The three digits: 200 to 599.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced code. Its class is the code's first digit.
    pub fn enhanced_code(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text without codes, its lines separated by `\n`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// `2xx` or `3xx`: done, or go on.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// `4xx`: the same may succeed later.
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// `5xx`: the same will fail again.
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// Appends the reply to `out`, the enhanced code on every line (RFC 2034 §4).
    ///
    /// A line longer than 512 octets is broken, what is not ASCII becomes `?`, and lines behind the
    /// 128th are dropped.
    pub fn write(&self, out: &mut Vec<u8>) {
        let prefix = self.enhanced.map_or(0, |enhanced| {
            4 + digits(enhanced.subject).count() + digits(enhanced.detail).count()
        });
        let room = MAX_WRITTEN_LINE - "250 ".len() - prefix - "\r\n".len();
        let text = if is_writable(&self.text) {
            Cow::Borrowed(&*self.text)
        } else {
            Cow::Owned(writable(&self.text))
        };
        let lines = text.as_bytes().split(|&octet| octet == b'\n');
        let mut lines = lines.flat_map(|line| pieces(line, room)).take(MAX_REPLY_LINES).peekable();
        while let Some(line) = lines.next() {
            out.extend(digits(self.code));
            if lines.peek().is_some() {
                out.push(b'-');
            } else if self.enhanced.is_some() || !line.is_empty() {
                out.push(b' ');
            }
            if let Some(enhanced) = self.enhanced {
                out.extend(digits(enhanced.class.into()));
                out.push(b'.');
                out.extend(digits(enhanced.subject));
                out.push(b'.');
                out.extend(digits(enhanced.detail));
                if !line.is_empty() {
                    out.push(b' ');
                }
            }
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }
}

macro_rules! standard_replies {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal $enhanced:tt $text:literal;)*) => {
        /// The replies that the standards foresee. [`Reply::with_text`] gives one another text.
        impl Reply {
            $($(#[doc = $doc])*
            #[doc = concat!("\n\n`", stringify!($code), "`, enhanced `", stringify!($enhanced), "`")]
            pub const $name: Self = Self::standard($code, $enhanced, $text);)*

            /// To DATA.
            ///
            /// `354`; a `3xx` has no enhanced code (RFC 2034 §4).
            pub const START_MAIL_INPUT: Self = Self {
                code: 354,
                enhanced: None,
                text: Cow::Borrowed("Send the message, end with a dot"),
            };
        }

        #[cfg(test)]
        const STANDARD: &[Reply] = &[$(Reply::$name),*];
    };
}

standard_replies! {
    /// Done.
    OK = 250 (2, 0, 0) "OK";
    /// To MAIL.
    SENDER_OK = 250 (2, 1, 0) "Sender OK";
    /// To RCPT.
    RECIPIENT_OK = 250 (2, 1, 5) "Recipient OK";
    /// To STARTTLS (RFC 3207 §4).
    READY_FOR_TLS = 220 (2, 0, 0) "Ready to start TLS";
    /// To QUIT.
    CLOSING = 221 (2, 0, 0) "Goodbye";
    /// AUTH succeeded (RFC 4954 §6).
    AUTHENTICATED = 235 (2, 7, 0) "Authentication succeeded";
    /// To VRFY, by a server that does not tell (RFC 5321 §3.5.3).
    CANNOT_VERIFY = 252 (2, 5, 0) "Cannot verify, but will take a message and try";

    /// At any time; the connection is closed.
    SHUTTING_DOWN = 421 (4, 3, 2) "Service is shutting down, try again later";
    /// The client was silent too long; the connection is closed.
    IDLE = 421 (4, 4, 2) "Idle for too long, closing";
    /// Too many failed AUTH commands; the connection is closed (RFC 4954 §4).
    TOO_MANY_ATTEMPTS = 421 (4, 7, 0) "Too many failed authentication attempts, closing";
    /// The server's own failure.
    LOCAL_ERROR = 451 (4, 3, 0) "Local error in processing, try again later";
    /// No room at the moment.
    INSUFFICIENT_STORAGE = 452 (4, 3, 1) "Insufficient storage, try again later";
    /// To STARTTLS (RFC 3207 §4).
    TLS_UNAVAILABLE = 454 (4, 7, 0) "TLS is not available at the moment";

    /// An unknown verb.
    UNRECOGNIZED = 500 (5, 5, 2) "Command not recognized";
    /// A command line over the server's bound.
    LINE_TOO_LONG = 500 (5, 5, 2) "Line too long";
    /// A bare CR, a bare LF or a NUL in a command (RFC 5321 §2.3.8).
    BAD_LINE_END = 500 (5, 5, 2) "Lines end in CRLF; bare CR, bare LF and NUL are refused";
    /// A line over the bound inside an AUTH exchange (RFC 4954 §6).
    AUTH_LINE_TOO_LONG = 500 (5, 5, 6) "Authentication exchange line is too long";
    /// Arguments that break the grammar, or unwanted ones.
    SYNTAX = 501 (5, 5, 4) "Syntax error in arguments";
    /// A known command that is not offered.
    NOT_IMPLEMENTED = 502 (5, 5, 1) "Command not implemented";
    /// A command out of order.
    BAD_SEQUENCE = 503 (5, 5, 1) "Bad sequence of commands";
    /// Log in first (RFC 4954 §6).
    AUTHENTICATION_REQUIRED = 530 (5, 7, 0) "Authentication required";
    /// No such mailbox.
    MAILBOX_UNAVAILABLE = 550 (5, 1, 1) "No such mailbox here";
    /// Over the size limit (RFC 1870).
    MESSAGE_TOO_BIG = 552 (5, 3, 4) "Message is too big";
    /// A bare CR or a bare LF in a message. To take it invites SMTP smuggling.
    MESSAGE_BAD_LINE_END = 554 (5, 6, 0) "Bare CR or bare LF in the message";
    /// An unknown parameter of MAIL or RCPT (RFC 5321 §4.1.1.11).
    PARAMETER_NOT_RECOGNIZED = 555 (5, 5, 4) "Parameter not recognized or not implemented";
}

impl Reply {
    /// For constants: codes and text must be such as [`Reply::new`] leaves unchanged.
    pub(crate) const fn standard(
        code: u16,
        (class, subject, detail): (u8, u16, u16),
        text: &'static str,
    ) -> Self {
        let enhanced = EnhancedCode::new(class, subject, detail);
        Self { code, enhanced, text: Cow::Borrowed(text) }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        self.text.split('\n').filter(|line| !line.is_empty()).try_for_each(|l| write!(f, " {l}"))
    }
}

fn is_writable(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b' '..=b'~' | b'\n'))
}

fn writable(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~' | '\n') { c } else { '?' }).collect()
}

/// Splits an enhanced code, and the space behind it, off a line of text.
fn strip_enhanced(line: &str) -> Option<(EnhancedCode, &str)> {
    let (rest, enhanced) = status_code(line.as_bytes()).ok()?;
    Some((enhanced, line.get(line.len() - rest.len()..)?))
}

/// The line in pieces of up to `room` octets; an empty line is one empty piece.
fn pieces(line: &[u8], room: usize) -> impl Iterator<Item = &[u8]> {
    let (first, rest) = line.split_at(room.min(line.len()));
    iter::once(first).chain(rest.chunks(room))
}

/// A number of up to three digits.
fn digits(number: u16) -> impl Iterator<Item = u8> {
    let first = if number < 10 { 2 } else { usize::from(number < 100) };
    [number / 100, number / 10 % 10, number % 10].into_iter().skip(first).map(|n| b'0' + n as u8)
}

/// A complete reply as received: one or more lines, each ending in CRLF.
///
/// ```
/// use smtp_auth::reply::ReplyRef;
///
/// let reply = ReplyRef::parse(b"535-5.7.8 Wrong password\r\n535 5.7.8 Try again\r\n")?;
/// assert_eq!(reply.code(), 535);
/// assert_eq!(reply.to_reply().text(), "Wrong password\nTry again");
/// # Ok::<(), smtp_auth::reply::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReplyRef<'a> {
    code: u16,
    block: &'a [u8],
}

impl<'a> ReplyRef<'a> {
    /// Reads one reply, without allocation.
    ///
    /// More is taken than the standard allows: any code from 200 to 599, text of any octets but CR,
    /// LF and NUL, and lines of up to 12,294 octets, which a `334` may need.
    ///
    /// # Errors
    /// The block is not one reply: a line breaks the grammar of RFC 5321 §4.2, the codes of two
    /// lines differ, or octets stand behind the last line; or it has more than 128 lines or 65,536
    /// octets.
    pub fn parse(block: &'a [u8]) -> Result<Self, Error> {
        if block.len() > MAX_REPLY_OCTETS {
            return Err(Error { rule: "reply length", offset: MAX_REPLY_OCTETS });
        }
        let code = parse_all(block, reply)?;
        Ok(Self { code, block })
    }

    /// The three digits: 200 to 599.
    pub fn code(self) -> u16 {
        self.code
    }

    /// The enhanced code that the first line's text begins with, if it is of the code's class.
    pub fn enhanced_code(self) -> Option<EnhancedCode> {
        let (_, enhanced) = status_code(self.lines().next()?).ok()?;
        Some(enhanced).filter(|enhanced| enhanced.belongs_to(self.code))
    }

    /// Each line's octets behind the code and the `-` or space: an enhanced code is still there.
    pub fn lines(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut rest = self.block;
        iter::from_fn(move || {
            let (line, behind) = rest.split_at_checked(text_len(rest) + "\r\n".len())?;
            rest = behind;
            Some(line.get("250-".len()..line.len() - "\r\n".len()).unwrap_or_default())
        })
    }

    /// An owned copy, with the enhanced code taken out of the lines that have it.
    ///
    /// The text's control characters become `?`, and what is not UTF-8 becomes U+FFFD.
    pub fn to_reply(self) -> Reply {
        let mut text = String::with_capacity(self.block.len());
        for (n, line) in self.lines().enumerate() {
            if n > 0 {
                text.push('\n');
            }
            for chunk in line.utf8_chunks() {
                text.extend(chunk.valid().chars().map(|c| if c.is_control() { '?' } else { c }));
                if !chunk.invalid().is_empty() {
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
        Reply { code: self.code, enhanced: None, text: Cow::Owned(text) }.lift()
    }
}

impl fmt::Debug for ReplyRef<'_> {
    /// Hides the text of a `334`, which may be part of a proof that can be attacked offline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code == 334 {
            return f.write_str("ReplyRef(\"334 ***\")");
        }
        write!(f, "ReplyRef(\"{}\")", self.block.escape_ascii())
    }
}

/// Octets that break the grammar: which rule, and where. The octets themselves are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {rule} at octet {offset}")]
pub struct Error {
    rule: &'static str,
    offset: usize,
}

impl Error {
    pub(crate) const fn new(rule: &'static str, offset: usize) -> Self {
        Self { rule, offset }
    }

    /// The name of the rule, as the standard gives it, or of the limit.
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// Where in the octets given it was found broken, from 0.
    pub fn offset(&self) -> usize {
        self.offset
    }
}

/// Whether a line, with or without CRLF, is the last of its reply; `None` if it is of no reply.
pub(crate) fn line_is_last(line: &[u8]) -> Option<bool> {
    separator(line.get(3..)?).ok().map(|(_, last)| last)
}

/// What a rule returns.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, Fault>;

/// The innermost rule that failed, and how many octets were left there.
#[derive(Debug)]
pub(crate) struct Fault {
    rule: &'static str,
    left: usize,
}

impl ParseError<&[u8]> for Fault {
    fn from_error_kind(input: &[u8], _: ErrorKind) -> Self {
        Self { rule: "", left: input.len() }
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

impl ContextError<&[u8]> for Fault {
    fn add_context(_: &[u8], rule: &'static str, other: Self) -> Self {
        if other.rule.is_empty() { Self { rule, ..other } } else { other }
    }
}

pub(crate) fn fail<'a, T>(rule: &'static str, at: &'a [u8]) -> Parsed<'a, T> {
    Err(nom::Err::Error(Fault { rule, left: at.len() }))
}

/// Applies a rule to all of the octets.
#[inline(always)]
pub(crate) fn parse_all<'a, T>(
    octets: &'a [u8],
    rule: impl Parser<&'a [u8], Output = T, Error = Fault>,
) -> Result<T, Error> {
    match (rule, context("end", eof)).parse(octets) {
        Ok((_, (parsed, _))) => Ok(parsed),
        Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => {
            Err(Error { rule: fault.rule, offset: octets.len() - fault.left })
        }
        Err(nom::Err::Incomplete(_)) => Err(Error { rule: "end", offset: octets.len() }),
    }
}

/// `Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF`
///
/// "the three-digit code MUST be the same" on all lines (§4.2.1).
#[inline(always)]
fn reply(octets: &[u8]) -> Parsed<'_, u16> {
    let (_, code) = reply_code(octets)?;
    let mut rest = octets;
    for _ in 0..MAX_REPLY_LINES {
        let (behind, (repeated, last)) = line(rest)?;
        if repeated != code {
            return fail("repeated Reply-code", rest);
        }
        if last {
            return Ok((behind, code));
        }
        rest = behind;
    }
    fail("number of lines", rest)
}

/// One line of a `Reply-line`: its code, and whether it is the last.
#[inline(always)]
fn line(octets: &[u8]) -> Parsed<'_, (u16, bool)> {
    let (behind_code, code) = reply_code(octets)?;
    let (rest, (last, _, _)) = (separator, textstring, crlf).parse(behind_code)?;
    if octets.len() - rest.len() > MAX_REPLY_LINE {
        return fail("line length", octets);
    }
    Ok((rest, (code, last)))
}

/// `Reply-code = %x32-35 %x30-35 %x30-39`; here with any second digit.
#[inline(always)]
fn reply_code(octets: &[u8]) -> Parsed<'_, u16> {
    match octets {
        [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
            let [a, b, c] = [a, b, c].map(|&digit| u16::from(digit - b'0'));
            Ok((rest, 100 * a + 10 * b + c))
        }
        _ => fail("Reply-code", octets),
    }
}

/// `"-"`, or, on the last line, `SP` or nothing: whether it is the last.
#[inline(always)]
fn separator(octets: &[u8]) -> Parsed<'_, bool> {
    match octets {
        [b'-', rest @ ..] => Ok((rest, false)),
        [b' ', rest @ ..] => Ok((rest, true)),
        [] | [b'\r', ..] => Ok((octets, true)),
        _ => fail("Reply-line", octets),
    }
}

/// `textstring = 1*(%d09 / %d32-126)`; here of any octets that cannot confuse framing, or none:
/// servers send UTF-8, and a space before an empty text.
#[inline(always)]
fn textstring(octets: &[u8]) -> Parsed<'_, &[u8]> {
    let (text, rest) = octets.split_at(text_len(octets));
    Ok((rest, text))
}

/// How many octets stand before the first CR, LF or NUL.
#[inline(always)]
fn text_len(octets: &[u8]) -> usize {
    const LOW: u64 = u64::from_le_bytes([b'\r' + 1; 8]);
    const TOP_BITS: u64 = u64::from_le_bytes([0x80; 8]);
    let mut rest = octets;
    // By eights up to the first octet that is not above CR, which saves half of the time of reading
    // a reply: only such an octet leaves its top bit set, for it borrows and had none.
    while let Some((eight, behind)) = rest.split_first_chunk() {
        let eight = u64::from_le_bytes(*eight);
        let found = eight.wrapping_sub(LOW) & !eight & TOP_BITS;
        if found != 0 {
            rest = rest.get(found.trailing_zeros() as usize / 8..).unwrap_or_default();
            break;
        }
        rest = behind;
    }
    let end = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n' | 0));
    octets.len() - rest.len() + end.unwrap_or(rest.len())
}

/// `CRLF = %x0D %x0A`
#[inline(always)]
fn crlf(octets: &[u8]) -> Parsed<'_, ()> {
    match octets {
        [b'\r', b'\n', rest @ ..] => Ok((rest, ())),
        _ => fail("CRLF", octets),
    }
}

/// `status-code = class "." subject "." detail` (RFC 2034 §4), and the space that ends it.
fn status_code(text: &[u8]) -> Parsed<'_, EnhancedCode> {
    let (rest, (class, _, subject, _, detail)) =
        (number, char('.'), number, char('.'), number).parse(text)?;
    let enhanced = u8::try_from(class).ok().and_then(|c| EnhancedCode::new(c, subject, detail));
    match (enhanced, rest) {
        (Some(enhanced), [] | [b' ', ..]) => Ok((rest.get(1..).unwrap_or(rest), enhanced)),
        _ => fail("status-code", text),
    }
}

/// `1*3digit`
fn number(text: &[u8]) -> Parsed<'_, u16> {
    let digits = take_while_m_n(1, 3, |octet: u8| octet.is_ascii_digit());
    map(digits, |digits: &[u8]| digits.iter().fold(0, |n, digit| 10 * n + u16::from(digit - b'0')))
        .parse(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use alloc::{string::ToString, vec, vec::Vec};

    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = vec![];
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn written_forms() {
        for (code, enhanced, text, expected) in [
            (250, Some((2, 0, 0)), "OK", "250 2.0.0 OK\r\n"),
            (250, Some((2, 0, 0)), "", "250 2.0.0\r\n"),
            (250, None, "", "250\r\n"),
            (250, None, "a\n\nb", "250-a\r\n250-\r\n250 b\r\n"),
            (250, None, "a\n", "250-a\r\n250\r\n"),
            (550, Some((5, 10, 123)), "a\n", "550-5.10.123 a\r\n550 5.10.123\r\n"),
            (250, None, "\r\0\té", "250 ????\r\n"),
            (
                250,
                None,
                "2.1.0 a\n2.1.0 b\n2.1.1 c",
                "250-2.1.0 a\r\n250-2.1.0 b\r\n250 2.1.0 2.1.1 c\r\n",
            ),
            (354, None, "2.0.0 go", "354 2.0.0 go\r\n"),
        ] {
            assert_eq!(written(&Reply::new(code, enhanced, text).unwrap()), expected);
        }
        let lifted = Reply::new(250, None, "2.1.0 a\n2.1.0 b").unwrap();
        assert_eq!(lifted, Reply::new(250, Some((2, 1, 0)), "a\nb").unwrap());
        assert_eq!(lifted.to_string(), "250 2.1.0 a b");
        assert_eq!(Reply::OK.with_text("2.1.0 x").to_string(), "250 2.0.0 2.1.0 x");
    }

    #[test]
    fn refused_codes() {
        for (code, enhanced, error) in [
            (199, None, InvalidReply::Code),
            (600, None, InvalidReply::Code),
            (250, Some((5, 0, 0)), InvalidReply::EnhancedCode),
            (354, Some((3, 0, 0)), InvalidReply::EnhancedCode),
            (550, Some((5, 1000, 0)), InvalidReply::EnhancedCode),
        ] {
            assert_eq!(Reply::new(code, enhanced, ""), Err(error));
        }
    }

    #[test]
    fn standard_replies_are_such_as_new_makes() {
        for reply in STANDARD {
            let enhanced = reply.enhanced.unwrap();
            let codes = (enhanced.class, enhanced.subject, enhanced.detail);
            let text = reply.text.clone();
            assert_eq!(Reply::new(reply.code, Some(codes), text).as_ref(), Ok(reply));
        }
        let start = Reply::START_MAIL_INPUT;
        assert_eq!(Reply::new(354, None, start.text.clone()), Ok(start));
    }

    #[test]
    fn received_forms() {
        for (block, code, lines) in [
            (&b"250 OK\r\n"[..], 250, vec!["OK"]),
            (b"250\r\n", 250, vec![""]),
            (b"250 \r\n", 250, vec![""]),
            (b"334 dXNlcg==\r\n", 334, vec!["dXNlcg=="]),
            (b"299-a\r\n299-\r\n299\r\n", 299, vec!["a", "", ""]),
            (b"535-5.7.8 a\r\n535 5.7.8 b\r\n", 535, vec!["5.7.8 a", "5.7.8 b"]),
            (b"220 \xc3\xa9\ta\r\n", 220, vec!["é\ta"]),
        ] {
            let reply = ReplyRef::parse(block).unwrap();
            assert_eq!(reply.code(), code);
            let expected: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(reply.lines().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn received_faults() {
        for (block, rule, offset) in [
            (&b""[..], "Reply-code", 0),
            (b"25\r\n", "Reply-code", 0),
            (b"150 a\r\n", "Reply-code", 0),
            (b"600 a\r\n", "Reply-code", 0),
            (b"250", "CRLF", 3),
            (b"250+a\r\n", "Reply-line", 3),
            (b"250\n", "Reply-line", 3),
            (b"250 a\n", "CRLF", 5),
            (b"250 a\rb\r\n", "CRLF", 5),
            (b"250 a\0\r\n", "CRLF", 5),
            (b"250-a\r\n", "Reply-code", 7),
            (b"250-a\r\n251 b\r\n", "repeated Reply-code", 7),
            (b"250 a\r\n250 b\r\n", "end", 7),
        ] {
            assert_eq!(
                ReplyRef::parse(block),
                Err(Error { rule, offset }),
                "{}",
                block.escape_ascii()
            );
        }
    }

    #[test]
    fn enhanced_codes() {
        for (block, enhanced, text) in [
            (&b"250 2.1.0 a\r\n"[..], Some((2, 1, 0)), "a"),
            (b"250 2.1.0\r\n", Some((2, 1, 0)), ""),
            (b"250 2.1.0  a\r\n", Some((2, 1, 0)), " a"),
            (b"250-2.1.0 a\r\n250-b\r\n250 2.1.0 c\r\n", Some((2, 1, 0)), "a\nb\nc"),
            (b"250 5.1.0 a\r\n", None, "5.1.0 a"),
            (b"250 2.1.0a\r\n", None, "2.1.0a"),
            (b"250 2.1 a\r\n", None, "2.1 a"),
            (b"250 2.1.1000 a\r\n", None, "2.1.1000 a"),
            (b"250-a\r\n250 2.1.0 b\r\n", None, "a\n2.1.0 b"),
            (b"250 \xff\xc3\xa9\t\x7f\r\n", None, "\u{fffd}é??"),
        ] {
            let reply = ReplyRef::parse(block).unwrap();
            let enhanced = enhanced.and_then(|(class, s, d)| EnhancedCode::new(class, s, d));
            assert_eq!(reply.enhanced_code(), enhanced);
            assert_eq!(reply.to_reply().enhanced_code(), enhanced);
            assert_eq!(reply.to_reply().text(), text);
        }
    }

    #[test]
    fn bounds() {
        let line = |n: usize| [b"334 ", &vec![b'a'; n][..], b"\r\n"].concat();
        assert!(ReplyRef::parse(&line(12_288)).is_ok());
        assert_eq!(ReplyRef::parse(&line(12_289)).unwrap_err().rule(), "line length");
        let lines = |n: usize| [b"250-a\r\n".repeat(n - 1), b"250 a\r\n".to_vec()].concat();
        assert!(ReplyRef::parse(&lines(128)).is_ok());
        assert_eq!(ReplyRef::parse(&lines(129)).unwrap_err().rule(), "number of lines");
        let long = [b"250-", &vec![b'a'; 10_000][..], b"\r\n"].concat().repeat(7);
        assert_eq!(ReplyRef::parse(&long).unwrap_err().rule(), "reply length");
    }

    #[test]
    fn last_lines() {
        for (line, last) in [
            (&b"250 a"[..], Some(true)),
            (b"250", Some(true)),
            (b"250\r\n", Some(true)),
            (b"250-a\r\n", Some(false)),
            (b"250a", None),
            (b"25", None),
        ] {
            assert_eq!(line_is_last(line), last);
        }
    }

    #[test]
    fn debug_hides_challenges() {
        let shown = |block: &'static [u8]| alloc::format!("{:?}", ReplyRef::parse(block));
        assert_eq!(shown(b"250 a\r\n"), r#"Ok(ReplyRef("250 a\r\n"))"#);
        assert_eq!(shown(b"334 dj1h\r\n"), r#"Ok(ReplyRef("334 ***"))"#);
    }
}
