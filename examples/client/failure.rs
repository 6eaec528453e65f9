//! What can go wrong: a sentence, and an exit code.

use std::{
    fmt::{self, Display},
    io::{self, Write},
};

use smtp_auth_tokio::{
    client::{Error, ErrorKind, Stage},
    smtp_auth::client::{AuthError, Error as Session},
};

/// Why the message was not accepted for every recipient: one sentence, with the server's code and text in it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller has to put something right.
    Usage(String),
    /// It was not accepted for anybody, or nobody knows.
    Client(Error),
    /// It has gone to some of the recipients.
    Partly(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        let error = match self {
            Self::Usage(_) => return 2,
            Self::Client(error) => error,
            Self::Partly(_) => return 5,
        };
        match error.kind() {
            ErrorKind::Config(_) => 2,
            ErrorKind::Session(Session::NotAuthenticated(_)) => 4,
            ErrorKind::Session(Session::Refused(_)) | ErrorKind::NotAccepted(_) => {
                match error.stage() {
                    Some(Stage::Greeting | Stage::Ehlo | Stage::StartTls) => 3,
                    Some(Stage::Auth) => 4,
                    _ => 5,
                }
            }
            ErrorKind::Session(
                Session::Disconnected(_)
                | Session::TimedOut { .. }
                | Session::Closed(_)
                | Session::TlsNotOffered
                | Session::InjectedBeforeTls,
            ) => 3,
            ErrorKind::Session(_) => 6,
            _ => 3,
        }
    }

    /// What the server says of the token: JSON (RFC 7628 §3.2.2), as it came.
    pub(crate) fn token_error(&self) -> Option<&str> {
        let Self::Client(error) = self else { return None };
        match error.kind() {
            ErrorKind::Session(Session::NotAuthenticated(AuthError::TokenRefused {
                token_error: Some(json),
                ..
            })) => Some(json.expose()),
            _ => None,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) | Self::Partly(why) => f.write_str(why),
            Self::Client(error) => error.fmt(f),
        }
    }
}

/// Says it on standard error. Where nobody reads that any more, the delivery still goes on. (`eprintln!` would panic.)
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", shown(text));
}

/// The text as it may go to a terminal. Replies hold no control characters as this library shows them, but certificates
/// and the errors about them come from other hands.
pub(crate) fn shown(text: impl Display) -> String {
    // What `Debug` escapes is not printable, controls of direction too.
    let printable = |c: char| matches!(c, ' '..='~') || c.escape_debug().len() == 1;
    text.to_string().chars().map(|c| if printable(c) { c } else { '?' }).collect()
}
