//! A small mail client: hands one message in at a server, signed in, over TLS.
//!
//! `cargo run --example client -- --help` says how. The modules in reading order: [`deliver`] is
//! the part that a program of its own would take over, the loop around
//! [`Session`](smtp_auth::client::Session); [`tls`] trusts certificates, [`message`] makes line
//! ends, [`args`] reads the command line, [`failure`] turns what went wrong into an exit code.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

mod args;
mod deliver;
mod failure;
mod message;
mod tls;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::Parser;
use smtp_auth::client::{Config, Envelope, Session, Tls};
use tokio::net::TcpStream;

use crate::{
    args::{Args, Protection},
    deliver::{Delivery, within},
    failure::{Failure, shown},
};

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(accepted) => {
            println!("{}", shown(&accepted));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("client: {}", shown(failure.why()));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// All that can be wrong on this side is found before the server hears a word.
fn run(mut args: Args) -> Result<String, Failure> {
    let message = message::read(args.file.as_deref()).map_err(Failure::Usage)?;
    let envelope = envelope(&args, &message)?;
    let connector = tls::connector(args.ca.as_deref()).map_err(Failure::Usage)?;
    let credentials = args.credentials().map_err(Failure::Usage)?;
    let timeout = Duration::from_secs(args.timeout);

    let deliver = async {
        let address = (args.server.host.as_str(), args.server.port);
        let connecting = format!("could not connect to {}:{}", address.0, address.1);
        let socket = within(timeout, &connecting, TcpStream::connect(address)).await?;
        let config = config(&args, socket.local_addr().ok())?;
        let mut session = match credentials {
            Some(credentials) => Session::new(config, credentials),
            // Mail without a sign-in exists only where it is asked for by this name.
            None => Session::without_credentials(config),
        };
        if args.trace {
            session.trace(|side, line| eprintln!("{side}: {line}"));
        }
        let starttls = args.tls != Protection::Implicit;
        let name = args.server.name.clone();
        let delivery = Delivery::new(session, envelope, &message, timeout);
        delivery.run(socket, starttls, &connector, name).await
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().map_err(|e| Failure::Usage(e.to_string()))?;
    let outcome = runtime.block_on(deliver);
    // A name server that never answers must not hold the process up behind the timeout.
    runtime.shutdown_background();
    outcome
}

fn envelope(args: &Args, message: &[u8]) -> Result<Envelope, Failure> {
    Ok(Envelope::new(Some(&args.from), args.to.iter().map(String::as_str))
        .map_err(|error| Failure::Usage(error.to_string()))?
        .size(message.len() as u64)
        .eight_bit(!message.is_ascii()))
}

fn config(args: &Args, own: Option<SocketAddr>) -> Result<Config, Failure> {
    // A client without a name gives its address (RFC 5321 §4.1.4).
    let literal = || match own.map(|own| own.ip().to_canonical()) {
        Some(std::net::IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
        Some(std::net::IpAddr::V4(ip)) => format!("[{ip}]"),
        None => "localhost".into(),
    };
    let config = Config::new(&args.hostname.clone().unwrap_or_else(literal))
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let config = config.sasl(args.sasl().map_err(Failure::Usage)?);
    Ok(match args.tls {
        Protection::None => config.tls(Tls::Never),
        // Inside TLS this asks for nothing more.
        Protection::Starttls | Protection::Implicit => config.tls(Tls::Required),
    })
}
