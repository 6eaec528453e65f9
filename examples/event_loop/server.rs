//! The event loop: one thread serves many connections without blocking.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read, Write},
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token, Waker,
    net::{TcpListener, TcpStream},
};
use smtp_auth::{
    Authenticator, Reply,
    command::Command,
    sasl::{Query, QueryJob},
    server::{Config, Event, Session},
};

use crate::workers::Workers;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

const MAX_CONNECTIONS: usize = 1000;
const TOO_MANY: Reply = Reply::constant("421 4.3.2 Too many connections, try again later");

/// While more octets than this are unsent, the server reads nothing, so a client that does not read its replies
/// receives no more of them.
const MAX_UNSENT: usize = 16 << 10;

/// How long a client may send nothing, or read nothing. It is short for the demonstration; RFC 5321 §4.5.3.2.7
/// recommends at least five minutes. A client that sends an octet now and then is never silent, so limit the time until
/// authentication as well, as `examples/blocking.rs` does.
const IDLE: Duration = Duration::from_secs(4);

/// The time limit of the store.
const LOOK_UP: Duration = Duration::from_secs(3);

/// What a connection is waiting for.
enum Wait {
    /// Octets from the client, or room to send it some.
    Client,
    /// The store's answer.
    Answer,
    /// The end of a pause.
    Pause,
}

struct Connection {
    token: Token,
    socket: TcpStream,
    session: Session,
    /// Output that has not been sent yet.
    out: Vec<u8>,
    wait: Wait,
    /// The time at which the wait ends.
    until: Instant,
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    config: Arc<Config>,
    connections: HashMap<Token, Connection>,
    last_token: usize,
    workers: Workers,
    log: Sender<String>,
}

/// Serves forever.
pub(crate) fn serve(
    mut listener: TcpListener,
    config: Config,
    users: impl Authenticator + Send + Sync + 'static,
    log: Sender<String>,
) -> io::Result<()> {
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let workers = Workers::start(users, Waker::new(poll.registry(), WAKER)?);
    let (config, connections) = (Arc::new(config), HashMap::new());
    Server { poll, listener, config, connections, last_token: 0, workers, log }.run()
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            // For many thousands of connections, keep their deadlines in order instead.
            let next = self.connections.values().map(|connection| connection.until).min();
            let wait = next.map(|until| until.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {
                        while let Ok((token, job)) = self.workers.answers.try_recv() {
                            self.answered(token, job);
                        }
                    }
                    token => self.socket_is_ready(token),
                }
            }
            let now = Instant::now();
            let due = self.connections.values().filter(|connection| connection.until <= now);
            for token in due.map(|connection| connection.token).collect::<Vec<_>>() {
                self.time_is_up(token);
            }
        }
    }

    /// Nothing is read during a look-up or a pause, which slows down a fast client. Octets that arrive meanwhile are
    /// read later.
    fn socket_is_ready(&mut self, token: Token) {
        if let Some(Connection { wait: Wait::Client, .. }) = self.connections.get(&token) {
            self.drive(token);
        }
    }

    /// Handles an answer of the store. The connection may have been closed, or it may have given up this look-up and
    /// begun another, which must not receive the answer to the first.
    fn answered(&mut self, token: Token, job: QueryJob) {
        let connection = self.connections.get_mut(&token);
        let query = connection.and_then(|connection| connection.session.query());
        if query.is_some_and(|query| query.answer_from(job)) {
            self.drive(token);
        } else {
            log(&self.log, token, "an answer came too late and is dropped");
        }
    }

    fn time_is_up(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match connection.wait {
            Wait::Pause => {}
            Wait::Answer => connection.session.query().into_iter().for_each(Query::temp_fail),
            // The client does not read.
            Wait::Client if !connection.out.is_empty() => return self.close(token),
            Wait::Client => connection.session.close(&Reply::IDLE, &mut connection.out),
        }
        self.drive(token);
    }

    fn drive(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match connection.go_on(&self.workers, &self.log) {
            Ok(Some((wait, longest))) => {
                connection.wait = wait;
                connection.until = Instant::now() + longest;
            }
            // An error ends only this connection.
            Ok(None) | Err(_) => self.close(token),
        }
    }

    fn close(&mut self, token: Token) {
        if let Some(mut connection) = self.connections.remove(&token) {
            let _ = self.poll.registry().deregister(&mut connection.socket);
        }
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept().map_err(|error| error.kind()) {
                // An error here concerns only this socket, which is closed when it is dropped.
                Ok((socket, _)) => drop(self.open(socket)),
                Err(ErrorKind::ConnectionAborted) => {}
                // No connection is waiting, or no file descriptors are left. In the second case the waiting connections
                // are accepted together with the next one.
                Err(_) => return,
            }
        }
    }

    fn open(&mut self, mut socket: TcpStream) -> io::Result<()> {
        let mut out = Vec::new();
        if self.connections.len() >= MAX_CONNECTIONS {
            TOO_MANY.write(&mut out);
            // The buffer of a new socket has room for one line. An error means that the client has disconnected.
            return socket.write_all(&out);
        }
        // The client waits for each short reply.
        socket.set_nodelay(true)?;
        // Tokens are not reused, so an event for a closed connection finds no connection.
        self.last_token += 1;
        let token = Token(self.last_token);
        // mio reports that a socket is writable only after a write would have blocked.
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, token, interest)?;
        let session = Session::new(Arc::clone(&self.config));
        let (wait, until) = (Wait::Client, Instant::now());
        self.connections.insert(token, Connection { token, socket, session, out, wait, until });
        self.drive(token);
        Ok(())
    }
}

impl Connection {
    /// Does everything that is possible without blocking. Returns what to wait for next and for how long at most, or
    /// `None` at the end of the connection.
    ///
    /// A client that sends continuously delays the others. A server for many clients should stop after a number of
    /// reads, and continue in the next round.
    fn go_on(
        &mut self,
        workers: &Workers,
        notes: &Sender<String>,
    ) -> io::Result<Option<(Wait, Duration)>> {
        loop {
            match self.session.next(&mut self.out) {
                Event::NeedInput => {
                    self.send()?;
                    if self.out.len() > MAX_UNSENT {
                        return Ok(Some((Wait::Client, IDLE)));
                    }
                    // A waiting connection has no input buffer.
                    match self.session.receive_with(4096, |room| self.socket.read(room)) {
                        Ok(0) => return Ok(None),
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            return Ok(Some((Wait::Client, IDLE)));
                        }
                        Err(error) => return Err(error),
                    }
                }
                Event::Query(query) => {
                    // There is no job for custom mechanisms, of which none is configured here.
                    if query.job().is_some_and(|job| workers.take(self.token, job)) {
                        return Ok(Some((Wait::Answer, LOOK_UP)));
                    }
                    query.temp_fail();
                }
                Event::Authenticated(who) => {
                    log(notes, self.token, &format!("signed in as {}", who.acts_as()));
                }
                Event::AuthFailed(failed) => {
                    log(notes, self.token, &format!("not signed in: {failed}"));
                    // The reply is sent only at the next `NeedInput`, so this delays it.
                    return Ok(Some((Wait::Pause, failed.pause)));
                }
                // A real server checks the addresses and parameters, and stores the message.
                Event::Command(Command::Mail(_), ask) => ask.reply(Reply::SENDER_OK),
                Event::Command(Command::Rcpt(_), ask) => ask.reply(Reply::RECIPIENT_OK),
                Event::Command(_, ask) => ask.reply(Reply::NOT_IMPLEMENTED),
                Event::StartOfData(permission) => permission.accept(),
                Event::EndOfData(ask) => ask.reply(Reply::OK),
                Event::Hello(_) | Event::Data(_) | Event::Reset => {}
                // STARTTLS is off, so only `Close` occurs.
                Event::StartTls | Event::Close => {
                    self.send()?;
                    return Ok((!self.out.is_empty()).then_some((Wait::Client, IDLE)));
                }
            }
        }
    }

    /// Sends as much as the socket accepts.
    fn send(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => drop(self.out.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn log(log: &Sender<String>, Token(n): Token, what: &str) {
    // Ignores the error if nobody reads the log.
    let _ = log.send(format!("connection {n}: {what}"));
}
