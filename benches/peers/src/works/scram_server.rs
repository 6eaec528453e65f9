//! SCRAM-SHA-256 on a server.

use std::hint::black_box;

use rand::rngs::mock::StepRng;
use rsasl::prelude::{Mechname, SASLServer};
use sasl::{
    common::{ChannelBinding, Identity, scram::Sha256},
    secret::Pbkdf2Sha256,
    server::{
        Mechanism as _, Provider, ProviderError, Response, Validator, ValidatorError,
        mechanisms::Scram,
    },
};
use scram::{AuthenticationProvider, AuthenticationStatus, PasswordInfo, ScramServer};
use smtp_auth::sasl::{
    Mechanism,
    server::{Exchange, Step},
};

use super::{Row, Run, Work};
use crate::{
    inputs::{CLIENT_NONCE, ITERATIONS, OtherSide, SALT, USER, salted_password, text},
    ours, rsasl as glue,
};

pub const WORK: Work = Work {
    name: "scram-server",
    about: "SCRAM-SHA-256 on a server with stored keys, without base64",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(ours),
        Row::peer("rsasl", rsasl).note("draws a nonce").aside(rsasl_client),
        Row::peer("sasl", sasl)
            .note("keeps the salted password; takes only `y`; draws a nonce, from the system")
            .aside(sasl_client),
        Row::peer("scram", scram).note("keeps the salted password"),
    ],
};

fn client_first(gs2: char) -> String {
    format!("{gs2},,n={USER},r={CLIENT_NONCE}")
}

fn ours() -> Run {
    let server = ours::Server::new();
    let first = client_first('n');
    let begin = move || {
        let first = black_box(&first).as_bytes().to_vec();
        Exchange::new(&server.config, &server.channel, Mechanism::ScramSha256, Some(first))
    };
    let server = ours::Server::new();
    let mut once = begin();
    let Step::Query(query) = once.step() else { panic!() };
    server.answer(query);
    let Step::Challenge(challenge) = once.step() else { panic!() };
    let last = OtherSide::new().client_final('n', text(challenge.data()));
    Box::new(move || {
        let mut exchange = begin();
        let mut responses = [black_box(&*last), ""].into_iter();
        loop {
            match exchange.step() {
                Step::Query(query) => server.answer(query),
                Step::Challenge(slot) => slot.respond(responses.next().unwrap()),
                Step::Done(outcome) => {
                    assert_eq!(outcome.unwrap().authcid(), USER);
                    break;
                }
            }
        }
    })
}

fn rsasl() -> Run {
    let (config, client, first) = (glue::server_config(), OtherSide::new(), client_first('n'));
    let mut out = Vec::with_capacity(256);
    Box::new(move || {
        out.clear();
        let server = SASLServer::<glue::SignedIn>::new(config.clone());
        let mechanism = Mechname::parse(b"SCRAM-SHA-256").unwrap();
        let mut session = server.start_suggested(mechanism).unwrap();
        session.step(Some(black_box(first.as_bytes())), &mut out).unwrap();
        let last = client.client_final('n', text(&out));
        out.clear();
        assert!(session.step(Some(last.as_bytes()), &mut out).unwrap().is_finished());
        assert_eq!(session.validation(), Some(true));
        assert!(out.starts_with(b"v="));
    })
}

/// The other side to a server's first message of the length that `rsasl` makes.
fn rsasl_client() -> Run {
    client_alone('n', 24)
}

fn sasl_client() -> Run {
    client_alone('y', 44)
}

fn client_alone(gs2: char, nonce: usize) -> Run {
    let client = OtherSide::new();
    let first =
        OtherSide::server_first(&format!("r={CLIENT_NONCE}{:x<width$}", "", width = nonce - 16));
    Box::new(move || {
        black_box(client.client_final(gs2, black_box(&first)));
    })
}

struct OneUser(Pbkdf2Sha256);

impl Validator<Pbkdf2Sha256> for &OneUser {
    fn validate(&self, _: &Identity, _: &Pbkdf2Sha256) -> Result<(), ValidatorError> {
        unreachable!("SCRAM asks for the keys")
    }
}

impl Provider<Pbkdf2Sha256> for &OneUser {
    fn provide(&self, identity: &Identity) -> Result<Pbkdf2Sha256, ProviderError> {
        assert!(matches!(identity, Identity::Username(name) if name == USER));
        Ok(self.0.clone())
    }
}

fn sasl() -> Run {
    let digest = salted_password().to_vec();
    let users = OneUser(Pbkdf2Sha256 { salt: SALT.to_vec(), iterations: ITERATIONS, digest });
    let (client, first) = (OtherSide::new(), client_first('y'));
    Box::new(move || {
        let mut server = Scram::<Sha256, _>::new(&users, ChannelBinding::Unsupported);
        let reply = server.respond(black_box(first.as_bytes())).unwrap();
        let Response::Proceed(server_first) = reply else { panic!() };
        let last = client.client_final('y', text(&server_first));
        let reply = server.respond(last.as_bytes()).unwrap();
        let Response::Success(Identity::Username(name), signature) = reply else { panic!() };
        assert!(name == USER && signature.starts_with(b"v="));
    })
}

struct Keeper([u8; 32]);

impl AuthenticationProvider for Keeper {
    fn get_password_for(&self, name: &str) -> Option<PasswordInfo> {
        let info = || PasswordInfo::new(self.0.to_vec(), ITERATIONS as u16, SALT.to_vec());
        (name == USER).then(info)
    }
}

fn scram() -> Run {
    let server = ScramServer::new(Keeper(salted_password()));
    let rng = || StepRng::new(1, 0x9e37_79b9_7f4a_7c15);
    let first = client_first('n');
    let (_, server_first) =
        server.handle_client_first(&first).unwrap().server_first_with_rng(&mut rng());
    let last = OtherSide::new().client_final('n', &server_first);
    Box::new(move || {
        let state = server.handle_client_first(black_box(&first)).unwrap();
        let (state, server_first) = state.server_first_with_rng(&mut rng());
        black_box(server_first);
        let state = state.handle_client_final(black_box(&last)).unwrap();
        let (status, signature) = state.server_final();
        assert!(status == AuthenticationStatus::Authenticated && signature.starts_with("v="));
    })
}
