//! Accepts connections, turns away those above the limits, and ends them all at a shutdown.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use smtp_auth::{AsyncAuthenticator, Reply};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

#[cfg(feature = "tracing")]
use super::log;
use super::{Handler, Observer, Peer, Server, connection::Connection, places::Place, proxy};
use crate::{
    link::{Link, MAX_CLOSE},
    network::canonical,
    stream::BoxStream,
};

/// The time that the server waits after it could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The number of connections above the limits that stay open for a while, so that the client can read the reason.
/// Others are closed at once, because a flood must not exhaust the file descriptors that the limits protect.
pub(super) const LINGERING: usize = 100;

impl<A: AsyncAuthenticator + 'static, H: Handler> Server<A, H> {
    /// Serves one client over a boxed stream.
    pub(super) async fn serve_boxed(
        &self,
        stream: BoxStream,
        address: Option<SocketAddr>,
        tls: bool,
    ) {
        let address = address.map(canonical);
        match self.places.take(address.map(|address| address.ip()), &self.limits) {
            Ok(place) => {
                let server = Arc::new(self.clone());
                Box::pin(Connection::new(server, stream, address, place).serve(tls)).await;
            }
            Err(refusal) => Box::pin(self.turn_away(stream, address, tls, &refusal)).await,
        }
    }

    /// Serves all clients that connect to the listener, until a shutdown.
    pub(super) async fn accept(&self, listener: TcpListener, tls: bool) {
        let (server, mut stop) = (Arc::new(self.clone()), self.stop.subscribe());
        let mut connections = JoinSet::new();
        while let Some(accepted) = next(&listener, &mut connections, &mut stop).await {
            match accepted {
                Ok((socket, address)) => {
                    server.begin(&mut connections, socket, address, tls);
                }
                Err(error) if is_of_that_connection(&error) => {}
                Err(error) => {
                    self.log.accept_failed(&error);
                    // Without a pause, the server would spin until a file descriptor is free.
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        // Each connection ends by itself within the grace, and may then still be sending its last reply.
        if timeout(self.limits.grace.saturating_add(MAX_CLOSE), rest).await.is_err() {
            connections.shutdown().await;
        }
    }

    /// Spawns a task for a connection. The future is neither boxed nor held twice, because it lives as long as the
    /// connection.
    fn begin(
        self: &Arc<Self>,
        connections: &mut JoinSet<()>,
        socket: TcpStream,
        address: SocketAddr,
        tls: bool,
    ) {
        let address = canonical(address);
        // Replies are short, and the client waits for each of them.
        let _ = socket.set_nodelay(true);
        let is_proxy = self.proxies.iter().any(|proxy| proxy.contains(address.ip()));
        // All clients of a proxy share the proxy's own address, so it is not counted.
        let counted = (!is_proxy).then_some(address.ip());
        let (server, stream, place) =
            (Arc::clone(self), Box::new(socket), self.places.take(counted, &self.limits));
        match place {
            Ok(place) if is_proxy => {
                connections.spawn(async move { server.proxied(stream, address, place, tls).await });
            }
            Ok(place) => {
                let connection = Connection::new(server, stream, Some(address), place);
                connections.spawn(connection.serve(tls));
            }
            Err(refusal) => {
                connections.spawn(async move {
                    server.turn_away(stream, Some(address), tls, &refusal).await;
                });
            }
        }
    }

    /// Serves a client that connects through a proxy. The proxy sends the client's address in a header.
    pub(super) async fn proxied(
        self: Arc<Self>,
        mut stream: BoxStream,
        proxy: SocketAddr,
        mut place: Place,
        tls: bool,
    ) {
        match Box::pin(self.header(&mut stream)).await {
            Ok(client) => {
                let address = client.map_or(proxy, canonical);
                match place.belong_to(address.ip(), &self.limits) {
                    Ok(()) => {
                        let connection = Connection::new(self, stream, Some(address), place);
                        Box::pin(connection.serve(tls)).await;
                    }
                    Err(refusal) => {
                        drop(place);
                        Box::pin(self.turn_away(stream, Some(address), tls, &refusal)).await;
                    }
                }
            }
            Err(error) => {
                let peer = Peer::new(Arc::clone(&self.config), Some(proxy), false);
                #[cfg(feature = "tracing")]
                let _inside = log::span(&peer).entered();
                self.log.connected(&peer);
                self.log.closed(&peer, Err(&error));
            }
        }
    }

    /// Reads the proxy's header, and returns the client's address if the header contains one.
    async fn header(&self, stream: &mut BoxStream) -> io::Result<Option<SocketAddr>> {
        let mut stop = self.stop.subscribe();
        let header = timeout(self.limits.handshake, proxy::read(stream));
        match unless(pin!(stopped(&mut stop)), pin!(header)).await {
            Some(read) => read?,
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Sends the reason, and closes. On a port with TLS from the first octet, nothing is sent, because the client could
    /// not read it without a handshake, which is too expensive for a connection above the limits.
    async fn turn_away(
        &self,
        stream: BoxStream,
        address: Option<SocketAddr>,
        tls: bool,
        refusal: &Reply,
    ) {
        self.log.turned_away(address, refusal);
        if tls {
            return;
        }
        let mut link = Link::new(stream);
        refusal.write(&mut link.out);
        // If the reply cannot be sent, nothing more can be done.
        let _ = match self.lingering.try_acquire() {
            Ok(_place) => link.close().await,
            Err(_) => link.send(Duration::ZERO).await,
        };
    }
}

/// Waits for the next connection. Returns `None` once the server is stopped.
async fn next(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    stop: &mut watch::Receiver<Option<Instant>>,
) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    let accepted = poll_fn(|cx| {
        // Collects the tasks that have ended. A panic ends only its own connection.
        while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
        listener.poll_accept(cx)
    });
    unless(pin!(stopped(stop)), pin!(accepted)).await
}

/// Returns whether the error concerns only a connection that ended before it was accepted, which some systems report
/// (`ECONNABORTED`). The server does not pause for it, or a client that connects and disconnects at once would delay
/// all others.
fn is_of_that_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}

/// Waits for [`Server::shutdown`], or for the end of the server itself.
pub(super) async fn stopped(stop: &mut watch::Receiver<Option<Instant>>) {
    let _ = stop.wait_for(Option::is_some).await;
}

/// Waits for the end of [`Limits::grace`](super::Limits::grace) after [`Server::shutdown`].
pub(super) async fn cut_off(mut stop: watch::Receiver<Option<Instant>>) {
    let until = stop.wait_for(Option::is_some).await.ok().and_then(|until| *until);
    sleep_until(until.unwrap_or_else(Instant::now)).await;
}

/// Returns the result of `work`, or `None` if `other` is ready first. The caller pins both futures, because if they
/// were moved here, the caller's future would contain each of them twice.
pub(super) fn unless<T>(
    mut other: Pin<&mut impl Future<Output = ()>>,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Option<T>> {
    poll_fn(move |cx| match other.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => work.as_mut().poll(cx).map(Some),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_gone_holds_up_no_other() {
        for (kind, expected) in [
            (io::ErrorKind::ConnectionAborted, true),
            (io::ErrorKind::ConnectionReset, true),
            (io::ErrorKind::Other, false),
        ] {
            assert_eq!(is_of_that_connection(&kind.into()), expected, "{kind}");
        }
        // No descriptor is left (`EMFILE`).
        assert!(!is_of_that_connection(&io::Error::from_raw_os_error(24)));
    }
}
