//! `rsasl`: its callbacks, and what stands around it in an SMTP server.

use std::{hint::black_box, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use rsasl::{
    callback::{Context, Request, SessionCallback, SessionData},
    mechanisms::scram::properties::{SaltedPassword, ScramStoredPassword},
    prelude::{Mechname, SASLClient, SASLConfig, SASLServer, SessionError, State, Validation},
    property::{AuthId, Password},
    validate::{Validate, ValidationError},
};
use sha2::{Digest, Sha256};
use smtp_proto::Request as Command;

use crate::{
    inputs::{
        ITERATIONS, OtherSide, PASSWORD, SALT, SUCCESS, USER, hmac_sha256, salted_password, text,
        without_crlf,
    },
    works::Run,
};

/// The one account, as a server keeps it.
struct OneUser {
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

/// Says whether the client is the one user.
pub struct SignedIn;

impl Validation for SignedIn {
    type Value = bool;
}

impl SessionCallback for OneUser {
    fn callback(
        &self,
        _: &SessionData,
        context: &Context,
        request: &mut Request<'_>,
    ) -> Result<(), SessionError> {
        if context.get_ref::<AuthId>() == Some(USER) {
            let keys =
                ScramStoredPassword::new(ITERATIONS, SALT, &self.stored_key, &self.server_key);
            request.satisfy::<ScramStoredPassword<'_>>(&keys)?;
        }
        Ok(())
    }

    fn validate(
        &self,
        _: &SessionData,
        context: &Context,
        validate: &mut Validate<'_>,
    ) -> Result<(), ValidationError> {
        validate.with::<SignedIn, _>(|| {
            let name = context.get_ref::<AuthId>() == Some(USER);
            // SCRAM has no password here, and has verified its proof.
            let password = context.get_ref::<Password>().unwrap_or(PASSWORD.as_bytes());
            Ok(name && password == PASSWORD.as_bytes())
        })?;
        Ok(())
    }
}

pub fn server_config() -> Arc<SASLConfig> {
    let salted = salted_password();
    let stored_key = Sha256::digest(hmac_sha256(&salted, b"Client Key")).into();
    let server_key = hmac_sha256(&salted, b"Server Key");
    let users = OneUser { stored_key, server_key };
    SASLConfig::builder().with_default_mechanisms().with_callback(users).unwrap()
}

/// One AUTH command: the line by `smtp-proto`, the mechanism by `rsasl`, base64 and replies by
/// hand.
pub fn auth(mechanism: &'static str, lines: &'static [&'static [u8]]) -> Run {
    let (config, mut out) = (server_config(), Vec::with_capacity(1024));
    let mut challenge = Vec::with_capacity(256);
    Box::new(move || {
        out.clear();
        let Command::Auth { initial_response, .. } =
            Command::parse(&mut black_box(lines[0]).iter()).unwrap()
        else {
            panic!("not AUTH")
        };
        let mechanism = Mechname::parse(mechanism.as_bytes()).unwrap();
        let server = SASLServer::<SignedIn>::new(config.clone());
        let mut session = server.start_suggested(mechanism).unwrap();
        let mut lines = lines[1..].iter().map(|line| without_crlf(black_box(line)));
        let mut response = match &*initial_response {
            "" => None,
            encoded => Some(STANDARD.decode(encoded).unwrap()),
        };
        loop {
            challenge.clear();
            let state = session.step(response.as_deref(), &mut challenge).unwrap();
            if let State::Finished(_) = state {
                break;
            }
            out.extend_from_slice(b"334 ");
            out.extend_from_slice(STANDARD.encode(&challenge).as_bytes());
            out.extend_from_slice(b"\r\n");
            response = Some(STANDARD.decode(lines.next().unwrap()).unwrap());
        }
        assert_eq!(session.validation(), Some(true));
        out.extend_from_slice(SUCCESS);
        black_box(&out);
    })
}

/// What a client has: the password, or it salted.
struct Client(Option<[u8; 32]>);

impl SessionCallback for Client {
    fn callback(
        &self,
        _: &SessionData,
        _: &Context,
        request: &mut Request<'_>,
    ) -> Result<(), SessionError> {
        request.satisfy::<AuthId>(USER)?;
        match &self.0 {
            Some(salted) => request.satisfy::<SaltedPassword>(salted)?,
            None => request.satisfy::<Password>(PASSWORD.as_bytes())?,
        };
        Ok(())
    }
}

/// SCRAM-SHA-256 as a client, with the other side.
pub fn scram_client(salted: Option<[u8; 32]>) -> Run {
    let config =
        SASLConfig::builder().with_default_mechanisms().with_callback(Client(salted)).unwrap();
    let server = OtherSide::new();
    let (mut first, mut last) = (Vec::with_capacity(256), Vec::with_capacity(256));
    Box::new(move || {
        first.clear();
        last.clear();
        let mechanism = Mechname::parse(b"SCRAM-SHA-256").unwrap();
        let mut session = SASLClient::new(config.clone()).start_suggested(&[mechanism]).unwrap();
        session.step(None, &mut first).unwrap();
        let challenge = OtherSide::server_first(text(&first));
        session.step(Some(challenge.as_bytes()), &mut last).unwrap();
        let challenge = server.server_final(text(&first), text(&last));
        let state = session.step(Some(challenge.as_bytes()), &mut Vec::new()).unwrap();
        assert!(state.is_finished());
    })
}
