//! Mechanisms of the host's own, through all three doors, on both sides.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test fails by panicking"
)]

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    auth::{self, server::reply_to},
    client,
    reply::{Reply, ReplyRef},
    sasl::{
        self, Answer, Authenticator, Authorize, BindingPolicy, Channel, ConfigError, Custom,
        CustomAnswer, Failure, Identity, Mechanism, Query, ServerMechanism,
        client::{
            ClientMechanism, Credentials, CustomResponse, Failure as ClientFailure, NoMechanism,
        },
    },
    server,
};

const OWN: Mechanism = match Mechanism::custom("X-OWN_2") {
    Ok(mechanism) => mechanism,
    Err(_) => panic!("the name is good"),
};

// ---- what there is to set up ----

fn server_config() -> Arc<sasl::server::Config> {
    Arc::new(offering(&[OWN]).build().unwrap())
}

fn own_client() -> sasl::client::Builder {
    sasl::client::Config::builder().mechanisms([OWN])
}

fn client_config() -> sasl::client::Config {
    own_client().build().unwrap()
}

fn accept(authcid: &str, authzid: Option<&str>) -> CustomAnswer {
    CustomAnswer::Accept { authcid: authcid.into(), authzid: authzid.map(Into::into) }
}

fn challenge(text: &str) -> CustomAnswer {
    CustomAnswer::Challenge(text.into())
}

fn respond(text: &str) -> CustomResponse {
    CustomResponse::Respond(text.into())
}

fn complete(text: &str) -> CustomResponse {
    CustomResponse::Complete(text.into())
}

fn base64(octets: impl AsRef<[u8]>) -> String {
    STANDARD.encode(octets)
}

// ---- the three doors of the server ----

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Sasl,
    Auth,
    Session,
}

const DOORS: [Door; 3] = [Door::Sasl, Door::Auth, Door::Session];

type Outcome = Result<Identity, Failure>;

/// What a server makes of a client that says these, the first as its initial response. Every question
/// goes to `host`. Returns the challenges too.
fn serve(
    door: Door,
    said: &[Option<&str>],
    mut host: impl FnMut(Query<'_>),
) -> (Vec<String>, Outcome) {
    let config = server_config();
    let initial = said[0];
    let mut later = said[1..].iter().map(|response| response.unwrap());
    let mut challenges = Vec::new();
    if door == Door::Sasl {
        let initial = initial.map(|text| text.as_bytes().to_vec());
        let mut exchange = sasl::server::Exchange::new(&config, &Channel::tls(), OWN, initial);
        loop {
            match exchange.step() {
                sasl::server::Step::Challenge(challenge) => {
                    assert!(!challenge.is_final());
                    challenges.push(String::from_utf8(challenge.data().to_vec()).unwrap());
                    challenge.respond(later.next().unwrap());
                }
                sasl::server::Step::Query(query) => host(query),
                sasl::server::Step::Done(outcome) => return (challenges, outcome.cloned()),
            }
        }
    }
    let command = match initial {
        None => OWN.name().to_owned(),
        Some("") => format!("{OWN} ="),
        Some(text) => format!("{OWN} {}", base64(text)),
    };
    let mut out = Vec::new();
    let outcome = if door == Door::Auth {
        let mut exchange =
            auth::server::Exchange::new(&config, &Channel::tls(), command.as_bytes());
        loop {
            match exchange.step(&mut out) {
                auth::server::Step::NeedLine(slot) => {
                    slot.line(base64(later.next().unwrap()).as_bytes());
                }
                auth::server::Step::Query(query) => host(query),
                auth::server::Step::Done(outcome) => break outcome.cloned(),
            }
        }
    } else {
        let mut session = server::Session::new(
            server::Config::builder("mail.example.org").sasl(config).build().unwrap().into(),
        );
        session.tls_started(Channel::tls());
        session.receive(b"EHLO c\r\n");
        while !matches!(session.next(&mut Vec::new()), server::Event::NeedInput) {}
        session.receive(format!("AUTH {command}\r\n").as_bytes());
        loop {
            match session.next(&mut out) {
                server::Event::NeedInput => {
                    session.receive(format!("{}\r\n", base64(later.next().unwrap())).as_bytes());
                }
                server::Event::Query(query) => host(query),
                server::Event::Authenticated(identity) => break Ok(identity.clone()),
                server::Event::AuthFailed(failed) => break Err(failed.why),
                other => panic!("{other:?}"),
            }
        }
    };
    let mut reply = Vec::new();
    match outcome {
        Ok(_) => Reply::AUTHENTICATED.write(&mut reply),
        Err(failure) => reply_to(failure).write(&mut reply),
    }
    let said = String::from_utf8(out.strip_suffix(&reply[..]).unwrap().to_vec()).unwrap();
    for line in said.lines() {
        let challenge = STANDARD.decode(line.strip_prefix("334 ").unwrap()).unwrap();
        challenges.push(String::from_utf8(challenge).unwrap());
    }
    (challenges, outcome)
}

/// The same with a host that only says these, one to each response; and the responses.
fn dialogue(
    door: Door,
    said: &[Option<&str>],
    answers: &[CustomAnswer],
) -> (Vec<Option<String>>, Vec<String>, Outcome) {
    let (mut seen, mut answers) = (Vec::new(), answers.iter().cloned());
    let (challenges, outcome) = serve(door, said, |query| {
        let Query::Custom(ask) = query else { panic!("{query:?}") };
        assert_eq!(ask.mechanism(), OWN);
        seen.push(ask.response().map(|octets| String::from_utf8(octets.to_vec()).unwrap()));
        ask.answer(answers.next().unwrap());
    });
    (seen, challenges, outcome)
}

#[test]
fn an_initial_response_is_there_or_not_or_empty() {
    for door in DOORS {
        for (initial, expected) in [(Some("tim"), Some("tim")), (None, None), (Some(""), Some(""))]
        {
            let (seen, challenges, outcome) = dialogue(door, &[initial], &[accept("tim", None)]);
            assert_eq!(seen, [expected.map(str::to_owned)], "{door:?}");
            assert!(challenges.is_empty());
            let who = outcome.unwrap();
            assert_eq!((who.authcid(), who.authzid(), who.mechanism()), ("tim", None, OWN));
        }
        // A mechanism in which the client begins asks for what was left out.
        let answers = [challenge(""), accept("tim", None)];
        let (seen, challenges, outcome) = dialogue(door, &[None, Some("tim")], &answers);
        assert_eq!(seen, [None, Some("tim".to_owned())], "{door:?}");
        assert_eq!(challenges, [""]);
        assert!(outcome.is_ok());
        // One in which the server begins refuses what it has not asked for.
        let answers = [CustomAnswer::Fail(Failure::UnexpectedInitialResponse)];
        let (_, _, outcome) = dialogue(door, &[Some("tim")], &answers);
        assert_eq!(outcome, Err(Failure::UnexpectedInitialResponse));
    }
}

#[test]
fn a_second_answer_replaces_the_first() {
    for door in DOORS {
        let (_, outcome) = serve(door, &[None], |query| {
            let Query::Custom(ask) = query else { panic!("{query:?}") };
            ask.answer(accept("tim", None));
            ask.answer(CustomAnswer::Fail(Failure::Rejected));
        });
        assert_eq!(outcome, Err(Failure::Rejected), "{door:?}");
    }
}

#[test]
fn an_application_that_does_not_implement_it_says_so() {
    struct Nobody;
    impl Authenticator for Nobody {
        fn mechanisms(&self) -> &[Mechanism] {
            Mechanism::COMPILED
        }
    }
    for door in DOORS {
        assert_eq!(serve(door, &[None], |query| query.reject()).1, Err(Failure::Rejected));
        assert_eq!(
            serve(door, &[None], |query| query.not_implemented()).1,
            Err(Failure::NotImplemented("X-OWN_2"))
        );
        assert_eq!(
            serve(door, &[None], |query| query.answer_with(&Nobody)).1,
            Err(Failure::NotImplemented("X-OWN_2"))
        );
    }
}

// ---- both sides ----

/// A mechanism of three rounds: the names, then a word each time, in capitals.
#[derive(Default)]
struct ThreeRounds {
    names: Option<(String, String)>,
    rounds: u8,
}

impl ServerMechanism for ThreeRounds {
    fn step(&mut self, response: Option<&[u8]>) -> CustomAnswer {
        let Some(response) = response else { return challenge("") };
        let text = String::from_utf8(response.to_vec()).unwrap();
        let Some((authzid, authcid)) = &self.names else {
            let Some((authzid, authcid)) = text.split_once('\0') else {
                return CustomAnswer::Fail(Failure::Malformed("there is no NUL"));
            };
            self.names = Some((authzid.to_owned(), authcid.to_owned()));
            return challenge("one");
        };
        self.rounds += 1;
        match (self.rounds, text.as_str()) {
            (1, "ONE") => challenge("two"),
            (2, "TWO") => accept(authcid, Some(authzid.as_str()).filter(|name| !name.is_empty())),
            _ => CustomAnswer::Fail(Failure::Rejected),
        }
    }
}

/// The client of it. It knows one word or both, and has its names sent at once or when asked.
#[derive(Clone, Copy)]
struct Words {
    authzid: &'static str,
    knows: &'static [&'static str],
    waits: bool,
}

impl ClientMechanism for Words {
    fn step(&mut self, challenge: Option<&[u8]>) -> CustomResponse {
        let names = respond(&format!("{}\0tim", self.authzid));
        match challenge {
            None if self.waits => CustomResponse::NoInitialResponse,
            None | Some(b"") => names,
            Some(b"one") if self.knows.contains(&"one") => respond("ONE"),
            Some(b"two") if self.knows.contains(&"two") => complete("TWO"),
            Some(_) => complete("?"),
        }
    }
}

/// Tim may act as Ursel. What is asked is counted.
#[derive(Default)]
struct Users {
    authorized: Mutex<Vec<String>>,
}

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn custom(&self, ask: &mut Custom) -> CustomAnswer {
        ask.step_with(ThreeRounds::default)
    }

    fn authorize(&self, ask: &Authorize) -> Answer {
        assert_eq!((ask.authcid(), ask.mechanism()), ("tim", OWN));
        self.authorized.lock().unwrap().push(ask.authzid().to_owned());
        match ask.authzid() {
            "Ursel" => Answer::accept(()),
            "later" => Answer::temp_fail(),
            _ => Answer::reject(),
        }
    }
}

/// Both outcomes by this door, the client's as whether it is signed in.
fn pair(door: Door, words: Words, withhold: bool, users: &Users) -> (Outcome, bool) {
    match door {
        Door::Sasl => pair_sasl(words, users),
        Door::Auth => pair_auth(words, withhold, users),
        Door::Session => pair_session(words, withhold, users),
    }
}

fn step_with(ask: &mut sasl::client::Challenge, words: Words) {
    let answer = ask.step_with(|| words);
    ask.answer(answer);
}

fn response(exchange: &mut sasl::client::Exchange, words: Words) -> &mut sasl::client::Response {
    if let sasl::client::Step::Challenge(ask) = exchange.step() {
        step_with(ask, words);
    }
    match exchange.step() {
        sasl::client::Step::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

fn pair_sasl(words: Words, users: &Users) -> (Outcome, bool) {
    let credentials = Credentials::custom(OWN);
    let mut client =
        sasl::client::Exchange::new(&client_config(), &Channel::tls(), OWN, credentials);
    let initial = response(&mut client, words).data().map(<[u8]>::to_vec);
    let channel = Channel::tls();
    let mut server = sasl::server::Exchange::new(&server_config(), &channel, OWN, initial);
    let outcome = loop {
        match server.step() {
            sasl::server::Step::Challenge(challenge) => {
                response(&mut client, words).challenge(challenge.data());
                challenge.respond(response(&mut client, words).data().unwrap());
            }
            sasl::server::Step::Query(query) => query.answer_with(users),
            sasl::server::Step::Done(outcome) => break outcome.cloned(),
        }
    };
    match outcome {
        Ok(_) => response(&mut client, words).success(),
        Err(_) => response(&mut client, words).refused(),
    }
    let sasl::client::Step::Done(end) = client.step() else { panic!() };
    (outcome, end.is_ok())
}

fn pair_auth(words: Words, withhold: bool, users: &Users) -> (Outcome, bool) {
    let credentials = Credentials::custom(OWN);
    let mut client =
        auth::client::Exchange::new(&client_config(), &Channel::tls(), OWN, credentials);
    if withhold {
        client = client.without_initial_response();
    }
    let (mut server, mut up) = (None, Vec::new());
    let mut outcome = None;
    loop {
        let slot = match client.step(&mut up) {
            auth::client::Step::Challenge(ask) => {
                step_with(ask, words);
                continue;
            }
            auth::client::Step::NeedReply(slot) => slot,
            auth::client::Step::Derive(_) => panic!(),
            auth::client::Step::Done(end) => return (outcome.unwrap(), end.is_ok()),
        };
        let line = up.strip_suffix(b"\r\n").unwrap();
        let server = match &mut server {
            Some(server) => {
                let auth::server::Step::NeedLine(slot) =
                    auth::server::Exchange::step(server, &mut Vec::new())
                else {
                    panic!()
                };
                slot.line(line);
                server
            }
            none => none.insert(auth::server::Exchange::new(
                &server_config(),
                &Channel::tls(),
                line.strip_prefix(b"AUTH ").unwrap(),
            )),
        };
        let mut down = Vec::new();
        loop {
            match server.step(&mut down) {
                auth::server::Step::NeedLine(_) => break,
                auth::server::Step::Query(query) => query.answer_with(users),
                auth::server::Step::Done(end) => {
                    outcome = Some(end.cloned());
                    break;
                }
            }
        }
        slot.reply(ReplyRef::parse(&down).unwrap());
        up.clear();
    }
}

fn pair_session(words: Words, withhold: bool, users: &Users) -> (Outcome, bool) {
    let mut server = server::Session::new(
        server::Config::builder("mail.example.org").sasl(server_config()).build().unwrap().into(),
    );
    let config = client::Config::builder("c").sasl(client_config()).initial_response(!withhold);
    let mut client = client::Session::new(config.build().unwrap().into(), Credentials::custom(OWN));
    server.tls_started(Channel::tls());
    client.tls_started(Channel::tls());
    let (mut up, mut down, mut outcome) = (Vec::new(), Vec::new(), None);
    loop {
        match client.next(&mut up).unwrap() {
            client::Event::NeedInput => {}
            client::Event::Challenge(ask) => {
                step_with(ask, words);
                continue;
            }
            client::Event::AuthFailed(failed) => {
                failed.quit();
                continue;
            }
            client::Event::Ready(ready) => {
                ready.quit();
                continue;
            }
            client::Event::Close => break,
            other => panic!("{other:?}"),
        }
        server.receive(&up);
        up.clear();
        loop {
            match server.next(&mut down) {
                server::Event::NeedInput | server::Event::Close => break,
                server::Event::Hello(_) => {}
                server::Event::Query(query) => query.answer_with(users),
                server::Event::Authenticated(identity) => outcome = Some(Ok(identity.clone())),
                server::Event::AuthFailed(failed) => outcome = Some(Err(failed.why)),
                other => panic!("{other:?}"),
            }
        }
        client.receive(&down);
        down.clear();
    }
    assert_eq!(client.authenticated().is_some(), server.identity().is_some());
    (outcome.unwrap(), client.authenticated() == Some(OWN))
}

#[test]
fn three_rounds_by_each_door() {
    for door in DOORS {
        for (waits, withhold) in [(false, false), (true, false), (false, true)] {
            let run = |authzid, knows: &'static [&'static str]| {
                let users = Users::default();
                let words = Words { authzid, knows, waits };
                let (outcome, signed_in) = pair(door, words, withhold, &users);
                assert_eq!(outcome.is_ok(), signed_in, "{door:?}");
                (outcome, users.authorized.into_inner().unwrap())
            };
            let (outcome, asked) = run("", &["one", "two"]);
            let who = outcome.unwrap();
            assert_eq!((who.authcid(), who.authzid(), who.mechanism()), ("tim", None, OWN));
            assert!(asked.is_empty());
            for knows in [&["two"][..], &["one"], &[]] {
                let (outcome, asked) = run("Ursel", knows);
                assert_eq!(outcome, Err(Failure::Rejected), "{door:?} {knows:?}");
                assert!(asked.is_empty(), "who is not proven is not authorized");
            }
        }
    }
}

#[test]
fn authorize_stands_behind_it() {
    for door in DOORS {
        for (authzid, expected, asked) in [
            ("Ursel", Ok(("tim", Some("Ursel"))), &["Ursel"][..]),
            ("ann", Err(Failure::NotAuthorized), &["ann"]),
            ("later", Err(Failure::TempFail), &["later"]),
            ("tim", Ok(("tim", None)), &[]),
        ] {
            let users = Users::default();
            let words = Words { authzid, knows: &["one", "two"], waits: false };
            let (outcome, signed_in) = pair(door, words, false, &users);
            assert_eq!(signed_in, expected.is_ok(), "{door:?} {authzid}");
            let found = outcome.as_ref().map(|who| (who.authcid(), who.authzid()));
            assert_eq!(found.map_err(|why| *why), expected, "{door:?}");
            assert_eq!(*users.authorized.lock().unwrap(), asked);
        }
    }
}

// ---- the server ----

/// A store that takes its time, on a thread of its own: what a question needs goes there with the
/// question's serial, and comes back with it.
struct Store {
    jobs: mpsc::Sender<(u64, String)>,
    results: mpsc::Receiver<(u64, bool)>,
}

impl Store {
    fn new() -> Self {
        let (jobs, taken) = mpsc::channel::<(u64, String)>();
        let (done, results) = mpsc::channel();
        thread::spawn(move || {
            for (serial, code) in taken {
                // A store that is asked again because of a time-out may also answer twice.
                for _ in 0..2 {
                    if done.send((serial, code == "first" || code == "second")).is_err() {
                        return;
                    }
                }
            }
        });
        Self { jobs, results }
    }
}

/// What the host remembers from round to round: how many codes were good.
struct GoodCodes(u8);

fn settle(ask: &mut Custom, good: bool) {
    let count = ask.state().as_mut().and_then(|state| state.downcast_mut::<GoodCodes>()).unwrap();
    count.0 += 1;
    let answer = match (good, count.0) {
        (false, _) => CustomAnswer::Fail(Failure::Rejected),
        (true, 1) => challenge("next"),
        (true, _) => accept("tim", None),
    };
    ask.answer(answer);
}

#[test]
fn an_answer_may_come_later() {
    for door in DOORS {
        for (said, signed_in) in
            [(["first", "second"], true), (["first", "third"], false), (["zeroth", ""], false)]
        {
            let store = Store::new();
            let (mut under_way, mut serials, mut shown) = (None, Vec::new(), 0);
            let (challenges, outcome) = serve(door, &said.map(Some), |query| {
                shown += 1;
                let serial = query.serial();
                let Query::Custom(ask) = query else { panic!("{query:?}") };
                if under_way != Some(serial) {
                    under_way = Some(serial);
                    serials.push(serial);
                    ask.state().get_or_insert_with(|| Box::new(GoodCodes(0)));
                    let code = String::from_utf8(ask.response().unwrap().to_vec()).unwrap();
                    store.jobs.send((serial, code)).unwrap();
                    // Left as it is, the question is shown again.
                    return;
                }
                // A result of a question that is settled is dropped.
                match store.results.recv().unwrap() {
                    (of, good) if of == serial => settle(ask, good),
                    _ => {}
                }
            });
            assert_eq!(outcome.is_ok(), signed_in, "{door:?} {said:?}");
            let rounds = if said[0] == "first" { 2 } else { 1 };
            assert_eq!(challenges.len(), rounds - 1);
            assert_eq!(serials.len(), rounds);
            // Twice in the first round; in the second there is also the late result of the first.
            assert_eq!(shown, [2, 5][rounds - 1], "{door:?} {said:?}");
            assert!(serials.is_sorted() && (rounds == 1 || serials[0] != serials[1]));
        }
    }
}

#[test]
fn each_failure_has_its_reply() {
    for (failure, reply, attempt) in [
        (Failure::Syntax, "501 5.5.4", false),
        (Failure::Unsupported, "504 5.5.4", false),
        (Failure::NeedsTls, "538 5.7.11", false),
        (Failure::UnexpectedInitialResponse, "501 5.7.0", false),
        (Failure::InitialResponseEncoding, "501 5.5.2", false),
        (Failure::Cancelled, "501 5.7.0", true),
        (Failure::Encoding, "501 5.5.2", true),
        (Failure::TooLong, "500 5.5.6", true),
        (Failure::Malformed("what it is"), "535 5.7.8 Malformed credentials: what it is", true),
        (Failure::Rejected, "535 5.7.8", true),
        (Failure::Downgrade, "535 5.7.8", true),
        (Failure::ChannelBinding, "535 5.7.8", true),
        (Failure::NotAuthorized, "535 5.7.8", true),
        (Failure::TempFail, "454 4.7.0", false),
        (Failure::TransitionNeeded, "432 4.7.12", false),
        (Failure::TooWeak, "534 5.7.9", false),
    ] {
        for door in DOORS {
            let answers = [challenge("go on"), CustomAnswer::Fail(failure)];
            let (_, challenges, outcome) = dialogue(door, &[None, Some("x")], &answers);
            assert_eq!((challenges, outcome), (vec!["go on".to_owned()], Err(failure)));
        }
        let said = reply_to(failure).to_string();
        assert!(said.starts_with(reply), "{said}");
        assert_eq!(failure.is_attempt(), attempt, "{said}");
    }
}

#[test]
fn no_words_of_a_failure_break_the_reply() {
    let failure = CustomAnswer::Fail(Failure::Malformed("a\r\n235 2.7.0 b\u{7}"));
    let said = session(offering(&[OWN]), Channel::tls(), "EHLO c\r\nAUTH X-OWN_2\r\n", &failure);
    let reply = "535-5.7.8 Malformed credentials: a?\r\n535 5.7.8 235 2.7.0 b?\r\n";
    assert!(said.ends_with(&format!("250 AUTH X-OWN_2\r\n{reply}")), "{said}");
}

#[test]
fn nobody_has_a_name_with_control_characters() {
    let bad = ["", "t\0m", "tim\r\n", "\ttim", "t\u{7f}m", "t\u{85}m"];
    for door in DOORS {
        for name in bad {
            for answer in [accept(name, None), accept("tim", Some(name)), accept(name, Some(name))]
            {
                let (_, _, outcome) = dialogue(door, &[None], &[answer]);
                assert!(matches!(outcome, Err(Failure::Malformed(_))), "{door:?} {name:?}");
            }
        }
    }
}

#[test]
fn a_mechanism_without_end_is_ended() {
    for door in DOORS {
        let (seen, challenges, outcome) =
            dialogue(door, &[Some("x"); 30], &vec![challenge("more"); 30]);
        assert_eq!((seen.len(), challenges.len()), (21, 21), "{door:?}");
        assert!(matches!(outcome, Err(Failure::Malformed(_))));
        // The last answer counts.
        let mut answers = vec![challenge("more"); 20];
        answers.push(accept("tim", None));
        assert!(dialogue(door, &[Some("x"); 30], &answers).2.is_ok());
    }
}

#[test]
fn the_state_goes_with_the_exchange() {
    let config = server_config();
    let begin = |state: &Arc<()>| {
        let mut exchange = sasl::server::Exchange::new(&config, &Channel::tls(), OWN, None);
        let sasl::server::Step::Query(Query::Custom(ask)) = exchange.step() else { panic!() };
        assert!(ask.state().is_none());
        *ask.state() = Some(Box::new(Arc::clone(state)));
        ask.answer(challenge("x"));
        exchange
    };
    let question = |exchange: &mut sasl::server::Exchange, answer: CustomAnswer| {
        let sasl::server::Step::Challenge(challenge) = exchange.step() else { panic!() };
        challenge.respond("y");
        let sasl::server::Step::Query(Query::Custom(ask)) = exchange.step() else { panic!() };
        assert!(ask.state().as_ref().is_some_and(|state| state.is::<Arc<()>>()));
        ask.answer(answer);
        let _ = exchange.step();
    };
    let state = Arc::new(());
    for (answer, left) in [
        (challenge("z"), 2),
        (accept("tim", None), 1),
        (accept("tim", Some("ann")), 1),
        (CustomAnswer::Fail(Failure::Rejected), 1),
    ] {
        let mut exchange = begin(&state);
        assert_eq!(Arc::strong_count(&state), 2);
        question(&mut exchange, answer);
        assert_eq!(Arc::strong_count(&state), left);
        drop(exchange);
        assert_eq!(Arc::strong_count(&state), 1);
    }
    let mut cancelled = begin(&state);
    let sasl::server::Step::Challenge(challenge) = cancelled.step() else { panic!() };
    challenge.cancel();
    assert!(matches!(cancelled.step(), sasl::server::Step::Done(Err(Failure::Cancelled))));
    assert_eq!(Arc::strong_count(&state), 1);
}

#[test]
fn a_state_of_another_mechanism_is_made_anew() {
    let mut exchange = sasl::server::Exchange::new(&server_config(), &Channel::tls(), OWN, None);
    let sasl::server::Step::Query(Query::Custom(ask)) = exchange.step() else { panic!() };
    *ask.state() = Some(Box::new("another"));
    assert_eq!(ask.step_with(ThreeRounds::default), challenge(""));
    assert!(ask.state().as_ref().is_some_and(|state| state.is::<ThreeRounds>()));
}

// ---- names, and what is offered ----

#[test]
fn names() {
    for name in ["A", "9", "-", "_", "SECURID", "X-OWN_2", "ABCDEFGHIJ0123456789", "PLAIN2", "PLAI"]
    {
        let mechanism = Mechanism::custom(name).unwrap();
        assert_eq!((mechanism.name(), mechanism.to_string().as_str()), (name, name));
        assert!(mechanism.is_compiled() && mechanism.needs_tls() && mechanism.reads_challenge());
        assert!(!mechanism.takes_password() && !mechanism.takes_token());
        assert!(!mechanism.binds_channel());
        assert_eq!(Mechanism::from_name(name), None);
        assert_eq!(Mechanism::custom(name), Ok(mechanism));
        assert_eq!(mechanism == OWN, name == OWN.name());
    }
    for name in
        ["", "ABCDEFGHIJ01234567890", "plain", "X-own", "X OWN", "X.OWN", "X\0", "Ä", "X=", "*"]
    {
        assert_eq!(Mechanism::custom(name), Err(ConfigError::MechanismName), "{name:?}");
    }
    // Whether they are compiled in or not.
    for name in [
        "SCRAM-SHA-512-PLUS",
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-512",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "CRAM-MD5",
        "PLAIN",
        "LOGIN",
        "OAUTHBEARER",
        "XOAUTH2",
        "EXTERNAL",
        "ANONYMOUS",
    ] {
        assert!(Mechanism::from_name(name).is_some());
        assert_eq!(Mechanism::custom(name), Err(ConfigError::MechanismName), "{name}");
    }
}

/// What a server says to these octets, behind its greeting; its host answers with this.
fn session(
    sasl: sasl::server::Builder,
    channel: Channel,
    octets: &str,
    answer: &CustomAnswer,
) -> String {
    let mut session = server::Session::new(
        server::Config::builder("mail.example.org")
            .sasl(sasl.build().unwrap())
            .keywords([])
            .build()
            .unwrap()
            .into(),
    );
    session.tls_started(channel);
    let mut out = Vec::new();
    session.receive(octets.as_bytes());
    loop {
        match session.next(&mut out) {
            server::Event::NeedInput | server::Event::Close => break,
            server::Event::Query(Query::Custom(ask)) => ask.answer(answer.clone()),
            server::Event::Query(other) => other.reject(),
            _ => {}
        }
    }
    let out = String::from_utf8(out).unwrap();
    out.strip_prefix("220 mail.example.org ESMTP ready\r\n").unwrap().to_owned()
}

fn offering(mechanisms: &[Mechanism]) -> sasl::server::Builder {
    sasl::server::Config::builder("mail.example.org").mechanisms(mechanisms)
}

#[test]
fn it_is_offered_only_where_it_is_listed() {
    let tim = accept("tim", None);
    let default = || offering(Mechanism::COMPILED);
    let auth = "EHLO c\r\nAUTH X-OWN_2 eA==\r\n";
    let said = session(default(), Channel::tls(), auth, &tim);
    assert!(
        !said.contains("X-OWN_2")
            && said.ends_with("504 5.5.4 This mechanism is not offered here\r\n")
    );
    let said = session(offering(&[OWN]), Channel::tls(), auth, &tim);
    assert!(said.contains("250 AUTH X-OWN_2\r\n235 2.7.0 "), "{said}");
    let other = Mechanism::custom("X-OTHER").unwrap();
    let said = session(offering(&[other, OWN]), Channel::tls(), "EHLO c\r\nauth x-own_2\r\n", &tim);
    assert!(said.contains("250 AUTH X-OTHER X-OWN_2\r\n235 2.7.0 "), "{said}");
    // It does not bind to the connection.
    let bound = offering(&[OWN, Mechanism::ScramSha256]);
    let said = session(bound.channel_binding(BindingPolicy::Required), Channel::tls(), auth, &tim);
    assert!(!said.contains("X-OWN_2") && said.contains("\r\n504 5.5.4 "), "{said}");

    let begin = |config: sasl::server::Builder, mechanism| {
        let (config, channel) = (Arc::new(config.build().unwrap()), Channel::tls());
        let mut exchange = sasl::server::Exchange::new(&config, &channel, mechanism, None);
        match exchange.step() {
            sasl::server::Step::Done(outcome) => outcome.cloned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(begin(default(), OWN), Err(Failure::Unsupported));
    assert_eq!(begin(offering(&[OWN]), other), Err(Failure::Unsupported));
}

#[test]
fn it_needs_tls_unless_that_is_allowed() {
    let tim = accept("tim", None);
    let auth = "EHLO c\r\nAUTH X-OWN_2 eA==\r\n";
    let said = session(offering(&[OWN]), Channel::cleartext(), auth, &tim);
    assert!(!said.contains("X-OWN_2") && said.contains("\r\n538 5.7.11 "), "{said}");
    let allowed = offering(&[OWN]).allow_cleartext(true);
    let said = session(allowed, Channel::cleartext(), auth, &tim);
    assert!(said.contains(" AUTH X-OWN_2\r\n235 2.7.0 "), "{said}");
}

#[test]
fn who_guesses_is_cut_off() {
    let mut session = server::Session::new(
        server::Config::builder("mail.example.org")
            .sasl(server_config())
            .max_attempts(3)
            .build()
            .unwrap()
            .into(),
    );
    session.tls_started(Channel::tls());
    let mut out = Vec::new();
    session.receive(b"EHLO c\r\n");
    session.receive("AUTH X-OWN_2 eA==\r\n".repeat(4).as_bytes());
    loop {
        match session.next(&mut out) {
            server::Event::Query(query) => query.reject(),
            server::Event::Close => break,
            server::Event::NeedInput => panic!("{}", out.escape_ascii()),
            _ => {}
        }
    }
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.matches("\r\n535 5.7.8 ").count(), 3);
    assert_eq!(out.lines().last().unwrap().get(..9), Some("421 4.7.0"));
}

// ---- the three doors of the client ----

/// What a client sends and is asked where its host says these in turn, and how it ends.
#[derive(Debug, PartialEq, Eq)]
struct Talk {
    sent: Vec<String>,
    seen: Vec<Option<String>>,
    end: Result<(), ClientFailure>,
}

struct Host<'a> {
    answers: std::slice::Iter<'a, CustomResponse>,
    seen: Vec<Option<String>>,
}

impl Host<'_> {
    fn answer(&mut self, ask: &mut sasl::client::Challenge) {
        assert_eq!(ask.mechanism(), OWN);
        self.seen.push(ask.data().map(|octets| String::from_utf8(octets.to_vec()).unwrap()));
        ask.answer(self.answers.next().unwrap().clone());
    }
}

fn talk(door: Door, answers: &[CustomResponse], replies: &[&str]) -> Talk {
    let mut host = Host { answers: answers.iter(), seen: Vec::new() };
    let mut replies = replies.iter().map(|reply| format!("{reply}\r\n"));
    let (sent, end) = match door {
        Door::Sasl => talk_sasl(&mut host, &mut replies),
        Door::Auth => talk_auth(&mut host, &mut replies),
        Door::Session => talk_session(&mut host, &mut replies),
    };
    assert_eq!(host.answers.next(), None, "{door:?}");
    Talk { sent, seen: host.seen, end }
}

type Replies<'a> = &'a mut dyn Iterator<Item = String>;

fn talk_sasl(
    host: &mut Host<'_>,
    replies: Replies<'_>,
) -> (Vec<String>, Result<(), ClientFailure>) {
    let credentials = Credentials::custom(OWN);
    let mut exchange =
        sasl::client::Exchange::new(&client_config(), &Channel::tls(), OWN, credentials);
    let mut sent = Vec::new();
    loop {
        match exchange.step() {
            sasl::client::Step::Challenge(ask) => host.answer(ask),
            sasl::client::Step::Response(response) => {
                // As it would stand on the lines of SMTP.
                let data = response.data().map(base64);
                sent.push(match (sent.is_empty(), data.as_deref()) {
                    (true, None) => format!("AUTH {OWN}"),
                    (true, Some("")) => format!("AUTH {OWN} ="),
                    (true, Some(data)) => format!("AUTH {OWN} {data}"),
                    (false, data) => data.unwrap().to_owned(),
                });
                let reply = replies.next().unwrap();
                match reply.strip_prefix("334 ") {
                    Some(text) => response.challenge(STANDARD.decode(text.trim_end()).unwrap()),
                    None if reply.starts_with("235") => response.success(),
                    None => response.refused(),
                }
            }
            sasl::client::Step::Done(end) => {
                if end.is_err_and(|why| {
                    !matches!(why, ClientFailure::Refused { .. } | ClientFailure::EarlySuccess)
                }) && !sent.is_empty()
                {
                    sent.push("*".into());
                    let _ = replies.next().unwrap();
                }
                return (sent, end);
            }
            sasl::client::Step::Derive(_) => panic!(),
        }
    }
}

fn lines(out: &[u8]) -> Vec<String> {
    String::from_utf8(out.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

fn talk_auth(
    host: &mut Host<'_>,
    replies: Replies<'_>,
) -> (Vec<String>, Result<(), ClientFailure>) {
    let credentials = Credentials::custom(OWN);
    let mut exchange =
        auth::client::Exchange::new(&client_config(), &Channel::tls(), OWN, credentials);
    let mut out = Vec::new();
    let end = loop {
        match exchange.step(&mut out) {
            auth::client::Step::Challenge(ask) => host.answer(ask),
            auth::client::Step::NeedReply(slot) => {
                slot.reply(ReplyRef::parse(replies.next().unwrap().as_bytes()).unwrap());
            }
            auth::client::Step::Done(end) => break end.map_err(Clone::clone),
            auth::client::Step::Derive(_) => panic!(),
        }
    };
    let end = end.map_err(|failure| match failure {
        auth::client::Failure::Refused { .. } => ClientFailure::Refused { after_proof: false },
        auth::client::Failure::Cancelled { why, .. }
        | auth::client::Failure::FalseSuccess(why)
        | auth::client::Failure::NotAllowed(why) => why,
        other => panic!("{other}"),
    });
    (lines(&out), end)
}

fn talk_session(
    host: &mut Host<'_>,
    replies: Replies<'_>,
) -> (Vec<String>, Result<(), ClientFailure>) {
    let config = client::Config::builder("c").sasl(client_config()).build().unwrap();
    let mut session = client::Session::new(config.into(), Credentials::custom(OWN));
    session.tls_started(Channel::tls());
    let greeting = ["220 x\r\n".to_owned(), "250-x\r\n250 AUTH X-OWN_2\r\n".to_owned()];
    let mut replies = greeting.into_iter().chain(replies);
    let mut out = Vec::new();
    let end = loop {
        match session.next(&mut out) {
            Err(client::Error::EarlySuccess) => break Err(ClientFailure::EarlySuccess),
            Err(error) => panic!("{error}"),
            Ok(client::Event::NeedInput) => session.receive(replies.next().unwrap().as_bytes()),
            Ok(client::Event::Challenge(ask)) => host.answer(ask),
            Ok(client::Event::AuthFailed(failed)) => {
                break Err(match failed.reason() {
                    client::AuthError::Refused(_) => ClientFailure::Refused { after_proof: false },
                    client::AuthError::NotBegun(why) | client::AuthError::Cancelled(why, _) => *why,
                    other => panic!("{other}"),
                });
            }
            Ok(client::Event::Ready(_)) => break Ok(()),
            Ok(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(session.authenticated().is_some(), end.is_ok());
    let mut sent = lines(&out);
    assert_eq!(sent.remove(0), "EHLO c");
    (sent, end)
}

/// The same by each door.
#[track_caller]
fn talks(
    answers: &[CustomResponse],
    replies: &[&str],
    sent: &[&str],
    seen: &[Option<&str>],
    end: Result<(), ClientFailure>,
) {
    for door in DOORS {
        let sent = sent.iter().map(|line| (*line).to_owned()).collect();
        let seen = seen.iter().map(|text| text.map(str::to_owned)).collect();
        assert_eq!(talk(door, answers, replies), Talk { sent, seen, end }, "{door:?}");
    }
}

#[test]
fn a_clients_initial_response_is_there_or_not_or_empty() {
    let ok = Ok(());
    talks(&[complete("x")], &["235 ok"], &["AUTH X-OWN_2 eA=="], &[None], ok);
    talks(&[complete("")], &["235 ok"], &["AUTH X-OWN_2 ="], &[None], ok);
    let sent = ["AUTH X-OWN_2", "eA=="];
    talks(
        &[CustomResponse::NoInitialResponse, complete("x")],
        &["334 ", "235 ok"],
        &sent,
        &[None, Some("")],
        ok,
    );
    talks(
        &[complete("x")],
        &["535 no"],
        &["AUTH X-OWN_2 eA=="],
        &[None],
        Err(ClientFailure::Refused { after_proof: false }),
    );
}

#[test]
fn waiting_behind_a_challenge_is_an_empty_response() {
    let answers =
        [CustomResponse::NoInitialResponse, CustomResponse::NoInitialResponse, complete("x")];
    let replies = ["334 b25l", "334 dHdv", "235 ok"];
    let seen = [None, Some("one"), Some("two")];
    talks(&answers, &replies, &["AUTH X-OWN_2", "", "eA=="], &seen, Ok(()));
}

#[test]
fn success_before_the_end_is_none() {
    let early = Err(ClientFailure::EarlySuccess);
    talks(&[respond("x")], &["235 ok"], &["AUTH X-OWN_2 eA=="], &[None], early);
    talks(&[CustomResponse::NoInitialResponse], &["235 ok"], &["AUTH X-OWN_2"], &[None], early);
    let sent = ["AUTH X-OWN_2 eA==", "eQ=="];
    let seen = [None, Some("one")];
    talks(&[respond("x"), respond("y")], &["334 b25l", "235 ok"], &sent, &seen, early);
    // What was the end is no more if a challenge follows.
    talks(&[complete("x"), respond("y")], &["334 b25l", "235 ok"], &sent, &seen, early);
    talks(&[complete("x"), complete("y")], &["334 b25l", "235 ok"], &sent, &seen, Ok(()));
}

#[test]
fn a_client_that_gives_up_cancels() {
    let gave_up = Err(ClientFailure::GaveUp);
    let sent = ["AUTH X-OWN_2 eA==", "*"];
    let seen = [None, Some("one")];
    for reply in ["501 cancelled", "535 no"] {
        let answers = [respond("x"), CustomResponse::Fail];
        talks(&answers, &["334 b25l", reply], &sent, &seen, gave_up);
    }
    // At the beginning nothing has been sent.
    talks(&[CustomResponse::Fail], &[], &[], &[None], gave_up);
}

#[test]
fn a_server_without_end_is_cancelled() {
    let mut replies = vec!["334 b25l"; 21];
    replies.push("501 cancelled");
    for door in DOORS {
        let talk = talk(door, &vec![respond("x"); 21], &replies);
        assert_eq!(talk.end, Err(ClientFailure::UnexpectedChallenge), "{door:?}");
        assert_eq!(talk.sent.len(), 22);
        assert_eq!(talk.sent.last().unwrap(), "*");
    }
    replies[20] = "235 ok";
    let mut answers = vec![respond("x"); 20];
    answers.push(complete("x"));
    for door in DOORS {
        assert_eq!(talk(door, &answers, &replies[..21]).end, Ok(()), "{door:?}");
    }
}

#[test]
fn a_challenge_that_is_none_is_not_shown() {
    for reply in ["334 ?", "334-b25l\r\n334 b25l"] {
        for door in [Door::Auth, Door::Session] {
            let talk = talk(door, &[respond("x")], &[reply, "501 cancelled"]);
            assert_eq!(talk.end, Err(ClientFailure::UnexpectedChallenge));
            assert_eq!((talk.sent[1].as_str(), talk.seen.len()), ("*", 1));
        }
    }
}

#[test]
fn a_long_initial_response_waits_to_be_asked_for() {
    let long = "x".repeat(400);
    for door in [Door::Auth, Door::Session] {
        let talk = talk(door, &[complete(&long)], &["334 ", "235 ok"]);
        assert_eq!(talk.sent, ["AUTH X-OWN_2".to_owned(), base64(&long)], "{door:?}");
        assert_eq!((talk.seen, talk.end), (vec![None], Ok(())));
    }
}

#[test]
fn a_challenge_is_shown_until_it_is_answered() {
    let config = client::Config::builder("c").sasl(client_config()).build().unwrap();
    let mut session = client::Session::new(config.into(), Credentials::custom(OWN));
    session.tls_started(Channel::tls());
    let mut out = Vec::new();
    for reply in ["220 x\r\n", "250-x\r\n250 AUTH X-OWN_2\r\n"] {
        assert!(matches!(session.next(&mut out), Ok(client::Event::NeedInput)));
        session.receive(reply.as_bytes());
    }
    out.clear();
    for _ in 0..3 {
        let Ok(client::Event::Challenge(ask)) = session.next(&mut out) else { panic!() };
        let count = ask.state().get_or_insert_with(|| Box::new(0_u8));
        *count.downcast_mut::<u8>().unwrap() += 1;
    }
    assert!(out.is_empty());
    let Ok(client::Event::Challenge(ask)) = session.next(&mut out) else { panic!() };
    let count = ask.state().as_ref().and_then(|count| count.downcast_ref());
    assert_eq!(count, Some(&3_u8));
    ask.fail();
    ask.answer(respond("x"));
    assert!(matches!(session.next(&mut out), Ok(client::Event::NeedInput)));
    assert_eq!(lines(&out), ["AUTH X-OWN_2 eA=="]);
    // What comes behind it before its answer is sent is no reply to that.
    session.receive(b"334 b25l\r\n235 ok\r\n");
    let Ok(client::Event::Challenge(ask)) = session.next(&mut out) else { panic!() };
    ask.answer(complete("y"));
    let end = session.next(&mut out).map(|_| ());
    assert_eq!(end, Err(client::Error::Unsolicited(client::Step::Auth)));
}

#[test]
fn the_clients_state_goes_with_the_exchange() {
    let begin = |state: &Arc<()>, answer: CustomResponse| {
        let credentials = Credentials::custom(OWN);
        let mut exchange =
            sasl::client::Exchange::new(&client_config(), &Channel::tls(), OWN, credentials);
        let sasl::client::Step::Challenge(ask) = exchange.step() else { panic!() };
        assert!(ask.state().is_none());
        *ask.state() = Some(Box::new(Arc::clone(state)));
        ask.answer(answer);
        exchange
    };
    let state = Arc::new(());
    type Settle = fn(&mut sasl::client::Response);
    let settles: [(Settle, usize); 3] = [
        (|response| response.challenge("y"), 2),
        (|response| response.success(), 1),
        (|response| response.refused(), 1),
    ];
    for (settle, left) in settles {
        let mut exchange = begin(&state, complete("x"));
        let sasl::client::Step::Response(response) = exchange.step() else { panic!() };
        settle(response);
        if let sasl::client::Step::Challenge(ask) = exchange.step() {
            assert!(ask.state().as_ref().is_some_and(|state| state.is::<Arc<()>>()));
        }
        assert_eq!(Arc::strong_count(&state), left);
        drop(exchange);
        assert_eq!(Arc::strong_count(&state), 1);
    }
    let mut failed = begin(&state, CustomResponse::Fail);
    let end = failed.step();
    assert!(matches!(end, sasl::client::Step::Done(Err(ClientFailure::GaveUp))));
    assert_eq!(Arc::strong_count(&state), 1);
}

// ---- what a client chooses ----

/// What a client says to a server that offers these, or why it says nothing.
fn choice(
    sasl: sasl::client::Config,
    credentials: Credentials,
    channel: Channel,
    offered: &str,
) -> Result<String, NoMechanism> {
    let config = client::Config::builder("c").sasl(sasl).tls(client::Tls::Never).build().unwrap();
    let mut session = client::Session::new(config.into(), credentials);
    session.tls_started(channel);
    let mut out = Vec::new();
    for reply in ["220 x\r\n".to_owned(), format!("250-x\r\n250 {offered}\r\n")] {
        assert!(matches!(session.next(&mut out), Ok(client::Event::NeedInput)));
        session.receive(reply.as_bytes());
    }
    loop {
        match session.next(&mut out).unwrap() {
            client::Event::Challenge(ask) => ask.answer(complete("x")),
            client::Event::AuthFailed(failed) => match failed.reason() {
                client::AuthError::NoMechanism(why) => return Err(*why),
                other => panic!("{other}"),
            },
            _ => return Ok(lines(&out).pop().unwrap()),
        }
    }
}

#[test]
fn a_client_reads_it_from_ehlo() {
    let own = || Credentials::custom(OWN);
    let chosen = Ok("AUTH X-OWN_2 eA==".to_owned());
    for offered in ["AUTH X-OWN_2", "auth PLAIN x-own_2 X-ELSE"] {
        assert_eq!(choice(client_config(), own(), Channel::tls(), offered), chosen);
    }
    let none = choice(client_config(), own(), Channel::tls(), "AUTH PLAIN LOGIN");
    assert_eq!(none, Err(NoMechanism::InCommon));
    // Where it is not listed it is not used.
    let none = choice(Default::default(), own(), Channel::tls(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::InCommon));
    let other = Mechanism::custom("X-OTHER").unwrap();
    let none = choice(client_config(), Credentials::custom(other), Channel::tls(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::OtherCredentials));
    // The name of the other account is the mechanism's own to carry.
    let acting = own().acting_as("ann").unwrap();
    let none = choice(client_config(), acting, Channel::tls(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::ActingAs));
    let bound = own_client().mechanisms([OWN, Mechanism::ScramSha256]);
    let bound = bound.channel_binding(BindingPolicy::Required).build().unwrap();
    let none = choice(bound, own(), Channel::tls(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::WithoutBinding));
}

#[test]
fn a_client_wants_tls_for_it() {
    let none =
        choice(client_config(), Credentials::custom(OWN), Channel::cleartext(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::WithoutTls));
    let config = own_client().allow_cleartext(true).build().unwrap();
    let chosen = choice(config, Credentials::custom(OWN), Channel::cleartext(), "AUTH X-OWN_2");
    assert_eq!(chosen, Ok("AUTH X-OWN_2 eA==".to_owned()));

    let credentials = Credentials::custom(OWN);
    let channel = Channel::cleartext();
    let mut exchange = sasl::client::Exchange::new(&client_config(), &channel, OWN, credentials);
    let end = exchange.step();
    assert!(matches!(end, sasl::client::Step::Done(Err(ClientFailure::NeedsTls))));
}

#[test]
#[cfg(feature = "plain")]
fn a_password_is_not_for_it() {
    let tim = || Credentials::password("tim", "tanstaaf").unwrap();
    let config =
        || sasl::client::Config::builder().mechanisms([OWN, Mechanism::Plain]).build().unwrap();
    let chosen = choice(config(), tim(), Channel::tls(), "AUTH X-OWN_2 PLAIN").unwrap();
    assert!(chosen.starts_with("AUTH PLAIN "), "{chosen}");
    let none = choice(config(), tim(), Channel::tls(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::OtherCredentials));
    // Nor is it tried by name.
    let mut exchange = sasl::client::Exchange::new(&config(), &Channel::tls(), OWN, tim());
    let end = exchange.step();
    assert!(matches!(end, sasl::client::Step::Done(Err(ClientFailure::Unsupported))));
    let own = Credentials::custom(OWN);
    let plain = Mechanism::Plain;
    let mut exchange = sasl::client::Exchange::new(&config(), &Channel::tls(), plain, own);
    let end = exchange.step();
    assert!(matches!(end, sasl::client::Step::Done(Err(ClientFailure::Unsupported))));
}

// ---- what must not be seen ----

#[test]
fn what_is_secret_is_not_shown() {
    let secret = "tanstaaf";
    let octets = format!("{:?}", secret.as_bytes());
    let forms = [secret, octets.trim_matches(['[', ']']), &base64(secret)].map(str::to_owned);
    let hidden =
        move |shown: &str| assert!(!forms.iter().any(|form| shown.contains(form)), "{shown}");
    for response in [respond(secret), complete(secret)] {
        hidden(&format!("{response:?}"));
        let mut exchange = sasl::client::Exchange::new(
            &client_config(),
            &Channel::tls(),
            OWN,
            Credentials::custom(OWN),
        );
        let sasl::client::Step::Challenge(ask) = exchange.step() else { panic!() };
        *ask.state() = Some(Box::new(secret));
        ask.answer(response);
        hidden(&format!("{ask:?}"));
        hidden(&format!("{exchange:?}"));
        let shown = format!("{:?}", exchange.step());
        hidden(&shown);
        hidden(&format!("{exchange:?}"));
    }
    let (_, _) = serve(Door::Sasl, &[Some(secret), Some(secret)], |query| {
        hidden(&format!("{query:?}"));
        let Query::Custom(ask) = query else { panic!() };
        let first = ask.state().replace(Box::new(secret)).is_none();
        hidden(&format!("{ask:?}"));
        ask.answer(if first { challenge("") } else { accept("tim", None) });
    });
    let trace = Arc::new(Mutex::new(String::new()));
    let hook = Arc::clone(&trace);
    let mut session = server::Session::new(
        server::Config::builder("mail.example.org").sasl(server_config()).build().unwrap().into(),
    );
    session.tls_started(Channel::tls());
    session.trace(move |_, line| hook.lock().unwrap().push_str(line));
    let response = base64(secret);
    session.receive(format!("EHLO c\r\nAUTH X-OWN_2 {response}\r\n{response}\r\n").as_bytes());
    let mut answers = vec![accept("tim", None), challenge("more")];
    loop {
        let mut out = Vec::new();
        match session.next(&mut out) {
            server::Event::NeedInput => break,
            server::Event::Query(Query::Custom(ask)) => ask.answer(answers.pop().unwrap()),
            _ => {}
        }
    }
    assert!(session.identity().is_some() && trace.lock().unwrap().contains("AUTH"));
    hidden(&trace.lock().unwrap());
}
