//! A server's session, and a host with a few accounts.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, LazyLock, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use smtp_auth::{
    Advance,
    command::{Command, Parameters},
    reply::Reply,
    sasl::{
        Answer, AuthorizeAnswer, Channel, CramSecret, Failure, Mechanism, Nonce, NonceError, Query,
        Refusal, RefusalKind, ScramHash, ScramKeys, TokenAnswer, TokenError, server as sasl,
    },
    server::{Config, Event, Session, StartTls},
};

use super::{
    Entry, Player,
    script::{Script, words},
};

/// Whether a reply's last line is the expected one.
pub(crate) fn agree(expected: &[u8], found: &[u8]) -> bool {
    let enhanced = |line: &[u8]| {
        let word = line.get(4..).unwrap_or_default().split(|&octet| octet == b' ').next();
        let word = String::from_utf8_lossy(word.unwrap_or_default()).into_owned();
        let numbers = word.split('.').filter(|number| number.parse::<u16>().is_ok()).count();
        Some(word).filter(|word| numbers == 3 && word.split('.').count() == 3)
    };
    if expected.starts_with(b"334") {
        return expected == found;
    }
    let enhanced_agree = match enhanced(expected) {
        Some(code) => enhanced(found) == Some(code),
        None => true,
    };
    expected.get(..3) == found.get(..3) && enhanced_agree
}

pub(crate) struct Host {
    session: Session,
    /// The connection once it is inside TLS.
    channel: Channel,
    out: Vec<u8>,
    log: Vec<Entry>,
    /// The message under way.
    message: Vec<u8>,
    users: Users,
    at_data: Option<Reply>,
    at_end: Option<Reply>,
    greeting_shown: bool,
    ehlo: bool,
    closed: bool,
    /// Whether the session moves on and shows what is pending at once.
    by_next: bool,
    host: String,
    trace: Arc<Mutex<Vec<String>>>,
}

/// Who may sign in, and as whom.
struct Users {
    accounts: Vec<Vec<String>>,
    tokens: Vec<Vec<String>>,
    /// The account that has the client's certificate.
    certified: Option<String>,
    authorized: Vec<Vec<String>>,
    /// What is said of everybody who is proven.
    refusal: Option<Refusal>,
    answer: Option<String>,
    /// Salt and iterations of the SCRAM keys of all accounts.
    scram: (Vec<u8>, u32),
    /// What no query may show by `Debug`.
    secrets: Vec<String>,
}

/// A script is played hundreds of times, and PBKDF2 takes its time.
fn scram_keys(hash: ScramHash, password: &str, (salt, iterations): &(Vec<u8>, u32)) -> ScramKeys {
    type Known = HashMap<(ScramHash, String, Vec<u8>, u32), ScramKeys>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let made_of = (hash, password.to_owned(), salt.clone(), *iterations);
    let make = || ScramKeys::from_password(hash, password, salt, *iterations).unwrap();
    KNOWN.lock().unwrap().entry(made_of).or_insert_with(make).clone()
}

/// What the client may leave out.
fn named(what: Option<&str>) -> &str {
    what.unwrap_or("-")
}

impl Users {
    fn password_of(&self, name: &str) -> Option<&str> {
        self.accounts.iter().find(|account| account[0] == name).map(|account| &*account[1])
    }

    /// The answer, unless the script has one for all, and the word for it.
    fn settle<T>(
        &self,
        found: Option<T>,
        [yes, no]: [&'static str; 2],
    ) -> (Answer<T>, &'static str) {
        match (self.answer.as_deref(), found) {
            (Some("tempfail"), _) => (Answer::temp_fail(), "tempfail"),
            (Some("reject"), _) | (_, None) => (Answer::reject(), no),
            (_, Some(found)) => (Answer::accept(found), yes),
        }
    }

    /// Answers, and says what.
    fn answer(&self, query: Query<'_>) -> String {
        const LOOKED_UP: [&str; 2] = ["found", "none"];
        const JUDGED: [&str; 2] = ["accept", "reject"];
        let debug = format!("{query:?}");
        assert!(!self.secrets.iter().any(|secret| debug.contains(secret)), "a secret in {debug}");
        match query {
            Query::CheckPassword(ask) => {
                let right = self.password_of(ask.authcid()) == Some(ask.password().expose());
                let (answer, word) = match self.answer.as_deref() {
                    Some("tempfail") => (Answer::temp_fail(), "tempfail"),
                    Some("tooweak") => (Answer::too_weak(), "tooweak"),
                    Some("transition") => (Answer::transition_needed(), "transition"),
                    None if right => (Answer::accept(()), "accept"),
                    None | Some("reject") => (Answer::reject(), "reject"),
                    Some(other) => panic!("no such answer: {other}"),
                };
                let seen = format!("? password {} -> {word}", ask.authcid());
                ask.answer(answer);
                seen
            }
            Query::CramSecret(ask) => {
                let secret = self.password_of(ask.authcid()).map(CramSecret::from_password);
                let (answer, word) = self.settle(secret, LOOKED_UP);
                let seen = format!("? cram {} -> {word}", ask.authcid());
                ask.answer(answer);
                seen
            }
            Query::ScramKeys(ask) => {
                let keys = self
                    .password_of(ask.authcid())
                    .map(|password| scram_keys(ask.hash(), password, &self.scram));
                let (answer, word) = self.settle(keys, LOOKED_UP);
                let seen = format!("? scram {} -> {word}", ask.authcid());
                ask.answer(answer);
                seen
            }
            Query::CheckToken(ask) => {
                let owner = self.tokens.iter().find(|own| own[1] == ask.token().expose());
                let (answer, word) = match self.answer.as_deref() {
                    Some(word @ "insufficient-scope") => {
                        (TokenAnswer::RejectWith(TokenError::INSUFFICIENT_SCOPE), word)
                    }
                    _ => {
                        let (_, word) = self.settle(owner, JUDGED);
                        let answer = match word {
                            "tempfail" => TokenAnswer::TempFail,
                            "accept" => owner.map(|own| own[0].clone()).into(),
                            _ => TokenAnswer::Reject,
                        };
                        (answer, word)
                    }
                };
                let port = ask.port().map(|port| port.to_string());
                let seen = format!(
                    "? token {} {} {} -> {}",
                    named(ask.authzid()),
                    named(ask.host()),
                    named(port.as_deref()),
                    match &answer {
                        TokenAnswer::Accept(account) => format!("{word} {account}"),
                        _ => word.into(),
                    }
                );
                ask.answer(answer);
                seen
            }
            Query::CheckExternal(ask) => {
                let (answer, word) = self.settle(self.certified.clone(), JUDGED);
                let seen = format!(
                    "? external {} {} -> {}",
                    ask.identity(),
                    named(ask.authzid()),
                    match &self.certified {
                        Some(account) if word == "accept" => format!("{word} {account}"),
                        _ => word.into(),
                    }
                );
                ask.answer(answer);
                seen
            }
            Query::CheckAnonymous(ask) => {
                let (answer, word) = self.settle(Some(()), JUDGED);
                let seen = format!("? anonymous {} -> {word}", named(ask.trace()));
                ask.answer(answer);
                seen
            }
            Query::Authorize(ask) => {
                let pair = [ask.authcid(), ask.authzid().unwrap_or("-")];
                let good = self.authorized.iter().any(|own| own[..] == pair);
                let (answer, word) = match &self.refusal {
                    Some(refusal) => (refusal.clone().into(), "refuse"),
                    None => match self.settle(good.then_some(()), JUDGED).1 {
                        word @ "tempfail" => (AuthorizeAnswer::TempFail, word),
                        word => (good.into(), word),
                    },
                };
                let seen = format!("? authorize {} as {} -> {word}", pair[0], pair[1]);
                ask.answer(answer);
                seen
            }
            other => {
                let seen = format!("? {other:?}");
                other.reject();
                seen
            }
        }
    }
}

/// Why a sign-in came to nothing, without the words of its text.
fn why(failure: Failure) -> String {
    let debug = format!("{failure:?}");
    debug.split('(').next().unwrap_or_default().into()
}

/// `525 5.7.13 the text, of lines\\nseparated so`
fn refusal_of(text: &str) -> Refusal {
    let (codes, text) = text.split_at(text.match_indices(' ').nth(1).unwrap().0);
    let numbers: Vec<u16> = codes.split([' ', '.']).map(|number| number.parse().unwrap()).collect();
    let refusal = Refusal::new(RefusalKind::Other, &text[1..].replace("\\n", "\n")).unwrap();
    refusal.with_code(numbers[0], numbers[2], numbers[3]).unwrap()
}

impl Host {
    pub(crate) fn new(script: &Script) -> Self {
        let host = script.header("hostname").unwrap_or("smtp.example.com");
        let by_default = |own: &&Mechanism| own.takes_password() || **own == Mechanism::External;
        let by_default = Mechanism::COMPILED.iter().filter(by_default).copied().collect();
        let mut sasl = sasl::Config::builder(host)
            .mechanisms(script.mechanisms().unwrap_or(by_default))
            .without(script.without())
            .channel_binding(script.binding_policy());
        if let Some(key) = script.header("salt_key") {
            sasl = sasl.salt_key(key);
        }
        if let Some(value) = script.header("token_error") {
            let told = words(value);
            let error = TokenError::INVALID_TOKEN.scope(&told[0]);
            sasl = sasl.token_error(match told.get(1) {
                Some(url) => error.openid_configuration(url),
                None => error,
            });
        }
        let nonces: Vec<String> = script.all("nonce").map(String::from).collect();
        if !nonces.is_empty() {
            let nonces = Mutex::new(nonces.into_iter());
            sasl = sasl.nonces(move || {
                let next = nonces.lock().unwrap().next();
                Nonce::new(&next.ok_or(NonceError)?)
            });
        }
        sasl = sasl.authorize_always(script.is("authorize_always", "on"));
        sasl = sasl.allow_cleartext(script.is("cleartext", "allowed"));
        let mut config = Config::builder(host)
            .allow_unauthenticated(script.is("unauthenticated", "allowed"))
            .legacy_auth_line(script.is("legacy", "on"))
            .starttls(match script.header("starttls") {
                None | Some("offered") => StartTls::Offered,
                Some("required") => StartTls::Required,
                Some("unavailable") => StartTls::Unavailable,
                Some("off") => StartTls::Off,
                Some(other) => panic!("{}: starttls: {other}", script.path),
            });
        // Without a mechanism there is none of the server's.
        if !script.is("mechanisms", "") {
            config = config.sasl(sasl.build().unwrap());
        }
        if let Some(attempts) = script.header("max_attempts") {
            config = config.max_attempts(attempts.parse().unwrap());
        }
        if let Some(octets) = script.header("max_message") {
            config = config.max_message(octets.parse().unwrap());
        }
        let mut session = Session::new(config.build().unwrap().into());
        let channel = script.channel();
        if !script.is("tls", "none") {
            assert_eq!(session.tls_started(channel.clone()), 0);
        }
        let trace = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&trace);
        session.trace(move |side, line| lines.lock().unwrap().push(format!("{side}: {line}")));
        let begins = script.opening.to_ascii_uppercase();
        let own_ehlo = begins.starts_with(b"EHLO") || begins.starts_with(b"HELO");
        let refusal = |when| script.is("message", when).then_some(Reply::LOCAL_ERROR);
        Self {
            session,
            channel,
            out: Vec::new(),
            log: Vec::new(),
            message: Vec::new(),
            users: Users {
                accounts: script.all("user").map(words).collect(),
                tokens: script.all("token").map(words).collect(),
                certified: script.header("certificate").and_then(|value| words(value).pop()),
                authorized: script.all("authorize").map(words).collect(),
                refusal: script.header("refusal").map(refusal_of),
                answer: script.header("answer").map(Into::into),
                scram: (
                    STANDARD.decode(script.header("salt").unwrap_or("c2FsdA==")).unwrap(),
                    script.header("iterations").map_or(4096, |count| count.parse().unwrap()),
                ),
                secrets: script.secrets.clone(),
            },
            at_data: refusal("refuse"),
            at_end: refusal("reject"),
            by_next: false,
            greeting_shown: script.has_greeting(),
            ehlo: !own_ehlo && !script.is("ehlo", "none"),
            closed: false,
            host: host.into(),
            trace,
        }
    }

    /// Notes what was said. Every line keeps the rules of replies.
    fn note(&mut self) {
        let said = std::mem::take(&mut self.out);
        // The greeting, and the replies to EHLO and HELO, have no enhanced code.
        let mut bare = false;
        let mut first = true;
        for line in said.split_inclusive(|&octet| octet == b'\n') {
            let shown = line.escape_ascii();
            let text = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("no CRLF: {shown}"));
            assert!(line.len() <= 512, "too long: {shown}");
            assert!(text.iter().all(|octet| (b' '..=b'~').contains(octet)), "{shown}");
            assert!(text == b"334 " || !text.ends_with(b" "), "a space at the end: {shown}");
            if first {
                bare = text.starts_with(b"3") || text[4..].starts_with(self.host.as_bytes());
            }
            let class = [text[0], b'.'];
            assert!(bare || text[4..].starts_with(&class), "no enhanced code: {shown}");
            first = text.get(3) != Some(&b'-');
            self.log.push(Entry::Said(text.to_vec()));
        }
        assert!(first, "a reply without its last line: {}", said.escape_ascii());
    }

    fn event(&mut self, text: impl Into<String>) {
        self.log.push(Entry::Event(text.into()));
    }
}

fn refuses(mailbox: Option<&str>) -> bool {
    mailbox.is_some_and(|mailbox| mailbox.starts_with("refused"))
}

/// The host's reply to a command.
fn obey(command: Command<'_>) -> Reply {
    let known = |parameters: Parameters<'_>| {
        parameters.iter().all(|given| {
            let names = ["SIZE", "BODY", "AUTH", "SMTPUTF8"];
            names.iter().any(|name| given.name().eq_ignore_ascii_case(name))
        })
    };
    match command {
        Command::Mail(mail) => {
            let from = mail.from().map(|from| from.as_str());
            if refuses(from) {
                Reply::MAILBOX_UNAVAILABLE
            } else if known(mail.parameters()) {
                Reply::SENDER_OK
            } else {
                Reply::PARAMETER_NOT_RECOGNIZED
            }
        }
        Command::Rcpt(rcpt) if refuses(Some(rcpt.to().as_str())) => Reply::MAILBOX_UNAVAILABLE,
        Command::Rcpt(rcpt) if !known(rcpt.parameters()) => Reply::PARAMETER_NOT_RECOGNIZED,
        Command::Rcpt(_) => Reply::RECIPIENT_OK,
        Command::Vrfy(_) => Reply::CANNOT_VERIFY,
        Command::Expn(_) | Command::Help(_) => Reply::NOT_IMPLEMENTED,
        other => panic!("not the host's: {other:?}"),
    }
}

impl Player for Host {
    fn by_next(&mut self) {
        self.by_next = true;
    }

    fn begin(&mut self) -> Vec<Entry> {
        let greeting = self.play(&[], false);
        if self.ehlo {
            let reply = self.play(&[b"EHLO client.example.com\r\n"], false);
            assert!(matches!(&reply[0], Entry::Said(line) if line.starts_with(b"250")));
        }
        if self.greeting_shown { greeting } else { Vec::new() }
    }

    fn play(&mut self, pieces: &[&[u8]], _: bool) -> Vec<Entry> {
        let mut pieces = pieces.iter();
        while !self.closed {
            let mut seen = None;
            let event = if self.by_next {
                self.session.next(&mut self.out)
            } else {
                let needs_input = self.session.advance(&mut self.out) == Advance::NeedInput;
                let event = self.session.pending();
                assert_eq!(matches!(event, Event::NeedInput), needs_input);
                event
            };
            match event {
                Event::NeedInput => {
                    self.note();
                    match pieces.next() {
                        Some(piece) if self.by_next => self.session.receive(piece),
                        Some(&(mut piece)) => {
                            let room = piece.len() + 9;
                            while !piece.is_empty() {
                                let read = |room: &mut [u8]| io::Read::read(&mut piece, room);
                                assert!(self.session.receive_with(room, read).unwrap() > 0);
                            }
                        }
                        None => break,
                    }
                    continue;
                }
                Event::Query(query) => seen = Some(self.users.answer(query)),
                Event::Authenticated(who) => {
                    let acts_as =
                        who.authzid().map(|name| format!(" as {name}")).unwrap_or_default();
                    let by = who.mechanism();
                    seen = Some(format!("= authenticated {}{acts_as} by {by}", who.authcid()));
                }
                Event::AuthFailed(failed) => seen = Some(format!("= failed {}", why(failed.why))),
                Event::Hello(_) => {}
                Event::Command(command, ask) => {
                    let reply = obey(command);
                    if let Command::Mail(mail) = command {
                        let worth = ask.mail_auth(&mail).filter(|_| reply.is_positive());
                        seen = worth.map(|worth| {
                            format!("= submitter {}", worth.mailbox().unwrap_or("<>"))
                        });
                    }
                    ask.reply(reply);
                }
                Event::StartOfData(ask) => match &self.at_data {
                    Some(reply) => ask.refuse(reply.clone()),
                    None => ask.accept(),
                },
                Event::Data(data) => self.message.extend_from_slice(data),
                Event::EndOfData(ask) => {
                    let message = std::mem::take(&mut self.message);
                    seen = Some(format!("= message {}", message.escape_ascii()));
                    ask.reply(self.at_end.clone().unwrap_or(Reply::OK));
                }
                Event::Reset => {
                    // How much of it was shown before it broke depends on the pieces.
                    self.message.clear();
                    seen = Some("= reset".into());
                }
                Event::StartTls => {
                    // What the client sent behind it arrives before TLS is up.
                    pieces.by_ref().for_each(|piece| self.session.receive(piece));
                    self.note();
                    self.event("!tls");
                    let dropped = self.session.tls_started(self.channel.clone());
                    if dropped > 0 {
                        self.event(format!("= dropped {dropped}"));
                    }
                    continue;
                }
                Event::Close => {
                    self.closed = true;
                    seen = Some("!close".into());
                }
            }
            self.note();
            seen.into_iter().for_each(|seen| self.event(seen));
        }
        std::mem::take(&mut self.log)
    }

    fn traces(&self) -> (Vec<String>, String) {
        (self.trace.lock().unwrap().clone(), format!("{:?}", self.session))
    }
}
