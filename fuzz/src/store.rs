//! A server's store that answers by octets of the input, and knows what may come of its answers.

use std::vec;

use smtp_auth::{
    sasl::{
        Answer, AuthorizeAnswer, CramSecret, Custom, CustomAnswer, Failure, Identity, Query,
        RefusalKind, ScramHash, ScramKeys, TokenAnswer, TokenError, server::Config,
    },
    server::{self, AuthFailed},
};

use crate::{KEYS, PASSWORD};

/// The account of which other names are aliases, where an answer says so.
pub const ACCOUNT: &str = "mary";

/// No account can have this name.
const NO_NAME: &str = "a\0b";

/// What a mechanism of the application's own fails with.
const FAILURES: [Failure; 6] = [
    Failure::Rejected,
    Failure::Malformed("it is not\r\n250 good"),
    Failure::TempFail,
    Failure::UnexpectedInitialResponse,
    Failure::TooWeak,
    Failure::Cancelled,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    Reject,
    NoSecret,
    TempFail,
    NotImplemented,
    TooWeak,
    TransitionNeeded,
}

/// An answer, by an octet of the input.
#[derive(Clone, Copy, Debug)]
pub struct Says {
    verdict: Verdict,
    locked: bool,
    /// The account that the name is an alias of: perhaps one that no account can have.
    of: Option<&'static str>,
    octet: u8,
}

impl Says {
    /// Yes.
    pub const YES: u8 = 2;

    pub fn by(octet: u8) -> Self {
        let verdict = match (octet % 4, octet & 12) {
            (0, 0 | 4) => Verdict::Reject,
            (0, 8) => Verdict::NoSecret,
            (0, _) => Verdict::NotImplemented,
            (1, 0) => Verdict::TempFail,
            (1, 8) => Verdict::TransitionNeeded,
            (1, _) => Verdict::TooWeak,
            _ => Verdict::Accept,
        };
        // What is not implemented is so for all accounts.
        let more = octet % 4 != Self::YES && verdict != Verdict::NotImplemented;
        let of = match octet & 80 {
            16 if more => Some(ACCOUNT),
            80 if more => Some(NO_NAME),
            _ => None,
        };
        Self { verdict, locked: more && octet & 32 != 0, of, octet }
    }

    fn is_yes(self) -> bool {
        self.verdict == Verdict::Accept && !self.locked && self.of != Some(NO_NAME)
    }

    fn finished<T>(self, answer: Answer<T>) -> Answer<T> {
        let answer = if self.locked { answer.lock() } else { answer };
        match self.of {
            Some(account) => answer.of(account),
            None => answer,
        }
    }

    /// The answer to a question that a yes is all to.
    fn answer(self) -> Answer {
        self.finished(match self.verdict {
            Verdict::Accept => Answer::accept(()),
            Verdict::Reject => Answer::reject(),
            Verdict::NoSecret => Answer::no_secret(),
            Verdict::TempFail => Answer::temp_fail(),
            Verdict::NotImplemented => Answer::not_implemented(),
            Verdict::TooWeak => Answer::too_weak(),
            Verdict::TransitionNeeded => Answer::transition_needed(),
        })
    }

    /// The answer to a question for what the store has.
    fn with<T>(self, found: T) -> Answer<T> {
        self.finished(match self.verdict {
            Verdict::Accept => Answer::accept(found),
            Verdict::Reject => Answer::reject(),
            Verdict::NoSecret => Answer::no_secret(),
            Verdict::NotImplemented => Answer::not_implemented(),
            Verdict::TempFail | Verdict::TooWeak | Verdict::TransitionNeeded => Answer::temp_fail(),
        })
    }

    fn token(self) -> TokenAnswer {
        match self.verdict {
            Verdict::Accept => TokenAnswer::Accept("tim".into()),
            Verdict::Reject if self.octet & 4 != 0 => {
                TokenAnswer::RejectWith(TokenError::INSUFFICIENT_SCOPE.scope("a\"\n"))
            }
            Verdict::Reject | Verdict::NoSecret => TokenAnswer::Reject,
            Verdict::NotImplemented => TokenAnswer::NotImplemented,
            Verdict::TempFail | Verdict::TooWeak | Verdict::TransitionNeeded => {
                TokenAnswer::TempFail
            }
        }
    }

    fn authorize(self) -> AuthorizeAnswer {
        match (self.verdict, self.of) {
            (Verdict::Accept, _) if self.locked => AuthorizeAnswer::Reject,
            (Verdict::Accept, Some(account)) => AuthorizeAnswer::AcceptAs(account.to_owned()),
            (Verdict::Accept, None) => AuthorizeAnswer::Accept,
            (Verdict::Reject | Verdict::NoSecret, _) => AuthorizeAnswer::Reject,
            (Verdict::TempFail, _) => AuthorizeAnswer::TempFail,
            (Verdict::NotImplemented, _) => AuthorizeAnswer::NotImplemented,
            (Verdict::TooWeak, _) => RefusalKind::NeedsAppPassword.into(),
            (Verdict::TransitionNeeded, _) => RefusalKind::PasswordExpired.into(),
        }
    }

    /// Why such an answer lets nobody in.
    fn authorize_failure(self, mechanism: &'static str) -> Option<Failure> {
        match self.authorize() {
            AuthorizeAnswer::AcceptAs(account) if account == NO_NAME => Some(Failure::TempFail),
            AuthorizeAnswer::Accept | AuthorizeAnswer::AcceptAs(_) => None,
            AuthorizeAnswer::Reject => Some(Failure::NotAuthorized),
            AuthorizeAnswer::Refuse(refusal) => Some(Failure::Refused(refusal.kind())),
            AuthorizeAnswer::NotImplemented => Some(Failure::NotImplemented(mechanism)),
            _ => Some(Failure::TempFail),
        }
    }

    /// Perhaps those of another hash.
    fn keys(self, hash: ScramHash) -> ScramKeys {
        let right = KEYS.iter().find(|keys| keys.hash() == hash).expect("all hashes have keys");
        match self.octet & 128 {
            0 => right.clone(),
            _ => KEYS[usize::from(self.octet >> 2) % KEYS.len()].clone(),
        }
    }

    /// Answers all but what a mechanism of the application's own asks.
    pub fn settle(self, query: Query<'_>) {
        match query {
            _ if self.verdict == Verdict::NotImplemented => query.not_implemented(),
            Query::CheckPassword(ask) => ask.answer(self.answer()),
            Query::CramSecret(ask) => {
                ask.answer(self.with(CramSecret::from_password(PASSWORD)));
            }
            Query::ScramKeys(ask) => ask.answer(self.with(self.keys(ask.hash()))),
            Query::CheckToken(ask) => ask.answer(self.token()),
            Query::CheckExternal(ask) => ask.answer(self.with(ask.identity().to_owned())),
            Query::CheckAnonymous(ask) => ask.answer(self.answer()),
            Query::Authorize(ask) => ask.answer(self.authorize()),
            other => other.not_implemented(),
        }
    }

    /// Why such an answer to a question that a yes is all to is no success.
    fn failure(self, mechanism: &'static str) -> Option<Failure> {
        Some(match self.verdict {
            _ if self.of == Some(NO_NAME) => Failure::TempFail,
            Verdict::TempFail => Failure::TempFail,
            Verdict::NotImplemented => Failure::NotImplemented(mechanism),
            _ if self.locked => Failure::Locked,
            Verdict::Accept => return None,
            Verdict::Reject => Failure::Rejected,
            Verdict::NoSecret => Failure::NoSecret,
            Verdict::TooWeak => Failure::TooWeak,
            Verdict::TransitionNeeded => Failure::TransitionNeeded,
        })
    }

    /// The same of a question for what the store has.
    fn failure_with(self, mechanism: &'static str) -> Option<Failure> {
        match self.verdict {
            Verdict::TooWeak | Verdict::TransitionNeeded => Some(Failure::TempFail),
            _ => self.failure(mechanism),
        }
    }
}

/// The store, and what it has said in the exchange under way.
#[derive(Debug)]
pub struct Store {
    answers: vec::IntoIter<u8>,
    /// The answer where the input has no more.
    last: u8,
    /// Whether it has said yes each time, and has the right keys.
    pub kind: bool,
    pub questions: u32,
    /// The name that the client gave, folded, and the account of which it is an alias.
    claimed: Option<String>,
    of: Option<&'static str>,
    /// Who may have been proven, by whatever the client has sent.
    accepted: Option<String>,
    /// Whom the client wants to act as, folded, where a question says so; and as it was sent, where that
    /// is known.
    wanted: Option<(String, Option<String>)>,
    authorized: Option<String>,
    /// Whether everybody who is proven is asked about, and whether this one was, and is let in.
    pub always: bool,
    let_in: bool,
    /// Why the exchange has failed by the last answer, if it has.
    pub refused: Option<Failure>,
}

impl Store {
    pub fn new(answers: Vec<u8>, last: u8) -> Self {
        Self::with(answers.into_iter(), last)
    }

    fn with(answers: vec::IntoIter<u8>, last: u8) -> Self {
        Self {
            answers,
            last,
            kind: true,
            questions: 0,
            claimed: None,
            of: None,
            accepted: None,
            wanted: None,
            authorized: None,
            always: false,
            let_in: false,
            refused: None,
        }
    }

    /// The next exchange begins with no answer.
    pub fn forget(&mut self) {
        let always = self.always;
        *self = Self { always, ..Self::with(std::mem::take(&mut self.answers), self.last) };
    }

    /// What the next answer is made by.
    pub fn octet(&mut self) -> u8 {
        self.answers.next().unwrap_or(self.last)
    }

    /// Answers, by an octet of the input.
    pub fn answer(&mut self, query: Query<'_>, config: &Config, octet: u8) {
        let says = Says::by(octet);
        self.questions += 1;
        let found = says.verdict == Verdict::Accept;
        let yes = says.is_yes() || found && matches!(query, Query::CheckToken(_));
        self.kind &= yes && says.of != Some(NO_NAME);
        if let Some(name) = query.authcid() {
            assert_eq!(config.fold(name).as_deref(), Some(name), "the name is folded");
            self.claimed = Some(name.to_owned());
            self.of = says.of.filter(|of| *of != NO_NAME && *of != name);
        }
        let accept = |name: &str| (yes && name != NO_NAME).then(|| name.to_owned());
        self.accepted = match &query {
            Query::Authorize(_) => self.accepted.take(),
            Query::CheckToken(_) => accept("tim"),
            Query::CheckExternal(ask) => accept(ask.identity()),
            Query::CheckAnonymous(_) => accept("anonymous"),
            _ => query.authcid().and_then(|name| accept(says.of.unwrap_or(name))),
        };
        let wanted = |name: Option<&str>| {
            name.inspect(|name| assert_eq!(config.fold(name).as_deref(), Some(*name)))
                .map(|name| (name.to_owned(), None))
        };
        match &query {
            Query::CheckPassword(ask) => {
                self.wanted = wanted(ask.authzid());
                self.refused = says.failure(ask.mechanism().name());
            }
            Query::CramSecret(_) => self.refused = says.failure_with("CRAM-MD5"),
            Query::ScramKeys(ask) => {
                let keys = says.keys(ask.hash());
                if keys.hash() != ask.hash() {
                    (self.kind, self.accepted) = (false, None);
                }
                // All others show themselves once the client has sent its proof.
                let later =
                    matches!(says.verdict, Verdict::Accept | Verdict::Reject | Verdict::NoSecret)
                        && says.of != Some(NO_NAME);
                self.refused = says.failure_with(ask.mechanism().name()).filter(|_| !later);
            }
            Query::CheckToken(ask) => {
                self.wanted = wanted(ask.authzid());
                self.refused = match says.token() {
                    TokenAnswer::Accept(_) => None,
                    TokenAnswer::TempFail => Some(Failure::TempFail),
                    TokenAnswer::NotImplemented => {
                        Some(Failure::NotImplemented(ask.mechanism().name()))
                    }
                    _ => Some(Failure::Rejected),
                };
            }
            Query::CheckExternal(ask) => {
                self.wanted = wanted(ask.authzid());
                self.refused = says.failure_with("EXTERNAL");
            }
            Query::CheckAnonymous(_) => self.refused = says.failure("ANONYMOUS"),
            Query::Authorize(ask) => {
                assert_eq!(self.accepted.as_deref(), Some(ask.authcid()));
                assert!(self.always || ask.authzid().is_some(), "nobody is to be asked about");
                if let Some(other) = ask.authzid() {
                    assert_ne!(ask.authcid(), other);
                    assert!(self.wanted.as_ref().is_none_or(|(wanted, _)| wanted == other));
                }
                self.authorized = says.of.or(ask.authzid()).and_then(accept);
                self.refused = says.authorize_failure(ask.mechanism().name());
                self.let_in = self.refused.is_none();
            }
            _ => {}
        }
        match query {
            Query::Custom(ask) => self.custom(ask, config, octet),
            other => says.settle(other),
        }
    }

    /// The names of a mechanism of the application's own may be anything: here what the client has sent.
    fn custom(&mut self, ask: &mut Custom, config: &Config, octet: u8) {
        let rounds = ask.state().get_or_insert_with(|| Box::new(0_u8));
        let rounds = rounds.downcast_mut::<u8>().expect("what was put there");
        *rounds += 1;
        assert!(*rounds <= 21, "the exchange comes to an end");
        let sent = ask.response().map(|octets| String::from_utf8_lossy(octets).into_owned());
        self.kind &= octet % 4 >= 2;
        ask.answer(match (octet % 4, sent) {
            (0, _) if octet & 4 == 0 => {
                let failure = FAILURES[usize::from(octet >> 3) % FAILURES.len()];
                self.refused = Some(failure);
                CustomAnswer::Fail(failure)
            }
            (0, _) => {
                self.refused = Some(Failure::NotImplemented(ask.mechanism().name()));
                return Query::Custom(ask).not_implemented();
            }
            (1, _) | (_, None) => CustomAnswer::Challenge(vec![octet; usize::from(octet)]),
            (_, Some(sent)) => {
                let (authcid, authzid) = match sent.split_once(',') {
                    Some((authcid, authzid)) => (authcid.to_owned(), Some(authzid.to_owned())),
                    None => (sent, None),
                };
                self.accepted = Some(authcid.clone());
                self.wanted = authzid
                    .as_deref()
                    .and_then(|name| Some((config.fold(name)?.into(), Some(name.to_owned()))));
                CustomAnswer::Accept { authcid, authzid }
            }
        });
    }

    /// Whether somebody may have signed in so, by what was answered.
    pub fn check(&self, who: &Identity) {
        let printable = |name: &str| !name.is_empty() && !name.contains(char::is_control);
        assert_eq!(self.refused, None, "signed in after a no");
        assert!(self.let_in || !self.always, "signed in before the last answer");
        assert_eq!(self.accepted.as_deref(), Some(who.authcid()));
        // Where the other is an alias of its own account, it is itself.
        let other = self.authorized.as_deref().filter(|other| *other != who.authcid());
        assert_eq!(other, who.authzid());
        if let (Some((wanted, sent)), None) = (&self.wanted, &self.authorized) {
            let own = [self.claimed.as_deref(), Some(who.authcid())];
            let sent = sent.as_deref().filter(|sent| *sent == who.authcid());
            assert!(own.contains(&Some(wanted)) || sent.is_some(), "acts as another unasked");
        }
        assert!(printable(who.authcid()) && printable(who.acts_as()));
    }

    /// Whether nobody may have signed in so, `before` attempts before.
    pub fn check_failed(&self, failed: &AuthFailed<'_>, before: u32) {
        if let Some(refused) = self.refused {
            assert_eq!(failed.why, refused);
            assert!(self.claimed.is_none() || failed.authcid() == self.claimed.as_deref());
            assert!(self.claimed.is_none() || failed.account() == self.of);
        }
        let known = [self.claimed.as_deref(), self.accepted.as_deref()];
        // A client that breaks off before any question has named itself, as LOGIN begins.
        let asked = self.questions > 0;
        assert!(!asked || failed.authcid().is_none() || known.contains(&failed.authcid()));
        let counts = failed.why.is_attempt();
        let pause = if counts { server::pause(failed.attempts) } else { Default::default() };
        assert_eq!(failed.attempts, before + u32::from(counts), "it counts once");
        assert_eq!(failed.pause, pause);
    }
}
