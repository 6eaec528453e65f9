//! The limits on connections, time and memory.

use std::time::Duration;

use smtp_auth::server::MAX_PAUSE;

/// The limits of a server on connections, time and memory, against denial of service.
///
/// [`Server::limits`](super::Server::limits) sets them. The defaults suit a server with some thousands of users. A time
/// of more than a year counts as a year, so [`Duration::MAX`] disables a limit in practice.
///
/// ```
/// use std::time::Duration;
/// use smtp_auth_tokio::server::Limits;
///
/// let limits = Limits::default().connections(2_000).idle(Duration::from_secs(120));
/// ```
///
/// The [`Config`](super::Config) has the limits of a single session:
///
/// | limit | method |
/// | --- | --- |
/// | size of a message | [`max_message`](smtp_auth::server::Builder::max_message) |
/// | recipients of a message | [`max_recipients`](smtp_auth::server::Builder::max_recipients) |
/// | failed attempts to authenticate | [`max_attempts`](smtp_auth::server::Builder::max_attempts) |
/// | commands before the client has authenticated | [`max_commands`](smtp_auth::server::Builder::max_commands) |
///
/// A [`RateLimiter`](crate::RateLimiter) limits failed authentication across connections.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Limits {
    pub(super) connections: usize,
    pub(super) connections_each: usize,
    pub(super) handshake: Duration,
    pub(super) authentication: Duration,
    pub(super) connection: Duration,
    pub(super) pause: Duration,
    pub(super) idle: Duration,
    pub(super) query: Duration,
    pub(super) command: Duration,
    pub(super) message: Duration,
    pub(super) finish: Duration,
    pub(super) grace: Duration,
    pub(super) memory: usize,
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty;)*) => {
        impl Limits {
            $($(#[doc = $doc])*
            pub fn $name(mut self, limit: $type) -> Self {
                self.$name = limit.bounded();
                self
            })*
        }
    };
}

/// A year: practically no limit, and still short enough to add to every `Instant`.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

trait Bounded {
    fn bounded(self) -> Self;
}

impl Bounded for usize {
    fn bounded(self) -> Self {
        self
    }
}

impl Bounded for Duration {
    fn bounded(self) -> Self {
        self.min(LONGEST)
    }
}

limits! {
    /// Sets the number of connections that may be open at once. A connection above the limit gets a `421`, or on a port
    /// with TLS from the first octet is closed without a reply. Default: 10,000.
    connections: usize;
    /// Sets the number of connections that may be open at once from one IPv4 address, or from one /64 of IPv6. A
    /// connection above the limit ends as described for [`connections`](Self::connections). Behind a
    /// [proxy](super::Server::proxies), the client's address counts. Default: 100.
    connections_each: usize;
    /// Sets how long a TLS handshake may take, and how long a proxy may take to send its header. After that, the
    /// connection is closed without a reply. Default: 30 seconds.
    handshake: Duration;
    /// Sets how long a client may take from the start of the connection, TLS included, until it has authenticated.
    /// After that, it gets a `421`. A guest, by ANONYMOUS, counts as not authenticated. The limit does not apply if the
    /// configuration [allows mail without authentication](smtp_auth::server::Builder::allow_unauthenticated). Default:
    /// 3 minutes.
    authentication: Duration;
    /// Sets how long a connection may last in all. After that, the client gets a `421`. If a message has arrived whole
    /// by then, its reply comes first. Default: 1 day.
    connection: Duration;
    /// Sets the longest delay of the reply to a failed attempt to authenticate. The delay is one second for the first
    /// failure in a connection, and doubles with each further one. Without a delay, as in tests, a brute-force attack
    /// is as fast as the store. Default: 16 seconds ([`MAX_PAUSE`](smtp_auth::server::MAX_PAUSE)), which is also the
    /// maximum.
    pause: Duration;
    /// Sets how long a client may take to send its next whole command, or the next octets of a message. After that, it
    /// gets a `421`. The time in which the client receives the previous reply is included. Default: 5 minutes (RFC 5321
    /// §4.5.3.2.7).
    idle: Duration;
    /// Sets how long the authenticator may take for one answer. After that, the client gets a `454`. Default: 30
    /// seconds.
    query: Duration;
    /// Sets how long the handler may take for a new connection or a command, and after DATA until it first reads the
    /// message. After that, the client gets a `451`. Default: 1 minute. Clients wait 2 minutes after DATA, and 5
    /// minutes otherwise (RFC 5321 §4.5.3.2).
    command: Duration;
    /// Sets how long the transfer of a message may take, from the `354` to its end. After that, the client gets a
    /// `421`. A message of 50 MiB takes 55 minutes at 128 kbit/s. Default: 1 hour.
    message: Duration;
    /// Sets how long the handler may take after the end of a message. After that, the client gets a `451`. Default: 5
    /// minutes. Clients wait 10 minutes (RFC 5321 §4.5.3.2.6).
    finish: Duration;
    /// Sets how long a [shutdown](super::Server::shutdown) waits for transactions to finish. After that, it ends them
    /// with a `421`. Default: 30 seconds.
    grace: Duration;
    /// Sets how many octets of messages [`Body::read_all`](super::Body::read_all) may hold for all connections
    /// together, in units of 16 KiB. A message for which there is no room gets a `452`. Default: 256 MiB.
    memory: usize;
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connections: 10_000,
            connections_each: 100,
            handshake: seconds(30),
            authentication: seconds(180),
            connection: seconds(24 * 3600),
            pause: MAX_PAUSE,
            idle: seconds(300),
            query: seconds(30),
            command: seconds(60),
            message: seconds(3600),
            finish: seconds(300),
            grace: seconds(30),
            memory: 256 << 20,
        }
    }
}
