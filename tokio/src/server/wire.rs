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

/// A session and its stream: nothing of the handler's, so that a [`Body`](super::Body) has no type parameter.
pub(super) struct Wire {
    pub(super) session: Session,
    pub(super) link: Link,
    /// What has happened to the stream while a [`Body`](super::Body) had it.
    pub(super) broken: Option<io::Error>,
    /// When the connection has lasted too long.
    pub(super) end: Instant,
}

impl Wire {
    /// Moves the session on. The client's time begins anew where it has done something whole: octets of a line that does
    /// not end are no reason to wait longer.
    pub(super) fn advance(&mut self) -> Advance {
        // Replies that it has not taken yet are nothing new.
        let before = self.link.out.len();
        let advance = self.session.advance(&mut self.link.out);
        if advance == Advance::Event || self.link.out.len() > before {
            self.link.restart_timer();
        }
        advance
    }

    /// Sends what is to be sent, then receives something: see [`Link::poll_fill`].
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        until: Instant,
    ) -> Poll<io::Result<()>> {
        self.link.poll_fill(cx, &mut self.session, until.min(self.end))
    }

    /// The same; the session is closed where the client takes too long.
    pub(super) async fn fill(&mut self, until: Instant) -> io::Result<()> {
        // A client that never ceases to send is not waited for.
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

    /// Closes the session, as the client has taken too long.
    pub(super) fn say_too_long(&mut self) {
        let reply = if self.is_over() { LASTED_TOO_LONG } else { Reply::IDLE };
        self.close(&reply);
    }

    /// Closes the session with these words.
    pub(super) fn close(&mut self, reply: &Reply) {
        self.session.close(reply, &mut self.link.out);
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}
