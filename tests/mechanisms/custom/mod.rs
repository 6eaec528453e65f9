//! Mechanisms of the host's own, through all three doors, on both sides.

mod as_client;
mod as_server;
mod choice;
mod offers;
mod rounds;

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
        self, Authenticator, Authorize, AuthorizeAnswer, BindingPolicy, Channel, ConfigError,
        Custom, CustomAnswer, Failure, Identity, Mechanism, Query, ServerMechanism,
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

fn lines(out: &[u8]) -> Vec<String> {
    String::from_utf8(out.to_vec()).unwrap().lines().map(str::to_owned).collect()
}
