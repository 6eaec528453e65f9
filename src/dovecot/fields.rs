//! The fields of a line, which are separated by TABs, and the escape sequences in them.

use alloc::{borrow::Cow, vec::Vec};
use core::str;

use crate::decimal::decimal;

/// The octet that begins an escape sequence.
const ESCAPE: u8 = 1;

/// Splits a line into its fields.
pub(super) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    line.split(|&octet| octet == b'\t')
}

/// Returns the text of a field, or `None` if it is not UTF-8 or ends within an escape sequence.
pub(super) fn text(field: &[u8]) -> Option<Cow<'_, str>> {
    if !field.contains(&ESCAPE) {
        return str::from_utf8(field).ok().map(Cow::Borrowed);
    }
    let (mut octets, mut rest) = (Vec::with_capacity(field.len()), field.iter());
    while let Some(&octet) = rest.next() {
        octets.push(match octet {
            ESCAPE => match rest.next()? {
                b'0' => 0,
                b'1' => ESCAPE,
                b't' => b'\t',
                b'r' => b'\r',
                // Older versions of the protocol write LF as `l`.
                b'n' | b'l' => b'\n',
                &other => other,
            },
            octet => octet,
        });
    }
    alloc::string::String::from_utf8(octets).ok().map(Cow::Owned)
}

/// Appends text as a field, without the TAB before it.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    for octet in text.bytes() {
        match octet {
            0 => out.extend([ESCAPE, b'0']),
            ESCAPE => out.extend([ESCAPE, b'1']),
            b'\t' => out.extend([ESCAPE, b't']),
            b'\r' => out.extend([ESCAPE, b'r']),
            b'\n' => out.extend([ESCAPE, b'n']),
            octet => out.push(octet),
        }
    }
}

/// Parses a field that is a number of 32 bits in decimal digits.
pub(super) fn number(field: &[u8]) -> Option<u32> {
    // `parse` would accept a sign.
    let digits = field.first()?.is_ascii_digit();
    digits.then(|| str::from_utf8(field).ok()?.parse().ok()).flatten()
}

/// Appends a TAB and the number.
pub(super) fn write_number(number: u32, out: &mut Vec<u8>) {
    out.push(b'\t');
    decimal(number.into(), out);
}
