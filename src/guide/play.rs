use smtp_auth::{
    reply::Reply,
    sasl::{self, Authenticator, Channel, CramSecret, Nonce, ScramKeys},
    server::{Config, Event, Session},
};

/// Plays a dialogue. `C:` is a line that the client says, `S:` one that the server has to say, octet
/// for octet. `TLS` is a handshake, `...` stands for whatever the server says, `--` is a comment.
/// A dialogue that begins by `TLS` has implicit TLS; elsewhere the server has to have begun it.
#[track_caller]
pub fn play(config: Config, users: &dyn Authenticator, dialogue: &str) {
    let (mut session, mut out) = (Session::new(config.into()), Vec::new());
    let mut begun = false;
    // As an editor counts, if the dialogue's first line is that of the call.
    for (number, line) in (1..).zip(dialogue.lines().map(str::trim_start)) {
        let (who, words) = line.split_at(line.len().min(3));
        match who {
            "C: " | "C:" => session.receive(format!("{words}\r\n").as_bytes()),
            "S: " => {
                drive(&mut session, users, &mut out);
                let said = first_line(&mut out);
                assert!(said == words, "line {number}\n    said: {said}\nexpected: {words}");
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
            _ => panic!("line {number}: what is that: {line}"),
        }
        begun = true;
    }
    drive(&mut session, users, &mut out);
    assert!(out.is_empty(), "at the end\n    said: {}", String::from_utf8_lossy(&out));
}

/// Takes out what is said next, without its CRLF.
fn first_line(out: &mut Vec<u8>) -> String {
    match out.windows(2).position(|octets| octets == b"\r\n") {
        Some(end) => String::from_utf8_lossy(&out.drain(..end + 2).as_slice()[..end]).into_owned(),
        None => "(nothing)".into(),
    }
}

/// Does what the session asks for until it waits for the client: for TLS, if `true`.
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

/// A server whose nonces, and so its challenges, are always the same: for tests alone.
pub fn config(nonce: &'static str) -> Config {
    let sasl = sasl::server::Config::builder("mail.example.org")
        .answered_by(&Users)
        .nonces(move || Nonce::new(nonce))
        .build()
        .unwrap();
    Config::builder("mail.example.org").sasl(sasl).build().unwrap()
}

/// What the standards have in their examples: `tim` of RFC 2195, `user` of RFC 7677.
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
