use smtp_auth::{
    reply::Reply,
    sasl::{self, Authenticator, Channel, CramSecret, Nonce, ScramKeys},
    server::{Config, Event, Session},
};

/// Plays a dialogue. `C:` is a line that the client says, `S:` one that the server has to say, octet
/// for octet. `TLS` is a handshake, `...` stands for whatever the server says, `--` is a comment.
pub fn play(config: Config, users: &dyn Authenticator, dialogue: &str) {
    let (mut session, mut out) = (Session::new(config), Vec::new());
    for line in dialogue.lines().map(str::trim_start) {
        let (who, words) = line.split_at(line.len().min(3));
        match who {
            "C: " | "C:" => session.receive(format!("{words}\r\n").as_bytes()),
            "S: " => {
                drive(&mut session, users, &mut out);
                let said = String::from_utf8_lossy(&out).into_owned();
                let end = said.find("\r\n").unwrap_or_else(|| panic!("nothing is said: {line}"));
                assert_eq!(said[..end], *words);
                out.drain(..end + 2);
            }
            "TLS" => drop(session.tls_started(Channel::tls())),
            "..." => {
                drive(&mut session, users, &mut out);
                out.clear();
            }
            _ => assert!(line.is_empty() || line.starts_with("--"), "what is that: {line}"),
        }
    }
    drive(&mut session, users, &mut out);
    assert_eq!(String::from_utf8_lossy(&out), "", "more is said");
}

/// Does what the session asks for until it waits for the client.
fn drive(session: &mut Session, users: &dyn Authenticator, out: &mut Vec<u8>) {
    loop {
        match session.next(out) {
            Event::NeedInput | Event::StartTls | Event::Close => return,
            Event::Query(query) => query.answer_with(users),
            Event::Command(_, ask) => ask.reply(Reply::OK),
            Event::Message(permission) => permission.accept(),
            Event::EndOfData(ask) => ask.reply(Reply::OK),
            Event::Hello(_) | Event::Authenticated(_) | Event::AuthFailed(_) => {}
            Event::Data(_) | Event::Reset => {}
        }
    }
}

/// A server whose nonces, and so its challenges, are always the same: for tests alone.
pub fn config(nonce: &'static str) -> Config {
    let sasl = sasl::server::Config::new("mail.example.org").unwrap();
    Config::new(sasl.nonces(move || Nonce::new(nonce)))
}

/// What the standards have in their examples: `tim` of RFC 2195, `user` of RFC 7677.
pub struct Users;

impl Authenticator for Users {
    fn check_password(&self, ask: &sasl::CheckPassword) -> sasl::PasswordAnswer {
        (ask.authcid() == "tim" && *ask.password() == "tanstaaftanstaaf".into()).into()
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
