//! Streams of any type, and starting TLS on them.

use std::{fmt, future::Future, io, pin::Pin};

use smtp_auth::Channel;
use tokio::io::{AsyncRead, AsyncWrite};

/// A bidirectional byte stream, such as a TCP socket, TLS over a socket, a Unix socket, or [`tokio::io::duplex`]. The
/// trait is implemented for all types that implement its supertraits.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// A stream of any type. It is boxed because STARTTLS changes the type of the stream in the middle of a connection.
pub type BoxStream = Box<dyn Stream>;

/// A future that performs a TLS handshake, and returns the encrypted stream and the properties of the TLS connection.
/// The future is boxed because it is large. The allocation costs little, because it happens only once per connection.
pub type Handshake<'a> =
    Pin<Box<dyn Future<Output = io::Result<(BoxStream, Channel)>> + Send + 'a>>;

/// Starts TLS on the server side.
///
/// This trait is implemented for `Arc<rustls::ServerConfig>`, [`ClientCertificates`](crate::tls::ClientCertificates)
/// and [`Replaceable`](crate::tls::Replaceable). To use another TLS library, implement the trait, which takes only a
/// few lines. For example, the following type accepts a stream that is already protected, such as a Unix socket or a
/// connection from a TLS-terminating proxy:
///
/// ```
/// use smtp_auth_tokio::{BoxStream, Handshake, TlsAccept, smtp_auth::Channel};
///
/// struct AlreadyProtected;
///
/// impl TlsAccept for AlreadyProtected {
///     fn accept(&self, stream: BoxStream) -> Handshake<'_> {
///         Box::pin(async { Ok((stream, Channel::tls())) })
///     }
/// }
/// ```
pub trait TlsAccept: Send + Sync + 'static {
    /// Performs the TLS handshake. Create the returned [`Channel`] with [`Channel::tls`]. To support channel binding,
    /// add the binding data with [`Channel::with_binding`]. To support EXTERNAL, add the name from the client's
    /// verified certificate with [`Channel::with_identity`]. The server limits the time for the handshake.
    fn accept(&self, stream: BoxStream) -> Handshake<'_>;
}

/// Starts TLS on the client side, and decides which servers to trust.
///
/// This trait is implemented for `Arc<rustls::ClientConfig>` and for [`tls::Unverified`](crate::tls::Unverified). To
/// use another TLS library, implement the trait. The example in [`TlsAccept`] shows how.
pub trait TlsConnect: Send + Sync + 'static {
    /// Performs the TLS handshake with the server whose name is `host`. The handshake should fail if the server's
    /// certificate is not valid for that name. If the certificate was verified, mark the returned [`Channel`] with
    /// [`Channel::verified`]. A [`Connector`](crate::client::Connector) does not send credentials over a channel
    /// without this mark. The connector limits the time for the handshake.
    fn connect<'a>(&'a self, host: &'a str, stream: BoxStream) -> Handshake<'a>;
}
