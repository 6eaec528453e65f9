//! LOGIN on a server.

use super::{Row, Run, Work};
use crate::{inputs::AUTH_LOGIN, mailin, ours, rsasl};

pub const WORK: Work = Work {
    name: "login-server",
    about: "AUTH LOGIN on a server, from the octets of its three lines to those of the replies",
    times: 100,
    rows: &[
        Row::ours(ours),
        Row::peer("smtp-proto + rsasl", || rsasl::auth("LOGIN", &AUTH_LOGIN))
            .note("base64 by hand"),
        Row::peer("mailin", || mailin::auth(&AUTH_LOGIN)).aside(mailin::rset),
    ],
};

fn ours() -> Run {
    let mut server = ours::Server::new();
    Box::new(move || server.auth(&AUTH_LOGIN))
}
