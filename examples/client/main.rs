//! A small mail client: hands one message in at a server, signed in, over TLS.
//!
//! `cargo run --example client -- --help` lists the options. `deliver.rs` is the part to read
//! first, and the one that a program of its own would take over: the loop around a session.
//! `trust.rs` judges certificates, `binding.rs`, which the server has too, binds a sign-in to the TLS
//! connection, `message.rs` makes line ends, `args.rs` reads the command line, `failure.rs` turns
//! what went wrong into a sentence and an exit code.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

mod args;
#[path = "../server/binding.rs"]
mod binding;
mod deliver;
mod failure;
mod message;
mod trust;

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use smtp_auth::client::{BodyType, Config, Envelope, Session, Tls};
use tokio::net::TcpStream;

use crate::{
    args::{Args, Protection},
    deliver::{Mail, Peer, deliver, within},
    failure::{Failure, shown, tell},
};

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(accepted) => {
            let _ = writeln!(io::stdout(), "{}", shown(accepted));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            tell(format_args!("client: {}", failure.why()));
            if let Some(json) = failure.token_error() {
                tell(format_args!("client: the server says of the token: {json}"));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// All that can be wrong on this side is found before the server hears a word.
fn run(args: Args) -> Result<String, Failure> {
    let message = message::read(args.file.as_deref()).map_err(Failure::Usage)?;
    let envelope = envelope(&args, &message)?;
    let identity = args.identity().map_err(Failure::Usage)?;
    let connector = trust::connector(args.ca.as_deref(), identity).map_err(Failure::Usage)?;
    let credentials = args.credentials().map_err(Failure::Usage)?;
    let timeout = Duration::from_secs(args.timeout);

    let work = async {
        let (host, port) = (args.server.host.as_str(), args.server.port);
        let connecting = format!("could not connect to {host}:{port}");
        let socket = within(timeout, &connecting, TcpStream::connect((host, port))).await?;
        let config = Arc::new(config(&args, socket.local_addr().ok())?);
        let mut session = match credentials {
            Some(credentials) => Session::new(config, credentials),
            // Mail without a sign-in exists only where it is asked for by this name.
            None => Session::without_credentials(config),
        };
        if args.trace {
            session.trace(|side, line| tell(format_args!("{side}: {line}")));
        }
        let peer = Peer {
            connector,
            name: args.server.name.clone(),
            implicit: args.tls == Protection::Implicit,
        };
        let mail = Mail { envelope, message: &message };
        deliver(socket, peer, session, mail, timeout).await
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().map_err(|e| Failure::Usage(e.to_string()))?;
    let outcome = runtime.block_on(work);
    // A name server that does not answer must not hold the process up beyond the timeout.
    runtime.shutdown_background();
    outcome
}

fn envelope(args: &Args, message: &[u8]) -> Result<Envelope, Failure> {
    let envelope = Envelope::new(Some(&args.from), args.to.iter().map(String::as_str))
        .map_err(|error| Failure::Usage(error.to_string()))?
        .size(message.len() as u64);
    Ok(match message.is_ascii() {
        true => envelope,
        false => envelope.body(BodyType::EightBitMime),
    })
}

fn config(args: &Args, own: Option<SocketAddr>) -> Result<Config, Failure> {
    // A client without a name gives its address (RFC 5321 §4.1.4).
    let literal = || match own.map(|own| own.ip().to_canonical()) {
        Some(IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
        Some(IpAddr::V4(ip)) => format!("[{ip}]"),
        None => "localhost".into(),
    };
    Config::builder(&args.hostname.clone().unwrap_or_else(literal))
        .sasl(args.sasl().map_err(Failure::Usage)?)
        .tls(match args.tls {
            Protection::None => Tls::Never,
            // Inside TLS this asks for nothing more.
            Protection::Starttls | Protection::Implicit => Tls::Required,
        })
        .build()
        .map_err(|error| Failure::Usage(error.to_string()))
}
