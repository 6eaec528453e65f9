//! A non-blocking server. One thread learns from `mio` which of many connections are ready, and the slow account store
//! runs on other threads.
//!
//! `server.rs` contains the loop, and `workers.rs` contains the threads. The store is an ordinary `Authenticator`.
//!
//! `cargo run --example event_loop` shows two things. The server continues to serve other clients while a look-up is in
//! progress. It drops an answer that arrives too late, even if the client is waiting for the answer to another question
//! by then.
//!
//! There is no TLS here. PLAIN is allowed in cleartext because the connections do not leave this machine.

mod server;
mod workers;

use std::{
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

use mio::net::TcpListener;
use smtp_auth::{
    Answer, Authenticator, CheckPassword, Mechanism, sasl,
    server::{Config, StartTls},
};

/// The time limit of every wait in the demonstration.
const PATIENCE: Duration = Duration::from_secs(10);

/// AUTH as Tim and as Ann with the right password, and as Ann with a wrong one.
const TIM: &str = "AUTH PLAIN AHRpbQB0YW5zdGFhZg==";
const ANN: &str = "AUTH PLAIN AGFubgB0YW5zdGFhZg==";
const NOT_ANN: &str = "AUTH PLAIN AGFubgBndWVzcw==";
/// AUTH as a user for whom the store panics.
const PANIC: &str = "AUTH PLAIN AHBhbmljAHRhbnN0YWFm";

/// The accounts Tim and Ann. Each look-up of Ann lasts until the gate that is sent here is dropped, so the order of
/// events does not depend on a clock.
struct Accounts(Sender<Sender<()>>);

/// Called on the worker threads, where blocking is allowed. `answered_by` also calls it once, with a name for which it
/// does not block.
impl Authenticator for Accounts {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain]
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        assert_ne!(ask.authcid(), "panic", "this store panics");
        if ask.authcid() == "ann" {
            let (gate, opened) = mpsc::channel::<()>();
            let _ = self.0.send(gate).map(|()| opened.recv());
        }
        let known = matches!(ask.authcid(), "tim" | "ann");
        (known & (ask.password() == "tanstaaf")).into()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (gates, held) = mpsc::channel();
    let accounts = Accounts(gates);
    let offered = sasl::server::Config::builder("mail.example.org")
        .answered_by(&accounts)
        .allow_cleartext(true)
        .build()?;
    let config =
        Config::builder("mail.example.org").sasl(offered).starttls(StartTls::Off).build()?;
    let listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    let address = listener.local_addr()?;
    let (notes, log) = mpsc::channel();
    thread::spawn(move || server::serve(listener, config, accounts, notes));
    let mut silent = Peer::connect(address, "a silent client")?;

    println!("\nWhile Ann's look-up is in progress, Tim signs in and sends a message:");
    let mut ann = Peer::connect(address, "ann")?;
    ann.say(ANN)?;
    let gate = held.recv_timeout(PATIENCE)?;
    ann.say("NOOP")?;
    let mut tim = Peer::connect(address, "tim")?;
    for (line, code) in [
        (TIM, "235"),
        ("MAIL FROM:<tim@example.org>", "250"),
        ("RCPT TO:<ann@example.org>", "250"),
        ("DATA", "354"),
        ("Subject: Meanwhile\r\n\r\nHello.\r\n.", "250"),
    ] {
        tim.say(line)?;
        tim.hear(code)?;
    }
    drop(gate);
    ann.hear("235")?;
    ann.hear("250")?;

    println!("\nA look-up ends too late, after Ann has tried another password:");
    let mut ann = Peer::connect(address, "ann")?;
    ann.say(ANN)?;
    let right = held.recv_timeout(PATIENCE)?;
    ann.hear("454")?;
    ann.say(NOT_ANN)?;
    let wrong = held.recv_timeout(PATIENCE)?;
    // The first password was right, but its answer does not belong to the second attempt.
    drop(right);
    until(&log, "too late")?;
    drop(wrong);
    ann.hear("535")?;

    let mut tim = Peer::connect(address, "tim")?;
    println!("\nThe store panics once for each of its threads, and the threads continue:");
    for _ in 0..workers::WORKERS {
        tim.say(PANIC)?;
        tim.hear("454")?;
    }
    tim.say(TIM)?;
    tim.hear("235")?;

    println!("\nThe client that has been silent all the time is disconnected:");
    silent.hear("421")
}

/// Prints the server's log until it contains the given text.
fn until(log: &Receiver<String>, wanted: &str) -> Result<(), Box<dyn Error>> {
    loop {
        let note = log.recv_timeout(PATIENCE).map_err(|_| format!("not in the log: {wanted}"))?;
        println!("  {note}");
        if note.contains(wanted) {
            return Ok(());
        }
    }
}

/// A client that sends and receives line by line.
struct Peer {
    name: &'static str,
    socket: BufReader<TcpStream>,
}

impl Peer {
    fn connect(address: SocketAddr, name: &'static str) -> Result<Self, Box<dyn Error>> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut peer = Self { name, socket: BufReader::new(socket) };
        peer.hear("220")?;
        peer.say("EHLO laptop.example.org")?;
        peer.hear("250")?;
        Ok(peer)
    }

    fn say(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        Ok(self.socket.get_mut().write_all(format!("{line}\r\n").as_bytes())?)
    }

    /// Reads a reply, and checks its code.
    fn hear(&mut self, code: &str) -> Result<(), Box<dyn Error>> {
        loop {
            let mut line = String::new();
            // The longest line of a reply has 512 octets (RFC 5321 §4.5.3.1.5).
            self.socket.by_ref().take(512).read_line(&mut line)?;
            match line.strip_prefix(code) {
                None => return Err(format!("expected {code}, received {line:?}").into()),
                Some(text) if text.starts_with('-') => {}
                Some(_) => break,
            }
        }
        println!("  {} receives {code}", self.name);
        Ok(())
    }
}
