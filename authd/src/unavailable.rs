//! The answers of a service that has not reached its database yet: every attempt is a temporary failure. Without an
//! answer to its handshake, Postfix would offer no authentication, and its processes would give up.

use std::{io, process, sync::Arc};

use smtp_auth::{
    dovecot::{Cookie, Event, Session},
    sasl::server::Config as Sasl,
};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    authenticator::OfferError,
    config::Config,
    connection::{READ, WRITE},
    serve::AGAIN,
    socket::Listener,
};

/// Serves all sockets until the returned value is dropped. Their connections then end, and the mail servers connect
/// again.
pub(crate) fn serve(listeners: &[Listener], config: &Config) -> Result<JoinSet<()>, OfferError> {
    let sasl = Sasl::builder(&config.hostname).mechanisms(config.mechanisms()).build()?;
    let (sasl, room) = (Arc::new(sasl), Arc::new(Semaphore::new(config.max_connections)));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let socket = listener.listener.try_clone().and_then(UnixListener::from_std);
        if let Ok(socket) = socket {
            accepting.spawn(accept(socket, Arc::clone(&sasl), Arc::clone(&room)));
        }
    }
    Ok(accepting)
}

async fn accept(socket: UnixListener, sasl: Arc<Sasl>, room: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let sasl = Arc::clone(&sasl);
                connections.spawn(async move {
                    // The mail server may have hung up.
                    let _ = answer(stream, sasl).await;
                    drop(permit);
                });
            }
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// Answers every question with a temporary failure.
async fn answer(mut stream: UnixStream, sasl: Arc<Sasl>) -> io::Result<()> {
    let cookie = Cookie::random().map_err(|error| io::Error::other(error.to_string()))?;
    let mut session = Session::new(sasl, process::id(), 0, cookie);
    let mut out = Vec::new();
    loop {
        let is_closed = match session.next(&mut out) {
            Event::Query(_, query) => {
                query.temp_fail();
                continue;
            }
            Event::Authenticated(..) | Event::AuthFailed(_) => continue,
            Event::NeedInput => false,
            Event::Close(_) => true,
        };
        timeout(WRITE, stream.write_all(&out)).await??;
        out.clear();
        if is_closed {
            return Ok(());
        }
        stream.readable().await?;
        match session.receive_with(READ, |room| stream.try_read(room)) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
