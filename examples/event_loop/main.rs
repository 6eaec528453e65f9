//! A server that waits for nothing: `mio` tells one thread what is ready among many connections, and
//! the store of accounts, which takes its time, is asked on other threads.
//!
//! `server.rs` is the loop, `workers.rs` the threads; the store is an `Authenticator` as any other.
//! `cargo run --example event_loop` shows what it is about: while a look-up is under way, another
//! client is served; and an answer that nobody waits for any more is thrown away, though the client
//! waits for the answer to another question.
//!
//! There is no TLS here. PLAIN is allowed in cleartext all the same, as what is on the way stays
//! within this machine.

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

/// How long the demonstration waits for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// As Tim and as Ann with the right password, and as Ann with another.
const TIM: &str = "AUTH PLAIN AHRpbQB0YW5zdGFhZg==";
const ANN: &str = "AUTH PLAIN AGFubgB0YW5zdGFhZg==";
const NOT_ANN: &str = "AUTH PLAIN AGFubgBndWVzcw==";
/// As one over whom the store panics.
const PANIC: &str = "AUTH PLAIN AHBhbmljAHRhbnN0YWFm";

/// Tim and Ann. Each look-up of Ann lasts until the gate that is sent here is dropped, so that no clock
/// decides what is first.
struct Accounts(Sender<Sender<()>>);

/// Called on the workers' threads, where it may wait, and by `answered_by` for nobody, where it does not.
impl Authenticator for Accounts {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain]
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        assert_ne!(ask.authcid(), "panic", "as a store may");
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
    let mut silent = Peer::connect(address, "one who is silent")?;

    println!("\nWhile Ann's look-up is under way, Tim signs in and sends a message:");
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

    println!("\nA look-up takes too long, she guesses another password, and only then it ends:");
    let mut ann = Peer::connect(address, "ann")?;
    ann.say(ANN)?;
    let right = held.recv_timeout(PATIENCE)?;
    ann.hear("454")?;
    ann.say(NOT_ANN)?;
    let wrong = held.recv_timeout(PATIENCE)?;
    // The first password was right, but that answer is not for the second.
    drop(right);
    until(&log, "too late")?;
    drop(wrong);
    ann.hear("535")?;

    let mut tim = Peer::connect(address, "tim")?;
    println!("\nThe store panics as often as there are threads for it, and they go on:");
    for _ in 0..workers::WORKERS {
        tim.say(PANIC)?;
        tim.hear("454")?;
    }
    tim.say(TIM)?;
    tim.hear("235")?;

    println!("\nWho has said nothing all the time is sent away:");
    silent.hear("421")
}

/// Shows the server's log until something is in it.
fn until(log: &Receiver<String>, wanted: &str) -> Result<(), Box<dyn Error>> {
    loop {
        let note = log.recv_timeout(PATIENCE).map_err(|_| format!("not in the log: {wanted}"))?;
        println!("  {note}");
        if note.contains(wanted) {
            return Ok(());
        }
    }
}

/// A client, line by line.
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

    /// Reads a reply, and wants that code.
    fn hear(&mut self, code: &str) -> Result<(), Box<dyn Error>> {
        loop {
            let mut line = String::new();
            // The longest line of a reply has 512 octets (RFC 5321 §4.5.3.1.5).
            self.socket.by_ref().take(512).read_line(&mut line)?;
            match line.strip_prefix(code) {
                None => return Err(format!("{line:?} where {code} should stand").into()),
                Some(text) if text.starts_with('-') => {}
                Some(_) => break,
            }
        }
        println!("  {} is told {code}", self.name);
        Ok(())
    }
}
