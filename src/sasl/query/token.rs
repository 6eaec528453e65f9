//! The question about an access token.

use alloc::{boxed::Box, format, string::String};

use super::Serial;
use crate::{
    sasl::{Mechanism, names::Authzid},
    secret::Secret,
};

/// *Which account does this token belong to?* OAUTHBEARER (RFC 7628) and XOAUTH2 ask this question.
///
/// The token is not empty, and has the syntax of a bearer token defined in RFC 6750 §2.1. The application must check
/// that the token is genuine, meant for this server, valid for mail, and not expired. For these checks, it can ask the
/// token's issuer (token introspection, RFC 7662), or verify the issuer's signature if the token contains one.
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

    /// Returns the folded name of the account that the client wants to act as, if it named one. If the token belongs to
    /// another account, the exchange then asks whether the client may act as the named account
    /// ([`Authorize`](super::Authorize)).
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref().map(Authzid::as_str)
    }

    /// Returns the host name of the server that the client intends to reach. Returns `None` if the client did not send
    /// a host name. Only clients that use OAUTHBEARER can send a host name.
    ///
    /// If the host name belongs to another server, reject the token, because the token was sent to that server and is
    /// being replayed.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Returns the number of the port that the client intends to reach, if the client sent a port number.
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

/// The answer to [`CheckToken`]. `Some` with an account name converts into [`Accept`](Self::Accept), and `None`
/// converts into [`Reject`](Self::Reject).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenAnswer {
    /// The token belongs to this account. Pass the name that clients send for the user, not the issuer's identifier for
    /// the user. Otherwise, the two names differ, and a client that names its own account is treated as if it asked to
    /// act as another account.
    Accept(String),
    /// The token is not valid. The client receives the configured
    /// [`token_error`](crate::sasl::server::Builder::token_error), and then `535 5.7.8`.
    Reject,
    /// The token is not valid. The client receives this error, and then `535 5.7.8`.
    RejectWith(TokenError),
    /// The token cannot be checked at the moment. The client receives `454 4.7.0`.
    TempFail,
    /// The application does not support this kind of query (see
    /// [`Query::not_implemented`](super::Query::not_implemented)).
    NotImplemented,
}

impl From<Option<String>> for TokenAnswer {
    fn from(account: Option<String>) -> Self {
        account.map_or(Self::Reject, Self::Accept)
    }
}

/// The error that a client with an invalid token receives. The error is sent as JSON (RFC 7628 §3.2.2). In addition
/// to the reason, it can contain the required scope and the URL of the issuer's configuration, so that the client can
/// get a valid token.
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

    /// Sets the scope that a token must have (RFC 6749 §3.3), such as `mail`. The client can then request a token
    /// with this scope.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Sets the URL of the issuer's configuration (OpenID Connect Discovery §4).
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
