//! An async SMTP submission server and client on [tokio], with SMTP AUTH (RFC 4954) by [`smtp_auth`].
//!
//! [`smtp_auth`] implements the protocol and does no input or output. This crate adds the rest: sockets, TLS, channel
//! binding, time limits, connection limits, rate limiting of failed authentication, and an orderly shutdown. Your
//! application decides who may authenticate and what happens to a message.
//!
//! ```sh
//! cargo add smtp-auth-tokio
//! cargo add tokio --features macros,rt-multi-thread,signal
//! ```
//!
//! A server on port 587 that requires STARTTLS:
//!
//! ```no_run
//! use std::error::Error;
//! use smtp_auth_tokio::{
//!     server::{Config, Message, Reply, Server, StartTls},
//!     smtp_auth::{Answer, Authenticator, CheckPassword, Mechanism, sasl::{Immediate, server::Config as Sasl}},
//!     tls,
//! };
//!
//! struct Users;
//!
//! impl Authenticator for Users {
//!     fn mechanisms(&self) -> &[Mechanism] {
//!         &[Mechanism::Plain]
//!     }
//!     fn check_password(&self, ask: &CheckPassword) -> Answer {
//!         (ask.authcid() == "tim" && ask.password() == "tanstaaftanstaaf").into()
//!     }
//! }
//!
//! async fn deliver(message: Message) -> Result<Reply, Reply> {
//!     println!("{}{}", message.received(), String::from_utf8_lossy(&message.octets));
//!     Ok(Reply::OK)
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn Error>> {
//!     let sasl = Sasl::builder("mail.example.org").answered_by(&Users).build()?;
//!     let config = Config::builder("mail.example.org").sasl(sasl).starttls(StartTls::Required).build()?;
//!     let server = Server::new(config, Immediate(Users), deliver).tls(tls::server("cert.pem", "key.pem")?);
//!     Ok(server.listen("[::]:587").await?)
//! }
//! ```
//!
//! A client that sends a message to it:
//!
//! ```no_run
//! use std::error::Error;
//! use smtp_auth_tokio::client::{Connector, Credentials, Envelope};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn Error>> {
//!     let tim = Credentials::password("tim", "tanstaaftanstaaf")?;
//!     let mut client = Connector::starttls("mail.example.org").credentials(tim).connect().await?;
//!     let envelope = Envelope::new(Some("tim@example.org"), ["ann@example.net"])?;
//!     let sent = client.send(&envelope, b"Subject: Hello\r\n\r\nHi Ann\r\n").await?;
//!     println!("{}", sent.reply);
//!     client.quit().await;
//!     Ok(())
//! }
//! ```
//!
//! The module [`server`] continues with handlers that receive a message in pieces. The module [`client`] continues with
//! errors, connection pools and channel binding. The directory `examples/` of the repository has complete programs: in
//! a checkout, `cargo run --example minimal_server` starts a server that makes its own certificate with the crate
//! rcgen, and `cargo run --example server -- --help` lists the options of a larger one.
//!
//! # The two configurations
//!
//! The server above names its users twice. [`answered_by`](smtp_auth::sasl::server::Builder::answered_by) takes the
//! list of mechanisms from them, and calls each method that these need once, to check that it answers.
//! [`Server::new`](server::Server::new) takes the users that are asked while the server runs.
//!
//! The server's name is also given twice. The [SASL configuration](smtp_auth::sasl::server::Config::builder) puts it
//! into the challenges of CRAM-MD5. The [session's configuration](smtp_auth::server::Config::builder) puts it into the
//! greeting, the reply to EHLO and the `Received:` field.
//!
//! # SCRAM
//!
//! With SCRAM the client proves that it knows the password, and does not send it. The -PLUS form also detects a
//! man-in-the-middle, by channel binding. These users support SCRAM, and PLAIN for clients that do not:
//!
//! ```
//! use smtp_auth_tokio::smtp_auth::{Answer, Authenticator, CheckPassword, Mechanism, sasl::{ScramKeys, ScramKeysFor}};
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
//!         // A real store keeps the keys in place of the password; `ScramKeys::check_password` then serves PLAIN.
//!         let keys = ScramKeys::from_password(ask.hash(), "tanstaaftanstaaf", b"16 random octets", 4096);
//!         keys.filter(|_| ask.authcid() == "tim").into()
//!     }
//! }
//! ```
//!
//! # Stores
//!
//! A store is the part of your application that knows the accounts. How you pass it depends on how it answers:
//!
//! | the store answers | pass to `Server::new` | pass to the configuration with |
//! | --- | --- | --- |
//! | from memory | [`Immediate`](smtp_auth::sasl::Immediate) of an [`Authenticator`](smtp_auth::Authenticator) | `answered_by` |
//! | after computing Argon2, or from a synchronous database | [`Blocking`] of an `Authenticator` | `answered_by_async` |
//! | from an asynchronous database | an [`AsyncAuthenticator`](smtp_auth::AsyncAuthenticator) | `answered_by_async` |
//! | from an asynchronous database, then computing Argon2 | [`Blocking` with the runtime's handle](Blocking#an-asynchronous-database-and-argon2) | `answered_by_async` |
//!
//! [`answered_by_async`](smtp_auth::sasl::server::Builder::answered_by_async) borrows the value that `Server::new`
//! takes afterwards: pass it `&users`. A handler that also needs the accounts shares them through an
//! [`Arc`](std::sync::Arc). An `Arc` of an authenticator is itself an authenticator, so `Immediate(Arc::clone(&users))`
//! and `Blocking::new(Arc::clone(&users))` are stores. The [guide of `smtp-auth`][guide] explains how to [answer
//! questions][authenticator] and [what to store for a password][credentials].
//!
//! # What the application still has to do
//!
//! | task | where | guide |
//! | --- | --- | --- |
//! | Compare the sender of a message with the addresses of the account. | in [`Handler::mail`](server::Handler::mail), or with [`Message::from`](server::Message::from) and [`Message::peer`](server::Message::peer) | [who may send as whom][senders] |
//! | Write the `Received:` field in front of each message. | [`Message::received`](server::Message::received), [`Peer::received`](server::Peer::received) | |
//! | Prevent user enumeration by a timing attack: take as long for an account that does not exist as for a wrong password, by hashing the password against a dummy. | in the store | [time][time] |
//! | With SCRAM, keep the [`salt_key`](smtp_auth::sasl::server::Builder::salt_key) over restarts. The salts of decoy keys, for accounts that do not exist, are derived from it. A salt that changes at a restart reveals that the account does not exist. | a random secret that is kept with the accounts | [decoy keys][decoys] |
//!
//! [guide]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/index.html
//! [authenticator]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/authenticator/index.html
//! [credentials]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/credentials/index.html
//! [senders]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/rate_limiting/index.html#who-may-send-as-whom
//! [time]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/authenticator/index.html#time
//! [decoys]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/credentials/index.html#decoy-keys-for-accounts-that-do-not-exist
//!
//! # What the server does
//!
//! | topic | what the server does |
//! | --- | --- |
//! | TLS | It uses rustls, by STARTTLS or from the first octet, with both kinds of channel binding: [`tls`]. STARTTLS is offered by default. [`StartTls::Required`](server::StartTls::Required) refuses authentication and mail without TLS. It is recommended for submission, as RFC 8314 §4.1 deprecates cleartext. |
//! | OpenSSL and other TLS libraries | They fit in by a trait with one method: [`TlsAccept`]. |
//! | certificate renewal | [`tls::Replaceable`] replaces the certificate while the server runs. |
//! | client certificates | EXTERNAL authenticates an account that your own function derives from the certificate: [`tls::ClientCertificates`]. |
//! | rate limiting | Failed attempts are limited across all connections, by network and by account, against brute force and credential stuffing: [`RateLimiter`], [`MemoryRateLimiter`]. The reply to each failed attempt is delayed. |
//! | connection limits, denial of service | The number of connections is limited, in total and by network, and so is the memory for messages: [`Limits`](server::Limits). |
//! | time | Each stage of a connection has a time limit: [`Limits`](server::Limits). |
//! | load balancers such as HAProxy | The server takes the client's address by the PROXY protocol from [configured networks](server::Server::proxies). |
//! | shutdown | Messages in progress are finished, and other clients get a `421`: [`Server::shutdown`](server::Server::shutdown). |
//! | metrics | An [`Observer`](server::Observer) is notified; its page has an example with counters. |
//! | logs | See the [feature `tracing`](#tracing). |
//!
//! After a `421` the server continues to read for a while, so that a TCP reset does not destroy the reply. It reads for
//! 5 seconds and 1 MiB at most. Of the connections that exceed a limit, 100 at once get this time. On the implicit-TLS
//! port, a connection that exceeds a limit is closed without a reply.
//!
//! # Shutdown
//!
//! A clone of the server stops it. This program serves both ports until Ctrl-C is pressed:
//!
//! ```no_run
//! # use std::error::Error;
//! # use smtp_auth_tokio::{server::{Handler, Server}, smtp_auth::AsyncAuthenticator};
//! async fn run<A: AsyncAuthenticator + 'static, H: Handler>(server: Server<A, H>) -> Result<(), Box<dyn Error>> {
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
//! A service manager stops a server with SIGTERM. On Unix, this function waits for either signal, in place of `ctrl_c`:
//!
//! ```
//! # #[cfg(unix)]
//! async fn stop_signal() -> std::io::Result<()> {
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
//! With the feature `tracing`, each connection has a span `connection` with a number and the peer's address. Its events
//! have the target `smtp_auth_tokio`:
//!
//! | level | event | fields |
//! | --- | --- | --- |
//! | info | authenticated | the mechanism, the account, whether the connection is inside TLS |
//! | info | not authenticated | the reason, the number of attempts in this connection, whether the attempt was rate limited |
//! | info | message accepted, message refused, message broken off | the octets, and the code of a refusal |
//! | info | turned away | the address, the reply |
//! | debug | connected, closed | the error, if `closed` has one |
//! | error | no connection can be accepted | the error |
//!
//! The events `turned away` and `no connection can be accepted` are outside of the span.
//!
//! The dialogue is also traced, unless [`Server::trace`](server::Server::trace) is set. Each line is an event at the
//! level trace with the target `smtp_auth_tokio::dialogue`, and every secret in it is
//! [masked](smtp_auth::server::Session::trace). With the crate `tracing-subscriber` and its feature `env-filter`, this
//! enables it:
//!
//! ```ignore
//! tracing_subscriber::fmt().with_env_filter("info,smtp_auth_tokio::dialogue=trace").init();
//! ```
//!
//! The filter is consulted when a connection begins; a later change does not affect that connection. No event contains
//! a password or a token. No event contains the name of a client that failed to authenticate either, because some
//! people type their password in its place.
//!
//! # Features
//!
//! | feature | effect |
//! | --- | --- |
//! | `ring` (default) | TLS uses the cryptography of ring. |
//! | `aws-lc-rs` | TLS uses the cryptography of AWS-LC. |
//! | `tracing` | The crate emits the events [above](#tracing). Without it, none of this code is compiled. |
//!
//! Both `ring` and `aws-lc-rs` may be enabled, as another crate may enable either. The functions here then use ring.
//! They do not panic, because none of them uses rustls's process-wide default. With neither feature, [`tls`] takes
//! configurations that are made elsewhere.

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
