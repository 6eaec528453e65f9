//! A server and a client on the standard library alone: sockets that block, a thread for each
//! connection.
//!
//! `cargo run --example blocking` starts the server on a free port, has the client sign in to it by
//! SCRAM and by CRAM-MD5, with the right password and with a wrong one, and hand over a message.
//! `cargo run --example blocking -- --listen 127.0.0.1:2525` only serves: user "tim", password
//! "tanstaaftanstaaf".
//!
//! There is no TLS here, so the server offers what never sends the password, and anyone on the way can
//! read the mail. TLS begins where `Event::StartTls` is shown, on both sides: send what was
//! appended, wrap the socket, call `tls_started`, go on with the wrapped socket.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

use std::{
    env,
    error::Error,
    io::{self, ErrorKind, Read, Write},
    mem,
    net::{SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use smtp_auth::{
    client::{self, AuthError, Envelope, Fate, Tls},
    command::{Command, Parameters},
    reply::Reply,
    sasl::{
        self, Answer, Authenticator, CramSecret, CramSecretFor, Mechanism, ScramHash, ScramKeys,
        ScramKeysFor, client::Credentials,
    },
    server::{Config, Event, Session, StartTls},
};

const MECHANISMS: [Mechanism; 2] = [Mechanism::ScramSha256, Mechanism::CramMd5];

/// Threads at a time, and so connections.
const MAX_CONNECTIONS: usize = 100;

/// How long a server waits for its client: five minutes at least (RFC 5321 §4.5.3.2.7).
const IDLE_TIME: Duration = Duration::from_secs(300);

/// How long a client may take to sign in: one that sends an octet now and then is never idle.
const SIGN_IN_TIME: Duration = Duration::from_secs(60);

/// How long the client waits for its server. A real one waits for minutes (RFC 5321 §4.5.3.2).
const CLIENT_TIME: Duration = Duration::from_secs(10);

/// Messages are in memory here, and so many octets of one at most.
const MAX_MESSAGE: u64 = 1 << 20;

const MESSAGE: &[u8] =
    b"From: tim@example.org\r\nTo: ann@example.org\r\nSubject: From a thread\r\n\r\n\
    Hello.\r\n.\r\nThis stands behind a dot that ends nothing.\r\n";

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
            let (_, messages) = start(&address)?;
            for message in messages {
                println!("a message of {} octets", message.len());
            }
            Ok(())
        }
        _ => Err("the one option is --listen ADDRESS:PORT".into()),
    }
}

fn demo() -> Result<(), Box<dyn Error>> {
    let (address, messages) = start("127.0.0.1:0")?;
    for mechanism in MECHANISMS {
        println!("\nThe right password, by {mechanism}");
        match send(address, mechanism, "tanstaaftanstaaf")? {
            Fate::Accepted(_) if messages.recv_timeout(CLIENT_TIME)? == MESSAGE => {}
            other => return Err(format!("the message has not come over: {other}").into()),
        }
        println!("\nA wrong password, by {mechanism}");
        match send(address, mechanism, "a guess") {
            Err(error) if is_refusal(&*error) => {}
            Err(error) => return Err(error),
            Ok(_) => return Err("a wrong password was taken".into()),
        }
    }
    println!("\nAll went as it should.");
    Ok(())
}

fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(client::Error::NotAuthenticated(AuthError::Refused(_))))
}

/// Begins to serve. Returns where, and what receives the messages.
fn start(address: &str) -> Result<(SocketAddr, Receiver<Vec<u8>>), Box<dyn Error>> {
    let offered = sasl::server::Config::new("mail.example.org")?.mechanisms(&MECHANISMS)?;
    let config = Config::new(offered).starttls(StartTls::Off).max_message(MAX_MESSAGE);
    let (config, users) = (Arc::new(config), Arc::new(Tim::new("tanstaaftanstaaf")?));
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    // Where messages come faster than they are taken away, their senders wait.
    let (queue, messages) = mpsc::sync_channel(10);
    thread::spawn(move || accept(&listener, &config, &users, &queue));
    Ok((address, messages))
}

fn accept(
    listener: &TcpListener,
    config: &Arc<Config>,
    users: &Arc<Tim>,
    queue: &SyncSender<Vec<u8>>,
) {
    // Each thread holds one of these; this is one, too.
    let places = Arc::new(());
    for socket in listener.incoming() {
        let Ok(mut socket) = socket else {
            // Out of file numbers, say. Some come back when others leave.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if Arc::strong_count(&places) > MAX_CONNECTIONS {
            let mut out = Vec::new();
            Reply::SHUTTING_DOWN.with_text("Too many connections, try again later").write(&mut out);
            // A new socket takes a line. Where it does not, the client is gone.
            let _ = socket.write_all(&out);
            continue;
        }
        let (place, config, users) = (Arc::clone(&places), Arc::clone(config), Arc::clone(users));
        let queue = queue.clone();
        let serving = move || {
            if let Err(error) = serve(&mut socket, config, &*users, &queue) {
                println!("a connection broke: {error}");
            }
            drop(place);
        };
        if let Err(error) = thread::Builder::new().spawn(serving) {
            println!("no thread for a connection: {error}");
        }
    }
}

/// Serves one client until it leaves.
fn serve(
    socket: &mut TcpStream,
    config: Arc<Config>,
    users: &dyn Authenticator,
    queue: &SyncSender<Vec<u8>>,
) -> io::Result<()> {
    socket.set_read_timeout(Some(IDLE_TIME))?;
    socket.set_write_timeout(Some(IDLE_TIME))?;
    // Replies are short and waited for.
    socket.set_nodelay(true)?;
    let (mut session, began) = (Session::new(config), Instant::now());
    let (mut out, mut buffer, mut message) = (Vec::new(), [0; 4096], Vec::new());
    loop {
        match session.next(&mut out) {
            Event::NeedInput => {
                socket.write_all(&out)?;
                out.clear();
                match socket.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(_) if session.identity().is_none() && began.elapsed() > SIGN_IN_TIME => {
                        session.close(&Reply::IDLE, &mut out);
                    }
                    Ok(n) => session.receive(buffer.get(..n).unwrap_or_default()),
                    Err(error) if is_timeout(&error) => session.close(&Reply::IDLE, &mut out),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Event::Query(query) => query.answer_with(users),
            Event::Authenticated(who) => println!("{} signed in", who.authcid()),
            Event::AuthFailed(failed) => {
                println!("not signed in: {failed}");
                // Nothing has been sent yet, so this delays the reply, and one who guesses.
                thread::sleep(failed.pause);
            }
            Event::Hello(_) => {}
            Event::Command(command, ask) => ask.reply(reply(command)),
            Event::Message(permission) => permission.accept(),
            Event::Data(piece) => message.extend_from_slice(piece),
            Event::EndOfData(ask) => ask.reply(match queue.send(mem::take(&mut message)) {
                Ok(()) => Reply::OK,
                Err(_) => Reply::LOCAL_ERROR,
            }),
            Event::Reset => message.clear(),
            // STARTTLS is off: only `Close` is shown.
            Event::StartTls | Event::Close => return socket.write_all(&out),
        }
    }
}

/// What a socket's timeout is called depends on the system.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Takes every sender and recipient. A real server asks here whether this user may send as that one.
fn reply(command: Command<'_>) -> Reply {
    // What EHLO offers, so that a client may ask for it.
    let offered = ["SIZE", "BODY", "AUTH"];
    let known = |parameters: Parameters<'_>, names: &[&str]| {
        let named = |name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        parameters.iter().all(|parameter| named(parameter.name()))
    };
    match command {
        Command::Mail(mail) if known(mail.parameters(), &offered) => Reply::SENDER_OK,
        Command::Rcpt(rcpt) if known(rcpt.parameters(), &[]) => Reply::RECIPIENT_OK,
        Command::Mail(_) | Command::Rcpt(_) => Reply::PARAMETER_NOT_RECOGNIZED,
        Command::Vrfy(_) => Reply::CANNOT_VERIFY,
        Command::Unknown(_) => Reply::UNRECOGNIZED,
        _ => Reply::NOT_IMPLEMENTED,
    }
}

/// The one account, by what it takes to check either mechanism. Neither is its password.
struct Tim {
    scram: ScramKeys,
    cram: CramSecret,
}

impl Tim {
    fn new(password: &str) -> Result<Self, Box<dyn Error>> {
        let scram = ScramKeys::generate(ScramHash::Sha256, password, 4096);
        let scram = scram.ok_or("no random numbers, or no password for SCRAM")?;
        Ok(Self { scram, cram: CramSecret::from_password(password) })
    }
}

/// Answers at once. What is not written here is refused: nobody acts as another.
impl Authenticator for Tim {
    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        (ask.authcid() == "tim").then(|| self.scram.clone()).into()
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        (ask.authcid() == "tim").then(|| self.cram.clone()).into()
    }
}

/// Signs in and hands over the message. Returns what the server made of it.
fn send(address: SocketAddr, mechanism: Mechanism, password: &str) -> Result<Fate, Box<dyn Error>> {
    let sasl = sasl::client::Config::default().mechanisms(&[mechanism])?;
    let config = client::Config::new("laptop.example.org")?.sasl(sasl).tls(Tls::Never);
    let mut session = client::Session::new(config, Credentials::password("tim", password)?);
    session.trace(|side, line| println!("  {side}: {line}"));
    let envelope =
        Envelope::new(Some("tim@example.org"), ["ann@example.org"])?.size(MESSAGE.len() as u64);

    let mut fate = None;
    let ended = converse(address, &mut session, envelope, &mut fate);
    // A message that was taken must not be sent again because QUIT failed.
    match (fate, ended) {
        (Some(fate), _) => Ok(fate),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err("the session ended too early".into()),
    }
}

fn converse(
    address: SocketAddr,
    session: &mut client::Session,
    envelope: Envelope,
    outcome: &mut Option<Fate>,
) -> Result<(), Box<dyn Error>> {
    let mut socket = TcpStream::connect_timeout(&address, CLIENT_TIME)?;
    socket.set_read_timeout(Some(CLIENT_TIME))?;
    socket.set_write_timeout(Some(CLIENT_TIME))?;
    socket.set_nodelay(true)?;
    let (mut envelope, mut out, mut buffer) = (Some(envelope), Vec::new(), [0; 4096]);
    loop {
        match session.next(&mut out)? {
            client::Event::NeedInput => {
                socket.write_all(&out)?;
                out.clear();
                match socket.read(&mut buffer)? {
                    0 => session.eof()?,
                    n => session.receive(buffer.get(..n).unwrap_or_default()),
                }
            }
            client::Event::StartTls => return Err("TLS was not asked for".into()),
            client::Event::Derive(ask) => ask.run(), // PBKDF2, for SCRAM
            client::Event::Challenge(ask) => ask.fail(), // only a mechanism of our own would ask
            client::Event::AuthFailed(failed) => return Err(failed.error().into()),
            client::Event::Ready(ready) => match envelope.take() {
                Some(envelope) => ready.send(envelope),
                None => ready.quit(),
            },
            client::Event::Refused(_, reply) => println!("the recipient was refused: {reply}"),
            client::Event::Message(body) => {
                body.write(MESSAGE, &mut out)?;
                body.end(&mut out)?;
            }
            client::Event::Sent(fate) => *outcome = Some(fate.clone()),
            client::Event::Close => return Ok(()),
        }
    }
}
