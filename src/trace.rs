//! Traces of the dialogue for logging, with every secret masked.

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

/// The side that sent a line of the dialogue. `Display` writes `C` or `S`, as in the examples of the RFCs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// A function of the application that receives each line of the dialogue.
pub(crate) type Hook = Box<dyn FnMut(Side, &str) + Send + Sync>;
