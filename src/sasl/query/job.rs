//! Copies of questions, to be answered elsewhere.

use alloc::{boxed::Box, vec::Vec};

use super::{
    Answer, Authcid, Authorize, AuthorizeAnswer, CheckAnonymous, CheckExternal, CheckPassword,
    CheckToken, CramSecretFor, Query, ScramKeysFor, TokenAnswer,
};
use crate::{
    sasl::{Mechanism, names::Authzid, scram_keys::Kind},
    secret::Secret,
};

/// A copy of a question that can be answered later and elsewhere, for example on another thread or in an async task.
///
/// [`Query::job`] creates the copy. Answer the question that [`query`](Self::query) returns. Then pass the copy to
/// [`Query::answer_from`], which gives the original question the same answer.
///
#[cfg_attr(all(feature = "smtp", feature = "plain"), doc = "```")]
#[cfg_attr(not(all(feature = "smtp", feature = "plain")), doc = "```ignore")]
/// # use smtp_auth::{sasl::{self, Authenticator}, server::{Config, Event, Session}};
/// # use std::thread;
/// # struct Users;
/// # impl Authenticator for Users {
/// #     fn mechanisms(&self) -> &[sasl::Mechanism] { &[sasl::Mechanism::Plain] }
/// #     fn check_password(&self, _: &sasl::CheckPassword) -> sasl::Answer { sasl::Answer::reject() }
/// # }
/// # let sasl = sasl::server::Config::builder("mail.example.org").answered_by(&Users);
/// # let sasl = sasl.allow_cleartext(true).build()?;
/// # let config = Config::builder("mail.example.org").sasl(sasl).build()?;
/// # let (mut session, mut out) = (Session::new(config.into()), Vec::new());
/// # session.receive(b"EHLO client.example.org\r\nAUTH PLAIN AHRpbQBzZWNyZXQ=\r\n");
/// # let _ = session.next(&mut out);
/// // The query stays pending. Copy it once: its `serial` identifies it when it is returned again.
/// if let Event::Query(query) = session.next(&mut out) {
///     match query.job() {
///         None => query.not_implemented(), // a custom mechanism, which is answered in place
///         Some(mut job) => {
///             let worker = thread::spawn(move || {
///                 job.query().answer_with(&Users);
///                 job
///             });
///             // Once the answer is there, even if the session has moved on:
///             let job = worker.join().map_err(|_| "the worker is gone")?;
///             let in_time = session.query().is_some_and(|query| query.answer_from(job));
///             # assert!(in_time);
///         }
///     }
/// }
/// # assert!(matches!(session.next(&mut out), Event::AuthFailed(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct QueryJob(Question);

#[derive(Debug)]
enum Question {
    CheckPassword(CheckPassword),
    CramSecret(CramSecretFor),
    ScramKeys(ScramKeysFor),
    CheckToken(CheckToken),
    CheckExternal(CheckExternal),
    CheckAnonymous(CheckAnonymous),
    Authorize(Authorize),
}

impl QueryJob {
    /// Returns the question to answer.
    pub fn query(&mut self) -> Query<'_> {
        match &mut self.0 {
            Question::CheckPassword(ask) => Query::CheckPassword(ask),
            Question::CramSecret(ask) => Query::CramSecret(ask),
            Question::ScramKeys(ask) => Query::ScramKeys(ask),
            Question::CheckToken(ask) => Query::CheckToken(ask),
            Question::CheckExternal(ask) => Query::CheckExternal(ask),
            Question::CheckAnonymous(ask) => Query::CheckAnonymous(ask),
            Question::Authorize(ask) => Query::Authorize(ask),
        }
    }
}

/// The name of an account that cannot exist (RFC 2606 §2).
const NOBODY: &str = "nobody@smtp-auth.invalid";

/// Returns the question of this mechanism about an account that cannot exist. Returns `None` for a custom mechanism,
/// because its answer may depend on the client.
fn probe(mechanism: Mechanism) -> Option<QueryJob> {
    let text = || Secret::new([NOBODY, "x"].concat()).behind(NOBODY.len());
    Some(QueryJob(match mechanism {
        Mechanism::Plain => {
            let authcid = Authcid::InFront(0..NOBODY.len());
            Question::CheckPassword(CheckPassword::new(authcid, None, None, text()))
        }
        Mechanism::Login => {
            let authcid = Authcid::Own(Secret::new(NOBODY));
            Question::CheckPassword(CheckPassword::new(authcid, None, None, Secret::new("x")))
        }
        Mechanism::CramMd5 => {
            Question::CramSecret(CramSecretFor::new(None, Box::default(), text()))
        }
        Mechanism::OauthBearer | Mechanism::Xoauth2 => {
            let authzid = Some(Box::new(Authzid::folded(NOBODY)));
            Question::CheckToken(CheckToken::new(mechanism, authzid, Secret::new("x")))
        }
        Mechanism::External => Question::CheckExternal(CheckExternal::new(NOBODY, None)),
        Mechanism::Anonymous => Question::CheckAnonymous(CheckAnonymous::new(None)),
        scram => {
            let kind = Kind::of(scram)?;
            Question::ScramKeys(ScramKeysFor::new(NOBODY.into(), None, None, kind))
        }
    }))
}

/// The questions that test an authenticator when a configuration is built from it.
pub(in crate::sasl) struct Probes {
    /// The authenticator's mechanisms, each with its question.
    pub(in crate::sasl) mechanisms: Vec<(Mechanism, Option<QueryJob>)>,
    /// The question that asks whether an account may use the service.
    pub(in crate::sasl) authorize: QueryJob,
}

impl Probes {
    pub(in crate::sasl) fn new(mechanisms: &[Mechanism]) -> Self {
        let authorize = Authorize::probe(NOBODY, Mechanism::Plain);
        Self {
            mechanisms: mechanisms.iter().map(|&own| (own, probe(own))).collect(),
            authorize: QueryJob(Question::Authorize(authorize)),
        }
    }

    pub(in crate::sasl) fn queries(&mut self) -> impl Iterator<Item = Query<'_>> {
        let of_mechanisms = self.mechanisms.iter_mut().filter_map(|(_, job)| job.as_mut());
        of_mechanisms.chain([&mut self.authorize]).map(QueryJob::query)
    }
}

impl QueryJob {
    /// Returns whether the application implements this kind of question, judged by its answer.
    pub(in crate::sasl) fn is_implemented(&self) -> bool {
        fn of<T>(answer: Option<&Answer<T>>) -> bool {
            answer.is_some_and(Answer::is_implemented)
        }
        match &self.0 {
            Question::CheckPassword(ask) => of(ask.answer.as_ref()),
            Question::CramSecret(ask) => of(ask.answer.as_ref()),
            Question::ScramKeys(ask) => of(ask.answer.as_ref()),
            Question::CheckToken(ask) => {
                ask.answer.as_ref().is_some_and(|answer| *answer != TokenAnswer::NotImplemented)
            }
            Question::CheckExternal(ask) => of(ask.answer.as_ref()),
            Question::CheckAnonymous(ask) => of(ask.answer.as_ref()),
            Question::Authorize(ask) => {
                ask.answer.as_ref().is_some_and(|answer| *answer != AuthorizeAnswer::NotImplemented)
            }
        }
    }
}

impl Query<'_> {
    /// Copies the question, so that it can be answered elsewhere.
    ///
    /// The answer of the copy is initially [`temp_fail`](super::Answer::temp_fail), so that the exchange ends even if
    /// the application never answers the copy. Returns `None` for a [`Custom`](super::Custom) question, because its
    /// state cannot be copied.
    pub fn job(&self) -> Option<QueryJob> {
        let mut job = QueryJob(match self {
            Self::CheckPassword(ask) => Question::CheckPassword((**ask).clone()),
            Self::CramSecret(ask) => Question::CramSecret((**ask).clone()),
            Self::ScramKeys(ask) => Question::ScramKeys((**ask).clone()),
            Self::CheckToken(ask) => Question::CheckToken((**ask).clone()),
            Self::CheckExternal(ask) => Question::CheckExternal((**ask).clone()),
            Self::CheckAnonymous(ask) => Question::CheckAnonymous((**ask).clone()),
            Self::Authorize(ask) => Question::Authorize((**ask).clone()),
            Self::Custom(_) => return None,
        });
        job.query().temp_fail();
        Some(job)
    }

    /// Answers the question with the answer that the application gave to its copy. If the application has not answered
    /// the copy, the question is answered with [`temp_fail`](super::Answer::temp_fail).
    ///
    /// Returns `false` and changes nothing if the job is a copy of another question. The other question may come from
    /// an earlier exchange, or from an earlier step of the same exchange.
    pub fn answer_from(self, mut job: QueryJob) -> bool {
        if job.query().serial() != self.serial() {
            return false;
        }
        match (self, job.0) {
            (Self::CheckPassword(ask), Question::CheckPassword(own)) => ask.answer = own.answer,
            (Self::CramSecret(ask), Question::CramSecret(own)) => ask.answer = own.answer,
            (Self::ScramKeys(ask), Question::ScramKeys(own)) => ask.answer = own.answer,
            (Self::CheckToken(ask), Question::CheckToken(own)) => ask.answer = own.answer,
            (Self::CheckExternal(ask), Question::CheckExternal(own)) => ask.answer = own.answer,
            (Self::CheckAnonymous(ask), Question::CheckAnonymous(own)) => ask.answer = own.answer,
            (Self::Authorize(ask), Question::Authorize(own)) => ask.answer = own.answer,
            // Unreachable: no two questions have the same serial.
            _ => return false,
        }
        true
    }
}
