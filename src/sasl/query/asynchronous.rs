//! A store that has to be waited for, whatever runs its futures.

use alloc::{boxed::Box, string::String, sync::Arc};
use core::{
    fmt,
    future::{Future, ready},
    pin::Pin,
};

use super::{
    Answer, Authenticator, Authorize, AuthorizeAnswer, CheckAnonymous, CheckExternal,
    CheckPassword, CheckToken, CramSecretFor, Custom, CustomAnswer, ScramKeysFor, TokenAnswer,
    each::{Fixed, documentation, each_question, unless_written},
};
use crate::sasl::{CramSecret, Mechanism, ScramKeys};

macro_rules! methods {
    (() $($variant:ident $method:ident [$($mut:tt)?] $question:ty, $answer:ty;)*) => {
        $(#[doc = concat!("Answers [`Query::", stringify!($variant), "`](super::Query::", stringify!($variant), ").", documentation!($method))]
        fn $method(&self, ask: &$($mut)? $question) -> impl Future<Output = $answer> + Send {
            ready(unless_written!($method ask))
        })*
    };
}

/// [`Authenticator`] for a store that has to be waited for: a database, a directory, the issuer of a token. It needs
/// no runtime, and works with any.
///
/// Write each method that you need as an `async fn`. Its future has to be [`Send`], so that a runtime may move it to
/// another thread. One that is not written answers [`not_implemented`](Answer::not_implemented), but for
/// [`authorize`](Self::authorize), which lets nobody act as another. Computing does not belong here: Argon2 blocks the thread that polls
/// it, and all other connections with it. Have such work done by other threads, and wait for the answer here: on tokio by
/// [`Blocking`](https://docs.rs/smtp-auth-tokio/latest/smtp_auth_tokio/struct.Blocking.html) of `smtp-auth-tokio`, an
/// `AsyncAuthenticator` that has an [`Authenticator`] answer on threads of its own, and which shows how that one asks an
/// asynchronous database.
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
/// [`Query::answer_with_async`](super::Query::answer_with_async) asks it. A store that answers at once becomes one by [`Immediate`]; there is no
/// implementation for every [`Authenticator`], which would let a store that blocks pass unseen. [`BoxedAuthenticator`] is for a store
/// that is chosen when the program runs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer asynchronously",
    note = "an `Authenticator` that answers at once, as from memory, becomes an `AsyncAuthenticator` by `Immediate`",
    note = "one that computes or blocks, as with Argon2 or a synchronous database, does so by `Blocking` of smtp-auth-tokio"
)]
pub trait AsyncAuthenticator: Send + Sync {
    /// The mechanisms that this store can answer for: see [`Authenticator::mechanisms`].
    fn mechanisms(&self) -> &[Mechanism];

    each_question!(methods!());
}

macro_rules! at_once {
    (() $($variant:ident $method:ident [$($mut:tt)?] $question:ty, $answer:ty;)*) => {
        $(async fn $method(&self, ask: &$($mut)? $question) -> $answer {
            self.0.$method(ask)
        })*
    };
}

macro_rules! awaited {
    (() $($variant:ident $method:ident [$($mut:tt)?] $question:ty, $answer:ty;)*) => {
        $(async fn $method(&self, ask: &$($mut)? $question) -> $answer {
            self.0.$method(ask).await
        })*
    };
}

macro_rules! forward {
    (() $($variant:ident $method:ident [$($mut:tt)?] $question:ty, $answer:ty;)*) => {
        $(fn $method(&self, ask: &$($mut)? $question) -> impl Future<Output = $answer> + Send {
            A::$method(self, ask)
        })*
    };
}

macro_rules! in_a_box {
    (() $($variant:ident $method:ident [$($mut:tt)?] $question:ty, $answer:ty;)*) => {
        $(fn $method<'a>(&'a self, ask: &'a $($mut)? $question) -> BoxedFuture<'a, $answer>;)*
    };
}

macro_rules! boxed {
    (() $($variant:ident $method:ident [$($mut:tt)?] $question:ty, $answer:ty;)*) => {
        $(fn $method<'a>(&'a self, ask: &'a $($mut)? $question) -> BoxedFuture<'a, $answer> {
            Box::pin(A::$method(self, ask))
        })*
    };
}

macro_rules! pointers {
    ($($pointer:ty),*) => {
        $(impl<A: AsyncAuthenticator> AsyncAuthenticator for $pointer {
            fn mechanisms(&self) -> &[Mechanism] {
                A::mechanisms(self)
            }

            each_question!(forward!());
        })*
    };
}

pointers!(&A, Box<A>, Arc<A>);

/// An [`Authenticator`] as an [`AsyncAuthenticator`] that answers at once: for a store in memory. One that computes or
/// waits blocks the thread that polls it.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it wraps, and nothing else")]
pub struct Immediate<A>(pub A);

impl<A: Authenticator + Send + Sync> AsyncAuthenticator for Immediate<A> {
    fn mechanisms(&self) -> &[Mechanism] {
        self.0.mechanisms()
    }

    each_question!(at_once!());
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

    each_question!(awaited!());
}

type BoxedFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What [`BoxedAuthenticator`] can be made of: the same trait, with futures whose type is one.
trait AnyAuthenticator: Send + Sync {
    fn mechanisms(&self) -> &[Mechanism];

    each_question!(in_a_box!());
}

impl<A: AsyncAuthenticator> AnyAuthenticator for A {
    fn mechanisms(&self) -> &[Mechanism] {
        A::mechanisms(self)
    }

    each_question!(boxed!());
}
