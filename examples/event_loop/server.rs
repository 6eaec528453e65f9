//! The loop: one thread, many connections, none of which it waits for.

use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token, Waker,
    event::Event as Readiness,
    net::{TcpListener, TcpStream},
};
use smtp_auth::{
    command::Command,
    reply::Reply,
    server::{Config, Event, Session},
};

use crate::store::{Asker, Found, Question, Store, Workers, put_off};

/// A connection's token is its place among them. These are no places.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

const MAX_CONNECTIONS: usize = 1000;

/// While more than that is not sent, nothing is read: who does not read its replies gets no more.
const MAX_UNSENT: usize = 16 << 10;

/// How often a connection is read before the others have their turn.
const READS: usize = 16;

/// How long a client may take to sign in: one that sends an octet now and then is never idle.
const SIGN_IN_TIME: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// How long the client may be silent, or not read.
    pub(crate) idle: Duration,
    /// How long a look-up may take.
    pub(crate) look_up: Duration,
}

/// What a log would have.
#[derive(Debug, PartialEq)]
pub(crate) enum Note {
    Opened(usize),
    Asked(usize, u64),
    Answered(usize, u64),
    /// An answer that nobody waits for any more.
    Late(usize, u64),
    SignedIn(usize, String),
    NotSignedIn(usize),
    Message(usize, u64),
    Closed(usize),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened(n) => write!(f, "connection {n}: opened"),
            Self::Asked(n, serial) => write!(f, "connection {n}: question {serial} to the store"),
            Self::Answered(n, serial) => write!(f, "connection {n}: question {serial} is answered"),
            Self::Late(n, serial) => {
                write!(f, "connection {n}: too late for question {serial}: thrown away")
            }
            Self::SignedIn(n, who) => write!(f, "connection {n}: signed in as {who:?}"),
            Self::NotSignedIn(n) => write!(f, "connection {n}: not signed in"),
            Self::Message(n, octets) => write!(f, "connection {n}: a message of {octets} octets"),
            Self::Closed(n) => write!(f, "connection {n}: closed"),
        }
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    /// Octets from the client, or room to send it some.
    Client,
    /// The store's answer to the query of that serial.
    Answer(u64),
    /// Its time: a pause, or another turn.
    Turn,
}

struct Connection {
    token: Token,
    socket: TcpStream,
    session: Session,
    /// What is to be sent, and could not be yet.
    out: Vec<u8>,
    interest: Interest,
    wait: Wait,
    /// When it has waited long enough.
    until: Instant,
    opened: Instant,
    /// How many octets the message has so far.
    message: u64,
}

pub(crate) struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    shared: Shared,
}

/// What all connections use.
struct Shared {
    config: Arc<Config>,
    limits: Limits,
    workers: Workers,
    notes: Sender<Note>,
}

impl Shared {
    fn note(&self, note: Note) {
        // Where nobody reads them, there is nobody to tell.
        let _ = self.notes.send(note);
    }
}

impl Server {
    pub(crate) fn new(
        address: SocketAddr,
        config: Config,
        store: Store,
        limits: Limits,
        notes: Sender<Note>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let workers = Workers::start(store, Waker::new(poll.registry(), WAKER)?);
        let shared = Shared { config: Arc::new(config), limits, workers, notes };
        Ok(Self { poll, listener, connections: Vec::new(), shared })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for ever.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            // With many thousands of connections, keep their times in order instead.
            let next = self.connections.iter().flatten().map(|connection| connection.until).min();
            let wait = next.map(|until| until.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                self.socket_is_ready(event);
            }
            while let Ok((asker, found)) = self.shared.workers.done.try_recv() {
                self.answered(asker, found);
            }
            self.time_is_up(Instant::now());
            // At last, so that none of the events above is for a connection that took over a place.
            if events.iter().any(|event| event.token() == LISTENER) {
                self.accept();
            }
        }
    }

    fn socket_is_ready(&mut self, event: &Readiness) {
        let Some(Some(connection)) = self.connections.get_mut(event.token().0) else { return };
        // A client says QUIT before it closes, and waits for the reply. One that has closed during a
        // look-up is gone, and as nothing is read meanwhile, nothing else would tell.
        if matches!(connection.wait, Wait::Answer(_)) && event.is_read_closed() {
            self.close(event.token());
        } else if connection.wait != Wait::Turn {
            self.drive(event.token());
        }
    }

    /// An answer has come. Its connection may be closed, and its place taken by another; or the
    /// connection may have given up this look-up, and have begun another. The serial tells.
    fn answered(&mut self, asker: Asker, found: Found) {
        let Asker { token, serial } = asker;
        let query = match self.connections.get_mut(token.0) {
            // Where no query is on show, `next` would move on, and what it shows once be lost.
            Some(Some(connection)) if connection.wait == Wait::Answer(serial) => {
                match connection.session.next(&mut connection.out) {
                    Event::Query(query) if query.serial() == serial => Some(query),
                    _ => None,
                }
            }
            _ => None,
        };
        match query {
            Some(query) => {
                found.settle(query);
                self.shared.note(Note::Answered(token.0, serial));
                self.drive(token);
            }
            None => self.shared.note(Note::Late(token.0, serial)),
        }
    }

    fn time_is_up(&mut self, now: Instant) {
        for place in 0..self.connections.len() {
            let Some(Some(connection)) = self.connections.get_mut(place) else { continue };
            if connection.until > now {
                continue;
            }
            if connection.time_is_up() {
                self.drive(Token(place));
            } else {
                self.close(Token(place));
            }
        }
    }

    fn drive(&mut self, token: Token) {
        let Some(Some(connection)) = self.connections.get_mut(token.0) else { return };
        match connection.drive(&self.shared, self.poll.registry()) {
            Ok(true) => {}
            // What is wrong with a connection, ends it and no more.
            Ok(false) | Err(_) => self.close(token),
        }
    }

    fn close(&mut self, token: Token) {
        if let Some(mut connection) = self.connections.get_mut(token.0).and_then(Option::take) {
            let _ = self.poll.registry().deregister(&mut connection.socket);
            self.shared.note(Note::Closed(token.0));
        }
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept().map_err(|error| error.kind()) {
                // An error here is one of that socket, which is closed thereby.
                Ok((socket, _)) => drop(self.open(socket)),
                Err(ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                // Nobody waits any more. Or there are no file numbers left: then those that wait are
                // let in with the next that knocks.
                Err(_) => return,
            }
        }
    }

    fn open(&mut self, mut socket: TcpStream) -> io::Result<()> {
        let free = self.connections.iter().position(Option::is_none);
        let place = free.unwrap_or(self.connections.len());
        if place >= MAX_CONNECTIONS {
            let mut out = Vec::new();
            Reply::SHUTTING_DOWN.with_text("Too many connections, try again later").write(&mut out);
            // A new socket takes a line. Where it does not, the client is gone.
            return socket.write_all(&out);
        }
        // Replies are short and waited for.
        socket.set_nodelay(true)?;
        let (token, interest) = (Token(place), Interest::READABLE);
        self.poll.registry().register(&mut socket, token, interest)?;
        let (session, opened) = (Session::new(Arc::clone(&self.shared.config)), Instant::now());
        let (wait, until, out, message) = (Wait::Client, opened, Vec::new(), 0);
        let connection =
            Connection { token, socket, session, out, interest, wait, until, opened, message };
        match self.connections.get_mut(place) {
            Some(free) => *free = Some(connection),
            None => self.connections.push(Some(connection)),
        }
        self.shared.note(Note::Opened(place));
        self.drive(token);
        Ok(())
    }
}

impl Connection {
    /// Does all that can be done without waiting. `false` at the end.
    fn drive(&mut self, shared: &Shared, registry: &mio::Registry) -> io::Result<bool> {
        let before = self.wait;
        let Some(wait) = self.go_on(shared)? else { return Ok(false) };
        self.wait = wait;
        let now = Instant::now();
        match wait {
            // It was asked before, and its time goes on.
            Wait::Answer(_) if wait == before => {}
            Wait::Answer(_) => self.until = now + shared.limits.look_up,
            Wait::Client if self.session.identity().is_none() => {
                self.until = (now + shared.limits.idle).min(self.opened + SIGN_IN_TIME);
            }
            Wait::Client => self.until = now + shared.limits.idle,
            Wait::Turn => {}
        }
        let interest = match self.out.is_empty() {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        };
        if interest != self.interest {
            registry.reregister(&mut self.socket, self.token, interest)?;
            self.interest = interest;
        }
        Ok(true)
    }

    /// What there is to wait for then; `None` at the end.
    fn go_on(&mut self, shared: &Shared) -> io::Result<Option<Wait>> {
        let (mut buffer, mut reads) = ([0; 4096], 0);
        let Token(n) = self.token;
        loop {
            match self.session.next(&mut self.out) {
                Event::NeedInput => {
                    send(&mut self.socket, &mut self.out)?;
                    if self.out.len() > MAX_UNSENT {
                        return Ok(Some(Wait::Client));
                    }
                    if reads == READS {
                        self.until = Instant::now();
                        return Ok(Some(Wait::Turn));
                    }
                    reads += 1;
                    match self.socket.read(&mut buffer) {
                        Ok(0) => return Ok(None),
                        Ok(n) => self.session.receive(buffer.get(..n).unwrap_or_default()),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            return Ok(Some(Wait::Client));
                        }
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Event::Query(query) => {
                    let serial = query.serial();
                    // On show again, since something else has happened: it was asked.
                    if self.wait == Wait::Answer(serial) {
                        return Ok(Some(self.wait));
                    }
                    // What the store cannot answer is whether one may act as another: nobody may.
                    let Some(question) = Question::of(&query) else {
                        query.reject();
                        continue;
                    };
                    if shared.workers.ask(Asker { token: self.token, serial }, question) {
                        shared.note(Note::Asked(n, serial));
                        return Ok(Some(Wait::Answer(serial)));
                    }
                    put_off(query);
                }
                Event::Authenticated(who) => {
                    shared.note(Note::SignedIn(n, who.acts_as().to_owned()));
                }
                Event::AuthFailed(failed) => {
                    shared.note(Note::NotSignedIn(n));
                    // The reply is not sent before `NeedInput`, which this delays.
                    self.until = Instant::now() + failed.pause;
                    return Ok(Some(Wait::Turn));
                }
                Event::Hello(_) => {}
                Event::Command(command, ask) => ask.reply(match command {
                    // A real server looks at the addresses here, and at the parameters.
                    Command::Mail(_) => Reply::SENDER_OK,
                    Command::Rcpt(_) => Reply::RECIPIENT_OK,
                    Command::Vrfy(_) => Reply::CANNOT_VERIFY,
                    Command::Unknown(_) => Reply::UNRECOGNIZED,
                    _ => Reply::NOT_IMPLEMENTED,
                }),
                Event::Message(permission) => {
                    self.message = 0;
                    permission.accept();
                }
                Event::Data(piece) => self.message += piece.len() as u64,
                Event::EndOfData(ask) => {
                    shared.note(Note::Message(n, self.message));
                    ask.reply(Reply::OK);
                }
                Event::Reset => {}
                // STARTTLS is off: only `Close` is shown.
                Event::StartTls | Event::Close => {
                    send(&mut self.socket, &mut self.out)?;
                    return Ok((!self.out.is_empty()).then_some(Wait::Client));
                }
            }
        }
    }

    /// It has waited long enough. Whether there is something to do but to close.
    fn time_is_up(&mut self) -> bool {
        match self.wait {
            Wait::Turn => true,
            // The client does not read.
            Wait::Client if !self.out.is_empty() => false,
            Wait::Client => {
                self.session.close(&Reply::IDLE, &mut self.out);
                true
            }
            Wait::Answer(_) => {
                if let Event::Query(query) = self.session.next(&mut self.out) {
                    put_off(query);
                }
                true
            }
        }
    }
}

/// Sends what the socket takes now.
fn send(socket: &mut TcpStream, out: &mut Vec<u8>) -> io::Result<()> {
    let mut sent = 0;
    let ended = loop {
        match out.get(sent..) {
            None | Some([]) => break Ok(()),
            Some(rest) => match socket.write(rest) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            },
        }
    };
    out.drain(..sent.min(out.len()));
    ended
}
