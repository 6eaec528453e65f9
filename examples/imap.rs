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
    collections::HashMap,
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::sasl::{
    Answer, Authenticator, Channel, CheckPassword, Failure, Identity, Mechanism, PasswordAnswer,
    ScramHash, ScramKeys, ScramKeysFor,
    client::{self, Choice, Credentials},
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
    accounts: HashMap<&'static str, ScramKeys>,
}

impl Server {
    /// What `AUTHENTICATE` and `AUTH` begin, by their arguments: `mechanism [initial-response]`.
    fn sign_in(&self, peer: &mut Peer, args: &str) -> io::Result<Result<Identity, Failure>> {
        let (name, initial) = match args.split_once(' ') {
            Some((name, initial)) => (name, Some(initial)),
            None => (args, None),
        };
        let Some(mechanism) = Mechanism::from_name(name) else {
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
        let mut exchange = Exchange::new(&self.config, &CHANNEL, mechanism, initial);
        loop {
            match exchange.step() {
                Step::Challenge(challenge) => {
                    // The space stands before an empty challenge, too.
                    peer.say(&format!("+ {}", STANDARD.encode(challenge.data())))?;
                    match &*peer.hear()? {
                        "*" => challenge.cancel(),
                        line => match STANDARD.decode(line) {
                            Ok(response) => challenge.respond(response),
                            Err(_) => challenge.undecodable(),
                        },
                    }
                }
                Step::Query(query) => query.answer_with(self),
                Step::Done(outcome) => {
                    match outcome {
                        Ok(who) => println!("  {} signed in by {mechanism}", who.authcid()),
                        Err(failure) => println!("  sign-in failed: {failure}"),
                    }
                    return Ok(outcome.cloned());
                }
            }
        }
    }

    fn imap(&self, peer: &mut Peer) -> io::Result<()> {
        let mut capabilities = "CAPABILITY IMAP4rev1 SASL-IR LOGINDISABLED".to_owned();
        for mechanism in self.config.offered(&CHANNEL) {
            capabilities += &format!(" AUTH={mechanism}");
        }
        peer.say(&format!("* OK [{capabilities}] ready"))?;
        let (mut identity, mut failed_attempts) = (None, 0);
        while failed_attempts < MAX_ATTEMPTS {
            let line = peer.hear()?;
            let mut words = line.splitn(3, ' ');
            let (tag, command) = (words.next().unwrap_or_default(), words.next());
            // It is repeated, so it has to be one (RFC 9051 §9).
            let fits = |octet: u8| octet.is_ascii_graphic() && !b"+(){%*\"\\".contains(&octet);
            if tag.is_empty() || !tag.bytes().all(fits) {
                peer.say("* BAD A command begins with a tag")?;
                continue;
            }
            let reply = match &*command.unwrap_or_default().to_ascii_uppercase() {
                "CAPABILITY" => {
                    peer.say(&format!("* {capabilities}"))?;
                    "OK That is all"
                }
                "NOOP" => "OK Done",
                "LOGOUT" => {
                    peer.say("* BYE Goodbye")?;
                    return peer.say(&format!("{tag} OK Done"));
                }
                "AUTHENTICATE" if identity.is_some() => "BAD Signed in already",
                "AUTHENTICATE" => match self.sign_in(peer, words.next().unwrap_or_default())? {
                    Ok(who) => {
                        identity = Some(who);
                        "OK Signed in"
                    }
                    Err(failure) => {
                        failed_attempts += u32::from(failure.is_attempt());
                        imap_reply(failure)
                    }
                },
                _ if identity.is_none() => "BAD Sign in first",
                _ => "BAD Not in this example",
            };
            peer.say(&format!("{tag} {reply}"))?;
        }
        peer.say("* BYE Too many failed attempts to sign in")
    }

    fn pop3(&self, peer: &mut Peer) -> io::Result<()> {
        peer.say("+OK ready")?;
        let (mut identity, mut failed_attempts) = (None, 0);
        loop {
            let line = peer.hear()?;
            // Unlike IMAP, POP3 has no way to say so unasked.
            if failed_attempts >= MAX_ATTEMPTS {
                return peer.say("-ERR Too many failed attempts to sign in");
            }
            let (command, args) = line.split_once(' ').unwrap_or((&line, ""));
            let reply = match &*command.to_ascii_uppercase() {
                "CAPA" => {
                    let offered: Vec<_> =
                        self.config.offered(&CHANNEL).map(Mechanism::name).collect();
                    peer.say("+OK This is what there is")?;
                    peer.say(&format!("SASL {}", offered.join(" ")))?;
                    peer.say("RESP-CODES")?;
                    peer.say("AUTH-RESP-CODE")?;
                    "."
                }
                "NOOP" if identity.is_some() => "+OK Done",
                "QUIT" => return peer.say("+OK Goodbye"),
                "AUTH" if identity.is_some() => "-ERR Signed in already",
                "AUTH" => match self.sign_in(peer, args)? {
                    Ok(who) => {
                        identity = Some(who);
                        "+OK Signed in"
                    }
                    Err(failure) => {
                        failed_attempts += u32::from(failure.is_attempt());
                        pop3_reply(failure)
                    }
                },
                _ if identity.is_none() => "-ERR Sign in first",
                _ => "-ERR Not in this example",
            };
            peer.say(reply)?;
        }
    }
}

/// The response to each failure, with its code of RFC 5530. `BAD` is for what is no sign-in at all, and
/// for one that was cancelled.
fn imap_reply(failure: Failure) -> &'static str {
    match failure {
        Failure::Unsupported => "NO This mechanism is not offered here",
        Failure::NeedsTls => "NO [PRIVACYREQUIRED] This mechanism needs TLS",
        Failure::TempFail => "NO [UNAVAILABLE] Cannot check that now, try again later",
        Failure::Cancelled => "BAD Cancelled",
        Failure::Syntax | Failure::UnexpectedInitialResponse => "BAD Wrong arguments",
        Failure::InitialResponseEncoding | Failure::Encoding => "BAD Not valid base64",
        // One text for all, or it would tell which part was right.
        _ => "NO [AUTHENTICATIONFAILED] The user name or password is wrong",
    }
}

/// The same with the codes of RFC 3206: `[AUTH]` bids the client ask its user for another password.
fn pop3_reply(failure: Failure) -> &'static str {
    match failure {
        Failure::Unsupported => "-ERR This mechanism is not offered here",
        Failure::NeedsTls => "-ERR This mechanism needs TLS",
        Failure::TempFail => "-ERR [SYS/TEMP] Cannot check that now, try again later",
        Failure::Cancelled => "-ERR Cancelled",
        Failure::Syntax | Failure::UnexpectedInitialResponse => "-ERR Wrong arguments",
        Failure::InitialResponseEncoding | Failure::Encoding => "-ERR Not valid base64",
        _ => "-ERR [AUTH] The user name or password is wrong",
    }
}

impl Authenticator for Server {
    fn check_password(&self, ask: &CheckPassword) -> PasswordAnswer {
        let known = self.accounts.get(ask.authcid());
        // Who does not exist is checked as well, or the time that it takes would tell.
        let nobody = || self.config.keys_of_nobody(ScramHash::Sha256, ask.authcid());
        let keys = known.cloned().unwrap_or_else(nobody);
        (keys.check_password(ask.password().expose()) && known.is_some()).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.accounts.get(ask.authcid()).cloned().into()
    }
}

/// What tells the two protocols apart: for the server all, for the client's exchange four words.
struct Protocol {
    name: &'static str,
    serve: fn(&Server, &mut Peer) -> io::Result<()>,
    command: &'static str,
    accepted: &'static str,
    refused: [&'static str; 2],
}

const IMAP: Protocol = Protocol {
    name: "IMAP",
    serve: Server::imap,
    command: "a1 AUTHENTICATE",
    accepted: "a1 OK",
    refused: ["a1 NO", "a1 BAD"],
};

const POP3: Protocol = Protocol {
    name: "POP3",
    serve: Server::pop3,
    command: "AUTH",
    accepted: "+OK",
    refused: ["-ERR", "-ERR"],
};

impl Protocol {
    /// Starts a server.
    fn listen(&'static self, server: &Arc<Server>) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = Arc::clone(server);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let server = Arc::clone(&server);
                thread::spawn(move || (self.serve)(&server, &mut Peer::new(socket)?));
            }
        });
        Ok(address)
    }

    /// Has a client sign in. Where that fails by anything but a refusal, the server may still wait for a
    /// response; to close the connection is an end to that, too.
    fn sign_in(
        &self,
        peer: &mut Peer,
        mechanism: Mechanism,
        password: &str,
    ) -> Result<Result<(), client::Failure>, Box<dyn Error>> {
        let config = client::Config::default().mechanisms(&[mechanism])?;
        let credentials = Credentials::password("tim", password)?;
        // A client that reads the server's list has `config.choose` pick the strongest.
        let choice = Choice::without_list(mechanism);
        let mut exchange = client::Exchange::new(&config, &CHANNEL, choice, credentials);
        // Both servers take an initial response. To an IMAP server without SASL-IR the command goes alone,
        // as it does where POP3's would be over 255 octets (RFC 5034 §4), and the response behind the
        // first challenge, which is empty.
        let mut command = Some(format!("{} {mechanism}", self.command));
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
                    } else if heard.starts_with(self.accepted) {
                        response.success();
                    } else if self.refused.iter().any(|word| heard.starts_with(word)) {
                        response.refused();
                    } else {
                        return Err("the server said what has no place here".into());
                    }
                }
                client::Step::Derive(work) => work.run(),
                client::Step::Challenge(ask) => ask.fail(),
                client::Step::Done(outcome) => return Ok(outcome),
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = Arc::new(Config::new("mail.example.org")?.mechanisms(&MECHANISMS)?);
    let keys = ScramKeys::generate(ScramHash::Sha256, "tanstaaftanstaaf", 4096);
    let tim = keys.ok_or("the password cannot be prepared")?;
    let server = Arc::new(Server { config, accounts: [("tim", tim)].into() });

    let imap = IMAP.listen(&server)?;
    let pop3 = POP3.listen(&server)?;
    for (protocol, address) in [(&IMAP, imap), (&POP3, pop3)] {
        for mechanism in MECHANISMS {
            println!("{}, {mechanism}, the right password", protocol.name);
            let mut peer = connect(address)?;
            protocol.sign_in(&mut peer, mechanism, "tanstaaftanstaaf")??;
            let again = format!("{} PLAIN", protocol.command);
            expect(&mut peer, &again, protocol.refused[1])?;

            println!("{}, {mechanism}, a wrong password", protocol.name);
            match protocol.sign_in(&mut connect(address)?, mechanism, "wrong")? {
                Err(client::Failure::Refused) => {}
                other => return Err(format!("{other:?} is no refusal").into()),
            }
        }
    }

    println!("IMAP, what is no sign-in");
    let mut peer = connect(imap)?;
    for (line, reply) in [
        ("a1 AUTHENTICATE NTLM", "a1 NO "),
        ("a2 AUTHENTICATE PLAIN !", "a2 BAD "),
        ("a3 AUTHENTICATE PLAIN =", "a3 NO "), // an empty response, which PLAIN does not have
        ("a4 AUTHENTICATE PLAIN", "+ "),
        ("*", "a4 BAD Cancelled"),
        ("a5 AUTHENTICATE PLAIN", "+ "),
        ("a6 NOOP", "a5 BAD Not valid base64"), // a response
    ] {
        expect(&mut peer, line, reply)?;
    }
    let last = peer.hear()?;
    if !last.starts_with("* BYE ") {
        return Err("three attempts should have been the last".into());
    }

    println!("POP3, what is no sign-in");
    let mut peer = connect(pop3)?;
    for (line, reply) in [
        ("AUTH NTLM", "-ERR "),
        ("AUTH PLAIN !", "-ERR Not valid base64"),
        ("AUTH PLAIN =", "-ERR [AUTH] "),
        ("AUTH PLAIN", "+ "),
        ("*", "-ERR Cancelled"),
        ("AUTH PLAIN", "+ "),
        ("AUTH PLAIN", "-ERR Not valid base64"), // a response
        ("CAPA", "-ERR Too many"),
    ] {
        expect(&mut peer, line, reply)?;
    }
    Ok(())
}

/// A client's end of a connection, behind the greeting.
fn connect(address: SocketAddr) -> io::Result<Peer> {
    let mut peer = Peer::new(TcpStream::connect(address)?)?;
    peer.hear()?;
    Ok(peer)
}

fn expect(peer: &mut Peer, line: &str, reply: &str) -> Result<(), Box<dyn Error>> {
    peer.say(line)?;
    let heard = peer.hear()?;
    println!("  {line} -> {heard}");
    if heard.starts_with(reply) { Ok(()) } else { Err(format!("{reply:?} was expected").into()) }
}
