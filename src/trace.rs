//! Traces of the dialogue for a log, with everything secret masked.

use alloc::boxed::Box;
use core::fmt;

#[cfg(feature = "smtp")]
mod mask;
#[cfg(feature = "smtp")]
mod smtp;

#[cfg(feature = "smtp")]
pub use mask::Mask;
#[cfg(feature = "smtp")]
pub(crate) use smtp::Trace;

/// The side that sent a line of the dialogue. `Display` gives `C` or `S`, as the RFCs do in their examples.
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

/// A function of the application that gets each line of the dialogue.
pub(crate) type Hook = Box<dyn FnMut(Side, &str) + Send + Sync>;
