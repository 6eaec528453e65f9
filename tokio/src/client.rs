//! A client: connects, authenticates, sends messages.
//!
//! A [`Connector`] knows the server and how to authenticate there. Each connection that it makes is a [`Client`], which
//! sends any number of messages, one after the other. A [`Pool`] keeps connections, for a program that sends many
//! messages at once, or one now and then.
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
//! # Whether a message was accepted
//!
//! | result | the server |
//! | --- | --- |
//! | [`Sent`] | has accepted the message for every recipient, except those in [`refused`](Sent::refused) |
//! | an error with [`Delivery::NotSent`] | does not have the message, and has not refused it |
//! | an error with [`Delivery::Refused`] | has refused the message |
//! | an error with [`Delivery::Unknown`] | has or has not accepted the message: the connection broke after the end of the message had been sent and before the reply arrived |
//!
//! The client never sends a message a second time once its delivery is unknown.
//!
//! # What to do after an error
//!
//! An [`Error`]'s text is for a person. A program decides by [`Error::delivery`], [`Error::is_transient`] and
//! [`Error::kind`]:
//!
//! ```
//! use smtp_auth_tokio::client::{AuthError, Delivery, Error, ErrorKind, SessionError};
//!
//! enum Next {
//!     AskWhetherItArrived,
//!     TryLater,
//!     AskForPassword,
//!     GiveUp,
//! }
//!
//! fn next(error: &Error) -> Next {
//!     match error.kind() {
//!         _ if error.delivery() == Delivery::Unknown => Next::AskWhetherItArrived,
//!         _ if error.is_transient() => Next::TryLater,
//!         ErrorKind::Session(SessionError::NotAuthenticated(why)) => match why {
//!             AuthError::Refused(refusal) if refusal.reply().code() == 535 => Next::AskForPassword,
//!             AuthError::TokenRefused { .. } => Next::AskForPassword, // or fetch another token
//!             _ => Next::GiveUp, // no mechanism in common, for example: another password does not help
//!         },
//!         _ => Next::GiveUp,
//!     }
//! }
//! ```
//!
//! # Man-in-the-middle attacks
//!
//! The server's certificate has to be for the name that the [`Connector`] was given, and from a CA that the operating
//! system trusts; [`Connector::trust`] names other CAs, or the server's own certificate.
//!
//! SCRAM with channel binding (`SCRAM-SHA-256-PLUS`) is used wherever the server offers it. It fails against a man in the
//! middle, even one with a certificate that the client trusts. Such an attacker can offer PLAIN alone, and is then sent the
//! password: an application whose server is known to have channel binding
//! [requires](smtp_auth::sasl::BindingPolicy::Required) it.
//!
//! # Time
//!
//! [`Connector::time_limit`] shortens every wait, for a program whose user waits. Without it the client waits for each
//! reply as long as RFC 5321 §4.5.3.2 says, two to ten minutes, and three minutes for the server to take each part of a
//! message.
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
    Reply,
    client::{
        AuthError, BodyType, Config, Envelope, EnvelopeError, Error as SessionError, Extensions,
        Limit, NotSent, Outcome, Recipient, RecipientOutcome, RecipientStatus, Refusal, Stage,
    },
    sasl::{
        ConfigError,
        client::{Credentials, Failure, NoMechanism},
    },
};

/// A year, which is no limit, and which every clock can add.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
