//! The account service and, for comparison, Dovecot's authentication, behind the same Postfix and on the same SQLite
//! database; and the account service alone, with many accounts and several processes on one PostgreSQL database.
//!
//! The time of a sign-in is that of the AUTH exchange. The processor time and the memory are those of all processes of
//! the service, without Postfix, the tool and PostgreSQL.

mod growth;
mod postfix;
mod service;
mod socket;

use core::{num::NonZeroUsize, time::Duration};
use std::{path::PathBuf, time::Instant};

use clap::Args;

use crate::{
    Result, markdown,
    process::{Processes, Times},
    report::{figure, milliseconds},
};

/// A sign-in that takes longer ends the run.
const TIME_LIMIT: Duration = Duration::from_secs(20);

#[derive(Args)]
pub(crate) struct Options {
    /// The number of sign-ins in each row.
    #[arg(long, value_name = "N", default_value = "5000")]
    sign_ins: usize,
    /// The number of simultaneous connections to Postfix, or to the sockets of the account service.
    #[arg(long, value_name = "N", default_value = "10")]
    at_once: NonZeroUsize,
    /// The numbers of accounts on PostgreSQL.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "10,1000,100000")]
    accounts: Vec<usize>,
    /// The numbers of processes that share PostgreSQL.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,3")]
    processes: Vec<usize>,
    /// The directory in which each service gets a folder for its files; by default in memory.
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    folder: PathBuf,
    /// Write the tables to `docs/benchmarks.md`, between the lines `<!-- accounts -->` and `<!-- /accounts -->`.
    #[arg(long)]
    docs: bool,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let program = service::build().await?;
    let versions = [crate::postfix::version().await?, service::postgres_version().await?];
    let tables = markdown::circumstances(&versions, None)
        + &postfix::rows(&program, options).await?
        + &growth::rows(&program, options).await?;
    println!("\n{tables}");
    if options.docs { markdown::write("accounts", &tables) } else { Ok(()) }
}

/// The sign-ins of a row, all of which have succeeded.
struct SignIns {
    /// How long each took, the shortest first.
    times: Vec<Duration>,
    seconds: f64,
    used: Times,
    /// The resident memory of the service's processes after the row, in octets.
    memory: u64,
}

impl SignIns {
    fn new(mut times: Vec<Duration>, service: &Processes, before: Times, began: Instant) -> Self {
        times.sort_unstable();
        Self {
            times,
            seconds: began.elapsed().as_secs_f64(),
            used: Times::now(service).since(before, began),
            memory: service.usage().memory,
        }
    }

    fn percentile(&self, of_hundred: usize) -> Option<Duration> {
        let rank = (self.times.len() * of_hundred).div_ceil(100);
        self.times.get(rank.checked_sub(1)?).copied()
    }

    /// Cells: sign-ins a second, the median and the 99th percentile, user and system time of one, memory.
    fn cells(&self) -> String {
        let each = |seconds: f64| seconds * 1e6 / self.times.len().max(1) as f64;
        let cpu = self.used.server;
        format!(
            "{} | {} | {} | {:.0} | {:.0} | {}",
            figure(self.times.len() as f64 / self.seconds),
            milliseconds(self.percentile(50)),
            milliseconds(self.percentile(99)),
            each(cpu.user),
            each(cpu.system),
            figure(self.memory as f64 / 1024.0 / 1024.0),
        )
    }
}
