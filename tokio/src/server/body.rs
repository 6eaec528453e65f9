//! The content of a message, which the handler reads as it arrives.

use std::{
    fmt,
    future::{pending, poll_fn},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use smtp_auth::{Advance, server::Event};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{Limits, handler::by_default, wire::Wire};

/// The unit in which memory is counted, in octets.
pub(super) const UNIT: usize = 16 << 10;

/// The progress of a message. The caller that lent the [`Body`] to the handler reads the progress here, because it
/// cannot access the body.
pub(super) struct Course(Mutex<Progress>);

struct Progress {
    stage: Stage,
    /// The time by which this stage must have ended.
    deadline: Instant,
    /// The memory that is reserved for the message.
    memory: Option<OwnedSemaphorePermit>,
    /// The number of octets that the session has passed on.
    octets: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The client waits for the `354`.
    Asked,
    /// The message is arriving.
    Coming,
    /// The whole message has arrived, and the session accepts it.
    Ended,
    /// The message will not arrive in full, because the stream is broken or the session has refused the message.
    Over,
    /// There is no memory left for the message.
    TooMuch,
}

impl Course {
    pub(super) fn new(limits: &Limits) -> Self {
        let deadline = Instant::now() + limits.command;
        Self(Mutex::new(Progress { stage: Stage::Asked, deadline, memory: None, octets: 0 }))
    }

    pub(super) fn stage(&self) -> Stage {
        self.lock().stage
    }

    pub(super) fn deadline(&self) -> Instant {
        self.lock().deadline
    }

    pub(super) fn octets(&self) -> u64 {
        self.lock().octets
    }

    fn count(&self, piece: &[u8]) {
        let mut progress = self.lock();
        progress.octets =
            progress.octets.saturating_add(piece.len().try_into().unwrap_or(u64::MAX));
    }

    fn go_to(&self, stage: Stage, deadline: Instant) {
        let mut progress = self.lock();
        (progress.stage, progress.deadline) = (stage, deadline);
    }

    fn end_by(&self, stage: Stage) {
        self.lock().stage = stage;
    }

    /// Returns whether the handler would wait forever for the rest of the message.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.stage(), Stage::Over | Stage::TooMuch)
    }

    /// Increases the memory that is reserved for the message to this number of octets. Returns `false` if not enough
    /// memory is left.
    fn hold(&self, memory: &Arc<Semaphore>, octets: usize) -> bool {
        let held = &mut self.lock().memory;
        let have = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = octets.div_ceil(UNIT).saturating_sub(have);
        let Ok(more) = u32::try_from(more) else { return false };
        match (Arc::clone(memory).try_acquire_many_owned(more), held) {
            (Ok(permit), Some(held)) => held.merge(permit),
            (Ok(permit), none) => *none = Some(permit),
            (Err(_), _) => return false,
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The content of a message, which the handler reads as it arrives.
///
/// Lines end in CRLF, and dot-stuffing (RFC 5321 §4.5.2) is removed. A body also implements [`AsyncRead`]. At the end
/// of the message, [`next`](Self::next) returns `None`, and a read returns 0 octets.
///
/// When a body ends, the message is complete. If the message does not arrive in full, the methods of `Body` never
/// return, and the [handler's future is dropped](super::Handler::data). The handler therefore has no error to check,
/// and cannot mistake a partial message for a complete one.
pub struct Body<'a> {
    wire: &'a mut Wire,
    course: &'a Course,
    limits: &'a Limits,
    memory: &'a Arc<Semaphore>,
    /// While a piece is pending, the number of its octets that have been taken.
    pending: Option<usize>,
}

impl<'a> Body<'a> {
    pub(super) fn new(
        wire: &'a mut Wire,
        course: &'a Course,
        limits: &'a Limits,
        memory: &'a Arc<Semaphore>,
    ) -> Self {
        Self { wire, course, limits, memory, pending: None }
    }

    /// Returns the next piece of the message, which is at most a few kilobytes long, or `None` at the end of a complete
    /// message. The first call invites the client to send the message.
    ///
    /// This method is cancel safe. If the future is dropped before it completes, no octets are lost.
    pub async fn next(&mut self) -> Option<&[u8]> {
        if !poll_fn(|cx| self.poll_piece(cx)).await {
            return None;
        }
        Some(self.take())
    }

    /// Reads the rest of the message into memory.
    ///
    /// [`max_message`](smtp_auth::server::Builder::max_message) limits the size of one message, and [`Limits::memory`]
    /// limits the total size of all messages in memory. If the limit on memory is reached, this method does not return,
    /// and the client gets a `452`.
    ///
    /// This method is not cancel safe. If the future is dropped before it completes, the octets that it has read are
    /// lost.
    pub async fn read_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while poll_fn(|cx| self.poll_piece(cx)).await {
            let (course, memory) = (self.course, self.memory);
            let piece = self.take();
            let needed = all.len() + piece.len();
            if needed > all.capacity() {
                let room = needed.max(all.capacity() * 2).max(UNIT);
                if !course.hold(memory, room) {
                    course.end_by(Stage::TooMuch);
                    return pending().await;
                }
                all.reserve_exact(room - all.len());
            }
            all.extend_from_slice(piece);
        }
        all
    }

    /// Takes the rest of the pending piece.
    fn take(&mut self) -> &[u8] {
        let taken = self.pending.take().unwrap_or_default();
        match self.wire.session.pending() {
            Event::Data(piece) => piece.get(taken..).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Moves on to the next piece, unless one is pending. `false` is the end of a complete message. If the message does
    /// not arrive in full, the method is never ready: `transaction::outcome` checks the course after each poll of the
    /// handler.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while self.pending.is_none() {
            match self.course.stage() {
                Stage::Asked | Stage::Coming => ready!(self.poll_move(cx)),
                Stage::Ended => return Poll::Ready(false),
                Stage::Over | Stage::TooMuch => return Poll::Pending,
            }
        }
        Poll::Ready(true)
    }

    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { wire, course, limits, pending, .. } = self;
        if wire.advance() == Advance::NeedInput {
            let now = Instant::now();
            let deadline = course.deadline().min(wire.end);
            match ready!(wire.poll_fill(cx, deadline.min(now + limits.idle))) {
                Ok(()) if now < deadline => wire.link.restart_timer(),
                Ok(()) => wire.say_too_long(),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => wire.say_too_long(),
                Err(error) => {
                    wire.broken = Some(error);
                    course.end_by(Stage::Over);
                }
            }
            return Poll::Ready(());
        }
        match wire.session.pending() {
            Event::StartOfData(permission) => {
                permission.accept();
                course.go_to(Stage::Coming, Instant::now() + limits.message);
            }
            Event::Data(piece) => {
                course.count(piece);
                *pending = Some(0);
            }
            Event::EndOfData(_) => course.go_to(Stage::Ended, Instant::now() + limits.finish),
            // Between the chunks of BDAT.
            Event::Command(command, ask) => ask.reply(by_default(&command)),
            // The caller that lent the body sees the same event, because the session does not advance any further.
            _ => course.end_by(Stage::Over),
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Body<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !ready!(this.poll_piece(cx)) {
            return Poll::Ready(Ok(()));
        }
        let taken = this.pending.unwrap_or_default();
        let rest = this.take();
        let part = rest.get(..buffer.remaining()).unwrap_or(rest);
        buffer.put_slice(part);
        let left = rest.len() - part.len();
        let taken = taken + part.len();
        this.pending = (left > 0).then_some(taken);
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}
