//! The client side of a SASL exchange.
//!
//! A [`Config`] lists the mechanisms that a client may use. [`Config::choose`] selects a mechanism that the server also
//! offers, and an [`Exchange`] authenticates with this mechanism.
//!
//! ```
//! use smtp_auth::sasl::{Channel, client::{Config, Credentials, Exchange, Step}};
//!
//! let config = Config::default();
//! let channel = Channel::tls();
//! let credentials = Credentials::password("tim", "tanstaaftanstaaf")?;
//! let mechanism = config.choose(&credentials, &channel, "PLAIN LOGIN")?;
//! let mut exchange = Exchange::new(&config, &channel, mechanism, credentials);
//! let outcome = loop {
//!     match exchange.step() {
//!         Step::Response(response) => {
//!             assert_eq!(response.data(), Some(&b"\0tim\0tanstaaftanstaaf"[..]));
//!             response.success(); // the server has accepted it
//!         }
//!         Step::Derive(derive) => derive.run(),
//!         Step::Custom(custom) => custom.fail(),
//!         Step::Done(outcome) => break outcome,
//!     }
//! };
//! assert_eq!(outcome, Ok(()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::{boxed::Box, vec::Vec};
use core::mem;

use super::{Channel, Mechanism, anonymous, cram_md5, external, login, oauth, plain, scram};
use crate::secret::{Secret, SecretBytes};

mod config;
mod credentials;
mod custom;
mod derive;
mod sent;

pub(super) use credentials::{Password, Token};

pub use config::{Builder, Config, NoMechanism};
pub use credentials::Credentials;
pub use custom::{ClientMechanism, Custom, CustomResponse};
pub use derive::{Derive, DeriveJob};

use credentials::Kind;

/// The reason why an exchange failed. The `Display` text does not include text that the server sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub enum Failure {
    /// The server refused the authentication.
    Refused {
        /// Whether the client had already sent its SCRAM proof.
        after_proof: bool,
    },
    /// The configuration does not list the mechanism, or the mechanism cannot be used with these credentials.
    Unsupported,
    /// The mechanism [needs TLS](Mechanism::needs_tls), but the connection does not use TLS.
    NeedsTls,
    /// The server's challenge cannot be decoded, or the mechanism does not expect a challenge at this point.
    UnexpectedChallenge,
    /// A message from the server cannot be decoded, violates the SCRAM grammar, or is not allowed at this point.
    MalformedServerMessage,
    /// The server reported success before the mechanism was complete.
    EarlySuccess,
    /// The server has not proven that it knows the password. It may be an impostor or a man-in-the-middle.
    ServerNotAuthentic,
    /// During SCRAM, the server sent an error instead of its proof (RFC 5802 §7). The field contains this crate's
    /// description of the error, not text from the server.
    #[error("{}: {}", self.as_str(), .0)]
    ServerError(&'static str),
    /// The server demands an iteration count that the [configuration](Builder::scram_iterations) does not allow.
    #[error("the server asks for {0} iterations, which this client's configuration does not allow")]
    Iterations(u32),
    /// The user name or the password contains characters that SASLprep (RFC 4013) does not allow.
    Unprepared,
    /// The custom mechanism [gave up](CustomResponse::Fail).
    GaveUp,
    /// No usable [nonce](super::NonceError) is available.
    NoNonce,
}

impl Failure {
    /// Returns the `Display` text as a static string. The text for [`ServerError`](Self::ServerError) omits the
    /// details, and the text for [`Iterations`](Self::Iterations) omits the number.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "the server refused the credentials",
            Self::Unsupported => "this client cannot use the mechanism with these credentials",
            Self::NeedsTls => "this client does not send a password or a token without TLS",
            Self::UnexpectedChallenge => {
                "the server sent a challenge that cannot be decoded, or that the mechanism does not expect at this point"
            }
            Self::MalformedServerMessage => {
                "the server sent a message that is malformed, or that SCRAM does not expect at this point"
            }
            Self::EarlySuccess => "the server reported success before the exchange was complete",
            Self::ServerNotAuthentic => {
                "the server could not prove that it knows the password: it may be an impostor"
            }
            Self::ServerError(_) => "the server reported an error during the sign-in",
            Self::Iterations(_) => {
                "the server asks for a number of iterations that this client's configuration does not allow"
            }
            Self::Unprepared => {
                "the user name or password contains characters that this mechanism does not allow"
            }
            Self::GaveUp => "the custom mechanism gave up",
            Self::NoNonce => {
                "the mechanism needs random numbers, but this client has no source of them"
            }
        }
    }

    /// Returns whether the client may try another mechanism with the same credentials.
    ///
    /// The client must not try another mechanism in these cases:
    /// - The server reported success too early.
    /// - The server refused the client instead of sending its own SCRAM proof.
    /// - During SCRAM, the server did not send a valid proof.
    /// - During SCRAM, the server sent a malformed message, an error, or an iteration count that the configuration does
    ///   not allow.
    ///
    /// An impostor or a man-in-the-middle cannot produce the server's proof, and would obtain the password if the
    /// client then tried PLAIN.
    pub fn may_try_next(self) -> bool {
        match self {
            Self::Refused { after_proof: true }
            | Self::MalformedServerMessage
            | Self::EarlySuccess
            | Self::ServerNotAuthentic
            | Self::ServerError(_)
            | Self::Iterations(_) => false,
            Self::Refused { after_proof: false }
            | Self::Unsupported
            | Self::NeedsTls
            | Self::UnexpectedChallenge
            | Self::Unprepared
            | Self::GaveUp
            | Self::NoNonce => true,
        }
    }
}

/// What the application must do next, or the result of the exchange.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new kind of step must break the build of an application that ignores it"
)]
pub enum Step<'a> {
    /// Send this response to the server, and report the server's answer.
    Response(&'a mut Response),
    /// Compute the salted password with PBKDF2, on this thread or on another one.
    Derive(&'a mut Derive),
    /// Answer with the next response of the application's custom mechanism.
    Custom(&'a mut Custom),
    /// The exchange is over. Every further call to [`step`](Exchange::step) returns this result again.
    ///
    /// If the exchange ends with an error while the server is still waiting for a response, cancel the exchange in the
    /// way that your protocol defines. Do not cancel the exchange if you have called [`success`](Response::success) or
    /// [`refused`](Response::refused), because by then the server has already ended it.
    Done(Result<(), Failure>),
}

/// A response to send to the server. **The response stays pending until you call** [`challenge`](Self::challenge),
/// [`undecodable`](Self::undecodable), [`success`](Self::success) or [`refused`](Self::refused).
#[derive(Debug)]
pub struct Response {
    data: Option<SecretBytes>,
    answer: Option<Answer>,
}

#[derive(Debug)]
enum Answer {
    Challenge(SecretBytes),
    Undecodable,
    Success,
    Refused,
}

impl Response {
    fn new(data: Option<Vec<u8>>) -> Self {
        Self { data: data.map(SecretBytes::new), answer: None }
    }

    /// Returns the octets to send.
    ///
    /// For the first response of an exchange, these octets are the mechanism's initial response. The method returns
    /// `None` if the mechanism does not define an initial response, and an empty slice if the initial response is
    /// empty. For all later responses, the method returns `Some`.
    ///
    /// If the protocol cannot send the initial response in the command that begins the exchange, keep the response, and
    /// send it when the server sends its first challenge, which is empty. Do not call [`challenge`](Self::challenge)
    /// for this empty challenge.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_ref().map(SecretBytes::as_slice)
    }

    /// Reports that the server sent a challenge. `challenge` contains the decoded octets. If the server sends data
    /// together with its report of success, as XMPP and LDAP allow, report the data as a challenge, and call
    /// [`success`](Self::success) on the next response.
    pub fn challenge(&mut self, challenge: impl Into<Vec<u8>>) {
        self.answer = Some(Answer::Challenge(SecretBytes::new(challenge.into())));
    }

    /// Reports that the server sent a challenge that cannot be decoded from base64, or from the encoding that the
    /// protocol uses instead.
    pub fn undecodable(&mut self) {
        self.answer = Some(Answer::Undecodable);
    }

    /// Reports that the server accepted the authentication.
    pub fn success(&mut self) {
        self.answer = Some(Answer::Success);
    }

    /// Reports that the server refused the authentication.
    pub fn refused(&mut self) {
        self.answer = Some(Answer::Refused);
    }
}

/// A SASL exchange with a server. Create a new `Exchange` for each authentication.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    state: State,
    /// The error that the server sent about the token.
    token_error: Option<Box<Secret>>,
    /// The messages before the one in the state, if [`keep_sent`](Self::keep_sent) was called.
    sent: Option<Vec<SecretBytes>>,
}

/// The state of an exchange. A state that waits for an answer contains the answer once it has been given.
#[derive(Debug)]
pub(super) enum State {
    Respond(Response, Client),
    Derive(Box<Derive>, scram::AuthMessage),
    Custom(Box<Custom>),
    Done(Result<(), Failure>),
}

/// The mechanism that processes the next challenge.
#[derive(Debug)]
pub(super) enum Client {
    Plain(plain::Client),
    Login(login::Client),
    CramMd5(cram_md5::Client),
    /// Boxed because this variant is much larger than the others.
    Scram(Box<scram::Client>),
    Oauth(oauth::Client),
    External(external::Client),
    Anonymous(anonymous::Client),
    /// The custom mechanism, and whether it is complete.
    Custom(Box<Custom>, bool),
}

impl Exchange {
    /// Begins an exchange with a mechanism, usually the one that [`Config::choose`] returned. If the configuration does
    /// not allow the mechanism, the first [`step`](Self::step) returns the failure, and nothing is sent.
    ///
    /// If a client [supports channel binding](Config::choose) but uses SCRAM without channel binding, it reports to the
    /// server that the server's list contained no -PLUS mechanism. A server that did offer a -PLUS mechanism then
    /// refuses the client, because an attacker must have changed the list (a downgrade attack, RFC 5802 §6).
    pub fn new(
        config: &Config,
        channel: &Channel,
        mechanism: Mechanism,
        credentials: Credentials,
    ) -> Self {
        let state = config
            .admit(mechanism, &credentials, channel)
            .and_then(|()| State::begin(config, channel, mechanism, credentials));
        let state = state.unwrap_or_else(|failure| State::Done(Err(failure)));
        Self { mechanism, state, token_error: None, sent: None }
    }

    /// Advances the exchange and returns the next step. Further calls return the same step until it is answered.
    pub fn step(&mut self) -> Step<'_> {
        if let (Some(sent), State::Respond(response, _)) = (&mut self.sent, &mut self.state) {
            if matches!(response.answer, Some(Answer::Challenge(_) | Answer::Undecodable)) {
                sent.extend(response.data.take().filter(|data| !data.as_slice().is_empty()));
            }
        }
        let failure = Failure::Refused { after_proof: true };
        let state = mem::replace(&mut self.state, State::Done(Err(failure)));
        self.state = state.advance().unwrap_or_else(|failure| State::Done(Err(failure)));
        if let State::Respond(_, Client::Oauth(oauth::Client::Refused(error))) = &self.state {
            self.token_error.get_or_insert_with(|| error.clone());
        }
        self.pending()
    }

    /// Returns the step that the last call to [`step`](Self::step) returned, without advancing the exchange.
    pub(crate) fn pending(&mut self) -> Step<'_> {
        match &mut self.state {
            State::Respond(response, _) => Step::Response(response),
            State::Derive(derive, _) => Step::Derive(derive),
            State::Custom(challenge) => Step::Custom(challenge),
            State::Done(outcome) => Step::Done(*outcome),
        }
    }

    /// Returns whether the application has to answer the last step.
    pub(crate) fn asks(&self) -> bool {
        matches!(self.state, State::Derive(..) | State::Custom(_))
    }

    /// Keeps all sent messages until the [end](Self::end), for [`repeats`](Self::repeats).
    pub(crate) fn keep_sent(&mut self) {
        self.sent = Some(Vec::new());
    }

    /// Returns whether a line from the server repeats a part of the messages that were sent.
    pub(crate) fn repeats<'a>(&'a self, lines: impl Iterator<Item = &'a [u8]>) -> bool {
        let last = match &self.state {
            State::Respond(response, _) => response.data(),
            State::Derive(..) | State::Custom(_) | State::Done(_) => None,
        };
        let before = self.sent.iter().flatten().map(SecretBytes::as_slice);
        sent::repeats(before.chain(last), lines)
    }

    /// Ends the exchange, and zeroes the messages that were sent.
    pub(crate) fn end(&mut self) {
        self.state = State::Done(Err(Failure::Refused { after_proof: true }));
        self.sent = None;
    }

    /// Returns the mechanism of this exchange.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Returns whether the client has sent its SCRAM proof and is still waiting for the server's proof.
    ///
    /// If the connection ends at this point, or if a message from the server cannot be parsed, treat the server as an
    /// impostor ([`Failure::ServerNotAuthentic`]), and do not try another mechanism.
    pub fn awaits_proof(&self) -> bool {
        matches!(&self.state, State::Respond(_, Client::Scram(client)) if client.awaits_proof())
    }

    /// Returns the error message that the server sent about an invalid token, exactly as received. The message is JSON
    /// (RFC 7628 §3.2.2), and may contain the required scope and the address where the client can obtain a valid token.
    ///
    /// Do not trust this text, because it comes from the server. Escape the text before you print it to a terminal.
    pub fn token_error(&self) -> Option<&str> {
        self.token_error.as_ref().map(|error| error.expose())
    }
}

impl State {
    fn begin(
        config: &Config,
        channel: &Channel,
        mechanism: Mechanism,
        credentials: Credentials,
    ) -> Result<Self, Failure> {
        let supports_binding = config.supports_binding(&credentials, channel);
        let Credentials { kind, authzid } = credentials;
        let authzid = authzid.as_deref();
        let (initial, client) = match (mechanism, kind) {
            (Mechanism::Plain, Kind::Password(password)) => {
                begun(plain::Client::begin(password, authzid)?, Client::Plain)
            }
            (Mechanism::Login, Kind::Password(password)) => {
                begun(login::Client::begin(password, authzid)?, Client::Login)
            }
            (Mechanism::CramMd5, Kind::Password(password)) => {
                begun(cram_md5::Client::begin(password, authzid)?, Client::CramMd5)
            }
            (
                Mechanism::ScramSha512Plus
                | Mechanism::ScramSha256Plus
                | Mechanism::ScramSha1Plus
                | Mechanism::ScramSha512
                | Mechanism::ScramSha256
                | Mechanism::ScramSha1,
                Kind::Password(password),
            ) => {
                let first = scram::Client::begin(
                    config,
                    channel,
                    mechanism,
                    supports_binding,
                    password,
                    authzid,
                )?;
                begun(first, |client| Client::Scram(Box::new(client)))
            }
            (mechanism @ (Mechanism::OauthBearer | Mechanism::Xoauth2), Kind::Token(token)) => {
                begun(oauth::Client::begin(mechanism, &token, authzid), Client::Oauth)
            }
            (Mechanism::External, Kind::External) => {
                begun(external::Client::begin((), authzid)?, Client::External)
            }
            (Mechanism::Anonymous, Kind::Anonymous(trace)) => {
                begun(anonymous::Client::begin(&trace, authzid)?, Client::Anonymous)
            }
            (mechanism @ Mechanism::Custom(_), Kind::Custom(own)) if mechanism == own => {
                return Ok(Self::Custom(Box::new(Custom::new(mechanism))));
            }
            _ => return Err(Failure::Unsupported),
        };
        Ok(Self::Respond(Response::new(initial), client))
    }

    /// Advances to the next state if the current step has been answered.
    fn advance(self) -> Result<Self, Failure> {
        match self {
            Self::Respond(Response { answer: Some(answer), .. }, client) => match answer {
                Answer::Challenge(challenge) => client.take(challenge.as_slice()),
                Answer::Success => client.finish().map(|()| Self::Done(Ok(()))),
                Answer::Undecodable => Err(client.undecodable()),
                Answer::Refused => Err(Failure::Refused { after_proof: client.has_proven() }),
            },
            Self::Derive(derive, message) => Ok(match &derive.answer {
                Some(salted) => message.client_final(salted),
                None => Self::Derive(derive, message),
            }),
            Self::Custom(mut challenge) => match &mut challenge.answer.take() {
                None => Ok(Self::Custom(challenge)),
                Some(CustomResponse::NoInitialResponse) => {
                    let data = challenge.data().map(|_| Vec::new());
                    Ok(Self::Respond(Response::new(data), Client::Custom(challenge, false)))
                }
                Some(CustomResponse::Respond(data)) => {
                    Ok(Self::respond(mem::take(data), Client::Custom(challenge, false)))
                }
                Some(CustomResponse::Complete(data)) => {
                    Ok(Self::respond(mem::take(data), Client::Custom(challenge, true)))
                }
                Some(CustomResponse::Fail) => Err(Failure::GaveUp),
            },
            waiting => Ok(waiting),
        }
    }

    pub(super) fn respond(data: Vec<u8>, client: Client) -> Self {
        Self::Respond(Response::new(Some(data)), client)
    }
}

/// Combines the mechanism's initial response with the mechanism that processes the next challenge.
fn begun<C>(
    (initial, client): (Option<Vec<u8>>, C),
    next: impl Fn(C) -> Client,
) -> (Option<Vec<u8>>, Client) {
    (initial, next(client))
}

impl Client {
    fn take(self, challenge: &[u8]) -> Result<State, Failure> {
        fn taken<C>((data, client): (Vec<u8>, C), next: impl Fn(C) -> Client) -> State {
            State::respond(data, next(client))
        }
        Ok(match self {
            Self::Plain(client) => taken(client.take(challenge)?, Self::Plain),
            Self::Login(client) => taken(client.take(challenge)?, Self::Login),
            Self::CramMd5(client) => taken(client.take(challenge)?, Self::CramMd5),
            Self::Scram(client) => client.take(challenge)?,
            Self::Oauth(client) => taken(client.take(challenge)?, Self::Oauth),
            Self::External(client) => taken(client.take(challenge)?, Self::External),
            Self::Anonymous(client) => taken(client.take(challenge)?, Self::Anonymous),
            Self::Custom(host, _) => State::Custom(host.next(challenge)?),
        })
    }

    /// Returns the failure for a challenge that cannot be decoded.
    fn undecodable(&self) -> Failure {
        match self {
            Self::Scram(client) => client.unreadable(),
            _ => Failure::UnexpectedChallenge,
        }
    }

    /// Returns whether the client has sent its SCRAM proof.
    fn has_proven(&self) -> bool {
        matches!(self, Self::Scram(client) if client.has_proven())
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Plain(client) => client.finish(),
            Self::Login(client) => client.finish(),
            Self::CramMd5(client) => client.finish(),
            Self::Scram(client) => client.finish(),
            Self::Oauth(client) => client.finish(),
            Self::External(client) => client.finish(),
            Self::Anonymous(client) => client.finish(),
            Self::Custom(_, true) => Ok(()),
            Self::Custom(_, false) => Err(Failure::EarlySuccess),
        }
    }
}
