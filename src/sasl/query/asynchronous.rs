//! Authenticators that are awaited, on any async runtime.

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

/// The async counterpart of [`Authenticator`], for a store whose answers have to be awaited, such as a database, a
/// directory or the issuer of a token. The trait does not depend on a particular async runtime. It works with tokio and
/// with any other runtime.
///
/// Implement each method that you need as an `async fn`. The method's future must be [`Send`], so that a runtime can
/// move the future to another thread. Every method except [`authorize`](Self::authorize) returns
/// [`not_implemented`](Answer::not_implemented) by default. The default implementation of `authorize` does not allow
/// any account to act as another.
///
/// Do not compute a password hash in these methods. Computing a hash such as Argon2 blocks the thread that polls the
/// future, and therefore also every other connection on that thread. Compute the hash on another thread, and await
/// the result. On tokio, use
/// [`Blocking`](https://docs.rs/smtp-auth-tokio/latest/smtp_auth_tokio/struct.Blocking.html) from `smtp-auth-tokio`.
/// `Blocking` is an `AsyncAuthenticator` that runs an [`Authenticator`] on separate threads. Its documentation also
/// shows how this `Authenticator` can query an async database.
///
/// An implementation must take the same time for an account that does not exist as for a wrong password. Otherwise, a
/// timing attack reveals which accounts exist (user enumeration). For example, if the account does not exist, check the
/// password against a dummy hash.
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
///             Err(_) => Answer::temp_fail(), // after logging the error
///         }
///     }
/// }
///
/// async fn config(database: &Database) -> Result<Config, ConfigError> {
///     Config::builder("mail.example.org").answered_by_async(database).await.build()
/// }
/// ```
///
/// Pass the authenticator to [`Query::answer_with_async`](super::Query::answer_with_async). [`Immediate`] adapts an
/// [`Authenticator`] that answers at once. There is no blanket implementation for every `Authenticator`, because an
/// `Authenticator` may block the thread. [`BoxedAuthenticator`] contains an `AsyncAuthenticator` that is chosen at run
/// time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer asynchronously",
    note = "wrap an `Authenticator` that answers at once, such as one that reads from memory, in `Immediate`",
    note = "wrap an `Authenticator` that computes or blocks, such as one that uses Argon2 or a synchronous database, in `Blocking` of smtp-auth-tokio"
)]
pub trait AsyncAuthenticator: Send + Sync {
    /// Returns the mechanisms that this store supports (see [`Authenticator::mechanisms`]).
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

/// Turns an [`Authenticator`] into an [`AsyncAuthenticator`] that answers at once.
///
/// Use `Immediate` for an in-memory store. Do not use it for an authenticator that computes a password hash or waits
/// for a database, because the authenticator would block the thread that polls the future.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it only wraps a value")]
pub struct Immediate<A>(pub A);

impl<A: Authenticator + Send + Sync> AsyncAuthenticator for Immediate<A> {
    fn mechanisms(&self) -> &[Mechanism] {
        self.0.mechanisms()
    }

    each_question!(at_once!());
}

/// An [`AsyncAuthenticator`] of any type, for a store that is chosen at run time. Each answer requires a memory
/// allocation.
///
/// ```
/// use smtp_auth::sasl::{AsyncAuthenticator, BoxedAuthenticator};
///
/// fn store(
///     database: Option<impl AsyncAuthenticator + 'static>,
///     file: impl AsyncAuthenticator + 'static,
/// ) -> BoxedAuthenticator {
///     match database {
///         Some(database) => BoxedAuthenticator::new(database),
///         None => BoxedAuthenticator::new(file),
///     }
/// }
/// ```
pub struct BoxedAuthenticator(Box<dyn AnyAuthenticator>);

impl BoxedAuthenticator {
    /// Moves the authenticator into a box.
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

/// The object-safe form of [`AsyncAuthenticator`], which returns boxed futures.
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
