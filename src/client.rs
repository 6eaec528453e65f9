//! The client's side of the whole dialogue: EHLO, STARTTLS, AUTH, messages, QUIT.
//!
//! A [`Session`] does no input or output: octets go in by [`receive`](Session::receive),
//! [`next`](Session::next) says what is to be done and appends what is to be sent. A line of AUTH holds
//! the password: where the buffer grows, the memory that it had is zeroed; the buffer itself is the
//! caller's to zero.
//!
//! | event | |
//! | --- | --- |
//! | [`Derive`](Event::Derive), [`Custom`](Event::Custom), [`NotAuthenticated`](Event::NotAuthenticated), [`Ready`](Event::Ready), [`Message`](Event::Message) | *pending*: shown again until it is answered |
//! | [`NeedInput`](Event::NeedInput), [`StartTls`](Event::StartTls), [`Close`](Event::Close) | *pending*: send what was appended, then read, wrap or close |
//! | [`Refused`](Event::Refused), [`Sent`](Event::Sent) | *notifications*: [`next`](Session::next) passes them, so that each is shown once |
//!
//! ```
//! use std::{error, io::{Read, Write}};
//! use smtp_auth::{Channel, client::{Envelope, Event, Outcome, Session}};
//!
//! /// The outcome of the message; or `None`, and then the application puts the socket inside TLS, and calls this
//! /// again after `session.tls_started(Channel::tls())`. On port 465 TLS comes first.
//! fn send(
//!     socket: &mut (impl Read + Write), session: &mut Session, mail: &mut Option<Envelope>, message: &[u8],
//! ) -> Result<Option<Outcome>, Box<dyn error::Error>> {
//!     let (mut out, mut sent) = (Vec::new(), None);
//!     loop {
//!         match session.next(&mut out)? {
//!             Event::NeedInput => {
//!                 socket.write_all(&out)?;
//!                 out.clear();
//!                 if session.receive_with(4096, |room| socket.read(room))? == 0 {
//!                     session.eof()?;
//!                 }
//!             }
//!             Event::StartTls => {
//!                 socket.write_all(&out)?;
//!                 return Ok(None);
//!             }
//!             Event::Derive(ask) => ask.run(), // some milliseconds of work; `job` takes it elsewhere
//!             Event::Custom(ask) => ask.fail(), // only a mechanism of our own would ask
//!             Event::NotAuthenticated(failed) => return Err(failed.error().into()),
//!             Event::Ready(ready) => match mail.take() {
//!                 Some(envelope) => ready.send(envelope),
//!                 None => ready.quit(),
//!             },
//!             Event::Refused { recipient, refusal } => eprintln!("{recipient}: {refusal}"),
//!             Event::Message(body) => {
//!                 body.write(message, &mut out)?;
//!                 body.end(&mut out)?;
//!             }
//!             Event::Sent(outcome) => sent = Some(outcome.clone()), // it says so for each recipient
//!             Event::Close => {
//!                 socket.write_all(&out)?;
//!                 return sent.map(Some).ok_or("the server has closed".into());
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! # A connection that is kept
//!
//! A session takes one message after the other: [`Session::ready`] gives the handle to begin the next, as soon as the
//! last has had its outcome. How often a connection is used, how long it is kept idle, and whether
//! [`noop`](Ready::noop) asks now and then if the server is still there, is for the application to decide. A server
//! closes an idle connection after some minutes, by a `421` or without a word. Either is [`Error::Closed`], and never a
//! message's refusal: nothing of the message has been sent, and it can go over another connection.
//!
//! What a server announces as its [`Limits`] is held to, and no more than that: a message that would go over one is
//! not sent, and never split.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use crate::{
    command::EhloName,
    message::Stuffing,
    sasl::{
        ConfigError, Mechanism,
        client::{self as sasl, Credentials, Custom, Derive},
    },
    secret::{append, reserve},
};

mod envelope;
mod error;
mod extensions;
mod limits;
mod outcome;
mod parameters;
mod sending;
mod session;

pub use envelope::{Envelope, EnvelopeError, Recipient};
pub use error::{AuthError, Error, Refusal, Stage};
pub use extensions::Extensions;
pub use limits::{Limit, Limits};
pub use outcome::{NotSent, Outcome, RecipientOutcome, RecipientStatus};
pub use parameters::{BodyType, Notify, NotifyOn, Ret};
pub use session::Session;

/// How a client wants its sessions; [`builder`](Self::builder) makes one. Shared by all of them, in an `Arc`.
#[derive(Clone, Debug)]
pub struct Config {
    hostname: Box<str>,
    sasl: Arc<sasl::Config>,
    tls: Tls,
    initial_response: bool,
    lenient_challenges: bool,
    x_exps: bool,
    try_next: TryNext,
    max_tries: u32,
}

/// Whether a client whose exchange came to nothing tries the next mechanism with the same
/// credentials, without asking the caller. Once the client has sent SCRAM's proof, or the server's first
/// message of SCRAM is no good, no other mechanism is tried, whatever is set here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "an application may match on all of them")]
pub enum TryNext {
    /// No: [`Event::NotAuthenticated`] is shown.
    Never,
    /// Where the mechanism could not work: after `504`, `534`, or a challenge for which the client
    /// cancelled. Not after `535`, as a wrong password stays wrong, and accounts get locked.
    IfUnusable,
    /// Also after `535`: for servers that offer mechanisms for which they have no secrets.
    Always,
}

/// Whether a client asks for TLS by STARTTLS (RFC 3207). Inside TLS it never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "an application may match on all of them")]
pub enum Tls {
    /// Always, and nothing else is said where the server refuses.
    Required,
    /// Where the server offers it: no protection from who stands between.
    IfOffered,
    /// Never.
    Never,
}

impl Config {
    /// A configuration to be built, for a client that calls itself `hostname` in EHLO, requires TLS, and uses any
    /// mechanism that is compiled in.
    pub fn builder(hostname: &str) -> Builder {
        Builder {
            config: Self {
                hostname: hostname.into(),
                sasl: Arc::default(),
                tls: Tls::Required,
                initial_response: true,
                lenient_challenges: false,
                x_exps: false,
                try_next: TryNext::IfUnusable,
                max_tries: 3,
            },
        }
    }

    /// The client's name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The part that concerns authentication.
    pub fn sasl(&self) -> &Arc<sasl::Config> {
        &self.sasl
    }

    /// The same configuration, but for whether to ask for TLS: where that is decided elsewhere.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }
}

/// A [`Config`] to be built.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    config: Config,
}

impl Builder {
    /// Which mechanisms to use, and whether without TLS.
    pub fn sasl(mut self, sasl: impl Into<Arc<sasl::Config>>) -> Self {
        self.config.sasl = sasl.into();
        self
    }

    /// Whether to ask for TLS.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.config.tls = tls;
        self
    }

    /// Whether AUTH takes its initial response along, where the mechanism has one and it is short
    /// enough. On by default; off for servers that cannot take one.
    pub fn initial_response(mut self, send: bool) -> Self {
        self.config.initial_response = send;
        self
    }

    /// Whether to try the next mechanism where one came to nothing. By default
    /// [`IfUnusable`](TryNext::IfUnusable).
    pub fn try_next(mut self, when: TryNext) -> Self {
        self.config.try_next = when;
        self
    }

    /// How many mechanisms are tried with the same credentials before the caller is asked: 3 by
    /// default, as some servers close the connection then. What the caller asks for by
    /// [`NotAuthenticated::try_next`] is not bounded.
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.config.max_tries = tries;
        self
    }

    /// Whether the mechanisms of `X-EXPS` are used where AUTH names none, as some Exchange servers
    /// have it. Off by default.
    pub fn x_exps(mut self, read: bool) -> Self {
        self.config.x_exps = read;
        self
    }

    /// Whether a challenge that is not base64 is taken as an empty one, for mechanisms that do
    /// not read it. Off by default: the exchange is cancelled.
    pub fn lenient_challenges(mut self, lenient: bool) -> Self {
        self.config.lenient_challenges = lenient;
        self
    }

    /// The configuration, if nothing in it contradicts the rest.
    ///
    /// # Errors
    /// [`ConfigError::HostName`] where the name is empty or has spaces or control characters.
    pub fn build(self) -> Result<Config, ConfigError> {
        EhloName::new(&self.config.hostname).map_err(|_| ConfigError::HostName)?;
        Ok(self.config)
    }
}

/// What the session needs, or what happened.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new event must break the build of an application that ignores it"
)]
pub enum Event<'a> {
    /// Pending: send what was appended, read from the server, [`receive`](Session::receive); at the
    /// end of the stream [`eof`](Session::eof).
    NeedInput,
    /// Pending: send what was appended, begin TLS, [`tls_started`](Session::tls_started).
    StartTls,
    /// Pending: work that SCRAM needs, here (`run`) or on another thread (`job`, then `answer`).
    Derive(&'a mut Derive),
    /// Pending: what the application's own mechanism says to this.
    Custom(&'a mut Custom),
    /// Pending: the client is not authenticated. Try again, or go on without, or give up.
    NotAuthenticated(NotAuthenticated<'a>),
    /// Pending: nothing is under way. Send a message, or quit. An application that keeps the connection for later
    /// hands in what comes meanwhile, and asks again: [`Error::Closed`] tells that the server has closed it.
    Ready(Ready<'a>),
    /// A recipient was refused. The message may still go to others; its [outcome](Event::Sent) says so.
    Refused {
        /// The address, as it stands in the envelope.
        recipient: &'a str,
        /// The server's refusal.
        refusal: &'a Refusal,
    },
    /// Pending: write the message.
    Message(&'a mut Body),
    /// What has become of the message, for each recipient.
    Sent(&'a Outcome),
    /// Pending: close the connection. This stays.
    Close,
}

/// The client is not authenticated. **The event is shown again until it is answered** by [`retry`](Self::retry),
/// [`try_next`](Self::try_next), [`go_on`](Self::go_on) or [`quit`](Self::quit); or the application
/// gives up and closes.
#[derive(Debug)]
#[must_use = "the session waits for what is to be done"]
pub struct NotAuthenticated<'a> {
    error: &'a AuthError,
    mechanism: Option<Mechanism>,
    answer: &'a mut Option<Retry>,
}

#[derive(Debug)]
enum Retry {
    With(Box<Credentials>),
    Next,
    GoOn,
    Quit,
}

impl<'a> NotAuthenticated<'a> {
    /// Why.
    pub fn reason(&self) -> &'a AuthError {
        self.error
    }

    /// Why, as the error to give up with.
    pub fn error(&self) -> Error {
        Error::NotAuthenticated(self.error.clone())
    }

    /// The mechanism that was refused; `None` where none could be used.
    pub fn mechanism(&self) -> Option<Mechanism> {
        self.mechanism
    }

    /// Tries again, with other credentials.
    pub fn retry(self, credentials: Credentials) {
        *self.answer = Some(Retry::With(Box::new(credentials)));
    }

    /// Tries the next mechanism with the same credentials: a server may offer one that it has no
    /// secrets for. Where there is none left, or none may be tried, this is shown once more with the same
    /// reason and no [`mechanism`](Self::mechanism); then it says QUIT. None may be tried where SCRAM has
    /// failed for more than its name: the password would go by PLAIN to an impostor.
    pub fn try_next(self) {
        *self.answer = Some(Retry::Next);
    }

    /// Goes on without being authenticated.
    pub fn go_on(self) {
        *self.answer = Some(Retry::GoOn);
    }

    /// Says QUIT.
    pub fn quit(self) {
        *self.answer = Some(Retry::Quit);
    }
}

/// Nothing is under way. **The event is shown again until one of its methods is called**; what they ask for is written
/// by the next [`advance`](Session::advance). After a `421` there is only [`quit`](Self::quit): anything else ends the
/// session, with [`Error::Closed`].
///
/// How often a session is used again is for the application to decide: nothing is counted here but what the server
/// limits by [`Limits`].
#[derive(Debug)]
#[must_use = "the session waits for what is to be done"]
pub struct Ready<'a> {
    next: &'a mut Option<Next>,
    extensions: &'a Extensions,
}

#[derive(Debug)]
enum Next {
    Send(Box<Envelope>),
    Noop,
    Reset,
    Quit,
}

impl<'a> Ready<'a> {
    /// What the server offers, to make an envelope by.
    ///
    /// ```
    /// use smtp_auth::client::{Envelope, EnvelopeError, Notify, Ready, Recipient};
    ///
    /// /// Wants no notification, where the server knows what that is.
    /// fn send(ready: Ready<'_>) -> Result<(), EnvelopeError> {
    ///     let mut ann = Recipient::new("ann@example.org")?;
    ///     if ready.extensions().offers("DSN") {
    ///         ann = ann.notify(Notify::Never);
    ///     }
    ///     ready.send(Envelope::new(Some("tim@example.org"), [ann])?);
    ///     Ok(())
    /// }
    /// ```
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }

    /// Begins a message.
    pub fn send(self, envelope: Envelope) {
        *self.next = Some(Next::Send(Box::new(envelope)));
    }

    /// Says NOOP, to learn whether the server is still there, and to have it wait longer perhaps. Then the session is
    /// ready again, also where the server does not know the command (`5xx`): it is there. Where it has closed the
    /// connection, or says that it does (`421`, or another `4xx`), the session is over, with [`Error::Closed`].
    pub fn noop(self) {
        *self.next = Some(Next::Noop);
    }

    /// Says RSET, for a server that is to forget everything but who has authenticated, and goes on as
    /// [`noop`](Self::noop). A session never needs it: after a message that was refused it says RSET by itself.
    pub fn reset(self) {
        *self.next = Some(Next::Reset);
    }

    /// Says QUIT.
    pub fn quit(self) {
        *self.next = Some(Next::Quit);
    }
}

/// The place to write the message to. **It stands until [`end`](Self::end).** Its lines end in
/// CRLF; dots are doubled and the end is marked here.
#[derive(Debug)]
pub struct Body {
    stuffing: Stuffing,
    octets: u64,
    ended: bool,
    broken: bool,
}

impl Body {
    const START: Self = Self { stuffing: Stuffing::START, octets: 0, ended: false, broken: false };

    /// Appends a part of the message. Send `out` before the next, or memory grows with the message.
    ///
    /// # Errors
    /// [`Error::BareLineEnd`], and the session is over: close the connection, and the server will
    /// not deliver half a message. [`Error::MessageEnded`] after [`end`](Self::end).
    pub fn write(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.pieces(octets)?.for_each(|piece| append(out, piece));
        Ok(())
    }

    /// The same as slices, for a vectored write without a copy. All of them are to be sent.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn pieces<'b>(
        &mut self,
        octets: &'b [u8],
    ) -> Result<impl Iterator<Item = &'b [u8]> + use<'b>, Error> {
        self.check()?;
        self.octets += octets.len() as u64;
        let pieces = self.stuffing.pieces(octets);
        self.broken |= pieces.is_err();
        pieces.map_err(|_| Error::BareLineEnd)
    }

    /// Appends the end mark, after a CRLF where the last line has none.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.check()?;
        reserve(out, "\r\n.\r\n".len());
        let end = self.stuffing.end(out);
        self.broken = end.is_err();
        self.ended = end.is_ok();
        self.check_broken()
    }

    fn check(&self) -> Result<(), Error> {
        if self.ended { Err(Error::MessageEnded) } else { self.check_broken() }
    }

    fn check_broken(&self) -> Result<(), Error> {
        if self.broken { Err(Error::BareLineEnd) } else { Ok(()) }
    }
}
