//! A client's session, and a host that has messages to send.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use smtp_auth::{
    client::{AuthError, Config, Envelope, Error, Event, Fate, Session, Tls},
    command::MailAuth,
    sasl::{
        Channel, Mechanism, Nonce, NonceError, SaltedPassword,
        client::{self as sasl, Credentials, NoMechanism},
    },
};

use super::{
    Entry, Player,
    script::{Script, text_of, unescape, words},
};

/// The salted password of each script: it is played hundreds of times, and PBKDF2 takes its time.
static KNOWN: Mutex<Vec<(String, SaltedPassword)>> = Mutex::new(Vec::new());

pub(crate) struct Host {
    path: String,
    session: Session,
    out: Vec<u8>,
    log: Vec<Entry>,
    envelopes: VecDeque<Envelope>,
    message: Vec<u8>,
    on_failure: VecDeque<Vec<String>>,
    quit: bool,
    /// The keywords of the reply to EHLO, where that is played silently.
    ehlo: Option<Vec<u8>>,
    ready: bool,
    over: bool,
    trace: Arc<Mutex<Vec<String>>>,
}

impl Host {
    pub(crate) fn new(script: &Script) -> Self {
        let mut sasl = sasl::Config::default().allow_cleartext(script.is("cleartext", "allowed"));
        if let Some(names) = script.header("mechanisms") {
            let names = names.split(',').filter(|name| !name.is_empty());
            let all: Vec<_> = names.map(|name| Mechanism::from_name(name).unwrap()).collect();
            sasl = sasl.mechanisms(&all).unwrap();
        }
        let nonces: Vec<String> = script.all("nonce").map(String::from).collect();
        if !nonces.is_empty() {
            let nonces = Mutex::new(nonces.into_iter());
            sasl = sasl.nonces(move || {
                let next = nonces.lock().unwrap().next();
                Nonce::new(&next.ok_or(NonceError)?)
            });
        }
        let config = Config::new(script.header("hostname").unwrap_or("client.example.com"))
            .unwrap()
            .sasl(sasl)
            .initial_response(!script.is("initial_response", "never"))
            .lenient_challenges(script.is("challenges", "lenient"))
            .x_exps(script.is("x_exps", "read"))
            .tls(match script.header("starttls") {
                None | Some("required") => Tls::Required,
                Some("if-offered") => Tls::IfOffered,
                Some("never") => Tls::Never,
                Some(other) => panic!("{}: starttls: {other}", script.path),
            });
        let mut session = match script.header("login") {
            Some(login) => {
                let mut credentials = credentials(&words(login));
                for (path, salted) in KNOWN.lock().unwrap().iter() {
                    if *path == script.path {
                        credentials = credentials.salted(salted.clone());
                    }
                }
                Session::new(config, credentials)
            }
            None => Session::without_credentials(config),
        };
        if !script.is("tls", "none") {
            session.tls_started(Channel::tls());
        }
        let trace = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&trace);
        session.trace(move |side, line| lines.lock().unwrap().push(format!("{side}: {line}")));
        Self {
            path: script.path.clone(),
            session,
            out: Vec::new(),
            log: Vec::new(),
            envelopes: script.all("send").map(envelope).collect(),
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

fn credentials(words: &[String]) -> Credentials {
    let credentials = Credentials::password(&words[0], &*words[1]).unwrap();
    match words.get(2) {
        Some(authzid) => credentials.acting_as(authzid).unwrap(),
        None => credentials,
    }
}

fn envelope(value: &str) -> Envelope {
    let words: Vec<&str> = value.split(' ').collect();
    let (from, to) = (text_of(words[0]), text_of(words[1]));
    let from = Some(from.as_str()).filter(|from| *from != "<>");
    let mut envelope = Envelope::new(from, to.split(',')).unwrap();
    for parameter in words.get(2).into_iter().flat_map(|all| all.split(',')) {
        envelope = match parameter.split_once('=') {
            Some(("size", octets)) => envelope.size(octets.parse().unwrap()),
            Some(("auth", "<>")) => envelope.auth(&MailAuth::UNKNOWN),
            Some(("auth", mailbox)) => envelope.auth(&MailAuth::new(mailbox).unwrap()),
            None if parameter == "eight-bit" => envelope.eight_bit(true),
            None if parameter == "smtputf8" => envelope.smtputf8(true),
            None if parameter == "every" => envelope.every_recipient(true),
            _ => panic!("no such parameter: {parameter}"),
        };
    }
    envelope
}

fn failure(error: &AuthError) -> String {
    match error {
        AuthError::Refused(reply) => format!("refused {}", reply.code()),
        AuthError::NoMechanism(NoMechanism::WithoutTls) => "needs TLS".into(),
        AuthError::NoMechanism(_) => "no mechanism".into(),
        AuthError::Cancelled(..) => "cancelled".into(),
        other => format!("{other:?}"),
    }
}

fn error(error: &Error) -> String {
    match error {
        Error::Disconnected(step) => format!("disconnected at {step:?}"),
        Error::Refused(step, reply) => format!("refused at {step:?}: {}", reply.code()),
        Error::NotAReply(step) => format!("not a reply at {step:?}"),
        Error::UnexpectedReply(step, reply) => format!("unexpected at {step:?}: {}", reply.code()),
        other => format!("{other:?}"),
    }
}

impl Player for Host {
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
            match self.session.next(&mut self.out) {
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
                Ok(Event::Challenge(ask)) => ask.fail(),
                Ok(Event::Derive(ask)) => {
                    let salted = ask.job().run();
                    KNOWN.lock().unwrap().push((self.path.clone(), salted.clone()));
                    ask.answer(salted);
                }
                Ok(Event::StartTls) => {
                    // What stands behind the reply arrives before TLS is up.
                    pieces.by_ref().for_each(|piece| self.session.receive(piece));
                    self.note();
                    self.session.tls_started(Channel::tls());
                    // Where it has arrived already the host is not asked to begin TLS.
                    let injected = Err(Error::InjectedBeforeTls);
                    if self.session.next(&mut self.out).map(|_| ()) != injected {
                        self.event("!tls");
                    }
                }
                Ok(Event::AuthFailed(failed)) => {
                    seen = Some(format!("= failed {}", failure(failed.reason())));
                    match self.on_failure.pop_front() {
                        Some(words) if words[0] == "quit" => failed.quit(),
                        Some(words) if words[0] == "go_on" => failed.go_on(),
                        Some(words) if words[0] == "next" => failed.try_next(),
                        Some(words) if words[0] == "retry" => {
                            failed.retry(credentials(&words[1..]));
                        }
                        _ => self.over = true,
                    }
                }
                Ok(Event::Ready(ready)) => {
                    let first = !std::mem::replace(&mut self.ready, true);
                    if let Some(envelope) = self.envelopes.pop_front() {
                        ready.send(envelope);
                    } else if self.quit {
                        ready.quit();
                    } else {
                        self.over = true;
                    }
                    if first {
                        seen = Some(match self.session.authenticated() {
                            Some(mechanism) => format!("= accepted {mechanism}"),
                            None => "= ready".into(),
                        });
                    }
                }
                Ok(Event::Refused(recipient, reply)) => {
                    seen = Some(format!("= refused recipient {recipient}: {}", reply.code()));
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
                Ok(Event::Sent(fate)) => {
                    seen = Some(match fate {
                        Fate::Accepted(reply) => format!("= sent {}", reply.code()),
                        Fate::Refused(step, reply) => {
                            format!("= not sent, {step:?} {}", reply.code())
                        }
                        other => format!("= not sent, {other:?}"),
                    });
                }
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
