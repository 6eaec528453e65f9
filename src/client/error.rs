//! What goes wrong at a client, in words for the person who wants to send.

use alloc::boxed::Box;
use core::fmt;

use crate::{
    auth,
    reply::Reply,
    sasl::client::{self as sasl, NoMechanism},
};

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
    #[error(
        "the server does not offer TLS (STARTTLS), which is required here: use another port or server"
    )]
    TlsNotOffered,
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
    /// The server has not proven that it knows the password.
    #[error("{}", sasl::Failure::ServerNotAuthentic)]
    ServerNotAuthentic,
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
    /// The server refused the token, or would not let its owner act as the user.
    #[error(
        "the server refused the access token: it may have expired, lack a scope, or be another user's{reply}",
        reply = Behind(.reply)
    )]
    TokenRefused {
        /// The refusal. `None` where the server closed the connection before it.
        reply: Option<Reply>,
        /// What the server said of it before, if it did: JSON (RFC 7628 §3.2.2), as it came. The
        /// server's words: do not trust them, nor show them to a terminal as they are.
        token_error: Option<Box<str>>,
    },
    /// No mechanism can be used.
    #[error(transparent)]
    NoMechanism(NoMechanism),
    /// The client could not begin, for this reason; nothing was sent.
    #[error(transparent)]
    NotBegun(sasl::Failure),
    /// The client cancelled, for this reason; this is what the server said to that.
    #[error("{0}, so the sign-in was cancelled: {1}")]
    Cancelled(sasl::Failure, Reply),
}

/// A reply behind a colon, if there is one.
struct Behind<'a>(&'a Option<Reply>);

impl fmt::Display for Behind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(reply) => write!(f, ": {reply}"),
            None => f.write_str("; then it closed the connection"),
        }
    }
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
        535 => "the server refused the user name, password or certificate",
        454 => "the server cannot check passwords at the moment, try again later",
        432 => {
            "the server wants the account moved to this way of signing in, by another way, first"
        }
        534 => "the server wants a stronger way to sign in for this account",
        538 => "the server wants TLS before the sign-in: turn it on",
        421 => "the server is closing the connection",
        400..=499 => "the server could not sign the user in for the moment, try again later",
        _ => "the server refused the sign-in, ask its operator why",
    }
}

impl From<auth::client::Failure> for Error {
    fn from(failure: auth::client::Failure) -> Self {
        match failure {
            auth::client::Failure::Refused { reply, .. } => {
                Self::NotAuthenticated(AuthError::Refused(reply))
            }
            auth::client::Failure::Cancelled(sasl::Failure::ServerNotAuthentic, _)
            | auth::client::Failure::FalseSuccess(sasl::Failure::ServerNotAuthentic) => {
                Self::ServerNotAuthentic
            }
            auth::client::Failure::Cancelled(why, reply) => {
                Self::NotAuthenticated(AuthError::Cancelled(why, reply))
            }
            auth::client::Failure::FalseSuccess(_) => Self::EarlySuccess,
            auth::client::Failure::NotAllowed(why) => {
                Self::NotAuthenticated(AuthError::NotBegun(why))
            }
            auth::client::Failure::UnexpectedReply(reply) => {
                Self::UnexpectedReply(Step::Auth, reply)
            }
        }
    }
}
