//! Who answers the questions at once.

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

/// The simple case: a store that can answer every question at once.
///
/// [`mechanisms`](Self::mechanisms) says what it can answer for, and a server's configuration offers that
/// ([`Builder::answered_by`](crate::sasl::server::Builder::answered_by), which calls each method that is needed once). Each
/// other method that is not written answers
/// [`not_implemented`](Answer::not_implemented), but for [`authorize`](Self::authorize), which lets nobody act as
/// another. A mechanism of the application's own is best answered for by [`Custom::step_with`].
/// Implementations must take as long for an account that does not exist as for a wrong password: hash the
/// password against a dummy.
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
    note = "`answered_by` and `answer_with` take an `Authenticator`, which is synchronous; for an `AsyncAuthenticator` there are `answered_by_async` and `answer_with_async`"
)]
pub trait Authenticator {
    /// The mechanisms that this store can answer for: PLAIN and LOGIN where
    /// [`check_password`](Self::check_password) is written; SCRAM with each hash that the accounts have keys of
    /// where [`scram_keys`](Self::scram_keys) is; and so on. A mechanism that is offered to clients whose accounts
    /// have nothing for it fails with the right password.
    fn mechanisms(&self) -> &[Mechanism];

    each_question!(methods!(&Self));
}

/// [`Authenticator`] for a store that changes as it answers: one that is the connection's own, or that holds its
/// database's connection by itself. [`Query::answer_with_mut`](super::Query::answer_with_mut) asks it.
pub trait AuthenticatorMut {
    /// The mechanisms that this store can answer for: see [`Authenticator::mechanisms`].
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
