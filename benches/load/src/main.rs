//! Load on the example server and, the same, on others: logins a second, their latency, and what an
//! idle connection costs. On the loopback interface alone; every count and time is bounded.
//!
//! Each login has a connection of its own: connect, greeting, EHLO, with TLS STARTTLS and EHLO again,
//! AUTH, QUIT, close. Tool and server share the machine's processors, so that a rate says something
//! beside another one only; the server's processor time for a login says something by itself.

mod certificate;
mod dialogue;
mod home;
mod measure;
mod options;
mod postfix;
mod process;
mod report;
mod servers;

use core::{error::Error, time::Duration};
use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use dialogue::Mechanism;
use measure::Limits;
use options::{Options, Transport};
use report::{Report, Series};
use servers::{Kind, Program, Server};

type Result<T> = core::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    match stoppable(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends at a signal too: then what runs is dropped, and the servers with it.
async fn stoppable(options: &Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = run(options) => ended,
        _ = terminate.recv() => Err("terminated".into()),
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    }
}

async fn run(options: &Options) -> Result<()> {
    raise_open_files()?;
    process::adopt()?;
    let mut report = Report::default();
    for &kind in &options.servers {
        let program = match Program::new(kind, options.example.as_deref()).await {
            Ok(program) => program,
            Err(why) => {
                println!("\n{}: skipped: {why}", kind.name());
                continue;
            }
        };
        if let Err(why) = measure(&program, options, &mut report).await {
            println!("\n{}: broken off: {why}", kind.name());
        }
    }
    report.print_summary();
    Ok(())
}

/// The servers inherit it.
fn raise_open_files() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

async fn measure(program: &Program, options: &Options, report: &mut Report) -> Result<()> {
    for &transport in &options.transports {
        let server = program.start().await?;
        for &mechanism in &options.mechanisms {
            if !program.kind.offers(mechanism) {
                continue;
            }
            match series(program.kind, &server, transport, mechanism, options).await {
                Ok(series) => report.series.push(series),
                Err(why) => println!("  broken off: {why}"),
            }
        }
    }
    for &transport in &options.transports {
        let number = options.idle().min(program.kind.max_idle());
        if number > 0 {
            // A new one: memory that the load has left behind would be taken for these.
            let server = program.start().await?;
            let dialogue = Arc::new(server.dialogue(transport, Mechanism::None)?);
            let idle = measure::idle(&dialogue, &server, number).await;
            report.idle.push((program.kind, transport, idle));
        }
    }
    Ok(())
}

async fn series(
    kind: Kind,
    server: &Server,
    transport: Transport,
    mechanism: Mechanism,
    options: &Options,
) -> Result<Series> {
    report::head(kind, transport, mechanism);
    let limits = Limits {
        span: options.span(),
        logins: options.max_logins,
        timeout: Duration::from_secs(options.timeout.into()),
    };
    let dialogue = Arc::new(server.dialogue(transport, mechanism)?);
    // The first shows that it works, and does SCRAM's work for all that follow.
    timeout(limits.timeout, dialogue.run()).await??;
    let mut rows = Vec::new();
    for at_once in options.at_once() {
        let row = measure::row(&dialogue, server, at_once, limits).await;
        report::row(&row);
        rows.push(row);
    }
    Ok(Series { kind, transport, mechanism, rows })
}
