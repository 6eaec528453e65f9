//! Sends a message to the minimal server: `cargo run --example minimal_client -- tanstaaf`.

use std::{env, error::Error};

use smtp_auth_tokio::{
    client::{Connector, Credentials, Envelope},
    tls,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let tim = Credentials::password("tim", env::args().nth(1).unwrap_or_default())?;
    let server = Connector::starttls("localhost").port(2587).trust(tls::client("target/cert.pem")?);
    let mut client = server.credentials(tim).connect().await?;
    let envelope = Envelope::new(Some("tim@example.org"), ["ann@example.org"])?;
    let sent = client.send(&envelope, b"Subject: Hello\r\n\r\nHi Ann\r\n").await?;
    println!("{:?}: {}", client.mechanism(), sent.reply);
    client.quit().await;
    Ok(())
}
