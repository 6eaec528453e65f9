//! What can go wrong: a sentence, and an exit code.

use std::{
    fmt::Display,
    io::{self, Write},
};

use smtp_auth::{
    Secret,
    client::{AuthError, Error, Stage},
};

/// Why the message was not accepted: one sentence, with the server's code and text in it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller has to put something right.
    Usage(String),
    /// No connection, no greeting or no TLS; or the connection broke.
    Connection(String),
    /// The client is not signed in.
    NotAuthenticated(String),
    /// The same, and what the server says of the token: JSON (RFC 7628 §3.2.2).
    TokenRefused(String, Secret),
    /// The server does not take the message, or not for every recipient.
    Refused(String),
    /// The server broke the protocol.
    Protocol(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Connection(_) => 3,
            Self::NotAuthenticated(_) | Self::TokenRefused(..) => 4,
            Self::Refused(_) => 5,
            Self::Protocol(_) => 6,
        }
    }

    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Usage(why)
            | Self::Connection(why)
            | Self::NotAuthenticated(why)
            | Self::TokenRefused(why, _)
            | Self::Refused(why)
            | Self::Protocol(why) => why,
        }
    }

    /// What the server says of the token, as it came.
    pub(crate) fn token_error(&self) -> Option<&str> {
        match self {
            Self::TokenRefused(_, json) => Some(json.expose()),
            _ => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let why = error.to_string();
        match error {
            Error::Refused(refusal) => match refusal.stage() {
                Stage::Greeting | Stage::Ehlo | Stage::StartTls => Self::Connection(why),
                Stage::Auth => Self::NotAuthenticated(why),
                _ => Self::Refused(why),
            },
            Error::Disconnected(_)
            | Error::TimedOut { .. }
            | Error::Closed(_)
            | Error::TlsNotOffered
            | Error::InjectedBeforeTls => Self::Connection(why),
            Error::NotAuthenticated(AuthError::TokenRefused {
                token_error: Some(json), ..
            }) => Self::TokenRefused(why, json),
            Error::NotAuthenticated(_) => Self::NotAuthenticated(why),
            // `message::read` has made every line end in CRLF.
            Error::BareLineEnd => Self::Usage(why),
            _ => Self::Protocol(why),
        }
    }
}

/// Says it on standard error. Where nobody reads that any more, the delivery still goes on.
/// (`eprintln!` would panic.)
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", shown(text));
}

/// The text as it may go to a terminal. Replies hold no control characters as this library shows
/// them, but certificates and the errors about them come from other hands.
pub(crate) fn shown(text: impl Display) -> String {
    // What `Debug` escapes is not printable, controls of direction too.
    let printable = |c: char| matches!(c, ' '..='~') || c.escape_debug().len() == 1;
    text.to_string().chars().map(|c| if printable(c) { c } else { '?' }).collect()
}
