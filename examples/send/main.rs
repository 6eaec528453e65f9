//! Sends mail as a program does that has some to send: a `Mailer`, made once of a server and
//! credentials, which takes a message or keeps a connection for several.
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

use std::{process::ExitCode, sync::mpsc::Receiver, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use mail_builder::MessageBuilder;
use smtp_auth::{
    client::Envelope,
    sasl::{Mechanism, client::Credentials},
};

use crate::mailer::{Mailer, Result};

/// With lines that look like the end of the message.
const NOTES: &str = "the first line\r\n.\r\n..\r\nthe last line\r\n";

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("wrong: {why}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let (port, certificate, arriving) = server::start("tanstaaf")?;
    let mailer = Mailer::new("localhost", port).trust_only(certificate)?;
    let tim = mailer.credentials(Credentials::password("tim", "tanstaaf")?);
    let envelope = Envelope::new(Some("tim@example.org"), ["ann@example.org", "bob@example.org"])?;
    let [one, two, three] = [message("One")?, message("Two")?, message("Three")?];

    println!("A message: {}", tim.send(&envelope, &one)?);
    arrived(&arriving, &one)?;

    let mut connection = tim.connect()?;
    let signed_in = connection.signed_in();
    if signed_in != Some(Mechanism::ScramSha256Plus) {
        return Err(format!("that is not the strongest mechanism: {signed_in:?}").into());
    }
    println!("Signed in by SCRAM-SHA-256-PLUS, the first: {}", connection.send(&envelope, &two)?);
    arrived(&arriving, &two)?;
    let elsewhere = Envelope::new(Some("tim@example.org"), ["ann@example.org", "ann@example.com"])?;
    refused("One for elsewhere too", "550", connection.send(&elsewhere, &two))?;
    println!("The next: {}", connection.send(&envelope, &three)?);
    arrived(&arriving, &three)?;
    connection.quit();

    refused("Line ends that are not CRLF", "CRLF", tim.send(&envelope, b"Subject: Four\n\nHi\n"))?;
    let thief = tim.credentials(Credentials::password("tim", "guess")?);
    refused("A wrong password", "535", thief.send(&envelope, &one))?;
    let other = Mailer::new("localhost", port);
    refused("A certificate that is not trusted", "certificate", other.send(&envelope, &one))?;
    match arriving.try_recv() {
        Ok(_) => Err("something arrived that was refused".into()),
        Err(_) => Ok(()),
    }
}

fn message(subject: &str) -> Result<Vec<u8>> {
    let message = MessageBuilder::new()
        .from(("Tim", "tim@example.org"))
        .to(vec!["ann@example.org", "bob@example.org"])
        .subject(subject)
        .text_body("Two files are attached.\r\n.\r\n")
        .attachment("text/plain", "notes.txt", NOTES)
        .attachment("image/png", "Übersicht.png", octets())
        .write_to_vec()?;
    Ok(message)
}

/// Every one that there is.
fn octets() -> Vec<u8> {
    (0..=255).collect()
}

/// Looks whether the next message that arrives is that one, and whole.
fn arrived(arriving: &Receiver<Vec<u8>>, sent: &[u8]) -> Result<()> {
    let arrived = arriving.recv_timeout(Duration::from_secs(10))?;
    if arrived != sent {
        return Err("another message arrived than was sent".into());
    }
    let text = String::from_utf8(arrived)?;
    let unbroken: String = text.lines().collect();
    if !text.contains(NOTES) || !unbroken.contains(&STANDARD.encode(octets())) {
        return Err("the attachments are not in it".into());
    }
    println!("  {} octets arrived, and both attachments", text.len());
    Ok(())
}

/// Looks whether it was refused, for the right reason, and says it as the user would see it.
fn refused(what: &str, reason: &str, outcome: Result<String>) -> Result<()> {
    match outcome {
        Ok(_) => Err(format!("it was not refused: {what}").into()),
        Err(why) if why.to_string().contains(reason) => {
            println!("{what}: {why}");
            Ok(())
        }
        Err(why) => Err(why),
    }
}
