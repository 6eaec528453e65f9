//! Opening a connection: the socket, TLS, and authentication.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use smtp_auth::{
    Side,
    client::{Config, Event, Session, Stage, Tls},
    sasl::client::{self as sasl, Credentials},
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{Client, Error, ErrorKind, LONGEST, connection::Wire, dial::dial};
use crate::{
    link::Link,
    stream::{BoxStream, Stream, TlsConnect},
    tls::Platform,
};

/// The time limit for the name lookup and the TCP connection together.
const CONNECT: Duration = Duration::from_secs(60);

/// Opens connections to one server, and authenticates each of them.
///
/// | constructor | port | use of TLS |
/// | --- | --- | --- |
/// | [`starttls`](Self::starttls) | 587 | TLS is required, and begins with STARTTLS |
/// | [`tls`](Self::tls) | 465 | TLS is required, and begins at the first octet |
/// | [`insecure_opportunistic`](Self::insecure_opportunistic) | 25 | TLS is used only if the server offers STARTTLS |
/// | [`insecure_cleartext`](Self::insecure_cleartext) | 25 | TLS is not used |
///
/// The client's name in EHLO is its IP address, unless [`config`](Self::config) sets another name.
///
/// Use one connector for all connections to a server, because the connector caches SCRAM's salted password. The
/// computation of the salted password takes a few milliseconds and runs on another thread. The connector computes it
/// for the first connection, and again only if the server sends a different salt or iteration count, or refuses the
/// credentials.
///
/// ```no_run
/// use std::time::Duration;
/// use smtp_auth_tokio::{client::{Config, Connector, Credentials}, tls};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let connector = Connector::tls("mail.example.org")
///     .credentials(Credentials::password("tim@example.org", "tanstaaftanstaaf")?)
///     .config(Config::builder("client.example.net").build()?) // the name in EHLO; by default the IP address
///     .trust(tls::client("our-ca.pem")?) // by default the CAs of the operating system
///     .time_limit(Duration::from_secs(60));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Connector {
    host: Box<str>,
    port: u16,
    addresses: Option<Vec<SocketAddr>>,
    protection: Protection,
    tls: Arc<dyn TlsConnect>,
    config: Configured,
    credentials: Option<Arc<Kept>>,
    limit: Duration,
    trace: Option<Arc<Hook>>,
}

type Hook = dyn Fn(Side, &str) + Send + Sync;

/// Whether and how the connection uses TLS.
#[derive(Clone, Copy, Debug)]
enum Protection {
    Implicit,
    Starttls,
    Opportunistic,
    Cleartext,
}

/// The configuration of the sessions, which is either complete or lacks the client's name.
#[derive(Clone)]
enum Configured {
    Whole(Config),
    Nameless(Arc<sasl::Config>),
}

/// The credentials as the caller gave them, and again with the salted password once it has been computed.
struct Kept {
    given: Credentials,
    salted: Mutex<Credentials>,
}

impl Connector {
    /// Creates a connector to port 587 that begins TLS with STARTTLS. If the server does not offer STARTTLS, connecting
    /// fails, and the client sends neither credentials nor messages.
    pub fn starttls(host: &str) -> Self {
        Self::new(host, 587, Protection::Starttls)
    }

    /// Creates a connector to port 465 that uses TLS from the first octet ("implicit TLS", RFC 8314).
    pub fn tls(host: &str) -> Self {
        Self::new(host, 465, Protection::Implicit)
    }

    /// Creates a connector to port 25 that begins TLS with STARTTLS if the server offers it. **Otherwise the connection
    /// is unprotected**, so a man-in-the-middle can mount a downgrade attack by removing the offer. Mail servers
    /// transfer mail to each other in this way. They also [trust](Self::trust) any certificate
    /// ([`tls::Unverified`](crate::tls::Unverified)).
    pub fn insecure_opportunistic(host: &str) -> Self {
        Self::new(host, 25, Protection::Opportunistic)
    }

    /// Creates a connector to port 25 **without TLS**, for a relay on the same machine. An eavesdropper can read
    /// everything, and a man-in-the-middle can change everything.
    ///
    /// The client does not send a password or a token in cleartext, unless the [configuration](Self::sasl) [allows
    /// it](smtp_auth::sasl::client::Builder::allow_cleartext). SCRAM and CRAM-MD5 work without TLS, because they do not
    /// send the password.
    pub fn insecure_cleartext(host: &str) -> Self {
        Self::new(host, 25, Protection::Cleartext)
    }

    fn new(host: &str, port: u16, protection: Protection) -> Self {
        Self {
            host: host.into(),
            port,
            addresses: None,
            protection,
            tls: Arc::new(Platform),
            config: Configured::Nameless(Arc::default()),
            credentials: None,
            limit: LONGEST,
            trace: None,
        }
    }

    /// Sets the server's port. The default depends on the constructor.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the server's addresses, for an application that resolves names itself. The connector then does not look up
    /// the server's name. Each address includes a port, so [`port`](Self::port) has no effect. The server's certificate
    /// must still be valid for the server's name.
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.addresses = Some(addresses.into_iter().collect());
        self
    }

    /// Sets the credentials. Of the mechanisms that the server offers, the client uses the strongest one for which
    /// these credentials are suitable. Without credentials, the client does not authenticate.
    ///
    /// If TLS began without a [verified](smtp_auth::Channel::verified) certificate, the client sends no credentials,
    /// and connecting fails with [`ErrorKind::Unverified`]. If the credentials contain a token, also specify the
    /// [server for which the token was issued](Credentials::for_server).
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        let salted = Mutex::new(credentials.clone());
        self.credentials = Some(Arc::new(Kept { given: credentials, salted }));
        self
    }

    /// Sets which certificates the client trusts, and which TLS library and configuration it uses. By default, it uses
    /// rustls and trusts the CAs of the operating system.
    ///
    /// | `tls` | effect |
    /// | --- | --- |
    /// | [`tls::client`](crate::tls::client), [`tls::trusting`](crate::tls::trusting) | trusts the given CAs and servers' own certificates |
    /// | [`tls::platform`](crate::tls::platform) | trusts the CAs of the operating system |
    /// | [`tls::with_certificate`](crate::tls::with_certificate) | adds a client certificate to another configuration |
    /// | an `Arc` of any [`ClientConfig`](crate::rustls::ClientConfig) | uses rustls with the application's own settings |
    /// | [`tls::Unverified`](crate::tls::Unverified) | trusts any certificate, **and therefore does not protect against a man-in-the-middle** |
    /// | another [`TlsConnect`] | uses another TLS library |
    pub fn trust(mut self, tls: impl TlsConnect) -> Self {
        self.tls = Arc::new(tls);
        self
    }

    /// Sets the SASL configuration: which mechanisms the client may use, and whether it may send a password without
    /// TLS.
    ///
    /// This replaces any configuration that was set with [`config`](Self::config). After this call, the client's name
    /// in EHLO is its IP address, as RFC 5321 §4.1.3 specifies for a client without a name in the DNS.
    pub fn sasl(mut self, sasl: impl Into<Arc<sasl::Config>>) -> Self {
        self.config = Configured::Nameless(sasl.into());
        self
    }

    /// Sets the configuration of the sessions, including the client's name in EHLO.
    ///
    /// This replaces any configuration that was set with [`sasl`](Self::sasl). To set both, pass the SASL configuration
    /// to the builder of `config`. The connector ignores the TLS setting of `config`, because the constructor of the
    /// connector determines whether TLS is used.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Configured::Whole(config);
        self
    }

    /// Sets one time limit for each of these operations: connecting, the TLS handshake, each reply, and each part of a
    /// message. By default, connecting may take up to one minute. The other operations may take as long as RFC 5321
    /// §4.5.3.2 recommends, which is up to ten minutes. If `limit` is longer than the default for an operation, it has
    /// no effect on that operation.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit.min(LONGEST);
        self
    }

    /// Calls `hook` with each line of every dialogue, without its CRLF and with all secrets masked.
    ///
    /// ```
    /// use smtp_auth_tokio::client::Connector;
    ///
    /// let connector = Connector::starttls("mail.example.org").trace(|side, line| eprintln!("{side}: {line}"));
    /// ```
    pub fn trace(mut self, hook: impl Fn(Side, &str) + Send + Sync + 'static) -> Self {
        self.trace = Some(Arc::new(hook));
        self
    }

    /// Connects, begins TLS, and authenticates. If the server's name has several addresses, the client tries IPv6 and
    /// IPv4 in turn, and uses the first address that answers ("happy eyeballs", RFC 8305).
    ///
    /// # Errors
    /// Fails if the connection, TLS or authentication fails. [`Error::stage`] returns the stage at which the error
    /// happened, and [`Error::is_transient`] returns whether another attempt may succeed.
    pub async fn connect(&self) -> Result<Client, Error> {
        let unreachable = |why| {
            let (host, port) = (self.host.clone(), self.port);
            Error::new(ErrorKind::Unreachable { host, port, why })
        };
        let dialled = timeout(CONNECT.min(self.limit), self.dial()).await;
        let dialled = dialled.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        let (socket, own) = dialled.map_err(unreachable)?;
        self.begin(Box::new(socket), Some(own)).await
    }

    async fn dial(&self) -> io::Result<(TcpStream, IpAddr)> {
        let addresses = match &self.addresses {
            Some(addresses) => addresses.clone(),
            None => lookup_host((&*self.host, self.port)).await?.collect(),
        };
        let socket = dial(addresses).await?;
        // Each command waits for its reply, so Nagle's algorithm has nothing to combine. A failure only makes the
        // connection slower.
        let _ = socket.set_nodelay(true);
        let own = socket.local_addr()?.ip().to_canonical();
        Ok((socket, own))
    }

    /// Begins TLS and authenticates over a stream that the caller has connected, such as a connection through a proxy,
    /// a Unix socket, or [`tokio::io::duplex`]. The client's name in EHLO is `localhost`, unless
    /// [`config`](Self::config) sets another name.
    ///
    /// # Errors
    /// Returns the same errors as [`connect`](Self::connect), except [`ErrorKind::Unreachable`].
    pub async fn connect_over(&self, stream: impl Stream + 'static) -> Result<Client, Error> {
        self.begin(Box::new(stream), None).await
    }

    async fn begin(&self, stream: BoxStream, own: Option<IpAddr>) -> Result<Client, Error> {
        let mut wire = Wire::new(self.session(own)?, Link::new(stream), self.limit);
        match self.authenticate(&mut wire).await {
            Ok(()) => Ok(Client::new(wire)),
            Err(error) => {
                if let (true, Some(kept)) = (error.is_of_authentication(), &self.credentials) {
                    *kept.lock() = kept.given.clone();
                }
                Err(error)
            }
        }
    }

    fn session(&self, own: Option<IpAddr>) -> Result<Session, Error> {
        let config = match &self.config {
            Configured::Whole(config) => config.clone(),
            Configured::Nameless(sasl) => {
                let name = own.map_or("localhost".to_owned(), |own| match own {
                    IpAddr::V4(own) => format!("[{own}]"),
                    IpAddr::V6(own) => format!("[IPv6:{own}]"),
                });
                Config::builder(&name).sasl(Arc::clone(sasl)).build()?
            }
        };
        let config = Arc::new(config.with_tls(match self.protection {
            Protection::Implicit | Protection::Starttls => Tls::Required,
            Protection::Opportunistic => Tls::IfOffered,
            Protection::Cleartext => Tls::Never,
        }));
        let mut session = match &self.credentials {
            Some(kept) => Session::new(config, kept.lock().clone()),
            None => Session::without_credentials(config),
        };
        if let Some(hook) = self.trace.clone() {
            session.trace(move |side, line| hook(side, line));
        }
        Ok(session)
    }

    async fn authenticate(&self, wire: &mut Wire) -> Result<(), Error> {
        if let Protection::Implicit = self.protection {
            self.begin_tls(wire).await?;
        }
        let mut derived = None;
        loop {
            wire.advance().await?;
            match wire.session.pending() {
                Event::StartTls => {
                    wire.send().await?;
                    self.begin_tls(wire).await?;
                }
                Event::Derive(ask) => {
                    let job = ask.job();
                    let salted = tokio::task::spawn_blocking(move || job.run()).await;
                    let broken = |why| Error::new(ErrorKind::Broken(Stage::Auth, why));
                    let salted = salted.map_err(|why| broken(io::Error::other(why)))?;
                    if let Event::Derive(ask) = wire.session.pending() {
                        ask.answer(salted.clone());
                    }
                    derived = Some(salted);
                }
                // The connector supports no custom mechanisms.
                Event::Custom(ask) => ask.fail(),
                Event::NotAuthenticated(failed) => {
                    let error = failed.error();
                    failed.quit();
                    wire.say_last().await;
                    return Err(error.into());
                }
                _ => break,
            }
        }
        if let (Some(salted), Some(kept)) = (derived, &self.credentials) {
            *kept.lock() = kept.given.clone().salted(salted);
        }
        Ok(())
    }

    async fn begin_tls(&self, wire: &mut Wire) -> Result<(), Error> {
        let handshake = self.tls.connect(&self.host, wire.link.take());
        let begun = timeout(wire.limit(), handshake).await;
        let begun = begun.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        let failed = |why| Error::new(ErrorKind::Tls { host: self.host.clone(), why });
        let (stream, channel) = begun.map_err(failed)?;
        if self.credentials.is_some() && !channel.is_verified() {
            return Err(Error::new(ErrorKind::Unverified { host: self.host.clone() }));
        }
        wire.link.put(stream);
        wire.session.tls_started(channel);
        Ok(())
    }
}

impl Kept {
    /// Ignores poisoning: the credentials are replaced in one assignment, so a panic cannot leave them half written.
    fn lock(&self) -> MutexGuard<'_, Credentials> {
        self.salted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("protection", &self.protection)
            .finish_non_exhaustive()
    }
}
