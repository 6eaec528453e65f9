//! A pool of connections.

use std::{
    collections::VecDeque,
    fmt,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use smtp_auth::client::Envelope;
use tokio::{
    io::{AsyncBufRead, AsyncRead, BufReader},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Client, Connector, Error, ErrorKind, LONGEST, Sent, connection::of_message, write::PART,
};

/// A pool of connections to one server. The pool keeps its connections open and reuses them for later messages.
///
/// Clones share their connections. Set [`connections`](Self::connections), [`waiting`](Self::waiting) and
/// [`idle`](Self::idle) before you clone a pool. Changing a setting on a clone has these effects:
///
/// | setting | effect on a clone |
/// | --- | --- |
/// | [`connections`](Self::connections) | The clone no longer shares connections with the original. It starts without any connections, and its limit applies only to its own connections. |
/// | [`waiting`](Self::waiting) | The value applies only to messages sent through this clone. |
/// | [`idle`](Self::idle) | All clones share one value. If different values are set on different clones, it is unspecified which value is used. |
///
/// The pool checks each connection before reusing it, because a server may close a connection at any time. If the
/// connection has been closed, the pool sends the message over another one. **If the end of a message may have been
/// sent, the pool never sends the message again.** If the connection breaks before the reply arrives,
/// [`Error::delivery`] is [`Delivery::Unknown`](super::Delivery::Unknown).
///
/// **If an error is not [transient](Error::is_transient) and its [stage](Error::stage) is
/// [`Stage::Auth`](super::Stage::Auth), stop sending.** In this case, either the server has permanently refused the
/// credentials, or something else prevents authentication with this server. For example, the client and the server have
/// no mechanism in common, or the server could not prove its identity. If the application continues to send, the pool
/// tries the credentials again for each message. Servers lock out clients after repeated failed attempts. A transient
/// error, such as a `454` reply, may resolve itself.
///
/// If the future that [`send`](Self::send) returns is dropped before it completes, the pool closes the connection that
/// this future was using. The pool may then open a new connection in its place.
///
/// ```no_run
/// use smtp_auth_tokio::client::{Connector, Credentials, Envelope, Pool};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let tim = Credentials::password("tim@example.org", "tanstaaftanstaaf")?;
/// let pool = Pool::new(Connector::starttls("mail.example.org").credentials(tim)).connections(8);
///
/// let envelope = Envelope::new(Some("tim@example.org"), ["ann@example.net"])?;
/// let sent = pool.send(&envelope, b"Subject: Hello\r\n\r\nHi\r\n").await?;
/// println!("{}", sent.reply);
///
/// pool.close().await; // at the end of the program
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    connector: Arc<Connector>,
    shared: Arc<Shared>,
    connections: u32,
    waiting: Duration,
    idle: Duration,
}

struct Shared {
    /// One permit for each connection that may be in use. The holder of a permit can take an idle connection or open a
    /// new one.
    places: Arc<Semaphore>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The idle connections, the one that has been idle longest first.
    idle: VecDeque<Idle>,
    /// The task that closes idle connections, while there are any.
    closing: Option<AbortHandle>,
}

struct Idle {
    client: Client,
    since: Instant,
}

impl Pool {
    /// Creates a pool of at most 4 connections. Each connection is kept for 60 seconds after its last message, and a
    /// message waits up to 60 seconds for a free connection.
    pub fn new(connector: Connector) -> Self {
        let (connections, second) = (4, Duration::from_secs(1));
        Self {
            connector: Arc::new(connector),
            shared: Arc::new(Shared::new(connections)),
            connections,
            waiting: 60 * second,
            idle: 60 * second,
        }
    }

    /// Sets the maximum number of simultaneous connections, from 1 to 65,535. Values outside this range are clamped.
    /// Many servers allow each client only ten or twenty connections.
    ///
    /// The pool then starts without connections, and no longer shares connections with its clones.
    #[must_use]
    pub fn connections(mut self, most: u32) -> Self {
        self.connections = most.clamp(1, u32::from(u16::MAX));
        self.shared = Arc::new(Shared::new(self.connections));
        self
    }

    /// Sets how long a message may wait for a free connection. If no connection becomes free in this time, sending the
    /// message fails with [`ErrorKind::NoFreeConnection`]. The time spent on connecting and sending does not count.
    #[must_use]
    pub fn waiting(mut self, limit: Duration) -> Self {
        self.waiting = limit.min(LONGEST);
        self
    }

    /// Sets how long an unused connection is kept before the pool closes it with QUIT. Servers should keep an idle
    /// connection open for at least five minutes (RFC 5321 §4.5.3.2.7).
    #[must_use]
    pub fn idle(mut self, limit: Duration) -> Self {
        self.idle = limit.min(LONGEST);
        self
    }

    /// Sends a message over one of the pool's connections. [`Client::send`] describes the message and the result.
    ///
    /// # Errors
    /// Returns the same errors as [`Client::send`] and [`Connector::connect`], and also [`ErrorKind::NoFreeConnection`]
    /// and [`ErrorKind::PoolClosed`].
    pub async fn send(&self, envelope: &Envelope, message: &[u8]) -> Result<Sent, Error> {
        self.transfer(&of_message(envelope, message), pin!(message)).await
    }

    /// Sends a message over one of the pool's connections while reading the message. [`Client::send_from`] describes
    /// the message and the envelope.
    ///
    /// # Errors
    /// Returns the same errors as [`send`](Self::send), and also [`ErrorKind::Read`] if the message cannot be read.
    pub async fn send_from(
        &self,
        envelope: &Envelope,
        message: impl AsyncRead + Send,
    ) -> Result<Sent, Error> {
        self.transfer(envelope, pin!(BufReader::with_capacity(PART, message))).await
    }

    async fn transfer(
        &self,
        envelope: &Envelope,
        mut message: Pin<&mut (dyn AsyncBufRead + Send)>,
    ) -> Result<Sent, Error> {
        let place = self.place().await?;
        // The loop ends because each repetition uses up an idle connection.
        loop {
            let idle = self.shared.take();
            let was_idle = idle.is_some();
            let mut client = match idle {
                Some(client) => client,
                None => self.connector.connect().await?,
            };
            let sent = client.transfer(envelope, message.as_mut()).await;
            match &sent {
                // No part of the message has been read yet.
                Err(error) if was_idle && error.wants_another_connection() => client.quit().await,
                _ => {
                    self.put(client);
                    drop(place);
                    return sent;
                }
            }
        }
    }

    /// Waits until the messages in progress have been sent, then closes all connections with QUIT. This also closes all
    /// clones of the pool. Messages sent after this call fail with [`ErrorKind::PoolClosed`].
    ///
    /// This method has no time limit of its own. To set one, use [`tokio::time::timeout`]. If the future is dropped
    /// while messages are being sent, the pool stays open. If a pool and all its clones are dropped without a call to
    /// this method, their connections are closed without QUIT.
    pub async fn close(&self) {
        // This fails only if the pool has already been closed.
        let all = self.shared.places.acquire_many(self.connections).await;
        self.shared.places.close();
        drop(all);
        // All are taken out first, so that none stays open if this future is dropped from here on.
        let idle: Vec<_> = std::iter::from_fn(|| self.shared.take()).collect();
        for client in idle {
            client.quit().await;
        }
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        let place = Arc::clone(&self.shared.places).acquire_owned();
        match timeout(self.waiting, place).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(Error::new(ErrorKind::PoolClosed)),
            Err(_) => Err(Error::new(ErrorKind::NoFreeConnection(self.waiting))),
        }
    }

    /// Keeps the connection if it can be used again.
    fn put(&self, mut client: Client) {
        if !client.is_open() {
            return;
        }
        let mut kept = self.shared.lock();
        kept.idle.push_back(Idle { client, since: Instant::now() });
        if kept.closing.as_ref().is_none_or(AbortHandle::is_finished) {
            let (shared, places) = (Arc::downgrade(&self.shared), &self.shared.places);
            let closing = tokio::spawn(close_idle(shared, Arc::clone(places), self.idle));
            kept.closing = Some(closing.abort_handle());
        }
    }
}

impl Shared {
    fn new(connections: u32) -> Self {
        let places = Semaphore::new(usize::try_from(connections).unwrap_or(usize::MAX >> 3));
        Self { places: Arc::new(places), kept: Mutex::default() }
    }

    /// Takes the most recently used idle connection that appears to be usable.
    fn take(&self) -> Option<Client> {
        let mut kept = self.lock();
        std::iter::from_fn(|| kept.idle.pop_back())
            .map(|idle| idle.client)
            .find_map(|mut client| client.is_open().then_some(client))
    }

    /// Returns the time at which to close the connection that has been idle longest. If no connection is idle, this
    /// records that the closing task ends.
    fn next_to_close(&self, limit: Duration) -> Option<Instant> {
        let mut kept = self.lock();
        let oldest = kept.idle.front().map(|idle| idle.since + limit);
        if oldest.is_none() {
            kept.closing = None;
        }
        oldest
    }

    /// Takes the connection that has been idle longest, if it has reached the limit.
    fn take_oldest(&self, limit: Duration) -> Option<Client> {
        let mut kept = self.lock();
        kept.idle.front().filter(|idle| idle.since + limit <= Instant::now())?;
        kept.idle.pop_front().map(|idle| idle.client)
    }

    /// Ignores poisoning: no code that holds this lock leaves a change incomplete.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(closing) = &self.closing {
            closing.abort();
        }
    }
}

/// Closes connections that have been idle for the given time, until no idle connection is left.
async fn close_idle(shared: Weak<Shared>, places: Arc<Semaphore>, limit: Duration) {
    while let Some(until) = shared.upgrade().and_then(|shared| shared.next_to_close(limit)) {
        sleep_until(until).await;
        // A connection counts towards the maximum until it has been closed.
        let Ok(_place) = places.acquire().await else { return };
        let oldest = shared.upgrade().and_then(|shared| shared.take_oldest(limit));
        if let Some(client) = oldest {
            client.quit().await;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("connector", &self.connector)
            .field("connections", &self.connections)
            .field("waiting", &self.waiting)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}
