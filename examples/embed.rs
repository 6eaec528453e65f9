//! Adds AUTH to a server that has its own parser and loop: `cargo run --example embed`.
//!
//! smtp-proto parses the commands, and one thread serves each socket. `auth::server::Exchange` handles every command
//! that begins with `AUTH `, and `auth::advertise` writes the AUTH line in the reply to EHLO.
//!
//! The example leaves out STARTTLS and the message itself, because they are not part of AUTH.

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
        MAX_LINE, advertise,
        server::{Exchange, Step},
    },
    reply::Reply,
    sasl::{Answer, Authenticator, Channel, CheckPassword, Identity, Mechanism, server::Config},
    server::pause,
};
use smtp_proto::{Error as Unparsed, Request};

/// How long the server waits for a command (RFC 5321 §4.5.3.2.7).
const TIMEOUT: Duration = Duration::from_secs(300);

/// The maximum number of failed attempts to authenticate in one connection (RFC 4954 §4).
const MAX_ATTEMPTS: u32 = 3;

/// Loopback is treated as TLS here. A server for other machines uses `Channel::cleartext()` until STARTTLS.
const CHANNEL: Channel = Channel::tls();

/// One connection.
struct Session<'a> {
    config: &'a Arc<Config>,
    socket: BufReader<&'a TcpStream>,
    /// Whether the client has sent EHLO, which AUTH requires.
    extended: bool,
    /// The identity of the client, once it has authenticated.
    identity: Option<Identity>,
    attempts: u32,
}

fn serve(socket: &TcpStream, config: &Arc<Config>) -> io::Result<()> {
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let socket = BufReader::new(socket);
    let mut session = Session { config, socket, extended: false, identity: None, attempts: 0 };
    session.send(b"220 mail.example.org ESMTP\r\n")?;
    while session.command()? {}
    Ok(())
}

impl Session<'_> {
    /// Reads a command and replies to it. Returns `false` after the last command.
    fn command(&mut self) -> io::Result<bool> {
        let mut line = read_line(&mut self.socket)?;
        let verb = line.trim_ascii_start().get(..4).unwrap_or_default();
        let last = if self.attempts >= MAX_ATTEMPTS {
            Some(Reply::TOO_MANY_ATTEMPTS)
        } else if line.len() > MAX_LINE {
            Some(Reply::LINE_TOO_LONG)
        } else if line.iter().any(|octet| b"\r\n\0".contains(octet)) {
            // smtp-proto itself ends a line at a bare LF, and drops a bare CR.
            Some(Reply::BAD_LINE_END)
        } else if verb.eq_ignore_ascii_case(b"BDAT") {
            // The following data is not a command. The same may be true after a line that cannot be parsed.
            Some(Reply::NOT_IMPLEMENTED)
        } else {
            None
        };
        if let Some(last) = last {
            self.reply(&last)?;
            return Ok(false);
        }
        // The text after `AUTH ` is taken from the line before smtp-proto parses it. Its parsed form cannot be
        // converted back: an unknown mechanism (SCRAM-SHA-512, or a custom one) becomes 0, and words after the initial
        // response are lost. Lines are also not read with its `RequestReceiver`, which accepts 4,096 octets, while AUTH
        // allows 12,288.
        if let Some(args) = auth_args(&line) {
            return self.auth(args);
        }
        line.push(b'\n');
        let reply = match Request::parse(&mut line.iter()) {
            Ok(Request::Ehlo { .. }) => return self.ehlo(),
            Ok(Request::Helo { .. }) => return self.send(b"250 mail.example.org\r\n"),
            Ok(Request::Mail { .. }) if self.identity.is_none() => Reply::AUTHENTICATION_REQUIRED,
            Ok(Request::Mail { .. }) => Reply::SENDER_OK,
            Ok(Request::Noop { .. } | Request::Rset) => Reply::OK,
            Ok(Request::Quit) => return self.reply(&Reply::CLOSING).map(|_| false),
            Ok(_) => Reply::NOT_IMPLEMENTED,
            Err(Unparsed::UnknownCommand | Unparsed::NeedsMoreData { .. }) => Reply::UNRECOGNIZED,
            // The error contains the client's input, which is not repeated in the reply.
            Err(_) => Reply::SYNTAX,
        };
        self.reply(&reply)
    }

    fn ehlo(&mut self) -> io::Result<bool> {
        self.extended = true;
        let (mut out, mut auth) = (b"250-mail.example.org\r\n".to_vec(), Vec::new());
        advertise(self.config, &CHANNEL, &mut auth);
        // The list may be empty, for example before STARTTLS.
        if !auth.is_empty() {
            out.extend([b"250-", &*auth, b"\r\n"].concat());
        }
        out.extend(b"250 ENHANCEDSTATUSCODES\r\n");
        self.send(&out)
    }

    fn auth(&mut self, args: &[u8]) -> io::Result<bool> {
        // RFC 4954 §4. A server that accepts mail without authentication also refuses AUTH during a transaction.
        if !self.extended || self.identity.is_some() {
            return self.reply(&Reply::BAD_SEQUENCE);
        }
        let mut exchange = Exchange::new(self.config, &CHANNEL, args);
        let mut out = Vec::new();
        let outcome = loop {
            match exchange.step(&mut out) {
                Step::NeedLine(pending) => {
                    self.send(&out)?;
                    out.clear();
                    // The exchange checks whether the line is `*`, too long, or not base64.
                    pending.line(&read_line(&mut self.socket)?);
                }
                Step::Query(query) => query.answer_with(&OneUser),
                Step::Done(outcome) => break outcome.cloned(),
            }
        };
        match outcome {
            Ok(identity) => self.identity = Some(identity),
            Err(failure) if failure.is_attempt() => {
                self.attempts += 1;
                thread::sleep(pause(self.attempts));
            }
            Err(_) => {}
        }
        self.send(&out)
    }

    fn reply(&mut self, reply: &Reply) -> io::Result<bool> {
        let mut out = Vec::new();
        reply.write(&mut out);
        self.send(&out)
    }

    /// Sends the octets, and returns `true` to continue.
    fn send(&mut self, octets: &[u8]) -> io::Result<bool> {
        self.socket.get_mut().write_all(octets).map(|()| true)
    }
}

/// Returns the text after `AUTH `, if the line is an AUTH command.
fn auth_args(line: &[u8]) -> Option<&[u8]> {
    let (verb, args) = line.split_at_checked("AUTH ".len())?;
    verb.eq_ignore_ascii_case(b"AUTH ").then_some(args)
}

/// Reads a line and removes its CRLF, which is the only line end (RFC 5321 §2.3.8). Of a line that is too long, one
/// octet more than allowed is kept. A line without an end closes the connection.
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
        ((ask.authcid() == "tim") & (ask.password() == "tanstaaftanstaaf")).into()
    }
}

/// Runs a client that sends these lines. Each reply must begin with the given text, and the connection must end after
/// the last one. `examples/own_client.rs` is a complete client.
fn dialogue(address: SocketAddr, lines: &[(&str, &str)]) -> Result<(), Box<dyn Error>> {
    let mut socket = BufReader::new(TcpStream::connect(address)?);
    socket.get_ref().set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.read_line(&mut String::new())?;
    for (line, expected) in lines {
        socket.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        let (mut reply, mut start) = (String::new(), 0);
        while socket.read_line(&mut reply)? > 0 && reply.get(start + 3..start + 4) == Some("-") {
            start = reply.len();
        }
        println!("  {} -> {}", line.get(..40).unwrap_or(line).escape_debug(), reply.escape_debug());
        if !reply.starts_with(expected) {
            return Err(format!("{expected:?} was expected").into());
        }
    }
    match socket.read_line(&mut String::new())? {
        0 => Ok(()),
        _ => Err("the connection is still open".into()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = Arc::new(Config::builder("mail.example.org").answered_by(&OneUser).build()?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || serve(&socket, &config));
        }
    });

    let ehlo = ("EHLO laptop.example.org", "250-mail.example.org\r\n250-AUTH PLAIN LOGIN\r\n250 ");
    let (mail, quit) = ("MAIL FROM:<tim@example.org>", ("QUIT", "221 "));
    println!("The right password, with PLAIN and with LOGIN");
    let plain = ("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm", "235 ");
    let twice = ("AUTH PLAIN", "503 ");
    dialogue(address, &[ehlo, (mail, "530 "), plain, twice, (mail, "250 "), quit])?;
    let (name, password) = (("dGlt", "334 "), ("dGFuc3RhYWZ0YW5zdGFhZg==", "235 "));
    dialogue(address, &[ehlo, ("AUTH LOGIN", "334 "), name, password, (mail, "250 "), quit])?;

    println!("A wrong password, with PLAIN and with LOGIN");
    dialogue(address, &[ehlo, ("AUTH PLAIN AHRpbQB3cm9uZw==", "535 "), (mail, "530 "), quit])?;
    let password = ("d3Jvbmc=", "535 ");
    dialogue(address, &[ehlo, ("AUTH LOGIN", "334 "), name, password, (mail, "530 "), quit])?;

    println!("Lines after which the server closes the connection");
    dialogue(address, &[(&format!("NOOP {}", "A".repeat(MAX_LINE)), "500 ")])?;
    dialogue(address, &[("NOOP\nNOOP", "500 ")])?;
    dialogue(address, &[("BDAT 7 LAST\r\nNOOP\r\n", "502 ")])?;

    println!("Attempts that do not authenticate");
    let lines = [
        ("AUTH PLAIN", "503 "), // before EHLO
        ehlo,
        ("AUTH", "501 "),
        ("AUTH UNKNOWN", "504 "), // like the line before, not counted as an attempt
        ("AUTH LOGIN", "334 "),
        ("*", "501 "),
        ("AUTH PLAIN", "334 "),
        (&"A".repeat(MAX_LINE + 1), "500 "),
        ("AUTH PLAIN", "334 "),
        (mail, "501 "), // taken as a response that is not base64
        ("AUTH PLAIN", "421 "),
    ];
    dialogue(address, &lines)
}
