//! LOGIN on a server.

use std::hint::black_box;

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::command::{self, Command};

use super::{Row, Run, Work};
use crate::{
    inputs::{AUTH_LOGIN, PASSWORD, SUCCESS, USER, text, without_crlf, write_challenge},
    mailin, ours, rsasl,
};

pub const WORK: Work = Work {
    name: "login-server",
    about: "AUTH LOGIN on a server, from the client's three lines to the replies",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(ours),
        Row::peer("smtp-proto + rsasl", || rsasl::auth("LOGIN", &AUTH_LOGIN))
            .note("base64 by hand"),
        Row::peer("mailin", || mailin::auth(&AUTH_LOGIN)).aside(mailin::rset),
        Row::yardstick("grammar and base64", bare)
            .note("of smtp-auth, without an exchange: no policy, no question, nothing zeroed"),
    ],
};

/// What the line's grammar, base64, UTF-8 and the comparison take by themselves.
fn bare() -> Run {
    let mut out = Vec::with_capacity(1024);
    Box::new(move || {
        out.clear();
        let [line, answers @ ..] = black_box(AUTH_LOGIN).map(without_crlf);
        let Ok(Command::Auth(auth)) = command::parse(line) else { panic!("not AUTH") };
        assert_eq!(auth.mechanism(), "LOGIN");
        for ((prompt, answer), right) in PROMPTS.iter().zip(answers).zip([USER, PASSWORD]) {
            write_challenge(prompt, &mut out);
            let mut response = Vec::with_capacity(64);
            STANDARD.decode_vec(answer, &mut response).unwrap();
            assert_eq!(text(&response), right);
        }
        out.extend_from_slice(SUCCESS);
        black_box(&out);
    })
}

const PROMPTS: [&str; 2] = ["Username:", "Password:"];

fn ours() -> Run {
    let mut server = ours::Server::new();
    Box::new(move || server.auth(&AUTH_LOGIN))
}
