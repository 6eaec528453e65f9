//! Reads the message and normalizes its line endings.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

/// Reads the message from the file or from standard input, and ends its lines in CRLF, as SMTP requires. The message is
/// read completely first, because its size is sent to the server before it (RFC 1870).
pub(crate) fn read(file: Option<&Path>) -> Result<Vec<u8>, String> {
    let read = match file {
        Some(path) => fs::read(path),
        None => io::stdin().lock().bytes().collect(),
    };
    let name = || file.map_or("standard input".to_owned(), |path| path.display().to_string());
    let text = read.map_err(|error| format!("cannot read {}: {error}", name()))?;
    Ok(normalized(&text))
}

/// Turns LF and a lone CR into CRLF.
fn normalized(text: &[u8]) -> Vec<u8> {
    let (mut message, mut last) = (Vec::with_capacity(text.len()), None);
    for &octet in text {
        match octet {
            // This LF belongs to the CR before it.
            b'\n' if last == Some(b'\r') => {}
            b'\r' | b'\n' => message.extend_from_slice(b"\r\n"),
            _ => message.push(octet),
        }
        last = Some(octet);
    }
    message
}

#[test]
fn every_line_ends_in_crlf() {
    let cases: [(&[u8], &[u8]); 7] = [
        (b"", b""),
        (b"a\nb", b"a\r\nb"),
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r", b"a\r\nb\r\n"),
        (b"\r\r\n\n\n\r", b"\r\n\r\n\r\n\r\n\r\n"),
        (b"a\r\n.\rb\xff", b"a\r\n.\r\nb\xff"),
    ];
    for (text, expected) in cases {
        assert_eq!(normalized(text), expected, "{text:?}");
    }
}
