//! `Debug` shows no octet string of an exchange: everything that can be formatted is, in every state of
//! both sides, on all three levels, with every mechanism.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    auth, client,
    reply::ReplyRef,
    sasl::{
        self, Channel, ChannelBinding, CramSecret, CustomAnswer, Mechanism, Query, ScramKeys,
        TokenAnswer, TokenError,
        client::{Credentials, CustomResponse, Derive},
    },
    server,
};

use crate::forms::{Shown, forms};

const USER: &str = "timothy@example.org";
const OTHER: &str = "another@example.net";
const HOST: &str = "smtp.example.com";
const PASSWORD: &str = "Qz7rightPasswordXw9";
const TOKEN: &str = "Hd5rightTokenPl8.mn6";
const CUSTOM: &str = "X-OWN-MECHANISM";

/// What is asked for by the client, and what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Right,
    Wrong,
    /// To act as another, which is allowed.
    Allowed,
    /// Which is not.
    Forbidden,
}

const CASES: [Case; 4] = [Case::Right, Case::Wrong, Case::Allowed, Case::Forbidden];

impl Case {
    fn names_another(self) -> bool {
        matches!(self, Self::Allowed | Self::Forbidden)
    }

    fn succeeds(self) -> bool {
        matches!(self, Self::Right | Self::Allowed)
    }
}

/// Each mechanism with each case that it has.
fn cases() -> impl Iterator<Item = (Mechanism, Case)> {
    let all = Mechanism::COMPILED.iter().copied().chain(Mechanism::custom(CUSTOM));
    all.flat_map(|mechanism| CASES.map(|case| (mechanism, case))).filter(|(mechanism, case)| {
        let silent =
            matches!(mechanism, Mechanism::Login | Mechanism::CramMd5 | Mechanism::Anonymous);
        !(silent && case.names_another()
            || *case == Case::Wrong
                && matches!(mechanism, Mechanism::External | Mechanism::Anonymous))
    })
}

fn channel() -> Channel {
    let binding = ChannelBinding::tls_exporter(*b"Ys2whatBindsToThisConnectionZc05");
    Channel::tls().with_binding(binding).with_identity(USER).unwrap()
}

fn server_config() -> Arc<sasl::server::Config> {
    let all = [Mechanism::COMPILED, &[Mechanism::custom(CUSTOM).unwrap()]].concat();
    Arc::new(sasl::server::Config::builder(HOST).mechanisms(all).build().unwrap())
}

fn client_config(mechanism: Mechanism) -> sasl::client::Config {
    let config = sasl::client::Config::builder().mechanisms([mechanism]).without(mechanism.plus());
    config.scram_iterations(1, 1).build().unwrap()
}

fn credentials(mechanism: Mechanism, case: Case) -> Credentials {
    let credentials = match mechanism {
        Mechanism::External => Credentials::external(),
        Mechanism::Anonymous => Credentials::anonymous(USER).unwrap(),
        Mechanism::Custom(_) => Credentials::custom(mechanism),
        _ if mechanism.takes_token() => Credentials::token(USER, TOKEN)
            .unwrap()
            .for_server("where.it.is.meant.for", 25)
            .unwrap(),
        _ => Credentials::password(USER, PASSWORD).unwrap(),
    };
    match (case.names_another(), mechanism) {
        (true, Mechanism::Custom(_)) | (false, _) => credentials,
        (true, _) => credentials.acting_as(OTHER).unwrap(),
    }
}

/// What passes between the two sides, with the parts of it that are something by themselves.
#[derive(Default)]
struct Passed(Vec<Vec<u8>>);

impl Passed {
    fn message(&mut self, message: &[u8]) {
        self.0.push(message.to_vec());
        let apart = |octet: &u8| matches!(octet, b',' | b' ' | 0 | 1);
        for part in message.split(apart) {
            let value = if part.get(1) == Some(&b'=') { &part[2..] } else { part };
            self.0.extend([part.to_vec(), value.to_vec()]);
            self.0.extend(STANDARD.decode(value));
            if value.len() % 2 == 0 && value.iter().all(u8::is_ascii_hexdigit) {
                let digits = std::str::from_utf8(value).unwrap();
                let octet = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
                self.0.push((0..value.len()).step_by(2).map(octet).collect());
            }
        }
    }

    /// All but names, prompts, and what is too short to be told from chance.
    fn secrets(&self) -> Vec<String> {
        let known = |octets: &[u8]| {
            let text = String::from_utf8_lossy(octets).into_owned();
            [USER, OTHER, HOST, "where.it.is.meant.for", "tls-exporter"]
                .iter()
                .any(|name| text == *name || text.ends_with(&format!("={name}")))
        };
        let secret = self.0.iter().filter(|octets| octets.len() >= 8 && !known(octets));
        secret.flat_map(|octets| forms(octets)).collect()
    }
}

/// Answers the question, and prints it, its copy and all answers.
fn answer(query: Query<'_>, case: Case, shown: &Shown) {
    shown.debug(&query);
    let Some(mut job) = query.job() else {
        let Query::Custom(ask) = query else { panic!("only these have none") };
        return answer_custom(ask, case, shown);
    };
    shown.debug(&job);
    match job.query() {
        Query::CheckPassword(ask) => ask.answer(case != Case::Wrong),
        Query::CramSecret(ask) => {
            let password = if case == Case::Wrong { "another" } else { PASSWORD };
            let secret = CramSecret::from_password(password);
            shown.debug(&secret);
            ask.answer(Some(secret));
        }
        Query::ScramKeys(ask) => {
            let password = if case == Case::Wrong { "another" } else { PASSWORD };
            let salt = b"a salt of the test";
            let keys = ScramKeys::from_password(ask.hash(), password, salt, 1);
            shown.debug(&keys);
            ask.answer(keys);
        }
        Query::CheckToken(ask) => {
            shown.debug(ask.token());
            let error = TokenError::INVALID_TOKEN.scope("mail");
            let good = TokenAnswer::Accept(USER.into());
            ask.answer(if case == Case::Wrong { TokenAnswer::RejectWith(error) } else { good });
        }
        Query::CheckExternal(ask) => ask.answer(Some(USER.to_owned())),
        Query::CheckAnonymous(ask) => ask.answer(true),
        Query::Authorize(ask) => ask.answer(case == Case::Allowed),
        other => panic!("{other:?}"),
    }
    shown.debug(&job);
    shown.debug(&job.query());
    assert!(query.answer_from(job));
}

fn answer_custom(ask: &mut sasl::Custom, case: Case, shown: &Shown) {
    let answer = match ask.response() {
        None | Some(b"Ub4firstOfTheClient") => {
            CustomAnswer::Challenge(b"Lr6secondOfTheServer".to_vec())
        }
        _ if case == Case::Wrong => CustomAnswer::Fail(sasl::Failure::Rejected),
        _ => CustomAnswer::Accept {
            authcid: USER.into(),
            authzid: case.names_another().then(|| OTHER.into()),
        },
    };
    shown.debug(&answer);
    shown.debug(&answer.clone());
    ask.answer(answer);
    shown.debug(ask);
}

fn respond_custom(ask: &mut sasl::client::Custom, shown: &Shown) {
    let answer = match ask.data() {
        None => CustomResponse::Respond(b"Ub4firstOfTheClient".to_vec()),
        Some(_) => CustomResponse::Complete(b"Ty9thirdOfTheClient".to_vec()),
    };
    shown.debug(&answer);
    ask.answer(answer);
    shown.debug(ask);
}

fn derive(ask: &mut Derive, shown: &Shown) {
    shown.debug(ask);
    shown.debug(&ask.job());
    ask.run();
    shown.debug(&ask.salted());
    shown.debug(ask);
}

/// What the client says next, with its work done and all printed.
fn response(
    client: &mut sasl::client::Exchange,
    shown: &Shown,
    passed: &mut Passed,
) -> Option<Vec<u8>> {
    loop {
        shown.debug(client);
        let step = client.step();
        shown.debug(&step);
        match step {
            sasl::client::Step::Response(response) => {
                let data = response.data().map(<[u8]>::to_vec);
                passed.message(data.as_deref().unwrap_or_default());
                return data;
            }
            sasl::client::Step::Derive(ask) => derive(ask, shown),
            sasl::client::Step::Custom(ask) => respond_custom(ask, shown),
            sasl::client::Step::Done(outcome) => panic!("{outcome:?}"),
        }
    }
}

#[test]
fn of_sasl_exchanges() {
    for (mechanism, case) in cases() {
        let (shown, mut passed) = (Shown::default(), Passed::default());
        let (server_config, client_config) = (server_config(), client_config(mechanism));
        let credentials = credentials(mechanism, case);
        let choice = mechanism;
        shown.debug(&(&server_config, &client_config, &credentials, choice, channel()));
        let mut client =
            sasl::client::Exchange::new(&client_config, &channel(), choice, credentials);
        let initial = response(&mut client, &shown, &mut passed);
        let mut server =
            sasl::server::Exchange::new(&server_config, &channel(), mechanism, initial);
        let outcome = loop {
            shown.debug(&server);
            let step = server.step();
            shown.debug(&step);
            match step {
                sasl::server::Step::Challenge(challenge) => {
                    passed.message(challenge.data());
                    if let sasl::client::Step::Response(slot) = client.step() {
                        slot.challenge(challenge.data());
                        shown.debug(slot);
                    }
                    shown.debug(&client);
                    let response = response(&mut client, &shown, &mut passed);
                    challenge.respond(response.unwrap());
                    shown.debug(challenge);
                }
                sasl::server::Step::Query(query) => answer(query, case, &shown),
                sasl::server::Step::Done(outcome) => break outcome.is_ok(),
            }
        };
        assert_eq!(outcome, case.succeeds(), "{mechanism}, {case:?}");
        shown.debug(&client);
        shown.debug(&server);
        shown.has_none_of(&passed.secrets(), &format!("{mechanism}, {case:?}"));
    }
}

/// The client's lines, with its work done and all printed.
fn client_lines(client: &mut auth::client::Exchange, out: &mut Vec<u8>, shown: &Shown) {
    loop {
        shown.debug(client);
        let step = client.step(out);
        shown.debug(&step);
        match step {
            auth::client::Step::Derive(ask) => derive(ask, shown),
            auth::client::Step::Custom(ask) => respond_custom(ask, shown),
            auth::client::Step::NeedReply(_) | auth::client::Step::Done(_) => return,
        }
    }
}

#[test]
fn of_auth_exchanges() {
    for (mechanism, case) in cases() {
        let (shown, mut passed) = (Shown::default(), Passed::default());
        let choice = mechanism;
        let mut client = auth::client::Exchange::new(
            &client_config(mechanism),
            &channel(),
            choice,
            credentials(mechanism, case),
        );
        let (mut line, mut replies) = (Vec::new(), Vec::new());
        client_lines(&mut client, &mut line, &shown);
        passed.line(&line);
        let args = line.strip_prefix(b"AUTH ").unwrap().trim_ascii_end();
        let mut server = auth::server::Exchange::new(&server_config(), &channel(), args);
        loop {
            shown.debug(&server);
            let step = server.step(&mut replies);
            shown.debug(&step);
            match step {
                auth::server::Step::Query(query) => {
                    answer(query, case, &shown);
                    continue;
                }
                auth::server::Step::NeedLine(slot) => {
                    passed.line(&replies);
                    reply(&mut client, &replies, &shown);
                    replies.clear();
                    line.clear();
                    client_lines(&mut client, &mut line, &shown);
                    passed.line(&line);
                    slot.line(line.trim_ascii_end());
                }
                auth::server::Step::Done(_) => {
                    reply(&mut client, &replies, &shown);
                    break;
                }
            }
        }
        client_lines(&mut client, &mut line, &shown);
        let auth::client::Step::Done(outcome) = client.step(&mut line) else {
            panic!("it is over")
        };
        if let Err(failure) = outcome {
            shown.both(failure);
        }
        assert_eq!(outcome.is_ok(), case.succeeds(), "{mechanism}, {case:?}");
        shown.debug(&server);
        shown.has_none_of(&passed.secrets(), &format!("{mechanism}, {case:?}"));
    }
}

fn reply(client: &mut auth::client::Exchange, replies: &[u8], shown: &Shown) {
    let reply = ReplyRef::parse(replies).unwrap();
    shown.debug(&reply);
    shown.both(&reply.to_reply());
    let auth::client::Step::NeedReply(slot) = client.step(&mut Vec::new()) else {
        panic!("a reply is awaited")
    };
    slot.reply(reply);
    shown.debug(client);
}

impl Passed {
    /// What base64 there is in a line.
    fn line(&mut self, line: &[u8]) {
        for word in line.split(|octet| octet.is_ascii_whitespace()) {
            if let Ok(message) = STANDARD.decode(word) {
                self.message(&message);
            }
        }
    }
}

/// A client's and a server's session in memory, each of their events and all of their states printed.
#[test]
fn of_sessions() {
    for (mechanism, case) in cases() {
        let (shown, mut passed) = (Shown::default(), Passed::default());
        let server_config = server::Config::builder(HOST).sasl(server_config()).build().unwrap();
        let server_config = Arc::new(server_config);
        let config = client::Config::builder("client.example.com").sasl(client_config(mechanism));
        let config = config.build().unwrap();
        shown.debug(&(&server_config, &config));
        let mut server = server::Session::new(server_config);
        let mut client = client::Session::new(config.into(), credentials(mechanism, case));
        server.tls_started(channel());
        client.tls_started(channel());
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        let (mut open, mut signed_in) = (true, false);
        while open {
            open = server_turn(&mut server, &mut to_client, case, &shown);
            passed.replies(&to_client);
            // A piece of a line is a state too.
            for piece in to_client.chunks(50) {
                client.receive(piece);
                client_turn(&mut client, &mut to_server, &shown);
            }
            to_client.clear();
            signed_in |= client.authenticated().is_some();
            passed.line(&to_server);
            for piece in to_server.chunks(50) {
                server.receive(piece);
                if open {
                    open = server_turn(&mut server, &mut to_client, case, &shown);
                }
            }
            to_server.clear();
        }
        assert_eq!(signed_in, case.succeeds(), "{mechanism}, {case:?}");
        shown.debug(&client.eof());
        shown.has_none_of(&passed.secrets(), &format!("{mechanism}, {case:?}"));
    }
}

impl Passed {
    /// What base64 there is in challenges.
    fn replies(&mut self, block: &[u8]) {
        let lines = block.split(|octet| *octet == b'\n');
        lines.filter(|line| line.starts_with(b"334 ")).for_each(|line| self.line(line));
    }
}

fn server_turn(server: &mut server::Session, out: &mut Vec<u8>, case: Case, shown: &Shown) -> bool {
    loop {
        shown.debug(server);
        let event = server.next(out);
        shown.debug(&event);
        match event {
            server::Event::NeedInput => return true,
            server::Event::Close => return false,
            server::Event::Query(query) => answer(query, case, shown),
            server::Event::AuthFailed(failed) => shown.both(&failed),
            server::Event::Authenticated(_) | server::Event::Hello(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn client_turn(client: &mut client::Session, out: &mut Vec<u8>, shown: &Shown) {
    loop {
        shown.debug(client);
        let event = client.next(out).unwrap();
        shown.debug(&event);
        match event {
            client::Event::NeedInput | client::Event::Close => return,
            client::Event::Derive(ask) => derive(ask, shown),
            client::Event::Custom(ask) => respond_custom(ask, shown),
            client::Event::NotAuthenticated(failed) => {
                shown.both(failed.reason());
                shown.both(&failed.error());
                failed.quit();
            }
            client::Event::Ready(ready) => ready.quit(),
            other => panic!("{other:?}"),
        }
    }
}

/// A line of letters after a refused AUTH may be a password, and a mechanism's name that is none, too.
#[test]
fn of_commands() {
    use smtp_auth::command::parse;
    let shown = Shown::default();
    shown.debug(&parse(b"SecretLettersAlone"));
    shown.debug(&parse(b"AUTH SecretLettersAlone"));
    shown.debug(&parse(b"AUTH plain SecretLettersAlone"));
    shown.has_none_of(&forms(b"SecretLettersAlone"), "commands");
}
