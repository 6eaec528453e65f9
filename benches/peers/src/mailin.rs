//! `mailin`, whose parser is its own: whole sessions.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
};

use mailin::{AuthMechanism, Handler, Response, Session, SessionBuilder, response};

use crate::{
    inputs::{PASSWORD, USER},
    works::Run,
};

struct OneUser;

impl Handler for OneUser {
    fn auth_plain(&mut self, _: &str, name: &str, password: &str) -> Response {
        self.auth_login(name, password)
    }

    fn auth_login(&mut self, name: &str, password: &str) -> Response {
        let good = name == USER && password == PASSWORD;
        if good { response::AUTH_OK } else { response::INVALID_CREDENTIALS }
    }
}

fn session() -> Session<OneUser> {
    let mut builder = SessionBuilder::new("mail.example.org");
    builder.enable_auth(AuthMechanism::Plain).enable_auth(AuthMechanism::Login);
    builder.enable_start_tls();
    let mut session = builder.build(IpAddr::V4(Ipv4Addr::LOCALHOST), OneUser);
    session.tls_active();
    assert_eq!(session.process(b"EHLO client.example.org\r\n").code, 250);
    session
}

/// One AUTH command, and the RSET without which a session takes no second one.
pub fn auth(lines: &'static [&'static [u8]]) -> Run {
    let (mut session, mut out) = (session(), Vec::with_capacity(1024));
    Box::new(move || {
        out.clear();
        for line in lines {
            session.process(black_box(line)).write_to(&mut out).unwrap();
        }
        assert!(out.ends_with(b"235 Authentication succeeded\r\n"));
        reset(&mut session, &mut out);
    })
}

/// That RSET alone.
pub fn rset() -> Run {
    let (mut session, mut out) = (session(), Vec::with_capacity(1024));
    Box::new(move || {
        out.clear();
        reset(&mut session, &mut out);
    })
}

fn reset(session: &mut Session<OneUser>, out: &mut Vec<u8>) {
    session.process(black_box(b"RSET\r\n")).write_to(out).unwrap();
    assert!(out.ends_with(b"250 OK\r\n"));
}
