//! Masking of secrets in the lines of a dialogue.

use alloc::{format, string::String};
use core::mem;

use super::Side;
use crate::{
    command::{self, Command},
    reply,
    sasl::Mechanism,
    shown::shown,
};

/// Masks the secrets in the lines of a dialogue, so that the lines can be logged.
///
/// Use a mask if your server or client handles the SMTP dialogue without a session of this crate. For a session, use
/// the session's [`trace`](crate::server::Session::trace) method instead. A mask cannot detect whether a server echoes
/// a secret, so it hides the text of every reply that might contain one. `trace` hides the text of fewer replies than a
/// mask does.
///
/// Create one mask for each connection, and pass it every line from both sides in order, starting with the greeting.
/// After STARTTLS, continue with the decrypted lines. The order matters, because the mask recognizes a LOGIN password
/// only by the lines before it. The line that contains the password looks like any other line. The mask does not store
/// the lines. If the replies do not match the commands, the mask hides too much rather than too little.
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
/// | line | in the log |
/// | --- | --- |
/// | an AUTH command | The name of the mechanism is shown, as in `AUTH PLAIN ***`. If the crate does not implement the mechanism, the name may be a password, so it is also masked, as in `AUTH ***`. |
/// | each line from the client after AUTH, until a `235`, `4xx` or `5xx` reply ends the exchange | The line is masked as `***`, unless it is empty or `*`. |
/// | a client's line that is not a known command | The line is masked as `***`, because it may be a password: after a `501` reply to AUTH, clients often still send the password. |
/// | a reply during AUTH, other than `334` | Only the codes are shown, as in `535 5.7.8 ***`. |
/// | a reply after a masked line | Only the codes are shown, because the text may echo the secret. Replies are shown again once three conditions are met: the server has sent a `235`, `4xx` or `5xx` reply, every command has been answered, and the client has sent another command. |
/// | a `334` reply | The reply is shown unchanged until the client has sent a secret. For SCRAM, and for mechanisms that the crate does not implement, the reply is always masked as `334 ***`. A SCRAM reply can contain the server's proof, with which an attacker could find the password by brute force. |
/// | each line that the client sends after a `354` reply, up to the final dot | The line is not logged, whatever the server sends in the meantime. The final dot is logged as `[a message of 1200 octets]`. The number does not include the dots that the client added for dot-stuffing. The mask must receive the final dot, but does not need the lines before it. |
/// | each line that the client sends after DATA or BDAT, while a command is still unanswered | The line is not logged, unless it is another BDAT command. You can pass the octets of a chunk to the mask, but you do not have to. |
/// | any other line | The line is shown unchanged. |
///
/// A `421` reply does not count as a reply to a command, because it may come at any time and ends the connection (RFC
/// 5321 §3.8).
///
/// In the returned text, control characters, line separators and characters that control the text direction are
/// replaced by `?`. Octets that are not UTF-8 are replaced by U+FFFD.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    state: State,
    challenges: Challenges,
    sent: Sent,
    /// Whether the greeting has been received, which answers none of the client's lines.
    greeted: bool,
    /// The number of the client's lines that have not been answered yet.
    unanswered: u32,
}

/// The kind of the client's next line.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Command,
    /// A line within AUTH, judging by the replies, so a pipelined command also counts as such a line. `before` is the
    /// number of missing replies to commands before AUTH.
    Response { before: u32 },
    /// A line of a message. The number is that of the octets sent so far.
    Message(u64),
    /// After DATA or BDAT: part of a chunk, or a command after it. If the chunk's octets are `fed`, `left` of them are
    /// missing.
    Chunk { left: u64, fed: bool },
}

/// Whether the client has sent a secret that a reply may repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sent {
    #[default]
    Nothing,
    /// The client has sent a secret, and no reply since then can have answered it.
    Secret,
    /// A reply has been received that may have answered the secret.
    Answered,
}

impl Mask {
    /// Creates a mask for a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the part of the next line that may be logged. The line may include its line ending.
    ///
    /// Returns `None` for lines that are not logged, such as the lines of a message.
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
                // A client that sends STARTTLS has been greeted, even if the mask has not seen the greeting.
                self.greeted |= is(b"STARTTLS");
                self.unanswered = self.unanswered.saturating_add(1);
                Some(shown)
            }
        }
    }

    /// Processes a line after DATA or BDAT. Pipelined commands may follow a chunk. The first of them may be in the same
    /// line as the chunk's last octets, because a chunk need not end in CRLF.
    fn chunk(&mut self, line: &[u8], left: u64, fed: bool) {
        let length = (line.len() + "\r\n".len()) as u64;
        self.state = match left.checked_sub(length) {
            Some(left) => State::Chunk { left, fed: fed || !is_known(line) },
            None => {
                let after = usize::try_from(left).ok().and_then(|left| line.get(left..));
                // The command follows the chunk's last octets in this line, or is the whole line: `left` is wrong if
                // the octets are not fed, or do not end their lines in CRLF.
                let known = [after.unwrap_or_default(), line].into_iter().find(|l| is_known(l));
                self.unanswered = self.unanswered.saturating_add(u32::from(known.is_some()));
                chunk_after(known.unwrap_or_default())
            }
        };
        // Every command has its reply already, because the server has not waited for the end of the chunk.
        if self.unanswered == 0 && matches!(self.state, State::Chunk { left: 0, .. }) {
            self.state = State::Command;
        }
        // If the chunk's octets are not fed, a pipelined AUTH is treated as part of the chunk. The reply to it may
        // repeat a secret.
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

    /// Processes a line of a reply with this code. The last line answers one of the client's lines, and may end AUTH or
    /// a message.
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
            // A client may interpret a 354 within AUTH as a challenge, and send a response next.
            (b"354", state @ State::Response { .. }) => state,
            (b"354", _) => State::Message(0),
            (_, state @ State::Chunk { left, fed }) if self.unanswered > 0 || (fed && left > 0) => {
                state
            }
            // Only AUTH is answered with this code, so an exchange has begun even if the mask has not seen the command.
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

/// Returns the state for the chunk after a command. The chunk is empty if the command is not a valid BDAT.
fn chunk_after(line: &[u8]) -> State {
    let left = match command::parse(line) {
        Ok(Command::Bdat { size, .. }) => size,
        _ => 0,
    };
    State::Chunk { left, fed: false }
}

/// Whether challenges are masked. A server's proof and the rest of the exchange allow a brute-force search for the
/// password. Challenges are also masked if the mechanism is unknown.
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
    /// Returns a line that may be logged. It masks the line if it is a challenge that must not be logged.
    pub(super) fn shown(self, line: &[u8]) -> String {
        match line {
            [b'3', b'3', b'4', b' ' | b'-', _, ..] if self.masked => masked(line),
            _ => printable(line),
        }
    }
}

/// Returns the part of a client's command that may be logged, and whether that is the whole command. An unknown command
/// is masked completely, because after a `501` to AUTH, the client's next line is often the password.
pub(super) fn command(
    line: &[u8],
    named: impl Fn(&str) -> Option<Mechanism>,
    challenges: &mut Challenges,
) -> (String, bool) {
    match command::parse(line) {
        Ok(Command::Auth(auth)) => {
            let response = if auth.initial_response().is_some() { " ***" } else { "" };
            // If this is not a mechanism, it may be a password that the client sent without a mechanism.
            let known = named(auth.mechanism());
            challenges.masked = known.is_some_and(has_proof);
            let name = known.map_or("***", Mechanism::name);
            (format!("AUTH {name}{response}"), known.is_some() && response.is_empty())
        }
        Ok(Command::Unknown(_)) | Err(_) => (String::from("***"), false),
        Ok(_) => (printable(line), true),
    }
}

/// Returns the part of a client's line within an AUTH exchange that may be logged.
pub(super) fn response(line: &[u8]) -> &[u8] {
    if line.is_empty() || line == b"*" { line } else { b"***" }
}

/// Returns the log line for a message of this many octets.
pub(super) fn a_message(octets: u64) -> String {
    format!("[a message of {octets} octets]")
}

/// Returns whether a challenge of the mechanism may depend on what the server stores for the password.
fn has_proof(mechanism: Mechanism) -> bool {
    mechanism.reads_challenge() && mechanism != Mechanism::CramMd5
}

/// Returns a line of a reply with its text masked.
pub(super) fn masked(line: &[u8]) -> String {
    let codes = reply::codes(line);
    printable(&[codes, if codes.len() < line.len() { b"***" } else { b"" }].concat())
}

/// Returns the text of the peer's line in a form that is safe to print.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.chars().map(shown).collect()
}
