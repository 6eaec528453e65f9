//! Errors, each with a sentence and an exit code.

use std::{error, fmt::Display, io, io::Write};

use smtp_auth_tokio::client::{Error, ErrorKind, SessionError as Session, Stage};

/// The reason why the message was not accepted for every recipient: one sentence, which includes the server's reply.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit_code: i32,
    pub(crate) sentence: String,
}

/// The command line or a file is invalid.
impl From<Box<dyn error::Error>> for Failure {
    fn from(why: Box<dyn error::Error>) -> Self {
        Self { exit_code: 2, sentence: why.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut sentence = error.to_string();
        if let Some(json) = error.token_error() {
            let json = printable(json.expose());
            sentence += &format!("\nclient: the server's error for the token: {json}");
        }
        Self { exit_code: exit_code(&error), sentence }
    }
}

fn exit_code(error: &Error) -> i32 {
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

/// Writes to standard error. If it is closed, the delivery continues; `eprintln!` would panic.
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Returns the text in a form that is safe for a terminal: characters that `Debug` escapes, including bidirectional
/// controls, are replaced.
fn printable(text: &str) -> String {
    let is_printable = |c: char| matches!(c, ' '..='~') || c.escape_debug().len() == 1;
    text.chars().map(|c| if is_printable(c) { c } else { '?' }).collect()
}
