//! One connection: answers each event of its session.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use smtp_auth::{
    Advance, AsyncAuthenticator, Reply,
    command::Command,
    sasl::Query,
    server::{Event, Session},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    Handler, Limits, Observer, Peer, Server,
    accept::{cut_off, stopped, unless},
    log,
    places::Place,
    wire::Wire,
};
use crate::{
    limiter::{Limited, RateLimiter},
    link::Link,
    stream::BoxStream,
};

pub(super) struct Connection<A, H> {
    pub(super) server: Arc<Server<A, H>>,
    pub(super) wire: Wire,
    pub(super) peer: Peer,
    users: Limited<Arc<A>, Option<Arc<dyn RateLimiter>>>,
    stop: watch::Receiver<Option<Instant>>,
    began: Instant,
    /// Whether the observer has been notified of the connection's start but not of its end.
    is_open: bool,
    _place: Place,
}

impl<A: AsyncAuthenticator + 'static, H: Handler> Connection<A, H> {
    pub(super) fn new(
        server: Arc<Server<A, H>>,
        stream: BoxStream,
        address: Option<SocketAddr>,
        place: Place,
    ) -> Self {
        let mut session = Session::new(Arc::clone(&server.config));
        log::trace(&mut session, server.trace.as_ref(), address);
        let began = Instant::now();
        let wire = Wire { session, link: Link::new(stream), broken: None, end: began };
        let (stop, peer) =
            (server.stop.subscribe(), Peer::new(Arc::clone(&server.config), address, false));
        let users = Limited::new(
            Arc::clone(&server.users),
            server.limiter.clone(),
            address.map(|address| address.ip()),
            server.given.sasl().authorizes_always(),
        );
        Self { server, wire, peer, users, stop, began, is_open: false, _place: place }
    }

    /// Serves the client until the connection ends.
    pub(super) fn serve(mut self, implicit_tls: bool) -> impl Future<Output = ()> + Send {
        #[cfg(feature = "tracing")]
        let span = log::span(&self.peer);
        let work = async move {
            self.is_open = true;
            self.server.log.connected(&self.peer);
            let ended = self.converse(implicit_tls).await;
            self.is_open = false;
            self.server.log.closed(&self.peer, ended.as_ref().copied());
        };
        #[cfg(feature = "tracing")]
        let work = tracing::Instrument::instrument(work, span);
        work
    }

    /// Runs the dialogue. Futures that are large and rarely needed are boxed, to keep the future of an idle connection
    /// small.
    async fn converse(&mut self, implicit_tls: bool) -> io::Result<()> {
        if implicit_tls {
            Box::pin(self.begin_tls()).await?;
        }
        Box::pin(self.welcome()).await;
        loop {
            if self.wire.advance() == Advance::NeedInput {
                self.wait().await?;
                continue;
            }
            match self.wire.session.pending() {
                Event::Authenticated(identity) => {
                    self.peer.identity = Some(identity.clone());
                    self.users.authenticated(identity);
                    self.server.log.authenticated(&self.peer, identity);
                }
                Event::AuthFailed(failed) => {
                    let pause = failed.pause.min(self.server.limits.pause);
                    let is_limited = self.users.failed(&failed);
                    self.server.log.auth_failed(&self.peer, &failed, is_limited);
                    // This delays the reply, because nothing is sent until the session needs input.
                    Box::pin(self.pause(pause)).await;
                }
                Event::Hello(hello) => {
                    self.peer.hello = hello.name.into();
                    self.peer.extended = hello.extended;
                }
                Event::Command(Command::Mail(_), _) => Box::pin(self.until_cut_off()).await?,
                Event::Query(_) | Event::Command(..) => Box::pin(self.ask()).await,
                Event::StartTls => Box::pin(self.begin_tls()).await?,
                Event::Close => return Box::pin(self.wire.link.close()).await,
                // `transaction` has dropped the handler's transaction.
                Event::Reset | Event::NeedInput | Event::Data(_) => {}
                // `transaction` answers these. Here they are unexpected.
                Event::StartOfData(permission) => permission.refuse(Reply::LOCAL_ERROR),
                Event::EndOfData(ask) => ask.reply(Reply::LOCAL_ERROR),
            }
        }
    }

    /// Waits for input outside of transactions, for a limited time or until a shutdown.
    async fn wait(&mut self) -> io::Result<()> {
        self.wire.end = self.end();
        let until = Instant::now() + self.server.limits.idle;
        let Self { wire, stop, .. } = self;
        let filled = unless(pin!(stopped(stop)), pin!(wire.fill(until))).await;
        match filled {
            Some(filled) => filled,
            None => {
                self.say_shutting_down();
                Ok(())
            }
        }
    }

    /// Returns when the connection must end. A client that has authenticated may stay longer.
    fn end(&self) -> Instant {
        let Limits { connection, authentication, .. } = self.server.limits;
        let is_known = self.peer.identity.as_ref().is_some_and(|who| !who.is_anonymous());
        match is_known || self.server.config.allows_unauthenticated() {
            true => self.began + connection,
            false => self.began + connection.min(authentication),
        }
    }

    /// Handles the transaction of the pending MAIL. If it has not ended within the grace period, the handler's future
    /// is dropped.
    async fn until_cut_off(&mut self) -> io::Result<()> {
        // With pipelining, the client may have authenticated since the last wait.
        self.wire.end = self.end();
        let stop = self.stop.clone();
        let done = unless(pin!(cut_off(stop)), pin!(self.transaction())).await;
        match done {
            Some(done) => done,
            None => {
                self.say_shutting_down();
                Ok(())
            }
        }
    }

    fn say_shutting_down(&mut self) {
        self.wire.close(&Reply::SHUTTING_DOWN);
    }

    /// Asks the handler whether to accept the client.
    async fn welcome(&mut self) {
        let Self { server, wire, peer, stop, .. } = self;
        let welcome = within(server.limits.command, server.handler.connect(peer));
        let welcomed = unless(pin!(stopped(stop)), pin!(welcome)).await;
        match welcomed {
            Some(Ok(())) => {}
            Some(Err(refusal)) => wire.close(&refused(refusal)),
            None => self.say_shutting_down(),
        }
    }

    /// Answers the pending query or command outside of transactions, unless the server is stopped meanwhile.
    async fn ask(&mut self) {
        let mut stop = self.stop.clone();
        let answered = unless(pin!(stopped(&mut stop)), pin!(self.answer())).await;
        if answered.is_none() {
            self.say_shutting_down();
        }
    }

    /// Asks the authenticator for the answer to the pending query, or the handler for the reply to the pending command.
    pub(super) async fn answer(&mut self) {
        let Self { server, wire, peer, users, .. } = self;
        match wire.session.pending() {
            Event::Query(query) => {
                let answered = query.answer_with_async(users);
                if timeout(server.limits.query, answered).await.is_err() {
                    wire.session.query().into_iter().for_each(Query::temp_fail);
                }
            }
            Event::Command(command, ask) => {
                let work = async { Ok(server.handler.command(peer, command).await) };
                ask.reply(within(server.limits.command, work).await.unwrap_or_else(|reply| reply));
            }
            _ => {}
        }
    }

    /// Waits for this time, or until the server is stopped.
    async fn pause(&mut self, time: Duration) {
        let Self { wire, stop, .. } = self;
        unless(pin!(stopped(stop)), pin!(wire.link.pause(time))).await;
    }

    async fn begin_tls(&mut self) -> io::Result<()> {
        let end = self.end();
        let Self { server, wire, peer, stop, .. } = self;
        let limits = &server.limits;
        // The session offers STARTTLS only if TLS is configured.
        let Some(tls) = &server.tls else { return Err(io::ErrorKind::Unsupported.into()) };
        let at_most = |limit: Duration| limit.min(end.saturating_duration_since(Instant::now()));
        let handshake = async {
            wire.link.send(at_most(limits.idle)).await?;
            timeout(at_most(limits.handshake), tls.accept(wire.link.take())).await?
        };
        let Some(done) = unless(pin!(stopped(stop)), pin!(handshake)).await else {
            return Err(io::ErrorKind::ConnectionAborted.into());
        };
        let (stream, channel) = done?;
        wire.link.put(stream);
        wire.session.tls_started(channel);
        // A man-in-the-middle may have injected anything that was sent before TLS (RFC 3207 §4.2).
        *peer = Peer::new(Arc::clone(&peer.config), peer.address, true);
        Ok(())
    }
}

impl<A, H> Drop for Connection<A, H> {
    fn drop(&mut self) {
        // The handler has panicked, or the serving future was dropped.
        if self.is_open {
            let cut_off = io::ErrorKind::ConnectionAborted.into();
            self.server.log.closed(&self.peer, Err(&cut_off));
        }
    }
}

/// Limits the time of `work`.
///
/// # Errors
/// Returns the error of `work`, or [`Reply::LOCAL_ERROR`] if it takes too long.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Reply>>,
) -> Result<T, Reply> {
    timeout(limit, work).await.unwrap_or(Err(Reply::LOCAL_ERROR))
}

/// Returns the handler's refusal, or [`Reply::LOCAL_ERROR`] if its code is positive.
pub(super) fn refused(reply: Reply) -> Reply {
    if reply.is_positive() { Reply::LOCAL_ERROR } else { reply }
}
