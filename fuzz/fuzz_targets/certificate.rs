//! A certificate's `tls-server-end-point` is the hash of all of it, or there is none; and there is none of anything that
//! is longer, shorter, or whose two algorithm fields differ.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_224, Sha512_256};
use smtp_auth::sasl::ChannelBinding;

/// The first element as it stands, and what follows it. Less strict than the crate.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (start, length) = match der[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            let octets = &der[2..2 + count];
            (2 + count, octets.iter().fold(0, |sum, &octet| sum << 8 | usize::from(octet)))
        }
    };
    der.split_at(start + length)
}

/// What stands in an element.
fn inside(der: &[u8]) -> &[u8] {
    let (whole, _) = element(der);
    let start = if der[1] < 0x80 { 2 } else { 2 + usize::from(der[1] & 0x7f) };
    &whole[start..]
}

fuzz_target!(|octets: &[u8]| {
    let Some(found) = ChannelBinding::tls_server_end_point_of(octets) else { return };
    let hashes = [
        Sha224::digest(octets).to_vec(),
        Sha256::digest(octets).to_vec(),
        Sha384::digest(octets).to_vec(),
        Sha512::digest(octets).to_vec(),
        Sha512_224::digest(octets).to_vec(),
        Sha512_256::digest(octets).to_vec(),
    ];
    let one = |hash: &Vec<u8>| ChannelBinding::tls_server_end_point(hash).as_ref() == Ok(&found);
    assert!(hashes.iter().any(one), "by another hash, or of less");
    let (whole, rest) = element(octets);
    assert!(rest.is_empty(), "octets after the certificate");
    let (signed, outer) = element(inside(whole));
    let (outer, signature) = element(outer);
    assert!(element(signature).1.is_empty(), "octets after the signature");
    let version_or_serial = inside(signed);
    let serial = match version_or_serial[0] {
        0xa0 => element(version_or_serial).1,
        _ => version_or_serial,
    };
    assert_eq!(element(element(serial).1).0, outer, "another algorithm outside");
    assert_eq!(ChannelBinding::tls_server_end_point_of(&octets[..octets.len() - 1]), None);
    assert_eq!(ChannelBinding::tls_server_end_point_of(&[octets, &[0]].concat()), None);
});
