//! Load on the example server and, the same, on others: logins a second, their latency, what an idle
//! connection costs, and messages a second. On the loopback interface alone; every count and time is
//! bounded.
//!
//! Each login has a connection of its own: connect, greeting, EHLO, with TLS STARTTLS and EHLO again,
//! AUTH, QUIT, close. Messages follow each other on connections that have signed in before: MAIL, RCPT,
//! DATA and the message, each after the reply to the one before. Tool and server share the machine's
//! processors, so that a rate says something beside another one only; the server's processor time for
//! a login or a message says something by itself.

mod accounts;
mod certificate;
mod dialogue;
mod home;
mod markdown;
mod measure;
mod message;
mod options;
mod postfix;
mod process;
mod report;
mod sending;
mod servers;
mod sink;

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
use message::Size;
use options::{Command, Options, Part, Transport};
use report::{Held, Report, Sending, Series};
use sending::Sent;
use servers::{Program, Server, Subject};

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
    if let Some(Command::Accounts(options)) = &options.command {
        return accounts::run(options).await;
    }
    let mut report = Report::default();
    for subject in options.subjects()? {
        let program = match Program::new(&subject, options).await {
            Ok(program) => program,
            Err(why) => {
                println!("\n{}: skipped: {why}", subject.label);
                continue;
            }
        };
        report.versions.extend(program.version.clone());
        if let Err(why) = connections(&subject, &program, options, &mut report).await {
            println!("\n{}: broken off: {why}", subject.label);
        }
        if options.measures(Part::Messages) {
            messages(&subject, &program, options, &mut report).await?;
        }
    }
    report.print_summary();
    let tables = markdown::tables(&report, options);
    println!("\n{tables}");
    if options.docs { markdown::write("load", &tables) } else { Ok(()) }
}

/// The servers inherit it.
fn raise_open_files() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Logins, and idle connections.
async fn connections(
    subject: &Subject,
    program: &Program,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let transports = |part| options.transports.iter().filter(move |_| options.measures(part));
    for &transport in transports(Part::Logins) {
        let server = program.start().await?;
        for &mechanism in &options.mechanisms {
            if !subject.kind.offers(mechanism) {
                continue;
            }
            match series(subject, &server, transport, mechanism, options).await {
                Ok(series) => report.series.push(series),
                Err(why) => println!("  broken off: {why}"),
            }
        }
    }
    for &transport in transports(Part::Idle) {
        let number = options.idle().min(subject.kind.max_idle());
        // A new one: memory that the load has left behind would be taken for these.
        let server = program.start().await?;
        let dialogue = Arc::new(server.dialogue(transport, Mechanism::None)?);
        let idle = measure::idle(&dialogue, &server, number).await;
        report.idle.push(Held { subject: subject.clone(), transport, idle });
    }
    Ok(())
}

async fn series(
    subject: &Subject,
    server: &Server,
    transport: Transport,
    mechanism: Mechanism,
    options: &Options,
) -> Result<Series> {
    report::head(subject, transport, mechanism);
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
    Ok(Series { subject: subject.clone(), transport, mechanism, rows })
}

/// Each row has a server of its own, which has taken nothing before.
async fn messages(
    subject: &Subject,
    program: &Program,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    for &transport in &options.transports {
        report::sending_head(subject, transport);
        let mut rows = Vec::new();
        for &size in &options.sizes {
            for connections in options.connections() {
                let row = sent(program, transport, size, connections, options).await;
                let of = || format!("{}, {}, {size}", subject.label, transport.name());
                let row = row.map_err(|why| format!("{}: {why}", of()))?;
                report::sent(&row);
                rows.push(row);
            }
        }
        report.sending.push(Sending { subject: subject.clone(), transport, rows });
    }
    Ok(())
}

async fn sent(
    program: &Program,
    transport: Transport,
    size: Size,
    connections: usize,
    options: &Options,
) -> Result<Sent> {
    let limits = sending::Limits {
        connections,
        connect_each: options.connect_each,
        span: options.span(),
        messages: options.max_messages.get(),
        timeout: Duration::from_secs(options.message_timeout.into()),
    };
    let server = program.start().await?;
    let dialogue = server.dialogue(transport, Mechanism::Plain)?;
    sending::row(dialogue, &server, size, limits).await
}
