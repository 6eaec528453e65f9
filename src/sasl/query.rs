//! The questions that an exchange asks the application, and their answers.

use core::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{Mechanism, scram_keys::Kind};

mod answer;
mod asynchronous;
mod authenticator;
mod authorize;
mod custom;
mod each;
mod job;
mod password;
mod peer;
mod token;

pub use answer::Answer;
pub(super) use answer::Verdict;
pub use asynchronous::{AsyncAuthenticator, BoxedAuthenticator, Immediate};
pub use authenticator::{Authenticator, AuthenticatorMut};
pub use authorize::{Authorize, AuthorizeAnswer};
pub use custom::{Custom, CustomAnswer, ServerMechanism};
use each::{Fixed, answer, answer_each, at_once, awaited, each_question, match_each, of_each};
pub(super) use job::Probes;
pub use job::QueryJob;
pub(super) use password::Authcid;
pub use password::{CheckPassword, CramSecretFor, ScramKeysFor};
pub use peer::{CheckAnonymous, CheckExternal};
pub use token::{CheckToken, TokenAnswer, TokenError};

/// A question that an exchange asks the application.
///
/// A query stays pending until it is answered. **If the application ignores a query, the exchange returns the same
/// query again and again.** If the application does not support a kind of query, answer each query of that kind with
/// [`not_implemented`](Self::not_implemented).
///
/// An exchange asks at most two questions. The only exception is an exchange with a custom mechanism, which can ask a
/// [`Custom`] question for each response from the client. The first question asks who the client is. The answer to the
/// first question determines the client's `authcid`, but not whether the client may act as another account. The second
/// question, [`Authorize`], asks whether the account is admitted, and whether it may act as another account.
///
/// Names and passwords are untrusted input. To prevent injection, never concatenate them into SQL or LDAP queries.
#[derive(Debug)]
#[must_use = "the exchange waits for the answer"]
#[non_exhaustive]
pub enum Query<'a> {
    /// Is this the account's password? (PLAIN, LOGIN)
    CheckPassword(&'a mut CheckPassword),
    /// What is this account's stored secret for CRAM-MD5? The exchange verifies the client's response with this secret.
    CramSecret(&'a mut CramSecretFor),
    /// What are this account's stored keys for SCRAM? The exchange verifies the client's proof with these keys.
    ScramKeys(&'a mut ScramKeysFor),
    /// Which account does this token belong to? (OAUTHBEARER, XOAUTH2)
    CheckToken(&'a mut CheckToken),
    /// Which account does the client's certificate belong to? (EXTERNAL)
    CheckExternal(&'a mut CheckExternal),
    /// Are guests admitted? (ANONYMOUS)
    CheckAnonymous(&'a mut CheckAnonymous),
    /// How does the application's custom mechanism react to this response from the client?
    Custom(&'a mut Custom),
    /// Is this account admitted, and may it act as the account that the client named? An exchange asks this question
    /// only after the account has been authenticated.
    Authorize(&'a mut Authorize),
}

impl Query<'_> {
    /// Answers the query at once by calling the method of `users` for this kind of question.
    pub fn answer_with(self, users: &(impl Authenticator + ?Sized)) {
        answer!(self, users, at_once);
    }

    /// Like [`answer_with`](Self::answer_with), but for an [`AuthenticatorMut`], whose methods take `&mut self`.
    pub fn answer_with_mut(self, users: &mut (impl AuthenticatorMut + ?Sized)) {
        answer!(self, users, at_once);
    }

    /// Awaits the async method of `users` for this kind of question, and answers the query with the result.
    ///
    /// If the future is dropped before it completes, the query stays pending. After a timeout, answer the query with
    /// [`temp_fail`](Self::temp_fail). Do not call `answer_with_async` for the same query again, because the state of a
    /// [`Custom`] mechanism may have changed. The following example is part of a session's loop on tokio:
    ///
    #[cfg_attr(feature = "smtp", doc = "```")]
    #[cfg_attr(not(feature = "smtp"), doc = "```ignore")]
    /// # use smtp_auth::{AsyncAuthenticator, sasl::Query, server::{Event, Session}};
    /// # use std::time::Duration;
    /// # async fn handle(session: &mut Session, users: &impl AsyncAuthenticator) {
    /// if let Event::Query(query) = session.pending() {
    ///     let answered = tokio::time::timeout(Duration::from_secs(10), query.answer_with_async(users));
    ///     if answered.await.is_err() {
    ///         session.query().into_iter().for_each(Query::temp_fail);
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn answer_with_async(self, users: &impl AsyncAuthenticator) {
        answer!(self, users, awaited);
    }

    /// Rejects the client. Every kind of query can be answered in this way. Over SMTP, the client receives
    /// `535 5.7.8`, as for a wrong password.
    pub fn reject(self) {
        of_each!(self, ask => ask.answer(Fixed::Reject));
    }

    /// Reports that the application cannot answer the question at the moment. Over SMTP, the client receives
    /// `454 4.7.0`.
    pub fn temp_fail(self) {
        of_each!(self, ask => ask.answer(Fixed::TempFail));
    }

    /// Reports that the application does not support this kind of query for any account.
    ///
    /// Over SMTP, the client receives `454 4.7.0`, and the failure does not count as a failed attempt. The exchange
    /// ends in [`Failure::NotImplemented`](crate::sasl::Failure::NotImplemented). Log this failure, because it means
    /// that the configuration offers a mechanism that the application does not support.
    pub fn not_implemented(self) {
        let fixed = Fixed::NotImplemented(self.mechanism().name());
        of_each!(self, ask => ask.answer(fixed));
    }

    /// Returns whether the query has an answer.
    pub(crate) fn is_answered(&self) -> bool {
        of_each!(self, ask => ask.answer.is_some())
    }

    /// Returns the mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        of_each!(self, ask => ask.mechanism())
    }

    /// Returns the [folded](crate::sasl::server::Builder::fold_names) account name that the client claims. The client
    /// has not yet been authenticated. Before you query a store, use the name as a key for rate limiting.
    ///
    /// Returns `None` if the question is not about a claimed name, but about a token, a certificate, a guest, a
    /// custom mechanism, or a client that has already been authenticated.
    pub fn authcid(&self) -> Option<&str> {
        match self {
            Self::CheckPassword(ask) => Some(ask.authcid()),
            Self::CramSecret(ask) => Some(ask.authcid()),
            Self::ScramKeys(ask) => Some(ask.authcid()),
            Self::CheckToken(_)
            | Self::CheckExternal(_)
            | Self::CheckAnonymous(_)
            | Self::Custom(_)
            | Self::Authorize(_) => None,
        }
    }

    /// Returns a number that identifies this question within the process.
    ///
    /// An application that looks up the answer on another thread can use this number to recognize a question that is
    /// still pending, so that the application does not query its store twice.
    pub fn serial(&self) -> u64 {
        of_each!(self, ask => ask.serial.get())
    }
}

/// The serial number of a question. It is assigned only when it is read, copied or printed: most applications
/// never read it, and a counter that is shared by the whole process is expensive when many threads increment
/// it.
#[derive(Default)]
struct Serial(AtomicUsize);

impl Serial {
    fn get(&self) -> u64 {
        self.number() as u64
    }

    fn number(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let given = self.0.load(Ordering::Relaxed);
        if given != 0 {
            return given;
        }
        let own = NEXT.fetch_add(1, Ordering::Relaxed);
        match self.0.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => own,
            Err(given) => given,
        }
    }
}

impl Clone for Serial {
    fn clone(&self) -> Self {
        Self(self.number().into())
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// Returns the name of the method of an [`Authenticator`] that a mechanism needs.
pub(super) fn method(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Plain | Mechanism::Login => "check_password",
        Mechanism::CramMd5 => "cram_secret",
        Mechanism::OauthBearer | Mechanism::Xoauth2 => "check_token",
        Mechanism::External => "check_external",
        Mechanism::Anonymous => "check_anonymous",
        scram if Kind::of(scram).is_some() => "scram_keys",
        _ => "custom",
    }
}
