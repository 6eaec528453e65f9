//! A message's octets on the wire: a line that begins with a dot has one more (RFC 5321 §4.5.2).

use alloc::vec::Vec;

/// Where the reader of a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dots {
    line_start: bool,
}

/// What comes next of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Content: `length` octets behind `skip` others. A bare CR or LF among them is `bad`.
    Content { skip: usize, length: usize, bad: bool },
    /// The end mark, of that many octets.
    End(usize),
    /// More has to arrive first.
    Incomplete,
}

impl Dots {
    pub(crate) const START: Self = Self { line_start: true };

    /// Looks at the octets that come next. Whole lines up to one that begins with a dot come in
    /// one piece; a CR is never parted from what follows it.
    pub(crate) fn next(&mut self, rest: &[u8]) -> Piece {
        const END: &[u8] = b".\r\n";
        if self.line_start && rest.starts_with(END) {
            return Piece::End(END.len());
        }
        if rest.is_empty() || self.line_start && END.starts_with(rest) {
            return Piece::Incomplete;
        }
        let skip = usize::from(self.line_start && rest.first() == Some(&b'.'));
        let body = rest.get(skip..).unwrap_or_default();
        let (mut length, mut bad, mut line_start) = (0, false, false);
        while let Some(behind) = body.get(length..).filter(|behind| !behind.is_empty()) {
            if line_start && behind.starts_with(b".") {
                break;
            }
            let run = behind.iter().take_while(|octet| !matches!(octet, b'\r' | b'\n')).count();
            let end = behind.get(run..).unwrap_or_default();
            if end == b"\r" {
                (length, line_start) = (length + run, line_start && run == 0);
                break;
            }
            line_start = end.starts_with(b"\r\n");
            bad |= !end.is_empty() && !line_start;
            length += run + if line_start { 2 } else { end.len().min(1) };
        }
        if length == 0 {
            return Piece::Incomplete;
        }
        self.line_start = line_start;
        Piece::Content { skip, length, bad }
    }
}

/// Whether every CR and LF of a message stands in a CRLF, looked at in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineEnds {
    after_cr: bool,
}

impl LineEnds {
    pub(crate) const START: Self = Self { after_cr: false };

    /// Whether the piece holds a bare CR or LF, the one before it counted in.
    pub(crate) fn bad(&mut self, piece: &[u8]) -> bool {
        let mut bad = false;
        for &octet in piece {
            bad |= self.after_cr != (octet == b'\n');
            self.after_cr = octet == b'\r';
        }
        bad
    }

    /// Whether the last octet was a CR.
    pub(crate) fn open(self) -> bool {
        self.after_cr
    }
}

/// Writes a message: doubles the dots, marks the end.
#[derive(Debug)]
pub(crate) struct Stuffing {
    line_start: bool,
    ends: LineEnds,
}

/// A bare CR or LF in a message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BareLineEnd;

impl Stuffing {
    pub(crate) const START: Self = Self { line_start: true, ends: LineEnds::START };

    /// The octets as they go on the wire, as slices of the caller's own.
    pub(crate) fn pieces<'b>(
        &mut self,
        octets: &'b [u8],
    ) -> Result<impl Iterator<Item = &'b [u8]> + use<'b>, BareLineEnd> {
        if self.ends.bad(octets) {
            return Err(BareLineEnd);
        }
        let (mut rest, mut line_start) = (octets, self.line_start);
        if let Some(last) = octets.last() {
            self.line_start = *last == b'\n';
        }
        Ok(core::iter::from_fn(move || {
            if core::mem::take(&mut line_start) && rest.first() == Some(&b'.') {
                return Some(&b"."[..]);
            }
            if rest.is_empty() {
                return None;
            }
            let end = rest.windows(2).position(|pair| pair == b"\n.");
            let (piece, behind) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
            (rest, line_start) = (behind, true);
            Some(piece)
        }))
    }

    /// Appends the end mark.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), BareLineEnd> {
        if self.ends.open() {
            return Err(BareLineEnd);
        }
        out.extend_from_slice(if self.line_start { b".\r\n" } else { b"\r\n.\r\n" });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    /// Reads the octets, cut at that many a time; the content, and whether it was good.
    fn read(octets: &[u8], step: usize) -> Option<(Vec<u8>, bool)> {
        let (mut dots, mut content, mut good) = (Dots::START, Vec::new(), true);
        let (mut rest, mut pieces) = (Vec::new(), octets.chunks(step));
        loop {
            match dots.next(&rest) {
                Piece::Content { skip, length, bad } => {
                    content.extend_from_slice(&rest[skip..skip + length]);
                    rest.drain(..skip + length);
                    good &= !bad;
                }
                Piece::End(_) => return Some((content, good)),
                Piece::Incomplete => rest.extend_from_slice(pieces.next()?),
            }
        }
    }

    #[test]
    fn dots_and_line_ends() {
        let table: &[(&[u8], Option<(&[u8], bool)>)] = &[
            (b".\r\n", Some((b"", true))),
            (b"a\r\n.\r\n", Some((b"a\r\n", true))),
            (b"..a\r\n..\r\n.b\r\n.\r\n", Some((b".a\r\n.\r\nb\r\n", true))),
            (b"\r\n\r\n.\r\n", Some((b"\r\n\r\n", true))),
            (b"a\n.\n\r\n.\r\n", Some((b"a\n.\n\r\n", false))),
            (b"a\r.\r\r\n.\r\n", Some((b"a\r.\r\r\n", false))),
            (b"a\n.\r\n.\r\n", Some((b"a\n.\r\n", false))),
            (b".\r.\r\n.\r\n", Some((b"\r.\r\n", false))),
            (b"a\r\n.\n", None),
        ];
        for (octets, expected) in table {
            let expected = expected.map(|(content, good)| (content.to_vec(), good));
            for step in 1..=octets.len() {
                assert_eq!(read(octets, step), expected, "{octets:?} by {step}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for octets in [&b""[..], b"a\r\n", b".\r\n..\r\n", b"\r\n.", b"a\r\n.b\r\n\r\n."] {
            for step in 1..=octets.len().max(1) {
                let (mut stuffing, mut out) = (Stuffing::START, vec![]);
                for part in octets.chunks(step) {
                    let pieces = stuffing.pieces(part).into_iter().flatten();
                    pieces.for_each(|piece| out.extend_from_slice(piece));
                }
                assert_eq!(stuffing.end(&mut out), Ok(()));
                let mut whole = octets.to_vec();
                if !whole.is_empty() && !whole.ends_with(b"\r\n") {
                    whole.extend_from_slice(b"\r\n");
                }
                assert_eq!(read(&out, 3), Some((whole, true)), "{octets:?} by {step}");
            }
        }
    }

    #[test]
    fn bare_line_ends_are_not_written() {
        for (parts, good) in [
            (&[&b"a\r"[..], b"\nb"][..], true),
            (&[b"a\nb"], false),
            (&[b"a\rb"], false),
            (&[b"a\r", b"b"], false),
            (&[b"a\r"], false),
        ] {
            let mut stuffing = Stuffing::START;
            let all = parts.iter().all(|part| stuffing.pieces(part).is_ok());
            assert_eq!(all && stuffing.end(&mut Vec::new()).is_ok(), good, "{parts:?}");
        }
    }
}
