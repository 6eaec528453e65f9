//! What binds a sign-in to its TLS connection (RFC 5802 §6); the client and the server have to come
//! to the same.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256, Sha384, Sha512};
use smtp_auth::sasl::{BindingPolicy, Channel, ChannelBinding};
use tokio_rustls::rustls::{ConnectionCommon, ProtocolVersion};
use x509_parser::{
    asn1_rs::oid, certificate::X509Certificate, oid_registry as oids, prelude::FromDer,
    signature_algorithm::RsaSsaPssParams, x509::AlgorithmIdentifier,
};

/// The channel of a connection whose handshake is over; the certificate is the server's, on either
/// side.
pub(crate) fn channel<Side>(
    tls: &ConnectionCommon<Side>,
    certificate: Option<&CertificateDer<'_>>,
) -> Channel {
    let bindings = [exporter(tls), certificate.and_then(server_end_point)];
    bindings.into_iter().flatten().fold(Channel::tls(), Channel::with_binding)
}

/// `tls-exporter` (RFC 9266). Up to TLS 1.2 the exporter binds only under conditions that rustls does
/// not report.
fn exporter<Side>(tls: &ConnectionCommon<Side>) -> Option<ChannelBinding> {
    if tls.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return None;
    }
    let label = b"EXPORTER-Channel-Binding";
    tls.export_keying_material([0; 32], label, Some(b"")).map(ChannelBinding::tls_exporter).ok()
}

/// `tls-server-end-point` (RFC 5929 §4): the certificate's hash, by the hash of its signature.
fn server_end_point(certificate: &CertificateDer<'_>) -> Option<ChannelBinding> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let digest = match hash(&parsed.signature_algorithm)? {
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    };
    ChannelBinding::tls_server_end_point(&digest).ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// The hash to take for a signature algorithm: its own, but SHA-256 for MD5 and SHA-1. `None` for
/// those without, as Ed25519, and for what no certificate of today has.
fn hash(signature: &AlgorithmIdentifier<'_>) -> Option<Hash> {
    // RSASSA-PSS names its hash in its parameters (RFC 4055 §3.1).
    let parameters = match &signature.algorithm {
        pss if *pss == oids::OID_PKCS1_RSASSAPSS => {
            Some(RsaSsaPssParams::try_from(signature.parameters()?).ok()?)
        }
        _ => None,
    };
    let algorithm =
        parameters.as_ref().map_or(&signature.algorithm, |named| named.hash_algorithm_oid());
    let hashes = [
        (oids::OID_PKCS1_MD5WITHRSAENC, Hash::Sha256),
        (oids::OID_PKCS1_SHA1WITHRSA, Hash::Sha256),
        (oids::OID_PKCS1_SHA256WITHRSA, Hash::Sha256),
        (oids::OID_PKCS1_SHA384WITHRSA, Hash::Sha384),
        (oids::OID_PKCS1_SHA512WITHRSA, Hash::Sha512),
        // ecdsa-with-SHA1 (RFC 3279 §2.2.3)
        (oid!(1.2.840.10045.4.1), Hash::Sha256),
        (oids::OID_SIG_ECDSA_WITH_SHA256, Hash::Sha256),
        (oids::OID_SIG_ECDSA_WITH_SHA384, Hash::Sha384),
        (oids::OID_SIG_ECDSA_WITH_SHA512, Hash::Sha512),
        // Those of the parameters.
        (oids::OID_HASH_SHA1, Hash::Sha256),
        (oids::OID_NIST_HASH_SHA256, Hash::Sha256),
        (oids::OID_NIST_HASH_SHA384, Hash::Sha384),
        (oids::OID_NIST_HASH_SHA512, Hash::Sha512),
    ];
    hashes.into_iter().find(|(known, _)| known == algorithm).map(|(_, hash)| hash)
}

/// Reads `--channel-binding`.
pub(crate) fn policy() -> impl TypedValueParser<Value = BindingPolicy> {
    PossibleValuesParser::new(["none", "preferred", "required"]).map(|word| match &*word {
        "none" => BindingPolicy::None,
        "required" => BindingPolicy::Required,
        _ => BindingPolicy::Preferred,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    fn signed_by(algorithm: &'static SignatureAlgorithm) -> CertificateDer<'static> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    fn end_point(hash: &[u8]) -> Option<ChannelBinding> {
        ChannelBinding::tls_server_end_point(hash).ok()
    }

    #[test]
    fn the_certificate_is_hashed_by_the_hash_of_its_signature() {
        let p256 = signed_by(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(server_end_point(&p256), end_point(&Sha256::digest(&p256)));
        let p384 = signed_by(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(server_end_point(&p384), end_point(&Sha384::digest(&p384)));
        assert_eq!(server_end_point(&signed_by(&rcgen::PKCS_ED25519)), None);
        assert_eq!(server_end_point(&CertificateDer::from(&b"no certificate"[..])), None);
    }

    /// `AlgorithmIdentifier` (RFC 5280 §4.1.1.2) with these parameters.
    fn hash_of(oid: &[u8], parameters: &[u8]) -> Option<Hash> {
        let sequence = |tag: u8, parts: &[&[u8]]| {
            let content = parts.concat();
            [&[tag, content.len().try_into().unwrap()], &*content].concat()
        };
        let der = sequence(0x30, &[&sequence(0x06, &[oid]), parameters]);
        hash(&AlgorithmIdentifier::from_der(&der).unwrap().1)
    }

    #[test]
    fn every_signature_has_its_hash() {
        const NULL: &[u8] = b"\x05\x00";
        let pkcs1 = |last: u8| [b"\x2a\x86\x48\x86\xf7\x0d\x01\x01", &[last][..]].concat();
        for (last, expected) in [
            (4, Some(Hash::Sha256)),
            (5, Some(Hash::Sha256)),
            (11, Some(Hash::Sha256)),
            (12, Some(Hash::Sha384)),
            (13, Some(Hash::Sha512)),
            // md2WithRSAEncryption
            (2, None),
        ] {
            assert_eq!(hash_of(&pkcs1(last), NULL), expected, "PKCS #1, {last}");
        }
        // ecdsa-with-SHA1, ecdsa-with-SHA512
        assert_eq!(hash_of(b"\x2a\x86\x48\xce\x3d\x04\x01", b""), Some(Hash::Sha256));
        assert_eq!(hash_of(b"\x2a\x86\x48\xce\x3d\x04\x03\x04", b""), Some(Hash::Sha512));
    }

    #[test]
    fn rsassa_pss_has_the_hash_of_its_parameters() {
        let pss = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
        let with = |last: u8| {
            let hash = b"\x30\x0f\xa0\x0d\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02";
            hash_of(pss, &[&hash[..], &[last]].concat())
        };
        assert_eq!(with(1), Some(Hash::Sha256));
        assert_eq!(with(2), Some(Hash::Sha384));
        assert_eq!(with(3), Some(Hash::Sha512));
        // Another than SHA-2.
        assert_eq!(with(8), None);
        // SHA-1 where they name none.
        assert_eq!(hash_of(pss, b"\x30\x00"), Some(Hash::Sha256));
        assert_eq!(hash_of(pss, b""), None);
    }
}
