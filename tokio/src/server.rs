//! A server: sockets, TLS, authentication and time are done here, mail by a [`Handler`].
//!
//! A handler is a function of the whole message, or a type with three methods, of which the last gets the message in pieces:
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
//! /// What is known of a message before it comes.
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
//!         let mut file = tokio::io::sink(); // a new file, which is removed when it is dropped here
//!         file.write_all(received.as_bytes()).await.map_err(|_| Reply::INSUFFICIENT_STORAGE)?;
//!         let copied = tokio::io::copy(&mut body, &mut file).await;
//!         copied.map_err(|_| Reply::INSUFFICIENT_STORAGE)?;
//!         // The message is whole, and this is the place to keep it for `draft.to`: rename the file.
//!         Ok(Reply::OK)
//!     }
//! }
//!
//! /// An account whose name is an address may use that one; any other, the address of its name in each domain.
//! fn may_use(account: &str, from: Option<Mailbox<'_>>) -> bool {
//!     let Some(from) = from else { return true }; // the null sender, of delivery reports
//!     let (name, domain) = account.rsplit_once('@').map_or((account, None), |(name, own)| (name, Some(own)));
//!     let domain_fits = domain.is_none_or(|own| from.domain().is_some_and(|said| said.eq_ignore_ascii_case(own)));
//!     domain_fits && fold(from.local_part()) == fold(name)
//! }
//!
//! /// The form in which names are compared: prepared (RFC 4013), and without case.
//! fn fold(name: &str) -> String {
//!     prepare(name).as_deref().unwrap_or(name).to_lowercase()
//! }
//! ```
//!
//! Where the server has several domains, an account needs a list of its addresses: `examples/server/senders.rs` has one. The
//! function of a whole message finds the same in [`Message::peer`], [`Message::from`] and [`Message::received`].

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

/// A server, which may listen on several ports.
///
/// Clones are one server: they share the users, the handler, the count of connections, and the [shutdown](Self::shutdown).
/// **So set everything before you clone it.** A setting that is made later holds for that clone alone: another clone, and a
/// listener that runs, go on without it.
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
    /// A server without TLS, which does not offer STARTTLS; where the configuration [requires](StartTls::Required) TLS, it
    /// takes nothing. Without TLS the core offers no mechanism that sends a password, unless [told to](smtp_auth::sasl::server::Builder::allow_cleartext). Failed attempts are limited by a
    /// [`MemoryRateLimiter`] with its defaults.
    ///
    /// `users` answers for the mechanisms of the configuration, and must not block: the [crate's page](crate#stores) has a
    /// table of stores. Share the accounts with the handler by an [`Arc`]:
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

    /// With the configuration as what has been set needs it.
    fn configured(mut self) -> Self {
        let mut config = Config::clone(&self.given);
        if self.tls.is_none() {
            // What requires TLS goes on requiring it.
            config = config.with_starttls(StartTls::Off);
        }
        if self.limiter.is_some() {
            config = config.with_authorize_always(true);
        }
        self.config = Arc::new(config);
        self
    }

    /// With TLS: by STARTTLS, if the configuration [says so](smtp_auth::server::Builder::starttls), or from the first
    /// octet. STARTTLS is offered, not required: SCRAM and CRAM-MD5 authenticate, and mail is taken, without it.
    /// [`StartTls::Required`] in the configuration requires it.
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

    /// Hands each line of each dialogue to `hook`, with the client's address, without CRLF and with everything secret
    /// masked. The feature [`tracing`](crate#tracing) then traces no dialogue.
    #[must_use]
    pub fn trace(
        mut self,
        hook: impl Fn(Option<SocketAddr>, Side, &str) + Send + Sync + 'static,
    ) -> Self {
        self.trace = Some(Arc::new(hook));
        self
    }

    /// Takes the PROXY protocol, version 1 or 2, on the TCP listeners, from connections from these networks, such as
    /// `["192.0.2.7".parse()?]`. **A host in these networks can claim any address.** In HAProxy's configuration:
    ///
    /// ```text
    /// listen submission
    ///     mode tcp
    ///     bind :587
    ///     server mail 192.0.2.10:587 send-proxy-v2
    /// ```
    ///
    /// | | |
    /// | --- | --- |
    /// | the client's address, for the limits, the rate limiter and [`Peer::address`] | the one in the header; the proxy's where the header says LOCAL or UNKNOWN, as in a proxy's own health check |
    /// | where the header stands | before everything else, also before TLS from the first octet |
    /// | how long it may take, and be | [`Limits::handshake`]; 107 octets of version 1, 536 of version 2 |
    /// | TLVs | are ignored: this server sees for itself whether the connection is inside TLS, and whose certificate it has |
    /// | a connection from these networks without a header | is closed without a reply |
    /// | a connection from elsewhere that begins with a header, whether there are proxies or not | is closed without a reply, except that version 2 begins with empty lines, which are answered where they arrive alone; on a port with TLS from the first octet, it gets an alert of TLS |
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

    /// Binds `address` and [serves](Self::serve) until [`shutdown`](Self::shutdown); then it is `Ok`. As a rule on port 587.
    ///
    /// # Errors
    /// Binding fails. The text names the addresses that were tried.
    pub async fn listen(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.serve(bind(address).await?).await;
        Ok(())
    }

    /// As [`listen`](Self::listen), inside TLS from the first octet. As a rule on port 465.
    ///
    /// # Errors
    /// Binding fails, or the server has no TLS.
    pub async fn listen_tls(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.has_tls()?;
        self.serve_tls(bind(address).await?).await
    }

    /// Serves all clients that connect to a listener, such as one of [`bind`], until [`shutdown`](Self::shutdown) and the end of their connections. Where this
    /// future is dropped, the connections are cut off.
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

    /// Serves one client over a stream of any kind: a Unix socket, [`tokio::io::duplex`], or a socket from which the
    /// application has read a proxy's header, as no header is read [here](Self::proxies). The client counts as a connection,
    /// and by its address if there is one.
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

    /// Takes no more connections, and ends those that there are:
    ///
    /// | a connection | |
    /// | --- | --- |
    /// | without an open transaction | gets a `421` at once; a future of the store is dropped |
    /// | in a TLS handshake | is closed at once |
    /// | with an open transaction | may finish it within [`Limits::grace`]; after that it gets a `421`, the handler's future is dropped, and the client will send the message again |
    ///
    /// [`serve`](Self::serve) and [`listen`](Self::listen) return once all connections have ended. The last replies, and the
    /// reading after them, may take ten seconds more than the grace.
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

/// How many connections may wait to be accepted, where the system allows so many: a crowd that comes at once must not be
/// dropped. The standard library, and so [`TcpListener::bind`], has 128 or 1,024.
const BACKLOG: u32 = 4096;

/// Binds a listener for [`Server::serve`] and [`Server::serve_tls`], with room for 4,096 connections that wait to be accepted;
/// [`TcpListener::bind`] has less. [`Server::listen`] does this by itself. If a name has several addresses, the first that
/// can be bound is.
///
/// # Errors
/// The name cannot be looked up, or no address can be bound; the text names those that were tried.
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
    // A server that is started anew need not wait for the last connections of the one before. (On Windows this would let others
    // take the address over.)
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
