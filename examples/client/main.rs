//! A small mail client that authenticates and submits one message over TLS.
//!
//! `cargo run --example client -- --help` lists the options. Read this file first: it creates a [`Connector`] from the
//! command line, and sends the message. `args.rs` defines the command line, `message.rs` normalizes line endings, and
//! `failure.rs` defines error messages and exit codes.

mod args;
mod failure;
mod message;

use std::{
    error::Error,
    io::{self, Write},
    process,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use smtp_auth_tokio::{
    client::{Config, Connector, Envelope, Sent},
    rustls::ClientConfig,
    tls,
};

use crate::{
    args::{Args, Protection},
    failure::{Failure, tell},
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let exit_code = match run(&Args::parse()).await {
        Ok(accepted) => {
            let _ = writeln!(io::stdout(), "{accepted}");
            0
        }
        Err(Failure { exit_code, sentence }) => {
            tell(format_args!("client: {sentence}"));
            exit_code
        }
    };
    // Dropping the runtime would wait for a name server that does not answer, beyond the time limit.
    process::exit(exit_code)
}

async fn run(args: &Args) -> Result<String, Failure> {
    let (connector, envelope, message) = prepare(args)?;
    let mut client = connector.connect().await?;
    let sent = client.send(&envelope, &message).await;
    // The server's reply to the message is final. An error in QUIT must not cause an accepted message to be sent again.
    client.quit().await;
    let Sent { reply, refused, .. } = sent?;
    for recipient in &refused {
        tell(format_args!("client: recipient {recipient}"));
    }
    match (refused.len(), args.to.len()) {
        (0, _) => Ok(format!("the server accepted the message: {reply}")),
        (some, all) => Err(Failure {
            exit_code: 5,
            sentence: format!(
                "the server accepted the message, but refused {some} of {all} recipients: {reply}"
            ),
        }),
    }
}

/// Finds all errors on this side before it connects.
fn prepare(args: &Args) -> Result<(Connector, Envelope, Vec<u8>), Box<dyn Error>> {
    let envelope = Envelope::new(Some(&args.from), args.to.iter().map(String::as_str))?;
    let connector = connector(args)?;
    // The message is read last, because standard input may block.
    Ok((connector, envelope, message::read(args.file.as_deref())?))
}

fn connector(args: &Args) -> Result<Connector, Box<dyn Error>> {
    let (host, port) = &args.server;
    let mut connector = match args.tls {
        Protection::None => Connector::insecure_cleartext(host),
        Protection::Starttls => Connector::starttls(host).trust(trusted(args)?),
        Protection::Implicit => Connector::tls(host).trust(trusted(args)?),
    }
    .port(*port)
    .time_limit(Duration::from_secs(args.timeout));
    let sasl = args.sasl()?;
    connector = match &args.hostname {
        Some(own) => connector.config(Config::builder(own).sasl(sasl).build()?),
        None => connector.sasl(sasl),
    };
    // Without credentials the client does not authenticate.
    if let Some(credentials) = args.credentials()? {
        connector = connector.credentials(credentials);
    }
    if args.trace {
        connector = connector.trace(|side, line| tell(format_args!("{side}: {line}")));
    }
    Ok(connector)
}

/// Returns the TLS configuration with the trusted certificates and the client's own certificate.
fn trusted(args: &Args) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
    let trusted = match &args.ca {
        Some(file) => tls::client(file).map_err(|error| format!("--ca {error}"))?,
        None => tls::platform()?,
    };
    let (Some(cert), Some(key)) = (&args.cert, &args.key) else { return Ok(trusted) };
    let with_certificate = tls::with_certificate(&trusted, cert, key)
        .map_err(|error| format!("the client's certificate and key: {error}"))?;
    Ok(with_certificate)
}
