use smtp_auth::{
    reply::Reply,
    sasl::{self, Authenticator, Channel, CramSecret, Nonce, ScramKeys},
    server::{Config, Event, Session},
};

/// Runs a dialogue, and panics at the first difference. `C:` is a line from the client, and `S:` a line
/// that the server must send, compared octet for octet. `TLS` is a handshake, `...` skips the server's
/// next lines, and `--` begins a comment. A dialogue that starts with `TLS` uses implicit TLS. Anywhere
/// else, the server must have agreed to STARTTLS.
#[track_caller]
pub fn play(config: Config, users: &dyn Authenticator, dialogue: &str) {
    let (mut session, mut out) = (Session::new(config.into()), Vec::new());
    let mut begun = false;
    // Line 1 is the line of the call, where the string begins.
    for (number, line) in (1..).zip(dialogue.lines().map(str::trim_start)) {
        let (prefix, words) = line.split_at(line.len().min(3));
        match prefix {
            "C: " | "C:" => session.receive(format!("{words}\r\n").as_bytes()),
            "S: " => {
                drive(&mut session, users, &mut out);
                let sent = first_line(&mut out);
                assert!(sent == words, "line {number}\n    sent: {sent}\nexpected: {words}");
            }
            "TLS" => {
                let waits = !begun || drive(&mut session, users, &mut out);
                assert!(waits && out.is_empty(), "line {number}: TLS without STARTTLS and its 220");
                session.tls_started(Channel::tls());
            }
            "..." => {
                drive(&mut session, users, &mut out);
                out.clear();
            }
            _ if line.is_empty() || line.starts_with("--") => continue,
            _ => panic!("line {number} is not part of a dialogue: {line}"),
        }
        begun = true;
    }
    drive(&mut session, users, &mut out);
    assert!(out.is_empty(), "at the end\n    sent: {}", String::from_utf8_lossy(&out));
}

/// Removes the server's next line, and returns it without its CRLF.
fn first_line(out: &mut Vec<u8>) -> String {
    match out.windows(2).position(|octets| octets == b"\r\n") {
        Some(end) => String::from_utf8_lossy(&out.drain(..end + 2).as_slice()[..end]).into_owned(),
        None => "(nothing)".into(),
    }
}

/// Handles events until the session waits for the client. Returns `true` if it waits for a TLS handshake.
fn drive(session: &mut Session, users: &dyn Authenticator, out: &mut Vec<u8>) -> bool {
    loop {
        match session.next(out) {
            Event::NeedInput | Event::Close => return false,
            Event::StartTls => return true,
            Event::Query(query) => query.answer_with(users),
            Event::Command(_, ask) => ask.reply(Reply::OK),
            Event::StartOfData(permission) => permission.accept(),
            Event::EndOfData(ask) => ask.reply(Reply::OK),
            Event::Hello(_) | Event::Authenticated(_) | Event::AuthFailed(_) => {}
            Event::Data(_) | Event::Reset => {}
        }
    }
}

/// A configuration whose nonces, and so its challenges, are always the same. Use it only in tests.
pub fn config(nonce: &'static str) -> Config {
    let sasl = sasl::server::Config::builder("mail.example.org")
        .answered_by(&Users)
        .nonces(move || Nonce::new(nonce))
        .build()
        .unwrap();
    Config::builder("mail.example.org").sasl(sasl).build().unwrap()
}

/// The accounts of the standards' examples: `tim` of RFC 2195, and `user` of RFC 7677.
pub struct Users;

impl Authenticator for Users {
    fn mechanisms(&self) -> &[sasl::Mechanism] {
        use sasl::Mechanism::{CramMd5, Login, Plain, ScramSha256};
        &[ScramSha256, CramMd5, Plain, Login]
    }

    fn check_password(&self, ask: &sasl::CheckPassword) -> sasl::Answer {
        (ask.authcid() == "tim" && ask.password() == "tanstaaftanstaaf").into()
    }

    fn cram_secret(&self, ask: &sasl::CramSecretFor) -> sasl::Answer<CramSecret> {
        (ask.authcid() == "tim").then(|| CramSecret::from_password("tanstaaftanstaaf")).into()
    }

    fn scram_keys(&self, ask: &sasl::ScramKeysFor) -> sasl::Answer<ScramKeys> {
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
            $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        (ask.authcid() == "user").then(|| text.parse().unwrap()).into()
    }
}
