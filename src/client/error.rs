//! What goes wrong at a client, in words for the person who wants to send.

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

/// Where in the dialogue something happened, or where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
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
    /// RSET: after a message that was not sent, or as the caller has asked for it.
    Rset,
    /// NOOP.
    Noop,
    /// None: nothing is under way.
    Rest,
    /// QUIT.
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
            Self::Rest => "rest, with nothing under way",
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
    Disconnected(Stage),
    /// The server was silent for as long as the caller waits.
    #[error("the server did not answer in time: the client waited for {what}{hint}",
        what = Awaited(*.stage), hint = if *.may_want_tls { TLS_FIRST } else { "" })]
    TimedOut {
        /// Where that was.
        stage: Stage,
        /// Whether the port may want TLS from the start: the client waited for a greeting in the clear,
        /// and would have asked for TLS by STARTTLS.
        may_want_tls: bool,
    },
    /// The server refused, and there is no way on.
    #[error("{0}")]
    Refused(Refusal),
    /// The server closed the connection while nothing was under way, or before it took anything of a message: by this
    /// reply if it said one (`421` as a rule), even if that came after MAIL. No message is lost, and none was refused:
    /// an application that keeps connections opens another one.
    #[error("the server closed the connection with no message under way{reply}", reply = Said(.0, ""))]
    Closed(Option<Reply>),
    /// TLS is required, and the server does not offer it.
    #[error(
        "the server does not offer TLS (STARTTLS), which is required here: use another port or server"
    )]
    TlsNotOffered,
    /// Octets arrived after the reply to STARTTLS and before TLS: there is a man in the middle, or
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
    NotAReply(Stage),
    /// The server ends its lines in CRLF and in a bare LF by turns, or a line of it holds a bare CR. Lines
    /// that all end in a bare LF are taken.
    #[error(
        "the server's line ends change at {0}, from CRLF to a bare LF or back, or a line holds a bare CR"
    )]
    LineEnds(Stage),
    /// Something came before it was asked for: a reply to a command that had not been sent.
    #[error("the server answered before it was asked, at {0}")]
    Unsolicited(Stage),
    /// The reply has no place where it came.
    #[error("the server answered out of turn at {0}: {1}")]
    UnexpectedReply(Stage, Reply),
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
    #[error("{0}")]
    Refused(Refusal),
    /// The server refused the token, or would not let its owner act as the user.
    #[error(
        "the server refused the access token: it may have expired, lack a scope, or be another user's{reply}",
        reply = Said(.reply, "; then it closed the connection")
    )]
    TokenRefused {
        /// The refusal. `None` where the server closed the connection before it.
        reply: Option<Reply>,
        /// What the server said of it before, if it did: JSON (RFC 7628 §3.2.2), as it came. The
        /// server's words, which may repeat the token: do not trust them, nor show them to a terminal as
        /// they are.
        token_error: Option<Secret>,
    },
    /// No mechanism can be used.
    #[error(transparent)]
    NoMechanism(NoMechanism),
    /// The client could not begin, for this reason; nothing was sent.
    #[error(transparent)]
    NotBegun(sasl::Failure),
    /// The client cancelled, for this reason; and the server's reply to that. `None` where the server
    /// closed the connection, or sent what is not a reply.
    #[error("{0}, so the sign-in was cancelled{reply}", reply = Said(.1, ""))]
    Cancelled(sasl::Failure, Option<Reply>),
}

impl AuthError {
    /// The reply with which the server closes the connection, if it was one.
    pub(super) fn closing(&self) -> Option<&Reply> {
        let reply = match self {
            Self::Refused(refusal) => Some(&refusal.reply),
            Self::TokenRefused { reply, .. } | Self::Cancelled(_, reply) => reply.as_ref(),
            Self::NoMechanism(_) | Self::NotBegun(_) => None,
        };
        reply.filter(|reply| closes(reply.code()))
    }
}

/// How many octets of a reply's text are kept for each recipient: otherwise a hostile server could have 64 KiB kept for
/// each of a thousand.
pub(super) const MAX_KEPT_TEXT: usize = 1000;

/// Whether the server closes the connection by a reply of this code (RFC 5321 §3.8).
pub(super) fn closes(code: u16) -> bool {
    code == 421
}

/// A reply by which the server refuses, and what it means where it came. `Display` says it in words,
/// the reply among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    stage: Stage,
    reply: Reply,
    meaning: Meaning,
    is_unproven: bool,
}

/// What the codes mean that mean the same at every stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The connection is at its end.
    Closed,
    WantsTls,
    WantsSignIn,
    WantsEither,
    /// What it says of the stage.
    Refused,
}

impl Refusal {
    /// A refusal at that stage, over that connection, of a client that has signed in by that mechanism or
    /// not at all: a session makes them so.
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
            // 523 and 524 are in the registry of RFC 5248, 538 is in RFC 2554.
            (523 | 524 | 538, false, _) => Meaning::WantsTls,
            _ => Meaning::Refused,
        };
        Self { stage, reply, meaning, is_unproven: false }
    }

    /// The same in place of a server's proof, if it is.
    pub(super) fn after_proof(self, after_proof: bool) -> Self {
        Self { is_unproven: after_proof, ..self }
    }

    /// Whether it stands in place of the server's proof of SCRAM: its text is that of a server that has not proven
    /// itself, so that a person should not do what it says. `Display` says so.
    pub fn is_unproven(&self) -> bool {
        self.is_unproven
    }

    /// Where in the dialogue.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The reply.
    pub fn reply(&self) -> &Reply {
        &self.reply
    }

    pub(super) fn into_reply(self) -> Reply {
        self.reply
    }

    /// Whether the server closes the connection by it (`421`, RFC 5321 §3.8): it says nothing of the message, which may
    /// go over another connection.
    pub fn closes(&self) -> bool {
        closes(self.reply.code())
    }

    /// With as much of the reply's text as is kept for each recipient.
    pub(super) fn shortened(self) -> Self {
        Self { reply: self.reply.shortened(MAX_KEPT_TEXT), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, reply, .. } = self;
        match (self.meaning, stage) {
            (Meaning::Closed, _) => write!(f, "the server closed the connection at {stage}"),
            (Meaning::WantsTls, _) => f.write_str("the server wants TLS first"),
            (Meaning::WantsSignIn, _) => f.write_str("the server wants a sign-in first"),
            (Meaning::WantsEither, _) => f.write_str("the server wants TLS, or a sign-in, first"),
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

/// A refusal of AUTH in words (RFC 4954 §6).
fn explain(reply: &Reply) -> &'static str {
    match reply.code() {
        535 => "the server refused the user name, password or certificate",
        525 => "the server does not let this account sign in",
        454 => "the server cannot check passwords at the moment, try again later",
        432 => {
            "the server wants the account moved to this way of signing in, by another way, first"
        }
        534 => "the server wants a stronger way to sign in for this account",
        400..=499 => "the server could not sign the user in for the moment, try again later",
        _ => "the server refused the sign-in, ask its operator why",
    }
}

const TLS_FIRST: &str =
    "; if the port wants TLS from the start, as 465 does, it is silent until TLS begins";

/// What the client waits for at that stage.
struct Awaited(Stage);

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            stage @ Stage::Greeting => stage.fmt(f),
            stage => write!(f, "the reply to {stage}"),
        }
    }
}

/// A reply after a colon; or, if there is none, these words.
struct Said<'a>(&'a Option<Reply>, &'static str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(reply) => write!(f, ": {reply}"),
            None => f.write_str(self.1),
        }
    }
}
