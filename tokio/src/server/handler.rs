//! The application's mail handler, and the client that it serves.

use std::{
    fmt,
    future::{Future, ready},
    net::SocketAddr,
    sync::Arc,
};

use smtp_auth::{
    Identity, Reply,
    command::{Command, Mail, Rcpt},
    server::Config,
};

use super::Body;

/// A handler that accepts or refuses mail. One handler serves all connections.
///
/// The handler defines a type for the state of a message in progress. This state is called the *transaction*.
/// [`mail`](Self::mail) creates a transaction, [`rcpt`](Self::rcpt) borrows it, and [`data`](Self::data) consumes it.
/// If the client resets the transaction, begins TLS, disconnects or takes too long, the server drops the transaction,
/// so data from one message cannot end up in the next.
///
/// Write the methods as `async fn`. The [`server`](super) module contains an example.
///
/// The server calls [`mail`](Self::mail) only for clients that may send mail. It calls `mail`, `rcpt` and `data` in the
/// order of an SMTP transaction. If a parameter of MAIL or RCPT does not belong to an extension in the server's
/// configuration, the server refuses the command with `555`. The methods therefore receive only parameters of
/// configured extensions.
///
/// **The server adds nothing to a message.** The handler must prepend the `Received:` header field (RFC 5321 §4.4) that
/// [`Peer::received`] returns.
pub trait Handler: Send + Sync + 'static {
    /// The state of a message in progress, such as its sender and recipients.
    type Transaction: Send;

    /// Decides whether this client may send from this sender address, and begins a transaction.
    ///
    /// Only the application knows which addresses an account may use. Compare the sender with the addresses of the
    /// account that the client [acts as](smtp_auth::Identity::acts_as). Accept these addresses, and accept the null
    /// sender from every account. Refuse any other address with `553 5.7.1`. The guide of `smtp-auth` explains
    /// [why](https://docs.rs/smtp-auth/latest/smtp_auth/guide/rate_limiting/index.html#who-may-send-as-whom), and the
    /// [`server`](super) module contains sample code.
    ///
    /// # Errors
    /// Return `Err` to refuse the sender with this reply. A reply with a positive code is replaced by `451`.
    fn mail(
        &self,
        peer: &Peer,
        mail: Mail<'_>,
    ) -> impl Future<Output = Result<Self::Transaction, Reply>> + Send;

    /// Decides whether the message may be sent to this recipient, and adds the recipient to the transaction.
    ///
    /// Add the recipient at the end of the method, after the last `await`. If the method takes longer than
    /// [`Limits::command`](super::Limits::command), its future is dropped, and the client gets a `451` for this
    /// recipient.
    ///
    /// # Errors
    /// Return `Err` to refuse the recipient with this reply. Recipients that were accepted earlier remain in the
    /// transaction. A reply with a positive code is replaced by `451`.
    fn rcpt(
        &self,
        peer: &Peer,
        transaction: &mut Self::Transaction,
        rcpt: Rcpt<'_>,
    ) -> impl Future<Output = Result<(), Reply>> + Send;

    /// Receives the message. When the method first reads from `body`, the server asks the client to send the message.
    ///
    /// | case | effect |
    /// | --- | --- |
    /// | If the method returns `Ok` after it has read all of `body` | The server sends the returned reply, usually [`Reply::OK`], in response to the whole message. |
    /// | If the method returns `Ok` before it has read all of `body` | If the returned reply has a `4xx` or `5xx` code, the server sends this reply. Otherwise, the server sends `451`. |
    /// | If the method returns `Err` before it has read anything from `body` | The server sends the returned reply in response to DATA. |
    /// | If the method returns `Err` after it has begun to read from `body` | The server sends the returned reply in response to the whole message. |
    /// | If the method neither returns nor begins to read from `body` within the time limit [`Limits::command`](super::Limits::command) | The server drops the future, and then sends `451` in response to DATA. |
    /// | If the method reaches the end of `body`, but then does not return within the time limit [`Limits::finish`](super::Limits::finish) | The server drops the future, and then sends `451` in response to the whole message. Clients usually send a message again after a `451`. |
    ///
    /// **If the message does not arrive in full, the future is dropped.** This happens if the client disconnects or is
    /// silent for too long, or if the message is too large or malformed. Code that runs after the end of `body` can
    /// therefore rely on a complete message. If unfinished work has to be undone, undo it in the `Drop` implementation
    /// of a value that the future owns.
    ///
    /// # Errors
    /// Return `Err` to refuse the message with this reply. A reply with a positive code is replaced by `451`.
    fn data(
        &self,
        peer: &Peer,
        transaction: Self::Transaction,
        body: Body<'_>,
    ) -> impl Future<Output = Result<Reply, Reply>> + Send;

    /// Returns the reply to VRFY, EXPN, HELP, or a command that
    /// [the configuration declares](smtp_auth::server::Builder::verb).
    ///
    /// By default, the reply is `252` to VRFY and `502` to any other command. The server does not call this method for
    /// a command that arrives between two chunks of a message (BDAT). Such a command always receives the default reply.
    fn command(&self, peer: &Peer, command: Command<'_>) -> impl Future<Output = Reply> + Send {
        let _ = peer;
        ready(by_default(&command))
    }

    /// Decides whether the server accepts a connection. The server calls this method before it sends the greeting. On a
    /// port with implicit TLS, the server calls it after the TLS handshake. By default, every connection is accepted.
    ///
    /// # Errors
    /// Return `Err` to close the connection with this reply. After a `421`, the client may try again. A reply with a
    /// positive code is replaced by `451`.
    fn connect(&self, peer: &Peer) -> impl Future<Output = Result<(), Reply>> + Send {
        let _ = peer;
        ready(Ok(()))
    }
}

/// Returns the default reply to a command.
pub(super) fn by_default(command: &Command<'_>) -> Reply {
    match command {
        Command::Vrfy(_) => Reply::CANNOT_VERIFY,
        _ => Reply::NOT_IMPLEMENTED,
    }
}

/// The client of a connection. A `Peer` contains the client's address, the name in its EHLO, whether the connection
/// uses TLS, and the account with which the client has authenticated.
#[derive(Clone)]
pub struct Peer {
    /// The server's configuration.
    pub(super) config: Arc<Config>,
    pub(super) address: Option<SocketAddr>,
    pub(super) hello: Box<str>,
    pub(super) extended: bool,
    pub(super) tls: bool,
    pub(super) identity: Option<Identity>,
}

impl Peer {
    pub(super) fn new(config: Arc<Config>, address: Option<SocketAddr>, tls: bool) -> Self {
        Self { config, address, hello: Box::default(), extended: false, tls, identity: None }
    }

    /// Returns the client's address, or `None` for a stream without an address. Behind a
    /// [proxy](super::Server::proxies), this is the address in the PROXY header.
    ///
    /// An IPv4 address is always an [`IpAddr::V4`](std::net::IpAddr::V4), although the operating system reports it as
    /// `::ffff:192.0.2.1` for a listener on `[::]`.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns the unverified name from the client's EHLO or HELO. The name contains no spaces or control characters.
    /// It is empty until the client has sent one of these commands.
    pub fn hello(&self) -> &str {
        &self.hello
    }

    /// Returns whether the client has sent EHLO rather than HELO.
    pub fn is_extended(&self) -> bool {
        self.extended
    }

    /// Returns whether the connection uses TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Returns the identity of the client, or `None` if it has not authenticated.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", &self.address)
            .field("hello", &self.hello)
            .field("extended", &self.extended)
            .field("tls", &self.tls)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
