//! What an exchange asks its host, and how the host answers.

use alloc::{boxed::Box, vec::Vec};
use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{CramSecret, Identity, Mechanism, ScramHash, ScramKeys};
use crate::secret::Secret;

/// A question to the host. It stands until it is answered: **a host that ignores it asks again
/// and again**; [`reject`](Self::reject) is the answer for every kind that it does not know.
///
/// At most two are asked in an exchange. The first is *who are you?*, and its answer makes the
/// client its `authcid`, nothing more. The second, [`Authorize`], is *may you act as another?*.
///
/// The name and the password are data. Never build a query of SQL or LDAP out of them by hand.
#[derive(Debug)]
#[must_use = "the exchange waits for the answer"]
#[non_exhaustive]
pub enum Query<'a> {
    /// Is this the account's password? (PLAIN, LOGIN)
    CheckPassword(&'a mut CheckPassword),
    /// What does the store hold to check a CRAM-MD5 response of this account with?
    CramSecret(&'a mut CramSecretFor),
    /// What does the store hold to check a SCRAM proof of this account with?
    ScramKeys(&'a mut ScramKeysFor),
    /// May this account act as that one? Asked only after the first was proven.
    Authorize(&'a mut Authorize),
}

impl Query<'_> {
    /// Answers at once, by the method of `users` for this kind of question.
    pub fn answer_with(self, users: &(impl Authenticator + ?Sized)) {
        match self {
            Self::CheckPassword(ask) => {
                let answer = users.check_password(ask);
                ask.answer(answer);
            }
            Self::CramSecret(ask) => {
                let answer = users.cram_secret(ask);
                ask.answer(answer);
            }
            Self::ScramKeys(ask) => {
                let answer = users.scram_keys(ask);
                ask.answer(answer);
            }
            Self::Authorize(ask) => {
                let answer = users.authorize(ask);
                ask.answer(answer);
            }
        }
    }

    /// Answers [`Answer::Reject`].
    pub fn reject(self) {
        match self {
            Self::CheckPassword(ask) => ask.answer(Answer::Reject),
            Self::CramSecret(ask) => ask.answer(Answer::Reject),
            Self::ScramKeys(ask) => ask.answer(Answer::Reject),
            Self::Authorize(ask) => ask.answer(Answer::Reject),
        }
    }

    /// A number that no other question of this process has.
    ///
    /// A host that looks up elsewhere keeps it, and drops a result whose number is not that of
    /// the question now on show: it belongs to an exchange that is over.
    pub fn serial(&self) -> u64 {
        match self {
            Self::CheckPassword(ask) => ask.serial,
            Self::CramSecret(ask) => ask.serial,
            Self::ScramKeys(ask) => ask.serial,
            Self::Authorize(ask) => ask.serial,
        }
    }
}

fn next_serial() -> u64 {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

/// The answer to a question.
///
/// There is no `From<Result>`: an error of the store is the host's to log before it becomes
/// [`TempFail`](Self::TempFail).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth answer")]
pub enum Answer<T = ()> {
    /// Yes.
    Accept(T),
    /// No: `535 5.7.8`. Also for an account that does not exist.
    Reject,
    /// The store cannot say now: `454 4.7.0`. Only where that holds for every account.
    TempFail,
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Self::Accept(()) } else { Self::Reject }
    }
}

impl<T> From<Option<T>> for Answer<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Reject, Self::Accept)
    }
}

/// The answer to [`CheckPassword`], which has two more ways to say no.
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
    /// with another: `432 4.7.12`.
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
/// typed: preparing them (RFC 4013), if wanted, is the store's.
#[derive(Debug)]
pub struct CheckPassword {
    pub(super) identity: Identity,
    pub(super) password: Secret,
    pub(super) answer: Option<PasswordAnswer>,
    serial: u64,
}

impl CheckPassword {
    pub(super) fn new(identity: Identity, password: Secret) -> Self {
        Self { identity, password, answer: None, serial: next_serial() }
    }

    /// The account's name, as sent.
    pub fn authcid(&self) -> &str {
        &self.identity.authcid
    }

    /// The account that the client wants to act as, if it named one. An answer here does not let it:
    /// [`Authorize`] asks for that afterwards.
    pub fn authzid(&self) -> Option<&str> {
        self.identity.authzid()
    }

    /// The mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.identity.mechanism
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

/// *What does the store hold for a CRAM-MD5 response of this account?* (RFC 2195)
///
/// The host looks up, the exchange verifies. An account that does not exist is answered
/// [`Answer::Reject`], and costs the client as many round trips, and the server as much work, as
/// a wrong password.
pub struct CramSecretFor {
    pub(super) identity: Identity,
    pub(super) challenge: Vec<u8>,
    pub(super) digest: [u8; 16],
    pub(super) answer: Option<Answer<CramSecret>>,
    serial: u64,
}

impl CramSecretFor {
    pub(super) fn new(identity: Identity, challenge: Vec<u8>, digest: [u8; 16]) -> Self {
        Self { identity, challenge, digest, answer: None, serial: next_serial() }
    }

    /// The account's name, as sent.
    pub fn authcid(&self) -> &str {
        &self.identity.authcid
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
            .field("identity", &self.identity)
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
#[derive(Debug)]
pub struct ScramKeysFor {
    pub(super) identity: Identity,
    hash: ScramHash,
    pub(super) answer: Option<Answer<ScramKeys>>,
    serial: u64,
}

impl ScramKeysFor {
    pub(super) fn new(identity: Identity, hash: ScramHash) -> Self {
        Self { identity, hash, answer: None, serial: next_serial() }
    }

    /// The account's name, prepared (RFC 4013).
    pub fn authcid(&self) -> &str {
        &self.identity.authcid
    }

    /// The hash that the keys have to be for.
    pub fn hash(&self) -> ScramHash {
        self.hash
    }

    /// The mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.identity.mechanism
    }

    /// Settles the question; a second answer replaces the first. Keys of another hash are as none.
    pub fn answer(&mut self, answer: impl Into<Answer<ScramKeys>>) {
        self.answer = Some(answer.into());
    }
}

/// *May this account act as that one?* Asked after the account was proven, and only where the
/// client named another (RFC 4422 §3.4.1). A rejection looks to the client like a wrong
/// password; a [`TempFail`](Answer::TempFail) does not, and so tells that the password was right.
#[derive(Debug)]
pub struct Authorize {
    pub(super) identity: Identity,
    pub(super) authzid: Box<str>,
    pub(super) answer: Option<Answer>,
    serial: u64,
}

impl Authorize {
    pub(super) fn new(identity: Identity, authzid: Box<str>) -> Self {
        Self { identity, authzid, answer: None, serial: next_serial() }
    }

    /// The account that was proven.
    pub fn authcid(&self) -> &str {
        &self.identity.authcid
    }

    /// The mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.identity.mechanism
    }

    /// The account that the client wants to act as.
    pub fn authzid(&self) -> &str {
        &self.authzid
    }

    /// Settles the question; a second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<Answer>) {
        self.answer = Some(answer.into());
    }
}

/// The simple case: a store that can answer every question at once.
///
/// Each method refuses unless it is written. Implementations must take as long for an account
/// that does not exist as for a wrong password: hash the password against a dummy.
pub trait Authenticator {
    /// Answers [`Query::CheckPassword`].
    fn check_password(&self, ask: &CheckPassword) -> PasswordAnswer {
        let _ = ask;
        PasswordAnswer::Reject
    }

    /// Answers [`Query::CramSecret`].
    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        let _ = ask;
        Answer::Reject
    }

    /// Answers [`Query::ScramKeys`].
    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let _ = ask;
        Answer::Reject
    }

    /// Answers [`Query::Authorize`].
    fn authorize(&self, ask: &Authorize) -> Answer {
        let _ = ask;
        Answer::Reject
    }
}
