//! Questions that are answered elsewhere and later.

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Waker},
    thread,
};

use smtp_auth::{
    reply::Reply,
    sasl::{
        self, Answer, AsyncAuthenticator, Authenticator, AuthenticatorMut, Authorize,
        AuthorizeAnswer, BoxedAuthenticator, Channel, CheckAnonymous, CheckExternal, CheckPassword,
        CheckToken, ConfigError, CramSecret, CramSecretFor, Custom, CustomAnswer, Failure,
        Immediate, Mechanism, Query, QueryJob, ScramKeys, ScramKeysFor, TokenAnswer,
        client::Credentials,
        server::{Config, Exchange, Step},
    },
    server::{self, Event},
};
use tokio::task::yield_now;

/// Says yes to whoever is right.
struct Willing;

impl Authenticator for Willing {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        ((ask.authcid(), ask.password().expose()) == ("tim", "pencil")).into()
    }

    fn cram_secret(&self, _: &CramSecretFor) -> Answer<CramSecret> {
        Answer::accept(CramSecret::from_password("pencil"))
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        ScramKeys::generate(ask.hash(), "pencil", 4096).into()
    }

    fn check_token(&self, _: &CheckToken) -> TokenAnswer {
        TokenAnswer::Accept("tim".into())
    }

    fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        Answer::accept(ask.identity().to_owned())
    }

    fn check_anonymous(&self, _: &CheckAnonymous) -> Answer {
        Answer::accept(())
    }

    fn authorize(&self, ask: &Authorize) -> AuthorizeAnswer {
        (ask.authzid() == Some("ann")).into()
    }

    fn custom(&self, _: &mut Custom) -> CustomAnswer {
        CustomAnswer::Accept { authcid: "tim".into(), authzid: None }
    }
}

const OWN: Mechanism = match Mechanism::custom("X-OWN") {
    Ok(own) => own,
    Err(_) => panic!("the name is good"),
};

/// Each mechanism's credentials, which act as another where they can.
fn credentials(mechanism: Mechanism) -> Credentials {
    let password = || Credentials::password("tim", "pencil").unwrap();
    match mechanism {
        Mechanism::CramMd5 => password(),
        Mechanism::OauthBearer => {
            Credentials::token("tim", "t0ken").unwrap().acting_as("ann").unwrap()
        }
        Mechanism::External => Credentials::external().acting_as("ann").unwrap(),
        Mechanism::Anonymous => Credentials::anonymous("guest").unwrap(),
        _ => password().acting_as("ann").unwrap(),
    }
}

/// How an exchange ends whose questions are settled so; and how many there were.
fn outcome(
    mechanism: Mechanism,
    mut settle: impl FnMut(&mut Exchange),
) -> (Result<String, Failure>, usize) {
    let channel = Channel::tls().with_identity("tim").unwrap();
    let config = Config::builder("mail.example.org").mechanisms([mechanism]).build().unwrap();
    let config = Arc::new(config);
    let own = sasl::client::Config::builder().mechanisms([mechanism]).build().unwrap();
    let (choice, credentials) = (mechanism, credentials(mechanism));
    let mut client = sasl::client::Exchange::new(&own, &channel, choice, credentials);
    let (mut server, mut questions) = (None::<Exchange>, 0);
    loop {
        let response = loop {
            match client.step() {
                sasl::client::Step::Derive(derive) => derive.run(),
                sasl::client::Step::Response(response) => break response,
                step => panic!("{step:?}"),
            }
        };
        let data = response.data().map(<[u8]>::to_vec);
        match &mut server {
            None => server = Some(Exchange::new(&config, &channel, mechanism, data)),
            Some(server) => match server.step() {
                Step::Challenge(challenge) => challenge.respond(data.unwrap()),
                step => panic!("{step:?}"),
            },
        }
        let server = server.as_mut().unwrap();
        loop {
            match server.step() {
                Step::Query(_) => {
                    questions += 1;
                    settle(server);
                }
                Step::Challenge(challenge) => break response.challenge(challenge.data()),
                Step::Done(outcome) => {
                    return (outcome.map(|who| who.acts_as().to_owned()), questions);
                }
            }
        }
    }
}

/// Each with a question of its own, and how many there are with that of who acts as whom.
const MECHANISMS: [(Mechanism, usize); 6] = [
    (Mechanism::Plain, 2),
    (Mechanism::CramMd5, 1),
    (Mechanism::ScramSha256, 2),
    (Mechanism::OauthBearer, 2),
    (Mechanism::External, 2),
    (Mechanism::Anonymous, 1),
];

fn job(server: &mut Exchange) -> QueryJob {
    server.query().unwrap().job().unwrap()
}

#[test]
fn an_answer_from_a_thread_settles_the_question() {
    for (mechanism, expected) in MECHANISMS {
        let (outcome, questions) = outcome(mechanism, |server| {
            let mut job = job(server);
            let worker = thread::spawn(move || {
                job.query().answer_with(&Willing);
                job
            });
            // Asked again meanwhile, it is the same.
            let Step::Query(query) = server.step() else { panic!("no question") };
            let job = worker.join().unwrap();
            assert!(query.answer_from(job));
        });
        let who = match mechanism {
            Mechanism::Anonymous => "anonymous",
            Mechanism::CramMd5 => "tim",
            _ => "ann",
        };
        assert_eq!((outcome.as_deref(), questions), (Ok(who), expected), "{mechanism}");
    }
}

#[test]
fn a_job_without_an_answer_is_a_failure_of_the_store() {
    for (mechanism, _) in MECHANISMS {
        let (outcome, _) = outcome(mechanism, |server| {
            let job = job(server);
            assert!(server.query().unwrap().answer_from(job));
        });
        assert_eq!(outcome, Err(Failure::TempFail), "{mechanism}");
    }
    // So it is with the second question.
    let (outcome, questions) = outcome(Mechanism::Plain, |server| {
        let mut job = job(server);
        if let Query::CheckPassword(ask) = job.query() {
            ask.answer(true);
        }
        assert!(server.query().unwrap().answer_from(job));
    });
    assert_eq!((outcome, questions), (Err(Failure::TempFail), 2));
}

#[test]
fn the_answer_of_another_question_changes_nothing() {
    for (mechanism, _) in MECHANISMS {
        let (outcome, _) = outcome(mechanism, |server| {
            // Of another exchange, or the one before in this.
            let late = core::cell::RefCell::new(Vec::new());
            for (other, _) in MECHANISMS {
                let _ = self::outcome(other, |server| {
                    let mut job = job(server);
                    job.query().answer_with(&Willing);
                    late.borrow_mut().push(job);
                    server.query().unwrap().answer_with(&Willing);
                });
            }
            for job in late.into_inner() {
                assert!(!server.query().unwrap().answer_from(job));
            }
            server.query().unwrap().reject();
        });
        assert!(matches!(outcome, Err(Failure::Rejected)), "{mechanism}: {outcome:?}");
    }
}

#[test]
fn the_store_cannot_say_now() {
    for (mechanism, _) in MECHANISMS.into_iter().chain([(OWN, 1)]) {
        let mut server = match mechanism {
            OWN => {
                let config = Config::builder("mail.example.org").mechanisms([OWN]).build().unwrap();
                Exchange::new(&Arc::new(config), &Channel::tls(), OWN, None)
            }
            _ => {
                let (outcome, _) = outcome(mechanism, |server| server.query().unwrap().temp_fail());
                assert_eq!(outcome, Err(Failure::TempFail), "{mechanism}");
                continue;
            }
        };
        assert!(matches!(server.step(), Step::Query(Query::Custom(_))));
        assert!(server.query().unwrap().job().is_none());
        server.query().unwrap().temp_fail();
        assert!(matches!(server.step(), Step::Done(Err(Failure::TempFail))));
    }
}

/// Where `next` would go on, `query` says that there is none.
#[test]
fn to_look_for_the_question_moves_nothing_on() {
    let sasl = Config::builder("mail.example.org").mechanisms([Mechanism::Plain]).build().unwrap();
    let mut session = server::Session::new(
        server::Config::builder("mail.example.org").sasl(sasl).build().unwrap().into(),
    );
    session.tls_started(Channel::tls());
    let mut out = Vec::new();
    assert!(session.query().is_none());
    session.receive(b"EHLO a\r\nAUTH PLAIN AHRpbQBwZW5jaWw=\r\nAUTH PLAIN AHRpbQBwZW5jaWw=\r\n");
    assert!(session.query().is_none());
    assert!(matches!(session.next(&mut out), Event::Hello(_)));
    assert!(session.query().is_none());

    let Event::Query(query) = session.next(&mut out) else { panic!("no question") };
    let mut job = query.job().unwrap();
    job.query().answer_with(&Willing);
    let serial = session.query().unwrap().serial();
    assert_eq!(session.query().unwrap().serial(), serial);
    // The store took too long.
    session.query().unwrap().temp_fail();
    assert_eq!(session.query().unwrap().serial(), serial, "answered, and not gone on from");
    assert!(matches!(session.next(&mut out), Event::AuthFailed(_)));
    assert!(session.query().is_none(), "the pause would be lost");

    let Event::Query(query) = session.next(&mut out) else { panic!("no question") };
    assert_ne!(query.serial(), serial);
    assert!(!query.answer_from(job));
    session.query().unwrap().reject();
    assert!(matches!(session.next(&mut out), Event::AuthFailed(_)));
    session.close(&Reply::IDLE, &mut out);
    assert!(session.query().is_none());
    assert!(matches!(session.next(&mut out), Event::Close));
}

#[test]
fn what_an_initial_response_asks_is_on_show_before_any_step() {
    let config = Arc::new(
        Config::builder("mail.example.org").mechanisms(Mechanism::COMPILED).build().unwrap(),
    );
    let begin = |response: Option<&[u8]>| {
        let response = response.map(<[u8]>::to_vec);
        Exchange::new(&config, &Channel::tls(), Mechanism::Plain, response)
    };
    let mut server = begin(Some(b"\0tim\0pencil"));
    let serial = server.query().unwrap().serial();
    let Step::Query(query) = server.step() else { panic!("no question") };
    assert_eq!(query.serial(), serial);
    assert!(begin(None).query().is_none());
}

/// As [`Willing`], after a while.
struct Slow;

impl AsyncAuthenticator for Slow {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    async fn check_password(&self, ask: &CheckPassword) -> Answer {
        yield_now().await;
        Willing.check_password(ask)
    }

    async fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        yield_now().await;
        Willing.cram_secret(ask)
    }

    async fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        yield_now().await;
        Willing.scram_keys(ask)
    }

    async fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        yield_now().await;
        Willing.check_token(ask)
    }

    async fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        yield_now().await;
        Willing.check_external(ask)
    }

    async fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        yield_now().await;
        Willing.check_anonymous(ask)
    }

    async fn authorize(&self, ask: &Authorize) -> AuthorizeAnswer {
        yield_now().await;
        Willing.authorize(ask)
    }

    async fn custom(&self, ask: &mut Custom) -> CustomAnswer {
        yield_now().await;
        Willing.custom(ask)
    }
}

/// A runtime may move it to another thread.
fn sendable<F: Future + Send>(future: F) -> F {
    future
}

fn wait_for(users: &impl AsyncAuthenticator, exchange: &mut Exchange) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(sendable(exchange.query().unwrap().answer_with_async(users)));
}

#[test]
fn a_store_that_is_waited_for_answers_as_one_that_answers_at_once() {
    let boxed = [BoxedAuthenticator::new(Slow), BoxedAuthenticator::new(Immediate(Willing))];
    assert_eq!(boxed[0].mechanisms(), Mechanism::COMPILED);
    assert!(offered(&boxed[0]).unwrap().contains(&Mechanism::ScramSha256));
    for (mechanism, _) in MECHANISMS {
        let at_once = outcome(mechanism, |server| server.query().unwrap().answer_with(&Willing));
        assert!(at_once.0.is_ok(), "{mechanism}: {at_once:?}");
        assert_eq!(outcome(mechanism, |server| wait_for(&Slow, server)), at_once);
        assert_eq!(outcome(mechanism, |server| wait_for(&Immediate(Willing), server)), at_once);
        for users in &boxed {
            assert_eq!(outcome(mechanism, |server| wait_for(users, server)), at_once);
        }
    }
}

/// Writes none of the methods.
struct Silent([Mechanism; 1]);

impl AsyncAuthenticator for Silent {
    fn mechanisms(&self) -> &[Mechanism] {
        &self.0
    }
}

/// What a configuration gets from the authenticator.
fn offered(users: &impl AsyncAuthenticator) -> Result<Vec<Mechanism>, ConfigError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let builder = Config::builder("mail.example.org").answered_by_async(users);
    let config = runtime.block_on(sendable(builder)).build()?;
    Ok(config.offered(&Channel::tls()).collect())
}

#[test]
fn what_is_not_written_is_not_implemented() {
    for (mechanism, _) in MECHANISMS {
        let silent = Silent([mechanism]);
        let (outcome, questions) = outcome(mechanism, |server| wait_for(&silent, server));
        assert_eq!((outcome, questions), (Err(Failure::NotImplemented(mechanism.name())), 1));
        let refused = offered(&silent).unwrap_err();
        assert!(matches!(refused, ConfigError::NotImplemented(_)), "{mechanism}: {refused}");
    }
}

/// A mechanism of the application's own, which is asked with its response.
fn own(users: &impl AsyncAuthenticator) -> Result<String, Failure> {
    let config = Config::builder("mail.example.org").mechanisms([OWN]).build().unwrap();
    let initial = Some(b"whatever".to_vec());
    let mut exchange = Exchange::new(&Arc::new(config), &Channel::tls(), OWN, initial);
    loop {
        match exchange.step() {
            Step::Query(_) => wait_for(users, &mut exchange),
            Step::Challenge(_) => panic!("no challenge is sent"),
            Step::Done(outcome) => return outcome.map(|who| who.authcid().to_owned()),
        }
    }
}

#[test]
fn a_mechanism_of_ones_own_is_waited_for_too() {
    assert_eq!(own(&Slow).as_deref(), Ok("tim"));
    assert_eq!(own(&Immediate(Willing)).as_deref(), Ok("tim"));
    assert_eq!(own(&BoxedAuthenticator::new(Slow)).as_deref(), Ok("tim"));
    let silent = BoxedAuthenticator::new(Silent([OWN]));
    assert_eq!(own(&silent), Err(Failure::NotImplemented("X-OWN")));
    // It is taken on trust.
    assert_eq!(offered(&silent), Ok(vec![OWN]));
}

#[test]
fn a_question_whose_future_is_dropped_stays_pending() {
    let config = Config::builder("mail.example.org").mechanisms([Mechanism::Plain]).build();
    let initial = Some(b"\0tim\0pencil".to_vec());
    let config = Arc::new(config.unwrap());
    let mut exchange = Exchange::new(&config, &Channel::tls(), Mechanism::Plain, initial);
    let Step::Query(query) = exchange.step() else { panic!("a question") };
    let serial = query.serial();
    let mut future = Box::pin(query.answer_with_async(&Slow));
    let waits = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(waits.is_pending());
    drop(future);
    let Step::Query(query) = exchange.step() else { panic!("the question is still pending") };
    assert_eq!(query.serial(), serial);
    query.temp_fail();
    assert!(matches!(exchange.step(), Step::Done(Err(Failure::TempFail))));
}

/// Changes as it answers.
#[derive(Default)]
struct Counting(u32);

impl AuthenticatorMut for Counting {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain, Mechanism::CramMd5]
    }

    fn check_password(&mut self, ask: &CheckPassword) -> Answer {
        self.0 += 1;
        Willing.check_password(ask)
    }

    fn authorize(&mut self, ask: &Authorize) -> AuthorizeAnswer {
        Willing.authorize(ask)
    }
}

/// The outcome of an exchange that a store of one's own answers.
fn outcome_of_own(
    mechanism: Mechanism,
    users: &mut (impl AuthenticatorMut + ?Sized),
) -> Result<(), Failure> {
    outcome(mechanism, |server| server.query().unwrap().answer_with_mut(&mut *users)).0.map(drop)
}

#[test]
fn a_store_that_changes_as_it_answers_has_no_variants_to_tell_apart() {
    let mut users = Counting::default();
    for round in 1..=3 {
        assert_eq!(outcome_of_own(Mechanism::Plain, &mut users), Ok(()));
        assert_eq!(users.0, round);
    }
    let not_written = Err(Failure::NotImplemented("CRAM-MD5"));
    assert_eq!(outcome_of_own(Mechanism::CramMd5, &mut users), not_written);
    let builder = || Config::builder("mail.example.org");
    let built = builder().answered_by_mut(&mut users).build();
    assert_eq!(built.unwrap_err(), ConfigError::NotImplemented(Mechanism::CramMd5));
    assert_eq!(users.0, 4, "it is asked once");
    assert!(builder().answered_by_mut(&mut users).without([Mechanism::CramMd5]).build().is_ok());
    let mut boxed: Box<dyn AuthenticatorMut> = Box::new(users);
    assert_eq!(outcome_of_own(Mechanism::Plain, &mut boxed), Ok(()));
    assert_eq!(outcome_of_own(Mechanism::Plain, &mut &mut *boxed), Ok(()));
}

#[test]
fn what_points_to_a_store_is_one() {
    fn answers(users: impl Authenticator) {
        for (mechanism, _) in MECHANISMS {
            let of_it = outcome(mechanism, |server| server.query().unwrap().answer_with(&users));
            assert!(of_it.0.is_ok(), "{mechanism}: {of_it:?}");
        }
        assert_eq!(users.mechanisms(), Mechanism::COMPILED);
    }
    fn answers_later(users: impl AsyncAuthenticator) {
        for (mechanism, _) in MECHANISMS {
            assert!(outcome(mechanism, |server| wait_for(&users, server)).0.is_ok());
        }
        assert_eq!(users.mechanisms(), Mechanism::COMPILED);
    }
    answers(&Willing);
    answers(Box::new(Willing));
    answers(Arc::new(Willing));
    answers(Arc::new(Willing) as Arc<dyn Authenticator>);
    answers(&&Box::new(Willing) as &dyn Authenticator);
    answers_later(&Slow);
    answers_later(Box::new(Slow));
    answers_later(Arc::new(Slow));
    answers_later(Immediate(Arc::new(Willing)));
}

/// Says nothing of who may come in.
struct OnlyPasswords;

impl Authenticator for OnlyPasswords {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain]
    }

    fn check_password(&self, _: &CheckPassword) -> Answer {
        Answer::accept(())
    }
}

#[test]
fn who_is_to_be_asked_about_does_not_come_in_unasked() {
    let builder = || Config::builder("mail.example.org");
    let always = builder().answered_by(&OnlyPasswords).authorize_always(true).build();
    assert_eq!(always.unwrap_err(), ConfigError::Authorize);
    assert!(builder().answered_by(&OnlyPasswords).build().is_ok());
    assert!(builder().answered_by(&Willing).authorize_always(true).build().is_ok());
    // Where the mechanisms are listed by hand, nobody comes in.
    let listed = builder().mechanisms([Mechanism::Plain]).authorize_always(true).build().unwrap();
    let initial = Some(b"\0tim\0pencil".to_vec());
    let mut exchange = Exchange::new(&Arc::new(listed), &Channel::tls(), Mechanism::Plain, initial);
    while let Step::Query(query) = exchange.step() {
        query.answer_with(&OnlyPasswords);
    }
    assert_eq!(exchange.failure(), Some(Failure::NotImplemented("PLAIN")));
}
