//! Sends mail as a program does that has some to send: by a `Pool`, made once of a server and credentials, which keeps
//! connections for any number of messages.
//!
//! `cargo run --example send` starts a small server on the loopback interface, sends it messages with
//! attachments, and looks whether they arrived to the letter.

mod server;

use std::{error::Error, sync::Arc};

use mail_builder::MessageBuilder;
use smtp_auth_tokio::{
    client::{self, Connector, Credentials, Envelope, Pool, Sent},
    rustls::{ClientConfig, RootCertStore},
    tls,
};
use tokio::sync::mpsc::UnboundedReceiver;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (port, certificate, mut arriving) = server::start("tanstaaf").await?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let own = ClientConfig::builder_with_provider(Arc::new(tls::provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = Connector::starttls("localhost").port(port);
    let trusting = server.clone().trust(Arc::new(own));
    let tim = |password| Credentials::password("tim", password);
    let to = |ann| Envelope::new(Some("tim@example.org"), [ann, "bob@example.org"]);
    let (one, two) = (message("One")?, message("Two")?);

    let mailer = Pool::new(trusting.clone().credentials(tim("tanstaaf")?));
    println!("A message: {}", mailer.send(&to("ann@example.org")?, &one).await?.reply);
    arrived(&mut arriving, &one).await?;
    let elsewhere = to("ann@example.com")?.every_recipient(true);
    refused(
        "One for elsewhere too",
        "ann@example.com: the server refused the recipient: 550",
        mailer.send(&elsewhere, &two).await,
    )?;
    println!("The next: {}", mailer.send(&to("ann@example.org")?, &two).await?.reply);
    arrived(&mut arriving, &two).await?;
    let bare = mailer.send(&to("ann@example.org")?, b"Subject: Three\n\nHi\n").await;
    refused("Line ends that are not CRLF", "CRLF", bare)?;
    mailer.close().await;

    let guessing = Pool::new(trusting.credentials(tim("guess")?));
    let guess = guessing.send(&to("ann@example.org")?, &one).await;
    refused("A wrong password", "535", guess)?;
    // It trusts the CAs that the operating system trusts, as a program for servers of the internet does.
    let distrusting = Pool::new(server.credentials(tim("tanstaaf")?));
    let other = distrusting.send(&to("ann@example.org")?, &one).await;
    refused("A certificate that is not trusted", "certificate", other)?;
    match arriving.try_recv() {
        Ok(_) => Err("something arrived that was refused".into()),
        Err(_) => Ok(()),
    }
}

/// With lines that look like the end of the message.
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

/// Looks whether the next message that arrives is that one, and whole.
async fn arrived(
    arriving: &mut UnboundedReceiver<Vec<u8>>,
    sent: &[u8],
) -> Result<(), Box<dyn Error>> {
    if arriving.recv().await.as_deref() != Some(sent) {
        return Err("another message arrived than was sent".into());
    }
    println!("  {} octets arrived", sent.len());
    Ok(())
}

/// Looks whether it was refused, for the right reason, and says it as the user would see it.
fn refused(
    what: &str,
    reason: &str,
    outcome: Result<Sent, client::Error>,
) -> Result<(), Box<dyn Error>> {
    match outcome {
        Ok(_) => Err(format!("it was not refused: {what}").into()),
        Err(why) if why.to_string().contains(reason) => {
            println!("{what}: {why}");
            Ok(())
        }
        Err(why) => Err(why.into()),
    }
}
