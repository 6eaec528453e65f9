//! The exchanges alone, without a session.

use super::*;

#[test]
fn bare_sasl() {
    for &mechanism in MECHANISMS {
        for (credentials, who, why, _) in rows(mechanism) {
            let config = Arc::new(sasl_config());
            let mut client = sasl::client::Exchange::new(
                &sasl_only(mechanism),
                &channel(),
                mechanism,
                credentials,
            );
            let initial = response(&mut client).data().map(<[u8]>::to_vec);
            let waits = matches!(mechanism, Mechanism::Login | Mechanism::CramMd5);
            assert_eq!(initial.is_none(), waits);
            let mut server = sasl::server::Exchange::new(&config, &channel(), mechanism, initial);
            let outcome = loop {
                match server.step() {
                    sasl::server::Step::Challenge(challenge) => {
                        response(&mut client).challenge(challenge.data());
                        challenge.respond(response(&mut client).data().unwrap());
                    }
                    sasl::server::Step::Query(query) => query.answer_with(&Users),
                    sasl::server::Step::Done(outcome) => break outcome.cloned(),
                }
            };
            same(outcome.as_ref().map_err(|failure| *failure), who, why);
            if outcome.is_ok() {
                response(&mut client).success()
            } else {
                response(&mut client).refused()
            }
            let sasl::client::Step::Done(end) = client.step() else { panic!() };
            let after_proof = mechanism.name().starts_with("SCRAM-");
            let refused = sasl::client::Failure::Refused { after_proof };
            assert_eq!(end, if outcome.is_ok() { Ok(()) } else { Err(refused) });
            let told = (mechanism.takes_token() && outcome.is_err())
                .then_some(r#"{"status":"invalid_token"}"#);
            assert_eq!(client.token_error(), told);
        }
    }
}

#[test]
fn bare_auth() {
    for &mechanism in MECHANISMS {
        for (credentials, who, why, code) in rows(mechanism) {
            for withhold in [false, true] {
                let config = Arc::new(sasl_config());
                let mut client = auth::client::Exchange::new(
                    &sasl_only(mechanism),
                    &channel(),
                    mechanism,
                    credentials.clone(),
                );
                if withhold {
                    client = client.without_initial_response();
                }
                let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
                let auth::client::Step::NeedReply(_) = client.step(&mut from_client) else {
                    panic!()
                };
                let line = from_client.strip_suffix(b"\r\n").unwrap();
                let args = line.strip_prefix(b"AUTH ").unwrap();
                let mut server = auth::server::Exchange::new(&config, &channel(), args);
                let outcome = loop {
                    match server.step(&mut from_server) {
                        auth::server::Step::NeedLine(slot) => {
                            from_client.clear();
                            let step = client.step(&mut from_client);
                            let auth::client::Step::NeedReply(reply) = step else { panic!() };
                            reply.reply(ReplyRef::parse(&from_server).unwrap());
                            from_server.clear();
                            if let auth::client::Step::Derive(derive) =
                                client.step(&mut from_client)
                            {
                                derive.run();
                            }
                            let _ = client.step(&mut from_client);
                            slot.line(from_client.strip_suffix(b"\r\n").unwrap());
                        }
                        auth::server::Step::Query(query) => query.answer_with(&Users),
                        auth::server::Step::Done(outcome) => break outcome.cloned(),
                    }
                };
                same(outcome.as_ref().map_err(|failure| *failure), who, why);
                let step = client.step(&mut from_client);
                let auth::client::Step::NeedReply(reply) = step else { panic!() };
                let last = ReplyRef::parse(&from_server).unwrap();
                assert_eq!(last.code(), code);
                reply.reply(last);
                let auth::client::Step::Done(end) = client.step(&mut from_client) else { panic!() };
                assert_eq!(end.is_ok(), code == 235);
                // It stays over, and says nothing more.
                from_server.clear();
                assert!(matches!(server.step(&mut from_server), auth::server::Step::Done(_)));
                assert!(from_server.is_empty());
            }
        }
    }
}

/// A server that is called with each line, and holds the exchange in between.
fn process(server: &mut auth::server::Exchange, line: &[u8], users: &dyn Authenticator) -> Vec<u8> {
    let Some(auth::server::Step::NeedLine(slot)) = server.pending() else { panic!("no line") };
    slot.line(line);
    assert!(server.pending().is_none(), "the line is taken");
    reply(server, users)
}

fn reply(server: &mut auth::server::Exchange, users: &dyn Authenticator) -> Vec<u8> {
    let mut out = Vec::new();
    while let auth::server::Step::Query(_) = server.step(&mut out) {
        let Some(auth::server::Step::Query(query)) = server.pending() else { panic!("no query") };
        query.answer_with(users);
        assert!(server.pending().is_none(), "the answer is there");
    }
    let shown = format!("{:?}", server.pending().unwrap());
    assert_eq!(format!("{:?}", server.pending().unwrap()), shown);
    out
}

/// A client that is called with each reply.
fn hear(client: &mut auth::client::Exchange, octets: &[u8]) -> Vec<u8> {
    let Some(auth::client::Step::NeedReply(slot)) = client.pending() else { panic!("no reply") };
    slot.reply(ReplyRef::parse(octets).unwrap());
    say(client)
}

fn say(client: &mut auth::client::Exchange) -> Vec<u8> {
    let mut out = Vec::new();
    while let auth::client::Step::Derive(_) = client.step(&mut out) {
        let Some(auth::client::Step::Derive(derive)) = client.pending() else { panic!("no work") };
        derive.run();
        assert!(client.pending().is_none(), "the work is done");
    }
    let shown = format!("{:?}", client.pending().unwrap());
    assert_eq!(format!("{:?}", client.pending().unwrap()), shown);
    out
}

#[test]
fn what_an_exchange_waits_for_is_shown_again() {
    for &mechanism in MECHANISMS {
        for (credentials, who, why, code) in rows(mechanism) {
            let (own, config) = (sasl_only(mechanism), Arc::new(sasl_config()));
            let client = auth::client::Exchange::new(&own, &channel(), mechanism, credentials);
            // So there is a reply, too, before the first message is sent.
            let mut client = client.without_initial_response();
            assert!(client.pending().is_none(), "the command is to be written");
            let command = say(&mut client);
            let args = command.strip_prefix(b"AUTH ").unwrap().strip_suffix(b"\r\n").unwrap();
            let mut server = auth::server::Exchange::new(&config, &channel(), args);
            let mut from_server = reply(&mut server, &Users);
            while !matches!(server.pending(), Some(auth::server::Step::Done(_))) {
                let line = hear(&mut client, &from_server);
                from_server = process(&mut server, line.strip_suffix(b"\r\n").unwrap(), &Users);
            }
            let Some(auth::server::Step::Done(outcome)) = server.pending() else { panic!() };
            same(outcome, who, why);
            assert_eq!(hear(&mut client, &from_server), b"");
            let Some(auth::client::Step::Done(end)) = client.pending() else { panic!() };
            assert_eq!(end.is_ok(), code == 235);
        }
    }
}

/// Knows its users, and lets none of them in.
struct Refusing;

impl Authenticator for Refusing {
    fn mechanisms(&self) -> &[Mechanism] {
        Users.mechanisms()
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        Users.check_password(ask)
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        Users.cram_secret(ask)
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        Users.scram_keys(ask)
    }

    fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        Users.check_token(ask)
    }

    fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        Users.check_external(ask)
    }

    fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        Users.check_anonymous(ask)
    }

    fn authorize(&self, _: &Authorize) -> AuthorizeAnswer {
        Refusal::new(RefusalKind::Other, "Ask\nus").unwrap().into()
    }
}

#[test]
fn who_is_proven_is_refused_in_the_applications_own_words() {
    for &mechanism in MECHANISMS {
        let is_scram = mechanism.name().starts_with("SCRAM-");
        for (credentials, who, why, _) in rows(mechanism) {
            let own = sasl_only(mechanism);
            let config = Arc::new(sasl_server().authorize_always(true).build().unwrap());
            let mut client = auth::client::Exchange::new(&own, &channel(), mechanism, credentials);
            let command = say(&mut client);
            let args = command.strip_prefix(b"AUTH ").unwrap().strip_suffix(b"\r\n").unwrap();
            let mut server = auth::server::Exchange::new(&config, &channel(), args);
            let mut from_server = reply(&mut server, &Refusing);
            while !matches!(server.pending(), Some(auth::server::Step::Done(_))) {
                assert!(from_server.starts_with(b"334 ") && !from_server.starts_with(b"334 dj0"));
                let line = hear(&mut client, &from_server);
                let line = line.strip_suffix(b"\r\n").unwrap();
                from_server = process(&mut server, line, &Refusing);
            }
            let Some(auth::server::Step::Done(outcome)) = server.pending() else { panic!() };
            // Who may not act as another is proven as well.
            let proven = who.is_some() || why == Some(Failure::NotAuthorized);
            let expected = if proven { Some(Failure::Refused(RefusalKind::Other)) } else { why };
            assert_eq!(outcome.err(), expected);
            assert_eq!(server.refusal().map(Refusal::text), proven.then_some("Ask\nus"));
            let said = b"550-5.7.1 Ask\r\n550 5.7.1 us\r\n";
            assert_eq!(from_server == said, proven, "{}", from_server.escape_ascii());
            let _ = hear(&mut client, &from_server);
            let Some(auth::client::Step::Done(Err(failure))) = client.pending() else { panic!() };
            let auth::client::Failure::Refused { reply, after_proof, .. } = failure else {
                panic!("{failure}")
            };
            assert_eq!(*after_proof, is_scram);
            assert_eq!(failure.to_string().ends_with("has not proven its identity)"), is_scram);
            assert_eq!(reply.text() == "Ask\nus", proven);
        }
    }
}
