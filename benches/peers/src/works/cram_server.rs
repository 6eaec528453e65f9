//! CRAM-MD5 on a server.

use std::hint::black_box;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5, digest::common::hazmat::SerializableState};
use smtp_auth::command::{self, Command};
use smtp_proto::{AUTH_CRAM_MD5, Request};

use super::{Row, Run, Work};
use crate::{
    inputs::{AUTH_CRAM, CRAM_NONCE, PASSWORD, SUCCESS, USER, text, without_crlf, write_challenge},
    ours,
};

pub const WORK: Work = Work {
    name: "cram-server",
    about: "AUTH CRAM-MD5 on a server, from the client's lines to the replies",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(ours).note("from MD5's two states, two compressions"),
        Row::peer("smtp-proto + hmac", by_hand)
            .note("all else by hand, from the password, four compressions"),
        Row::yardstick("grammar, base64, MD5", bare)
            .note("smtp-auth's grammar, two compressions, without an exchange"),
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

/// What the line's grammar, base64, and two compressions of MD5 take by themselves.
fn bare() -> Run {
    let mut key = [0; 64];
    key[..PASSWORD.len()].copy_from_slice(PASSWORD.as_bytes());
    let [inner, outer] =
        [0x36, 0x5c].map(|pad| Md5::new_with_prefix(key.map(|octet| octet ^ pad)).serialize());
    let mut out = Vec::with_capacity(1024);
    Box::new(move || {
        out.clear();
        let [line, answer] = black_box(AUTH_CRAM).map(without_crlf);
        let Ok(Command::Auth(auth)) = command::parse(line) else { panic!("not AUTH") };
        assert_eq!(auth.mechanism(), "CRAM-MD5");
        let challenge = ["<", CRAM_NONCE, "@mail.example.org>"].concat();
        write_challenge(&challenge, &mut out);
        let mut message = Vec::with_capacity(64);
        STANDARD.decode_vec(answer, &mut message).unwrap();
        let (name, digest) = text(&message).as_bytes().split_last_chunk::<32>().unwrap();
        assert_eq!(name.strip_suffix(b" "), Some(USER.as_bytes()));
        let value = |digit: u8| if digit < b'a' { digit - b'0' } else { digit - b'a' + 10 };
        let resume = |state| Md5::deserialize(state).unwrap();
        let first = resume(&inner).chain_update(challenge).finalize();
        let own = resume(&outer).chain_update(first).finalize();
        let digits = digest.chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1]));
        assert!(digits.eq(own));
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
