//! AUTH in a server that has its own parser and loop: `cargo run --example embed`.
//!
//! The commands are parsed by smtp-proto, a thread reads each socket, and this crate does what
//! begins with `AUTH `, by `auth::server::Exchange`, and the line about it in the reply to EHLO, by
//! `auth::advertise`. A client with a loop of its own signs in by the same door from the other side,
//! `auth::client::Exchange`.
//!
//! Left out is what has nothing to do with AUTH: STARTTLS, and the message itself.
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

use smtp_auth::{
    auth::{
        MAX_LINE, advertise, client,
        server::{Exchange, Step},
    },
    ehlo::Ehlo,
    reply::ReplyRef,
    sasl::{
        Answer, Authenticator, Channel, CheckPassword, Identity, Mechanism,
        client::{Config as ClientConfig, Credentials},
        server::Config,
    },
};
use smtp_proto::{Error as ParseError, Request};

/// How long a server waits for a command (RFC 5321 §4.5.3.2.7).
const TIMEOUT: Duration = Duration::from_secs(300);

/// How many failed attempts to sign in a connection may have (RFC 4954 §4).
const MAX_ATTEMPTS: u32 = 3;

/// Loopback is as safe as TLS. A server for others has `Channel::cleartext()` until STARTTLS.
const CHANNEL: Channel = Channel::tls();

/// One connection.
struct Session<'a> {
    config: &'a Arc<Config>,
    input: BufReader<&'a TcpStream>,
    output: &'a TcpStream,
    /// Whether EHLO was said, without which there is no AUTH.
    extended: bool,
    /// Who has signed in.
    identity: Option<Identity>,
    failed_attempts: u32,
}

fn serve(socket: &TcpStream, config: &Arc<Config>) -> io::Result<()> {
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let mut session = Session {
        config,
        input: BufReader::new(socket),
        output: socket,
        extended: false,
        identity: None,
        failed_attempts: 0,
    };
    session.reply("220 mail.example.org ESMTP")?;
    while session.command()? {}
    Ok(())
}

impl Session<'_> {
    /// Reads a command and replies to it. `false` where it was the last.
    fn command(&mut self) -> io::Result<bool> {
        let mut line = read_line(&mut self.input)?;
        if self.failed_attempts >= MAX_ATTEMPTS {
            self.reply("421 4.7.0 Too many failed attempts to sign in")?;
            return Ok(false);
        }
        // Some part of a line that cannot be read may be meant as BDAT, and what follows is then no command.
        if line.len() > MAX_LINE {
            self.reply("500 5.5.2 Line too long")?;
            return Ok(false);
        }
        // In its own reading smtp-proto ends a line at a bare LF, and leaves a bare CR out.
        if line.iter().any(|octet| b"\r\n\0".contains(octet)) {
            self.reply("500 5.5.2 Lines end in CRLF")?;
            return Ok(false);
        }
        if line.trim_ascii_start().get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT")) {
            self.reply("502 5.5.1 Not in this example")?;
            return Ok(false);
        }
        // The text behind `AUTH ` is taken from the line before smtp-proto sees it. What that makes of
        // it cannot be converted back: a mechanism that it does not know (SCRAM-SHA-512, your own)
        // is 0, words behind the initial response are gone. For the same reason lines are not read
        // by its `RequestReceiver`, which takes no more than 4,096 octets of the 12,288 of AUTH.
        if let Some(args) = auth_args(&line) {
            self.auth(args)?;
            return Ok(true);
        }
        line.push(b'\n');
        let reply = match Request::parse(&mut line.iter()) {
            Ok(Request::Ehlo { .. }) => return self.ehlo().map(|()| true),
            Ok(Request::Helo { .. }) => "250 mail.example.org",
            Ok(Request::Mail { .. }) if self.identity.is_none() => {
                "530 5.7.0 Authentication required"
            }
            Ok(Request::Mail { .. }) => "250 2.1.0 Sender OK",
            Ok(Request::Noop { .. } | Request::Rset) => "250 2.0.0 OK",
            Ok(Request::Quit) => {
                self.reply("221 2.0.0 Goodbye")?;
                return Ok(false);
            }
            Ok(_) => "502 5.5.1 Not in this example",
            Err(ParseError::UnknownCommand | ParseError::NeedsMoreData { .. }) => {
                "500 5.5.2 Command not recognized"
            }
            // What the error holds is what the client sent, and not repeated.
            Err(_) => "501 5.5.4 Syntax error in arguments",
        };
        self.reply(reply)?;
        Ok(true)
    }

    fn ehlo(&mut self) -> io::Result<()> {
        self.extended = true;
        let mut out = b"250-mail.example.org\r\n".to_vec();
        let mut auth = Vec::new();
        advertise(self.config, &CHANNEL, &mut auth);
        // Before STARTTLS, say, there may be no mechanism on offer.
        if !auth.is_empty() {
            out.extend([b"250-", &*auth, b"\r\n"].concat());
        }
        out.extend(b"250 ENHANCEDSTATUSCODES\r\n");
        self.output.write_all(&out)
    }

    fn auth(&mut self, args: &[u8]) -> io::Result<()> {
        // RFC 4954 §4. A server that takes mail from strangers, too, refuses it in a transaction as well.
        if !self.extended || self.identity.is_some() {
            return self.reply("503 5.5.1 AUTH has no place here");
        }
        let mut exchange = Exchange::new(self.config, &CHANNEL, args);
        let mut out = Vec::new();
        let outcome = loop {
            match exchange.step(&mut out) {
                Step::NeedLine(slot) => {
                    self.output.write_all(&out)?;
                    out.clear();
                    // Whether it is `*`, too long or not base64, the slot finds out.
                    slot.line(&read_line(&mut self.input)?);
                }
                Step::Query(query) => query.answer_with(&OneUser),
                Step::Done(outcome) => break outcome.cloned(),
            }
        };
        match outcome {
            Ok(identity) => self.identity = Some(identity),
            Err(failure) => self.failed_attempts += u32::from(failure.is_attempt()),
        }
        self.output.write_all(&out)
    }

    fn reply(&mut self, reply: &str) -> io::Result<()> {
        self.output.write_all(format!("{reply}\r\n").as_bytes())
    }
}

/// The text behind `AUTH `, if the line begins so.
fn auth_args(line: &[u8]) -> Option<&[u8]> {
    let (verb, args) = line.split_at_checked("AUTH ".len())?;
    verb.eq_ignore_ascii_case(b"AUTH ").then_some(args)
}

/// Reads a line, and drops its CRLF, which alone ends it (RFC 5321 §2.3.8). Of a line that is too long
/// one octet more is kept than it may have; one without end is the end of the connection.
fn read_line(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let (mut line, mut last) = (Vec::new(), 0);
    for octet in input.take(65_536).bytes() {
        let octet = octet?;
        if (last, octet) == (b'\r', b'\n') {
            line.pop();
            return Ok(line);
        }
        if line.len() < MAX_LINE + 2 {
            line.push(octet);
        }
        last = octet;
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

struct OneUser;

impl Authenticator for OneUser {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain, Mechanism::Login]
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        ((ask.authcid() == "tim") & (*ask.password() == "tanstaaftanstaaf".into())).into()
    }
}

/// The client's end of a connection.
struct Client {
    socket: BufReader<TcpStream>,
    /// The mechanisms that the reply to EHLO lists.
    offered: String,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        let mut client = Self { socket: BufReader::new(socket), offered: String::new() };
        client.read_reply()?;
        let reply = client.ask("EHLO laptop.example.org")?;
        let listed = Ehlo::new(ReplyRef::parse(&reply)?).mechanisms();
        client.offered = listed.collect::<Vec<_>>().join(" ");
        Ok(client)
    }

    fn sign_in(
        &mut self,
        mechanism: Mechanism,
        password: &str,
    ) -> Result<Result<(), client::Failure>, Box<dyn Error>> {
        let config = ClientConfig::builder().mechanisms([mechanism]).build()?;
        let credentials = Credentials::password("tim", password)?;
        let mechanism = config.choose(&credentials, &CHANNEL, &self.offered)?;
        let mut exchange = client::Exchange::new(&config, &CHANNEL, mechanism, credentials);
        let mut out = Vec::new();
        loop {
            match exchange.step(&mut out) {
                client::Step::NeedReply(slot) => {
                    self.socket.get_mut().write_all(&out)?;
                    out.clear();
                    let reply = self.read_reply()?;
                    slot.reply(ReplyRef::parse(&reply)?);
                }
                client::Step::Derive(work) => work.run(),
                client::Step::Custom(ask) => ask.fail(),
                client::Step::Done(outcome) => return Ok(outcome.map_err(Clone::clone)),
            }
        }
    }

    fn ask(&mut self, line: &str) -> io::Result<Vec<u8>> {
        self.socket.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.read_reply()
    }

    /// Says that line and shows the reply, which has to have this code.
    fn expect(&mut self, line: &str, code: u16) -> Result<(), Box<dyn Error>> {
        let reply = self.ask(line)?;
        let reply = ReplyRef::parse(&reply)?.to_reply();
        println!("  {} -> {reply}", line.get(..40).unwrap_or(line).escape_debug());
        if reply.code() == code { Ok(()) } else { Err(format!("{code} was expected").into()) }
    }

    /// Reads all lines of a reply, as long as it is no longer than `ReplyRef` takes.
    fn read_reply(&mut self) -> io::Result<Vec<u8>> {
        let mut reply = Vec::new();
        loop {
            let (start, room) = (reply.len(), 65_537 - reply.len());
            (&mut self.socket).take(room as u64).read_until(b'\n', &mut reply)?;
            if !matches!(reply.get(start..), Some([_, _, _, b'-', ..])) {
                return Ok(reply);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::builder("mail.example.org").answered_by(&OneUser).build()?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || serve(&socket, &config));
        }
    });

    for &mechanism in OneUser.mechanisms() {
        println!("{mechanism}, the right password");
        let mut client = Client::connect(address)?;
        client.expect("MAIL FROM:<tim@example.org>", 530)?;
        client.sign_in(mechanism, "tanstaaftanstaaf")??;
        client.expect("AUTH PLAIN", 503)?;
        client.expect("MAIL FROM:<tim@example.org>", 250)?;
        client.expect("QUIT", 221)?;

        println!("{mechanism}, a wrong password");
        let mut client = Client::connect(address)?;
        match client.sign_in(mechanism, "wrong")? {
            Err(client::Failure::Refused { reply, .. }) if reply.code() == 535 => {}
            other => return Err(format!("{other:?} is not 535").into()),
        }
        client.expect("MAIL FROM:<tim@example.org>", 530)?;
    }

    println!("What is no sign-in");
    for (line, code) in [
        (&*format!("NOOP {}", "A".repeat(MAX_LINE)), 500),
        ("NOOP\nNOOP", 500),
        ("BDAT 7 LAST\r\nNOOP\r\n", 502),
    ] {
        let mut client = Client::connect(address)?;
        client.expect(line, code)?;
        if !client.read_reply()?.is_empty() {
            return Err("what follows a line that cannot be read is a command".into());
        }
    }
    let mut client = Client::connect(address)?;
    for (line, code) in [
        ("AUTH", 501),
        ("AUTH UNKNOWN", 504), // not an attempt, nor is the one before
        ("AUTH LOGIN", 334),
        ("*", 501),
        ("AUTH PLAIN", 334),
        (&"A".repeat(MAX_LINE + 1), 500),
        ("AUTH PLAIN", 334),
        ("MAIL FROM:<tim@example.org>", 501), // a response, and not base64
        ("AUTH PLAIN", 421),
    ] {
        client.expect(line, code)?;
    }
    Ok(())
}
