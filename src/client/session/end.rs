//! The end of a session when the server closes the connection or does not reply in time.

use core::mem;

use super::{Error, Next, Peer, Refusal, Session, State, sign_in::unanswered};
use crate::{
    auth::client as auth,
    client::{AuthError, Stage, Tls, sending::Sending},
};

impl Session {
    /// Reports that the server has closed the connection. Call this method at
    /// [`Event::NeedInput`](super::Event::NeedInput), when the session has processed everything that was received.
    ///
    /// If the outcome of a message is known at this point, the next [`advance`](Self::advance) returns the outcome
    /// first. After QUIT, this method succeeds, because nothing is lost.
    ///
    /// # Errors
    /// - [`Error::Closed`] if the session was idle, or if the server had not accepted any part of a message.
    /// - [`Error::Refused`] if the server sent a refusal before it closed the connection.
    /// - [`Error::NotAuthenticated`] if authentication had failed.
    /// - [`Error::ServerNotAuthentic`] if the client was waiting for the server's SCRAM proof.
    /// - [`Error::Disconnected`] otherwise.
    pub fn eof(&mut self) -> Result<(), Error> {
        self.ended(Error::Disconnected(self.state.stage()))
    }

    /// Reports that the server has sent nothing for the time that [`timeout`](Self::timeout) returned (RFC 5321
    /// §4.5.3.2). Call this method at [`Event::NeedInput`](super::Event::NeedInput), and then close the connection.
    ///
    /// # Errors
    /// Returns [`Error::TimedOut`] with the stage, or the error for a refusal that the server sent earlier. After QUIT,
    /// this method succeeds, because nothing is lost.
    pub fn timed_out(&mut self) -> Result<(), Error> {
        let greeting = matches!(self.state, State::Greeting);
        let may_want_tls = greeting && !self.channel.is_tls() && self.config.tls != Tls::Never;
        self.ended(Error::TimedOut { stage: self.state.stage(), may_want_tls })
    }

    /// Ends the session with the error `lost`, or with a more specific one.
    fn ended(&mut self, lost: Error) -> Result<(), Error> {
        let stage = self.state.stage();
        let or_lost = |refusal: Option<Refusal>, lost| refusal.map_or(lost, Error::Refused);
        let state = match mem::replace(&mut self.state, State::Closed) {
            // The outcome of the message is known, and the caller has to see it first.
            State::Rset(sending, refusal) => {
                let outcome = |sending: Sending| sending.refused_by(refusal);
                self.state = self.sent(*sending, outcome, Peer::Gone(None));
                return Ok(());
            }
            state => state,
        };
        let error = match &state {
            // Nothing is lost if the server closes the connection without a reply to QUIT.
            State::Closed | State::Quit => return Ok(()),
            State::Broken(error) => error.clone(),
            State::NotAuthenticated(failed) => Error::NotAuthenticated(failed.error.clone()),
            State::Auth(exchange) => self.ended_in_auth(exchange, lost),
            State::Ready(_, peer) | State::Sent(_, peer, _) => match peer.clone() {
                Peer::There => self.at_rest().err().unwrap_or(Error::Closed(None)),
                Peer::Gone(said) => Error::Closed(said),
            },
            State::Beginning(Next::Quit) => return Ok(()),
            State::Beginning(_) => self.at_rest().err().unwrap_or(Error::Closed(None)),
            // Nothing is lost, because the server has accepted nothing of the message.
            State::Envelope(_)
                if stage == Stage::Mail && matches!(lost, Error::Disconnected(_)) =>
            {
                let said = self.pending_refusal(stage, None);
                Error::Closed(said.map(Refusal::into_reply))
            }
            State::Envelope(sending) => match sending.refused() {
                None => or_lost(self.pending_refusal(stage, None), lost),
                refusal => or_lost(refusal, lost),
            },
            // Nothing is lost, because the application can open another connection.
            State::Noop | State::Reset if matches!(lost, Error::Disconnected(_)) => {
                let said = self.pending_refusal(stage, None);
                Error::Closed(said.map(Refusal::into_reply))
            }
            _ => or_lost(self.pending_refusal(stage, None), lost),
        };
        self.state = State::Broken(error.clone());
        Err(error)
    }

    fn ended_in_auth(&mut self, exchange: &auth::Exchange, lost: Error) -> Error {
        let (mechanism, cancelled) = (exchange.mechanism(), exchange.cancelled().is_some());
        let token_error = exchange.token_error().map(Into::into);
        // If the server is only silent, it has not failed to prove its identity yet.
        let closed = matches!(lost, Error::Disconnected(_));
        let unanswered = unanswered(exchange).filter(|_| cancelled || closed);
        match (self.pending_refusal(Stage::Auth, Some(exchange)), token_error) {
            (Some(refusal), token_error) if !cancelled => {
                let reply = refusal.into_reply();
                let after_proof = exchange.awaits_proof();
                Error::NotAuthenticated(self.refused_auth(
                    mechanism,
                    reply,
                    token_error,
                    after_proof,
                ))
            }
            (_, token_error @ Some(_)) => {
                Error::NotAuthenticated(AuthError::TokenRefused { reply: None, token_error })
            }
            (_, None) => {
                // Some servers close the connection at the second attempt. The first refusal is more informative.
                let refused = self.tries.refused.clone().filter(|_| closed);
                unanswered.or(refused.map(Error::NotAuthenticated)).unwrap_or(lost)
            }
        }
    }
}
