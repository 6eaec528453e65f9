//! Serves the metrics by HTTP, on a Unix socket or to every user of this machine.

use core::{net::SocketAddr, time::Duration};
use std::{
    io,
    sync::{Arc, OnceLock},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    authenticator::Service,
    config::{Metrics as Options, Socket},
    metrics,
    socket::{self, Listener},
};

/// The time that a request and its answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The most clients that are served at once, so that a silent one delays no other, and many take little memory.
const CLIENTS: usize = 16;

/// The time after which an accept that has failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// A socket on which nothing is answered yet.
pub(crate) enum Bound {
    Unix(Listener),
    Tcp(std::net::TcpListener),
}

/// Makes the socket, if the configuration asks for metrics. This sets the umask for a moment, so there should be no other
/// thread yet.
pub(crate) fn bind(options: &Options) -> io::Result<Option<Bound>> {
    let Some(listen) = &options.listen else { return Ok(None) };
    if let Some(path) = listen.strip_prefix("unix:") {
        let socket = Socket {
            path: path.into(),
            mode: "0600".into(),
            owner: None,
            group: None,
            trusted: false,
        };
        return Ok(Some(Bound::Unix(socket::bind(&socket).map_err(io::Error::other)?)));
    }
    let address: SocketAddr = listen.parse().map_err(io::Error::other)?;
    if !address.ip().is_loopback() {
        return Err(io::Error::other("`listen` is neither `unix:PATH` nor an address of loopback"));
    }
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(Some(Bound::Tcp(listener)))
}

/// The service, once it has reached its database.
pub(crate) type Started = Arc<OnceLock<Arc<Service>>>;

/// Begins to answer. This ends when the result is dropped.
pub(crate) fn start(bound: Option<Bound>, service: &Started) -> io::Result<JoinSet<()>> {
    let (mut tasks, service) = (JoinSet::new(), Arc::clone(service));
    match bound {
        None => {}
        Some(Bound::Unix(own)) => {
            let listener = own.socket()?;
            tasks.spawn(async move {
                // Its file is removed at the end.
                let _own = own;
                let mut clients = JoinSet::new();
                loop {
                    serve(listener.accept().await, &mut clients, &service).await;
                }
            });
        }
        Some(Bound::Tcp(listener)) => {
            let listener = TcpListener::from_std(listener)?;
            tasks.spawn(async move {
                let mut clients = JoinSet::new();
                loop {
                    serve(listener.accept().await, &mut clients, &service).await;
                }
            });
        }
    }
    Ok(tasks)
}

/// Serves a client, or waits a moment if there is none for lack of descriptors, for example.
async fn serve<A>(
    accepted: io::Result<(impl AsyncRead + AsyncWrite + Send + Unpin + 'static, A)>,
    clients: &mut JoinSet<()>,
    service: &Started,
) {
    match accepted {
        Ok((stream, _)) => {
            while clients.len() >= CLIENTS {
                clients.join_next().await;
            }
            let service = Arc::clone(service);
            clients.spawn(async move {
                let _ = timeout(LIMIT, answer(stream, &service)).await;
            });
        }
        Err(error) => {
            tracing::warn!(%error, "metrics are not served for a moment");
            sleep(AGAIN).await;
        }
    }
}

/// Answers any request with the metrics. Before the service has reached its database, there are none.
async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    service: &OnceLock<Arc<Service>>,
) -> io::Result<()> {
    let mut request = Vec::new();
    let mut limited = (&mut stream).take(8192);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if limited.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, text) = match service.get() {
        Some(service) => ("200 OK", metrics::text(service)),
        None => ("503 Service Unavailable", "The service waits for its database.\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
