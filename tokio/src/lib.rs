//! Mail submission on [tokio], with SMTP AUTH (RFC 4954) by [`smtp_auth`].
//!
//! [`smtp_auth`] does no input or output. This crate does it: sockets, TLS by rustls or by any other library, channel binding,
//! time limits, limits of connections, rate limiting, the pause after a failed authentication, an orderly shutdown. Who may
//! authenticate, and what becomes of mail, is the application's to say.
//!
//! ```no_run
//! use std::error::Error;
//! use smtp_auth_tokio::{
//!     server::{Message, Server},
//!     smtp_auth::{
//!         Answer, Authenticator, CheckPassword, Mechanism, Reply,
//!         sasl::{self, Immediate, ScramKeys, ScramKeysFor},
//!         server::Config,
//!     },
//!     tls,
//! };
//!
//! struct Users;
//!
//! impl Authenticator for Users {
//!     fn mechanisms(&self) -> &[Mechanism] {
//!         &[Mechanism::ScramSha256Plus, Mechanism::ScramSha256, Mechanism::Plain]
//!     }
//!     fn check_password(&self, ask: &CheckPassword) -> Answer {
//!         (ask.authcid() == "tim" && ask.password() == "tanstaaftanstaaf").into()
//!     }
//!     fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
//!         // A store keeps them, instead of the password.
//!         let keys = ScramKeys::from_password(ask.hash(), "tanstaaftanstaaf", b"a salt of his own", 4096);
//!         keys.filter(|_| ask.authcid() == "tim").into()
//!     }
//! }
//!
//! async fn deliver(message: Message) -> Result<Reply, Reply> {
//!     println!("{:?} to {}: {} octets", message.from, message.to.join(", "), message.octets.len());
//!     Ok(Reply::OK)
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn Error>> {
//!     let sasl = sasl::server::Config::builder("mail.example.org").answered_by(&Users).build()?;
//!     let config = Config::builder("mail.example.org").sasl(sasl).build()?;
//!     let server = Server::new(config, Immediate(Users), deliver).tls(tls::server("cert.pem", "key.pem")?);
//!     let stopping = server.clone();
//!     tokio::spawn(async move {
//!         let _ = tokio::signal::ctrl_c().await;
//!         stopping.shutdown();
//!     });
//!     tokio::try_join!(server.listen("[::]:587"), server.listen_tls("[::]:465"))?;
//!     Ok(())
//! }
//! ```
//!
//! An [`AsyncAuthenticator`](smtp_auth::AsyncAuthenticator) takes the place of `Immediate(Users)` where a store has to be
//! waited for, and [`Blocking`] that of a store that computes or blocks, such as one that checks Argon2. [`server`] goes on to handlers that take a message in pieces.
//!
//! Failed attempts to authenticate are limited over all connections, by network and by account, against brute force and
//! credential stuffing: [`RateLimiter`].
//!
//! What the application still has to do: compare the sender of a message with the addresses of the account; write a
//! `Received:` header field.
//!
//! # Features
//!
//! `ring`, on by default, and `aws-lc-rs`: the cryptography of TLS. Both may be on, as another crate may bring in either. No
//! function here takes rustls's default of the process, which panics then. Without both, [`tls`] takes configurations that
//! are made elsewhere.

#![forbid(unsafe_code)]

extern crate alloc;

mod blocking;
pub mod client;
mod limiter;
mod link;
mod network;
pub mod server;
mod stream;
pub mod tls;

pub use blocking::Blocking;
pub use limiter::{Attempt, MemoryRateLimiter, RateLimiter};
pub use network::{Network, NetworkError};
pub use smtp_auth;
pub use stream::{BoxStream, Handshake, Stream, TlsAccept, TlsConnect};
pub use tokio_rustls::rustls;
