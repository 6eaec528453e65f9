//! A client that connects to a server, authenticates, and sends messages.
//!
//! A [`Connector`] holds the server's name and the client's credentials. Each connection that it opens is a [`Client`],
//! which can send any number of messages, one after another. A [`Pool`] keeps connections open and reuses them. A pool
//! suits applications that send many messages at once, as well as those that send only occasional messages.
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
//! | result | meaning |
//! | --- | --- |
//! | [`Sent`] | The server has accepted the message for every recipient except those in [`refused`](Sent::refused). |
//! | an error with [`Delivery::NotSent`] | The server has neither accepted nor refused the message. |
//! | an error with [`Delivery::Refused`] | The server has refused the message. |
//! | an error with [`Delivery::Unknown`] | The server may or may not have accepted the message. The end of the message had been sent, but no valid reply arrived before the connection broke or timed out. |
//!
//! If it is unknown whether the server has accepted a message, the client never resends it.
//!
//! # What to do after an error
//!
//! The text of an [`Error`] is written for human readers. An application should check [`Error::delivery`],
//! [`Error::is_transient`] and [`Error::kind`] instead:
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
//!             // Show the error: its text says so if the server has detected a man-in-the-middle.
//!             AuthError::Refused(refusal) if refusal.reply().code() == 535 => Next::AskForPassword,
//!             AuthError::TokenRefused { .. } => Next::AskForPassword, // or fetch another token
//!             _ => Next::GiveUp, // for example, no shared mechanism: another password would not help
//!         },
//!         _ => Next::GiveUp,
//!     }
//! }
//! ```
//!
//! # Man-in-the-middle attacks
//!
//! The server's certificate must be valid for the name that was passed to the [`Connector`], and issued by a CA that
//! the operating system trusts. To trust other CAs or the server's own certificate, use [`Connector::trust`].
//!
//! The client uses SCRAM with channel binding (`SCRAM-SHA-256-PLUS`) whenever the server offers it. A man-in-the-middle
//! attack on this mechanism fails, even if the attacker has a certificate that the client trusts. However, the attacker
//! can mount a downgrade attack by offering only PLAIN, in which case the client sends the password. If you know that
//! your server supports channel binding, require it:
//!
//! ```
//! use smtp_auth_tokio::{
//!     client::{Connector, Credentials},
//!     smtp_auth::sasl::{BindingPolicy, client::Config},
//! };
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let sasl = Config::builder().channel_binding(BindingPolicy::Required).build()?;
//! let tim = Credentials::password("tim@example.org", "tanstaaftanstaaf")?;
//! let connector = Connector::starttls("mail.example.org").credentials(tim).sasl(sasl);
//! # Ok(())
//! # }
//! ```
//!
//! With channel binding, the server detects a man-in-the-middle attack on SCRAM. It then replies with `535`, as it does
//! to a wrong password. The text of this reply mentions channel binding, unless the attacker changes the text.
//! Therefore, if authentication with a -PLUS mechanism fails although the password is correct, do not retry without
//! channel binding.
//!
//! # Timeouts
//!
//! By default, the client waits for each reply for as long as RFC 5321 §4.5.3.2 recommends, which is two to ten
//! minutes. It gives the server three minutes to receive each part of a message. If these limits are too long, for
//! example because a user is waiting, shorten all of them with [`Connector::time_limit`].
//!
//! # Tests without a network
//!
//! The client works over any stream, so you can test your application with a server in the same process:
//!
//! ```
//! use smtp_auth_tokio::{
//!     client::{Connector, Delivery, Envelope},
//!     server::{Message, Server},
//!     smtp_auth::{Authenticator, Mechanism, Reply, sasl::Immediate, server::Config},
//! };
//!
//! struct NoUsers;
//!
//! impl Authenticator for NoUsers {
//!     fn mechanisms(&self) -> &[Mechanism] {
//!         &[]
//!     }
//! }
//!
//! async fn deliver(message: Message) -> Result<Reply, Reply> {
//!     match message.to.len() {
//!         1 => Ok(Reply::OK),
//!         _ => Err(Reply::constant("554 5.5.3 One recipient at a time, please")),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::builder("localhost").allow_unauthenticated(true).build()?;
//! let server = Server::new(config, Immediate(NoUsers), deliver);
//! let (client_end, server_end) = tokio::io::duplex(4096);
//! tokio::spawn(async move { server.serve_stream(server_end, None).await });
//!
//! let mut client = Connector::insecure_cleartext("localhost").connect_over(client_end).await?;
//! let to_ann = Envelope::new(None, ["ann@example.org"])?;
//! let sent = client.send(&to_ann, b"Subject: Hello\r\n\r\nHi\r\n").await?;
//! assert_eq!(sent.reply.code(), 250);
//!
//! let to_both = Envelope::new(None, ["ann@example.org", "bob@example.org"])?;
//! let error = client.send(&to_both, b"Subject: Hello\r\n\r\nHi\r\n").await.unwrap_err();
//! assert_eq!(error.delivery(), Delivery::Refused);
//! assert_eq!(
//!     error.to_string(),
//!     "the server refused the message: 554 5.5.3 One recipient at a time, please",
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

/// One year, which is effectively no limit but is short enough to add to any point in time without overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
