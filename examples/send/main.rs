//! Sends mail as an application would that sends a message now and then. The program creates one [`Pool`] from a server
//! and credentials, and the pool keeps connections open for later messages.
//!
//! `cargo run --example send` starts a small server on the loopback interface and sends messages with attachments to
//! it. It then prints the errors for a wrong recipient, message, password and certificate, and shows that the pool can
//! be used after an error. At the end it checks that the accepted messages arrived unchanged.

mod server;

use std::{error::Error, iter};

use mail_builder::MessageBuilder;
use smtp_auth_tokio::{
    client::{self, Connector, Credentials, Envelope, Pool, Sent, Stage},
    tls,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (port, certificate, mut arriving) = server::start("tanstaaf").await?;
    let server = Connector::starttls("localhost").port(port);
    let trusting = server.clone().trust(tls::trusting([certificate])?);
    let tim = |password| Credentials::password("tim", password);
    let to = |ann| Envelope::new(Some("tim@example.org"), [ann, "bob@example.org"]);
    let (one, two) = (message("One")?, message("Two")?);

    let pool = Pool::new(trusting.clone().credentials(tim("tanstaaf")?));
    println!("A message: {}", pool.send(&to("ann@example.org")?, &one).await?.reply);
    let elsewhere = to("ann@example.com")?.every_recipient(true);
    refused("A recipient in another domain", Stage::Rcpt, pool.send(&elsewhere, &two).await)?;
    println!("The next message: {}", pool.send(&to("ann@example.org")?, &two).await?.reply);
    let bare = pool.send(&to("ann@example.org")?, b"Subject: Three\n\nHi\n").await;
    refused("Line ends that are not CRLF", Stage::Message, bare)?;
    pool.close().await;

    let guessing = Pool::new(trusting.credentials(tim("guess")?));
    let guess = guessing.send(&to("ann@example.org")?, &one).await;
    refused("A wrong password", Stage::Auth, guess)?;
    // This pool trusts the CAs of the operating system, which is correct for servers on the internet.
    let distrusting = Pool::new(server.credentials(tim("tanstaaf")?));
    let other = distrusting.send(&to("ann@example.org")?, &one).await;
    refused("A certificate that is not trusted", Stage::StartTls, other)?;

    let arrived: Vec<_> = iter::from_fn(|| arriving.try_recv().ok()).collect();
    if arrived != [one, two] {
        return Err("the messages that arrived are not those that were accepted".into());
    }
    println!("Both messages arrived unchanged.");
    Ok(())
}

/// Creates a message that contains lines that look like its end.
fn message(subject: &str) -> Result<Vec<u8>, Box<dyn Error>> {
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

/// Checks that the message was refused at this stage, and prints the error as a user would see it.
fn refused(
    what: &str,
    stage: Stage,
    outcome: Result<Sent, client::Error>,
) -> Result<(), Box<dyn Error>> {
    match outcome {
        Ok(_) => Err(format!("not refused: {what}").into()),
        Err(why) if why.stage() == Some(stage) => {
            println!("{what}: {why}");
            Ok(())
        }
        Err(why) => Err(why.into()),
    }
}
