//! A client: connects, authenticates, sends messages.
//!
//! A [`Connector`] knows the server and how to authenticate there. It makes connections, each a [`Client`], for any number
//! of messages, one after the other. A [`Pool`] keeps some of them, for a program that sends many at once or now and then.
//!
//! ```no_run
//! use smtp_auth_tokio::client::{Connector, Credentials, Envelope};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let tim = Credentials::password("tim@example.org", "tanstaaftanstaaf")?;
//! let mut client = Connector::starttls("mail.example.org").credentials(tim).connect().await?;
//! let envelope = Envelope::new(Some("tim@example.org"), ["ann@example.net", "bob@example.net"])?;
//! let sent = client.send(&envelope, b"Subject: Hello\r\n\r\nHi\r\n").await?;
//! for recipient in &sent.refused {
//!     println!("{recipient}");
//! }
//! client.quit().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is known of a message
//!
//! [`Sent`] is the server's word that it has the message, for every recipient but those that [`refused`](Sent::refused)
//! names. After an error [`Error::delivery`] says what is known: the server does not have the message, or has refused it;
//! or the connection broke after the message's end had been sent and before the reply to it, and then nobody knows
//! ([`Delivery::Unknown`]). Nothing here sends a message a second time in that case.
//!
//! # Which server it is
//!
//! A server's certificate is checked against the name that the [`Connector`] was given and the CAs that the operating
//! system trusts; [`Connector::trust`] takes others. A man in the middle who has such a certificate is still found out
//! where the server offers SCRAM with channel binding (`SCRAM-SHA-256-PLUS`), which is used wherever it is offered.
//!
//! # Time
//!
//! Each reply has the time that RFC 5321 §4.5.3.2 gives it, two to ten minutes, and each part of a message three. Where
//! somebody is waiting, [`Connector::time_limit`] makes that shorter.
//!
//! # Without a network
//!
//! A client takes any stream, so an application can be tested with a server in the same process:
//!
//! ```
//! use smtp_auth_tokio::{
//!     client::{Connector, Delivery, Envelope},
//!     server::{Message, Server},
//!     smtp_auth::{Authenticator, Mechanism, Reply, sasl::Immediate, server::Config},
//! };
//!
//! struct Nobody;
//!
//! impl Authenticator for Nobody {
//!     fn mechanisms(&self) -> &[Mechanism] {
//!         &[]
//!     }
//! }
//!
//! async fn deliver(message: Message) -> Result<Reply, Reply> {
//!     match message.to.len() {
//!         1 => Ok(Reply::OK),
//!         _ => Err(Reply::constant("554 5.5.3 One after the other, please")),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::builder("localhost").allow_unauthenticated(true).build()?;
//! let server = Server::new(config, Immediate(Nobody), deliver);
//! let (own, other) = tokio::io::duplex(4096);
//! tokio::spawn(async move { server.serve_stream(other, None).await });
//!
//! let mut client = Connector::insecure_cleartext("localhost").connect_over(own).await?;
//! let ann = Envelope::new(None, ["ann@example.org"])?;
//! let sent = client.send(&ann, b"Subject: Hello\r\n\r\nHi\r\n").await?;
//! assert_eq!(sent.reply.code(), 250);
//!
//! let both = Envelope::new(None, ["ann@example.org", "bob@example.org"])?;
//! let error = client.send(&both, b"Subject: Hello\r\n\r\nHi\r\n").await.unwrap_err();
//! assert_eq!(error.delivery(), Delivery::Refused);
//! assert_eq!(
//!     error.to_string(),
//!     "the server refused the message: 554 5.5.3 One after the other, please",
//! );
//! client.quit().await;
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

mod connection;
mod connector;
mod dial;
mod error;
mod pool;
mod write;

pub use connection::{Client, Sent};
pub use connector::Connector;
pub use error::{Delivery, Error, ErrorKind};
pub use pool::Pool;
pub use smtp_auth::{
    client::{
        BodyType, Config, Envelope, EnvelopeError, Extensions, Outcome, Recipient,
        RecipientOutcome, Stage,
    },
    sasl::client::Credentials,
};

/// A year, which is no limit, and which every clock can add.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
