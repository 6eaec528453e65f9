//! Custom mechanisms on a server.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::{any::Any, fmt};

use super::Serial;
use crate::{
    sasl::{Failure, Mechanism},
    secret::SecretBytes,
};

/// The most responses to challenges in one exchange. No registered mechanism needs as many.
const MAX_RESPONSES: u8 = 20;

/// *What is the custom mechanism's answer to this response?*
///
/// To answer at once, the application can implement [`ServerMechanism`] and call [`step_with`](Self::step_with). It can
/// also answer later, and use [`state`](Self::state) to store data between responses. An exchange accepts up to 20
/// responses to challenges. If the client sends more than 20, the exchange fails with [`Failure::Malformed`].
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

    /// Moves everything into the next question of the exchange.
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

    /// Sets the client's next response, which the next question of the exchange is about.
    pub(in crate::sasl) fn next(&mut self, response: SecretBytes) -> Result<(), Failure> {
        if self.responses >= MAX_RESPONSES {
            return Err(Failure::Malformed("the exchange has more than 20 responses"));
        }
        self.response = Some(response);
        self.responses += 1;
        Ok(())
    }

    /// Returns the mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Returns the client's response. In the first question of an exchange, this is the initial response, or `None` if
    /// the client did not send an initial response.
    pub fn response(&self) -> Option<&[u8]> {
        self.response.as_ref().map(SecretBytes::as_slice)
    }

    /// Returns storage in which the application can keep data from one response to the next. The storage is empty at
    /// first, and is dropped with the exchange.
    pub fn state(&mut self) -> &mut Option<Box<dyn Any + Send + Sync>> {
        &mut self.state
    }

    /// Passes the response to a mechanism, and returns the mechanism's answer. Pass this answer to
    /// [`answer`](Self::answer).
    ///
    /// For the first response, `make` creates the mechanism, which is then stored in [`state`](Self::state). Call
    /// this method only once for each question, because every call advances the mechanism.
    pub fn step_with<M: ServerMechanism>(&mut self, make: impl FnOnce() -> M) -> CustomAnswer {
        let Self { state, response, .. } = self;
        let made = state.take().and_then(|state| state.downcast().ok());
        let mut mechanism: Box<M> = made.unwrap_or_else(|| Box::new(make()));
        let answer = mechanism.step(response.as_ref().map(SecretBytes::as_slice));
        *state = Some(mechanism);
        answer
    }

    /// Answers the question. A second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<CustomAnswer>) {
        self.answer = Some(answer.into());
    }
}

/// Omits the state, which may be secret.
impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom")
            .field("mechanism", &self.mechanism)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// A custom mechanism's answer to a response from the client.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a mechanism goes on, succeeds, or fails")]
pub enum CustomAnswer {
    /// The mechanism continues with this challenge.
    Challenge(Vec<u8>),
    /// The client is authenticated as `authcid`. If the server has to prove its identity to the client, send the proof
    /// in a challenge before you give this answer.
    ///
    /// If `authzid` names an account other than `authcid`, [`Authorize`](super::Authorize) asks whether the client
    /// may act as that account.
    Accept {
        /// The authenticated account.
        authcid: String,
        /// The name of the account to act as, exactly as the client sent it. `None` means the client's own account.
        authzid: Option<String>,
    },
    /// Authentication fails. The failure determines which reply is sent, and whether the attempt counts as a failed
    /// attempt ([`is_attempt`](Failure::is_attempt)). For wrong credentials, use [`Failure::Rejected`].
    Fail(Failure),
}

/// Masks a challenge, which may contain a proof.
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

/// A custom mechanism that can answer at once. [`Custom::step_with`] creates a separate value of the
/// implementing type for each exchange.
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
/// assert!(matches!(exchange.step(), server::Step::Done(Ok(identity)) if identity.authcid() == "tim"));
/// # Ok::<(), smtp_auth::sasl::ConfigError>(())
/// ```
pub trait ServerMechanism: Send + Sync + 'static {
    /// Returns the mechanism's answer to a response from the client.
    ///
    /// In the first call, `response` is the initial response, or `None` if the client did not send one. A mechanism
    /// that begins with a challenge should fail with [`Failure::UnexpectedInitialResponse`] if the client sent an
    /// initial response. Any other mechanism should return an empty challenge if `response` is `None`.
    fn step(&mut self, response: Option<&[u8]>) -> CustomAnswer;
}
