//! What an exchange asks its host, and how the host answers.

use alloc::{boxed::Box, string::String};
use core::{
    fmt, mem,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{CramSecret, Failure, Identity, Mechanism, ScramKeys, scram_keys::Kind};

mod answer;
mod asynchronous;
mod custom;
mod job;
mod password;
mod peer;
mod token;

pub use answer::Answer;
pub(super) use answer::Verdict;
pub use asynchronous::{AsyncAuthenticator, BoxedAuthenticator, Immediate};
pub use custom::{Custom, CustomAnswer, ServerMechanism};
pub use job::QueryJob;
pub(super) use job::probes;
pub(super) use password::Authcid;
pub use password::{CheckPassword, CramSecretFor, ScramKeysFor};
pub use peer::{CheckAnonymous, CheckExternal};
pub use token::{CheckToken, TokenAnswer, TokenError};

/// A question to the application. It stays pending until it is answered: **a caller that ignores it is asked
/// again and again**; [`not_implemented`](Self::not_implemented) is the answer to every kind that it does
/// not know.
///
/// At most two are asked in an exchange, but for those of a [`Custom`] mechanism. The first is *who
/// are you?*, and its answer makes the client its `authcid`, nothing more. The second,
/// [`Authorize`], is *may you act as another?*.
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
    /// Whose token is this? (OAUTHBEARER, XOAUTH2)
    CheckToken(&'a mut CheckToken),
    /// Which account does the client's certificate belong to? (EXTERNAL)
    CheckExternal(&'a mut CheckExternal),
    /// May a guest come in? (ANONYMOUS)
    CheckAnonymous(&'a mut CheckAnonymous),
    /// What does the host's own mechanism say to this?
    Custom(&'a mut Custom),
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
            Self::CheckToken(ask) => {
                let answer = users.check_token(ask);
                ask.answer(answer);
            }
            Self::CheckExternal(ask) => {
                let answer = users.check_external(ask);
                ask.answer(answer);
            }
            Self::CheckAnonymous(ask) => {
                let answer = users.check_anonymous(ask);
                ask.answer(answer);
            }
            Self::Custom(ask) => {
                let answer = users.custom(ask);
                ask.answer(answer);
            }
            Self::Authorize(ask) => {
                let answer = users.authorize(ask);
                ask.answer(answer);
            }
        }
    }

    /// Answers no: `535 5.7.8`.
    pub fn reject(self) {
        match self {
            Self::CheckPassword(ask) => ask.answer(Answer::reject()),
            Self::CramSecret(ask) => ask.answer(Answer::reject()),
            Self::ScramKeys(ask) => ask.answer(Answer::reject()),
            Self::CheckToken(ask) => ask.answer(TokenAnswer::Reject),
            Self::CheckExternal(ask) => ask.answer(Answer::reject()),
            Self::CheckAnonymous(ask) => ask.answer(Answer::reject()),
            Self::Custom(ask) => ask.answer(CustomAnswer::Fail(Failure::Rejected)),
            Self::Authorize(ask) => ask.answer(Answer::reject()),
        }
    }

    /// Answers that the application does not implement this kind of question, for any account: `454 4.7.0`,
    /// no attempt, and [`Failure::NotImplemented`] for the log. It is a mistake in the configuration, which
    /// offers a mechanism that the application cannot answer for.
    pub fn not_implemented(self) {
        match self {
            Self::CheckPassword(ask) => ask.answer(Answer::not_implemented()),
            Self::CramSecret(ask) => ask.answer(Answer::not_implemented()),
            Self::ScramKeys(ask) => ask.answer(Answer::not_implemented()),
            Self::CheckToken(ask) => ask.answer(TokenAnswer::NotImplemented),
            Self::CheckExternal(ask) => ask.answer(Answer::not_implemented()),
            Self::CheckAnonymous(ask) => ask.answer(Answer::not_implemented()),
            Self::Custom(ask) => ask.fail_not_implemented(),
            Self::Authorize(ask) => ask.answer(Answer::not_implemented()),
        }
    }

    pub(crate) fn is_answered(&self) -> bool {
        match self {
            Self::CheckPassword(ask) => ask.answer.is_some(),
            Self::CramSecret(ask) => ask.answer.is_some(),
            Self::ScramKeys(ask) => ask.answer.is_some(),
            Self::CheckToken(ask) => ask.answer.is_some(),
            Self::CheckExternal(ask) => ask.answer.is_some(),
            Self::CheckAnonymous(ask) => ask.answer.is_some(),
            Self::Custom(ask) => ask.answer.is_some(),
            Self::Authorize(ask) => ask.answer.is_some(),
        }
    }

    /// The account's name that the client gave and has yet to prove, folded: what a rate limit counts by,
    /// before any store is asked. `None` where a question is not about such a name: a token, a certificate, a
    /// guest, a mechanism of the application's own, or a client that is proven already.
    pub fn authcid(&self) -> Option<&str> {
        match self {
            Self::CheckPassword(ask) => Some(ask.authcid()),
            Self::CramSecret(ask) => Some(ask.authcid()),
            Self::ScramKeys(ask) => Some(ask.authcid()),
            Self::CheckToken(_)
            | Self::CheckExternal(_)
            | Self::CheckAnonymous(_)
            | Self::Custom(_)
            | Self::Authorize(_) => None,
        }
    }

    /// Answers that the store cannot say now: `454 4.7.0`.
    pub fn temp_fail(self) {
        match self {
            Self::CheckPassword(ask) => ask.answer(Answer::temp_fail()),
            Self::CramSecret(ask) => ask.answer(Answer::temp_fail()),
            Self::ScramKeys(ask) => ask.answer(Answer::temp_fail()),
            Self::CheckToken(ask) => ask.answer(TokenAnswer::TempFail),
            Self::CheckExternal(ask) => ask.answer(Answer::temp_fail()),
            Self::CheckAnonymous(ask) => ask.answer(Answer::temp_fail()),
            Self::Custom(ask) => ask.answer(CustomAnswer::Fail(Failure::TempFail)),
            Self::Authorize(ask) => ask.answer(Answer::temp_fail()),
        }
    }

    /// A number that no other question of this process has. By it a host that looks up elsewhere
    /// knows a question that is on show again, and need not ask the store twice.
    pub fn serial(&self) -> u64 {
        match self {
            Self::CheckPassword(ask) => ask.serial.get(),
            Self::CramSecret(ask) => ask.serial.get(),
            Self::ScramKeys(ask) => ask.serial.get(),
            Self::CheckToken(ask) => ask.serial.get(),
            Self::CheckExternal(ask) => ask.serial.get(),
            Self::CheckAnonymous(ask) => ask.serial.get(),
            Self::Custom(ask) => ask.serial.get(),
            Self::Authorize(ask) => ask.serial.get(),
        }
    }
}

/// A question's number. It has none until that is asked for, or copied, or shown: most hosts never ask,
/// and one count for all of a process is dear where many threads go on it.
#[derive(Default)]
struct Serial(AtomicUsize);

impl Serial {
    fn get(&self) -> u64 {
        self.number() as u64
    }

    fn number(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let given = self.0.load(Ordering::Relaxed);
        if given != 0 {
            return given;
        }
        let own = NEXT.fetch_add(1, Ordering::Relaxed);
        match self.0.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => own,
            Err(given) => given,
        }
    }
}

impl Clone for Serial {
    fn clone(&self) -> Self {
        Self(self.number().into())
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// *May this account act as that one?* Asked after the account was proven, and only where the
/// client named another (RFC 4422 §3.4.1). A rejection looks to the client like a wrong
/// password; a [`temp_fail`](Answer::temp_fail) does not, and so tells that the password was right.
#[derive(Clone, Debug)]
pub struct Authorize {
    pub(super) identity: Identity,
    pub(super) authzid: Box<str>,
    pub(super) answer: Option<Answer>,
    serial: Serial,
}

impl Authorize {
    pub(super) fn new(identity: Identity, authzid: Box<str>) -> Self {
        Self { identity, authzid, answer: None, serial: Serial::default() }
    }

    /// Who acts as the other: as the account that the answer names, where it names one.
    pub(super) fn take_identity(&mut self, account: Option<Box<Box<str>>>) -> Identity {
        let authzid = account.map_or_else(|| mem::take(&mut self.authzid), |account| *account);
        let identity = self.identity.take();
        // The other may be an alias of its own account.
        let authzid = Some(authzid).filter(|authzid| **authzid != *identity.authcid);
        Identity { authzid, ..identity }
    }

    /// The account that was proven.
    pub fn authcid(&self) -> &str {
        &self.identity.authcid
    }

    /// The mechanism that the client uses.
    pub fn mechanism(&self) -> Mechanism {
        self.identity.mechanism
    }

    /// The account that the client wants to act as: the name that it gave, folded.
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
/// [`mechanisms`](Self::mechanisms) says what it can answer for, and a server's configuration offers that
/// ([`Builder::answered_by`](super::server::Builder::answered_by), which calls each method that is needed once). Each
/// other method that is not written answers
/// [`not_implemented`](Answer::not_implemented), but for [`authorize`](Self::authorize), which refuses.
/// Implementations must take as long for an account that does not exist as for a wrong password: hash the
/// password against a dummy.
///
/// ```
/// use smtp_auth::sasl::{Answer, Authenticator, CheckPassword, Mechanism, server::Config};
///
/// struct Users;
///
/// impl Authenticator for Users {
///     fn mechanisms(&self) -> &[Mechanism] {
///         &[Mechanism::Plain, Mechanism::Login]
///     }
///
///     fn check_password(&self, ask: &CheckPassword) -> Answer {
///         (ask.authcid() == "tim" && *ask.password() == "tanstaaftanstaaf".into()).into()
///     }
/// }
///
/// # #[cfg(all(feature = "plain", feature = "login"))]
/// let config = Config::builder("mail.example.org").answered_by(&Users).build()?;
/// # Ok::<(), smtp_auth::sasl::ConfigError>(())
/// ```
pub trait Authenticator {
    /// The mechanisms that this store can answer for: PLAIN and LOGIN where
    /// [`check_password`](Self::check_password) is written; SCRAM with each hash that the accounts have keys of
    /// where [`scram_keys`](Self::scram_keys) is; and so on. A mechanism that is offered to clients whose accounts
    /// have nothing for it fails with the right password.
    fn mechanisms(&self) -> &[Mechanism];

    /// Answers [`Query::CheckPassword`].
    fn check_password(&self, ask: &CheckPassword) -> Answer {
        let _ = ask;
        Answer::not_implemented()
    }

    /// Answers [`Query::CramSecret`].
    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        let _ = ask;
        Answer::not_implemented()
    }

    /// Answers [`Query::ScramKeys`].
    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let _ = ask;
        Answer::not_implemented()
    }

    /// Answers [`Query::CheckToken`].
    fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        let _ = ask;
        TokenAnswer::NotImplemented
    }

    /// Answers [`Query::CheckExternal`], with the account.
    fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        let _ = ask;
        Answer::not_implemented()
    }

    /// Answers [`Query::CheckAnonymous`].
    fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        let _ = ask;
        Answer::not_implemented()
    }

    /// Answers [`Query::Custom`], best by [`Custom::step_with`].
    fn custom(&self, ask: &mut Custom) -> CustomAnswer {
        CustomAnswer::Fail(Failure::NotImplemented(ask.mechanism().name()))
    }

    /// Answers [`Query::Authorize`]: nobody acts as another unless this is written.
    fn authorize(&self, ask: &Authorize) -> Answer {
        let _ = ask;
        Answer::reject()
    }
}

/// The method of an [`Authenticator`] that a mechanism needs.
pub(super) fn method(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Plain | Mechanism::Login => "check_password",
        Mechanism::CramMd5 => "cram_secret",
        Mechanism::OauthBearer | Mechanism::Xoauth2 => "check_token",
        Mechanism::External => "check_external",
        Mechanism::Anonymous => "check_anonymous",
        scram if Kind::of(scram).is_some() => "scram_keys",
        _ => "custom",
    }
}
