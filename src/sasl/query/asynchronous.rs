//! A store that has to be waited for, whatever runs its futures.

use alloc::{boxed::Box, string::String};
use core::{
    fmt,
    future::{Future, ready},
    pin::Pin,
};

use super::{
    Answer, Authenticator, Authorize, CheckAnonymous, CheckExternal, CheckPassword, CheckToken,
    CramSecretFor, Custom, CustomAnswer, Query, ScramKeysFor, TokenAnswer,
};
use crate::sasl::{CramSecret, Failure, Mechanism, ScramKeys};

/// [`Authenticator`] for a store that has to be waited for: a database, a directory, the issuer of a token. It needs
/// no runtime, and works with any.
///
/// Write each method that you need as an `async fn`. Its future has to be [`Send`], so that a runtime may move it to
/// another thread. One that is not written answers [`not_implemented`](Answer::not_implemented), but for
/// [`authorize`](Self::authorize), which refuses. Computing does not belong here: Argon2 blocks the thread that polls
/// it, and all other connections with it. Send such work to a thread of its own, and wait for the answer here.
///
/// Implementations must take as long for an account that does not exist as for a wrong password: hash the
/// password against a dummy.
///
#[cfg_attr(feature = "plain", doc = "```")]
#[cfg_attr(not(feature = "plain"), doc = "```ignore")]
/// use smtp_auth::sasl::{
///     Answer, AsyncAuthenticator, CheckPassword, ConfigError, Mechanism, server::Config,
/// };
/// # struct Database;
/// # impl Database { async fn verify(&self, _: &str, _: &str) -> Result<bool, String> { Ok(false) } }
///
/// impl AsyncAuthenticator for Database {
///     fn mechanisms(&self) -> &[Mechanism] {
///         &[Mechanism::Plain]
///     }
///
///     async fn check_password(&self, ask: &CheckPassword) -> Answer {
///         match self.verify(ask.authcid(), ask.password().expose()).await {
///             Ok(right) => right.into(),
///             Err(_) => Answer::temp_fail(), // and a line in the log
///         }
///     }
/// }
///
/// async fn config(database: &Database) -> Result<Config, ConfigError> {
///     Config::builder("mail.example.org").answered_by_async(database).await.build()
/// }
/// ```
///
/// [`Query::answer_with_async`] asks it. A store that answers at once becomes one by [`Immediate`]; there is no
/// implementation for every [`Authenticator`], which would let a store that blocks pass unseen. [`BoxedAuthenticator`] is for a store
/// that is chosen when the program runs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer asynchronously",
    note = "an `Authenticator` that answers at once becomes an `AsyncAuthenticator` by `Immediate`"
)]
pub trait AsyncAuthenticator: Send + Sync {
    /// The mechanisms that this store can answer for: see [`Authenticator::mechanisms`].
    fn mechanisms(&self) -> &[Mechanism];

    /// Answers [`Query::CheckPassword`].
    fn check_password(&self, ask: &CheckPassword) -> impl Future<Output = Answer> + Send {
        let _ = ask;
        ready(Answer::not_implemented())
    }

    /// Answers [`Query::CramSecret`].
    fn cram_secret(&self, ask: &CramSecretFor) -> impl Future<Output = Answer<CramSecret>> + Send {
        let _ = ask;
        ready(Answer::not_implemented())
    }

    /// Answers [`Query::ScramKeys`].
    fn scram_keys(&self, ask: &ScramKeysFor) -> impl Future<Output = Answer<ScramKeys>> + Send {
        let _ = ask;
        ready(Answer::not_implemented())
    }

    /// Answers [`Query::CheckToken`].
    fn check_token(&self, ask: &CheckToken) -> impl Future<Output = TokenAnswer> + Send {
        let _ = ask;
        ready(TokenAnswer::NotImplemented)
    }

    /// Answers [`Query::CheckExternal`], with the account.
    fn check_external(&self, ask: &CheckExternal) -> impl Future<Output = Answer<String>> + Send {
        let _ = ask;
        ready(Answer::not_implemented())
    }

    /// Answers [`Query::CheckAnonymous`].
    fn check_anonymous(&self, ask: &CheckAnonymous) -> impl Future<Output = Answer> + Send {
        let _ = ask;
        ready(Answer::not_implemented())
    }

    /// Answers [`Query::Custom`], best by [`Custom::step_with`].
    fn custom(&self, ask: &mut Custom) -> impl Future<Output = CustomAnswer> + Send {
        ready(CustomAnswer::Fail(Failure::NotImplemented(ask.mechanism().name())))
    }

    /// Answers [`Query::Authorize`]: nobody acts as another unless this is written.
    fn authorize(&self, ask: &Authorize) -> impl Future<Output = Answer> + Send {
        let _ = ask;
        ready(Answer::reject())
    }
}

impl Query<'_> {
    /// Answers by the method of `users` for this kind of question, once that has its answer.
    ///
    /// Where the future is dropped before, the question stays pending. After a time limit answer it by
    /// [`temp_fail`](Self::temp_fail), and do not ask again: the state of a [`Custom`] one may have moved on.
    pub async fn answer_with_async(self, users: &impl AsyncAuthenticator) {
        match self {
            Self::CheckPassword(ask) => {
                let answer = users.check_password(ask).await;
                ask.answer(answer);
            }
            Self::CramSecret(ask) => {
                let answer = users.cram_secret(ask).await;
                ask.answer(answer);
            }
            Self::ScramKeys(ask) => {
                let answer = users.scram_keys(ask).await;
                ask.answer(answer);
            }
            Self::CheckToken(ask) => {
                let answer = users.check_token(ask).await;
                ask.answer(answer);
            }
            Self::CheckExternal(ask) => {
                let answer = users.check_external(ask).await;
                ask.answer(answer);
            }
            Self::CheckAnonymous(ask) => {
                let answer = users.check_anonymous(ask).await;
                ask.answer(answer);
            }
            Self::Custom(ask) => {
                let answer = users.custom(ask).await;
                ask.answer(answer);
            }
            Self::Authorize(ask) => {
                let answer = users.authorize(ask).await;
                ask.answer(answer);
            }
        }
    }
}

/// Writes a method for each question.
macro_rules! each_question {
    ($write:ident) => {
        $write!(check_password, [] CheckPassword, Answer);
        $write!(cram_secret, [] CramSecretFor, Answer<CramSecret>);
        $write!(scram_keys, [] ScramKeysFor, Answer<ScramKeys>);
        $write!(check_token, [] CheckToken, TokenAnswer);
        $write!(check_external, [] CheckExternal, Answer<String>);
        $write!(check_anonymous, [] CheckAnonymous, Answer);
        $write!(custom, [mut] Custom, CustomAnswer);
        $write!(authorize, [] Authorize, Answer);
    };
}

macro_rules! at_once {
    ($method:ident, [$($mut:tt)?] $ask:ty, $answer:ty) => {
        async fn $method(&self, ask: &$($mut)? $ask) -> $answer {
            self.0.$method(ask)
        }
    };
}

macro_rules! in_a_box {
    ($method:ident, [$($mut:tt)?] $ask:ty, $answer:ty) => {
        fn $method<'a>(&'a self, ask: &'a $($mut)? $ask) -> BoxedFuture<'a, $answer>;
    };
}

macro_rules! boxed {
    ($method:ident, [$($mut:tt)?] $ask:ty, $answer:ty) => {
        fn $method<'a>(&'a self, ask: &'a $($mut)? $ask) -> BoxedFuture<'a, $answer> {
            Box::pin(AsyncAuthenticator::$method(self, ask))
        }
    };
}

macro_rules! out_of_the_box {
    ($method:ident, [$($mut:tt)?] $ask:ty, $answer:ty) => {
        async fn $method(&self, ask: &$($mut)? $ask) -> $answer {
            self.0.$method(ask).await
        }
    };
}

/// An [`Authenticator`] as an [`AsyncAuthenticator`] that answers at once: for a store in memory. One that computes or
/// waits blocks the thread that polls it.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it wraps, and nothing else")]
pub struct Immediate<A>(pub A);

impl<A: Authenticator + Send + Sync> AsyncAuthenticator for Immediate<A> {
    fn mechanisms(&self) -> &[Mechanism] {
        self.0.mechanisms()
    }

    each_question!(at_once);
}

/// An [`AsyncAuthenticator`] of any type, for a store that is chosen when the program runs. Each answer costs an
/// allocation.
pub struct BoxedAuthenticator(Box<dyn AnyAuthenticator>);

impl BoxedAuthenticator {
    /// Takes the store.
    pub fn new(users: impl AsyncAuthenticator + 'static) -> Self {
        Self(Box::new(users))
    }
}

impl fmt::Debug for BoxedAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxedAuthenticator")
    }
}

impl AsyncAuthenticator for BoxedAuthenticator {
    fn mechanisms(&self) -> &[Mechanism] {
        self.0.mechanisms()
    }

    each_question!(out_of_the_box);
}

type BoxedFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What [`BoxedAuthenticator`] can be made of: the same trait, with futures whose type is one.
trait AnyAuthenticator: Send + Sync {
    fn mechanisms(&self) -> &[Mechanism];

    each_question!(in_a_box);
}

impl<A: AsyncAuthenticator> AnyAuthenticator for A {
    fn mechanisms(&self) -> &[Mechanism] {
        AsyncAuthenticator::mechanisms(self)
    }

    each_question!(boxed);
}
