//! What an exchange asks its host, and how the host answers.

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

/// A question to the application. It stays pending until it is answered: **a caller that ignores it is asked
/// again and again**; [`not_implemented`](Self::not_implemented) is the answer to every kind that it does
/// not know.
///
/// At most two are asked in an exchange, but for those of a [`Custom`] mechanism. The first is *who
/// are you?*, and its answer makes the client its `authcid`, nothing more. The second,
/// [`Authorize`], is *may you come in, and act as another?*.
///
/// The name and the password are data. Never build a query of SQL or LDAP out of them by hand.
#[derive(Debug)]
#[must_use = "the exchange waits for the answer"]
#[non_exhaustive]
pub enum Query<'a> {
    /// Is this the account's password? (PLAIN, LOGIN)
    CheckPassword(&'a mut CheckPassword),
    /// What does the store hold to check a CRAM-MD5 response of this account with?
    CramSecret(&'a mut CramSecretFor),
    /// What does the store hold to check a SCRAM proof of this account with?
    ScramKeys(&'a mut ScramKeysFor),
    /// Whose token is this? (OAUTHBEARER, XOAUTH2)
    CheckToken(&'a mut CheckToken),
    /// Which account does the client's certificate belong to? (EXTERNAL)
    CheckExternal(&'a mut CheckExternal),
    /// May a guest come in? (ANONYMOUS)
    CheckAnonymous(&'a mut CheckAnonymous),
    /// What does the application's own mechanism say to this?
    Custom(&'a mut Custom),
    /// May this account come in, and act as that one? Asked only once the first is proven.
    Authorize(&'a mut Authorize),
}

impl Query<'_> {
    /// Answers at once, by the method of `users` for this kind of question.
    pub fn answer_with(self, users: &(impl Authenticator + ?Sized)) {
        answer!(self, users, at_once);
    }

    /// [`answer_with`](Self::answer_with) for an authenticator that changes as it answers.
    pub fn answer_with_mut(self, users: &mut (impl AuthenticatorMut + ?Sized)) {
        answer!(self, users, at_once);
    }

    /// Answers by the method of `users` for this kind of question, once that has its answer.
    ///
    /// Where the future is dropped before, the question stays pending. After a time limit answer it by
    /// [`temp_fail`](Self::temp_fail), and do not ask again: the state of a [`Custom`] one may have moved on. In the loop
    /// of a session on tokio:
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

    /// Answers no: `535 5.7.8`.
    pub fn reject(self) {
        of_each!(self, ask => ask.answer(Fixed::Reject));
    }

    /// Answers that the store cannot say now: `454 4.7.0`.
    pub fn temp_fail(self) {
        of_each!(self, ask => ask.answer(Fixed::TempFail));
    }

    /// Answers that the application does not implement this kind of question, for any account: `454 4.7.0`,
    /// no attempt, and [`Failure::NotImplemented`](crate::sasl::Failure::NotImplemented) for the log. It is a mistake
    /// in the configuration, which offers a mechanism that the application cannot answer for.
    pub fn not_implemented(self) {
        let fixed = Fixed::NotImplemented(self.mechanism().name());
        of_each!(self, ask => ask.answer(fixed));
    }

    pub(crate) fn is_answered(&self) -> bool {
        of_each!(self, ask => ask.answer.is_some())
    }

    /// The mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        of_each!(self, ask => ask.mechanism())
    }

    /// The account's name that the client gave and has yet to prove, folded: what a rate limit counts by,
    /// before any store is asked. `None` where a question is not about such a name: a token, a certificate, a
    /// guest, a mechanism of the application's own, or a client that is proven already.
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

    /// A number that no other question of this process has. By it an application that looks up elsewhere
    /// knows a question that is pending still, and need not ask the store twice.
    pub fn serial(&self) -> u64 {
        of_each!(self, ask => ask.serial.get())
    }
}

/// A question's number. It has none until that is asked for, or copied, or shown: most hosts never ask,
/// and one count for all of a process is dear where many threads go on it.
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

/// The method of an [`Authenticator`] that a mechanism needs.
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
