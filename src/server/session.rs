//! The state machine of the server.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{mem, time::Duration};

use super::{AuthFailed, Config, Event, Hello, PendingReply, Permission, StartTls};
use crate::{
    Advance, auth,
    command::{self, BadPath, Command, Mail},
    ehlo::{self, Keyword},
    line::{Error, Lines},
    message::Dots,
    reply::Reply,
    sasl::{Channel, Failure, Identity, Query},
    trace::{Side, Trace},
};

mod message;

use message::{Framing, Transaction};

/// The maximum length of a command line, without its CRLF. RFC 5321 §4.5.3.1.4 requires at least 510 octets, and some
/// clients send more.
const MAX_COMMAND: usize = 2048;

/// The server side of one connection, from the greeting until the connection ends. The [module documentation](super)
/// shows how to drive a session.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    channel: Channel,
    lines: Lines,
    state: State,
    greeted: Greeted,
    identity: Option<Box<Identity>>,
    attempts: u32,
    /// The number of commands that the client sent before it authenticated.
    commands: u32,
    transaction: Option<Transaction>,
    trace: Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeted {
    No,
    Helo,
    Ehlo,
}

/// The state of the session, including the answer to a pending event.
#[derive(Debug)]
enum State {
    /// The greeting has not been written yet.
    Start,
    /// The session waits for a command line.
    Idle,
    Hello,
    /// Boxed because it is much larger than the other states, and a session spends most of its time in those.
    Auth(Box<auth::server::Exchange>),
    /// The session waits for a line of the exchange.
    Response(Box<auth::server::Exchange>),
    Authenticated,
    /// The exchange has failed. If a token was refused, the reason has not been sent to the client yet.
    AuthFailed(Box<auth::server::Exchange>, After),
    /// A command, with its reply once the application has given it.
    Command(Option<Reply>),
    /// A message that the client wants to send, with the application's decision once it has been made.
    Permission(Option<Result<(), Reply>>, Framing),
    /// The session waits for the octets of a message. It passes them to the application, or, if there is a reply,
    /// discards them and then refuses the message with that reply.
    Body(Framing, Option<Box<Reply>>),
    /// A piece of a message is pending.
    Data(Framing),
    EndOfData(Option<Reply>),
    /// The transaction has ended, and the session continues as given.
    Reset(After),
    StartTls,
    Close,
}

#[derive(Debug, Clone, Copy)]
enum After {
    Idle,
    Hello,
    StartTls,
    Close,
}

impl From<After> for State {
    fn from(after: After) -> Self {
        match after {
            After::Idle => Self::Idle,
            After::Hello => Self::Hello,
            After::StartTls => Self::StartTls,
            After::Close => Self::Close,
        }
    }
}

impl Session {
    /// Creates a session for a connection that does not use TLS yet.
    ///
    /// All sessions of a server must share one configuration. If each session had its own configuration, SCRAM would
    /// send a different salt on each connection for an account that does not exist. This would allow user enumeration.
    ///
    /// With implicit TLS, call [`tls_started`](Self::tls_started) before the first [`next`](Self::next).
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            channel: Channel::cleartext(),
            lines: Lines::default(),
            state: State::Start,
            greeted: Greeted::No,
            identity: None,
            attempts: 0,
            commands: 0,
            transaction: None,
            trace: Trace::default(),
        }
    }

    /// Sets a logging hook, which is called with each line of the dialogue. The line is passed without its CRLF, and
    /// with every secret masked.
    ///
    /// ```
    /// # fn trace(session: &mut smtp_auth::server::Session) {
    /// session.trace(|side, line| eprintln!("{side}: {line}"));
    /// # }
    /// ```
    pub fn trace(&mut self, hook: impl FnMut(crate::Side, &str) + Send + Sync + 'static) {
        self.trace = Trace::new(hook);
    }

    /// Passes in octets that were read from the client. This method can be called at any time, and does not change the
    /// pending event. However, if the server reads while an event other than [`NeedInput`](Event::NeedInput) is
    /// pending, a fast client can make the session buffer an unlimited number of octets.
    pub fn receive(&mut self, octets: &[u8]) {
        // The session processes nothing after its end.
        if !matches!(self.state, State::Close) {
            self.lines.receive(octets);
        }
    }

    /// Reads octets from the client directly into the session's buffer, without copying them.
    ///
    /// This method calls `read` with a slice of at most `room` octets, or of 1 octet if `room` is 0. `read` must return
    /// the number of octets that it has written to the slice, or 0 at the end of the stream. This method returns the
    /// number that `read` returned.
    ///
    /// If `read` fails, for instance with `WouldBlock`, the session releases the memory of the slice, so that an idle
    /// connection does not hold a buffer.
    ///
    /// ```
    /// # use std::io::{self, Read};
    /// # fn fill(session: &mut smtp_auth::server::Session, socket: &mut impl Read) -> io::Result<usize> {
    /// session.receive_with(4096, |room| socket.read(room))
    /// # }
    /// ```
    ///
    /// The `receive_tcp` function in this example reads from tokio's `TcpStream`, and the `receive` function reads from
    /// any tokio stream, such as a TLS stream:
    ///
    /// ```
    /// use std::{future::poll_fn, io, pin::Pin, task::Poll};
    /// use smtp_auth::server::Session;
    /// use tokio::{io::{AsyncRead, ReadBuf}, net::TcpStream};
    ///
    /// async fn receive_tcp(session: &mut Session, socket: &TcpStream) -> io::Result<usize> {
    ///     loop {
    ///         socket.readable().await?;
    ///         match session.receive_with(4096, |room| socket.try_read(room)) {
    ///             Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
    ///             read => return read,
    ///         }
    ///     }
    /// }
    ///
    /// async fn receive(session: &mut Session, socket: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
    ///     poll_fn(|cx| {
    ///         let read = session.receive_with(4096, |room| {
    ///             let mut room = ReadBuf::new(room);
    ///             match Pin::new(&mut *socket).poll_read(cx, &mut room) {
    ///                 Poll::Ready(Ok(())) => Ok(room.filled().len()),
    ///                 Poll::Ready(Err(error)) => Err(Some(error)),
    ///                 Poll::Pending => Err(None),
    ///             }
    ///         });
    ///         match read {
    ///             Ok(read) => Poll::Ready(Ok(read)),
    ///             Err(Some(error)) => Poll::Ready(Err(error)),
    ///             Err(None) => Poll::Pending,
    ///         }
    ///     }).await
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns the error that `read` returned. In that case, the session has received no octets.
    pub fn receive_with<E>(
        &mut self,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let read = self.lines.receive_with(room, read);
        if matches!(self.state, State::Close) {
            let _ = self.lines.clear();
        }
        read
    }

    /// Tells the session that TLS has begun. The session discards everything that the client sent before TLS (RFC 3207
    /// §4.2), the authentication state, and any mail transaction.
    ///
    /// Returns the number of octets that had been received but not processed. These octets arrived in cleartext after
    /// STARTTLS, and are discarded to prevent command injection. If the number is not 0, the client is defective or
    /// under attack.
    pub fn tls_started(&mut self, channel: Channel) -> usize {
        self.state = match self.state {
            State::Start => State::Start,
            State::Close => State::Close,
            _ => State::Idle,
        };
        self.channel = channel;
        self.greeted = Greeted::No;
        self.identity = None;
        self.transaction = None;
        self.lines.clear()
    }

    /// Ends the session with a `421` reply, for instance at shutdown or when the client has been idle for too long.
    /// This method appends the reply to `out`, unless the session has already ended. The caller must then send `out`
    /// and close the connection.
    pub fn close(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        if !matches!(self.state, State::Close) {
            let mark = out.len();
            reply.write(out);
            self.trace.lines(Side::Server, out.get(mark..).unwrap_or_default());
            self.state = State::Close;
        }
    }

    /// Returns the authenticated identity, or `None` if the client has not authenticated. When TLS begins, the session
    /// discards the identity.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Returns the security properties of the connection, such as whether it uses TLS.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Returns whether a mail transaction is open. A transaction begins with a positive reply to MAIL. It ends with the
    /// reply to the message, or with [`Event::Reset`].
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Returns the authenticated identity, and the octets that were received but have not been processed. Use this
    /// method if the application handles the rest of the dialogue itself.
    pub fn into_parts(self) -> (Option<Identity>, Vec<u8>) {
        (self.identity.map(|identity| *identity), self.lines.rest().to_vec())
    }

    /// Advances the session, appends the octets to send to `out`, and returns the next event.
    ///
    /// This method is equivalent to [`advance`](Self::advance) followed by [`pending`](Self::pending).
    pub fn next(&mut self, out: &mut Vec<u8>) -> Event<'_> {
        if self.still_awaits() {
            return Event::NeedInput;
        }
        self.come_to(out)
    }

    /// A separate function, so that it does not slow down the processing of octets that arrive one by one.
    #[inline(never)]
    fn come_to(&mut self, out: &mut Vec<u8>) -> Event<'_> {
        self.go_on(out);
        self.pending()
    }

    /// Advances the session, appends the octets to send to `out`, and returns whether the session needs input.
    ///
    /// An event that needs an answer stays pending until it is answered. **The next call to this method skips a
    /// notification**, including [`Event::Data`] and its octets. Therefore, call [`pending`](Self::pending) after each
    /// call to `advance`.
    ///
    /// Use this method instead of [`next`](Self::next) in a driver that reads from the socket itself and returns events
    /// that borrow from the session:
    ///
    /// ```
    /// use std::{future::Future, io};
    /// use smtp_auth::{Advance, server::{Event, Session}};
    ///
    /// struct Connection { session: Session, out: Vec<u8> }
    ///
    /// impl Connection {
    ///     /// Returns the next event that the application handles.
    ///     async fn event(&mut self) -> io::Result<Event<'_>> {
    ///         while self.session.advance(&mut self.out) == Advance::NeedInput {
    ///             self.send_and_receive().await?; // fails at the end of the stream as well
    ///         }
    ///         Ok(self.session.pending())
    ///     }
    /// #   fn send_and_receive(&mut self) -> impl Future<Output = io::Result<()>> { async { Ok(()) } }
    /// }
    /// ```
    pub fn advance(&mut self, out: &mut Vec<u8>) -> Advance {
        if !self.still_awaits() {
            self.go_on(out);
        }
        match self.state {
            State::Start | State::Idle | State::Response(_) | State::Body(..) => Advance::NeedInput,
            _ => Advance::Event,
        }
    }

    fn still_awaits(&mut self) -> bool {
        matches!(self.state, State::Idle | State::Response(_))
            && self.lines.still_awaits(auth::MAX_LINE)
    }

    /// Returns how long to wait for the client's next octets or for TLS to begin, or `None` while the session waits for
    /// the application.
    ///
    /// The returned time is five minutes, which is the minimum that RFC 5321 §4.5.3.2.7 requires for a command. When
    /// this time has passed, [`close`](Self::close) the session with [`Reply::IDLE`].
    ///
    /// The session has no clock, so the application has to measure the time. A client that occasionally sends an octet
    /// is never idle, so set separate time limits for authentication and for a whole message.
    pub fn timeout(&self) -> Option<Duration> {
        match self.state {
            State::Start | State::Idle | State::Response(_) | State::Body(..) | State::StartTls => {
                Some(Duration::from_secs(5 * 60))
            }
            _ => None,
        }
    }

    /// Returns the pending query, if there is one, without advancing the session. Use this method instead of
    /// [`next`](Self::next) to answer a query later, because by then `next` might return another event. See
    /// [`QueryJob`](crate::sasl::QueryJob).
    pub fn query(&mut self) -> Option<Query<'_>> {
        match &mut self.state {
            State::Auth(exchange) => exchange.query(),
            _ => None,
        }
    }

    /// Returns the event that the last [`advance`](Self::advance) reached, without advancing the session. This method
    /// can be called any number of times.
    ///
    /// After an event has been answered, this method still returns it until the next [`advance`](Self::advance). A
    /// second answer replaces the first.
    ///
    /// Before the first [`advance`](Self::advance), and after [`tls_started`](Self::tls_started), the event is
    /// [`Event::NeedInput`].
    pub fn pending(&mut self) -> Event<'_> {
        let Self { state, lines, identity, greeted, attempts, .. } = self;
        match state {
            State::Start | State::Idle | State::Response(_) | State::Body(..) => Event::NeedInput,
            State::Hello => Event::Hello(Hello {
                name: match command::parse(lines.shown()) {
                    Ok(Command::Ehlo(name) | Command::Helo(name)) => name.as_str(),
                    _ => "",
                },
                extended: *greeted == Greeted::Ehlo,
            }),
            State::Auth(exchange) => exchange.query().map_or(Event::NeedInput, Event::Query),
            State::Authenticated => match identity {
                Some(identity) => Event::Authenticated(identity),
                None => Event::Close,
            },
            State::AuthFailed(exchange, _) => match exchange.failure() {
                Some(why) => Event::AuthFailed(AuthFailed::new(why, *attempts, exchange)),
                // An exchange in this state has a failure.
                None => Event::NeedInput,
            },
            State::Command(reply) => match command::parse(lines.shown()) {
                Ok(command) => {
                    Event::Command(command, PendingReply { reply, identity: identity.as_deref() })
                }
                // Unreachable, because the line has been parsed before.
                Err(_) => Event::Close,
            },
            State::Permission(answer, _) => {
                Event::StartOfData(Permission { answer, identity: identity.as_deref() })
            }
            State::Data(_) => Event::Data(lines.shown()),
            State::EndOfData(reply) => {
                Event::EndOfData(PendingReply { reply, identity: identity.as_deref() })
            }
            State::Reset(_) => Event::Reset,
            State::StartTls => Event::StartTls,
            State::Close => Event::Close,
        }
    }

    /// Advances the session until an event is pending.
    fn go_on(&mut self, out: &mut Vec<u8>) {
        if self.shows_content() {
            return;
        }
        loop {
            let mark = out.len();
            let state = mem::replace(&mut self.state, State::Close);
            let (state, waits) = self.step(state, out);
            self.state = state;
            self.trace.lines(Side::Server, out.get(mark..).unwrap_or_default());
            if waits {
                return;
            }
        }
    }

    /// Takes one step, and returns whether it is the application's or the client's turn.
    fn step(&mut self, state: State, out: &mut Vec<u8>) -> (State, bool) {
        let next = match state {
            State::Start => {
                out.extend_from_slice(b"220 ");
                out.extend_from_slice(self.config.hostname.as_bytes());
                out.extend_from_slice(b" ESMTP ready\r\n");
                State::Idle
            }
            State::Idle => match self.lines.next(auth::MAX_LINE) {
                Some(line) => self.command(line, out),
                None => {
                    self.lines.give_back();
                    return (State::Idle, true);
                }
            },
            State::Auth(exchange) | State::Response(exchange) => {
                return self.exchange(exchange, out);
            }
            State::Command(Some(reply)) => self.replied(reply, out),
            State::Permission(Some(answer), framing) => self.permitted(answer, framing, out),
            State::Body(framing, refusal) => return self.body(framing, refusal, out),
            State::Data(framing) => State::Body(framing, None),
            State::EndOfData(Some(reply)) => {
                self.transaction = None;
                answer(reply, out)
            }
            State::AuthFailed(exchange, _) if !exchange.is_over() => State::Auth(exchange),
            State::AuthFailed(_, after) | State::Reset(after) => State::from(after),
            State::Hello | State::Authenticated => State::Idle,
            pending => return (pending, true),
        };
        let waits = !matches!(next, State::Idle | State::Auth(_) | State::Body(..));
        (next, waits)
    }

    fn exchange(
        &mut self,
        mut exchange: Box<auth::server::Exchange>,
        out: &mut Vec<u8>,
    ) -> (State, bool) {
        let mark = out.len();
        match exchange.step(out) {
            // The trace gets the challenge before the line that answers it.
            auth::server::Step::NeedLine(_) if out.len() > mark => match self.failed(&mut exchange)
            {
                true => (State::AuthFailed(exchange, After::Idle), true),
                false => (State::Auth(exchange), false),
            },
            auth::server::Step::Query(_) => {
                // The client's line may be a password, and the exchange has taken it.
                self.lines.give_back();
                (State::Auth(exchange), true)
            }
            auth::server::Step::NeedLine(slot) => {
                match self.lines.next(auth::MAX_LINE) {
                    None => {
                        self.lines.give_back();
                        return (State::Response(exchange), true);
                    }
                    Some(Ok(())) => {
                        self.trace.response(self.lines.shown());
                        slot.line(self.lines.shown());
                    }
                    Some(Err(error)) => {
                        self.trace.response(b"?");
                        match error {
                            Error::TooLong => slot.too_long(),
                            Error::BadOctet => slot.undecodable(),
                        }
                    }
                }
                (State::Auth(exchange), false)
            }
            auth::server::Step::Done(Ok(identity)) => {
                // A copy, as the name is in the memory of the message that contained it.
                self.identity = Some(Box::new(identity.clone()));
                (State::Authenticated, true)
            }
            auth::server::Step::Done(Err(_)) => {
                // A response is not a command, but another program could interpret the octets after a bare CR or LF in
                // it as a command.
                let after = if self.lines.holds_bdat_inside() { After::Close } else { After::Idle };
                match self.failed(&mut exchange) {
                    true => (State::AuthFailed(exchange, after), true),
                    false => (after.into(), false),
                }
            }
        }
    }

    /// Returns whether the exchange has failed and this was not yet reported. Counts the attempt.
    fn failed(&mut self, exchange: &mut auth::server::Exchange) -> bool {
        let failure = exchange.report();
        self.attempts += u32::from(failure.is_some_and(Failure::is_attempt));
        failure.is_some()
    }

    /// Handles a command line.
    fn command(&mut self, line: Result<(), Error>, out: &mut Vec<u8>) -> State {
        // Taken out, so that `self` can be borrowed as well, and put back below.
        let lines = mem::take(&mut self.lines);
        let shown = lines.shown();
        match line {
            Ok(()) => self.trace.command(shown, |name| self.config.sasl.named(name)),
            Err(_) => self.trace.response(b"?"),
        }
        let is_auth = command::verb(shown).eq_ignore_ascii_case(b"AUTH");
        let line = match line {
            Ok(()) if shown.len() > MAX_COMMAND && !is_auth => Err(Error::TooLong),
            line => line,
        };
        let parsed = command::parse(shown);
        let quits = matches!((line, parsed), (Ok(()), Ok(Command::Quit)));
        // If a BDAT cannot be read, the number of octets that follow it is unknown, and any of them could be smuggled
        // commands.
        let refuse = |reply: Reply, out: &mut Vec<u8>| {
            reply.write(out);
            if lines.holds_bdat() { State::Close } else { State::Idle }
        };
        let state = match (line, parsed) {
            _ if self.attempts >= self.config.max_attempts && !quits => {
                answer(Reply::TOO_MANY_ATTEMPTS, out)
            }
            _ if !quits && self.talks_on() => answer(Reply::TOO_MANY_COMMANDS, out),
            (Err(Error::TooLong), _) => refuse(Reply::LINE_TOO_LONG, out),
            (Err(Error::BadOctet), _) => refuse(Reply::BAD_LINE_END, out),
            (Ok(()), parsed) if self.needs_tls() && !comes_before_tls(shown) => match parsed {
                Ok(Command::Bdat { size, last }) => {
                    let framing = Framing::Chunk { left: size, last };
                    State::Body(framing, Some(Box::new(Reply::TLS_REQUIRED)))
                }
                _ => refuse(Reply::TLS_REQUIRED, out),
            },
            // RFC 4954 §4.
            _ if is_auth && (self.identity.is_some() || self.transaction.is_some()) => {
                answer(Reply::BAD_SEQUENCE, out)
            }
            _ if is_auth && self.greeted != Greeted::Ehlo => answer(Reply::EHLO_FIRST, out),
            (Ok(()), Ok(command)) => self.obey(command, out),
            (Ok(()), Err(error)) if error.in_verb() || self.is_unknown(shown) => {
                refuse(Reply::UNRECOGNIZED, out)
            }
            (Ok(()), Err(error)) if is_auth => refuse(auth::server::refusal(error), out),
            (Ok(()), Err(_)) => match command::bad_path(shown) {
                Some(BadPath::Sender) => answer(Reply::SENDER_SYNTAX, out),
                Some(BadPath::Recipient) => answer(Reply::RECIPIENT_SYNTAX, out),
                None => refuse(Reply::SYNTAX, out),
            },
        };
        self.lines = lines;
        state
    }

    fn obey(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> State {
        let trusted = self.is_proven() || self.config.unauthenticated;
        match command {
            Command::Ehlo(_) => {
                self.greeted = Greeted::Ehlo;
                self.ehlo(out);
                self.abandon(After::Hello)
            }
            Command::Helo(_) => {
                self.greeted = Greeted::Helo;
                out.extend_from_slice(b"250 ");
                out.extend_from_slice(self.config.hostname.as_bytes());
                out.extend_from_slice(b"\r\n");
                self.abandon(After::Hello)
            }
            Command::Quit => {
                Reply::CLOSING.write(out);
                State::Close
            }
            Command::Noop(_) => answer(Reply::OK, out),
            Command::Rset => {
                Reply::OK.write(out);
                self.abandon(After::Idle)
            }
            Command::StartTls => self.starttls(out),
            Command::Auth(auth) => State::Auth(Box::new(auth::server::Exchange::begin(
                &self.config.sasl,
                &self.channel,
                auth,
            ))),
            Command::Bdat { size, last } => {
                let framing = Framing::Chunk { left: size, last };
                match self.ready_for_data(trusted) {
                    _ if !self.config.keywords.contains(&Keyword::Chunking) => {
                        State::Body(framing, Some(Box::new(Reply::NOT_IMPLEMENTED)))
                    }
                    Err(refusal) => State::Body(framing, Some(Box::new(refusal))),
                    Ok(Transaction { chunks: true, .. }) => State::Body(framing, None),
                    Ok(_) => State::Permission(None, framing),
                }
            }
            Command::Data => match self.ready_for_data(trusted) {
                Err(refusal) => answer(refusal, out),
                Ok(Transaction { chunks: true, .. }) => answer(Reply::BAD_SEQUENCE, out),
                Ok(_) => State::Permission(None, Framing::Dots(Dots::START)),
            },
            Command::Mail(mail) => match self.mail(&mail, trusted) {
                Err(refusal) => answer(refusal, out),
                Ok(()) => State::Command(None),
            },
            Command::Rcpt(_) if !trusted => answer(Reply::AUTHENTICATION_REQUIRED, out),
            Command::Rcpt(rcpt) => match self.transaction {
                Some(Transaction { chunks: false, recipients, .. })
                    if recipients >= self.config.max_recipients =>
                {
                    answer(Reply::TOO_MANY_RECIPIENTS, out)
                }
                Some(Transaction { chunks: false, .. }) if !rcpt.parameters().come_once() => {
                    answer(Reply::SYNTAX, out)
                }
                Some(Transaction { chunks: false, .. }) => State::Command(None),
                _ => answer(Reply::BAD_SEQUENCE, out),
            },
            Command::Vrfy(_) | Command::Expn(_) if !trusted => {
                answer(Reply::AUTHENTICATION_REQUIRED, out)
            }
            Command::Vrfy(_) | Command::Expn(_) | Command::Help(_) => State::Command(None),
            // The line may be a password, so the application does not see it.
            Command::Unknown(unknown) if !self.config.declares(&unknown) => {
                answer(Reply::UNRECOGNIZED, out)
            }
            Command::Unknown(_) if self.greeted != Greeted::Ehlo => answer(Reply::EHLO_FIRST, out),
            Command::Unknown(_) if !trusted => answer(Reply::AUTHENTICATION_REQUIRED, out),
            Command::Unknown(_) => State::Command(None),
        }
    }

    /// Returns whether a line's verb is neither known nor declared.
    fn is_unknown(&self, line: &[u8]) -> bool {
        match command::parse(command::verb(line)) {
            Ok(Command::Unknown(unknown)) => !self.config.declares(&unknown),
            _ => false,
        }
    }

    /// Returns whether the client has proven an identity. A guest has authenticated, but has proven none.
    fn is_proven(&self) -> bool {
        self.identity.as_ref().is_some_and(|who| !who.is_anonymous())
    }

    /// Counts a command of a client that still has to authenticate, and returns whether the limit is exceeded.
    fn talks_on(&mut self) -> bool {
        if self.is_proven() || self.config.unauthenticated {
            return false;
        }
        self.commands = self.commands.saturating_add(1);
        self.commands > self.config.max_commands
    }

    /// Returns whether TLS is required and has not begun.
    fn needs_tls(&self) -> bool {
        self.config.requires_tls && !self.channel.is_tls()
    }

    fn ehlo(&self, out: &mut Vec<u8>) {
        // Room for SIZE, STARTTLS, and both forms of AUTH.
        let mut keywords = Vec::with_capacity(self.config.keywords.len() + 4);
        keywords.extend_from_slice(&self.config.keywords);
        keywords.push(Keyword::Size(Some(self.config.max_message)));
        let offers_tls = matches!(self.config.starttls, StartTls::Offered | StartTls::Required);
        if offers_tls && !self.channel.is_tls() {
            keywords.push(Keyword::StartTls);
        }
        let mut line = Vec::with_capacity(ehlo::MAX_KEYWORD);
        if !self.needs_tls() {
            auth::advertise(&self.config.sasl, &self.channel, &mut line);
        }
        if let Ok(keyword @ Keyword::Auth(names)) = Keyword::parse(&line) {
            keywords.push(keyword);
            if self.config.legacy_auth {
                keywords.push(Keyword::LegacyAuth(names));
            }
        }
        ehlo::write(&self.config.hostname, &keywords, out);
    }

    fn starttls(&mut self, out: &mut Vec<u8>) -> State {
        let refusal = match self.config.starttls {
            _ if self.channel.is_tls() => Reply::BAD_SEQUENCE,
            StartTls::Off => Reply::NOT_IMPLEMENTED,
            StartTls::Unavailable => Reply::TLS_UNAVAILABLE,
            StartTls::Offered | StartTls::Required => {
                Reply::READY_FOR_TLS.write(out);
                return self.abandon(After::StartTls);
            }
        };
        answer(refusal, out)
    }

    /// Checks a MAIL command before the application sees it.
    fn mail(&self, mail: &Mail<'_>, trusted: bool) -> Result<(), Reply> {
        if self.greeted == Greeted::No || self.transaction.is_some() {
            return Err(Reply::BAD_SEQUENCE);
        }
        if !trusted {
            return Err(Reply::AUTHENTICATION_REQUIRED);
        }
        if !mail.parameters().come_once() || mail.auth().is_err() || !self.may_be_body(mail) {
            return Err(Reply::SYNTAX);
        }
        match mail.parameters().get("SIZE").map(|size| size.value()) {
            None => Ok(()),
            Some(declared) => match declared.and_then(size_value) {
                None => Err(Reply::SYNTAX),
                Some(octets) if octets > self.config.max_message => Err(Reply::MESSAGE_TOO_BIG),
                Some(_) => Ok(()),
            },
        }
    }

    /// Returns whether BODY has one of the values of RFC 6152 §3, or the value of RFC 3030 §3 if the server offers it.
    fn may_be_body(&self, mail: &Mail<'_>) -> bool {
        let Some(body) = mail.parameters().get("BODY") else { return true };
        let is = |value: &str| body.value().is_some_and(|own| own.eq_ignore_ascii_case(value));
        let is_binary = |keyword: &Keyword<'_>| keyword.name().eq_ignore_ascii_case("BINARYMIME");
        is("7BIT")
            || is("8BITMIME")
            || is("BINARYMIME") && self.config.keywords.iter().any(is_binary)
    }

    /// Handles the application's reply to the pending command.
    fn replied(&mut self, reply: Reply, out: &mut Vec<u8>) -> State {
        if matches!(reply.code(), 200..=299) {
            match (command::parse(self.lines.shown()), &mut self.transaction) {
                (Ok(Command::Mail(_)), transaction) => *transaction = Some(Transaction::NEW),
                (Ok(Command::Rcpt(_)), Some(transaction)) => transaction.recipients += 1,
                _ => {}
            }
        }
        answer(reply, out)
    }
}

/// Returns whether a server that requires TLS accepts this line's verb in cleartext. These are the verbs of RFC 3207
/// §4, and HELO, RSET and HELP, which are just as harmless.
fn comes_before_tls(line: &[u8]) -> bool {
    let verb = command::verb(line);
    ["EHLO", "HELO", "NOOP", "RSET", "HELP", "QUIT", "STARTTLS"]
        .iter()
        .any(|own| verb.eq_ignore_ascii_case(own.as_bytes()))
}

/// `size-value = 1*20DIGIT` (RFC 1870 §4). A number that exceeds the range of `u64` is read as its maximum.
fn size_value(text: &str) -> Option<u64> {
    let digits = (1..=20).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Writes a reply. `421` ends the session (RFC 5321 §4.2.1).
fn answer(reply: Reply, out: &mut Vec<u8>) -> State {
    let reply = reply.with_enhanced_code();
    reply.write(out);
    if reply.code() == 421 { State::Close } else { State::Idle }
}
