//! Authentication: the choice of mechanisms, and what happens after a failure.

use alloc::{boxed::Box, vec::Vec};

use super::{Asked, Error, Peer, Progress, Session, State, quit};
use crate::{
    auth::client as auth,
    client::{AuthError, Retry, Stage, TryNext},
    reply::{Reply, ReplyRef},
    sasl::{
        Mechanism,
        client::{Failure as Why, NoMechanism},
    },
    secret::Secret,
};

/// A failed authentication, and the application's answer to it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: AuthError,
    pub(super) mechanism: Option<Mechanism>,
    /// Whether another mechanism may be tried with the same credentials.
    may_try_next: bool,
    pub(super) answer: Option<Retry>,
}

impl Failed {
    /// Creates a failure after which no mechanism is left to try.
    fn without_more(error: AuthError) -> Box<Self> {
        Box::new(Self { error, mechanism: None, may_try_next: false, answer: None })
    }
}

/// The exchanges that have failed with the current credentials.
#[derive(Debug, Default)]
pub(super) struct Tries {
    mechanisms: Vec<Mechanism>,
    /// The reason why the last of these exchanges failed.
    pub(super) refused: Option<AuthError>,
}

impl Tries {
    pub(super) fn add(&mut self, mechanism: Mechanism, refused: AuthError) {
        self.mechanisms.push(mechanism);
        self.refused = Some(refused);
    }
}

impl Session {
    /// Begins an exchange with the best mechanism that is left.
    pub(super) fn sign_in(&mut self) -> State {
        let Some(credentials) = &self.credentials else { return State::READY };
        let sasl = &self.config.sasl;
        let offered = self.extensions.mechanisms().unwrap_or_default();
        match sasl.choose_among(offered, &self.tries.mechanisms, Some(credentials), &self.channel) {
            Ok(mechanism) => {
                let mut exchange =
                    auth::Exchange::new(sasl, &self.channel, mechanism, credentials.clone());
                if !self.config.initial_response {
                    exchange = exchange.without_initial_response();
                }
                if self.config.lenient_challenges {
                    exchange = exchange.lenient_challenges();
                }
                State::Auth(Box::new(exchange))
            }
            Err(none) => {
                let none = match none {
                    NoMechanism::InCommon | NoMechanism::OtherCredentials
                        if self.extensions.offers("STARTTLS") && !self.channel.is_tls() =>
                    {
                        NoMechanism::OnlyAfterTls
                    }
                    NoMechanism::InCommon if self.extensions.mechanisms().is_none() => {
                        NoMechanism::NotOffered
                    }
                    none => none,
                };
                let error = self.tries.refused.clone().unwrap_or(AuthError::NoMechanism(none));
                State::NotAuthenticated(Failed::without_more(error))
            }
        }
    }

    /// Advances an exchange.
    pub(super) fn exchange(
        &mut self,
        mut exchange: Box<auth::Exchange>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        let mark = out.len();
        let failure = match exchange.step(out) {
            auth::Step::Derive(_) | auth::Step::Custom(_) => {
                return Ok(Progress::Wait(State::Auth(exchange)));
            }
            // The loop first traces the new output and checks that no reply has come too early.
            auth::Step::NeedReply(_) if out.len() > mark => {
                return Ok(Progress::Go(State::Auth(exchange)));
            }
            auth::Step::NeedReply(_) => return self.reply_to_auth(exchange),
            auth::Step::Done(Ok(())) => {
                self.authenticated = Some(exchange.mechanism());
                return Ok(Progress::Go(State::READY));
            }
            auth::Step::Done(Err(failure)) => failure.clone(),
        };
        let may_try_next = failure.may_try_next();
        let another = self.tries_another(&failure, exchange.token_error().is_some());
        let mechanism = exchange.mechanism();
        let error = self.not_signed_in(&exchange, failure)?;
        Ok(Progress::Go(if another {
            self.tries.add(mechanism, error);
            self.sign_in()
        } else {
            let mechanism = Some(mechanism);
            let failed = Failed { error, mechanism, may_try_next, answer: None };
            State::NotAuthenticated(Box::new(failed))
        }))
    }

    /// Carries out the application's answer to a failed authentication.
    pub(super) fn settled(
        &mut self,
        Failed { error, mechanism, may_try_next, answer }: Failed,
        out: &mut Vec<u8>,
    ) -> Result<State, Error> {
        let closed = error.closing().cloned();
        Ok(match (answer, mechanism) {
            (Some(Retry::With(_)), _) if closed.is_some() => {
                return Err(Error::NotAuthenticated(error));
            }
            (Some(Retry::With(credentials)), _) => {
                self.credentials = Some(*credentials);
                self.tries = Tries::default();
                self.sign_in()
            }
            (Some(Retry::Next), Some(mechanism)) if may_try_next => {
                self.tries.add(mechanism, error);
                self.sign_in()
            }
            (Some(Retry::Next), Some(_)) => State::NotAuthenticated(Failed::without_more(error)),
            (Some(Retry::GoOn), _) => {
                State::Ready(None, closed.map_or(Peer::There, |said| Peer::Gone(Some(said))))
            }
            (Some(Retry::Next | Retry::Quit), _) => quit(out),
            (None, _) => {
                let failed = Failed { error, mechanism, may_try_next, answer: None };
                State::NotAuthenticated(Box::new(failed))
            }
        })
    }

    /// Passes the next reply to the exchange, if it has been received.
    fn reply_to_auth(&mut self, mut exchange: Box<auth::Exchange>) -> Result<Progress, Error> {
        match self.next_reply(Stage::Auth, Some(&exchange), Asked::Yes) {
            Ok(true) => {}
            Ok(false) => return Ok(Progress::Wait(State::Auth(exchange))),
            Err(error) => return Err(unanswered(&exchange).unwrap_or(error)),
        }
        let Ok(reply) = ReplyRef::parse(self.lines.shown()) else {
            return Err(unanswered(&exchange).unwrap_or(Error::NotAReply(Stage::Auth)));
        };
        if let Some(auth::Step::NeedReply(need)) = exchange.pending() {
            need.reply(reply);
        }
        if reply.codes_differ() {
            if let Some(auth::Step::Done(Err(failure))) = exchange.pending() {
                let failure = failure.clone();
                return Err(Error::NotAuthenticated(self.not_signed_in(&exchange, failure)?));
            }
        }
        Ok(Progress::Go(State::Auth(exchange)))
    }

    /// Converts the failure of an exchange into the error that the application has to answer.
    ///
    /// # Errors
    /// Returns the error that ends the session, if the application cannot continue.
    fn not_signed_in(
        &self,
        exchange: &auth::Exchange,
        failure: auth::Failure,
    ) -> Result<AuthError, Error> {
        match failure {
            auth::Failure::Refused { reply, after_proof, .. } => {
                let token_error = exchange.token_error().map(Into::into);
                Ok(self.refused_auth(exchange.mechanism(), reply, token_error, after_proof))
            }
            auth::Failure::Cancelled { why: Why::ServerNotAuthentic, .. }
            | auth::Failure::FalseSuccess(Why::ServerNotAuthentic) => {
                Err(Error::ServerNotAuthentic)
            }
            auth::Failure::Cancelled { why, reply, .. } => {
                let refused = !reply.is_positive();
                let error = AuthError::Cancelled(why, Some(reply));
                if refused { Ok(error) } else { Err(Error::NotAuthenticated(error)) }
            }
            auth::Failure::FalseSuccess(_) => Err(Error::EarlySuccess),
            auth::Failure::NotAllowed(why) => Ok(AuthError::NotBegun(why)),
            auth::Failure::UnexpectedReply(reply) => {
                Err(Error::UnexpectedReply(Stage::Auth, reply))
            }
        }
    }

    /// Returns the error for a refusal of the token or of other credentials.
    pub(super) fn refused_auth(
        &self,
        mechanism: Mechanism,
        reply: Reply,
        token_error: Option<Secret>,
        after_proof: bool,
    ) -> AuthError {
        if token_error.is_some() || mechanism.takes_token() && reply.code() == 535 {
            AuthError::TokenRefused { reply: Some(reply), token_error }
        } else {
            // A verified certificate proves the server's identity as well.
            let is_unproven = after_proof && !self.channel.is_verified();
            AuthError::Refused(self.refusal(Stage::Auth, reply).unproven(is_unproven))
        }
    }

    /// Returns whether the next mechanism is tried without asking the application.
    fn tries_another(&self, failure: &auth::Failure, token_refused: bool) -> bool {
        let policy = self.config.try_next;
        let another = match failure {
            // The server does not support the mechanism, or does not allow it for this account.
            auth::Failure::Refused { reply, .. } => match reply.code() {
                504 | 534 => policy != TryNext::Never,
                // A wrong password stays wrong, and each attempt may bring the account closer to being locked.
                535 => policy == TryNext::Always,
                _ => false,
            },
            // The client did not understand the challenge. A refused token stays refused.
            auth::Failure::Cancelled { .. } => policy != TryNext::Never && !token_refused,
            _ => false,
        };
        let tries = self.tries.mechanisms.len().saturating_add(1);
        another
            && failure.may_try_next()
            && tries < usize::try_from(self.config.max_tries).unwrap_or(usize::MAX)
    }
}

/// Returns a more specific error for a missing or unreadable reply, if the state of the exchange allows one.
pub(super) fn unanswered(exchange: &auth::Exchange) -> Option<Error> {
    match exchange.cancelled() {
        Some(Why::ServerNotAuthentic) => Some(Error::ServerNotAuthentic),
        Some(why) => Some(Error::NotAuthenticated(AuthError::Cancelled(why, None))),
        None => exchange.awaits_proof().then_some(Error::ServerNotAuthentic),
    }
}
