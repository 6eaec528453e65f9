//! A small mail client: hands one message in at a server, signed in, over TLS.
//!
//! `cargo run --example client -- --help` lists the options. This file is the part to read first: it makes a [`Connector`]
//! of them, and sends the message. `trust.rs` judges certificates, `message.rs` makes line ends, `args.rs` reads the
//! command line, `failure.rs` has a sentence and an exit code for whatever goes wrong.

mod args;
mod failure;
mod message;
mod trust;

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use smtp_auth_tokio::client::{self, Config, Connector, Envelope, Sent};

use crate::{
    args::{Args, Protection, Server},
    failure::{Failure, shown, tell},
};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(accepted) => {
            let _ = writeln!(io::stdout(), "{}", shown(accepted));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            tell(format_args!("client: {failure}"));
            if let Some(json) = failure.token_error() {
                tell(format_args!("client: the server says of the token: {json}"));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(args: &Args) -> Result<String, Failure> {
    let (connector, envelope, message) =
        prepare(args).map_err(|why| Failure::Usage(why.to_string()))?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().map_err(|why| Failure::Usage(why.to_string()))?;
    let sent = runtime.block_on(send(&connector, &envelope, &message));
    // A name server that does not answer must not hold the process up beyond the time limit.
    runtime.shutdown_background();
    let Sent { reply, refused, .. } = sent.map_err(Failure::Client)?;
    for recipient in &refused {
        tell(format_args!("client: recipient {recipient}"));
    }
    match (refused.len(), args.to.len()) {
        (0, _) => Ok(format!("the server accepted the message: {reply}")),
        (some, all) => Err(Failure::Partly(format!(
            "the server accepted the message, but refused {some} of {all} recipients: {reply}"
        ))),
    }
}

/// All that can be wrong on this side is found before the server hears a word.
fn prepare(args: &Args) -> Result<(Connector, Envelope, Vec<u8>), Box<dyn Error>> {
    let message = message::read(args.file.as_deref())?;
    let envelope = Envelope::new(Some(&args.from), args.to.iter().map(String::as_str))?;
    Ok((connector(args)?, envelope, message))
}

fn connector(args: &Args) -> Result<Connector, Box<dyn Error>> {
    let Server { host, port } = &args.server;
    let mut connector = match args.tls {
        Protection::None => Connector::insecure_cleartext(host),
        Protection::Starttls => Connector::starttls(host),
        Protection::Implicit => Connector::tls(host),
    }
    .port(*port)
    .trust(trust::config(args.ca.as_deref(), args.identity())?)
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

async fn send(
    connector: &Connector,
    envelope: &Envelope,
    message: &[u8],
) -> Result<Sent, client::Error> {
    let mut client = connector.connect().await?;
    let sent = client.send(envelope, message).await;
    // What comes after the server's word on the message cannot change it any more: a message that was accepted must not be
    // sent again because QUIT failed.
    client.quit().await;
    sent
}
