//! How many of each there may be, and how long things may take.

use std::time::Duration;

use smtp_auth::server::MAX_PAUSE;

/// A server's limits on connections, time and memory. The sizes and counts of one session are in the
/// [`Config`](super::Config):
///
/// | | |
/// | --- | --- |
/// | the size of a message | [`max_message`](smtp_auth::server::Builder::max_message) |
/// | recipients of a message | [`max_recipients`](smtp_auth::server::Builder::max_recipients) |
/// | failed attempts to authenticate | [`max_attempts`](smtp_auth::server::Builder::max_attempts) |
/// | commands before the client has authenticated | [`max_commands`](smtp_auth::server::Builder::max_commands) |
///
/// Each limit is given with its default. The defaults are good for a server with some thousands of users. A time of more than
/// a year counts as a year, so [`Duration::MAX`] is no limit.
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

/// A year, which is no limit, and which every clock can add.
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
    /// How many connections there may be in all. A surplus one gets a `421`; on a port with TLS from the first octet it is
    /// closed without a reply. 10,000.
    connections: usize;
    /// How many connections there may be from one IPv4 address, or one /64 of IPv6; a surplus one is ended likewise. Behind
    /// a [proxy](super::Server::proxies) the address is the client's. 100.
    connections_each: usize;
    /// How long a TLS handshake may take, and how long a proxy may take for its header. 30 seconds.
    handshake: Duration;
    /// How long a client may take from the connection until it has authenticated, TLS included; then it gets a `421`. There is
    /// no such limit where it need not authenticate. 3 minutes.
    authentication: Duration;
    /// How long a connection may last in all; then the client gets a `421`, after the reply to a message that has come
    /// whole. One day.
    connection: Duration;
    /// How long the reply to a failed attempt to authenticate is delayed at most: a second for the first in a connection,
    /// then twice as long each time. Without a delay, as in tests, a brute-force attack is as fast as the store. 16 seconds
    /// ([`MAX_PAUSE`](smtp_auth::server::MAX_PAUSE)).
    pause: Duration;
    /// How long a client may take for its next whole command or the next octets of a message, including the time to
    /// take the last reply; then it gets a `421`. 5 minutes (RFC 5321 §4.5.3.2.7).
    idle: Duration;
    /// How long the authenticator may take for one answer; then the client gets a `454`. 30 seconds.
    query: Duration;
    /// How long the handler may take for a new connection, a command, and at DATA until it asks for the message; then the
    /// client gets a `451`. 1 minute; clients wait for 2 minutes at DATA, and for 5 otherwise (RFC 5321 §4.5.3.2).
    command: Duration;
    /// How long a message may take as a whole, from the `354` to its end; then the client gets a `421`. A message of 50 MiB
    /// at 128 kbit/s takes 55 minutes. 1 hour.
    message: Duration;
    /// How long the handler may take after the end of a message; then the client gets a `451`. 5 minutes; clients wait
    /// for 10 (RFC 5321 §4.5.3.2.6).
    finish: Duration;
    /// How long a shutdown waits for messages to end. The others are then cut off with a `421`. 30 seconds.
    grace: Duration;
    /// How many octets [`Body::read_all`](super::Body::read_all) may hold for all connections together; a message for
    /// which there is no room gets a `452`. 256 MiB.
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
