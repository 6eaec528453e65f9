//! A client's session, and a host that has messages to send.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use smtp_auth::{
    Advance,
    client::{
        AuthError, BodyType, Config, Envelope, Error, Event, NotSent, Notify, NotifyOn, Outcome,
        Recipient, RecipientStatus, Refusal, Ret, Session, Tls, TryNext,
    },
    command::MailAuth,
    sasl::{
        Channel, Nonce, NonceError, SaltedPassword,
        client::{self as sasl, Credentials, Failure, NoMechanism},
    },
};

use super::{
    Entry, Player,
    script::{Script, text_of, unescape, words},
};

/// The salted password of each script: it is played hundreds of times, and PBKDF2 takes its time.
static KNOWN: Mutex<Vec<(String, SaltedPassword)>> = Mutex::new(Vec::new());

enum Next {
    Send(Envelope),
    Noop,
    Reset,
}

pub(crate) struct Host {
    path: String,
    session: Session,
    /// The connection once it is inside TLS.
    channel: Channel,
    out: Vec<u8>,
    log: Vec<Entry>,
    /// What to do when nothing is under way.
    next: VecDeque<Next>,
    message: Vec<u8>,
    on_failure: VecDeque<Vec<String>>,
    quit: bool,
    /// The keywords of the reply to EHLO, where that is played silently.
    ehlo: Option<Vec<u8>>,
    ready: bool,
    over: bool,
    /// Whether the session moves on and shows what is pending at once.
    by_next: bool,
    trace: Arc<Mutex<Vec<String>>>,
}

impl Host {
    pub(crate) fn new(script: &Script) -> Self {
        let mut config = Config::builder(script.header("hostname").unwrap_or("client.example.com"))
            .sasl(sasl(script))
            .initial_response(!script.is("initial_response", "never"))
            .lenient_challenges(script.is("challenges", "lenient"))
            .x_exps(script.is("x_exps", "read"))
            .tls(match script.header("starttls") {
                None | Some("required") => Tls::Required,
                Some("if-offered") => Tls::IfOffered,
                Some("never") => Tls::Never,
                Some(other) => panic!("{}: starttls: {other}", script.path),
            });
        if let Some(policy) = script.header("try_next") {
            config = config.try_next(match policy {
                "never" => TryNext::Never,
                "if-unusable" => TryNext::IfUnusable,
                "always" => TryNext::Always,
                other => panic!("{}: try_next: {other}", script.path),
            });
        }
        if let Some(tries) = script.header("max_tries") {
            config = config.max_tries(tries.parse().unwrap());
        }
        let mut session = match credentials(script) {
            Some(credentials) => Session::new(config.build().unwrap().into(), credentials),
            None => Session::without_credentials(config.build().unwrap().into()),
        };
        let channel = match script.is("verified", "yes") {
            true => script.channel().verified(),
            false => script.channel(),
        };
        if !script.is("tls", "none") {
            session.tls_started(channel.clone());
        }
        let trace = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&trace);
        session.trace(move |side, line| lines.lock().unwrap().push(format!("{side}: {line}")));
        Self {
            path: script.path.clone(),
            session,
            channel,
            out: Vec::new(),
            log: Vec::new(),
            next: script
                .all("send")
                .map(|value| match value {
                    "NOOP" => Next::Noop,
                    "RSET" => Next::Reset,
                    value => Next::Send(envelope(value)),
                })
                .collect(),
            message: unescape(script.header("message").unwrap_or("Hello\\r\\n")).unwrap(),
            on_failure: script.all("on_failure").map(words).collect(),
            quit: script.is("then", "quit"),
            ehlo: script.header("ehlo").map(|lines| {
                let lines: Vec<&str> = ["smtp.example.com"]
                    .into_iter()
                    .chain(lines.split('|'))
                    .map(str::trim)
                    .collect();
                let (last, rest) = lines.split_last().unwrap();
                let mut reply: String = rest.iter().map(|line| format!("250-{line}\r\n")).collect();
                reply.push_str(&format!("250 {last}\r\n"));
                reply.into_bytes()
            }),
            ready: false,
            by_next: false,
            over: false,
            trace,
        }
    }

    fn note(&mut self) {
        let said = std::mem::take(&mut self.out);
        let text = said.strip_suffix(b"\r\n").unwrap_or(&said);
        if said.is_empty() {
            return;
        }
        for line in text.split(|&octet| octet == b'\n') {
            self.log.push(Entry::Said(line.strip_suffix(b"\r").unwrap_or(line).to_vec()));
        }
    }

    fn event(&mut self, text: impl Into<String>) {
        self.log.push(Entry::Event(text.into()));
    }
}

/// Which mechanisms the script has, and how they are used.
pub(super) fn sasl(script: &Script) -> sasl::Config {
    let mut sasl = sasl::Config::builder()
        .allow_cleartext(script.is("cleartext", "allowed"))
        .without(script.without())
        .channel_binding(script.binding_policy());
    if let Some(all) = script.mechanisms() {
        sasl = sasl.mechanisms(all);
    }
    let nonces: Vec<String> = script.all("nonce").map(String::from).collect();
    if !nonces.is_empty() {
        let nonces = Mutex::new(nonces.into_iter());
        sasl = sasl.nonces(move || {
            let next = nonces.lock().unwrap().next();
            Nonce::new(&next.ok_or(NonceError)?)
        });
    }
    sasl.build().unwrap()
}

/// What the script has to sign in with.
pub(super) fn credentials(script: &Script) -> Option<Credentials> {
    let login = script.header("login").map(|value| password(&script.path, &words(value)));
    let token = script.header("token").map(|value| token(&words(value)));
    let external = script.header("external").map(|value| match words(value).first() {
        Some(authzid) => Credentials::external().acting_as(authzid).unwrap(),
        None => Credentials::external(),
    });
    let guest = |trace| Credentials::anonymous(&text_of(trace)).unwrap();
    login.or(token).or(external).or_else(|| script.header("anonymous").map(guest))
}

/// The salted password that the script's first playing came to.
pub(super) fn keep(path: &str, salted: SaltedPassword) {
    KNOWN.lock().unwrap().push((path.to_owned(), salted));
}

fn password(path: &str, words: &[String]) -> Credentials {
    let mut credentials = Credentials::password(&words[0], &*words[1]).unwrap();
    for (known, salted) in KNOWN.lock().unwrap().iter() {
        if known == path {
            credentials = credentials.salted(salted.clone());
        }
    }
    match words.get(2) {
        Some(authzid) => credentials.acting_as(authzid).unwrap(),
        None => credentials,
    }
}

fn token(words: &[String]) -> Credentials {
    let credentials = Credentials::token(&words[0], &*words[1]).unwrap();
    match words.get(2..) {
        Some([host, port]) => credentials.for_server(host, port.parse().unwrap()).unwrap(),
        _ => credentials,
    }
}

fn envelope(value: &str) -> Envelope {
    let words: Vec<&str> = value.split(' ').collect();
    let (from, to) = (text_of(words[0]), text_of(words[1]));
    let from = Some(from.as_str()).filter(|from| *from != "<>");
    let mut envelope = Envelope::new(from, to.split(',').map(recipient)).unwrap();
    for parameter in words.get(2).into_iter().flat_map(|all| all.split(',')) {
        envelope = match parameter.split_once('=') {
            Some(("size", octets)) => envelope.size(octets.parse().unwrap()),
            Some(("auth", "<>")) => envelope.auth(&MailAuth::UNKNOWN),
            Some(("auth", mailbox)) => envelope.auth(&MailAuth::new(mailbox).unwrap()),
            Some(("envid", id)) => envelope.envelope_id(&text_of(id)).unwrap(),
            Some(("ret", "full")) => envelope.ret(Ret::Full),
            Some(("ret", "headers")) => envelope.ret(Ret::Headers),
            _ if parameter.contains(':') => {
                let (keyword, name, value) = other(parameter);
                envelope.parameter(keyword, name, value).unwrap()
            }
            None if parameter == "require-tls" => envelope.require_tls(),
            None if parameter == "seven-bit" => envelope.body(BodyType::SevenBit),
            None if parameter == "eight-bit" => envelope.body(BodyType::EightBitMime),
            None if parameter == "smtputf8" => envelope.smtputf8(true),
            None if parameter == "every" => envelope.every_recipient(true),
            _ => panic!("no such parameter: {parameter}"),
        };
    }
    envelope
}

/// An address, and parameters after a `;` each.
fn recipient(value: &str) -> Recipient {
    let mut parts = value.split(';');
    let address = Recipient::new(parts.next().unwrap()).unwrap();
    parts.fold(address, |recipient, parameter| match parameter.split_once('=') {
        Some(("notify", "never")) => recipient.notify(Notify::Never),
        Some(("notify", occasions)) => {
            let occasion = |name| match name {
                "success" => NotifyOn::SUCCESS,
                "failure" => NotifyOn::FAILURE,
                "delay" => NotifyOn::DELAY,
                other => panic!("no such occasion: {other}"),
            };
            let all = occasions.split('+').map(occasion).reduce(|all, one| all | one);
            recipient.notify(Notify::On(all.unwrap()))
        }
        Some(("orcpt", original)) => {
            let (addr_type, address) = original.split_once(':').unwrap();
            recipient.original_recipient(addr_type, address).unwrap()
        }
        _ => {
            let (keyword, name, value) = other(parameter);
            recipient.parameter(keyword, name, value).unwrap()
        }
    })
}

/// `KEYWORD:NAME=VALUE`, or without value.
fn other(text: &str) -> (&str, &str, Option<&str>) {
    let (keyword, parameter) = text.split_once(':').unwrap();
    match parameter.split_once('=') {
        Some((name, value)) => (keyword, name, Some(value)),
        None => (keyword, parameter, None),
    }
}

fn sent(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { reply, .. } => format!("= sent {}", reply.code()),
        Outcome::AcceptedForSome { reply, recipients } => {
            let mut text = format!("= sent {} for some:", reply.code());
            for recipient in recipients {
                let (word, code) = match recipient.status() {
                    RecipientStatus::Accepted(reply) => ("accepted", reply.code()),
                    RecipientStatus::Refused(refusal) => ("refused", refusal.reply().code()),
                    RecipientStatus::NotSent => ("not sent", 0),
                };
                text += &format!(" {} {word} {code}", recipient.address());
            }
            text
        }
        Outcome::Refused { refusal, .. } => {
            format!("= not sent, {:?} {}", refusal.stage(), refusal.reply().code())
        }
        Outcome::NotSent { why: NotSent::NotOffered(keyword), .. } => {
            format!("= not sent, no {keyword}")
        }
        Outcome::NotSent { why: NotSent::OverLimit(limit), .. } => {
            format!("= not sent, over {limit:?}")
        }
        Outcome::NotSent { why, .. } => format!("= not sent, {why:?}"),
    }
}

fn failure(error: &AuthError) -> String {
    match error {
        AuthError::Refused(refusal) => format!("refused {}", refusal.reply().code()),
        AuthError::TokenRefused { reply, token_error } => {
            let told = token_error.as_ref().map(|told| format!(" {}", on_one_line(told.expose())));
            let code = reply.as_ref().map_or("unsaid".into(), |reply| reply.code().to_string());
            format!("token refused {code}{}", told.unwrap_or_default())
        }
        AuthError::NoMechanism(why) => match why {
            NoMechanism::NotOffered => "AUTH not offered".into(),
            NoMechanism::OnlyAfterTls => "only after TLS".into(),
            NoMechanism::InCommon => "no mechanism in common".into(),
            NoMechanism::OtherCredentials => "other credentials".into(),
            NoMechanism::WithoutBinding => "without binding".into(),
            NoMechanism::WithoutTls => "needs TLS".into(),
            NoMechanism::ActingAs => "cannot act as another".into(),
            other => format!("{other:?}"),
        },
        AuthError::NotBegun(why) => format!("not begun, {why:?}"),
        AuthError::Cancelled(Failure::ServerError(what), _) => format!("cancelled, {what}"),
        AuthError::Cancelled(why, reply) => {
            let code = reply.as_ref().map_or("unsaid".into(), |reply| reply.code().to_string());
            format!("cancelled, {why:?} {code}")
        }
        other => format!("{other:?}"),
    }
}

fn refused(refusal: &Refusal) -> String {
    format!("refused at {:?}: {}", refusal.stage(), refusal.reply().code())
}

fn on_one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().collect() } else { c.to_string() })
        .collect()
}

fn error(error: &Error) -> String {
    match error {
        Error::Disconnected(step) => format!("disconnected at {step:?}"),
        Error::Refused(refusal) => refused(refusal),
        Error::Closed(reply) => {
            format!("closed {}", reply.as_ref().map_or(0, |reply| reply.code()))
        }
        Error::NotAuthenticated(why) => failure(why),
        Error::NotAReply(step) => format!("not a reply at {step:?}"),
        Error::UnexpectedReply(step, reply) => format!("unexpected at {step:?}: {}", reply.code()),
        other => format!("{other:?}"),
    }
}

impl Player for Host {
    fn by_next(&mut self) {
        self.by_next = true;
    }

    fn begin(&mut self) -> Vec<Entry> {
        let Some(reply) = self.ehlo.take() else { return self.play(&[], false) };
        let said = self.play(&[b"220 smtp.example.com ESMTP\r\n"], false);
        assert!(matches!(&said[0], Entry::Said(line) if line.starts_with(b"EHLO ")));
        self.play(&[&reply], false)
    }

    fn play(&mut self, pieces: &[&[u8]], eof: bool) -> Vec<Entry> {
        let mut pieces = pieces.iter();
        assert!(pieces.len() == 0 || !self.over, "the dialogue is over");
        let mut eof = eof;
        while !self.over {
            let mut seen = None;
            let event = if self.by_next {
                self.session.next(&mut self.out)
            } else {
                self.session.advance(&mut self.out).map(|advance| {
                    let event = self.session.pending();
                    let needs_input = advance == Advance::NeedInput;
                    assert_eq!(matches!(event, Event::NeedInput), needs_input);
                    event
                })
            };
            match event {
                Err(why) => {
                    seen = Some(format!("= error {}", error(&why)));
                    self.over = true;
                }
                Ok(Event::NeedInput) => match pieces.next() {
                    Some(piece) => self.session.receive(piece),
                    None if eof => {
                        eof = false;
                        // An error stays.
                        let _ = self.session.eof();
                    }
                    None => {
                        self.note();
                        break;
                    }
                },
                // No mechanism of our own is listed.
                Ok(Event::Custom(ask)) => ask.fail(),
                Ok(Event::Derive(ask)) => {
                    let salted = ask.job().run();
                    keep(&self.path, salted.clone());
                    ask.answer(salted);
                }
                Ok(Event::StartTls) => {
                    // What stands behind the reply arrives before TLS is up.
                    pieces.by_ref().for_each(|piece| self.session.receive(piece));
                    self.note();
                    self.session.tls_started(self.channel.clone());
                    // Where it has arrived already the host is not asked to begin TLS.
                    let injected = Err(Error::InjectedBeforeTls);
                    if self.session.next(&mut self.out).map(|_| ()) != injected {
                        self.event("!tls");
                    }
                }
                Ok(Event::NotAuthenticated(failed)) => {
                    seen = Some(format!("= failed {}", failure(failed.reason())));
                    match self.on_failure.pop_front() {
                        Some(words) if words[0] == "quit" => failed.quit(),
                        Some(words) if words[0] == "go_on" => failed.go_on(),
                        Some(words) if words[0] == "next" => failed.try_next(),
                        Some(words) if words[0] == "retry" => {
                            failed.retry(password(&self.path, &words[1..]));
                        }
                        Some(words) if words[0] == "retry_token" => {
                            failed.retry(token(&words[1..]));
                        }
                        _ => self.over = true,
                    }
                }
                Ok(Event::Ready(ready)) => {
                    let first = !std::mem::replace(&mut self.ready, true);
                    match self.next.pop_front() {
                        Some(Next::Send(envelope)) => ready.send(envelope),
                        Some(Next::Noop) => ready.noop(),
                        Some(Next::Reset) => ready.reset(),
                        None if self.quit => ready.quit(),
                        None => self.over = true,
                    }
                    if first {
                        seen = Some(match self.session.authenticated() {
                            Some(mechanism) => format!("= accepted {mechanism}"),
                            None => "= ready".into(),
                        });
                    }
                }
                Ok(Event::Refused { recipient, refusal }) => {
                    seen = Some(format!("= refused {recipient}: {}", refusal.reply().code()));
                }
                Ok(Event::Message(body)) => {
                    for piece in self.message.chunks(5) {
                        if body.write(piece, &mut self.out).is_err() {
                            break;
                        }
                    }
                    // An error stays.
                    let _ = body.end(&mut self.out);
                }
                Ok(Event::Sent(outcome)) => seen = Some(sent(outcome)),
                Ok(Event::Close) => {
                    seen = Some("!close".into());
                    self.over = true;
                }
            }
            if let Some(seen) = seen {
                self.note();
                self.event(seen);
            }
        }
        std::mem::take(&mut self.log)
    }

    fn traces(&self) -> (Vec<String>, String) {
        (self.trace.lock().unwrap().clone(), format!("{:?}", self.session))
    }
}
