//! The state machine of the client session.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{fmt, mem, time::Duration};

use super::{
    Body, Config, Error, Event, Extensions, Next, NotAuthenticated, Outcome, Ready, Refusal, Stage,
    Tls,
    error::closes,
    limits::Used,
    sending::{Sending, say},
};
use crate::{
    Advance,
    auth::client as auth,
    ehlo::Ehlo,
    line::{BlockError, LineEnds, Lines},
    reply::{self, MAX_REPLY_LINE, MAX_REPLY_OCTETS, Reply, ReplyRef},
    sasl::{Channel, Mechanism, client::Credentials},
    secret::truncate,
    trace::{Side, Trace},
};

mod end;
mod messages;
mod sign_in;

use sign_in::{Failed, Tries};

/// A client session. A session covers one connection to a server, from the server's greeting to the end of the
/// connection.
///
/// The session does no I/O and has no clock. The [module documentation](super) explains how to drive a session, and
/// contains an example.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    channel: Channel,
    credentials: Option<Credentials>,
    lines: Lines,
    line_ends: LineEnds,
    state: State,
    extensions: Extensions,
    used: Used,
    authenticated: Option<Mechanism>,
    tries: Tries,
    trace: Trace,
}

/// Whether the server has closed the connection.
#[derive(Clone, Debug)]
enum Peer {
    There,
    /// The server has closed the connection, with this reply if it sent one.
    Gone(Option<Reply>),
}

/// Whether the outcome has been returned to the caller.
#[derive(Clone, Copy)]
struct Shown(bool);

/// `Debug` leaves the value out: `pending` sets it, and must not change how a session prints.
impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

#[derive(Debug)]
enum State {
    Greeting,
    /// EHLO has not been written yet.
    Hello,
    Ehlo,
    Helo,
    /// STARTTLS was sent.
    AwaitTls,
    /// The caller has to begin TLS.
    StartTls,
    Auth(Box<auth::Exchange>),
    NotAuthenticated(Box<Failed>),
    /// The session is idle. The application may have chosen what to do next.
    Ready(Option<Next>, Peer),
    /// The application has chosen what to do next, but the first part of a line from the server has been received.
    Beginning(Next),
    /// NOOP was sent.
    Noop,
    /// RSET was sent on the application's request.
    Reset,
    /// MAIL and RCPT are under way.
    Envelope(Box<Sending>),
    /// The last reply refused a recipient.
    Refused(Box<Sending>),
    Data(Box<Sending>),
    Message(Box<Sending>, Body),
    /// The end mark was sent.
    End(Box<Sending>),
    /// RSET was sent after a refused message.
    Rset(Box<Sending>, Refusal),
    Sent(Box<Outcome>, Peer, Shown),
    Quit,
    Closed,
    Broken(Error),
}

impl Session {
    /// Creates a session that authenticates with these credentials before it sends a message. All sessions of a client
    /// can share one configuration.
    ///
    /// With implicit TLS (port 465), call [`tls_started`](Self::tls_started) before the first [`next`](Self::next).
    pub fn new(config: Arc<Config>, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..Self::without_credentials(config) }
    }

    /// Creates a session that does not authenticate. Use it for a server that accepts mail without authentication, such
    /// as the relay of a private network. All sessions of a client can share one configuration.
    ///
    /// With implicit TLS (port 465), call [`tls_started`](Self::tls_started) before the first [`next`](Self::next).
    pub fn without_credentials(config: Arc<Config>) -> Self {
        Self {
            config,
            channel: Channel::cleartext(),
            credentials: None,
            lines: Lines::default(),
            line_ends: LineEnds::default(),
            state: State::Greeting,
            extensions: Extensions::default(),
            used: Used::default(),
            authenticated: None,
            tries: Tries::default(),
            trace: Trace::default(),
        }
    }

    /// Sets a function that is called with each line of the dialogue, for example to log it. The line does not include
    /// its CRLF, and every secret in it is masked.
    ///
    /// ```
    /// # fn trace(session: &mut smtp_auth::client::Session) {
    /// session.trace(|side, line| eprintln!("{side}: {line}"));
    /// # }
    /// ```
    pub fn trace(&mut self, hook: impl FnMut(crate::Side, &str) + Send + Sync + 'static) {
        self.trace = Trace::new(hook);
    }

    /// Passes the session octets that were read from the server. This method can be called at any time, and does not
    /// change the pending event.
    pub fn receive(&mut self, octets: &[u8]) {
        // A session that has ended keeps nothing.
        if !matches!(self.state, State::Closed | State::Broken(_)) {
            self.lines.receive(octets);
        }
    }

    /// Calls `read` to write octets from the server directly into the session's buffer, without a copy.
    ///
    /// `read` receives a slice of at most `room` octets, and returns how many octets it has written. This method
    /// returns the same number, which is 0 at the end of the stream.
    ///
    /// If `read` fails, for instance with `WouldBlock`, the session frees the slice's memory again, so that an idle
    /// connection does not occupy it.
    ///
    /// ```
    /// # use std::{error::Error, io::Read};
    /// # fn fill(session: &mut smtp_auth::client::Session, socket: &mut impl Read) -> Result<(), Box<dyn Error>> {
    /// if session.receive_with(4096, |room| socket.read(room))? == 0 {
    ///     session.eof()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`server::Session::receive_with`](crate::server::Session::receive_with) contains an example with tokio.
    ///
    /// # Errors
    /// Returns the error that `read` returned. In that case, no octets were received.
    pub fn receive_with<E>(
        &mut self,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let read = self.lines.receive_with(room, read);
        if matches!(self.state, State::Closed | State::Broken(_)) {
            let _ = self.lines.clear();
        }
        read
    }

    /// Tells the session that TLS has begun. The session discards everything that the server sent before (RFC 3207
    /// §4.2).
    ///
    /// If octets arrived after the reply to STARTTLS but before TLS began, the session ends with
    /// [`Error::InjectedBeforeTls`].
    pub fn tls_started(&mut self, channel: Channel) {
        let leftover = self.lines.clear();
        self.line_ends.forget();
        self.channel = channel;
        self.extensions = Extensions::default();
        self.used = Used::default();
        self.authenticated = None;
        self.tries = Tries::default();
        self.state = match mem::replace(&mut self.state, State::Closed) {
            State::Closed => State::Closed,
            State::Broken(error) => State::Broken(error),
            _ if leftover > 0 => State::Broken(Error::InjectedBeforeTls),
            State::Greeting => State::Greeting,
            _ => State::Hello,
        };
    }

    /// Returns the extensions that the server offered in its last reply to EHLO. The result contains no extensions
    /// before the first EHLO, or between the start of TLS and the EHLO that follows.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Returns the mechanism with which the client has authenticated, or `None` if the client has not authenticated.
    pub fn authenticated(&self) -> Option<Mechanism> {
        self.authenticated
    }

    /// Returns the current stage of the SMTP dialogue.
    pub fn stage(&self) -> Stage {
        self.state.stage()
    }

    /// Returns how long to wait for the server's next octets, or for TLS to begin. If the time runs out, call
    /// [`timed_out`](Self::timed_out). The session has no clock, so the caller measures the time.
    ///
    /// The times are the minimum values of RFC 5321 §4.5.3.2: five minutes for the greeting, MAIL and RCPT, two minutes
    /// for DATA, and ten minutes for the reply to the message. For stages that the section does not mention, such as
    /// EHLO, STARTTLS and AUTH, the time is five minutes.
    ///
    /// Returns `None` while the session waits for the application. This includes the time during which the application
    /// writes a message. During this time, the application should limit each write to the socket to three minutes.
    pub fn timeout(&self) -> Option<Duration> {
        let minutes = match &self.state {
            State::Data(_) => 2,
            State::End(_) => 10,
            State::Auth(exchange) if exchange.asks() => return None,
            State::NotAuthenticated(_)
            | State::Ready(..)
            | State::Refused(_)
            | State::Message(..)
            | State::Sent(..)
            | State::Closed
            | State::Broken(_) => return None,
            _ => 5,
        };
        Some(Duration::from_secs(minutes * 60))
    }

    /// Returns the security properties of the connection, such as whether it uses TLS.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Advances the session, appends the octets to send to `out`, and returns the next event.
    ///
    /// This method calls [`advance`](Self::advance) and then [`pending`](Self::pending). An event that needs an answer
    /// carries a handle for giving it. Each call of `next` returns the same event until the application has answered.
    ///
    /// # Errors
    /// Returns the error that ended the session. Every later call returns the same error. Close the connection.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Event<'_>, Error> {
        self.go_on(out);
        match &self.state {
            State::Broken(error) => Err(error.clone()),
            _ => Ok(self.pending()),
        }
    }

    /// Advances the session, appends the octets to send to `out`, and returns whether the session needs input.
    ///
    /// An event that needs an answer stays pending until it is answered. **The next call of `advance` skips a
    /// notification**, so call [`pending`](Self::pending) after each call. The exception is [`Event::Sent`], which
    /// stays pending until [`pending`](Self::pending) has returned it.
    ///
    /// Use this method instead of [`next`](Self::next) in a driver that reads from the socket itself and returns events
    /// that borrow from the session:
    ///
    /// ```
    /// use std::{error::Error, future::Future, io};
    /// use smtp_auth::{Advance, client::{Event, Session}};
    ///
    /// struct Connection { session: Session, out: Vec<u8> }
    ///
    /// impl Connection {
    ///     async fn event(&mut self) -> Result<Event<'_>, Box<dyn Error>> {
    ///         while self.session.advance(&mut self.out)? == Advance::NeedInput {
    ///             self.send_and_receive().await?; // calls `session.eof()` at the end of the stream
    ///         }
    ///         Ok(self.session.pending())
    ///     }
    /// #   fn send_and_receive(&mut self) -> impl Future<Output = io::Result<()>> { async { Ok(()) } }
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns the error that ended the session. Every later call returns the same error. Close the connection.
    pub fn advance(&mut self, out: &mut Vec<u8>) -> Result<Advance, Error> {
        self.go_on(out);
        match &self.state {
            State::Broken(error) => Err(error.clone()),
            State::StartTls
            | State::NotAuthenticated(_)
            | State::Ready(..)
            | State::Refused(_)
            | State::Message(..)
            | State::Sent(..)
            | State::Closed => Ok(Advance::Event),
            State::Auth(exchange) if exchange.asks() => Ok(Advance::Event),
            _ => Ok(Advance::NeedInput),
        }
    }

    /// Returns the event that the last [`advance`](Self::advance) reached, without advancing the session. This method
    /// can be called any number of times.
    ///
    /// An event that has been answered is still returned until the next [`advance`](Self::advance), and a second answer
    /// replaces the first. The event is [`Event::NeedInput`] before the first [`advance`](Self::advance) and after
    /// [`tls_started`](Self::tls_started), and [`Event::Close`] after an error.
    pub fn pending(&mut self) -> Event<'_> {
        match &mut self.state {
            State::StartTls => Event::StartTls,
            State::NotAuthenticated(failed) => {
                let Failed { error, mechanism, answer, .. } = &mut **failed;
                let mechanism = *mechanism;
                Event::NotAuthenticated(NotAuthenticated { error, mechanism, answer })
            }
            State::Auth(exchange) => match exchange.asked() {
                Some(auth::Step::Derive(derive)) => Event::Derive(derive),
                Some(auth::Step::Custom(challenge)) => Event::Custom(challenge),
                _ => Event::NeedInput,
            },
            State::Ready(next, _) => Event::Ready(Ready { next, extensions: &self.extensions }),
            State::Refused(sending) => match sending.last_refused() {
                Some((recipient, refusal)) => Event::Refused { recipient, refusal },
                None => Event::NeedInput,
            },
            State::Message(_, body) => Event::Message(body),
            State::Sent(outcome, _, shown) => {
                *shown = Shown(true);
                Event::Sent(outcome)
            }
            State::Closed | State::Broken(_) => Event::Close,
            State::Greeting
            | State::Hello
            | State::Ehlo
            | State::Helo
            | State::AwaitTls
            | State::Beginning(_)
            | State::Noop
            | State::Reset
            | State::Envelope(_)
            | State::Data(_)
            | State::End(_)
            | State::Rset(..)
            | State::Quit => Event::NeedInput,
        }
    }

    /// Advances the session until it needs input or has an event.
    fn go_on(&mut self, out: &mut Vec<u8>) {
        loop {
            let mark = out.len();
            let failure = State::Broken(Error::Disconnected(self.state.stage()));
            let state = mem::replace(&mut self.state, failure);
            let secret = matches!(state, State::Auth(_));
            let awaits_more = matches!(&state, State::Envelope(sending) if sending.awaits_reply());
            let mut progress = self.transition(state, out);
            // A command has just been written, so its reply cannot have arrived yet. In most cases nothing has arrived at
            // all, and then the state is not moved for this check.
            if out.len() > mark && !awaits_more && !self.lines.rest().is_empty() {
                progress = progress.and_then(|progress| {
                    self.expect_silence(progress.stage(), progress.exchange())?;
                    Ok(progress)
                });
            }
            let settled = !matches!(progress, Ok(Progress::Go(_)));
            self.state = match progress {
                Ok(Progress::Go(state) | Progress::Wait(state)) => state,
                Err(error) => {
                    // The output may contain the password.
                    truncate(out, mark);
                    State::Broken(error)
                }
            };
            self.trace_sent(secret, out.get(mark..).unwrap_or_default());
            if settled {
                return;
            }
        }
    }

    /// Fails if the server has sent something before it could have received the client's command. A refusal, which may
    /// arrive at any time (RFC 5321 §3.8), ends the session. While a message is being written, an incomplete reply is
    /// not a failure yet.
    fn expect_silence(
        &mut self,
        stage: Stage,
        exchange: Option<&auth::Exchange>,
    ) -> Result<(), Error> {
        if self.lines.rest().is_empty() {
            return Ok(());
        }
        match self.next_reply(stage, exchange, Asked::No) {
            Ok(false) if stage == Stage::Message || self.lines.is_silent() => Ok(()),
            Err(error @ Error::LineEnds(_)) => Err(error),
            Ok(true) => match self.shown_refusal(stage, exchange, Asked::No) {
                Some(refusal) => Err(Error::Refused(refusal)),
                None => Err(Error::Unsolicited(stage)),
            },
            Ok(false) | Err(_) => Err(Error::Unsolicited(stage)),
        }
    }

    /// Returns a refusal that has been received but not processed.
    fn pending_refusal(
        &mut self,
        stage: Stage,
        exchange: Option<&auth::Exchange>,
    ) -> Option<Refusal> {
        let come = self.next_reply(stage, exchange, Asked::Yes).ok()?;
        if come { self.shown_refusal(stage, exchange, Asked::Yes) } else { None }
    }

    /// Returns the current reply as a refusal, if it is one.
    fn shown_refusal(
        &self,
        stage: Stage,
        exchange: Option<&auth::Exchange>,
        asked: Asked,
    ) -> Option<Refusal> {
        let reply = ReplyRef::parse(self.lines.shown()).ok()?;
        let kept = || exchange.map_or_else(|| asked.kept(reply), |exchange| exchange.kept(reply));
        (reply.code() >= 400).then(|| self.refusal(stage, kept()))
    }

    pub(super) fn refusal(&self, stage: Stage, reply: Reply) -> Refusal {
        Refusal::new(stage, reply, &self.channel, self.authenticated)
    }

    /// Fails if the server has sent something while the session is idle. The only reply that it may send at that time
    /// is one that closes the connection.
    fn at_rest(&mut self) -> Result<(), Error> {
        if self.lines.rest().is_empty() || !self.next_reply(Stage::Rest, None, Asked::No)? {
            return Ok(());
        }
        match ReplyRef::parse(self.lines.shown()) {
            Ok(reply) if reply.code() >= 400 => Err(Error::Closed(Some(Asked::No.kept(reply)))),
            _ => Err(Error::Unsolicited(Stage::Rest)),
        }
    }

    fn trace_sent(&mut self, secret: bool, block: &[u8]) {
        if !secret {
            return self.trace.lines(Side::Client, block);
        }
        for line in block.split(|&octet| octet == b'\n').filter(|line| !line.is_empty()) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.starts_with(b"AUTH ") {
                self.trace.command(line, |name| self.config.sasl.named(name));
            } else {
                self.trace.response(line);
            }
        }
    }

    fn transition(&mut self, state: State, out: &mut Vec<u8>) -> Result<Progress, Error> {
        Ok(Progress::Go(match state {
            State::Hello => {
                say(out, &["EHLO ", &self.config.hostname]);
                State::Ehlo
            }
            State::Auth(exchange) => return self.exchange(exchange, out),
            State::NotAuthenticated(failed) if failed.answer.is_some() => {
                self.settled(*failed, out)?
            }
            State::Ready(Some(Next::Quit), Peer::Gone(_)) => State::Closed,
            State::Ready(Some(_), Peer::Gone(said)) => return Err(Error::Closed(said)),
            State::Ready(Some(next), Peer::There) | State::Beginning(next) => {
                match (self.at_rest(), next) {
                    // The application wants to quit, so a closed connection is not an error.
                    (Err(Error::Closed(_)), Next::Quit) => State::Closed,
                    (Err(error), _) => return Err(error),
                    (Ok(()), next) if self.lines.is_silent() => self.begin(next, out),
                    (Ok(()), next) => return Ok(Progress::Wait(State::Beginning(next))),
                }
            }
            State::Envelope(mut sending) => {
                let mark = out.len();
                sending.ask(out);
                match sending.verdict() {
                    // Commands have just been written. The loop first checks that no reply has come too early.
                    None if out.len() > mark => State::Envelope(sending),
                    None => return self.reply(State::Envelope(sending), out),
                    Some(Ok(())) => {
                        say(out, &["DATA"]);
                        State::Data(sending)
                    }
                    Some(Err(refusal)) => {
                        say(out, &["RSET"]);
                        State::Rset(sending, refusal)
                    }
                }
            }
            State::Refused(sending) => State::Envelope(sending),
            State::Message(_, Body { broken: true, .. }) => return Err(Error::BareLineEnd),
            State::Message(sending, Body { ended: true, octets, .. }) => {
                self.trace.message(octets);
                State::End(sending)
            }
            State::Message(sending, body) => {
                self.expect_silence(Stage::Message, None)?;
                return Ok(Progress::Wait(State::Message(sending, body)));
            }
            State::Sent(_, peer, Shown(true)) => State::Ready(None, peer),
            // The session does not go on until the caller has seen the outcome.
            sent @ State::Sent(..) => return Ok(Progress::Wait(sent)),
            State::Ready(None, peer) => {
                if let Peer::There = peer {
                    self.at_rest()?;
                }
                return Ok(Progress::Wait(State::Ready(None, peer)));
            }
            pending @ (State::StartTls
            | State::NotAuthenticated(_)
            | State::Closed
            | State::Broken(_)) => {
                return Ok(Progress::Wait(pending));
            }
            waiting => return self.reply(waiting, out),
        })
        .shown())
    }

    /// Processes the reply for which the state waits, if it has been received.
    fn reply(&mut self, state: State, out: &mut Vec<u8>) -> Result<Progress, Error> {
        let stage = state.stage();
        if !self.next_reply(stage, None, Asked::Yes)? {
            return Ok(Progress::Wait(state));
        }
        // The reply borrows from the lines while `self` changes. They are put back below.
        let lines = mem::take(&mut self.lines);
        let next = match ReplyRef::parse(lines.shown()) {
            Ok(reply) if reply.codes_differ() => self.torn(state, reply),
            Ok(reply) => self.replied(state, reply, !lines.rest().is_empty(), out),
            Err(_) => Err(Error::NotAReply(stage)),
        };
        self.lines = lines;
        Ok(Progress::Go(next?).shown())
    }

    /// Processes a reply whose lines have different codes, which is a refusal that interrupts another reply. Nothing
    /// that the server sends after it is reliable.
    fn torn(&mut self, state: State, reply: ReplyRef<'_>) -> Result<State, Error> {
        Err(match state {
            State::Quit => return Ok(State::Closed),
            State::Noop | State::Reset => Error::Closed(Some(reply.to_reply())),
            State::Rset(sending, refusal) => {
                let outcome = |sending: Sending| sending.refused_by(refusal);
                return Ok(self.sent(*sending, outcome, Peer::Gone(Some(reply.to_reply()))));
            }
            state => Error::Refused(self.refusal(state.stage(), reply.to_reply())),
        })
    }

    /// Reads the next reply and traces it. Returns whether a whole reply has been received. An AUTH exchange, if one is
    /// under way, decides whether the trace may contain the reply's text.
    fn next_reply(
        &mut self,
        stage: Stage,
        exchange: Option<&auth::Exchange>,
        asked: Asked,
    ) -> Result<bool, Error> {
        let last = |line: &[u8]| reply::line_is_last(line) != Some(false);
        match self.lines.next_block(&mut self.line_ends, MAX_REPLY_LINE, MAX_REPLY_OCTETS, last) {
            None => {
                self.lines.give_back();
                Ok(false)
            }
            Some(Err(BlockError::TooLong)) => Err(Error::NotAReply(stage)),
            Some(Err(BlockError::LineEnd)) => Err(Error::LineEnds(stage)),
            Some(Ok(())) => {
                let block = self.lines.shown();
                // The exchange sees only the last lines of a reply whose codes differ, but the trace would show all.
                let hides = || match (ReplyRef::parse(block), exchange) {
                    (Ok(reply), Some(exchange)) => reply.codes_differ() || exchange.hides(reply),
                    (Ok(reply), None) => asked.hides(reply),
                    (Err(_), exchange) => exchange.is_some() || asked == Asked::No,
                };
                if self.trace.is_set() && hides() {
                    self.trace.codes(Side::Server, block);
                } else {
                    self.trace.lines(Side::Server, block);
                }
                Ok(true)
            }
        }
    }

    fn replied(
        &mut self,
        state: State,
        reply: ReplyRef<'_>,
        more: bool,
        out: &mut Vec<u8>,
    ) -> Result<State, Error> {
        let stage = state.stage();
        let refusal = |own: &Self| own.refusal(stage, reply.to_reply());
        Ok(match (state, reply.code()) {
            (State::Greeting, 220) => State::Hello,
            (State::Greeting, 400..) => return Err(Error::Refused(refusal(self))),
            (State::Ehlo, 250) => {
                self.extensions = Extensions::read(Ehlo::new(reply), &self.config);
                match self.config.tls {
                    Tls::Required | Tls::IfOffered
                        if !self.channel.is_tls() && self.extensions.offers("STARTTLS") =>
                    {
                        say(out, &["STARTTLS"]);
                        State::AwaitTls
                    }
                    Tls::Required if !self.channel.is_tls() => return Err(Error::TlsNotOffered),
                    _ => self.sign_in(),
                }
            }
            // HELO offers no extensions, so it suffices only if the client needs neither AUTH nor TLS.
            (State::Ehlo, 500..)
                if self.credentials.is_none()
                    && (self.channel.is_tls() || self.config.tls != Tls::Required) =>
            {
                say(out, &["HELO ", &self.config.hostname]);
                State::Helo
            }
            (State::Helo, 250) => State::READY,
            (State::Ehlo | State::Helo, 400..) => return Err(Error::Refused(refusal(self))),
            (State::AwaitTls, 220) if more => return Err(Error::InjectedBeforeTls),
            (State::AwaitTls, 220) => State::StartTls,
            (State::AwaitTls, code @ 400..)
                if self.config.tls == Tls::IfOffered && !closes(code) =>
            {
                self.sign_in()
            }
            (State::AwaitTls, 400..) => return Err(Error::Refused(refusal(self))),
            (State::Quit, _) => State::Closed,
            (state, _) => self.replied_in_mail(state, reply, out)?,
        })
    }
}

/// Whether a reply answers a command of the client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

impl Asked {
    /// Returns whether the text of the reply must not be printed. If a server has ended an exchange with `535` and
    /// interprets the client's next line as a command, it sends an extra `500` reply, which may repeat that line.
    fn hides(self, reply: ReplyRef<'_>) -> bool {
        self == Self::No && (reply.codes_differ() || auth::takes_for_command(reply))
    }

    fn kept(self, reply: ReplyRef<'_>) -> Reply {
        let kept = reply.to_reply();
        if self.hides(reply) { kept.withheld() } else { kept }
    }
}

/// A state from which the session continues at once, or in which it waits.
enum Progress {
    Go(State),
    Wait(State),
}

impl Progress {
    fn stage(&self) -> Stage {
        match self {
            Self::Go(state) | Self::Wait(state) => state.stage(),
        }
    }

    fn exchange(&self) -> Option<&auth::Exchange> {
        match self {
            Self::Go(State::Auth(exchange)) | Self::Wait(State::Auth(exchange)) => Some(exchange),
            _ => None,
        }
    }

    /// Makes the session wait in a state with a notification, so that the caller sees it.
    fn shown(self) -> Self {
        match self {
            Self::Go(state @ (State::Refused(_) | State::Sent(..))) => Self::Wait(state),
            other => other,
        }
    }
}

impl State {
    const READY: Self = Self::Ready(None, Peer::There);

    fn stage(&self) -> Stage {
        match self {
            Self::Greeting => Stage::Greeting,
            Self::Hello | Self::Ehlo | Self::Helo => Stage::Ehlo,
            Self::AwaitTls | Self::StartTls => Stage::StartTls,
            Self::Auth(_) | Self::NotAuthenticated(_) => Stage::Auth,
            Self::Envelope(sending) | Self::Refused(sending) => sending.stage(),
            Self::Data(_) => Stage::Data,
            Self::Message(..) | Self::End(_) => Stage::Message,
            Self::Reset | Self::Rset(..) => Stage::Rset,
            Self::Noop => Stage::Noop,
            Self::Ready(..) | Self::Beginning(_) | Self::Sent(..) => Stage::Rest,
            Self::Quit | Self::Closed | Self::Broken(_) => Stage::Quit,
        }
    }
}

fn quit(out: &mut Vec<u8>) -> State {
    say(out, &["QUIT"]);
    State::Quit
}
