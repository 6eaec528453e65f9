//! CRAM-MD5 on a server.

use std::hint::black_box;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use smtp_proto::{AUTH_CRAM_MD5, Request};

use super::{Row, Run, Work};
use crate::{
    inputs::{AUTH_CRAM, CRAM_NONCE, PASSWORD, SUCCESS, USER, text, without_crlf},
    ours,
};

pub const WORK: Work = Work {
    name: "cram-server",
    about: "AUTH CRAM-MD5 on a server, from the octets of its lines to those of the replies",
    times: 100,
    rows: &[
        Row::ours(ours).note("from MD5's two states, two compressions"),
        Row::yardstick("hand-written", by_hand)
            .note("smtp-proto, base64, hmac, md-5, from the password, four compressions"),
    ],
};

fn ours() -> Run {
    let mut server = ours::Server::new();
    Box::new(move || server.auth(&AUTH_CRAM))
}

fn by_hand() -> Run {
    let mut out = Vec::with_capacity(1024);
    Box::new(move || {
        out.clear();
        let [command, answer] = black_box(AUTH_CRAM);
        let command = Request::parse(&mut command.iter()).unwrap();
        assert!(matches!(command, Request::Auth { mechanism: AUTH_CRAM_MD5, .. }));
        let challenge = format!("<{CRAM_NONCE}@mail.example.org>");
        out.extend_from_slice(b"334 ");
        out.extend_from_slice(STANDARD.encode(&challenge).as_bytes());
        out.extend_from_slice(b"\r\n");
        let answer = STANDARD.decode(without_crlf(answer)).unwrap();
        let (name, digest) = text(&answer).rsplit_once(' ').unwrap();
        assert_eq!(name, USER);
        let mac = Hmac::<Md5>::new_from_slice(PASSWORD.as_bytes()).unwrap();
        mac.chain_update(challenge).verify_slice(&unhex(digest)).unwrap();
        out.extend_from_slice(SUCCESS);
        black_box(&out);
    })
}

fn unhex(digits: &str) -> [u8; 16] {
    let value = |digit: u8| (digit as char).to_digit(16).unwrap() as u8;
    let mut octets = [0; 16];
    assert_eq!(digits.len(), 32);
    for (octet, pair) in octets.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *octet = value(pair[0]) << 4 | value(pair[1]);
    }
    octets
}
