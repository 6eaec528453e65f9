//! A message as it comes.

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

/// Memory is counted in units of so many octets.
pub(super) const UNIT: usize = 16 << 10;

/// How a message is coming along, for whoever has lent the [`Body`] and cannot ask it.
pub(super) struct Course(Mutex<Progress>);

struct Progress {
    stage: Stage,
    /// When this stage has taken too long.
    deadline: Instant,
    /// What is held in memory of the message.
    memory: Option<OwnedSemaphorePermit>,
    /// How many octets have been shown.
    octets: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The client waits for the permission.
    Asked,
    Coming,
    /// All of it has been shown, and it is good.
    Ended,
    /// It will not come to a good end: the stream is broken, or the session has refused the message.
    Over,
    /// There is no memory left for it.
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

    /// Whether whoever waits for more of it waits in vain.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.stage(), Stage::Over | Stage::TooMuch)
    }

    /// Takes as much memory as is needed in all; `false` where there is none left.
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

/// A message as it comes, without the dots that SMTP adds. Lines end in CRLF. Also an [`AsyncRead`], whose end is that of
/// [`next`](Self::next).
///
/// The end of the body is the good end of the message. Where the message has none, the methods never return, and the future
/// that waits for them [is dropped](super::Handler::data). So there is no error to forget, and half a message cannot be taken
/// for a whole one.
pub struct Body<'a> {
    wire: &'a mut Wire,
    course: &'a Course,
    limits: &'a Limits,
    memory: &'a Arc<Semaphore>,
    /// Whether a piece is pending, and how much of it has been taken.
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

    /// The next piece, of some kilobytes at most. `None` is the end of a message that is whole and good. The first call
    /// tells the client to send. Nothing is lost if the future is dropped before it is ready.
    pub async fn next(&mut self) -> Option<&[u8]> {
        if !poll_fn(|cx| self.poll_piece(cx)).await {
            return None;
        }
        Some(self.take())
    }

    /// The rest of the message, in memory. The size is bounded by
    /// [`max_message`](smtp_auth::server::Builder::max_message), and for all connections together by [`Limits::memory`]: where
    /// that is used up, the client gets a `452`, and this method does not return. What has been read is lost if the future is
    /// dropped before it is ready.
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

    /// What is left of the pending piece; it is taken by that.
    fn take(&mut self) -> &[u8] {
        let taken = self.pending.take().unwrap_or_default();
        match self.wire.session.pending() {
            Event::Data(piece) => piece.get(taken..).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Moves on to the next piece, if there is none pending; `false` at the good end. Never ready where that does not come:
    /// whoever polls the handler looks at the course.
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
            // Whoever has lent the body sees the same event, as nothing advances any more.
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
