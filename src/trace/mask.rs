//! What may be shown of a line.

use alloc::{format, string::String};

use super::Side;
use crate::{
    command::{self, Command},
    reply,
    sasl::Mechanism,
    shown::shown,
};

/// Masks a dialogue for a log: for a server or client with its own loop, which wants the log that
/// [`trace`](crate::server::Session::trace) gives of a session.
///
/// It is fed the lines of both sides, in their order, as what a line is depends on those before it: LOGIN's
/// password is a line like any other. One mask is made for a connection, and goes on after STARTTLS with the
/// lines inside TLS. It holds nothing of what it was fed.
///
/// ```
/// use smtp_auth::{Mask, Side};
///
/// let mut mask = Mask::new();
/// let log: Vec<String> = [
///     (Side::Client, "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm"),
///     (Side::Server, "535 5.7.8 tim, your password is not tanstaaftanstaaf"),
///     (Side::Client, "AUTH LOGIN"),
///     (Side::Server, "334 VXNlcm5hbWU6"),
///     (Side::Client, "dGlt"),
/// ]
/// .into_iter()
/// .filter_map(|(side, line)| Some(format!("{side}: {}", mask.line(side, line.as_bytes())?)))
/// .collect();
/// assert_eq!(
///     log,
///     ["C: AUTH PLAIN ***", "S: 535 5.7.8 ***", "C: AUTH LOGIN", "S: 334 VXNlcm5hbWU6", "C: ***"],
/// );
/// ```
///
/// | line | shown |
/// | --- | --- |
/// | AUTH | the mechanism, `AUTH PLAIN ***`; `AUTH ***` where the crate does not have it, as the word may be a password |
/// | a client's line from AUTH up to its reply that is no `334` | `***`, unless it is empty or `*` |
/// | a client's line that is no known command | `***`: after a `501` for its AUTH, a client's next line is often the password |
/// | a reply that ends an exchange, or comes after what was masked, until the client goes on with another command | its codes, `535 5.7.8 ***`, as it may repeat that |
/// | a `334` | as it is until the client has sent something secret; `334 ***` always with SCRAM, whose proof tells of the password, and with mechanisms that the crate does not have |
/// | a message's line, from `354` to the dot | nothing; then `[a message of 1200 octets]`, without dots that were added |
/// | after BDAT, up to the reply | nothing but other BDATs: a chunk's octets may be fed, but need not be |
/// | any other | as it is |
///
/// In what is shown, control characters, separators of lines and controls of direction are `?`, and what is
/// not UTF-8 is U+FFFD.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    state: State,
    challenges: Challenges,
    /// Whether something was masked that a server's next reply may repeat.
    sent: bool,
    /// How many of the client's lines have had no reply yet.
    unanswered: u32,
}

/// What the client's next line is.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Command,
    /// Within AUTH, as far as the replies have told: a pipelined command counts as one, too. So many of the replies
    /// are still to come that are to commands before AUTH.
    Response { before: u32 },
    /// Of a message that has so many octets already.
    Message(u64),
    /// Of a chunk, or a command after it.
    Chunk,
}

impl Mask {
    /// A mask for a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// What may be shown of the next line, which is given with or without its line end. `None` for a line of a
    /// message, of which nothing is.
    pub fn line(&mut self, side: Side, line: &[u8]) -> Option<String> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match side {
            Side::Client => self.client(line),
            Side::Server => Some(self.server(line)),
        }
    }

    fn client(&mut self, line: &[u8]) -> Option<String> {
        let is = |verb: &[u8]| command::verb(line).eq_ignore_ascii_case(verb);
        match self.state {
            State::Message(octets) if line == b"." => {
                self.state = State::Command;
                self.unanswered = self.unanswered.saturating_add(1);
                Some(a_message(octets))
            }
            State::Message(octets) => {
                let added = line.starts_with(b".");
                let length = line.len() + "\r\n".len() - usize::from(added);
                self.state = State::Message(octets.saturating_add(length as u64));
                None
            }
            State::Response { .. } => {
                let response = response(line);
                self.sent |= response != line;
                self.unanswered = self.unanswered.saturating_add(1);
                Some(printable(response))
            }
            State::Chunk if !is(b"BDAT") => None,
            State::Command | State::Chunk => {
                let (shown, all) = command(line, Mechanism::from_name, &mut self.challenges);
                // Where commands are pipelined, the reply to what was masked is still to come.
                self.sent = !all || (self.sent && self.unanswered > 0);
                self.state = match () {
                    () if is(b"AUTH") => State::Response { before: self.unanswered },
                    () if is(b"BDAT") => State::Chunk,
                    () => State::Command,
                };
                self.unanswered = self.unanswered.saturating_add(1);
                Some(shown)
            }
        }
    }

    fn server(&mut self, line: &[u8]) -> String {
        let last = reply::line_is_last(line);
        self.unanswered = self.unanswered.saturating_sub(u32::from(last == Some(true)));
        let ends = matches!(self.state, State::Response { .. }) && !line.starts_with(b"334");
        self.state = match (line, last, self.state) {
            // Only AUTH is answered so: if no exchange was seen to begin, it has begun.
            ([b'3', b'3', b'4', ..], Some(_), _) => State::Response { before: 0 },
            ([b'3', b'5', b'4', ..], Some(_), _) => State::Message(0),
            (_, Some(true), State::Response { before: before @ 1.. }) => {
                State::Response { before: before - 1 }
            }
            (_, Some(true), _) => State::Command,
            (_, Some(false) | None, state) => state,
        };
        if self.sent || ends { masked(line) } else { self.challenges.shown(line) }
    }
}

/// Whether challenges are masked: with a server's proof, and what can be listened to, a password can be guessed.
/// So they are, too, where nobody knows whose challenges they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Challenges {
    masked: bool,
}

impl Default for Challenges {
    fn default() -> Self {
        Self { masked: true }
    }
}

impl Challenges {
    /// A line that may be shown, unless it is such a challenge.
    pub(super) fn shown(self, line: &[u8]) -> String {
        match line {
            [b'3', b'3', b'4', b' ' | b'-', _, ..] if self.masked => masked(line),
            _ => printable(line),
        }
    }
}

/// A client's command, and whether all of it is shown. What is not a known one is masked whole: after a
/// `501` for its AUTH, a client's next line is often the password.
pub(super) fn command(
    line: &[u8],
    named: impl Fn(&str) -> Option<Mechanism>,
    challenges: &mut Challenges,
) -> (String, bool) {
    match command::parse(line) {
        Ok(Command::Auth(auth)) => {
            let response = if auth.initial_response().is_some() { " ***" } else { "" };
            // What is no mechanism may be a password whose mechanism was left out.
            let known = named(auth.mechanism());
            challenges.masked = known.is_some_and(has_proof);
            let name = known.map_or("***", Mechanism::name);
            (format!("AUTH {name}{response}"), known.is_some() && response.is_empty())
        }
        Ok(Command::Unknown(_)) | Err(_) => (String::from("***"), false),
        Ok(_) => (printable(line), true),
    }
}

/// A client's line inside an exchange.
pub(super) fn response(line: &[u8]) -> &[u8] {
    if line.is_empty() || line == b"*" { line } else { b"***" }
}

/// A message in place of its octets.
pub(super) fn a_message(octets: u64) -> String {
    format!("[a message of {octets} octets]")
}

/// Whether a challenge may be made of what the server knows of the password.
fn has_proof(mechanism: Mechanism) -> bool {
    mechanism.reads_challenge() && mechanism != Mechanism::CramMd5
}

/// A reply's line with its text masked.
pub(super) fn masked(line: &[u8]) -> String {
    let codes = reply::codes(line);
    printable(&[codes, if codes.len() < line.len() { b"***" } else { b"" }].concat())
}

/// The text of a line that a peer sent, which may hold anything.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.chars().map(shown).collect()
}
