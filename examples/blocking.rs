//! A server and a client on the standard library alone: sockets that block, a thread for each
//! connection.
//!
//! `cargo run --example blocking` starts the server on a free port, and has the client sign in to it by
//! SCRAM, with the right password and with a wrong one, and hand over a message.
//!
//! There is no TLS here, so the server offers what never sends the password, and anyone on the way can
//! read the mail. TLS begins where `Event::StartTls` is shown, on both sides: send what was
//! appended, wrap the socket, call `tls_started`, go on with the wrapped socket.

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

/// Threads at a time, and so connections.
const MAX_CONNECTIONS: usize = 100;
const TOO_MANY: Reply = Reply::constant("421 4.3.2 Too many connections, try again later");

/// How long a client may take to authenticate: one that sends an octet now and then is never idle.
const SIGN_IN_TIME: Duration = Duration::from_secs(60);

/// How long a write may take, and this demonstration.
const PATIENCE: Duration = Duration::from_secs(30);

/// Messages are in memory here, and so many octets of one at most.
const MAX_MESSAGE: u64 = 1 << 20;

const MESSAGE: &[u8] =
    b"From: tim@example.org\r\nTo: ann@example.org\r\nSubject: From a thread\r\n\r\n\
    Hello.\r\n.\r\nThis stands behind a dot that ends nothing.\r\n";

fn main() -> Result<(), Box<dyn Error>> {
    let keys = ScramKeys::generate(ScramHash::Sha256, "tanstaaftanstaaf", 4096);
    let tim = Arc::new(Tim(keys.ok_or("there are no random numbers")?));
    let offered = sasl::server::Config::builder("mail.example.org").answered_by(&*tim).build()?;
    let config = Config::builder("mail.example.org")
        .sasl(offered)
        .starttls(StartTls::Off)
        .max_message(MAX_MESSAGE)
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // Where messages come faster than they are taken away, their senders wait.
    let (queue, messages) = mpsc::sync_channel(10);
    thread::spawn(move || accept(&listener, &Arc::new(config), &tim, &queue));

    println!("The right password");
    let mut outcome = None;
    send(address, "tanstaaftanstaaf", &mut outcome)?;
    match outcome {
        Some(Outcome::Accepted { .. }) if messages.recv_timeout(PATIENCE)? == MESSAGE => {}
        other => return Err(format!("the message has not come over: {other:?}").into()),
    }
    println!("A wrong password");
    let Err(error) = send(address, "a guess", &mut None) else {
        return Err("a wrong password was taken".into());
    };
    match error.downcast_ref() {
        Some(client::Error::NotAuthenticated(AuthError::Refused(_))) => Ok(()),
        _ => Err(error),
    }
}

/// The one account, by what it takes to check a proof, which is not its password.
struct Tim(ScramKeys);

/// Answers at once.
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
            TOO_MANY.write(&mut out);
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
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?; // replies are short and waited for
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
                    // What a socket's timeout is called depends on the system.
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
                // Nothing has been sent yet, so this delays the reply, and one who guesses.
                thread::sleep(failed.pause);
            }
            // A real server asks here whether this user may send as that one, and whether it knows the
            // parameters.
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
            // STARTTLS is off: only `Close` is shown.
            Event::StartTls | Event::Close => return socket.write_all(&out),
        }
    }
}

/// Signs in and hands over the message. What the server made of it is known even where QUIT fails: what
/// was taken must not be sent again.
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
            client::Event::StartTls => return Err("TLS was not asked for".into()),
            client::Event::Derive(ask) => ask.run(), // PBKDF2, for SCRAM
            client::Event::Custom(ask) => ask.fail(), // only a mechanism of our own would ask
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
