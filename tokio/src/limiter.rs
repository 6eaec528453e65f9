//! Rate limiting of failed authentication, per network and per account.

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

/// Limits failed authentication attempts across connections, to protect against brute force and credential stuffing.
///
/// A rate limiter counts failed attempts, and decides when there have been too many. A
/// [`Server`](crate::server::Server) uses a [`MemoryRateLimiter`], unless [another rate
/// limiter](crate::server::Server::rate_limiter) is set.
///
/// | aspect | behaviour |
/// | --- | --- |
/// | a rate-limited attempt | A rate-limited attempt fails in the same way as an attempt with a wrong password, even if the password is correct. The checks and the pause before the `535` reply take as long as they do for a wrong password. The server also counts the failure. If the reply were different, an attacker could tell which guesses failed because of the limit, and could try these guesses again later. |
/// | the store | For a rate-limited attempt, the server queries the store as usual, and then calls [`lock`](smtp_auth::Answer::lock) on the store's answer. The store does not learn that the attempt is rate-limited. A store that changes data when the password is correct (for example, one that upgrades the stored hash) therefore does so for a rate-limited attempt as well. |
/// | limited mechanisms | The limits apply to all mechanisms that use a password, and to all custom mechanisms. |
/// | mechanisms that are not limited | The limits do not apply to ANONYMOUS, or to mechanisms that use a token or a client certificate, because these mechanisms involve nothing that an attacker could guess. Failed attempts with these mechanisms still count towards the limit for the client's network. |
/// | when the limiter is asked | For each attempt, the server asks the limiter up to three times whether the attempt is rate-limited. The server asks the limiter before it queries the store. The server asks the limiter again after the store has answered, because other attempts that were waiting for the store may have failed in the meantime. The server asks the limiter a third time before it sends the success reply. Without this third check, an attacker could start many SCRAM exchanges, wait until all of them have passed the first two checks, and then make one guess in each exchange, regardless of the limit. |
///
/// An implementation must treat accounts that do not exist in the same way as accounts that exist. Otherwise, the limit
/// makes user enumeration possible. The methods are called on the runtime's threads and must not block. If several
/// servers share their counts, the limiter of each server should keep the counts in memory, and exchange them with the
/// other servers in a separate task.
///
/// The following limiter exempts one network, and limits attempts from all other networks:
///
/// ```
/// use std::time::Instant;
/// use smtp_auth_tokio::{Attempt, MemoryRateLimiter, Network, RateLimiter};
///
/// struct Exempting {
///     /// The network of a webmail server, which limits the attempts of its users itself.
///     webmail: Network,
///     others: MemoryRateLimiter,
/// }
///
/// impl Exempting {
///     fn exempts(&self, attempt: &Attempt<'_>) -> bool {
///         attempt.address().is_some_and(|address| self.webmail.contains(address))
///     }
/// }
///
/// impl RateLimiter for Exempting {
///     fn is_limited(&self, attempt: &Attempt<'_>, now: Instant) -> bool {
///         !self.exempts(attempt) && self.others.is_limited(attempt, now)
///     }
///     fn failed(&self, attempt: &Attempt<'_>, now: Instant) {
///         if !self.exempts(attempt) {
///             self.others.failed(attempt, now);
///         }
///     }
///     fn authenticated(&self, attempt: &Attempt<'_>, now: Instant) {
///         if !self.exempts(attempt) {
///             self.others.authenticated(attempt, now);
///         }
///     }
/// }
/// ```
#[doc(alias("rate limit", "brute force", "credential stuffing", "throttle"))]
pub trait RateLimiter: Send + Sync {
    /// Returns whether this attempt is rate-limited. If this method returns `true`, the attempt fails even if the
    /// password is correct. Do not count anything in this method, because the server calls the method up to three times
    /// for one attempt.
    fn is_limited(&self, attempt: &Attempt<'_>, now: Instant) -> bool;

    /// Counts a failed attempt. The server also calls this method for an attempt that failed because
    /// [`is_limited`](Self::is_limited) returned `true`. The server calls this method before the pause that delays the
    /// reply, so that an attempt is counted even if the client disconnects during the pause.
    fn failed(&self, attempt: &Attempt<'_>, now: Instant);

    /// Records that the account has authenticated from this network. The server does not call this method for a guest
    /// (ANONYMOUS).
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

/// The value `None` turns rate limiting off.
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

/// An attempt to authenticate, which the server passes to a [`RateLimiter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    address: Option<IpAddr>,
    authcid: Option<&'a str>,
    account: Option<&'a str>,
}

impl<'a> Attempt<'a> {
    /// Creates an attempt from `address` with the name `authcid`. If this name is an alias, `account` is the account
    /// that it belongs to. If the two names are equal, `account` is ignored.
    pub fn new(
        address: Option<IpAddr>,
        authcid: Option<&'a str>,
        account: Option<&'a str>,
    ) -> Self {
        Self { address, authcid, account: account.filter(|account| Some(*account) != authcid) }
    }

    /// Returns the client's IP address. For a connection through a proxy, this is the address in the PROXY header. The
    /// result is `None` if the client has no address, for example on a Unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns the account name that the client sent, after [folding](smtp_auth::sasl::server::Config::fold). The
    /// account may or may not exist. The result is `None` if the exchange failed before the client sent a name, or if
    /// the client uses a token or a certificate.
    ///
    /// Do not log the name, and store at most a hash of it, because some people type their password instead of their
    /// name.
    pub fn authcid(&self) -> Option<&'a str> {
        self.authcid
    }

    /// Returns the account that [`authcid`](Self::authcid) is an alias of, if the store has reported this account
    /// ([`Answer::of`]). The result is `None` if `authcid` is the account itself.
    pub fn account(&self) -> Option<&'a str> {
        self.account
    }

    /// Returns [`authcid`](Self::authcid) and [`account`](Self::account), if they are known. An attempt counts towards
    /// the limit of each of these names.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        [self.authcid, self.account].into_iter().flatten()
    }
}

/// A store with rate limiting, for one connection. The session's configuration sets
/// [`authorize_always`](smtp_auth::sasl::server::Builder::authorize_always), so that the limiter is asked again after
/// the proof.
pub(crate) struct Limited<A, L> {
    users: A,
    limiter: L,
    address: Option<IpAddr>,
    /// Whether the application itself has set `authorize_always`. Only then is the application's store asked about a
    /// client that acts as its own account.
    authorizes_always: bool,
    exchange: Mutex<Exchange>,
}

/// The state of the current exchange.
#[derive(Default)]
struct Exchange {
    /// The name that the client sent, if it is an alias. The identity does not contain it.
    alias: Option<Box<str>>,
    is_limited: bool,
}

impl<A, L: RateLimiter> Limited<A, L> {
    /// Creates the store for a connection from the given address, or `None` for a Unix socket.
    pub(crate) fn new(
        users: A,
        limiter: L,
        address: Option<IpAddr>,
        authorizes_always: bool,
    ) -> Self {
        Self { users, limiter, address, authorizes_always, exchange: Mutex::default() }
    }

    /// Counts an [`Event::AuthFailed`](smtp_auth::server::Event::AuthFailed), unless it is [not an
    /// attempt](Failure::is_attempt). Returns whether the attempt was limited.
    pub(crate) fn failed(&self, failed: &AuthFailed<'_>) -> bool {
        let exchange = mem::take(&mut *self.exchange());
        if failed.why.is_attempt() {
            let attempt = Attempt::new(self.address, failed.authcid(), failed.account());
            self.limiter.failed(&attempt, now());
        }
        exchange.is_limited
    }

    /// Records an [`Event::Authenticated`](smtp_auth::server::Event::Authenticated). ANONYMOUS has no account, and is
    /// not recorded.
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

    /// Asks the store, and locks its answer if the attempt is limited.
    async fn judge<T>(&self, authcid: &str, answer: impl Future<Output = Answer<T>>) -> Answer<T> {
        let attempt = Attempt::new(self.address, Some(authcid), None);
        let before = self.is_limited(&attempt);
        let answer = answer.await;
        let attempt = Attempt::new(self.address, Some(authcid), answer.account());
        self.exchange().alias = attempt.account().map(|_| authcid.into());
        if before | self.is_limited(&attempt) { answer.lock() } else { answer }
    }

    /// Ignores poisoning: no code of the application runs under this lock.
    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the time of the runtime's clock, which tests can control.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns whether the mechanism is vulnerable to brute force.
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
        // The store is not asked here, because after a wrong proof it would not be asked either.
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
