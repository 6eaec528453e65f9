//! What may be shown of a line.

use alloc::{format, string::String};
use core::mem;

use super::Side;
use crate::{
    command::{self, Command},
    reply,
    sasl::Mechanism,
    shown::shown,
};

/// Masks a dialogue for a log: for a server or client with its own loop. The log is like the one that
/// [`trace`](crate::server::Session::trace) gives of a session, with less of the replies: a mask does not know what
/// a server repeats, so it hides the text of each reply that may repeat something.
///
/// It is fed the lines of both sides, in their order, as what a line is depends on those before it: LOGIN's
/// password is a line like any other. One mask is made for a connection, is fed the greeting too, and goes on after
/// STARTTLS with the lines inside TLS. It holds nothing of what it was fed. Where the replies do not fit the
/// commands, it hides more rather than less.
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
/// | a client's line from AUTH up to the reply that ends it, which is `235`, `4xx` or `5xx` | `***`, unless it is empty or `*` |
/// | a client's line that is no known command | `***`: after a `501` for its AUTH, a client's next line is often the password |
/// | a reply within AUTH that is no `334` | its codes, `535 5.7.8 ***` |
/// | a reply after something was masked, until a `235`, `4xx` or `5xx` has come, as many replies as commands, and another command | its codes, as it may repeat that |
/// | a `334` | as it is until the client has sent something secret; `334 ***` always with SCRAM, whose proof tells of the password, and with mechanisms that the crate does not have |
/// | a message's line, from `354` to the dot, whatever the server says meanwhile | nothing; then `[a message of 1200 octets]`, without dots that were added. The dot must be fed, the lines before it need not be |
/// | a client's line after DATA or BDAT, until as many replies have come as commands | nothing but other BDATs: a chunk's octets may be fed, but need not be |
/// | any other | as it is |
///
/// A `421` answers nothing, as it may come at any time and ends the connection (RFC 5321 §3.8).
///
/// In what is shown, control characters, separators of lines and controls of direction are `?`, and what is
/// not UTF-8 is U+FFFD.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    state: State,
    challenges: Challenges,
    sent: Sent,
    /// Whether the greeting has come, which answers none of the client's lines.
    greeted: bool,
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
    /// After DATA or BDAT: of a chunk that has so many octets left if they are `fed`, or a command after it.
    Chunk { left: u64, fed: bool },
}

/// Whether the client has sent something secret that a reply may repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sent {
    #[default]
    Nothing,
    /// Its reply is still to come: whatever came since is no reply to it.
    Secret,
    /// A reply has come that may have been the one to it.
    Answered,
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
                if response != line {
                    self.sent = Sent::Secret;
                }
                self.unanswered = self.unanswered.saturating_add(1);
                Some(printable(response))
            }
            State::Chunk { left, fed } if !is(b"BDAT") => {
                self.chunk(line, left, fed);
                None
            }
            State::Command | State::Chunk { .. } => {
                let (shown, all) = command(line, Mechanism::from_name, &mut self.challenges);
                if !all {
                    self.sent = Sent::Secret;
                } else if self.sent == Sent::Answered && self.unanswered == 0 {
                    self.sent = Sent::Nothing;
                }
                self.state = match () {
                    () if is(b"AUTH") => State::Response { before: self.unanswered },
                    () if is(b"DATA") || is(b"BDAT") => chunk_after(line),
                    () => State::Command,
                };
                // A client that asks for TLS has been greeted, even if the greeting was not fed.
                self.greeted |= is(b"STARTTLS");
                self.unanswered = self.unanswered.saturating_add(1);
                Some(shown)
            }
        }
    }

    /// A line after DATA or BDAT. Pipelined commands may follow a chunk, and the first of them in the same line, as
    /// a chunk need not end with one.
    fn chunk(&mut self, line: &[u8], left: u64, fed: bool) {
        let length = (line.len() + "\r\n".len()) as u64;
        self.state = match left.checked_sub(length) {
            Some(left) => State::Chunk { left, fed: fed || !is_known(line) },
            None => {
                let after = usize::try_from(left).ok().and_then(|left| line.get(left..));
                // Where the chunk's lines end otherwise, more is left than was counted.
                let known = [after.unwrap_or_default(), line].into_iter().find(|l| is_known(l));
                self.unanswered = self.unanswered.saturating_add(u32::from(known.is_some()));
                chunk_after(known.unwrap_or_default())
            }
        };
        // All is answered already, as the server has not waited for the end of the chunk.
        if self.unanswered == 0 && matches!(self.state, State::Chunk { left: 0, .. }) {
            self.state = State::Command;
        }
        // Where no octets are fed, all are still left when this comes.
        if line.windows(b"AUTH ".len()).any(|octets| octets.eq_ignore_ascii_case(b"AUTH ")) {
            self.sent = Sent::Secret;
        }
    }

    fn server(&mut self, line: &[u8]) -> String {
        let within = matches!(self.state, State::Response { .. }) && !line.starts_with(b"334");
        let shown = if within || self.sent != Sent::Nothing {
            masked(line)
        } else {
            self.challenges.shown(line)
        };
        if let (Some(last), Some(code)) = (reply::line_is_last(line), line.first_chunk()) {
            self.reply(code, last);
        }
        shown
    }

    /// A reply's line of that code: it answers one of the lines, and ends what such a reply can end.
    fn reply(&mut self, code: &[u8; 3], last: bool) {
        let goes_on = matches!(code, b"334" | b"354");
        if code == b"421" || !(last || goes_on) {
            return;
        }
        let is_first = !mem::replace(&mut self.greeted, true);
        if is_first && matches!(code, b"220" | b"554") {
            return;
        }
        self.unanswered = self.unanswered.saturating_sub(u32::from(last));
        let ends_auth = matches!(code, b"235" | [b'4' | b'5', ..]);
        if ends_auth && self.sent == Sent::Secret {
            self.sent = Sent::Answered;
        }
        self.state = match (code, self.state) {
            (_, State::Message(octets)) => State::Message(octets),
            // To a client that takes it for a challenge, what it says next is a response.
            (b"354", state @ State::Response { .. }) => state,
            (b"354", _) => State::Message(0),
            (_, state @ State::Chunk { left, fed }) if self.unanswered > 0 || (fed && left > 0) => {
                state
            }
            // Only AUTH is answered so: if no exchange was seen to begin, it has begun.
            (b"334", _) => State::Response { before: 0 },
            (b"235", _) => State::Command,
            (_, State::Response { before: before @ 1.. }) => State::Response { before: before - 1 },
            (_, state @ State::Response { .. }) if !ends_auth => state,
            _ => State::Command,
        };
    }
}

fn is_known(line: &[u8]) -> bool {
    !matches!(command::parse(line), Ok(Command::Unknown(_)) | Err(_))
}

/// The chunk after a command: of no octets where it is no BDAT, or one that cannot be read.
fn chunk_after(line: &[u8]) -> State {
    let left = match command::parse(line) {
        Ok(Command::Bdat { size, .. }) => size,
        _ => 0,
    };
    State::Chunk { left, fed: false }
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
