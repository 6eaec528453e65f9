//! An async SMTP submission server.
//!
//! A [`Server`] handles sockets, TLS, authentication and time limits. Your application's [`Handler`] handles mail. A
//! handler is either a function that receives a whole [`Message`], as shown on the [crate's page](crate), or a type
//! with three methods. In the following example, the `data` method receives the message in pieces:
//!
//! ```
//! use smtp_auth_tokio::{
//!     server::{Body, Handler, Mail, Peer, Rcpt, Reply},
//!     smtp_auth::{command::Mailbox, sasl::prepare},
//! };
//! use tokio::io::{AsyncWrite, AsyncWriteExt};
//!
//! struct Spool;
//!
//! /// The envelope of a message, before its content arrives.
//! struct Draft {
//!     to: Vec<String>,
//!     smtputf8: bool,
//! }
//!
//! impl Handler for Spool {
//!     type Transaction = Draft;
//!
//!     async fn mail(&self, peer: &Peer, mail: Mail<'_>) -> Result<Draft, Reply> {
//!         let account = peer.identity().ok_or(Reply::AUTHENTICATION_REQUIRED)?.acts_as();
//!         if !may_use(account, mail.from()) {
//!             return Err(Reply::constant("553 5.7.1 This account may not send from that address"));
//!         }
//!         Ok(Draft { to: Vec::new(), smtputf8: mail.parameters().get("SMTPUTF8").is_some() })
//!     }
//!
//!     async fn rcpt(&self, _: &Peer, draft: &mut Draft, rcpt: Rcpt<'_>) -> Result<(), Reply> {
//!         draft.to.push(rcpt.to().as_str().to_owned());
//!         Ok(())
//!     }
//!
//!     async fn data(&self, peer: &Peer, draft: Draft, mut body: Body<'_>) -> Result<Reply, Reply> {
//!         let received = peer.received().smtputf8(draft.smtputf8).to_string();
//!         let mut file = tokio::io::sink(); // use a temporary file that is removed when it is dropped
//!         file.write_all(received.as_bytes()).await.map_err(|_| Reply::INSUFFICIENT_STORAGE)?;
//!         let copied = tokio::io::copy(&mut body, &mut file).await;
//!         copied.map_err(|_| Reply::INSUFFICIENT_STORAGE)?;
//!         // The message is complete. Keep it for `draft.to` here, for example by renaming the file.
//!         Ok(Reply::OK)
//!     }
//! }
//!
//! /// If an account's name is an address, it may use that address. Otherwise it may use its name at any domain.
//! fn may_use(account: &str, from: Option<Mailbox<'_>>) -> bool {
//!     let Some(from) = from else { return true }; // the null sender of delivery reports
//!     let (name, domain) = account.rsplit_once('@').map_or((account, None), |(name, own)| (name, Some(own)));
//!     let domain_fits = domain.is_none_or(|own| from.domain().is_some_and(|domain| domain.eq_ignore_ascii_case(own)));
//!     domain_fits && fold(from.local_part()) == fold(name)
//! }
//!
//! /// Converts a name for comparison: prepares it with SASLprep (RFC 4013), and makes it lower case.
//! fn fold(name: &str) -> String {
//!     prepare(name).as_deref().unwrap_or(name).to_lowercase()
//! }
//! ```
//!
//! On a server with several domains, each account needs a list of its addresses. The file `examples/server/senders.rs`
//! shows how to implement this list. If your handler is a function that receives a whole message, use
//! [`Message::peer`], [`Message::from`] and [`Message::received`] instead.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use smtp_auth::{AsyncAuthenticator, Side};
use tokio::{
    net::{TcpListener, TcpSocket, ToSocketAddrs, lookup_host},
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
    server::{AuthFailed, Config, StartTls},
};
pub use whole::Message;

pub(crate) use proxy::Opening;

use log::{Hook, Log};
use observer::Nothing;
use places::Places;

/// A submission server, which can listen on several ports.
///
/// A clone is another handle to the same server. Clones share the users, the handler and the count of connections.
/// Calling [`shutdown`](Self::shutdown) on any clone shuts down all of them. **Change all settings before you clone the
/// server.** A later change affects only the clone on which it is made. It does not affect other clones, or listeners
/// that are already running.
pub struct Server<A, H> {
    /// The configuration as the application passed it.
    given: Arc<Config>,
    /// The same configuration, adapted to the TLS and rate limiter settings.
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
    /// The time at which the remaining connections are cut off, once a shutdown has begun.
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
    /// Creates a server with the default [`Limits`], the default [`MemoryRateLimiter`], and no TLS.
    ///
    /// To enable TLS, call [`tls`](Self::tls). Without TLS, the server does not offer STARTTLS. It also does not offer
    /// mechanisms that send a password or a token, unless the configuration [allows them without
    /// TLS](smtp_auth::sasl::server::Builder::allow_cleartext). If the configuration [requires](StartTls::Required)
    /// TLS, a server without TLS refuses authentication and mail.
    ///
    /// `users` answers the questions of the configured mechanisms, and must not block. The [crate's page](crate#stores)
    /// contains a table of stores. To use the accounts in the handler as well, share them through an [`Arc`]:
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use smtp_auth_tokio::{
    /// #     server::{Config, Message, Reply, Server},
    /// #     smtp_auth::{Answer, Authenticator, CheckPassword, Mechanism, sasl::{Immediate, server::Config as Sasl}},
    /// # };
    /// # struct Users;
    /// # impl Authenticator for Users {
    /// #     fn mechanisms(&self) -> &[Mechanism] { &[Mechanism::Plain] }
    /// #     fn check_password(&self, _: &CheckPassword) -> Answer { Answer::reject() }
    /// # }
    /// # impl Users {
    /// #     fn may_use(&self, _: &str, _: Option<&str>) -> bool { false }
    /// # }
    /// # let sasl = Sasl::builder("mail.example.org").answered_by(&Users).build()?;
    /// # let config = Config::builder("mail.example.org").sasl(sasl).build()?;
    /// let users = Arc::new(Users);
    /// let known = Arc::clone(&users);
    /// let server = Server::new(config, Immediate(users), move |message: Message| {
    ///     let known = Arc::clone(&known);
    ///     async move {
    ///         let account = message.peer.identity().ok_or(Reply::AUTHENTICATION_REQUIRED)?.acts_as();
    ///         match known.may_use(account, message.from.as_deref()) {
    ///             true => Ok(Reply::OK),
    ///             false => Err(Reply::constant("553 5.7.1 This account may not send from that address")),
    ///         }
    ///     }
    /// });
    /// # Ok::<(), smtp_auth_tokio::smtp_auth::ConfigError>(())
    /// ```
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

    /// Adapts the configuration to the TLS and rate limiter settings.
    fn configured(mut self) -> Self {
        let mut config = Config::clone(&self.given);
        if self.tls.is_none() {
            // A configuration that requires TLS still requires it.
            config = config.with_starttls(StartTls::Off);
        }
        if self.limiter.is_some() {
            config = config.with_authorize_always(true);
        }
        self.config = Arc::new(config);
        self
    }

    /// Enables TLS, both with STARTTLS and from the first octet.
    ///
    /// The [configuration](smtp_auth::server::Builder::starttls) determines whether STARTTLS is offered or required. By
    /// default, STARTTLS is offered but not required. Clients can therefore authenticate with SCRAM or CRAM-MD5 and
    /// send mail without TLS, unless the configuration specifies [`StartTls::Required`].
    /// [`listen_tls`](Self::listen_tls) and the other `_tls` methods begin TLS at the first octet.
    #[must_use]
    pub fn tls(mut self, tls: impl TlsAccept) -> Self {
        self.tls = Some(Arc::new(tls));
        self.configured()
    }

    /// Replaces the rate limiter. `limiter` can be a [`MemoryRateLimiter`] with other limits, a limiter in an [`Arc`]
    /// that several servers share, or your own [`RateLimiter`], for example one for a whole cluster.
    #[must_use]
    pub fn rate_limiter(mut self, limiter: impl RateLimiter + 'static) -> Self {
        self.limiter = Some(Arc::new(limiter));
        self.configured()
    }

    /// Disables rate limiting across connections. **A brute-force attack is then slowed down only by the
    /// [pause](Limits::pause) after each failed attempt, and by the limit on
    /// [attempts](smtp_auth::server::Builder::max_attempts) in one connection.**
    #[must_use]
    pub fn without_rate_limiter(mut self) -> Self {
        self.limiter = None;
        self.configured()
    }

    /// Sets the observer, which is notified of events for metrics and logs.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.log = Log(Arc::new(observer));
        self
    }

    /// Passes each line of each dialogue to `hook`, with the client's address. The line has no CRLF, and every secret
    /// in it is [masked](smtp_auth::server::Session::trace). If a hook is set, the [`tracing`](crate#tracing) feature
    /// does not trace the dialogue.
    #[must_use]
    pub fn trace(
        mut self,
        hook: impl Fn(Option<SocketAddr>, Side, &str) + Send + Sync + 'static,
    ) -> Self {
        self.trace = Some(Arc::new(hook));
        self
    }

    /// Requires the [PROXY protocol](https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt), version 1 or 2, for
    /// TCP connections from the given networks. For example, `["192.0.2.7".parse()?]` specifies a single address. **A
    /// machine in these networks can claim any client address.** The matching configuration of HAProxy is:
    ///
    /// ```text
    /// listen submission
    ///     mode tcp
    ///     bind :587
    ///     server mail 192.0.2.10:587 send-proxy-v2
    /// ```
    ///
    /// | topic | behaviour |
    /// | --- | --- |
    /// | client address | The limits, the rate limiter and [`Peer::address`] use the address in the header. If the header is LOCAL or UNKNOWN, or contains no TCP address, they use the proxy's address. A proxy sends LOCAL for its own health checks. |
    /// | position | The header comes before everything else, including TLS from the first octet. |
    /// | time | The header must arrive within [`Limits::handshake`]. |
    /// | size | A header may be up to 107 octets long in version 1, and up to 536 octets in version 2. |
    /// | TLVs | TLVs are ignored. The server itself determines whether the connection uses TLS, and which certificate the client presented. |
    /// | missing header | If a connection from one of these networks does not begin with a header, it is closed without a reply. |
    /// | unexpected header | If a connection from any other address begins with a PROXY header, it is closed without a reply, even if no proxies are configured. A version 2 header begins with empty lines. If these lines arrive before the rest of the header, the server replies to them before it closes the connection. On a port with TLS from the first octet, the sender gets a TLS alert. |
    #[must_use]
    pub fn proxies(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.proxies = networks.into_iter().collect();
        self
    }

    /// Replaces the [`Limits`] on connections, time and memory. [`Limits`] lists the defaults.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        (self.limits, self.memory) = (limits, memory(limits));
        self
    }

    /// Binds `address`, usually on port 587, and [serves](Self::serve) clients. Returns `Ok` after a
    /// [`shutdown`](Self::shutdown), once all connections have ended.
    ///
    /// # Errors
    /// Returns an error if `address` cannot be looked up or bound. If binding failed, the error text lists the
    /// addresses that were tried.
    pub async fn listen(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.serve(bind(address).await?).await;
        Ok(())
    }

    /// Binds `address`, usually on port 465, and [serves](Self::serve_tls) clients with TLS from the first octet
    /// (implicit TLS, RFC 8314 §3.3). Returns `Ok` after a [`shutdown`](Self::shutdown), once all connections have
    /// ended.
    ///
    /// # Errors
    /// Returns an error if [`tls`](Self::tls) has not been set, or if `address` cannot be looked up or bound.
    pub async fn listen_tls(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.has_tls()?;
        self.serve_tls(bind(address).await?).await
    }

    /// Serves all clients that connect to `listener`, for example a listener that [`bind`] returned. Returns after a
    /// [`shutdown`](Self::shutdown), once all connections have ended. If this future is dropped, all of its connections
    /// are cut off.
    pub async fn serve(&self, listener: TcpListener) {
        self.accept(listener, false).await;
    }

    /// Serves all clients that connect to `listener`, with TLS from the first octet. In all other respects, this method
    /// works like [`serve`](Self::serve).
    ///
    /// # Errors
    /// Returns an error if [`tls`](Self::tls) has not been set.
    pub async fn serve_tls(&self, listener: TcpListener) -> io::Result<()> {
        self.has_tls()?;
        self.accept(listener, true).await;
        Ok(())
    }

    /// Serves one client over a stream of any kind, such as a Unix socket or [`tokio::io::duplex`].
    ///
    /// The client counts towards [`Limits::connections`] and, if it has an address, towards
    /// [`Limits::connections_each`]. The server does not read a [PROXY header](Self::proxies) from the stream. If the
    /// client connects through a proxy, the application must read the header before this call, and pass the address in
    /// the header as `address`.
    pub async fn serve_stream(&self, stream: impl Stream + 'static, address: Option<SocketAddr>) {
        self.serve_boxed(Box::new(stream), address, false).await;
    }

    /// Serves one client over a stream of any kind, with TLS from the first octet. In all other respects, this method
    /// works like [`serve_stream`](Self::serve_stream).
    ///
    /// # Errors
    /// Returns an error if [`tls`](Self::tls) has not been set.
    pub async fn serve_tls_stream(
        &self,
        stream: impl Stream + 'static,
        address: Option<SocketAddr>,
    ) -> io::Result<()> {
        self.has_tls()?;
        self.serve_boxed(Box::new(stream), address, true).await;
        Ok(())
    }

    /// Begins a graceful shutdown. The server accepts no more connections, and ends each open connection:
    ///
    /// | connection | end |
    /// | --- | --- |
    /// | without an open transaction | The client gets a `421` at once. If the store is answering a query, the future of that query is dropped. |
    /// | in a TLS handshake, or before the end of the PROXY header | The connection is closed at once. |
    /// | with an open transaction | The client may finish the transaction within [`Limits::grace`], and then gets a `421`. If this grace period ends first, the handler's future is dropped and the client gets the `421` immediately. In that case, the client keeps the message and will send it again. |
    ///
    /// [`serve`](Self::serve) and [`listen`](Self::listen) return once all connections have ended. This can take up to
    /// ten seconds longer than the grace period, because the server spends up to five seconds on sending the last
    /// reply, and then up to five seconds on reading.
    ///
    /// This method returns immediately. It shuts down all clones of the server. A second call has no effect.
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
            None => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the server has no TLS configuration: set one with `Server::tls`",
            )),
        }
    }
}

/// The number of connections that may wait to be accepted, if the system allows as many. A burst of connections must
/// not be dropped. [`TcpListener::bind`] uses 128 or 1,024.
const BACKLOG: u32 = 4096;

/// Binds a listener for [`Server::serve`] or [`Server::serve_tls`]. [`Server::listen`] calls this function for you.
///
/// Up to 4,096 connections may wait to be accepted, which is more than [`TcpListener::bind`] allows. If a name has
/// several addresses, the function binds the first one that is available.
///
/// # Errors
/// Returns an error if the name cannot be looked up, or if none of its addresses can be bound. If no address can be
/// bound, the error text lists the addresses that were tried.
pub async fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let addresses: Vec<_> = lookup_host(address).await?.collect();
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in &addresses {
        match bind_to(*address) {
            Ok(listener) => return Ok(listener),
            Err(why) => failed = why,
        }
    }
    let tried: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    Err(io::Error::new(failed.kind(), format!("cannot listen on {}: {failed}", tried.join(", "))))
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted server need not wait until the connections of the previous one have timed out. (On Windows, this
    // option would let other processes take over the address.)
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
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

    /// The driver keeps this future, with the session inside, for each idle connection.
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
        // These box the connection's future.
        let others = [size_of_val(&proxied), size_of_val(&server.serve_stream(stream(), None))];
        assert!(direct <= 1024 && others.iter().all(|size| *size <= 512), "{direct}, {others:?}");
    }
}
