//! The service: from the first socket to the end of the last connection.

use core::{future::Future, time::Duration};
use std::{io, path::PathBuf, sync::Arc};

use rustix::process::{Resource, getrlimit, setrlimit};
use smtp_auth::sasl::server::Config as Sasl;
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    authenticator::{OfferError, Service},
    config::{Config, ConfigError, Log},
    connection,
    hashing::Hashing,
    limiter,
    log::Filter,
    metrics_listener,
    socket::{self, Listener, SocketError},
    store::{Store, StoreError},
    unavailable,
};

/// How often the service looks at the accounts again, to offer SCRAM or not, and to adapt its decoys.
const REFRESH: Duration = Duration::from_secs(30);

/// The time that open exchanges have to end when the service stops.
const GRACE: Duration = Duration::from_secs(10);

/// The time that the last exchange of the limits has to end.
const LAST_EXCHANGE: Duration = Duration::from_secs(3);

/// The time that the last queries have to end.
const LAST_QUERIES: Duration = Duration::from_secs(3);

/// The time after which an accept that has failed, for lack of descriptors, is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// The open files of a connection to the database: a SQLite database has three.
const FILES_OF_DATABASE: u64 = 3;

/// The other open files of the process: sockets, clients that read metrics, the log and the runtime.
const OTHER_FILES: u64 = 64;

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error("the metrics cannot be served: {0}")]
    Metrics(io::Error),
    #[error("the operating system refuses what the service needs: {0}")]
    System(#[from] io::Error),
}

/// Serves until SIGTERM or SIGINT. `path` is the file that SIGHUP reads again.
pub(crate) async fn serve(
    mut config: Config,
    path: Option<PathBuf>,
    filter: Filter,
) -> Result<(), ServeError> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    // Sockets come before threads and the database, because their modes are set by the umask of the whole process.
    let listeners = listeners(&config)?;
    let room = room(&config, listeners.len());
    let metrics = metrics_listener::bind(&config.metrics).map_err(ServeError::Metrics)?;
    let started = metrics_listener::Started::default();
    let _metrics = metrics_listener::start(metrics, &started).map_err(ServeError::Metrics)?;
    let service = tokio::select! {
        service = start(&config, &listeners, room) => Arc::new(service?),
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let _ = started.set(Arc::clone(&service));
    let every = Duration::from_millis(config.limits.exchange_ms);
    let (stop_exchange, stopped) = oneshot::channel();
    let exchange =
        limiter::exchange(Arc::clone(&service.limiter), service.store.clone(), every, stopped);
    let exchanging = tokio::spawn(exchange);
    let (stop, stopping) = watch::channel(false);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let (service, stopping) = (Arc::clone(&service), stopping.clone());
        accepting.spawn(serve_socket(listener, room, service, stopping));
    }
    tracing::info!("the service is ready");
    socket::notify("READY=1");
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    refresh.tick().await;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => reload(&mut config, path.as_deref(), &filter, &service).await,
            _ = refresh.tick() => {
                if let Err(error) = service.refresh(&config).await {
                    tracing::warn!(%error, "the accounts could not be looked at: the offer stays");
                }
            }
        }
    }
    tracing::info!("stopping");
    socket::notify("STOPPING=1");
    let _ = stop.send(true);
    if timeout(GRACE, async { while accepting.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("exchanges that were still open have been broken off");
    }
    accepting.shutdown().await;
    // The failures since the last exchange still count after a restart, and for the other processes.
    drop(stop_exchange);
    if timeout(LAST_EXCHANGE, exchanging).await.is_err() {
        tracing::warn!("the latest failures could not be exchanged, and will not be counted");
    }
    if timeout(LAST_QUERIES, service.store.close()).await.is_err() {
        tracing::warn!("the last queries have been broken off");
    }
    Ok(())
}

/// Reads the configuration's file again, if there is one, and looks at the accounts. Some settings stay as they are until a
/// restart.
async fn reload(
    config: &mut Config,
    path: Option<&std::path::Path>,
    filter: &Filter,
    service: &Service,
) {
    let new = match path.map(|path| Config::load(Some(path))) {
        Some(Ok(new)) => new,
        Some(Err(error)) => return tracing::error!(%error, "the configuration is not reloaded"),
        None => config.clone(),
    };
    let settings = config.changed_until_restart(&new).join(", ");
    if !settings.is_empty() {
        tracing::warn!(settings, "changes of these settings take effect at the next start");
    }
    let mut changed = config.clone();
    changed.accounts = new.accounts;
    changed.hostname = new.hostname;
    changed.limits.failure_delay_ms = new.limits.failure_delay_ms;
    changed.log = Log { format: config.log.format, ..new.log };
    match service.refresh(&changed).await {
        Ok(()) => tracing::info!("reloaded"),
        Err(error @ OfferError::Config(_)) => {
            return tracing::error!(%error, "the configuration is not reloaded");
        }
        // The next look at the accounts is with the new settings.
        Err(error) => {
            tracing::error!(%error, "the accounts could not be looked at: the offer stays");
        }
    }
    *config = changed;
    if !filter.set(&config.log) {
        tracing::error!("the log's new filter cannot be read: the old one stays");
    }
}

/// Reads what the service needs from the database, and waits for the database if it does not answer yet. Meanwhile, every
/// attempt is a temporary failure.
async fn start(
    config: &Config,
    listeners: &[Listener],
    room: usize,
) -> Result<Service, ServeError> {
    let store = Store::connect_later(&config.database()?)?;
    let hashing = Hashing::start(config.threads(), config.hashing.queue)?;
    let mut answering = JoinSet::new();
    loop {
        let started = async {
            store.migrate().await?;
            Service::start(config, store.clone(), hashing.clone()).await
        };
        match started.await {
            Ok(service) => {
                limiter::read_all(&service.limiter, &service.store).await;
                return Ok(service);
            }
            Err(OfferError::Store(error)) if error.may_pass() => {
                if answering.is_empty() {
                    tracing::error!(%error, "waiting for the database");
                    answering = answer_unavailable(config, listeners, room)?;
                    // Mail servers that wait for this service can start.
                    socket::notify("READY=1");
                }
                sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Begins to answer every attempt with a temporary failure. This ends when the result is dropped: the mail servers then
/// connect again.
fn answer_unavailable(
    config: &Config,
    listeners: &[Listener],
    room: usize,
) -> Result<JoinSet<()>, ServeError> {
    let sasl = Sasl::builder(&config.hostname).mechanisms(config.mechanisms()).build();
    let sasl = Arc::new(sasl.map_err(OfferError::from)?);
    let mut answering = JoinSet::new();
    for listener in listeners {
        let (socket, sasl) = (listener.socket()?, Arc::clone(&sasl));
        answering.spawn(async move {
            let serve = |stream| unavailable::serve(stream, Arc::clone(&sasl));
            accept(socket, room, &mut JoinSet::new(), serve).await;
        });
    }
    Ok(answering)
}

fn listeners(config: &Config) -> Result<Vec<Listener>, ServeError> {
    let passed = socket::passed(&config.sockets)?;
    if !passed.is_empty() {
        return Ok(passed);
    }
    if config.sockets.is_empty() {
        return Err(ConfigError::NoSocket.into());
    }
    Ok(config.sockets.iter().map(socket::bind).collect::<Result<_, _>>()?)
}

/// Serves the connections of a socket until the service stops, and then waits for their exchanges to end.
async fn serve_socket(
    mut listener: Listener,
    room: usize,
    service: Arc<Service>,
    mut stop: watch::Receiver<bool>,
) {
    let (is_trusted, mut connections) = (listener.is_trusted, JoinSet::new());
    let stopping = stop.clone();
    let serve =
        |stream| connection::serve(stream, Arc::clone(&service), is_trusted, stopping.clone());
    match listener.socket() {
        Ok(socket) => tokio::select! {
            () = accept(socket, room, &mut connections, serve) => {}
            _ = stop.changed() => {}
        },
        Err(error) => tracing::error!(%error, "a socket cannot be used"),
    }
    listener.remove();
    while connections.join_next().await.is_some() {}
}

/// Accepts connections, and serves each in a task of its own. This ends when it is dropped.
async fn accept<F>(
    socket: UnixListener,
    room: usize,
    connections: &mut JoinSet<()>,
    serve: impl Fn(UnixStream) -> F,
) where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        // With no room, further connections wait in the socket's queue.
        let accepted = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = socket.accept(), if connections.len() < room => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let served = serve(stream);
                connections.spawn(async move {
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "a connection was broken off");
                    }
                });
            }
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                sleep(AGAIN).await;
            }
        }
    }
}

/// Returns how many connections each socket may have. Every connection takes a descriptor, and the database needs some as
/// well, so the limit of open files is raised as far as it may be, and bounds the connections.
fn room(config: &Config, sockets: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let others = OTHER_FILES + FILES_OF_DATABASE * u64::from(config.connections);
    let most = usize::try_from(files.saturating_sub(others)).unwrap_or(usize::MAX).max(1);
    if most < config.max_connections {
        tracing::warn!(
            files,
            connections = most,
            "the limit of open files allows fewer connections than `max_connections`"
        );
    }
    (config.max_connections.min(most) / sockets.max(1)).max(1)
}
