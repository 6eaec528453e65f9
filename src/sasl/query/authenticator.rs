//! Authenticators that answer at once.

use alloc::{boxed::Box, string::String, sync::Arc};

use super::{
    Answer, Authorize, AuthorizeAnswer, CheckAnonymous, CheckExternal, CheckPassword, CheckToken,
    CramSecretFor, Custom, CustomAnswer, ScramKeysFor, TokenAnswer,
    each::{Fixed, documentation, each_question, unless_written},
};
use crate::sasl::{CramSecret, Mechanism, ScramKeys};

macro_rules! methods {
    (($self_:ty) $($variant:ident $method:ident [$($mut:tt)?] $question:ty, $answer:ty;)*) => {
        $(#[doc = concat!("Answers [`Query::", stringify!($variant), "`](super::Query::", stringify!($variant), ").", documentation!($method))]
        fn $method(self: $self_, ask: &$($mut)? $question) -> $answer {
            unless_written!($method ask)
        })*
    };
}

/// An account store that answers every question at once, on the calling thread.
///
/// [`mechanisms`](Self::mechanisms) lists the mechanisms that the store supports.
/// [`Builder::answered_by`](crate::sasl::server::Builder::answered_by) configures a server to offer these mechanisms.
/// The server also offers each SCRAM mechanism's -PLUS form, which needs the same keys. To check that the store
/// implements the listed mechanisms, `answered_by` calls the methods that these mechanisms need.
///
/// For each kind of question that the listed mechanisms ask, implement the corresponding method. Every method except
/// [`authorize`](Self::authorize) returns [`not_implemented`](Answer::not_implemented) by default. The default
/// implementation of `authorize` does not allow any account to act as another. For a custom mechanism,
/// [`custom`](Self::custom) usually calls [`Custom::step_with`].
///
/// An implementation must take the same time for an account that does not exist as for a wrong password. Otherwise, a
/// timing attack reveals which accounts exist (user enumeration). For example, if the account does not exist, check the
/// password against a dummy hash.
///
/// For a store whose answers have to be awaited, such as a database on tokio, implement
/// [`AsyncAuthenticator`](super::AsyncAuthenticator).
///
/// ```
/// use smtp_auth::sasl::{Answer, Authenticator, CheckPassword, Mechanism, server::Config};
///
/// struct Users;
///
/// impl Authenticator for Users {
///     fn mechanisms(&self) -> &[Mechanism] {
///         &[Mechanism::Plain, Mechanism::Login]
///     }
///
///     fn check_password(&self, ask: &CheckPassword) -> Answer {
///         (ask.authcid() == "tim" && ask.password() == "tanstaaftanstaaf").into()
///     }
/// }
///
/// # #[cfg(all(feature = "plain", feature = "login"))]
/// let config = Config::builder("mail.example.org").answered_by(&Users).build()?;
/// # Ok::<(), smtp_auth::sasl::ConfigError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer at once",
    note = "`answered_by` and `answer_with` take an `Authenticator`, which is synchronous; for an `AsyncAuthenticator` call `answered_by_async` and `answer_with_async`"
)]
pub trait Authenticator {
    /// Returns the mechanisms that this store supports. For example, list PLAIN and LOGIN if
    /// [`check_password`](Self::check_password) is implemented. If [`scram_keys`](Self::scram_keys) is implemented,
    /// list each SCRAM mechanism for which the store contains keys.
    ///
    /// List a mechanism only if the store contains the secrets that the mechanism needs. Otherwise, a client that
    /// chooses the mechanism cannot authenticate even with the right password.
    fn mechanisms(&self) -> &[Mechanism];

    each_question!(methods!(&Self));
}

/// The counterpart of [`Authenticator`] for a store whose methods take `&mut self`. For example, the store can own a
/// database connection, or be created for a single client. Pass it to
/// [`Query::answer_with_mut`](super::Query::answer_with_mut).
pub trait AuthenticatorMut {
    /// Returns the mechanisms that this store supports (see [`Authenticator::mechanisms`]).
    fn mechanisms(&self) -> &[Mechanism];

    each_question!(methods!(&mut Self));
}

macro_rules! forward {
    (($self_:ty) $($variant:ident $method:ident [$($mut:tt)?] $question:ty, $answer:ty;)*) => {
        $(fn $method(self: $self_, ask: &$($mut)? $question) -> $answer {
            A::$method(self, ask)
        })*
    };
}

macro_rules! pointers {
    ($trait:ident, $self_:ty: $($pointer:ty),*) => {
        $(impl<A: $trait + ?Sized> $trait for $pointer {
            fn mechanisms(&self) -> &[Mechanism] {
                A::mechanisms(self)
            }

            each_question!(forward!($self_));
        })*
    };
}

pointers!(Authenticator, &Self: &A, Box<A>, Arc<A>);
pointers!(AuthenticatorMut, &mut Self: &mut A, Box<A>);
