//! SCRAM: the stored forms, what a client and a server must not believe, and what a client keeps.

mod as_client;
mod as_server;
mod kept;
mod stored;

use core::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU32, Ordering},
};
use std::{panic::catch_unwind, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    auth,
    reply::ReplyRef,
    sasl::{
        Answer, Authenticator, Channel, CheckPassword, CramSecret, CramSecretFor, Failure,
        Mechanism, Nonce, Query, SaltedPassword, ScramHash, ScramKeys, ScramKeysFor, ScramParts,
        client::{self, Credentials, NoMechanism},
        server,
    },
};

const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

const SHA_256: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
    $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn keys(hash: ScramHash, password: &str) -> Option<ScramKeys> {
    ScramKeys::from_password(hash, password, &STANDARD.decode(SALT).unwrap(), 4096)
}

/// A store that has what a Dovecot database has, and no passwords.
struct Store(Option<ScramKeys>, Option<CramSecret>, Vec<Mechanism>);

impl Authenticator for Store {
    fn mechanisms(&self) -> &[Mechanism] {
        &self.2
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        let password = ask.password().expose();
        let by_keys = self.0.as_ref().is_some_and(|keys| keys.check_password(password));
        let by_states = self.1.as_ref().is_some_and(|states| states.check_password(password));
        (ask.authcid() == "tim" && (by_keys || by_states)).into()
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        self.1.clone().filter(|_| ask.authcid() == "tim").into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.0.clone().filter(|_| ask.authcid() == "tim").into()
    }
}

impl Store {
    fn new(scram: Option<ScramKeys>, cram: Option<CramSecret>) -> Self {
        let of_scram = scram.as_ref().map(|keys| keys.hash().mechanism());
        let of_cram = cram.as_ref().map(|_| Mechanism::CramMd5);
        let mechanisms = of_scram.into_iter().chain(of_cram).chain([Mechanism::Plain]).collect();
        Self(scram, cram, mechanisms)
    }
}

/// The response that the client has for the server, its work done.
fn response(client: &mut client::Exchange) -> &mut client::Response {
    if let client::Step::Derive(derive) = client.step() {
        derive.run();
    }
    match client.step() {
        client::Step::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

/// What a server says to the first message of that user.
fn server_first(config: &Arc<server::Config>, name: &str, known: bool) -> (String, Failure) {
    let first = format!("n,,n={name},r=abc").into_bytes();
    let mechanism = Mechanism::ScramSha256;
    let mut exchange = server::Exchange::new(config, &Channel::tls(), mechanism, Some(first));
    let mut said = String::new();
    loop {
        match exchange.step() {
            server::Step::Query(Query::ScramKeys(ask)) => {
                let own = keys(ask.hash(), "pencil").filter(|_| known);
                ask.answer(own);
            }
            server::Step::Query(other) => other.reject(),
            server::Step::Challenge(challenge) => {
                said = String::from_utf8(challenge.data().to_vec()).unwrap();
                let nonce = said.split(',').next().unwrap();
                let proof = STANDARD.encode([7; 32]);
                challenge.respond(format!("c=biws,{nonce},p={proof}"));
            }
            server::Step::Done(outcome) => return (said, outcome.unwrap_err()),
        }
    }
}
