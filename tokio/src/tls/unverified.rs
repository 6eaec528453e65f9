//! TLS without verifying the server's certificate.

use std::sync::Arc;

use smtp_auth::Channel;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use crate::stream::{BoxStream, Handshake, TlsConnect};

/// TLS for a client that accepts **any certificate**. It is meant for
/// [`insecure_opportunistic`](crate::client::Connector::insecure_opportunistic). Mail servers connect to each other in
/// this way (opportunistic security, RFC 7435), because many of their certificates are not signed by a CA.
///
/// This type protects only against an eavesdropper. A man-in-the-middle can present any certificate, or remove STARTTLS
/// from the server's reply to EHLO. The channel is not [verified](Channel::verified), so a
/// [`Connector`](crate::client::Connector) with credentials refuses to continue.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it, and it has no settings")]
pub struct Unverified;

impl TlsConnect for Unverified {
    fn connect<'a>(&'a self, host: &'a str, stream: BoxStream) -> Handshake<'a> {
        Box::pin(async move {
            let provider = Arc::new(super::provider());
            let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(std::io::Error::other)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth();
            // The name is only sent to the server and is not verified, so it need not be valid in a certificate.
            let name = ServerName::try_from(host.to_owned())
                .or_else(|_| ServerName::try_from("invalid".to_owned()))
                .map_err(std::io::Error::other)?;
            let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            Ok((Box::new(stream) as BoxStream, Channel::tls()))
        })
    }
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
