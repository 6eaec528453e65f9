//! Certificates that change, and those of clients.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use smtp_auth_tokio::{
    BoxStream, Handshake, TlsConnect, rustls,
    smtp_auth::{Channel, Credentials, Mechanism, sasl},
    tls::{self, ClientCertificates, Replaceable, provider, with_certificate},
};
use tokio::io::duplex;

use crate::{
    dialogue::{Client, collecting},
    support::{Certificate, Hand},
};

/// A client that remembers the TLS session that it had before has a new one, with the new certificate, and binds to that.
#[tokio::test]
async fn a_certificate_is_replaced_while_the_server_runs() {
    let both = [Certificate::new(), Certificate::new()];
    let mut roots = both[0].roots();
    roots.add(both[1].chain[0].clone()).unwrap();
    for versions in [rustls::ALL_VERSIONS, &[&rustls::version::TLS12]] {
        let tls = Replaceable::new(both[0].server());
        let (server, _arrived) = collecting();
        let server = server.tls(tls.clone());
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots.clone());
        let seen = Arc::default();
        let watched = Watched(Arc::new(config.with_no_client_auth()), Arc::clone(&seen));
        let client = Client { binding: Some("tls-server-end-point"), ..Client::new(watched) };
        let kept = server.clone();
        let (own, theirs) = duplex(1 << 14);
        tokio::spawn(async move { kept.serve_stream(theirs, None).await });
        let mut old = Hand::new(own);
        for own in &both {
            tls.replace(own.server());
            for _ in 0..2 {
                assert_eq!(client.send_to(&server).await, Ok(Mechanism::ScramSha256Plus));
                assert_eq!(seen.lock().unwrap().take(), Some(own.chain[0].to_vec()));
            }
        }
        old.expect("EHLO hand\r\n", &["220", "250"]).await;
    }
}

/// Notes which certificate the server had.
struct Watched(Arc<rustls::ClientConfig>, Arc<std::sync::Mutex<Option<Vec<u8>>>>);

impl TlsConnect for Watched {
    fn connect<'a>(&'a self, host: &'a str, stream: BoxStream) -> Handshake<'a> {
        Box::pin(async move {
            let name = rustls::pki_types::ServerName::try_from(host.to_owned()).unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.0));
            let stream = connector.connect(name, stream).await?;
            let der = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            let end_point = sasl::ChannelBinding::tls_server_end_point_of(&der).unwrap();
            *self.1.lock().unwrap() = Some(der);
            let channel = Channel::tls().with_binding(end_point).verified();
            Ok((Box::new(stream) as BoxStream, channel))
        })
    }
}

/// A CA for clients.
struct Ca(rustls::pki_types::CertificateDer<'static>, Issuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        Self(own.into(), Issuer::new(params, key))
    }

    /// The configuration of a client with a certificate for that name.
    fn client(&self, name: &str, server: &Certificate) -> Client {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.1).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(server.roots())
            .with_client_auth_cert(vec![own.into()], key.into());
        Client {
            credentials: Credentials::external(),
            mechanisms: vec![Mechanism::External],
            ..Client::new(Arc::new(config.unwrap()))
        }
    }
}

/// The name that stands in the certificate as a DNS name, which is how this CA does it.
fn dns_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    })
}

#[tokio::test]
async fn the_certificate_of_a_ca_names_the_account_by_the_applications_rule() {
    let (own, ca, other) = (Certificate::new(), Ca::new(), Ca::new());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.0.clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::new(provider()),
    );
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(own.chain.clone(), own.key.clone_key())
        .unwrap();
    let certificates = ClientCertificates::new(Arc::new(config), |chain| {
        dns_name(chain.first()?)?.strip_suffix(".example.org").map(str::to_owned)
    });
    // As a whole it can be replaced, too.
    let (server, mut arrived) = collecting();
    let server = server.tls(Replaceable::new(certificates));
    let tim = ca.client("tim.example.org", &own);
    for _ in 0..2 {
        assert_eq!(tim.send_to(&server).await, Ok(Mechanism::External));
        let message = arrived.recv().await.unwrap();
        assert_eq!(message.peer.identity().unwrap().acts_as(), "tim");
    }
    let tom = ca.client("tom.example.org", &own).send_to(&server).await.unwrap_err();
    assert!(tom.contains("535"), "{tom}");
    let elsewhere = ca.client("tim.example.net", &own).send_to(&server).await.unwrap_err();
    assert!(!elsewhere.contains("535"), "{elsewhere}");
    assert!(other.client("tim.example.org", &own).send_to(&server).await.is_err());
    assert!(arrived.try_recv().is_err());
}

/// An operator has to find the file that is wrong.
#[test]
fn an_error_names_the_file_that_is_wrong() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let write = |name: &str, text: &str| {
        let path = folder.join(format!("which-{name}.pem")).to_string_lossy().into_owned();
        std::fs::write(&path, text).unwrap();
        path
    };
    let own = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (own, other) = (own(), own());
    let (own_key, other_key) = (own.signing_key.serialize_pem(), other.signing_key.serialize_pem());
    let good = write("cert", &own.cert.pem());
    let key = write("key", &own_key);
    let other_key = write("other-key", &other_key);
    let unknown =
        write("unknown", "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n");
    let nowhere = folder.join("which-nowhere.pem").to_string_lossy().into_owned();
    assert!(tls::server(&good, &key).is_ok());
    let client = Certificate::new().client(rustls::ALL_VERSIONS);
    for (cert, private, expected) in [
        (&key, &key, format!("{key}: no certificate found")),
        (&good, &good, format!("{good}: no private key found")),
        (&nowhere, &key, format!("{nowhere}: ")),
        (&good, &nowhere, format!("{nowhere}: ")),
        (&good, &unknown, format!("{unknown}: ")),
        (
            &good,
            &other_key,
            format!("the private key in {other_key} does not belong to the certificate in {good}"),
        ),
    ] {
        let errors = [
            tls::server(cert, private).map(drop),
            with_certificate(&client, cert, private).map(drop),
        ];
        for error in errors.map(|done| done.unwrap_err().to_string()) {
            assert!(error.starts_with(&expected), "{error}, not {expected}");
        }
    }
}
