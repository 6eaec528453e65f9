//! How a connection comes about: the socket, TLS, authentication.

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

/// How long looking the name up and connecting may take.
const CONNECT: Duration = Duration::from_secs(60);

/// A server, and how to connect and authenticate there.
///
/// | constructor | port | TLS |
/// | --- | --- | --- |
/// | [`starttls`](Self::starttls) | 587 | required, by STARTTLS |
/// | [`tls`](Self::tls) | 465 | from the first octet |
/// | [`insecure_opportunistic`](Self::insecure_opportunistic) | 25 | by STARTTLS, if the server offers it |
/// | [`insecure_cleartext`](Self::insecure_cleartext) | 25 | none |
///
/// The client's name in EHLO is its IP address, unless [`config`](Self::config) sets another.
///
/// Keep one connector for all connections to the server: it also keeps SCRAM's salted password, which takes some
/// milliseconds to compute. The salted password is computed for the first connection, on another thread, and again only if
/// the server asks with another salt or iteration count, or refuses it.
///
/// ```no_run
/// use std::time::Duration;
/// use smtp_auth_tokio::{client::{Config, Connector, Credentials}, tls};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let connector = Connector::tls("mail.example.org")
///     .credentials(Credentials::password("tim@example.org", "tanstaaftanstaaf")?)
///     .config(Config::builder("client.example.net").build()?) // the name in EHLO; an address, without this
///     .trust(tls::client("our-ca.pem")?) // the CAs of the operating system, without this
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

/// How the server is to be spoken to.
#[derive(Clone, Copy, Debug)]
enum Protection {
    Implicit,
    Starttls,
    Opportunistic,
    Cleartext,
}

/// How the sessions are configured: as a whole, or without a name for the client.
#[derive(Clone)]
enum Configured {
    Whole(Config),
    Nameless(Arc<sasl::Config>),
}

/// Credentials, as they were given, and with the salted password once there is one.
struct Kept {
    given: Credentials,
    salted: Mutex<Credentials>,
}

impl Connector {
    /// A connection to port 587 that begins TLS by STARTTLS. If the server does not offer STARTTLS, connecting fails, and
    /// neither credentials nor messages are sent.
    pub fn starttls(host: &str) -> Self {
        Self::new(host, 587, Protection::Starttls)
    }

    /// A connection to port 465 that is inside TLS from the first octet ("implicit TLS", RFC 8314).
    pub fn tls(host: &str) -> Self {
        Self::new(host, 465, Protection::Implicit)
    }

    /// A connection to port 25 that begins TLS by STARTTLS if the server offers it, **and otherwise has no protection**:
    /// a man in the middle can remove the offer. Mail servers hand mail to each other in this way, with
    /// [`tls::Unverified`](crate::tls::Unverified) as what they [trust](Self::trust).
    pub fn insecure_opportunistic(host: &str) -> Self {
        Self::new(host, 25, Protection::Opportunistic)
    }

    /// A connection to port 25 **without TLS**, for a relay on the same machine: an eavesdropper can read everything, and a
    /// man in the middle can change everything.
    ///
    /// A password or a token is not sent in cleartext, unless the [configuration](Self::sasl) [allows
    /// it](smtp_auth::sasl::client::Builder::allow_cleartext); SCRAM and CRAM-MD5 do not send the password.
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

    /// The server's port, if it is not that of the constructor.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Connects to one of these addresses, and does not look the server's name up: for an application that resolves names
    /// itself. The [port](Self::port) is not used then, as each address has its own. The server's certificate still has to
    /// be for the name.
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.addresses = Some(addresses.into_iter().collect());
        self
    }

    /// The credentials to authenticate with, by the strongest mechanism that takes them and that the server offers. A
    /// client without credentials does not authenticate.
    ///
    /// Credentials are not sent inside TLS that began without a [verified](smtp_auth::Channel::verified) certificate:
    /// connecting fails with [`ErrorKind::Unverified`]. A token should say [for which server](Credentials::for_server) it
    /// is.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        let salted = Mutex::new(credentials.clone());
        self.credentials = Some(Arc::new(Kept { given: credentials, salted }));
        self
    }

    /// Sets which certificates the client trusts, and by which library and configuration it begins TLS. Without this call
    /// it trusts the CAs of the operating system, by rustls.
    ///
    /// | `tls` | |
    /// | --- | --- |
    /// | [`tls::client`](crate::tls::client), [`tls::trusting`](crate::tls::trusting) | trusts these CAs and servers' own certificates |
    /// | [`tls::platform`](crate::tls::platform) | trusts the CAs of the operating system |
    /// | [`tls::with_certificate`](crate::tls::with_certificate) | also shows a certificate of the client's |
    /// | an `Arc` of any [`ClientConfig`](crate::rustls::ClientConfig) | rustls, with settings of the application's own |
    /// | [`tls::Unverified`](crate::tls::Unverified) | trusts any certificate: **no protection from a man in the middle** |
    /// | another [`TlsConnect`] | another library |
    pub fn trust(mut self, tls: impl TlsConnect) -> Self {
        self.tls = Arc::new(tls);
        self
    }

    /// The mechanisms that the client uses, and whether it sends a password without TLS. This replaces what
    /// [`config`](Self::config) said: the client's name in EHLO is its IP address then, as RFC 5321 §4.1.3 says for a
    /// client without a name in the DNS.
    pub fn sasl(mut self, sasl: impl Into<Arc<sasl::Config>>) -> Self {
        self.config = Configured::Nameless(sasl.into());
        self
    }

    /// The client's name in EHLO, and all else in the configuration of its sessions. This replaces what
    /// [`sasl`](Self::sasl) said: give that to the configuration's builder, too. What the configuration says of TLS is
    /// ignored, as the connector's constructor decides that.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Configured::Whole(config);
        self
    }

    /// The longest time for each of these: connecting, the TLS handshake, each reply, each part of a message. By default
    /// connecting has one minute, and the others have what RFC 5321 §4.5.3.2 says, up to ten minutes.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit.min(LONGEST);
        self
    }

    /// Calls `hook` with each line of each dialogue, without CRLF and with everything secret masked.
    pub fn trace(mut self, hook: impl Fn(Side, &str) + Send + Sync + 'static) -> Self {
        self.trace = Some(Arc::new(hook));
        self
    }

    /// Connects, begins TLS, and authenticates. If the server's name has several addresses, IPv6 and IPv4 are tried by
    /// turns, and the first that answers is used ("happy eyeballs", RFC 8305).
    ///
    /// # Errors
    /// The connection, TLS or authentication failed: [`Error::stage`] tells at which stage, and [`Error::is_transient`]
    /// whether another attempt may succeed.
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
        // Each command waits for its reply, so there is nothing to gather. Where this cannot be set, all is only slower.
        let _ = socket.set_nodelay(true);
        let own = socket.local_addr()?.ip().to_canonical();
        Ok((socket, own))
    }

    /// Begins TLS and authenticates, as [`connect`](Self::connect) does, over a stream that the caller has connected: one
    /// through a proxy, a Unix socket, [`tokio::io::duplex`]. The client's name in EHLO is `localhost` then, unless
    /// [`config`](Self::config) sets another.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), except [`ErrorKind::Unreachable`].
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
                // No mechanism of the application's own is known here.
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
    /// A clone of credentials that is stored here is whole, whatever panicked.
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
