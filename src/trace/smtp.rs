//! The trace of an SMTP session.

use alloc::boxed::Box;
use core::fmt;

use super::{
    Hook, Side,
    mask::{Challenges, a_message, command, masked, response},
};
use crate::sasl::Mechanism;

/// The application's hook, if there is one, and the masking of challenges. A session knows the kind of each line,
/// whereas a [`Mask`] has to infer it.
#[derive(Default)]
pub(crate) struct Trace {
    hook: Option<Hook>,
    challenges: Challenges,
}

impl Trace {
    pub(crate) fn new(hook: impl FnMut(Side, &str) + Send + Sync + 'static) -> Self {
        Self { hook: Some(Box::new(hook)), challenges: Challenges::default() }
    }

    /// Traces a line that may be logged, without its CRLF. The text of a secret challenge is still masked.
    pub(crate) fn line(&mut self, side: Side, line: &[u8]) {
        if let Some(hook) = &mut self.hook {
            hook(side, &self.challenges.shown(line));
        }
    }

    /// Traces lines that may be logged, each with its CRLF.
    pub(crate) fn lines(&mut self, side: Side, block: &[u8]) {
        if self.hook.is_some() {
            let lines = block.split(|&octet| octet == b'\n').filter(|line| !line.is_empty());
            lines.for_each(|line| self.line(side, line.strip_suffix(b"\r").unwrap_or(line)));
        }
    }

    /// Returns whether the application has set a hook.
    pub(crate) fn is_set(&self) -> bool {
        self.hook.is_some()
    }

    /// Traces the lines of a reply, each with its CRLF. Only the reply codes may be logged.
    pub(crate) fn codes(&mut self, side: Side, block: &[u8]) {
        if let Some(hook) = &mut self.hook {
            let lines = block.split(|&octet| octet == b'\n').filter(|line| !line.is_empty());
            lines.for_each(|line| hook(side, &masked(line.strip_suffix(b"\r").unwrap_or(line))));
        }
    }

    /// Traces a command of the client. `named` finds a mechanism by its name, custom mechanisms included.
    pub(crate) fn command(&mut self, line: &[u8], named: impl Fn(&str) -> Option<Mechanism>) {
        if let Some(hook) = &mut self.hook {
            hook(Side::Client, &command(line, named, &mut self.challenges).0);
        }
    }

    /// Traces a line of the client within an AUTH exchange.
    pub(crate) fn response(&mut self, line: &[u8]) {
        self.line(Side::Client, response(line));
    }

    /// Traces the number of octets of a message.
    pub(crate) fn message(&mut self, octets: u64) {
        if let Some(hook) = &mut self.hook {
            hook(Side::Client, &a_message(octets));
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.hook.is_some() { "Trace(set)" } else { "Trace(none)" })
    }
}
