//! Adds AUTH to a client that has its own loop and its own reply parser: `cargo run --example own_client`.
//!
//! The client asks its user for a password or a token, depending on what the server offers. It then authenticates with
//! `auth::client::Exchange`, and prints the result as a sentence. `Mask` masks the secrets in its log. The server, on
//! loopback, also uses this crate.
//!
//! The example leaves out STARTTLS, the message, and an overall time limit, because they are not part of AUTH.

use std::{
    error::Error,
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use smtp_auth::{
    Mask, Side,
    auth::client::{Exchange, Failure, Step},
    reply::{self, ReplyRef},
    sasl::{
        self, Answer, Authenticator, Channel, CheckToken, Mechanism, ScramHash, ScramKeys,
        ScramKeysFor, TokenAnswer,
        client::{Config, Credentials},
    },
    server,
};

/// How long to wait for a reply (RFC 5321 §4.5.3.2).
const TIMEOUT: Duration = Duration::from_secs(300);

/// The maximum length of a reply in octets, which is the most that `ReplyRef::from_lines` accepts.
const MAX_REPLY: u64 = 65_536;

/// Loopback is treated as TLS here. A client that connects to other machines uses `Channel::cleartext()` until
/// STARTTLS.
const CHANNEL: Channel = Channel::tls();

/// A reply as the client's own parser represents it: the text of each line, without code and CRLF.
struct Reply {
    code: u16,
    lines: Vec<String>,
}

struct Client {
    socket: BufReader<TcpStream>,
    mask: Mask,
    log: Vec<String>,
}

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { socket: BufReader::new(socket), mask: Mask::new(), log: Vec::new() })
    }

    /// Sends a line, and reads the reply.
    fn ask(&mut self, line: &[u8]) -> io::Result<Reply> {
        self.log(Side::Client, line);
        self.socket.get_mut().write_all(line)?;
        self.read_reply()
    }

    fn read_reply(&mut self) -> io::Result<Reply> {
        let (mut room, mut code, mut lines) = (MAX_REPLY, None, Vec::new());
        loop {
            let mut line = Vec::new();
            room -= (&mut self.socket).take(room).read_until(b'\n', &mut line)? as u64;
            self.log(Side::Server, &line);
            let line = String::from_utf8_lossy(&line);
            // A line without an end was cut off.
            let line = line.strip_suffix("\r\n").ok_or(ErrorKind::UnexpectedEof)?;
            let (digits, text) = line.split_at_checked(3).ok_or(ErrorKind::InvalidData)?;
            let own: u16 = digits.parse().map_err(|_| ErrorKind::InvalidData)?;
            // All lines have the same code (RFC 5321 §4.2.1).
            if *code.get_or_insert(own) != own {
                return Err(ErrorKind::InvalidData.into());
            }
            lines.push(text.get(1..).unwrap_or_default().to_owned());
            match text.chars().next() {
                Some('-') => {}
                None | Some(' ') => return Ok(Reply { code: own, lines }),
                Some(_) => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Logs a line as the mask returns it: it contains no password, no token, and no reply that repeats one.
    fn log(&mut self, side: Side, line: &[u8]) {
        if let Some(shown) = self.mask.line(side, line) {
            println!("  {side}: {shown}");
            self.log.push(format!("{side}: {shown}"));
        }
    }

    /// Reads the greeting, sends EHLO, and returns the text of the AUTH line, or an empty text if there is none.
    fn greet(&mut self) -> io::Result<String> {
        if self.read_reply()?.code != 220 {
            return Err(io::Error::other("the server is not ready"));
        }
        let ehlo = self.ask(b"EHLO laptop.example.org\r\n")?;
        let is_auth = |line: &&String| {
            line.split(' ').next().is_some_and(|keyword| keyword.eq_ignore_ascii_case("AUTH"))
        };
        // The first line contains the server's name, not a keyword.
        Ok(ehlo.lines.iter().skip(1).find(is_auth).cloned().unwrap_or_default())
    }

    /// Authenticates. An error is a sentence for the user.
    fn sign_in(&mut self, user: &User) -> Result<(), Box<dyn Error>> {
        let (config, offered) = (Config::default(), self.greet()?);
        // The preferred mechanism decides what the user is asked for. If none is usable, the error states the reason.
        let usable = config.usable(&CHANNEL, &offered)?;
        let credentials = match usable.first() {
            Some(preferred) if preferred.takes_token() => {
                Credentials::token(user.name, user.asked_for_token()?)?
            }
            _ => Credentials::password(user.name, user.asked_for_password()?)?,
        };
        let mechanism = config.choose(&credentials, &CHANNEL, &offered)?;
        let mut exchange = Exchange::new(&config, &CHANNEL, mechanism, credentials);
        let mut out = Vec::new(); // contains secrets: zero it after use, with the crate `zeroize`
        loop {
            match exchange.step(&mut out) {
                Step::NeedReply(pending) => {
                    let reply = self.ask(&out)?;
                    out.clear();
                    let lines: Vec<_> = reply.lines.iter().map(String::as_bytes).collect();
                    pending.reply(ReplyRef::from_lines(reply.code, &lines)?);
                }
                Step::Derive(work) => work.run(), // PBKDF2 for SCRAM; `job` moves it to another thread
                Step::Custom(ask) => ask.fail(),  // only for custom mechanisms
                Step::Done(outcome) => return outcome.map_err(|failure| sentence(failure).into()),
            }
        }
    }
}

/// Returns a sentence for the user. `Display` leaves out a text that may repeat the password, and points out when it
/// quotes a server that has not proven its identity.
fn sentence(failure: &Failure) -> String {
    match failure {
        Failure::Refused { reply, .. } if reply.code() == 535 => {
            format!(
                "The server does not accept this user name with this password or token: {failure}"
            )
        }
        Failure::Refused { reply, .. } if reply.is_transient() => {
            format!("The server cannot check this now, try again later: {failure}")
        }
        Failure::FalseSuccess(why) => {
            format!("This may be an impostor, and not your server: {why}.")
        }
        other => format!("Signing in failed: {other}."),
    }
}

/// The user of the program, with what they would type.
struct User {
    name: &'static str,
    password: Option<&'static str>,
    token: Option<&'static str>,
}

impl User {
    fn asked_for_password(&self) -> Result<&'static str, &'static str> {
        println!("  (the user is asked for a password)");
        self.password.ok_or("No password was given.")
    }

    fn asked_for_token(&self) -> Result<&'static str, &'static str> {
        println!("  (the user is asked for a token)");
        self.token.ok_or("No token was given.")
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let keys = ScramKeys::generate(ScramHash::Sha256, "tanstaaftanstaaf", 4096);
    let tim = Arc::new(Tim(keys.ok_or("the password cannot be prepared")?));
    let passwords = start(&tim, &[Mechanism::ScramSha256])?;
    let tokens = start(&tim, &[Mechanism::OauthBearer])?;

    let user = |password, token| User { name: "tim", password, token };
    let refused = "The server does not accept this user name with this password or token: ";
    for (server, user, expected) in [
        (passwords, user(Some("tanstaaftanstaaf"), None), "You are signed in."),
        (passwords, user(Some("wrong"), None), refused),
        (tokens, user(None, Some("4b1p")), "You are signed in."),
        (tokens, user(None, Some("expired")), refused),
        (tokens, user(Some("tanstaaftanstaaf"), None), "No token was given."),
    ] {
        let mut client = Client::connect(server)?;
        let said = match client.sign_in(&user) {
            Ok(()) => "You are signed in.".to_owned(),
            Err(error) => error.to_string(),
        };
        println!("{said}\n");
        if !said.starts_with(expected) {
            return Err(format!("{expected:?} was expected").into());
        }
        let shows = |line: &String| line.contains("AUTH OAUTHBEARER ") && !line.ends_with(" ***");
        if client.log.iter().any(shows) {
            return Err("the token is in the log".into());
        }
    }
    Ok(())
}

/// The server's only account: the keys for checking a SCRAM proof, and a token.
struct Tim(ScramKeys);

impl Authenticator for Tim {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256, Mechanism::OauthBearer]
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        (ask.authcid() == "tim").then(|| self.0.clone()).into()
    }

    fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        (ask.token() == "4b1p").then(|| "tim".to_owned()).into()
    }
}

/// Starts a server that offers these mechanisms, and returns its address.
fn start(tim: &Arc<Tim>, mechanisms: &[Mechanism]) -> Result<SocketAddr, Box<dyn Error>> {
    let sasl = sasl::server::Config::builder("mail.example.org").mechanisms(mechanisms).build()?;
    let config = Arc::new(server::Config::builder("mail.example.org").sasl(sasl).build()?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, tim) = (listener.local_addr()?, Arc::clone(tim));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            if let Err(error) = serve(socket, server::Session::new(Arc::clone(&config)), &tim) {
                println!("a connection broke: {error}");
            }
        }
    });
    Ok(address)
}

/// Serves one connection at a time, which is enough for this client. `examples/blocking.rs` is a complete server.
fn serve(mut socket: TcpStream, mut session: server::Session, tim: &Tim) -> io::Result<()> {
    session.tls_started(CHANNEL);
    let mut out = Vec::new();
    loop {
        match session.next(&mut out) {
            server::Event::NeedInput => {
                socket.write_all(&out)?;
                out.clear();
                if session.receive_with(4096, |room| socket.read(room))? == 0 {
                    return Ok(());
                }
            }
            server::Event::Query(query) => query.answer_with(tim),
            server::Event::AuthFailed(failed) => thread::sleep(failed.pause),
            server::Event::Command(_, ask) => ask.reply(reply::Reply::NOT_IMPLEMENTED),
            server::Event::StartOfData(ask) => ask.refuse(reply::Reply::NOT_IMPLEMENTED),
            server::Event::EndOfData(ask) => ask.reply(reply::Reply::NOT_IMPLEMENTED),
            server::Event::StartTls | server::Event::Close => return socket.write_all(&out),
            _ => {} // notifications
        }
    }
}
