//! Client against server in memory, through all three doors, by each mechanism and each failure.

mod binding;
mod credentials;
mod exchanges;
mod pending;
mod sessions;

use std::sync::Arc;

use smtp_auth::{
    Advance, auth, client,
    command::{Command, MailAuth},
    reply::{Reply, ReplyRef},
    sasl::{
        self, Answer, Authenticator, Authorize, AuthorizeAnswer, BindingPolicy, Channel,
        ChannelBinding, CheckAnonymous, CheckExternal, CheckPassword, CheckToken, CramSecret,
        CramSecretFor, Failure, Mechanism, Query, Refusal, RefusalKind, ScramHash, ScramKeys,
        ScramKeysFor, TokenAnswer,
        client::{Credentials, NoMechanism},
    },
    server::{self, StartTls},
};

const MECHANISMS: &[Mechanism] = Mechanism::COMPILED;

fn is_scram(mechanism: Mechanism) -> bool {
    ScramHash::of(mechanism).is_some()
}

/// The response that the client has for the server, its work done.
fn response(client: &mut sasl::client::Exchange) -> &mut sasl::client::Response {
    if let sasl::client::Step::Derive(derive) = client.step() {
        derive.run();
    }
    match client.step() {
        sasl::client::Step::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

/// Tim and Kurt; Kurt may act as Ursel.
struct Users;

fn password_of(name: &str) -> Option<&'static str> {
    match name {
        "tim" => Some("tanstaaftanstaaf"),
        "Kurt" => Some("xipj3plmq"),
        _ => None,
    }
}

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        (password_of(ask.authcid()) == Some(ask.password().expose())).into()
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        password_of(ask.authcid()).map(CramSecret::from_password).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let keys = |password| ScramKeys::from_password(ask.hash(), password, b"salt", 1);
        password_of(ask.authcid()).and_then(keys).into()
    }

    fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        let account = match ask.token().expose() {
            "token-of-tim==" => Some("tim"),
            "token-of-Kurt" => Some("Kurt"),
            _ => None,
        };
        account.map(String::from).into()
    }

    fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        password_of(ask.identity()).map(|_| ask.identity().to_owned()).into()
    }

    fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        (ask.trace() == Some("sirhc")).into()
    }

    fn authorize(&self, ask: &Authorize) -> AuthorizeAnswer {
        (ask.authcid() == "Kurt" && ask.authzid() == Some("Ursel")).into()
    }
}

/// Refuses nothing, and cannot look anything up.
struct Broken(Answer);

impl Authenticator for Broken {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn check_password(&self, _: &CheckPassword) -> Answer {
        self.0.clone()
    }

    fn cram_secret(&self, _: &CramSecretFor) -> Answer<CramSecret> {
        Answer::temp_fail()
    }

    fn scram_keys(&self, _: &ScramKeysFor) -> Answer<ScramKeys> {
        Answer::temp_fail()
    }

    fn check_token(&self, _: &CheckToken) -> TokenAnswer {
        TokenAnswer::TempFail
    }

    fn check_external(&self, _: &CheckExternal) -> Answer<String> {
        Answer::temp_fail()
    }

    fn check_anonymous(&self, _: &CheckAnonymous) -> Answer {
        Answer::temp_fail()
    }

    fn authorize(&self, _: &Authorize) -> AuthorizeAnswer {
        AuthorizeAnswer::TempFail
    }
}

fn tim() -> Credentials {
    Credentials::password("tim", "tanstaaftanstaaf").unwrap()
}

fn kurt_as(authzid: &str) -> Credentials {
    Credentials::password("Kurt", "xipj3plmq").unwrap().acting_as(authzid).unwrap()
}

/// What a client signs in with by that mechanism.
fn good(mechanism: Mechanism) -> Credentials {
    match mechanism {
        Mechanism::External => Credentials::external(),
        Mechanism::Anonymous => Credentials::anonymous("sirhc").unwrap(),
        _ if mechanism.takes_token() => Credentials::token("tim", "token-of-tim==").unwrap(),
        _ => tim(),
    }
}

fn sasl_server() -> sasl::server::Builder {
    sasl::server::Config::builder("smtp.example.com").mechanisms(MECHANISMS).scram_iterations(1)
}

fn sasl_config() -> sasl::server::Config {
    sasl_server().build().unwrap()
}

fn server_config() -> server::Config {
    server::Config::builder("smtp.example.com").sasl(sasl_config()).build().unwrap()
}

/// One iteration is enough where nothing is secret.
fn sasl_client() -> sasl::client::Builder {
    sasl::client::Config::builder().scram_iterations(1, 1)
}

/// Inside TLS, with all that a mechanism can want of it. The certificate is Tim's.
fn channel() -> Channel {
    Channel::tls()
        .with_binding(ChannelBinding::tls_exporter([7; 32]))
        .with_binding(ChannelBinding::tls_server_end_point(&[8; 32]).unwrap())
        .with_identity("tim")
        .unwrap()
}

/// That one and no other: SCRAM without its -PLUS form, where it is not named.
fn sasl_only(mechanism: Mechanism) -> sasl::client::Config {
    sasl_client().mechanisms([mechanism]).without(mechanism.plus()).build().unwrap()
}

fn only(mechanism: Mechanism) -> client::Config {
    client::Config::builder("client.example.com").sasl(sasl_only(mechanism)).build().unwrap()
}

/// The rows: who signs in, what they may be, the failure if there is one, and the client's reply.
type Row = (Credentials, Option<(&'static str, Option<&'static str>)>, Option<Failure>, u16);

fn rows(mechanism: Mechanism) -> Vec<Row> {
    let mut rows = vec![(good(mechanism), Some(("tim", None)), None, 235)];
    let refused = |credentials, why| (credentials, None, Some(why), 535);
    match mechanism {
        Mechanism::Anonymous => {
            rows[0].1 = Some(("anonymous", None));
            rows.push(refused(Credentials::anonymous("").unwrap(), Failure::Rejected));
        }
        Mechanism::External => {
            let own = Credentials::external().acting_as("tim").unwrap();
            rows.push((own, Some(("tim", None)), None, 235));
            let other = Credentials::external().acting_as("Ursel").unwrap();
            rows.push(refused(other, Failure::NotAuthorized));
        }
        _ if mechanism.takes_token() => {
            let token = |user, token| Credentials::token(user, token).unwrap();
            rows.push(refused(token("tim", "another"), Failure::Rejected));
            rows.push((token("Ursel", "token-of-Kurt"), Some(("Kurt", Some("Ursel"))), None, 235));
            rows.push(refused(token("tim", "token-of-Kurt"), Failure::NotAuthorized));
        }
        _ => {
            let wrong = Credentials::password("tim", "wrongpencil").unwrap();
            let unknown = Credentials::password("nobody", "tanstaaftanstaaf").unwrap();
            rows.extend([wrong, unknown].map(|all| refused(all, Failure::Rejected)));
        }
    }
    if mechanism == Mechanism::Plain || is_scram(mechanism) {
        rows.push((kurt_as("Kurt"), Some(("Kurt", None)), None, 235));
        rows.push((kurt_as("Ursel"), Some(("Kurt", Some("Ursel"))), None, 235));
        rows.push(refused(kurt_as("tim"), Failure::NotAuthorized));
    }
    rows
}

#[track_caller]
fn same(
    outcome: Result<&sasl::Identity, Failure>,
    who: Option<(&str, Option<&str>)>,
    why: Option<Failure>,
) {
    assert_eq!(outcome.err(), why);
    assert_eq!(outcome.ok().map(|found| (found.authcid(), found.authzid())), who);
    if let (Ok(found), Some((authcid, authzid))) = (outcome, who) {
        assert_eq!(found.acts_as(), authzid.unwrap_or(authcid));
    }
}

/// A client's and a server's session, joined.
struct Pair {
    client: client::Session,
    server: server::Session,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// How many octets go over at a time.
    step: usize,
    inside: Channel,
    mail: Vec<(client::Envelope, Vec<u8>)>,
    /// What happened, on both sides.
    seen: Vec<String>,
}

impl Pair {
    fn new(client: client::Session, server: server::Session) -> Self {
        Self {
            client,
            server,
            to_server: Vec::new(),
            to_client: Vec::new(),
            step: usize::MAX,
            inside: channel(),
            mail: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Both inside TLS as of the first octet.
    fn inside_tls(
        client: client::Config,
        credentials: Credentials,
        server: server::Config,
    ) -> Self {
        let mut pair = Self::new(
            client::Session::new(client.into(), credentials),
            server::Session::new(server.into()),
        );
        pair.client.tls_started(channel());
        assert_eq!(pair.server.tls_started(channel()), 0);
        pair
    }

    /// Until both wait and nothing is under way. The client quits when it has nothing to send.
    fn run(&mut self, users: &dyn Authenticator) {
        let (mut message, mut open) = (Vec::new(), true);
        while open {
            let before = self.seen.len();
            let (mut server_tls, mut moved) = (false, false);
            loop {
                let seen = match server_event(&mut self.server, &mut self.to_client) {
                    server::Event::NeedInput => break,
                    server::Event::StartTls => {
                        server_tls = true;
                        break;
                    }
                    server::Event::Close => "closes".into(),
                    server::Event::Query(query) => {
                        query.answer_with(users);
                        continue;
                    }
                    server::Event::Authenticated(who) => {
                        format!("{} signed in as {}", who.authcid(), who.acts_as())
                    }
                    server::Event::AuthFailed(failed) => format!("{:?}", failed.why),
                    server::Event::Hello(hello) => format!("hello {}", hello.name),
                    server::Event::Command(command, ask) => {
                        ask.reply(match command {
                            Command::Rcpt(rcpt) if rcpt.to().as_str().starts_with("refused") => {
                                Reply::MAILBOX_UNAVAILABLE
                            }
                            _ => Reply::OK,
                        });
                        continue;
                    }
                    server::Event::StartOfData(ask) => {
                        ask.accept();
                        continue;
                    }
                    server::Event::Data(piece) => {
                        message.extend_from_slice(piece);
                        continue;
                    }
                    server::Event::EndOfData(ask) => {
                        ask.reply(Reply::OK);
                        let message = std::mem::take(&mut message);
                        format!("message {}", message.escape_ascii())
                    }
                    server::Event::Reset => "reset".into(),
                };
                open &= seen != "closes";
                self.seen.push(seen);
                if !open {
                    break;
                }
            }
            let octets = std::mem::take(&mut self.to_client);
            for piece in octets.chunks(self.step.min(octets.len().max(1))) {
                moved = true;
                self.client.receive(piece);
                self.client_turn();
            }
            if octets.is_empty() {
                self.client_turn();
            }
            if server_tls {
                assert!(self.to_server.is_empty());
                self.seen.push("TLS".into());
                self.server.tls_started(self.inside.clone());
                self.client.tls_started(self.inside.clone());
                self.client_turn();
                moved = true;
            }
            let octets = std::mem::take(&mut self.to_server);
            moved |= !octets.is_empty();
            for piece in octets.chunks(self.step.min(octets.len().max(1))) {
                self.server.receive(piece);
            }
            if !moved && self.seen.len() == before {
                return;
            }
        }
    }

    fn client_turn(&mut self) {
        loop {
            match client_event(&mut self.client, &mut self.to_server) {
                Ok(client::Event::NeedInput | client::Event::StartTls) => return,
                Ok(client::Event::Close) => return,
                // No mechanism of our own is listed.
                Ok(client::Event::Custom(ask)) => ask.fail(),
                Ok(client::Event::Derive(ask)) => ask.run(),
                Ok(client::Event::NotAuthenticated(failed)) => {
                    self.seen.push(format!("client: {}", failed.reason()));
                    failed.quit();
                }
                Ok(client::Event::Ready(ready)) => match self.mail.first() {
                    Some((envelope, _)) => ready.send(envelope.clone()),
                    None => ready.quit(),
                },
                Ok(client::Event::Refused { recipient, refusal }) => {
                    self.seen.push(format!("client: {recipient}: {}", refusal.reply().code()));
                }
                Ok(client::Event::Message(body)) => {
                    for part in self.mail[0].1.chunks(7) {
                        body.write(part, &mut self.to_server).unwrap();
                    }
                    body.end(&mut self.to_server).unwrap();
                }
                Ok(client::Event::Sent(outcome)) => {
                    let sent = match outcome {
                        client::Outcome::Accepted { .. } => "to all",
                        client::Outcome::AcceptedForSome { .. } => "to some",
                        client::Outcome::Refused { .. } | client::Outcome::NotSent { .. } => {
                            "to none"
                        }
                    };
                    self.seen.push(format!("client: sent {sent}"));
                    drop(self.mail.remove(0));
                }
                Err(error) => {
                    self.seen.push(format!("client: {error}"));
                    return;
                }
            }
        }
    }
}

/// The text of an AUTH line.
fn list(mechanisms: impl Iterator<Item = Mechanism>) -> String {
    mechanisms.fold("AUTH".to_owned(), |line, own| line + " " + own.name())
}

/// The server's next event, which stays the same however often it is looked at.
fn server_event<'a>(session: &'a mut server::Session, out: &mut Vec<u8>) -> server::Event<'a> {
    let needs_input = session.advance(out) == Advance::NeedInput;
    let shown = (format!("{session:?}"), format!("{:?}", session.pending()));
    assert_eq!((format!("{session:?}"), format!("{:?}", session.pending())), shown);
    assert_eq!(matches!(session.pending(), server::Event::NeedInput), needs_input);
    session.pending()
}

fn client_event<'a>(
    session: &'a mut client::Session,
    out: &mut Vec<u8>,
) -> Result<client::Event<'a>, client::Error> {
    let needs_input = session.advance(out)? == Advance::NeedInput;
    let shown = (format!("{session:?}"), format!("{:?}", session.pending()));
    assert_eq!((format!("{session:?}"), format!("{:?}", session.pending())), shown);
    assert_eq!(matches!(session.pending(), client::Event::NeedInput), needs_input);
    Ok(session.pending())
}
