//! SASL in other protocols than SMTP: `cargo run --example imap` has an IMAP server (RFC 9051 §6.2.2, with initial
//! responses, RFC 4959) and a POP3 server (RFC 5034) that authenticate clients by `sasl::server::Exchange`. The clients do
//! their part by `sasl::client::Exchange`.
//!
//! Both protocols put the exchange on lines in one way, so that it stands here once for each side: `+ ` and a challenge
//! in base64, a response in base64 or `*`. Neither has data with success: a last challenge (`Challenge::is_final`, SCRAM's
//! proof that the server knows the password) goes as any other, and the client answers it by an empty line.
//!
//! Left out is what has nothing to do with SASL: STARTTLS, and the mail.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

use std::{
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::sasl::{
    Answer, Authenticator, Authorize, AuthorizeAnswer, Channel, CheckPassword, Failure, Mechanism,
    RefusalKind, ScramHash, ScramKeys, ScramKeysFor,
    client::{self, Credentials},
    server::{Config, Exchange, Step},
};

/// How long a connection may be silent before the client has authenticated.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The longest line, CRLF included: a long response has to fit, whatever the limit for other lines is (RFC 5034 §4).
const MAX_LINE: u64 = 12_288;

/// How many failed attempts to authenticate a connection may have.
const MAX_ATTEMPTS: u32 = 3;

/// Loopback is as safe as TLS. A server for others has `Channel::cleartext()` until STARTTLS.
const CHANNEL: Channel = Channel::tls();

/// One end of a connection.
struct Peer(BufReader<TcpStream>);

impl Peer {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self(BufReader::new(socket)))
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())
    }

    /// The next line without its CRLF. One that is too long or not text ends the connection.
    fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.0).take(MAX_LINE).read_line(&mut line)?;
        line.strip_suffix("\r\n").map(ToOwned::to_owned).ok_or(io::ErrorKind::InvalidData.into())
    }
}

/// Accounts that all have one password: SCRAM's keys serve PLAIN, too.
struct Users(ScramKeys);

const NAMES: [&str; 4] = ["tim", "fred", "ann", "bob"];

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256, Mechanism::Plain]
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        // Both are looked at, or the time that it takes would tell who exists.
        let right = self.0.check_password(ask.password().expose());
        (NAMES.contains(&ask.authcid()) & right).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        NAMES.contains(&ask.authcid()).then(|| self.0.clone()).into()
    }

    /// Asked only once the password was right, so that nobody else learns of it.
    fn authorize(&self, ask: &Authorize) -> AuthorizeAnswer {
        match ask.authcid() {
            _ if ask.authzid().is_some() => AuthorizeAnswer::Reject,
            "fred" => RefusalKind::AccountDisabled.into(),
            "ann" => RefusalKind::PasswordExpired.into(),
            "bob" => RefusalKind::OverQuota.into(),
            _ => AuthorizeAnswer::Accept,
        }
    }
}

/// A server's end of a connection.
struct Session {
    config: Arc<Config>,
    users: Arc<Users>,
    peer: Peer,
    authenticated: bool,
    attempts: u32,
}

impl Session {
    /// What `AUTHENTICATE` and `AUTH` begin, by their arguments: `mechanism [initial-response]`.
    fn authenticate(&mut self, args: &str) -> io::Result<Reply> {
        let mut words = args.splitn(2, ' ');
        let Some(mechanism) = self.config.named(words.next().unwrap_or_default()) else {
            return Ok(reply_to(Err(Failure::Unsupported)));
        };
        // None is another thing than an empty one, for which a `=` stands (RFC 4959 §3).
        let initial = words.next().map(|text| STANDARD.decode(if text == "=" { "" } else { text }));
        let Ok(initial) = initial.transpose() else {
            return Ok(reply_to(Err(Failure::InitialResponseEncoding)));
        };
        let mut exchange = Exchange::new(&self.config, &CHANNEL, mechanism, initial);
        loop {
            match exchange.step() {
                Step::Challenge(challenge) => {
                    // The space stands before an empty challenge, too.
                    self.peer.say(&format!("+ {}", STANDARD.encode(challenge.data())))?;
                    match &*self.peer.hear()? {
                        "*" => challenge.cancel(),
                        line => match STANDARD.decode(line) {
                            Ok(response) => challenge.respond(response),
                            Err(_) => challenge.undecodable(),
                        },
                    }
                }
                Step::Query(query) => query.answer_with(&*self.users),
                Step::Done(outcome) => {
                    self.authenticated = outcome.is_ok();
                    self.attempts += u32::from(outcome.is_err_and(Failure::is_attempt));
                    return Ok(reply_to(outcome.map(|_| ())));
                }
            }
        }
    }

    fn imap(&mut self) -> io::Result<()> {
        let mut capabilities = "CAPABILITY IMAP4rev1 SASL-IR LOGINDISABLED".to_owned();
        for mechanism in self.config.offered(&CHANNEL) {
            capabilities += &format!(" AUTH={mechanism}");
        }
        self.peer.say(&format!("* OK [{capabilities}] ready"))?;
        while self.attempts < MAX_ATTEMPTS {
            let line = self.peer.hear()?;
            let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
            let (command, args) = command.split_once(' ').unwrap_or((command, ""));
            // It is repeated, so it has to be one (RFC 9051 §9).
            let fits = |octet: u8| octet.is_ascii_graphic() && !b"+(){%*\"\\".contains(&octet);
            if tag.is_empty() || !tag.bytes().all(fits) {
                self.peer.say("* BAD A command begins with a tag")?;
                continue;
            }
            let result = match &*command.to_ascii_uppercase() {
                "CAPABILITY" => {
                    self.peer.say(&format!("* {capabilities}"))?;
                    "OK Done".to_owned()
                }
                "LOGOUT" => {
                    self.peer.say("* BYE Goodbye")?;
                    return self.peer.say(&format!("{tag} OK Done"));
                }
                "AUTHENTICATE" if !self.authenticated => {
                    let reply = self.authenticate(args)?;
                    format!("{} {}", reply.imap, reply.text)
                }
                _ => "BAD That has no place here".to_owned(),
            };
            self.peer.say(&format!("{tag} {result}"))?;
        }
        self.peer.say("* BYE Too many failed attempts to authenticate")
    }

    fn pop3(&mut self) -> io::Result<()> {
        self.peer.say("+OK ready")?;
        loop {
            let line = self.peer.hear()?;
            // Unlike IMAP, POP3 has no way to say so unasked.
            if self.attempts >= MAX_ATTEMPTS {
                return self.peer.say("-ERR Too many failed attempts to authenticate");
            }
            let (command, args) = line.split_once(' ').unwrap_or((&line, ""));
            let result = match &*command.to_ascii_uppercase() {
                "CAPA" => {
                    let names: Vec<_> =
                        self.config.offered(&CHANNEL).map(Mechanism::name).collect();
                    let sasl = names.join(" ");
                    format!("+OK Capabilities\r\nSASL {sasl}\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n.")
                }
                "QUIT" => return self.peer.say("+OK Goodbye"),
                "AUTH" if !self.authenticated => {
                    let reply = self.authenticate(args)?;
                    format!("{} {}", reply.pop3, reply.text)
                }
                _ => "-ERR That has no place here".to_owned(),
            };
            self.peer.say(&result)?;
        }
    }
}

/// How IMAP says it, with the codes of RFC 5530; how POP3 does, with those of RFC 3206; and the text.
struct Reply {
    imap: &'static str,
    pop3: &'static str,
    text: String,
}

/// IMAP's `BAD` is for what does not authenticate at all, and for what was cancelled. POP3's `[AUTH]` bids the client ask
/// its user for another password.
fn reply_to(outcome: Result<(), Failure>) -> Reply {
    let (imap, pop3, text) = match outcome {
        Ok(()) => ("OK", "+OK", "Done"),
        Err(Failure::Unsupported) => ("NO", "-ERR", "This mechanism is not offered here"),
        Err(Failure::NeedsTls) => ("NO [PRIVACYREQUIRED]", "-ERR", "This mechanism needs TLS"),
        // That the server offers what it cannot answer is no fault of the user's.
        Err(Failure::TempFail | Failure::NotImplemented(_)) => {
            ("NO [UNAVAILABLE]", "-ERR [SYS/TEMP]", "Try again later")
        }
        Err(Failure::Cancelled) => ("BAD", "-ERR", "Cancelled"),
        Err(Failure::UnexpectedInitialResponse) => ("BAD", "-ERR", "Wrong arguments"),
        Err(Failure::InitialResponseEncoding | Failure::Encoding) => {
            ("BAD", "-ERR", "Not valid base64")
        }
        Err(Failure::Refused(kind)) => {
            let imap = match kind {
                RefusalKind::AccountDisabled => "NO [CONTACTADMIN]",
                RefusalKind::PasswordExpired => "NO [EXPIRED]",
                RefusalKind::OverQuota => "NO [OVERQUOTA]",
                _ => "NO [NOPERM]",
            };
            return Reply { imap, pop3: "-ERR [SYS/PERM]", text: kind.to_string() };
        }
        // One text for all, or it would tell which part was right.
        Err(_) => {
            ("NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]", "The user name or password is wrong")
        }
    };
    Reply { imap, pop3, text: text.to_owned() }
}

/// Has a client authenticate. `command` and `accepted` are what differs between the protocols: the command, and the word
/// for success.
fn authenticate(
    peer: &mut Peer,
    (command, accepted): (&str, &str),
    mechanism: Mechanism,
    password: &str,
) -> Result<Result<(), client::Failure>, Box<dyn Error>> {
    let config = client::Config::builder().mechanisms([mechanism]).build()?;
    let credentials = Credentials::password("tim", password)?;
    // A client that reads the server's list has `config.choose` pick the strongest.
    let mut exchange = client::Exchange::new(&config, &CHANNEL, mechanism, credentials);
    // Both servers take an initial response. To an IMAP server without SASL-IR the command goes alone, as it does where
    // POP3's would be over 255 octets (RFC 5034 §4), and the response after the first challenge, which is empty.
    let mut command = Some(format!("{command} {mechanism}"));
    loop {
        match exchange.step() {
            client::Step::Response(response) => {
                peer.say(&match (command.take(), response.data()) {
                    (Some(command), None) => command,
                    (Some(command), Some([])) => command + " =",
                    (Some(command), Some(initial)) => command + " " + &STANDARD.encode(initial),
                    (None, data) => STANDARD.encode(data.unwrap_or_default()),
                })?;
                let heard = peer.hear()?;
                match heard.strip_prefix("+ ").map(|challenge| STANDARD.decode(challenge)) {
                    Some(Ok(challenge)) => response.challenge(challenge),
                    Some(Err(_)) => response.undecodable(),
                    None if heard.starts_with(accepted) => response.success(),
                    // Where IMAP says `* `, a whole client reads on until its tag comes.
                    None => response.refused(),
                }
            }
            client::Step::Derive(work) => work.run(),
            client::Step::Challenge(ask) => ask.fail(),
            client::Step::Done(outcome) => return Ok(outcome),
        }
    }
}

/// A client that says these lines, each of which has to have a reply that begins so.
fn dialogue(peer: &mut Peer, lines: &[(&str, &str)]) -> Result<(), Box<dyn Error>> {
    for (line, expected) in lines {
        peer.say(line)?;
        let heard = peer.hear()?;
        println!("  {line} -> {heard}");
        if !heard.starts_with(expected) {
            return Err(format!("{expected:?} was expected").into());
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let keys = ScramKeys::generate(ScramHash::Sha256, "tanstaaftanstaaf", 4096);
    let users = Arc::new(Users(keys.ok_or("the password cannot be prepared")?));
    let config = Config::builder("mail.example.org").answered_by(&*users).authorize_always(true);
    let config = Arc::new(config.build()?);
    let imap = start(&config, &users, Session::imap)?;
    let pop3 = start(&config, &users, Session::pop3)?;

    for (words, address) in [(("a1 AUTHENTICATE", "a1 OK"), imap), (("AUTH", "+OK"), pop3)] {
        for &mechanism in users.mechanisms() {
            println!("{} {mechanism}, the right password and a wrong one", words.0);
            authenticate(&mut connect(address)?, words, mechanism, "tanstaaftanstaaf")??;
            match authenticate(&mut connect(address)?, words, mechanism, "wrong")? {
                Err(client::Failure::Refused { .. }) => {}
                other => return Err(format!("{other:?} is no refusal").into()),
            }
        }
    }

    println!("The right password of accounts that are refused");
    let lines = [
        ("a1 AUTHENTICATE PLAIN AGZyZWQAdGFuc3RhYWZ0YW5zdGFhZg==", "a1 NO [CONTACTADMIN] "),
        ("a2 AUTHENTICATE PLAIN AGFubgB0YW5zdGFhZnRhbnN0YWFm", "a2 NO [EXPIRED] "),
        ("a3 AUTHENTICATE PLAIN AGJvYgB0YW5zdGFhZnRhbnN0YWFm", "a3 NO [OVERQUOTA] "),
        ("a4 AUTHENTICATE PLAIN AGJvYgB3cm9uZw==", "a4 NO [AUTHENTICATIONFAILED] "),
    ];
    dialogue(&mut connect(imap)?, &lines)?;
    let line = ("AUTH PLAIN AGFubgB0YW5zdGFhZnRhbnN0YWFm", "-ERR [SYS/PERM] ");
    dialogue(&mut connect(pop3)?, &[line])?;

    println!("IMAP, what does not authenticate");
    let lines = [
        ("a1 AUTHENTICATE CRAM-MD5", "a1 NO "), // not an attempt, nor is the next
        ("a2 AUTHENTICATE PLAIN !", "a2 BAD "),
        ("a3 authenticate plain =", "a3 NO [AUTH"), // an empty response, which PLAIN does not have
        ("a4 AUTHENTICATE PLAIN", "+ "),
        ("*", "a4 BAD Cancelled"),
        ("a5 AUTHENTICATE PLAIN", "+ "),
        ("a6 LOGOUT", "a5 BAD Not valid base64"), // a response
    ];
    let mut peer = connect(imap)?;
    dialogue(&mut peer, &lines)?;
    match peer.hear()?.starts_with("* BYE ") {
        true => Ok(()),
        false => Err("three attempts should have been the last".into()),
    }
}

/// Starts a server. Returns where.
fn start(
    config: &Arc<Config>,
    users: &Arc<Users>,
    serve: fn(&mut Session) -> io::Result<()>,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (config, users) = (Arc::clone(config), Arc::clone(users));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (config, users) = (Arc::clone(&config), Arc::clone(&users));
            thread::spawn(move || {
                let peer = Peer::new(socket)?;
                serve(&mut Session { config, users, peer, authenticated: false, attempts: 0 })
            });
        }
    });
    Ok(address)
}

/// A client's end of a connection, after the greeting.
fn connect(address: SocketAddr) -> io::Result<Peer> {
    let mut peer = Peer::new(TcpStream::connect(address)?)?;
    peer.hear()?;
    Ok(peer)
}
