//! Which servers are trusted, and what they are shown.

use std::{io, path::Path, sync::Arc};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error,
        RootCertStore, SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            verify_server_name,
        },
        crypto::ring,
        server::ParsedCertificate,
    },
};

/// What the client shows of itself: a certificate with those that lead to its CA, and its private
/// key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads it from files.
pub(crate) fn identity(cert: &Path, key: &Path) -> Result<Identity, String> {
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("--key {}: {error}", key.display()))?;
    Ok((certificates("--cert", cert)?, private))
}

/// Trusts the certificates of the file; without one the authorities that browsers trust.
pub(crate) fn connector(
    ca: Option<&Path>,
    identity: Option<Identity>,
) -> Result<TlsConnector, String> {
    let Some(path) = ca else {
        let browsers = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        return verifying(Vec::new(), browsers, identity);
    };
    let own = certificates("--ca", path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &own {
        roots
            .add(certificate.clone())
            .map_err(|error| format!("--ca {}: {error}", path.display()))?;
    }
    // These are trusted: what they signed, and each of them itself.
    verifying(own, roots, identity)
}

fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{option} {}: {error}", path.display()))?;
    if read.is_empty() {
        return Err(format!("{option} {}: there is no certificate in it", path.display()));
    }
    Ok(read)
}

fn verifying(
    own: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
    identity: Option<Identity>,
) -> Result<TlsConnector, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusted::new(own, roots)?));
    let config = match identity {
        Some((chain, key)) => config
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("the certificate to show and its key: {error}"))?,
        None => config.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The usual verification, and one thing more: a server may show a certificate out of `own` that
/// is marked as an authority's, as `openssl req -x509` makes them.
#[derive(Debug)]
struct Trusted {
    own: Vec<CertificateDer<'static>>,
    authorities: Arc<WebPkiServerVerifier>,
}

impl Trusted {
    fn new(own: Vec<CertificateDer<'static>>, roots: RootCertStore) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map(|authorities| Self { own, authorities })
            .map_err(|error| error.to_string())
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.authorities.verify_server_cert(end_entity, intermediates, server, ocsp, now) {
            // The mark is looked at behind the time of validity, and before the name.
            Err(error) if is_authority(&error) && self.own.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Whether what was wrong is that the server's certificate is marked as an authority's.
fn is_authority(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(why)) => {
            why.to_string() == "CaUsedAsEndEntity"
        }
        _ => false,
    }
}

/// Why a handshake failed, in words. In TLS 1.3 the server judges the client's certificate when the
/// client is through already, and reads of it later.
pub(crate) fn explain(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return io::Error::other("the server closed the connection");
    }
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return error;
    };
    let why = match tls {
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate has expired",
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the server's certificate is not valid yet",
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another name",
        // The signature is bad where the issuer's name is known and its key is another: so it looks
        // where a server has made itself a new certificate.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => UNTRUSTED,
        other if is_authority(other) => UNTRUSTED,
        Error::InvalidMessage(_) => "what the server sent is not TLS",
        Error::AlertReceived(
            AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate,
        ) => NOT_TAKEN,
        _ => return error,
    };
    io::Error::other(why)
}

/// What is not mended by trying again.
pub(crate) const NOT_TAKEN: &str =
    "the server does not take the certificate that this client shows, or wants one";

const UNTRUSTED: &str = "nobody whom this client trusts has signed the server's certificate";

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn self_signed(is_ca: IsCa, until: i32) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.is_ca = is_ca;
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(until, 1, 1);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn accepts(own: &CertificateDer<'static>, shown: &CertificateDer<'_>, name: &str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(own.clone()).unwrap();
        let trusted = Trusted::new(vec![own.clone()], roots).unwrap();
        let name = ServerName::try_from(name).unwrap();
        trusted.verify_server_cert(shown, &[], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn takes_the_servers_own_certificate_marked_as_an_authoritys_or_not() {
        let authority = IsCa::Ca(BasicConstraints::Unconstrained);
        for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa, authority] {
            let own = self_signed(is_ca, 4000);
            assert!(accepts(&own, &own, "localhost"), "{is_ca:?}");
            assert!(!accepts(&own, &own, "example.org"), "another name, {is_ca:?}");
            let another = self_signed(is_ca, 4000);
            assert!(!accepts(&own, &another, "localhost"), "another certificate, {is_ca:?}");
            let expired = self_signed(is_ca, 2021);
            assert!(!accepts(&expired, &expired, "localhost"), "expired, {is_ca:?}");
        }
    }
}
