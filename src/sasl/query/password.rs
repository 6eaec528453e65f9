//! What is asked of a store that knows users by passwords.

use alloc::{boxed::Box, string::String};
use core::{fmt, mem, ops::Range};

use super::{Answer, Serial};
use crate::{
    sasl::{
        CramSecret, Mechanism, ScramHash, ScramKeys,
        names::{Authzid, Folded},
        scram_keys::Kind,
    },
    secret::Secret,
};

/// *Is this the account's password?* Of PLAIN (RFC 4616) and LOGIN.
///
/// The name holds no control characters, name and password are not empty. The password is UTF-8 as
/// typed: [preparing](crate::sasl::prepare) it (RFC 4013), if wanted, is the store's.
#[derive(Clone)]
pub struct CheckPassword {
    authcid: Authcid,
    folded: Folded,
    authzid: Option<Box<Authzid>>,
    password: Secret,
    pub(in crate::sasl) answer: Option<Answer>,
    pub(super) serial: Serial,
}

/// The name, where it came from.
#[derive(Clone)]
pub(in crate::sasl) enum Authcid {
    /// A message of its own, as LOGIN has it.
    Own(Secret),
    /// The password's, where it stands in front of that, as in PLAIN.
    InFront(Range<usize>),
}

impl CheckPassword {
    pub(in crate::sasl) fn new(
        authcid: Authcid,
        folded: Folded,
        authzid: Option<Box<Authzid>>,
        password: Secret,
    ) -> Self {
        Self { authcid, folded, authzid, password, answer: None, serial: Serial::default() }
    }

    /// The name folded, and the account to act as; nothing is left here.
    #[inline(always)]
    pub(in crate::sasl) fn take_names(&mut self) -> (String, Option<Box<Authzid>>) {
        let authcid = match (self.folded.take(), &mut self.authcid) {
            (Some(folded), _) => (*folded).into(),
            (None, Authcid::Own(name)) => name.take_all(),
            (None, Authcid::InFront(range)) => self.password.take_part(range.clone()),
        };
        (authcid, self.authzid.take())
    }

    /// The account's name, [folded](crate::sasl::server::Builder::fold_names): what to look up.
    #[inline]
    pub fn authcid(&self) -> &str {
        match &self.folded {
            Some(folded) => folded,
            None => self.authcid_as_sent(),
        }
    }

    /// The account's name, as sent.
    #[inline]
    pub fn authcid_as_sent(&self) -> &str {
        match &self.authcid {
            Authcid::Own(name) => name.expose(),
            Authcid::InFront(range) => self.password.part(range.clone()),
        }
    }

    /// The account that the client wants to act as, folded, if it named one. An answer here does not let it:
    /// [`Authorize`](super::Authorize) asks for that afterwards.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref().map(Authzid::as_str)
    }

    /// The mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        match self.authcid {
            Authcid::Own(_) => Mechanism::Login,
            Authcid::InFront(_) => Mechanism::Plain,
        }
    }

    /// The password, as sent.
    pub fn password(&self) -> &Secret {
        &self.password
    }

    /// Answers the question; a second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<Answer>) {
        self.answer = Some(answer.into());
    }
}

impl fmt::Debug for CheckPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckPassword")
            .field("mechanism", &self.mechanism())
            .field("authcid", &self.authcid())
            .field("authzid", &self.authzid())
            .field("answer", &self.answer)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// *What does the store hold for a CRAM-MD5 response of this account?* (RFC 2195)
///
/// The application looks up, the exchange verifies. An account that does not exist is answered
/// [`Answer::reject`], and costs the client as many round trips, and the server as much work, as
/// a wrong password.
#[derive(Clone)]
pub struct CramSecretFor {
    folded: Folded,
    pub(in crate::sasl) challenge: Box<[u8]>,
    /// In hexadecimal. In front of it, in the same memory, are the name and a space.
    pub(in crate::sasl) digest: Secret,
    pub(in crate::sasl) answer: Option<Answer<CramSecret>>,
    pub(super) serial: Serial,
}

impl CramSecretFor {
    pub(in crate::sasl) fn new(folded: Folded, challenge: Box<[u8]>, digest: Secret) -> Self {
        Self { folded, challenge, digest, answer: None, serial: Serial::default() }
    }

    /// The name, folded; nothing is left here.
    pub(in crate::sasl) fn take_authcid(&mut self) -> String {
        let length = self.authcid_as_sent().len();
        match self.folded.take() {
            Some(folded) => (*folded).into(),
            None => self.digest.take_part(0..length),
        }
    }

    /// The account's name, [folded](crate::sasl::server::Builder::fold_names): what to look up.
    pub fn authcid(&self) -> &str {
        self.folded.as_deref().map_or(self.authcid_as_sent(), |folded| folded)
    }

    /// The account's name, as sent.
    pub fn authcid_as_sent(&self) -> &str {
        let name = self.digest.in_front();
        name.strip_suffix(' ').unwrap_or(name)
    }

    /// The mechanism that the client uses: CRAM-MD5.
    pub fn mechanism(&self) -> Mechanism {
        Mechanism::CramMd5
    }

    /// Answers the question; a second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<Answer<CramSecret>>) {
        self.answer = Some(answer.into());
    }
}

/// The digest stays out of it: with the challenge it is enough to guess the password by.
impl fmt::Debug for CramSecretFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CramSecretFor")
            .field("authcid", &self.authcid())
            .field("answer", &self.answer)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// *What does the store hold for a SCRAM proof of this account?* (RFC 5802 §3)
///
/// The application looks up, the exchange verifies. An account that does not exist is answered
/// [`Answer::reject`], one that has no keys of that hash [`Answer::no_secret`]; the client sees the same round
/// trips as with a wrong password, and a salt that stays the same for the name. One that is locked is
/// answered with its own keys and [`Answer::lock`], as another salt would tell that it is.
///
/// To read keys from their text takes longer than the exchange does. A store that reads them for each
/// question tells so who exists: let it hold them ready, or read some text for who does not.
#[derive(Clone, Debug)]
pub struct ScramKeysFor {
    authcid: Box<str>,
    folded: Folded,
    pub(in crate::sasl) authzid: Option<Box<Authzid>>,
    pub(in crate::sasl) kind: Kind,
    pub(in crate::sasl) answer: Option<Answer<ScramKeys>>,
    pub(super) serial: Serial,
}

impl ScramKeysFor {
    pub(in crate::sasl) fn new(
        authcid: Box<str>,
        folded: Folded,
        authzid: Option<Box<Authzid>>,
        kind: Kind,
    ) -> Self {
        Self { authcid, folded, authzid, kind, answer: None, serial: Serial::default() }
    }

    /// The name, folded; nothing is left here.
    pub(in crate::sasl) fn take_authcid(&mut self) -> Box<str> {
        self.folded.take().map_or_else(|| mem::take(&mut self.authcid), |folded| *folded)
    }

    /// The account's name, [folded](crate::sasl::server::Builder::fold_names): what to look up.
    pub fn authcid(&self) -> &str {
        self.folded.as_deref().map_or(&self.authcid, |folded| folded)
    }

    /// The account's name, as sent.
    pub fn authcid_as_sent(&self) -> &str {
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

    /// Answers the question; a second answer replaces the first. Keys of another hash are as
    /// [none](Answer::no_secret).
    pub fn answer(&mut self, answer: impl Into<Answer<ScramKeys>>) {
        self.answer = Some(answer.into());
    }
}
