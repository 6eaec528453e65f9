//! Streams of any kind, and how TLS begins on them.

use std::{fmt, future::Future, io, pin::Pin};

use smtp_auth::Channel;
use tokio::io::{AsyncRead, AsyncWrite};

/// Anything that octets go over: a TCP socket, TLS on it, a Unix socket, [`tokio::io::duplex`]. It is implemented for
/// all such types.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// A stream of any type. It is boxed because STARTTLS changes the type in the middle of a connection.
pub type BoxStream = Box<dyn Stream>;

/// A TLS handshake: the stream inside TLS, and what is known of the connection then. It is boxed, as it is large and
/// happens once in a connection.
pub type Handshake<'a> =
    Pin<Box<dyn Future<Output = io::Result<(BoxStream, Channel)>> + Send + 'a>>;

/// How a server begins TLS. The configuration of rustls [implements it](crate::tls); for another library it takes a few
/// lines. For a stream that is already safe (Unix socket, TLS-terminating proxy):
///
/// ```
/// use smtp_auth_tokio::{BoxStream, Handshake, TlsAccept, smtp_auth::Channel};
///
/// struct AlreadySafe;
///
/// impl TlsAccept for AlreadySafe {
///     fn accept(&self, stream: BoxStream) -> Handshake<'_> {
///         Box::pin(async { Ok((stream, Channel::tls())) })
///     }
/// }
/// ```
pub trait TlsAccept: Send + Sync + 'static {
    /// Does the handshake. The [`Channel`] is at least [`Channel::tls`]; it may have channel bindings, and the name in the
    /// client's verified certificate. The server limits the time.
    fn accept(&self, stream: BoxStream) -> Handshake<'_>;
}

/// How a client begins TLS, and which servers it trusts.
pub trait TlsConnect: Send + Sync + 'static {
    /// Does the handshake with the server of that name, and fails where its certificate does not prove the name. The
    /// [`Channel`] says that this was checked ([`Channel::verified`]); otherwise a
    /// [`Connector`](crate::client::Connector) sends no credentials over it. The connector limits the time.
    fn connect<'a>(&'a self, host: &'a str, stream: BoxStream) -> Handshake<'a>;
}
