//! A server on tokio whose store answers with `.await`: `cargo run --example async_server`.
//!
//! The store is a task that owns the accounts, as a connection to a database would be, and takes its time. The task of
//! a client waits for it, and those of the others go on. Clients on loopback authenticate, with the right password and
//! with a wrong one, and send in their own name and in another's.
//!
//! There is no TLS here, and passwords are taken without, which is for loopback alone. TLS begins where
//! `Event::StartTls` is pending: send what was appended, wrap the socket, call `tls_started`, go on with the wrapped
//! socket. `examples/server` does so.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

use std::{collections::HashMap, error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use smtp_auth::{
    Advance, Secret,
    command::{Command, Mail},
    reply::Reply,
    sasl::{self, Answer, AsyncAuthenticator, CheckPassword, Identity, Mechanism},
    server::{Config, Event, Session, StartTls},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

/// Connections at a time.
const MAX_CONNECTIONS: usize = 100;

/// How long a client may take to authenticate: one that sends an octet now and then is never idle.
const SIGN_IN_TIME: Duration = Duration::from_secs(60);

/// How long the store may take.
const STORE_TIME: Duration = Duration::from_secs(10);

/// How long a client's dialogue may take, with the pauses after failed attempts.
const CLIENT_TIME: Duration = Duration::from_secs(20);

/// Messages are in memory here, and so many octets of one at most.
const MAX_MESSAGE: u64 = 1 << 20;

const NOT_ITS_OWN: Reply = Reply::constant("553 5.7.1 This account may not send from that address");

/// Whether that is the account's password, and where to send the answer.
struct Question {
    account: String,
    password: Secret,
    answer: oneshot::Sender<bool>,
}

/// The way to the task that has the accounts.
#[derive(Clone)]
struct Store(mpsc::Sender<Question>);

impl Store {
    fn start() -> Self {
        let (questions, mut asked) = mpsc::channel::<Question>(100);
        tokio::spawn(async move {
            let accounts = HashMap::from([("tim", Secret::new("tanstaaftanstaaf"))]);
            let nobody = Secret::new("");
            while let Some(question) = asked.recv().await {
                // A database's time, and Argon2's, which a thread of its own computes.
                sleep(Duration::from_millis(5)).await;
                // An account that does not exist takes as long as one that does.
                let account = accounts.get(&*question.account);
                let is_right = question.password == *account.unwrap_or(&nobody);
                let _ = question.answer.send(account.is_some() & is_right);
            }
        });
        Self(questions)
    }

    /// `None` where the store cannot tell.
    async fn is_password(&self, account: &str, password: &Secret) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        let question = Question { account: account.into(), password: password.clone(), answer };
        self.0.send(question).await.ok()?;
        answered.await.ok()
    }
}

impl AsyncAuthenticator for Store {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain]
    }

    async fn check_password(&self, ask: &CheckPassword) -> Answer {
        match timeout(STORE_TIME, self.is_password(ask.authcid(), ask.password())).await {
            Ok(Some(right)) => right.into(),
            _ => Answer::temp_fail(), // and a line in the log
        }
    }
}

/// A task for each connection. What is in excess is closed.
async fn accept(listener: TcpListener, config: Arc<Config>, store: Store) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await; // no file descriptor is left
            continue;
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let (session, store) = (Session::new(Arc::clone(&config)), store.clone());
            tokio::spawn(async move {
                if let Err(error) = serve(socket, session, &store).await {
                    println!("  a connection broke: {error}");
                }
                drop(place);
            });
        }
    }
}

/// Serves one client until it leaves.
async fn serve(mut socket: TcpStream, mut session: Session, store: &Store) -> io::Result<()> {
    session.trace(|side, line| println!("  {side}: {line}")); // with everything secret masked
    let (mut out, mut message) = (Vec::new(), Vec::new());
    let sign_in_until = Instant::now() + SIGN_IN_TIME;
    loop {
        while session.advance(&mut out) == Advance::NeedInput {
            let idle_until = Instant::now() + session.timeout().unwrap_or(SIGN_IN_TIME);
            let until = match session.identity() {
                None => idle_until.min(sign_in_until),
                Some(_) => idle_until,
            };
            match timeout_at(until, send_and_receive(&mut socket, &mut session, &mut out)).await {
                Ok(Ok(0)) => return Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => session.close(&Reply::IDLE, &mut out),
            }
        }
        match session.pending() {
            Event::Query(query) => query.answer_with_async(store).await,
            // Nothing has been sent yet, so this delays the reply, and whoever guesses.
            Event::AuthFailed(failed) => sleep(failed.pause).await,
            Event::Command(Command::Mail(mail), ask) => {
                let reply = reply_to_mail(&mail, ask.identity());
                ask.reply(reply);
            }
            Event::Command(Command::Rcpt(_), ask) => ask.reply(Reply::RECIPIENT_OK),
            Event::Command(_, ask) => ask.reply(Reply::NOT_IMPLEMENTED),
            Event::StartOfData(permission) => permission.accept(),
            Event::Data(piece) => message.extend_from_slice(piece),
            Event::EndOfData(ask) => {
                println!("  a message of {} octets has come", message.len());
                message.clear();
                ask.reply(Reply::OK);
            }
            Event::Reset => message.clear(),
            Event::NeedInput | Event::Hello(_) | Event::Authenticated(_) => {}
            // STARTTLS is off: only `Close` is pending here.
            Event::StartTls | Event::Close => {
                return timeout(SIGN_IN_TIME, socket.write_all(&out)).await?;
            }
        }
    }
}

/// Sends what was appended, and takes the next octets: how many, 0 at the end of the stream. An idle connection holds
/// no buffer.
async fn send_and_receive(
    socket: &mut TcpStream,
    session: &mut Session,
    out: &mut Vec<u8>,
) -> io::Result<usize> {
    socket.write_all(out).await?;
    out.clear();
    loop {
        socket.readable().await?;
        match session.receive_with(4096, |room| socket.try_read(room)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

/// Each account has one address, of its name, and may send without one, as delivery reports are. A real server looks
/// at the parameters, too.
fn reply_to_mail(mail: &Mail<'_>, who: Option<&Identity>) -> Reply {
    let account = who.map_or("", |who| who.acts_as());
    let may = mail.from().is_none_or(|from| {
        from.local_part().eq_ignore_ascii_case(account)
            && from.domain().is_some_and(|domain| domain.eq_ignore_ascii_case("example.org"))
    });
    if may { Reply::SENDER_OK } else { NOT_ITS_OWN }
}

/// A client that says these lines, each of which has to have a reply that begins so.
async fn dialogue(
    address: SocketAddr,
    lines: &[(&str, &str)],
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut socket = BufReader::new(TcpStream::connect(address).await?);
    let mut lines = lines.iter();
    let mut expected = "220 ";
    loop {
        let mut reply = String::new();
        while reply.is_empty() || reply.get(3..4) == Some("-") {
            reply.clear();
            if socket.read_line(&mut reply).await? == 0 {
                return Err("the server has gone away".into());
            }
        }
        if !reply.starts_with(expected) {
            return Err(format!("{expected:?} was expected, and not {reply:?}").into());
        }
        let Some((line, reply)) = lines.next() else { return Ok(()) };
        socket.write_all(format!("{line}\r\n").as_bytes()).await?;
        expected = reply;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let store = Store::start();
    let sasl = sasl::server::Config::builder("mail.example.org").answered_by_async(&store).await;
    let config = Config::builder("mail.example.org")
        .sasl(sasl.allow_cleartext(true).build()?) // loopback alone
        .starttls(StartTls::Off)
        .max_message(MAX_MESSAGE)
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(accept(listener, Arc::new(config), store));

    println!("The right password, the account's own sender and a foreign one");
    let lines = [
        ("EHLO laptop.example.org", "250 "),
        ("MAIL FROM:<tim@example.org>", "530 "),
        ("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm", "235 "),
        ("MAIL FROM:<ann@example.org>", "553 "),
        ("MAIL FROM:<tim@example.org>", "250 "),
        ("RCPT TO:<ann@example.org>", "250 "),
        ("DATA", "354 "),
        ("Subject: Hello\r\n\r\nFrom a task.\r\n.", "250 "),
        ("QUIT", "221 "),
    ];
    timeout(CLIENT_TIME, dialogue(address, &lines)).await??;

    println!("A wrong password, and an account that does not exist");
    let lines = [
        ("EHLO laptop.example.org", "250 "),
        ("AUTH PLAIN AHRpbQB3cm9uZw==", "535 "),
        ("AUTH PLAIN AG5vYm9keQB3cm9uZw==", "535 "),
        ("MAIL FROM:<tim@example.org>", "530 "),
        ("QUIT", "221 "),
    ];
    timeout(CLIENT_TIME, dialogue(address, &lines)).await?
}
