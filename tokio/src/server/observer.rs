//! Notifications for metrics and logs.

use std::{io, net::SocketAddr, sync::Arc};

use smtp_auth::{Identity, Reply, server::AuthFailed};

use super::Peer;

/// An observer of a server's events, for metrics and logs.
///
/// By default, all methods do nothing, so implement only those that you need. The server calls the methods on the
/// runtime's threads, so they must not block.
///
/// ```
/// use std::{io, net::SocketAddr, sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed}};
/// use smtp_auth_tokio::server::{AuthFailed, Observer, Peer, Reply};
///
/// #[derive(Default)]
/// struct Metrics {
///     active: AtomicI64,
///     turned_away: AtomicU64,
///     failed: AtomicU64,
///     limited: AtomicU64,
///     accepted: AtomicU64,
///     refused: AtomicU64,
///     octets: AtomicU64,
/// }
///
/// impl Observer for Metrics {
///     fn connected(&self, _: &Peer) {
///         self.active.fetch_add(1, Relaxed);
///     }
///     fn closed(&self, _: &Peer, _: Result<(), &io::Error>) {
///         self.active.fetch_sub(1, Relaxed);
///     }
///     fn turned_away(&self, _: Option<SocketAddr>, _: &Reply) {
///         self.turned_away.fetch_add(1, Relaxed);
///     }
///     fn auth_failed(&self, _: &Peer, _: &AuthFailed<'_>, is_limited: bool) {
///         self.failed.fetch_add(1, Relaxed);
///         self.limited.fetch_add(is_limited.into(), Relaxed);
///     }
///     fn message(&self, _: &Peer, octets: u64, reply: Option<&Reply>) {
///         if reply.is_some_and(Reply::is_positive) {
///             self.accepted.fetch_add(1, Relaxed);
///             self.octets.fetch_add(octets, Relaxed);
///         } else {
///             self.refused.fetch_add(1, Relaxed);
///         }
///     }
/// }
/// ```
///
/// Pass an [`Arc`] of the observer to [`Server::observer`](super::Server::observer), and keep a clone of the `Arc` to
/// read the counters. With the `tracing` feature, the server emits an [event](crate#tracing) for each of these
/// notifications.
pub trait Observer: Send + Sync + 'static {
    /// Called when a connection begins. When the connection ends, [`closed`](Self::closed) is called exactly once.
    fn connected(&self, peer: &Peer) {
        let _ = peer;
    }

    /// Called when a connection exceeds [`Limits::connections`](super::Limits::connections) or
    /// [`Limits::connections_each`](super::Limits::connections_each). The server sends `reply` and closes the
    /// connection. On a port with implicit TLS, it closes the connection without a reply. The server does not call
    /// [`connected`](Self::connected) or [`closed`](Self::closed) for this connection.
    fn turned_away(&self, address: Option<SocketAddr>, reply: &Reply) {
        let _ = (address, reply);
    }

    /// Called when a client has authenticated.
    fn authenticated(&self, peer: &Peer, identity: &Identity) {
        let _ = (peer, identity);
    }

    /// Called when a client has failed to authenticate, before the pause that delays the reply.
    ///
    /// If `is_limited` is `true`, the attempt failed because of the [rate limiter](crate::RateLimiter), whether or not
    /// the password was correct. [`AuthFailed::why`] is then a reason such as
    /// [`Locked`](smtp_auth::sasl::Failure::Locked), although nobody has locked the account.
    fn auth_failed(&self, peer: &Peer, failed: &AuthFailed<'_>, is_limited: bool) {
        let _ = (peer, failed, is_limited);
    }

    /// Called when the outcome of a message is known. The server calls this method only for messages that were passed
    /// to the handler's [`data`](super::Handler::data) method. `octets` is the number of octets that arrived, and
    /// `reply` is the reply to the message.
    ///
    /// The reply is `None` in these cases:
    ///
    /// - The client disconnected before the end of the message.
    /// - The server itself refused the message, because it was too large, malformed or too slow.
    /// - The handler panicked, or was interrupted, for example by a shutdown.
    fn message(&self, peer: &Peer, octets: u64, reply: Option<&Reply>) {
        let _ = (peer, octets, reply);
    }

    /// Called when a connection ends. `Ok` means that the dialogue ended normally, either with QUIT or with a closing
    /// reply such as `421`. `Err` contains an error from the stream or the TLS handshake, or one of these errors:
    ///
    /// | kind | cause |
    /// | --- | --- |
    /// | `UnexpectedEof` | The client disconnected without QUIT. |
    /// | `TimedOut` | A TLS handshake or a PROXY header did not finish in time, or the client did not receive the last reply in time. |
    /// | `InvalidData` | A PROXY header was missing or malformed, or came from an address that is not in the [configured networks](super::Server::proxies). |
    /// | `ConnectionAborted` | The client did not receive an earlier reply in time, the handler panicked, or the serving future was dropped. A shutdown also causes this error if a TLS handshake is in progress, if a PROXY header is incomplete, or if the connection takes too long to end. |
    fn closed(&self, peer: &Peer, outcome: Result<(), &io::Error>) {
        let _ = (peer, outcome);
    }

    /// Called when the listener could not accept a connection, for example because no file descriptors are left. The
    /// server tries again after 100 milliseconds.
    fn accept_failed(&self, error: &io::Error) {
        let _ = error;
    }
}

macro_rules! methods {
    ($($method:ident($($name:ident: $type:ty),*);)*) => {
        impl<O: Observer + ?Sized> Observer for Arc<O> {
            $(fn $method(&self, $($name: $type),*) {
                O::$method(self, $($name),*);
            })*
        }
    };
}

methods! {
    connected(peer: &Peer);
    turned_away(address: Option<SocketAddr>, reply: &Reply);
    authenticated(peer: &Peer, identity: &Identity);
    auth_failed(peer: &Peer, failed: &AuthFailed<'_>, is_limited: bool);
    message(peer: &Peer, octets: u64, reply: Option<&Reply>);
    closed(peer: &Peer, outcome: Result<(), &io::Error>);
    accept_failed(error: &io::Error);
}

/// Ignores every notification.
pub(super) struct Nothing;

impl Observer for Nothing {}
