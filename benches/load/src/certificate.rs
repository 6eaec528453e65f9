//! One certificate for all servers, and a client that takes it alone.

use std::{fs, path::PathBuf, sync::Arc};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use crate::{Result, home::Home};

/// Where it lies, and who connects to its owner.
pub(crate) struct Certificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) connector: TlsConnector,
}

impl Certificate {
    pub(crate) fn new(home: &Home) -> Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let made = rcgen::CertificateParams::new(vec!["localhost".into()])?.self_signed(&key)?;
        let (cert_file, key_file) = (home.path("cert.pem"), home.path("key.pem"));
        fs::write(&cert_file, made.pem())?;
        fs::write(&key_file, key.serialize_pem())?;
        let provider = Arc::new(ring::default_provider());
        let only = Only { certificate: made.der().clone(), provider: Arc::clone(&provider) };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(only))
            .with_no_client_auth();
        // Each login is to cost a whole handshake, with every server.
        config.resumption = Resumption::disabled();
        Ok(Self { cert: cert_file, key: key_file, connector: Arc::new(config).into() })
    }
}

/// Trusts that certificate, and no other.
#[derive(Debug)]
struct Only {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> core::result::Result<ServerCertVerified, Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> core::result::Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    // The servers are the tool's own, on the loopback interface: the signature is not checked, which
    // costs more than the server's making it, and both share the processors.
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> core::result::Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
