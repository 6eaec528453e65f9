//! `tls-server-end-point` of certificates (RFC 5929 §4.1).

use std::{fs, path::Path, str};

use proptest::prelude::*;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_224, Sha512_256};
use smtp_auth::sasl::{ChannelBinding, ConfigError};

fn of(hash: &[u8]) -> Option<ChannelBinding> {
    Some(ChannelBinding::tls_server_end_point(hash).unwrap())
}

fn end_point(certificate: &[u8]) -> Option<ChannelBinding> {
    ChannelBinding::tls_server_end_point_of(certificate)
}

/// What OpenSSL made, and what it says of it: `certificates/make`.
fn made_by_openssl() -> Vec<(&'static str, Vec<u8>, Option<ChannelBinding>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mechanisms/certificates");
    let digit = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    let lines = include_str!("certificates/end-points.txt").lines();
    let certificates = lines.map(|line| {
        let (name, digest) = line.split_once(' ').unwrap();
        let digest = (digest != "none").then(|| digest.as_bytes().chunks(2).map(digit).collect());
        let der = fs::read(folder.join(name).with_extension("der")).unwrap();
        (name, der, digest.and_then(|digest: Vec<u8>| of(&digest)))
    });
    certificates.collect()
}

fn certificate(name: &str) -> Vec<u8> {
    made_by_openssl().into_iter().find(|(own, ..)| *own == name).unwrap().1
}

/// Whether it is none, or the certificate's digest by some hash: never by less than all of it.
fn is_one_of_all(certificate: &[u8]) -> bool {
    let hashes = [
        Sha224::digest(certificate).to_vec(),
        Sha256::digest(certificate).to_vec(),
        Sha384::digest(certificate).to_vec(),
        Sha512::digest(certificate).to_vec(),
        Sha512_224::digest(certificate).to_vec(),
        Sha512_256::digest(certificate).to_vec(),
    ];
    let found = end_point(certificate);
    found.is_none() || hashes.iter().any(|hash| of(hash) == found)
}

#[test]
fn agrees_with_openssl() {
    let all = made_by_openssl();
    assert_eq!(all.len(), 33);
    for (name, der, expected) in all {
        assert_eq!(end_point(&der), expected, "{name}");
    }
}

#[test]
fn no_more_and_no_less_than_a_certificate() {
    for (name, der, _) in made_by_openssl() {
        for length in 0..der.len() {
            assert_eq!(end_point(&der[..length]), None, "{length} octets of {name}");
        }
        assert_eq!(end_point(&[&der, &[0][..]].concat()), None, "{name}, and an octet");
        assert_eq!(end_point(&[&*der, &*der].concat()), None, "{name}, twice");
    }
    assert_eq!(end_point(b"-----BEGIN CERTIFICATE-----"), None);
}

#[test]
fn an_octet_changed() {
    for (name, der, _) in made_by_openssl() {
        for at in 0..der.len().min(400) {
            for change in [0x01, 0x02, 0x20, 0x80, 0xff] {
                let mut changed = der.clone();
                changed[at] ^= change;
                assert!(is_one_of_all(&changed), "{name}, {at} ^ {change}");
            }
        }
    }
}

/// Who takes a certificate for a hash is told.
#[test]
fn a_certificate_is_no_hash() {
    let der = certificate("rsa-sha256");
    assert_eq!(ChannelBinding::tls_server_end_point(&der), Err(ConfigError::ChannelBinding));
    assert_eq!(ChannelBinding::tls_server_end_point(&[1; 65]), Err(ConfigError::ChannelBinding));
    assert!(ChannelBinding::tls_server_end_point(&[1; 64]).is_ok());
    assert_eq!(end_point(&Sha256::digest(&der)), None);
}

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u8::try_from(content.len()).unwrap();
    let start = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
    [start, content].concat()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, parts)
}

/// `AlgorithmIdentifier`
fn algorithm(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    sequence(&[&element(6, &[oid]), parameters])
}

/// As much of a certificate as is looked at.
fn signed(by: &[u8], with: &[u8]) -> Vec<u8> {
    let signed = sequence(&[&element(2, &[&[1]]), by]);
    sequence(&[&signed, with, &element(3, &[&[0]])])
}

const NULL: &[u8] = &[5, 0];
const PKCS_1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
const MD5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 5];
const SHA_1: &[u8] = &[0x2b, 14, 3, 2, 26];

fn pkcs_1(last: u8, parameters: &[u8]) -> Vec<u8> {
    algorithm(&[PKCS_1, &[last]].concat(), parameters)
}

#[test]
fn the_algorithm_that_is_signed() {
    let (sha256, sha384) = (pkcs_1(11, NULL), pkcs_1(12, NULL));
    let good = signed(&sha256, &sha256);
    assert_eq!(end_point(&good), of(&Sha256::digest(&good)));
    // Another outside, and the same with other parameters (RFC 5280 §4.1.1.2).
    assert_eq!(end_point(&signed(&sha256, &sha384)), None);
    assert_eq!(end_point(&signed(&sha256, &pkcs_1(11, b""))), None);
    for unknown in [0, 1, 2, 3, 6, 7, 8, 9, 17, 0x80] {
        let unknown = pkcs_1(unknown, NULL);
        assert_eq!(end_point(&signed(&unknown, &unknown)), None);
    }
    // More after the signature, or something else in its place.
    let (signed_part, bits) = (sequence(&[&element(2, &[&[1]]), &sha256]), element(3, &[&[0]]));
    for signature in [&[&*bits, NULL].concat()[..], NULL, b""] {
        assert_eq!(end_point(&sequence(&[&signed_part, &sha256, signature])), None);
    }
    let empty = algorithm(b"", NULL);
    assert_eq!(end_point(&signed(&empty, &empty)), None);
}

/// The encodings of a length that DER has not (X.690 §10.1).
#[test]
fn lengths() {
    let sha256 = pkcs_1(11, NULL);
    let good = signed(&sha256, &sha256);
    let content = &good[2..];
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 0x80);
    for start in [
        &[0x30, 0x81, length][..],
        &[0x30, 0x82, 0, length],
        &[0x30, 0x84, 0, 0, 0, length],
        &[0x30, 0x85, 0, 0, 0, 0, length],
        &[0x30, 0x80],
        &[0x30, 0xff],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x30, length - 1],
        &[0x30, length + 1],
        &[0x31, length],
        &[0x30],
        &[],
    ] {
        assert_eq!(end_point(&[start, content].concat()), None, "{start:x?}");
        assert_eq!(end_point(start), None, "{start:x?}");
    }
    assert_eq!(end_point(&[&[0x30, 0x80], content, &[0, 0]].concat()), None);
}

#[test]
fn parameters_of_rsassa_pss() {
    let nist = |last: u8| [&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2][..], &[last]].concat();
    let hash = |oid: &[u8]| element(0xa0, &[&algorithm(oid, NULL)]);
    let mgf1 =
        |oid: &[u8]| element(0xa1, &[&algorithm(&[PKCS_1, &[8]].concat(), &algorithm(oid, b""))]);
    let pss = |parameters: &[&[u8]]| {
        let algorithm = pkcs_1(10, &sequence(parameters));
        let der = signed(&algorithm, &algorithm);
        (end_point(&der), der)
    };
    let salt = element(0xa2, &[&element(2, &[&[32]])]);
    for parameters in [
        &[][..],
        &[&*salt],
        &[&hash(SHA_1)],
        &[&mgf1(SHA_1)],
        &[&hash(SHA_1), &mgf1(SHA_1), &salt],
        &[&hash(MD5), &mgf1(MD5)],
        &[&hash(&nist(1)), &mgf1(&nist(1)), &salt],
    ] {
        let (found, der) = pss(parameters);
        assert_eq!(found, of(&Sha256::digest(&der)), "{parameters:x?}");
    }
    let (found, der) = pss(&[&hash(&nist(5)), &mgf1(&nist(5))]);
    assert_eq!(found, of(&Sha512_224::digest(&der)));
    let other_mask = element(0xa1, &[&pkcs_1(9, &algorithm(&nist(1), NULL))]);
    for parameters in [
        // SHA3-256
        &[&*hash(&nist(8)), &*mgf1(&nist(8))][..],
        &[&hash(&nist(1))],
        &[&hash(MD5)],
        &[&mgf1(&nist(1))],
        &[&hash(&nist(1)), &mgf1(&nist(2))],
        &[&hash(&nist(1)), &other_mask],
        &[&hash(&nist(1)), &element(0xa1, &[NULL])],
        &[&element(0xa0, &[NULL]), &mgf1(SHA_1)],
        // Of another tag, twice, and more than there is.
        &[&element(0xa7, &[&algorithm(SHA_1, NULL)])],
        &[&hash(SHA_1), &hash(SHA_1)],
        &[&salt, &salt],
        &[&salt, NULL],
        // In the wrong order.
        &[&mgf1(&nist(1)), &hash(&nist(1))],
    ] {
        assert_eq!(pss(parameters).0, None, "{parameters:x?}");
    }
    // They have to be there (RFC 4055 §3.1), and nothing beside them.
    for parameters in [b"", NULL, &[0x30, 0, 5, 0]] {
        let algorithm = pkcs_1(10, parameters);
        assert_eq!(end_point(&signed(&algorithm, &algorithm)), None);
    }
}

proptest! {
    #[test]
    fn any_octets(octets in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(is_one_of_all(&octets));
    }

    /// A certificate with some of its octets exchanged, and some taken out.
    #[test]
    fn nearly_a_certificate(
        which in 0..33_usize,
        at in 0..500_usize,
        taken in 0..4_usize,
        put in prop::collection::vec(any::<u8>(), 0..6),
    ) {
        let mut der = made_by_openssl().swap_remove(which).1;
        let at = at.min(der.len() - taken);
        der.splice(at..at + taken, put);
        prop_assert!(is_one_of_all(&der));
    }
}
