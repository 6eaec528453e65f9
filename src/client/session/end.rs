//! How a session ends that the server does not go on with.

use core::mem;

use super::{Error, Next, Peer, Refusal, Session, State, sign_in::unanswered};
use crate::{
    auth::client as auth,
    client::{AuthError, Stage, Tls, sending::Sending},
};

impl Session {
    /// The server has closed the connection. To be called at [`Event::NeedInput`](super::Event::NeedInput),
    /// when all that was received has been looked at.
    ///
    /// Where the outcome of a message is known, that is shown first, by the next [`advance`](Self::advance).
    ///
    /// # Errors
    /// [`Error::Disconnected`] where that is no good end, or the refusal that came before; [`Error::Closed`] where
    /// nothing of a message has been taken.
    pub fn eof(&mut self) -> Result<(), Error> {
        self.ended(Error::Disconnected(self.state.stage()))
    }

    /// The server has been silent for as long as the caller waits (RFC 5321 §4.5.3.2 has how long that
    /// should be). To be called at [`Event::NeedInput`](super::Event::NeedInput); then close the
    /// connection.
    ///
    /// # Errors
    /// [`Error::TimedOut`], which says what was waited for; or the refusal that came before. After QUIT
    /// there is none, as nothing is lost.
    pub fn timed_out(&mut self) -> Result<(), Error> {
        let greeting = matches!(self.state, State::Greeting);
        let may_want_tls = greeting && !self.channel.is_tls() && self.config.tls != Tls::Never;
        self.ended(Error::TimedOut { stage: self.state.stage(), may_want_tls })
    }

    /// Nothing more comes: what was lost by that, or what is worse.
    fn ended(&mut self, lost: Error) -> Result<(), Error> {
        let stage = self.state.stage();
        let or_lost = |refusal: Option<Refusal>, lost| refusal.map_or(lost, Error::Refused);
        let state = match mem::replace(&mut self.state, State::Closed) {
            // What has become of the message is known, and is to be shown first.
            State::Rset(sending, refusal) => {
                let outcome = |sending: Sending| sending.refused_by(refusal);
                self.state = self.sent(*sending, outcome, Peer::Gone(None));
                return Ok(());
            }
            state => state,
        };
        let error = match &state {
            // Nothing is lost if the server does not wait for its reply to QUIT to be read.
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
            // Nor here, as the server has taken nothing.
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
            // Nothing is lost: whoever keeps connections opens another one.
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
        // Who is silent has not answered wrongly yet.
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
                // Servers close the connection on whoever tries again.
                let refused = self.tries.refused.clone().filter(|_| closed);
                unanswered.or(refused.map(Error::NotAuthenticated)).unwrap_or(lost)
            }
        }
    }
}
