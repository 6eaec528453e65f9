//! The message's line ends.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Reads the message from the file, or standard input, as SMTP wants it: each line ends in CRLF.
/// It is read whole, because the server is told its size first (RFC 1870).
pub(crate) fn read(file: Option<&Path>) -> Result<Vec<u8>, String> {
    match file {
        Some(path) => File::open(path)
            .and_then(normalized)
            .map_err(|error| format!("could not read {}: {error}", path.display())),
        None => normalized(io::stdin().lock())
            .map_err(|error| format!("could not read standard input: {error}")),
    }
}

fn normalized(mut source: impl Read) -> io::Result<Vec<u8>> {
    let (mut message, mut ends, mut buffer) = (Vec::new(), LineEnds::default(), [0; 16384]);
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => ends.push(buffer.get(..n).unwrap_or_default(), &mut message),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if !message.is_empty() && !message.ends_with(b"\r\n") {
        message.extend_from_slice(b"\r\n");
    }
    Ok(message)
}

/// Turns LF, CRLF and a lone CR into CRLF, in pieces cut anywhere.
#[derive(Debug, Default)]
struct LineEnds {
    /// The last octet was a CR, which is a line end already: an LF behind it belongs to it.
    after_cr: bool,
}

impl LineEnds {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for &octet in piece {
            match octet {
                b'\n' if self.after_cr => {}
                b'\r' | b'\n' => out.extend_from_slice(b"\r\n"),
                _ => out.push(octet),
            }
            self.after_cr = octet == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(text: &[u8], size: usize) -> Vec<u8> {
        let (mut out, mut ends) = (Vec::new(), LineEnds::default());
        text.chunks(size).for_each(|piece| ends.push(piece, &mut out));
        out
    }

    #[test]
    fn every_line_end_becomes_crlf_wherever_it_is_cut() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"", b""),
            (b"a\nb\n", b"a\r\nb\r\n"),
            (b"a\r\nb\r\n", b"a\r\nb\r\n"),
            (b"a\rb\r", b"a\r\nb\r\n"),
            (b"\r\r\n\n\n\r", b"\r\n\r\n\r\n\r\n\r\n"),
            (b"a\r\n.\rb\xff", b"a\r\n.\r\nb\xff"),
        ];
        for (text, expected) in cases {
            for size in 1..=text.len().max(1) {
                assert_eq!(in_pieces(text, size), expected, "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn the_last_line_is_ended() {
        assert_eq!(normalized(&b"a\nb"[..]).unwrap(), b"a\r\nb\r\n");
        assert_eq!(normalized(&b""[..]).unwrap(), b"");
    }
}
