//! The server's side of an exchange.

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

/// What a server says: most of it is the same each time.
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

/// With a server's proof and an exchange that was eavesdropped on, a password can be guessed.
impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Said(***)")
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
    memory: Said,
    /// What is to be said stands behind this.
    start: u32,
    last: bool,
    response: Slot,
}

/// The client's response, once there is one, or why there is none.
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

/// The response, if it is no longer than the configuration allows.
fn bounded(response: SecretBytes, max_response: usize) -> Result<SecretBytes, Failure> {
    if response.as_slice().len() > max_response { Err(Failure::TooLong) } else { Ok(response) }
}

impl Challenge {
    fn new(data: impl Into<Said>) -> Self {
        Self { memory: data.into(), start: 0, last: false, response: Slot::Open }
    }

    /// Whether the client is proven, and this is all that is left to say to it. Protocols that carry
    /// data with success (XMPP, LDAP) send it so and `respond` with nothing; in IMAP, POP3 and SMTP
    /// it is a challenge like any other.
    pub fn is_final(&self) -> bool {
        self.last
    }

    /// What to send; it may be empty.
    pub fn data(&self) -> &[u8] {
        self.memory.as_slice().get(self.start as usize..).unwrap_or_default()
    }

    /// Settles it with the client's response. A `Vec` is moved, and zeroed when it is used.
    pub fn respond(&mut self, response: impl Into<Vec<u8>>) {
        self.response = Slot::Response(SecretBytes::new(response.into()));
    }

    /// The client wants no more of this exchange.
    pub fn cancel(&mut self) {
        self.response = Slot::Cancelled;
    }

    /// The client's response is too long for the protocol.
    pub fn too_long(&mut self) {
        self.response = Slot::TooLong;
    }

    /// The client's response cannot be decoded from base64, or what the protocol has in its place.
    pub fn undecodable(&mut self) {
        self.response = Slot::Undecodable;
    }
}

/// One exchange with a client: made for it, ended with it, never used again.
pub struct Exchange {
    rules: Rules,
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
        let initial_response = initial_response.map(SecretBytes::new);
        match config.admit(mechanism, channel) {
            Ok(()) => Self::admitted(config, channel, mechanism, initial_response),
            Err(failure) => Self::refused(failure),
        }
    }

    /// The same for a mechanism that the configuration was seen to allow.
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

    /// One that is over before it began.
    pub(crate) fn refused(failure: Failure) -> Self {
        Self { rules: Rules::NOTHING, state: State::failed(failure) }
    }

    /// What the exchange needs now. Asked again, the same, until that is settled.
    #[inline]
    pub fn step(&mut self) -> Step<'_> {
        self.state.go_on(&self.rules);
        self.pending()
    }

    /// Why the exchange has failed, as soon as that is decided. Where a token is refused that is before the
    /// last [`Step`]: the client is told why in a challenge (RFC 7628 §3.2.3), and the exchange ends in failure
    /// whatever it responds. So count the attempt, and pause, when this is first there: before the challenge is
    /// sent, as the client may close the connection when it has that.
    pub fn failure(&self) -> Option<Failure> {
        match &self.state {
            State::Done(Err(failed)) => Some(failed.why),
            State::Await(_, Next::Oauth(server)) => server.refused(),
            _ => None,
        }
    }

    /// Whom the client of a failed exchange claimed to be: the name, folded. What a rate limit counts by.
    /// `None` where it did not come as far as a name, or was to be known by something else, and has not been proven to be
    /// an account.
    pub fn authcid(&self) -> Option<&str> {
        Some(&self.claim()?.authcid)
    }

    /// The account of which that name is an alias, as the store's [answer](super::Answer::of) said: what fails
    /// is to be counted there, too. `None` where it is that name itself.
    pub fn account(&self) -> Option<&str> {
        let claim = self.claim()?;
        Some(&***claim.account.as_ref()?).filter(|account| *account != claim.authcid)
    }

    /// The application's own refusal, by which the exchange has [failed](Failure::Refused): for its text, and for the
    /// codes of the protocol.
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

    /// The question on show, if one is; nothing moves on. Behind an initial response one may be on
    /// show before any step.
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

/// Where an exchange stands. What each state waits for is in its slot. It has 128 octets, up to which
/// the compiler moves it without a call, so some are boxed, and numbers are small.
///
/// What makes the first and the last one is `inline(always)`, so that they are written where they stay,
/// and so is PLAIN, whose first state is its question. A copy of what was written just now, in larger
/// pieces than it was written in, would wait for that.
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
    /// Boxed, as it is rare.
    Authorize(Box<Authorize>, Then),
    Done(Result<Identity, Failed>),
}

/// Why there is no identity, and whom the client claimed to be.
#[derive(Debug)]
pub(super) struct Failed {
    why: Failure,
    claim: Option<Box<Claim>>,
    /// In the application's own words.
    refusal: Option<Box<Refusal>>,
}

/// What follows for who has been proven.
#[derive(Debug)]
pub(super) enum Then {
    Done,
    /// The server's own proof, which the client answers by an empty response (RFC 4954 §4).
    ServerFinal(Said),
    /// Nothing more, but who may not act as wanted is told so like the owner of a bad token.
    Token(Arc<Config>),
}

/// Who takes the response.
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

    /// The first state, with the mechanism's first challenge and who takes the response to it. An initial
    /// response is that to a challenge that was not sent.
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

    /// What follows, once what was owed is settled; `None` where it is not, and nothing has changed.
    ///
    /// What goes on is taken out of the slot, so that no state is moved as a whole: that would cost more
    /// than most mechanisms. From then on nothing of the host's runs, whose panic could leave the slot
    /// half empty: a configuration that this exchange is the last to hold is dropped by the assignment,
    /// which puts the new state in place even where that panics.
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
                // Not taken out of the slot, which would leave the states there and zero a copy of them.
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
                // Not an octet of a success has been written yet, nor of SCRAM's signature.
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

    /// The one way to success: whoever has been proven passes here, and on to [`Authorize`] if need
    /// be.
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

    /// The same for an account that the application named.
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

    /// The same of a client that has said who it is.
    pub(super) fn refused(why: Failure, claim: Option<Claim>) -> Self {
        Self::Done(Err(Failed { why, claim: claim.map(Box::new), refusal: None }))
    }

    pub(super) fn challenge(data: impl Into<Said>, next: Next) -> Self {
        Self::Await(Challenge::new(data), next)
    }

    /// The challenge is what stands behind `start`; what takes the response gets all of it.
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

    /// Who is proven may not act as wanted.
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

    /// Whom the client claims to be, where the exchange has come that far.
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
