//! Both sides, through three rounds.

use super::*;

/// The client of [`ThreeRounds`]. It knows one word or both, and has its names sent at once or when asked.
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

    fn authorize(&self, ask: &Authorize) -> AuthorizeAnswer {
        assert_eq!((ask.authcid(), ask.mechanism()), ("tim", OWN));
        self.authorized.lock().unwrap().push(ask.authzid().unwrap().to_owned());
        match ask.authzid() {
            Some("Ursel") => AuthorizeAnswer::Accept,
            Some("later") => AuthorizeAnswer::TempFail,
            _ => AuthorizeAnswer::Reject,
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

fn step_with(ask: &mut sasl::client::Custom, words: Words) {
    let answer = ask.step_with(|| words);
    ask.answer(answer);
}

fn response(exchange: &mut sasl::client::Exchange, words: Words) -> &mut sasl::client::Response {
    if let sasl::client::Step::Custom(ask) = exchange.step() {
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
            auth::client::Step::Custom(ask) => {
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
            client::Event::Custom(ask) => {
                step_with(ask, words);
                continue;
            }
            client::Event::NotAuthenticated(failed) => {
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
