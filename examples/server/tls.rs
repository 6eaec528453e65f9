//! The server's certificate, the clients' certificates, and rustls.

use core::{error::Error, fmt::Write, time::Duration};
use std::{io, path::Path, sync::Arc, time::SystemTime};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use smtp_auth::sasl::Channel;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, ServerConnection,
        crypto::{CryptoProvider, ring},
        server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    },
    server::TlsStream,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::binding;

/// A certificate with those that lead to its CA, and its private key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// How the server begins TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    /// The server's own.
    certificate: CertificateDer<'static>,
}

impl Tls {
    /// With a CA, clients are asked for a certificate that it has signed, and may come without.
    pub(crate) fn new(
        (chain, key): Identity,
        client_ca: Option<&Path>,
    ) -> Result<Self, Box<dyn Error>> {
        // The provider is named: rustls's own choice panics where another crate brings in a second one.
        let provider = Arc::new(ring::default_provider());
        let clients = match client_ca {
            Some(ca) => clients_of(ca, Arc::clone(&provider))?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let certificate = chain.first().cloned().ok_or("there is no certificate")?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate })
    }

    /// Begins TLS, and says what is known of the connection then.
    pub(crate) async fn accept(
        &self,
        socket: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Channel)> {
        let stream = self.acceptor.accept(socket).await?;
        let channel = self.channel(stream.get_ref().1);
        Ok((stream, channel))
    }

    fn channel(&self, tls: &ServerConnection) -> Channel {
        let channel = binding::channel(tls, Some(&self.certificate));
        match tls.peer_certificates().and_then(<[_]>::first).and_then(named) {
            // A name that is none leaves the client without an identity.
            Some(name) => channel.clone().with_identity(&name).unwrap_or(channel),
            None => channel,
        }
    }
}

fn clients_of(
    ca: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", ca.display()))?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    Ok(clients.allow_unauthenticated().build()?)
}

/// Whom a client's certificate names: the first mail address of its alternative names, or else the
/// common name of its subject.
fn named(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()?;
    let names = alternatives.map_or(&[][..], |names| &names.value.general_names);
    let mail = names.iter().find_map(|name| match name {
        GeneralName::RFC822Name(address) => Some(*address),
        _ => None,
    });
    let common = || certificate.subject().iter_common_name().next()?.as_str().ok();
    mail.or_else(common).map(str::to_owned)
}

/// Reads certificate and key from files.
pub(crate) fn from_pem(cert: &Path, key: &Path) -> Result<Identity, Box<dyn Error>> {
    let chain = certificates(cert)?;
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
    Ok((chain, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if read.is_empty() {
        return Err(format!("{}: there is no certificate in it", path.display()));
    }
    Ok(read)
}

/// Makes a key, and a certificate for `hostname` and the local machine that it signs itself: also
/// as PEM, for clients that are to trust it. It is not a CA: nothing else can be signed with it.
pub(crate) fn self_signed(hostname: &str) -> Result<(Identity, String), Box<dyn Error>> {
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
    Ok(((vec![cert.der().clone()], key.into()), cert.pem()))
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
