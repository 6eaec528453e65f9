//! A server: sockets, TLS, authentication and time are done here, mail by a [`Handler`].
//!
//! A handler is a function of the whole message, or a type with three methods, of which the last gets the message in
//! pieces:
//!
//! ```
//! use smtp_auth_tokio::{
//!     server::{Body, Handler, Peer},
//!     smtp_auth::{Reply, command::{Mail, Rcpt}},
//! };
//! use tokio::io::{AsyncWrite, AsyncWriteExt};
//!
//! struct Spool;
//!
//! impl Handler for Spool {
//!     type Transaction = Vec<String>; // the recipients
//!
//!     async fn mail(&self, peer: &Peer, mail: Mail<'_>) -> Result<Vec<String>, Reply> {
//!         let account = peer.identity().ok_or(Reply::AUTHENTICATION_REQUIRED)?.acts_as();
//!         if mail.from().is_some_and(|from| from.local_part() != account) {
//!             return Err(Reply::constant("550 5.7.1 Not an address of yours"));
//!         }
//!         Ok(Vec::new())
//!     }
//!
//!     async fn rcpt(&self, _: &Peer, to: &mut Vec<String>, rcpt: Rcpt<'_>) -> Result<(), Reply> {
//!         to.push(rcpt.to().as_str().to_owned());
//!         Ok(())
//!     }
//!
//!     async fn data(&self, _: &Peer, to: Vec<String>, mut body: Body<'_>) -> Result<Reply, Reply> {
//!         let mut file = tokio::io::sink(); // a new file, which is removed when it is dropped here
//!         let copied = tokio::io::copy(&mut body, &mut file).await;
//!         copied.map_err(|_| Reply::INSUFFICIENT_STORAGE)?;
//!         // The message is whole, and this is the place to keep it: rename the file.
//!         Ok(Reply::OK)
//!     }
//! }
//! ```

use std::{fmt, io, net::SocketAddr, sync::Arc};

use smtp_auth::{AsyncAuthenticator, Side, server::StartTls};
use tokio::{
    net::{TcpListener, ToSocketAddrs},
    sync::{Semaphore, watch},
    time::Instant,
};

use crate::{
    limiter::{MemoryRateLimiter, RateLimiter},
    network::Network,
    stream::{Stream, TlsAccept},
};

mod accept;
mod body;
mod connection;
mod handler;
mod limits;
mod log;
mod observer;
mod parameters;
mod places;
mod proxy;
mod received;
mod transaction;
mod whole;
mod wire;

pub use body::Body;
pub use handler::{Handler, Peer};
pub use limits::Limits;
pub use observer::Observer;
pub use received::Received;
pub use smtp_auth::{
    Identity, Reply,
    command::{Command, Mail, Rcpt},
    server::{AuthFailed, Config},
};
pub use whole::Message;

pub(crate) use proxy::Opening;

use log::{Hook, Log};
use observer::Nothing;
use places::Places;

/// A server, which may listen on several ports. Clones are the same server, so [set](Self::tls) everything before you clone it.
pub struct Server<A, H> {
    /// As it was given; and as it is with what has been set since.
    given: Arc<Config>,
    config: Arc<Config>,
    users: Arc<A>,
    handler: Arc<H>,
    tls: Option<Arc<dyn TlsAccept>>,
    limiter: Option<Arc<dyn RateLimiter>>,
    log: Log,
    trace: Option<Arc<Hook>>,
    proxies: Arc<[Network]>,
    limits: Limits,
    places: Arc<Places>,
    lingering: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    /// Once it is to stop: when whatever goes on then is cut off.
    stop: Arc<watch::Sender<Option<Instant>>>,
}

impl<A, H> Clone for Server<A, H> {
    fn clone(&self) -> Self {
        Self {
            given: Arc::clone(&self.given),
            config: Arc::clone(&self.config),
            users: Arc::clone(&self.users),
            handler: Arc::clone(&self.handler),
            tls: self.tls.clone(),
            limiter: self.limiter.clone(),
            log: self.log.clone(),
            trace: self.trace.clone(),
            proxies: Arc::clone(&self.proxies),
            limits: self.limits,
            places: Arc::clone(&self.places),
            lingering: Arc::clone(&self.lingering),
            memory: Arc::clone(&self.memory),
            stop: Arc::clone(&self.stop),
        }
    }
}

impl<A, H> fmt::Debug for Server<A, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl<A: AsyncAuthenticator + 'static, H: Handler> Server<A, H> {
    /// A server without TLS, which does not offer STARTTLS. Without TLS the core offers no mechanism that sends a password,
    /// unless [told to](smtp_auth::sasl::server::Builder::allow_cleartext). `users` says who may authenticate, and answers
    /// for the mechanisms of the configuration; it must not block. Failed attempts are limited by a [`MemoryRateLimiter`]
    /// with its defaults.
    pub fn new(config: impl Into<Arc<Config>>, users: A, handler: H) -> Self {
        let (given, limits) = (config.into(), Limits::default());
        let server = Self {
            config: Arc::clone(&given),
            given,
            users: Arc::new(users),
            handler: Arc::new(handler),
            tls: None,
            limiter: Some(Arc::new(MemoryRateLimiter::new())),
            log: Log(Arc::new(Nothing)),
            trace: None,
            proxies: Arc::default(),
            limits,
            places: Arc::default(),
            lingering: Arc::new(Semaphore::new(accept::LINGERING)),
            memory: memory(limits),
            stop: Arc::new(watch::Sender::new(None)),
        };
        server.configured()
    }

    /// With the configuration as what has been set needs it.
    fn configured(mut self) -> Self {
        let mut config = Config::clone(&self.given);
        if self.tls.is_none() {
            config = config.with_starttls(StartTls::Off);
        }
        if self.limiter.is_some() {
            config = config.with_authorize_always(true);
        }
        self.config = Arc::new(config);
        self
    }

    /// With TLS: by STARTTLS, if the configuration [says so](smtp_auth::server::Builder::starttls), or from the first
    /// octet.
    #[must_use]
    pub fn tls(mut self, tls: impl TlsAccept) -> Self {
        self.tls = Some(Arc::new(tls));
        self.configured()
    }

    /// With another rate limiter: a [`MemoryRateLimiter`] with limits of its own, or in an [`Arc`] that several servers
    /// share, or one that knows of a whole cluster.
    #[must_use]
    pub fn rate_limiter(mut self, limiter: impl RateLimiter + 'static) -> Self {
        self.limiter = Some(Arc::new(limiter));
        self.configured()
    }

    /// Without rate limiting over several connections: **then nothing but the pause after each failed attempt, and the
    /// [attempts](smtp_auth::server::Builder::max_attempts) of one connection, hold back a brute-force attack.**
    #[must_use]
    pub fn without_rate_limiter(mut self) -> Self {
        self.limiter = None;
        self.configured()
    }

    /// With an observer, for metrics and logs.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.log = Log(Arc::new(observer));
        self
    }

    /// Has each line of each dialogue handed to `hook`, with the client's address, without CRLF and with everything secret
    /// masked. The hook takes the place of the dialogue that the feature [`tracing`](crate#tracing) gives.
    #[must_use]
    pub fn trace(
        mut self,
        hook: impl Fn(Option<SocketAddr>, Side, &str) + Send + Sync + 'static,
    ) -> Self {
        self.trace = Some(Arc::new(hook));
        self
    }

    /// Takes the PROXY protocol, version 1 or 2, on its TCP listeners, from connections from these networks, as of
    /// HAProxy: `["192.0.2.7".parse()?]`. The client's address is the one that the header says, for the limits, the
    /// rate limiter and [`Peer::address`]; where the header says LOCAL or UNKNOWN, as a proxy's own check does, it stays the
    /// proxy's. Inside TLS from the first octet the header comes before TLS. Its TLVs do not count: whether the
    /// connection is inside TLS, and whose certificate it has, this server sees for itself.
    ///
    /// **A host in these networks can claim any address.** From them the header has to come first, within
    /// [`Limits::handshake`] and in at most 107 octets of version 1 or 536 of version 2. A connection without it is closed
    /// without a word. So is one from any other address that begins with such a header, whether there are proxies or not;
    /// inside TLS from the first octet, where that is no beginning of TLS, it gets the alert of TLS. (Version 2 begins with empty
    /// lines, which are answered where the rest of the header comes later.)
    #[must_use]
    pub fn proxies(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.proxies = networks.into_iter().collect();
        self
    }

    /// With other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        (self.limits, self.memory) = (limits, memory(limits));
        self
    }

    /// Listens there, and [serves](Self::serve): as a rule on port 587.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn listen(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.serve(TcpListener::bind(address).await?).await;
        Ok(())
    }

    /// Listens there, and [serves](Self::serve_tls) inside TLS from the first octet: as a rule on port 465.
    ///
    /// # Errors
    /// The address cannot be had, or the server has no TLS.
    pub async fn listen_tls(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.has_tls()?;
        self.serve_tls(TcpListener::bind(address).await?).await
    }

    /// Serves all clients that connect, until [`shutdown`](Self::shutdown) and the end of their connections. Where its
    /// future is dropped, they are cut off.
    pub async fn serve(&self, listener: TcpListener) {
        self.accept(listener, false).await;
    }

    /// The same, inside TLS from the first octet.
    ///
    /// # Errors
    /// The server has no TLS.
    pub async fn serve_tls(&self, listener: TcpListener) -> io::Result<()> {
        self.has_tls()?;
        self.accept(listener, true).await;
        Ok(())
    }

    /// Serves one client over a stream of any kind: a Unix socket, [`tokio::io::duplex`], a socket from which a proxy's
    /// header has been read: none is read [here](Self::proxies). It counts as a connection, by its address if there is one.
    pub async fn serve_stream(&self, stream: impl Stream + 'static, address: Option<SocketAddr>) {
        self.serve_boxed(Box::new(stream), address, false).await;
    }

    /// The same, inside TLS from the first octet.
    ///
    /// # Errors
    /// The server has no TLS.
    pub async fn serve_tls_stream(
        &self,
        stream: impl Stream + 'static,
        address: Option<SocketAddr>,
    ) -> io::Result<()> {
        self.has_tls()?;
        self.serve_boxed(Box::new(stream), address, true).await;
        Ok(())
    }

    /// Takes no more connections, sends those away with a `421` that have no transaction open, and lets the others
    /// finish theirs, for the time that [`Limits::grace`] gives. Clients that have not finished then get the `421`, too: the
    /// handler's future is dropped, and the client will send the message again.
    /// A future of the store is dropped at once, and a TLS handshake ends without a word. Last words, and listening on
    /// after them, may take ten seconds more.
    pub fn shutdown(&self) {
        let cut_off = Instant::now() + self.limits.grace;
        self.stop.send_if_modified(|stop| {
            let is_new = stop.is_none();
            stop.get_or_insert(cut_off);
            is_new
        });
    }

    fn has_tls(&self) -> io::Result<()> {
        match &self.tls {
            Some(_) => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "the server has no TLS")),
        }
    }
}

fn memory(limits: Limits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((limits.memory / body::UNIT).min(Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests {
    use smtp_auth::{Mechanism, Reply, sasl};

    use super::{connection::Connection, *};

    struct Nobody;

    impl AsyncAuthenticator for Nobody {
        fn mechanisms(&self) -> &[Mechanism] {
            &[Mechanism::Plain]
        }
    }

    /// What each idle connection has of the driver's own: the future of its task, with the session in it.
    #[tokio::test]
    async fn the_future_of_a_connection_is_small() {
        let sasl = sasl::server::Config::builder("localhost").mechanisms([Mechanism::Plain]);
        let config = Config::builder("localhost").sasl(sasl.build().unwrap()).build().unwrap();
        let server = Server::new(config, Nobody, async |_: Message| Ok(Reply::OK));
        let place = || server.places.take(None, &server.limits).unwrap();
        let (stream, proxy) = (|| Box::new(tokio::io::empty()), ([192, 0, 2, 7], 25).into());
        let direct = Connection::new(Arc::new(server.clone()), stream(), None, place());
        let direct = size_of_val(&direct.serve(false));
        let proxied = Arc::new(server.clone()).proxied(stream(), proxy, place(), false);
        // The connection's own is boxed in these.
        let others = [size_of_val(&proxied), size_of_val(&server.serve_stream(stream(), None))];
        assert!(direct <= 1024 && others.iter().all(|size| *size <= 512), "{direct}, {others:?}");
    }
}
