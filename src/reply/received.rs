//! Replies as a client receives them.

use alloc::{borrow::Cow, string::String};
use core::{fmt, iter, str};

use nom::{
    IResult, Parser,
    bytes::complete::take_while_m_n,
    character::complete::char,
    combinator::{eof, map},
    error::{ContextError, ErrorKind, ParseError, context},
};

use super::{EnhancedCode, MAX_REPLY_LINE, MAX_REPLY_LINES, MAX_REPLY_OCTETS, Reply};
use crate::shown::shown;

/// A complete reply that a client has received. It consists of one or more lines. Either all lines end in CRLF, or all
/// lines end in a bare LF, which some servers send. [`from_lines`](Self::from_lines) creates a reply from the output of
/// your own parser.
///
/// ```
/// use smtp_auth::reply::ReplyRef;
///
/// let reply = ReplyRef::parse(b"535-5.7.8 Wrong password\r\n535 5.7.8 Try again\r\n")?;
/// assert_eq!(reply.code(), 535);
/// assert_eq!(reply.to_reply().text(), "Wrong password\nTry again");
/// # Ok::<(), smtp_auth::reply::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct ReplyRef<'a> {
    code: u16,
    codes_differ: bool,
    text: Text<'a>,
}

/// The text of the lines, either within the received octets or extracted from them by the caller.
#[derive(Clone, Copy)]
enum Text<'a> {
    Block(&'a [u8]),
    Lines(&'a [&'a [u8]]),
}

impl<'a> ReplyRef<'a> {
    /// Parses one reply, without allocating.
    ///
    /// The parser accepts more than the standard allows. The code may be any number from 200 to 599, and the text may
    /// contain any octets except CR, LF and NUL. A line may have up to 12,294 octets including its CRLF, because a
    /// `334` reply can be that long. If the codes of the lines differ and the last line is a refusal, the reply has
    /// [the last line's code](Self::codes_differ).
    ///
    /// # Errors
    /// Returns an error if `block` is not exactly one reply:
    /// - A line does not match the grammar of RFC 5321 §4.2.
    /// - Some lines end in CRLF and others in a bare LF.
    /// - The codes of two lines differ, and the last line is not a refusal.
    /// - There are extra octets after the last line.
    /// - The reply has more than 128 lines or 65,536 octets.
    pub fn parse(block: &'a [u8]) -> Result<Self, Error> {
        if block.len() > MAX_REPLY_OCTETS {
            return Err(Error { rule: "reply length", offset: MAX_REPLY_OCTETS });
        }
        let (code, kept) = parse_all(block, reply)?;
        Ok(Self { code, codes_differ: kept.len() < block.len(), text: Text::Block(kept) })
    }

    /// Creates a reply from the results of your own parser: the code, and the text of each line without the code, the
    /// separator and the line ending. Leave the enhanced code in the text, if there is one. An empty slice creates a
    /// reply with one empty line.
    ///
    /// This function cannot represent a reply if the codes of its lines differ. Pass such a reply to
    /// [`parse`](Self::parse), which accepts some of these replies. If `parse` returns an error, close the connection.
    ///
    /// ```
    /// use smtp_auth::reply::ReplyRef;
    ///
    /// let lines = vec!["5.7.8 Wrong password".to_owned(), "5.7.8 Try again".to_owned()];
    /// let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
    /// let reply = ReplyRef::from_lines(535, &lines)?;
    /// assert_eq!(reply.to_reply().text(), "Wrong password\nTry again");
    /// # Ok::<(), smtp_auth::reply::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error in any of these cases:
    /// - The code is not in the range 200 to 599.
    /// - The text of a line contains CR, LF or NUL, or exceeds 12,288 octets.
    /// - The reply exceeds 128 lines.
    /// - The reply exceeds 65,536 octets, including the codes and the line endings.
    ///
    /// The offset of the error is a position in the concatenated text of all lines.
    pub fn from_lines(code: u16, lines: &'a [&'a [u8]]) -> Result<Self, Error> {
        if !(200..=599).contains(&code) {
            return Err(Error { rule: "Reply-code", offset: 0 });
        }
        let lines = if lines.is_empty() { NO_TEXT } else { lines };
        let mut offset = 0;
        for (n, line) in lines.iter().enumerate() {
            let text = line.len() - from_its_end(line).len();
            let rule = if n == MAX_REPLY_LINES {
                "number of lines"
            } else if AROUND + line.len() > MAX_REPLY_LINE {
                "line length"
            } else if (n + 1) * AROUND + offset + line.len() > MAX_REPLY_OCTETS {
                "reply length"
            } else if text < line.len() {
                offset += text;
                "textstring"
            } else {
                offset += text;
                continue;
            };
            return Err(Error { rule, offset });
        }
        Ok(Self { code, codes_differ: false, text: Text::Lines(lines) })
    }

    /// Returns whether the codes of the reply's lines differ. A server should not send such a reply (RFC 5321 §4.2.1),
    /// but some servers send `220-` and then `521`. If the codes differ, the refusal in the last line determines the
    /// code, and earlier lines with another code are dropped. Close the connection after such a reply, because nothing
    /// that follows is reliable.
    pub fn codes_differ(self) -> bool {
        self.codes_differ
    }

    /// Returns the reply code (200 to 599).
    pub fn code(self) -> u16 {
        self.code
    }

    /// Returns the enhanced code at the start of the first line's text, if its class equals the first digit of the
    /// reply code.
    pub fn enhanced_code(self) -> Option<EnhancedCode> {
        let (_, enhanced) = status_code(self.lines().next()?).ok()?;
        Some(enhanced).filter(|enhanced| enhanced.belongs_to(self.code))
    }

    /// For each line, returns the octets after the code and the `-` or space. The octets include the enhanced code, if
    /// there is one.
    pub fn lines(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let (mut rest, mut lines) = match self.text {
            Text::Block(block) => (block, [].iter()),
            Text::Lines(lines) => (&[][..], lines.iter()),
        };
        iter::from_fn(move || {
            if let Some(line) = lines.next() {
                return Some(*line);
            }
            // If the text is empty, nothing may follow the code.
            let text = rest.get("250".len()..)?;
            let end = from_its_end(text);
            let ([b'\r', _, behind @ ..] | [_, behind @ ..]) = end else { return None };
            rest = behind;
            text.get("-".len()..text.len() - end.len()).or(Some(&[]))
        })
    }

    /// Creates an owned copy of the reply. The enhanced code is removed from the text of the lines that contain it.
    ///
    /// In the text, control characters, line separators and direction controls are replaced by `?`. Octets that are not
    /// UTF-8 are replaced by U+FFFD. The text of a `334` reply is [withheld](Reply).
    pub fn to_reply(self) -> Reply {
        let mut text = String::with_capacity(match self.text {
            Text::Block(block) => block.len(),
            Text::Lines(lines) => lines.iter().map(|line| line.len() + 1).sum(),
        });
        for (n, line) in self.lines().enumerate() {
            if n > 0 {
                text.push('\n');
            }
            for chunk in line.utf8_chunks() {
                text.extend(chunk.valid().chars().map(shown));
                if !chunk.invalid().is_empty() {
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
        let withheld = self.code == 334;
        let memory = Cow::Owned(text);
        Reply { code: self.code, enhanced: None, memory, start: 0, withheld }.lift()
    }
}

impl ReplyRef<'_> {
    /// Creates an owned copy of the codes. The text is withheld and not kept.
    pub(crate) fn without_text(self) -> Reply {
        let (code, enhanced) = (self.code, self.enhanced_code());
        Reply { code, enhanced, memory: Cow::Borrowed(""), start: 0, withheld: true }
    }
}

impl PartialEq for ReplyRef<'_> {
    /// Compares the codes and the text, regardless of how the replies were created.
    fn eq(&self, other: &Self) -> bool {
        (self.code, self.codes_differ) == (other.code, other.codes_differ)
            && self.lines().eq(other.lines())
    }
}

impl Eq for ReplyRef<'_> {}

impl fmt::Debug for ReplyRef<'_> {
    /// Shows only the codes, because the text may be part of a proof, or repeat a password that was sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyRef")
            .field("code", &self.code)
            .field("enhanced", &self.enhanced_code())
            .field("lines", &self.lines().count())
            .finish_non_exhaustive()
    }
}

/// The error returned if a reply or an EHLO keyword is malformed, or if it exceeds a limit. The error records which
/// grammar rule was violated or which limit was exceeded, and at which position. It does not contain the received
/// octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error or limit exceeded at octet {offset}: {rule}")]
pub struct Error {
    rule: &'static str,
    offset: usize,
}

impl Error {
    pub(crate) const fn new(rule: &'static str, offset: usize) -> Self {
        Self { rule, offset }
    }

    /// Returns the name of the grammar rule that failed, or of the limit that was exceeded.
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// Returns the position of the error in the parsed octets, counted from 0.
    pub fn offset(&self) -> usize {
        self.offset
    }
}

/// Returns whether a line, with or without its CRLF, is the last one of its reply, or `None` if it is not a line of a
/// reply.
#[inline]
pub(crate) fn line_is_last(line: &[u8]) -> Option<bool> {
    let (rest, _) = reply_code(line).ok()?;
    separator(rest).ok().map(|(_, last)| last)
}

/// Returns the codes at the start of a line, with the `-` or space after each, or nothing if it is not a line of a
/// reply.
pub(crate) fn codes(line: &[u8]) -> &[u8] {
    let Ok((text, _)) = (reply_code, separator).parse(line) else { return &[] };
    let rest = status_code(text).map_or(text, |(rest, _)| rest);
    line.get(..line.len() - rest.len()).unwrap_or_default()
}

/// The only line of a reply that has no text.
const NO_TEXT: &[&[u8]] = &[b""];

/// The number of octets around the text of a line: the code, `-` or a space, and CRLF.
const AROUND: usize = "250-\r\n".len();

/// The result of a rule.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, Fault>;

/// The innermost rule that failed, and the number of octets that were left at that point.
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

/// Parses the code, and the lines that have it.
fn reply(octets: &[u8]) -> Parsed<'_, (u16, &[u8])> {
    match strict_reply(octets) {
        Ok((behind, code)) => Ok((behind, (code, octets))),
        // A separate function, so that it does not slow down the parsing of replies that follow the standard.
        Err(_) => lenient_reply(octets),
    }
}

/// `Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF`
///
/// The code must be the same on all lines (RFC 5321 §4.2.1).
fn strict_reply(octets: &[u8]) -> Parsed<'_, u16> {
    let (_, code) = reply_code(octets)?;
    let more = octets.first_chunk().map(|&[a, b, c]| [a, b, c, b'-']);
    let mut rest = octets;
    for _ in 0..MAX_REPLY_LINES {
        rest = match rest.split_first_chunk() {
            Some((start, text)) if Some(*start) == more => line_behind(text, rest)?.0,
            _ => return last_line(code, rest),
        };
    }
    fail("number of lines", rest)
}

/// `Reply-code [ SP textstring ] CRLF`. If this fails, its error says why no further line was read.
fn last_line(code: u16, line: &[u8]) -> Parsed<'_, u16> {
    let (text, (own, _)) = (reply_code, separator).parse(line)?;
    let (behind, ()) = line_behind(text, line)?;
    if own == code { Ok((behind, code)) } else { fail("repeated Reply-code", line) }
}

/// `[ textstring ] CRLF`. Checks that the whole line does not exceed the limit.
#[inline(always)]
fn line_behind<'a>(text: &'a [u8], line: &'a [u8]) -> Parsed<'a, ()> {
    let (behind, _) = (textstring, crlf).parse(text)?;
    match line.len() - behind.len() {
        ..=MAX_REPLY_LINE => Ok((behind, ())),
        _ => fail("line length", line),
    }
}

/// Parses a reply if all of its lines end in a bare LF, or if the codes differ and the last line is a refusal.
#[cold]
fn lenient_reply(octets: &[u8]) -> Parsed<'_, (u16, &[u8])> {
    let (_, mut code) = reply_code(octets)?;
    let bare_lf = matches!(from_its_end(octets), [b'\n', ..]);
    let (mut rest, mut kept, mut differs) = (octets, octets, None);
    for _ in 0..MAX_REPLY_LINES {
        let (text, (own, last)) = (reply_code, separator).parse(rest)?;
        let behind = match from_its_end(text) {
            [b'\r', b'\n', behind @ ..] if !bare_lf => behind,
            [b'\n', behind @ ..] if bare_lf => behind,
            end => return fail("CRLF", end),
        };
        if rest.len() - behind.len() > MAX_REPLY_LINE {
            return fail("line length", rest);
        }
        if own != code {
            differs.get_or_insert(rest);
            (code, kept) = (own, rest);
        }
        match differs {
            Some(first) if last && code < 400 => return fail("repeated Reply-code", first),
            _ if last => return Ok((behind, (code, kept))),
            _ => rest = behind,
        }
    }
    fail("number of lines", rest)
}

/// `Reply-code = %x32-35 %x30-35 %x30-39`, but with any second digit.
fn reply_code(octets: &[u8]) -> Parsed<'_, u16> {
    match octets {
        [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
            let [a, b, c] = [a, b, c].map(|&digit| u16::from(digit - b'0'));
            Ok((rest, 100 * a + 10 * b + c))
        }
        _ => fail("Reply-code", octets),
    }
}

/// `"-"`, or on the last line `SP` or nothing. Returns whether the line is the last one.
fn separator(octets: &[u8]) -> Parsed<'_, bool> {
    match octets {
        [b'-', rest @ ..] => Ok((rest, false)),
        [b' ', rest @ ..] => Ok((rest, true)),
        [] | [b'\r' | b'\n', ..] => Ok((octets, true)),
        _ => fail("Reply-line", octets),
    }
}

/// `textstring = 1*(%d09 / %d32-126)`, but with any octets that do not break the framing, or none, because servers send
/// UTF-8, and a space before an empty text.
fn textstring(octets: &[u8]) -> Parsed<'_, ()> {
    Ok((from_its_end(octets), ()))
}

/// Returns the octets starting with the first CR, LF or NUL.
#[inline]
fn from_its_end(octets: &[u8]) -> &[u8] {
    const ABOVE_CR: u64 = u64::from_le_bytes([b'\r' + 1; 8]);
    const TOP_BITS: u64 = u64::from_le_bytes([0x80; 8]);
    let mut rest = octets;
    loop {
        // Checks eight octets at once, which halves the time to read a reply. After the subtraction, all octets before
        // the first one with its top bit set are above CR. That octet is then checked by itself.
        if let Some((eight, behind)) = rest.split_first_chunk() {
            let marks = u64::from_le_bytes(*eight).wrapping_sub(ABOVE_CR) & TOP_BITS;
            if marks == 0 {
                rest = behind;
                continue;
            }
            rest = rest.get(marks.trailing_zeros() as usize / 8..).unwrap_or_default();
        }
        match rest {
            [] | [b'\r' | b'\n' | 0, ..] => return rest,
            [_, behind @ ..] => rest = behind,
        }
    }
}

/// `CRLF = %x0D %x0A`
fn crlf(octets: &[u8]) -> Parsed<'_, ()> {
    match octets {
        [b'\r', b'\n', rest @ ..] => Ok((rest, ())),
        _ => fail("CRLF", octets),
    }
}

/// `status-code = class "." subject "." detail` (RFC 2034 §4), and the space that ends it.
pub(super) fn status_code(text: &[u8]) -> Parsed<'_, EnhancedCode> {
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
    use alloc::{string::ToString, vec, vec::Vec};

    use super::*;

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
            // A bare LF on all lines.
            (b"250\n", 250, vec![""]),
            (b"250 a\n", 250, vec!["a"]),
            (b"250-a\n250-\n250\n", 250, vec!["a", "", ""]),
            (b"235-a\n535 b\n", 535, vec!["b"]),
            // A refusal in the end.
            (b"220-a\r\n521 b\r\n", 521, vec!["b"]),
            (b"250-a\r\n250-b\r\n552-c\r\n552 d\r\n", 552, vec!["c", "d"]),
            (b"550-a\r\n450 b\r\n", 450, vec!["b"]),
            (b"550-a\r\n250-b\r\n550\r\n", 550, vec![""]),
        ] {
            let reply = ReplyRef::parse(block).unwrap();
            assert_eq!(reply.code(), code);
            let expected: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(reply.lines().collect::<Vec<_>>(), expected);
            let differs = !block
                .split(|&octet| octet == b'\n')
                .all(|line| line.is_empty() || line.starts_with(code.to_string().as_bytes()));
            assert_eq!(reply.codes_differ(), differs);
        }
    }

    #[test]
    fn text_ends_at_the_first_octet_that_may_not_be_in_it() {
        for n in 0..40 {
            for text in [b'a', b'\t', 0x0e, 0x7f, 0x80, 0x8e, 0xff] {
                for end in [b'\r', b'\n', 0] {
                    let mut octets = [text; 40];
                    octets[n] = end;
                    assert_eq!(40 - from_its_end(&octets).len(), n, "{text} {end}");
                    assert_eq!(from_its_end(&octets[..n]).len(), 0, "{text}");
                }
            }
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
            (b"250 a\rb\r\n", "CRLF", 5),
            (b"250 a\rb\n", "CRLF", 5),
            (b"250-a\n250 b\r\n", "CRLF", 11),
            (b"250-a\r\n250 b\n", "CRLF", 12),
            (b"250 a\0\r\n", "CRLF", 5),
            (b"250-a\r\n", "Reply-code", 7),
            (b"250-a\r\n251 b\r\n", "repeated Reply-code", 7),
            (b"250-a\r\n251-b\r\n", "Reply-code", 14),
            (b"535-a\r\n235 b\r\n", "repeated Reply-code", 7),
            (b"235-a\r\n535-b\r\n235 c\r\n", "repeated Reply-code", 7),
            (b"235-a\r\n250-b\r\n334 c\r\n", "repeated Reply-code", 7),
            (b"250-a\r\n550-b\r\n550 c\r\n550 d\r\n", "end", 21),
            (b"250-a\r\n251 b\n", "CRLF", 12),
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
            (b"220-a\r\n521 5.7.1 b\r\n", Some((5, 7, 1)), "b"),
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
    fn from_lines() {
        fn ok(code: u16, lines: &[&[u8]], block: &[u8]) {
            let (own, read) = (ReplyRef::from_lines(code, lines), ReplyRef::parse(block));
            assert_eq!(own, read, "{}", block.escape_ascii());
            assert_eq!(own.unwrap().to_reply().to_string(), read.unwrap().to_reply().to_string());
        }
        ok(250, &[], b"250\r\n");
        ok(334, &[b""], b"334 \r\n");
        ok(535, &[b"5.7.8 a", b"", b"5.7.8 \xff"], b"535-5.7.8 a\r\n535-\r\n535 5.7.8 \xff\r\n");
        ok(334, &[&[b'a'; 12_288]], &[b"334 ", &[b'a'; 12_288][..], b"\r\n"].concat());
        assert_ne!(ReplyRef::from_lines(250, &[b"a"]), ReplyRef::parse(b"251 a\r\n"));
        assert_ne!(ReplyRef::from_lines(535, &[b"a"]), ReplyRef::parse(b"235-b\r\n535 a\r\n"));
        ok(250, &[&b"a"[..]; 128], &[&b"250-a\r\n".repeat(127)[..], b"250 a\r\n"].concat());
        let most: [&[u8]; 8] = [&[b'a'; 8192 - AROUND]; 8];
        ok(250, &most, &{
            let mut block = [b"250-", most[0], b"\r\n"].concat().repeat(8);
            block[7 * 8192 + 3] = b' ';
            block
        });
        let (long, half) = ([b'a'; 12_289], [b'a'; 8192 - AROUND + 1]);
        for (code, lines, rule, offset) in [
            (0, &[&b"a"[..]][..], "Reply-code", 0),
            (199, &[b"a"], "Reply-code", 0),
            (600, &[b"a"], "Reply-code", 0),
            (250, &[b"a", b"b\rc"], "textstring", 2),
            (250, &[b"a\r\n250-b", b"c"], "textstring", 1),
            (250, &[b"a\n"], "textstring", 1),
            (250, &[b"\0"], "textstring", 0),
            (334, &[b"abc", &long], "line length", 3),
            (250, &[&b"a"[..]; 129], "number of lines", 128),
            (250, &[&half[..]; 8], "reply length", 7 * half.len()),
        ] {
            let read = ReplyRef::from_lines(code, lines);
            assert_eq!(read, Err(Error { rule, offset }), "{code} {}", lines.len());
        }
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
    fn debug_shows_the_codes_alone() {
        let reply = ReplyRef::parse(b"535-5.7.8 a\r\n535 5.7.8 b\r\n").unwrap();
        let shown = "ReplyRef { code: 535, enhanced: Some(EnhancedCode { class: 5, subject: 7, \
                     detail: 8 }), lines: 2, .. }";
        assert_eq!(alloc::format!("{reply:?}"), shown);
    }

    #[test]
    fn the_text_of_a_challenge_is_withheld() {
        let reply = ReplyRef::parse(b"334 dj1h\r\n").unwrap().to_reply();
        assert_eq!(alloc::string::ToString::to_string(&reply), "334 [text withheld]");
        assert!(!alloc::format!("{reply:?}").contains("dj1h"));
        let mut out = Vec::new();
        reply.write(&mut out);
        assert_eq!(out, b"334\r\n");
        assert_eq!(reply.text(), "dj1h");
        assert_eq!(reply.with_text("a").text(), "a");
    }
}
