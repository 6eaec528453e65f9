//! A small submission server. It accepts mail from clients that authenticate, and stores it in a Maildir or relays it
//! to the next hop.
//!
//! `cargo run --example server -- --help` lists the options. Read `mail.rs` first: it handles the messages.
//! `options.rs` creates the server from the command line. The driver does everything else.

mod mail;
mod maildir;
mod options;
mod relay;
mod senders;
mod tls;
mod users;

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use smtp_auth_tokio::server::bind;
use tokio::{runtime::Runtime, task::JoinSet};

use options::Options;

/// How long to wait at the end for a disk that does not respond. Without this limit the runtime would wait
/// indefinitely.
const LAST_WRITES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let options = Options::parse();
    // Mail is private, so only the owner can access the directories and files that this process creates.
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log("error", error);
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let ended = runtime.block_on(run(options));
    runtime.shutdown_timeout(LAST_WRITES);
    ended
}

async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let server = options.server()?;
    // Signals are handled before the server prints that it is running, so from then on, a signal causes an orderly
    // shutdown.
    let mut signalled = signals()?;
    let mut listeners = Vec::new();
    for (address, implicit) in options.addresses() {
        listeners.push((bind(address).await?, implicit));
    }
    let (mut serving, mut stdout) = (JoinSet::new(), io::stdout());
    for (listener, implicit) in listeners {
        writeln!(stdout, "listening on {}", listener.local_addr()?)?;
        let server = server.clone();
        serving.spawn(async move {
            match implicit {
                // The options ensure that TLS is configured.
                true => drop(server.serve_tls(listener).await),
                false => server.serve(listener).await,
            }
        });
    }
    stdout.flush()?;
    signalled().await;
    log("server", "shutting down");
    server.shutdown();
    tokio::select! {
        _ = serving.join_all() => {}
        () = signalled() => log("server", "second signal: closing the remaining connections"),
    }
    Ok(())
}

/// Starts to handle the signals that end the server, and returns a function that waits for one.
#[cfg(unix)]
fn signals() -> io::Result<impl AsyncFnMut()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn signals() -> io::Result<impl AsyncFnMut()> {
    Ok(async || drop(tokio::signal::ctrl_c().await))
}

/// Writes one line to stderr. Characters that are not printable are escaped, because the text may come from a peer: it
/// could otherwise forge lines, control the terminal, or change the direction of the text.
fn log(who: impl fmt::Display, what: impl fmt::Display) {
    let mut line = String::new();
    for c in format!("{who}: {what}").chars() {
        match c {
            ' '..='~' => line.push(c),
            // Everything that is not printable, including bidirectional controls.
            c => line.extend(c.escape_debug()),
        }
    }
    line.push('\n');
    // Ignores a closed stderr, on which `eprintln!` would panic.
    let _ = io::stderr().write_all(line.as_bytes());
}
