//! Adds AUTH to a server that receives its lines from a framework such as mailin or a milter: `cargo run --example
//! push`.
//!
//! The framework owns the sockets and the loop. It passes one line at a time to `process`, without its CRLF, and sends
//! the response that `process` returns. `Session` therefore keeps the AUTH exchange from one line to the next, and
//! needs no buffer.
//!
//! The framework must accept lines as long as `auth::MAX_LINE`, and end a line only at CRLF. The example leaves out
//! recipients and the message, because they are not part of AUTH.

use std::{error::Error, mem, sync::Arc, time::Duration};

use smtp_auth::{
    Mask, Side,
    auth::{
        advertise,
        server::{Exchange, Step},
    },
    reply::{Reply, ReplyRef},
    sasl::{
        Answer, Authenticator, Channel, CheckPassword, Identity, Mechanism, server::Config as Sasl,
    },
    server::pause,
};

/// The maximum number of failed attempts to authenticate in one connection, at least three (RFC 4954 §9).
const MAX_ATTEMPTS: u32 = 3;

/// The framework's own reply type, which also says what the framework must do next.
struct Response {
    code: u16,
    lines: Vec<String>,
    /// How long to wait before sending the response.
    pause: Duration,
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Continue,
    /// Send the response, begin TLS, and call `tls_started`.
    StartTls,
    /// Send the response, and close the connection.
    Close,
}

impl Response {
    fn new(code: u16, lines: Vec<String>) -> Self {
        Self { code, lines, pause: Duration::ZERO, action: Action::Continue }
    }

    /// Creates a response from a reply in wire format, which is what an exchange appends.
    fn parse(octets: &[u8]) -> Self {
        match ReplyRef::parse(octets) {
            Ok(reply) => {
                let text = |line| String::from_utf8_lossy(line).into_owned();
                Self::new(reply.code(), reply.lines().map(text).collect())
            }
            // This does not happen: the exchange writes one complete reply at each step.
            Err(_) => Self::from(Reply::LOCAL_ERROR),
        }
    }

    fn and(self, action: Action) -> Self {
        Self { action, ..self }
    }
}

/// Converts a reply of the crate.
impl From<Reply> for Response {
    fn from(reply: Reply) -> Self {
        let mut octets = Vec::new();
        reply.write(&mut octets);
        Self::parse(&octets)
    }
}

/// One connection.
struct Session {
    /// The configuration, shared by all connections.
    sasl: Arc<Sasl>,
    channel: Channel,
    /// Whether the client has sent EHLO, which AUTH requires.
    extended: bool,
    /// The exchange that is waiting for its next line.
    auth: Option<Exchange>,
    /// The identity of the client, once it has authenticated.
    identity: Option<Identity>,
    attempts: u32,
}

impl Session {
    fn new(sasl: Arc<Sasl>) -> Self {
        let channel = Channel::cleartext();
        Self { sasl, channel, extended: false, auth: None, identity: None, attempts: 0 }
    }

    /// Called when TLS has begun. Everything that the client sent before is forgotten (RFC 3207 §4.2), except the
    /// number of failed attempts. The framework drops unread octets in its buffer.
    fn tls_started(&mut self) {
        let (fresh, attempts) = (Self::new(Arc::clone(&self.sasl)), self.attempts);
        *self = Self { channel: Channel::tls(), attempts, ..fresh };
    }

    fn process(&mut self, line: &str) -> Response {
        if let Some(mut exchange) = self.auth.take() {
            // During an exchange every line is a response to a challenge.
            if let Some(Step::NeedLine(pending)) = exchange.pending() {
                pending.line(line.as_bytes());
            }
            return self.go_on(exchange);
        }
        let (verb, args) = line.split_once(' ').unwrap_or((line, ""));
        match &*verb.to_ascii_uppercase() {
            "EHLO" => self.ehlo(),
            "STARTTLS" if self.channel.is_tls() => Reply::BAD_SEQUENCE.into(),
            "STARTTLS" => Response::from(Reply::READY_FOR_TLS).and(Action::StartTls),
            "AUTH" if !self.extended => Reply::EHLO_FIRST.into(),
            "AUTH" if self.identity.is_some() => Reply::BAD_SEQUENCE.into(),
            "AUTH" => self.go_on(Exchange::new(&self.sasl, &self.channel, args.as_bytes())),
            "MAIL" if self.identity.is_none() => Reply::AUTHENTICATION_REQUIRED.into(),
            // A real server compares the sender with the account here.
            "MAIL" => Reply::SENDER_OK.into(),
            "QUIT" => Response::from(Reply::CLOSING).and(Action::Close),
            _ => Reply::UNRECOGNIZED.into(),
        }
    }

    fn ehlo(&mut self) -> Response {
        self.extended = true;
        let mut lines = vec!["mail.example.org".to_owned(), "ENHANCEDSTATUSCODES".to_owned()];
        if !self.channel.is_tls() {
            lines.push("STARTTLS".to_owned());
        }
        let mut auth = Vec::new();
        advertise(&self.sasl, &self.channel, &mut auth);
        // The list may be empty before TLS. In that case there is no AUTH line.
        if !auth.is_empty() {
            lines.push(String::from_utf8_lossy(&auth).into_owned());
        }
        Response::new(250, lines)
    }

    /// Advances the exchange to its next `334` reply or to its end. A server that accepts tokens should count a failed
    /// attempt as soon as `exchange.failure()` returns it, which is before the end.
    fn go_on(&mut self, mut exchange: Exchange) -> Response {
        let mut out = Vec::new();
        let outcome = loop {
            match exchange.step(&mut out) {
                Step::Query(query) => query.answer_with(&OneUser),
                Step::NeedLine(_) => break None,
                Step::Done(outcome) => break Some(outcome.cloned()),
            }
        };
        let mut response = Response::parse(&out);
        match outcome {
            None => self.auth = Some(exchange),
            Some(Ok(identity)) => self.identity = Some(identity),
            Some(Err(failure)) if failure.is_attempt() => {
                self.attempts += 1;
                if self.attempts >= MAX_ATTEMPTS {
                    response = Response::from(Reply::TOO_MANY_ATTEMPTS).and(Action::Close);
                }
                response.pause = pause(self.attempts);
            }
            Some(Err(_)) => {}
        }
        response
    }
}

struct OneUser;

impl Authenticator for OneUser {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain, Mechanism::Login]
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        // Comparing two `Secret`s takes the same time wherever they differ.
        ((ask.authcid() == "tim") & (ask.password() == "tanstaaftanstaaf")).into()
    }
}

/// Acts as the framework. Each line comes with the beginning of the expected response.
fn dialogue(sasl: &Arc<Sasl>, lines: &[(&str, &str)]) -> Result<(), Box<dyn Error>> {
    let (mut session, mut mask) = (Session::new(Arc::clone(sasl)), Mask::new());
    let mut action = Action::Continue;
    for &(line, expected) in lines {
        match mem::replace(&mut action, Action::Continue) {
            Action::Continue => {}
            Action::StartTls => session.tls_started(),
            Action::Close => return Err("the connection is closed too early".into()),
        }
        println!("  C: {}", mask.line(Side::Client, line.as_bytes()).unwrap_or_default());
        let response = session.process(line);
        action = response.action;
        let said = format!("{} {}", response.code, response.lines.join("|"));
        println!(
            "  S: {} ({:?})",
            mask.line(Side::Server, said.as_bytes()).unwrap_or_default(),
            action
        );
        let is_wrong = expected.starts_with("535") || expected.starts_with("421");
        if !said.starts_with(expected) || is_wrong == response.pause.is_zero() {
            return Err(format!("{expected:?} was expected").into());
        }
    }
    println!();
    if action == Action::Close { Ok(()) } else { Err("the connection is still open".into()) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let sasl = Arc::new(Sasl::builder("mail.example.org").answered_by(&OneUser).build()?);
    dialogue(
        &sasl,
        &[
            ("AUTH PLAIN", "503 5.5.1 Send EHLO first"),
            ("EHLO laptop.example.org", "250 mail.example.org|ENHANCEDSTATUSCODES|STARTTLS"),
            ("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm", "538 5.7.11 "),
            ("STARTTLS", "220 2.0.0 "),
            ("AUTH PLAIN", "503 5.5.1 Send EHLO first"), // the EHLO before TLS is forgotten
            (
                "EHLO laptop.example.org",
                "250 mail.example.org|ENHANCEDSTATUSCODES|AUTH PLAIN LOGIN",
            ),
            ("MAIL FROM:<tim@example.org>", "530 5.7.0 "),
            ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
            ("dGlt", "334 UGFzc3dvcmQ6"),
            ("dGFuc3RhYWZ0YW5zdGFhZg==", "235 2.7.0 "),
            ("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm", "503 5.5.1 "),
            ("MAIL FROM:<tim@example.org>", "250 2.1.0 "),
            ("QUIT", "221 2.0.0 "),
        ],
    )?;
    dialogue(
        &sasl,
        &[
            ("EHLO laptop.example.org", "250 "),
            ("STARTTLS", "220 2.0.0 "),
            ("EHLO laptop.example.org", "250 "),
            ("AUTH CRAM-MD5", "504 5.5.4 "), // not counted as an attempt
            ("AUTH PLAIN AHRpbQB3cm9uZw==", "535 5.7.8 "),
            ("MAIL FROM:<tim@example.org>", "530 5.7.0 "),
            ("AUTH PLAIN", "334 "),
            ("AHRpbQB3cm9uZw==", "535 5.7.8 "),
            ("AUTH LOGIN", "334 "),
            ("QUIT", "421 4.7.0 "), // taken as a response that is not base64
        ],
    )
}
