//! A small mail client: hands one message in at a server, signed in, over TLS.
//!
//! `cargo run --example client -- --help` lists the options. This file is the part to read first: it makes a [`Connector`]
//! of them, and sends the message. `args.rs` reads the command line, `message.rs` makes line ends, `failure.rs` has a
//! sentence and an exit code for whatever goes wrong.

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
    // The runtime's end would wait for a name server that does not answer, beyond the time limit.
    process::exit(exit_code)
}

async fn run(args: &Args) -> Result<String, Failure> {
    let (connector, envelope, message) = prepare(args)?;
    let mut client = connector.connect().await?;
    let sent = client.send(&envelope, &message).await;
    // What comes after the server's word on the message cannot change it any more: a message that was accepted must not be
    // sent again because QUIT failed.
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

/// All that can be wrong on this side is found before the server hears a word.
fn prepare(args: &Args) -> Result<(Connector, Envelope, Vec<u8>), Box<dyn Error>> {
    let envelope = Envelope::new(Some(&args.from), args.to.iter().map(String::as_str))?;
    let connector = connector(args)?;
    // Last, as standard input may have to be waited for.
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
    // Mail without a sign-in exists only where it is asked for by naming nobody.
    if let Some(credentials) = args.credentials()? {
        connector = connector.credentials(credentials);
    }
    if args.trace {
        connector = connector.trace(|side, line| tell(format_args!("{side}: {line}")));
    }
    Ok(connector)
}

/// Which servers are trusted, and what they are shown.
fn trusted(args: &Args) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
    let trusted = match &args.ca {
        Some(file) => tls::client(file).map_err(|error| format!("--ca {error}"))?,
        None => tls::platform()?,
    };
    let (Some(cert), Some(key)) = (&args.cert, &args.key) else { return Ok(trusted) };
    let showing = tls::with_certificate(&trusted, cert, key)
        .map_err(|error| format!("the certificate to show and its key: {error}"))?;
    Ok(showing)
}
