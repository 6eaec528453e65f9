//! A session and its stream.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use smtp_auth::{Advance, Reply, server::Session};
use tokio::time::Instant;

use crate::link::Link;

const LASTED_TOO_LONG: Reply = Reply::constant("421 4.4.2 Connected for too long, closing");

/// A session and its stream. It does not depend on the handler, so that a [`Body`](super::Body) has no type parameter.
pub(super) struct Wire {
    pub(super) session: Session,
    pub(super) link: Link,
    /// The error that the stream has met while a [`Body`](super::Body) borrowed it.
    pub(super) broken: Option<io::Error>,
    /// The time at which the connection must end.
    pub(super) end: Instant,
}

impl Wire {
    /// Advances the session. The client's time limit restarts when a whole command or piece has arrived. An incomplete
    /// line does not extend the limit.
    pub(super) fn advance(&mut self) -> Advance {
        // Replies that the client has not received yet do not restart the timer.
        let before = self.link.out.len();
        let advance = self.session.advance(&mut self.link.out);
        if advance == Advance::Event || self.link.out.len() > before {
            self.link.restart_timer();
        }
        advance
    }

    /// Sends the pending output, then receives some octets. See [`Link::poll_fill`].
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        until: Instant,
    ) -> Poll<io::Result<()>> {
        self.link.poll_fill(cx, &mut self.session, until.min(self.end))
    }

    /// Sends and receives like [`poll_fill`](Self::poll_fill), and closes the session if the client takes too long.
    pub(super) async fn fill(&mut self, until: Instant) -> io::Result<()> {
        // Also ends a connection whose client never stops sending.
        if self.is_over() {
            self.say_too_long();
            return Ok(());
        }
        match poll_fn(|cx| self.poll_fill(cx, until)).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                self.say_too_long();
                Ok(())
            }
            other => other,
        }
    }

    /// Closes the session with a `421`, because the client has taken too long.
    pub(super) fn say_too_long(&mut self) {
        let reply = if self.is_over() { LASTED_TOO_LONG } else { Reply::IDLE };
        self.close(&reply);
    }

    /// Closes the session with this reply.
    pub(super) fn close(&mut self, reply: &Reply) {
        self.session.close(reply, &mut self.link.out);
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}
