//! The client's state machine.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::mem;

use super::{
    AuthError, AuthFailed, Body, Config, Error, Event, Extensions, Fate, Next, Ready, Retry, Step,
    Tls,
    sending::{Sending, say},
};
use crate::{
    auth::client as auth,
    ehlo::Ehlo,
    line::Lines,
    message::Stuffing,
    reply::{self, MAX_REPLY_LINE, MAX_REPLY_OCTETS, Reply, ReplyRef},
    sasl::{Channel, Mechanism, client::Credentials},
    trace::{Side, Trace},
};

mod sign_in;

use sign_in::{Tries, refusal};

/// One connection to a server, from its greeting to the end.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    channel: Channel,
    credentials: Option<Credentials>,
    lines: Lines,
    state: State,
    extensions: Extensions,
    authenticated: Option<Mechanism>,
    tries: Tries,
    trace: Trace,
}

#[derive(Debug)]
enum State {
    Greeting,
    /// EHLO is to be written.
    Hello,
    Ehlo,
    Helo,
    AwaitTls,
    /// The host is to begin TLS.
    StartTls,
    Auth(Box<auth::Exchange>),
    AuthFailed(AuthFailed),
    Ready(Ready),
    /// MAIL and RCPT.
    Envelope(Box<Sending>),
    Refused(Box<Sending>, Reply),
    Data,
    Message(Body),
    End,
    /// RSET is sent behind a message that came to nothing.
    Rset(Step, Reply),
    Sent(Fate),
    Quit,
    Closed,
    Broken(Error),
}

impl Session {
    /// A session that signs in with these credentials before anything else.
    ///
    /// Under implicit TLS call [`tls_started`](Self::tls_started) before the first
    /// [`next`](Self::next).
    pub fn new(config: impl Into<Arc<Config>>, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..Self::without_credentials(config) }
    }

    /// A session that does not sign in.
    pub fn without_credentials(config: impl Into<Arc<Config>>) -> Self {
        Self {
            config: config.into(),
            channel: Channel::cleartext(),
            credentials: None,
            lines: Lines::default(),
            state: State::Greeting,
            extensions: Extensions::default(),
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

    /// Takes octets from the server. At any moment; nothing that is owed changes.
    pub fn receive(&mut self, octets: &[u8]) {
        // Nothing is read any more behind the end.
        if !matches!(self.state, State::Closed | State::Broken(_)) {
            self.lines.receive(octets);
        }
    }

    /// The server has closed the connection. To be called at [`Event::NeedInput`], when all that was
    /// received has been looked at.
    ///
    /// # Errors
    /// [`Error::Disconnected`] where that is no good end, or the refusal that came before.
    pub fn eof(&mut self) -> Result<(), Error> {
        let step = self.state.step();
        let error = match &self.state {
            State::Closed => return Ok(()),
            // Nothing is lost if the server does not wait for its reply to be read.
            State::Quit => {
                self.state = State::Closed;
                return Ok(());
            }
            State::Broken(error) => error.clone(),
            State::Rset(step, reply) => Error::Refused(*step, reply.clone()),
            State::Envelope(sending) => sending.refused().unwrap_or(Error::Disconnected(step)),
            State::AuthFailed(failed) => failed.error(),
            State::Auth(exchange) if exchange.sees_impostor() => Error::ServerNotAuthentic,
            State::Auth(exchange) => {
                let mechanism = exchange.mechanism();
                let token_error = exchange.token_error().map(Into::into);
                let proof_awaited = exchange.awaits_proof();
                match (self.pending_refusal(step), token_error, &self.tries.refused) {
                    (Some(Error::Refused(_, reply)), token_error, _) => {
                        Error::NotAuthenticated(refusal(mechanism, reply, token_error))
                    }
                    (_, token_error @ Some(_), _) => {
                        let reply = None;
                        Error::NotAuthenticated(AuthError::TokenRefused { reply, token_error })
                    }
                    _ if proof_awaited => Error::ServerNotAuthentic,
                    (_, None, Some(refused)) => Error::NotAuthenticated(refused.clone()),
                    (_, None, None) => Error::Disconnected(step),
                }
            }
            _ => self.pending_refusal(step).unwrap_or(Error::Disconnected(step)),
        };
        self.state = State::Broken(error.clone());
        Err(error)
    }

    /// TLS has begun. All that the server said before is gone (RFC 3207 §4.2).
    pub fn tls_started(&mut self, channel: Channel) {
        let behind = self.lines.clear();
        self.channel = channel;
        self.extensions = Extensions::default();
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

    /// Where the dialogue stands: for a host that has to say at which step time ran out.
    pub fn step(&self) -> Step {
        self.state.step()
    }

    /// What is known of the connection.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What is to be done now. Appends what is to be sent.
    ///
    /// # Errors
    /// The session is over; each later call says the same. Close the connection.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Event<'_>, Error> {
        self.advance(out);
        Ok(match &mut self.state {
            State::StartTls => Event::StartTls,
            State::AuthFailed(failed) => Event::AuthFailed(failed),
            State::Auth(exchange) => match exchange.step(out) {
                auth::Step::Derive(derive) => Event::Derive(derive),
                auth::Step::Challenge(challenge) => Event::Challenge(challenge),
                _ => Event::NeedInput,
            },
            State::Ready(ready) => Event::Ready(ready),
            State::Refused(sending, reply) => Event::Refused(sending.last_answered(), reply),
            State::Message(body) => Event::Message(body),
            State::Sent(fate) => Event::Sent(fate),
            State::Closed => Event::Close,
            State::Broken(error) => return Err(error.clone()),
            State::Greeting
            | State::Hello
            | State::Ehlo
            | State::Helo
            | State::AwaitTls
            | State::Envelope(_)
            | State::Data
            | State::End
            | State::Rset(..)
            | State::Quit => Event::NeedInput,
        })
    }

    /// Moves on until something is owed, or is to be shown.
    fn advance(&mut self, out: &mut Vec<u8>) {
        loop {
            let mark = out.len();
            let failure = State::Broken(Error::Disconnected(self.state.step()));
            let state = mem::replace(&mut self.state, failure);
            let secret = matches!(state, State::Auth(_));
            let awaits_more = matches!(&state, State::Envelope(sending) if sending.awaits_reply());
            let progress = self.transition(state, out).and_then(|progress| {
                // A command has been written, and its reply cannot be here yet.
                if out.len() > mark && !awaits_more {
                    self.expect_silence(progress.step())?;
                }
                Ok(progress)
            });
            let (state, settled) = match progress {
                Ok(Progress::Go(state)) => (state, false),
                Ok(Progress::Wait(state)) => (state, true),
                Err(error) => {
                    out.truncate(mark);
                    (State::Broken(error), true)
                }
            };
            self.state = state;
            self.trace_sent(secret, out.get(mark..).unwrap_or_default());
            if settled {
                return;
            }
        }
    }

    /// Nothing may have come from the server yet. A refusal, which may come at any time (RFC 5321
    /// §3.8), is the reason to end with.
    fn expect_silence(&mut self, step: Step) -> Result<(), Error> {
        if self.lines.rest().is_empty() {
            return Ok(());
        }
        Err(self.pending_refusal(step).unwrap_or(Error::Unsolicited(step)))
    }

    /// A refusal that has come and has not been looked at.
    fn pending_refusal(&mut self, step: Step) -> Option<Error> {
        if !self.next_reply(step).ok()? {
            return None;
        }
        let reply = ReplyRef::parse(self.lines.shown()).ok()?;
        (reply.code() >= 400).then(|| Error::Refused(step, reply.to_reply()))
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
            State::AuthFailed(AuthFailed {
                answer: Some(answer),
                error,
                mechanism,
                may_try_next,
            }) => match answer {
                Retry::With(credentials) => {
                    self.credentials = Some(*credentials);
                    self.tries = Tries::default();
                    self.sign_in()
                }
                Retry::Next => match mechanism {
                    Some(mechanism) if may_try_next => {
                        self.tries.add(mechanism, error);
                        self.sign_in()
                    }
                    Some(_) => State::AuthFailed(AuthFailed {
                        error,
                        mechanism: None,
                        may_try_next: false,
                        answer: None,
                    }),
                    None => quit(out),
                },
                Retry::GoOn => State::READY,
                Retry::Quit => quit(out),
            },
            State::Ready(Ready { next: Some(Next::Quit) }) => quit(out),
            State::Ready(Ready { next: Some(Next::Send(envelope)) }) => {
                match Sending::begin(envelope, &self.extensions, out) {
                    Ok(sending) => State::Envelope(Box::new(sending)),
                    Err(fate) => State::Sent(fate),
                }
            }
            State::Envelope(mut sending) => {
                let mark = out.len();
                sending.ask(&self.extensions, out);
                match sending.verdict() {
                    // What has just been said has no reply yet: the loop looks for silence first.
                    None if out.len() > mark => State::Envelope(sending),
                    None => return self.reply(State::Envelope(sending), out),
                    Some(Ok(())) => {
                        say(out, &["DATA"]);
                        State::Data
                    }
                    // The server has said goodbye.
                    Some(Err((step, reply))) if reply.code() == 421 => {
                        State::Sent(Fate::Refused(step, reply))
                    }
                    Some(Err((step, reply))) => {
                        say(out, &["RSET"]);
                        State::Rset(step, reply)
                    }
                }
            }
            State::Refused(sending, _) => State::Envelope(sending),
            State::Message(Body { broken: true, .. }) => return Err(Error::BareLineEnd),
            State::Message(Body { ended: true, octets, .. }) => {
                self.trace.message(octets);
                State::End
            }
            State::Message(body) => {
                self.expect_silence(Step::Message)?;
                return Ok(Progress::Wait(State::Message(body)));
            }
            State::Sent(_) => State::READY,
            owed @ (State::StartTls
            | State::AuthFailed(_)
            | State::Ready(_)
            | State::Closed
            | State::Broken(_)) => return Ok(Progress::Wait(owed)),
            waiting => return self.reply(waiting, out),
        })
        .shown())
    }

    /// Takes the reply that the state waits for, if it has come.
    fn reply(&mut self, state: State, out: &mut Vec<u8>) -> Result<Progress, Error> {
        let step = state.step();
        if !self.next_reply(step)? {
            return Ok(Progress::Wait(state));
        }
        // Borrowed apart from `self`, and put back below.
        let lines = mem::take(&mut self.lines);
        let next = match ReplyRef::parse(lines.shown()) {
            Ok(reply) => self.replied(state, reply, !lines.rest().is_empty(), out),
            Err(_) => Err(Error::NotAReply(step)),
        };
        self.lines = lines;
        Ok(Progress::Go(next?).shown())
    }

    fn next_reply(&mut self, step: Step) -> Result<bool, Error> {
        let last = |line: &[u8]| reply::line_is_last(line) != Some(false);
        match self.lines.next_block(MAX_REPLY_LINE, MAX_REPLY_OCTETS, last) {
            None => {
                self.lines.give_back();
                Ok(false)
            }
            Some(Err(_)) => Err(Error::NotAReply(step)),
            Some(Ok(())) => {
                self.trace.lines(Side::Server, self.lines.shown());
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
        let step = state.step();
        let unexpected = || Err(Error::UnexpectedReply(step, reply.to_reply()));
        let refused = || Err(Error::Refused(step, reply.to_reply()));
        Ok(match (state, reply.code()) {
            (State::Greeting, 220) => State::Hello,
            (State::Greeting, 400..) => return refused(),
            (State::Ehlo, 250) => {
                self.extensions = Extensions::read(Ehlo::new(reply), &self.config);
                match self.config.tls {
                    Tls::Required | Tls::IfOffered
                        if !self.channel.is_tls() && self.extensions.starttls =>
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
            (State::Ehlo | State::Helo, 400..) => return refused(),
            (State::AwaitTls, 220) if more => return Err(Error::InjectedBeforeTls),
            (State::AwaitTls, 220) => State::StartTls,
            (State::AwaitTls, 400..) if self.config.tls == Tls::IfOffered => self.sign_in(),
            (State::AwaitTls, 400..) => return Err(Error::Refused(step, reply.to_reply())),
            (State::Envelope(mut sending), 200..=299 | 400..) => {
                match sending.answered(reply.code() < 300, || reply.to_reply()) {
                    Some(refusal) => State::Refused(sending, refusal),
                    None => State::Envelope(sending),
                }
            }
            (State::Data, 354) => State::Message(Body {
                stuffing: Stuffing::START,
                octets: 0,
                ended: false,
                broken: false,
            }),
            (State::Data, 421) => State::Sent(Fate::Refused(step, reply.to_reply())),
            (State::Data, 400..) => {
                say(out, &["RSET"]);
                State::Rset(step, reply.to_reply())
            }
            (State::End, 200..=299) => State::Sent(Fate::Accepted(reply.to_reply())),
            (State::End, 400..) => State::Sent(Fate::Refused(step, reply.to_reply())),
            (State::Rset(step, why), 200..=299 | 400..) => State::Sent(Fate::Refused(step, why)),
            (State::Quit, _) => State::Closed,
            _ => return unexpected(),
        })
    }
}

/// A state to go on from, or to wait in.
enum Progress {
    Go(State),
    Wait(State),
}

impl Progress {
    fn step(&self) -> Step {
        match self {
            Self::Go(state) | Self::Wait(state) => state.step(),
        }
    }

    /// What is shown once waits for the host to see it.
    fn shown(self) -> Self {
        match self {
            Self::Go(state @ (State::Refused(..) | State::Sent(_))) => Self::Wait(state),
            other => other,
        }
    }
}

impl State {
    const READY: Self = Self::Ready(Ready { next: None });

    fn step(&self) -> Step {
        match self {
            Self::Greeting => Step::Greeting,
            Self::Hello | Self::Ehlo | Self::Helo => Step::Ehlo,
            Self::AwaitTls | Self::StartTls => Step::StartTls,
            Self::Auth(_) | Self::AuthFailed(_) => Step::Auth,
            Self::Envelope(sending) | Self::Refused(sending, _) => sending.step(),
            Self::Data => Step::Data,
            Self::Message(_) | Self::End => Step::Message,
            Self::Rset(..) => Step::Rset,
            Self::Ready(_) | Self::Sent(_) | Self::Quit | Self::Closed | Self::Broken(_) => {
                Step::Quit
            }
        }
    }
}

fn quit(out: &mut Vec<u8>) -> State {
    say(out, &["QUIT"]);
    State::Quit
}
