//! A session that is kept: what it begins when nothing is under way.

use alloc::{boxed::Box, vec::Vec};

use super::{Session, State, quit};
use crate::{
    client::{
        Next, Outcome, Ready,
        sending::{Sending, say},
    },
    reply::Reply,
};

impl Session {
    /// The handle to begin something, if nothing is under way: at [`Event::Ready`](super::Event::Ready), and after
    /// [`Event::Sent`](super::Event::Sent), which this passes. No buffer is needed, as nothing is written; the next
    /// [`advance`](Self::advance) does. `None` at any other time, and once the handle has been used.
    ///
    /// What the server has said meanwhile is looked at by the next [`advance`](Self::advance): after a `421` that is
    /// [`Error::Closed`](super::Error::Closed), and nothing of the message has been sent.
    pub fn ready(&mut self) -> Option<&mut Ready> {
        if let State::Sent(_, closed) = &mut self.state {
            self.state = State::Ready(Ready { next: None, closed: closed.take() });
        }
        match &mut self.state {
            State::Ready(ready) if ready.next.is_none() => Some(ready),
            _ => None,
        }
    }

    /// Does what the caller says to do next.
    pub(super) fn begin(&mut self, next: Next, out: &mut Vec<u8>) -> State {
        match next {
            Next::Noop => {
                say(out, &["NOOP"]);
                State::Noop
            }
            Next::Reset => {
                say(out, &["RSET"]);
                State::Reset
            }
            Next::Send(envelope) => {
                let Self { extensions, channel, used, .. } = self;
                match Sending::begin(envelope, extensions, channel, used, out) {
                    Ok(sending) => State::Envelope(Box::new(sending)),
                    Err(outcome) => State::Sent(outcome, None),
                }
            }
            Next::Quit => quit(out),
        }
    }

    /// A message has come to its end.
    pub(super) fn sent(
        &mut self,
        sending: Sending,
        outcome: impl FnOnce(Sending) -> Outcome,
        closed: Option<Reply>,
    ) -> State {
        self.used.told(sending.told(), self.extensions.limits());
        State::Sent(outcome(sending), closed)
    }
}
