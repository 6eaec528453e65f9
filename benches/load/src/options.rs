//! The command line.

use core::{num::NonZeroUsize, time::Duration};
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::{dialogue::Mechanism, servers::Kind};

/// Measures how many logins a second the example server does, how long one takes, and what an idle
/// connection costs it; and the same of other servers beside it.
#[derive(Parser)]
#[command(name = "load")]
pub(crate) struct Options {
    /// The servers to measure.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    #[arg(default_values_t = Kind::value_variants().to_vec(), value_enum)]
    pub(crate) servers: Vec<Kind>,
    /// The mechanisms to sign in by; `none` is a connection that ends after EHLO, and within TLS after
    /// the handshake.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    #[arg(default_values_t = Mechanism::value_variants().to_vec(), value_enum)]
    pub(crate) mechanisms: Vec<Mechanism>,
    /// Without TLS, with it (STARTTLS), or both.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    #[arg(default_values_t = Transport::value_variants().to_vec(), value_enum)]
    pub(crate) transports: Vec<Transport>,
    /// How many connections are open at once: one row of the table for each number.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    #[arg(default_values_t = [1, 10, 50, 100, 400, 1000].map(number))]
    at_once: Vec<NonZeroUsize>,
    /// For how many seconds each row begins logins.
    #[arg(long, value_name = "SECONDS", default_value = "1.5")]
    seconds: f64,
    /// How many logins a row has at most.
    #[arg(long, value_name = "N", default_value = "100000")]
    pub(crate) max_logins: usize,
    /// How many seconds a login may take before it counts as timed out.
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub(crate) timeout: u32,
    /// How many idle connections are held; 0 leaves this out.
    #[arg(long, value_name = "N", default_value = "10000")]
    pub(crate) idle: usize,
    /// Half a second for each row, 1 and 100 at once, 1000 idle connections.
    #[arg(long, conflicts_with_all = ["at_once", "seconds", "idle"])]
    quick: bool,
    /// The example server's program. By default it is built.
    #[arg(long, value_name = "PATH")]
    pub(crate) example: Option<PathBuf>,
}

/// What the dialogue runs in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Transport {
    Plain,
    Tls,
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "no TLS",
            Self::Tls => "STARTTLS",
        }
    }
}

const fn number(n: usize) -> NonZeroUsize {
    match NonZeroUsize::new(n) {
        Some(n) => n,
        None => NonZeroUsize::MIN,
    }
}

impl Options {
    pub(crate) fn at_once(&self) -> Vec<usize> {
        if self.quick { vec![1, 100] } else { self.at_once.iter().map(|n| n.get()).collect() }
    }

    pub(crate) fn span(&self) -> Duration {
        if self.quick {
            return Duration::from_millis(500);
        }
        // Bounded, whatever is given.
        Duration::try_from_secs_f64(self.seconds.clamp(0.1, 60.0)).unwrap_or(Duration::from_secs(1))
    }

    pub(crate) fn idle(&self) -> usize {
        if self.quick { 1000 } else { self.idle }
    }
}
