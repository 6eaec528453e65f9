//! What is asked of a store that knows users by passwords.

use alloc::{boxed::Box, string::String};
use core::{fmt, ops::Range};

use zeroize::Zeroizing;

use super::{Answer, Serial};
use crate::{
    sasl::{CramSecret, Identity, Mechanism, ScramHash, ScramKeys, scram_keys::Kind, server::Said},
    secret::Secret,
};

/// The answer to [`CheckPassword`], which has two more ways to say no. `true` and `false` become one
/// by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PasswordAnswer {
    /// The password is the account's.
    Accept,
    /// It is not, or there is no such account: `535 5.7.8`.
    Reject,
    /// The store cannot say now: `454 4.7.0`.
    TempFail,
    /// The password is right, but this mechanism is too weak for the account: `534 5.7.9`.
    TooWeak,
    /// The password is right, but the account has to be moved to this mechanism first, by a sign-in
    /// with another: `432 4.7.12` (RFC 4954 §6). Only behind a password can it be said; to SCRAM it would
    /// tell, before any proof, who exists.
    TransitionNeeded,
}

impl From<Answer> for PasswordAnswer {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Accept(()) => Self::Accept,
            Answer::Reject => Self::Reject,
            Answer::TempFail => Self::TempFail,
        }
    }
}

impl From<bool> for PasswordAnswer {
    fn from(yes: bool) -> Self {
        Answer::from(yes).into()
    }
}

/// *Is this the account's password?* Of PLAIN (RFC 4616) and LOGIN.
///
/// The name holds no control characters, name and password are not empty, both are UTF-8 as
/// typed: [preparing](crate::sasl::prepare) them (RFC 4013), if wanted, is the store's.
#[derive(Clone)]
pub struct CheckPassword {
    mechanism: Mechanism,
    authcid: Authcid,
    authzid: Option<Box<str>>,
    password: Secret,
    pub(in crate::sasl) answer: Option<PasswordAnswer>,
    pub(super) serial: Serial,
}

/// The name, where it came from.
#[derive(Clone)]
pub(in crate::sasl) enum Authcid {
    /// A message of its own.
    Own(Secret),
    /// The password's, where it stands in front of that.
    InFront(Range<usize>),
}

impl CheckPassword {
    pub(in crate::sasl) fn new(
        mechanism: Mechanism,
        authcid: Authcid,
        authzid: Option<Box<str>>,
        password: Secret,
    ) -> Self {
        Self { mechanism, authcid, authzid, password, answer: None, serial: Serial::default() }
    }

    #[inline(always)]
    pub(in crate::sasl) fn take_identity(&mut self) -> Identity {
        let authcid = match &mut self.authcid {
            Authcid::Own(name) => name.take_all(),
            Authcid::InFront(range) => self.password.take_part(range.clone()),
        };
        Identity { authcid, authzid: self.authzid.take(), mechanism: self.mechanism }
    }

    /// The account's name, as sent.
    #[inline]
    pub fn authcid(&self) -> &str {
        match &self.authcid {
            Authcid::Own(name) => name.expose(),
            Authcid::InFront(range) => self.password.part(range.clone()),
        }
    }

    /// The account that the client wants to act as, if it named one. An answer here does not let it:
    /// [`Authorize`](super::Authorize) asks for that afterwards.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// The mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The password, as sent.
    pub fn password(&self) -> &Secret {
        &self.password
    }

    /// Settles the question; a second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<PasswordAnswer>) {
        self.answer = Some(answer.into());
    }
}

impl fmt::Debug for CheckPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckPassword")
            .field("mechanism", &self.mechanism)
            .field("authcid", &self.authcid())
            .field("authzid", &self.authzid)
            .field("answer", &self.answer)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// *What does the store hold for a CRAM-MD5 response of this account?* (RFC 2195)
///
/// The host looks up, the exchange verifies. An account that does not exist is answered
/// [`Answer::Reject`], and costs the client as many round trips, and the server as much work, as
/// a wrong password.
#[derive(Clone)]
pub struct CramSecretFor {
    pub(in crate::sasl) authcid: String,
    pub(in crate::sasl) challenge: Said,
    pub(in crate::sasl) digest: Zeroizing<[u8; 16]>,
    pub(in crate::sasl) answer: Option<Answer<CramSecret>>,
    pub(super) serial: Serial,
}

impl CramSecretFor {
    pub(in crate::sasl) fn new(authcid: String, challenge: Said, digest: [u8; 16]) -> Self {
        let digest = Zeroizing::new(digest);
        Self { authcid, challenge, digest, answer: None, serial: Serial::default() }
    }

    /// The account's name, as sent.
    pub fn authcid(&self) -> &str {
        &self.authcid
    }

    /// Settles the question; a second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<Answer<CramSecret>>) {
        self.answer = Some(answer.into());
    }
}

/// The digest stays out of it: with the challenge it is enough to guess the password by.
impl fmt::Debug for CramSecretFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CramSecretFor")
            .field("authcid", &self.authcid)
            .field("answer", &self.answer)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// *What does the store hold for a SCRAM proof of this account?* (RFC 5802 §3)
///
/// The host looks up, the exchange verifies. An account that does not exist, or has no keys of that
/// hash, is answered [`Answer::Reject`]; the client sees the same round trips as with a wrong
/// password, and a salt that stays the same for the name.
///
/// To read keys from their text takes longer than the exchange does. A store that reads them for each
/// question tells so who exists: let it hold them ready, or read some text for who does not.
#[derive(Clone, Debug)]
pub struct ScramKeysFor {
    pub(in crate::sasl) authcid: String,
    pub(in crate::sasl) authzid: Option<Box<str>>,
    pub(in crate::sasl) kind: Kind,
    pub(in crate::sasl) answer: Option<Answer<ScramKeys>>,
    pub(super) serial: Serial,
}

impl ScramKeysFor {
    pub(in crate::sasl) fn new(authcid: String, authzid: Option<Box<str>>, kind: Kind) -> Self {
        Self { authcid, authzid, kind, answer: None, serial: Serial::default() }
    }

    /// The account's name, prepared (RFC 4013): no longer than a line carries, 9,216 octets, or the
    /// configuration's [`max_response`](crate::sasl::server::Config::max_response), though it may have grown.
    pub fn authcid(&self) -> &str {
        &self.authcid
    }

    /// The hash that the keys have to be for.
    pub fn hash(&self) -> ScramHash {
        self.kind.hash
    }

    /// The mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.kind.mechanism()
    }

    /// Settles the question; a second answer replaces the first. Keys of another hash are as none.
    pub fn answer(&mut self, answer: impl Into<Answer<ScramKeys>>) {
        self.answer = Some(answer.into());
    }
}
