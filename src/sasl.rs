//! Both sides of SASL exchanges (RFC 4422), with challenges and responses as raw octets.
//!
//! The SASL exchange is the lowest of the crate's three API levels. This level does not depend on SMTP, on lines or on
//! base64, so an implementation of IMAP, POP3, XMPP, LDAP or ManageSieve can use it without the `smtp` feature. For
//! SMTP, the [`auth`](crate::auth) module adds the rules of RFC 4954.
//!
//! At any point in a SASL exchange, exactly one party has to act next. The `step` method returns what the exchange
//! needs next. A step that needs an answer carries a handle, and the application answers the step by calling one of the
//! handle's methods. Until the step has been answered, every call to `step` returns the same step and changes nothing.
//! The application can therefore answer at once or a minute later.
//!
//! ```
//! use std::sync::Arc;
//! use smtp_auth::sasl::{Channel, Mechanism, Query, server};
//!
//! let config = server::Config::builder("imap.example.org").mechanisms([Mechanism::Plain]).build()?;
//! // The initial response of `AUTHENTICATE PLAIN`, already decoded from base64.
//! let response = Some(b"\0tim\0tanstaaftanstaaf".to_vec());
//! let mut exchange =
//!     server::Exchange::new(&Arc::new(config), &Channel::tls(), Mechanism::Plain, response);
//! let identity = loop {
//!     match exchange.step() {
//!         // A real server sends the challenge and calls `respond` with the client's response.
//!         server::Step::Challenge(challenge) => challenge.cancel(),
//!         server::Step::Query(Query::CheckPassword(ask)) => {
//!             let good = ask.authcid() == "tim" && ask.password() == "tanstaaftanstaaf";
//!             ask.answer(good);
//!         }
//!         server::Step::Query(other) => other.reject(),
//!         server::Step::Done(outcome) => break outcome.map_err(|failure| failure.to_string())?,
//!     }
//! };
//! assert_eq!(identity.authcid(), "tim");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// `off.rs` replaces each mechanism that is compiled out.
#![cfg_attr(
    not(any(feature = "scram-sha-1", feature = "scram-sha-256", feature = "scram-sha-512")),
    allow(unreachable_code, unused_variables, reason = "without a hash, SCRAM has no values")
)]
#![allow(clippy::duplicate_mod, reason = "`off.rs` replaces several modules")]

use alloc::{borrow::Cow, boxed::Box, string::String, sync::Arc};
use core::{fmt, mem};

mod channel;
pub mod client;
mod mechanism;
mod names;
mod query;
mod refusal;
pub mod server;

#[cfg_attr(not(feature = "anonymous"), path = "sasl/off.rs")]
mod anonymous;
#[cfg_attr(not(feature = "cram-md5"), path = "sasl/off.rs")]
mod cram_md5;
mod cram_secret;
#[cfg(any(feature = "scram-sha-256", feature = "scram-sha-512"))]
mod end_point;
#[cfg_attr(not(feature = "external"), path = "sasl/off.rs")]
mod external;
mod gs2;
mod hex;
#[cfg_attr(not(feature = "login"), path = "sasl/off.rs")]
mod login;
mod oauth;
#[cfg_attr(not(feature = "plain"), path = "sasl/off.rs")]
mod plain;
mod scram;
mod scram_keys;

pub use channel::{BindingPolicy, Channel, ChannelBinding};
pub use cram_secret::{CramSecret, CramSecretError};
pub use mechanism::{CustomName, Mechanism};
pub use names::{FoldName, as_sent, prepare_lower_case};
pub use query::{
    Answer, AsyncAuthenticator, Authenticator, AuthenticatorMut, Authorize, AuthorizeAnswer,
    BoxedAuthenticator, CheckAnonymous, CheckExternal, CheckPassword, CheckToken, CramSecretFor,
    Custom, CustomAnswer, Immediate, Query, QueryJob, ScramKeysFor, ServerMechanism, TokenAnswer,
    TokenError,
};
pub use refusal::{Refusal, RefusalKind};
pub use scram_keys::{SaltedPassword, ScramHash, ScramKeys, ScramKeysError, ScramParts};

/// The result of a successful authentication: the authenticated account, the mechanism, and the account that the
/// client acts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    authcid: String,
    authzid: Option<Box<str>>,
    mechanism: Mechanism,
}

impl Identity {
    /// Moves the identity out, and leaves empty names here.
    fn take(&mut self) -> Self {
        let authcid = mem::take(&mut self.authcid);
        Self { authcid, authzid: self.authzid.take(), mechanism: self.mechanism }
    }

    /// Returns the account whose credentials were verified: the authentication identity (RFC 4422 §2).
    pub fn authcid(&self) -> &str {
        &self.authcid
    }

    /// Returns the account that the client acts as, if this is not the client's own account. Either the client named
    /// this other account and the application allowed it, or the application [assigned the
    /// account](AuthorizeAnswer::AcceptAs).
    ///
    /// Returns `None` if the client acts as its own account (RFC 4422 §3.4.1).
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// Returns the account that the client acts as. This is the [`authzid`](Self::authzid) if there is one, and the
    /// [`authcid`](Self::authcid) otherwise.
    pub fn acts_as(&self) -> &str {
        self.authzid().unwrap_or(&self.authcid)
    }

    /// Returns the mechanism that the client authenticated with.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Returns whether the client is a guest, that is, whether it used ANONYMOUS (RFC 4505). The identity of a guest
    /// has not been verified.
    ///
    /// The [`authcid`](Self::authcid) of a guest is `anonymous`. A real account can also have this name, so use this
    /// method instead of comparing names.
    pub fn is_anonymous(&self) -> bool {
        self.mechanism == Mechanism::Anonymous
    }
}

/// The reason why an exchange failed on a server.
///
/// The `Display` text is meant for the application's log, and contains nothing that the client sent. Do not send the
/// text to the client. For SMTP, [`auth::server::reply_to`](crate::auth::server::reply_to) returns the reply for each
/// failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub enum Failure {
    /// The command that should begin the exchange is malformed.
    Syntax,
    /// The mechanism is unknown, is not configured, or cannot be used on this connection.
    Unsupported,
    /// The mechanism is configured, but it needs TLS, and the connection does not use TLS.
    NeedsTls,
    /// The client sent an initial response, but the mechanism begins with a challenge from the server.
    UnexpectedInitialResponse,
    /// The initial response cannot be decoded from base64.
    InitialResponseEncoding,
    /// The client cancelled the exchange.
    Cancelled,
    /// A response cannot be decoded from base64, or from the encoding that the protocol uses instead of base64.
    Encoding,
    /// A response, or the command with its initial response, is longer than the protocol or the
    /// [configuration](server::Builder::max_response) allows.
    TooLong,
    /// A response violates the grammar of its mechanism. The string describes the violation.
    #[error("{}: {}", self.as_str(), .0)]
    Malformed(&'static str),
    /// The user name, the password, the token or the certificate is wrong.
    Rejected,
    /// The client reports that the server offered no mechanism with channel binding, although the server did offer
    /// one. A man-in-the-middle may have removed the mechanism from the list (a downgrade attack, RFC 5802 §6).
    Downgrade,
    /// The client's channel binding does not match this TLS connection, or the server's [`Channel`] contains no data
    /// for the type of channel binding that the client chose. A man-in-the-middle may be relaying the exchange.
    ChannelBinding,
    /// The credentials are correct, but the application does not admit the user, or does not allow the user to act as
    /// the account that the client named. The client receives the same reply as for a wrong password.
    NotAuthorized,
    /// The credentials are correct, but the application refuses the user with a [custom reply](Refusal).
    #[error("{}: {}", self.as_str(), .0)]
    Refused(RefusalKind),
    /// The credentials cannot be checked at the moment. Either the application answered with a temporary failure, or no
    /// [nonce](NonceError) was available for the challenge.
    TempFail,
    /// The client must authenticate once with another mechanism before the account can use this mechanism (RFC
    /// 4954 §6).
    TransitionNeeded,
    /// The mechanism is too weak for this account.
    TooWeak,
    /// The account [is locked](Answer::lock). The password may have been right or wrong. The client receives the same
    /// reply as for a wrong password.
    Locked,
    /// The account [has no stored secret](Answer::no_secret) for this mechanism. The client receives the same reply as
    /// for a wrong password.
    NoSecret,
    /// The server offers this mechanism, but the application [does not support](Query::not_implemented) the kind of
    /// query that the mechanism needs. The server's configuration must be corrected.
    #[error(
        "the server offers {0}, but its authenticator does not implement it: implement it, or remove it from the configuration"
    )]
    NotImplemented(&'static str),
}

impl Failure {
    /// Returns the `Display` text as a static string. The string does not contain the details of
    /// [`Malformed`](Self::Malformed) and [`Refused`](Self::Refused), or the mechanism's name in
    /// [`NotImplemented`](Self::NotImplemented).
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Syntax => "the client's command is malformed",
            Self::Unsupported => "the client asked for a mechanism that is not offered",
            Self::NeedsTls => {
                "the client asked for a mechanism that needs TLS, but the connection has no TLS"
            }
            Self::UnexpectedInitialResponse => {
                "the client sent an initial response to a mechanism that begins with a challenge"
            }
            Self::InitialResponseEncoding => "the client's initial response is not valid base64",
            Self::Cancelled => "the client cancelled the exchange",
            Self::Encoding => "the client's response is not valid base64",
            Self::TooLong => "the client's response is too long",
            Self::Malformed(_) => "the client's response is malformed",
            Self::Rejected => "the user name, password, token or certificate is wrong",
            Self::Downgrade => {
                "the client did not see the -PLUS mechanisms that the server offers: a man-in-the-middle may have changed the list"
            }
            Self::ChannelBinding => {
                "the client's channel binding does not match this TLS connection: there may be a man-in-the-middle"
            }
            Self::NotAuthorized => {
                "the credentials are right, but the user is not admitted, or may not act as the account that the client named"
            }
            Self::Refused(_) => "the credentials are right, but the application refuses the user",
            Self::TempFail => "the credentials could not be checked at the moment",
            Self::TransitionNeeded => "the account must first be moved to this mechanism",
            Self::TooWeak => "the mechanism is too weak for this account",
            Self::Locked => "the account is locked (the password may have been right or wrong)",
            Self::NoSecret => {
                "the account has no keys for the mechanism: set its password again to create them"
            }
            Self::NotImplemented(_) => {
                "the server offers a mechanism that its authenticator does not implement: implement it, or remove it from the configuration"
            }
        }
    }

    /// Returns whether this failure counts as a failed attempt for rate limiting.
    ///
    /// A failure counts if the credentials or the channel binding were rejected, or if the client cancelled the
    /// exchange or sent an invalid response. To prevent brute force, a server should limit the number of failed
    /// attempts on each connection (RFC 4954 §4, §9).
    pub const fn is_attempt(self) -> bool {
        match self {
            Self::Cancelled
            | Self::Encoding
            | Self::TooLong
            | Self::Malformed(_)
            | Self::Rejected
            | Self::Locked
            | Self::NoSecret
            | Self::NotAuthorized
            | Self::Downgrade
            | Self::ChannelBinding => true,
            Self::Syntax
            | Self::Unsupported
            | Self::NeedsTls
            | Self::UnexpectedInitialResponse
            | Self::InitialResponseEncoding
            | Self::TempFail
            | Self::TransitionNeeded
            | Self::TooWeak
            | Self::Refused(_)
            | Self::NotImplemented(_) => false,
        }
    }
}

/// The length in octets of the longest message that fits into a line of SMTP, which can contain 12,288 octets of
/// base64 (RFC 4954 §4).
const MAX_MESSAGE: usize = 12_288 / 4 * 3;

/// A fresh, unpredictable value for a challenge: 1 to 128 octets of printable ASCII without comma, space, `<`,
/// `>` or `@`.
///
/// ```
/// use smtp_auth::sasl::Nonce;
///
/// let nonce = Nonce::new("rOprNGfwEbeRWgbNEkqO")?;
/// assert_eq!(nonce.as_str(), "rOprNGfwEbeRWgbNEkqO");
/// assert!(Nonce::new("a, b").is_err());
/// # Ok::<(), smtp_auth::sasl::NonceError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce {
    octets: [u8; 128],
    length: usize,
}

impl Nonce {
    /// Creates a nonce from text, for tests or for a custom source of random numbers. A nonce with 128 bits of
    /// randomness is unpredictable enough.
    ///
    /// # Errors
    /// [`NonceError`] if the text is empty, is longer than 128 octets, or contains an octet that is not
    /// allowed.
    pub fn new(text: &str) -> Result<Self, NonceError> {
        let good =
            |octet| matches!(octet, b'!'..=b'~') && !matches!(octet, b',' | b'<' | b'>' | b'@');
        let mut octets = [0; 128];
        let room = octets.get_mut(..text.len()).ok_or(NonceError)?;
        room.copy_from_slice(text.as_bytes());
        // This has no early return, so that the compiler can check many octets at a time.
        let all = text.bytes().fold(!text.is_empty(), |all, octet| all & good(octet));
        if all { Ok(Self { octets, length: text.len() }) } else { Err(NonceError) }
    }

    /// Creates a nonce from sixteen octets of the operating system's random source, written in hexadecimal.
    ///
    /// # Errors
    /// [`NonceError`] if the operating system cannot supply random numbers.
    #[cfg(feature = "getrandom")]
    pub fn random() -> Result<Self, NonceError> {
        let mut octets = [0; 16];
        getrandom::fill(&mut octets).map_err(|_| NonceError)?;
        let digits = hex::encode(&octets);
        let mut nonce = Self { octets: [0; 128], length: digits.as_flattened().len() };
        nonce.octets.iter_mut().zip(digits.as_flattened()).for_each(|(to, digit)| *to = *digit);
        Ok(nonce)
    }

    /// Returns the nonce as text, for example to use it in a custom mechanism's challenge or as a salt.
    pub fn as_str(&self) -> &str {
        let text = self.octets.get(..self.length).unwrap_or_default();
        core::str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(***)")
    }
}

/// The error returned if a nonce is not allowed or cannot be created. If a source of nonces returns this error, the
/// exchange fails with [`Failure::TempFail`] on a server, or with [`client::Failure::NoNonce`] on a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
#[expect(clippy::exhaustive_structs, reason = "a custom source of nonces returns it")]
pub struct NonceError;

impl NonceError {
    /// Returns the `Display` text as a static string.
    pub const fn as_str(&self) -> &'static str {
        "no usable nonce: it must be 1 to 128 printable octets without comma, space, <, > and @"
    }
}

/// A source of nonces, which all clones of a configuration share.
#[derive(Clone)]
struct NonceSource(Arc<dyn Fn() -> Result<Nonce, NonceError> + Send + Sync>);

impl NonceSource {
    fn new(source: impl Fn() -> Result<Nonce, NonceError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    fn fresh(&self) -> Option<Nonce> {
        (self.0)().ok()
    }
}

impl fmt::Debug for NonceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceSource")
    }
}

/// A mistake in a configuration, a name or a credential. The caller has to correct the mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub enum ConfigError {
    /// The host name is empty, is too long, or contains characters that are not allowed in a host name.
    HostName,
    /// The server's configuration lists no mechanism.
    NoMechanism,
    /// Channel binding is required, but none of the listed mechanisms supports it.
    NothingBinds,
    /// SCRAM or CRAM-MD5 is listed, but there is no source of random numbers for its challenges.
    #[error("{0} needs random numbers: enable the feature getrandom, or set a source of nonces")]
    NoNonces(Mechanism),
    /// The key for SCRAM's decoy salts is shorter than 16 octets, or is missing.
    SaltKey,
    /// The server requires authentication, but its configuration has no SASL mechanisms.
    NoSasl,
    /// The list of EHLO keywords contains a keyword twice, or contains STARTTLS, AUTH or SIZE. The session adds these
    /// three keywords on its own.
    Keyword,
    /// A [`Refusal`] contains a reply code or text that is not allowed.
    Refusal,
    /// The verb of a custom command does not consist of letters, or is reserved. XCLIENT, BURL, and the verbs of the
    /// commands that the crate implements are reserved.
    Verb,
    /// The server offers a mechanism that the authenticator does not list or does not implement.
    #[error(
        "the authenticator does not implement {0}: list it and implement the method {method} (a wrapper has to forward it), or leave {0} out",
        method = query::method(*.0)
    )]
    NotImplemented(Mechanism),
    /// [`authorize_always`](server::Builder::authorize_always) is set, but the authenticator does not implement
    /// `authorize`.
    Authorize,
    /// The Cargo feature of a listed mechanism is disabled.
    #[error("the mechanism {0} is not compiled in: enable its feature")]
    NotCompiled(Mechanism),
    /// A user name is empty, is longer than 1,024 octets, or contains control characters.
    UserName,
    /// A password is empty, contains NUL, or is too long for every mechanism that could send it. PLAIN can send up to
    /// 9,214 octets, including the names, and LOGIN can send up to 9,216 octets. Mechanisms that do not send the
    /// password do not limit its length.
    Password,
    /// The token is empty, contains octets that are not allowed in a bearer token (RFC 6750 §2.1), or does not fit into
    /// a message together with the names of the user and the server.
    Token,
    /// The server name passed to [`Credentials::for_server`](client::Credentials::for_server) is empty, is longer than
    /// 255 octets, or contains a space or a character that is not printable ASCII.
    ServerName,
    /// The trace for ANONYMOUS is not valid. It must be a mail address, or a string of up to 255 characters without
    /// `@`. It must not contain characters that RFC 4505 §3 forbids, such as control characters. Without the
    /// `anonymous` feature, every trace causes this error.
    Trace,
    /// The name of a custom mechanism violates the grammar of RFC 4422 §3.1, or is the name of a mechanism that
    /// the crate implements.
    MechanismName,
    /// The channel binding data is empty, or is longer than the type of channel binding allows.
    ChannelBinding,
}

impl ConfigError {
    /// Returns the `Display` text as a static string. If the text contains the name of a mechanism, the string omits
    /// the name.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::HostName => {
                "the host name is empty or too long, or contains spaces, control characters, < or >"
            }
            Self::NoMechanism => {
                "no mechanism is listed: list the mechanisms that the application supports for its accounts"
            }
            Self::NothingBinds => {
                "channel binding is required, but no SCRAM-…-PLUS mechanism is listed"
            }
            Self::NoNonces(_) => {
                "a mechanism needs random numbers: enable the feature getrandom, or set a source of nonces"
            }
            Self::SaltKey => {
                "the salt key must have at least 16 octets, be secret, and stay the same across restarts"
            }
            Self::Refusal => {
                "a refusal needs a code from 400 to 599 other than 421, and 1 to 5 lines of printable ASCII within 512 octets"
            }
            Self::Verb => {
                "a custom command must consist of letters, and must not be XCLIENT, BURL, or a command that the session handles itself"
            }
            Self::NoSasl => "the server requires authentication, but has no SASL configuration",
            Self::Keyword => {
                "the session writes the keywords STARTTLS, AUTH and SIZE itself, and every other keyword may be listed only once"
            }
            Self::NotImplemented(_) => {
                "the authenticator does not implement a mechanism: list it and implement its method (a wrapper has to forward it), or leave it out"
            }
            Self::Authorize => {
                "authorize_always is on, but the authenticator does not implement the method authorize (a wrapper has to forward it)"
            }
            Self::NotCompiled(_) => "a mechanism is not compiled in: enable its feature",
            Self::UserName => "a user name must have 1 to 1,024 octets without control characters",
            Self::Password => {
                "a password must not be empty or contain NUL, and is limited to 9,216 octets (with PLAIN, including the user name)"
            }
            Self::Token => {
                "a token must consist of letters, digits and -._~+/ with optional = at its end, and fit into 9,000 octets"
            }
            Self::ServerName => {
                "the server's name must have 1 to 255 octets of printable ASCII without spaces"
            }
            Self::Trace => {
                "the trace must be a mail address, or up to 255 characters without @ and control characters"
            }
            Self::MechanismName => {
                "a custom mechanism's name must have 1 to 20 characters of A-Z 0-9 - _, and must not be the name of a known mechanism"
            }
            Self::ChannelBinding => {
                "the channel binding data is empty or too long: tls-server-end-point requires a hash, not the certificate"
            }
        }
    }
}

/// Prepares a name or a password with SASLprep (RFC 4013). SCRAM prepares both names and passwords in this way.
///
/// PLAIN and LOGIN send the password as it was typed. If a client uses PLAIN or LOGIN, the store must therefore prepare
/// the password with this function before comparing or hashing it (RFC 4616 §2). Otherwise, PLAIN and LOGIN do not
/// accept the same passwords as SCRAM. The returned text is not zeroed when it is dropped, so move a prepared password
/// into a [`Secret`](crate::Secret).
///
/// Returns `None` if SASLprep does not allow the text, or if the result is empty. Without the `saslprep` feature, only
/// printable ASCII is allowed.
///
#[cfg_attr(feature = "saslprep", doc = "```")]
#[cfg_attr(not(feature = "saslprep"), doc = "```ignore")]
/// use smtp_auth::sasl::prepare;
///
/// assert_eq!(prepare("caf\u{e9}"), prepare("cafe\u{301}")); // é as one character, or as e with an accent
/// assert_eq!(prepare("\u{7}"), None);
/// ```
#[inline]
pub fn prepare(text: &str) -> Option<Cow<'_, str>> {
    // SASLprep does not change printable ASCII, and most names consist of nothing else.
    if is_printable_ascii(text) && !text.is_empty() {
        return Some(text.into());
    }
    saslprep(text).filter(|prepared| !prepared.is_empty())
}

#[cfg(feature = "saslprep")]
fn saslprep(text: &str) -> Option<Cow<'_, str>> {
    stringprep::saslprep(text).ok()
}

#[cfg(not(feature = "saslprep"))]
fn saslprep(_: &str) -> Option<Cow<'_, str>> {
    None
}

/// Returns whether the stringprep profile "trace" (RFC 4505 §3) allows the character.
#[cfg(feature = "saslprep")]
fn is_trace_character(c: char) -> bool {
    use stringprep::tables;
    !(c.is_control()
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c))
}

/// Without the `saslprep` feature, this allows only what the profile always allows.
#[cfg(not(feature = "saslprep"))]
fn is_trace_character(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// Returns whether the name contains control characters, including line separators and direction marks.
fn holds_control(name: &str) -> bool {
    // Most names are printable ASCII, which need not be decoded into characters.
    !is_printable_ascii(name) && name.contains(crate::shown::is_hidden)
}

fn is_printable_ascii(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b' '..=b'~'))
}

/// Checks that a name may be passed to a back end, a log and a `Received:` line.
fn check_name(name: &str) -> Result<&str, Failure> {
    if name.is_empty() {
        Err(Failure::Malformed("the user name is empty"))
    } else if holds_control(name) {
        Err(Failure::Malformed("a name contains a control character"))
    } else {
        Ok(name)
    }
}
