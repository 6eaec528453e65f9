//! Mechanisms of the host's own, on a client.

use alloc::{boxed::Box, vec::Vec};
use core::{any::Any, fmt};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    sasl::{Mechanism, client::Failure},
    secret::SecretBytes,
};

/// How many challenges a mechanism may take: more than any registered one needs.
const MAX_CHALLENGES: u8 = 20;

/// *What does the host's own mechanism say to this challenge?* **This stands until it is settled** by
/// [`answer`](Self::answer).
///
/// The host answers at once, by [`step_with`](Self::step_with) and a [`ClientMechanism`], or later,
/// with what it needs to go on put in [`state`](Self::state).
pub struct Custom {
    mechanism: Mechanism,
    data: Option<SecretBytes>,
    challenges: u8,
    state: Option<Box<dyn Any + Send + Sync>>,
    pub(super) answer: Option<CustomResponse>,
}

impl Custom {
    pub(super) fn new(mechanism: Mechanism) -> Self {
        Self { mechanism, data: None, challenges: 0, state: None, answer: None }
    }

    /// The next of the exchange.
    pub(super) fn next(self: Box<Self>, data: &[u8]) -> Result<Box<Self>, Failure> {
        if self.challenges >= MAX_CHALLENGES {
            return Err(Failure::UnexpectedChallenge);
        }
        let mut next = self;
        next.data = Some(SecretBytes::new(data.into()));
        next.challenges += 1;
        next.answer = None;
        Ok(next)
    }

    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// What the server said. `None` at first, where it has said nothing yet: what is asked for is an
    /// initial response.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_ref().map(SecretBytes::as_slice)
    }

    /// A place for what the host has to remember from step to step of this exchange; empty at first,
    /// dropped with the exchange.
    pub fn state(&mut self) -> &mut Option<Box<dyn Any + Send + Sync>> {
        &mut self.state
    }

    /// Has a mechanism take the step. `make` makes it at the first one; it lives in
    /// [`state`](Self::state). What it says is still to be [given](Self::answer), once.
    pub fn step_with<M: ClientMechanism>(&mut self, make: impl FnOnce() -> M) -> CustomResponse {
        let Self { state, data, .. } = self;
        let made = state.take().and_then(|state| state.downcast().ok());
        let mut mechanism: Box<M> = made.unwrap_or_else(|| Box::new(make()));
        let answer = mechanism.step(data.as_ref().map(SecretBytes::as_slice));
        *state = Some(mechanism);
        answer
    }

    /// Gives up, and the exchange is cancelled: for a host without a mechanism of its own.
    pub fn fail(&mut self) {
        self.answer(CustomResponse::Fail);
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answer.is_some()
    }

    /// Settles it; a second answer replaces the first.
    pub fn answer(&mut self, answer: CustomResponse) {
        self.answer = Some(answer);
    }
}

/// What the host keeps may be secret.
impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

/// What a mechanism of the application's own says to a challenge. A response is zeroed when it is dropped.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a mechanism goes on, is at its end, or fails")]
pub enum CustomResponse {
    /// It has no initial response, and waits for a challenge. Behind a challenge this is as
    /// `Respond` with nothing.
    NoInitialResponse,
    /// It goes on with this response, and has more to hear: a success would come too early.
    Respond(Vec<u8>),
    /// With this response it has said and heard all: it is signed in if the server says so.
    Complete(Vec<u8>),
    /// It gives up, and the exchange is cancelled.
    Fail,
}

impl Drop for CustomResponse {
    fn drop(&mut self) {
        if let Self::Respond(data) | Self::Complete(data) = self {
            data.zeroize();
        }
    }
}

impl ZeroizeOnDrop for CustomResponse {}

/// A response may be secret.
impl fmt::Debug for CustomResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoInitialResponse => "NoInitialResponse",
            Self::Respond(_) => "Respond(***)",
            Self::Complete(_) => "Complete(***)",
            Self::Fail => "Fail",
        })
    }
}

/// A mechanism of the host's own that can answer at once; one value for each exchange.
///
/// ```
/// use smtp_auth::sasl::{
///     Channel, Mechanism,
///     client::{ClientMechanism, Config, Credentials, CustomResponse, Exchange, Step},
/// };
///
/// struct Ticket;
///
/// impl ClientMechanism for Ticket {
///     fn step(&mut self, challenge: Option<&[u8]>) -> CustomResponse {
///         match challenge {
///             None => CustomResponse::Complete(b"ticket 17".to_vec()),
///             Some(_) => CustomResponse::Fail,
///         }
///     }
/// }
///
/// let mechanism = Mechanism::custom("X-TICKET")?;
/// let config = Config::builder().mechanisms([mechanism]).build()?;
/// let credentials = Credentials::custom(mechanism);
/// let mut exchange = Exchange::new(&config, &Channel::tls(), mechanism, credentials);
/// if let Step::Custom(ask) = exchange.step() {
///     let response = ask.step_with(|| Ticket);
///     ask.answer(response);
/// }
/// let Step::Response(response) = exchange.step() else { panic!("it has been answered") };
/// assert_eq!(response.data(), Some(&b"ticket 17"[..]));
/// # Ok::<(), smtp_auth::sasl::ConfigError>(())
/// ```
pub trait ClientMechanism: Send + Sync + 'static {
    /// What to say to a challenge; to `None`, as the initial response.
    fn step(&mut self, challenge: Option<&[u8]>) -> CustomResponse;
}
