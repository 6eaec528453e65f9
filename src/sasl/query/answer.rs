//! The answers that all questions about an account have.

use alloc::boxed::Box;

use crate::sasl::{Failure, Mechanism, check_name};

/// The answer to a question about an account: yes, with what was asked for, or why not. `true`
/// and `Some` become [`accept`](Self::accept) by themselves, `false` and `None` [`reject`](Self::reject).
///
/// There is no `From<Result>`: an error of the store is the caller's to log before it becomes
/// [`temp_fail`](Self::temp_fail).
///
/// | answer | reply | counts as an attempt |
/// | --- | --- | --- |
/// | [`reject`](Self::reject), [`no_secret`](Self::no_secret), [`lock`](Self::lock) | `535 5.7.8`, all alike | yes |
/// | [`temp_fail`](Self::temp_fail), [`not_implemented`](Self::not_implemented) | `454 4.7.0` | no |
/// | [`too_weak`](Self::too_weak) | `534 5.7.9` | no |
/// | [`transition_needed`](Self::transition_needed) | `432 4.7.12` | no |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T = ()> {
    pub(in crate::sasl) verdict: Verdict<T>,
    /// In a box of its own, as most answers name none.
    pub(in crate::sasl) account: Option<Box<Box<str>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sasl) enum Verdict<T> {
    Accept(T),
    /// This is what the store has, and the sign-in fails.
    Lock(T),
    /// The store has nothing, and would have said why.
    Locked,
    Reject,
    NoSecret,
    TempFail,
    NotImplemented,
    TooWeak,
    TransitionNeeded,
}

impl<T> Answer<T> {
    /// Yes; or what the store holds for the account.
    pub const fn accept(found: T) -> Self {
        Self { verdict: Verdict::Accept(found), account: None }
    }

    /// No: the password is wrong, or there is no such account.
    pub const fn reject() -> Self {
        Self { verdict: Verdict::Reject, account: None }
    }

    /// The account exists and has nothing for this mechanism: no keys of this hash, say. To the client it is a
    /// wrong password; the log says why ([`Failure::NoSecret`]).
    pub const fn no_secret() -> Self {
        Self { verdict: Verdict::NoSecret, account: None }
    }

    /// The store cannot say now. Only where that holds for every account, or it tells these apart.
    pub const fn temp_fail() -> Self {
        Self { verdict: Verdict::TempFail, account: None }
    }

    /// The application does not implement this question, for any account: see
    /// [`Query::not_implemented`](super::Query::not_implemented).
    pub const fn not_implemented() -> Self {
        Self { verdict: Verdict::NotImplemented, account: None }
    }

    /// The name is an alias of that account's: what fails is [counted](crate::server::AuthFailed::account) there
    /// too, and a success is that account's. No reply shows it, but for the salt of SCRAM: where two names have the
    /// same keys, it tells that they are one account's, and that there is that account. Keys of the alias's own, of
    /// the same password with another salt, do not.
    ///
    /// Give the name [folded](crate::sasl::server::Config::fold): it is taken as it stands, and another spelling makes
    /// another account of it, with a count of its own. Where it is empty or holds control characters, the answer is
    /// [`temp_fail`](Self::temp_fail), whatever it was.
    #[must_use]
    pub fn of(self, account: impl Into<Box<str>>) -> Self {
        let account = account.into();
        match check_name(&account) {
            Ok(_) => Self { account: Some(Box::new(account)), ..self },
            Err(_) => Self::temp_fail(),
        }
    }

    /// The same answer of an account that is locked: because of too many failed attempts, say. To the client,
    /// whatever it sends, it is a wrong password for the same account: SCRAM goes on to show the account's own
    /// salt, and fails at the proof. The log says [`Failure::Locked`], whatever the password was. Where the store
    /// cannot tell ([`temp_fail`](Self::temp_fail), [`not_implemented`](Self::not_implemented)), that stays.
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

    /// The account of which the name is an [alias](Self::of), if it was said to be one.
    pub fn account(&self) -> Option<&str> {
        Some(self.account.as_deref()?)
    }
}

impl Answer {
    /// The password is right, but this mechanism is too weak for the account.
    pub const fn too_weak() -> Self {
        Self { verdict: Verdict::TooWeak, account: None }
    }

    /// The password is right, but the account has to be moved to this mechanism first, by a sign-in with
    /// another (RFC 4954 §6). It can be said only after a password; to SCRAM it would tell, before any
    /// proof, who exists.
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

    /// What was found, or why it is no success.
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

    /// The same once a proof has been verified.
    pub(in crate::sasl) fn with_proof(
        self,
        right: bool,
        mechanism: Mechanism,
    ) -> Result<T, Failure> {
        let outcome = self.outcome(mechanism)?;
        if right { Ok(outcome) } else { Err(Failure::Rejected) }
    }

    /// What a proof is verified with, if there is something, and why the right proof is no success
    /// either.
    ///
    /// # Errors
    /// The exchange ends before any proof, whoever the client is.
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
