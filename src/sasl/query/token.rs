//! The question about an access token.

use alloc::{boxed::Box, format, string::String};

use super::Serial;
use crate::{
    sasl::{Mechanism, names::Authzid},
    secret::Secret,
};

/// *Whose token is this?* OAUTHBEARER (RFC 7628) and XOAUTH2 ask this.
///
/// The token is not empty and has the form of a bearer token (RFC 6750 §2.1). The application must check that it is
/// genuine, meant for this server, valid for mail, and not expired: by asking its issuer (token introspection, RFC
/// 7662), or by verifying the issuer's signature if the token carries one.
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

    /// Returns the token as the client sent it.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// Returns the folded name of the account that the client wants to act as, if it named one. If that is not the
    /// account of the token, [`Authorize`](super::Authorize) asks for it afterwards.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref().map(Authzid::as_str)
    }

    /// Returns the host name of the server that the client means to reach, if the client sent it. Only OAUTHBEARER
    /// can send it. If it is not this server, the token was given to another server and is being replayed: reject it.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Returns the port that the client means to reach, if the client sent it.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns the mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Answers the question. A second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<TokenAnswer>) {
        self.answer = Some(answer.into());
    }
}

/// The answer to [`CheckToken`]. `Some` of an account name converts into [`Accept`](Self::Accept), and `None` into
/// [`Reject`](Self::Reject).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenAnswer {
    /// The token belongs to this account. Give the name that users send, not the issuer's identifier for the user:
    /// otherwise the two never match, and every client appears to ask to act as another account.
    Accept(String),
    /// The token is not valid. The client receives the configured
    /// [`token_error`](crate::sasl::server::Builder::token_error), then `535 5.7.8`.
    Reject,
    /// The token is not valid. The client receives this error, then `535 5.7.8`.
    RejectWith(TokenError),
    /// The store cannot answer at the moment: `454 4.7.0`.
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

/// The error that a client with an invalid token receives, as JSON (RFC 7628 §3.2.2): the reason, and where to get a
/// valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenError {
    status: &'static str,
    scope: Option<Box<str>>,
    openid_configuration: Option<Box<str>>,
}

impl TokenError {
    /// `invalid_token`: the token is expired, revoked, or not meant for this server.
    pub const INVALID_TOKEN: Self = Self::new("invalid_token");

    /// `insufficient_scope`: the token is valid, but not for mail.
    pub const INSUFFICIENT_SCOPE: Self = Self::new("insufficient_scope");

    /// `invalid_request`: the client's message is malformed.
    pub(in crate::sasl) const INVALID_REQUEST: Self = Self::new("invalid_request");

    const fn new(status: &'static str) -> Self {
        Self { status, scope: None, openid_configuration: None }
    }

    /// Names the scope that a token needs.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Names the URL of the issuer's configuration (OpenID Connect Discovery §4).
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
