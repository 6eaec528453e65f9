//! The question about a client that has been authenticated.

use alloc::{boxed::Box, string::String};
use core::mem;

use super::{Fixed, Serial};
use crate::sasl::{Identity, Mechanism, Refusal, RefusalKind, check_name, names::Claim};

/// *May this account use the service, and may it act as the account that the client named?*
///
/// If the client asked to act as another account (RFC 4422 §3.4.1), the exchange asks this question once the client has
/// been authenticated. If [`authorize_always`](crate::sasl::server::Builder::authorize_always) is set, the exchange
/// asks this question about every authenticated client.
///
/// ```
/// use smtp_auth::sasl::{Authorize, AuthorizeAnswer};
///
/// /// Two accounts may act as `support`, and every account may act as itself.
/// fn authorize(ask: &Authorize) -> AuthorizeAnswer {
///     match ask.authzid() {
///         None => AuthorizeAnswer::Accept, // asked only with `authorize_always`
///         Some("support") => ["ann", "tim"].contains(&ask.authcid()).into(),
///         Some(_) => AuthorizeAnswer::Reject,
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Authorize {
    identity: Identity,
    /// The name that the client gave, if it is an alias of the account.
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

    /// Takes the name that the client claimed, for a client that is refused after all. A guest claims none.
    pub(in crate::sasl) fn take_claim(&mut self) -> Option<Claim> {
        let Identity { authcid: account, mechanism, .. } = self.identity.take();
        let claim = match self.alias.take() {
            Some(authcid) => Claim { authcid, account: Some(Box::new(account.into())) },
            None => Claim { authcid: account, account: None },
        };
        Some(claim).filter(|_| mechanism != Mechanism::Anonymous)
    }

    /// Takes the identity of a client that is accepted. `account` is the account to act as, if the answer names one.
    pub(in crate::sasl) fn take_identity(&mut self, account: Option<Box<str>>) -> Identity {
        let authzid = account.or_else(|| mem::take(&mut self.authzid));
        let identity = self.identity.take();
        // An account may be named by an alias of itself; then it acts as itself.
        let authzid = authzid.filter(|authzid| **authzid != *identity.authcid);
        Identity { authzid, ..identity }
    }

    /// Returns the account that has been authenticated.
    pub fn authcid(&self) -> &str {
        &self.identity.authcid
    }

    /// Returns the folded name of the account that the client wants to act as. `None` means the client's own account.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// Returns the mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.identity.mechanism
    }

    /// Creates a question about an account that cannot exist.
    pub(super) fn probe(authcid: &str, mechanism: Mechanism) -> Self {
        let authcid = authcid.into();
        Self::new(Identity { authcid, authzid: None, mechanism }, None, None)
    }

    /// Answers the question. A second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<AuthorizeAnswer>) {
        self.answer = Some(answer.into());
    }
}

/// The answer to [`Authorize`].
///
/// `true` converts into [`Accept`](Self::Accept), and `false` converts into [`Reject`](Self::Reject). A [`Refusal`]
/// or a [`RefusalKind`] converts into [`Refuse`](Self::Refuse).
///
/// | answer | SMTP reply | counts as a failed attempt | reveals that the credentials are right |
/// | --- | --- | --- | --- |
/// | [`Reject`](Self::Reject) | `535 5.7.8` | yes | only through the response time |
/// | [`Refuse`](Self::Refuse) | the refusal's own reply | no | yes |
/// | [`TempFail`](Self::TempFail), [`NotImplemented`](Self::NotImplemented) | `454 4.7.0` | no | yes |
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorizeAnswer {
    /// The client is accepted. It acts as the account that it named, or as its own account if it named none.
    Accept,
    /// The client is accepted and acts as this account. Use this answer if the client named an alias of the account, or
    /// if the application chooses the account itself. If the name is empty or contains control characters, the answer
    /// becomes [`TempFail`](Self::TempFail).
    AcceptAs(String),
    /// The client is refused with the same reply as for a wrong password. Use this answer if the client may not act as
    /// the other account. Also use it for rate limits, locked accounts and rules about client addresses, but only if
    /// they cannot be checked earlier.
    ///
    /// If a rule can be checked before the client is authenticated, check it when you answer the first query instead,
    /// and call [`Answer::lock`](super::Answer::lock) on that answer. This question is asked only if the client has the
    /// right password. If answering takes a measurable time, for example because the application looks something up,
    /// the response time reveals that the password is right (a timing attack).
    Reject,
    /// The client is refused with a reason that the application chooses. The reply reveals that the credentials are
    /// right.
    Refuse(Refusal),
    /// The store cannot answer at the moment.
    TempFail,
    /// The application does not support this kind of query (see
    /// [`Query::not_implemented`](super::Query::not_implemented)).
    NotImplemented,
}

impl AuthorizeAnswer {
    /// The default answer of an authenticator without this method: no account may act as another. Without an
    /// `authzid` the question is only asked because the configuration asks for it, so then the method is missing.
    pub(super) fn unless_written(ask: &Authorize) -> Self {
        match ask.authzid() {
            Some(_) => Self::Reject,
            None => Self::NotImplemented,
        }
    }

    /// Replaces an answer whose account name is not allowed.
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
