//! An authentication service for Postfix, Exim and other mail servers that speak Dovecot's authentication protocol.
//!
//! The accounts are in SQLite or PostgreSQL. The [`connection`] of a mail server runs the protocol, and the
//! [`authenticator`] answers its questions with the [`store`], the threads for [`hashing`], the [`decoys`] and the
//! [`limiter`]. `smtp-authd --demo` tries it out.

#![forbid(unsafe_code)]

mod authenticator;
mod cli;
mod clock;
mod commands;
mod config;
mod connection;
mod credential;
mod decoys;
mod demo;
mod format;
mod hashing;
mod limiter;
mod log;
mod metrics;
mod metrics_listener;
mod passwords;
mod random;
mod serve;
mod socket;
mod store;
mod stream;
#[cfg(test)]
mod testing;
mod unavailable;

use std::{env, error::Error, path::PathBuf, process::ExitCode};

use clap::Parser;

use cli::{Cli, Command};
use config::Config;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smtp-authd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let path = cli.config.or_else(|| env::var_os("SMTP_AUTHD_CONFIG").map(PathBuf::from));
    let mut config = Config::load(path.as_deref())?;
    // One thread is enough, because the hashes are computed on threads of their own. Several would spend more time on waking
    // each other than on the work.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(Command::Account(command)) = cli.command {
        return Ok(runtime.block_on(commands::run(&config, command))?);
    }
    let filter = log::start(&config.log).ok_or("the log cannot be started")?;
    if cli.demo {
        config = runtime.block_on(demo::prepare(config, &cli.directory, cli.socket))?;
    }
    Ok(runtime.block_on(serve::serve(config, path, filter))?)
}
