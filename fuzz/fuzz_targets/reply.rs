//! A reply that was read has one code, or is its last line's refusal; it is written, and read back to
//! the same value, as far as writing keeps it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth::{ehlo::Ehlo, reply::ReplyRef};

fuzz_target!(|block: &[u8]| {
    let Ok(reply) = ReplyRef::parse(block) else { return };
    // One code, or the last line's refusal; one end of all lines.
    let lines: Vec<_> = block.split_inclusive(|&octet| octet == b'\n').collect();
    let code =
        |line: &[u8]| line.iter().take(3).fold(0, |n, digit| 10 * n + u16::from(digit - b'0'));
    let last = lines.last().map_or(0, |line| code(line));
    let same = lines.iter().all(|line| code(line) == last);
    assert_eq!((reply.code(), reply.codes_differ()), (last, !same));
    assert!(same || last >= 400);
    let crlf = lines.iter().filter(|line| line.ends_with(b"\r\n")).count();
    assert!(crlf == 0 || crlf == lines.len());
    let ehlo = Ehlo::new(reply);
    let _ = (ehlo.domain(), ehlo.keywords().count(), ehlo.mechanisms().count());
    let owned = reply.to_reply();
    let mut out = Vec::new();
    owned.write(&mut out);
    assert!(out.split_inclusive(|&octet| octet == b'\n').all(|line| line.len() <= 512));
    let again = ReplyRef::parse(&out).expect("what is written can be read").to_reply();
    assert_eq!((again.code(), again.enhanced_code()), (owned.code(), owned.enhanced_code()));
    // A server's proof may be in it.
    if owned.code() == 334 {
        return assert_eq!(again.text(), "", "the text of a challenge is written");
    }
    let kept = owned.text().split('\n').all(|line| line.len() < 490);
    if kept && owned.text().is_ascii() {
        assert_eq!(again, owned);
    }
});
