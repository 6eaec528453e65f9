//! Questions about clients without a password and without a token: those with a certificate, and guests.

use alloc::{boxed::Box, string::String};

use super::{Answer, Serial};
use crate::sasl::{Mechanism, names::Authzid};

/// *Which account does the client's certificate belong to?* The exchange asks this question if the client uses EXTERNAL
/// (RFC 4422 appendix A).
///
/// The application has already verified the certificate in the TLS handshake, and has passed the certificate's
/// identity to the exchange in the [`Channel`](crate::sasl::Channel).
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

    /// Returns the identity in the certificate, as it was passed to
    /// [`Channel::with_identity`](crate::sasl::Channel::with_identity).
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns the folded name of the account that the client wants to act as, if it named one. If the certificate
    /// belongs to another account, the exchange then asks whether the client may act as the named account
    /// ([`Authorize`](super::Authorize)).
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref().map(Authzid::as_str)
    }

    /// Returns the mechanism that the client uses: EXTERNAL.
    pub fn mechanism(&self) -> Mechanism {
        Mechanism::External
    }

    /// Answers the question. To accept the client, pass the name of the account that the certificate belongs to. A
    /// second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<Answer<String>>) {
        self.answer = Some(answer.into());
    }
}

/// *May a guest use the service?* The exchange asks this question if the client uses ANONYMOUS (RFC 4505).
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

    /// Returns the trace that the client sent, if it sent one. The trace is meant for the log. It is a mail address,
    /// or a string of up to 255 characters without `@`, and has not been verified.
    pub fn trace(&self) -> Option<&str> {
        self.trace.as_deref()
    }

    /// Returns the mechanism that the client uses: ANONYMOUS.
    pub fn mechanism(&self) -> Mechanism {
        Mechanism::Anonymous
    }

    /// Answers the question. A second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<Answer>) {
        self.answer = Some(answer.into());
    }
}
