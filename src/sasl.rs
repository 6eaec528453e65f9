//! SASL (RFC 4422): one exchange, either side, as raw challenge and response octets.
//!
//! This layer knows nothing of SMTP, of lines and of their base64. IMAP, POP3, XMPP, LDAP and ManageSieve can use
//! it as it stands, and do so without the feature `smtp`; over SMTP, [`auth`](crate::auth) adds what RFC 4954 asks.
//!
//! The mechanisms are lock-step: at any moment one party owes one thing. `step` says what is owed
//! now, and what it returns carries the slot to settle it. Asking again changes nothing until the
//! slot is settled, so a host may answer at once or a minute later.
//!
//! ```
//! use std::sync::Arc;
//! use smtp_auth::sasl::{Channel, Mechanism, Query, server};
//!
//! let config = server::Config::builder("imap.example.org").mechanisms([Mechanism::Plain]).build()?;
//! // As `AUTHENTICATE PLAIN` with an initial response, already decoded from base64.
//! let response = Some(b"\0tim\0tanstaaftanstaaf".to_vec());
//! let mut exchange =
//!     server::Exchange::new(&Arc::new(config), &Channel::tls(), Mechanism::Plain, response);
//! let who = loop {
//!     match exchange.step() {
//!         server::Step::Challenge(challenge) => challenge.cancel(), // or send it, and `respond`
//!         server::Step::Query(Query::CheckPassword(ask)) => {
//!             let good = ask.authcid() == "tim" && ask.password() == "tanstaaftanstaaf";
//!             ask.answer(good);
//!         }
//!         server::Step::Query(other) => other.reject(),
//!         server::Step::Done(outcome) => break outcome.map_err(|failure| failure.to_string())?,
//!     }
//! };
//! assert_eq!(who.authcid(), "tim");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// `off.rs` stands in for every mechanism that is compiled out.
#![cfg_attr(
    not(any(feature = "scram-sha-1", feature = "scram-sha-256", feature = "scram-sha-512")),
    allow(unreachable_code, unused_variables, reason = "without a hash no value of SCRAM exists")
)]
#![allow(clippy::duplicate_mod, reason = "the file has nothing of its own")]

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

/// Who has signed in, by which mechanism, and as whom they act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    authcid: String,
    authzid: Option<Box<str>>,
    mechanism: Mechanism,
}

impl Identity {
    /// The same, of which the names are left empty here.
    fn take(&mut self) -> Self {
        let authcid = mem::take(&mut self.authcid);
        Self { authcid, authzid: self.authzid.take(), mechanism: self.mechanism }
    }

    /// The account whose credentials were proven.
    pub fn authcid(&self) -> &str {
        &self.authcid
    }

    /// The other account that the client asked to act as, and was allowed to, or that the application
    /// [gave it](AuthorizeAnswer::AcceptAs).
    ///
    /// `None` where it acts as its own (RFC 4422 §3.4.1).
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// The account to act as from here on: the [`authzid`](Self::authzid), or else the
    /// [`authcid`](Self::authcid).
    pub fn acts_as(&self) -> &str {
        self.authzid().unwrap_or(&self.authcid)
    }

    /// The mechanism by which the account was proven.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Whether nobody was proven: it is a guest, let in by ANONYMOUS (RFC 4505), whose
    /// [`authcid`](Self::authcid) is `anonymous`. An account may have that name too.
    pub fn is_anonymous(&self) -> bool {
        self.mechanism == Mechanism::Anonymous
    }
}

/// Why an exchange ended without an identity.
///
/// Only the exchange's own layer words it for the peer: `auth` has the one table from here to the
/// reply. `Display` is for the host's log and holds nothing that the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub enum Failure {
    /// The command that should have begun the exchange is malformed.
    Syntax,
    /// The mechanism is unknown, not configured, or cannot work on this connection.
    Unsupported,
    /// The mechanism is configured, and needs TLS first.
    NeedsTls,
    /// The mechanism begins with a challenge, and the client sent an initial response.
    UnexpectedInitialResponse,
    /// The initial response cannot be decoded.
    InitialResponseEncoding,
    /// The client cancelled the exchange.
    Cancelled,
    /// A response cannot be decoded.
    Encoding,
    /// A response is longer than the limit.
    TooLong,
    /// A response breaks the grammar of its mechanism; the words say where.
    #[error("{}: {}", self.as_str(), .0)]
    Malformed(&'static str),
    /// The user name, the password, the token or the certificate is wrong.
    Rejected,
    /// The client saw no mechanism with channel binding, though they are on offer: somebody on the
    /// way may have struck them out (RFC 5802 §6).
    Downgrade,
    /// The client is not at the other end of this TLS connection, or binds to it by what the server
    /// has no data for.
    ChannelBinding,
    /// The credentials are good, but the application does not let the user come in, or act as the account that the
    /// client named. The client is told what it is told of a wrong password.
    NotAuthorized,
    /// The credentials are good, and the application [refuses](Refusal) the user in words of its own.
    #[error("{}: {}", self.as_str(), .0)]
    Refused(RefusalKind),
    /// The host could not tell.
    TempFail,
    /// The account has to be moved to this mechanism, by a sign-in with another (RFC 4954 §6).
    TransitionNeeded,
    /// The mechanism is too weak for this account.
    TooWeak,
    /// The account [is locked](Answer::lock), whatever the password was. The client is told what it is told of a
    /// wrong one.
    Locked,
    /// The account [has nothing](Answer::no_secret) that the mechanism could check a proof with. The client is
    /// told what it is told of a wrong password.
    NoSecret,
    /// The server offers this mechanism, and the application
    /// [does not implement](Query::not_implemented) what it asks. The mistake is the server's.
    #[error(
        "the server's configuration offers {0}, which its authenticator does not implement: leave it out"
    )]
    NotImplemented(&'static str),
}

impl Failure {
    /// What `Display` says, as a fixed text: the words of [`Malformed`](Self::Malformed) and the name of
    /// [`NotImplemented`](Self::NotImplemented) are not in it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Syntax => "the client's command is malformed",
            Self::Unsupported => "the client asked for a mechanism that is not offered",
            Self::NeedsTls => "the client asked for a mechanism that needs TLS, without TLS",
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
                "the client did not see the channel binding that is on offer: the list may be tampered with"
            }
            Self::ChannelBinding => {
                "the client's channel binding is not that of this connection: someone may stand between"
            }
            Self::NotAuthorized => {
                "the credentials are right, but the user may not come in, or act as the account that the client named"
            }
            Self::Refused(_) => "the credentials are right, and the application refuses the user",
            Self::TempFail => "the credentials could not be checked for the moment",
            Self::TransitionNeeded => "the account needs a transition to this mechanism",
            Self::TooWeak => "the mechanism is too weak for this account",
            Self::Locked => "the account is locked, whatever the password",
            Self::NoSecret => {
                "the account has no keys for the mechanism: it needs its password set anew"
            }
            Self::NotImplemented(_) => {
                "the server's configuration offers a mechanism that its authenticator does not implement: leave it out"
            }
        }
    }

    /// Whether it counts as an attempt at guessing: credentials were looked at, or an exchange was
    /// begun and broken off. A server bounds these on a connection (RFC 4954 §4, §9).
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

/// The longest message that a line of SMTP carries: 12,288 octets of base64 (RFC 4954 §4).
const MAX_MESSAGE: usize = 12_288 / 4 * 3;

/// A fresh value that nobody can guess, for a challenge: printable text without comma, space,
/// `<`, `>` or `@`, of 1 to 128 octets.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce {
    octets: [u8; 128],
    length: usize,
}

impl Nonce {
    /// Takes text that the caller made, for tests or from a random source of its own; 128 bits of
    /// randomness are enough.
    ///
    /// # Errors
    /// [`NonceError`] where the text is too short, too long, or holds another octet.
    pub fn new(text: &str) -> Result<Self, NonceError> {
        let good =
            |octet| matches!(octet, b'!'..=b'~') && !matches!(octet, b',' | b'<' | b'>' | b'@');
        let mut octets = [0; 128];
        let room = octets.get_mut(..text.len()).ok_or(NonceError)?;
        room.copy_from_slice(text.as_bytes());
        // Looks at every octet, as that goes many at a time.
        let all = text.bytes().fold(!text.is_empty(), |all, octet| all & good(octet));
        if all { Ok(Self { octets, length: text.len() }) } else { Err(NonceError) }
    }

    /// Sixteen octets of the operating system's random source, in hexadecimal.
    ///
    /// # Errors
    /// [`NonceError`] where the operating system has none to give.
    #[cfg(feature = "getrandom")]
    pub fn random() -> Result<Self, NonceError> {
        let mut octets = [0; 16];
        getrandom::fill(&mut octets).map_err(|_| NonceError)?;
        let digits = hex::encode(&octets);
        let mut nonce = Self { octets: [0; 128], length: digits.as_flattened().len() };
        nonce.octets.iter_mut().zip(digits.as_flattened()).for_each(|(to, digit)| *to = *digit);
        Ok(nonce)
    }

    /// The text, for a challenge of the host's own mechanism or a salt.
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

/// There is no usable nonce: the exchange ends in [`Failure::TempFail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
#[expect(clippy::exhaustive_structs, reason = "a host's own source returns it")]
pub struct NonceError;

impl NonceError {
    /// What `Display` says, as a fixed text.
    pub const fn as_str(&self) -> &'static str {
        "no usable nonce: it must be 1 to 128 printable octets without comma, space, <, > and @"
    }
}

/// A source of nonces, which a clone of the configuration shares.
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

/// A configuration or a name that the caller has to put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub enum ConfigError {
    /// The host name is empty, too long, or holds characters that have no place in one.
    HostName,
    /// A server lists no mechanism.
    NoMechanism,
    /// Channel binding is required, and no mechanism with it is listed.
    NothingBinds,
    /// SCRAM or CRAM-MD5 is listed, and there are no random numbers for their challenges.
    #[error("{0} needs random numbers: turn on the feature getrandom, or give a source of nonces")]
    NoNonces(Mechanism),
    /// The key of SCRAM's decoy salts is too short, or there is none.
    SaltKey,
    /// Clients are to authenticate, and there is nothing by which they could.
    NoSasl,
    /// A keyword of EHLO is listed that the session writes by itself.
    Keyword,
    /// A refusal of the application's own has another code, or other text, than it may have.
    Refusal,
    /// A command is declared that the session knows, or whose verb is not letters.
    Verb,
    /// A mechanism is on offer that the authenticator does not list, or whose question it does not implement.
    #[error(
        "the authenticator does not answer for {0}: list it and write its method {method}, in a wrapper too, or leave {0} out",
        method = query::method(*.0)
    )]
    NotImplemented(Mechanism),
    /// Everybody who is proven is to be asked about, and the authenticator does not implement that.
    Authorize,
    /// A mechanism is listed whose feature is off.
    #[error("the mechanism {0} is not compiled in: turn on its feature")]
    NotCompiled(Mechanism),
    /// A user name is empty, over 1,024 octets, or holds control characters.
    UserName,
    /// A password is empty, holds NUL, or is longer than any mechanism can carry it: with the names 9,214
    /// octets by PLAIN, 9,216 by LOGIN, without a bound by those that do not send it.
    Password,
    /// A token is empty, holds octets that no token has (RFC 6750 §2.1), or is too long together
    /// with the name and the server's.
    Token,
    /// The name of the server that a token is for is not one.
    ServerName,
    /// The trace text of ANONYMOUS is neither a mail address nor up to 255 characters without `@`.
    Trace,
    /// The name of a mechanism of the host's own breaks the grammar of RFC 4422 §3.1, or is the name
    /// of one that the crate has.
    MechanismName,
    /// Channel binding without data, or with more than that type has.
    ChannelBinding,
}

impl ConfigError {
    /// What `Display` says, as a fixed text: where that names a mechanism, the name is not in it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::HostName => "the host name is empty, or holds spaces, control characters, < or >",
            Self::NoMechanism => {
                "no mechanism is listed: list those that the application's accounts can be checked by"
            }
            Self::NothingBinds => {
                "channel binding is required, and no SCRAM-…-PLUS mechanism is listed"
            }
            Self::NoNonces(_) => {
                "a mechanism needs random numbers: turn on the feature getrandom, or give a source of nonces"
            }
            Self::SaltKey => {
                "the salt key must have 16 octets or more, secret, and the same after each restart"
            }
            Self::Refusal => {
                "a refusal has a code of 400 to 599 other than 421, and 1 to 5 lines of printable ASCII within 512 octets"
            }
            Self::Verb => {
                "a command of the application's own must be letters, and not one that the session knows"
            }
            Self::NoSasl => "clients must authenticate here, and no SASL configuration is given",
            Self::Keyword => {
                "the keywords STARTTLS, AUTH and SIZE are the session's own: they cannot be listed"
            }
            Self::NotImplemented(_) => {
                "the authenticator does not answer for a mechanism: list it and write its method, in a wrapper too, or leave it out"
            }
            Self::Authorize => {
                "everybody who is proven is to be asked about, and the authenticator does not say: write its method authorize, in a wrapper too"
            }
            Self::NotCompiled(_) => "a mechanism is not compiled in: turn on its feature",
            Self::UserName => "a user name must have 1 to 1,024 octets, without control characters",
            Self::Password => {
                "a password must have 1 to 9,216 octets with the user's name, without NUL"
            }
            Self::Token => {
                "a token must have letters, digits, -._~+/ and = at its end, and fit in 9,000 octets"
            }
            Self::ServerName => "the server's name must be printable, without spaces",
            Self::Trace => {
                "the trace must be a mail address, or up to 255 characters without @ and controls"
            }
            Self::MechanismName => {
                "a mechanism's name must be 1 to 20 of A-Z 0-9 - _, and not that of a known one"
            }
            Self::ChannelBinding => {
                "channel binding needs its data: for tls-server-end-point a hash, not the certificate"
            }
        }
    }
}

/// SASLprep (RFC 4013) of a name or a password, as SCRAM has it of both.
///
/// PLAIN and LOGIN bring them as they were typed. A store that is to take the same ones there prepares
/// them by this before it looks up, compares or hashes (RFC 4616 §2). What is returned is not zeroed:
/// hand a password on in a [`Secret`](crate::Secret).
///
/// `None` for what it does not allow, or maps to nothing. Without the feature `saslprep` it allows
/// printable ASCII alone.
///
#[cfg_attr(feature = "saslprep", doc = "```")]
#[cfg_attr(not(feature = "saslprep"), doc = "```ignore")]
/// use smtp_auth::sasl::prepare;
///
/// assert_eq!(prepare("caf\u{e9}"), prepare("cafe\u{301}")); // one é or another
/// assert_eq!(prepare("\u{7}"), None);
/// ```
#[inline]
pub fn prepare(text: &str) -> Option<Cow<'_, str>> {
    // It leaves printable ASCII as it is, and most names are nothing else.
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

/// Whether the profile "trace" of stringprep (RFC 4505 §3) allows the character.
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

/// Without stringprep only what it always allows.
#[cfg(not(feature = "saslprep"))]
fn is_trace_character(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// Those of lines and of direction too.
fn holds_control(name: &str) -> bool {
    // Most names are printable ASCII, and need not be taken apart into characters.
    !is_printable_ascii(name) && name.contains(crate::shown::is_hidden)
}

fn is_printable_ascii(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b' '..=b'~'))
}

/// A name as it may go to a back end, a log and a `Received:` line.
fn check_name(name: &str) -> Result<&str, Failure> {
    if name.is_empty() {
        Err(Failure::Malformed("the user name is empty"))
    } else if holds_control(name) {
        Err(Failure::Malformed("a name holds a control character"))
    } else {
        Ok(name)
    }
}
