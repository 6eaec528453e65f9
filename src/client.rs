//! The client's side of the whole dialogue: EHLO, STARTTLS, AUTH, messages, QUIT.
//!
//! A [`Session`] does no input or output: octets go in by [`receive`](Session::receive),
//! [`next`](Session::next) says what is to be done and appends what is to be sent.
//!
//! ```
//! use std::io::{self, Read, Write};
//! use smtp_auth::client::{Envelope, Error, Event, Session};
//!
//! # type Failure = Box<dyn std::error::Error>;
//! /// Sends one message over a connection that is inside TLS already.
//! fn send(
//!     socket: &mut (impl Read + Write), session: &mut Session, envelope: Envelope, message: &[u8],
//! ) -> Result<(), Failure> {
//!     let (mut out, mut buffer, mut mail) = (Vec::new(), [0; 4096], Some(envelope));
//!     loop {
//!         match session.next(&mut out)? {
//!             Event::NeedInput => {
//!                 socket.write_all(&out)?;
//!                 out.clear();
//!                 match socket.read(&mut buffer)? {
//!                     0 => session.eof()?,
//!                     n => session.receive(&buffer[..n]),
//!                 }
//!             }
//!             Event::StartTls => return Err("this example wants TLS from the start".into()),
//!             Event::AuthFailed(failed) => return Err(failed.error().into()),
//!             Event::Ready(ready) => match mail.take() {
//!                 Some(envelope) => ready.send(envelope),
//!                 None => ready.quit(),
//!             },
//!             Event::Refused(recipient, reply) => eprintln!("recipient {recipient}: {reply}"),
//!             Event::Message(body) => {
//!                 body.write(message, &mut out)?;
//!                 body.end(&mut out)?;
//!             }
//!             Event::Sent(fate) => println!("{fate}"),
//!             Event::Closed => return Ok(()),
//!         }
//!     }
//! }
//! ```

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt;

use crate::{
    auth,
    command::{EhloName, MailAuth, Mailbox},
    message::Stuffing,
    reply::Reply,
    sasl::{
        ConfigError, Mechanism,
        client::{self as sasl, Credentials, NoMechanism},
    },
};

mod session;

pub use session::{Extensions, Session};

/// How a client wants its sessions. Shared by all of them, in an `Arc`.
#[derive(Clone, Debug)]
pub struct Config {
    hostname: Box<str>,
    sasl: sasl::Config,
    tls: Tls,
    initial_response: bool,
    lenient_challenges: bool,
}

/// Whether a client asks for TLS by STARTTLS (RFC 3207). Inside TLS it never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth way")]
pub enum Tls {
    /// Always, and nothing else is said where the server refuses.
    Required,
    /// Where the server offers it: no protection from who stands between.
    IfOffered,
    /// Never.
    Never,
}

impl Config {
    /// A client that calls itself `hostname` in EHLO, requires TLS, and uses any mechanism that
    /// is compiled in.
    ///
    /// # Errors
    /// [`ConfigError::HostName`] where the name is empty or has spaces or control characters.
    pub fn new(hostname: &str) -> Result<Self, ConfigError> {
        EhloName::new(hostname).map_err(|_| ConfigError::HostName)?;
        Ok(Self {
            hostname: hostname.into(),
            sasl: sasl::Config::default(),
            tls: Tls::Required,
            initial_response: true,
            lenient_challenges: false,
        })
    }

    /// Which mechanisms to use, and whether without TLS.
    pub fn sasl(mut self, sasl: sasl::Config) -> Self {
        self.sasl = sasl;
        self
    }

    /// Whether to ask for TLS.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Whether AUTH takes its initial response along, where the mechanism has one and it is short
    /// enough. On by default; off for servers that cannot take one.
    pub fn initial_response(mut self, send: bool) -> Self {
        self.initial_response = send;
        self
    }

    /// Whether a challenge that is not base64 is taken as an empty one, for mechanisms that do
    /// not read it. Off by default: the exchange is cancelled.
    pub fn lenient_challenges(mut self, lenient: bool) -> Self {
        self.lenient_challenges = lenient;
        self
    }
}

/// What the session needs, or what happened.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new obligation must break the build of a host that ignores it"
)]
pub enum Event<'a> {
    /// Owed: send what was appended, read from the server, [`receive`](Session::receive); at the
    /// end of the stream [`eof`](Session::eof).
    NeedInput,
    /// Owed: send what was appended, begin TLS, [`tls_started`](Session::tls_started).
    StartTls,
    /// Owed: the client is not signed in. Try again, or go on without, or give up.
    AuthFailed(&'a mut AuthFailed),
    /// Owed: nothing is under way. Send a message, or quit.
    Ready(&'a mut Ready),
    /// A recipient, by its place in the envelope, was refused.
    Refused(usize, &'a Reply),
    /// Owed: write the message.
    Message(&'a mut Body),
    /// What has become of the message.
    Sent(&'a Fate),
    /// Owed: close the connection. This stays.
    Closed,
}

/// Where in the dialogue something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The server's greeting.
    Greeting,
    /// EHLO, or HELO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL, the sender.
    Mail,
    /// RCPT, the recipients.
    Rcpt,
    /// DATA, the permission to send the message.
    Data,
    /// The message itself.
    Message,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "the greeting",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "the sender's address (MAIL)",
            Self::Rcpt => "the recipients' addresses (RCPT)",
            Self::Data => "DATA",
            Self::Message => "the message",
            Self::Rset => "RSET",
            Self::Quit => "QUIT",
        })
    }
}

/// Why a session is over before its end. [`BareLineEnd`](Self::BareLineEnd) and
/// [`MessageEnded`](Self::MessageEnded) are the caller's doing, every other the server's, or of who
/// stands between.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server closed the connection, or it broke.
    #[error("the connection was closed at {0}; try again later")]
    Disconnected(Step),
    /// The server refused at that step, and there is no way on.
    #[error("the server refused {what}: {reply}", what = refused(.0), reply = .1)]
    Refused(Step, Reply),
    /// TLS is required, and the server does not offer it.
    #[error("the server does not offer TLS (STARTTLS), which is required here")]
    TlsNotOffered,
    /// TLS is required, and the server refused it.
    #[error("the server refused to begin TLS: {0}")]
    TlsRefused(Reply),
    /// Octets arrived behind the reply to STARTTLS and before TLS: somebody stands between, or
    /// the server is broken.
    #[error(
        "the server sent something between STARTTLS and TLS: the connection may be tampered with"
    )]
    InjectedBeforeTls,
    /// The client is not signed in.
    #[error(transparent)]
    NotAuthenticated(AuthError),
    /// What the server sent is not a reply.
    #[error("the server sent something that is not an SMTP reply at {0}")]
    NotAReply(Step),
    /// Something came before it was asked for: a reply to a command that had not been sent.
    #[error("the server answered before it was asked, at {0}")]
    Unsolicited(Step),
    /// The reply has no place where it came.
    #[error("the server answered out of turn at {0}: {1}")]
    UnexpectedReply(Step, Reply),
    /// The server said that the client is signed in before the mechanism was at its end.
    #[error("the server said success before the sign-in was complete")]
    EarlySuccess,
    /// The message has a bare CR or LF. The caller has to send lines that end in CRLF.
    #[error("the message has a line that does not end in CRLF")]
    BareLineEnd,
    /// The message has been ended already. The caller has to begin another.
    #[error("the message has been ended already")]
    MessageEnded,
}

/// Why the client is not signed in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The server refused: `535` for wrong credentials.
    #[error("{why}: {0}", why = explain(.0))]
    Refused(Reply),
    /// No mechanism can be used.
    #[error(transparent)]
    NoMechanism(NoMechanism),
    /// The server's challenge made no sense, and the client cancelled; this is what the server said
    /// to that.
    #[error("the server's challenge could not be read, so the sign-in was cancelled: {0}")]
    Cancelled(Reply),
}

fn refused(step: &Step) -> &dyn fmt::Display {
    match step {
        Step::Greeting | Step::Ehlo => &"to talk to this client",
        step => step,
    }
}

/// A reply to AUTH in words (RFC 4954 §6).
fn explain(reply: &Reply) -> &'static str {
    match reply.code() {
        535 => "the server refused the user name or password",
        454 => "the server cannot check passwords at the moment, try again later",
        432 => {
            "the server wants the account moved to this way of signing in, by another way, first"
        }
        534 => "the server wants a stronger way to sign in for this account",
        538 => "the server wants TLS before the sign-in",
        421 => "the server is closing the connection",
        400..=499 => "the server could not sign the user in for the moment, try again later",
        _ => "the server refused to sign the user in",
    }
}

/// The client is not signed in. **This stands until it is settled** by [`retry`](Self::retry),
/// [`try_next`](Self::try_next), [`go_on`](Self::go_on) or [`quit`](Self::quit); or the host gives
/// up and closes.
#[derive(Debug)]
pub struct AuthFailed {
    error: AuthError,
    mechanism: Option<Mechanism>,
    answer: Option<Retry>,
}

#[derive(Debug)]
enum Retry {
    With(Box<Credentials>),
    Next,
    GoOn,
    Quit,
}

impl AuthFailed {
    /// Why.
    pub fn reason(&self) -> &AuthError {
        &self.error
    }

    /// Why, as the error to give up with.
    pub fn error(&self) -> Error {
        Error::NotAuthenticated(self.error.clone())
    }

    /// Tries again, with other credentials.
    pub fn retry(&mut self, credentials: Credentials) {
        self.answer = Some(Retry::With(Box::new(credentials)));
    }

    /// The mechanism that was refused; `None` where none could be used.
    pub fn mechanism(&self) -> Option<Mechanism> {
        self.mechanism
    }

    /// Tries the next mechanism with the same credentials: a server may offer one that it has no
    /// secrets for. Where there is none left, this is shown once more with the same reason and no
    /// [`mechanism`](Self::mechanism); then it says QUIT.
    pub fn try_next(&mut self) {
        self.answer = Some(Retry::Next);
    }

    /// Goes on without being signed in.
    pub fn go_on(&mut self) {
        self.answer = Some(Retry::GoOn);
    }

    /// Says QUIT.
    pub fn quit(&mut self) {
        self.answer = Some(Retry::Quit);
    }
}

/// Nothing is under way. **This stands until it is settled.**
#[derive(Debug)]
pub struct Ready {
    next: Option<Next>,
}

#[derive(Debug)]
enum Next {
    Send(Box<Envelope>),
    Quit,
}

impl Ready {
    /// Begins a message.
    pub fn send(&mut self, envelope: Envelope) {
        self.next = Some(Next::Send(Box::new(envelope)));
    }

    /// Says QUIT.
    pub fn quit(&mut self) {
        self.next = Some(Next::Quit);
    }
}

/// The longest mailbox: a path of 256 octets without its angle brackets (RFC 5321 §4.5.3.1.3).
const MAX_MAILBOX: usize = 254;

/// A message's sender and recipients, and how to send it.
#[derive(Clone, Debug)]
pub struct Envelope {
    from: String,
    to: Vec<String>,
    size: Option<u64>,
    eight_bit: bool,
    smtputf8: bool,
    auth: Option<String>,
    every_recipient: bool,
}

/// An address that cannot stand in an envelope; or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The sender is not a mail address.
    #[error("the sender is not a mail address: it needs the form local-part@domain")]
    Sender,
    /// A recipient, by its place, is not a mail address.
    #[error("recipient {} is not a mail address: it needs the form local-part@domain", .0 + 1)]
    Recipient(usize),
    /// There is no recipient.
    #[error("a message needs at least one recipient")]
    NoRecipient,
}

impl Envelope {
    /// Addresses are `local-part@domain` (RFC 5321 §4.1.2) of up to 254 octets, UTF-8 among them
    /// (RFC 6531 §3.3).
    /// `None` is the null sender of bounces.
    ///
    /// # Errors
    /// An address is none, or there is no recipient.
    pub fn new<'a>(
        from: Option<&str>,
        to: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, EnvelopeError> {
        let is_mailbox = |text: &str| text.len() <= MAX_MAILBOX && Mailbox::parse(text).is_ok();
        let from = from.unwrap_or_default();
        if !from.is_empty() && !is_mailbox(from) {
            return Err(EnvelopeError::Sender);
        }
        let check = |(n, to): (usize, &str)| {
            if is_mailbox(to) { Ok(String::from(to)) } else { Err(EnvelopeError::Recipient(n)) }
        };
        let to: Vec<String> = to.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
        if to.is_empty() {
            return Err(EnvelopeError::NoRecipient);
        }
        let smtputf8 = !from.is_ascii() || to.iter().any(|to| !to.is_ascii());
        Ok(Self {
            from: from.into(),
            to,
            size: None,
            eight_bit: false,
            smtputf8,
            auth: None,
            every_recipient: false,
        })
    }

    /// The message's size in octets, so that a server can refuse it early (RFC 1870).
    pub fn size(mut self, octets: u64) -> Self {
        self.size = Some(octets);
        self
    }

    /// Whether the message holds octets over 127 (RFC 6152). Without an offer of 8BITMIME it is
    /// sent all the same: no server in use clears the bit.
    pub fn eight_bit(mut self, eight_bit: bool) -> Self {
        self.eight_bit = eight_bit;
        self
    }

    /// Whether the message's header holds UTF-8 (RFC 6532), so that it may only go where SMTPUTF8
    /// is offered. An address that does is seen without this.
    pub fn smtputf8(mut self, smtputf8: bool) -> Self {
        self.smtputf8 |= smtputf8;
        self
    }

    /// Who first handed the message in (RFC 4954 §5), for a relay; sent where AUTH is offered. (Some
    /// servers offer AUTH and answer `555` to this parameter.)
    pub fn auth(mut self, submitter: &MailAuth<'_>) -> Self {
        self.auth = Some(alloc::format!("{submitter}"));
        self
    }

    /// Whether one refused recipient stops the message for all. Off by default: it goes to those
    /// that were taken.
    pub fn every_recipient(mut self, every: bool) -> Self {
        self.every_recipient = every;
        self
    }
}

/// What has become of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// The server has taken it, for all recipients but those refused.
    Accepted(Reply),
    /// It has not, as it said at that step.
    Refused(Step, Reply),
    /// It was not offered to the server, which cannot take UTF-8 in addresses or headers.
    NeedsSmtpUtf8,
    /// It was not offered to the server, which takes at most that many octets.
    TooBig(u64),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(reply) => write!(f, "the server accepted the message: {reply}"),
            Self::Refused(step, reply) => write!(f, "the server refused {step}: {reply}"),
            Self::NeedsSmtpUtf8 => f.write_str(
                "the message or an address is in UTF-8 and needs SMTPUTF8, which the server does not offer",
            ),
            Self::TooBig(limit) => {
                write!(f, "the message is over the server's limit of {limit} octets")
            }
        }
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
    /// Appends a part of the message. Send `out` before the next, or memory grows with the message.
    ///
    /// # Errors
    /// [`Error::BareLineEnd`], and the session is over: close the connection, and the server will
    /// not deliver half a message. [`Error::MessageEnded`] behind [`end`](Self::end).
    pub fn write(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.pieces(octets)?.for_each(|piece| out.extend_from_slice(piece));
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

    /// Appends the end mark, behind a CRLF where the last line has none.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.check()?;
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

impl From<auth::client::Failure> for Error {
    fn from(failure: auth::client::Failure) -> Self {
        match failure {
            auth::client::Failure::Refused(reply) => {
                Self::NotAuthenticated(AuthError::Refused(reply))
            }
            auth::client::Failure::Cancelled(reply) => {
                Self::NotAuthenticated(AuthError::Cancelled(reply))
            }
            auth::client::Failure::NotAllowed(_) => {
                Self::NotAuthenticated(AuthError::NoMechanism(NoMechanism::InCommon))
            }
            auth::client::Failure::EarlySuccess => Self::EarlySuccess,
            auth::client::Failure::UnexpectedReply(reply) => {
                Self::UnexpectedReply(Step::Auth, reply)
            }
        }
    }
}
