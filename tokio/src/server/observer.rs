//! What an application is told of its server, for metrics and logs.

use std::{io, net::SocketAddr, sync::Arc};

use smtp_auth::{Identity, Reply, server::AuthFailed};

use super::Peer;

/// An observer is told of the events at a server, for metrics and logs. Each method does nothing unless it is written. The
/// methods are called on the runtime's threads, and must not block.
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
/// Give [`Server::observer`](super::Server::observer) an [`Arc`] of it, and keep another to read the counters. The feature
/// `tracing` makes [events](crate#tracing) of the same.
pub trait Observer: Send + Sync + 'static {
    /// A connection has begun. Each ends with one [`closed`](Self::closed).
    fn connected(&self, peer: &Peer) {
        let _ = peer;
    }

    /// A surplus connection has been closed: with this reply, or without it on a port with TLS from the first octet.
    fn turned_away(&self, address: Option<SocketAddr>, reply: &Reply) {
        let _ = (address, reply);
    }

    /// A client has authenticated.
    fn authenticated(&self, peer: &Peer, identity: &Identity) {
        let _ = (peer, identity);
    }

    /// A client has failed to authenticate. This comes before the pause that delays the reply.
    ///
    /// `is_limited` says that the [rate limiter](crate::RateLimiter) made the attempt fail, whatever the password was;
    /// [`AuthFailed::why`] is then the reason that the session knows, such as
    /// [`Locked`](smtp_auth::sasl::Failure::Locked), though nobody has locked the account.
    fn auth_failed(&self, peer: &Peer, failed: &AuthFailed<'_>, is_limited: bool) {
        let _ = (peer, failed, is_limited);
    }

    /// The outcome of a message for which the handler's [`data`](super::Handler::data) was called: how many octets of it
    /// came, and the reply. The reply is `None` where the server itself had to refuse the message, as too large,
    /// malformed or too slow, where the client disconnected before its end, and where the handler has panicked or was cut off.
    fn message(&self, peer: &Peer, octets: u64, reply: Option<&Reply>) {
        let _ = (peer, octets, reply);
    }

    /// A connection has ended. `Ok` means that the dialogue came to its end, by QUIT or a `421`. An error is that of the
    /// stream or the TLS handshake:
    ///
    /// | kind | cause |
    /// | --- | --- |
    /// | `UnexpectedEof` | the client just disconnected |
    /// | `TimedOut` | a TLS handshake or a PROXY header did not come in time, or the client did not take the last words |
    /// | `InvalidData` | a PROXY header was missing, or came from where none may come |
    /// | `ConnectionAborted` | the client did not take another reply in time, a handler has panicked, the server was dropped, it took too long to shut down, or it shut down during a handshake |
    fn closed(&self, peer: &Peer, outcome: Result<(), &io::Error>) {
        let _ = (peer, outcome);
    }

    /// A connection could not be accepted, as where no file descriptor is left. The server waits a moment, and goes on.
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

/// Observes nothing.
pub(super) struct Nothing;

impl Observer for Nothing {}
