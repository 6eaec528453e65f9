//! The errors of a client session, with messages for the user who wants to send mail.

use core::fmt;

use crate::{
    auth::client::UNPROVEN,
    reply::Reply,
    sasl::{
        Channel, Mechanism,
        client::{self as sasl, NoMechanism},
    },
    secret::Secret,
};

/// A stage of the SMTP dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The server's greeting.
    Greeting,
    /// EHLO, or HELO.
    Ehlo,
    /// STARTTLS, and the time until TLS begins.
    StartTls,
    /// AUTH, including the wait for the application's decision after a failed authentication.
    Auth,
    /// MAIL, which names the sender.
    Mail,
    /// RCPT, which names a recipient.
    Rcpt,
    /// DATA, which asks the server to accept the message.
    Data,
    /// The message itself, and the server's reply to it.
    Message,
    /// RSET, after a refused message or at the application's request.
    Rset,
    /// NOOP.
    Noop,
    /// The session is idle, and ready for the next message.
    Rest,
    /// QUIT, or the end of the session.
    Quit,
}

impl fmt::Display for Stage {
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
            Self::Noop => "NOOP",
            Self::Rest => "a time when nothing was under way",
            Self::Quit => "QUIT",
        })
    }
}

/// An error that ended a session before QUIT.
///
/// [`BareLineEnd`](Self::BareLineEnd) and [`MessageEnded`](Self::MessageEnded) are caused by mistakes in the application.
/// [`NotAuthenticated`](Self::NotAuthenticated) may be caused by the credentials, the configuration or the server. All
/// other errors are caused by the server or a man-in-the-middle.
///
/// The `Display` text is a message for the user who wants to send mail. Reply text that may echo the credentials is
/// omitted, as [`auth::client`](crate::auth::client) explains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection was closed or lost while the session was not idle.
    #[error("the connection was closed at {0}; try again later")]
    Disconnected(Stage),
    /// The caller stopped waiting before the server replied.
    #[error("the server did not answer in time: the client waited for {what}{hint}",
        what = Awaited(*.stage), hint = if *.may_want_tls { TLS_FIRST } else { "" })]
    TimedOut {
        /// The stage at which the client was waiting.
        stage: Stage,
        /// Whether the timeout may have occurred because the server expects TLS from the start (implicit TLS) on this
        /// port. This is `true` if the client was waiting for the greeting on a connection without TLS, unless STARTTLS
        /// was disabled with [`Tls::Never`](super::Tls::Never).
        may_want_tls: bool,
    },
    /// The server sent a refusal, and the session cannot continue. The [`Refusal`] contains the stage and the reply.
    #[error("{0}")]
    Refused(Refusal),
    /// The server closed the connection while the session was idle, or before accepting any part of a message.
    ///
    /// If the server announced in a reply that it would close the connection, the field contains this reply. The reply
    /// is usually a `421`, and may arrive in place of the reply to MAIL. No message was lost or refused. The
    /// application can send the next message over another connection.
    #[error("the server closed the connection while no message was in progress{reply}", reply = Said(.0, ""))]
    Closed(Option<Reply>),
    /// The configuration requires TLS, but the server does not offer STARTTLS.
    #[error(
        "the server does not offer TLS (STARTTLS), which this client requires: use another port or server"
    )]
    TlsNotOffered,
    /// Octets arrived after the reply to STARTTLS but before TLS began. Either a man-in-the-middle injected them, or
    /// the server is broken.
    #[error(
        "the server sent data between its reply to STARTTLS and the start of TLS: somebody may be tampering with the connection"
    )]
    InjectedBeforeTls,
    /// Authentication failed, and the session cannot continue, for instance because the server closed the connection.
    /// If the client may try again after a failure, the session returns
    /// [`Event::NotAuthenticated`](super::Event::NotAuthenticated) instead.
    #[error(transparent)]
    NotAuthenticated(AuthError),
    /// The server sent something that is not an SMTP reply (RFC 5321 §4.2), or a reply that is too long.
    #[error("at {0}, the server sent something that is not an SMTP reply")]
    NotAReply(Stage),
    /// The server mixed CRLF and bare LF line endings, or sent a bare CR. A session accepts bare LF if all of the
    /// server's lines end in bare LF.
    #[error(
        "the server changed its line endings at {0}, from CRLF to a bare LF or back, or sent a bare CR"
    )]
    LineEnds(Stage),
    /// The server sent a reply when the client was not waiting for one.
    #[error("at {0}, the server sent a reply before the client asked for one")]
    Unsolicited(Stage),
    /// The server sent a reply whose code is not allowed at this stage, for instance a `250` in reply to DATA.
    #[error("the server sent an unexpected reply at {0}: {1}")]
    UnexpectedReply(Stage, Reply),
    /// The server reported a successful authentication before the SASL exchange was complete.
    #[error(
        "the server reported success before authentication was complete: it may be an impostor"
    )]
    EarlySuccess,
    /// The server did not prove that it has the account's keys. SCRAM requires this proof. A server that does not send
    /// the proof may be an impostor.
    #[error("{}", sasl::Failure::ServerNotAuthentic)]
    ServerNotAuthentic,
    /// The message contains a bare CR or LF. The application must write lines that end in CRLF.
    #[error("the message contains a line that does not end in CRLF")]
    BareLineEnd,
    /// The message has already ended, but the application tried to continue it. The application must begin another
    /// message.
    #[error("the message has already ended: begin another one")]
    MessageEnded,
}

/// The reason why authentication failed.
///
/// The `Display` text is a message for the user who wants to send mail. Reply text that may echo the credentials is
/// omitted, as [`auth::client`](crate::auth::client) explains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The server refused authentication. The code is `535` for wrong credentials (RFC 4954 §6).
    #[error("{0}")]
    Refused(Refusal),
    /// The server refused the access token, or did not allow the token's owner to act as the user.
    #[error(
        "the server refused the access token: it may have expired, lack a scope, or belong to another user{reply}",
        reply = Said(.reply, "; then it closed the connection")
    )]
    TokenRefused {
        /// The server's final reply, or `None` if the server closed the connection without one.
        reply: Option<Reply>,
        /// The error message that the server sent about the token, exactly as received, or `None` if the server did not
        /// send one. The message is JSON (RFC 7628 §3.2.2). It is stored as a secret because it may echo the token.
        /// Do not trust the message, and escape it before you print it to a terminal.
        token_error: Option<Secret>,
    },
    /// No mechanism can be used. [`NoMechanism`] contains the reason. The client has not sent an AUTH command.
    #[error(transparent)]
    NoMechanism(NoMechanism),
    /// The client could not begin the exchange, and sent nothing. The field contains the reason.
    #[error(transparent)]
    NotBegun(sasl::Failure),
    /// The client cancelled the exchange. The fields contain the reason and the server's reply to the cancellation. The
    /// reply is `None` if the server closed the connection or sent something that is not a reply.
    #[error("{0}, so the client cancelled the sign-in{reply}", reply = Said(.1, ""))]
    Cancelled(sasl::Failure, Option<Reply>),
}

impl AuthError {
    /// Returns the reply if the server closes the connection with it.
    pub(super) fn closing(&self) -> Option<&Reply> {
        let reply = match self {
            Self::Refused(refusal) => Some(&refusal.reply),
            Self::TokenRefused { reply, .. } | Self::Cancelled(_, reply) => reply.as_ref(),
            Self::NoMechanism(_) | Self::NotBegun(_) => None,
        };
        reply.filter(|reply| closes(reply.code()))
    }
}

/// The maximum number of octets of a reply's text that are kept for each recipient. Without this limit, a hostile
/// server could make a client keep 64 KiB for each of a thousand recipients.
pub(super) const MAX_KEPT_TEXT: usize = 1000;

/// Returns whether a server closes the connection with a reply of this code (RFC 5321 §3.8).
pub(super) fn closes(code: u16) -> bool {
    code == 421
}

/// A refusal by the server. It contains the server's reply and the stage of the dialogue at which the reply was sent.
///
/// The `Display` text explains the refusal to the user, and includes the reply.
///
/// ```
/// use smtp_auth::{Channel, Reply, client::{Refusal, Stage}};
///
/// let reply = Reply::new(550, None, "no such user")?;
/// let refusal = Refusal::new(Stage::Rcpt, reply, &Channel::tls(), None);
/// assert_eq!(refusal.to_string(), "the server refused the recipient: 550 no such user");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    stage: Stage,
    reply: Reply,
    meaning: Meaning,
    is_unproven: bool,
}

/// The meaning of a reply's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The server closes the connection.
    Closed,
    /// The server requires TLS.
    WantsTls,
    /// The server requires authentication.
    WantsSignIn,
    /// The server requires TLS or authentication.
    WantsEither,
    /// The meaning depends on the stage.
    Refused,
}

impl Refusal {
    /// Creates a refusal from a reply. The meaning of the reply also depends on the stage, on the connection, and on
    /// whether the client has authenticated with a mechanism. A session creates its refusals with this function.
    pub fn new(
        stage: Stage,
        reply: Reply,
        channel: &Channel,
        authenticated: Option<Mechanism>,
    ) -> Self {
        let meaning = match (reply.code(), channel.is_tls(), authenticated.is_some()) {
            (421, ..) => Meaning::Closed,
            // RFC 4954 §6, RFC 3207 §4
            (530, false, false) => Meaning::WantsEither,
            (530, false, true) => Meaning::WantsTls,
            (530, true, false) => Meaning::WantsSignIn,
            // The registry of RFC 5248 has 523 and 524. RFC 2554 has 538.
            (523 | 524 | 538, false, _) => Meaning::WantsTls,
            _ => Meaning::Refused,
        };
        Self { stage, reply, meaning, is_unproven: false }
    }

    /// Sets whether the server has not proven its identity.
    pub(super) fn unproven(self, is_unproven: bool) -> Self {
        Self { is_unproven, ..self }
    }

    /// Returns whether the server sent this refusal without having proven its identity. This is the case if the server
    /// sent the refusal instead of its SCRAM proof and the connection had no [verified](crate::sasl::Channel::verified)
    /// certificate. The `Display` text then includes a warning. Do not follow instructions in the text of the reply.
    pub fn is_unproven(&self) -> bool {
        self.is_unproven
    }

    /// Returns the stage at which the server sent the refusal.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Returns the server's reply.
    pub fn reply(&self) -> &Reply {
        &self.reply
    }

    pub(super) fn into_reply(self) -> Reply {
        self.reply
    }

    /// Returns whether the server closes the connection with this reply (`421`, RFC 5321 §3.8). If so, the reply does
    /// not concern the message, and the message can be sent over another connection.
    pub fn closes(&self) -> bool {
        closes(self.reply.code())
    }

    /// Shortens the reply's text to the length that is kept for each recipient.
    pub(super) fn shortened(self) -> Self {
        Self { reply: self.reply.shortened(MAX_KEPT_TEXT), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, reply, .. } = self;
        match (self.meaning, stage) {
            (Meaning::Closed, _) => write!(f, "the server closed the connection at {stage}"),
            (Meaning::WantsTls, _) => f.write_str("the server requires TLS first"),
            (Meaning::WantsSignIn, _) => f.write_str("the server requires a sign-in first"),
            (Meaning::WantsEither, _) => f.write_str("the server requires TLS or a sign-in first"),
            (Meaning::Refused, Stage::Auth) => f.write_str(explain(reply)),
            (Meaning::Refused, Stage::Greeting | Stage::Ehlo) => {
                f.write_str("the server refused to talk to this client")
            }
            (Meaning::Refused, Stage::Rcpt) => f.write_str("the server refused the recipient"),
            (Meaning::Refused, _) => write!(f, "the server refused {stage}"),
        }?;
        write!(f, ": {reply}{}", if self.is_unproven { UNPROVEN } else { "" })
    }
}

/// Explains the refusal of an AUTH command (RFC 4954 §6).
fn explain(reply: &Reply) -> &'static str {
    match reply.code() {
        535 => "the server refused the user name, password or certificate",
        525 => "the server does not allow this account to sign in",
        454 => "the server cannot check passwords at the moment; try again later",
        432 => "the server requires the user to sign in once by another mechanism first",
        534 => "the server requires a stronger mechanism for this account",
        400..=499 => "the server cannot sign the user in at the moment; try again later",
        _ => "the server refused the sign-in; ask its operator why",
    }
}

const TLS_FIRST: &str =
    "; if the port expects TLS from the start, as 465 does, the server is silent until TLS begins";

/// `Display` writes what the client waits for at this stage.
struct Awaited(Stage);

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            stage @ Stage::Greeting => stage.fmt(f),
            stage => write!(f, "the reply to {stage}"),
        }
    }
}

/// `Display` writes a colon and the reply, or the text if there is no reply.
struct Said<'a>(&'a Option<Reply>, &'static str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(reply) => write!(f, ": {reply}"),
            None => f.write_str(self.1),
        }
    }
}
