//! The table of all questions, and the code that applies to each of them.

use super::{Answer, CustomAnswer, TokenAnswer};
use crate::sasl::Failure;

/// Passes the table to a macro, after the arguments. Each row contains the variant of `Query`, the method of an
/// authenticator, whether the method changes the question, and the types of the question and of its answer.
macro_rules! each_question {
    ($with:ident!($($arguments:tt)*)) => {
        $with! { ($($arguments)*)
            CheckPassword check_password [] CheckPassword, Answer;
            CramSecret cram_secret [] CramSecretFor, Answer<CramSecret>;
            ScramKeys scram_keys [] ScramKeysFor, Answer<ScramKeys>;
            CheckToken check_token [] CheckToken, TokenAnswer;
            CheckExternal check_external [] CheckExternal, Answer<String>;
            CheckAnonymous check_anonymous [] CheckAnonymous, Answer;
            Custom custom [mut] Custom, CustomAnswer;
            Authorize authorize [] Authorize, AuthorizeAnswer;
        }
    };
}

/// Evaluates the same expression for every kind of question: `of_each!(query, ask => ask.serial)`.
macro_rules! of_each {
    ($query:expr, $ask:ident => $of:expr) => {
        each_question!(match_each!($query, $ask => $of))
    };
}

macro_rules! match_each {
    (($query:expr, $ask:ident => $of:expr)
        $($variant:ident $method:ident [$($mut:tt)?] $question:ty, $answer:ty;)*) => {
        match $query {
            $(Query::$variant($ask) => $of,)*
        }
    };
}

/// Answers with the method of `users` for this kind of question: `answer!(query, users, at_once)`.
macro_rules! answer {
    ($query:expr, $users:expr, $when:ident) => {
        each_question!(answer_each!($query, $users, $when))
    };
}

macro_rules! answer_each {
    (($query:expr, $users:expr, $when:ident)
        $($variant:ident $method:ident [$($mut:tt)?] $question:ty, $answer:ty;)*) => {
        match $query {
            $(Query::$variant(ask) => {
                let answer = $when!($users.$method(ask));
                ask.answer(answer);
            })*
        }
    };
}

macro_rules! at_once {
    ($answer:expr) => {
        $answer
    };
}

macro_rules! awaited {
    ($answer:expr) => {
        $answer.await
    };
}

/// The default answer of a method that the application has not implemented.
macro_rules! unless_written {
    (authorize $ask:ident) => {
        AuthorizeAnswer::unless_written($ask)
    };
    ($method:ident $ask:ident) => {
        Fixed::NotImplemented($ask.mechanism().name()).into()
    };
}

/// The part of the documentation that is specific to one method.
macro_rules! documentation {
    (authorize) => {
        "\n\nThis method is called if the client asks to act as another account. If \
         [`authorize_always`](crate::sasl::server::Builder::authorize_always) is set, the method is called for every \
         authenticated client.\n\n\
         The default implementation does not allow any account to act as another. If the client does not name another \
         account, the default implementation answers with `not_implemented`. Therefore, if `authorize_always` is set \
         and this method is not implemented, no client is accepted.\n\n\
         An implementation must reject every account that the client is not allowed to act as. An authenticator that \
         wraps another authenticator must forward each call of this method to the wrapped authenticator."
    };
    (check_password) => {
        "\n\nPLAIN and LOGIN need this method. It verifies the password that the client sent."
    };
    (cram_secret) => {
        "\n\nCRAM-MD5 needs this method. It looks up the stored secret. The exchange then verifies the client's \
         response with this secret."
    };
    (scram_keys) => {
        "\n\nSCRAM needs this method. It looks up the stored keys for the [hash](crate::sasl::ScramKeysFor::hash). The \
         exchange then verifies the client's proof with these keys."
    };
    (check_token) => {
        "\n\nOAUTHBEARER and XOAUTH2 need this method. It verifies the token, and returns the account that the token \
         belongs to."
    };
    (check_external) => {
        "\n\nEXTERNAL needs this method. It returns the account that the client's certificate belongs to."
    };
    (check_anonymous) => {
        "\n\nANONYMOUS needs this method. It decides whether a guest is admitted."
    };
    (custom) => {
        "\n\nCustom mechanisms need this method. It is called once for each response from the client."
    };
}

pub(super) use {
    answer, answer_each, at_once, awaited, documentation, each_question, match_each, of_each,
    unless_written,
};

/// The answers that fit every question.
#[derive(Clone, Copy)]
pub(super) enum Fixed {
    Reject,
    TempFail,
    /// The mechanism that should not have been offered.
    NotImplemented(&'static str),
}

impl<T> From<Fixed> for Answer<T> {
    fn from(fixed: Fixed) -> Self {
        match fixed {
            Fixed::Reject => Self::reject(),
            Fixed::TempFail => Self::temp_fail(),
            Fixed::NotImplemented(_) => Self::not_implemented(),
        }
    }
}

impl From<Fixed> for TokenAnswer {
    fn from(fixed: Fixed) -> Self {
        match fixed {
            Fixed::Reject => Self::Reject,
            Fixed::TempFail => Self::TempFail,
            Fixed::NotImplemented(_) => Self::NotImplemented,
        }
    }
}

impl From<Fixed> for CustomAnswer {
    fn from(fixed: Fixed) -> Self {
        Self::Fail(match fixed {
            Fixed::Reject => Failure::Rejected,
            Fixed::TempFail => Failure::TempFail,
            Fixed::NotImplemented(mechanism) => Failure::NotImplemented(mechanism),
        })
    }
}
