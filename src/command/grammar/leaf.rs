//! The building blocks of the rules: runs of a set of octets, words, and the error.

use nom::{
    IResult,
    error::{ContextError, ErrorKind, ParseError},
};

use crate::{
    set::Set,
    shown::{is_hidden, is_mark},
};

pub(in crate::command) type Res<'a, T> = IResult<&'a [u8], T, Fault>;

/// The rule that failed, and how many octets of the line were left there.
///
/// A rule only knows how many octets are left. The offset can be computed only if the length of the whole line is
/// known.
#[derive(Debug, Clone, Copy)]
pub(in crate::command) struct Fault {
    pub(super) rule: &'static str,
    pub(super) left: usize,
}

impl Fault {
    pub(super) fn new(rule: &'static str, at: &[u8]) -> nom::Err<Self> {
        nom::Err::Error(Self { rule, left: at.len() })
    }
}

impl ParseError<&[u8]> for Fault {
    fn from_error_kind(at: &[u8], kind: ErrorKind) -> Self {
        // `context` names any other kind.
        let rule = if kind == ErrorKind::Eof { "end of line" } else { "" };
        Self { rule, left: at.len() }
    }

    fn append(_: &[u8], _: ErrorKind, inner: Self) -> Self {
        inner
    }

    /// Keeps the error of the alternative that parsed the most octets, which is most likely the intended one.
    fn or(self, other: Self) -> Self {
        if other.left < self.left { other } else { self }
    }
}

impl ContextError<&[u8]> for Fault {
    fn add_context(_: &[u8], rule: &'static str, inner: Self) -> Self {
        if inner.rule.is_empty() { Self { rule, ..inner } } else { inner }
    }
}

fn split(at: &[u8], length: usize) -> Res<'_, &[u8]> {
    let (taken, rest) = at.split_at_checked(length).ok_or(Fault::new("", at))?;
    Ok((rest, taken))
}

/// Matches any number of octets of a set, including none.
pub(super) fn many(set: &'static Set) -> impl Fn(&[u8]) -> Res<'_, &[u8]> {
    move |i| split(i, set.run(i))
}

/// Matches one or more octets of a set.
pub(super) fn some(set: &'static Set) -> impl Fn(&[u8]) -> Res<'_, &[u8]> {
    move |i| match set.run(i) {
        0 => Err(Fault::new("", i)),
        length => split(i, length),
    }
}

/// Matches one octet of a set.
pub(super) fn one(set: &'static Set) -> impl Fn(&[u8]) -> Res<'_, u8> {
    move |i| match i {
        [octet, rest @ ..] if set.has(*octet) => Ok((rest, *octet)),
        _ => Err(Fault::new("", i)),
    }
}

/// Matches exactly this octet. The error is named after it.
pub(super) fn octet(mark: &'static str) -> impl Fn(&[u8]) -> Res<'_, &[u8]> {
    move |i| match i.split_at_checked(1) {
        Some((taken, rest)) if taken == mark.as_bytes() => Ok((rest, taken)),
        _ => Err(Fault::new(mark, i)),
    }
}

/// Matches these octets in any case.
pub(super) fn word(word: &'static str) -> impl Fn(&[u8]) -> Res<'_, &[u8]> {
    move |i| match i.split_at_checked(word.len()) {
        Some((taken, rest)) if taken.eq_ignore_ascii_case(word.as_bytes()) => Ok((rest, taken)),
        _ => Err(Fault::new(word, i)),
    }
}

/// Checks that the rest is UTF-8 (RFC 6531 §3.1) and contains no control characters or direction controls outside
/// ASCII.
pub(super) fn utf8(i: &[u8]) -> Res<'_, ()> {
    utf8_without(is_hidden, i)
}

/// Like [`utf8`], for MAIL and RCPT. An address may contain direction marks, because refusing it would lose mail.
pub(super) fn envelope_utf8(i: &[u8]) -> Res<'_, ()> {
    utf8_without(|c| is_hidden(c) && !is_mark(c), i)
}

fn utf8_without(refused: impl Fn(char) -> bool, i: &[u8]) -> Res<'_, ()> {
    if i.is_ascii() {
        return Ok((i, ()));
    }
    let fault = |valid| nom::Err::Failure(Fault { rule: "UTF-8", left: i.len() - valid });
    let text = core::str::from_utf8(i).map_err(|error| fault(error.valid_up_to()))?;
    match text.find(|c: char| !c.is_ascii() && refused(c)) {
        Some(position) => Err(fault(position)),
        None => Ok((i, ())),
    }
}
