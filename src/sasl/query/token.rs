//! What is asked of a host that knows users by tokens.

use alloc::{boxed::Box, format, string::String};

use super::Serial;
use crate::{
    sasl::{Mechanism, names::Authzid},
    secret::Secret,
};

/// *Whose token is this?* Of OAUTHBEARER (RFC 7628) and XOAUTH2.
///
/// The token has the form of RFC 6750 §2.1 and is not empty; whether it is genuine, meant for this
/// server, good for mail and not expired is for the host to find out: by asking its issuer (RFC 7662),
/// or by the issuer's signature, for a token that carries one.
#[derive(Clone, Debug)]
pub struct CheckToken {
    pub(in crate::sasl) mechanism: Mechanism,
    pub(in crate::sasl) authzid: Option<Box<Authzid>>,
    pub(in crate::sasl) token: Secret,
    pub(in crate::sasl) host: Option<Box<str>>,
    pub(in crate::sasl) port: Option<u16>,
    pub(in crate::sasl) answer: Option<TokenAnswer>,
    pub(super) serial: Serial,
}

impl CheckToken {
    pub(in crate::sasl) fn new(
        mechanism: Mechanism,
        authzid: Option<Box<Authzid>>,
        token: Secret,
    ) -> Self {
        let serial = Serial::default();
        Self { mechanism, authzid, token, host: None, port: None, answer: None, serial }
    }

    /// The token, as sent.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// The account that the client wants to act as, folded, if it named one. Where it is not the token's
    /// own account, [`Authorize`](super::Authorize) asks for that afterwards.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref().map(Authzid::as_str)
    }

    /// The server that the client means to talk to, where it says so: only OAUTHBEARER can. A name
    /// that is not this server's tells that the token was taken from elsewhere.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The port that the client means to talk to, where it says so.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Answers the question; a second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<TokenAnswer>) {
        self.answer = Some(answer.into());
    }
}

/// The answer to [`CheckToken`]. An `Option` of the account becomes one by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenAnswer {
    /// The token is this account's: by the name that users send, not by one that the token's issuer
    /// has for it, or every sign-in is one as another.
    Accept(String),
    /// The token is no good: the client is told what the configuration has for that
    /// ([`token_error`](crate::sasl::server::Builder::token_error)), then `535 5.7.8`.
    Reject,
    /// As `Reject`, and the client is told this.
    RejectWith(TokenError),
    /// The store cannot say now: `454 4.7.0`.
    TempFail,
    /// The application does not implement this question: see
    /// [`Query::not_implemented`](super::Query::not_implemented).
    NotImplemented,
}

impl From<Option<String>> for TokenAnswer {
    fn from(account: Option<String>) -> Self {
        account.map_or(Self::Reject, Self::Accept)
    }
}

/// What a client is told whose token is no good, as JSON (RFC 7628 §3.2.2): that, and where to get
/// a better one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenError {
    status: &'static str,
    scope: Option<Box<str>>,
    openid_configuration: Option<Box<str>>,
}

impl TokenError {
    /// `invalid_token`: it is expired, revoked, or not meant for this server.
    pub const INVALID_TOKEN: Self = Self::new("invalid_token");

    /// `insufficient_scope`: it is good, but not for mail.
    pub const INSUFFICIENT_SCOPE: Self = Self::new("insufficient_scope");

    /// What is malformed.
    pub(in crate::sasl) const INVALID_REQUEST: Self = Self::new("invalid_request");

    const fn new(status: &'static str) -> Self {
        Self { status, scope: None, openid_configuration: None }
    }

    /// The scope that a token needs.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// The address of the issuer's configuration (OpenID Connect Discovery §4).
    #[must_use]
    pub fn openid_configuration(mut self, url: &str) -> Self {
        self.openid_configuration = Some(url.into());
        self
    }

    pub(in crate::sasl) fn to_json(&self) -> String {
        let mut json = format!("{{\"status\":{}", quoted(self.status));
        let optional =
            [("scope", &self.scope), ("openid-configuration", &self.openid_configuration)];
        for (key, value) in optional {
            if let Some(value) = value {
                json.push_str(&format!(",{}:{}", quoted(key), quoted(value)));
            }
        }
        json.push('}');
        json
    }
}

/// `string` (RFC 8259 §7).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\0'..='\x1f' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json() {
        assert_eq!(TokenError::INVALID_TOKEN.to_json(), r#"{"status":"invalid_token"}"#);
        let error = TokenError::INSUFFICIENT_SCOPE.scope("a\"b\\\n").openid_configuration("é");
        let expected =
            r#"{"status":"insufficient_scope","scope":"a\"b\\\u000a","openid-configuration":"é"}"#;
        assert_eq!(error.to_json(), expected);
    }
}
