//! Command lines, parsed.

use std::{borrow::Cow, hint::black_box};

use smtp_auth::command::{self, Command};
use smtp_codec::{parse::command::command as codec, types::Command as CodecCommand};
use smtp_proto::{AUTH_CRAM_MD5, MAIL_BODY_8BITMIME, Request};

use super::{Row, Run, Work};
use crate::inputs::{LINES, without_crlf};

pub const NINE: Work = Work {
    name: "commands",
    about: "a server parses nine command lines with their CRLF",
    times: 100,
    parts: 1,
    rows: &[Row::ours(|| ours(nine())), Row::peer("smtp-proto", smtp_proto)],
};

pub const EIGHT: Work = Work {
    name: "commands-8",
    about: "a server parses eight command lines, without AUTH CRAM-MD5, which smtp-codec does not support",
    times: 100,
    parts: 1,
    rows: &[Row::ours(|| ours(eight())), Row::peer("smtp-codec", smtp_codec)],
};

type Lines = Vec<&'static [u8]>;

fn nine() -> Lines {
    LINES.to_vec()
}

fn eight() -> Lines {
    LINES.into_iter().filter(|line| !line.ends_with(b"CRAM-MD5\r\n")).collect()
}

/// What the lines say is looked at the first time. It is not looked at by a second loop: a parser
/// that is called at one place alone may be inlined there, and hosts have one.
fn parsing<T: 'static>(
    lines: Lines,
    parse: impl Fn(&'static [u8]) -> T + 'static,
    verify: fn(&[u8], &T),
) -> Run {
    let mut verified = false;
    Box::new(move || {
        for line in &lines {
            let command = parse(black_box(line));
            if !verified {
                verify(line, &command);
            }
            black_box(&command);
        }
        verified = true;
    })
}

fn ours(lines: Lines) -> Run {
    parsing(
        lines,
        |line| command::parse(without_crlf(line)).unwrap(),
        |line, command| match command {
            Command::Ehlo(name) => assert_eq!(name.as_str(), "client.example.org"),
            Command::Auth(auth) => assert!(line[5..].starts_with(auth.mechanism().as_bytes())),
            Command::Mail(mail) => {
                assert_eq!(mail.from().unwrap().domain(), Some("example.org"));
                assert_eq!(mail.parameters().get("size").unwrap().value(), Some("12345"));
                assert_eq!(mail.parameters().get("auth").unwrap().value(), Some("tim@example.org"));
            }
            Command::Rcpt(rcpt) => assert_eq!(rcpt.to().domain(), Some("example.net")),
            Command::Data => assert!(line.starts_with(b"DATA")),
            Command::Quit => assert!(line.starts_with(b"QUIT")),
            Command::StartTls => assert!(line.starts_with(b"STARTTLS")),
            other => panic!("{other:?}"),
        },
    )
}

fn smtp_proto() -> Run {
    parsing::<Request<Cow<'static, str>>>(
        nine(),
        |line| Request::parse(&mut line.iter()).unwrap(),
        |line, command| match command {
            Request::Ehlo { host } => assert_eq!(host, "client.example.org"),
            Request::Auth { mechanism, .. } => {
                assert_eq!(line.ends_with(b"CRAM-MD5\r\n"), *mechanism == AUTH_CRAM_MD5);
            }
            Request::Mail { from } => {
                assert_eq!((&*from.address, from.size), ("tim@example.org", 12345));
                assert_eq!(from.flags, MAIL_BODY_8BITMIME);
                assert_eq!(from.auth.as_deref(), Some("tim@example.org"));
            }
            Request::Rcpt { to } => assert_eq!(to.address, "ann@example.net"),
            Request::Data => assert!(line.starts_with(b"DATA")),
            Request::Quit => assert!(line.starts_with(b"QUIT")),
            Request::StartTls => assert!(line.starts_with(b"STARTTLS")),
            other => panic!("{other:?}"),
        },
    )
}

fn smtp_codec() -> Run {
    parsing(
        eight(),
        |line| {
            let (rest, command) = codec(line).unwrap();
            assert!(rest.is_empty());
            command
        },
        |line, command| match command {
            CodecCommand::Mail { reverse_path, parameters } => {
                assert_eq!((&**reverse_path, parameters.len()), ("tim@example.org", 3));
            }
            CodecCommand::Rcpt { forward_path, .. } => assert_eq!(forward_path, "ann@example.net"),
            other => assert!(line.starts_with(&other.name().as_bytes()[..4])),
        },
    )
}
