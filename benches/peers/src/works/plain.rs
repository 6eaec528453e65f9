//! PLAIN on a server.

use std::hint::black_box;

use base64::{Engine, engine::general_purpose::STANDARD};
use sasl::{
    common::Identity,
    secret::Plain as Secret,
    server::{Mechanism, Response, Validator, ValidatorError, mechanisms::Plain},
};
use smtp_proto::{AUTH_PLAIN as PLAIN, Request};

use super::{Row, Run, Work};
use crate::{
    inputs::{AUTH_PLAIN, PASSWORD, SUCCESS, USER},
    mailin, ours, rsasl,
};

pub const WORK: Work = Work {
    name: "plain-server",
    about: "AUTH PLAIN on a server, from the line's octets to the reply's",
    times: 100,
    rows: &[
        Row::ours(ours),
        Row::peer("smtp-proto + sasl", smtp_proto_and_sasl).note("base64 by hand"),
        Row::peer("smtp-proto + rsasl", || rsasl::auth("PLAIN", &[AUTH_PLAIN]))
            .note("base64 by hand"),
        Row::peer("mailin", || mailin::auth(&[AUTH_PLAIN])).aside(mailin::rset),
    ],
};

fn ours() -> Run {
    let mut server = ours::Server::new();
    Box::new(move || server.auth(&[AUTH_PLAIN]))
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
