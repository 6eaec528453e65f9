//! The server side of a SASL exchange.
//!
//! A [`Config`] lists the mechanisms that a server offers, and an [`Exchange`] uses one of them to authenticate a
//! client. For an example, see the [`sasl`](super) module.

use alloc::{borrow::Cow, boxed::Box, string::String, sync::Arc, vec::Vec};
use core::{fmt, mem};

use super::{
    Authorize, AuthorizeAnswer, Channel, CheckAnonymous, CheckExternal, CheckPassword, CheckToken,
    CramSecretFor, Custom, CustomAnswer, Failure, Identity, Mechanism, Query, Refusal,
    ScramKeysFor, TokenAnswer, anonymous, check_name, cram_md5, external, login,
    names::{Authzid, Claim, Rules},
    oauth, plain, scram,
};
use crate::secret::SecretBytes;

mod config;

pub use config::{Builder, Config};

/// A message of the server. Most messages are always the same, and need no memory.
#[derive(Clone, Default)]
pub(super) struct Said(Cow<'static, [u8]>);

impl Said {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_owned(self) -> Vec<u8> {
        self.0.into_owned()
    }
}

impl From<&'static [u8]> for Said {
    fn from(text: &'static [u8]) -> Self {
        Self(text.into())
    }
}

impl From<Vec<u8>> for Said {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets.into())
    }
}

/// Hides the message: an attacker who has recorded the exchange could guess the password with the server's proof.
impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Said(***)")
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
    /// Send this challenge to the client, and pass the client's response to [`respond`](Challenge::respond).
    Challenge(&'a mut Challenge),
    /// Answer this question about an account or its credentials.
    Query(Query<'a>),
    /// The exchange is over. Every further call to [`step`](Exchange::step) returns the same result.
    Done(Result<&'a Identity, Failure>),
}

/// A challenge for the client. **It stays pending until you call** [`respond`](Self::respond),
/// [`cancel`](Self::cancel), [`too_long`](Self::too_long) or [`undecodable`](Self::undecodable).
#[derive(Debug)]
pub struct Challenge {
    memory: Said,
    /// The challenge begins at this position in the memory.
    start: u32,
    last: bool,
    response: Slot,
}

/// The client's response, or the reason why there is none.
#[derive(Debug)]
enum Slot {
    Open,
    Response(SecretBytes),
    Cancelled,
    TooLong,
    Undecodable,
}

impl Slot {
    fn take(&mut self, max_response: usize) -> Option<Result<SecretBytes, Failure>> {
        match mem::replace(self, Self::Open) {
            Self::Open => None,
            Self::Response(response) => Some(bounded(response, max_response)),
            Self::Cancelled => Some(Err(Failure::Cancelled)),
            Self::TooLong => Some(Err(Failure::TooLong)),
            Self::Undecodable => Some(Err(Failure::Encoding)),
        }
    }
}

/// Returns the response if it is no longer than the configuration allows.
fn bounded(response: SecretBytes, max_response: usize) -> Result<SecretBytes, Failure> {
    if response.as_slice().len() > max_response { Err(Failure::TooLong) } else { Ok(response) }
}

impl Challenge {
    fn new(data: impl Into<Said>) -> Self {
        Self { memory: data.into(), start: 0, last: false, response: Slot::Open }
    }

    /// Returns whether this is the last message of an exchange in which the client has already been authenticated.
    ///
    /// In a protocol that can report success and send data in one message, such as XMPP or LDAP, send the challenge's
    /// data in that message, and then call [`respond`](Self::respond) with an empty response. In IMAP, POP3 and SMTP,
    /// send the data like any other challenge.
    pub fn is_final(&self) -> bool {
        self.last
    }

    /// Returns the octets to send. A challenge may be empty.
    pub fn data(&self) -> &[u8] {
        self.memory.as_slice().get(self.start as usize..).unwrap_or_default()
    }

    /// Answers the challenge with the client's response. A `Vec` is moved, not copied, and is zeroed after use.
    pub fn respond(&mut self, response: impl Into<Vec<u8>>) {
        self.response = Slot::Response(SecretBytes::new(response.into()));
    }

    /// Reports that the client has cancelled the exchange. In SMTP, a client cancels with the line `*`. The exchange
    /// fails with [`Failure::Cancelled`], unless it [has already failed](Exchange::failure).
    pub fn cancel(&mut self) {
        self.response = Slot::Cancelled;
    }

    /// Reports that the client's response is longer than the protocol allows. The exchange fails with
    /// [`Failure::TooLong`], unless it [has already failed](Exchange::failure).
    pub fn too_long(&mut self) {
        self.response = Slot::TooLong;
    }

    /// Reports that the client's response cannot be decoded from base64, or from the encoding that the protocol uses
    /// instead of base64. The exchange fails with [`Failure::Encoding`], unless it [has already
    /// failed](Exchange::failure).
    pub fn undecodable(&mut self) {
        self.response = Slot::Undecodable;
    }
}

/// A SASL exchange with a client. Create a new `Exchange` for each authentication.
pub struct Exchange {
    rules: Rules,
    state: State,
}

impl Exchange {
    /// Begins an exchange.
    ///
    /// If the client sent no initial response, pass `None`. The server then sends a challenge first. If the client sent
    /// an empty initial response, pass an empty `Vec`. If the configuration does not allow the mechanism or the initial
    /// response, the first [`step`](Self::step) returns the failure.
    pub fn new(
        config: &Arc<Config>,
        channel: &Channel,
        mechanism: Mechanism,
        initial_response: Option<Vec<u8>>,
    ) -> Self {
        let initial_response = initial_response.map(SecretBytes::new);
        match config.admit(mechanism, channel) {
            Ok(()) => Self::admitted(config, channel, mechanism, initial_response),
            Err(failure) => Self::refused(failure),
        }
    }

    /// Begins an exchange with a mechanism that the caller has already checked.
    #[inline(always)]
    pub(crate) fn admitted(
        config: &Arc<Config>,
        channel: &Channel,
        mechanism: Mechanism,
        initial_response: Option<SecretBytes>,
    ) -> Self {
        Self {
            rules: config.rules(),
            state: State::begin(config, channel, mechanism, initial_response),
        }
    }

    /// Creates an exchange that has already failed.
    pub(crate) fn refused(failure: Failure) -> Self {
        Self { rules: Rules::NOTHING, state: State::failed(failure) }
    }

    /// Returns the next step of the exchange. Until the step has been answered, further calls return the same step.
    #[inline]
    pub fn step(&mut self) -> Step<'_> {
        self.state.go_on(&self.rules);
        self.pending()
    }

    /// Returns the reason why the exchange has failed, as soon as the failure is certain.
    ///
    /// If a token is refused, the failure is certain before the last [`Step`]. The exchange still returns a challenge
    /// that informs the client of the error (RFC 7628 §3.2.3), and then fails regardless of the client's response. When
    /// this method first returns a failure, count the attempt for rate limiting, and pause. Count and pause before you
    /// send the challenge, because the client may close the connection as soon as it has received the error.
    pub fn failure(&self) -> Option<Failure> {
        match &self.state {
            State::Done(Err(failed)) => Some(failed.why),
            State::Await(_, Next::Oauth(server)) => server.refused(),
            _ => None,
        }
    }

    /// Returns the [folded](Config::fold) account name that the client claimed, if the exchange has failed. Use the
    /// name as a key for rate limiting.
    ///
    /// Returns `None` if the client did not send a name. If the mechanism identifies the client without a name, for
    /// example with a token, this method also returns `None` if the exchange failed before the account was known.
    pub fn authcid(&self) -> Option<&str> {
        Some(&self.claim()?.authcid)
    }

    /// Returns the account that the claimed name is an alias of, if the store's [answer](super::Answer::of) named
    /// such an account. Count the failed attempt against this account as well.
    ///
    /// Returns `None` if the answer did not name an account, or named the same account as the client.
    pub fn account(&self) -> Option<&str> {
        let claim = self.claim()?;
        Some(&***claim.account.as_ref()?).filter(|account| *account != claim.authcid)
    }

    /// Returns the application's custom refusal, if the exchange [failed](Failure::Refused) with one. The refusal
    /// contains the text and the codes for the client.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.state {
            State::Done(Err(failed)) => failed.refusal.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    fn claim(&self) -> Option<&Claim> {
        match &self.state {
            State::Done(Err(failed)) => failed.claim.as_deref(),
            _ => None,
        }
    }

    /// Returns the pending question, if there is one, without advancing the exchange. If the client sent an initial
    /// response, a question may already be pending before the first call to [`step`](Self::step).
    pub fn query(&mut self) -> Option<Query<'_>> {
        match self.pending() {
            Step::Query(query) => Some(query),
            Step::Challenge(_) | Step::Done(_) => None,
        }
    }

    #[inline(always)]
    pub(crate) fn pending(&mut self) -> Step<'_> {
        match &mut self.state {
            State::Await(challenge, _) => Step::Challenge(challenge),
            State::CheckPassword(ask) => Step::Query(Query::CheckPassword(ask)),
            State::CramSecret(ask) => Step::Query(Query::CramSecret(ask)),
            State::ScramKeys(ask, _) => Step::Query(Query::ScramKeys(ask)),
            State::CheckToken(ask, _) => Step::Query(Query::CheckToken(ask)),
            State::CheckExternal(ask) => Step::Query(Query::CheckExternal(ask)),
            State::CheckAnonymous(ask) => Step::Query(Query::CheckAnonymous(ask)),
            State::Custom(ask) => Step::Query(Query::Custom(ask)),
            State::Authorize(ask, _) => Step::Query(Query::Authorize(ask)),
            State::Done(outcome) => Step::Done(outcome.as_ref().map_err(|failed| failed.why)),
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("state", &self.state).finish_non_exhaustive()
    }
}

/// The state of an exchange. If a state waits for an answer, it contains the answer once the answer has been given.
///
/// The type is 128 octets long. Up to this size, the compiler moves a value without calling a function, so some
/// variants are boxed and some numbers are small.
///
/// The functions that create the first and the last state are `inline(always)`, so that the state is written
/// directly into its place. PLAIN's are as well, because its first state is already its question. Otherwise the
/// state would be copied in larger pieces than it was just written in, which stalls the processor.
#[derive(Debug)]
pub(super) enum State {
    Await(Challenge, Next),
    CheckPassword(CheckPassword),
    CramSecret(CramSecretFor),
    ScramKeys(ScramKeysFor, scram::AwaitsKeys),
    CheckToken(Box<CheckToken>, Arc<Config>),
    CheckExternal(CheckExternal),
    CheckAnonymous(CheckAnonymous),
    Custom(Box<Custom>),
    /// Boxed because it is rare.
    Authorize(Box<Authorize>, Then),
    Done(Result<Identity, Failed>),
}

/// The reason why there is no identity, and the name that the client claimed.
#[derive(Debug)]
pub(super) struct Failed {
    why: Failure,
    claim: Option<Box<Claim>>,
    /// The application's custom refusal.
    refusal: Option<Box<Refusal>>,
}

/// The continuation after a client has been authenticated.
#[derive(Debug)]
pub(super) enum Then {
    Done,
    /// The server sends its own proof, which the client answers with an empty response (RFC 4954 §4).
    ServerFinal(Said),
    /// No message follows. If the client may not act as the other account, it receives the error for an invalid token.
    Token(Arc<Config>),
}

/// The mechanism that processes the next response.
#[derive(Debug)]
pub(super) enum Next {
    Plain(plain::Server),
    Login(login::Server),
    CramMd5(cram_md5::Server),
    Scram(scram::Server),
    Oauth(oauth::Server),
    External(external::Server),
    Anonymous(anonymous::Server),
    Custom(Box<Custom>),
    Confirm(Identity),
}

impl State {
    #[inline(always)]
    fn begin(
        config: &Arc<Config>,
        channel: &Channel,
        mechanism: Mechanism,
        initial_response: Option<SecretBytes>,
    ) -> Self {
        if let (Mechanism::CramMd5, Some(_)) = (mechanism, &initial_response) {
            return Self::failed(Failure::UnexpectedInitialResponse);
        }
        let rules = config.rules();
        let within = |response| bounded(response, rules.max_response());
        let response = match initial_response.map(within).transpose() {
            Ok(response) => response,
            Err(failure) => return Self::failed(failure),
        };
        match mechanism {
            Mechanism::Plain => {
                Self::first(&rules, plain::Server::begin(config), Next::Plain, response)
            }
            Mechanism::Login => {
                Self::first(&rules, login::Server::begin(config), Next::Login, response)
            }
            Mechanism::CramMd5 => {
                Self::first(&rules, cram_md5::Server::begin(config), Next::CramMd5, response)
            }
            Mechanism::ScramSha512Plus
            | Mechanism::ScramSha256Plus
            | Mechanism::ScramSha1Plus
            | Mechanism::ScramSha512
            | Mechanism::ScramSha256
            | Mechanism::ScramSha1 => Self::first(
                &rules,
                scram::Server::begin(config, channel, mechanism),
                Next::Scram,
                response,
            ),
            Mechanism::OauthBearer | Mechanism::Xoauth2 => {
                Self::first(&rules, oauth::Server::begin(config, mechanism), Next::Oauth, response)
            }
            Mechanism::External => {
                Self::first(&rules, external::Server::begin(channel), Next::External, response)
            }
            Mechanism::Anonymous => {
                Self::first(&rules, anonymous::Server::begin(config), Next::Anonymous, response)
            }
            Mechanism::Custom(_) => Self::Custom(Box::new(Custom::new(mechanism, response))),
        }
    }

    /// Creates the first state from the mechanism's first challenge and the mechanism that processes the response. An
    /// initial response counts as the response to that challenge, which is then not sent.
    #[inline(always)]
    fn first<S>(
        rules: &Rules,
        begun: Result<(impl Into<Said>, S), Failure>,
        next: impl Fn(S) -> Next,
        initial_response: Option<SecretBytes>,
    ) -> Self {
        match (begun, initial_response) {
            (Ok((challenge, server)), None) => Self::challenge(challenge, next(server)),
            (Ok((challenge, server)), Some(response)) => {
                next(server).take(rules, challenge.into(), response)
            }
            (Err(failure), _) => Self::failed(failure),
        }
    }

    /// Moves to the next state if the current state has been answered. Otherwise, returns `None` and changes nothing.
    ///
    /// The parts that are still needed are taken out of the current state, so that no state is moved as a
    /// whole, which would cost more than most mechanisms. After that, no code of the application runs whose
    /// panic could leave the state half empty. If this exchange holds the last reference to a configuration,
    /// the assignment drops it, and puts the new state in place even if that panics.
    #[inline(never)]
    fn go_on(&mut self, rules: &Rules) -> Option<()> {
        *self = match self {
            Self::Await(challenge, next) => {
                let response = challenge.response.take(rules.max_response())?;
                let said = mem::take(&mut challenge.memory);
                match response {
                    Ok(response) => next.take(rules, said, response),
                    Err(failure) => Self::refused(failure, next.claim()),
                }
            }
            Self::CheckPassword(ask) => {
                let (answer, mechanism) = (ask.answer.take()?, ask.mechanism());
                let (authcid, authzid) = ask.take_names();
                let claim = Claim { authcid, account: answer.account };
                match answer.verdict.outcome(mechanism) {
                    Ok(()) => Self::proven(rules, claim, authzid, mechanism, Then::Done),
                    Err(failure) => Self::refused(failure, Some(claim)),
                }
            }
            Self::CramSecret(ask) => {
                // Taking the answer out would leave the states in memory here, and would zero only a copy of
                // them.
                let (answer, mechanism) = (ask.answer.as_ref()?, Mechanism::CramMd5);
                let account = answer.account.clone();
                let secret = answer.verdict.as_ref().secret(mechanism);
                let verified = secret.and_then(|(secret, verdict)| {
                    let right = cram_md5::verify(secret, &ask.challenge, ask.digest.expose());
                    verdict.with_proof(right, mechanism)
                });
                let claim = Claim { authcid: ask.take_authcid(), account };
                match verified {
                    Ok(()) => Self::proven(rules, claim, None, mechanism, Then::Done),
                    Err(failure) => Self::refused(failure, Some(claim)),
                }
            }
            Self::ScramKeys(ask, awaits) => {
                ask.answer.as_ref()?;
                let nonce = awaits.nonce();
                let answer = ask.answer.take()?;
                awaits.server_first(nonce, ask, answer)
            }
            Self::CheckToken(ask, config) => match ask.answer.take()? {
                TokenAnswer::Accept(account) => {
                    let then = Then::Token(Arc::clone(config));
                    Self::named(rules, account, ask.authzid.take(), ask.mechanism, then)
                }
                TokenAnswer::Reject => oauth::refuse(config.own_token_error(), Failure::Rejected),
                TokenAnswer::RejectWith(error) => oauth::refuse(&error, Failure::Rejected),
                TokenAnswer::TempFail => Self::failed(Failure::TempFail),
                TokenAnswer::NotImplemented => {
                    Self::failed(Failure::NotImplemented(ask.mechanism.name()))
                }
            },
            Self::CheckExternal(ask) => {
                match ask.answer.take()?.verdict.outcome(Mechanism::External) {
                    Ok(account) => {
                        let authzid = ask.authzid.take();
                        Self::named(rules, account, authzid, Mechanism::External, Then::Done)
                    }
                    Err(failure) => Self::failed(failure),
                }
            }
            Self::CheckAnonymous(ask) => {
                match ask.answer.take()?.verdict.outcome(Mechanism::Anonymous) {
                    Ok(()) => {
                        let name = "anonymous".into();
                        Self::named(rules, name, None, Mechanism::Anonymous, Then::Done)
                    }
                    Err(failure) => Self::failed(failure),
                }
            }
            Self::Custom(ask) => match ask.answer.take()? {
                CustomAnswer::Challenge(data) => {
                    Self::challenge(data, Next::Custom(Box::new(ask.take())))
                }
                CustomAnswer::Accept { authcid, authzid } => {
                    match authzid.map(|name| rules.authzid(&name)).transpose() {
                        Ok(authzid) => {
                            Self::named(rules, authcid, authzid, ask.mechanism(), Then::Done)
                        }
                        Err(failure) => Self::failed(failure),
                    }
                }
                CustomAnswer::Fail(failure) => Self::failed(failure),
            },
            Self::Authorize(ask, then) => {
                // At this point, no octet of a success has been written, nor of the signature of SCRAM.
                match ask.answer.take()?.checked() {
                    AuthorizeAnswer::Accept => then.follow(ask.take_identity(None)),
                    AuthorizeAnswer::AcceptAs(account) => {
                        then.follow(ask.take_identity(Some(account.into())))
                    }
                    AuthorizeAnswer::Reject => then.refuse(ask.take_claim()),
                    AuthorizeAnswer::Refuse(refusal) => Self::Done(Err(Failed {
                        why: Failure::Refused(refusal.kind()),
                        claim: ask.take_claim().map(Box::new),
                        refusal: Some(Box::new(refusal)),
                    })),
                    AuthorizeAnswer::TempFail => Self::refused(Failure::TempFail, ask.take_claim()),
                    AuthorizeAnswer::NotImplemented => {
                        let failure = Failure::NotImplemented(ask.mechanism().name());
                        Self::refused(failure, ask.take_claim())
                    }
                }
            }
            Self::Done(_) => return None,
        };
        Some(())
    }

    /// Every successful authentication passes through this function, which asks [`Authorize`] if needed.
    #[inline(always)]
    pub(super) fn proven(
        rules: &Rules,
        claim: Claim,
        authzid: Option<Box<Authzid>>,
        mechanism: Mechanism,
        mut then: Then,
    ) -> Self {
        let Claim { authcid, account } = claim;
        let own = account.as_deref().map_or(&*authcid, |account| &**account);
        let other = authzid.filter(|authzid| !authzid.is_own(&authcid, own));
        let (authcid, alias) = match account {
            Some(account) => ((*account).into(), Some(authcid)),
            None => (authcid, None),
        };
        let identity = Identity { authcid, authzid: None, mechanism };
        if other.is_some() || rules.authorize_always {
            let other = other.map(|other| other.into_folded());
            Self::Authorize(Box::new(Authorize::new(identity, alias, other)), then)
        } else {
            then.follow(identity)
        }
    }

    /// Like [`proven`](Self::proven), but for an account name that the application returned.
    fn named(
        rules: &Rules,
        authcid: String,
        authzid: Option<Box<Authzid>>,
        mechanism: Mechanism,
        then: Then,
    ) -> Self {
        match check_name(&authcid) {
            Ok(_) => {
                Self::proven(rules, Claim { authcid, account: None }, authzid, mechanism, then)
            }
            Err(failure) => Self::failed(failure),
        }
    }

    fn failed(why: Failure) -> Self {
        Self::Done(Err(Failed { why, claim: None, refusal: None }))
    }

    /// Like [`failed`](Self::failed), but for a client that has claimed a name.
    pub(super) fn refused(why: Failure, claim: Option<Claim>) -> Self {
        Self::Done(Err(Failed { why, claim: claim.map(Box::new), refusal: None }))
    }

    pub(super) fn challenge(data: impl Into<Said>, next: Next) -> Self {
        Self::Await(Challenge::new(data), next)
    }

    /// Creates a challenge that begins at `start` in the memory. The mechanism gets back the whole memory with
    /// the response.
    pub(super) fn challenge_behind(start: usize, memory: Vec<u8>, next: Next) -> Self {
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        Self::Await(Challenge { start, ..Challenge::new(memory) }, next)
    }
}

impl Then {
    #[inline(always)]
    fn follow(&mut self, identity: Identity) -> State {
        match self {
            Self::Done | Self::Token(_) => State::Done(Ok(identity)),
            Self::ServerFinal(proof) => {
                let challenge = Challenge { last: true, ..Challenge::new(mem::take(proof)) };
                State::Await(challenge, Next::Confirm(identity))
            }
        }
    }

    /// Refuses a client that is authenticated, but may not act as the account that it named.
    fn refuse(&self, claim: Option<Claim>) -> State {
        match self {
            Self::Done | Self::ServerFinal(_) => State::refused(Failure::NotAuthorized, claim),
            Self::Token(config) => oauth::refuse(config.own_token_error(), Failure::NotAuthorized),
        }
    }
}

impl Next {
    #[inline(always)]
    fn take(&mut self, rules: &Rules, challenge: Said, response: SecretBytes) -> State {
        match self {
            Self::Plain(server) => server.take(rules, challenge, response).into(),
            Self::Login(server) => server
                .take(rules, challenge, response)
                .unwrap_or_else(|failure| State::refused(failure, server.claim())),
            Self::CramMd5(server) => server.take(rules, challenge, response).into(),
            Self::Scram(server) => server.take(rules, challenge, response),
            Self::Oauth(server) => server.take(rules, response).into(),
            Self::External(server) => server.take(rules, challenge, response).into(),
            Self::Anonymous(server) => server.take(rules, challenge, response).into(),
            Self::Custom(ask) => match ask.next(response) {
                Ok(()) => State::Custom(Box::new(ask.take())),
                Err(failure) => State::failed(failure),
            },
            Self::Confirm(identity) if response.as_slice().is_empty() => {
                State::Done(Ok(identity.take()))
            }
            Self::Confirm(_) => {
                let failure = Failure::Malformed("the last response is not empty");
                State::refused(failure, self.claim())
            }
        }
    }

    /// Returns the name that the client claimed, if it has sent one.
    fn claim(&mut self) -> Option<Claim> {
        match self {
            Self::Login(server) => server.claim(),
            Self::Scram(server) => server.claim(),
            Self::Confirm(identity) => {
                Some(Claim { authcid: identity.take().authcid, account: None })
            }
            _ => None,
        }
    }
}

impl From<Result<Self, Failure>> for State {
    #[inline(always)]
    fn from(result: Result<Self, Failure>) -> Self {
        result.unwrap_or_else(Self::failed)
    }
}
