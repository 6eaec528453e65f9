//! Any octets in any pieces from a server, to a client with credentials of any kind: the session ends
//! or waits, what it sends are lines, it shows nothing secret without TLS, it says that it is signed in
//! only where the server has said so, and it goes on only while the server's replies are in step.
#![no_main]

use std::{slice, vec};

use base64::{Engine, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use smtp_auth::{
    client::{Config, Envelope, Event, Notify, Outcome, Recipient, Session, Tls, TryNext},
    sasl::{
        BindingPolicy, Channel, ChannelBinding, ConfigError, Mechanism, Nonce,
        client::{self as sasl, Credentials, Custom, CustomResponse},
    },
};
use smtp_auth_fuzz::{OWN, POLICIES, mechanisms, pick};

/// The bits of the first octet of the input.
const CLEARTEXT: u8 = 1;
const IN_TLS: u8 = 2;
const WITHHOLD: u8 = 4;
const LENIENT: u8 = 8;
const X_EXPS: u8 = 16;
const TRY_ALL: u8 = 32;
const TLS_REQUIRED: u8 = 64;
const BARE_LF: u8 = 128;

fn config(choice: u8, policy: u8) -> Result<Config, ConfigError> {
    let sasl = sasl::Config::builder()
        .mechanisms(mechanisms())
        .nonces(|| Nonce::new("nonce"))
        // PBKDF2 takes its time.
        .scram_iterations(1, 10)
        .allow_cleartext(choice & CLEARTEXT != 0)
        .channel_binding(pick(&POLICIES, policy));
    let tls = if choice & TLS_REQUIRED != 0 { Tls::Required } else { Tls::IfOffered };
    let next = if choice & TRY_ALL != 0 { TryNext::Always } else { TryNext::IfUnusable };
    Config::builder("client.example.org")
        .sasl(sasl.build()?)
        .tls(tls)
        .initial_response(choice & WITHHOLD == 0)
        .lenient_challenges(choice & LENIENT != 0)
        .x_exps(choice & X_EXPS != 0)
        .try_next(next)
        .build()
}

fn credentials(kind: u8) -> Result<Credentials, ConfigError> {
    let credentials = match kind % 6 {
        0 => Credentials::password("tim", "tanstaaf")?,
        1 => Credentials::token("tim", "ya29.token")?.for_server("mail.example.org", 587)?,
        2 => Credentials::external(),
        3 => Credentials::anonymous("trace")?,
        4 => Credentials::custom(OWN),
        // SASLprep does not take it.
        _ => Credentials::password("tim", "\u{2028}")?,
    };
    if kind & 128 == 0 { Ok(credentials) } else { credentials.acting_as("ann") }
}

fn channel() -> Result<Channel, ConfigError> {
    Ok(Channel::tls()
        .with_binding(ChannelBinding::tls_exporter([7; 32]))
        .with_binding(ChannelBinding::tls_server_end_point(b"end point")?))
}

/// What the server sends: octets as they are, or a reply, or they would hardly ever be one.
fn piece(choice: u8, kind: u8, octets: Vec<u8>) -> Vec<u8> {
    let octets = said(kind, octets);
    if choice & BARE_LF == 0 || kind % 16 > 13 {
        return octets;
    }
    octets.into_iter().filter(|octet| *octet != b'\r').collect()
}

fn said(kind: u8, octets: Vec<u8>) -> Vec<u8> {
    let mechanism = Mechanism::COMPILED[usize::from(kind >> 4) % Mechanism::COMPILED.len()];
    match kind % 16 {
        0 => b"220 mail.example.org\r\n".into(),
        1 => format!("250-x\r\n250-STARTTLS\r\n250 AUTH X-OWN {mechanism}\r\n").into(),
        2 => format!("250-x\r\n250 AUTH X-OWN {mechanism}\r\n").into(),
        3 => format!("250-x\r\n250 X-EXPS X-OWN {mechanism} LOGIN\r\n").into(),
        4 => b"250 OK\r\n".into(),
        5 => b"235 signed in\r\n".into(),
        6 => b"334 \r\n".into(),
        7 => format!("334 {}\r\n", STANDARD.encode(octets)).into(),
        // What SCRAM's server says first.
        8 => {
            let first = "r=noncenonce,s=c2FsdA==,i=4";
            format!("334 {}\r\n", STANDARD.encode([first.as_bytes(), &octets].concat())).into()
        }
        9 => b"501 cancelled\r\n".into(),
        10 => b"504 no such mechanism\r\n".into(),
        11 => b"535 wrong\r\n".into(),
        12 => b"354 go on\r\n".into(),
        13 => b"235-x\r\n535 wrong\r\n".into(),
        14 => [&octets[..], b"\n"].concat(),
        _ => octets,
    }
}

/// What a mechanism of the application's own says, by an octet of the input. Returns whether that is all.
fn respond(ask: &mut Custom, answers: &mut vec::IntoIter<u8>) -> bool {
    let count = ask.state().get_or_insert_with(|| Box::new(0_u32));
    let count = count.downcast_mut::<u32>().expect("what was put there");
    *count += 1;
    // Where the input ends, it fails.
    let byte = answers.next().unwrap_or(0);
    let answer = match byte % 5 {
        0 => CustomResponse::Fail,
        1 => CustomResponse::NoInitialResponse,
        2 => CustomResponse::Respond(slice::from_ref(&byte).repeat(usize::from(byte) * 4)),
        3 => CustomResponse::Complete(vec![byte; usize::from(byte)]),
        // Left as it is, it is asked again.
        _ => return false,
    };
    let complete = matches!(answer, CustomResponse::Complete(_));
    ask.answer(answer);
    complete
}

/// Whether no AUTH follows where SCRAM's proof has been sent.
fn ends_by_its_proof(said: &[u8]) -> bool {
    let (mut scram, mut proven) = (false, false);
    said.split(|&octet| octet == b'\n').all(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b"AUTH ") {
            scram = line.starts_with(b"AUTH SCRAM-");
            return !proven;
        }
        let message = STANDARD.decode(line).unwrap_or_default();
        proven |= scram && message.windows(3).any(|octets| octets == b",p=");
        true
    })
}

/// Whether SCRAM's first messages say what the client has seen of channel binding (RFC 5802 §6), which it
/// supports inside TLS unless the policy is against it.
fn says_what_it_saw(said: &[u8], supports_binding: bool) -> bool {
    let mut name = &b""[..];
    said.split(|&octet| octet == b'\n').all(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut words = line.split(|&octet| octet == b' ');
        if line.starts_with(b"AUTH ") {
            name = words.nth(1).unwrap_or_default();
        }
        let message = STANDARD.decode(words.next().unwrap_or_default()).unwrap_or_default();
        let flag = message.split(|&octet| octet == b',').next().unwrap_or_default();
        match (name.starts_with(b"SCRAM-"), name.ends_with(b"-PLUS"), flag) {
            (true, true, b"n" | b"y") => false,
            (true, false, b"n") => !supports_binding,
            (true, false, b"y") => supports_binding,
            (true, false, flag) => !flag.starts_with(b"p="),
            _ => true,
        }
    })
}

/// Whether all lines end alike, and those of a reply have one code: else the client has to end the
/// connection.
fn is_in_step(said: &[u8]) -> bool {
    let lines =
        || said.split_inclusive(|&octet| octet == b'\n').filter(|line| line.ends_with(b"\n"));
    let ends = lines().filter(|line| line.ends_with(b"\r\n")).count();
    let (mut code, mut torn) = (None, false);
    let same = lines().filter(|line| line.len() > 2).all(|line| {
        let (own, more) = (line.get(..3), line.get(3) == Some(&b'-'));
        torn |= code.is_some() && code != own;
        code = own.filter(|_| more);
        // A reply is read once it is whole.
        more || !std::mem::take(&mut torn)
    });
    same && (ends == 0 || ends == lines().count())
}

/// Whether an outcome says the same of the whole and of each recipient.
fn tells_of_all(outcome: &Outcome) -> bool {
    let of = outcome.recipients();
    let refused = of.iter().filter(|recipient| recipient.refusal().is_some()).count();
    of.len() == 2
        && match outcome {
            Outcome::Accepted { .. } | Outcome::NotSent { .. } => refused == 0,
            Outcome::AcceptedForSome { .. } => refused == 1,
            Outcome::Refused { .. } => refused == 2,
        }
}

/// Whether a line shows no secret.
fn is_safe(line: &[u8]) -> bool {
    let Some(auth) = line.strip_prefix(b"AUTH ") else { return true };
    let name = auth.split(|octet| b" \r".contains(octet)).next().unwrap_or_default();
    let known = std::str::from_utf8(name).ok().and_then(Mechanism::from_name);
    known.is_some_and(|mechanism| !mechanism.needs_tls())
}

fuzz_target!(|input: ([u8; 3], Vec<u8>, Vec<(u8, Vec<u8>)>)| {
    let ([choice, policy, kind], answers, pieces) = input;
    let config = config(choice, policy).expect("good names, and what is compiled in");
    let credentials = credentials(kind).expect("good credentials");
    let mut session = Session::new(config.into(), credentials);
    if choice & IN_TLS != 0 {
        session.tls_started(channel().expect("there is data"));
    }
    let (mut out, mut pieces, mut sent) = (Vec::new(), pieces.into_iter(), 0);
    let (mut answers, mut said) = (answers.into_iter(), Vec::new());
    let mut in_clear = if choice & IN_TLS != 0 { Some(0) } else { None };
    let (mut failed_before, mut complete) = (0, false);
    // Where TLS, or other credentials, begin anew.
    let mut anew = vec![0];
    let mut waits = false;
    while let Ok(event) = session.next(&mut out) {
        match event {
            Event::NeedInput => match pieces.next() {
                Some((kind, octets)) => {
                    let piece = piece(choice, kind, octets);
                    session.receive(&piece);
                    said.extend(piece);
                }
                None => {
                    waits = true;
                    break;
                }
            },
            Event::Custom(ask) => complete = respond(ask, &mut answers),
            Event::Derive(ask) => ask.run(),
            Event::StartTls => {
                in_clear.get_or_insert(out.len());
                anew.push(out.len());
                said.clear();
                session.tls_started(channel().expect("there is data"));
            }
            Event::NotAuthenticated(failed) => {
                failed_before += 1;
                match answers.next() {
                    Some(byte) if failed_before < 5 && byte & 1 == 0 => {
                        anew.push(out.len());
                        failed.retry(self::credentials(byte >> 1).expect("good credentials"));
                    }
                    Some(_) if failed_before < 20 => failed.try_next(),
                    _ => failed.go_on(),
                }
            }
            Event::Ready(ready) if sent < 3 => {
                sent += 1;
                let bob = Recipient::new("bob@example.org").expect("a good address");
                let answer = answers.next().unwrap_or(u8::MAX) % 4;
                // That needs DSN.
                let bob = if answer == 2 { bob.notify(Notify::Never) } else { bob };
                let to = [Recipient::new("ann@example.org").expect("another"), bob];
                match answer {
                    0 => ready.noop(),
                    1 => ready.reset(),
                    _ => {
                        ready.send(Envelope::new(Some("tim@example.org"), to).expect("recipients"))
                    }
                }
            }
            Event::Ready(ready) => ready.quit(),
            Event::Message(body) => {
                body.write(b".dot\r\n", &mut out).expect("good lines");
                body.end(&mut out).expect("good lines");
            }
            Event::Refused { recipient, refusal } => {
                assert!(recipient.ends_with("@example.org") && refusal.reply().code() >= 400);
            }
            Event::Sent(outcome) => assert!(tells_of_all(outcome)),
            Event::Close => break,
        }
    }
    assert!(out.is_empty() || out.ends_with(b"\r\n"));
    anew.push(out.len());
    assert!(anew.windows(2).all(|part| ends_by_its_proof(&out[part[0]..part[1]])));
    assert!(!waits || is_in_step(&said), "it goes on with a server that is out of step");
    let (clear, in_tls) = out.split_at(in_clear.unwrap_or(out.len()));
    let binds = pick(&POLICIES, policy) != BindingPolicy::None;
    assert!(says_what_it_saw(clear, false) && says_what_it_saw(in_tls, binds));
    if choice & CLEARTEXT == 0 {
        assert!(clear.split_inclusive(|&octet| octet == b'\n').all(is_safe));
    }
    if session.authenticated() == Some(OWN) {
        assert!(complete, "success came too early");
    }
    if session.authenticated().is_some() {
        let last = |line: &[u8]| line.starts_with(b"235") && line.get(3) != Some(&b'-');
        assert!(said.split(|&octet| octet == b'\n').any(last));
    }
});
