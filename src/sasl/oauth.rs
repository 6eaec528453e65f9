//! OAUTHBEARER (RFC 7628) and XOAUTH2: the first message contains an OAuth 2.0 token (RFC 6750).

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};
use core::ops::Range;

use super::{
    CheckToken, Failure, Mechanism, TokenError, check_name,
    client::{self, Token},
    gs2::{self, Flag, Header},
    names::Rules,
    server::{Config, Next, State},
};
use crate::secret::{Secret, SecretBytes};

/// `kvsep`, which ends each pair. A second one ends the message.
const SEPARATOR: char = '\x01';

#[derive(Debug)]
pub(super) enum Server {
    Message(Mechanism, Arc<Config>),
    /// The error was sent to the client. The exchange fails, whatever the client responds.
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
            Mechanism::Xoauth2 => Ok(Some(xoauth2(rules, text?)?)),
            _ => text.and_then(|text| oauth_bearer(rules, text)),
        };
        Ok(match ask {
            Ok(Some(ask)) => State::CheckToken(Box::new(ask), Arc::clone(config)),
            Ok(None) => refuse(config.own_token_error(), Failure::Rejected),
            Err(malformed) => refuse(&TokenError::INVALID_REQUEST, malformed),
        })
    }
}

impl Server {
    /// Returns the reason why the token was refused, while the client is being informed of it.
    pub(super) fn refused(&self) -> Option<Failure> {
        match self {
            Self::Message(..) => None,
            Self::Refused(failure) => Some(*failure),
        }
    }
}

/// Sends the error in a challenge. The exchange fails after the response to it (RFC 7628 §3.2.3).
pub(super) fn refuse(error: &TokenError, failure: Failure) -> State {
    State::challenge(error.to_json().into_bytes(), Next::Oauth(Server::Refused(failure)))
}

/// `client-resp = gs2-header kvsep *kvpair kvsep`, `kvpair = key "=" value kvsep`. Returns `None` if the client
/// sends no token, in order to ask where to get one (§4.3).
fn oauth_bearer(rules: &Rules, message: Secret) -> Result<Option<CheckToken>, Failure> {
    const MALFORMED: Failure = Failure::Malformed("the pairs of keys and values are malformed");
    let header = Header::read(message.expose())?;
    if let Flag::Bound(_) = header.flag {
        return Err(Failure::Malformed("OAUTHBEARER does not support channel binding"));
    }
    let pairs = header.rest.strip_prefix(SEPARATOR).and_then(|rest| rest.strip_suffix(SEPARATOR));
    let (mut auth, mut host, mut port) = (None, None, None);
    let mut pairs = pairs.ok_or(MALFORMED)?;
    while !pairs.is_empty() {
        let (pair, rest) = pair(pairs).ok_or(MALFORMED)?;
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, value)| is_key(key) && is_value(value))
            .ok_or(MALFORMED)?;
        pairs = rest;
        let place = match key {
            "auth" => &mut auth,
            "host" => &mut host,
            "port" => &mut port,
            // Other keys belong to other schemes of OAuth (§3.1).
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Err(Failure::Malformed("a key occurs twice"));
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
    let (host, port) = (host.map(Into::into), port.transpose()?);
    let token = place(token, &message);
    let mut ask = CheckToken::new(Mechanism::OauthBearer, authzid, message.cut(token));
    (ask.host, ask.port) = (host, port);
    Ok(Some(ask))
}

/// Returns the text before the first separator, and the text after it. Tokens are long, and `memchr` is fast.
fn pair(pairs: &str) -> Option<(&str, &str)> {
    let end = memchr::memchr(SEPARATOR as u8, pairs.as_bytes())?;
    Some((pairs.get(..end)?, pairs.get(end + 1..)?))
}

/// `"user=" name kvsep "auth=Bearer " token kvsep kvsep`. This format has no escapes.
fn xoauth2(rules: &Rules, message: Secret) -> Result<CheckToken, Failure> {
    const MALFORMED: Failure = Failure::Malformed("XOAUTH2 takes a user name and a bearer token");
    let fields =
        message.expose().strip_prefix("user=").and_then(|text| text.strip_suffix("\x01\x01"));
    let (user, auth) = fields.and_then(|text| text.split_once(SEPARATOR)).ok_or(MALFORMED)?;
    let authzid = rules.authzid(check_name(user)?)?;
    let token = place(bearer(auth.strip_prefix("auth=").ok_or(MALFORMED)?)?, &message);
    Ok(CheckToken::new(Mechanism::Xoauth2, Some(authzid), message.cut(token)))
}

/// Returns the position of a part within the message.
fn place(part: &str, message: &Secret) -> Range<usize> {
    let start = part.as_ptr().addr().wrapping_sub(message.expose().as_ptr().addr());
    let range = start..start.wrapping_add(part.len());
    debug_assert!(message.expose().get(range.clone()) == Some(part), "it is a part of the message");
    range
}

/// `key = 1*ALPHA`
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphabetic())
}

/// `value = *(VCHAR / SP / HTAB / CR / LF)`
fn is_value(text: &str) -> bool {
    all(text, |octet| {
        octet.is_ascii_graphic()
            | (octet == b' ')
            | (octet == b'\t')
            | (octet == b'\r')
            | (octet == b'\n')
    })
}

/// `credentials = "Bearer" 1*SP b64token` (RFC 6750 §2.1). The scheme is not case-sensitive (RFC 9110 §11.1).
fn bearer(auth: &str) -> Result<&str, Failure> {
    let (scheme, token) = auth.split_once(' ').unwrap_or((auth, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(Failure::Malformed("the authorization scheme is not Bearer"));
    }
    match token.trim_start_matches(' ') {
        token if is_token(token) => Ok(token),
        _ => Err(Failure::Malformed(
            "the token is empty or contains characters that are not allowed in a token",
        )),
    }
}

/// `b64token = 1*(ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/") *"="`
pub(super) fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let good = |octet: u8| {
        let letter = (octet | 0x20).wrapping_sub(b'a') < 26;
        letter | matches!(octet, b'-'..=b'9') | (octet == b'+') | (octet == b'_') | (octet == b'~')
    };
    !body.is_empty() && all(body, good)
}

/// This has no early return, so that the compiler can check many octets at a time.
fn all(text: &str, good: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(true, |all, octet| all & good(octet))
}

#[derive(Debug)]
pub(super) enum Client {
    Sent(Mechanism),
    /// The server has sent an error about the token.
    Refused(Box<Secret>),
}

impl Client {
    pub(super) fn begin(
        mechanism: Mechanism,
        token: &Token,
        authzid: Option<&str>,
    ) -> (Option<Vec<u8>>, Self) {
        let (user, secret) = (authzid.unwrap_or(&token.user), token.token.expose());
        // The message is written in one piece, because a text that grows would leave copies of the token in
        // memory.
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

    /// Acknowledges the error: with a separator (RFC 7628 §3.2.3), or with an empty response in XOAUTH2.
    pub(super) fn take(self, challenge: &[u8]) -> Result<(Vec<u8>, Self), client::Failure> {
        let Self::Sent(mechanism) = self else {
            return Err(client::Failure::UnexpectedChallenge);
        };
        // The error may repeat the token, so it must not be reallocated: this makes room for the replacement of
        // every octet that is not UTF-8.
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

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn a_token_is_of_these_characters() {
        for c in '\0'..='\u{ff}' {
            let good = c.is_ascii_alphanumeric() || "-._~+/".contains(c);
            assert_eq!(is_token(&format!("{:a<40}{c}{:9<30}", "", "")), good, "{c:?}");
            assert_eq!(is_token(&format!("abc{c}==")), good || c == '=', "{c:?}");
        }
        assert!(!is_token("") && !is_token("=="));
    }

    #[test]
    fn a_value_is_of_these_characters() {
        for c in '\0'..='\u{ff}' {
            let good = matches!(c, ' '..='~' | '\t' | '\r' | '\n');
            assert_eq!(is_value(&format!("{:a<40}{c}{:9<30}", "", "")), good, "{c:?}");
        }
    }
}
