//! One connection: the loop that drives the session, and what is kept beside it.

use core::net::{IpAddr, SocketAddr};
use std::{
    io::{self, Write as _},
    sync::Arc,
};

use smtp_auth::{
    command::Command,
    reply::Reply,
    sasl::{CheckToken, Query},
    server::{Event, PendingReply, Session},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use crate::{
    limits::{Account, Network},
    log,
    options::Host,
    shutdown,
    transaction::{Transaction, reply},
};

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
    began: Instant,
    network: Network,
    /// Whom the running exchange says the client to be.
    claimed: Option<Account>,
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
    let network = Network::from(address.ip());
    let _place = match host.admit(network) {
        Ok(place) => place,
        Err(refusal) => {
            log(address, format_args!("sent away: {refusal}"));
            return turn_away(socket, implicit, &refusal);
        }
    };
    let own = socket.local_addr().ok().map(|own| own.ip());
    let client = Client::new(address, false);
    let (transaction, began, claimed) = (None, Instant::now(), None);
    let mut connection =
        Connection { host, stopped, own, client, transaction, began, network, claimed };
    let ended = connection.run(socket, implicit).await;
    connection.reset().await;
    match ended {
        Ok(()) => log(address, "closed"),
        Err(error) => log(address, format_args!("broken off: {error}")),
    }
}

/// Says why, and closes, without waiting for anything.
fn turn_away(socket: TcpStream, implicit: bool, refusal: &Reply) {
    // Who expects TLS could not read it.
    if implicit {
        return;
    }
    let mut out = Vec::new();
    refusal.write(&mut out);
    // A new socket takes a line. Where it does not, the client is gone.
    let _ = socket.into_std().and_then(|mut socket| socket.write_all(&out));
}

impl Connection {
    // What is boxed here and in `drive` is large and rarely needed: without, each connection would
    // hold room for it from the start, and be copied with it.
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
        let (mut stream, channel) =
            timeout_at(self.handshake_end(&session), Box::pin(tls.accept(socket))).await??;
        if let Some(name) = channel.identity() {
            self.log(format_args!("has a certificate of {name:?}"));
        }
        let dropped = session.tls_started(channel);
        if dropped > 0 {
            self.log(format_args!("{dropped} octets between STARTTLS and TLS were dropped"));
        }
        // As the session does, forget all that was said before: it may be another's words.
        self.client = Client::new(self.client.address, true);
        self.reset().await;
        // A second STARTTLS is refused by the session.
        Box::pin(self.drive(&mut session, &mut stream)).await.map(drop)
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
                    self.send(stream, &mut out).await?;
                    let reply = tokio::select! {
                        read = stream.read(&mut buffer) => match read? {
                            0 => return Ok(End::Closed),
                            _ if self.is_over() => Reply::TOO_MANY_ATTEMPTS,
                            n => {
                                session.receive(buffer.get(..n).unwrap_or_default());
                                continue;
                            }
                        },
                        () = sleep(self.host.idle_time) => Reply::IDLE,
                        () = sleep_until(self.end(session)) => {
                            Reply::IDLE.with_text("Connected for too long, closing")
                        }
                        () = shutdown(&mut self.stopped), if !session.in_transaction() => {
                            Reply::SHUTTING_DOWN
                        }
                    };
                    session.close(&reply, &mut out);
                }
                Event::Query(query) => {
                    self.note(&query);
                    if self.may_ask(&query) {
                        query.answer_with(&self.host.users_now());
                    } else {
                        session.close(&Reply::TOO_MANY_ATTEMPTS, &mut out);
                    }
                }
                Event::Authenticated(identity) => {
                    let claimed = self.claimed.take();
                    if let (Some(guesses), false) = (&self.host.guesses, identity.is_anonymous()) {
                        let own = guesses.account(identity.authcid());
                        [Some(own), claimed]
                            .into_iter()
                            .flatten()
                            .for_each(|one| guesses.signed_in(one));
                    }
                    self.client.account = Some(identity.acts_as().to_owned());
                    let (name, mechanism) = (identity.acts_as(), identity.mechanism());
                    self.log(format_args!("signed in as {name:?} by {mechanism}"));
                }
                // The name is not logged: some people type their password in its place.
                Event::AuthFailed(failed) => {
                    self.log(format_args!("not signed in: {failed}"));
                    self.claimed = None;
                    if let Some(guesses) = &self.host.guesses {
                        if failed.why.is_attempt() {
                            let names = [failed.authcid(), failed.account()].into_iter().flatten();
                            guesses.failed(self.network, names, Instant::now().into_std());
                        }
                        // Nothing has been sent yet, so this delays the reply.
                        sleep(failed.pause).await;
                    }
                }
                Event::Hello(hello) => {
                    self.client.name = hello.name.to_owned();
                    self.client.extended = hello.extended;
                }
                Event::Command(command, ask) => {
                    let reply = self.command(command, &ask);
                    ask.reply(reply);
                }
                Event::StartOfData(permission) => match Box::pin(self.begin_message()).await {
                    Ok(()) => permission.accept(),
                    Err(refusal) => permission.refuse(refusal),
                },
                Event::Data(piece) => {
                    if let Some(transaction) = &mut self.transaction {
                        transaction.write(piece).await;
                    }
                }
                Event::EndOfData(ask) => {
                    let reply = match self.transaction.take() {
                        Some(transaction) => {
                            Box::pin(transaction.finish(&self.host, &self.client)).await
                        }
                        None => Reply::LOCAL_ERROR,
                    };
                    self.log(format_args!("message: {reply}"));
                    ask.reply(reply);
                }
                Event::Reset => self.reset().await,
                Event::StartTls => {
                    self.send(stream, &mut out).await?;
                    return Ok(End::StartTls);
                }
                Event::Close => {
                    self.send(stream, &mut out).await?;
                    // Under TLS this says that nothing was cut off.
                    let closed = timeout(self.host.handshake_time, stream.shutdown()).await?;
                    return closed.map(|()| End::Closed);
                }
            }
        }
    }

    /// When the connection ends, whatever goes on.
    fn end(&self, session: &Session) -> Instant {
        let signed_in = session.identity().is_some_and(|who| !who.is_anonymous());
        let Host { sign_in_time, max_time, .. } = *self.host;
        self.began + if signed_in { max_time } else { sign_in_time.min(max_time) }
    }

    fn handshake_end(&self, session: &Session) -> Instant {
        self.end(session).min(Instant::now() + self.host.handshake_time)
    }

    /// Whether the client may sign in, by what has failed before. Keeps in mind the name that it gives, unless
    /// that is locked already.
    fn may_ask(&mut self, query: &Query<'_>) -> bool {
        let Some(guesses) = &self.host.guesses else { return true };
        if let Some(name) = query.authcid() {
            let account = guesses.account(name);
            let barred = guesses.bar_account(account, Instant::now().into_std());
            self.claimed = (!barred).then_some(account);
        }
        !self.host.bars(self.network)
    }

    /// Whether the attempts were used up, by other connections, since the exchange got its answer:
    /// SCRAM asks for the keys before the client sends its proof, and many could wait there.
    fn is_over(&self) -> bool {
        let (Some(guesses), Some(account)) = (&self.host.guesses, self.claimed) else {
            return false;
        };
        self.host.bars(self.network) || guesses.bar_account(account, Instant::now().into_std())
    }

    fn command(&mut self, command: Command<'_>, ask: &PendingReply<'_>) -> Reply {
        let outcome = match command {
            Command::Mail(mail) => {
                let claimed = ask.mail_auth(&mail);
                Transaction::begin(mail, claimed, &self.host, &self.client).map(|transaction| {
                    self.transaction = Some(transaction);
                    Reply::SENDER_OK
                })
            }
            Command::Rcpt(rcpt) => match &mut self.transaction {
                Some(transaction) => transaction.add(rcpt).map(|()| Reply::RECIPIENT_OK),
                None => Err(Reply::BAD_SEQUENCE),
            },
            Command::Vrfy(_) => Ok(Reply::CANNOT_VERIFY),
            Command::Help(_) => Ok(reply(214, (2, 0, 0), "Sign in by AUTH, then send as RFC 5321")),
            // EXPN: no other command gets here.
            _ => Err(Reply::NOT_IMPLEMENTED),
        };
        outcome.unwrap_or_else(|refusal| refusal)
    }

    async fn begin_message(&mut self) -> Result<(), Reply> {
        match &mut self.transaction {
            Some(transaction) => transaction.open(&self.host, &self.client).await,
            None => Err(Reply::BAD_SEQUENCE),
        }
    }

    /// Lets the transaction go.
    async fn reset(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            transaction.discard().await;
        }
    }

    async fn send(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        timeout(self.host.idle_time, async {
            stream.write_all(out).await?;
            stream.flush().await
        })
        .await??;
        out.clear();
        Ok(())
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
