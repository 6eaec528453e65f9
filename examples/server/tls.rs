//! The server's certificate, and the clients' certificates.

use std::{
    collections::BTreeSet,
    error::Error,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use smtp_auth_tokio::{
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
    smtp_auth::Channel,
    tls::{self, ClientCertificates},
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// A certificate with its intermediate certificates, and its private key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Creates the TLS configuration. If a CA is given, the server asks clients for a certificate signed by it, and also
/// accepts clients without one.
pub(crate) fn config(
    (chain, key): Identity,
    client_ca: Option<&Path>,
) -> Result<ClientCertificates, Box<dyn Error>> {
    let provider = Arc::new(tls::provider());
    let clients = match client_ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", ca.display()))?;
            }
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()?
        }
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    Ok(ClientCertificates::new(Arc::new(config), |chain| chain.first().and_then(named)))
}

/// Returns the name in a client's certificate: the first mail address in its alternative names, or else the common name
/// of its subject.
fn named(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()?;
    let names = alternatives.map_or(&[][..], |names| &names.value.general_names);
    let mail = names.iter().find_map(|name| match name {
        GeneralName::RFC822Name(address) => Some(*address),
        _ => None,
    });
    let common = || certificate.subject().iter_common_name().next()?.as_str().ok();
    // If the name is not valid, the client has no identity.
    let is_name = |name: &&str| Channel::tls().with_identity(name).is_ok();
    mail.or_else(common).filter(is_name).map(str::to_owned)
}

/// Reads the certificate and the key from files.
pub(crate) fn from_pem(cert: &Path, key: &Path) -> Result<Identity, Box<dyn Error>> {
    let chain = certificates(cert)?;
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
    Ok((chain, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|error| format!("{}: {error}", path.display()))
}

/// Creates a key and a self-signed certificate for `hostname` and the local machine. Also returns the certificate as
/// PEM, for clients that should trust it. It is not a CA certificate, so nothing else can be signed with it.
pub(crate) fn self_signed(hostname: &str) -> Result<(Identity, String), Box<dyn Error>> {
    let names = BTreeSet::from([hostname, "localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let mut parameters = rcgen::CertificateParams::new(Vec::from_iter(names))?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, hostname);
    parameters.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    parameters.is_ca = rcgen::IsCa::ExplicitNoCa;
    // Some clients refuse a certificate that is valid for decades.
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    parameters.not_before = (SystemTime::now() - DAY).into();
    parameters.not_after = (SystemTime::now() + 365 * DAY).into();
    let key = rcgen::KeyPair::generate()?;
    let cert = parameters.self_signed(&key)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok(((vec![cert.der().clone()], key.into()), cert.pem()))
}
