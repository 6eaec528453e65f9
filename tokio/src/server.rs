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

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use smtp_auth::{
    AsyncAuthenticator, Reply,
    server::{Config, StartTls},
};
use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    limiter::{MemoryRateLimiter, RateLimiter},
    link::Link,
    stream::{BoxStream, Stream, TlsAccept},
};

mod body;
mod connection;
mod handler;
mod limits;
mod parameters;
mod places;
mod transaction;
mod whole;
mod wire;

pub use body::Body;
pub use handler::{Handler, Peer};
pub use limits::Limits;
pub use whole::Message;

use connection::Connection;
use places::Places;

/// How long the server waits after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server, which may listen on several ports. Clones are the same server; whatever is
/// [set](Self::tls) comes before.
pub struct Server<A, H> {
    /// As it was given; and as it is with what has been set since.
    given: Arc<Config>,
    config: Arc<Config>,
    users: Arc<A>,
    handler: Arc<H>,
    tls: Option<Arc<dyn TlsAccept>>,
    limiter: Option<Arc<dyn RateLimiter>>,
    limits: Limits,
    places: Arc<Places>,
    memory: Arc<Semaphore>,
    stop: Arc<watch::Sender<bool>>,
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
            limits: self.limits,
            places: Arc::clone(&self.places),
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
            limits,
            places: Arc::default(),
            memory: memory(limits),
            stop: Arc::new(watch::Sender::new(false)),
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
    /// header has been read. It counts as a connection, by its address if there is one.
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
    /// finish theirs, for the time that [`Limits::grace`] gives.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    fn has_tls(&self) -> io::Result<()> {
        match &self.tls {
            Some(_) => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "the server has no TLS")),
        }
    }

    async fn serve_boxed(&self, stream: BoxStream, address: Option<SocketAddr>, tls: bool) {
        match self.places.take(address.map(|address| address.ip()), &self.limits) {
            Ok(place) => {
                let server = Arc::new(self.clone());
                Connection::new(server, stream, address, place).run(tls).await;
            }
            Err(_) if tls => {}
            Err(refusal) => {
                let mut link = Link::new(stream);
                refusal.write(&mut link.out);
                // It could not be told why; there is nobody else to tell.
                let _ = link.close().await;
            }
        }
    }

    async fn accept(&self, listener: TcpListener, tls: bool) {
        let (server, mut stop) = (Arc::new(self.clone()), self.stop.subscribe());
        let mut connections = JoinSet::new();
        while let Some(accepted) = next(&listener, &mut connections, &mut stop).await {
            let (socket, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.handler.accept_failed(&error);
                    // Without a pause the server would spin until a file descriptor is free.
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match self.places.take(Some(address.ip()), &self.limits) {
                Err(refusal) => turn_away(&socket, tls, &refusal),
                Ok(place) => {
                    // Replies are short, and the client waits for them.
                    let _ = socket.set_nodelay(true);
                    // Made here, as a future holds its arguments twice.
                    let stream = Box::new(socket);
                    let mut connection =
                        Connection::new(Arc::clone(&server), stream, Some(address), place);
                    connections.spawn(async move { connection.run(tls).await });
                }
            }
        }
        drop(listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        if timeout(self.limits.grace, rest).await.is_err() {
            connections.shutdown().await;
        }
    }
}

/// The next connection; `None` once the server is stopped.
async fn next(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    stop: &mut watch::Receiver<bool>,
) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    let mut stop = pin!(stopped(stop));
    poll_fn(|cx| {
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        // Those that have ended. A panic ends its own connection alone.
        while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
        listener.poll_accept(cx).map(Some)
    })
    .await
}

/// Waits for [`Server::shutdown`], or for the end of the server itself.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn memory(limits: Limits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((limits.memory / body::UNIT).min(Semaphore::MAX_PERMITS)))
}

/// Says why, and closes, without waiting for anything: a new socket takes a line at once, and nothing lies unread in it.
/// A client that expects TLS could not read it.
fn turn_away(socket: &TcpStream, tls: bool, refusal: &Reply) {
    if !tls {
        let mut out = Vec::new();
        refusal.write(&mut out);
        let _ = socket.try_write(&out);
    }
}

#[cfg(test)]
mod tests {
    use smtp_auth::{Mechanism, sasl};

    use super::*;

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
        let place = server.places.take(None, &server.limits).unwrap();
        let stream = Box::new(tokio::io::empty());
        let mut connection = Connection::new(Arc::new(server), stream, None, place);
        let future = async move { connection.run(false).await };
        assert!(size_of_val(&future) <= 1024, "{}", size_of_val(&future));
    }
}
