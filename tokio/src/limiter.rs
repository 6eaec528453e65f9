//! Rate limiting of failed authentication, by network and by account.

use alloc::{boxed::Box, string::String, sync::Arc};
use core::{mem, net::IpAddr};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use smtp_auth::{
    sasl::{
        Answer, AsyncAuthenticator, Authorize, AuthorizeAnswer, CheckAnonymous, CheckExternal,
        CheckPassword, CheckToken, CramSecret, CramSecretFor, Custom, CustomAnswer, Failure,
        Identity, Mechanism, ScramKeys, ScramKeysFor, TokenAnswer,
    },
    server::AuthFailed,
};

mod memory;
mod table;

pub use memory::MemoryRateLimiter;

/// Rate limiting over all connections, against brute force and credential stuffing: counts failed attempts, and says
/// when there were too many. A [`Server`](crate::server::Server) has a [`MemoryRateLimiter`], unless it
/// [is given another](crate::server::Server::rate_limiter).
///
/// | | |
/// | --- | --- |
/// | a limited attempt | fails like a wrong password, whatever the password is: a `535` that takes as long, is counted and is delayed. A reply of its own would tell an attacker which guesses are worth repeating later |
/// | the store | is asked all the same, and its answer is [locked](smtp_auth::Answer::lock). It is not told, so a store that changes something when a password is right, such as the hash that it keeps, does so for a limited attempt, too |
/// | what is limited | passwords, and mechanisms of the application's own |
/// | what is not | tokens, certificates and guests, as nobody guesses a token; their failures count by network all the same |
/// | when the limiter is asked | before the store; after it, as many attempts may wait for the store at once; and once the client is proven, before the reply, as with SCRAM many connections may wait between the store's keys and the client's proof |
///
/// An implementation must treat an account that does not exist like one that does: otherwise the limit allows user
/// enumeration. Its methods are called on the runtime's threads, and must not block. A limiter that several servers share
/// counts in memory, and exchanges with the others in a task of its own.
pub trait RateLimiter: Send + Sync {
    /// Whether this attempt is limited, and so fails whatever the password is. It is called up to three times for an
    /// attempt, and counts nothing.
    fn is_limited(&self, attempt: &Attempt<'_>, now: Instant) -> bool;

    /// Counts an attempt that has failed, also one that was limited. It is called before the pause that delays the reply, so
    /// that a client that hangs up during the pause is counted.
    fn failed(&self, attempt: &Attempt<'_>, now: Instant);

    /// Notes that the account has authenticated from that network.
    fn authenticated(&self, attempt: &Attempt<'_>, now: Instant);
}

macro_rules! pointers {
    ($($pointer:ty),*) => {
        $(impl<L: RateLimiter + ?Sized> RateLimiter for $pointer {
            fn is_limited(&self, attempt: &Attempt<'_>, now: Instant) -> bool {
                L::is_limited(self, attempt, now)
            }

            fn failed(&self, attempt: &Attempt<'_>, now: Instant) {
                L::failed(self, attempt, now);
            }

            fn authenticated(&self, attempt: &Attempt<'_>, now: Instant) {
                L::authenticated(self, attempt, now);
            }
        })*
    };
}

pointers!(&L, Box<L>, Arc<L>);

/// `None` limits nothing.
impl<L: RateLimiter> RateLimiter for Option<L> {
    fn is_limited(&self, attempt: &Attempt<'_>, now: Instant) -> bool {
        self.as_ref().is_some_and(|limiter| limiter.is_limited(attempt, now))
    }

    fn failed(&self, attempt: &Attempt<'_>, now: Instant) {
        if let Some(limiter) = self {
            limiter.failed(attempt, now);
        }
    }

    fn authenticated(&self, attempt: &Attempt<'_>, now: Instant) {
        if let Some(limiter) = self {
            limiter.authenticated(attempt, now);
        }
    }
}

/// An attempt to authenticate, as far as a [`RateLimiter`] is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    address: Option<IpAddr>,
    authcid: Option<&'a str>,
    account: Option<&'a str>,
}

impl<'a> Attempt<'a> {
    /// An attempt from this address, by the name `authcid`, which is an alias of `account`.
    pub fn new(
        address: Option<IpAddr>,
        authcid: Option<&'a str>,
        account: Option<&'a str>,
    ) -> Self {
        Self { address, authcid, account: account.filter(|account| Some(*account) != authcid) }
    }

    /// The client's address; behind a proxy, the one in the proxy's header. `None` where there is none, as on a Unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The name that the client gave, folded ([`Config::fold`](smtp_auth::sasl::server::Config::fold)), whether there
    /// is such an account or not. `None` where the client did not get as far as a name, or authenticates by a token or a
    /// certificate. Do not log the name, and keep no more than a hash of it: some people type their password in its place.
    pub fn authcid(&self) -> Option<&'a str> {
        self.authcid
    }

    /// The account of which [`authcid`](Self::authcid) is an alias, once the store has said so ([`Answer::of`]). `None` where
    /// `authcid` is the account.
    pub fn account(&self) -> Option<&'a str> {
        self.account
    }

    /// Both names: an attempt counts by each.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        [self.authcid, self.account].into_iter().flatten()
    }
}

/// A store with rate limiting, for one connection. The session's configuration has
/// [`authorize_always`](smtp_auth::sasl::server::Builder::authorize_always) set, so that the limiter is asked once more
/// after the proof.
pub(crate) struct Limited<A, L> {
    users: A,
    limiter: L,
    address: Option<IpAddr>,
    /// Whether the application has asked for `authorize_always` by itself: only then is its store asked about an account
    /// that is to be used by itself.
    authorizes_always: bool,
    exchange: Mutex<Exchange>,
}

/// What is known of the exchange that goes on.
#[derive(Default)]
struct Exchange {
    /// The name that the client gave, where it is an alias. The identity does not have it.
    alias: Option<Box<str>>,
    is_limited: bool,
}

impl<A, L: RateLimiter> Limited<A, L> {
    /// For a connection from that address; `None` for a Unix socket.
    pub(crate) fn new(
        users: A,
        limiter: L,
        address: Option<IpAddr>,
        authorizes_always: bool,
    ) -> Self {
        Self { users, limiter, address, authorizes_always, exchange: Mutex::default() }
    }

    /// Counts an [`Event::AuthFailed`](smtp_auth::server::Event::AuthFailed), unless it is
    /// [no attempt](Failure::is_attempt). Whether it had to fail, because of the limits.
    pub(crate) fn failed(&self, failed: &AuthFailed<'_>) -> bool {
        let exchange = mem::take(&mut *self.exchange());
        if failed.why.is_attempt() {
            let attempt = Attempt::new(self.address, failed.authcid(), failed.account());
            self.limiter.failed(&attempt, now());
        }
        exchange.is_limited
    }

    /// Notes an [`Event::Authenticated`](smtp_auth::server::Event::Authenticated). A guest is nobody's account, and is
    /// not noted.
    pub(crate) fn authenticated(&self, identity: &Identity) {
        let Exchange { alias, .. } = mem::take(&mut *self.exchange());
        if !identity.is_anonymous() {
            let attempt = self.attempt_at(alias.as_deref(), identity.authcid());
            self.limiter.authenticated(&attempt, now());
        }
    }

    fn attempt_at<'a>(&self, alias: Option<&'a str>, account: &'a str) -> Attempt<'a> {
        Attempt::new(self.address, Some(alias.unwrap_or(account)), Some(account))
    }

    fn is_limited(&self, attempt: &Attempt<'_>) -> bool {
        let is_limited = self.limiter.is_limited(attempt, now());
        self.exchange().is_limited |= is_limited;
        is_limited
    }

    /// Has the store answer, and locks the answer where the attempt is limited.
    async fn judge<T>(&self, authcid: &str, answer: impl Future<Output = Answer<T>>) -> Answer<T> {
        let attempt = Attempt::new(self.address, Some(authcid), None);
        let before = self.is_limited(&attempt);
        let answer = answer.await;
        let attempt = Attempt::new(self.address, Some(authcid), answer.account());
        self.exchange().alias = attempt.account().map(|_| authcid.into());
        if before | self.is_limited(&attempt) { answer.lock() } else { answer }
    }

    /// No other code runs under this lock.
    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The runtime's clock, which a test can set.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Whether somebody who tries often enough gets in.
fn is_guessable(mechanism: Mechanism) -> bool {
    !mechanism.takes_token() && !matches!(mechanism, Mechanism::External | Mechanism::Anonymous)
}

impl<A: AsyncAuthenticator, L: RateLimiter> AsyncAuthenticator for Limited<A, L> {
    fn mechanisms(&self) -> &[Mechanism] {
        self.users.mechanisms()
    }

    async fn check_password(&self, ask: &CheckPassword) -> Answer {
        self.judge(ask.authcid(), self.users.check_password(ask)).await
    }

    async fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        self.judge(ask.authcid(), self.users.cram_secret(ask)).await
    }

    async fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.judge(ask.authcid(), self.users.scram_keys(ask)).await
    }

    async fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        self.users.check_token(ask).await
    }

    async fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        self.users.check_external(ask).await
    }

    async fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        self.users.check_anonymous(ask).await
    }

    async fn custom(&self, ask: &mut Custom) -> CustomAnswer {
        match self.users.custom(ask).await {
            CustomAnswer::Accept { authcid, .. }
                if self.is_limited(&self.attempt_at(None, &authcid)) =>
            {
                CustomAnswer::Fail(Failure::Locked)
            }
            answer => answer,
        }
    }

    async fn authorize(&self, ask: &Authorize) -> AuthorizeAnswer {
        let alias = self.exchange().alias.clone();
        // The store is not asked: a wrong proof does not come as far as this either.
        if is_guessable(ask.mechanism())
            && self.is_limited(&self.attempt_at(alias.as_deref(), ask.authcid()))
        {
            return AuthorizeAnswer::Reject;
        }
        if ask.authzid().is_none() && !self.authorizes_always {
            return AuthorizeAnswer::Accept;
        }
        self.users.authorize(ask).await
    }
}

#[cfg(test)]
mod tests;
