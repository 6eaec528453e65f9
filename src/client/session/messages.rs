//! Sending messages, and the commands NOOP, RSET and QUIT.

use alloc::{boxed::Box, vec::Vec};

use super::{Error, Peer, Session, Shown, State, quit};
use crate::{
    client::{
        Body, Next, Outcome, Ready, RecipientStatus, Stage,
        error::{MAX_KEPT_TEXT, closes},
        sending::{Sending, say},
    },
    reply::ReplyRef,
};

impl Session {
    /// Returns the handle for starting a message or sending another command, if the session is idle.
    ///
    /// The session is idle at [`Event::Ready`](super::Event::Ready). It is also idle at
    /// [`Event::Sent`](super::Event::Sent), once that event has been returned. In this case, a call of this method
    /// moves the session on to [`Event::Ready`](super::Event::Ready), which replaces the notification. At any other
    /// time, and after the handle has been used, this method returns `None`.
    ///
    /// The next [`advance`](Self::advance) writes the command, so this method needs no buffer. `advance` also checks
    /// what the server has sent in the meantime. If the server has sent a `421`, `advance` returns
    /// [`Error::Closed`](super::Error::Closed), and no part of the message has been sent.
    pub fn ready(&mut self) -> Option<Ready<'_>> {
        if let State::Sent(_, peer, Shown(true)) = &self.state {
            self.state = State::Ready(None, peer.clone());
        }
        match &mut self.state {
            State::Ready(next @ None, _) => Some(Ready { next, extensions: &self.extensions }),
            _ => None,
        }
    }

    /// Begins what the application has chosen to do next.
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
                    Err(outcome) => State::Sent(Box::new(outcome), Peer::There, Shown(false)),
                }
            }
            Next::Quit => quit(out),
        }
    }

    /// Processes a reply to NOOP, RSET or a command of a mail transaction.
    pub(super) fn replied_in_mail(
        &mut self,
        state: State,
        reply: ReplyRef<'_>,
        out: &mut Vec<u8>,
    ) -> Result<State, Error> {
        let stage = state.stage();
        let peer = || match closes(reply.code()) {
            true => Peer::Gone(Some(reply.to_reply())),
            false => Peer::There,
        };
        let refusal = |own: &Self| own.refusal(stage, reply.to_reply());
        Ok(match (state, reply.code()) {
            // The server is there, even if it does not implement the command. A `4xx` means that it closes the
            // connection, which it would have done without the command as well.
            (State::Noop | State::Reset, 200..=299 | 500..) => State::READY,
            (State::Noop | State::Reset, 400..) => {
                return Err(Error::Closed(Some(reply.to_reply())));
            }
            // The server has accepted nothing of the message. It may have closed the connection long before MAIL.
            (State::Envelope(_), code) if closes(code) && stage == Stage::Mail => {
                return Err(Error::Closed(Some(reply.to_reply())));
            }
            // This reply is not about the recipient, and no other reply will come.
            (State::Envelope(sending), code) if closes(code) => {
                let refusal = refusal(self);
                self.sent(*sending, |sending| sending.refused_by(refusal), peer())
            }
            (State::Envelope(mut sending), code @ (200..=299 | 400..)) => {
                let reply = match stage {
                    // MAIL has only one reply, so its whole text is kept.
                    Stage::Mail => reply.to_reply(),
                    _ => reply.to_reply().shortened(MAX_KEPT_TEXT),
                };
                let is_refused = sending.answered(match code {
                    400.. => RecipientStatus::Refused(self.refusal(stage, reply)),
                    _ => RecipientStatus::Accepted(reply),
                });
                if is_refused { State::Refused(sending) } else { State::Envelope(sending) }
            }
            (State::Data(sending), 354) => State::Message(sending, Body::START),
            (State::Data(sending), code @ 400..) if !closes(code) => {
                say(out, &["RSET"]);
                State::Rset(sending, refusal(self))
            }
            (State::Data(sending) | State::End(sending), 400..) => {
                let refusal = refusal(self);
                self.sent(*sending, |sending| sending.refused_by(refusal), peer())
            }
            (State::End(sending), 200..=299) => {
                self.sent(*sending, |sending| sending.accepted(reply.to_reply()), Peer::There)
            }
            (State::Rset(sending, refusal), 200..=299 | 400..) => {
                self.sent(*sending, |sending| sending.refused_by(refusal), peer())
            }
            _ => return Err(Error::UnexpectedReply(stage, reply.to_reply())),
        })
    }

    /// Ends a message with its outcome.
    pub(super) fn sent(
        &mut self,
        sending: Sending,
        outcome: impl FnOnce(Sending) -> Outcome,
        peer: Peer,
    ) -> State {
        self.used.told(sending.told(), self.extensions.limits());
        State::Sent(Box::new(outcome(sending)), peer, Shown(false))
    }
}
