//! The messages that are sent.

use core::{fmt, iter, str::FromStr};

use crate::dialogue::ACCOUNT;

/// As RFC 5322 §2.1.1 asks for at most, CRLF included.
const LINE: usize = 80;

/// A message, sent as often as one likes.
pub(crate) struct Message {
    /// The command MAIL, with SIZE: a server that takes another number of octets does not say 250.
    pub(crate) mail: Vec<u8>,
    /// All that follows DATA, with the line that ends it.
    pub(crate) data: Vec<u8>,
}

impl Message {
    pub(crate) const RCPT: &[u8] = b"RCPT TO:<sink@load.example>\r\n";

    pub(crate) fn new(size: Size) -> Self {
        let Size(octets) = size;
        let from = format!("{ACCOUNT}@load.example");
        // With all that a server adds to a message without it.
        let mut data = format!(
            "From: <{from}>\r\nTo: <sink@load.example>\r\nSubject: load\r\n\
             Date: Mon, 30 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@load.example>\r\n\r\n"
        )
        .into_bytes();
        while data.len() < octets {
            let rest = octets - data.len();
            // What is left has room for CRLF.
            let line = if rest <= LINE { rest } else { LINE - 2 };
            data.extend(iter::repeat_n(b'x', line.saturating_sub(2)));
            data.extend_from_slice(b"\r\n");
        }
        data.extend_from_slice(b".\r\n");
        Self { mail: format!("MAIL FROM:<{from}> SIZE={octets}\r\n").into(), data }
    }
}

/// A message's octets, header and text, CRLF included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size(usize);

impl Size {
    /// The header has its place in it.
    const LEAST: usize = 500;
    /// Each of the servers takes that: the least of their limits is aiosmtpd's.
    const MOST: usize = 33_000_000;

    pub(crate) fn octets(self) -> usize {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, unit) = match text.strip_suffix('k') {
            Some(digits) => (digits, 1_000),
            None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
        };
        let octets = digits.parse().ok().and_then(|number: usize| number.checked_mul(unit));
        octets.filter(|octets| (Self::LEAST..=Self::MOST).contains(octets)).map(Self).ok_or_else(
            || format!("a number of octets from {} to {}, as 2k or 20M", Self::LEAST, Self::MOST),
        )
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0 {
            octets if octets % 1_000_000 == 0 => (octets / 1_000_000, "MB"),
            octets if octets % 1_000 == 0 => (octets / 1_000, "kB"),
            octets => (octets, "B"),
        };
        f.pad(&format!("{number} {unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE, Message, Size};

    #[test]
    fn a_message_has_its_size_in_lines_that_end() {
        for octets in (500..600).chain([2_000, 75_000]) {
            let message = Message::new(Size(octets));
            let text = message.data.strip_suffix(b".\r\n").unwrap();
            assert_eq!(text.len(), octets);
            let lines: Vec<_> = text.split_inclusive(|&octet| octet == b'\n').collect();
            assert!(lines.iter().all(|line| line.ends_with(b"\r\n") && line.len() <= LINE));
            assert!(lines.iter().all(|line| !line.starts_with(b".")));
        }
    }

    #[test]
    fn a_size_is_read_as_it_is_written() {
        for (text, octets, shown) in [
            ("2k", 2_000, "2 kB"),
            ("75k", 75_000, "75 kB"),
            ("20M", 20_000_000, "20 MB"),
            ("512", 512, "512 B"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.octets(), size.to_string().as_str()), (octets, shown));
        }
        for text in ["", "k", "499", "34M", "2K", "-2k", "99999999999999999999k"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
