//! SASL in other protocols than SMTP: `cargo run --example imap` has an IMAP server (RFC 9051 §6.2.2,
//! with initial responses, RFC 4959) and a POP3 server (RFC 5034) sign clients in by
//! `sasl::server::Exchange`, and the clients do their part by `sasl::client::Exchange`.
//!
//! Both protocols put the exchange on lines in one way, so that it stands here once for each side:
//! `+ ` and a challenge in base64, a response in base64 or `*`. Neither has data with success: a last
//! challenge (`Challenge::is_final`, SCRAM's proof that the server knows the password) goes as any
//! other, and the client answers it by an empty line.
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
    Answer, Authenticator, Channel, CheckPassword, Failure, Mechanism, ScramHash, ScramKeys,
    ScramKeysFor,
    client::{self, Credentials},
    server::{Config, Exchange, Step},
};

/// The mechanisms on offer.
const MECHANISMS: [Mechanism; 2] = [Mechanism::ScramSha256, Mechanism::Plain];

/// How long a connection may be silent before the client has signed in.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The longest line, CRLF included: a long response has to fit, whatever the limit for other lines is
/// (RFC 5034 §4).
const MAX_LINE: u64 = 12_288;

/// How many failed attempts to sign in a connection may have.
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
        if (&mut self.0).take(MAX_LINE).read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.strip_suffix("\r\n").map(ToOwned::to_owned).ok_or(io::ErrorKind::InvalidData.into())
    }
}

struct Server {
    config: Arc<Config>,
    /// SCRAM's keys serve PLAIN too.
    tim: ScramKeys,
}

impl Authenticator for Server {
    fn mechanisms(&self) -> &[Mechanism] {
        &MECHANISMS
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        // Both are looked at, or the time that it takes would tell who exists.
        let right = self.tim.check_password(ask.password().expose());
        ((ask.authcid() == "tim") & right).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        (ask.authcid() == "tim").then(|| self.tim.clone()).into()
    }
}

/// A server's end of a connection.
struct Session {
    server: Arc<Server>,
    peer: Peer,
    signed_in: bool,
    failed_attempts: u32,
}

impl Session {
    /// What `AUTHENTICATE` and `AUTH` begin, by their arguments: `mechanism [initial-response]`.
    fn sign_in(&mut self, args: &str) -> io::Result<Result<(), Failure>> {
        let (name, initial) = match args.split_once(' ') {
            Some((name, initial)) => (name, Some(initial)),
            None => (args, None),
        };
        let Some(mechanism) = self.server.config.named(name) else {
            return Ok(Err(Failure::Unsupported));
        };
        // None is another thing than an empty one, for which a `=` stands (RFC 4959 §3).
        let initial = match initial {
            None => None,
            Some("=") => Some(Vec::new()),
            Some(text) => match STANDARD.decode(text) {
                Ok(response) => Some(response),
                Err(_) => return Ok(Err(Failure::InitialResponseEncoding)),
            },
        };
        let mut exchange = Exchange::new(&self.server.config, &CHANNEL, mechanism, initial);
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
                Step::Query(query) => query.answer_with(&*self.server),
                Step::Done(outcome) => {
                    self.signed_in = outcome.is_ok();
                    self.failed_attempts += u32::from(outcome.is_err_and(Failure::is_attempt));
                    return Ok(outcome.map(|_| ()));
                }
            }
        }
    }

    fn imap(&mut self) -> io::Result<()> {
        let mut capabilities = "CAPABILITY IMAP4rev1 SASL-IR LOGINDISABLED".to_owned();
        for mechanism in self.server.config.offered(&CHANNEL) {
            capabilities += &format!(" AUTH={mechanism}");
        }
        self.peer.say(&format!("* OK [{capabilities}] ready"))?;
        while self.failed_attempts < MAX_ATTEMPTS {
            let line = self.peer.hear()?;
            let mut words = line.splitn(3, ' ');
            let (tag, command) = (words.next().unwrap_or_default(), words.next());
            // It is repeated, so it has to be one (RFC 9051 §9).
            let fits = |octet: u8| octet.is_ascii_graphic() && !b"+(){%*\"\\".contains(&octet);
            if tag.is_empty() || !tag.bytes().all(fits) {
                self.peer.say("* BAD A command begins with a tag")?;
                continue;
            }
            let (result, text) = match &*command.unwrap_or_default().to_ascii_uppercase() {
                "CAPABILITY" => {
                    self.peer.say(&format!("* {capabilities}"))?;
                    ("OK", "Done")
                }
                "LOGOUT" => {
                    self.peer.say("* BYE Goodbye")?;
                    return self.peer.say(&format!("{tag} OK Done"));
                }
                "AUTHENTICATE" if !self.signed_in => {
                    let (imap, _, text) = reply_to(self.sign_in(words.next().unwrap_or_default())?);
                    (imap, text)
                }
                _ => ("BAD", "That has no place here"),
            };
            self.peer.say(&format!("{tag} {result} {text}"))?;
        }
        self.peer.say("* BYE Too many failed attempts to sign in")
    }

    fn pop3(&mut self) -> io::Result<()> {
        self.peer.say("+OK ready")?;
        loop {
            let line = self.peer.hear()?;
            // Unlike IMAP, POP3 has no way to say so unasked.
            if self.failed_attempts >= MAX_ATTEMPTS {
                return self.peer.say("-ERR Too many failed attempts to sign in");
            }
            let (command, args) = line.split_once(' ').unwrap_or((&line, ""));
            let (result, text) = match &*command.to_ascii_uppercase() {
                "CAPA" => {
                    let offered: Vec<_> =
                        self.server.config.offered(&CHANNEL).map(Mechanism::name).collect();
                    self.peer.say("+OK This is what there is")?;
                    self.peer.say(&format!("SASL {}", offered.join(" ")))?;
                    for line in ["RESP-CODES", "AUTH-RESP-CODE", "."] {
                        self.peer.say(line)?;
                    }
                    continue;
                }
                "QUIT" => return self.peer.say("+OK Goodbye"),
                "AUTH" if !self.signed_in => {
                    let (_, pop3, text) = reply_to(self.sign_in(args)?);
                    (pop3, text)
                }
                _ => ("-ERR", "That has no place here"),
            };
            self.peer.say(&format!("{result} {text}"))?;
        }
    }
}

/// How IMAP says it, with the codes of RFC 5530; how POP3 does, with those of RFC 3206; and the
/// text. IMAP's `BAD` is for what is no sign-in at all, and for one that was cancelled. POP3's `[AUTH]`
/// bids the client ask its user for another password.
fn reply_to(outcome: Result<(), Failure>) -> (&'static str, &'static str, &'static str) {
    let Err(failure) = outcome else { return ("OK", "+OK", "Signed in") };
    match failure {
        Failure::Unsupported => ("NO", "-ERR", "This mechanism is not offered here"),
        Failure::NeedsTls => ("NO [PRIVACYREQUIRED]", "-ERR", "This mechanism needs TLS"),
        // That the server offers what it cannot answer is no fault of the user's.
        Failure::TempFail | Failure::NotImplemented(_) => {
            ("NO [UNAVAILABLE]", "-ERR [SYS/TEMP]", "Try again later")
        }
        Failure::Cancelled => ("BAD", "-ERR", "Cancelled"),
        Failure::UnexpectedInitialResponse => ("BAD", "-ERR", "Wrong arguments"),
        Failure::InitialResponseEncoding | Failure::Encoding => ("BAD", "-ERR", "Not valid base64"),
        // One text for all, or it would tell which part was right.
        _ => ("NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]", "The user name or password is wrong"),
    }
}

/// What tells the two protocols apart for a client's exchange: its command, and the word for success.
type Words = (&'static str, &'static str);
const IMAP: Words = ("a1 AUTHENTICATE", "a1 OK");
const POP3: Words = ("AUTH", "+OK");

/// Has a client sign in.
fn sign_in(
    peer: &mut Peer,
    (command, accepted): Words,
    mechanism: Mechanism,
    password: &str,
) -> Result<Result<(), client::Failure>, Box<dyn Error>> {
    let config = client::Config::builder().mechanisms([mechanism]).build()?;
    let credentials = Credentials::password("tim", password)?;
    // A client that reads the server's list has `config.choose` pick the strongest.
    let mut exchange = client::Exchange::new(&config, &CHANNEL, mechanism, credentials);
    // Both servers take an initial response. To an IMAP server without SASL-IR the command goes alone,
    // as it does where POP3's would be over 255 octets (RFC 5034 §4), and the response behind the
    // first challenge, which is empty.
    let mut command = Some(format!("{command} {mechanism}"));
    loop {
        match exchange.step() {
            client::Step::Response(response) => {
                let text = response.data().map(|data| STANDARD.encode(data));
                peer.say(&match (command.take(), text.as_deref()) {
                    (Some(command), None) => command,
                    (Some(command), Some("")) => command + " =",
                    (Some(command), Some(initial)) => command + " " + initial,
                    (None, text) => text.unwrap_or_default().to_owned(),
                })?;
                let heard = peer.hear()?;
                if let Some(challenge) = heard.strip_prefix("+ ") {
                    match STANDARD.decode(challenge) {
                        Ok(challenge) => response.challenge(challenge),
                        Err(_) => response.undecodable(),
                    }
                } else if heard.starts_with(accepted) {
                    response.success();
                } else {
                    // Where IMAP says `* `, a whole client reads on until its tag comes.
                    response.refused();
                }
            }
            client::Step::Derive(work) => work.run(),
            client::Step::Custom(ask) => ask.fail(),
            client::Step::Done(outcome) => return Ok(outcome),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = Arc::new(Config::builder("mail.example.org").mechanisms(MECHANISMS).build()?);
    let keys = ScramKeys::generate(ScramHash::Sha256, "tanstaaftanstaaf", 4096);
    let tim = keys.ok_or("the password cannot be prepared")?;
    let server = Arc::new(Server { config, tim });
    let imap = start(&server, Session::imap)?;
    let pop3 = start(&server, Session::pop3)?;

    for (name, words, address) in [("IMAP", IMAP, imap), ("POP3", POP3, pop3)] {
        for mechanism in MECHANISMS {
            println!("{name}, {mechanism}, the right password and a wrong one");
            sign_in(&mut connect(address)?, words, mechanism, "tanstaaftanstaaf")??;
            match sign_in(&mut connect(address)?, words, mechanism, "wrong")? {
                Err(client::Failure::Refused { .. }) => {}
                other => return Err(format!("{other:?} is no refusal").into()),
            }
        }
    }

    println!("IMAP, what is no sign-in");
    let mut peer = connect(imap)?;
    for (line, reply) in [
        ("a1 AUTHENTICATE CRAM-MD5", "a1 NO "), // not an attempt, nor is the next
        ("a2 AUTHENTICATE PLAIN !", "a2 BAD "),
        ("a3 authenticate plain =", "a3 NO [AUTH"), // an empty response, which PLAIN does not have
        ("a4 AUTHENTICATE PLAIN", "+ "),
        ("*", "a4 BAD Cancelled"),
        ("a5 AUTHENTICATE PLAIN", "+ "),
        ("a6 LOGOUT", "a5 BAD Not valid base64"), // a response
    ] {
        peer.say(line)?;
        let heard = peer.hear()?;
        println!("  {line} -> {heard}");
        if !heard.starts_with(reply) {
            return Err(format!("{reply:?} was expected").into());
        }
    }
    if !peer.hear()?.starts_with("* BYE ") {
        return Err("three attempts should have been the last".into());
    }
    Ok(())
}

/// Starts a server. Returns where.
fn start(
    server: &Arc<Server>,
    serve: fn(&mut Session) -> io::Result<()>,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, server) = (listener.local_addr()?, Arc::clone(server));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                let peer = Peer::new(socket)?;
                serve(&mut Session { server, peer, signed_in: false, failed_attempts: 0 })
            });
        }
    });
    Ok(address)
}

/// A client's end of a connection, behind the greeting.
fn connect(address: SocketAddr) -> io::Result<Peer> {
    let mut peer = Peer::new(TcpStream::connect(address)?)?;
    peer.hear()?;
    Ok(peer)
}
