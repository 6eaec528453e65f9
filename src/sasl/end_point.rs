//! `tls-server-end-point` (RFC 5929 §4.1): a hash of the certificate, computed with the hash function of the
//! certificate's own signature.

use alloc::boxed::Box;

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_224, Sha512_256};

/// Returns the hash of a certificate in DER.
///
/// Returns `None` if the octets are not a certificate (RFC 5280 §4.1), or if the signature does not use exactly
/// one hash function that this module implements. The type is not defined for other certificates (RFC 5929
/// §4.1).
pub(super) fn end_point(certificate: &[u8]) -> Option<Box<[u8]>> {
    Some(hash(signature_algorithm(certificate)?)?(certificate))
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue BIT STRING }` (RFC 5280
/// §4.1).
///
/// Returns the outer `signatureAlgorithm` field, which the signature does not cover. It is used only if it equals the
/// field in the signed part, as §4.1.1.2 requires.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let whole = only(certificate, SEQUENCE)?;
    let (signed, rest) = element(whole, SEQUENCE)?;
    let (algorithm, signature) = element(rest, SEQUENCE)?;
    only(signature, BIT_STRING)?;
    // TBSCertificate ::= SEQUENCE { version [0] DEFAULT v1, serialNumber, signature, … }
    let serial = element(signed, context(0)).map_or(signed, |(_version, rest)| rest);
    let (_serial, rest) = element(serial, INTEGER)?;
    let (own, _) = element(rest, SEQUENCE)?;
    (own == algorithm).then_some(algorithm)
}

type Hash = fn(&[u8]) -> Box<[u8]>;

fn of<D: Digest>(octets: &[u8]) -> Box<[u8]> {
    D::digest(octets).as_slice().into()
}

/// Object identifiers without their last arc.
mod arc {
    /// 1.2.840.113549.1.1
    pub(super) const PKCS_1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
    /// 1.2.840.113549.2
    pub(super) const RSA_HASHES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2];
    /// 1.2.840.10040.4
    pub(super) const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 4];
    /// 1.2.840.10045.4
    pub(super) const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4];
    /// 1.2.840.10045.4.3
    pub(super) const ECDSA_SHA_2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3];
    /// 1.3.14.3.2
    pub(super) const OIW: &[u8] = &[0x2b, 14, 3, 2];
    /// 2.16.840.1.101.3.4.2
    pub(super) const NIST_HASHES: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];
    /// 2.16.840.1.101.3.4.3
    pub(super) const NIST_SIGNATURES: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3];
}

/// Returns the hash function of a signature algorithm, or SHA-256 instead of MD5 and SHA-1.
fn hash(algorithm: &[u8]) -> Option<Hash> {
    let (oid, parameters) = element(algorithm, OBJECT_IDENTIFIER)?;
    let (&last, arc) = oid.split_last()?;
    Some(match (arc, last) {
        // md5WithRSAEncryption, sha1WithRSAEncryption, id-dsa-with-sha1, ecdsa-with-SHA1 (RFC 3279 §2.2)
        (arc::PKCS_1, 4 | 5) | (arc::DSA, 3) | (arc::ECDSA, 1) => of::<Sha256>,
        (arc::PKCS_1, 10) => return rsassa_pss(only(parameters, SEQUENCE)?),
        // sha…WithRSAEncryption (RFC 8017 §C), id-dsa-with-sha… (RFC 5758 §3.1), ecdsa-with-SHA… (§3.2)
        (arc::PKCS_1, 14) | (arc::NIST_SIGNATURES, 1) | (arc::ECDSA_SHA_2, 1) => of::<Sha224>,
        (arc::PKCS_1, 11) | (arc::NIST_SIGNATURES, 2) | (arc::ECDSA_SHA_2, 2) => of::<Sha256>,
        (arc::PKCS_1, 12) | (arc::NIST_SIGNATURES, 3) | (arc::ECDSA_SHA_2, 3) => of::<Sha384>,
        (arc::PKCS_1, 13) | (arc::NIST_SIGNATURES, 4) | (arc::ECDSA_SHA_2, 4) => of::<Sha512>,
        (arc::PKCS_1, 15) => of::<Sha512_224>,
        (arc::PKCS_1, 16) => of::<Sha512_256>,
        _ => return None,
    })
}

/// `RSASSA-PSS-params ::= SEQUENCE { hashAlgorithm [0] DEFAULT sha1, maskGenAlgorithm [1] DEFAULT mgf1SHA1, … }`
/// (RFC 4055 §3.1). MGF1 has its own hash function. If the two functions differ, there is no single hash
/// function.
fn rsassa_pss(parameters: &[u8]) -> Option<Hash> {
    const SHA_1: &[u8] = &[0x2b, 14, 3, 2, 26];
    const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8];
    let (hash, rest) = match element(parameters, context(0)) {
        Some((hash, rest)) => (named(hash)?.0, rest),
        None => (SHA_1, parameters),
    };
    let (of_mgf1, rest) = match element(rest, context(1)) {
        Some((mask, rest)) => match named(mask)? {
            (MGF1, parameters) => (named(parameters)?.0, rest),
            _ => return None,
        },
        None => (SHA_1, rest),
    };
    // saltLength [2], trailerField [3]
    let rest = element(rest, context(2)).map_or(rest, |(_, rest)| rest);
    if !element(rest, context(3)).map_or(rest, |(_, rest)| rest).is_empty() {
        return None;
    }
    let (&last, arc) = hash.split_last().filter(|_| hash == of_mgf1)?;
    Some(match (arc, last) {
        // id-md5, id-sha1, id-sha256
        (arc::RSA_HASHES, 5) | (arc::OIW, 26) | (arc::NIST_HASHES, 1) => of::<Sha256>,
        (arc::NIST_HASHES, 2) => of::<Sha384>,
        (arc::NIST_HASHES, 3) => of::<Sha512>,
        (arc::NIST_HASHES, 4) => of::<Sha224>,
        (arc::NIST_HASHES, 5) => of::<Sha512_224>,
        (arc::NIST_HASHES, 6) => of::<Sha512_256>,
        _ => return None,
    })
}

/// `AlgorithmIdentifier ::= SEQUENCE { algorithm OBJECT IDENTIFIER, parameters ANY OPTIONAL }`, with nothing
/// after it.
fn named(der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(only(der, SEQUENCE)?, OBJECT_IDENTIFIER)
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// The tag of a constructed `[number]`.
const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Returns the contents of the first element, if it has this tag, and the octets that follow it (X.690 §8.1).
/// The length has to be definite, in its shortest form (§10.1), and of up to four octets.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[own, length], rest) = der.split_first_chunk()?;
    let (length, rest) = match length {
        0..=0x7f => (length.into(), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked((length & 0x7f).into())?;
            let length = octets.iter().fold(0, |sum, &octet| sum << 8 | usize::from(octet));
            let shortest = length >= 0x80 && octets.first() != Some(&0);
            (Some(length).filter(|_| shortest)?, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length).filter(|_| own == tag)
}

/// Like [`element`], but for an element that nothing follows.
fn only(der: &[u8], tag: u8) -> Option<&[u8]> {
    element(der, tag).filter(|(_, rest)| rest.is_empty()).map(|(contents, _)| contents)
}
