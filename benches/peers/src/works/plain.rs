//! PLAIN on a server.

use std::hint::black_box;

use base64::{Engine, engine::general_purpose::STANDARD};
use sasl::{
    common::Identity,
    secret::Plain as Secret,
    server::{Mechanism, Response, Validator, ValidatorError, mechanisms::Plain},
};
use smtp_auth::command::{self, Command};
use smtp_proto::{AUTH_PLAIN as PLAIN, Request};

use super::{Row, Run, Work};
use crate::{
    inputs::{AUTH_PLAIN, PASSWORD, SUCCESS, USER, text, without_crlf},
    mailin, ours, rsasl,
};

pub const WORK: Work = Work {
    name: "plain-server",
    about: "AUTH PLAIN on a server, from the client's line to the reply",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(ours),
        Row::peer("smtp-proto + sasl", smtp_proto_and_sasl).note("base64 by hand"),
        Row::peer("smtp-proto + rsasl", || rsasl::auth("PLAIN", &[AUTH_PLAIN]))
            .note("base64 by hand"),
        Row::peer("mailin", || mailin::auth(&[AUTH_PLAIN])).aside(mailin::rset),
        Row::yardstick("grammar and base64", bare)
            .note("of smtp-auth, without an exchange: no policy, no question, nothing zeroed"),
    ],
};

fn ours() -> Run {
    let mut server = ours::Server::new();
    Box::new(move || server.auth(&[AUTH_PLAIN]))
}

/// What the line's grammar, base64, UTF-8 and the comparison take by themselves.
fn bare() -> Run {
    let mut out = Vec::with_capacity(1024);
    Box::new(move || {
        out.clear();
        let line = without_crlf(black_box(AUTH_PLAIN));
        let Ok(Command::Auth(auth)) = command::parse(line) else { panic!("not AUTH") };
        assert_eq!(auth.mechanism(), "PLAIN");
        let mut message = Vec::with_capacity(64);
        STANDARD.decode_vec(auth.initial_response().unwrap(), &mut message).unwrap();
        let message = text(&message).as_bytes();
        let mut octets = message.iter();
        let mut field = || octets.position(|octet| *octet == 0);
        let (Some(authzid), Some(authcid), None) = (field(), field(), field()) else { panic!() };
        let (user, password) = message[authzid + 1..].split_at(authcid);
        assert!(user == USER.as_bytes() && password[1..] == *PASSWORD.as_bytes());
        out.extend_from_slice(SUCCESS);
        black_box(&out);
    })
}

struct OneUser;

impl Validator<Secret> for OneUser {
    fn validate(&self, identity: &Identity, value: &Secret) -> Result<(), ValidatorError> {
        let good = matches!(identity, Identity::Username(name) if name == USER);
        if good && value.0 == PASSWORD { Ok(()) } else { Err(ValidatorError::AuthenticationFailed) }
    }
}

fn smtp_proto_and_sasl() -> Run {
    let mut out = Vec::with_capacity(1024);
    Box::new(move || {
        out.clear();
        let command = Request::parse(&mut black_box(AUTH_PLAIN).iter()).unwrap();
        let Request::Auth { mechanism: PLAIN, initial_response } = command else { panic!() };
        let response = STANDARD.decode(&*initial_response).unwrap();
        let outcome = Plain::new(OneUser).respond(&response).unwrap();
        assert!(matches!(outcome, Response::Success(Identity::Username(name), _) if name == USER));
        out.extend_from_slice(SUCCESS);
        black_box(&out);
    })
}
