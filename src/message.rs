//! The octets of a message on the wire: a line that begins with a dot gets one more (RFC 5321 §4.5.2), and only CRLF
//! ends a line.
//!
//! The octets are searched in two passes, each of which looks at many octets at a time: one for dots at the start of
//! lines, and one for bare CR and LF.

use alloc::vec::Vec;
use core::mem;

use memchr::memmem;

/// Finds the dots at the start of lines. Making it takes as long as searching a thousand octets, so each configuration
/// keeps one.
#[derive(Clone, Debug)]
pub(crate) struct DotFinder(memmem::Finder<'static>);

impl DotFinder {
    pub(crate) fn new() -> Self {
        Self(memmem::Finder::new(b"\r\n."))
    }
}

/// The state of the reader of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dots {
    line_start: bool,
}

/// The next part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Content(Content),
    /// The end mark, which has that many octets.
    End(usize),
    /// More octets have to come first.
    Incomplete,
}

/// `length` octets of content, after `skip` octets that do not belong to it. `bad` if they hold a bare CR or LF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) skip: usize,
    pub(crate) length: usize,
    pub(crate) bad: bool,
}

impl Dots {
    pub(crate) const START: Self = Self { line_start: true };

    /// Finds the next part of the message. All whole lines up to one that begins with a dot are one part. A CR is never
    /// separated from the octet after it.
    pub(crate) fn next(&mut self, rest: &[u8], dots: &DotFinder) -> Piece {
        const END: &[u8] = b".\r\n";
        let skip = usize::from(self.line_start && rest.first() == Some(&b'.'));
        if skip > 0 && rest.starts_with(END) {
            return Piece::End(END.len());
        }
        if skip > 0 && END.starts_with(rest) {
            return Piece::Incomplete;
        }
        let body = rest.get(skip..).unwrap_or_default();
        let length = match dots.0.find(body) {
            Some(crlf) => crlf + 2,
            None => body.len() - usize::from(body.ends_with(b"\r")),
        };
        let content = body.get(..length).unwrap_or_default();
        if content.is_empty() {
            return Piece::Incomplete;
        }
        self.line_start = content.ends_with(b"\r\n");
        let mut ends = LineEnds::START;
        Piece::Content(Content { skip, length, bad: ends.bad(content) || ends.open() })
    }
}

/// Checks, piece by piece, that every CR and LF of a message is part of a CRLF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineEnds {
    after_cr: bool,
}

impl LineEnds {
    pub(crate) const START: Self = Self { after_cr: false };

    /// Returns whether the piece, together with the end of the one before, holds a bare CR or LF.
    pub(crate) fn bad(&mut self, piece: &[u8]) -> bool {
        let (Some((first, others)), Some(last)) = (piece.split_first(), piece.last()) else {
            return false;
        };
        let after_cr = mem::replace(&mut self.after_cr, *last == b'\r');
        // The loop has no early exit, so that the compiler can vectorize it.
        let pairs = piece.iter().zip(others);
        pairs.fold(after_cr != (*first == b'\n'), |bad, (one, next)| {
            bad | ((*one == b'\r') != (*next == b'\n'))
        })
    }

    /// Returns whether the last octet was a CR.
    pub(crate) fn open(self) -> bool {
        self.after_cr
    }
}

/// Writes a message: doubles the dots at the start of lines, and writes the end mark.
#[derive(Debug)]
pub(crate) struct Stuffing {
    line_start: bool,
    ends: LineEnds,
}

/// Returns the positions of the dots that follow an LF.
fn after_line_ends(octets: &[u8]) -> impl Iterator<Item = usize> {
    // For fewer octets, building the searcher takes longer than a simple search.
    const LONG: usize = 100;
    let (short, long) = match octets.len() < LONG {
        true => (octets, None),
        false => (&[][..], Some(memmem::find_iter(octets, b"\n."))),
    };
    let short = short.windows(2).enumerate().filter(|(_, pair)| *pair == b"\n.");
    short.map(|(lf, _)| lf).chain(long.into_iter().flatten()).map(|lf| lf + 1)
}

/// The error of a bare CR or LF in a message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BareLineEnd;

impl Stuffing {
    pub(crate) const START: Self = Self { line_start: true, ends: LineEnds::START };

    /// Returns the octets as they go on the wire, as slices of `octets`. A dot at the start of a line ends one slice
    /// and begins the next, which doubles it.
    pub(crate) fn pieces<'b>(
        &mut self,
        octets: &'b [u8],
    ) -> Result<impl Iterator<Item = &'b [u8]> + use<'b>, BareLineEnd> {
        if self.ends.bad(octets) {
            return Err(BareLineEnd);
        }
        let first = (self.line_start && octets.starts_with(b".")).then_some(0);
        if let Some(last) = octets.last() {
            self.line_start = *last == b'\n';
        }
        let dots = first.into_iter().chain(after_line_ends(octets));
        let end = (!octets.is_empty()).then_some(octets.len());
        let ends = dots.map(|dot| dot + 1).chain(end);
        Ok(ends.scan(0, |begin, end| octets.get(mem::replace(begin, end - 1)..end)))
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

    /// Reads the octets in steps of that many. Returns the content, and whether it was good.
    fn read(octets: &[u8], step: usize) -> Option<(Vec<u8>, bool)> {
        let (mut dots, mut content, mut good) = (Dots::START, Vec::new(), true);
        let (mut rest, mut pieces) = (Vec::new(), octets.chunks(step));
        let finder = DotFinder::new();
        loop {
            match dots.next(&rest, &finder) {
                Piece::Content(Content { skip, length, bad }) => {
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
            (b"a\r\r\n.\r\n", Some((b"a\r\r\n", false))),
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
    fn bare_line_ends_are_found_wherever_they_stand() {
        for length in 0..140 {
            let text = [&vec![b'x'; length][..], b"\r\n", &vec![b'x'; 139 - length]].concat();
            let wire = [&text[..], b"\r\n.\r\n"].concat();
            assert_eq!(read(&wire, 50), Some((wire[..143].to_vec(), true)), "{length}");
            let is_bad = |octets: &[u8]| {
                let (mut ends, mut stuffing) = (LineEnds::START, Stuffing::START);
                let bad = ends.bad(octets);
                assert_eq!(stuffing.pieces(octets).is_err(), bad);
                bad
            };
            assert!(!is_bad(&text));
            for octet in [length, length + 1] {
                let mut wire = wire.clone();
                wire[octet] = b'x';
                assert_eq!(read(&wire, wire.len()).map(|read| read.1), Some(false), "{length}");
                assert_eq!(read(&wire, 50).map(|read| read.1), Some(false), "{length}");
                assert!(is_bad(&wire[..text.len()]), "{length}");
            }
        }
    }

    #[test]
    fn lines_between_dots_come_in_one_piece() {
        let octets = b"a\r\n\r\nb\r\n..c\r\nd.\r\n.e\r";
        let (mut dots, mut rest, mut pieces) = (Dots::START, &octets[..], Vec::new());
        while let Piece::Content(Content { skip, length, bad: false }) =
            dots.next(rest, &DotFinder::new())
        {
            pieces.push(&rest[skip..skip + length]);
            rest = &rest[skip + length..];
        }
        assert_eq!(pieces, [&b"a\r\n\r\nb\r\n"[..], b".c\r\nd.\r\n", b"e"]);
        assert_eq!(rest, b"\r");
        let mut stuffing = Stuffing::START;
        assert_eq!(stuffing.pieces(b"").unwrap().count(), 0);
        let written: Vec<_> = stuffing.pieces(b".a\r\nb\r\n.c").unwrap().collect();
        assert_eq!(written, [&b"."[..], b".a\r\nb\r\n.", b".c"]);
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
