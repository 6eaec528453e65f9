//! TLS with rustls, for servers and clients.
//!
//! | for | use |
//! | --- | --- |
//! | a server with a certificate in PEM files | [`server`] |
//! | a server whose certificate is renewed while it runs | [`Replaceable`] |
//! | a server that asks for client certificates | [`ClientCertificates`] |
//! | a client that trusts the CAs of the operating system | the default configuration (also returned by [`platform`]) |
//! | a client that trusts only the CA or server certificates that you supply | [`client`], [`trusting`] |
//! | a client that presents a certificate | [`with_certificate`] |
//! | any other settings | an [`Arc`] of rustls's [`ServerConfig`] or [`ClientConfig`] |
//!
//! All of these configurations support both types of channel binding: `tls-exporter` (TLS 1.3 only) and
//! `tls-server-end-point`. No function in this module uses rustls's process-wide default cryptography provider. With
//! the default provider, rustls would panic in a program that is compiled with two providers and has not chosen one of
//! them.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError, RwLock},
};
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
use std::{fmt::Display, path::Path};

use smtp_auth::{Channel, sasl::ChannelBinding};
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
use tokio::{sync::OnceCell, task::spawn_blocking};
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
use tokio_rustls::rustls::{
    self, InconsistentKeys, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::SingleCertAndKey,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, ConnectionCommon, ProtocolVersion, ServerConfig,
        pki_types::{CertificateDer, ServerName},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

use crate::stream::{BoxStream, Handshake, TlsAccept, TlsConnect};

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod unverified;
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod verifier;

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub use unverified::Unverified;
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
use verifier::Verifier;

/// Returns this module's cryptography provider, which is ring, or AWS-LC if the `ring` feature is disabled.
///
/// The functions in this module use this provider, and so does [`Unverified`].
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub fn provider() -> CryptoProvider {
    #[cfg(not(feature = "ring"))]
    use tokio_rustls::rustls::crypto::aws_lc_rs as own;
    #[cfg(feature = "ring")]
    use tokio_rustls::rustls::crypto::ring as own;
    own::default_provider()
}

/// Creates a server configuration from two PEM files: one with the certificate followed by its intermediate
/// certificates, and one with the private key. The configuration supports TLS 1.2 and 1.3, and does not ask for client
/// certificates. For other settings, build a [`ServerConfig`] with rustls itself, as [`ClientCertificates::new`] shows.
///
/// # Errors
/// Fails if a file cannot be read, if `cert` contains no usable certificate, if `key` contains no usable private key,
/// or if the key does not belong to the certificate. The error text names the files concerned.
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub fn server(cert: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<Arc<ServerConfig>> {
    let provider = provider();
    let own = pair(cert.as_ref(), key.as_ref(), &provider)?;
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    Ok(Arc::new(config))
}

/// Creates a client configuration that trusts only the certificates in a PEM file. These can be CA certificates or
/// servers' own certificates. A server's own certificate is accepted even if it is marked as a CA certificate. By
/// default, `openssl req -x509` marks certificates in this way.
///
/// The configuration supports TLS 1.2 and 1.3, and does not contain a client certificate. To add a client certificate,
/// use [`with_certificate`]. For other settings, build a [`ClientConfig`] with rustls itself.
///
/// # Errors
/// Fails if the file cannot be read, contains no certificates, or contains a certificate that cannot be used. The error
/// text names the file.
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub fn client(trusted: impl AsRef<Path>) -> io::Result<Arc<ClientConfig>> {
    let path = trusted.as_ref();
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    trusting(read.map_err(|why| in_file(path, &why))?).map_err(|why| in_file(path, &why))
}

/// Creates a client configuration in the same way as [`client`], but from certificates in DER form instead of a PEM
/// file.
///
/// # Errors
/// Fails if there are no certificates, or if a certificate cannot be used.
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub fn trusting(
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
) -> io::Result<Arc<ClientConfig>> {
    let own: Vec<_> = certificates.into_iter().collect();
    let mut roots = RootCertStore::empty();
    for certificate in own.iter().cloned() {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    if roots.is_empty() {
        return Err(io::Error::other(NO_CERTIFICATE));
    }
    verifying(own, roots)
}

/// Creates a client configuration that trusts the CAs of the operating system. If the
/// `SSL_CERT_FILE` or `SSL_CERT_DIR` environment variable is set, the configuration trusts the CAs in that file or
/// directory instead.
///
/// By default, every [`Connector`](crate::client::Connector) uses this configuration, which is created once and shared
/// by the whole process. This function may read several hundred files, and blocks the current thread while it reads
/// them.
///
/// # Errors
/// Fails if no CAs are found. The error text explains what to do.
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub fn platform() -> io::Result<Arc<ClientConfig>> {
    let read = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system has some hundred certificates, a few of which may be malformed. Those are skipped.
    roots.add_parsable_certificates(read.certs);
    if !roots.is_empty() {
        return verifying(Vec::new(), roots);
    }
    let why = read.errors.first().map(|why| format!(" ({why})")).unwrap_or_default();
    Err(io::Error::other(format!(
        "no CA certificates were found on this system{why}: install them (the package is usually called ca-certificates), or set SSL_CERT_FILE to a file that contains them"
    )))
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
fn verifying(
    own: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(provider());
    let verifier = Verifier::new(own, roots, &provider).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Returns a copy of `config` with a client certificate, which the client presents to servers that ask for a
/// certificate. To authenticate with this certificate, the client uses the EXTERNAL mechanism
/// ([`Credentials::external`](crate::client::Credentials::external)). The PEM file `cert` contains the certificate
/// followed by its intermediate certificates, and the PEM file `key` contains the private key.
///
/// ```no_run
/// use smtp_auth_tokio::{client::{Connector, Credentials}, tls};
///
/// # fn example() -> std::io::Result<()> {
/// let tls = tls::with_certificate(&*tls::client("our-ca.pem")?, "tim.pem", "tim-key.pem")?;
/// let connector = Connector::starttls("mail.example.org").trust(tls).credentials(Credentials::external());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Fails if a file cannot be read, if `cert` contains no usable certificate, if `key` contains no usable private key,
/// or if the key does not belong to the certificate. The error text names the files concerned.
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub fn with_certificate(
    config: &ClientConfig,
    cert: impl AsRef<Path>,
    key: impl AsRef<Path>,
) -> io::Result<Arc<ClientConfig>> {
    let shown = pair(cert.as_ref(), key.as_ref(), config.crypto_provider())?;
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(shown));
    Ok(Arc::new(config))
}

/// Reads a certificate with its intermediate certificates and its private key.
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
fn pair(cert: &Path, key: &Path, provider: &CryptoProvider) -> io::Result<CertifiedKey> {
    let chain =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|why| in_file(cert, &why))?;
    if chain.is_empty() {
        return Err(in_file(cert, &NO_CERTIFICATE));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|why| match why {
        pem::Error::NoItemsFound => in_file(key, &"no private key found"),
        why => in_file(key, &why),
    })?;
    let private = provider.key_provider.load_private_key(private);
    let own = CertifiedKey::new(chain, private.map_err(|why| in_file(key, &why))?);
    match own.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(own),
        Err(rustls::Error::InconsistentKeys(_)) => Err(io::Error::other(format!(
            "the private key in {} does not belong to the certificate in {}",
            key.display(),
            cert.display()
        ))),
        Err(why) => Err(in_file(cert, &why)),
    }
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
const NO_CERTIFICATE: &str = "no certificate found";

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
fn in_file(path: &Path, why: &dyn Display) -> io::Error {
    io::Error::other(format!("{}: {why}", path.display()))
}

/// The configuration of [`platform`], created once for the whole process before its first handshake.
pub(crate) struct Platform;

impl TlsConnect for Platform {
    fn connect<'a>(&'a self, host: &'a str, stream: BoxStream) -> Handshake<'a> {
        Box::pin(async move { for_the_process().await?.connect(host, stream).await })
    }
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
async fn for_the_process() -> io::Result<&'static Arc<ClientConfig>> {
    static CONFIG: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    // Reading files would block the runtime.
    CONFIG.get_or_try_init(async || spawn_blocking(platform).await?).await
}

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
async fn for_the_process() -> io::Result<&'static Arc<ClientConfig>> {
    Err(io::Error::other(
        "this program was built without cryptography for TLS: enable the `ring` or `aws-lc-rs` feature of smtp-auth-tokio",
    ))
}

/// A server configuration that asks for client certificates, so that clients can authenticate with EXTERNAL. The
/// application supplies a function that maps a certificate to the name that the client may authenticate as.
///
/// The function receives the certificate chain that rustls's verifier has verified. The certificates are in DER form,
/// and the client's own certificate comes first.
///
/// | case | effect |
/// | --- | --- |
/// | The function returns `Some(name)`. | The server offers EXTERNAL if its SMTP configuration lists this mechanism. When the client uses EXTERNAL, the store is asked which account this name belongs to ([`CheckExternal`](smtp_auth::sasl::CheckExternal)). |
/// | The function returns `None`. | The connection continues without EXTERNAL. |
/// | The name that the function returns is empty, or contains control characters. | The handshake fails. |
/// | The function is not called, because the client has no certificate. | The connection continues without EXTERNAL if the verifier allows clients without a certificate. Otherwise, the handshake fails. |
///
/// There is no default function, because each CA defines which field of its certificates contains a name, and what that
/// name identifies.
///
/// ```
/// use std::sync::Arc;
/// use smtp_auth_tokio::{rustls::ServerConfig, tls::ClientCertificates};
///
/// fn with_external(config: Arc<ServerConfig>) -> ClientCertificates {
///     ClientCertificates::new(config, |chain| {
///         let own = chain.first()?;
///         known_fingerprint(own).map(str::to_owned)
///     })
/// }
/// # fn known_fingerprint(_: &[u8]) -> Option<&'static str> { None }
/// ```
#[derive(Clone)]
pub struct ClientCertificates {
    config: Arc<ServerConfig>,
    name: Arc<NameOf>,
}

type NameOf = dyn Fn(&[CertificateDer<'_>]) -> Option<String> + Send + Sync;

impl ClientCertificates {
    /// Creates the configuration from a rustls configuration that verifies client certificates, and a function that
    /// maps a client's certificate to a name:
    ///
    /// ```no_run
    /// # #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    /// # mod with_cryptography {
    /// use std::{error::Error, sync::Arc};
    /// use smtp_auth_tokio::{
    ///     rustls::{
    ///         RootCertStore, ServerConfig,
    ///         pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    ///         server::WebPkiClientVerifier,
    ///     },
    ///     tls::{self, ClientCertificates},
    /// };
    ///
    /// fn with_client_certificates() -> Result<ClientCertificates, Box<dyn Error>> {
    ///     let mut roots = RootCertStore::empty();
    ///     for ca in CertificateDer::pem_file_iter("clients-ca.pem")? {
    ///         roots.add(ca?)?;
    ///     }
    ///     let provider = Arc::new(tls::provider());
    ///     let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
    ///         .allow_unauthenticated() // clients without a certificate may use a password
    ///         .build()?;
    ///     let chain = CertificateDer::pem_file_iter("cert.pem")?.collect::<Result<_, _>>()?;
    ///     let config = ServerConfig::builder_with_provider(provider)
    ///         .with_safe_default_protocol_versions()?
    ///         .with_client_cert_verifier(verifier)
    ///         .with_single_cert(chain, PrivateKeyDer::from_pem_file("key.pem")?)?;
    ///     Ok(ClientCertificates::new(Arc::new(config), |chain| name_in(chain.first()?)))
    /// }
    /// # fn name_in(_: &[u8]) -> Option<String> { None }
    /// # }
    /// ```
    pub fn new(
        config: Arc<ServerConfig>,
        name: impl Fn(&[CertificateDer<'_>]) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { config, name: Arc::new(name) }
    }
}

impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificates")
    }
}

impl TlsAccept for ClientCertificates {
    fn accept(&self, stream: BoxStream) -> Handshake<'_> {
        Box::pin(accept(&self.config, stream, &*self.name))
    }
}

/// Supports both types of channel binding, but does not map client certificates to names. To map them, use
/// [`ClientCertificates`].
impl TlsAccept for Arc<ServerConfig> {
    fn accept(&self, stream: BoxStream) -> Handshake<'_> {
        Box::pin(accept(self, stream, &|_| None))
    }
}

/// A TLS configuration that can be replaced while the server runs, for example when its certificate is renewed.
///
/// **Create each configuration with [`server`], and do not let two configurations share a ticketer or session storage.
/// Otherwise, SCRAM-PLUS fails on resumed sessions.** In a resumed session with `tls-server-end-point`, the client uses
/// the old certificate for channel binding, but the server uses the new one.
///
/// All clones share one configuration, so pass one clone to [`Server::tls`](crate::server::Server::tls) and keep
/// another clone to replace the configuration later. A replacement does not affect existing connections or handshakes
/// that have already begun.
///
/// ```
/// use std::{io, sync::Arc};
/// use smtp_auth_tokio::{rustls::ServerConfig, tls::Replaceable};
///
/// # #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
/// fn renewed(tls: &Replaceable) -> io::Result<()> {
///     // If this fails, the old configuration remains in use.
///     tls.replace(smtp_auth_tokio::tls::server("cert.pem", "key.pem")?);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Replaceable(Arc<RwLock<Arc<dyn TlsAccept>>>);

impl Replaceable {
    /// Creates a `Replaceable` with its first configuration. This can be an `Arc<ServerConfig>` from rustls, a
    /// [`ClientCertificates`], or your own type for another TLS library.
    pub fn new(tls: impl TlsAccept) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(tls))))
    }

    /// Replaces the configuration for all later handshakes.
    pub fn replace(&self, tls: impl TlsAccept) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
    }
}

impl fmt::Debug for Replaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replaceable")
    }
}

impl TlsAccept for Replaceable {
    fn accept(&self, stream: BoxStream) -> Handshake<'_> {
        let current = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        Box::pin(async move { current.accept(stream).await })
    }
}

async fn accept(
    config: &ServerConfig,
    stream: BoxStream,
    name: &NameOf,
) -> io::Result<(BoxStream, Channel)> {
    let mut config = config.clone();
    let presented =
        Arc::new(Presented { resolver: Arc::clone(&config.cert_resolver), last: Mutex::default() });
    config.cert_resolver = Arc::clone(&presented) as Arc<dyn ResolvesServerCert>;
    let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
    let tls = stream.get_ref().1;
    let presented = presented.last.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut channel = channel(tls, presented.as_ref().and_then(|own| own.cert.first()));
    if let Some(name) = tls.peer_certificates().and_then(name) {
        channel = channel.with_identity(&name).map_err(io::Error::other)?;
    }
    Ok((Box::new(stream), channel))
}

/// Records which certificate a connection was given, because rustls does not report that to a server. Asking the
/// resolver again would not be correct, because it might return a new certificate by then.
#[derive(Debug)]
struct Presented {
    resolver: Arc<dyn ResolvesServerCert>,
    last: Mutex<Option<Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.resolver.resolve(hello);
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&chosen);
        chosen
    }

    fn only_raw_public_keys(&self) -> bool {
        self.resolver.only_raw_public_keys()
    }
}

/// Supports both types of channel binding. The returned channel is always marked as [verified](Channel::verified), so
/// do not use a custom verifier that accepts any certificate.
impl TlsConnect for Arc<ClientConfig> {
    fn connect<'a>(&'a self, host: &'a str, stream: BoxStream) -> Handshake<'a> {
        Box::pin(async move {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(Self::clone(self)).connect(name, stream).await?;
            let tls = stream.get_ref().1;
            let channel = channel(tls, tls.peer_certificates().and_then(<[_]>::first));
            Ok((Box::new(stream) as BoxStream, channel.verified()))
        })
    }
}

/// Returns the channel with its channel bindings (RFC 5802 §6). The certificate is the server's, on both sides.
fn channel<Side>(
    tls: &ConnectionCommon<Side>,
    certificate: Option<&CertificateDer<'_>>,
) -> Channel {
    let mut channel = Channel::tls();
    // Up to TLS 1.2, `tls-exporter` is secure only with the extended master secret (RFC 9266 §4.2), and rustls does not
    // report whether that was negotiated.
    if tls.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
        let exported = tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[]));
        if let Ok(exported) = exported {
            channel = channel.with_binding(ChannelBinding::tls_exporter(exported));
        }
    }
    match certificate.and_then(|der| ChannelBinding::tls_server_end_point_of(der)) {
        Some(end_point) => channel.with_binding(end_point),
        None => channel,
    }
}
