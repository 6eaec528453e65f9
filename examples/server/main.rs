//! A small submission server: takes mail from those who sign in, and files it in a Maildir or hands
//! it on to the next hop.
//!
//! `cargo run --example server -- --help` lists the options. `options.rs` makes the server of them,
//! `mail.rs` is the part to read first: what becomes of mail. All else the driver does.

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

/// How long to wait, when all else is over, for a disk that does not answer. The runtime by itself
/// waits without end.
const LAST_WRITES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let options = Options::parse();
    // Mail is nobody else's to read: what this process makes, directories and files, is its owner's
    // alone.
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
    // Before anybody can be told that the server runs: a signal from here on ends it in order.
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
                // The options make sure that there is TLS.
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
        () = signalled() => log("server", "a second signal: what still runs is cut off"),
    }
    Ok(())
}

/// What waits for a signal that ends the server, from now on.
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

/// Writes a line to stderr. Whatever a peer got into it, it stays one line, no terminal obeys it, and it is read
/// in the order in which it was written.
fn log(who: impl fmt::Display, what: impl fmt::Display) {
    let mut line = String::new();
    for c in format!("{who}: {what}").chars() {
        match c {
            ' '..='~' => line.push(c),
            // All that is not printable, controls of direction too.
            c => line.extend(c.escape_debug()),
        }
    }
    line.push('\n');
    // Where stderr is gone there is nobody to tell. (`eprintln!` would panic.)
    let _ = io::stderr().write_all(line.as_bytes());
}
