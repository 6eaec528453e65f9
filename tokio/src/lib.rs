//! Mail submission on [tokio], with SMTP AUTH (RFC 4954) by [`smtp_auth`].
//!
//! [`smtp_auth`] does no input or output. This crate does it: sockets, TLS by rustls or by any other library, channel binding,
//! time limits, limits of connections, rate limiting, the pause after a failed authentication, an orderly shutdown. The
//! application decides who may authenticate, and takes the mail.
//!
//! ```sh
//! cargo add smtp-auth-tokio
//! cargo add tokio --features macros,rt-multi-thread,signal
//! ```
//!
//! ```no_run
//! use std::error::Error;
//! use smtp_auth_tokio::{
//!     server::{Config, Message, Reply, Server},
//!     smtp_auth::{
//!         Answer, Authenticator, CheckPassword, Mechanism,
//!         sasl::{Immediate, ScramKeys, ScramKeysFor, server::Config as Sasl},
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
//!     let mut mail = message.received().to_string().into_bytes();
//!     mail.extend_from_slice(&message.octets);
//!     println!("{:?} to {}: {}", message.from, message.to.join(", "), String::from_utf8_lossy(&mail));
//!     Ok(Reply::OK)
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn Error>> {
//!     let sasl = Sasl::builder("mail.example.org").answered_by(&Users).build()?;
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
//! The users are given twice: [`answered_by`](smtp_auth::sasl::server::Builder::answered_by) takes the list of mechanisms from
//! them, and tries each question once, to see that they answer it; [`Server::new`](server::Server::new) gets those that are asked
//! while the server runs. So is the server's name: the [first configuration](smtp_auth::sasl::server::Config::builder) puts it
//! into the challenges of CRAM-MD5, the [second](smtp_auth::server::Config::builder) into the greeting, the reply to EHLO, and the
//! `Received:` field.
//!
//! The module [`server`] goes on to handlers that take a message in pieces, the module [`client`] to programs that send. Whole
//! programs stand in `examples/` of the repository: in a checkout, `cargo run --example minimal_server` is a server that makes its
//! own certificate (with the crate rcgen, which yours needs only for that), and `cargo run --example server -- --help` one with
//! more to it.
//!
//! # Stores
//!
//! | a store that answers | is given to `Server::new` as | and to the configuration by |
//! | --- | --- | --- |
//! | from memory | [`Immediate`](smtp_auth::sasl::Immediate) of an [`Authenticator`](smtp_auth::Authenticator) | `answered_by` |
//! | after it has computed Argon2, or asked a synchronous database | [`Blocking`] of an `Authenticator` | `answered_by_async` |
//! | after it has asked an asynchronous database | an [`AsyncAuthenticator`](smtp_auth::AsyncAuthenticator) | `answered_by_async` |
//! | after it has asked an asynchronous database and computed Argon2 | [`Blocking` with the runtime's handle](Blocking#an-asynchronous-database-and-argon2) | `answered_by_async` |
//!
//! [`answered_by_async`](smtp_auth::sasl::server::Builder::answered_by_async) gets what `Server::new` gets: `&users`, before it is
//! moved there. A handler that needs the accounts, too, shares them by an [`Arc`](std::sync::Arc): the pointer is an authenticator
//! as well, so that `Immediate(Arc::clone(&users))` and `Blocking::new(Arc::clone(&users))` are stores. The
//! [guide of `smtp-auth`][guide] says how to [answer questions][authenticator] and what to [keep of a password][credentials].
//!
//! # What the application still has to do
//!
//! | | how | in the guide |
//! | --- | --- | --- |
//! | compare the sender of a message with the addresses of the account | in [`Handler::mail`](server::Handler::mail), or with [`Message::from`](server::Message::from) and `Message::peer` | [who may send as whom][senders] |
//! | write the `Received:` field in front of each message | [`Message::received`](server::Message::received), [`Peer::received`](server::Peer::received) | |
//! | take as long for an account that does not exist as for a wrong password: hash the password against a dummy | in the store | [time][time] |
//! | with SCRAM, keep the [`salt_key`](smtp_auth::sasl::server::Builder::salt_key) over restarts. The salts that are shown for accounts that do not exist are made with it, and a salt that changes tells that there is no such account | a random secret, kept with the accounts | [who does not exist][decoys] |
//!
//! [guide]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/index.html
//! [authenticator]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/authenticator/index.html
//! [credentials]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/credentials/index.html
//! [senders]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/guessers/index.html#who-may-send-as-whom
//! [time]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/authenticator/index.html#time
//! [decoys]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/credentials/index.html#who-does-not-exist
//!
//! # What a server does
//!
//! | | |
//! | --- | --- |
//! | brute force, credential stuffing | failed attempts are limited over all connections, by network and by account: [`RateLimiter`], [`MemoryRateLimiter`] |
//! | denial of service | [`Limits`](server::Limits): connections in all and by network, time for each stage, memory for messages |
//! | eavesdroppers | STARTTLS is offered; [`StartTls::Required`](server::StartTls::Required) takes nothing without it, which is recommended for submission, as cleartext is to be given up (RFC 8314 §4.1) |
//! | clients that come through HAProxy and others | the PROXY protocol from [configured networks](server::Server::proxies) |
//! | a certificate that is renewed | [`tls::Replaceable`] |
//! | client certificates | EXTERNAL by the application's own function: [`tls::ClientCertificates`] |
//! | OpenSSL and other libraries | a trait with one method: [`TlsAccept`] |
//! | metrics | [`Observer`](server::Observer), with an example that counts |
//! | logs | the [feature `tracing`](#tracing) |
//! | shutdown | messages on their way are finished, clients are told: [`Server::shutdown`](server::Server::shutdown) |
//!
//! After a `421` the server reads on for a few seconds, so that the reply is not lost to a TCP reset. The time, the octets and the
//! number of such connections are bounded. Surplus connections to the implicit-TLS port are closed without a reply.
//!
//! # Shutdown
//!
//! A service manager ends a server by SIGTERM, a person by Ctrl-C. Both on Unix, in place of `ctrl_c` above:
//!
//! ```
//! # #[cfg(unix)]
//! async fn told_to_stop() -> std::io::Result<()> {
//!     use tokio::signal::unix::{SignalKind, signal};
//!     let mut terminate = signal(SignalKind::terminate())?;
//!     tokio::select! {
//!         pressed = tokio::signal::ctrl_c() => pressed,
//!         _ = terminate.recv() => Ok(()),
//!     }
//! }
//! ```
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
//! The dialogue is traced, too, unless [`Server::trace`](server::Server::trace) is set: each line is an event at the level trace
//! with the target `smtp_auth_tokio::dialogue`, and everything secret in it is [masked](smtp_auth::server::Session::trace). With
//! the crate `tracing-subscriber` and its feature `env-filter`, this switches it on:
//!
//! ```ignore
//! tracing_subscriber::fmt().with_env_filter("info,smtp_auth_tokio::dialogue=trace").init();
//! ```
//!
//! Whether the dialogue is traced is decided as a connection begins. No password or token is in any event. Neither is the name of
//! a client that failed to authenticate, as some people type their password in its place.
//!
//! # Features
//!
//! | feature | |
//! | --- | --- |
//! | `ring` (default) | TLS with the cryptography of ring |
//! | `aws-lc-rs` | TLS with that of AWS-LC |
//! | `tracing` | the events [above](#tracing); without it none of this is compiled in |
//!
//! `ring` and `aws-lc-rs` may both be on, as another crate may bring in either: ring is used then, and nothing panics, as no
//! function here takes rustls's default of the process. Without both, [`tls`] takes configurations that are made elsewhere.

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
