//! The dialogue as lines for a log, with everything secret masked.

use alloc::{boxed::Box, format, string::String};
use core::fmt;

use crate::{
    command::{self, Command},
    reply,
    sasl::Mechanism,
    shown::shown,
};

/// Who says a line of the dialogue. `Display` gives the standards' `C` and `S`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a dialogue has two sides")]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "C",
            Self::Server => "S",
        })
    }
}

type Hook = Box<dyn FnMut(Side, &str) + Send + Sync>;

/// The host's hook, if there is one.
#[derive(Default)]
pub(crate) struct Trace {
    hook: Option<Hook>,
    /// Whether the challenges of the exchange under way are masked too: with a server's proof, and
    /// what can be listened to, a password can be guessed. So they are where the exchange began
    /// before the hook was set.
    mask_challenges: bool,
}

impl Trace {
    pub(crate) fn new(hook: impl FnMut(Side, &str) + Send + Sync + 'static) -> Self {
        Self { hook: Some(Box::new(hook)), mask_challenges: true }
    }

    /// A line that may be shown.
    pub(crate) fn line(&mut self, side: Side, line: &[u8]) {
        if let Some(hook) = &mut self.hook {
            match line {
                [b'3', b'3', b'4', b' ' | b'-', _, ..] if self.mask_challenges => {
                    hook(side, &masked(line));
                }
                _ => hook(side, &printable(line)),
            }
        }
    }

    /// Lines that may be shown, each with its CRLF.
    pub(crate) fn lines(&mut self, side: Side, block: &[u8]) {
        if self.hook.is_some() {
            let lines = block.split(|&octet| octet == b'\n').filter(|line| !line.is_empty());
            lines.for_each(|line| self.line(side, line.strip_suffix(b"\r").unwrap_or(line)));
        }
    }

    /// Whether there is somebody to see it.
    pub(crate) fn is_set(&self) -> bool {
        self.hook.is_some()
    }

    /// A reply's lines, each with its CRLF, of which the codes alone may be shown.
    pub(crate) fn codes(&mut self, side: Side, block: &[u8]) {
        if let Some(hook) = &mut self.hook {
            let lines = block.split(|&octet| octet == b'\n').filter(|line| !line.is_empty());
            lines.for_each(|line| hook(side, &masked(line.strip_suffix(b"\r").unwrap_or(line))));
        }
    }

    /// A client's command. What is not a known one is masked whole: behind a `501` for its AUTH,
    /// a client's next line is often the password. `named` knows the mechanisms, the host's own too.
    pub(crate) fn command(&mut self, line: &[u8], named: impl Fn(&str) -> Option<Mechanism>) {
        if self.hook.is_none() {
            return;
        }
        match command::parse(line) {
            Ok(Command::Auth(auth)) => {
                let response = if auth.initial_response().is_some() { " ***" } else { "" };
                // What is no mechanism may be a password whose mechanism was left out.
                let name = auth.mechanism();
                let known = named(name);
                self.mask_challenges = known.is_some_and(has_proof);
                let name = known.map_or("***", Mechanism::name);
                self.line(Side::Client, format!("AUTH {name}{response}").as_bytes());
            }
            Ok(Command::Unknown(_)) | Err(_) => self.line(Side::Client, b"***"),
            Ok(_) => self.line(Side::Client, line),
        }
    }

    /// A client's line inside an exchange.
    pub(crate) fn response(&mut self, line: &[u8]) {
        let masked = if line.is_empty() || line == b"*" { line } else { b"***" };
        self.line(Side::Client, masked);
    }

    /// A message in place of its octets.
    pub(crate) fn message(&mut self, octets: u64) {
        if self.hook.is_some() {
            self.line(Side::Client, format!("[a message of {octets} octets]").as_bytes());
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.hook.is_some() { "Trace(set)" } else { "Trace(none)" })
    }
}

/// Whether a challenge may be made of what the server knows of the password.
fn has_proof(mechanism: Mechanism) -> bool {
    mechanism.reads_challenge() && mechanism != Mechanism::CramMd5
}

/// A reply's line with its text masked.
fn masked(line: &[u8]) -> String {
    let codes = reply::codes(line);
    printable(&[codes, if codes.len() < line.len() { b"***" } else { b"" }].concat())
}

/// The text of a line that a peer sent, which may hold anything.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.chars().map(shown).collect()
}
