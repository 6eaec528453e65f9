//! The client's side of an exchange.

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

/// Why an exchange did not sign the client in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub enum Failure {
    /// The server refused.
    Refused {
        /// Whether it has SCRAM's proof of the password.
        after_proof: bool,
    },
    /// The configuration does not list the mechanism, or it cannot carry the credentials.
    Unsupported,
    /// The mechanism sends the password or a token, and there is no TLS.
    NeedsTls,
    /// The server's challenge could not be decoded, or has no place in the mechanism.
    UnexpectedChallenge,
    /// A message of SCRAM's server cannot be read, breaks its grammar, or has no place there.
    MalformedServerMessage,
    /// The server said success before the mechanism was at its end.
    EarlySuccess,
    /// The server has not proven that it knows the password: it is not the one that the password
    /// was made for.
    ServerNotAuthentic,
    /// The server reports an error where its proof should stand (RFC 5802 §7); this is what it says,
    /// in words of this crate.
    #[error("{}: {}", self.as_str(), .0)]
    ServerError(&'static str),
    /// The server asks for a number of iterations that the configuration does not allow.
    #[error("the server asks for {0} iterations, which this client does not do")]
    Iterations(u32),
    /// The user name or the password has characters that SASLprep (RFC 4013) does not allow.
    Unprepared,
    /// The host's own mechanism gave up.
    GaveUp,
    /// There is no usable nonce.
    NoNonce,
}

impl Failure {
    /// What `Display` says, as a fixed text: the words of [`ServerError`](Self::ServerError) and the number of
    /// [`Iterations`](Self::Iterations) are not in it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "the server refused the credentials",
            Self::Unsupported => "this client does not use the mechanism with these credentials",
            Self::NeedsTls => "this client does not send a password or a token without TLS",
            Self::UnexpectedChallenge => {
                "the server sent a challenge that the mechanism does not have"
            }
            Self::MalformedServerMessage => "the server sent a message that SCRAM does not have",
            Self::EarlySuccess => "the server said success before the exchange was complete",
            Self::ServerNotAuthentic => {
                "the server could not prove that it knows the password: it may be an impostor"
            }
            Self::ServerError(_) => "the server reports an error in the sign-in",
            Self::Iterations(_) => {
                "the server asks for a number of iterations that this client does not do"
            }
            Self::Unprepared => {
                "the user name or password holds characters that this mechanism does not allow"
            }
            Self::GaveUp => "the mechanism cannot go on with what the server sent",
            Self::NoNonce => "this client has no random numbers, which the mechanism needs",
        }
    }

    /// Whether another mechanism may be tried with the same credentials.
    ///
    /// Not after a server has failed within SCRAM, or has refused in place of its own proof: an
    /// impostor or a man in the middle who cannot make that proof would get the password by PLAIN.
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

/// What the exchange needs now.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new obligation must break the build of a host that ignores it"
)]
pub enum Step<'a> {
    /// Send this to the server, and settle it with what the server says to it.
    Response(&'a mut Response),
    /// Do this work, here or on another thread.
    Derive(&'a mut Derive),
    /// Say what the host's own mechanism says to this.
    Custom(&'a mut Custom),
    /// The exchange is over; this stays. Where it ends in an error while the server waits for a
    /// response, cancel: not behind [`success`](Response::success) or [`refused`](Response::refused),
    /// which are the server's last word.
    Done(Result<(), Failure>),
}

/// A response for the server. **It stands until it is settled** by [`challenge`](Self::challenge),
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

    /// What to send. At first it is the initial response: `None` where the mechanism has none, which differs from an
    /// empty one; later there is always one. Where the protocol cannot take it along with the command, keep it, and
    /// answer the server's first, empty challenge with it, without calling [`challenge`](Self::challenge).
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_ref().map(SecretBytes::as_slice)
    }

    /// The server sent a challenge. Where the protocol lets data go with success (XMPP, LDAP), they are
    /// a challenge too, and [`success`](Self::success) follows.
    pub fn challenge(&mut self, challenge: impl Into<Vec<u8>>) {
        self.answer = Some(Answer::Challenge(SecretBytes::new(challenge.into())));
    }

    /// The server sent a challenge that cannot be decoded from base64, or what the protocol has in its
    /// place.
    pub fn undecodable(&mut self) {
        self.answer = Some(Answer::Undecodable);
    }

    /// The server said that the client is signed in.
    pub fn success(&mut self) {
        self.answer = Some(Answer::Success);
    }

    /// The server said that it is not.
    pub fn refused(&mut self) {
        self.answer = Some(Answer::Refused);
    }
}

/// One exchange with a server: made for it, ended with it, never used again.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    state: State,
    /// What the server said of the token, if it was one.
    token_error: Option<Box<Secret>>,
    /// The messages before the one that stands in the state, for who has to know them.
    sent: Option<Vec<SecretBytes>>,
}

/// Where an exchange stands. What each state waits for is in its slot.
#[derive(Debug)]
pub(super) enum State {
    Respond(Response, Client),
    Derive(Box<Derive>, scram::AuthMessage),
    Custom(Box<Custom>),
    Done(Result<(), Failure>),
}

/// Who takes the challenge.
#[derive(Debug)]
pub(super) enum Client {
    Plain(plain::Client),
    Login(login::Client),
    CramMd5(cram_md5::Client),
    /// Boxed for its size, which the others do not need.
    Scram(Box<scram::Client>),
    Oauth(oauth::Client),
    External(external::Client),
    Anonymous(anonymous::Client),
    /// The host; and whether it has said all.
    Custom(Box<Custom>, bool),
}

impl Exchange {
    /// Begins an exchange by a mechanism, such as [`Config::choose`] found. What the configuration does not
    /// allow ends at the first [`step`](Self::step), with nothing sent.
    ///
    /// A client that [supports channel binding](Config::choose) and uses SCRAM without it tells the server
    /// that it saw no -PLUS mechanism on offer, and a server that has one refuses that (RFC 5802 §6).
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

    /// What the exchange needs now. Asked again, the same, until that is settled.
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

    /// What the last step came to; nothing moves on.
    pub(crate) fn pending(&mut self) -> Step<'_> {
        match &mut self.state {
            State::Respond(response, _) => Step::Response(response),
            State::Derive(derive, _) => Step::Derive(derive),
            State::Custom(challenge) => Step::Custom(challenge),
            State::Done(outcome) => Step::Done(*outcome),
        }
    }

    /// Whether the last step came to something that is asked of the application.
    pub(crate) fn asks(&self) -> bool {
        matches!(self.state, State::Derive(..) | State::Custom(_))
    }

    /// Keeps what is sent until the [end](Self::end), so that [`repeats`](Self::repeats) knows it.
    pub(crate) fn keep_sent(&mut self) {
        self.sent = Some(Vec::new());
    }

    /// Whether a line of the server has something of what was sent.
    pub(crate) fn repeats<'a>(&'a self, lines: impl Iterator<Item = &'a [u8]>) -> bool {
        let last = match &self.state {
            State::Respond(response, _) => response.data(),
            State::Derive(..) | State::Custom(_) | State::Done(_) => None,
        };
        let before = self.sent.iter().flatten().map(SecretBytes::as_slice);
        sent::repeats(before.chain(last), lines)
    }

    /// Nothing more will come: what was sent is zeroed.
    pub(crate) fn end(&mut self) {
        self.state = State::Done(Err(Failure::Refused { after_proof: true }));
        self.sent = None;
    }

    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Whether the client has sent SCRAM's proof, and the server has not answered by its own. Where the
    /// connection ends now, or what comes cannot be read, take the server for an impostor
    /// ([`Failure::ServerNotAuthentic`]), and try no other mechanism.
    pub fn awaits_proof(&self) -> bool {
        matches!(&self.state, State::Respond(_, Client::Scram(client)) if client.awaits_proof())
    }

    /// What the server said of a token that is no good: JSON (RFC 7628 §3.2.2) as it came, which may
    /// tell the scope that it needs and where to get a better one. The server's words: do not
    /// trust them, nor show them to a terminal as they are.
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

    /// Moves on if what was owed is settled.
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

/// The mechanism's initial response, and who takes the challenge behind it.
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

    /// What it means that the challenge cannot be read.
    fn undecodable(&self) -> Failure {
        match self {
            Self::Scram(client) => client.unreadable(),
            _ => Failure::UnexpectedChallenge,
        }
    }

    /// Whether the client has sent SCRAM's proof.
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
