//! How the client signs in: by which mechanism, and what comes after a refusal.

use alloc::{boxed::Box, vec::Vec};

use super::{Error, Progress, Session, State};
use crate::{
    auth::client as auth,
    client::{AuthError, AuthFailed, Step, TryNext},
    reply::{Reply, ReplyRef},
    sasl::{Mechanism, client::NoMechanism},
};

/// The exchanges that came to nothing, with these credentials.
#[derive(Debug, Default)]
pub(super) struct Tries {
    mechanisms: Vec<Mechanism>,
    /// What became of the last of them.
    pub(super) refused: Option<AuthError>,
}

impl Tries {
    pub(super) fn add(&mut self, mechanism: Mechanism, refused: AuthError) {
        self.mechanisms.push(mechanism);
        self.refused = Some(refused);
    }
}

impl Session {
    /// Begins an exchange by the best mechanism left.
    pub(super) fn sign_in(&mut self) -> State {
        let Some(credentials) = &self.credentials else { return State::READY };
        let sasl = &self.config.sasl;
        let offered = |mechanism| {
            let names = self.extensions.mechanisms.as_deref().unwrap_or_default();
            names.contains(&mechanism)
        };
        match sasl.choose_but(&self.tries.mechanisms, credentials, &self.channel, offered) {
            Ok(choice) => {
                let mut exchange =
                    auth::Exchange::new(sasl, &self.channel, choice, credentials.clone());
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
                        if self.extensions.starttls =>
                    {
                        NoMechanism::OnlyAfterTls
                    }
                    NoMechanism::InCommon if self.extensions.mechanisms.is_none() => {
                        NoMechanism::NotOffered
                    }
                    none => none,
                };
                let error = self.tries.refused.clone().unwrap_or(AuthError::NoMechanism(none));
                State::AuthFailed(AuthFailed {
                    error,
                    mechanism: None,
                    may_try_next: false,
                    answer: None,
                })
            }
        }
    }

    /// Goes on with an exchange.
    pub(super) fn exchange(
        &mut self,
        mut exchange: Box<auth::Exchange>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        let (mechanism, mark) = (exchange.mechanism(), out.len());
        let failure = match exchange.step(out) {
            auth::Step::Derive(_) | auth::Step::Challenge(_) => {
                return Ok(Progress::Wait(State::Auth(exchange)));
            }
            // What has been written goes to the trace, and is not answered before it is sent.
            auth::Step::NeedReply(_) if out.len() > mark => {
                return Ok(Progress::Go(State::Auth(exchange)));
            }
            auth::Step::NeedReply(slot) => {
                match self.next_reply(Step::Auth) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Progress::Wait(State::Auth(exchange))),
                    Err(_) if exchange.awaits_proof() => return Err(Error::ServerNotAuthentic),
                    Err(error) => return Err(error),
                }
                return match ReplyRef::parse(self.lines.shown()) {
                    Ok(reply) => {
                        slot.reply(reply);
                        Ok(Progress::Go(State::Auth(exchange)))
                    }
                    Err(_) if exchange.awaits_proof() => Err(Error::ServerNotAuthentic),
                    Err(_) => Err(Error::NotAReply(Step::Auth)),
                };
            }
            auth::Step::Done(Ok(())) => {
                self.authenticated = Some(mechanism);
                return Ok(Progress::Go(State::READY));
            }
            auth::Step::Done(Err(failure)) => failure.clone(),
        };
        let may_try_next = failure.may_try_next();
        let another = self.tries_another(&failure, exchange.token_error().is_some());
        let error = match failure {
            auth::Failure::Refused { reply, .. } => {
                refusal(mechanism, reply, exchange.token_error().map(Into::into))
            }
            failure => match Error::from(failure) {
                Error::NotAuthenticated(error) => error,
                error => return Err(error),
            },
        };
        Ok(Progress::Go(if another {
            self.tries.add(mechanism, error);
            self.sign_in()
        } else {
            State::AuthFailed(AuthFailed {
                error,
                mechanism: Some(mechanism),
                may_try_next,
                answer: None,
            })
        }))
    }

    /// Whether the next mechanism is tried without asking the host.
    fn tries_another(&self, failure: &auth::Failure, token_refused: bool) -> bool {
        let policy = self.config.try_next;
        let another = match failure {
            // The server does not know the mechanism, or does not want it for this account.
            auth::Failure::Refused { reply, .. } => match reply.code() {
                504 | 534 => policy != TryNext::Never,
                // A wrong password stays wrong, and each try may count against the account.
                535 => policy == TryNext::Always,
                _ => false,
            },
            // The server says what cannot be understood. A token that was refused stays so.
            auth::Failure::Cancelled(..) => policy != TryNext::Never && !token_refused,
            _ => false,
        };
        let tries = self.tries.mechanisms.len().saturating_add(1);
        another
            && failure.may_try_next()
            && tries < usize::try_from(self.config.max_tries).unwrap_or(usize::MAX)
    }
}

/// A refusal, by what was refused.
pub(super) fn refusal(
    mechanism: Mechanism,
    reply: Reply,
    token_error: Option<Box<str>>,
) -> AuthError {
    if token_error.is_some() || mechanism.takes_token() && reply.code() == 535 {
        AuthError::TokenRefused { reply: Some(reply), token_error }
    } else {
        AuthError::Refused(reply)
    }
}
