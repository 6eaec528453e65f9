//! How a session ends that the server does not go on with.

use core::mem;

use super::{Error, Refusal, Session, State, sign_in::unanswered};
use crate::{
    auth::client as auth,
    client::{AuthError, Stage, Tls},
};

impl Session {
    /// The server has closed the connection. To be called at [`Event::NeedInput`](super::Event::NeedInput),
    /// when all that was received has been looked at.
    ///
    /// # Errors
    /// [`Error::Disconnected`] where that is no good end, or the refusal that came before.
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
        let state = mem::replace(&mut self.state, State::Closed);
        let error = match &state {
            // Nothing is lost if the server does not wait for its reply to QUIT to be read.
            State::Closed | State::Quit => return Ok(()),
            State::Broken(error) => error.clone(),
            State::NotAuthenticated(failed) => Error::NotAuthenticated(failed.error.clone()),
            State::Auth(exchange) => self.ended_in_auth(exchange, lost),
            State::Ready(_, closed) | State::Sent(_, closed) => match closed.clone() {
                None => self.at_rest().err().unwrap_or(Error::Closed(None)),
                closed => Error::Closed(closed),
            },
            State::Envelope(sending) => match sending.refused() {
                None => or_lost(self.pending_refusal(stage, None), lost),
                refusal => or_lost(refusal, lost),
            },
            // Nothing is lost: whoever keeps connections opens another one.
            State::Noop | State::Reset if matches!(lost, Error::Disconnected(_)) => {
                let said = self.pending_refusal(stage, None);
                Error::Closed(said.map(Refusal::into_reply))
            }
            State::Rset(_, refusal) => Error::Refused(refusal.clone()),
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
