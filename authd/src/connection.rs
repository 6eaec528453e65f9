//! One connection of a mail server.

use core::{
    future::Future,
    pin::{Pin, pin},
    time::Duration,
};
use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    process,
    sync::{Arc, OnceLock, atomic::Ordering},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use smtp_auth::{
    dovecot::{CloseReason, Cookie, Event, Held, MAX_EXCHANGES, Request, Session},
    sasl::{Failure, Mechanism, Query, QueryJob},
};
use tokio::{
    net::UnixStream,
    sync::watch,
    time::{sleep, timeout},
};
use tracing::field::display;

use crate::{
    authenticator::{Asked, LookUp, Offer, Service},
    clock::now_ms,
    config::MAX_FAILURE_DELAY_MS,
    stream::Stream,
};

/// The time limit of an answer to a question: of the query, the wait for a thread, and the hash together.
///
/// Postfix waits for at most 10 seconds for the reply to a request, and then gives the service up. So an answer, and
/// the time for which the reply to a failed attempt is held back after it, take at most 8 seconds together.
const ANSWER: Duration = Duration::from_secs(5);

const _: () = assert!(ANSWER.as_millis() as u64 + MAX_FAILURE_DELAY_MS <= 8000);

/// How long a service that stops waits for the response of a client. Postfix leaves the exchange of a user who hangs up
/// open, and no response comes.
const LAST_RESPONSE: Duration = Duration::from_secs(1);

/// The maximum number of answers and pauses that run at once on a connection.
const MAX_TASKS: usize = 2 * MAX_EXCHANGES;

type Task = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The end of a task.
enum Done {
    Answered(u32, Box<QueryJob>, Option<LookUp>),
    Released(Held),
}

struct Connection {
    service: Arc<Service>,
    offer: Arc<Offer>,
    /// Whether the client addresses that the mail server sends are believed.
    is_trusted: bool,
    session: Session,
    /// Answers and pauses. They run within the connection, without a task of their own that would have to be woken.
    tasks: FuturesUnordered<Task>,
    /// The look-ups of the open exchanges.
    looked_up: HashMap<u32, LookUp>,
}

/// Serves the connection until the mail server hangs up, or until the service stops and no exchange is open. A
/// connection without exchanges may stay open for days.
pub(crate) async fn serve(
    stream: UnixStream,
    service: Arc<Service>,
    is_trusted: bool,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let stream = Stream::new(stream)?;
    let cookie = Cookie::random().map_err(|error| io::Error::other(error.to_string()))?;
    let (offer, number) = (service.offer(), service.metrics.connected());
    let mut session = Session::new(Arc::clone(&offer.sasl), process::id(), number, cookie);
    if tracing::enabled!(target: "smtp_authd::dialogue", tracing::Level::TRACE) {
        session.trace(
            move |side, line| tracing::trace!(target: "smtp_authd::dialogue", number, ?side, line),
        );
    }
    let (tasks, looked_up) = (FuturesUnordered::new(), HashMap::new());
    let mut connection = Connection { service, offer, is_trusted, session, tasks, looked_up };
    let mut out = Vec::new();
    loop {
        let closed = connection.advance(&mut out);
        if !out.is_empty() {
            connection.write(&stream, &out).await?;
            out = Vec::new();
        }
        if let Some(why) = closed {
            tracing::debug!(number, %why, "closed");
            return Ok(());
        }
        let stops = *stop.borrow();
        if stops && connection.session.open_exchanges() == 0 {
            return Ok(());
        }
        let abandoned = stops && connection.session.is_waiting_for_client();
        let idle = connection.tasks.is_empty();
        tokio::select! {
            // A client that cancels its exchanges cannot make the tasks of these pile up.
            is_open = stream.read(&mut connection.session), if connection.tasks.len() < MAX_TASKS => {
                if !is_open? {
                    return Ok(());
                }
            }
            Some(done) = connection.tasks.next(), if !idle => connection.take(done),
            () = sleep(LAST_RESPONSE), if abandoned => return Ok(()),
            changed = stop.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

impl Connection {
    /// Writes. The answers that are on their way go on meanwhile: a client that does not read must not keep a connection to
    /// the database.
    async fn write(&mut self, stream: &Stream, out: &[u8]) -> io::Result<()> {
        let mut written = pin!(stream.write_all(out));
        loop {
            tokio::select! {
                written = &mut written => return written,
                Some(done) = self.tasks.next(), if !self.tasks.is_empty() => self.take(done),
            }
        }
    }

    /// Moves on until input is needed, or the connection is to be closed.
    fn advance(&mut self, out: &mut Vec<u8>) -> Option<CloseReason> {
        loop {
            match self.session.next(out) {
                Event::NeedInput => return None,
                Event::Close(why) => return Some(why),
                // The answer needs neither the database nor a hash.
                Event::Query(request, Query::Authorize(ask)) => {
                    let address = address(request, self.is_trusted);
                    let looked_up = self.looked_up.get(&request.id());
                    ask.answer(self.service.authorize(ask, address, looked_up));
                }
                Event::Query(request, query) => {
                    let Some(job) = query.job() else {
                        query.not_implemented();
                        continue;
                    };
                    let asked = Asked {
                        service: Arc::clone(&self.service),
                        offer: Arc::clone(&self.offer),
                        address: address(request, self.is_trusted),
                        looked_up: OnceLock::new(),
                    };
                    self.tasks.push(Box::pin(answer(request.id(), asked, job)));
                }
                Event::Authenticated(request, identity) => {
                    let look_up = self.looked_up.remove(&request.id());
                    let used = look_up.and_then(|look_up| look_up.password);
                    let (account, mechanism) = (identity.authcid(), identity.mechanism().name());
                    let address = address(request, self.is_trusted);
                    self.service.metrics.succeeded(mechanism);
                    self.service.authenticated(account, address, used);
                    let account = if self.service.offer().logs_names { account } else { "***" };
                    let address = address.map(display);
                    tracing::info!(mechanism, account, address, "authenticated");
                }
                Event::AuthFailed(failed) => {
                    let (why, request) = (failed.why, failed.request);
                    // A name that is not a mechanism's is of the client's choice, and is not shown.
                    let mechanism = failed.mechanism().map_or("other", Mechanism::name);
                    let look_up = self.looked_up.remove(&request.id());
                    self.service.metrics.failed(mechanism, why);
                    let address = address(request, self.is_trusted);
                    // The name of an account that exists is shown, and never the name that the user sent.
                    let locked = look_up.as_ref().and_then(|look_up| look_up.locked);
                    let account = look_up.and_then(|look_up| look_up.password);
                    let account = account.filter(|_| self.service.offer().logs_names);
                    let account = account.as_ref().map(|used| used.account.as_str());
                    let shown = address.map(display);
                    tracing::info!(
                        mechanism,
                        reason = why.to_string(),
                        locked,
                        account,
                        address = shown,
                        "not authenticated"
                    );
                    if why.is_attempt() {
                        let name = failed.account().or(failed.authcid());
                        self.service.limiter.failed(address, name, now_ms());
                    }
                    if is_delayed(why) {
                        let (held, delay) = (failed.hold(), self.service.offer().failure_delay);
                        self.tasks.push(Box::pin(async move {
                            sleep(delay).await;
                            Done::Released(held)
                        }));
                    }
                }
            }
        }
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Answered(id, job, look_up) => {
                if self.session.answer_from(*job) {
                    self.looked_up.extend(look_up.map(|look_up| (id, look_up)));
                }
            }
            Done::Released(held) => {
                self.session.release(held);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.service.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers a question. The job's answer is a temporary failure until there is another one, so an answer that takes too
/// long is one.
async fn answer(id: u32, asked: Asked, mut job: QueryJob) -> Done {
    let _ = timeout(ANSWER, job.query().answer_with_async(&asked)).await;
    Done::Answered(id, Box::new(job), asked.looked_up.into_inner())
}

fn address(request: &Request, is_trusted: bool) -> Option<IpAddr> {
    request.rip().filter(|_| is_trusted)
}

/// A failure that is not the client's is answered at once.
fn is_delayed(why: Failure) -> bool {
    !matches!(why, Failure::TempFail | Failure::NotImplemented(_) | Failure::Cancelled)
}
