//! The server's side of an exchange.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::{fmt, mem};

use super::{
    Answer, Authorize, Channel, CheckPassword, ConfigError, CramSecretFor, Failure, Identity,
    Mechanism, Nonce, NonceError, PasswordAnswer, Query, ScramHash, ScramKeys, ScramKeysFor,
    cram_md5, login, plain, scram,
};
use crate::secret::{Secret, SecretBytes};

type NonceSource = Box<dyn Fn() -> Result<Nonce, NonceError> + Send + Sync>;

/// What a server offers, and its policy. Shared by all of its exchanges, in an `Arc`.
pub struct Config {
    host: Box<str>,
    mechanisms: Vec<Mechanism>,
    nonce: Option<NonceSource>,
    cleartext: bool,
    salt_key: Option<Secret>,
    iterations: u32,
}

impl Config {
    /// A server of that name which offers every compiled mechanism, SCRAM first. A store that cannot
    /// answer for one of them is to leave it out by [`mechanisms`](Self::mechanisms): clients take
    /// the strongest on offer, and may give up where it fails. It offers those that send the password
    /// only inside TLS, with nonces of the operating system. (Without the feature `getrandom` there
    /// are none of these: mechanisms that need one are offered once [`nonces`](Self::nonces) says
    /// where to take them.)
    ///
    /// # Errors
    /// [`ConfigError::HostName`] where the name is not printable ASCII without spaces, `<`, `>`.
    pub fn new(host: &str) -> Result<Self, ConfigError> {
        let good = |octet: u8| octet.is_ascii_graphic() && !b"<>".contains(&octet);
        if host.is_empty() || host.len() > 255 || !host.bytes().all(good) {
            return Err(ConfigError::HostName);
        }
        Ok(Self {
            host: host.into(),
            mechanisms: Mechanism::COMPILED.to_vec(),
            #[cfg(feature = "getrandom")]
            nonce: Some(Box::new(Nonce::random)),
            #[cfg(not(feature = "getrandom"))]
            nonce: None,
            cleartext: false,
            #[cfg(feature = "getrandom")]
            salt_key: Nonce::random().ok().map(|key| Secret::new(key.as_str())),
            #[cfg(not(feature = "getrandom"))]
            salt_key: None,
            iterations: 4096,
        })
    }

    /// The mechanisms to offer, in this order.
    ///
    /// # Errors
    /// [`ConfigError::NotCompiled`] where one's feature is off.
    pub fn mechanisms(mut self, mechanisms: &[Mechanism]) -> Result<Self, ConfigError> {
        self.mechanisms.clear();
        for &mechanism in mechanisms {
            if !mechanism.is_compiled() {
                return Err(ConfigError::NotCompiled(mechanism));
            }
            if !self.mechanisms.contains(&mechanism) {
                self.mechanisms.push(mechanism);
            }
        }
        Ok(self)
    }

    /// Another source of nonces. Each must be fresh and unpredictable; a fixed one is for tests.
    pub fn nonces(
        mut self,
        source: impl Fn() -> Result<Nonce, NonceError> + Send + Sync + 'static,
    ) -> Self {
        self.nonce = Some(Box::new(source));
        self
    }

    /// The key of the salts that SCRAM shows for accounts that do not exist. It has to stay the same
    /// over restarts, and over the servers of a cluster, or their salts tell them from real ones.
    /// By default it is random, made here. With an empty one SCRAM is not offered.
    pub fn salt_key(mut self, key: impl Into<Secret>) -> Self {
        self.salt_key = Some(key.into()).filter(|key| !key.expose().is_empty());
        self
    }

    /// How many iterations SCRAM shows for accounts that do not exist: as many as the store's keys
    /// have. By default 4,096 (RFC 7677 §4).
    pub fn scram_iterations(mut self, iterations: u32) -> Self {
        self.iterations = iterations.max(1);
        self
    }

    /// Whether mechanisms that send the password are taken without TLS, where anyone on the way
    /// can read it. Off by default.
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.cleartext = allow;
        self
    }

    /// The server's name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The mechanisms on offer over that connection, in order.
    pub fn offered(&self, channel: &Channel) -> impl Iterator<Item = Mechanism> {
        let tls = channel.is_tls() || self.cleartext;
        self.usable().filter(move |mechanism| tls || !mechanism.needs_tls())
    }

    /// The mechanisms that can work: a challenge that is read needs a nonce.
    fn usable(&self) -> impl Iterator<Item = Mechanism> {
        let (nonce, salt_key) = (self.nonce.is_some(), self.salt_key.is_some());
        self.mechanisms.iter().copied().filter(move |&mechanism| {
            (nonce || !mechanism.reads_challenge())
                && (salt_key || ScramHash::of(mechanism).is_none())
        })
    }

    /// Whether the mechanism can be used over that connection.
    pub(crate) fn admit(&self, mechanism: Mechanism, channel: &Channel) -> Result<(), Failure> {
        if self.offered(channel).any(|offered| offered == mechanism) {
            Ok(())
        } else if self.usable().any(|usable| usable == mechanism) {
            Err(Failure::NeedsTls)
        } else {
            Err(Failure::Unsupported)
        }
    }

    /// What SCRAM shows for an account that does not exist.
    pub(super) fn keys_of_nobody(&self, hash: ScramHash, name: &str) -> ScramKeys {
        let key = self.salt_key.as_ref().map_or(&b""[..], |key| key.expose().as_bytes());
        ScramKeys::of_nobody(hash, key, name, self.iterations)
    }

    pub(super) fn nonce(&self) -> Result<Nonce, Failure> {
        self.nonce.as_ref().and_then(|source| source().ok()).ok_or(Failure::TempFail)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("mechanisms", &self.mechanisms)
            .field("cleartext", &self.cleartext)
            .finish_non_exhaustive()
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
    /// Send this to the client, and settle it with the client's response.
    Challenge(&'a mut Challenge),
    /// Answer this.
    Query(Query<'a>),
    /// The exchange is over; this stays.
    Done(Result<&'a Identity, Failure>),
}

/// A challenge for the client. **It stands until it is settled** by [`respond`](Self::respond)
/// or one of the other three.
#[derive(Debug)]
pub struct Challenge {
    data: Vec<u8>,
    last: bool,
    response: Option<Result<SecretBytes, Failure>>,
}

impl Challenge {
    fn new(data: impl Into<Vec<u8>>) -> Self {
        Self { data: data.into(), last: false, response: None }
    }

    fn last(data: impl Into<Vec<u8>>) -> Self {
        Self { last: true, ..Self::new(data) }
    }

    /// Whether the client is proven, and this is all that is left to say to it. Protocols that carry
    /// data with success (XMPP, LDAP) send it so and `respond` with nothing; in IMAP, POP3 and SMTP
    /// it is a challenge like any other.
    pub fn is_final(&self) -> bool {
        self.last
    }

    /// What to send; it may be empty.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Settles it with the client's response. A `Vec` is moved, and zeroed when it is used.
    pub fn respond(&mut self, response: impl Into<Vec<u8>>) {
        self.response = Some(Ok(SecretBytes::new(response.into())));
    }

    /// The client wants no more of this exchange.
    pub fn cancel(&mut self) {
        self.response = Some(Err(Failure::Cancelled));
    }

    /// The client's response is too long for the protocol.
    pub fn too_long(&mut self) {
        self.response = Some(Err(Failure::TooLong));
    }

    /// The client's response cannot be decoded from base64, or what the protocol has in its place.
    pub fn undecodable(&mut self) {
        self.response = Some(Err(Failure::Encoding));
    }
}

/// One exchange with a client: made for it, ended with it, never used again.
#[derive(Debug)]
pub struct Exchange {
    config: Arc<Config>,
    mechanism: Mechanism,
    state: State,
}

impl Exchange {
    /// Begins an exchange. An absent initial response (`None`) and an empty one are different
    /// things. What the configuration does not allow ends at the first [`step`](Self::step).
    pub fn new(
        config: &Arc<Config>,
        channel: &Channel,
        mechanism: Mechanism,
        initial_response: Option<Vec<u8>>,
    ) -> Self {
        let state = config
            .admit(mechanism, channel)
            .and_then(|()| State::begin(config, mechanism, initial_response));
        Self { config: Arc::clone(config), mechanism, state: state.unwrap_or_else(State::failed) }
    }

    /// What the exchange needs now. Asked again, the same, until that is settled.
    pub fn step(&mut self) -> Step<'_> {
        let state = mem::replace(&mut self.state, State::failed(Failure::TempFail));
        self.state = state.advance(&self.config);
        match &mut self.state {
            State::Await(challenge, _) => Step::Challenge(challenge),
            State::ScramKeys(ask, _) => Step::Query(Query::ScramKeys(ask)),
            State::CheckPassword(ask) => Step::Query(Query::CheckPassword(ask)),
            State::CramSecret(ask) => Step::Query(Query::CramSecret(ask)),
            State::Authorize(ask, _) => Step::Query(Query::Authorize(ask)),
            State::Done(outcome) => Step::Done(outcome.as_ref().map_err(|failure| *failure)),
        }
    }

    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The configuration that the exchange was made with.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

/// Where an exchange stands. What each state waits for is in its slot.
#[derive(Debug)]
pub(super) enum State {
    Await(Challenge, Next),
    CheckPassword(CheckPassword),
    CramSecret(CramSecretFor),
    /// Boxed for their size, which the other mechanisms do not need.
    ScramKeys(Box<ScramKeysFor>, Box<scram::First>),
    Authorize(Authorize, Then),
    Done(Result<Identity, Failure>),
}

/// What follows for who has been proven, and may act as wanted.
#[derive(Debug)]
pub(super) enum Then {
    Done,
    /// The server's own proof, which the client answers by an empty response (RFC 4954 §4).
    ServerFinal(String),
}

/// Who takes the response.
#[derive(Debug)]
pub(super) enum Next {
    Plain(plain::Server),
    Login(login::Server),
    CramMd5(cram_md5::Server),
    Scram(scram::Server),
    Confirm(Identity),
}

impl State {
    fn begin(
        config: &Config,
        mechanism: Mechanism,
        initial_response: Option<Vec<u8>>,
    ) -> Result<Self, Failure> {
        let (challenge, next) = match mechanism {
            Mechanism::Plain => plain::Server::begin(config).map(|(c, s)| (c, Next::Plain(s)))?,
            Mechanism::Login => login::Server::begin(config).map(|(c, s)| (c, Next::Login(s)))?,
            Mechanism::ScramSha512 | Mechanism::ScramSha256 | Mechanism::ScramSha1 => {
                scram::Server::begin(config, ScramHash::of(mechanism))
                    .map(|(c, s)| (c, Next::Scram(s)))?
            }
            Mechanism::CramMd5 if initial_response.is_some() => {
                return Err(Failure::UnexpectedInitialResponse);
            }
            Mechanism::CramMd5 => {
                cram_md5::Server::begin(config).map(|(c, s)| (c, Next::CramMd5(s)))?
            }
        };
        let mut challenge = Challenge::new(challenge);
        if let Some(response) = initial_response {
            challenge.respond(response);
        }
        Ok(Self::Await(challenge, next))
    }

    /// Moves on if what was owed is settled.
    fn advance(self, config: &Config) -> Self {
        match self {
            Self::Await(Challenge { data, response: Some(response), .. }, next) => {
                response.and_then(|response| next.take(data, response)).unwrap_or_else(Self::failed)
            }
            Self::CheckPassword(CheckPassword { identity, answer: Some(answer), .. }) => {
                match answer {
                    PasswordAnswer::Accept => Self::proven(identity, Then::Done),
                    PasswordAnswer::Reject => Self::failed(Failure::Rejected),
                    PasswordAnswer::TempFail => Self::failed(Failure::TempFail),
                    PasswordAnswer::TooWeak => Self::failed(Failure::TooWeak),
                    PasswordAnswer::TransitionNeeded => Self::failed(Failure::TransitionNeeded),
                }
            }
            Self::CramSecret(CramSecretFor {
                identity,
                challenge,
                digest,
                answer: Some(answer),
                ..
            }) => match answer {
                Answer::TempFail => Self::failed(Failure::TempFail),
                found => match cram_md5::verify(found, &challenge, &digest) {
                    true => Self::proven(identity, Then::Done),
                    false => Self::failed(Failure::Rejected),
                },
            },
            Self::ScramKeys(ask, first) => match *ask {
                ScramKeysFor { identity, answer: Some(answer), .. } => {
                    scram::server_first(config, identity, *first, answer)
                        .unwrap_or_else(Self::failed)
                }
                ask => Self::ScramKeys(Box::new(ask), first),
            },
            Self::Authorize(Authorize { identity, authzid, answer: Some(answer), .. }, then) => {
                match answer {
                    Answer::Accept(()) => {
                        then.follow(Identity { authzid: Some(authzid), ..identity })
                    }
                    Answer::Reject => Self::failed(Failure::NotAuthorized),
                    Answer::TempFail => Self::failed(Failure::TempFail),
                }
            }
            waiting => waiting,
        }
    }

    /// The one way to success: whoever has been proven passes here, and on to [`Authorize`] if need
    /// be.
    pub(super) fn proven(mut identity: Identity, then: Then) -> Self {
        match identity.authzid.take() {
            Some(authzid) if authzid != identity.authcid => {
                Self::Authorize(Authorize::new(identity, authzid), then)
            }
            _ => then.follow(identity),
        }
    }

    fn failed(failure: Failure) -> Self {
        Self::Done(Err(failure))
    }

    pub(super) fn challenge(data: impl Into<Vec<u8>>, next: Next) -> Self {
        Self::Await(Challenge::new(data), next)
    }

    pub(super) fn scram(challenge: String, server: scram::Server) -> Self {
        Self::Await(Challenge::new(challenge), Next::Scram(server))
    }

    /// Asks for the password's check.
    pub(super) fn check_password(
        mechanism: Mechanism,
        authcid: &str,
        authzid: Option<&str>,
        password: Secret,
    ) -> Self {
        let identity =
            Identity { authcid: authcid.into(), authzid: authzid.map(Into::into), mechanism };
        Self::CheckPassword(CheckPassword::new(identity, password))
    }
}

impl Then {
    fn follow(self, identity: Identity) -> State {
        match self {
            Self::Done => State::Done(Ok(identity)),
            Self::ServerFinal(proof) => {
                State::Await(Challenge::last(proof), Next::Confirm(identity))
            }
        }
    }
}

impl Next {
    fn take(self, challenge: Vec<u8>, response: SecretBytes) -> Result<State, Failure> {
        match self {
            Self::Plain(server) => server.take(challenge, response),
            Self::Login(server) => server.take(challenge, response),
            Self::CramMd5(server) => server.take(challenge, response),
            Self::Scram(server) => server.take(challenge, response),
            Self::Confirm(identity) if response.as_slice().is_empty() => {
                Ok(State::Done(Ok(identity)))
            }
            Self::Confirm(_) => Err(Failure::Malformed("the last response is not empty")),
        }
    }
}
