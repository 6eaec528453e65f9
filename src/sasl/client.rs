//! The client's side of an exchange.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::{fmt, mem};

use super::{
    Channel, ConfigError, Mechanism, Nonce, NonceError, SaltedPassword, ScramHash, check_name,
    cram_md5, login, plain, prepare, scram,
};
use crate::secret::{Secret, SecretBytes};

/// What a client may use, and its policy.
#[derive(Clone, Debug)]
pub struct Config {
    mechanisms: Vec<Mechanism>,
    cleartext: bool,
    nonce: Option<NonceSource>,
    iterations: (u32, u32),
}

/// In an `Arc`, so that a configuration can be cloned.
#[derive(Clone)]
struct NonceSource(Arc<dyn Fn() -> Result<Nonce, NonceError> + Send + Sync>);

impl fmt::Debug for NonceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceSource")
    }
}

impl Default for Config {
    /// Every compiled mechanism, the strongest first, those that send the password only inside TLS.
    fn default() -> Self {
        Self {
            mechanisms: Mechanism::COMPILED.to_vec(),
            cleartext: false,
            #[cfg(feature = "getrandom")]
            nonce: Some(NonceSource(Arc::new(Nonce::random))),
            #[cfg(not(feature = "getrandom"))]
            nonce: None,
            iterations: (4096, 600_000),
        }
    }
}

impl Config {
    /// The mechanisms to use, the preferred first. One alone means that one or none.
    ///
    /// # Errors
    /// [`ConfigError::NotCompiled`] where one's feature is off.
    pub fn mechanisms(mut self, mechanisms: &[Mechanism]) -> Result<Self, ConfigError> {
        if let Some(&off) = mechanisms.iter().find(|mechanism| !mechanism.is_compiled()) {
            return Err(ConfigError::NotCompiled(off));
        }
        self.mechanisms = mechanisms.to_vec();
        Ok(self)
    }

    /// Whether mechanisms that send the password are used without TLS, where anyone on the way
    /// can read it. Off by default.
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.cleartext = allow;
        self
    }

    /// Another source of nonces, which SCRAM needs. Each must be fresh and unpredictable; a fixed one
    /// is for tests.
    pub fn nonces(
        mut self,
        source: impl Fn() -> Result<Nonce, NonceError> + Send + Sync + 'static,
    ) -> Self {
        self.nonce = Some(NonceSource(Arc::new(source)));
        self
    }

    /// How many iterations a server may ask of SCRAM: fewer make the password cheap to guess, more
    /// keep the client busy. By default 4,096 (RFC 7677 §4) to 600,000.
    pub fn scram_iterations(mut self, from: u32, to: u32) -> Self {
        self.iterations = (from, to);
        self
    }

    pub(super) fn iteration_bounds(&self) -> (u32, u32) {
        self.iterations
    }

    pub(super) fn nonce(&self) -> Result<Nonce, Failure> {
        self.nonce.as_ref().and_then(|source| (source.0)().ok()).ok_or(Failure::NoNonce)
    }

    /// The mechanisms that fit the credentials and the connection and for which `offered` says
    /// yes, the preferred first.
    ///
    /// # Errors
    /// Why there is none.
    pub fn choose(
        &self,
        credentials: &Credentials,
        channel: &Channel,
        offered: impl Fn(Mechanism) -> bool,
    ) -> Result<Mechanism, NoMechanism> {
        let common = || self.mechanisms.iter().copied().filter(|&mechanism| offered(mechanism));
        let mut fitting =
            common().filter(|&mechanism| self.can_begin(mechanism, credentials)).peekable();
        if fitting.peek().is_none() {
            let none_fits = !common().any(|mechanism| credentials.fit(mechanism));
            let acting_as = none_fits && common().next().is_some();
            return Err(if acting_as { NoMechanism::ActingAs } else { NoMechanism::InCommon });
        }
        fitting.find(|&mechanism| self.is_safe(mechanism, channel)).ok_or(NoMechanism::WithoutTls)
    }

    /// Whether the mechanism can carry the credentials, and there is what it needs.
    fn can_begin(&self, mechanism: Mechanism, credentials: &Credentials) -> bool {
        let scram = || {
            self.nonce.is_some()
                && prepare(&credentials.authcid).is_some()
                && prepare(credentials.password.expose()).is_some()
        };
        credentials.fit(mechanism) && (ScramHash::of(mechanism).is_none() || scram())
    }

    fn is_safe(&self, mechanism: Mechanism, channel: &Channel) -> bool {
        channel.is_tls() || self.cleartext || !mechanism.needs_tls()
    }

    /// Whether the mechanism can be used with these credentials over that connection.
    fn admit(
        &self,
        mechanism: Mechanism,
        credentials: &Credentials,
        channel: &Channel,
    ) -> Result<(), Failure> {
        if !self.mechanisms.contains(&mechanism) || !credentials.fit(mechanism) {
            Err(Failure::Unsupported)
        } else if !self.is_safe(mechanism, channel) {
            Err(Failure::NeedsTls)
        } else {
            Ok(())
        }
    }
}

/// Why no mechanism can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoMechanism {
    /// The server has no AUTH.
    #[error("the server offers no way to sign in: send without a user name, or use another server")]
    NotOffered,
    /// The server has STARTTLS, may offer more behind it, and the client has not begun TLS.
    #[error("the server offers no usable way to sign in before TLS: turn TLS on")]
    OnlyAfterTls,
    /// Of the server's mechanisms the client has none, or may use none.
    #[error("the server offers no way to sign in that this client has, or is told to use")]
    InCommon,
    /// All that could be used would show the password, as there is no TLS.
    #[error("the server offers no way to sign in that is safe without TLS: turn TLS on")]
    WithoutTls,
    /// None of those in common can act as another account, which the credentials ask for.
    #[error(
        "the server offers no way to sign in as one account and act as another: leave that out"
    )]
    ActingAs,
}

/// Bounds of the names and the password, with which no response outgrows what a server must take
/// (RFC 4954 §4).
const MAX_NAME: usize = 1024;
const MAX_PASSWORD: usize = 4096;

fn check_user(name: &str) -> Result<(), ConfigError> {
    match check_name(name) {
        Ok(name) if name.len() <= MAX_NAME => Ok(()),
        _ => Err(ConfigError::UserName),
    }
}

/// What a client signs in with.
#[derive(Clone, Debug)]
pub struct Credentials {
    authcid: Box<str>,
    authzid: Option<Box<str>>,
    password: Secret,
    salted: Option<SaltedPassword>,
}

impl Credentials {
    /// A user name and a password.
    ///
    /// # Errors
    /// [`ConfigError::UserName`] for a name that is empty, over 1,024 octets, or holds control
    /// characters; [`ConfigError::Password`] for a password that is empty, over 4,096 octets, or
    /// holds NUL.
    pub fn password(authcid: &str, password: impl Into<Secret>) -> Result<Self, ConfigError> {
        let password = password.into();
        let length = password.expose().len();
        check_user(authcid)?;
        if !(1..=MAX_PASSWORD).contains(&length) || password.expose().contains('\0') {
            return Err(ConfigError::Password);
        }
        Ok(Self { authcid: authcid.into(), authzid: None, password, salted: None })
    }

    /// The account to act as, where it is another. Only mechanisms that carry it are used then.
    ///
    /// # Errors
    /// [`ConfigError::UserName`] for a name that is empty or holds control characters.
    pub fn acting_as(mut self, authzid: &str) -> Result<Self, ConfigError> {
        check_user(authzid)?;
        self.authzid = Some(authzid.into());
        Ok(self)
    }

    /// With the salted password of an earlier sign-in, which spares SCRAM its work where the server
    /// still has the same salt and iterations.
    pub fn salted(mut self, salted: SaltedPassword) -> Self {
        self.salted = Some(salted);
        self
    }

    /// The user name.
    pub fn authcid(&self) -> &str {
        &self.authcid
    }

    /// The account to act as, where one was named.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.password
    }

    /// Whether the mechanism can carry them.
    fn fit(&self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::Plain
            | Mechanism::ScramSha512
            | Mechanism::ScramSha256
            | Mechanism::ScramSha1 => true,
            Mechanism::Login | Mechanism::CramMd5 => self.authzid.is_none(),
        }
    }
}

/// Why an exchange did not sign the client in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server refused.
    #[error("the server refused the user name or password")]
    Refused,
    /// The configuration does not list the mechanism, or it cannot carry the credentials.
    #[error("this client does not use the mechanism with these credentials")]
    Unsupported,
    /// The mechanism sends the password, and there is no TLS.
    #[error("this client does not send a password without TLS")]
    NeedsTls,
    /// The server's challenge could not be decoded, or has no place in the mechanism.
    #[error("the server sent a challenge that the mechanism does not have")]
    UnexpectedChallenge,
    /// The server said success before the mechanism was at its end.
    #[error("the server said success before the exchange was complete")]
    EarlySuccess,
    /// The server has not proven that it knows the password: it is not the one that the password
    /// was made for.
    #[error("the server could not prove that it knows the password: it may be an impostor")]
    ServerNotAuthentic,
    /// The server reports an error where its proof should stand.
    #[error("the server reports an error in the sign-in")]
    ServerError,
    /// The server asks for a number of iterations that the configuration does not allow.
    #[error("the server asks for {0} iterations, which this client does not do")]
    Iterations(u32),
    /// The user name or the password has characters that SASLprep (RFC 4013) does not allow.
    #[error("the user name or password holds characters that this mechanism does not allow")]
    Unprepared,
    /// There is no usable nonce.
    #[error("this client has no random numbers, which the mechanism needs")]
    NoNonce,
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
    /// The exchange is over; this stays. After an error that is not [`Failure::Refused`] the
    /// server still waits: cancel.
    Done(Result<(), Failure>),
}

/// A response for the server. **It stands until it is settled** by [`challenge`](Self::challenge),
/// [`success`](Self::success) or [`refused`](Self::refused).
#[derive(Debug)]
pub struct Response {
    data: Option<SecretBytes>,
    answer: Option<Answer>,
}

#[derive(Debug)]
enum Answer {
    Challenge(Vec<u8>),
    Success,
    Refused,
}

impl Response {
    fn new(data: Option<Vec<u8>>) -> Self {
        Self { data: data.map(SecretBytes::new), answer: None }
    }

    /// What to send. At first it is the initial response: `None` where the mechanism has none,
    /// which differs from an empty one.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_ref().map(SecretBytes::as_slice)
    }

    /// The server sent a challenge.
    pub fn challenge(&mut self, challenge: impl Into<Vec<u8>>) {
        self.answer = Some(Answer::Challenge(challenge.into()));
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

/// The password is to be salted: PBKDF2, some milliseconds of work at 4,096 iterations. **This
/// stands until it is settled** by [`run`](Self::run) or [`answer`](Self::answer).
#[derive(Debug)]
pub struct Derive {
    job: DeriveJob,
    answer: Option<SaltedPassword>,
}

impl Derive {
    pub(super) fn new(hash: ScramHash, password: String, salt: Vec<u8>, iterations: u32) -> Self {
        let job = DeriveJob { hash, password: Secret::new(password), salt, iterations };
        Self { job, answer: None }
    }

    /// Does the work here and now.
    pub fn run(&mut self) {
        self.answer = Some(self.job.clone().run());
    }

    /// The work as a value of its own, for another thread.
    pub fn job(&self) -> DeriveJob {
        self.job.clone()
    }

    /// Settles it with what the job gave. Another job's result, which comes late, changes nothing.
    pub fn answer(&mut self, salted: SaltedPassword) {
        if self.fits(&salted) {
            self.answer = Some(salted);
        }
    }

    fn fits(&self, salted: &SaltedPassword) -> bool {
        salted.hash == self.job.hash
            && *salted.salt == *self.job.salt
            && salted.iterations == self.job.iterations
    }
}

/// The work of a [`Derive`].
#[derive(Clone, Debug)]
pub struct DeriveJob {
    hash: ScramHash,
    password: Secret,
    salt: Vec<u8>,
    iterations: u32,
}

impl DeriveJob {
    /// Does it.
    pub fn run(self) -> SaltedPassword {
        SaltedPassword::derive(self.hash, self.password.expose(), &self.salt, self.iterations)
    }
}

/// What a mechanism makes of a challenge.
pub(super) enum Taken<C> {
    Response(Vec<u8>, C),
    Derive(Derive, C),
}

/// One exchange with a server: made for it, ended with it, never used again.
#[derive(Debug)]
pub struct Exchange {
    credentials: Credentials,
    mechanism: Mechanism,
    state: State,
}

#[derive(Debug)]
enum State {
    Respond(Response, Client),
    Derive(Derive, Client),
    Done(Result<(), Failure>),
}

/// Who takes the challenge.
#[derive(Debug)]
enum Client {
    Plain(plain::Client),
    Login(login::Client),
    CramMd5(cram_md5::Client),
    Scram(scram::Client),
}

impl Exchange {
    /// Begins an exchange by a mechanism that [`Config::choose`] found, or that the caller knows of.
    /// What the configuration does not allow ends at the first [`step`](Self::step), with nothing
    /// sent.
    pub fn new(
        config: &Config,
        channel: &Channel,
        mechanism: Mechanism,
        credentials: Credentials,
    ) -> Self {
        let begun = config
            .admit(mechanism, &credentials, channel)
            .and_then(|()| Client::begin(config, mechanism, &credentials));
        let state = match begun {
            Ok((initial, client)) => State::Respond(Response::new(initial), client),
            Err(failure) => State::Done(Err(failure)),
        };
        Self { credentials, mechanism, state }
    }

    /// What the exchange needs now. Asked again, the same, until that is settled.
    pub fn step(&mut self) -> Step<'_> {
        let state = mem::replace(&mut self.state, State::Done(Err(Failure::Refused)));
        self.state = state.advance(&self.credentials);
        match &mut self.state {
            State::Respond(response, _) => Step::Response(response),
            State::Derive(derive, _) => Step::Derive(derive),
            State::Done(outcome) => Step::Done(*outcome),
        }
    }

    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }
}

impl State {
    fn advance(self, credentials: &Credentials) -> Self {
        let (answer, client) = match self {
            Self::Respond(Response { answer: Some(answer), .. }, client) => (answer, client),
            Self::Derive(Derive { answer: Some(salted), .. }, client) => {
                return Self::derived(client, credentials, &salted);
            }
            waiting => return waiting,
        };
        match answer {
            Answer::Refused => Self::Done(Err(Failure::Refused)),
            Answer::Success => Self::Done(client.finish()),
            Answer::Challenge(challenge) => match client.take(credentials, &challenge) {
                Ok(Taken::Response(data, client)) => {
                    Self::Respond(Response::new(Some(data)), client)
                }
                Ok(Taken::Derive(derive, client)) => match &credentials.salted {
                    Some(salted) if derive.fits(salted) => {
                        Self::derived(client, credentials, salted)
                    }
                    _ => Self::Derive(derive, client),
                },
                Err(failure) => Self::Done(Err(failure)),
            },
        }
    }

    fn derived(client: Client, credentials: &Credentials, salted: &SaltedPassword) -> Self {
        match client.derived(credentials, salted) {
            Ok((data, client)) => Self::Respond(Response::new(Some(data)), client),
            Err(failure) => Self::Done(Err(failure)),
        }
    }
}

impl Client {
    fn begin(
        config: &Config,
        mechanism: Mechanism,
        credentials: &Credentials,
    ) -> Result<(Option<Vec<u8>>, Self), Failure> {
        Ok(match mechanism {
            Mechanism::ScramSha512 | Mechanism::ScramSha256 | Mechanism::ScramSha1 => {
                let (initial, client) = scram::Client::begin(config, mechanism, credentials)?;
                (initial, Self::Scram(client))
            }
            Mechanism::Plain => {
                let (initial, client) = plain::Client::begin(credentials)?;
                (initial, Self::Plain(client))
            }
            Mechanism::Login => {
                let (initial, client) = login::Client::begin(credentials)?;
                (initial, Self::Login(client))
            }
            Mechanism::CramMd5 => {
                let (initial, client) = cram_md5::Client::begin(credentials)?;
                (initial, Self::CramMd5(client))
            }
        })
    }

    fn take(self, credentials: &Credentials, challenge: &[u8]) -> Result<Taken<Self>, Failure> {
        let (data, client) = match self {
            Self::Scram(client) => {
                return Ok(match client.take(credentials, challenge)? {
                    Taken::Response(data, client) => Taken::Response(data, Self::Scram(client)),
                    Taken::Derive(derive, client) => Taken::Derive(derive, Self::Scram(client)),
                });
            }
            Self::Plain(client) => {
                let (data, client) = client.take(credentials, challenge)?;
                (data, Self::Plain(client))
            }
            Self::Login(client) => {
                let (data, client) = client.take(credentials, challenge)?;
                (data, Self::Login(client))
            }
            Self::CramMd5(client) => {
                let (data, client) = client.take(credentials, challenge)?;
                (data, Self::CramMd5(client))
            }
        };
        Ok(Taken::Response(data, client))
    }

    fn derived(
        self,
        credentials: &Credentials,
        salted: &SaltedPassword,
    ) -> Result<(Vec<u8>, Self), Failure> {
        match self {
            Self::Scram(client) => {
                let (data, client) = client.derived(credentials, salted)?;
                Ok((data, Self::Scram(client)))
            }
            _ => Err(Failure::UnexpectedChallenge),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Plain(client) => client.finish(),
            Self::Login(client) => client.finish(),
            Self::CramMd5(client) => client.finish(),
            Self::Scram(client) => client.finish(),
        }
    }
}
