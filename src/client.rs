//! A client session: the whole SMTP dialogue with EHLO, STARTTLS, AUTH, messages and QUIT.
//!
//! A [`Session`] does no I/O. Pass the octets that you read from the server to [`receive`](Session::receive). Then call
//! [`next`](Session::next), which appends the octets for the server to a buffer and returns the next [`Event`].
//!
//! An AUTH line may contain the password. If the session has to reallocate the buffer to append an AUTH line, it zeroes
//! the old memory. To remove the password from the buffer itself, zero the buffer after you have sent its contents.
//!
//! | events | kind |
//! | --- | --- |
//! | [`Derive`](Event::Derive), [`Custom`](Event::Custom), [`NotAuthenticated`](Event::NotAuthenticated), [`Ready`](Event::Ready), [`Message`](Event::Message) | *pending*: [`next`](Session::next) returns the same event until it is answered |
//! | [`NeedInput`](Event::NeedInput), [`StartTls`](Event::StartTls), [`Close`](Event::Close) | *pending*: send the buffer, and then read, begin TLS or close the connection, depending on the event |
//! | [`Refused`](Event::Refused), [`Sent`](Event::Sent) | *notification*: needs no answer, and is returned by [`next`](Session::next) only once |
//!
//! This function sends one message over a blocking socket:
//!
//! ```
//! use std::{error, io::{Read, Write}};
//! use smtp_auth::{Channel, client::{Envelope, Event, Outcome, Session}};
//!
//! /// Returns the outcome of the message, or `None` if the application has to begin TLS. The application then wraps
//! /// the socket in TLS, calls `session.tls_started(Channel::tls())`, and calls this function again. On port 465, the
//! /// connection begins with TLS.
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
//!             Event::Derive(derive) => derive.run(), // takes some milliseconds; `job` can move it to another thread
//!             Event::Custom(custom) => custom.fail(), // occurs only with a custom mechanism
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
//!             Event::Sent(outcome) => sent = Some(outcome.clone()), // contains a status for each recipient
//!             Event::Close => {
//!                 socket.write_all(&out)?;
//!                 return sent.map(Some).ok_or("the server has closed the connection".into());
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! # Keeping a connection open
//!
//! A session can send any number of messages, one after another. Once the outcome of a message is known,
//! [`Session::ready`] returns the handle for starting the next message. The application decides how often to reuse a
//! connection, how long to keep an idle connection open, and whether to call [`noop`](Ready::noop) from time to time to
//! check that the server still responds.
//!
//! Servers close an idle connection after some minutes, with or without a `421` reply. In both cases, the session ends
//! with [`Error::Closed`]. This error never means that a message was refused. If the application has just begun a
//! message, the server has not accepted any part of it, so the application can send it over another connection.
//!
//! A session enforces only the [`Limits`] that the server announces. If a message would exceed a limit, the session
//! neither sends the message nor splits it into several messages.

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

/// The configuration of client sessions. Several sessions can share a configuration in an `Arc`. Use
/// [`builder`](Self::builder) to create a configuration.
///
/// ```
/// use std::sync::Arc;
/// use smtp_auth::client::{Config, Session, Tls, TryNext};
///
/// let config = Config::builder("laptop.example.org").tls(Tls::Required).try_next(TryNext::Never).build()?;
/// let session = Session::without_credentials(Arc::new(config));
/// # Ok::<(), smtp_auth::ConfigError>(())
/// ```
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

/// Whether a client automatically tries the next mechanism with the same credentials after a failed authentication.
///
/// Regardless of this setting, the client does not try another mechanism once it has sent its SCRAM proof or rejected
/// the server's first SCRAM message. Otherwise, an impostor or a man-in-the-middle could obtain the password by forcing
/// a downgrade to PLAIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "an application may match on all of them")]
pub enum TryNext {
    /// The client does not try another mechanism, and the session returns [`Event::NotAuthenticated`].
    Never,
    /// The client tries the next mechanism after a `504` or `534` reply, or after a challenge that made the client
    /// cancel the exchange. These failures show that the mechanism cannot be used. The client does not try another
    /// mechanism after a `535` reply. If the password is wrong, authentication would fail with every other mechanism as
    /// well, and further failed attempts could lock the account.
    IfUnusable,
    /// The client also tries the next mechanism after a `535` reply. Use this setting for servers that offer mechanisms
    /// for which the account has no stored credentials.
    Always,
}

/// Whether a client begins TLS with STARTTLS (RFC 3207). If the connection already uses TLS, the client never sends
/// STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "an application may match on all of them")]
pub enum Tls {
    /// The client always begins TLS. If the server does not offer STARTTLS or refuses it, the session ends with an
    /// error.
    Required,
    /// The client begins TLS if the server offers and accepts STARTTLS. Otherwise, the client continues in cleartext.
    /// This setting does not protect against a man-in-the-middle, who can remove STARTTLS from the server's reply to
    /// EHLO.
    IfOffered,
    /// The client never sends STARTTLS. Use this setting for a connection that needs no TLS, such as a connection to a
    /// server on the same machine.
    Never,
}

impl Config {
    /// Creates a builder for the configuration of a client that sends `hostname` in EHLO. By default, the client
    /// requires TLS and uses every mechanism that is compiled in.
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

    /// Returns the host name that the client sends in EHLO.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Returns the SASL configuration: which mechanisms the client uses, and whether it sends passwords without TLS.
    pub fn sasl(&self) -> &Arc<sasl::Config> {
        &self.sasl
    }

    /// Returns the configuration with a different TLS policy. Use this method if another part of the application
    /// chooses the policy.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }
}

/// A builder for a [`Config`]. Use [`Config::builder`] to create one. Every setting has a default.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    config: Config,
}

impl Builder {
    /// Sets the SASL configuration: which mechanisms the client uses, and whether it sends passwords without TLS.
    pub fn sasl(mut self, sasl: impl Into<Arc<sasl::Config>>) -> Self {
        self.config.sasl = sasl.into();
        self
    }

    /// Sets whether the client begins TLS with STARTTLS. The default is [`Required`](Tls::Required).
    pub fn tls(mut self, tls: Tls) -> Self {
        self.config.tls = tls;
        self
    }

    /// Sets whether the AUTH command includes the initial response (RFC 4954 §4), if the mechanism defines one and the
    /// command does not exceed 512 octets. This is on by default. Turn it off for servers that do not accept an initial
    /// response.
    pub fn initial_response(mut self, send: bool) -> Self {
        self.config.initial_response = send;
        self
    }

    /// Sets whether the client tries the next mechanism after a failed authentication. The default is
    /// [`IfUnusable`](TryNext::IfUnusable).
    pub fn try_next(mut self, when: TryNext) -> Self {
        self.config.try_next = when;
        self
    }

    /// Sets how many mechanisms the client tries with the same credentials before it returns
    /// [`Event::NotAuthenticated`]. The default is 3, because some servers close the connection after three failures.
    /// The limit does not apply to [`NotAuthenticated::try_next`].
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.config.max_tries = tries;
        self
    }

    /// Sets whether the client reads the mechanisms from the `X-EXPS` keyword of the reply to EHLO if the server does
    /// not list AUTH, or if AUTH contains no mechanism that the client implements. Some Exchange servers announce their
    /// mechanisms in this way. This is off by default.
    pub fn x_exps(mut self, read: bool) -> Self {
        self.config.x_exps = read;
        self
    }

    /// Sets whether a challenge that is not valid base64 is treated as an empty challenge. This applies only to
    /// mechanisms that do not read the challenge. By default, this is off, and the client cancels the exchange.
    pub fn lenient_challenges(mut self, lenient: bool) -> Self {
        self.config.lenient_challenges = lenient;
        self
    }

    /// Checks the host name and returns the configuration.
    ///
    /// # Errors
    /// Returns [`ConfigError::HostName`] if the host name is empty, or contains spaces or control characters.
    pub fn build(self) -> Result<Config, ConfigError> {
        EhloName::new(&self.config.hostname).map_err(|_| ConfigError::HostName)?;
        Ok(self.config)
    }
}

/// Something that the application must do next, or something that has happened.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new event must break the build of an application that ignores it"
)]
pub enum Event<'a> {
    /// Pending: send the buffer, read from the server, and call [`receive`](Session::receive) with the octets. At the
    /// end of the stream, call [`eof`](Session::eof).
    NeedInput,
    /// Pending: send the buffer, begin TLS, and call [`tls_started`](Session::tls_started).
    StartTls,
    /// Pending: SCRAM needs the salted hash of the password. Compute the hash on this thread with `run`, or on another
    /// thread with `job` and `answer`.
    Derive(&'a mut Derive),
    /// Pending: a custom mechanism has to respond to a challenge or provide its initial response.
    Custom(&'a mut Custom),
    /// Pending: authentication failed. Try again, continue without authentication, or give up.
    NotAuthenticated(NotAuthenticated<'a>),
    /// Pending: the session is idle. Send a message or quit.
    ///
    /// If octets arrive while you keep the connection open, pass them to [`receive`](Session::receive), and then call
    /// [`next`](Session::next) again. If the server has closed the connection, `next` returns [`Error::Closed`].
    Ready(Ready<'a>),
    /// Notification: the server refused a recipient. The server may still accept the message for other recipients. The
    /// [outcome](Event::Sent) contains a status for each recipient.
    Refused {
        /// The recipient's address, as given in the envelope.
        recipient: &'a str,
        /// The server's refusal.
        refusal: &'a Refusal,
    },
    /// Pending: write the message with [`Body::write`], and end it with [`Body::end`].
    Message(&'a mut Body),
    /// Notification: the outcome of the message, with a status for each recipient.
    Sent(&'a Outcome),
    /// Pending: send the buffer and close the connection. Every later call returns this event again.
    Close,
}

/// The handle for responding to a failed authentication.
///
/// **Each call to [`next`](Session::next) returns the same event until it is answered** with [`retry`](Self::retry),
/// [`try_next`](Self::try_next), [`go_on`](Self::go_on) or [`quit`](Self::quit). To give up, the application can also
/// close the connection.
///
/// ```
/// use smtp_auth::{Credentials, client::{AuthError, NotAuthenticated}};
///
/// /// Asks for the password once more if the server refused it.
/// fn answer(failed: NotAuthenticated<'_>, ask: impl FnOnce() -> Option<Credentials>) {
///     let refused = matches!(failed.reason(), AuthError::Refused(refusal) if refusal.reply().code() == 535);
///     match refused.then(ask).flatten() {
///         Some(credentials) => failed.retry(credentials),
///         None => failed.quit(),
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "the session waits until it is told what to do next"]
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
    /// Returns the reason for the failure.
    pub fn reason(&self) -> &'a AuthError {
        self.error
    }

    /// Returns the reason as an [`Error`], for an application that gives up.
    pub fn error(&self) -> Error {
        Error::NotAuthenticated(self.error.clone())
    }

    /// Returns the mechanism that failed, or `None` if no mechanism could be used.
    pub fn mechanism(&self) -> Option<Mechanism> {
        self.mechanism
    }

    /// Tries again with other credentials. If the server has closed the connection with a `421` reply, the session ends
    /// with [`Error::NotAuthenticated`].
    pub fn retry(self, credentials: Credentials) {
        *self.answer = Some(Retry::With(Box::new(credentials)));
    }

    /// Tries the next mechanism with the same credentials. This can help if the server offers a mechanism for which the
    /// account has no stored credentials.
    ///
    /// If no mechanism is left, or if the client must not try another one, the session returns
    /// [`Event::NotAuthenticated`] once more. This event contains the same reason, but no
    /// [`mechanism`](Self::mechanism). If `try_next` is called again, the session sends QUIT.
    ///
    /// For example, the client must not try another mechanism once it has sent its SCRAM proof, because PLAIN could
    /// then send the password to an impostor. [`Failure::may_try_next`](crate::auth::client::Failure::may_try_next)
    /// describes all of these cases.
    pub fn try_next(self) {
        *self.answer = Some(Retry::Next);
    }

    /// Continues without authentication. The session is then ready to send a message, but many servers refuse the
    /// message with `530`.
    pub fn go_on(self) {
        *self.answer = Some(Retry::GoOn);
    }

    /// Sends QUIT and ends the session.
    pub fn quit(self) {
        *self.answer = Some(Retry::Quit);
    }
}

/// The handle of an idle session. Its methods start a message, or send NOOP, RSET or QUIT.
///
/// **Each call to [`next`](Session::next) returns the same event until one of the handle's methods is called.** The
/// following call to [`advance`](Session::advance) writes the command. If the server has sent a `421`, call
/// [`quit`](Self::quit), because any other method ends the session with [`Error::Closed`].
///
/// The application decides how often to reuse a session. The session itself enforces only the [`Limits`] that the
/// server announces.
#[derive(Debug)]
#[must_use = "the session waits until it is told what to do next"]
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
    /// Returns the extensions that the server offers. These extensions determine which parameters an envelope may
    /// contain.
    ///
    /// ```
    /// use smtp_auth::client::{Envelope, EnvelopeError, Notify, Ready, Recipient};
    ///
    /// /// Asks for no delivery notification, if the server supports DSN.
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

    /// Begins to send a message. The session sends MAIL, RCPT and DATA. It returns [`Event::Message`] when the server
    /// is ready for the message, and later [`Event::Sent`] with the outcome.
    pub fn send(self, envelope: Envelope) {
        *self.next = Some(Next::Send(Box::new(envelope)));
    }

    /// Sends NOOP (RFC 5321 §4.1.1.9), to check whether the server still responds. NOOP may also keep the server from
    /// closing an idle connection.
    ///
    /// After the server's reply, the session is ready again. This includes a `5xx` reply, which only shows that the
    /// server does not implement NOOP. If the server has closed the connection, or replies with `421` or another `4xx`
    /// code, the session ends with [`Error::Closed`].
    pub fn noop(self) {
        *self.next = Some(Next::Noop);
    }

    /// Sends RSET (RFC 5321 §4.1.1.5), which makes the server discard any message in progress. The client stays
    /// authenticated. The session processes the server's reply in the same way as the reply to [`noop`](Self::noop).
    ///
    /// You never have to call this method, because the session sends RSET itself after a refused message.
    pub fn reset(self) {
        *self.next = Some(Next::Reset);
    }

    /// Sends QUIT and ends the session.
    pub fn quit(self) {
        *self.next = Some(Next::Quit);
    }
}

/// The handle for writing a message. **The handle stays valid until [`end`](Self::end) is called.**
///
/// The lines of the message must end in CRLF. The handle doubles leading dots, and ends the message with a line that
/// contains only a dot (RFC 5321 §4.5.2).
#[derive(Debug)]
pub struct Body {
    stuffing: Stuffing,
    octets: u64,
    ended: bool,
    broken: bool,
}

impl Body {
    const START: Self = Self { stuffing: Stuffing::START, octets: 0, ended: false, broken: false };

    /// Appends a piece of the message to `out`. Before you append the next piece, send and clear `out`. Otherwise,
    /// `out` grows until it contains the whole message.
    ///
    /// # Errors
    /// - [`Error::BareLineEnd`] if the message contains a bare CR or LF. The session has then ended. Close the
    ///   connection, so that the server does not deliver an incomplete message.
    /// - [`Error::MessageEnded`] if [`end`](Self::end) has already been called.
    pub fn write(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.pieces(octets)?.for_each(|piece| append(out, piece));
        Ok(())
    }

    /// Returns a piece of the message as slices, for a vectored write without copying. The caller must send all slices,
    /// in order.
    ///
    /// # Errors
    /// Returns the same errors as [`write`](Self::write).
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

    /// Ends the message by appending the end mark. If the last line does not end in CRLF, this method first appends a
    /// CRLF.
    ///
    /// # Errors
    /// Returns the same errors as [`write`](Self::write).
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
