//! Runs the example programs against software that others wrote: mail clients authenticate to the example
//! server, and the example client authenticates to mail servers. Mail clients also authenticate to mail
//! servers that ask smtp-authd. Prints matrices, mechanism by peer.
//!
//! All on loopback; every process has a bounded time, and none outlives the run.

mod authd;
mod clients;
mod dovecot;
mod example_server;
mod exim;
mod home;
mod log;
mod matrix;
mod message;
mod opensmtpd;
mod postfix;
#[path = "../../../authd/tests/support/postgres.rs"]
#[allow(dead_code, reason = "the tests of the service use the rest")]
mod postgres;
mod process;
mod replies;
mod servers;
mod sign_in;
mod thunderbird;
mod to_authd;
mod to_example;
mod to_servers;

use core::ops::Add;
use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use home::Home;
use matrix::{Matrix, Sum};

type Result<T> = core::result::Result<T, String>;

/// Tests the example programs and smtp-authd with mail clients and mail servers from other projects.
#[derive(Parser)]
pub(crate) struct Options {
    /// The example server's program.
    #[arg(long, value_name = "FILE")]
    server: PathBuf,
    /// The example client's program.
    #[arg(long, value_name = "FILE")]
    client: PathBuf,
    /// The account service's program.
    #[arg(long, value_name = "FILE")]
    authd: PathBuf,
    /// The folder that contains the programs from PyPI (`venv`) and npm (`node_modules`), and the Debian
    /// packages that conflict with Postfix (`debian`).
    #[arg(long, value_name = "DIR")]
    peers: PathBuf,
    /// Test only the programs whose names contain this; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Write the tables to this file, between the lines `<!-- interop -->` and `<!-- /interop -->`.
    #[arg(long, value_name = "FILE", conflicts_with = "only")]
    docs: Option<PathBuf>,
    /// Keep the run's folder with its configurations and logs, and print its path.
    #[arg(long)]
    keep: bool,
    /// Print each check when it is done.
    #[arg(long)]
    verbose: bool,
}

impl Options {
    /// Exim's program, where its package is unpacked.
    fn exim(&self) -> PathBuf {
        self.peers.join("debian/usr/sbin/exim4")
    }

    /// OpenSMTPD's, the same.
    fn opensmtpd(&self) -> PathBuf {
        self.peers.join("debian/usr/sbin/smtpd")
    }

    fn wants(&self, peer: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| peer.contains(part.as_str()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    match stoppable(&options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends at a signal too: then what runs is dropped, and the processes with it.
async fn stoppable(options: &Options) -> Result<bool> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    tokio::select! {
        ended = run(options) => ended,
        _ = terminate.recv() => Err("terminated".into()),
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    }
}

/// Whether nothing has failed.
async fn run(options: &Options) -> Result<bool> {
    process::adopt()?;
    let home = Home::new(options.keep)?;
    let mut clients = Matrix::new("## Mail clients with the example server", options.verbose);
    for client in clients::all(options).iter().filter(|client| options.wants(client.name)) {
        to_example::check(client, options, &home, &mut clients).await;
    }
    let mut servers = Matrix::new("## The example client with mail servers", options.verbose);
    for server in servers::all().iter().filter(|server| options.wants(server.name)) {
        to_servers::check(server, options, &home, &mut servers).await;
    }
    let mut with_authd = Matrix::new(to_authd::TITLE, options.verbose);
    let mut replies = Matrix::new(replies::TITLE, options.verbose);
    to_authd::check(options, &home, &mut with_authd, &mut replies).await;
    let all = [clients, servers, with_authd, replies];
    let tables = matrix::tables(&all);
    println!("{tables}");
    if let Some(document) = &options.docs {
        matrix::write_between_marks(document, &tables)?;
    }
    let sum = all.iter().map(Matrix::sum).fold(Sum::default(), Sum::add);
    println!("{sum}");
    Ok(sum.is_good())
}
