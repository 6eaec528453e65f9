//! A reply that was read is written, and read back to the same value, as far as writing keeps it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth::{ehlo::Ehlo, reply::ReplyRef};

fuzz_target!(|block: &[u8]| {
    let Ok(reply) = ReplyRef::parse(block) else { return };
    let ehlo = Ehlo::new(reply);
    let _ = (ehlo.domain(), ehlo.keywords().count(), ehlo.mechanisms().count());
    let owned = reply.to_reply();
    let mut out = Vec::new();
    owned.write(&mut out);
    assert!(out.split_inclusive(|&octet| octet == b'\n').all(|line| line.len() <= 512));
    let again = ReplyRef::parse(&out).expect("what is written can be read").to_reply();
    assert_eq!((again.code(), again.enhanced_code()), (owned.code(), owned.enhanced_code()));
    let kept = owned.text().split('\n').all(|line| line.len() < 490);
    if kept && owned.text().is_ascii() {
        assert_eq!(again, owned);
    }
});
