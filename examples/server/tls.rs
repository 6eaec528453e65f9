//! The server's certificate, and rustls.

use core::{error::Error, fmt::Write, time::Duration};
use std::{path::Path, sync::Arc, time::SystemTime};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring},
};

/// Reads certificate and key from files.
pub(crate) fn from_pem(cert: &Path, key: &Path) -> Result<TlsAcceptor, Box<dyn Error>> {
    let name = |path: &Path, error| format!("{}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| name(cert, error))?;
    if chain.is_empty() {
        return Err(format!("{}: there is no certificate in it", cert.display()).into());
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| name(key, error))?;
    acceptor(chain, key)
}

/// Makes a key, and a certificate for `hostname` and the local machine that it signs itself: also
/// as PEM, for clients that are to trust it. It is not a CA: nothing else can be signed with it.
pub(crate) fn self_signed(hostname: &str) -> Result<(TlsAcceptor, String), Box<dyn Error>> {
    let mut names = vec![hostname.to_owned()];
    for local in ["localhost", "127.0.0.1", "::1"] {
        if hostname != local {
            names.push(local.into());
        }
    }
    let mut parameters = rcgen::CertificateParams::new(names)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, hostname);
    parameters.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    parameters.is_ca = rcgen::IsCa::ExplicitNoCa;
    // Some clients refuse a certificate of decades.
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    parameters.not_before = (SystemTime::now() - DAY).into();
    parameters.not_after = (SystemTime::now() + 365 * DAY).into();
    let key = rcgen::KeyPair::generate()?;
    let cert = parameters.self_signed(&key)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((acceptor(vec![cert.der().clone()], key.into())?, cert.pem()))
}

fn acceptor(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, Box<dyn Error>> {
    // The provider is named: rustls's own choice panics where another crate brings in a second one.
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Sixteen hexadecimal digits that nobody can guess.
pub(crate) fn random_password() -> Result<String, Box<dyn Error>> {
    let octets: [u8; 8] = random()?;
    let mut password = String::new();
    for octet in octets {
        write!(password, "{octet:02x}")?;
    }
    Ok(password)
}

/// Octets that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Box<dyn Error>> {
    let mut octets = [0; N];
    let random = ring::default_provider().secure_random.fill(&mut octets);
    random.map_err(|_| "the operating system has no random numbers")?;
    Ok(octets)
}
