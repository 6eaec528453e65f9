//! OAUTHBEARER (RFC 7628) and XOAUTH2: a token of OAuth 2.0 (RFC 6750), sent at once.

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};

use super::{
    CheckToken, Failure, Mechanism, TokenError, check_name,
    client::{self, Token},
    gs2::{self, Flag, Header},
    names::Rules,
    server::{Config, Next, State},
};
use crate::secret::{Secret, SecretBytes};

/// `kvsep`, which ends each pair and, once more, the message.
const SEPARATOR: char = '\x01';

#[derive(Debug)]
pub(super) enum Server {
    Message(Mechanism, Arc<Config>),
    /// The error was sent. Whatever the client answers, the exchange has failed.
    Refused(Failure),
}

impl Server {
    pub(super) fn begin(
        config: &Arc<Config>,
        mechanism: Mechanism,
    ) -> Result<(Vec<u8>, Self), Failure> {
        Ok((Vec::new(), Self::Message(mechanism, Arc::clone(config))))
    }

    pub(super) fn take(&self, rules: &Rules, response: SecretBytes) -> Result<State, Failure> {
        let (mechanism, config) = match self {
            Self::Message(mechanism, config) => (*mechanism, config),
            Self::Refused(failure) => return Err(*failure),
        };
        let text = response.into_text().ok_or(Failure::Malformed("it is not UTF-8"));
        let ask = match mechanism {
            Mechanism::Xoauth2 => Ok(Some(xoauth2(rules, text?.expose())?)),
            _ => text.and_then(|text| oauth_bearer(rules, text.expose())),
        };
        Ok(match ask {
            Ok(Some(ask)) => State::CheckToken(Box::new(ask), Arc::clone(config)),
            Ok(None) => refuse(config.own_token_error(), Failure::Rejected),
            Err(malformed) => refuse(&TokenError::INVALID_REQUEST, malformed),
        })
    }
}

impl Server {
    /// Why the token was refused, where the client is being told.
    pub(super) fn refused(&self) -> Option<Failure> {
        match self {
            Self::Message(..) => None,
            Self::Refused(failure) => Some(*failure),
        }
    }
}

/// The error is a challenge, and the exchange fails behind the response to it (RFC 7628 §3.2.3).
pub(super) fn refuse(error: &TokenError, failure: Failure) -> State {
    State::challenge(error.to_json().into_bytes(), Next::Oauth(Server::Refused(failure)))
}

/// `client-resp = gs2-header kvsep *kvpair kvsep`, `kvpair = key "=" value kvsep`. `None` where the
/// client has no token, and only asks where to get one (§4.3).
fn oauth_bearer(rules: &Rules, text: &str) -> Result<Option<CheckToken>, Failure> {
    const MALFORMED: Failure = Failure::Malformed("the pairs of keys and values are malformed");
    let header = Header::read(text)?;
    if let Flag::Bound(_) = header.flag {
        return Err(Failure::Malformed("OAUTHBEARER has no channel binding"));
    }
    let pairs = header.rest.strip_prefix(SEPARATOR).and_then(|rest| rest.strip_suffix(SEPARATOR));
    let (mut auth, mut host, mut port) = (None, None, None);
    for pair in pairs.ok_or(MALFORMED)?.split_inclusive(SEPARATOR) {
        let (key, value) = pair
            .strip_suffix(SEPARATOR)
            .and_then(|pair| pair.split_once('='))
            .filter(|(key, value)| is_key(key) && is_value(value))
            .ok_or(MALFORMED)?;
        let place = match key {
            "auth" => &mut auth,
            "host" => &mut host,
            "port" => &mut port,
            // Others are for other ways of OAuth (§3.1).
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Err(Failure::Malformed("a key comes twice"));
        }
    }
    let token = match auth.ok_or(Failure::Malformed("the token is missing"))? {
        "" => return Ok(None),
        auth => bearer(auth)?,
    };
    let port = port.map(|port| {
        let digits = !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit());
        port.parse().ok().filter(|_| digits).ok_or(Failure::Malformed("the port is not a number"))
    });
    let authzid = header.authzid.map(|name| rules.authzid(&name)).transpose()?;
    let mut ask = CheckToken::new(Mechanism::OauthBearer, authzid, token);
    ask.host = host.map(Into::into);
    ask.port = port.transpose()?;
    Ok(Some(ask))
}

/// `"user=" name kvsep "auth=Bearer " token kvsep kvsep`. There is no escape in it.
fn xoauth2(rules: &Rules, text: &str) -> Result<CheckToken, Failure> {
    const MALFORMED: Failure = Failure::Malformed("it is not a user and a token");
    let mut fields = text.split(SEPARATOR);
    let (Some(user), Some(auth), Some(""), Some(""), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(MALFORMED);
    };
    let user = check_name(user.strip_prefix("user=").ok_or(MALFORMED)?)?;
    let token = bearer(auth.strip_prefix("auth=").ok_or(MALFORMED)?)?;
    Ok(CheckToken::new(Mechanism::Xoauth2, Some(rules.authzid(user)?), token))
}

/// `key = 1*ALPHA`
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphabetic())
}

/// `value = *(VCHAR / SP / HTAB / CR / LF)`
fn is_value(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b' '..=b'~' | b'\t' | b'\r' | b'\n'))
}

/// `credentials = "Bearer" 1*SP b64token` (RFC 6750 §2.1). Schemes have no case (RFC 9110 §11.1).
fn bearer(auth: &str) -> Result<Secret, Failure> {
    let (scheme, token) = auth.split_once(' ').unwrap_or((auth, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(Failure::Malformed("the token is not a bearer's"));
    }
    match token.trim_start_matches(' ') {
        token if is_token(token) => Ok(Secret::new(token)),
        _ => Err(Failure::Malformed("the token is empty or holds characters that none has")),
    }
}

/// `b64token = 1*(ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/") *"="`
pub(super) fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let good = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~+/".contains(&octet);
    !body.is_empty() && body.bytes().all(good)
}

#[derive(Debug)]
pub(super) enum Client {
    Sent(Mechanism),
    /// The server has said what is wrong with the token.
    Refused(Box<Secret>),
}

impl Client {
    pub(super) fn begin(
        mechanism: Mechanism,
        token: &Token,
        authzid: Option<&str>,
    ) -> (Option<Vec<u8>>, Self) {
        let (user, secret) = (authzid.unwrap_or(&token.user), token.token.expose());
        // In one piece, as a text that grows leaves copies of the token behind.
        let message = if mechanism == Mechanism::Xoauth2 {
            ["user=", user, "\x01auth=Bearer ", secret, "\x01\x01"].concat()
        } else {
            let server = token.server.as_ref();
            let server = server.map(|(host, port)| format!("host={host}\x01port={port}\x01"));
            let header = gs2::write(Flag::No, Some(user));
            let server = server.unwrap_or_default();
            [&*header, "\x01", &*server, "auth=Bearer ", secret, "\x01\x01"].concat()
        };
        (Some(message.into_bytes()), Self::Sent(mechanism))
    }

    /// The error is acknowledged: by a separator (RFC 7628 §3.2.3), in XOAUTH2 by nothing.
    pub(super) fn take(self, challenge: &[u8]) -> Result<(Vec<u8>, Self), client::Failure> {
        let Self::Sent(mechanism) = self else {
            return Err(client::Failure::UnexpectedChallenge);
        };
        // With room for all that stands in for octets that are not UTF-8, as it may repeat the token.
        let mut error =
            String::with_capacity(challenge.len() * char::REPLACEMENT_CHARACTER.len_utf8());
        for chunk in challenge.utf8_chunks() {
            error.push_str(chunk.valid());
            error.extend((!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER));
        }
        let error = Box::new(Secret::new(error));
        let answer = if mechanism == Mechanism::Xoauth2 { Vec::new() } else { b"\x01".to_vec() };
        Ok((answer, Self::Refused(error)))
    }

    pub(super) fn finish(self) -> Result<(), client::Failure> {
        match self {
            Self::Sent(_) => Ok(()),
            Self::Refused(_) => Err(client::Failure::EarlySuccess),
        }
    }
}
