//! Connections that are kept.

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

/// Connections to one server that are kept for later messages.
///
/// Clones share the connections. Set [`connections`](Self::connections), [`waiting`](Self::waiting) and
/// [`idle`](Self::idle) before you clone a pool. A setting that is changed on a clone has these effects:
///
/// | setting | on a clone |
/// | --- | --- |
/// | [`connections`](Self::connections) | this clone shares no more: it has connections of its own, so many at most, and none at first |
/// | [`waiting`](Self::waiting) | holds for messages that are sent by this clone |
/// | [`idle`](Self::idle) | not specified: one of the clones' values holds for all of them |
///
/// The pool checks a connection before it uses it again. If the server has closed the connection, as it may at any time,
/// the message goes over another one. **A message is never sent again once its end may have been sent**: if the
/// connection breaks between that and the reply, [`Error::delivery`] is [`Delivery::Unknown`](super::Delivery::Unknown).
///
/// **Stop at the first error whose [stage](Error::stage) is [`Stage::Auth`](super::Stage::Auth) and that is not
/// [transient](Error::is_transient)**: the server has refused the credentials for good. The pool tries them again for each
/// message, and servers lock out clients that go on. A transient error, such as a `454`, may go away by itself.
///
/// If a future of [`send`](Self::send) is dropped, its connection is closed, and another may take its place.
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
    /// One for each connection that is in use, or could be. Whoever has one may take an idle connection, or make another.
    places: Arc<Semaphore>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The idle ones; those that have been idle for longest come first.
    idle: VecDeque<Idle>,
    /// What closes them, while there are any.
    closing: Option<AbortHandle>,
}

struct Idle {
    client: Client,
    since: Instant,
}

impl Pool {
    /// A pool of at most 4 connections, each of which is kept for 60 seconds after its last message. A message waits for
    /// a connection for up to 60 seconds.
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

    /// The most connections at once: 1 to 65,535. 0 is taken as 1, and a greater number as 65,535. Many servers allow each
    /// client ten or twenty.
    ///
    /// The pool begins anew with no connection: it does not share those of its clones any more.
    #[must_use]
    pub fn connections(mut self, most: u32) -> Self {
        self.connections = most.clamp(1, u32::from(u16::MAX));
        self.shared = Arc::new(Shared::new(self.connections));
        self
    }

    /// The longest time that a message waits for a free connection. After it the message fails with
    /// [`ErrorKind::NoFreeConnection`]. The time to connect and to send does not count.
    #[must_use]
    pub fn waiting(mut self, limit: Duration) -> Self {
        self.waiting = limit.min(LONGEST);
        self
    }

    /// How long an unused connection is kept before the pool closes it by QUIT. Servers should keep an idle connection for
    /// at least five minutes (RFC 5321 §4.5.3.2.7).
    #[must_use]
    pub fn idle(mut self, limit: Duration) -> Self {
        self.idle = limit.min(LONGEST);
        self
    }

    /// Sends a message, as [`Client::send`].
    ///
    /// # Errors
    /// Those of [`Client::send`] and of [`Connector::connect`]; [`ErrorKind::NoFreeConnection`] and
    /// [`ErrorKind::PoolClosed`].
    pub async fn send(&self, envelope: &Envelope, message: &[u8]) -> Result<Sent, Error> {
        self.transfer(&of_message(envelope, message), pin!(message)).await
    }

    /// Sends a message while it is read, as [`Client::send_from`].
    ///
    /// # Errors
    /// Those of [`send`](Self::send), and [`ErrorKind::Read`].
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
        // Each turn but the last has one idle connection less.
        loop {
            let idle = self.shared.take();
            let was_idle = idle.is_some();
            let mut client = match idle {
                Some(client) => client,
                None => self.connector.connect().await?,
            };
            let sent = client.transfer(envelope, message.as_mut()).await;
            match &sent {
                // Nothing of the message has been asked for.
                Err(error) if was_idle && error.wants_another_connection() => client.quit().await,
                _ => {
                    self.put(client);
                    drop(place);
                    return sent;
                }
            }
        }
    }

    /// Waits for the messages that are being sent, then closes all connections by QUIT, for all clones of the pool. A
    /// message that comes after the call fails with [`ErrorKind::PoolClosed`]. A pool that is dropped without this call,
    /// with all of its clones, closes its connections without QUIT.
    ///
    /// The caller limits the time by [`tokio::time::timeout`]: if the future is dropped while messages are being sent, the
    /// pool stays open.
    pub async fn close(&self) {
        // It is closed already where that fails.
        let all = self.shared.places.acquire_many(self.connections).await;
        self.shared.places.close();
        drop(all);
        // All at once: where this future is dropped from here on, none of them stays.
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

    /// Keeps a connection, if it can be used again.
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

    /// An idle connection that can be used, as far as can be told: the one that was used last.
    fn take(&self) -> Option<Client> {
        let mut kept = self.lock();
        std::iter::from_fn(|| kept.idle.pop_back())
            .map(|idle| idle.client)
            .find_map(|mut client| client.is_open().then_some(client))
    }

    /// When the connection that has been idle for longest is to be closed. Where there is none, nothing is closed any more.
    fn next_to_close(&self, limit: Duration) -> Option<Instant> {
        let mut kept = self.lock();
        let oldest = kept.idle.front().map(|idle| idle.since + limit);
        if oldest.is_none() {
            kept.closing = None;
        }
        oldest
    }

    /// The connection that has been idle for longest, if that is long enough.
    fn take_oldest(&self, limit: Duration) -> Option<Client> {
        let mut kept = self.lock();
        kept.idle.front().filter(|idle| idle.since + limit <= Instant::now())?;
        kept.idle.pop_front().map(|idle| idle.client)
    }

    /// Nothing is half done where this is locked.
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

/// Closes connections that have been idle for that long, until there are none.
async fn close_idle(shared: Weak<Shared>, places: Arc<Semaphore>, limit: Duration) {
    while let Some(until) = shared.upgrade().and_then(|shared| shared.next_to_close(limit)) {
        sleep_until(until).await;
        // A connection that is being closed has a place still.
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
