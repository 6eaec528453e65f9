//! The command line.

use core::{num::NonZeroUsize, str::FromStr, time::Duration};
use std::{collections::HashSet, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    Result, accounts,
    dialogue::Mechanism,
    message::Size,
    servers::{Kind, Subject},
};

/// Measures how many logins and messages per second the example server handles, how long a login takes, and
/// how much memory an idle connection uses, and measures other servers for comparison.
#[derive(Parser)]
#[command(name = "load", args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The servers to measure.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    #[arg(default_values_t = Kind::value_variants().to_vec(), value_enum)]
    servers: Vec<Kind>,
    /// Another server, started with the same options as the example server, and its name in the tables; may
    /// be repeated.
    #[arg(long, value_name = "LABEL=PATH")]
    also: Vec<Also>,
    /// What to measure for each server.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    #[arg(default_values_t = Part::value_variants().to_vec(), value_enum)]
    measure: Vec<Part>,
    /// The mechanisms to authenticate with; `none` ends the connection after EHLO, or with TLS after the
    /// handshake.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    #[arg(default_values_t = Mechanism::value_variants().to_vec(), value_enum)]
    pub(crate) mechanisms: Vec<Mechanism>,
    /// Whether to use no TLS, STARTTLS, or both.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    #[arg(default_values_t = Transport::value_variants().to_vec(), value_enum)]
    pub(crate) transports: Vec<Transport>,
    /// The number of simultaneous connections: one row of the table for each number.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    #[arg(default_values_t = [1, 10, 50, 100, 400, 1000].map(number))]
    at_once: Vec<NonZeroUsize>,
    /// The number of seconds during which each row starts logins or messages. Processor time is counted in
    /// hundredths of a second, so a longer time gives a more exact result.
    #[arg(long, value_name = "SECONDS", default_value = "1.5")]
    seconds: f64,
    /// The maximum number of logins in a row.
    #[arg(long, value_name = "N", default_value = "100000")]
    pub(crate) max_logins: usize,
    /// The number of seconds after which a login counts as timed out.
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub(crate) timeout: u32,
    /// The number of idle connections to hold open.
    #[arg(long, value_name = "N", default_value = "10000")]
    idle: NonZeroUsize,
    /// The sizes of the messages in octets, including the header: `2k` is 2,000, `20M` is 20,000,000.
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', default_value = "2k,75k,20M")]
    pub(crate) sizes: Vec<Size>,
    /// The number of connections that send messages at once: one row of the table for each size and number.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "10")]
    connections: Vec<NonZeroUsize>,
    /// Send each message over its own connection, and include connecting and closing in the rate. By default,
    /// each connection authenticates once (PLAIN), and then sends one message after another.
    #[arg(long)]
    pub(crate) connect_each: bool,
    /// The maximum number of messages in a row.
    #[arg(long, value_name = "N", default_value = "100000")]
    pub(crate) max_messages: NonZeroUsize,
    /// The number of seconds that a message may take before the run ends.
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    pub(crate) message_timeout: u32,
    /// The directory in which each server gets a folder for its files; by default in memory.
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    pub(crate) folder: PathBuf,
    /// Measure quickly: half a second for each row, 1 and 100 simultaneous connections, 1000 idle connections.
    #[arg(long, conflicts_with_all = ["at_once", "seconds", "idle"])]
    quick: bool,
    /// Write the tables to `docs/benchmarks.md`, between the lines `<!-- load -->` and `<!-- /load -->`.
    #[arg(long, conflicts_with_all = ["servers", "measure", "quick"])]
    pub(crate) docs: bool,
    /// The example server's program; built by default.
    #[arg(long, value_name = "PATH")]
    example: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Measures the account service and, for comparison, Dovecot, both behind Postfix; and the account service with many
    /// accounts and several processes.
    Accounts(accounts::Options),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Logins,
    Idle,
    Messages,
}

/// `LABEL=PATH`
#[derive(Clone)]
struct Also {
    label: String,
    path: PathBuf,
}

impl FromStr for Also {
    type Err = &'static str;

    fn from_str(text: &str) -> core::result::Result<Self, Self::Err> {
        let (label, path) =
            text.split_once('=').ok_or("expected a name, `=`, and the path of a program")?;
        Ok(Self { label: label.into(), path: path.into() })
    }
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
    /// The servers in their order, this crate's first. Fails if two have one name.
    pub(crate) fn subjects(&self) -> Result<Vec<Subject>> {
        let (own, others): (Vec<_>, Vec<_>) =
            self.servers.iter().copied().partition(|&kind| kind == Kind::Example);
        let named = |kind: Kind, path| Subject { kind, label: kind.name().into(), path };
        let own = own.into_iter().map(|kind| named(kind, self.example.clone()));
        let also = self.also.iter().map(|also| Subject {
            kind: Kind::Example,
            label: also.label.clone(),
            path: Some(also.path.clone()),
        });
        let others = others.into_iter().map(|kind| named(kind, None));
        let all: Vec<_> = own.chain(also).chain(others).collect();
        let mut labels = HashSet::new();
        match all.iter().find(|subject| !labels.insert(&subject.label)) {
            Some(twice) => Err(format!("two servers are named {:?}", twice.label).into()),
            None => Ok(all),
        }
    }

    pub(crate) fn measures(&self, part: Part) -> bool {
        self.measure.contains(&part)
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = usize> {
        self.connections.iter().map(|n| n.get())
    }

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
        if self.quick { 1000 } else { self.idle.get() }
    }
}
