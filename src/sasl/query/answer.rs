//! Answers to questions about an account.

use alloc::boxed::Box;

use crate::sasl::{Failure, Mechanism, check_name};

/// The answer to a question about an account. If the question asks for a secret or an account name, a positive answer
/// contains it. A negative answer contains the reason.
///
/// `true` and `Some` convert into [`accept`](Self::accept). `false` and `None` convert into [`reject`](Self::reject).
/// There is no conversion from `Result`. If the store returns an error, log the error and then answer with
/// [`temp_fail`](Self::temp_fail).
///
/// | answer | SMTP reply | counts as a failed attempt |
/// | --- | --- | --- |
/// | [`reject`](Self::reject), [`no_secret`](Self::no_secret), [`lock`](Self::lock) | `535 5.7.8` | yes |
/// | [`temp_fail`](Self::temp_fail), [`not_implemented`](Self::not_implemented) | `454 4.7.0` | no |
/// | [`too_weak`](Self::too_weak) | `534 5.7.9` | no |
/// | [`transition_needed`](Self::transition_needed) | `432 4.7.12` | no |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T = ()> {
    pub(in crate::sasl) verdict: Verdict<T>,
    /// Boxed because most answers name no account.
    pub(in crate::sasl) account: Option<Box<Box<str>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sasl) enum Verdict<T> {
    Accept(T),
    /// The account is locked, and this is its secret. Authentication fails, but looks the same as for any other
    /// account.
    Lock(T),
    /// The account is locked, and the store holds no secret for it.
    Locked,
    Reject,
    NoSecret,
    TempFail,
    NotImplemented,
    TooWeak,
    TransitionNeeded,
}

impl<T> Answer<T> {
    /// Creates a positive answer. If the question asks for a secret or an account name, `found` is the secret or the
    /// name from the store.
    pub const fn accept(found: T) -> Self {
        Self { verdict: Verdict::Accept(found), account: None }
    }

    /// Creates the answer for a wrong password, or for an account that does not exist.
    pub const fn reject() -> Self {
        Self { verdict: Verdict::Reject, account: None }
    }

    /// Creates the answer for an existing account that has no stored secret for this mechanism. For example, the
    /// account may have no SCRAM keys for this hash. The client receives the same reply as for a wrong password. The
    /// exchange ends in [`Failure::NoSecret`], which your application can log.
    pub const fn no_secret() -> Self {
        Self { verdict: Verdict::NoSecret, account: None }
    }

    /// Creates the answer for a store that is temporarily unavailable. Use this answer only for failures that affect
    /// every account. Otherwise, the answer reveals which accounts exist (user enumeration).
    pub const fn temp_fail() -> Self {
        Self { verdict: Verdict::TempFail, account: None }
    }

    /// Creates the answer of an application that does not support this kind of query for any account (see
    /// [`Query::not_implemented`](super::Query::not_implemented)).
    pub const fn not_implemented() -> Self {
        Self { verdict: Verdict::NotImplemented, account: None }
    }

    /// Declares that the client's name is an alias of `account`. If authentication succeeds, the client is
    /// authenticated as `account`. If authentication fails, the attempt [counts](crate::server::AuthFailed::account)
    /// against both names.
    ///
    /// Only SCRAM's salt can reveal an alias. If two names have the same keys, a client receives the same salt for both
    /// names. The salt then shows that both names belong to one account, and that this account exists. To avoid this,
    /// give the alias its own keys, and derive them from the same password with another salt.
    ///
    /// Pass a [folded](crate::sasl::server::Config::fold) name. The name is not folded again, so a different spelling
    /// would count as a separate account. If the name is empty or contains control characters, the answer becomes
    /// [`temp_fail`](Self::temp_fail).
    #[must_use]
    pub fn of(self, account: impl Into<Box<str>>) -> Self {
        let account = account.into();
        match check_name(&account) {
            Ok(_) => Self { account: Some(Box::new(account)), ..self },
            Err(_) => Self::temp_fail(),
        }
    }

    /// Turns this answer into the answer for a locked account. Use it, for example, after too many failed attempts.
    ///
    /// The client always receives the same reply as for a wrong password. With SCRAM, the server still sends the
    /// account's own salt, and the exchange fails only after the client has sent its proof. To the client, a locked
    /// account therefore looks like any other account. The exchange ends in [`Failure::Locked`] whether or not the
    /// password was right, and your application can log this failure. The answers [`temp_fail`](Self::temp_fail) and
    /// [`not_implemented`](Self::not_implemented) are returned unchanged.
    #[must_use]
    pub fn lock(self) -> Self {
        let verdict = match self.verdict {
            Verdict::Accept(found) | Verdict::Lock(found) => Verdict::Lock(found),
            Verdict::Reject
            | Verdict::NoSecret
            | Verdict::TooWeak
            | Verdict::TransitionNeeded
            | Verdict::Locked => Verdict::Locked,
            Verdict::TempFail => Verdict::TempFail,
            Verdict::NotImplemented => Verdict::NotImplemented,
        };
        Self { verdict, ..self }
    }

    pub(in crate::sasl) const fn is_implemented(&self) -> bool {
        !matches!(self.verdict, Verdict::NotImplemented)
    }

    /// Returns the account that the client's name is an [alias of](Self::of), if the answer names such an
    /// account.
    pub fn account(&self) -> Option<&str> {
        Some(self.account.as_deref()?)
    }
}

impl Answer {
    /// Creates the answer for a correct password, if this mechanism is too weak for the account.
    pub const fn too_weak() -> Self {
        Self { verdict: Verdict::TooWeak, account: None }
    }

    /// Creates the answer for a correct password, if the client must authenticate once with another mechanism before
    /// the account can use this mechanism (RFC 4954 §6).
    ///
    /// Only a question about a password can be answered in this way. A question about SCRAM keys is answered before
    /// the client sends its proof, so this answer would reveal which accounts exist.
    pub const fn transition_needed() -> Self {
        Self { verdict: Verdict::TransitionNeeded, account: None }
    }
}

impl<T> Verdict<T> {
    pub(in crate::sasl) const fn as_ref(&self) -> Verdict<&T> {
        match self {
            Self::Accept(found) => Verdict::Accept(found),
            Self::Lock(found) => Verdict::Lock(found),
            Self::Locked => Verdict::Locked,
            Self::Reject => Verdict::Reject,
            Self::NoSecret => Verdict::NoSecret,
            Self::TempFail => Verdict::TempFail,
            Self::NotImplemented => Verdict::NotImplemented,
            Self::TooWeak => Verdict::TooWeak,
            Self::TransitionNeeded => Verdict::TransitionNeeded,
        }
    }

    /// Returns what was found, or the failure.
    pub(in crate::sasl) fn outcome(self, mechanism: Mechanism) -> Result<T, Failure> {
        Err(match self {
            Self::Accept(found) => return Ok(found),
            Self::Lock(_) | Self::Locked => Failure::Locked,
            Self::Reject => Failure::Rejected,
            Self::NoSecret => Failure::NoSecret,
            Self::TempFail => Failure::TempFail,
            Self::NotImplemented => Failure::NotImplemented(mechanism.name()),
            Self::TooWeak => Failure::TooWeak,
            Self::TransitionNeeded => Failure::TransitionNeeded,
        })
    }

    /// Like [`outcome`](Self::outcome), once a proof has been verified.
    pub(in crate::sasl) fn with_proof(
        self,
        right: bool,
        mechanism: Mechanism,
    ) -> Result<T, Failure> {
        let outcome = self.outcome(mechanism)?;
        if right { Ok(outcome) } else { Err(Failure::Rejected) }
    }

    /// Returns the secret to verify a proof with, if there is one, and the verdict that applies if the proof is
    /// right.
    ///
    /// # Errors
    /// The exchange ends before any proof, for every account alike.
    pub(in crate::sasl) fn secret(
        self,
        mechanism: Mechanism,
    ) -> Result<(Option<T>, Verdict<()>), Failure> {
        Ok(match self {
            Self::Accept(found) => (Some(found), Verdict::Accept(())),
            Self::Lock(found) => (Some(found), Verdict::Locked),
            Self::Locked => (None, Verdict::Locked),
            Self::NoSecret => (None, Verdict::NoSecret),
            Self::Reject | Self::TooWeak | Self::TransitionNeeded => (None, Verdict::Reject),
            Self::TempFail => return Err(Failure::TempFail),
            Self::NotImplemented => return Err(Failure::NotImplemented(mechanism.name())),
        })
    }
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Self::accept(()) } else { Self::reject() }
    }
}

impl<T> From<Option<T>> for Answer<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or_else(Self::reject, Self::accept)
    }
}
