//! Passes each notification to the application's observer, and emits it as an event of `tracing`.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use smtp_auth::{
    Identity, Reply, Side,
    sasl::Failure,
    server::{AuthFailed, Session},
};

use super::{Observer, Peer};

/// Emits an event. Without the `tracing` feature, the arguments are not evaluated.
macro_rules! event {
    ($level:ident, $($what:tt)*) => {{
        #[cfg(feature = "tracing")]
        tracing::$level!(target: "smtp_auth_tokio", $($what)*);
    }};
}

/// Returns a span for the events of a connection.
#[cfg(feature = "tracing")]
pub(super) fn span(peer: &Peer) -> tracing::Span {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    let (id, peer) = (CONNECTIONS.fetch_add(1, Relaxed), peer.address());
    tracing::info_span!(target: "smtp_auth_tokio", "connection", id, peer = peer.map(tracing::field::display))
}

/// The function that receives the lines of dialogues.
pub(super) type Hook = dyn Fn(Option<SocketAddr>, Side, &str) + Send + Sync;

/// Passes the masked dialogue to the application's hook. Without a hook, emits the dialogue as events if the trace
/// level is enabled when the connection begins.
pub(super) fn trace(session: &mut Session, hook: Option<&Arc<Hook>>, address: Option<SocketAddr>) {
    #[cfg(feature = "tracing")]
    if tracing::enabled!(target: "smtp_auth_tokio::dialogue", tracing::Level::TRACE) {
        session.trace(|side, line| {
            tracing::trace!(target: "smtp_auth_tokio::dialogue", "{side}: {line}");
        });
    }
    if let Some(hook) = hook.cloned() {
        session.trace(move |side, line| hook(address, side, line));
    }
}

/// The application's observer. Each method also emits an event.
#[derive(Clone)]
pub(super) struct Log(pub(super) Arc<dyn Observer>);

#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "the events are compiled out")
)]
impl Observer for Log {
    fn connected(&self, peer: &Peer) {
        event!(debug, "connected");
        self.0.connected(peer);
    }

    fn turned_away(&self, address: Option<SocketAddr>, reply: &Reply) {
        event!(info, peer = address.map(tracing::field::display), %reply, "turned away");
        self.0.turned_away(address, reply);
    }

    fn authenticated(&self, peer: &Peer, identity: &Identity) {
        event!(
            info,
            mechanism = %identity.mechanism(),
            account = identity.acts_as(),
            tls = peer.is_tls(),
            "authenticated"
        );
        self.0.authenticated(peer, identity);
    }

    fn auth_failed(&self, peer: &Peer, failed: &AuthFailed<'_>, is_limited: bool) {
        // `Locked` would mislead the operator, because nobody has locked the account.
        let why: &dyn fmt::Display = match &failed.why {
            Failure::Locked | Failure::NotAuthorized if is_limited => {
                &"the attempt was rate limited"
            }
            why => why,
        };
        // The event omits the name, because some people type their password instead.
        event!(
            info,
            %why,
            attempts = failed.attempts,
            limited = is_limited,
            "not authenticated"
        );
        self.0.auth_failed(peer, failed, is_limited);
    }

    fn message(&self, peer: &Peer, octets: u64, reply: Option<&Reply>) {
        match reply {
            Some(reply) if reply.is_positive() => event!(info, octets, "message accepted"),
            Some(reply) => event!(info, octets, code = reply.code(), "message refused"),
            None => event!(info, octets, "message broken off"),
        }
        self.0.message(peer, octets, reply);
    }

    fn closed(&self, peer: &Peer, outcome: Result<(), &io::Error>) {
        match outcome {
            Ok(()) => event!(debug, "closed"),
            Err(error) => event!(debug, why = %error, "closed"),
        }
        self.0.closed(peer, outcome);
    }

    fn accept_failed(&self, error: &io::Error) {
        event!(error, why = %error, "no connection can be accepted");
        self.0.accept_failed(error);
    }
}
