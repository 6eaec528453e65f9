//! Octets in any pieces are as good as in one: the same is sent, shown and traced, by a server's
//! session and by a client's.
#![no_main]

use std::sync::{Arc, Mutex};

use libfuzzer_sys::fuzz_target;
use smtp_auth::{
    client::{self, Envelope, Tls},
    reply::Reply,
    sasl::{CustomAnswer, Mechanism, Nonce, Query, client as client_sasl, server as server_sasl},
    server,
};
use smtp_auth_fuzz::{ITERATIONS, PASSWORD, SALT_KEY, channel, encode, mechanisms, store::Says};

/// What a run gives.
#[derive(Debug, Default, PartialEq, Eq)]
struct Record {
    out: Vec<u8>,
    events: Vec<String>,
    trace: Vec<String>,
}

type Lines = Arc<Mutex<Vec<String>>>;

/// Where the traced lines go, and what puts them there.
fn tracer() -> (Lines, impl FnMut(smtp_auth::Side, &str) + Send + Sync + 'static) {
    let lines = Lines::default();
    let own = Arc::clone(&lines);
    (lines, move |side, line: &str| {
        own.lock().expect("one thread").push(format!("{side}: {line}"));
    })
}

fn take(lines: &Lines) -> Vec<String> {
    std::mem::take(&mut *lines.lock().expect("one thread"))
}

/// The pieces of what comes at once: cut where the octets say, or not at all.
fn pieces<'a>(mut octets: &'a [u8], cuts: Option<&[u8]>) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &cut in cuts.unwrap_or_default() {
        let (piece, rest) = octets.split_at(usize::from(cut).min(octets.len()));
        pieces.push(piece);
        octets = rest;
    }
    pieces.push(octets);
    pieces
}

/// What a client says at once.
fn said((kind, octets): &(u8, Vec<u8>)) -> Vec<u8> {
    let mechanism = Mechanism::COMPILED[usize::from(kind >> 4) % Mechanism::COMPILED.len()];
    let base64 = encode(octets);
    match kind % 16 {
        0 => "EHLO c\r\n".into(),
        1 => [b"STARTTLS\r\n", &octets[..]].concat(),
        2 => format!("AUTH {mechanism}\r\n{base64}\r\n").into(),
        3 => format!("AUTH {mechanism} {base64}\r\n").into(),
        4 => format!("EHLO c\r\nAUTH PLAIN {}\r\n", encode("\0tim\0tanstaaf")).into(),
        5 => "MAIL FROM:<tim@example.org>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n".into(),
        6 => [&octets[..], b"\r\n.\r\n"].concat(),
        7 => [format!("BDAT {}\r\n", octets.len()).as_bytes(), octets].concat(),
        8 => [format!("BDAT {} LAST\r\n", octets.len()).as_bytes(), octets].concat(),
        9 => [&octets[..], b"\r\n"].concat(),
        10 => b"x".repeat(octets.len() * 100),
        _ => octets.clone(),
    }
}

/// Answers by an octet of the input.
fn answer(query: Query<'_>, answers: &mut impl Iterator<Item = u8>) {
    match (query, answers.next().unwrap_or(Says::YES)) {
        // Left as it is, it is asked again.
        (_, 255) => {}
        (Query::Custom(ask), octet) => ask.answer(CustomAnswer::Challenge(vec![octet; 3])),
        (query, octet) => Says::by(octet).settle(query),
    }
}

fn server_config(choice: u8) -> server::Config {
    let sasl = server_sasl::Config::builder("mail.example.org")
        .mechanisms(mechanisms())
        .nonces(|| Nonce::new("fresh"))
        .salt_key(SALT_KEY)
        .scram_iterations(ITERATIONS)
        .allow_cleartext(choice & 1 != 0);
    let config = server::Config::builder("mail.example.org")
        .sasl(sasl.build().expect("a good name, and what is compiled in"))
        .allow_unauthenticated(choice & 2 != 0)
        .max_message(if choice & 4 != 0 { 40 } else { u64::MAX })
        .max_commands(if choice & 8 != 0 { 3 } else { 1000 });
    config.build().expect("a good name")
}

/// A question without its number, which is another each time.
fn question(query: &Query<'_>) -> String {
    match query {
        Query::CheckPassword(ask) => {
            let (authcid, authzid) = (ask.authcid(), ask.authzid());
            format!("password {authcid:?} {authzid:?} {:?}", ask.password().expose())
        }
        Query::CramSecret(ask) => format!("CRAM-MD5 {:?}", ask.authcid()),
        Query::ScramKeys(ask) => format!("SCRAM {:?} {:?}", ask.authcid(), ask.hash()),
        Query::CheckToken(ask) => format!("token {:?} {:?}", ask.authzid(), ask.token().expose()),
        Query::CheckExternal(ask) => format!("external {:?}", ask.authzid()),
        Query::CheckAnonymous(ask) => format!("anonymous {:?}", ask.trace()),
        Query::Custom(ask) => format!("custom {:?}", ask.response()),
        Query::Authorize(ask) => format!("authorize {:?} {:?}", ask.authcid(), ask.authzid()),
        _ => "other".into(),
    }
}

/// What becomes of what a client says, each element of it at once or in pieces.
fn serve(choice: u8, answers: &[u8], said: &[Vec<u8>], cuts: Option<&[u8]>) -> Record {
    let (lines, hook) = tracer();
    let mut session = server::Session::new(server_config(choice).into());
    session.trace(hook);
    if choice & 64 != 0 {
        session.tls_started(channel());
    }
    let (mut record, mut answers) = (Record::default(), answers.iter().copied());
    // The octets of a message come as they may.
    let mut data = Vec::new();
    for at_once in said {
        let mut pieces = pieces(at_once, cuts).into_iter();
        while let Some(piece) = pieces.next() {
            session.receive(piece);
            while hosted(&mut session, &mut record, &mut data, &mut answers) {}
            if matches!(session.next(&mut record.out), server::Event::StartTls) {
                pieces.by_ref().for_each(|piece| session.receive(piece));
                let dropped = session.tls_started(channel());
                record.events.push(format!("TLS has begun, {dropped} octets lay unread"));
                while hosted(&mut session, &mut record, &mut data, &mut answers) {}
            }
        }
    }
    record.events.push(format!("{:?}", session.identity()));
    // Behind the end nothing is kept.
    if !matches!(session.next(&mut record.out), server::Event::Close) {
        record.events.push(format!("{:?} lie unread", session.into_parts().1));
    }
    record.trace = take(&lines);
    record
}

/// Takes one event. Returns whether more may follow without octets.
fn hosted(
    session: &mut server::Session,
    record: &mut Record,
    data: &mut Vec<u8>,
    answers: &mut impl Iterator<Item = u8>,
) -> bool {
    use server::Event;
    let event = session.next(&mut record.out);
    if let Event::Data(octets) = event {
        data.extend(octets);
        return true;
    }
    let shown = match &event {
        Event::NeedInput | Event::StartTls | Event::Close => return false,
        Event::Query(query) => question(query),
        event => format!("{event:?}"),
    };
    match &event {
        Event::EndOfData(_) => record.events.push(format!("data {:?}", std::mem::take(data))),
        // How much has been shown of what is refused depends on the pieces.
        Event::Reset => data.clear(),
        _ => {}
    }
    record.events.push(shown);
    match event {
        Event::Query(query) => answer(query, answers),
        Event::Command(_, ask) | Event::EndOfData(ask) => ask.reply(Reply::OK),
        Event::StartOfData(permission) => match answers.next() {
            Some(byte) if byte & 1 != 0 => permission.refuse(Reply::LOCAL_ERROR),
            _ => permission.accept(),
        },
        _ => {}
    }
    true
}

/// What a server says: octets as they are, or a reply.
fn reply((kind, octets): &(u8, Vec<u8>)) -> Vec<u8> {
    let mechanism = Mechanism::COMPILED[usize::from(kind >> 4) % Mechanism::COMPILED.len()];
    match kind % 16 {
        0 => b"220 mail.example.org\r\n".into(),
        1 => format!("250-x\r\n250-STARTTLS\r\n250 AUTH {mechanism}\r\n").into(),
        2 => format!("250-x\r\n250-PIPELINING\r\n250 AUTH X-OWN {mechanism}\r\n").into(),
        3 => b"250 OK\r\n".into(),
        4 => b"235 signed in\r\n".into(),
        5 => b"334 \r\n".into(),
        6 => format!("334 {}\r\n", encode(octets)).into(),
        7 => format!("334 {}\r\n", encode("r=freshfresh,s=c2FsdA==,i=4")).into(),
        8 => b"535 wrong\r\n".into(),
        9 => b"354 go on\r\n".into(),
        10 => [b"250-", &octets[..], b"\r\n250 OK\r\n"].concat(),
        11 => [b"550 ", &octets[..], b"\r\n"].concat(),
        12 => b"250-x\r\n".repeat(octets.len()),
        13 => b"x".repeat(octets.len() * 100),
        14 => [b"250-", &octets[..], b"\n550 no\n"].concat(),
        _ => octets.clone(),
    }
}

/// The replies in what a server says: a second one at once would come before its command.
fn replies(choice: u8, said: &[(u8, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut octets = said.iter().flat_map(reply).collect::<Vec<_>>();
    // Some servers end their lines in a bare LF.
    octets.retain(|octet| choice & 128 == 0 || *octet != b'\r');
    let mut replies = vec![Vec::new()];
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        replies.last_mut().expect("there is one").extend(line);
        if line.get(3) != Some(&b'-') {
            replies.push(Vec::new());
        }
    }
    replies
}

fn client_session(choice: u8) -> client::Session {
    let sasl = client_sasl::Config::builder()
        .mechanisms(mechanisms())
        .nonces(|| Nonce::new("fresh"))
        .scram_iterations(1, 10)
        .allow_cleartext(choice & 1 != 0);
    let config = client::Config::builder("client.example.org")
        .sasl(sasl.build().expect("what is compiled in"))
        .tls(if choice & 2 != 0 { Tls::Required } else { Tls::IfOffered })
        .initial_response(choice & 4 != 0)
        .lenient_challenges(choice & 8 != 0);
    let config = config.build().expect("a good name");
    let credentials = match choice >> 4 & 3 {
        0 | 1 => client_sasl::Credentials::password("tim", PASSWORD),
        2 => client_sasl::Credentials::token("tim", "ya29.token"),
        _ => client_sasl::Credentials::anonymous("trace"),
    };
    client::Session::new(config.into(), credentials.expect("good credentials"))
}

/// What becomes of what a server says, each reply at once or in pieces.
fn submit(choice: u8, replies: &[Vec<u8>], cuts: Option<&[u8]>) -> Record {
    let (lines, hook) = tracer();
    let mut session = client_session(choice);
    session.trace(hook);
    if choice & 64 != 0 {
        session.tls_started(channel());
    }
    let (mut record, mut sent) = (Record::default(), 0);
    while sends(&mut session, &mut record, &mut sent) {}
    for reply in replies {
        for piece in pieces(reply, cuts) {
            session.receive(piece);
            while sends(&mut session, &mut record, &mut sent) {}
        }
    }
    record.events.push(format!("{:?} {:?}", session.authenticated(), session.extensions()));
    record.events.push(format!("{:?}", session.eof()));
    record.trace = take(&lines);
    record
}

/// Takes one event. Returns whether more may follow without octets.
fn sends(session: &mut client::Session, record: &mut Record, sent: &mut u32) -> bool {
    use client::Event;
    let event = session.next(&mut record.out);
    match &event {
        Ok(Event::NeedInput) => return false,
        Ok(Event::Derive(_)) => record.events.push("derive".into()),
        // It stays.
        Ok(Event::Close) | Err(_) => {
            let last = format!("{event:?}");
            if record.events.last() != Some(&last) {
                record.events.push(last);
            }
            return false;
        }
        event => record.events.push(format!("{event:?}")),
    }
    match event {
        Ok(Event::StartTls) => session.tls_started(channel()),
        Ok(Event::Derive(ask)) => ask.run(),
        Ok(Event::Custom(ask)) => ask.fail(),
        Ok(Event::NotAuthenticated(failed)) => failed.go_on(),
        Ok(Event::Ready(ready)) if *sent < 2 => {
            *sent += 1;
            let to = ["ann@example.org", "bob@example.org"];
            let envelope = Envelope::new(Some("tim@example.org"), to);
            ready.send(envelope.expect("good addresses"));
        }
        Ok(Event::Ready(ready)) => ready.quit(),
        Ok(Event::Message(body)) => {
            body.write(b".dot\r\n", &mut record.out).expect("good lines");
            body.end(&mut record.out).expect("good lines");
        }
        _ => {}
    }
    true
}

fuzz_target!(|input: (bool, u8, Vec<u8>, Vec<u8>, Vec<(u8, Vec<u8>)>)| {
    let (server, choice, answers, cuts, said) = input;
    if server {
        let said: Vec<_> = said.iter().map(self::said).collect();
        let whole = serve(choice, &answers, &said, None);
        assert_eq!(serve(choice, &answers, &said, Some(&cuts)), whole);
        assert_eq!(serve(choice, &answers, &said, Some(&[1; 200])), whole);
    } else {
        let replies = replies(choice, &said);
        let whole = submit(choice, &replies, None);
        assert_eq!(submit(choice, &replies, Some(&cuts)), whole);
        assert_eq!(submit(choice, &replies, Some(&[1; 200])), whole);
    }
});
