//! Sends mail as a program does that has some to send: a `Mailer`, made once of a server and
//! credentials, which keeps a connection for any number of messages.
//!
//! `cargo run --example send` starts a small server on the loopback interface, sends it messages with
//! attachments, and looks whether they arrived to the letter. `mailer.rs` is to copy from.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

mod mailer;
mod server;

use std::{sync::mpsc::Receiver, time::Duration};

use mail_builder::MessageBuilder;
use smtp_auth::{client::Envelope, sasl::client::Credentials};
use tokio_rustls::rustls::RootCertStore;

use crate::mailer::{Mailer, Result};

fn main() -> Result<()> {
    let (port, certificate, arriving) = server::start("tanstaaf")?;
    let mut own = RootCertStore::empty();
    own.add(certificate)?;
    let mailer = |roots, password| -> Result<Mailer> {
        let credentials = Credentials::password("tim", password)?;
        Ok(Mailer { host: "localhost", port, roots, credentials })
    };
    let envelope = Envelope::new(Some("tim@example.org"), ["ann@example.org", "bob@example.org"])?;
    let (one, two) = (message("One")?, message("Two")?);

    let mut connection = mailer(own.clone(), "tanstaaf")?.connect()?;
    println!("A message: {}", connection.send(&envelope, &one)?);
    arrived(&arriving, &one)?;
    let elsewhere = Envelope::new(Some("tim@example.org"), ["ann@example.org", "ann@example.com"])?;
    refused(
        "One for elsewhere too",
        "ann@example.com: the server refused the recipient: 550",
        connection.send(&elsewhere, &two),
    )?;
    println!("The next: {}", connection.send(&envelope, &two)?);
    arrived(&arriving, &two)?;
    let bare = connection.send(&envelope, b"Subject: Three\n\nHi\n");
    refused("Line ends that are not CRLF", "CRLF", bare)?;
    connection.quit();

    refused("A wrong password", "535", mailer(own, "guess")?.connect())?;
    // Those that browsers trust, as a program for servers of the internet has them.
    let public = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let other = mailer(public, "tanstaaf")?.connect();
    refused("A certificate that is not trusted", "certificate", other)?;
    match arriving.try_recv() {
        Ok(_) => Err("something arrived that was refused".into()),
        Err(_) => Ok(()),
    }
}

/// With lines that look like the end of the message.
fn message(subject: &str) -> Result<Vec<u8>> {
    let message = MessageBuilder::new()
        .from(("Tim", "tim@example.org"))
        .to(vec!["ann@example.org", "bob@example.org"])
        .subject(subject)
        .text_body("Two files are attached.\r\n.\r\n")
        .attachment("text/plain", "notes.txt", "the first line\r\n.\r\n..\r\nthe last line\r\n")
        .attachment("image/png", "Übersicht.png", (0..=255).collect::<Vec<u8>>())
        .write_to_vec()?;
    Ok(message)
}

/// Looks whether the next message that arrives is that one, and whole.
fn arrived(arriving: &Receiver<Vec<u8>>, sent: &[u8]) -> Result<()> {
    if arriving.recv_timeout(Duration::from_secs(10))? != sent {
        return Err("another message arrived than was sent".into());
    }
    println!("  {} octets arrived", sent.len());
    Ok(())
}

/// Looks whether it was refused, for the right reason, and says it as the user would see it.
fn refused<T>(what: &str, reason: &str, outcome: Result<T>) -> Result<()> {
    match outcome {
        Ok(_) => Err(format!("it was not refused: {what}").into()),
        Err(why) if why.to_string().contains(reason) => {
            println!("{what}: {why}");
            Ok(())
        }
        Err(why) => Err(why),
    }
}
