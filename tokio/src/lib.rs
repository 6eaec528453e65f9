//! An async SMTP submission server and client built on [tokio], with SMTP AUTH (RFC 4954) from [`smtp_auth`].
//!
//! [`smtp_auth`] implements the protocol and performs no I/O. This crate adds the rest: sockets, TLS, channel binding,
//! time limits, connection limits, rate limiting of failed authentication, and graceful shutdown. Your application
//! decides who may authenticate and what happens to a message.
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
//! A client that sends a message to this server:
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
//! The [`server`] module also describes handlers that receive a message in pieces. The [`client`] module describes
//! errors, connection pools and channel binding.
//!
//! The repository's `examples/` directory contains complete programs. In a checkout, `cargo run --example
//! minimal_server` starts a server that generates its own certificate with rcgen. To list the options of a larger
//! server, run `cargo run --example server -- --help`.
//!
//! # The two configurations
//!
//! The server program above passes `Users` to two functions. At startup,
//! [`answered_by`](smtp_auth::sasl::server::Builder::answered_by) asks `Users` for its list of mechanisms. It also
//! calls the method that each mechanism needs, to check that the method is implemented. While the server runs, it
//! queries the store that was passed to [`Server::new`](server::Server::new).
//!
//! The program also passes the server's name to two functions. The [SASL
//! configuration](smtp_auth::sasl::server::Config::builder) uses it in the challenges of CRAM-MD5. The [session's
//! configuration](smtp_auth::server::Config::builder) uses it in the greeting, the reply to EHLO and the `Received:`
//! field.
//!
//! # SCRAM
//!
//! With SCRAM, the client proves that it knows the password, but does not send the password. The -PLUS mechanisms also
//! use channel binding to detect a man-in-the-middle. The following implementation of `Users` supports SCRAM, and PLAIN
//! for clients that do not support SCRAM:
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
//!         // A real store keeps only the keys. It can then answer PLAIN with `ScramKeys::check_password`.
//!         let keys = ScramKeys::from_password(ask.hash(), "tanstaaftanstaaf", b"16 random octets", 4096);
//!         keys.filter(|_| ask.authcid() == "tim").into()
//!     }
//! }
//! ```
//!
//! # Stores
//!
//! A store is the part of your application that looks up the accounts. How you pass the store to the server depends on
//! how the store answers:
//!
//! | the store answers | value for `Server::new` | method of the SASL builder |
//! | --- | --- | --- |
//! | from memory | [`Immediate`](smtp_auth::sasl::Immediate), which wraps an [`Authenticator`](smtp_auth::Authenticator) | `answered_by` |
//! | after computing an Argon2 hash or querying a synchronous database | [`Blocking`], which wraps an `Authenticator` | `answered_by_async` |
//! | from an asynchronous database | an [`AsyncAuthenticator`](smtp_auth::AsyncAuthenticator) | `answered_by_async` |
//! | after querying an asynchronous database and computing an Argon2 hash | [`Blocking`, which wraps an `Authenticator` that has a handle to the runtime](Blocking#an-asynchronous-database-and-argon2) | `answered_by_async` |
//!
//! Call [`answered_by_async(&users)`](smtp_auth::sasl::server::Builder::answered_by_async) before you pass `users` to
//! `Server::new`, because `Server::new` takes ownership of the store. If the handler also needs the accounts, share
//! them through an [`Arc`](std::sync::Arc). An `Arc` of an authenticator is itself an authenticator, so you can also
//! pass `Immediate(Arc::clone(&users))` or `Blocking::new(Arc::clone(&users))` to `Server::new`. The [`smtp-auth`
//! guide][guide] explains [how a store answers questions][authenticator] and [what to store for a
//! password][credentials].
//!
//! # What the application still has to do
//!
//! | task | where | guide |
//! | --- | --- | --- |
//! | Compare the sender of a message with the addresses of the account. | in [`Handler::mail`](server::Handler::mail), or with [`Message::from`](server::Message::from) and [`Message::peer`](server::Message::peer) | [who may send as whom][senders] |
//! | Prepend the `Received:` field to each message. | [`Message::received`](server::Message::received), [`Peer::received`](server::Peer::received) | |
//! | Prevent user enumeration through timing attacks. If an account does not exist, check the password against a dummy hash, so that the check takes as long as for an account that exists. | in the store | [time][time] |
//! | With SCRAM, keep the [`salt_key`](smtp_auth::sasl::server::Builder::salt_key) across restarts. For accounts that do not exist, the server derives the salts of decoy keys from this key. A salt that changes at a restart would reveal that the account does not exist. | in the SASL configuration, with a random secret that you store with the accounts | [decoy keys][decoys] |
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
//! | TLS | The server uses rustls. TLS begins with STARTTLS or at the first octet. The server supports both types of channel binding (see [`tls`]). STARTTLS is offered by default. With [`StartTls::Required`](server::StartTls::Required), the server refuses authentication and mail without TLS. This setting is recommended for submission, because RFC 8314 §4.1 deprecates cleartext. |
//! | OpenSSL and other TLS libraries | The server can use any TLS library for which you implement [`TlsAccept`], a trait with one method. |
//! | certificate renewal | [`tls::Replaceable`] replaces the certificate while the server runs. |
//! | client certificates | With EXTERNAL, a client authenticates with its TLS certificate. Your function maps the certificate to a name, and the store maps the name to an account (see [`tls::ClientCertificates`]). |
//! | rate limiting | Failed attempts are limited per network and per account across all connections, which protects against brute force and credential stuffing (see [`RateLimiter`] and [`MemoryRateLimiter`]). The reply to each failed attempt is delayed. |
//! | connection limits, denial of service | The server limits the number of connections, both in total and per network. The server also limits the memory that messages use (see [`Limits`](server::Limits)). |
//! | time | Each stage of a connection has a time limit (see [`Limits`](server::Limits)). |
//! | load balancers such as HAProxy | The server reads the client's address from the PROXY protocol, which it accepts only from [configured networks](server::Server::proxies). |
//! | shutdown | [`Server::shutdown`](server::Server::shutdown) lets messages in progress finish, and sends a `421` to all other clients. |
//! | metrics | The server reports connections, authentication attempts and messages to an [`Observer`](server::Observer). The documentation of this trait contains an example with counters. |
//! | logs | With the [`tracing` feature](#tracing), the server emits spans and events, which any `tracing` subscriber can log. |
//!
//! After sending a `421`, the server continues to read for up to 5 seconds, but reads no more than 1 MiB. This prevents
//! a TCP reset from discarding the reply before the client has read it. A connection that exceeds a limit is refused
//! with a `421`. The server keeps at most 100 of these refused connections open at any time, and closes any further
//! ones immediately after the reply. On the implicit-TLS port, a connection that exceeds a limit is closed without a
//! reply.
//!
//! # Shutdown
//!
//! The server can be shut down through any of its clones. This program serves both ports until Ctrl-C is pressed:
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
//! A service manager stops a server with SIGTERM. On Unix, call the following function instead of `ctrl_c`. The
//! function waits for SIGTERM or Ctrl-C:
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
//! With the `tracing` feature, each connection has a span named `connection`, which contains a number and the peer's
//! address. The events have the target `smtp_auth_tokio`:
//!
//! | level | event | fields |
//! | --- | --- | --- |
//! | info | `authenticated` | the mechanism, the account, whether the connection uses TLS |
//! | info | `not authenticated` | the reason, the number of attempts on this connection, whether the attempt was rate limited |
//! | info | `message accepted`, `message refused`, or `message broken off` (the handler did not receive or process the whole message) | the number of octets; for a refused message, also the reply code |
//! | info | `turned away` | the client's address, the reply |
//! | debug | `connected`, `closed` | for `closed`, the error that ended the connection, if there was one |
//! | error | `no connection can be accepted` | the error |
//!
//! Two events do not belong to any `connection` span: the `turned away` event, and the
//! `no connection can be accepted` event.
//!
//! The dialogue is also traced, unless a hook is set with [`Server::trace`](server::Server::trace). Each line is an
//! event at the trace level with the target `smtp_auth_tokio::dialogue`, and every secret in it is
//! [masked](smtp_auth::server::Session::trace). To enable the trace, use the `tracing-subscriber` crate with its
//! `env-filter` feature:
//!
//! ```ignore
//! tracing_subscriber::fmt().with_env_filter("info,smtp_auth_tokio::dialogue=trace").init();
//! ```
//!
//! When a connection begins, the server checks whether the filter enables the trace of the dialogue. A later change to
//! the filter cannot enable the trace of that connection. No event contains a password or a token. The event named
//! `not authenticated` also omits the account name, because some people type their password instead of their name.
//!
//! # Features
//!
//! | feature | effect |
//! | --- | --- |
//! | `ring` (default) | rustls uses ring for cryptography. |
//! | `aws-lc-rs` | rustls uses AWS-LC for cryptography. |
//! | `tracing` | The crate emits the events [described above](#tracing). Without this feature, the code that emits them is not compiled. |
//!
//! The `ring` and `aws-lc-rs` features can both be enabled, for example if another crate enables one of them. The
//! functions of this crate then use ring. rustls does not panic in this case, because none of these functions uses the
//! process-wide default provider. If neither feature is enabled, the application must create the TLS configurations
//! itself.

#![cfg_attr(docsrs, feature(doc_cfg))]
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
