//! The client's state machine.

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

/// One connection to a server, from its greeting to the end.
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

/// Whether the server is there.
#[derive(Clone, Debug)]
enum Peer {
    There,
    /// It has closed the connection, by this reply if it said one.
    Gone(Option<Reply>),
}

/// Whether the caller has seen it.
#[derive(Clone, Copy)]
struct Shown(bool);

/// To look changes nothing.
impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

#[derive(Debug)]
enum State {
    Greeting,
    /// EHLO is to be written.
    Hello,
    Ehlo,
    Helo,
    AwaitTls,
    /// The caller is to begin TLS.
    StartTls,
    Auth(Box<auth::Exchange>),
    NotAuthenticated(Box<Failed>),
    /// And what is to be done next, if that has been said.
    Ready(Option<Next>, Peer),
    /// This is to be done next, and the server has said the beginning of a line.
    Beginning(Next),
    /// NOOP or RSET is sent, with no message under way.
    Noop,
    Reset,
    /// MAIL and RCPT.
    Envelope(Box<Sending>),
    /// The last reply refused a recipient.
    Refused(Box<Sending>),
    Data(Box<Sending>),
    Message(Box<Sending>, Body),
    End(Box<Sending>),
    /// RSET is sent after a message that was refused.
    Rset(Box<Sending>, Refusal),
    /// And whether it has been shown.
    Sent(Box<Outcome>, Peer, Shown),
    Quit,
    Closed,
    Broken(Error),
}

impl Session {
    /// A session that signs in with these credentials before anything else. One configuration serves
    /// all sessions of a client.
    ///
    /// Under implicit TLS call [`tls_started`](Self::tls_started) before the first
    /// [`next`](Self::next).
    pub fn new(config: Arc<Config>, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..Self::without_credentials(config) }
    }

    /// A session that does not sign in.
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

    /// Has each line of the dialogue handed to `hook`, without CRLF and with everything secret
    /// masked.
    pub fn trace(&mut self, hook: impl FnMut(crate::Side, &str) + Send + Sync + 'static) {
        self.trace = Trace::new(hook);
    }

    /// Takes octets from the server. At any moment; nothing that is pending changes.
    pub fn receive(&mut self, octets: &[u8]) {
        // Nothing is read any more after the end.
        if !matches!(self.state, State::Closed | State::Broken(_)) {
            self.lines.receive(octets);
        }
    }

    /// Takes octets from the server that `read` puts straight into the session's buffer. `read` gets room for up to `room`
    /// octets, and returns how many it has put there; that is passed on, a 0 at the end of the stream, too.
    ///
    /// If `read` fails, for instance with `WouldBlock`, the room is given back, so that an idle connection holds none.
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
    /// [`server::Session::receive_with`](crate::server::Session::receive_with) shows the same with tokio.
    ///
    /// # Errors
    /// Those of `read`; nothing has been received then.
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

    /// TLS has begun. All that the server said before is gone (RFC 3207 §4.2).
    pub fn tls_started(&mut self, channel: Channel) {
        let behind = self.lines.clear();
        self.line_ends.forget();
        self.channel = channel;
        self.extensions = Extensions::default();
        self.used = Used::default();
        self.authenticated = None;
        self.tries = Tries::default();
        self.state = match mem::replace(&mut self.state, State::Closed) {
            State::Closed => State::Closed,
            State::Broken(error) => State::Broken(error),
            _ if behind > 0 => State::Broken(Error::InjectedBeforeTls),
            State::Greeting => State::Greeting,
            _ => State::Hello,
        };
    }

    /// What the server offers, as its last EHLO said.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// By which mechanism the client has signed in, if it has.
    pub fn authenticated(&self) -> Option<Mechanism> {
        self.authenticated
    }

    /// Where the dialogue stands.
    pub fn stage(&self) -> Stage {
        self.state.stage()
    }

    /// How long to wait for what the session waits for: the server's next octets, or TLS; then
    /// [`timed_out`](Self::timed_out). As RFC 5321 §4.5.3.2 has it: five minutes for the greeting, MAIL and RCPT, two
    /// for DATA, ten for the reply to the message; and five minutes for all that it does not name, such as EHLO,
    /// STARTTLS and AUTH. `None` while it waits for the application: for a message's octets, of which each piece
    /// should be written within three minutes, too.
    ///
    /// The session has no clock.
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

    /// What is known of the connection.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What is to be done now: [`advance`](Self::advance), and then [`pending`](Self::pending). Appends what is to be
    /// sent.
    ///
    /// # Errors
    /// The session is over; each later call says the same. Close the connection.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Event<'_>, Error> {
        self.go_on(out);
        match &self.state {
            State::Broken(error) => Err(error.clone()),
            _ => Ok(self.pending()),
        }
    }

    /// Moves on, and says whether that needs input. Appends what is to be sent.
    ///
    /// An event that waits for an answer stays until it has one. **A notification is passed**: look at
    /// [`pending`](Self::pending) after each call. A driver that reads by itself lends events with this, and waits in
    /// between:
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
    ///             self.send_and_receive().await?; // at the end of the stream, `session.eof()`
    ///         }
    ///         Ok(self.session.pending())
    ///     }
    /// #   fn send_and_receive(&mut self) -> impl Future<Output = io::Result<()>> { async { Ok(()) } }
    /// }
    /// ```
    ///
    /// # Errors
    /// The session is over; each later call says the same. Close the connection.
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

    /// The event that the last [`advance`](Self::advance) came to, as often as wanted: nothing moves on. One that was
    /// answered is shown until the next [`advance`](Self::advance); another answer would replace the first. It is [`Event::NeedInput`]
    /// before the first call and after [`tls_started`](Self::tls_started), and [`Event::Close`] after an error.
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

    /// Moves on until something is pending, or is to be shown.
    fn go_on(&mut self, out: &mut Vec<u8>) {
        loop {
            let mark = out.len();
            let failure = State::Broken(Error::Disconnected(self.state.stage()));
            let state = mem::replace(&mut self.state, failure);
            let secret = matches!(state, State::Auth(_));
            let awaits_more = matches!(&state, State::Envelope(sending) if sending.awaits_reply());
            let mut progress = self.transition(state, out);
            // A command has been written, and its reply cannot be here yet.
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
                    // It may hold the password.
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

    /// Nothing may have come from the server yet. A refusal, which may come at any time (RFC 5321
    /// §3.8), is the reason to end with. While a message is written, the rest of one is waited for.
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

    /// A refusal that has come and has not been looked at.
    fn pending_refusal(
        &mut self,
        stage: Stage,
        exchange: Option<&auth::Exchange>,
    ) -> Option<Refusal> {
        let come = self.next_reply(stage, exchange, Asked::Yes).ok()?;
        if come { self.shown_refusal(stage, exchange, Asked::Yes) } else { None }
    }

    /// The pending reply, if it refuses.
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

    /// Nothing is under way, so that the server has nothing to say but that it closes the connection.
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
                    // Nothing is lost.
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
                    // What has just been said has no reply yet: the loop looks for silence first.
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
            // What has become of a message is not passed unseen.
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

    /// Takes the reply that the state waits for, if it has come.
    fn reply(&mut self, state: State, out: &mut Vec<u8>) -> Result<Progress, Error> {
        let stage = state.stage();
        if !self.next_reply(stage, None, Asked::Yes)? {
            return Ok(Progress::Wait(state));
        }
        // Borrowed apart from `self`, and put back below.
        let lines = mem::take(&mut self.lines);
        let next = match ReplyRef::parse(lines.shown()) {
            Ok(reply) if reply.codes_differ() => self.torn(state, reply),
            Ok(reply) => self.replied(state, reply, !lines.rest().is_empty(), out),
            Err(_) => Err(Error::NotAReply(stage)),
        };
        self.lines = lines;
        Ok(Progress::Go(next?).shown())
    }

    /// A refusal that began as another reply. Nothing that follows can be relied on.
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

    /// Whether a reply has come: in the exchange, if one is under way, which knows what may be shown of it.
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
                // Of a reply whose codes differ only the last lines can be looked at, and all would be shown.
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
            // HELO offers nothing: it will do only where nothing is asked.
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

/// Whether a reply is to a command of the client's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

impl Asked {
    /// A server that takes a line of an exchange for a command says so after its reply to the exchange, in which
    /// that line was, and repeats it: `535`, then `500`.
    fn hides(self, reply: ReplyRef<'_>) -> bool {
        self == Self::No && (reply.codes_differ() || auth::takes_for_command(reply))
    }

    fn kept(self, reply: ReplyRef<'_>) -> Reply {
        let kept = reply.to_reply();
        if self.hides(reply) { kept.withheld() } else { kept }
    }
}

/// A state to go on from, or to wait in.
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

    /// What is shown once waits for the caller to see it.
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
