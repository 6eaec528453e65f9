//! The server's side.

use std::{
    fmt::Write,
    sync::{Arc, OnceLock},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    Advance,
    command::Command,
    ehlo::Keyword,
    reply::Reply,
    sasl::{
        self, Answer, AuthorizeAnswer, Channel, ChannelBinding, CramSecret, Failure, Mechanism,
        Nonce, Query, RefusalKind, ScramKeys, TokenAnswer,
        client::{self, Credentials},
    },
    server::{Config, Event, Session, StartTls},
};

const MAX_ATTEMPTS: u32 = 3;

/// What a server takes without TLS: no passwords; passwords; nothing, as it requires TLS.
pub(crate) const USUAL: u8 = 0;
pub(crate) const CLEARTEXT: u8 = 1;
pub(crate) const REQUIRED: u8 = 2;

/// What can happen to a session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input {
    /// The client says this, with CRLF.
    Line(&'static str),
    /// The client answers the challenge before, rightly or not.
    Proof(bool),
    /// The host answers what it is asked.
    Host(Host),
    /// The host begins TLS, asked or not.
    Tls,
    /// The host closes.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Accept,
    /// It accepts, and means somebody else than the client said.
    AcceptAnother,
    Reject,
    TempFail,
    TooWeak,
    /// It has what it has, and the account is locked.
    Lock,
    NotImplemented,
}

/// `y,,n=tim,r=abc`
const NOT_SEEN: &str = "AUTH SCRAM-SHA-256 eSwsbj10aW0scj1hYmM=";

const LINES: &[&str] = &[
    "EHLO client.example.org",
    "HELO client.example.org",
    "NOOP",
    "RSET",
    "STARTTLS",
    "STARTTLS now",
    "QUIT",
    "VRFY tim",
    "EXPN all",
    "HELP",
    "WHAT is this",
    "ETRN example.org",
    "MAIL FROM:<tim@example.org>",
    "MAIL FROM:<tim@example.org> AUTH=<>",
    "MAIL FROM:<",
    "RCPT TO:<ann@example.org>",
    "DATA",
    ".",
    "..",
    "a bare LF \n",
    "BDAT 5\r\nabc",
    "BDAT 5 LAST\r\nabc",
    "BDAT many",
    "BDAT 5\0\r\nNOOP",
    " BDAT 5\r\nNOOP",
    "EHLO x\nBDAT 5\r\nNOOP",
    "AUTH",
    "AUTH NONE",
    "AUTH PLAIN",
    "auth plain AHRpbQBwdw==",
    "AUTH PLAIN VXJzZWwAdGltAHB3",
    "AUTH PLAIN AHRpbQ==",
    "AUTH PLAIN =",
    "AUTH PLAIN AHRpbQBwdw=",
    "AUTH PLAIN AHRpbQBwdw== more",
    "AUTH LOGIN",
    "AUTH LOGIN dGlt",
    "AUTH CRAM-MD5",
    "AUTH CRAM-MD5 dGlt",
    "AUTH SCRAM-SHA-256 biwsbj10aW0scj1hYmM=",
    NOT_SEEN,
    "AUTH SCRAM-SHA-256-PLUS cD10bHMtZXhwb3J0ZXIsLG49dGltLHI9YWJj",
    "AUTH OAUTHBEARER bixhPXRpbSwBYXV0aD1CZWFyZXIgdAEB",
    "AUTH OAUTHBEARER bix1c2VyPXUsAQE=",
    "AUTH XOAUTH2 dXNlcj10aW0BYXV0aD1CZWFyZXIgdAEB",
    "AUTH EXTERNAL =",
    "AUTH EXTERNAL dGlt",
    "AUTH ANONYMOUS c2lyaGM=",
    "",
    "*",
    "=",
    "dGlt",
    "cHc=",
    "AQ==",
    "AHRpbQBwdw==",
    "dGltIDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw",
];

/// What the session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Client,
    Host,
    Tls,
    Closed,
}

/// A session, and what is known of it without looking into it.
pub(crate) struct World<const KIND: u8> {
    pub(crate) session: Session,
    waits: Waits,
    /// The code of the last reply.
    pub(crate) last: u16,
    /// The last line, by number, and what the host last gave to check a proof by: `Debug` shows
    /// neither.
    said: u8,
    given: Option<Host>,
    /// Whether EHLO was answered, since TLS began.
    greeted: bool,
    tls: bool,
    /// The mechanism of the exchange under way.
    mechanism: Option<Mechanism>,
    /// Whom the host has accepted, or the client has proven, in the exchange under way.
    proven: Option<String>,
    /// Whether the host lets it in, and as whom it acts.
    authorized: Option<Option<String>>,
    identity: Option<(String, Option<String>)>,
    attempts: u32,
    /// Whether the exchange under way has had a challenge.
    prompted: bool,
    /// The last challenge, and whether the client has answered one rightly in this exchange.
    challenge: Vec<u8>,
    right: bool,
    /// Whether the host gave what that was made of.
    known: bool,
    /// How many replies are owed to the client; `None` where that depends on how it reads a chunk.
    owed: Option<usize>,
}

/// One for all: it is made slowly, and changes nothing.
fn config(kind: u8) -> Arc<Config> {
    static MADE: [OnceLock<Arc<Config>>; 3] = [const { OnceLock::new() }; 3];
    Arc::clone(MADE[usize::from(kind)].get_or_init(|| make_config(kind)))
}

fn make_config(kind: u8) -> Arc<Config> {
    let sasl = sasl::server::Config::builder("mail.example.org")
        .mechanisms([
            Mechanism::ScramSha256Plus,
            Mechanism::ScramSha256,
            Mechanism::CramMd5,
            Mechanism::Plain,
            Mechanism::Login,
            Mechanism::OauthBearer,
            Mechanism::Xoauth2,
            Mechanism::External,
            Mechanism::Anonymous,
        ])
        .nonces(|| Nonce::new("nonce"))
        .salt_key("a key of 16 octets")
        .scram_iterations(1)
        .allow_cleartext(kind != USUAL)
        .authorize_always(kind == USUAL)
        .build()
        .unwrap();
    Arc::new(
        Config::builder("mail.example.org")
            .sasl(sasl)
            .verb("ETRN", Keyword::other("ETRN", "").unwrap())
            .max_attempts(MAX_ATTEMPTS)
            .max_commands(u32::MAX)
            .starttls(if kind == REQUIRED { StartTls::Required } else { StartTls::Offered })
            .build()
            .unwrap(),
    )
}

fn channel() -> Channel {
    Channel::tls().with_binding(ChannelBinding::tls_exporter([7; 32])).with_identity("tim").unwrap()
}

impl<const KIND: u8> super::World for World<KIND> {
    const INPUTS: u8 = (LINES.len() + 11) as u8;

    fn new() -> Self {
        let mut world = Self {
            session: Session::new(config(KIND)),
            waits: Waits::Client,
            last: 0,
            said: 0,
            given: None,
            greeted: false,
            tls: false,
            mechanism: None,
            proven: None,
            authorized: None,
            identity: None,
            attempts: 0,
            prompted: false,
            challenge: Vec::new(),
            right: false,
            known: false,
            owed: Some(1),
        };
        world.pump();
        world
    }

    fn apply(&mut self, number: u8) -> bool {
        let mut reply = Vec::new();
        match (input(number), self.waits) {
            (Input::Line(line), Waits::Client) => {
                self.said = number;
                self.say(line);
            }
            (Input::Proof(right), Waits::Client) => {
                let Some(proof) = self.proof(right) else { return false };
                self.right |= right;
                self.say(&proof);
            }
            (Input::Host(host), Waits::Host) => self.answer(host),
            (Input::Tls, Waits::Client | Waits::Host | Waits::Tls) => {
                let _ = self.session.tls_started(channel());
                (self.tls, self.greeted, self.last) = (true, false, 220);
                (self.mechanism, self.proven, self.authorized) = (None, None, None);
                (self.given, self.right, self.known) = (None, false, false);
                (self.identity, self.owed) = (None, Some(0));
                assert!(!self.session.in_transaction(), "a transaction outlives TLS");
            }
            (Input::Close, Waits::Client | Waits::Host | Waits::Tls) => {
                self.session.close(&Reply::SHUTTING_DOWN, &mut reply);
                assert!(reply.starts_with(b"421 "));
                self.owed = None;
            }
            _ => return false,
        }
        self.pump();
        true
    }

    fn fingerprint(&self, shown: &mut String) {
        if self.waits == Waits::Closed {
            return shown.push_str("closed");
        }
        let Self { session, waits, last, greeted, tls, proven, authorized, given, .. } = self;
        write!(shown, "{session:?}{waits:?}{last}{greeted}{tls}{given:?}").unwrap();
        // The command that the host is to answer, and the name that LOGIN holds.
        if *waits == Waits::Host || self.mechanism == Some(Mechanism::Login) {
            write!(shown, "{}", self.said).unwrap();
        }
        write!(shown, "{proven:?}{authorized:?}{}{}{}", self.attempts, self.known, self.right)
            .unwrap();
    }
}

impl<const KIND: u8> World<KIND> {
    fn say(&mut self, line: &str) {
        let inside = self.last == 334;
        let word = |n| line.split(' ').nth(n).unwrap_or_default();
        let auth = word(0).eq_ignore_ascii_case("AUTH");
        if !inside {
            self.mechanism = Mechanism::from_name(word(1)).filter(|_| auth);
            (self.proven, self.authorized) = (None, None);
            (self.right, self.known, self.prompted) = (false, false, false);
            self.given = None;
        }
        let lines = line.matches("\r\n").count() + 1;
        self.owed = match self.last {
            _ if word(0) == "BDAT" => None,
            354 => Some(usize::from(line == ".")),
            _ => Some(lines),
        };
        // RFC 3207 §4.
        let free = ["EHLO", "HELO", "NOOP", "RSET", "HELP", "QUIT", "STARTTLS"].contains(&word(0));
        let needs_tls = KIND == REQUIRED && !self.tls && !free && !line.contains(['\n', '\0']);
        let last_attempt = !inside && self.last != 354 && self.attempts >= MAX_ATTEMPTS;
        let before = self.last;
        self.session.receive(format!("{line}\r\n").as_bytes());
        self.pump();
        if last_attempt && line != "QUIT" {
            assert_eq!((self.last, self.waits), (421, Waits::Closed), "after the last attempt");
        } else if needs_tls {
            assert_eq!(self.last, 530, "taken before TLS, which is required");
        } else if auth && before != 354 && !inside && !self.greeted {
            assert_eq!(self.last, 503, "AUTH without EHLO");
        } else if auth && before != 354 && !inside && self.identity.is_some() {
            assert!(self.last == 503 || self.proven.is_some(), "AUTH after AUTH");
        }
        let parts = ["BDAT many", "BDAT 5\0", " BDAT 5", "EHLO x\nBDAT 5"];
        if before != 354 && !inside && parts.iter().any(|part| line.starts_with(part)) {
            assert_eq!(self.waits, Waits::Closed, "octets after an unread BDAT");
        }
        if line.starts_with("EHLO") && self.last == 250 && !inside && before != 354 {
            self.greeted = true;
        }
    }

    /// The response to the last challenge, by who knows the password or does not.
    fn proof(&self, right: bool) -> Option<String> {
        let mechanism = self.mechanism.filter(|_| self.last == 334)?;
        if mechanism != Mechanism::CramMd5 && !mechanism.name().starts_with("SCRAM-") {
            return None;
        }
        let config = client::Config::builder().scram_iterations(1, 1);
        let config = config.nonces(|| Nonce::new("abc")).build().unwrap();
        let credentials = Credentials::password("tim", if right { "pw" } else { "guess" }).unwrap();
        // A client that could bind would say so, and the lines that begin these exchanges do not.
        let channel = if mechanism.binds_channel() { channel() } else { Channel::tls() };
        let mut client = client::Exchange::new(&config, &channel, mechanism, credentials);
        let client::Step::Response(response) = client.step() else { panic!() };
        response.challenge(&*self.challenge);
        if let client::Step::Derive(derive) = client.step() {
            derive.run();
        }
        match client.step() {
            client::Step::Response(response) => Some(STANDARD.encode(response.data()?)),
            _ => None,
        }
    }

    fn answer(&mut self, host: Host) {
        let accept = host == Host::Accept;
        let answer: Answer = match host {
            Host::Accept => Answer::accept(()),
            Host::Lock => Answer::accept(()).lock(),
            Host::TempFail => Answer::temp_fail(),
            Host::NotImplemented => Answer::not_implemented(),
            Host::AcceptAnother | Host::Reject | Host::TooWeak => Answer::reject(),
        };
        let account = match host {
            Host::Accept => Answer::accept("tim".to_owned()),
            Host::AcceptAnother => Answer::accept("kurt".to_owned()),
            Host::Lock => Answer::accept("tim".to_owned()).lock(),
            Host::TempFail => Answer::temp_fail(),
            Host::NotImplemented => Answer::not_implemented(),
            Host::Reject | Host::TooWeak => Answer::reject(),
        };
        let named = match host {
            Host::Accept => Some("tim"),
            Host::AcceptAnother => Some("kurt"),
            _ => None,
        };
        match self.session.next(&mut Vec::new()) {
            Event::Query(Query::CheckPassword(ask)) => {
                self.proven = Some(ask.authcid().to_owned()).filter(|_| accept);
                ask.answer(match host {
                    Host::AcceptAnother => Answer::transition_needed(),
                    Host::TooWeak => Answer::too_weak(),
                    _ => answer,
                });
            }
            Event::Query(Query::CramSecret(ask)) => {
                self.proven = Some("tim".to_owned()).filter(|_| accept && self.right);
                ask.answer(match host {
                    Host::Accept => Answer::accept(CramSecret::from_password("pw")),
                    Host::AcceptAnother => Answer::accept(CramSecret::from_password("else")),
                    Host::Lock => Answer::accept(CramSecret::from_password("pw")).lock(),
                    Host::TempFail => Answer::temp_fail(),
                    Host::NotImplemented => Answer::not_implemented(),
                    Host::Reject | Host::TooWeak => Answer::reject(),
                });
            }
            Event::Query(Query::ScramKeys(ask)) => {
                let keys = |password| {
                    Answer::from(ScramKeys::from_password(ask.hash(), password, b"salt", 1))
                };
                (self.known, self.given) = (accept, Some(host));
                let answer = match host {
                    Host::Accept => keys("pw"),
                    Host::AcceptAnother => keys("else"),
                    Host::Lock => keys("pw").lock(),
                    Host::TempFail => Answer::temp_fail(),
                    Host::NotImplemented => Answer::not_implemented(),
                    Host::Reject | Host::TooWeak => Answer::reject(),
                };
                ask.answer(answer);
            }
            Event::Query(Query::CheckToken(ask)) => {
                self.proven = named.map(String::from);
                ask.answer(match named.map(String::from) {
                    Some(account) => TokenAnswer::Accept(account),
                    None if host == Host::TempFail => TokenAnswer::TempFail,
                    None if host == Host::NotImplemented => TokenAnswer::NotImplemented,
                    None => TokenAnswer::Reject,
                });
            }
            Event::Query(Query::CheckExternal(ask)) => {
                self.proven = named.map(String::from);
                ask.answer(account);
            }
            Event::Query(Query::CheckAnonymous(ask)) => {
                self.proven = Some("anonymous".to_owned()).filter(|_| accept);
                ask.answer(answer);
            }
            Event::Query(Query::Authorize(ask)) => {
                let other = ask.authzid().map(str::to_owned);
                self.authorized = match host {
                    Host::Accept => Some(other),
                    Host::AcceptAnother => Some(Some("kurt".to_owned())),
                    _ => None,
                };
                ask.answer(match host {
                    Host::Accept => AuthorizeAnswer::Accept,
                    Host::AcceptAnother => AuthorizeAnswer::AcceptAs("kurt".to_owned()),
                    Host::Reject | Host::Lock => AuthorizeAnswer::Reject,
                    Host::TempFail => AuthorizeAnswer::TempFail,
                    Host::TooWeak => RefusalKind::AccountDisabled.into(),
                    Host::NotImplemented => AuthorizeAnswer::NotImplemented,
                });
            }
            Event::Command(_, ask) | Event::EndOfData(ask) => ask.reply(match host {
                Host::Accept => Reply::OK,
                Host::TooWeak => Reply::SHUTTING_DOWN,
                _ => Reply::LOCAL_ERROR,
            }),
            Event::StartOfData(permission) if accept => permission.accept(),
            Event::StartOfData(permission) => permission.refuse(Reply::LOCAL_ERROR),
            other => panic!("{other:?}"),
        }
        self.pump();
    }

    /// Until the session waits; looks at all that it shows.
    fn pump(&mut self) {
        let Self { session, .. } = self;
        let (mut out, mut failed) = (Vec::new(), false);
        loop {
            let signed_in = self.identity.is_some();
            let needs_input = session.advance(&mut out) == Advance::NeedInput;
            let shown = matches!(session.pending(), Event::NeedInput);
            assert_eq!(shown, needs_input, "what is pending is not what was come to");
            let is_waiting = matches!(session.pending(), Event::NeedInput | Event::StartTls);
            let limit = is_waiting.then_some(Duration::from_secs(300));
            assert_eq!(session.timeout(), limit, "waits for whom, and for how long");
            match session.pending() {
                Event::NeedInput => self.waits = Waits::Client,
                Event::Query(query) => {
                    let (mechanism, secret) = match &query {
                        Query::CheckPassword(ask) => (ask.mechanism(), true),
                        Query::CramSecret(_) => (Mechanism::CramMd5, false),
                        Query::ScramKeys(ask) => (ask.mechanism(), false),
                        Query::CheckToken(ask) => (ask.mechanism(), true),
                        Query::CheckExternal(_) => (Mechanism::External, true),
                        Query::CheckAnonymous(_) => (Mechanism::Anonymous, false),
                        Query::Authorize(ask) => (ask.mechanism(), false),
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(self.mechanism, Some(mechanism), "an exchange inside another");
                    assert!(self.tls || KIND == CLEARTEXT || !secret, "a secret without TLS");
                    assert!(!signed_in, "asked though signed in");
                    // The client supports channel binding, and says that it saw no -PLUS.
                    let not_seen = LINES.get(usize::from(self.said)) == Some(&NOT_SEEN);
                    let struck = not_seen && matches!(query, Query::ScramKeys(_));
                    assert!(!(struck && self.tls), "a -PLUS struck from the list goes unseen");
                    self.waits = Waits::Host;
                }
                Event::Authenticated(who) => {
                    if self.known && self.right {
                        self.proven = Some("tim".to_owned());
                    }
                    assert_eq!(
                        self.proven.as_deref(),
                        Some(who.authcid()),
                        "signed in without a proof"
                    );
                    let acts_as = who.authzid();
                    // Who acts as itself acts as nobody else.
                    let authorized = self.authorized.take();
                    assert!(KIND != USUAL || authorized.is_some(), "in without being asked about");
                    let other = authorized.flatten().filter(|other| other != who.authcid());
                    assert_eq!(acts_as, other.as_deref(), "acts as another unasked");
                    assert_eq!(self.mechanism, Some(who.mechanism()), "by another mechanism");
                    assert!(!signed_in, "signed in twice");
                    self.identity = Some((who.authcid().to_owned(), acts_as.map(str::to_owned)));
                    continue;
                }
                Event::AuthFailed(shown) => {
                    let refused = matches!(shown.why, Failure::Refused(_));
                    assert!(!refused || !shown.why.is_attempt(), "a refusal counts");
                    assert!(!refused || self.last != 334 || self.owed == Some(1));
                    failed = true;
                    continue;
                }
                Event::Hello(_) | Event::Reset => continue,
                Event::Data(_) => {
                    assert!(signed_in, "a message from who is not signed in");
                    continue;
                }
                Event::Command(command, _) => {
                    let free = matches!(command, Command::Help(_));
                    let declared = match command {
                        Command::Unknown(unknown) => unknown.verb() == "ETRN",
                        _ => true,
                    };
                    assert!(declared, "an unknown command is shown");
                    assert!(signed_in || free, "{command:?} from who is not signed in");
                    self.waits = Waits::Host;
                }
                Event::StartOfData(_) | Event::EndOfData(_) => {
                    assert!(signed_in, "a message from who is not signed in");
                    self.waits = Waits::Host;
                }
                Event::StartTls => self.waits = Waits::Tls,
                Event::Close => self.waits = Waits::Closed,
            }
            break;
        }
        let identity = session.identity();
        let identity =
            identity.map(|who| (who.authcid().to_owned(), who.authzid().map(str::to_owned)));
        assert_eq!(identity, self.identity, "who is signed in");
        self.read(&out);
        // RFC 4954 §4: what was begun and came to nothing, or was refused; of a token the client is told so
        // by a challenge.
        // More lines may have come with the one that ended it.
        let first = std::str::from_utf8(&out).unwrap().get(..3).and_then(|code| code.parse().ok());
        let begun = self.prompted && matches!(first, Some(500 | 501));
        self.attempts += u32::from(failed && (begun || matches!(first, Some(334 | 535))));
    }

    /// Counts the replies.
    fn read(&mut self, out: &[u8]) {
        let text = std::str::from_utf8(out).unwrap();
        assert!(text.is_empty() || text.ends_with("\r\n"));
        let lines = text.split_terminator("\r\n");
        let last: Vec<_> = lines.filter(|line| line.as_bytes()[3] == b' ').collect();
        if let Some(line) = last.last() {
            self.last = line[..3].parse().unwrap();
            self.prompted |= self.last == 334;
            self.challenge = STANDARD.decode(&line[4..]).unwrap_or_default();
        }
        if let Some(owed) = &mut self.owed {
            *owed = owed.checked_sub(last.len()).expect("more replies than commands");
            let settled = self.waits != Waits::Client || *owed == 0;
            assert!(settled, "a command without a reply");
        }
    }
}

pub(crate) fn input(number: u8) -> Input {
    const REST: [Input; 11] = [
        Input::Proof(true),
        Input::Proof(false),
        Input::Host(Host::Accept),
        Input::Host(Host::AcceptAnother),
        Input::Host(Host::Reject),
        Input::Host(Host::TempFail),
        Input::Host(Host::TooWeak),
        Input::Host(Host::Lock),
        Input::Host(Host::NotImplemented),
        Input::Tls,
        Input::Close,
    ];
    match LINES.get(usize::from(number)) {
        Some(line) => Input::Line(line),
        None => REST[usize::from(number) - LINES.len()],
    }
}
