//! Mail submission on [tokio], with SMTP AUTH (RFC 4954) by [`smtp_auth`].
//!
//! [`smtp_auth`] does no input or output. This crate does it: sockets, TLS by rustls or by any other library, channel binding,
//! time limits, limits of connections, rate limiting, the pause after a failed authentication, an orderly shutdown. The
//! application decides who may authenticate, and takes the mail.
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
//! Instead of `Immediate(Users)`, use an [`AsyncAuthenticator`](smtp_auth::AsyncAuthenticator) for a store that has to be
//! waited for, and [`Blocking`] for one that computes or blocks, such as one that checks Argon2. The module [`server`] goes on
//! to handlers that take a message in pieces.
//!
//! The application still has to compare the sender of a message with the addresses of the account, and to write
//! [`Message::received`](server::Message::received) in front of a message.
//!
//! # What a server does
//!
//! | | |
//! | --- | --- |
//! | brute force, credential stuffing | failed attempts are limited over all connections, by network and by account: [`RateLimiter`], [`MemoryRateLimiter`] |
//! | denial of service | [`Limits`](server::Limits): connections in all and by network, time for each stage, memory for messages |
//! | behind HAProxy and others | the PROXY protocol from [configured networks](server::Server::proxies) |
//! | a certificate that is renewed | [`tls::Replaceable`] |
//! | client certificates | EXTERNAL by the application's own function: [`tls::ClientCertificates`] |
//! | OpenSSL and other libraries | a trait with one method: [`TlsAccept`] |
//! | metrics | [`Observer`](server::Observer), with an example that counts |
//! | logs | the [feature `tracing`](#tracing) |
//! | shutdown | messages on their way are finished, clients are told: [`Server::shutdown`](server::Server::shutdown) |
//!
//! A client that is sent away hears why, although it has said something that nobody reads: after the last words the server
//! listens for a while, to so many octets and to so many of those that are one too many. A client that expects TLS from the
//! first octet, and is one too many, hears nothing, as nobody does a handshake for that.
//!
//! # tracing
//!
//! With the feature `tracing` each connection has a span `connection`, with a number and the peer's address, and in it events
//! with the target `smtp_auth_tokio`:
//!
//! | level | event | with |
//! | --- | --- | --- |
//! | info | authenticated | the mechanism, the account, whether inside TLS |
//! | info | not authenticated | why, the number of attempts in this connection, whether it was limited |
//! | info | message accepted, refused, broken off | octets, the code of the reply |
//! | info | turned away | the address, the reply |
//! | debug | connected, closed | why, where it is an error |
//! | error | no connection can be accepted | why |
//!
//! Where the target `smtp_auth_tokio::dialogue` is wanted at the level trace as a connection begins, each line of its dialogue
//! is an event, with everything secret [masked](smtp_auth::server::Session::trace), unless a
//! [hook of the application's](server::Server::trace) gets them. No password or token is in any event, nor
//! the name of a client that failed to authenticate, as some people type their password in its place.
//!
//! # Features
//!
//! `ring`, on by default, and `aws-lc-rs`: the cryptography of TLS. Both may be on, as another crate may bring in either. No
//! function here takes rustls's default of the process, which panics then. Without both, [`tls`] takes configurations that
//! are made elsewhere.
//!
//! `tracing`: [above](#tracing). Without it none of it is compiled in.

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
