//! Nothing secret in what `Mask` shows of a dialogue's lines.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    Mask,
    Side::{self, Client, Server},
};

use crate::{
    forms::{Shown, forms},
    script::{Kind, Script},
};

/// What is shown of a dialogue, `C: ` or `S: ` and the line.
fn shown<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut mask = Mask::new();
    let all = lines.into_iter().filter_map(|line| {
        let (side, line) = line.split_once(": ").unwrap();
        let side = if side == "C" { Client } else { Server };
        Some(format!("{side}: {}", mask.line(side, line.as_bytes())?))
    });
    all.collect()
}

#[track_caller]
fn check(lines: &[(&str, &str)]) {
    let found = shown(lines.iter().map(|(said, _)| *said));
    let expected: Vec<_> =
        lines.iter().map(|(_, shown)| *shown).filter(|shown| !shown.is_empty()).collect();
    assert_eq!(found, expected);
}

#[test]
fn login() {
    check(&[
        ("S: 220 x", "S: 220 x"),
        ("C: EHLO y", "C: EHLO y"),
        ("S: 250-x", "S: 250-x"),
        ("S: 250 AUTH LOGIN", "S: 250 AUTH LOGIN"),
        ("C: auth login", "C: AUTH LOGIN"),
        ("S: 334 VXNlcm5hbWU6", "S: 334 VXNlcm5hbWU6"),
        ("C: dGlt", "C: ***"),
        // It may repeat what it was sent.
        ("S: 334 dGlt", "S: 334 ***"),
        ("C: NOOP", "C: ***"),
        ("S: 235 2.7.0 hello, NOOP", "S: 235 2.7.0 ***"),
        ("C: MAIL FROM:<a@x>", "C: MAIL FROM:<a@x>"),
        ("S: 250 2.1.0 ok", "S: 250 2.1.0 ok"),
    ]);
}

#[test]
fn plain_without_an_initial_response() {
    check(&[
        ("C: AUTH PLAIN", "C: AUTH PLAIN"),
        ("S: 334 ", "S: 334 "),
        ("C: AHRpbQBzd29yZGZpc2g=", "C: ***"),
        ("S: 535-5.7.8 not AHRpbQBzd29yZGZpc2g=", "S: 535-5.7.8 ***"),
        ("S: 535 5.7.8 not swordfish", "S: 535 5.7.8 ***"),
        ("S: 500 5.5.2 what is swordfish?", "S: 500 5.5.2 ***"),
        ("C: NOOP", "C: NOOP"),
        ("S: 250 2.0.0 ok", "S: 250 2.0.0 ok"),
    ]);
}

#[test]
fn cancelled() {
    check(&[
        ("C: AUTH LOGIN dGlt", "C: AUTH LOGIN ***"),
        ("S: 334 UGFzc3dvcmQ6", "S: 334 ***"),
        ("C: *", "C: *"),
        ("S: 501 5.7.0 dGlt", "S: 501 5.7.0 ***"),
        ("C: AUTH XOAUTH2", "C: AUTH XOAUTH2"),
        ("S: 334", "S: 334"),
        ("C: ", "C: "),
        ("S: 501 5.5.2 empty", "S: 501 5.5.2 ***"),
        ("C: QUIT", "C: QUIT"),
        ("S: 221 bye", "S: 221 bye"),
    ]);
}

/// The client does not look at the reply, and goes on with the password.
#[test]
fn refused_midway() {
    check(&[
        ("C: AUTH LOGIN =", "C: AUTH LOGIN ***"),
        ("S: 501 5.5.4 no", "S: 501 5.5.4 ***"),
        ("C: dGlt", "C: ***"),
        ("S: 500 5.5.2 dGlt?", "S: 500 5.5.2 ***"),
        ("C: c3dvcmRmaXNo", "C: ***"),
        ("C: QUIT", "C: QUIT"),
        ("S: 500 5.5.2 c3dvcmRmaXNo?", "S: 500 5.5.2 ***"),
        ("S: 221 2.0.0 bye", "S: 221 2.0.0 ***"),
    ]);
    // AUTH itself is malformed, or not known.
    for refused in ["AUTH", "AUTH AHUAc2VjcmV0", "AUTH LOGIN c3dvcmRmaXNo x", " AUTH LOGIN"] {
        let line = format!("C: {refused}");
        let found =
            shown([&*line, "C: QUIT", "S: 500 c3dvcmRmaXNo", "C: QUIT", "S: 500 AHUAc2VjcmV0"]);
        assert!(
            found[0].ends_with("***") && found[2..] == ["S: 500 ***", "C: QUIT", "S: 500 ***"],
            "{refused}: {found:?}"
        );
    }
}

/// Nobody knows yet what becomes of the exchange: what follows may be a response.
#[test]
fn pipelined() {
    check(&[
        ("C: RSET", "C: RSET"),
        ("C: AUTH LOGIN", "C: AUTH LOGIN"),
        ("C: help", "C: ***"),
        ("C: noop", "C: ***"),
        ("C: QUIT", "C: ***"),
        ("S: 250 ok", "S: 250 ***"),
        ("S: 334 VXNlcm5hbWU6", "S: 334 ***"),
        ("S: 334 help", "S: 334 ***"),
        ("S: 535 noop is wrong", "S: 535 ***"),
        ("S: 221 bye", "S: 221 ***"),
        ("C: NOOP", "C: NOOP"),
    ]);
    // The reply to a command before AUTH does not end it.
    check(&[
        ("C: NOOP", "C: NOOP"),
        ("C: AUTH LOGIN", "C: AUTH LOGIN"),
        ("S: 250-a", "S: 250-***"),
        ("S: 250 ok", "S: 250 ***"),
        ("C: help", "C: ***"),
        ("S: 334 VXNlcm5hbWU6", "S: 334 ***"),
        ("C: quit", "C: ***"),
        ("S: 334 UGFzc3dvcmQ6", "S: 334 ***"),
        ("S: 235 2.7.0 quit", "S: 235 2.7.0 ***"),
        ("C: NOOP", "C: NOOP"),
        ("S: 250 ok", "S: 250 ok"),
    ]);
}

/// With the server's proof, and what else is in the clear, a password can be guessed.
#[test]
fn challenges() {
    for (auth, first) in [
        ("AUTH CRAM-MD5", "334 PDFAeD4="),
        ("AUTH SCRAM-SHA-256", "334 ***"),
        ("AUTH SCRAM-SHA-1-PLUS", "334 ***"),
        ("AUTH X-OWN", "334 ***"),
    ] {
        let found = shown([&*format!("C: {auth}"), "S: 334-PDFAeD4=", "S: 334 PDFAeD4="]);
        assert_eq!(
            found[1..],
            [first.replace(' ', "-"), first.to_owned()].map(|s| format!("S: {s}"))
        );
    }
    // One that is made while an exchange is under way.
    check(&[("S: 334 dj1h", "S: 334 ***"), ("C: NOOP", "C: ***"), ("S: 535 NOOP", "S: 535 ***")]);
}

#[test]
fn messages() {
    check(&[
        ("C: DATA", "C: DATA"),
        ("S: 354 go", "S: 354 go"),
        ("C: Subject: a", ""),
        ("C: ", ""),
        ("C: ..", ""),
        ("C: QUIT", ""),
        ("C: .", "C: [a message of 23 octets]"),
        ("S: 250 ok", "S: 250 ok"),
        ("C: BDAT 12", "C: BDAT 12"),
        ("C: MAIL a", ""),
        ("C: xyBDAT 4 LAST", ""),
        ("C: ab", ""),
        ("C: NOOP", ""),
        ("S: 250 ok", "S: 250 ok"),
        ("S: 250 ok", "S: 250 ok"),
        ("S: 250 ok", "S: 250 ok"),
        // A chunk's octets are not fed.
        ("C: BDAT 1000", "C: BDAT 1000"),
        ("C: bdat 400 LAST", "C: bdat 400 LAST"),
        ("S: 250 ok", "S: 250 ok"),
        ("S: 250 ok", "S: 250 ok"),
        ("C: BDAT 0 LAST", "C: BDAT 0 LAST"),
        ("S: 503 x", "S: 503 x"),
        ("C: BDAT x", "C: ***"),
        ("C: QUIT", ""),
        ("S: 501 x", "S: 501 ***"),
        ("S: 221 x", "S: 221 ***"),
        ("C: QUIT", "C: QUIT"),
    ]);
}

/// A message ends at its dot, which is the client's, and none begins that is refused.
#[test]
fn a_reply_does_not_end_a_message() {
    for reply in ["421 x", "250 ok", "451 x", "235 x", "334 ", "354 go"] {
        check(&[
            ("C: DATA", "C: DATA"),
            ("S: 354 go", "S: 354 go"),
            ("C: Subject: a", ""),
            (&format!("S: {reply}"), &format!("S: {reply}")),
            ("C: Help me with my password hunter2", ""),
            ("C: VRFY secret", ""),
            ("C: .", "C: [a message of 59 octets]"),
            ("C: RSET", "C: RSET"),
        ]);
    }
    check(&[
        ("C: DATA", "C: DATA"),
        ("S: 503-x", "S: 503-x"),
        // The client does not wait.
        ("C: Help me with my password hunter2", ""),
        ("S: 503 x", "S: 503 x"),
        ("S: 214 x", "S: 214 x"),
        ("C: RSET", "C: RSET"),
        // For no DATA that was seen: it may have been pipelined within an exchange.
        ("S: 354 go", "S: 354 go"),
        ("C: VRFY secret", ""),
        ("C: .", "C: [a message of 13 octets]"),
    ]);
}

/// A chunk's line is not taken for a command as long as replies are still to come, or octets of it.
#[test]
fn a_reply_does_not_end_a_chunk_before_all_have_come() {
    let secret = "C: NOOP the secret plan";
    check(&[
        ("C: BDAT 5", "C: BDAT 5"),
        ("C: abc", ""),
        ("C: BDAT 100 LAST", "C: BDAT 100 LAST"),
        ("S: 250 ok", "S: 250 ok"),
        (secret, ""),
        ("S: 421 x", "S: 421 x"),
        (secret, ""),
        // Nobody can tell whether it is a response to that.
        ("S: 334 x", "S: 334 ***"),
        (secret, "C: ***"),
        ("S: 250 ok", "S: 250 ***"),
        (secret, "C: ***"),
    ]);
    // Before BDAT there were other commands.
    check(&[
        ("C: MAIL FROM:<>", "C: MAIL FROM:<>"),
        ("C: RCPT TO:<a@x>", "C: RCPT TO:<a@x>"),
        ("C: BDAT 100 LAST", "C: BDAT 100 LAST"),
        ("S: 250 ok", "S: 250 ok"),
        ("S: 250 ok", "S: 250 ok"),
        (secret, ""),
        ("S: 250 ok", "S: 250 ok"),
    ]);
    // The second BDAT is in a line of the first one's chunk.
    check(&[
        ("C: BDAT 3", "C: BDAT 3"),
        ("C: abcBDAT 100 LAST", ""),
        ("S: 250 ok", "S: 250 ok"),
        (secret, ""),
    ]);
    // A second message is pipelined, whose commands have replies, too.
    check(&[
        ("C: BDAT 5 LAST", "C: BDAT 5 LAST"),
        ("C: abc", ""),
        ("C: MAIL FROM:<>", ""),
        ("C: RCPT TO:<a@x>", ""),
        ("C: BDAT 100 LAST", "C: BDAT 100 LAST"),
        ("S: 250 ok", "S: 250 ok"),
        ("S: 250 ok", "S: 250 ok"),
        (secret, ""),
        ("S: 250 ok", "S: 250 ok"),
        (secret, ""),
        ("C: Subject: a", ""),
        // The server does not wait for the chunk's end.
        ("S: 552 x", "S: 552 x"),
        (secret, ""),
        (secret, ""),
        ("C: QUIT", "C: QUIT"),
    ]);
    // AUTH may follow in a chunk's line, and nothing has told that it did not.
    check(&[
        ("C: BDAT 3 LAST", "C: BDAT 3 LAST"),
        ("C: abcAUTH PLAIN x", ""),
        ("S: 250 ok", "S: 250 ***"),
        ("S: 535 x is wrong", "S: 535 ***"),
        ("C: QUIT", "C: QUIT"),
        ("S: 221 x", "S: 221 x"),
    ]);
}

/// What comes between AUTH and its reply may not be the reply, and the client goes on before it.
#[test]
fn a_stray_reply_does_not_end_an_exchange() {
    for stray in ["250 stray", "220 stray", "251-a", "250 ", "421 x", "not a reply", "350 x"] {
        for auth in ["AUTH PLAIN x", "AUTH LOGIN", "AUTH x", "c3dvcmRmaXNo"] {
            for next in ["RSET", "NOOP", "STARTTLS", "AUTH PLAIN x", "EHLO x"] {
                let lines = [auth, stray, next, "535 dGFuc3RhYWY= is wrong", "250 dGFuc3RhYWY="];
                let lines = ["C: ", "S: ", "C: ", "S: ", "S: "].into_iter().zip(lines);
                let lines: Vec<_> = lines.map(|(side, line)| format!("{side}{line}")).collect();
                let found = shown(lines.iter().map(|line| &**line));
                assert_eq!(found[3..], ["S: 535 ***", "S: 250 ***"], "{lines:?}");
            }
        }
    }
    // A response follows.
    check(&[
        ("C: AUTH LOGIN", "C: AUTH LOGIN"),
        ("S: 334 VXNlcm5hbWU6", "S: 334 VXNlcm5hbWU6"),
        ("S: 250 stray", "S: 250 ***"),
        ("C: HELP", "C: ***"),
        ("S: 334 UGFzc3dvcmQ6", "S: 334 ***"),
        ("C: NOOP", "C: ***"),
        ("S: 535-NOOP", "S: 535-***"),
        ("S: 535 HELP", "S: 535 ***"),
        ("C: QUIT", "C: QUIT"),
        ("S: 221 bye", "S: 221 bye"),
    ]);
    // Taken for a challenge by a client that looks at the first digit alone.
    check(&[
        ("C: AUTH LOGIN", "C: AUTH LOGIN"),
        ("S: 354 go", "S: 354 ***"),
        ("C: c3dvcmRmaXNo", "C: ***"),
        ("S: 535 5.7.8 swordfish is wrong", "S: 535 5.7.8 ***"),
    ]);
    // RSET is a response, which the server takes for a command, and a challenge follows success.
    check(&[
        ("C: AUTH LOGIN", "C: AUTH LOGIN"),
        ("S: 334 VXNlcm5hbWU6", "S: 334 VXNlcm5hbWU6"),
        ("C: RSET", "C: ***"),
        ("S: 250 ok", "S: 250 ***"),
        ("C: *", "C: *"),
        ("S: 501 x", "S: 501 ***"),
        ("C: AUTH PLAIN x", "C: AUTH PLAIN ***"),
        ("S: 235 x", "S: 235 ***"),
        ("S: 334 x", "S: 334 ***"),
        ("C: NOOP", "C: ***"),
        ("S: 500 NOOP", "S: 500 ***"),
    ]);
}

/// It is no reply to what the client said before it came.
#[test]
fn the_greeting_is_not_counted() {
    for greeting in ["220 x", "554 x"] {
        let greeting = format!("S: {greeting}");
        check(&[
            ("C: EHLO y", "C: EHLO y"),
            ("S: 220-x", "S: 220-x"),
            (&greeting, &greeting),
            ("C: AUTH PLAIN x", "C: AUTH PLAIN ***"),
            ("S: 502 h", "S: 502 ***"),
            ("C: NOOP", "C: ***"),
            ("S: 535 your password x", "S: 535 ***"),
            ("C: NOOP", "C: NOOP"),
            ("S: 250 x", "S: 250 ***"),
            ("S: 250 ok", "S: 250 ***"),
            ("C: NOOP", "C: NOOP"),
            ("S: 250 ok", "S: 250 ok"),
        ]);
    }
    // EHLO and AUTH before it, and several AUTHs, each of which has its reply.
    check(&[
        ("C: EHLO y", "C: EHLO y"),
        ("C: AUTH PLAIN x", "C: AUTH PLAIN ***"),
        ("C: AUTH PLAIN y", "C: ***"),
        ("S: 220 x", "S: 220 ***"),
        ("S: 250 h", "S: 250 ***"),
        ("S: 535 x", "S: 535 ***"),
        ("C: NOOP", "C: NOOP"),
        ("S: 535 y", "S: 535 ***"),
        ("S: 250 ok", "S: 250 ***"),
        ("C: NOOP", "C: NOOP"),
        ("S: 250 ok", "S: 250 ok"),
    ]);
    // The greeting and EHLO were not fed.
    check(&[
        ("C: STARTTLS", "C: STARTTLS"),
        ("S: 220 go", "S: 220 go"),
        ("C: AUTH PLAIN x", "C: AUTH PLAIN ***"),
        ("S: 535 x", "S: 535 ***"),
        ("C: QUIT", "C: QUIT"),
        ("S: 221 x", "S: 221 x"),
    ]);
}

#[test]
fn line_ends_and_controls() {
    let mut mask = Mask::new();
    let mut line = |side, line: &[u8]| mask.line(side, line).unwrap();
    assert_eq!(line(Server, b"220 x\x1b[2J\r\n"), "220 x?[2J");
    assert_eq!(line(Server, "220 \u{202e}\r".as_bytes()), "220 ?");
    assert_eq!(line(Client, b"EHLO x\r\n"), "EHLO x");
    assert_eq!(line(Client, b"NOOP \xff\n"), "***");
    assert_eq!(line(Server, b"not a reply c3dvcmRmaXNo"), "***");
}

/// A file's lines of both sides in their order, and what is secret in them.
struct Dialogue {
    lines: Vec<(Side, Vec<u8>)>,
    secrets: Vec<String>,
}

impl Dialogue {
    fn of(script: &Script) -> Self {
        let (peer, own) = if script.is_server() { (Client, Server) } else { (Server, Client) };
        let mut lines = Vec::new();
        for block in &script.blocks {
            let said = block.octets.split_inclusive(|&octet| octet == b'\n');
            lines.extend(said.map(|line| (peer, line.to_vec())));
            lines.extend(block.expected.iter().filter_map(|item| match &item.kind {
                Kind::Says(line) => Some((own, line.clone())),
                _ => None,
            }));
        }
        let mut secrets: Vec<_> =
            script.secrets.iter().flat_map(|secret| forms(secret.as_bytes())).collect();
        // A password in base64 is in what the client says, and in what is said from then on.
        let mut under_way = false;
        for (side, line) in &lines {
            let text = String::from_utf8_lossy(line).trim_end().to_owned();
            if *side == Server {
                under_way = text.starts_with("334");
            } else if under_way {
                // A command within an exchange is elsewhere, too.
                secrets.extend(Some(text).filter(|text| !text.contains(' ')));
            } else if let Some(words) = text.to_uppercase().strip_prefix("AUTH ") {
                let words = &text[text.len() - words.len()..];
                secrets
                    .extend(words.split_once(' ').map(|(_, response)| response.trim().to_owned()));
            }
        }
        // What is shorter may stand in a reply by chance.
        secrets.retain(|secret| secret.len() >= 8);
        Self { lines, secrets }
    }
}

fn dialogues(folder: &Path, found: &mut Vec<Script>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            dialogues(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            found.push(Script::read(&path));
        }
    }
}

/// And the same where the server repeats each of the client's lines, as it is and decoded, in each reply
/// that follows.
#[test]
fn of_all_dialogues() {
    let mut scripts = Vec::new();
    dialogues(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts"), &mut scripts);
    let mut met = 0;
    for script in &scripts {
        let Dialogue { lines, secrets } = Dialogue::of(script);
        met += usize::from(!secrets.is_empty());
        for repeated in [false, true] {
            let (mut mask, all, mut said) = (Mask::new(), Shown::default(), Vec::new());
            for (side, line) in &lines {
                let mut line = line.clone();
                if *side == Client {
                    said.clone_from(&line);
                } else if repeated && line.len() >= 3 && line[..3].iter().all(u8::is_ascii_digit) {
                    let word = said.rsplit(|&octet| octet == b' ').next().unwrap().trim_ascii();
                    line.truncate(4);
                    line.resize(4, b' ');
                    line.extend([word, &STANDARD.decode(word).unwrap_or_default()].concat());
                }
                if let Some(line) = mask.line(*side, &line) {
                    all.text(&line);
                }
            }
            all.debug(&mask);
            all.has_none_of(&secrets, &format!("{}, {repeated}", script.path));
        }
    }
    assert!(met > 350, "{met}");
}
