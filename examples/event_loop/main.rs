//! A server that waits for nothing: `mio` tells one thread what is ready among many connections, and
//! the store of accounts, which takes its time, is asked on other threads.
//!
//! `server.rs` is the loop, `store.rs` the store. `cargo run --example event_loop` starts them on a
//! free port, and has clients show what a deferred look-up is about: another client is served
//! meanwhile, and an answer that nobody waits for any more is thrown away, though another client is in
//! the place of the one that it was for. `cargo run --example event_loop -- --listen 127.0.0.1:2525`
//! only serves: users "tim" and "ann" with the passwords "tims" and "anns", and ann's look-ups take
//! 200 ms.
//!
//! There is no TLS here. PLAIN is allowed in cleartext all the same, as what is on the way stays
//! within this machine.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

mod server;
mod store;

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use smtp_auth::{
    client::{self, Envelope, Event, Fate, Tls},
    sasl::{self, Mechanism, client::Credentials},
    server::{Config, StartTls},
};

use crate::{
    server::{Limits, Note, Server},
    store::Store,
};

/// How long the demo waits for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// `AUTH PLAIN` as ann, with her password and with another.
const ANN: &str = "AUTH PLAIN AGFubgBhbm5z";
const NOT_ANN: &str = "AUTH PLAIN AGFubgBndWVzcw==";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("wrong: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => demo(),
        (Some("--listen"), Some(address)) => {
            let slow = || thread::sleep(Duration::from_millis(200));
            // As long as RFC 5321 §4.5.3.2.7 asks for.
            let limits =
                Limits { idle: Duration::from_secs(300), look_up: Duration::from_secs(30) };
            let (_, notes) = start(address.parse()?, limits, slow)?;
            notes.iter().for_each(|note| println!("{note}"));
            Err("the server has ended".into())
        }
        _ => Err("the one option is --listen ADDRESS:PORT".into()),
    }
}

/// Starts a server. Returns where, and its log.
fn start(
    address: SocketAddr,
    limits: Limits,
    slow: impl Fn() + Send + Sync + 'static,
) -> Result<(SocketAddr, Receiver<Note>), Box<dyn Error>> {
    let offered = sasl::server::Config::new("mail.example.org")?
        .mechanisms(&[Mechanism::ScramSha256, Mechanism::Plain])?
        .allow_cleartext(true);
    let config = Config::new(offered).starttls(StartTls::Off);
    let accounts = [("tim", "tims"), ("ann", "anns")];
    let store = Store::new(&accounts, config.sasl().clone(), slow).ok_or("no random numbers")?;
    let (notes, log) = mpsc::channel();
    let server = Server::new(address, config, store, limits, notes)?;
    let address = server.address()?;
    println!("listening on {address}");
    thread::spawn(move || {
        if let Err(error) = server.run() {
            println!("the server broke off: {error}");
        }
    });
    Ok((address, log))
}

fn demo() -> Result<(), Box<dyn Error>> {
    // Each of ann's look-ups ends when the demo drops its gate, so that no clock decides what is first.
    let (hold, gates) = mpsc::channel();
    let slow = move || {
        let (gate, opened) = mpsc::channel::<()>();
        let _ = hold.send(gate).map(|()| opened.recv());
    };
    let limits = Limits { idle: Duration::from_secs(4), look_up: Duration::from_secs(3) };
    let (address, notes) = start("127.0.0.1:0".parse()?, limits, slow)?;
    let log = Log(notes);
    let mut silent = Peer::connect(address)?;

    println!("\nWhile ann's look-up is under way, tim signs in and sends a message:");
    let mut ann = Peer::connect(address)?;
    ann.say(ANN)?;
    let gate = gates.recv_timeout(PATIENCE)?;
    // What she says meanwhile shows the server the same query once more.
    ann.say("NOOP")?;
    let fate = send(address)?;
    if !matches!(fate, Fate::Accepted(_)) {
        return Err(fate.to_string().into());
    }
    drop(gate);
    ann.hear("235")?;
    ann.hear("250")?;
    drop(ann);
    if gates.try_recv().is_ok() {
        return Err("the store was asked twice".into());
    }
    log.until(|note| matches!(note, Note::Message(..)))?;
    log.until(|note| matches!(note, Note::SignedIn(_, who) if who == "ann"))?;

    println!("\nShe goes away during a look-up, and one who guesses takes her place:");
    let mut ann = Peer::connect(address)?;
    ann.say(ANN)?;
    let (place, anns) = log.asked()?;
    let anns_gate = gates.recv_timeout(PATIENCE)?;
    drop(ann);
    log.until(|note| *note == Note::Closed(place))?;
    let mut guesser = Peer::connect(address)?;
    guesser.say(NOT_ANN)?;
    let (taken, guessers) = log.asked()?;
    let guessers_gate = gates.recv_timeout(PATIENCE)?;
    if taken != place {
        return Err("the place was not taken".into());
    }
    // Her password was right, but that answer is not for who waits there now.
    drop(anns_gate);
    log.until(|note| *note == Note::Late(place, anns))?;
    drop(guessers_gate);
    log.until(|note| *note == Note::Answered(place, guessers))?;
    guesser.hear("535")?;

    println!("\nA look-up is given up, she tries again, and only then the first answer comes:");
    let mut ann = Peer::connect(address)?;
    ann.say(ANN)?;
    let (place, first) = log.asked()?;
    let first_gate = gates.recv_timeout(PATIENCE)?;
    ann.hear("454")?;
    ann.say(ANN)?;
    let second_gate = gates.recv_timeout(PATIENCE)?;
    drop(first_gate);
    log.until(|note| *note == Note::Late(place, first))?;
    drop(second_gate);
    ann.hear("235")?;

    println!("\nWho has said nothing all the time is sent away:");
    silent.hear("421")?;
    println!("\nAll went as it should.");
    Ok(())
}

/// The server's log, shown as far as it was waited for.
struct Log(Receiver<Note>);

impl Log {
    fn until(&self, wanted: impl Fn(&Note) -> bool) -> Result<Note, Box<dyn Error>> {
        loop {
            let note = self.0.recv_timeout(PATIENCE).map_err(|_| "the server did not do it")?;
            println!("  {note}");
            if wanted(&note) {
                return Ok(note);
            }
        }
    }

    /// Who asked the store, and which question.
    fn asked(&self) -> Result<(usize, u64), Box<dyn Error>> {
        match self.until(|note| matches!(note, Note::Asked(..)))? {
            Note::Asked(place, serial) => Ok((place, serial)),
            other => Err(other.to_string().into()),
        }
    }
}

/// A client that says one line at a time, and may leave at any moment.
struct Peer(BufReader<TcpStream>);

impl Peer {
    fn connect(address: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let mut peer = Self(BufReader::new(connect(address)?));
        peer.hear("220")?;
        peer.say("EHLO laptop.example.org")?;
        peer.hear("250")?;
        Ok(peer)
    }

    fn say(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        Ok(self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())?)
    }

    /// Reads a reply, and wants that code.
    fn hear(&mut self, code: &str) -> Result<(), Box<dyn Error>> {
        loop {
            let mut line = String::new();
            // The longest line of a reply has 512 octets (RFC 5321 §4.5.3.1.5).
            self.0.by_ref().take(512).read_line(&mut line)?;
            match line.strip_prefix(code) {
                None => return Err(format!("{line:?} where {code} should stand").into()),
                Some(text) if text.starts_with('-') => {}
                Some(_) => return Ok(()),
            }
        }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, Box<dyn Error>> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Signs in as tim by SCRAM, and sends a message.
fn send(address: SocketAddr) -> Result<Fate, Box<dyn Error>> {
    let config = client::Config::new("laptop.example.org")?.tls(Tls::Never);
    let mut session = client::Session::new(config, Credentials::password("tim", "tims")?);
    let mut envelope = Some(Envelope::new(Some("tim@example.org"), ["ann@example.org"])?);
    let (mut socket, mut out, mut buffer) = (connect(address)?, Vec::new(), [0; 4096]);
    let mut outcome = None;
    loop {
        match session.next(&mut out)? {
            Event::NeedInput => {
                socket.write_all(&out)?;
                out.clear();
                match socket.read(&mut buffer)? {
                    0 => session.eof()?,
                    n => session.receive(buffer.get(..n).unwrap_or_default()),
                }
            }
            Event::Derive(ask) => ask.run(),
            Event::AuthFailed(failed) => return Err(failed.error().into()),
            Event::Ready(ready) => match envelope.take() {
                Some(envelope) => ready.send(envelope),
                None => ready.quit(),
            },
            Event::Message(body) => {
                body.write(b"Subject: Meanwhile\r\n\r\nHello.\r\n", &mut out)?;
                body.end(&mut out)?;
            }
            Event::Sent(fate) => outcome = Some(fate.clone()),
            Event::Close => return outcome.ok_or("the session ended too early".into()),
            Event::StartTls | Event::Challenge(_) | Event::Refused(..) => {
                return Err("this has no place here".into());
            }
        }
    }
}
