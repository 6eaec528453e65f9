//! What is asked about who comes without a password and without a token.

use alloc::{boxed::Box, string::String};

use super::{Answer, Serial};
use crate::sasl::{Mechanism, names::Authzid};

/// *Which account has whom the client's certificate names?* Of EXTERNAL (RFC 4422 appendix A).
///
/// The identity is what the host gave with the channel, once it had verified the certificate.
#[derive(Clone, Debug)]
pub struct CheckExternal {
    pub(in crate::sasl) identity: Box<str>,
    pub(in crate::sasl) authzid: Option<Box<Authzid>>,
    pub(in crate::sasl) answer: Option<Answer<String>>,
    pub(super) serial: Serial,
}

impl CheckExternal {
    pub(in crate::sasl) fn new(identity: &str, authzid: Option<Box<Authzid>>) -> Self {
        Self { identity: identity.into(), authzid, answer: None, serial: Serial::default() }
    }

    /// Whom the certificate names.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The account that the client wants to act as, folded, if it named one. Where it is not the
    /// certificate's own, [`Authorize`](super::Authorize) asks for that afterwards.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref().map(Authzid::as_str)
    }

    /// The mechanism that the client uses: EXTERNAL.
    pub fn mechanism(&self) -> Mechanism {
        Mechanism::External
    }

    /// Answers the question, with the account; a second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<Answer<String>>) {
        self.answer = Some(answer.into());
    }
}

/// *May a guest come in?* Of ANONYMOUS (RFC 4505).
#[derive(Clone, Debug)]
pub struct CheckAnonymous {
    pub(in crate::sasl) trace: Option<Box<str>>,
    pub(in crate::sasl) answer: Option<Answer>,
    pub(super) serial: Serial,
}

impl CheckAnonymous {
    pub(in crate::sasl) fn new(trace: Option<&str>) -> Self {
        Self { trace: trace.map(Into::into), answer: None, serial: Serial::default() }
    }

    /// What the client says of itself, for a log: a mail address, or up to 255 characters without
    /// `@`. Nothing of it is proven.
    pub fn trace(&self) -> Option<&str> {
        self.trace.as_deref()
    }

    /// The mechanism that the client uses: ANONYMOUS.
    pub fn mechanism(&self) -> Mechanism {
        Mechanism::Anonymous
    }

    /// Answers the question; a second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<Answer>) {
        self.answer = Some(answer.into());
    }
}
