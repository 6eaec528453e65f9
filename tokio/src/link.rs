//! A stream with the octets that are to be sent over it, and the time that the peer may take.

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

/// How many octets are read at once: of commands and replies, and of a message.
pub(crate) const COMMANDS: usize = 4 << 10;
const MESSAGE: usize = 16 << 10;

/// How long the last words may take, and how long and for how many octets a peer is listened to after them. Where a socket
/// is closed while octets lie unread, its peer may lose what was sent to it last.
const CLOSE: Duration = Duration::from_secs(5);
pub(crate) const MAX_CLOSE: Duration = Duration::from_secs(2 * CLOSE.as_secs());
const LINGER: u64 = 1 << 20;

const TAKES_NOTHING: &str = "the peer does not take what it is sent";

/// What the peer's octets are for: a session of either side.
pub(crate) trait Receive {
    /// How many octets are read at once.
    fn room(&self) -> usize;

    /// As [`server::Session::receive_with`].
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
    /// What is to be sent, and how far it has been.
    pub(crate) out: Vec<u8>,
    sent: usize,
    /// Boxed, as it may not move and the link does.
    timer: Pin<Box<Sleep>>,
    armed: bool,
    /// What the connection has begun with.
    opening: Opening,
}

impl Link {
    pub(crate) fn new(stream: BoxStream) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        let opening = Opening::default();
        Self { stream, out: Vec::new(), sent: 0, timer, armed: false, opening }
    }

    /// Takes the stream out, for TLS to begin on it.
    pub(crate) fn take(&mut self) -> BoxStream {
        mem::replace(&mut self.stream, Box::new(empty()))
    }

    pub(crate) fn put(&mut self, stream: BoxStream) {
        self.stream = stream;
        // Only a proxy that does not know of TLS would begin here.
        self.opening = Opening::Other;
    }

    /// Closes the stream without another word.
    pub(crate) fn cut_off(&mut self) {
        drop(self.take());
        (self.out, self.sent) = (Vec::new(), 0);
    }

    /// The peer has done what was awaited. From the next [`poll_fill`](Self::poll_fill) on it has time anew.
    pub(crate) fn restart_timer(&mut self) {
        self.armed = false;
    }

    /// Starts the timer, unless it runs.
    fn arm(&mut self, until: Instant) {
        if !mem::replace(&mut self.armed, true) {
            self.timer.as_mut().reset(until);
        }
    }

    /// Sends what is to be sent, then hands the session some octets of the peer.
    ///
    /// # Errors
    /// `InvalidData` where it sends a PROXY header; `TimedOut` where the peer has not sent anything by `until`, which counts
    /// only when the timer restarts; `ConnectionAborted` where it has not even taken what it was sent; `UnexpectedEof` at the
    /// end of the stream.
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
                // It would not take last words either.
                false => io::Error::new(io::ErrorKind::ConnectionAborted, TAKES_NOTHING),
            }));
        }
        polled
    }

    /// Sends and receives at once, so that the peer is heard while this side still writes. Ready where something has come,
    /// which counts before a stream that takes nothing any more: it may say why.
    ///
    /// # Errors
    /// As [`poll_fill`](Self::poll_fill).
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

    /// Hands the session some octets of the peer.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut impl Receive,
    ) -> Poll<io::Result<()>> {
        let room = session.room();
        // Where nothing has come, the session gives the room back: an idle connection has no buffer.
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
            // TLS that ends without close_notify is an UnexpectedEof of its own. SMTP does not need it: commands and
            // messages have an end of their own.
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
        // The memory too: an idle connection holds none.
        self.out = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Sends what is to be sent.
    ///
    /// # Errors
    /// `TimedOut` where the peer does not take it in that time.
    pub(crate) async fn send(&mut self, limit: Duration) -> io::Result<()> {
        timeout(limit, poll_fn(|cx| self.poll_send(cx))).await?
    }

    pub(crate) async fn pause(&mut self, time: Duration) {
        self.restart_timer();
        self.timer.as_mut().reset(Instant::now() + time);
        self.timer.as_mut().await;
    }

    /// Says that nothing more is sent.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Sends the last words, says that they are the last, and drops what the peer still sends until it closes, too, or
    /// has had its time. A peer that is told `221` has said QUIT: it is listened to only where it has sent more by then.
    ///
    /// # Errors
    /// The last words could not be sent.
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
        // The last words are out; nothing depends on the rest.
        let _ = timeout(CLOSE, linger).await;
        Ok(())
    }
}
