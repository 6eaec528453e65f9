//! Client against server in memory, through all three doors, by each mechanism and each failure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test fails by panicking"
)]
#![cfg(all(feature = "plain", feature = "login", feature = "cram-md5"))]

use std::sync::Arc;

use smtp_auth::{
    auth, client,
    command::{Command, MailAuth},
    reply::{Reply, ReplyRef},
    sasl::{
        self, Answer, Authenticator, Authorize, BindingPolicy, Channel, ChannelBinding,
        CheckAnonymous, CheckExternal, CheckPassword, CheckToken, CramSecret, CramSecretFor,
        Failure, Mechanism, Query, ScramHash, ScramKeys, ScramKeysFor, TokenAnswer,
        client::{Credentials, NoMechanism},
    },
    server::{self, StartTls},
};

const MECHANISMS: &[Mechanism] = Mechanism::COMPILED;

fn is_scram(mechanism: Mechanism) -> bool {
    ScramHash::of(mechanism).is_some()
}

/// The response that the client has for the server, its work done.
fn response(client: &mut sasl::client::Exchange) -> &mut sasl::client::Response {
    if let sasl::client::Step::Derive(derive) = client.step() {
        derive.run();
    }
    match client.step() {
        sasl::client::Step::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

/// Tim and Kurt; Kurt may act as Ursel.
struct Users;

fn password_of(name: &str) -> Option<&'static str> {
    match name {
        "tim" => Some("tanstaaftanstaaf"),
        "Kurt" => Some("xipj3plmq"),
        _ => None,
    }
}

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        (password_of(ask.authcid()) == Some(ask.password().expose())).into()
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        password_of(ask.authcid()).map(CramSecret::from_password).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let keys = |password| ScramKeys::from_password(ask.hash(), password, b"salt", 1);
        password_of(ask.authcid()).and_then(keys).into()
    }

    fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        let account = match ask.token().expose() {
            "token-of-tim==" => Some("tim"),
            "token-of-Kurt" => Some("Kurt"),
            _ => None,
        };
        account.map(String::from).into()
    }

    fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        password_of(ask.identity()).map(|_| ask.identity().to_owned()).into()
    }

    fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        (ask.trace() == Some("sirhc")).into()
    }

    fn authorize(&self, ask: &Authorize) -> Answer {
        (ask.authcid() == "Kurt" && ask.authzid() == "Ursel").into()
    }
}

/// Refuses nothing, and cannot look anything up.
struct Broken(Answer);

impl Authenticator for Broken {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn check_password(&self, _: &CheckPassword) -> Answer {
        self.0.clone()
    }

    fn cram_secret(&self, _: &CramSecretFor) -> Answer<CramSecret> {
        Answer::temp_fail()
    }

    fn scram_keys(&self, _: &ScramKeysFor) -> Answer<ScramKeys> {
        Answer::temp_fail()
    }

    fn check_token(&self, _: &CheckToken) -> TokenAnswer {
        TokenAnswer::TempFail
    }

    fn check_external(&self, _: &CheckExternal) -> Answer<String> {
        Answer::temp_fail()
    }

    fn check_anonymous(&self, _: &CheckAnonymous) -> Answer {
        Answer::temp_fail()
    }

    fn authorize(&self, _: &Authorize) -> Answer {
        Answer::temp_fail()
    }
}

fn tim() -> Credentials {
    Credentials::password("tim", "tanstaaftanstaaf").unwrap()
}

fn kurt_as(authzid: &str) -> Credentials {
    Credentials::password("Kurt", "xipj3plmq").unwrap().acting_as(authzid).unwrap()
}

/// What a client signs in with by that mechanism.
fn good(mechanism: Mechanism) -> Credentials {
    match mechanism {
        Mechanism::External => Credentials::external(),
        Mechanism::Anonymous => Credentials::anonymous("sirhc").unwrap(),
        _ if mechanism.takes_token() => Credentials::token("tim", "token-of-tim==").unwrap(),
        _ => tim(),
    }
}

fn sasl_server() -> sasl::server::Builder {
    sasl::server::Config::builder("smtp.example.com").mechanisms(MECHANISMS).scram_iterations(1)
}

fn sasl_config() -> sasl::server::Config {
    sasl_server().build().unwrap()
}

fn server_config() -> server::Config {
    server::Config::builder("smtp.example.com").sasl(sasl_config()).build().unwrap()
}

/// One iteration is enough where nothing is secret.
fn sasl_client() -> sasl::client::Builder {
    sasl::client::Config::builder().scram_iterations(1, 1)
}

/// Inside TLS, with all that a mechanism can want of it. The certificate is Tim's.
fn channel() -> Channel {
    Channel::tls()
        .with_binding(ChannelBinding::tls_exporter([7; 32]))
        .with_binding(ChannelBinding::tls_server_end_point(&[8; 32]).unwrap())
        .with_identity("tim")
        .unwrap()
}

/// That one and no other: SCRAM without its -PLUS form, where it is not named.
fn sasl_only(mechanism: Mechanism) -> sasl::client::Config {
    sasl_client().mechanisms([mechanism]).without(mechanism.plus()).build().unwrap()
}

fn only(mechanism: Mechanism) -> client::Config {
    client::Config::builder("client.example.com").sasl(sasl_only(mechanism)).build().unwrap()
}

/// The rows: who signs in, what they may be, the failure if there is one, and the client's reply.
type Row = (Credentials, Option<(&'static str, Option<&'static str>)>, Option<Failure>, u16);

fn rows(mechanism: Mechanism) -> Vec<Row> {
    let mut rows = vec![(good(mechanism), Some(("tim", None)), None, 235)];
    let refused = |credentials, why| (credentials, None, Some(why), 535);
    match mechanism {
        Mechanism::Anonymous => {
            rows[0].1 = Some(("anonymous", None));
            rows.push(refused(Credentials::anonymous("").unwrap(), Failure::Rejected));
        }
        Mechanism::External => {
            let own = Credentials::external().acting_as("tim").unwrap();
            rows.push((own, Some(("tim", None)), None, 235));
            let other = Credentials::external().acting_as("Ursel").unwrap();
            rows.push(refused(other, Failure::NotAuthorized));
        }
        _ if mechanism.takes_token() => {
            let token = |user, token| Credentials::token(user, token).unwrap();
            rows.push(refused(token("tim", "another"), Failure::Rejected));
            rows.push((token("Ursel", "token-of-Kurt"), Some(("Kurt", Some("Ursel"))), None, 235));
            rows.push(refused(token("tim", "token-of-Kurt"), Failure::NotAuthorized));
        }
        _ => {
            let wrong = Credentials::password("tim", "wrongpencil").unwrap();
            let unknown = Credentials::password("nobody", "tanstaaftanstaaf").unwrap();
            rows.extend([wrong, unknown].map(|all| refused(all, Failure::Rejected)));
        }
    }
    if mechanism == Mechanism::Plain || is_scram(mechanism) {
        rows.push((kurt_as("Kurt"), Some(("Kurt", None)), None, 235));
        rows.push((kurt_as("Ursel"), Some(("Kurt", Some("Ursel"))), None, 235));
        rows.push(refused(kurt_as("tim"), Failure::NotAuthorized));
    }
    rows
}

#[track_caller]
fn same(
    outcome: Result<&sasl::Identity, Failure>,
    who: Option<(&str, Option<&str>)>,
    why: Option<Failure>,
) {
    assert_eq!(outcome.err(), why);
    assert_eq!(outcome.ok().map(|found| (found.authcid(), found.authzid())), who);
    if let (Ok(found), Some((authcid, authzid))) = (outcome, who) {
        assert_eq!(found.acts_as(), authzid.unwrap_or(authcid));
    }
}

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

/// A client's and a server's session, joined.
struct Pair {
    client: client::Session,
    server: server::Session,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// How many octets go over at a time.
    step: usize,
    inside: Channel,
    mail: Vec<(client::Envelope, Vec<u8>)>,
    /// What happened, on both sides.
    seen: Vec<String>,
}

impl Pair {
    fn new(client: client::Session, server: server::Session) -> Self {
        Self {
            client,
            server,
            to_server: Vec::new(),
            to_client: Vec::new(),
            step: usize::MAX,
            inside: channel(),
            mail: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Both inside TLS as of the first octet.
    fn inside_tls(
        client: client::Config,
        credentials: Credentials,
        server: server::Config,
    ) -> Self {
        let mut pair = Self::new(
            client::Session::new(client.into(), credentials),
            server::Session::new(server.into()),
        );
        pair.client.tls_started(channel());
        assert_eq!(pair.server.tls_started(channel()), 0);
        pair
    }

    /// Until both wait and nothing is under way. The client quits when it has nothing to send.
    fn run(&mut self, users: &dyn Authenticator) {
        let (mut message, mut open) = (Vec::new(), true);
        while open {
            let before = self.seen.len();
            let (mut server_tls, mut moved) = (false, false);
            loop {
                let seen = match self.server.next(&mut self.to_client) {
                    server::Event::NeedInput => break,
                    server::Event::StartTls => {
                        server_tls = true;
                        break;
                    }
                    server::Event::Close => "closes".into(),
                    server::Event::Query(query) => {
                        query.answer_with(users);
                        continue;
                    }
                    server::Event::Authenticated(who) => {
                        format!("{} signed in as {}", who.authcid(), who.acts_as())
                    }
                    server::Event::AuthFailed(failed) => format!("{:?}", failed.why),
                    server::Event::Hello(hello) => format!("hello {}", hello.name),
                    server::Event::Command(command, ask) => {
                        ask.reply(match command {
                            Command::Rcpt(rcpt) if rcpt.to().as_str().starts_with("refused") => {
                                Reply::MAILBOX_UNAVAILABLE
                            }
                            _ => Reply::OK,
                        });
                        continue;
                    }
                    server::Event::Message(ask) => {
                        ask.accept();
                        continue;
                    }
                    server::Event::Data(piece) => {
                        message.extend_from_slice(piece);
                        continue;
                    }
                    server::Event::EndOfData(ask) => {
                        ask.reply(Reply::OK);
                        let message = std::mem::take(&mut message);
                        format!("message {}", message.escape_ascii())
                    }
                    server::Event::Reset => "reset".into(),
                };
                open &= seen != "closes";
                self.seen.push(seen);
                if !open {
                    break;
                }
            }
            let octets = std::mem::take(&mut self.to_client);
            for piece in octets.chunks(self.step.min(octets.len().max(1))) {
                moved = true;
                self.client.receive(piece);
                self.client_turn();
            }
            if octets.is_empty() {
                self.client_turn();
            }
            if server_tls {
                assert!(self.to_server.is_empty());
                self.seen.push("TLS".into());
                self.server.tls_started(self.inside.clone());
                self.client.tls_started(self.inside.clone());
                self.client_turn();
                moved = true;
            }
            let octets = std::mem::take(&mut self.to_server);
            moved |= !octets.is_empty();
            for piece in octets.chunks(self.step.min(octets.len().max(1))) {
                self.server.receive(piece);
            }
            if !moved && self.seen.len() == before {
                return;
            }
        }
    }

    fn client_turn(&mut self) {
        loop {
            match self.client.next(&mut self.to_server) {
                Ok(client::Event::NeedInput | client::Event::StartTls) => return,
                Ok(client::Event::Close) => return,
                // No mechanism of our own is listed.
                Ok(client::Event::Challenge(ask)) => ask.fail(),
                Ok(client::Event::Derive(ask)) => ask.run(),
                Ok(client::Event::AuthFailed(failed)) => {
                    self.seen.push(format!("client: {}", failed.reason()));
                    failed.quit();
                }
                Ok(client::Event::Ready(ready)) => match self.mail.first() {
                    Some((envelope, _)) => ready.send(envelope.clone()),
                    None => ready.quit(),
                },
                Ok(client::Event::Refused(recipient, refusal)) => {
                    self.seen
                        .push(format!("client: recipient {recipient}: {}", refusal.reply().code()));
                }
                Ok(client::Event::Message(body)) => {
                    for part in self.mail[0].1.chunks(7) {
                        body.write(part, &mut self.to_server).unwrap();
                    }
                    body.end(&mut self.to_server).unwrap();
                }
                Ok(client::Event::Sent(fate)) => {
                    let sent = matches!(fate, client::Fate::Accepted(_));
                    self.seen.push(format!("client: sent: {sent}"));
                    drop(self.mail.remove(0));
                }
                Err(error) => {
                    self.seen.push(format!("client: {error}"));
                    return;
                }
            }
        }
    }
}

#[test]
fn sessions() {
    for &mechanism in MECHANISMS {
        for (credentials, who, why, code) in rows(mechanism) {
            for step in [usize::MAX, 1, 7] {
                let mut pair = Pair::inside_tls(
                    only(mechanism),
                    credentials.clone(),
                    server::Config::builder("mail.example.org")
                        .sasl(sasl_config())
                        .build()
                        .unwrap(),
                );
                pair.step = step;
                pair.run(&Users);
                let mut expected = vec!["hello client.example.com".to_owned()];
                if let Some((authcid, authzid)) = who {
                    let acts_as = authzid.unwrap_or(authcid);
                    expected.push(format!("{authcid} signed in as {acts_as}"));
                    assert_eq!(pair.client.authenticated(), Some(mechanism));
                    assert_eq!(pair.server.identity().unwrap().mechanism(), mechanism);
                }
                if let Some(why) = why {
                    assert_eq!(code, 535);
                    expected.push(format!("{why:?}"));
                    let refused = if mechanism.takes_token() {
                        "the access token: it may have expired, lack a scope, or be another user's"
                    } else {
                        "the user name, password or certificate"
                    };
                    let reply = auth::server::reply_to(why);
                    expected.push(format!("client: the server refused {refused}: {reply}"));
                    assert_eq!(pair.client.authenticated(), None);
                    assert_eq!(pair.server.identity(), None);
                }
                expected.push("closes".into());
                assert_eq!(pair.seen, expected);
            }
        }
    }
}

#[test]
fn answers_that_are_no_yes_and_no_no() {
    for (answer, why, code) in [
        (Answer::temp_fail(), Failure::TempFail, 454),
        (Answer::too_weak(), Failure::TooWeak, 534),
        (Answer::transition_needed(), Failure::TransitionNeeded, 432),
    ] {
        for &mechanism in MECHANISMS {
            let (why, code) = match mechanism {
                Mechanism::Plain | Mechanism::Login => (why, code),
                _ => (Failure::TempFail, 454),
            };
            let mut pair = Pair::inside_tls(only(mechanism), good(mechanism), server_config());
            pair.run(&Broken(answer.clone()));
            assert_eq!(pair.seen[1], format!("{why:?}"));
            let reply = auth::server::reply_to(why);
            assert_eq!(reply.code(), code);
            assert!(pair.seen[2].ends_with(&format!(": {reply}")), "{}", pair.seen[2]);
        }
    }
    let mut pair = Pair::inside_tls(only(Mechanism::Plain), kurt_as("Ursel"), server_config());
    pair.run(&Broken(Answer::accept(())));
    assert_eq!(pair.seen[1], "TempFail");
}

/// The text of an AUTH line.
fn list(mechanisms: impl Iterator<Item = Mechanism>) -> String {
    mechanisms.fold("AUTH".to_owned(), |line, own| line + " " + own.name())
}

/// A client's exchange against a server's, and what the client begins with.
fn bound(
    (client, of_client): (&sasl::client::Config, &Channel),
    (server, of_server): (sasl::server::Config, &Channel),
    seen: impl Fn(Mechanism) -> bool,
) -> Result<(Mechanism, String, Result<(), Failure>), NoMechanism> {
    let server = Arc::new(server);
    let offered = list(server.offered(of_server).filter(|own| seen(*own)));
    let mechanism = client.choose(&tim(), of_client, &offered)?;
    let mut client = sasl::client::Exchange::new(client, of_client, mechanism, tim());
    let first = response(&mut client).data().unwrap().to_vec();
    let header = String::from_utf8(first.clone()).unwrap();
    let header = header.split(',').next().unwrap().to_owned();
    let mut exchange = sasl::server::Exchange::new(&server, of_server, mechanism, Some(first));
    let outcome = loop {
        match exchange.step() {
            sasl::server::Step::Challenge(challenge) => {
                response(&mut client).challenge(challenge.data());
                challenge.respond(response(&mut client).data().unwrap());
            }
            sasl::server::Step::Query(query) => query.answer_with(&Users),
            sasl::server::Step::Done(outcome) => break outcome.map(|_| ()),
        }
    };
    Ok((mechanism, header, outcome))
}

#[test]
fn channel_binding_by_policy_and_data() {
    use BindingPolicy::{None, Preferred, Required};
    let data = || ChannelBinding::tls_exporter([7; 32]);
    let channels = [Channel::tls(), Channel::tls().with_binding(data())];
    let policies = [None, Preferred, Required];
    for hash in MECHANISMS.iter().filter(|own| own.binds_channel()) {
        let plain = ScramHash::of(*hash).unwrap().mechanism();
        for (on_client, on_server) in policies.iter().flat_map(|a| policies.map(|b| (*a, b))) {
            for (of_client, of_server) in
                channels.iter().flat_map(|a| channels.iter().map(move |b| (a, b)))
            {
                let client = sasl_client().mechanisms([*hash, plain]).channel_binding(on_client);
                let client = client.build().unwrap();
                let server = sasl_server().channel_binding(on_server).build().unwrap();
                let (has, offers) = (
                    on_client != None && !of_client.bindings().is_empty(),
                    on_server != None && !of_server.bindings().is_empty(),
                );
                let expected = if has && offers {
                    Ok((*hash, "p=tls-exporter".to_owned(), Ok(())))
                } else if on_server == Required && !offers {
                    Err(NoMechanism::InCommon)
                } else if on_server == Required || on_client == Required {
                    Err(NoMechanism::WithoutBinding)
                } else {
                    Ok((plain, if has { "y" } else { "n" }.to_owned(), Ok(())))
                };
                let outcome = bound((&client, of_client), (server, of_server), |_| true);
                let case =
                    format!("{hash} {on_client:?} {on_server:?} {of_client:?} {of_server:?}");
                assert_eq!(outcome, expected, "{case}");
            }
        }
    }
}

#[test]
fn channel_binding_by_type() {
    let client = sasl_client().build().unwrap();
    let exporter = ChannelBinding::tls_exporter([7; 32]);
    let end_point = ChannelBinding::tls_server_end_point(&[8; 48]).unwrap();
    let unique = ChannelBinding::tls_unique_with_extended_master_secret(&[9; 12]).unwrap();
    let all = [exporter, end_point, unique];
    let server = all.iter().cloned().fold(Channel::tls(), Channel::with_binding);
    for binding in &all {
        let own = Channel::tls().with_binding(binding.clone());
        let (_, header, outcome) =
            bound((&client, &own), (sasl_config(), &server), |_| true).unwrap();
        assert_eq!((header, outcome), (format!("p={}", binding.name()), Ok(())));
    }
    // The order in which the host gives them is nothing to go by.
    let own = all.iter().rev().cloned().fold(Channel::tls(), Channel::with_binding);
    let (_, header, _) = bound((&client, &own), (sasl_config(), &server), |_| true).unwrap();
    assert_eq!(header, "p=tls-exporter");
    // One that the server has no data for.
    let server = Channel::tls().with_binding(all[1].clone());
    let (_, _, outcome) = bound((&client, &own), (sasl_config(), &server), |_| true).unwrap();
    assert_eq!(outcome, Err(Failure::ChannelBinding));
    // Where the policy forbids it, nobody binds by naming the mechanism.
    let none = sasl_client().channel_binding(BindingPolicy::None).build().unwrap();
    for &plus in MECHANISMS.iter().filter(|mechanism| mechanism.binds_channel()) {
        let mut exchange = sasl::client::Exchange::new(&none, &own, plus, tim());
        let refused = Err(sasl::client::Failure::Unsupported);
        assert!(matches!(exchange.step(), sasl::client::Step::Done(found) if found == refused));
    }
    // In cleartext there is nothing to bind to, and nothing is offered.
    let cleartext = all.iter().cloned().fold(Channel::cleartext(), Channel::with_binding);
    assert_eq!(cleartext.with_identity("tim").unwrap(), Channel::cleartext());
    assert!(ChannelBinding::tls_server_end_point(&[]).is_err());
    assert!(ChannelBinding::tls_unique_with_extended_master_secret(&[]).is_err());
}

#[test]
fn who_stands_between_is_found_out() {
    let client = sasl_client().build().unwrap();
    let own = Channel::tls().with_binding(ChannelBinding::tls_exporter([7; 32]));
    let other = Channel::tls().with_binding(ChannelBinding::tls_exporter([6; 32]));
    // Two connections, and the messages passed on.
    let (mechanism, _, outcome) =
        bound((&client, &own), (sasl_config(), &other), |_| true).unwrap();
    assert!(mechanism.binds_channel());
    assert_eq!(outcome, Err(Failure::ChannelBinding));
    // The -PLUS mechanisms struck out of the list.
    let struck = |own: Mechanism| !own.binds_channel();
    let (mechanism, header, outcome) =
        bound((&client, &own), (sasl_config(), &other), struck).unwrap();
    assert!(!mechanism.binds_channel());
    assert_eq!((header.as_str(), outcome), ("y", Err(Failure::Downgrade)));
    let client = sasl_client().channel_binding(BindingPolicy::Required).build().unwrap();
    let outcome = bound((&client, &own), (sasl_config(), &other), struck);
    assert_eq!(outcome, Err(NoMechanism::WithoutBinding));
}

#[test]
fn each_kind_of_credentials_has_its_mechanisms() {
    let client = sasl_client().build().unwrap();
    let choose = |credentials: &Credentials, offered: &[Mechanism]| {
        client.choose(credentials, &Channel::tls(), &list(offered.iter().copied()))
    };
    let kind = |of: Mechanism| match of {
        Mechanism::External => "certificate",
        Mechanism::Anonymous => "nothing",
        of if of.takes_token() => "token",
        _ => "password",
    };
    for &mechanism in MECHANISMS.iter().filter(|own| !own.binds_channel()) {
        for &other in MECHANISMS {
            let expected = if kind(mechanism) == kind(other) {
                Ok(mechanism)
            } else {
                Err(NoMechanism::OtherCredentials)
            };
            assert_eq!(choose(&good(other), &[mechanism]), expected, "{mechanism} {other}");
        }
    }
    let token = good(Mechanism::Xoauth2);
    let both = [Mechanism::Xoauth2, Mechanism::OauthBearer];
    assert_eq!(choose(&token, &both), Ok(Mechanism::OauthBearer));
    let cleartext = client.choose(&token, &Channel::cleartext(), &list(MECHANISMS.iter().copied()));
    assert_eq!(cleartext, Err(NoMechanism::WithoutTls));
}

#[test]
fn a_token_goes_with_the_server_that_it_is_for() {
    for (credentials, expected) in [
        (good(Mechanism::OauthBearer), (None, None)),
        (
            good(Mechanism::OauthBearer).for_server("smtp.example.com", 587).unwrap(),
            (Some("smtp.example.com"), Some(587)),
        ),
    ] {
        let (mechanism, config) = (Mechanism::OauthBearer, Arc::new(sasl_config()));
        let mut client = sasl::client::Exchange::new(
            &sasl_client().build().unwrap(),
            &channel(),
            mechanism,
            credentials,
        );
        let initial = response(&mut client).data().map(<[u8]>::to_vec);
        let mut server = sasl::server::Exchange::new(&config, &channel(), mechanism, initial);
        let sasl::server::Step::Query(Query::CheckToken(ask)) = server.step() else { panic!() };
        assert_eq!((ask.host(), ask.port()), expected);
        assert_eq!((ask.authzid(), ask.mechanism()), (Some("tim"), mechanism));
    }
    for bad in ["", "a b", "é"] {
        assert!(good(Mechanism::OauthBearer).for_server(bad, 587).is_err());
    }
    for bad in ["", "=", "a b", "a=b", "a\u{1}b", "é", &"a".repeat(9000)] {
        assert!(Credentials::token("tim", bad).is_err(), "{bad}");
    }
    for bad in ["", "tim\u{1}"] {
        assert!(Credentials::token(bad, "token").is_err());
    }
    // No name makes the message longer than a server has to take.
    let long = Credentials::token("tim", "a".repeat(8600)).unwrap();
    assert!(long.clone().acting_as(&"n".repeat(90)).is_ok());
    assert!(long.acting_as(&"n".repeat(1000)).is_err());
}

#[test]
fn a_guest_is_told_apart() {
    let anonymous = Mechanism::Anonymous;
    let server = || server_config();
    let mut pair = Pair::inside_tls(only(anonymous), good(anonymous), server());
    pair.run(&Users);
    assert!(pair.server.identity().unwrap().is_anonymous());
    // Nor may it send, unless who has not signed in may.
    let open = server::Config::builder("smtp.example.com").sasl(sasl_config());
    let open = open.allow_unauthenticated(true).build().unwrap();
    for (config, sent) in [(server(), false), (open, true)] {
        let mut pair = Pair::inside_tls(only(anonymous), good(anonymous), config);
        let envelope = client::Envelope::new(Some("tim@example.org"), ["a@example.org"]).unwrap();
        pair.mail = vec![(envelope, b"hello\r\n".to_vec())];
        pair.run(&Users);
        assert!(pair.seen.contains(&format!("client: sent: {sent}")), "{:?}", pair.seen);
    }
    let mut pair = Pair::inside_tls(only(Mechanism::Plain), tim(), server());
    pair.run(&Users);
    assert!(!pair.server.identity().unwrap().is_anonymous());
    for good in ["", "sirhc", "a@example.org", "\"a b\"@example.org", &"x".repeat(255)] {
        assert!(Credentials::anonymous(good).is_ok(), "{good}");
    }
    for bad in ["@", "a@", "@b", "a@b@c", "a b@c", "a\n", "\u{7f}", &"x".repeat(256)] {
        assert!(Credentials::anonymous(bad).is_err(), "{bad}");
    }
    // What does not show has no place in a log.
    #[cfg(feature = "saslprep")]
    for bad in ["\u{202e}", "\u{e000}", "\u{fdd0}", "\u{e0041}", "\u{fffd}", "\u{200d}"] {
        assert!(Credentials::anonymous(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn an_authzid_is_never_dropped() {
    let mut pair = Pair::inside_tls(only(Mechanism::Login), kurt_as("Ursel"), server_config());
    pair.run(&Users);
    assert_eq!(pair.seen[1], format!("client: {}", NoMechanism::ActingAs));
}

#[test]
fn a_broken_nonce_source_is_a_temporary_failure() {
    let sasl = sasl_server().nonces(|| Err(sasl::NonceError)).build().unwrap();
    let mut pair = Pair::inside_tls(
        only(Mechanism::CramMd5),
        tim(),
        server::Config::builder("mail.example.org").sasl(sasl).build().unwrap(),
    );
    pair.run(&Users);
    assert_eq!(pair.seen[1], "TempFail");
}

#[test]
fn starttls_then_two_messages() {
    let first = b".\r\n..\r\n.a dot, \xc3\xa9, \x80\xff\0\r\n\r\n.".to_vec();
    let envelope = |to: &[&str]| client::Envelope::new(Some("tim@example.org"), to.to_vec());
    for step in [usize::MAX, 1, 3] {
        let config = server::Config::builder("mail.example.org")
            .sasl(sasl_config())
            .starttls(StartTls::Offered)
            .build()
            .unwrap();
        let client = client::Config::builder("client.example.com")
            .sasl(sasl_client().build().unwrap())
            .build()
            .unwrap();
        let mut pair = Pair::new(
            client::Session::new(client.into(), tim()),
            server::Session::new(config.into()),
        );
        pair.step = step;
        let submitter = MailAuth::new("e=mc2@example.com").unwrap();
        let two = envelope(&["refused@example.org", "b@example.org"]).unwrap();
        pair.mail = vec![
            (two.eight_bit(true).size(40).auth(&submitter), first.clone()),
            (envelope(&["c@example.org"]).unwrap(), b"two\r\n".to_vec()),
            (envelope(&["refused@example.org"]).unwrap(), b"three\r\n".to_vec()),
        ];
        pair.run(&Users);
        let expected = [
            "hello client.example.com",
            "TLS",
            "hello client.example.com",
            "tim signed in as tim",
            "client: recipient 0: 550",
            &format!("message {}\\r\\n", first.escape_ascii()),
            "client: sent: true",
            "message two\\r\\n",
            "client: sent: true",
            "client: recipient 0: 550",
            "reset",
            "client: sent: false",
            "closes",
        ];
        assert_eq!(pair.seen, expected);
        assert!(pair.client.channel().is_tls() && pair.server.channel().is_tls());
        assert!(matches!(pair.client.eof(), Ok(())));
    }
}

/// A server's session inside TLS, behind EHLO.
fn server_behind_ehlo(config: server::Config) -> server::Session {
    let mut session = server::Session::new(config.into());
    session.tls_started(Channel::tls());
    session.receive(b"EHLO client.example.com\r\n");
    let mut out = Vec::new();
    while !matches!(session.next(&mut out), server::Event::NeedInput) {}
    session
}

const AUTH_PLAIN: &[u8] = b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n";

#[test]
fn a_query_stays_until_it_is_answered() {
    let mut session = server_behind_ehlo(server_config());
    let mut out = Vec::new();
    session.receive(AUTH_PLAIN);
    let mut serials = Vec::new();
    for piece in [&b""[..], b"NOO", b"P\r\n", b"QUIT\r\n"] {
        session.receive(piece);
        let server::Event::Query(query) = session.next(&mut out) else { panic!() };
        serials.push(query.serial());
        let Query::CheckPassword(ask) = query else { panic!() };
        assert_eq!((ask.authcid(), ask.password().expose()), ("tim", "tanstaaftanstaaf"));
    }
    assert!(out.is_empty());
    assert!(serials.iter().all(|serial| *serial == serials[0]), "{serials:?}");
    // A second answer replaces the first.
    let server::Event::Query(Query::CheckPassword(ask)) = session.next(&mut out) else { panic!() };
    ask.answer(true);
    ask.answer(Answer::temp_fail());
    ask.answer(false);
    let server::Event::AuthFailed(failed) = session.next(&mut out) else { panic!() };
    assert_eq!(failed.why, Failure::Rejected);
    assert!(matches!(session.next(&mut out), server::Event::Close));
    let replies = String::from_utf8(out).unwrap();
    let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["535", "250", "221"]);
}

#[test]
fn an_answer_to_an_earlier_exchange_fits_no_later_one() {
    let mut session = server_behind_ehlo(server_config());
    let mut serials = Vec::new();
    for _ in 0..3 {
        session.receive(AUTH_PLAIN);
        loop {
            match session.next(&mut Vec::new()) {
                server::Event::Query(query) => {
                    serials.push(query.serial());
                    query.reject();
                }
                server::Event::AuthFailed(_) => break,
                _ => {}
            }
        }
    }
    serials.dedup();
    assert_eq!(serials.len(), 3);
}

#[test]
fn a_second_answer_replaces_the_first_for_each_query() {
    let mut session = server_behind_ehlo(server_config());
    let mut out = Vec::new();
    session.receive(b"AUTH PLAIN VXJzZWwAS3VydAB4aXBqM3BsbXE=\r\n");
    loop {
        match session.next(&mut out) {
            server::Event::Query(Query::CheckPassword(ask)) => {
                ask.answer(false);
                ask.answer(true);
            }
            server::Event::Query(Query::Authorize(ask)) => {
                assert_eq!((ask.authcid(), ask.authzid()), ("Kurt", "Ursel"));
                ask.answer(true);
                ask.answer(Answer::reject());
            }
            server::Event::AuthFailed(failed) => {
                assert_eq!(failed.why, Failure::NotAuthorized);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(session.identity(), None);
}

#[test]
fn receiving_changes_nothing_that_is_on_show() {
    let config = server::Config::builder("smtp.example.com").sasl(sasl_config());
    let config = config.allow_unauthenticated(true).build().unwrap();
    let mut session = server_behind_ehlo(config);
    let mut out = Vec::new();
    session.receive(b"MAIL FROM:<a@example.org> SIZE=10\r\n");
    for n in 0..40 {
        match session.next(&mut out) {
            server::Event::Command(Command::Mail(mail), _) => {
                assert_eq!(mail.from().unwrap().as_str(), "a@example.org");
                assert_eq!(mail.parameters().as_str(), "SIZE=10");
            }
            other => panic!("{n}: {other:?}"),
        }
        session.receive(b"RCPT TO:<b@example.org>\r\nDATA\r\n"[n % 30..][..1].as_ref());
    }
    assert!(out.is_empty());

    let config = server::Config::builder("smtp.example.com").sasl(sasl_config());
    let config = config.allow_unauthenticated(true).build().unwrap();
    let mut session = server_behind_ehlo(config);
    let mut shown = Vec::new();
    session.receive(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    let mut rest = b"one\r\n..two\r\nthree\r\n.\r\nQUIT\r\n".iter();
    let mut asked = [0; 4];
    loop {
        // What is owed is looked at twice, with octets coming in between.
        let seen = format!("{:?}", session.next(&mut out));
        let fact = ["NeedInput", "Data", "Hello", "Reset"];
        if !fact.iter().any(|fact| seen.starts_with(fact)) {
            rest.next().into_iter().for_each(|octet| session.receive(&[*octet]));
            assert_eq!(format!("{:?}", session.next(&mut out)), seen);
        }
        if seen.starts_with("Data") {
            // The piece has gone by; this one is compared below.
            shown.push(seen);
            continue;
        }
        match session.next(&mut out) {
            server::Event::NeedInput => match rest.next() {
                Some(octet) => session.receive(&[*octet]),
                None => panic!("it ended early"),
            },
            server::Event::Command(_, ask) => {
                asked[0] += 1;
                ask.reply(Reply::LOCAL_ERROR);
                ask.reply(Reply::OK);
            }
            server::Event::Message(ask) => {
                asked[1] += 1;
                ask.refuse(Reply::LOCAL_ERROR);
                ask.accept();
            }
            server::Event::EndOfData(ask) => {
                asked[2] += 1;
                ask.reply(Reply::OK);
                ask.reply(Reply::LOCAL_ERROR);
            }
            server::Event::Data(piece) => shown.push(format!("Data({piece:?})")),
            server::Event::Close => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(asked, [2, 1, 1, 0]);
    let message: String = shown.concat();
    for octet in b"one\r\n.two\r\nthree\r\n" {
        assert!(message.contains(&octet.to_string()));
    }
    let replies = String::from_utf8(out).unwrap();
    let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "354", "451", "221"]);
}

#[test]
fn a_piece_on_show_outlives_what_is_received() {
    let config = server::Config::builder("mail.example.org")
        .sasl(sasl_config())
        .allow_unauthenticated(true)
        .build()
        .unwrap();
    let mut session = server_behind_ehlo(config);
    let (mut out, mut message) = (Vec::new(), Vec::new());
    session.receive(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT 10\r\n");
    session.receive(b"one\r\n");
    let mut more = [&b"two\r"[..], b"\nBDAT 0 LAST\r\n", b"QUIT\r\n"].into_iter();
    loop {
        match session.next(&mut out) {
            server::Event::Data(piece) => {
                message.extend_from_slice(piece);
                more.next().into_iter().for_each(|piece| session.receive(piece));
            }
            server::Event::Command(_, ask) | server::Event::EndOfData(ask) => ask.reply(Reply::OK),
            server::Event::Message(ask) => ask.accept(),
            server::Event::NeedInput => match more.next() {
                Some(piece) => session.receive(piece),
                None => panic!("it ended early"),
            },
            server::Event::Close => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(message, b"one\r\ntwo\r\n");
    let replies = String::from_utf8(out).unwrap();
    let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "250", "250", "221"]);
}

#[test]
fn unread_octets_go_to_the_host() {
    let mut session = server_behind_ehlo(server_config());
    let mut out = Vec::new();
    session.receive(AUTH_PLAIN);
    session.receive(b"MAIL FROM:<tim@exam");
    loop {
        match session.next(&mut out) {
            server::Event::Query(query) => query.answer_with(&Users),
            server::Event::Authenticated(_) => break,
            other => panic!("{other:?}"),
        }
    }
    let (identity, rest) = session.into_parts();
    assert_eq!(identity.unwrap().acts_as(), "tim");
    assert_eq!(rest, b"MAIL FROM:<tim@exam");
}

#[test]
fn the_host_can_close_at_any_time() {
    for begun in [&b""[..], b"AUTH LOGIN\r\n", AUTH_PLAIN, b"NOOP\r\nAUTH"] {
        let mut session = server_behind_ehlo(server_config());
        let mut out = Vec::new();
        session.receive(begun);
        let _ = session.next(&mut out);
        out.clear();
        session.close(&Reply::IDLE, &mut out);
        assert!(out.starts_with(b"421 4.4.2 "));
        let length = out.len();
        session.close(&Reply::IDLE, &mut out);
        session.receive(AUTH_PLAIN);
        assert!(matches!(session.next(&mut out), server::Event::Close));
        session.tls_started(Channel::tls());
        assert!(matches!(session.next(&mut out), server::Event::Close));
        assert_eq!(out.len(), length);
    }
}

#[test]
fn octets_behind_the_reply_to_starttls_end_it_before_tls_begins() {
    let config = client::Config::builder("client.example.com").build().unwrap();
    let mut session = client::Session::new(config.into(), tim());
    let mut out = Vec::new();
    for block in ["220 x\r\n", "250-x\r\n250 STARTTLS\r\n"] {
        session.receive(block.as_bytes());
        assert!(matches!(session.next(&mut out), Ok(client::Event::NeedInput)));
    }
    session.receive(b"220 go\r\n2");
    assert!(matches!(session.next(&mut out), Err(client::Error::InjectedBeforeTls)));
    session.tls_started(Channel::tls());
    assert!(matches!(session.next(&mut out), Err(client::Error::InjectedBeforeTls)));
}

/// A host's own values go with its configuration, and what they do must not leave a sign-in without
/// names.
#[cfg(feature = "xoauth2")]
#[test]
fn a_configuration_that_panics_when_dropped_changes_nothing() {
    struct Loud;

    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    let loud = Loud;
    let nonces = move || {
        let _ = &loud;
        Err(sasl::NonceError)
    };
    let config = Arc::new(sasl_server().nonces(nonces).build().unwrap());
    let first = b"user=Ursel\x01auth=Bearer a\x01\x01".to_vec();
    let mut server =
        sasl::server::Exchange::new(&config, &channel(), Mechanism::Xoauth2, Some(first));
    drop(config);
    let Some(Query::CheckToken(ask)) = server.query() else { panic!("no question") };
    ask.answer(TokenAnswer::Accept("Kurt".into()));
    let sasl::server::Step::Query(Query::Authorize(ask)) = server.step() else {
        panic!("no question");
    };
    ask.answer(true);
    let step = std::panic::AssertUnwindSafe(|| drop(server.step()));
    assert!(std::panic::catch_unwind(step).is_err());
    let sasl::server::Step::Done(Ok(who)) = server.step() else { panic!("not signed in") };
    assert_eq!((who.authcid(), who.authzid()), ("Kurt", Some("Ursel")));
}
