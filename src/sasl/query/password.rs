//! Questions to a store of passwords, or of secrets derived from them.

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

/// *Is this the account's password?* PLAIN (RFC 4616) and LOGIN ask this question.
///
/// Neither the name nor the password is empty, and the name contains no control characters. The password is UTF-8,
/// exactly as the client sent it. If your store contains [prepared](crate::sasl::prepare) passwords (RFC 4013), prepare
/// this password before you check it.
#[derive(Clone)]
pub struct CheckPassword {
    authcid: Authcid,
    folded: Folded,
    authzid: Option<Box<Authzid>>,
    password: Secret,
    pub(in crate::sasl) answer: Option<Answer>,
    pub(super) serial: Serial,
}

/// The location of the name in memory.
#[derive(Clone)]
pub(in crate::sasl) enum Authcid {
    /// In a separate message, as LOGIN sends it.
    Own(Secret),
    /// In front of the password, in the same message, as PLAIN sends it.
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

    /// Takes the folded name and the account to act as.
    #[inline(always)]
    pub(in crate::sasl) fn take_names(&mut self) -> (String, Option<Box<Authzid>>) {
        let authcid = match (self.folded.take(), &mut self.authcid) {
            (Some(folded), _) => (*folded).into(),
            (None, Authcid::Own(name)) => name.take_all(),
            (None, Authcid::InFront(range)) => self.password.take_part(range.clone()),
        };
        (authcid, self.authzid.take())
    }

    /// Returns the account's [folded](crate::sasl::server::Builder::fold_names) name, which is the name to look up.
    #[inline]
    pub fn authcid(&self) -> &str {
        match &self.folded {
            Some(folded) => folded,
            None => self.authcid_as_sent(),
        }
    }

    /// Returns the account's name as the client sent it.
    #[inline]
    pub fn authcid_as_sent(&self) -> &str {
        match &self.authcid {
            Authcid::Own(name) => name.expose(),
            Authcid::InFront(range) => self.password.part(range.clone()),
        }
    }

    /// Returns the folded name of the account that the client wants to act as, if it named one. Accepting the password
    /// does not allow the client to act as this account. The exchange asks about this permission afterwards, in an
    /// [`Authorize`](super::Authorize) question.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref().map(Authzid::as_str)
    }

    /// Returns the mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        match self.authcid {
            Authcid::Own(_) => Mechanism::Login,
            Authcid::InFront(_) => Mechanism::Plain,
        }
    }

    /// Returns the password as the client sent it.
    pub fn password(&self) -> &Secret {
        &self.password
    }

    /// Answers the question. A second answer replaces the first.
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

/// *What is this account's stored secret for CRAM-MD5?* (RFC 2195)
///
/// The application looks up the secret, and the exchange verifies the response with it. For an account that does not
/// exist, answer with [`Answer::reject`]. The exchange then needs as many round trips and as much computation as it
/// does if the password is wrong.
#[derive(Clone)]
pub struct CramSecretFor {
    folded: Folded,
    pub(in crate::sasl) challenge: Box<[u8]>,
    /// The digest in hexadecimal. The same memory holds the name and a space before it.
    pub(in crate::sasl) digest: Secret,
    pub(in crate::sasl) answer: Option<Answer<CramSecret>>,
    pub(super) serial: Serial,
}

impl CramSecretFor {
    pub(in crate::sasl) fn new(folded: Folded, challenge: Box<[u8]>, digest: Secret) -> Self {
        Self { folded, challenge, digest, answer: None, serial: Serial::default() }
    }

    /// Takes the folded name.
    pub(in crate::sasl) fn take_authcid(&mut self) -> String {
        let length = self.authcid_as_sent().len();
        match self.folded.take() {
            Some(folded) => (*folded).into(),
            None => self.digest.take_part(0..length),
        }
    }

    /// Returns the account's [folded](crate::sasl::server::Builder::fold_names) name, which is the name to look up.
    pub fn authcid(&self) -> &str {
        self.folded.as_deref().map_or(self.authcid_as_sent(), |folded| folded)
    }

    /// Returns the account's name as the client sent it.
    pub fn authcid_as_sent(&self) -> &str {
        let name = self.digest.in_front();
        name.strip_suffix(' ').unwrap_or(name)
    }

    /// Returns the mechanism that the client uses: CRAM-MD5.
    pub fn mechanism(&self) -> Mechanism {
        Mechanism::CramMd5
    }

    /// Answers the question. A second answer replaces the first.
    pub fn answer(&mut self, answer: impl Into<Answer<CramSecret>>) {
        self.answer = Some(answer.into());
    }
}

/// Omits the digest, because together with the challenge it allows a brute-force search for the password.
impl fmt::Debug for CramSecretFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CramSecretFor")
            .field("authcid", &self.authcid())
            .field("answer", &self.answer)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// *What are this account's stored keys for SCRAM?* (RFC 5802 §3)
///
/// The application looks up the keys, and the exchange uses them to verify the proof.
///
/// - For an account that does not exist, answer with [`Answer::reject`].
/// - For an account without keys for this hash, answer with [`Answer::no_secret`].
/// - For a locked account, create the answer with the account's keys as usual, and then call [`Answer::lock`] on it. If
///   the answer did not contain the keys, the client would receive a different salt, which would reveal that the
///   account is locked.
///
/// If the account does not exist or has no keys, the exchange uses decoy keys. An exchange with decoy keys takes as
/// many round trips as an exchange with a wrong password. A client always receives the same salt for the same name.
///
/// Parsing keys from text takes longer than the exchange itself. If a store parses the keys whenever it finds an
/// account, it takes longer to answer for an account that exists. The response time then reveals which accounts exist
/// (user enumeration by a timing attack). To prevent this attack, keep the parsed keys in memory. Alternatively, parse
/// the text of dummy keys whenever an account does not exist, so that both answers take equally long.
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

    /// Takes the folded name.
    pub(in crate::sasl) fn take_authcid(&mut self) -> Box<str> {
        self.folded.take().map_or_else(|| mem::take(&mut self.authcid), |folded| *folded)
    }

    /// Returns the account's [folded](crate::sasl::server::Builder::fold_names) name, which is the name to look up.
    pub fn authcid(&self) -> &str {
        self.folded.as_deref().map_or(&self.authcid, |folded| folded)
    }

    /// Returns the account's name as the client sent it.
    pub fn authcid_as_sent(&self) -> &str {
        &self.authcid
    }

    /// Returns the hash function of the mechanism. The account's keys must be for this hash.
    pub fn hash(&self) -> ScramHash {
        self.kind.hash
    }

    /// Returns the mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.kind.mechanism()
    }

    /// Answers the question. A second answer replaces the first. Keys for another hash are treated as
    /// [missing](Answer::no_secret).
    pub fn answer(&mut self, answer: impl Into<Answer<ScramKeys>>) {
        self.answer = Some(answer.into());
    }
}
