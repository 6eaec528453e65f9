//! Mechanisms of the host's own, on a server.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::{any::Any, fmt};

use super::Serial;
use crate::{
    sasl::{Failure, Mechanism},
    secret::SecretBytes,
};

/// How many responses a mechanism may take: more than any registered one needs.
const MAX_RESPONSES: u8 = 20;

/// *What does the host's own mechanism say to this response?*
///
/// The host answers at once, by [`step_with`](Self::step_with) and a [`ServerMechanism`], or later,
/// with what it needs to go on put in [`state`](Self::state).
pub struct Custom {
    mechanism: Mechanism,
    response: Option<SecretBytes>,
    responses: u8,
    state: Option<Box<dyn Any + Send + Sync>>,
    pub(in crate::sasl) answer: Option<CustomAnswer>,
    pub(super) serial: Serial,
}

impl Custom {
    pub(in crate::sasl) fn new(mechanism: Mechanism, response: Option<SecretBytes>) -> Self {
        Self {
            mechanism,
            response,
            responses: 0,
            state: None,
            answer: None,
            serial: Serial::default(),
        }
    }

    /// The same for the next question; nothing is left here.
    pub(in crate::sasl) fn take(&mut self) -> Self {
        Self {
            mechanism: self.mechanism,
            response: self.response.take(),
            responses: self.responses,
            state: self.state.take(),
            answer: None,
            serial: Serial::default(),
        }
    }

    /// What the next question of the exchange is about: the client's next response.
    pub(in crate::sasl) fn next(&mut self, response: SecretBytes) -> Result<(), Failure> {
        if self.responses >= MAX_RESPONSES {
            return Err(Failure::Malformed("the exchange does not come to an end"));
        }
        self.response = Some(response);
        self.responses += 1;
        Ok(())
    }

    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// What the client sent: at first the initial response, which may be absent.
    pub fn response(&self) -> Option<&[u8]> {
        self.response.as_ref().map(SecretBytes::as_slice)
    }

    /// A place for what the host has to remember from step to step of this exchange; empty at first,
    /// dropped with the exchange.
    pub fn state(&mut self) -> &mut Option<Box<dyn Any + Send + Sync>> {
        &mut self.state
    }

    /// Has a mechanism take the step. `make` makes it at the first one; it lives in
    /// [`state`](Self::state). What it says is still to be [given](Self::answer), once.
    pub fn step_with<M: ServerMechanism>(&mut self, make: impl FnOnce() -> M) -> CustomAnswer {
        let Self { state, response, .. } = self;
        let made = state.take().and_then(|state| state.downcast().ok());
        let mut mechanism: Box<M> = made.unwrap_or_else(|| Box::new(make()));
        let answer = mechanism.step(response.as_ref().map(SecretBytes::as_slice));
        *state = Some(mechanism);
        answer
    }

    /// Answers the question; a second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<CustomAnswer>) {
        self.answer = Some(answer.into());
    }
}

/// What the host keeps may be secret.
impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom")
            .field("mechanism", &self.mechanism)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// What a mechanism of the application's own says to a response.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a mechanism goes on, succeeds, or fails")]
pub enum CustomAnswer {
    /// It goes on with this challenge.
    Challenge(Vec<u8>),
    /// The client is proven to be `authcid`. Where it wants to act as another,
    /// [`Authorize`](super::Authorize) asks for that; an `authzid` that is the `authcid` is as none. What
    /// the server has to prove in its turn goes before, as a challenge.
    Accept {
        /// The account.
        authcid: String,
        /// The account to act as, if the client named one, as it was sent.
        authzid: Option<String>,
    },
    /// It fails: for this reason, which settles the reply, and whether it counts as an attempt
    /// ([`is_attempt`](Failure::is_attempt)): wrong credentials are
    /// [`Failure::Rejected`].
    Fail(Failure),
}

/// A challenge may hold a proof.
impl fmt::Debug for CustomAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Challenge(_) => f.write_str("Challenge(***)"),
            Self::Accept { authcid, authzid } => f
                .debug_struct("Accept")
                .field("authcid", authcid)
                .field("authzid", authzid)
                .finish(),
            Self::Fail(failure) => f.debug_tuple("Fail").field(failure).finish(),
        }
    }
}

/// A mechanism of the host's own that can answer at once; one value for each exchange.
///
/// ```
/// use std::sync::Arc;
/// use smtp_auth::sasl::{
///     Channel, Custom, CustomAnswer, Authenticator, Failure, Mechanism, ServerMechanism, server,
/// };
///
/// const TICKET: Mechanism = match Mechanism::custom("X-TICKET") {
///     Ok(own) => own,
///     Err(_) => panic!("not a mechanism's name"),
/// };
///
/// struct Ticket;
///
/// impl ServerMechanism for Ticket {
///     fn step(&mut self, response: Option<&[u8]>) -> CustomAnswer {
///         match response {
///             None => CustomAnswer::Challenge(Vec::new()),
///             Some(b"ticket 17") => CustomAnswer::Accept { authcid: "tim".into(), authzid: None },
///             Some(_) => CustomAnswer::Fail(Failure::Rejected),
///         }
///     }
/// }
///
/// struct Tickets;
///
/// impl Authenticator for Tickets {
///     fn mechanisms(&self) -> &[Mechanism] {
///         &[TICKET]
///     }
///
///     fn custom(&self, ask: &mut Custom) -> CustomAnswer {
///         ask.step_with(|| Ticket)
///     }
/// }
///
/// let config = server::Config::builder("mail.example.org").answered_by(&Tickets).build()?;
/// let initial = Some(b"ticket 17".to_vec());
/// let mut exchange = server::Exchange::new(&Arc::new(config), &Channel::tls(), TICKET, initial);
/// if let server::Step::Query(query) = exchange.step() {
///     query.answer_with(&Tickets);
/// }
/// assert!(matches!(exchange.step(), server::Step::Done(Ok(who)) if who.authcid() == "tim"));
/// # Ok::<(), smtp_auth::sasl::ConfigError>(())
/// ```
pub trait ServerMechanism: Send + Sync + 'static {
    /// What to say to a response. At first it is the initial response, which may be absent: a
    /// mechanism that begins with a challenge fails with [`Failure::UnexpectedInitialResponse`]
    /// where it is not, any other says an empty challenge where it is.
    fn step(&mut self, response: Option<&[u8]>) -> CustomAnswer;
}
