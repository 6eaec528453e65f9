//! Splits the received octets into lines. Only CRLF ends a line (RFC 5321 §2.3.8). If another program on the path
//! interprets a bare LF or CR as a line ending, a peer could smuggle commands past it. In a block of lines, which is a
//! reply that a client reads, all lines may end in a bare LF. This does not allow smuggling, because a client passes
//! nothing on.

use alloc::vec::Vec;
use core::{fmt, mem, ops::Range};

use zeroize::Zeroize;

use crate::secret::truncate;

/// Why a line cannot be used. The line is dropped up to its CRLF, and the next line can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The line exceeds the limit.
    TooLong,
    /// The line contains a bare CR, a bare LF or a NUL.
    BadOctet,
}

/// Why a block of lines cannot be used. Nothing that follows it can be used either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockError {
    /// A line, or the block as a whole, exceeds its limit.
    TooLong,
    /// A line ends differently from the first one, or contains a bare CR.
    LineEnd,
}

/// The maximum number of empty lines that are ignored.
const MAX_EMPTY_LINES: u8 = 8;

/// The line ending in the blocks of a connection.
#[derive(Debug, Default)]
pub(crate) struct LineEnds {
    /// The length of the first line's end: 2 for CRLF, 1 for LF.
    length: Option<u8>,
    /// The number of empty lines so far.
    empty_lines: u8,
}

impl LineEnds {
    /// Forgets how the lines ended. The next line decides.
    pub(crate) fn forget(&mut self) {
        self.length = None;
    }
}

/// The minimum amount of memory that is allocated for octets. Most lines fit in it.
const LEAST: usize = 64;

/// The one command whose line is followed by octets that are not lines (RFC 3030 §2).
const BDAT: &[u8] = b"BDAT";

/// Finds a BDAT that another program might read in a line that contains no valid command for this server. Such a BDAT
/// is at the start of the line, or after a bare CR or LF in it. Blanks before the BDAT and NULs within it are ignored.
/// The line may be given in pieces, so that the dropped part of an overlong line also counts.
#[derive(Clone, Copy, Default)]
struct FindBdat {
    /// The number of letters of BDAT since the last line ending of any kind, or [`Self::NONE`].
    letters: u8,
    /// Whether a bare CR or LF has been found.
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

/// The received octets: the pending ones, then those not yet processed.
#[derive(Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// The pending line, block or piece of a message.
    shown: Range<usize>,
    /// The number of octets that have been taken.
    taken: usize,
    /// How many of the octets taken last belong to a message. A message is not secret, so only these octets need not be
    /// zeroed.
    message: usize,
    /// The number of octets after `taken` that are known to contain no CRLF, so that no octet is searched twice.
    scanned: usize,
    /// The position of the current line in a block of lines, in octets after `taken`.
    line: usize,
    /// Whether the current line exceeds its limit. The octets received so far are dropped.
    overlong: bool,
    /// What was found in the dropped part of the line.
    dropped: FindBdat,
}

impl Lines {
    /// Adds received octets. Pending octets stay pending.
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

    /// Lets `read` write octets directly into the buffer. `read` receives a slice of at most `room` octets, and returns
    /// how many octets it has written. The rest of the slice is dropped, or all of it if `read` fails.
    pub(crate) fn receive_with<E>(
        &mut self,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let cut = if self.shown.is_empty() { self.taken } else { self.shown.start };
        self.make_room(cut, 0);
        let length = self.buffer.len();
        // Ensures that a line that arrives octet by octet is not copied each time.
        let spare = self.buffer.capacity() - length;
        let room = if spare > room / 2 { spare.min(room) } else { room }.max(1);
        if spare < room {
            self.move_to(length + room);
        }
        self.buffer.resize(length + room, 0);
        let mut filled = Filled { lines: self, length };
        let octets = filled.lines.buffer.get_mut(length..).unwrap_or_default();
        let read = read(octets)?.min(octets.len());
        filled.length += read;
        Ok(read)
    }

    /// Drops the first `cut` octets, and reserves room for `more`. A separate function, so that it does not slow down
    /// the processing of octets that arrive one by one.
    #[inline(never)]
    fn make_room(&mut self, cut: usize, more: usize) {
        if cut > 0 {
            self.buffer.copy_within(cut.., 0);
            self.wipe_behind(self.buffer.len() - cut);
            self.taken -= cut;
            self.message = self.message.min(self.taken);
            self.shown = self.shown.start.saturating_sub(cut)..self.shown.end.saturating_sub(cut);
        }
        let needed = self.buffer.len() + more;
        if self.buffer.capacity() < needed {
            self.move_to(needed.max(2 * self.buffer.capacity()).max(LEAST));
        }
    }

    /// Moves the octets to new memory of the given capacity.
    fn move_to(&mut self, capacity: usize) {
        let mut moved = Vec::with_capacity(capacity);
        moved.extend_from_slice(&self.buffer);
        self.wipe_behind(0);
        self.buffer = moved;
    }

    /// Returns `true` if at most one octet has arrived since the line was last requested, and does not end it. This is
    /// a cheap check for octets that arrive one by one. `false` does not mean that there is a line.
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

    /// Makes the next line pending, without its CRLF, once it is complete.
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
        if mem::take(&mut self.overlong) || length > limit {
            return Some(Err(Error::TooLong));
        }
        if memchr::memchr3(b'\r', b'\n', 0, self.shown()).is_some() {
            return Some(Err(Error::BadOctet));
        }
        Some(Ok(()))
    }

    /// Makes the next line pending, without the LF that ends it, once it is complete. After an error, the position in the
    /// input is undefined.
    pub(crate) fn next_lf(&mut self, limit: usize) -> Option<Result<(), Error>> {
        self.shown = self.taken..self.taken;
        let rest = self.rest();
        let behind = rest.get(self.scanned..).unwrap_or_default();
        match memchr::memchr(b'\n', behind).map(|at| at + self.scanned) {
            Some(length) if length <= limit => {
                self.scanned = 0;
                self.show(0, length, 1);
                Some(Ok(()))
            }
            None if rest.len() <= limit => {
                self.scanned = rest.len();
                None
            }
            _ => Some(Err(Error::TooLong)),
        }
    }

    /// Returns whether the line begins with BDAT, or contains BDAT after a bare CR or LF. The dropped part of the line
    /// counts as well.
    pub(crate) fn holds_bdat(&self) -> bool {
        let FindBdat { at_start, after_bare, .. } = self.dropped.look(self.shown());
        at_start | after_bare
    }

    /// Returns whether the line contains BDAT after a bare CR or LF.
    pub(crate) fn holds_bdat_inside(&self) -> bool {
        self.dropped.look(self.shown()).after_bare
    }

    /// Returns the pending octets.
    pub(crate) fn shown(&self) -> &[u8] {
        self.buffer.get(self.shown.clone()).unwrap_or_default()
    }

    /// Returns the octets that have not been taken yet.
    pub(crate) fn rest(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    /// Takes `skip` octets, makes the next `length` pending, and takes `past` more after them. The caller must have
    /// seen all of these octets in [`rest`](Self::rest).
    pub(crate) fn show(&mut self, skip: usize, length: usize, past: usize) {
        let start = self.taken + skip;
        self.shown = start..start + length;
        self.taken = start + length + past;
        self.message = 0;
    }

    /// Does the same as [`show`](Self::show) with octets of a message.
    pub(crate) fn show_message(&mut self, skip: usize, length: usize, past: usize) {
        let message = self.message + skip + length + past;
        self.show(skip, length, past);
        self.message = message;
    }

    /// Makes the next block of lines pending, each with its line ending, once the last line has arrived. `is_last`
    /// decides whether a line is the last. Empty lines before the block are dropped, up to a limit. Nothing after an
    /// error can be used.
    pub(crate) fn next_block(
        &mut self,
        ends: &mut LineEnds,
        line_limit: usize,
        block_limit: usize,
        is_last: impl Fn(&[u8]) -> bool,
    ) -> Option<Result<(), BlockError>> {
        self.shown = self.taken..self.taken;
        loop {
            let rest = self.rest();
            let behind = rest.get(self.scanned..).unwrap_or_default();
            let found = memchr::memchr2(b'\r', b'\n', behind).map(|at| at + self.scanned);
            let seen = found.unwrap_or(rest.len());
            if seen - self.line > line_limit || seen > block_limit {
                return Some(Err(BlockError::TooLong));
            }
            let length = match rest.get(seen..) {
                Some([b'\n', ..]) => 1,
                Some([b'\r', b'\n', ..]) => 2,
                Some([b'\r']) if ends.length == Some(1) => return Some(Err(BlockError::LineEnd)),
                Some([_, _, ..]) => return Some(Err(BlockError::LineEnd)),
                // The rest of the line, or its LF, has not arrived yet.
                _ => {
                    self.scanned = seen;
                    return None;
                }
            };
            if *ends.length.get_or_insert(length) != length {
                return Some(Err(BlockError::LineEnd));
            }
            let length = usize::from(length);
            if seen == 0 && ends.empty_lines < MAX_EMPTY_LINES {
                ends.empty_lines += 1;
                self.show(0, 0, length);
                continue;
            }
            let last = is_last(rest.get(self.line..seen).unwrap_or_default());
            (self.line, self.scanned) = (seen + length, seen + length);
            if last {
                (self.line, self.scanned) = (0, 0);
                self.show(0, seen + length, 0);
                return Some(Ok(()));
            }
        }
    }

    /// Returns whether nothing is left, except perhaps the CR of an empty line.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.rest(), [] | [b'\r'])
    }

    /// Ends what was pending. If no octets are left, releases the memory.
    pub(crate) fn give_back(&mut self) {
        self.shown = self.taken..self.taken;
        if self.rest().is_empty() && !self.overlong {
            let _ = self.clear();
        }
    }

    /// Drops everything, and returns how many octets had not been taken.
    pub(crate) fn clear(&mut self) -> usize {
        let dropped = self.rest().len();
        self.wipe_behind(0);
        *self = Self::default();
        dropped
    }

    /// Truncates the buffer to the given length. Zeroes the octets that are cut off, except those of a message.
    fn wipe_behind(&mut self, length: usize) {
        truncate(&mut self.buffer, length.max(self.taken));
        let before = self.taken - self.message;
        if let Some(octets @ [_, ..]) = self.buffer.get_mut(length..before) {
            octets.zeroize();
        }
        self.buffer.truncate(length);
    }
}

/// The slice that is lent to `read`, and how far it is filled. Even after a panic in `read`, the rest is not treated as
/// octets from the peer.
struct Filled<'a> {
    lines: &'a mut Lines,
    length: usize,
}

impl Drop for Filled<'_> {
    fn drop(&mut self) {
        let Self { lines, length } = self;
        lines.wipe_behind(*length);
        if lines.shown.is_empty() {
            lines.give_back();
        }
        // A peer that sends single octets cannot make the session keep that much room.
        let needed = lines.buffer.len().max(LEAST);
        if lines.buffer.capacity() > 4 * needed {
            lines.move_to(needed);
        }
    }
}

/// Shows the number of octets, but not the octets themselves, because they may be a password.
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
    fn lf_alone_ends_a_line() {
        let table: &[(&[&str], &str)] = &[
            (&["a\nb\n"], "<a><b>"),
            (&["a", "b", "\n"], "<ab>"),
            (&["\n\r\n"], r"<><\r>"),
            (&["a\0b\n"], r"<a\x00b>"),
            (&["12345678\n"], "<12345678>"),
            (&["123456789\n"], "TooLong"),
            (&["1234567", "89"], "TooLong"),
        ];
        for (pieces, expected) in table {
            let (mut lines, mut seen) = (Lines::default(), String::new());
            for piece in *pieces {
                lines.receive(piece.as_bytes());
                while let Some(line) = lines.next_lf(8) {
                    match line {
                        Ok(()) => seen += &alloc::format!("<{}>", lines.shown().escape_ascii()),
                        Err(error) => {
                            seen += &alloc::format!("{error:?}");
                            break;
                        }
                    }
                }
            }
            assert_eq!(seen, *expected, "{pieces:?}");
        }
    }

    #[test]
    fn octets_are_read_straight_in() {
        let read = |lines: &mut Lines, octets: &'static [u8]| {
            lines.receive_with::<()>(16, |room| {
                room[..octets.len()].copy_from_slice(octets);
                room[octets.len()..].fill(b'x');
                Ok(octets.len())
            })
        };
        let mut lines = Lines::default();
        for (piece, line) in [(&b"ab"[..], None), (b"c\r\nd", Some("abc")), (b"\r\n", Some("d"))] {
            assert_eq!(read(&mut lines, piece), Ok(piece.len()));
            let shown = lines.next(8).map(|line| line.map(|()| lines.shown().to_vec()));
            assert_eq!(shown, line.map(|line| Ok(line.as_bytes().to_vec())));
        }
        lines.give_back();
        assert_eq!(lines.buffer.capacity(), 0);
        // If nothing arrives, no memory is held. Pending or earlier octets stay.
        assert_eq!(read(&mut lines, b""), Ok(0));
        assert_eq!(lines.receive_with(4096, |_| Err("would block")), Err("would block"));
        assert_eq!(lines.buffer.capacity(), 0);
        lines.receive(b"ab\r\nc");
        assert_eq!(lines.next(8), Some(Ok(())));
        assert_eq!(lines.receive_with(4096, |_| Err("would block")), Err("would block"));
        assert_eq!((lines.shown(), lines.rest()), (&b"ab"[..], &b"c"[..]));
        // `read` returns more than there is room for.
        assert_eq!(lines.receive_with::<()>(0, |room| Ok(room.len() + 7)), Ok(1));
        assert_eq!((lines.shown(), lines.rest()), (&b"ab"[..], &b"c\0"[..]));
        let unwound = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
            lines.receive_with::<()>(16, |room| {
                room.fill(b'x');
                panic!("the reader")
            })
        }));
        assert!(unwound.is_err());
        assert_eq!((lines.shown(), lines.rest()), (&b"ab"[..], &b"c\0"[..]));
    }

    /// Reads replies from these pieces. An error ends the text that is returned.
    fn blocks(pieces: &[&str]) -> String {
        let (mut lines, mut ends, mut seen) =
            (Lines::default(), LineEnds::default(), String::new());
        for piece in pieces {
            lines.receive(piece.as_bytes());
            loop {
                match lines.next_block(&mut ends, 16, 64, |line| !line.starts_with(b"-")) {
                    None => break,
                    Some(Ok(())) => seen += &alloc::format!("<{}>", lines.shown().escape_ascii()),
                    Some(Err(error)) => return seen + &alloc::format!("{error:?}"),
                }
            }
            lines.give_back();
        }
        seen + if lines.is_silent() { "" } else { "..." }
    }

    #[test]
    fn the_first_line_of_replies_decides_how_they_end() {
        let nine = "\n".repeat(9);
        let table = [
            ("a\r\n-b\r\nc\r\n", r"<a\r\n><-b\r\nc\r\n>"),
            ("a\n-b\nc\n", r"<a\n><-b\nc\n>"),
            ("a\nb\r\n", r"<a\n>LineEnd"),
            ("a\r\nb\n", r"<a\r\n>LineEnd"),
            ("-a\r\nb\n", "LineEnd"),
            ("-a\nb\r\n", "LineEnd"),
            ("a\rb", "LineEnd"),
            ("a\r\r\n", "LineEnd"),
            ("a\nb\rc", r"<a\n>LineEnd"),
            ("a\n\r", r"<a\n>LineEnd"),
            ("a\r", "..."),
            ("\r", ""),
            ("a\r\n\r", r"<a\r\n>"),
            // Empty lines decide the line end as well.
            ("\na\n", r"<a\n>"),
            ("\r\n\r\na\r\n\r\n", r"<a\r\n>"),
            ("\na\r\n", "LineEnd"),
            ("-a\n\nb\n", r"<-a\n\n><b\n>"),
            (&nine[1..], ""),
            (&nine, r"<\n>"),
            ("a\n\n\n\n\nb\n\n\n\n\n\nc\n", r"<a\n><b\n><\n><c\n>"),
            ("12345678901234567", "TooLong"),
            ("12345678901234567\r\n", "TooLong"),
            ("-234567890123456\r\n-\r\n1\r\n", r"<-234567890123456\r\n-\r\n1\r\n>"),
        ];
        for (text, expected) in table {
            assert_eq!(blocks(&[text]), expected, "{text:?}");
            let octets: Vec<String> = text.chars().map(String::from).collect();
            let octets: Vec<&str> = octets.iter().map(String::as_str).collect();
            assert_eq!(blocks(&octets), expected, "{text:?}, octet by octet");
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
                // It does not affect the next line.
                lines.receive(b"NOOP\r\n");
                assert_eq!(lines.next(LIMIT), Some(Ok(())));
                assert!(!lines.holds_bdat());
            }
        }
    }

    #[test]
    fn what_is_pending_stays() {
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
        // Nothing of a line that is too long is kept, except what may be the CR of its end.
        assert_eq!(lines.rest(), b"x");
    }
}
