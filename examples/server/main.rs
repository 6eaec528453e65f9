//! A small submission server: takes mail from those who sign in, and files it in a Maildir or hands
//! it on to the next hop.
//!
//! `cargo run --example server -- --help` lists the options. `connection.rs` is the part to read
//! first: it drives the session, and all else is called from there.
#![allow(
    clippy::std_instead_of_alloc,
    reason = "a program with std has no reason to name alloc, which would take an `extern crate`"
)]

mod binding;
mod connection;
mod limits;
mod options;
mod received;
mod relay;
mod senders;
mod tls;
mod transaction;
mod users;

use core::{error::Error, fmt, net::SocketAddr, time::Duration};
use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use options::{Host, Options};

/// How long running transactions may take to their end at a shutdown: longer than a step of the
/// relay, or a message could be handed on and its sender not told.
const GRACE: Duration = Duration::from_secs(300);

/// How long to wait before the next `accept` where one failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    let host = Arc::new(Host::new(options)?);
    // Before anybody can be told that the server runs: a signal from here on ends it in order.
    let mut signals = Signals::new()?;
    let mut listeners = Vec::new();
    for (address, implicit) in options.addresses() {
        let listener = listen(address);
        listeners.push((listener.map_err(|error| format!("{address}: {error}"))?, implicit));
    }
    let (stop, stopped) = watch::channel(false);
    let mut accepting = JoinSet::new();
    let mut stdout = io::stdout();
    for (listener, implicit) in listeners {
        writeln!(stdout, "listening on {}", listener.local_addr()?)?;
        accepting.spawn(accept(listener, implicit, Arc::clone(&host), stopped.clone()));
    }
    stdout.flush()?;
    signals.next().await;
    log("server", "shutting down");
    stop.send_replace(true);
    tokio::select! {
        () = async { while accepting.join_next().await.is_some() {} } => {}
        () = signals.next() => log("server", "a second signal: what still runs is cut off"),
    }
    Ok(())
}

/// How many connections may wait to be taken. A client that finds no place among them believes to be
/// connected, and waits in vain for the greeting.
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of a server that has just ended are no reason not to start the next.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes connections until the shutdown, then waits for them to end.
async fn accept(
    listener: TcpListener,
    implicit: bool,
    host: Arc<Host>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    let stopped = stopped.clone();
                    connections.spawn(connection::serve(
                        Arc::clone(&host), socket, peer, implicit, stopped,
                    ));
                }
                // A client that is gone already, or no file descriptor left: neither ends the
                // server, and the second lasts until some connection ends.
                Err(error) => {
                    log("accept", error);
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            // A panic ends its connection alone; the runtime hands it over here.
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                log("connection", error);
            },
            () = shutdown(&mut stopped) => break,
        }
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, rest).await.is_err() {
        log("server", "connections that did not come to an end are cut off");
    }
}

/// Waits until the server is to stop.
async fn shutdown(stopped: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, and the server with it.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The signals that end the server.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
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
