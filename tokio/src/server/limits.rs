//! The limits on connections, time and memory.

use std::time::Duration;

use smtp_auth::server::MAX_PAUSE;

/// A server's limits on connections, time and memory, which protect it against denial of service.
///
/// To set them, call [`Server::limits`](super::Server::limits). The defaults suit a server with a few thousand users. A
/// duration longer than one year counts as one year, so [`Duration::MAX`] effectively disables a time limit.
///
/// ```
/// use std::time::Duration;
/// use smtp_auth_tokio::server::Limits;
///
/// let limits = Limits::default().connections(2_000).idle(Duration::from_secs(120));
/// ```
///
/// The [`Config`](super::Config) sets the limits of a single session:
///
/// | limit | method |
/// | --- | --- |
/// | the size of a message | [`max_message`](smtp_auth::server::Builder::max_message) |
/// | the number of recipients of a message | [`max_recipients`](smtp_auth::server::Builder::max_recipients) |
/// | the number of failed attempts to authenticate | [`max_attempts`](smtp_auth::server::Builder::max_attempts) |
/// | the number of commands that a client may send before it has authenticated | [`max_commands`](smtp_auth::server::Builder::max_commands) |
///
/// A [`RateLimiter`](crate::RateLimiter) limits the number of failed authentication attempts across all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// One year, which is effectively no limit but is short enough to add to any `Instant` without overflow.
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
    /// Sets the maximum number of connections that may be open at once. If a new connection exceeds the limit, the
    /// client gets a `421`. On a port with TLS from the first octet, the connection is closed without a reply. Default:
    /// 10,000.
    connections: usize;
    /// Sets the maximum number of connections that may be open at once from one IPv4 address or one IPv6 /64. If a new
    /// connection exceeds the limit, the client gets a `421`. On a port with TLS from the first octet, the connection
    /// is closed without a reply. Behind a [proxy](super::Server::proxies), the address in the PROXY header counts, not
    /// the address of the proxy. Default: 100.
    connections_each: usize;
    /// Sets how long a TLS handshake may take, and how long a proxy may take to send its header. After that, the
    /// connection is closed without a reply. Default: 30 seconds.
    handshake: Duration;
    /// Sets how long a client may take to authenticate, counted from the start of the connection and including TLS.
    /// After that, the client gets a `421`. A guest (ANONYMOUS) counts as not authenticated. The limit does not apply
    /// if the configuration [allows mail without authentication](smtp_auth::server::Builder::allow_unauthenticated).
    /// Default: 3 minutes.
    authentication: Duration;
    /// Sets how long a connection may last in total. After that, the client gets a `421`. If a complete message has
    /// arrived by then, the client first gets the reply to it. Default: 1 day.
    connection: Duration;
    /// Sets the maximum delay before the reply to a failed attempt to authenticate. The delay is one second for the
    /// first failure in a connection, and doubles with each further failure. A maximum of zero disables the delay, for
    /// example in tests. Without the delay, only the speed of the store slows down a brute-force attack. Default: 16
    /// seconds ([`MAX_PAUSE`](smtp_auth::server::MAX_PAUSE)). A longer maximum has no effect.
    pause: Duration;
    /// Sets how long a client may take to receive the previous reply and to send its next complete command, or the next
    /// octets of a message. After that, the client gets a `421`. Default: 5 minutes (RFC 5321 §4.5.3.2.7).
    idle: Duration;
    /// Sets how long the authenticator may take for one answer. After that, the client gets a `454`. Default: 30
    /// seconds.
    query: Duration;
    /// Sets how long the handler may take for each of these operations: accepting a connection, answering a command,
    /// and beginning to read the message after DATA. After that, the client gets a `451`. Default: 1 minute. Clients
    /// wait 2 minutes for the reply to DATA, and 5 minutes for the reply to any other command (RFC 5321 §4.5.3.2).
    command: Duration;
    /// Sets how long the transfer of a message may take, from the `354` to the end of the message. After that, the
    /// client gets a `421`. For example, the transfer of a 50 MiB message takes 55 minutes at 128 kbit/s. Default: 1
    /// hour.
    message: Duration;
    /// Sets how long the handler may take to reply after the end of a message. After that, the client gets a `451`.
    /// Default: 5 minutes. Clients wait 10 minutes for this reply (RFC 5321 §4.5.3.2.6).
    finish: Duration;
    /// Sets how long a [shutdown](super::Server::shutdown) waits for transactions to finish. After that, the server
    /// ends them with a `421`. Default: 30 seconds.
    grace: Duration;
    /// Sets how many octets of memory [`Body::read_all`](super::Body::read_all) may use for the messages of all
    /// connections together. Memory is counted in units of 16 KiB. If not enough memory is left for a message, the
    /// client gets a `452`. Default: 256 MiB.
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
