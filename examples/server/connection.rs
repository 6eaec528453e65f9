//! One connection: the loop that drives the session, and what is kept beside it.

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use std::{io, sync::Arc};

use smtp_auth::{
    command::Command,
    reply::Reply,
    sasl::{CheckToken, Query},
    server::{Ask, Event, Session},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    log,
    options::Host,
    shutdown,
    transaction::{Transaction, reply},
};

/// How long a client may be silent (RFC 5321 §4.5.3.2.7), or not take what it is sent.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// How long it may take to begin TLS.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// What is known of the client.
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
    /// Its name, as it gave it.
    pub(crate) name: String,
    /// Whether it said EHLO.
    pub(crate) extended: bool,
    /// The account that it acts as.
    pub(crate) account: Option<String>,
}

impl Client {
    fn new(address: SocketAddr, tls: bool) -> Self {
        Self { address, tls, name: String::new(), extended: false, account: None }
    }
}

struct Connection {
    host: Arc<Host>,
    stopped: watch::Receiver<bool>,
    /// The server's end.
    own: Option<IpAddr>,
    client: Client,
    transaction: Option<Transaction>,
}

/// Why [`Connection::drive`] returned.
enum End {
    Closed,
    StartTls,
}

/// Serves a client until it leaves.
pub(crate) async fn serve(
    host: Arc<Host>,
    socket: TcpStream,
    address: SocketAddr,
    implicit: bool,
    stopped: watch::Receiver<bool>,
) {
    let own = socket.local_addr().ok().map(|own| own.ip());
    let client = Client::new(address, false);
    let mut connection = Connection { host, stopped, own, client, transaction: None };
    match connection.run(socket, implicit).await {
        Ok(()) => log(address, "closed"),
        Err(error) => log(address, format_args!("broken off: {error}")),
    }
}

impl Connection {
    async fn run(&mut self, mut socket: TcpStream, implicit: bool) -> io::Result<()> {
        // Replies are short and waited for.
        socket.set_nodelay(true)?;
        let mut session = Session::new(Arc::clone(&self.host.smtp));
        if self.host.trace {
            let address = self.client.address;
            session.trace(move |side, line| log(format_args!("{address} {side}"), line));
        }
        if !implicit {
            match self.drive(&mut session, &mut socket).await? {
                End::Closed => return Ok(()),
                End::StartTls => {}
            }
        }
        let Some(tls) = self.host.tls.clone() else {
            return Err(io::Error::other("TLS without a certificate"));
        };
        let (mut stream, channel) = timeout(HANDSHAKE, tls.accept(socket)).await??;
        if let Some(name) = channel.identity() {
            self.log(format_args!("has a certificate of {name:?}"));
        }
        let dropped = session.tls_started(channel);
        if dropped > 0 {
            self.log(format_args!("{dropped} octets between STARTTLS and TLS were dropped"));
        }
        // As the session does, forget all that was said before: it may be another's words.
        self.client = Client::new(self.client.address, true);
        self.transaction = None;
        // A second STARTTLS is refused by the session.
        self.drive(&mut session, &mut stream).await.map(drop)
    }

    /// Does what the session says, until TLS is to begin or the connection is to be closed. It
    /// cannot begin TLS itself: that makes another stream, of another type.
    async fn drive(
        &mut self,
        session: &mut Session,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> io::Result<End> {
        let (mut out, mut buffer) = (Vec::new(), vec![0; 4096]);
        loop {
            match session.next(&mut out) {
                Event::NeedInput => {
                    send(stream, &mut out).await?;
                    let reply = tokio::select! {
                        read = stream.read(&mut buffer) => match read? {
                            0 => return Ok(End::Closed),
                            n => {
                                session.receive(buffer.get(..n).unwrap_or_default());
                                continue;
                            }
                        },
                        () = sleep(IDLE) => Reply::IDLE,
                        () = shutdown(&mut self.stopped), if !session.in_transaction() => {
                            Reply::SHUTTING_DOWN
                        }
                    };
                    session.close(&reply, &mut out);
                }
                Event::Query(query) => {
                    self.note(&query);
                    query.answer_with(&self.host.users);
                }
                Event::Authenticated(identity) => {
                    self.client.account = Some(identity.acts_as().to_owned());
                    let (name, mechanism) = (identity.acts_as(), identity.mechanism());
                    self.log(format_args!("signed in as {name:?} by {mechanism}"));
                }
                // The name is not logged: some people type their password in its place.
                Event::AuthFailed(failed) => {
                    self.log(format_args!("not signed in: {failed}"));
                    if self.host.pause {
                        // Nothing has been sent yet, so this delays the reply.
                        sleep(failed.pause).await;
                    }
                }
                Event::Hello(hello) => {
                    self.client.name = hello.name.to_owned();
                    self.client.extended = hello.extended;
                }
                Event::Command(command, ask) => {
                    let reply = self.command(command, ask);
                    ask.reply(reply);
                }
                Event::Message(permission) => match self.begin_message() {
                    Ok(()) => permission.accept(),
                    Err(refusal) => permission.refuse(refusal),
                },
                Event::Data(piece) => {
                    if let Some(transaction) = &mut self.transaction {
                        transaction.write(piece);
                    }
                }
                Event::EndOfData(ask) => {
                    let reply = match self.transaction.take() {
                        Some(transaction) => transaction.finish(&self.host, &self.client).await,
                        None => Reply::LOCAL_ERROR,
                    };
                    self.log(format_args!("message: {reply}"));
                    ask.reply(reply);
                }
                Event::Reset => self.transaction = None,
                Event::StartTls => {
                    send(stream, &mut out).await?;
                    return Ok(End::StartTls);
                }
                Event::Close => {
                    send(stream, &mut out).await?;
                    // Under TLS this says that nothing was cut off.
                    return timeout(HANDSHAKE, stream.shutdown()).await?.map(|()| End::Closed);
                }
            }
        }
    }

    fn command(&mut self, command: Command<'_>, ask: &Ask) -> Reply {
        let outcome = match command {
            Command::Mail(mail) => {
                let claimed = ask.mail_auth(&mail);
                Transaction::begin(mail, claimed, &self.client).map(|transaction| {
                    self.transaction = Some(transaction);
                    Reply::SENDER_OK
                })
            }
            Command::Rcpt(rcpt) => match &mut self.transaction {
                Some(transaction) => transaction.add(rcpt).map(|()| Reply::RECIPIENT_OK),
                None => Err(Reply::BAD_SEQUENCE),
            },
            Command::Vrfy(_) => Ok(Reply::CANNOT_VERIFY),
            Command::Expn(_) => Err(Reply::NOT_IMPLEMENTED),
            Command::Help(_) => Ok(reply(214, (2, 0, 0), "Sign in by AUTH, then send as RFC 5321")),
            // Only verbs that nobody knows are left.
            _ => Err(Reply::UNRECOGNIZED),
        };
        outcome.unwrap_or_else(|refusal| refusal)
    }

    fn begin_message(&mut self) -> Result<(), Reply> {
        match &mut self.transaction {
            Some(transaction) => transaction.open(&self.host, &self.client),
            None => Err(Reply::BAD_SEQUENCE),
        }
    }

    /// Logs what a question tells of the client beside the answer.
    fn note(&self, query: &Query<'_>) {
        match query {
            Query::CheckAnonymous(ask) => match ask.trace() {
                Some(trace) => self.log(format_args!("a guest, who says: {trace:?}")),
                None => self.log("a guest, who says nothing"),
            },
            // No reason to refuse: a server does not know all of its names.
            Query::CheckToken(ask) if !self.is_meant(ask) => {
                let server = ask.host().unwrap_or_default();
                self.log(format_args!("its token is meant for {server:?}, which may be another"));
            }
            _ => {}
        }
    }

    /// Whether the client means this server, or does not say.
    fn is_meant(&self, ask: &CheckToken) -> bool {
        ask.host().is_none_or(|host| {
            let names = [self.host.name(), "localhost"];
            names.iter().any(|own| own.eq_ignore_ascii_case(host))
                || host.parse().ok().is_some_and(|address| self.own == Some(address))
        })
    }

    fn log(&self, what: impl core::fmt::Display) {
        log(self.client.address, what);
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), out: &mut Vec<u8>) -> io::Result<()> {
    timeout(IDLE, async {
        stream.write_all(out).await?;
        stream.flush().await
    })
    .await??;
    out.clear();
    Ok(())
}
