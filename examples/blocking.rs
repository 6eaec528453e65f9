//! A server and a client that use only the standard library: blocking sockets, and a thread for each connection.
//!
//! `cargo run --example blocking` starts the server on a free port. The client authenticates with SCRAM, with the right
//! password and with a wrong one, and sends a message.
//!
//! There is no TLS here. The server therefore offers only a mechanism that does not send the password, and an
//! eavesdropper can read the mail. To add TLS on either side, handle `Event::StartTls`: send the pending output, wrap
//! the socket, call `tls_started`, and continue with the wrapped socket.

use std::{
    error::Error,
    io::{self, ErrorKind, Read, Write},
    mem,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{self, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use smtp_auth::{
    Answer, Authenticator, Credentials, Mechanism, Reply,
    client::{self, AuthError, Envelope, Outcome, Tls},
    command::Command,
    sasl::{self, ScramHash, ScramKeys, ScramKeysFor},
    server::{Config, Event, Session, StartTls},
};

/// The maximum number of simultaneous threads, and therefore of connections.
const MAX_CONNECTIONS: usize = 100;
const TOO_MANY: Reply = Reply::constant("421 4.3.2 Too many connections, try again later");

/// How long a client may take to authenticate. A client that sends an octet now and then never becomes idle.
const SIGN_IN_TIME: Duration = Duration::from_secs(60);

/// The time limit for each write, and for waiting for the message in this demonstration.
const PATIENCE: Duration = Duration::from_secs(30);

/// The maximum size of a message in octets, because messages are kept in memory here.
const MAX_MESSAGE: u64 = 1 << 20;

const MESSAGE: &[u8] =
    b"From: tim@example.org\r\nTo: ann@example.org\r\nSubject: From a thread\r\n\r\n\
    Hello.\r\n.\r\nThis line follows a dot that does not end the message.\r\n";

fn main() -> Result<(), Box<dyn Error>> {
    let keys = ScramKeys::generate(ScramHash::Sha256, "tanstaaftanstaaf", 4096);
    let tim = Arc::new(Tim(keys.ok_or("no random numbers are available")?));
    let offered = sasl::server::Config::builder("mail.example.org").answered_by(&*tim).build()?;
    let config = Config::builder("mail.example.org")
        .sasl(offered)
        .starttls(StartTls::Off)
        .max_message(MAX_MESSAGE)
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // If messages arrive faster than they are processed, their senders wait.
    let (queue, messages) = mpsc::sync_channel(10);
    thread::spawn(move || accept(&listener, &Arc::new(config), &tim, &queue));

    println!("The right password");
    let mut outcome = None;
    send(address, "tanstaaftanstaaf", &mut outcome)?;
    match outcome {
        Some(Outcome::Accepted { .. }) if messages.recv_timeout(PATIENCE)? == MESSAGE => {}
        other => return Err(format!("the message did not arrive: {other:?}").into()),
    }
    println!("A wrong password");
    let Err(error) = send(address, "a guess", &mut None) else {
        return Err("a wrong password was accepted".into());
    };
    match error.downcast_ref() {
        Some(client::Error::NotAuthenticated(AuthError::Refused(_))) => Ok(()),
        _ => Err(error),
    }
}

/// The only account: the keys for checking a SCRAM proof, which do not contain the password.
struct Tim(ScramKeys);

/// Answers immediately, from memory.
impl Authenticator for Tim {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256]
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        (ask.authcid() == "tim").then(|| self.0.clone()).into()
    }
}

fn accept(
    listener: &TcpListener,
    config: &Arc<Config>,
    users: &Arc<Tim>,
    queue: &SyncSender<Vec<u8>>,
) {
    // Each thread holds a clone of this value, so the count is one more than the number of threads.
    let places = Arc::new(());
    for socket in listener.incoming() {
        let Ok(mut socket) = socket else {
            // For example, no file descriptors are left. Some become free when other clients disconnect.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if Arc::strong_count(&places) > MAX_CONNECTIONS {
            let mut out = Vec::new();
            TOO_MANY.write(&mut out);
            // The buffer of a new socket has room for one line. An error means that the client has disconnected.
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
            println!("cannot start a thread for a connection: {error}");
        }
    }
}

/// Serves one client until the connection ends.
fn serve(
    socket: &mut TcpStream,
    config: Arc<Config>,
    users: &dyn Authenticator,
    queue: &SyncSender<Vec<u8>>,
) -> io::Result<()> {
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?; // the client waits for each short reply
    let (mut session, began) = (Session::new(config), Instant::now());
    let (mut out, mut message) = (Vec::new(), Vec::new());
    loop {
        match session.next(&mut out) {
            Event::NeedInput => {
                socket.write_all(&out)?;
                out.clear();
                socket.set_read_timeout(session.timeout())?;
                match session.receive_with(4096, |room| socket.read(room)) {
                    Ok(0) => return Ok(()),
                    Ok(_) if session.identity().is_none() && began.elapsed() > SIGN_IN_TIME => {
                        session.close(&Reply::IDLE, &mut out);
                    }
                    Ok(_) => {}
                    // The error kind of a timeout depends on the operating system.
                    Err(error) => match error.kind() {
                        ErrorKind::Interrupted => {}
                        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                            session.close(&Reply::IDLE, &mut out);
                        }
                        _ => return Err(error),
                    },
                }
            }
            Event::Query(query) => query.answer_with(users),
            Event::Authenticated(who) => println!("  {} signed in", who.authcid()),
            Event::AuthFailed(failed) => {
                println!("  not signed in: {failed}");
                // The reply has not been sent yet, so this delays it and slows down brute force.
                thread::sleep(failed.pause);
            }
            // A real server checks here whether this account may use the sender address, and whether the parameters are
            // supported.
            Event::Command(Command::Mail(_), ask) => ask.reply(Reply::SENDER_OK),
            Event::Command(Command::Rcpt(_), ask) => ask.reply(Reply::RECIPIENT_OK),
            Event::Command(_, ask) => ask.reply(Reply::NOT_IMPLEMENTED),
            Event::StartOfData(permission) => permission.accept(),
            Event::Data(piece) => message.extend_from_slice(piece),
            Event::EndOfData(ask) => ask.reply(match queue.send(mem::take(&mut message)) {
                Ok(()) => Reply::OK,
                Err(_) => Reply::LOCAL_ERROR,
            }),
            Event::Reset => message.clear(),
            Event::Hello(_) => {}
            // STARTTLS is off, so only `Close` occurs.
            Event::StartTls | Event::Close => return socket.write_all(&out),
        }
    }
}

/// Authenticates and sends the message. The outcome is known even if QUIT fails afterwards: a message that was accepted
/// must not be sent again.
fn send(
    address: SocketAddr,
    password: &str,
    outcome: &mut Option<Outcome>,
) -> Result<(), Box<dyn Error>> {
    let config = client::Config::builder("laptop.example.org").tls(Tls::Never).build()?;
    let mut session =
        client::Session::new(Arc::new(config), Credentials::password("tim", password)?);
    session.trace(|side, line| println!("  {side}: {line}"));
    let mut envelope = Some(Envelope::new(Some("tim@example.org"), ["ann@example.org"])?);
    let (mut socket, mut out) = (TcpStream::connect_timeout(&address, PATIENCE)?, Vec::new());
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    loop {
        match session.next(&mut out)? {
            client::Event::NeedInput => {
                socket.write_all(&out)?;
                out.clear();
                socket.set_read_timeout(session.timeout())?;
                if session.receive_with(4096, |room| socket.read(room))? == 0 {
                    session.eof()?;
                }
            }
            client::Event::StartTls => return Err("TLS was not requested".into()),
            client::Event::Derive(ask) => ask.run(), // PBKDF2 for SCRAM
            client::Event::Custom(ask) => ask.fail(), // only for custom mechanisms
            client::Event::NotAuthenticated(failed) => return Err(failed.error().into()),
            client::Event::Ready(ready) => match envelope.take() {
                Some(envelope) => ready.send(envelope.size(MESSAGE.len() as u64)),
                None => ready.quit(),
            },
            client::Event::Refused { recipient, refusal } => println!("{recipient}: {refusal}"),
            client::Event::Message(body) => {
                body.write(MESSAGE, &mut out)?;
                body.end(&mut out)?;
            }
            client::Event::Sent(sent) => *outcome = Some(sent.clone()),
            client::Event::Close => return Ok(()),
        }
    }
}
