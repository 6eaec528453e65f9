//! A stream with an output buffer and a timer for the peer.

use std::{
    future::{Future, poll_fn},
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use smtp_auth::server;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, empty},
    time::{Instant, Sleep, sleep_until, timeout},
};

use crate::{server::Opening, stream::BoxStream};

/// The number of octets of commands and replies, and of a message, that are read at once.
pub(crate) const COMMANDS: usize = 4 << 10;
const MESSAGE: usize = 16 << 10;

/// The limits of closing a connection: the time for the last output, and then the time and the number of octets for
/// which input is read and dropped. If a socket is closed with unread input, TCP sends a reset, and the peer may lose
/// the last output.
const CLOSE: Duration = Duration::from_secs(5);
pub(crate) const MAX_CLOSE: Duration = Duration::from_secs(2 * CLOSE.as_secs());
const LINGER: u64 = 1 << 20;

const TAKES_NOTHING: &str = "the peer does not read what is sent to it";

/// A receiver of the peer's octets, which is the session of a server or of a client.
pub(crate) trait Receive {
    /// Returns how many octets to read at once.
    fn room(&self) -> usize;

    /// See [`server::Session::receive_with`].
    fn receive_with<E>(
        &mut self,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E>;
}

impl Receive for server::Session {
    fn room(&self) -> usize {
        if self.in_transaction() { MESSAGE } else { COMMANDS }
    }

    fn receive_with<E>(
        &mut self,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.receive_with(room, read)
    }
}

pub(crate) struct Link {
    stream: BoxStream,
    /// The pending output, and the number of its octets that have been sent.
    pub(crate) out: Vec<u8>,
    sent: usize,
    /// The timer is boxed, because a `Sleep` must not be moved after it has been polled, but the link is moved.
    timer: Pin<Box<Sleep>>,
    armed: bool,
    /// The result of examining the first octets of the connection.
    opening: Opening,
}

impl Link {
    pub(crate) fn new(stream: BoxStream) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        let opening = Opening::default();
        Self { stream, out: Vec::new(), sent: 0, timer, armed: false, opening }
    }

    /// Takes the stream out to start TLS on it.
    pub(crate) fn take(&mut self) -> BoxStream {
        mem::replace(&mut self.stream, Box::new(empty()))
    }

    pub(crate) fn put(&mut self, stream: BoxStream) {
        self.stream = stream;
        // A PROXY header inside TLS could come only from a proxy that is unaware of TLS.
        self.opening = Opening::Other;
    }

    /// Closes the stream and drops pending output.
    pub(crate) fn cut_off(&mut self) {
        drop(self.take());
        (self.out, self.sent) = (Vec::new(), 0);
    }

    /// Notes that the peer has done what was expected. The timer starts again with the next
    /// [`poll_fill`](Self::poll_fill) or [`poll_both`](Self::poll_both).
    pub(crate) fn restart_timer(&mut self) {
        self.armed = false;
    }

    /// Starts the timer, unless it is running.
    fn arm(&mut self, until: Instant) {
        if !mem::replace(&mut self.armed, true) {
            self.timer.as_mut().reset(until);
        }
    }

    /// Sends pending output, then passes received octets to the session.
    ///
    /// # Errors
    /// - `InvalidData` if the peer sends a PROXY header
    /// - `TimedOut` if the peer has sent nothing by `until`; a new `until` takes effect only when the timer is
    ///   restarted
    /// - `ConnectionAborted` if by then the peer has not even received the pending output
    /// - `UnexpectedEof` at the end of the stream
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut impl Receive,
        until: Instant,
    ) -> Poll<io::Result<()>> {
        self.arm(until);
        let polled = match self.poll_send(cx) {
            Poll::Ready(Ok(())) => self.poll_read(cx, session),
            other => other,
        };
        if polled.is_pending() && self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(match self.out.is_empty() {
                true => io::ErrorKind::TimedOut.into(),
                // The peer would not receive a final reply either.
                false => io::Error::new(io::ErrorKind::ConnectionAborted, TAKES_NOTHING),
            }));
        }
        polled
    }

    /// Sends and receives at the same time, so that the peer's octets are read while output is still pending. Ready
    /// once something has been received. This takes precedence over a failed write, because the peer may have sent the
    /// reason for the failure.
    ///
    /// # Errors
    /// Returns the errors of [`poll_fill`](Self::poll_fill), except that a timeout is always `TimedOut`.
    pub(crate) fn poll_both(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut impl Receive,
        until: Instant,
    ) -> Poll<io::Result<()>> {
        self.arm(until);
        let sent = self.poll_send(cx);
        if let Poll::Ready(read) = self.poll_read(cx, session) {
            return Poll::Ready(read);
        }
        if let Poll::Ready(Err(error)) = sent {
            return Poll::Ready(Err(error));
        }
        self.timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Passes received octets to the session.
    ///
    /// # Errors
    /// - `InvalidData` if the peer sends a PROXY header
    /// - `UnexpectedEof` at the end of the stream
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut impl Receive,
    ) -> Poll<io::Result<()>> {
        let room = session.room();
        // If nothing has been received, the session frees the buffer, so an idle connection has none.
        let read = session.receive_with(room, |room| {
            let mut room = ReadBuf::new(room);
            match Pin::new(&mut self.stream).poll_read(cx, &mut room) {
                Poll::Ready(Ok(())) => {
                    self.opening.look(room.filled());
                    Ok(room.filled().len())
                }
                Poll::Ready(Err(error)) => Err(Some(error)),
                Poll::Pending => Err(None),
            }
        });
        match read {
            // A TLS stream that ends without close_notify also returns UnexpectedEof. SMTP does not need close_notify,
            // because commands and messages mark their own ends.
            Ok(0) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) if self.opening == Opening::Header => Poll::Ready(Err(Opening::error())),
            Ok(_) => Poll::Ready(Ok(())),
            Err(Some(error)) => Poll::Ready(Err(error)),
            Err(None) => Poll::Pending,
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest @ [_, ..]) = self.out.get(self.sent..) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.sent = 0;
        // Frees the memory as well, so an idle connection has no buffer.
        self.out = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Sends pending output.
    ///
    /// # Errors
    /// Returns `TimedOut` if the peer does not receive it within the limit.
    pub(crate) async fn send(&mut self, limit: Duration) -> io::Result<()> {
        timeout(limit, poll_fn(|cx| self.poll_send(cx))).await?
    }

    pub(crate) async fn pause(&mut self, time: Duration) {
        self.restart_timer();
        self.timer.as_mut().reset(Instant::now() + time);
        self.timer.as_mut().await;
    }

    /// Shuts down the sending side of the stream.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Sends the pending output and shuts down the sending side. Then reads and drops the peer's input until the peer
    /// closes the connection or a limit is reached. If the output ends with a `221` reply, the peer has sent QUIT, and
    /// input is read only if some has already arrived.
    ///
    /// # Errors
    /// Fails if the pending output could not be sent.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        let last_line = self.out.trim_ascii_end().rsplit(|octet| *octet == b'\n').next();
        let has_quit = last_line.is_some_and(|line| line.starts_with(b"221 "));
        self.send(CLOSE).await?;
        let linger = async {
            self.stream.shutdown().await?;
            let mut rest = (&mut self.stream).take(LINGER);
            let mut dropped = [0; 1 << 10];
            if has_quit {
                let mut room = ReadBuf::new(&mut dropped);
                let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut rest).poll_read(cx, &mut room)));
                if first.await.is_pending() {
                    return Ok(());
                }
            }
            while rest.read(&mut dropped).await? > 0 {}
            io::Result::Ok(())
        };
        // The output has been sent, so errors from here on do not matter.
        let _ = timeout(CLOSE, linger).await;
        Ok(())
    }
}
