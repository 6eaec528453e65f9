//! Which servers are trusted, and what they are shown.

use std::{error::Error, path::Path, sync::Arc};

use smtp_auth_tokio::{
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
        SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            verify_server_name,
        },
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
        server::ParsedCertificate,
    },
    tls,
};

/// Trusts the certificates of the file, without one the authorities that browsers trust. The identity that is shown is a
/// certificate with those that lead to its CA, and its private key.
pub(crate) fn config(
    ca: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
    let (mut own, mut roots) = (Vec::new(), RootCertStore::empty());
    if let Some(path) = ca {
        // These are trusted: what they signed, and each of them itself.
        own = certificates("--ca", path)?;
        for certificate in own.iter().cloned() {
            roots.add(certificate).map_err(|error| format!("--ca {}: {error}", path.display()))?;
        }
    } else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(tls::provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusted::new(own, roots)?));
    let Some((cert, key)) = identity else { return Ok(Arc::new(config.with_no_client_auth())) };
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("--key {}: {error}", key.display()))?;
    let config = config
        .with_client_auth_cert(certificates("--cert", cert)?, private)
        .map_err(|error| format!("the certificate to show and its key: {error}"))?;
    Ok(Arc::new(config))
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

/// The usual verification, and one thing more: a server may show a certificate out of `own` that
/// is marked as an authority's, as `openssl req -x509` makes them.
#[derive(Debug)]
struct Trusted {
    own: Vec<CertificateDer<'static>>,
    authorities: Arc<WebPkiServerVerifier>,
}

impl Trusted {
    fn new(
        own: Vec<CertificateDer<'static>>,
        roots: RootCertStore,
    ) -> Result<Self, Box<dyn Error>> {
        let (roots, provider) = (Arc::new(roots), Arc::new(tls::provider()));
        let authorities = WebPkiServerVerifier::builder_with_provider(roots, provider).build()?;
        Ok(Self { own, authorities })
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.authorities.verify_server_cert(end_entity, intermediates, server, ocsp, now) {
            // The mark is looked at after the time of validity, and before the name.
            Err(error) if is_authority(&error) => {
                if !self.own.contains(end_entity) {
                    return Err(CertificateError::UnknownIssuer.into());
                }
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
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Whether what was wrong is that the server's certificate is marked as an authority's.
fn is_authority(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(why))
        if why.to_string() == "CaUsedAsEndEntity")
}

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
            let [own, another] = [0; 2].map(|_| self_signed(is_ca, 4000));
            assert!(accepts(&own, &own, "localhost"), "{is_ca:?}");
            assert!(!accepts(&own, &own, "example.org"), "another name, {is_ca:?}");
            assert!(!accepts(&own, &another, "localhost"), "another certificate, {is_ca:?}");
            let expired = self_signed(is_ca, 2021);
            assert!(!accepts(&expired, &expired, "localhost"), "expired, {is_ca:?}");
        }
    }
}
