//! The client's side.

use std::{
    collections::HashSet,
    fmt::Write,
    sync::{Arc, OnceLock},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    Advance, auth,
    client::{Config, Envelope, Error, Event, Session, Stage, Tls, TryNext},
    sasl::{
        self, Channel, ChannelBinding, CramSecret, Mechanism, Nonce, Query, ScramKeys, TokenAnswer,
        client::Credentials,
    },
};

const PASSWORD: &str = "a password that is searched for";
const TOKEN: &str = "a.token.that.is.searched.for";

/// What the server says, or has happen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input {
    Says(&'static str),
    /// What an honest server would say to what the client has said.
    Honest,
    Tls,
    Eof,
    Host(Host),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// It goes on: runs the work, sends a message, writes it.
    On,
    /// It goes on without being signed in, or quits.
    Quit,
    Next,
    Retry,
    Noop,
    Reset,
}

const REPLIES: &[&str] = &[
    "220 ready",
    "250 ok",
    "250-x\r\n250 STARTTLS",
    "250-x\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN",
    "250-x\r\n250-STARTTLS\r\n250 AUTH SCRAM-SHA-256 PLAIN",
    "250-x\r\n250 AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN OAUTHBEARER XOAUTH2",
    "250-x\r\n250 AUTH SCRAM-SHA-256 PLAIN",
    "250-x\r\n250 AUTH LOGIN XOAUTH2",
    "250-x\r\n250 AUTH PLAIN",
    "250-x\r\n250 PIPELINING",
    "334 ",
    "334",
    "334 VXNlcm5hbWU6",
    "334 *garbage*",
    "334 PDEuMkB4Pg==",
    "334 cj1hYmN4LHM9YzJGc2RBPT0saT0x",
    "334 cj1hYmN4LHM9YzJGc2RBPT0saT00Mjk0OTY3Mjk2",
    "334 dj1BQUFB",
    "334 ZT1pbnZhbGlkLXByb29m",
    "334 eyJzdGF0dXMiOiI0MDEifQ==",
    "235 2.7.0 x",
    "535 5.7.8 x",
    "534 5.7.9 x",
    "504 5.5.4 x",
    "454 4.7.0 x",
    "432 4.7.12 x",
    "501 5.7.0 x",
    "538 5.7.11 x",
    "421 4.3.2 x",
    "354 go on",
    "550 5.1.1 x",
    "503 5.5.1 x",
    "221 bye",
    "not a reply",
    "250 ok\r\n250 ok",
    "235 ok\r\n250 ok",
    "220-x\r\n521 5.7.1 x",
    "235-x\r\n535 5.7.8 x",
    "535-x\r\n235 2.7.0 x",
    "334-x\r\n504 5.5.4 x",
    "250-x\r\n421 4.3.2 x",
    "550-x\r\n250 ok",
    "250-o\n250 k",
    "250 ok\n",
    "550 no\n",
    "250 o\rk",
    "",
];

const REST: [Input; 9] = [
    Input::Honest,
    Input::Tls,
    Input::Eof,
    Input::Host(Host::On),
    Input::Host(Host::Quit),
    Input::Host(Host::Next),
    Input::Host(Host::Retry),
    Input::Host(Host::Noop),
    Input::Host(Host::Reset),
];

pub(crate) fn input(number: u8) -> Input {
    match REPLIES.get(usize::from(number)) {
        Some(reply) => Input::Says(reply),
        None => REST[usize::from(number) - REPLIES.len()],
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Server,
    Tls,
    Host,
    Over,
}

pub(crate) struct World<const TOKENS: bool> {
    pub(crate) session: Session,
    waits: Waits,
    tls: bool,
    /// The AUTH command under way, as an honest server takes it.
    honest: Option<auth::server::Exchange>,
    mechanism: Option<Mechanism>,
    /// What that server says.
    pub(crate) reply: String,
    /// Whether the client has seen an honest server's proof in this exchange.
    verified: bool,
    /// Whether a success may be believed: it has just come, in an exchange.
    success: bool,
    /// Whether what has just come ends the session: lines that differ in code, or end differently.
    ends: bool,
    /// Whether such a reply has come after an outcome, which is shown first: nothing more is to be said.
    over: bool,
    /// Whether the connection's lines end in a bare LF, once there is one.
    lf: Option<bool>,
    authenticated: Option<Mechanism>,
    /// Whether SCRAM has gone past its command with these credentials, on this connection.
    in_scram: bool,
    /// Whether the host has said to go on without a sign-in.
    unauthenticated: bool,
    error: Option<Error>,
    /// Messages sent, as their number has no bound of its own.
    sent: u8,
    retries: u8,
}

fn channel() -> Channel {
    Channel::tls().with_binding(ChannelBinding::tls_exporter([7; 32]))
}

fn credentials(tokens: bool) -> Credentials {
    if tokens {
        Credentials::token("tim", TOKEN).unwrap()
    } else {
        Credentials::password("tim", PASSWORD).unwrap()
    }
}

fn config() -> Arc<Config> {
    static MADE: OnceLock<Arc<Config>> = OnceLock::new();
    let make = || {
        let sasl = sasl::client::Config::builder()
            .nonces(|| Nonce::new("abc"))
            .scram_iterations(1, 1)
            .build()
            .unwrap();
        let config = Config::builder("client.example.org").sasl(sasl);
        Arc::new(config.try_next(TryNext::Always).tls(Tls::IfOffered).build().unwrap())
    };
    Arc::clone(MADE.get_or_init(make))
}

fn honest_config() -> Arc<sasl::server::Config> {
    static MADE: OnceLock<Arc<sasl::server::Config>> = OnceLock::new();
    let make = || {
        let config = sasl::server::Config::builder("mail.example.org")
            .mechanisms(Mechanism::COMPILED)
            .nonces(|| Nonce::new("server"))
            .salt_key("a key of 16 octets")
            .allow_cleartext(true)
            .build();
        Arc::new(config.unwrap())
    };
    Arc::clone(MADE.get_or_init(make))
}

fn answer(query: Query<'_>) {
    match query {
        Query::CheckPassword(ask) => {
            let good = ask.password().expose() == PASSWORD;
            ask.answer(good);
        }
        Query::CramSecret(ask) => ask.answer(Some(CramSecret::from_password(PASSWORD))),
        Query::ScramKeys(ask) => {
            ask.answer(ScramKeys::from_password(ask.hash(), PASSWORD, b"salt", 1));
        }
        Query::CheckToken(ask) => {
            let good = ask.token().expose() == TOKEN;
            ask.answer(if good { TokenAnswer::Accept("tim".into()) } else { TokenAnswer::Reject });
        }
        other => other.reject(),
    }
}

impl<const TOKENS: bool> super::World for World<TOKENS> {
    const INPUTS: u8 = (REPLIES.len() + REST.len()) as u8;

    fn new() -> Self {
        let mut world = Self {
            session: Session::new(config(), credentials(TOKENS)),
            waits: Waits::Server,
            tls: false,
            honest: None,
            mechanism: None,
            reply: String::new(),
            verified: false,
            success: false,
            ends: false,
            over: false,
            lf: None,
            authenticated: None,
            in_scram: false,
            unauthenticated: false,
            error: None,
            sent: 0,
            retries: 0,
        };
        world.pump();
        world
    }

    fn apply(&mut self, number: u8) -> bool {
        match (input(number), self.waits) {
            (Input::Says(reply), Waits::Server) => self.hear(reply),
            (Input::Honest, Waits::Server) if !self.reply.is_empty() => {
                let reply = self.reply.clone();
                let text = reply.strip_prefix("334 ").and_then(|text| STANDARD.decode(text).ok());
                self.verified |= text.is_some_and(|text| text.starts_with(b"v="));
                self.hear(&reply);
            }
            (Input::Tls, Waits::Server | Waits::Host | Waits::Tls) => {
                self.session.tls_started(channel());
                (self.tls, self.authenticated, self.honest) = (true, None, None);
                (self.lf, self.over) = (None, false);
                (self.mechanism, self.unauthenticated, self.in_scram) = (None, false, false);
                assert_eq!(self.session.authenticated(), None, "a sign-in outlives TLS");
            }
            (Input::Eof, Waits::Server) => {
                let _ = self.session.eof();
            }
            (Input::Host(host), Waits::Host) => {
                if !self.go_on(host) {
                    return false;
                }
            }
            _ => return false,
        }
        self.pump();
        true
    }

    fn fingerprint(&self, shown: &mut String) {
        if self.waits == Waits::Over {
            return shown.push_str("over");
        }
        let Self { session, waits, honest, mechanism, reply, verified, unauthenticated, .. } = self;
        write!(shown, "{session:?}{waits:?}{honest:?}{mechanism:?}{reply}{verified}").unwrap();
        write!(shown, "{unauthenticated}{}{}{}", self.tls, self.sent, self.retries).unwrap();
        write!(shown, "{}{}", self.in_scram, self.over).unwrap();
    }
}

impl<const TOKENS: bool> World<TOKENS> {
    fn hear(&mut self, reply: &str) {
        let code = |line: &str| line.get(..3).map(str::to_owned);
        let codes: HashSet<_> = reply.split("\r\n").map(code).collect();
        self.success = codes.contains(&Some("235".into())) && self.mechanism.is_some();
        self.success &= codes.len() == 1 || reply.ends_with("ok\r\n250 ok");
        let goes_on = reply.rsplit("\r\n").nth(1).is_some_and(|line| line.get(3..4) == Some("-"));
        let bare = reply.trim_end().replace("\r\n", "").contains(['\r', '\n']);
        // A bare LF is good where it is the end of the first line, and then of all.
        let lf = reply.ends_with('\n');
        let other_end = *self.lf.get_or_insert(lf) != lf;
        self.ends = bare || other_end || goes_on && codes.len() > 1;
        self.session.receive(format!("{reply}{}", if lf { "" } else { "\r\n" }).as_bytes());
    }

    fn go_on(&mut self, host: Host) -> bool {
        let mut out = Vec::new();
        match self.session.next(&mut out).unwrap() {
            Event::Derive(ask) if host == Host::On => ask.run(),
            Event::NotAuthenticated(failed) => match host {
                Host::On => {
                    failed.go_on();
                    self.unauthenticated = true;
                }
                Host::Quit => failed.quit(),
                Host::Next => failed.try_next(),
                Host::Retry if self.retries < 1 => {
                    (self.retries, self.in_scram) = (self.retries + 1, false);
                    failed.retry(credentials(TOKENS));
                }
                Host::Retry | Host::Noop | Host::Reset => return false,
            },
            Event::Ready(ready) => match host {
                Host::On if self.sent < 2 => {
                    self.sent += 1;
                    let to = ["ann@example.org"];
                    ready.send(Envelope::new(Some("tim@example.org"), to).unwrap());
                }
                Host::Quit => ready.quit(),
                Host::Noop => ready.noop(),
                Host::Reset => ready.reset(),
                _ => return false,
            },
            Event::Message(body) if host == Host::On => {
                body.write(b"hello\r\n", &mut out).unwrap();
                body.end(&mut out).unwrap();
            }
            _ => return false,
        }
        true
    }

    /// Until the session waits; looks at all that it shows and says.
    fn pump(&mut self) {
        let mut out = Vec::new();
        let mut outcome = false;
        loop {
            let advanced = self.session.advance(&mut out);
            let shown = matches!(self.session.pending(), Event::NeedInput);
            let needs_input = advanced == Ok(Advance::NeedInput);
            assert_eq!(shown, needs_input, "what is pending is not what was come to");
            let is_waiting = matches!(self.session.pending(), Event::NeedInput | Event::StartTls);
            let minutes = match self.session.stage() {
                Stage::Data => 2,
                Stage::Message => 10,
                _ => 5,
            };
            let limit = is_waiting.then_some(Duration::from_secs(60 * minutes));
            assert_eq!(self.session.timeout(), limit, "waits for whom, and for how long");
            let next = advanced.map(|_| self.session.pending());
            let found = next.as_ref().err().cloned();
            self.waits = match next {
                Ok(Event::NeedInput) => Waits::Server,
                Ok(Event::StartTls) => Waits::Tls,
                Ok(
                    Event::Derive(_)
                    | Event::NotAuthenticated(_)
                    | Event::Ready(_)
                    | Event::Message(_),
                ) => Waits::Host,
                Ok(Event::Custom(_)) => panic!("no mechanism of the host's own"),
                Ok(Event::Refused { .. }) => {
                    assert!(self.session.ready().is_none(), "a message could be begun within one");
                    continue;
                }
                Ok(Event::Sent(_)) => {
                    // The one is passed so, the other by moving on.
                    assert!(self.sent > 1 || self.session.ready().is_some());
                    outcome = true;
                    continue;
                }
                Ok(Event::Close) | Err(_) => Waits::Over,
            };
            if self.error.is_some() {
                assert_eq!(found, self.error, "an error does not stay");
            }
            self.error = found;
            let is_ready = matches!(self.session.pending(), Event::Ready(_));
            assert_eq!(self.session.ready().is_some(), is_ready, "begins what it may not");
            break;
        }
        if self.ends && self.waits != Waits::Over {
            assert!(outcome, "goes on after such a reply");
            self.over = true;
        }
        assert!(!self.over || out.is_empty(), "goes on after such a reply");
        self.ends = false;
        let authenticated = self.session.authenticated();
        if authenticated != self.authenticated {
            assert!(self.success, "signed in without a success");
            assert_eq!(authenticated, self.mechanism, "by another mechanism");
            let scram = self.mechanism.is_some_and(|own| own.name().starts_with("SCRAM-"));
            assert!(self.verified || !scram, "signed in at a server that has not proven itself");
            self.authenticated = authenticated;
        }
        self.success = false;
        let text = std::str::from_utf8(&out).unwrap();
        assert!(text.is_empty() || text.ends_with("\r\n"));
        text.split_terminator("\r\n").for_each(|line| self.said(line));
    }

    /// The client says a line.
    fn said(&mut self, line: &str) {
        let decoded = line.split(' ').filter_map(|word| STANDARD.decode(word).ok());
        for secret in [PASSWORD, TOKEN] {
            let shows =
                |text: &[u8]| text.windows(secret.len()).any(|part| part == secret.as_bytes());
            let shown = shows(line.as_bytes()) || decoded.clone().any(|word| shows(&word));
            assert!(self.tls || !shown, "a secret without TLS: {line}");
            let passwords = self.mechanism.is_some_and(Mechanism::takes_password);
            let begins = line.starts_with("AUTH ");
            if shown && !begins {
                assert_eq!(passwords, secret == PASSWORD, "a secret of another kind");
            }
        }
        if line.starts_with("MAIL ") {
            let free = self.authenticated.is_some() || self.unauthenticated;
            assert!(free, "mail before the sign-in");
        }
        let mut said = Vec::new();
        let scram = self.mechanism.is_some_and(|own| own.name().starts_with("SCRAM-"));
        if let Some(args) = line.strip_prefix("AUTH ") {
            assert!(self.authenticated.is_none(), "a second sign-in");
            assert!(!self.in_scram, "another mechanism once SCRAM had begun");
            let name = args.split(' ').next().unwrap_or_default();
            self.mechanism = Mechanism::from_name(name);
            self.verified = false;
            let config = honest_config();
            self.honest = Some(auth::server::Exchange::new(&config, &channel(), args.as_bytes()));
        } else if let Some(exchange) = &mut self.honest {
            if let auth::server::Step::NeedLine(slot) = exchange.step(&mut Vec::new()) {
                slot.line(line.as_bytes());
            }
        }
        if line.split(' ').next().is_some_and(|verb| {
            ["EHLO", "STARTTLS", "MAIL", "QUIT", "RSET", "NOOP"].contains(&verb)
        }) {
            (self.honest, self.mechanism) = (None, None);
        } else if scram && !line.starts_with("AUTH ") {
            self.in_scram = true;
        }
        self.reply.clear();
        if let Some(exchange) = &mut self.honest {
            while let auth::server::Step::Query(query) = exchange.step(&mut said) {
                answer(query);
            }
            let last = String::from_utf8(said).unwrap();
            self.reply = last.trim_end_matches("\r\n").to_owned();
        }
    }
}
