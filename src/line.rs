//! Octets to lines. CRLF alone ends a line (RFC 5321 §2.3.8): a bare LF or CR that some other
//! program takes for an end would smuggle commands past it.

use alloc::vec::Vec;
use core::{fmt, ops::Range};

use crate::secret::{reserve, truncate};

/// Why a line cannot be shown. It is dropped up to its CRLF, the next one is in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// Over the limit.
    TooLong,
    /// It holds a bare CR, a bare LF or a NUL.
    BadOctet,
}

/// The least memory that is taken for octets: most lines fit.
const LEAST: usize = 64;

/// The one command after whose line octets follow that are no lines (RFC 3030 §2).
const BDAT: &[u8] = b"BDAT";

/// Finds a BDAT that other programs might read where no command can be read here: at the start of a
/// line, or after a bare CR or LF in it; blanks before it and NULs within it count as nothing. The line
/// may come in pieces, so that one too long to be kept is known as well.
#[derive(Clone, Copy, Default)]
struct FindBdat {
    /// How many of its letters have come since the last line end of any kind, or [`Self::NONE`].
    letters: u8,
    /// A bare CR or LF has come.
    inside: bool,
    at_start: bool,
    after_bare: bool,
}

impl FindBdat {
    const NONE: u8 = u8::MAX;

    fn look(mut self, octets: &[u8]) -> Self {
        let mut rest = octets;
        loop {
            while let (Some(letter), [octet, more @ ..]) =
                (BDAT.get(usize::from(self.letters)), rest)
            {
                match octet {
                    b'\r' | b'\n' => break,
                    octet if octet.eq_ignore_ascii_case(letter) => self.letters += 1,
                    0 => {}
                    ..=b' ' if self.letters == 0 => {}
                    _ => self.letters = Self::NONE,
                }
                rest = more;
            }
            if usize::from(self.letters) == BDAT.len() {
                self.at_start |= !self.inside;
                self.after_bare |= self.inside;
            }
            let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else { return self };
            rest = rest.get(end + 1..).unwrap_or_default();
            (self.letters, self.inside) = (0, true);
        }
    }
}

/// Octets received: those on show, then those not yet looked at.
#[derive(Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// What the owner looks at.
    shown: Range<usize>,
    /// How far the octets have been taken.
    taken: usize,
    /// How far behind `taken` there is no CRLF, so that no octet is looked at twice.
    scanned: usize,
    /// How far behind `taken` the line under way begins, in a block of lines.
    line: usize,
    /// The line that is under way has outgrown its limit; what came of it is dropped.
    overlong: bool,
    /// What was in that part of it.
    dropped: FindBdat,
}

impl Lines {
    /// Takes octets in. What is on show stays on show.
    #[inline]
    pub(crate) fn receive(&mut self, octets: &[u8]) {
        let cut = if self.shown.is_empty() { self.taken } else { self.shown.start };
        if cut > 0 || self.buffer.capacity() - self.buffer.len() < octets.len() {
            self.make_room(cut, octets.len());
        }
        match octets {
            [octet] => self.buffer.push(*octet),
            octets => self.buffer.extend_from_slice(octets),
        }
    }

    /// For that many octets more, without the first ones. Apart, so that octets that come one by one
    /// do not pay for it.
    #[inline(never)]
    fn make_room(&mut self, cut: usize, more: usize) {
        if cut > 0 {
            self.buffer.copy_within(cut.., 0);
            self.wipe_behind(self.buffer.len() - cut);
            self.taken -= cut;
            self.shown = self.shown.start.saturating_sub(cut)..self.shown.end.saturating_sub(cut);
        }
        if self.buffer.capacity() - self.buffer.len() < more {
            let least = LEAST.saturating_sub(self.buffer.len());
            reserve(&mut self.buffer, more.max(least));
        }
    }

    /// Whether at most one octet has come since the line was last asked for, and does not end it.
    /// What comes octet by octet is told so at little cost; `false` tells nothing.
    #[inline]
    pub(crate) fn still_awaits(&mut self, limit: usize) -> bool {
        match self.buffer.get(self.taken + self.scanned..) {
            _ if self.overlong || self.scanned >= limit => false,
            Some([] | [_]) => true,
            Some([first, second]) if (first, second) != (&b'\r', &b'\n') => {
                self.scanned += 1;
                true
            }
            _ => false,
        }
    }

    /// Shows the next line, without its CRLF, once it is whole.
    pub(crate) fn next(&mut self, limit: usize) -> Option<Result<(), Error>> {
        self.shown = self.taken..self.taken;
        if !self.overlong {
            self.dropped = FindBdat::default();
        }
        let rest = self.rest();
        let Some(length) = find_crlf(rest, self.scanned) else {
            // The last octet may be the CR of a CRLF to come.
            let held = rest.len();
            self.scanned = held.saturating_sub(1);
            if self.overlong || held > limit + 1 {
                self.overlong = true;
                self.show(0, self.scanned, 0);
                self.dropped = self.dropped.look(self.shown());
                self.shown = self.taken..self.taken;
                self.scanned = 0;
            }
            return None;
        };
        self.scanned = 0;
        self.show(0, length, 2);
        if core::mem::take(&mut self.overlong) || length > limit {
            return Some(Err(Error::TooLong));
        }
        if memchr::memchr3(b'\r', b'\n', 0, self.shown()).is_some() {
            return Some(Err(Error::BadOctet));
        }
        Some(Ok(()))
    }

    /// Whether the line on show begins with BDAT, or a part of it after a bare CR or LF does, the part of
    /// it that was dropped included.
    pub(crate) fn holds_bdat(&self) -> bool {
        let FindBdat { at_start, after_bare, .. } = self.dropped.look(self.shown());
        at_start | after_bare
    }

    /// Whether a part of it after a bare CR or LF does.
    pub(crate) fn holds_bdat_inside(&self) -> bool {
        self.dropped.look(self.shown()).after_bare
    }

    /// What is on show.
    pub(crate) fn shown(&self) -> &[u8] {
        self.buffer.get(self.shown.clone()).unwrap_or_default()
    }

    /// What has not been taken yet.
    pub(crate) fn rest(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    /// Takes `skip` octets, puts `length` on show, and takes `past` behind them. The caller has
    /// seen that many in [`rest`](Self::rest).
    pub(crate) fn show(&mut self, skip: usize, length: usize, past: usize) {
        let start = self.taken + skip;
        self.shown = start..start + length;
        self.taken = start + length + past;
    }

    /// Shows the next block of lines, each with its CRLF, once its last line is there. `is_last`
    /// judges a line. Nothing after an error is in step.
    pub(crate) fn next_block(
        &mut self,
        line_limit: usize,
        block_limit: usize,
        is_last: impl Fn(&[u8]) -> bool,
    ) -> Option<Result<(), Error>> {
        self.shown = self.taken..self.taken;
        loop {
            let rest = self.rest();
            let held = rest.len();
            let end = find_crlf(rest, self.scanned);
            let seen = end.unwrap_or(held);
            if seen - self.line > line_limit || seen > block_limit {
                return Some(Err(Error::TooLong));
            }
            let Some(end) = end else {
                self.scanned = held.saturating_sub(1).max(self.line);
                return None;
            };
            let last = is_last(rest.get(self.line..end).unwrap_or_default());
            (self.line, self.scanned) = (end + 2, end + 2);
            if last {
                (self.line, self.scanned) = (0, 0);
                self.show(0, end + 2, 0);
                return Some(Ok(()));
            }
        }
    }

    /// Nothing is on show any more. With nothing left at all the memory goes back.
    pub(crate) fn give_back(&mut self) {
        self.shown = self.taken..self.taken;
        if self.rest().is_empty() && !self.overlong {
            let _ = self.clear();
        }
    }

    /// Forgets everything; how many octets had not been taken.
    pub(crate) fn clear(&mut self) -> usize {
        let dropped = self.rest().len();
        self.wipe_behind(0);
        *self = Self::default();
        dropped
    }

    fn wipe_behind(&mut self, length: usize) {
        truncate(&mut self.buffer, length);
    }
}

/// How much there is, not what: it may be a password.
impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("shown", &self.shown.len())
            .field("rest", &self.rest().len())
            .field("overlong", &self.overlong)
            .finish_non_exhaustive()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.wipe_behind(0);
    }
}

fn find_crlf(octets: &[u8], from: usize) -> Option<usize> {
    let behind = octets.get(from..)?;
    let is_end = |lf: &usize| matches!(behind.get(..*lf), Some([.., b'\r']));
    memchr::memchr_iter(b'\n', behind).find(is_end).map(|lf| from + lf - 1)
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec::Vec};

    use super::*;

    fn lines(pieces: &[&str]) -> Vec<Result<String, Error>> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.receive(piece.as_bytes());
            while let Some(line) = lines.next(8) {
                seen.push(line.map(|()| String::from_utf8_lossy(lines.shown()).into_owned()));
            }
        }
        seen
    }

    #[test]
    fn crlf_alone_ends_a_line() {
        let good = |text: &str| Ok(text.into());
        let table: &[(&[&str], &[Result<String, Error>])] = &[
            (&["a\r\nb\r\n"], &[good("a"), good("b")]),
            (&["a\r", "\n", "\r\n"], &[good("a"), good("")]),
            (&["a\nb\r\nc\r\n"], &[Err(Error::BadOctet), good("c")]),
            (&["a\rb\r\nc\r\n"], &[Err(Error::BadOctet), good("c")]),
            (&["a\0\r\nc\r\n"], &[Err(Error::BadOctet), good("c")]),
            (&["12345678\r\n"], &[good("12345678")]),
            (&["123456789\r\nc\r\n"], &[Err(Error::TooLong), good("c")]),
            (&["123456789\r", "123\r", "\nc\r\n"], &[Err(Error::TooLong), good("c")]),
        ];
        for (pieces, expected) in table {
            assert_eq!(lines(pieces), *expected, "{pieces:?}");
            let octets: Vec<String> = pieces.concat().chars().map(String::from).collect();
            let octets: Vec<&str> = octets.iter().map(String::as_str).collect();
            assert_eq!(lines(&octets), *expected, "{pieces:?}, octet by octet");
        }
    }

    #[test]
    fn a_bdat_in_a_line_is_found() {
        const LIMIT: usize = 40;
        let blanks = " ".repeat(2 * LIMIT);
        let text = "x".repeat(2 * LIMIT);
        let table: &[(String, bool, bool)] = &[
            ("BDAT 5\0".into(), true, false),
            ("bDaT".into(), true, false),
            ("  \t\0BD\0AT 5".into(), true, false),
            ("NOOP BDAT".into(), false, false),
            ("BDA\0 T".into(), false, false),
            ("BDA".into(), false, false),
            ("".into(), false, false),
            ("BDA\nT".into(), false, false),
            ("x\nBDAT 5".into(), true, true),
            ("x\r \n bdat".into(), true, true),
            ("\nBDAT".into(), true, true),
            ("BDAT\nBDAT".into(), true, true),
            ("x\nNOOP BDAT".into(), false, false),
            (["BDAT ", &text].concat(), true, false),
            ([&blanks, "BDAT", &blanks].concat(), true, false),
            ([&blanks, "BDXT", &blanks].concat(), false, false),
            ([&*text, "\n", &blanks, "BDAT", &text].concat(), true, true),
            ([&*text, "BDAT"].concat(), false, false),
            ([&*text, "\nBDAT"].concat(), true, true),
        ];
        let mut lines = Lines::default();
        for (line, anywhere, inside) in table {
            for size in [1, 2, 3, 7, LIMIT, 1000] {
                for piece in line.as_bytes().chunks(size).chain([&b"\r"[..], b"\n"]) {
                    assert_eq!(lines.next(LIMIT), None);
                    lines.receive(piece);
                }
                assert!(lines.next(LIMIT).is_some(), "{line:?}");
                let found = (lines.holds_bdat(), lines.holds_bdat_inside());
                assert_eq!(found, (*anywhere, *inside), "{line:?} by {size}");
                // Nothing of it is left for the next line.
                lines.receive(b"NOOP\r\n");
                assert_eq!(lines.next(LIMIT), Some(Ok(())));
                assert!(!lines.holds_bdat());
            }
        }
    }

    #[test]
    fn what_is_on_show_stays() {
        let mut lines = Lines::default();
        lines.receive(b"one\r\ntwo\r\n");
        assert_eq!(lines.next(8), Some(Ok(())));
        assert_eq!(lines.next(8), Some(Ok(())));
        lines.receive(&[b'x'; 100]);
        assert_eq!(lines.shown(), b"two");
    }

    #[test]
    fn memory_stays_bounded() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            lines.receive(&[b'x'; 10]);
            assert_eq!(lines.next(100), None);
            assert!(lines.buffer.capacity() < 300);
        }
        // Of a line that is too long nothing is kept, but what may be the CR of its end.
        assert_eq!(lines.rest(), b"x");
    }
}
