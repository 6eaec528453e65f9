//! The text forms in which SCRAM keys are stored (RFC 5803).

use alloc::{format, vec::Vec};
use core::str::{self, FromStr};

use super::{Keys, ScramHash, ScramKeys, ScramParts};
use crate::{
    base64::{decode, encode, encoded},
    sasl::Mechanism,
    secret::{Secret, SecretBytes, apart},
};

impl ScramKeys {
    /// Returns the text form, `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` (RFC 5803), for storage. Protect
    /// the text like a password hash, because it allows a brute-force search for the password after a database
    /// breach.
    pub fn to_text(&self) -> Secret {
        let Keys { hash, iterations, ref salt, ref stored_key, ref server_key, .. } = *self.0;
        let start = format!("{}${iterations}:", hash.mechanism());
        let parts = [&**salt, stored_key.as_slice(), server_key.as_slice()];
        let length = parts.map(|part| "$".len() + encoded(part.len())).iter().sum::<usize>();
        let mut text = Vec::with_capacity(start.len() + length);
        text.extend_from_slice(start.as_bytes());
        for (part, separator) in parts.into_iter().zip(["$", ":", ""]) {
            encode(part, &mut text);
            text.extend_from_slice(separator.as_bytes());
        }
        SecretBytes::new(text).into_text().unwrap_or_else(|| Secret::new(""))
    }
}

/// The error returned if a string is not a valid text form of [`ScramKeys`], or if the feature for its hash is
/// disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub struct ScramKeysError;

impl ScramKeysError {
    /// Returns the `Display` text as a static string.
    pub const fn as_str(&self) -> &'static str {
        "the text is not a known form of SCRAM keys, or the feature for its hash is disabled"
    }
}

impl FromStr for ScramKeys {
    type Err = ScramKeysError;

    fn from_str(text: &str) -> Result<Self, ScramKeysError> {
        let read = || match text.strip_prefix('{') {
            Some(text) => dovecot(text),
            None => auth_password(text),
        };
        apart(2, read).ok_or(ScramKeysError)
    }
}

/// `w scheme s authInfo s authValue w`, where `s = w "$" w` and `w = *SP` (RFC 3112 §2.1), with
/// `scram-authInfo = iter-count ":" salt` and `scram-authValue = stored-key ":" server-key` (RFC 5803).
/// PostgreSQL writes the same form.
fn auth_password(text: &str) -> Option<ScramKeys> {
    let mut parts = text.split('$').map(|part| part.trim_matches(' '));
    let (scheme, info, value) = (parts.next()?, parts.next()?, parts.next()?);
    let ((iterations, salt), (stored, server)) = (info.split_once(':')?, value.split_once(':')?);
    let last = parts.next().is_none();
    last.then(|| keys(scheme, [iterations, salt, stored, server]))?
}

/// Dovecot's scheme, which may end in the name of an encoding, followed by four fields. If there is an encoding, the
/// fields are encoded with it as a whole.
fn dovecot(text: &str) -> Option<ScramKeys> {
    let (scheme, text) = text.split_once('}')?;
    let Some((scheme, encoding)) = scheme.split_once('.') else { return fields(scheme, text) };
    let is = |own: &str| own.eq_ignore_ascii_case(encoding);
    let decoded = if is("b64") || is("base64") {
        SecretBytes::new(decode(text.as_bytes())?)
    } else if is("hex") {
        hexadecimal(text.as_bytes())?
    } else {
        return None;
    };
    fields(scheme, str::from_utf8(decoded.as_slice()).ok()?)
}

/// `iterations,salt,StoredKey,ServerKey`
fn fields(scheme: &str, text: &str) -> Option<ScramKeys> {
    let mut fields = text.split(',');
    let four = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    fields.next().is_none().then(|| keys(scheme, four))?
}

fn keys(scheme: &str, [iterations, salt, stored, server]: [&str; 4]) -> Option<ScramKeys> {
    let mechanism = Mechanism::from_name(scheme).filter(|scram| !scram.binds_channel())?;
    let octets = |text: &str| decode(text.as_bytes()).map(SecretBytes::new);
    let (salt, stored, server) = (octets(salt)?, octets(stored)?, octets(server)?);
    ScramKeys::of_parts(ScramParts {
        hash: ScramHash::of(mechanism)?,
        iterations: positive(iterations)?,
        salt: salt.as_slice(),
        stored_key: stored.as_slice(),
        server_key: server.as_slice(),
    })
}

/// Decodes hexadecimal digits in either case.
fn hexadecimal(digits: &[u8]) -> Option<SecretBytes> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let mut octets = SecretBytes::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.chunks(2) {
        let &[high, low] = pair else { return None };
        octets.push(u8::try_from(value(high)? << 4 | value(low)?).ok()?);
    }
    Some(octets)
}

/// `iter-count = %x31-39 *DIGIT` (RFC 5803), up to `u32::MAX`.
fn positive(text: &str) -> Option<u32> {
    let digits = !text.starts_with('0') && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
