//! Custom mechanisms on a client.

use alloc::{boxed::Box, vec::Vec};
use core::{any::Any, fmt};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    sasl::{Mechanism, client::Failure},
    secret::SecretBytes,
};

/// The maximum number of challenges in one exchange. No registered mechanism needs that many.
const MAX_CHALLENGES: u8 = 20;

/// The exchange asks the application how a custom mechanism responds to a challenge. The step **stays pending until you
/// call** [`answer`](Self::answer).
///
/// To answer immediately, implement [`ClientMechanism`] and call [`step_with`](Self::step_with). To answer later, use
/// [`state`](Self::state) to store the data that the mechanism needs between challenges.
///
/// An exchange accepts up to 20 challenges. If the server sends another challenge, the exchange fails with
/// [`Failure::UnexpectedChallenge`].
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

    /// Moves on to the next challenge of the exchange.
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

    /// Returns the custom mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Returns the challenge, or `None` if the server has not sent a challenge yet. `None` means that the exchange asks
    /// for the mechanism's initial response.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_ref().map(SecretBytes::as_slice)
    }

    /// Returns the storage for data that the application keeps from one challenge to the next. The storage is empty at
    /// first, and is dropped together with the exchange.
    pub fn state(&mut self) -> &mut Option<Box<dyn Any + Send + Sync>> {
        &mut self.state
    }

    /// Passes the challenge to a mechanism, and returns the mechanism's response. Pass this response to
    /// [`answer`](Self::answer).
    ///
    /// On the first call, `make` creates the mechanism, which is then kept in [`state`](Self::state). Call this method
    /// only once for each challenge, because every call advances the mechanism.
    pub fn step_with<M: ClientMechanism>(&mut self, make: impl FnOnce() -> M) -> CustomResponse {
        let Self { state, data, .. } = self;
        let made = state.take().and_then(|state| state.downcast().ok());
        let mut mechanism: Box<M> = made.unwrap_or_else(|| Box::new(make()));
        let answer = mechanism.step(data.as_ref().map(SecretBytes::as_slice));
        *state = Some(mechanism);
        answer
    }

    /// Cancels the exchange. Call this method, for example, if the application does not implement the mechanism.
    pub fn fail(&mut self) {
        self.answer(CustomResponse::Fail);
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answer.is_some()
    }

    /// Answers the challenge. A second answer replaces the first.
    pub fn answer(&mut self, answer: CustomResponse) {
        self.answer = Some(answer);
    }
}

/// Omits the state, which may be secret.
impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

/// A custom mechanism's answer to a challenge. If the answer contains a response, the response is zeroed on drop.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a mechanism goes on, is at its end, or fails")]
pub enum CustomResponse {
    /// The mechanism has no initial response, and waits for a challenge. If the mechanism answers a challenge with this
    /// variant, the client sends an empty response.
    NoInitialResponse,
    /// The mechanism sends this response and expects another challenge. If the server reports success instead, the
    /// exchange fails with [`Failure::EarlySuccess`].
    Respond(Vec<u8>),
    /// This is the mechanism's last response. The client is authenticated if the server then reports success.
    Complete(Vec<u8>),
    /// The mechanism gives up, and the exchange is cancelled.
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

/// Masks a response, which may be secret.
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

/// A custom mechanism that can answer each challenge immediately. Each exchange uses its own instance.
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
    /// Returns the response to a challenge, or the initial response if `challenge` is `None`.
    fn step(&mut self, challenge: Option<&[u8]>) -> CustomResponse;
}
