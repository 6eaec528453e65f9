//! What the application does with mail.

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

/// A handler decides about mail, and takes it. One value serves all connections.
///
/// A message on its way is a value of the handler's own, a *transaction*: [`mail`](Self::mail) makes it,
/// [`rcpt`](Self::rcpt) borrows it, [`data`](Self::data) takes it over. Where the client resets the transaction, begins TLS,
/// disconnects or takes too long, the value is dropped, so nothing of it can get into the next message.
///
/// Methods are written as `async fn`. Only clients that may send mail get as far as [`mail`](Self::mail), and their commands
/// come in order. The parameters are those of extensions that the server's configuration lists; any other is refused with
/// `555`.
///
/// **The server adds nothing to a message.** A `Received:` header field (RFC 5321 §4.4) is the handler's to write in front of
/// it: [`Peer::received`] has its text.
pub trait Handler: Send + Sync + 'static {
    /// The state of a message on its way, such as its sender and recipients.
    type Transaction: Send;

    /// Whether this client may send as this sender. `Err` is the refusal.
    ///
    /// Compare the sender with the addresses of the account that has authenticated
    /// ([`Identity::acts_as`](smtp_auth::Identity::acts_as)), which only the application knows. Accept the null sender from
    /// every account, and refuse any other address with `553 5.7.1`. The guide of `smtp-auth` has the
    /// [reasons](https://docs.rs/smtp-auth/latest/smtp_auth/guide/guessers/index.html#who-may-send-as-whom), the module
    /// [`server`](super) the code.
    fn mail(
        &self,
        peer: &Peer,
        mail: Mail<'_>,
    ) -> impl Future<Output = Result<Self::Transaction, Reply>> + Send;

    /// Whether the message may go to this recipient. `Err` is the refusal; the recipients before stay.
    ///
    /// Add the recipient to the transaction last, after every `await`. After [`Limits::command`](super::Limits::command) the
    /// future is dropped, and the client gets a `451` for this recipient.
    fn rcpt(
        &self,
        peer: &Peer,
        transaction: &mut Self::Transaction,
        rcpt: Rcpt<'_>,
    ) -> impl Future<Output = Result<(), Reply>> + Send;

    /// Takes the message. The first [`Body::next`] tells the client to send it.
    ///
    /// | outcome | reply |
    /// | --- | --- |
    /// | `Ok` after `body` was read to its end | the given one, to the whole message, as a rule [`Reply::OK`] |
    /// | `Ok` before that end | `451` |
    /// | `Err` before the first `next` | the given one, to DATA itself |
    /// | `Err` later | the given one, to the whole message |
    /// | longer than [`Limits::finish`](super::Limits::finish) after the end of `body` | `451`; the future is dropped, and the client will send the message again |
    ///
    /// **Where the message does not come to a good end, the future is dropped**: the client has disconnected, or was
    /// silent for too long, or the message is too large or malformed. So code after the end of `body` runs for whole messages
    /// alone, and `Drop` is the place to undo what was begun.
    fn data(
        &self,
        peer: &Peer,
        transaction: Self::Transaction,
        body: Body<'_>,
    ) -> impl Future<Output = Result<Reply, Reply>> + Send;

    /// The reply to VRFY, EXPN, HELP, and commands that [the configuration
    /// declares](smtp_auth::server::Builder::verb). By default VRFY gets a `252`, any other a `502`. Between the chunks of a
    /// message that comes by BDAT, the default applies and this method is not called.
    fn command(&self, peer: &Peer, command: Command<'_>) -> impl Future<Output = Reply> + Send {
        let _ = peer;
        ready(by_default(&command))
    }

    /// Whether a connection is welcome. `Err` closes it with that reply; a `421` says that the client may try again.
    fn connect(&self, peer: &Peer) -> impl Future<Output = Result<(), Reply>> + Send {
        let _ = peer;
        ready(Ok(()))
    }
}

/// The reply to a command that no handler is asked about.
pub(super) fn by_default(command: &Command<'_>) -> Reply {
    match command {
        Command::Vrfy(_) => Reply::CANNOT_VERIFY,
        _ => Reply::NOT_IMPLEMENTED,
    }
}

/// The client at the other end of a connection.
#[derive(Clone)]
pub struct Peer {
    /// The server's.
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

    /// Its address, where the stream has one: behind a [proxy](super::Server::proxies), the address in the proxy's header. An
    /// IPv4 address is an [`IpAddr::V4`](std::net::IpAddr::V4) on every listener, although one on `[::]` sees
    /// `::ffff:192.0.2.1`.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Its name in EHLO or HELO, as the client gave it: nothing proves the name. It has no spaces or control characters, and
    /// is empty before that command.
    pub fn hello(&self) -> &str {
        &self.hello
    }

    /// Whether it has said EHLO rather than HELO.
    pub fn is_extended(&self) -> bool {
        self.extended
    }

    /// Whether the connection is inside TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The account that has authenticated.
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
