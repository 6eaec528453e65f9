//! Replies (RFC 5321 §4.2) and their enhanced codes (RFC 2034, RFC 3463, RFC 5248).
//!
//! A server writes a [`Reply`], which owns its text and is always valid. A client reads a [`ReplyRef`], which borrows
//! the received octets.

use alloc::{borrow::Cow, string::String, vec::Vec};
use core::fmt;

use crate::decimal::decimal;

/// The longest line that is read, with its CRLF: `334 ` and a challenge, which may be as long as the longest response,
/// 12,288 octets (RFC 4954 §4). RFC 5321 §4.5.3.1.5 requires 512.
pub(crate) const MAX_REPLY_LINE: usize = 4 + 12_288 + 2;

/// The maximum number of lines that are read or written. Long EHLO replies have about twenty.
pub(crate) const MAX_REPLY_LINES: usize = 128;

/// The maximum number of octets that are read, which is the maximum number of lines times the standard's line length.
/// Without this limit, a hostile server could cause a denial of service by filling the client's memory with an endless
/// reply.
pub(crate) const MAX_REPLY_OCTETS: usize = MAX_REPLY_LINES * MAX_WRITTEN_LINE;

/// The maximum number of octets around the text of a line: `250-2.123.123 ` and CRLF.
const MAX_HEAD: usize = 16;

/// The longest line that is written, with its CRLF (RFC 5321 §4.5.3.1.5).
pub(crate) const MAX_WRITTEN_LINE: usize = 512;

mod received;
mod standard;

pub use received::{Error, ReplyRef};
pub(crate) use received::{Fault, Parsed, codes, fail, line_is_last, parse_all};
pub(crate) use standard::standard;

/// An enhanced status code, such as `5.7.8` (RFC 2034, RFC 3463).
///
/// ```
/// use smtp_auth::reply::EnhancedCode;
///
/// assert_eq!(EnhancedCode::new(5, 7, 8).map(|code| code.to_string()).as_deref(), Some("5.7.8"));
/// assert_eq!(EnhancedCode::new(3, 7, 8), None); // there is no such class
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedCode {
    /// Creates an enhanced code. Returns `None` unless the class is 2, 4 or 5 and the subject and the detail have at
    /// most three digits (RFC 3463 §2).
    pub const fn new(class: u8, subject: u16, detail: u16) -> Option<Self> {
        if matches!(class, 2 | 4 | 5) && subject <= 999 && detail <= 999 {
            Some(Self { class, subject, detail })
        } else {
            None
        }
    }

    /// Returns the first number: 2 for success, 4 for a transient failure, 5 for a permanent failure.
    pub const fn class(self) -> u8 {
        self.class
    }

    /// Returns the second number, the subject. For example, 7 means security.
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// Returns the third number, the detail within the subject.
    pub const fn detail(self) -> u16 {
        self.detail
    }

    /// Returns the length of the text form and the space after it.
    fn len(self) -> usize {
        let more = |number: u16| usize::from(number >= 10) + usize::from(number >= 100);
        "2.0.0 ".len() + more(self.subject) + more(self.detail)
    }

    /// Returns whether a reply with this code may have the enhanced code: the classes must be equal (RFC 2034 §4).
    const fn belongs_to(self, code: u16) -> bool {
        self.class as u16 == code / 100
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// The error that [`Reply::new`] returns if a code is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub enum InvalidReply {
    /// The code is not in the range 200 to 599.
    Code,
    /// The enhanced code contains a number that is out of range, or its class differs from the first digit of the reply
    /// code.
    EnhancedCode,
}

impl InvalidReply {
    /// Returns the text of `Display` as a constant.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Code => "the reply code must be 200 to 599",
            Self::EnhancedCode => {
                "the enhanced code must begin with the reply code's first digit, 2, 4 or 5, and have numbers up to 999"
            }
        }
    }
}

/// A reply that owns its text. It is either a reply that a server sends, or a copy of a reply that a client received.
///
/// The text contains no control characters except `\n`, which separates lines. All other control characters are
/// replaced, so that the text cannot end the reply early or inject another reply.
/// [`to_string`](alloc::string::ToString) returns the reply as one line, such as `535 5.7.8 text`.
///
/// The text of a `334` reply may be the server's SCRAM proof, and the text of some other replies may echo a password
/// (see [`auth::client`](crate::auth::client)). Such text is *withheld*: `Display` and `Debug` show `[text withheld]`
/// in its place, and the [`write`](Self::write) method outputs only the codes. The [`text`](Self::text) method still
/// returns the original text.
#[derive(Clone)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    memory: Cow<'static, str>,
    /// The position at which the text begins. If it is not 0, `memory` begins with the codes, and is the reply's only
    /// line as it is written, without CRLF.
    start: u8,
    /// Whether the text is omitted from everything that is printed or written.
    withheld: bool,
}

/// Printed instead of a text that is withheld.
const WITHHELD: &str = "[text withheld]";

impl Reply {
    /// Creates a custom reply.
    ///
    /// Every character of the text that is not printable ASCII or `\n` is replaced by `?`. If `enhanced` is `None` and
    /// the text begins with an enhanced code of the right class, that code becomes the enhanced code of the reply. This
    /// is because a client would interpret the text in this way. For example, `(250, None, "2.1.0 ok")` is equivalent
    /// to `(250, Some((2, 1, 0)), "ok")`.
    ///
    /// # Errors
    /// - [`InvalidReply::Code`] if the code is not in the range 200 to 599.
    /// - [`InvalidReply::EnhancedCode`] if the enhanced code contains a number that is out of range, or its class
    ///   differs from the first digit of the reply code.
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
        let memory = Cow::Borrowed("");
        Ok(Self { code, enhanced, memory, start: 0, withheld: false }.with_text(text))
    }

    /// Adds the enhanced code `x.0.0` if there is none. A server that offers enhanced codes must include one in every
    /// reply of these classes (RFC 2034 §4).
    pub(crate) fn with_enhanced_code(self) -> Self {
        let class = u8::try_from(self.code / 100).unwrap_or_default();
        let enhanced = self.enhanced.or(EnhancedCode::new(class, 0, 0));
        Self { enhanced, ..self }
    }

    /// Returns a reply with the same codes and different text. The text is processed as in [`Reply::new`].
    #[must_use]
    pub fn with_text(self, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        let memory = if is_writable(&text) { text } else { Cow::Owned(writable(&text)) };
        Self { memory, start: 0, withheld: false, ..self }.lift()
    }

    /// Moves the enhanced code out of the text if the reply has none yet. It is removed from the first line, and from
    /// other lines that repeat it.
    fn lift(self) -> Self {
        let first = self.text().split('\n').next().unwrap_or_default();
        let found = strip_enhanced(first).filter(|(enhanced, _)| enhanced.belongs_to(self.code));
        let (None, Some((enhanced, rest))) = (self.enhanced, found) else {
            return self;
        };
        if first.len() == self.text().len() {
            let lifted = first.len() - rest.len();
            let memory = match self.memory {
                Cow::Borrowed(text) => Cow::Borrowed(text.get(lifted..).unwrap_or_default()),
                Cow::Owned(mut text) => {
                    text.drain(..lifted);
                    Cow::Owned(text)
                }
            };
            return Self { enhanced: Some(enhanced), memory, start: 0, ..self };
        }
        let mut text = String::with_capacity(self.text().len());
        for (n, line) in self.text().split('\n').enumerate() {
            if n > 0 {
                text.push('\n');
            }
            text.push_str(match strip_enhanced(line) {
                Some((repeated, rest)) if repeated == enhanced => rest,
                _ => line,
            });
        }
        Self { enhanced: Some(enhanced), memory: Cow::Owned(text), start: 0, ..self }
    }

    /// Returns the reply code (200 to 599).
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Returns the enhanced code, if there is one. Its class equals the first digit of the reply code.
    pub fn enhanced_code(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// Returns the text without the codes. Lines are separated by `\n`. Withheld text is also returned, so do not log
    /// the result.
    pub fn text(&self) -> &str {
        self.memory.get(usize::from(self.start)..).unwrap_or_default()
    }

    /// Withholds the text.
    pub(crate) fn withheld(self) -> Self {
        Self { withheld: true, ..self }
    }

    /// Cuts the text to about `most` octets, and releases the rest of its memory. This is for replies that are kept in
    /// large numbers.
    pub(crate) fn shortened(self, most: usize) -> Self {
        if matches!(&self.memory, Cow::Owned(memory) if memory.capacity() <= most) {
            return self;
        }
        let text = self.text();
        let cut = (0..=most.min(text.len())).rev().find_map(|end| text.split_at_checked(end));
        let (kept, left_out) = cut.unwrap_or_default();
        let mark = if left_out.is_empty() { "" } else { "..." };
        Self { memory: Cow::Owned([kept, mark].concat()), start: 0, ..self }
    }

    /// Returns the text as it may be printed.
    fn shown(&self) -> &str {
        if self.withheld { WITHHELD } else { self.text() }
    }

    /// Returns whether the code is `2xx` or `3xx`, which means that the command has succeeded, or that the client may
    /// continue.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Returns whether the code is `4xx`, which means that the same command may succeed later.
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// Returns whether the code is `5xx`, which means that the same command will fail again.
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// Appends the reply to `out`, with the enhanced code on every line (RFC 2034 §4).
    ///
    /// Lines longer than 512 octets are split. Characters that are not ASCII are replaced by `?`. Lines after the 128th
    /// are dropped.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.start > 0 {
            out.extend_from_slice(self.memory.as_bytes());
            return out.extend_from_slice(b"\r\n");
        }
        let room = MAX_WRITTEN_LINE - "250-\r\n".len() - self.enhanced.map_or(0, EnhancedCode::len);
        let text = match &*self.memory {
            _ if self.withheld => Cow::Borrowed(""),
            text if is_writable(text) => Cow::Borrowed(text),
            text => Cow::Owned(writable(text)),
        };
        let mut rest = &*text;
        for n in 1.. {
            let (line, behind) = rest.split_at(rest.find('\n').unwrap_or(rest.len()).min(room));
            let last = behind.is_empty() || n == MAX_REPLY_LINES;
            self.write_line(line, last, out);
            if last {
                return;
            }
            rest = behind.strip_prefix('\n').unwrap_or(behind);
        }
    }

    fn write_line(&self, line: &str, last: bool, out: &mut Vec<u8>) {
        out.reserve(MAX_HEAD + line.len());
        decimal(self.code.into(), out);
        out.push(if last { b' ' } else { b'-' });
        if let Some(EnhancedCode { class, subject, detail }) = self.enhanced {
            out.extend_from_slice(&[b'0' + class, b'.']);
            decimal(subject.into(), out);
            out.push(b'.');
            decimal(detail.into(), out);
            out.push(b' ');
        }
        // A line does not end in a space.
        if line.is_empty() && out.ends_with(b" ") {
            out.pop();
        }
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

impl PartialEq for Reply {
    fn eq(&self, other: &Self) -> bool {
        (self.code, self.enhanced, self.text()) == (other.code, other.enhanced, other.text())
    }
}

impl Eq for Reply {}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("code", &self.code)
            .field("enhanced", &self.enhanced)
            .field("text", &self.shown())
            .finish()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        self.shown().split('\n').filter(|line| !line.is_empty()).try_for_each(|l| write!(f, " {l}"))
    }
}

fn is_writable(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b' '..=b'~' | b'\n'))
}

fn writable(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~' | '\n') { c } else { '?' }).collect()
}

/// Splits off an enhanced code, and the space after it, from a line of text.
fn strip_enhanced(line: &str) -> Option<(EnhancedCode, &str)> {
    let (rest, enhanced) = received::status_code(line.as_bytes()).ok()?;
    Some((enhanced, line.get(line.len() - rest.len()..)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use alloc::{string::ToString, vec};

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
    fn a_text_is_shortened_between_characters() {
        let reply = Reply { memory: Cow::Owned("aéé".into()), ..Reply::OK.with_text("") };
        let shortened = |most| String::from(reply.clone().shortened(most).text());
        assert_eq!([0, 1, 2, 3, 4].map(shortened), ["...", "a...", "a...", "aé...", "aé..."]);
        assert_eq!([5, 6, usize::MAX].map(shortened), ["aéé"; 3]);
        assert_eq!(Reply::SYNTAX.shortened(6).to_string(), "501 5.5.4 Syntax...");
        assert_eq!(written(&Reply::SYNTAX.shortened(100)), written(&Reply::SYNTAX));
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
}
