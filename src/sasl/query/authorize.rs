//! What is asked about a user who is proven.

use alloc::{boxed::Box, string::String};
use core::mem;

use super::{Fixed, Serial};
use crate::sasl::{Identity, Mechanism, Refusal, RefusalKind, check_name, names::Claim};

/// *May this account come in, and act as that one?* Asked once the account is proven: where the client named another
/// to act as (RFC 4422 §3.4.1), and always with
/// [`authorize_always`](crate::sasl::server::Builder::authorize_always).
#[derive(Clone, Debug)]
pub struct Authorize {
    identity: Identity,
    /// The name that the client gave, where it is an alias of the account.
    alias: Option<String>,
    authzid: Option<Box<str>>,
    pub(in crate::sasl) answer: Option<AuthorizeAnswer>,
    pub(super) serial: Serial,
}

impl Authorize {
    pub(in crate::sasl) fn new(
        identity: Identity,
        alias: Option<String>,
        authzid: Option<Box<str>>,
    ) -> Self {
        Self { identity, alias, authzid, answer: None, serial: Serial::default() }
    }

    /// Whom the client claimed to be, where it does not come in after all; nothing is left here. A guest claims
    /// nothing.
    pub(in crate::sasl) fn take_claim(&mut self) -> Option<Claim> {
        let Identity { authcid: account, mechanism, .. } = self.identity.take();
        let claim = match self.alias.take() {
            Some(authcid) => Claim { authcid, account: Some(Box::new(account.into())) },
            None => Claim { authcid: account, account: None },
        };
        Some(claim).filter(|_| mechanism != Mechanism::Anonymous)
    }

    /// Who comes in: as the account that the answer names, where it names one.
    pub(in crate::sasl) fn take_identity(&mut self, account: Option<Box<str>>) -> Identity {
        let authzid = account.or_else(|| mem::take(&mut self.authzid));
        let identity = self.identity.take();
        // The other may be an alias of its own account.
        let authzid = authzid.filter(|authzid| **authzid != *identity.authcid);
        Identity { authzid, ..identity }
    }

    /// The account that was proven.
    pub fn authcid(&self) -> &str {
        &self.identity.authcid
    }

    /// The account that the client wants to act as: the name that it gave, folded. `None` where it is its own.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// The mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.identity.mechanism
    }

    /// About an account that there cannot be.
    pub(super) fn probe(authcid: &str, mechanism: Mechanism) -> Self {
        let authcid = authcid.into();
        Self::new(Identity { authcid, authzid: None, mechanism }, None, None)
    }

    /// Answers the question; a second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<AuthorizeAnswer>) {
        self.answer = Some(answer.into());
    }
}

/// The answer to [`Authorize`]. `true` becomes [`Accept`](Self::Accept) by itself, `false` [`Reject`](Self::Reject),
/// a [`Refusal`] or its kind [`Refuse`](Self::Refuse).
///
/// | answer | reply | counts as an attempt | tells that the credentials are right |
/// | --- | --- | --- | --- |
/// | [`Reject`](Self::Reject) | `535 5.7.8` | yes | by the time that this answer takes alone |
/// | [`Refuse`](Self::Refuse) | the refusal's | no | yes |
/// | [`TempFail`](Self::TempFail), [`NotImplemented`](Self::NotImplemented) | `454 4.7.0` | no | yes |
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorizeAnswer {
    /// Yes.
    Accept,
    /// Yes, and the account to act as is this one, of which the client named an alias, or which the
    /// application gives it. Where the name is empty or holds control characters, the answer is
    /// [`TempFail`](Self::TempFail).
    AcceptAs(String),
    /// No; the client is told what it is told of a wrong password. The answer for whoever may not act as the other
    /// account, and for every rate limit, locked account, and rule about addresses that has to be looked at here. What
    /// can be known before the proof is better answered then, by [`Answer::lock`](super::Answer::lock): this question is
    /// asked of those alone who know the password, and a look-up for it takes time, which tells.
    Reject,
    /// No, in the application's own words, which tell that the credentials are right.
    Refuse(Refusal),
    /// The store cannot say now.
    TempFail,
    /// The application does not implement this question: see
    /// [`Query::not_implemented`](super::Query::not_implemented).
    NotImplemented,
}

impl AuthorizeAnswer {
    /// What is said where the application does not say: nobody acts as another. Of an account that is to be used by
    /// itself it is asked only where the configuration says so, and then it has to be said.
    pub(super) fn unless_written(ask: &Authorize) -> Self {
        match ask.authzid() {
            Some(_) => Self::Reject,
            None => Self::NotImplemented,
        }
    }

    /// The account to act as, where the answer names one that may be.
    pub(in crate::sasl) fn checked(self) -> Self {
        match self {
            Self::AcceptAs(account) if check_name(&account).is_err() => Self::TempFail,
            answer => answer,
        }
    }
}

impl From<bool> for AuthorizeAnswer {
    fn from(yes: bool) -> Self {
        if yes { Self::Accept } else { Self::Reject }
    }
}

impl From<Refusal> for AuthorizeAnswer {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

impl From<RefusalKind> for AuthorizeAnswer {
    fn from(kind: RefusalKind) -> Self {
        Self::Refuse(kind.into())
    }
}

impl From<Fixed> for AuthorizeAnswer {
    fn from(fixed: Fixed) -> Self {
        match fixed {
            Fixed::Reject => Self::Reject,
            Fixed::TempFail => Self::TempFail,
            Fixed::NotImplemented(_) => Self::NotImplemented,
        }
    }
}
