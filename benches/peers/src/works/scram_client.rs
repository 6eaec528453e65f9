//! SCRAM-SHA-256 on a client, with the password. The other side answers within: under a thousandth.

use std::hint::black_box;

use rand::rngs::mock::StepRng;
use sasl::{
    client::{Mechanism as _, mechanisms::Scram},
    common::{ChannelBinding, scram::Sha256},
};
use scram::ScramClient;
use smtp_auth::sasl::{
    Channel, Mechanism, Nonce,
    client::{Config, Credentials, Exchange, Step},
};

use super::{Row, Run, Work};
use crate::{
    inputs::{CLIENT_NONCE, ITERATIONS, OtherSide, PASSWORD, SALT, USER, salted_password, text},
    rsasl,
};

pub const WORK: Work = Work {
    name: "scram-client",
    about: "SCRAM-SHA-256 on a client, from the password, with 4,096 iterations of PBKDF2",
    times: 2,
    parts: 1,
    rows: &[
        Row::ours(ours),
        Row::peer("rsasl", || rsasl::scram_client(None)),
        Row::peer("sasl", sasl),
        Row::peer("scram", scram).note("ring's SHA-256, in assembly"),
        Row::yardstick("pbkdf2", pbkdf2).note("PBKDF2 alone: the part that nobody can leave out"),
    ],
};

fn ours() -> Run {
    let mut client = Ours::new();
    Box::new(move || client.sign_in())
}

/// A client of this crate, and what its server says, which is the same each time as the nonces are.
pub(super) struct Ours {
    config: Config,
    channel: Channel,
    pub(super) credentials: Credentials,
    challenges: [String; 2],
}

impl Ours {
    pub(super) fn new() -> Self {
        let server_first = OtherSide::server_first(&format!("r={CLIENT_NONCE}"));
        let client_first = format!("n,,n={USER},r={CLIENT_NONCE}");
        let server = OtherSide::new();
        let client_final = server.client_final('n', &server_first);
        Self {
            config: Config::builder().nonces(|| Nonce::new(CLIENT_NONCE)).build().unwrap(),
            channel: Channel::tls(),
            credentials: Credentials::password(USER, PASSWORD).unwrap(),
            challenges: [server_first, server.server_final(&client_first, &client_final)],
        }
    }

    /// Signs in, and keeps the salted password if it was made.
    pub(super) fn sign_in(&mut self) {
        let choice = Mechanism::ScramSha256;
        let credentials = self.credentials.clone();
        let mut exchange = Exchange::new(&self.config, &self.channel, choice, credentials);
        let mut challenges = self.challenges.iter();
        loop {
            match exchange.step() {
                Step::Response(response) => match challenges.next() {
                    Some(challenge) => response.challenge(black_box(challenge).as_bytes()),
                    None => response.success(),
                },
                Step::Derive(derive) => derive.run(),
                Step::Done(outcome) => return outcome.unwrap(),
                Step::Custom(_) => panic!("for a mechanism of the host's own"),
            }
        }
    }

    /// With the salted password of a sign-in.
    pub(super) fn salted(mut self) -> Self {
        let choice = Mechanism::ScramSha256;
        let credentials = self.credentials.clone();
        let mut exchange = Exchange::new(&self.config, &self.channel, choice, credentials);
        let Step::Response(response) = exchange.step() else { panic!() };
        response.challenge(self.challenges[0].as_bytes());
        let Step::Derive(derive) = exchange.step() else { panic!() };
        derive.run();
        self.credentials = self.credentials.salted(derive.salted().unwrap().clone());
        self
    }
}

fn sasl() -> Run {
    let server = OtherSide::new();
    Box::new(move || {
        let mut client = Scram::<Sha256>::new(USER, PASSWORD, ChannelBinding::None).unwrap();
        let first = client.initial();
        let server_first = OtherSide::server_first(text(&first));
        let last = client.response(server_first.as_bytes()).unwrap();
        let signature = server.server_final(text(&first), text(&last));
        client.success(signature.as_bytes()).unwrap();
    })
}

fn scram() -> Run {
    let server = OtherSide::new();
    Box::new(move || {
        let rng = &mut StepRng::new(1, 0x9e37_79b9_7f4a_7c15);
        let client = ScramClient::with_rng(USER, PASSWORD, None, rng);
        let (client, first) = client.client_first();
        let client = client.handle_server_first(&OtherSide::server_first(&first)).unwrap();
        let (client, last) = client.client_final();
        client.handle_server_final(&server.server_final(&first, &last)).unwrap();
    })
}

fn pbkdf2() -> Run {
    let expected = salted_password();
    Box::new(move || {
        let mut salted = [0; 32];
        let (password, salt) = black_box((PASSWORD.as_bytes(), SALT));
        pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password, salt, ITERATIONS, &mut salted);
        assert_eq!(salted, expected);
    })
}
