//! Many connections at once, each login on a new one; and many that are idle.

use core::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{sync::Arc, time::Instant};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    dialogue::{Dialogue, Talk},
    process::{Times, Usage},
    servers::Server,
};

/// How long a connection that failed waits before the next, so that a server that is gone is not
/// asked a hundred thousand times.
const PAUSE: Duration = Duration::from_millis(50);

/// How many idle connections are opened at once.
const OPENERS: usize = 64;

/// How long that may take in all.
const OPENING: Duration = Duration::from_secs(60);

/// How long the connections are idle before the memory is read: what was freed is to be free.
const SETTLE: Duration = Duration::from_secs(1);

/// What bounds a row.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) span: Duration,
    pub(crate) logins: usize,
    pub(crate) timeout: Duration,
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) at_once: usize,
    /// From the first connect to the last close.
    pub(crate) seconds: f64,
    pub(crate) tally: Tally,
    pub(crate) times: Times,
}

impl Row {
    pub(crate) fn rate(&self) -> f64 {
        self.tally.times.len() as f64 / self.seconds
    }

    /// The server's processor time for a login, in microseconds.
    pub(crate) fn cost(&self) -> f64 {
        self.times.server.total() * 1e6 / self.tally.times.len().max(1) as f64
    }
}

/// What became of the logins.
#[derive(Default)]
pub(crate) struct Tally {
    /// How long each took that succeeded, from connect to close; sorted in the end.
    times: Vec<Duration>,
    pub(crate) failed: usize,
    pub(crate) timed_out: usize,
    /// How the first that failed did so.
    pub(crate) why: Option<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.why = self.why.take().or(other.why);
    }

    pub(crate) fn done(&self) -> usize {
        self.times.len()
    }

    /// The time that so many of a hundred logins did not exceed.
    pub(crate) fn percentile(&self, of_hundred: usize) -> Option<Duration> {
        let rank = (self.times.len() * of_hundred).div_ceil(100);
        self.times.get(rank.checked_sub(1)?).copied()
    }
}

/// Measures so many connections at once.
pub(crate) async fn row(
    dialogue: &Arc<Dialogue>,
    server: &Server,
    at_once: usize,
    limits: Limits,
) -> Row {
    let before = server.times();
    let (began, begun) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..at_once {
        workers.spawn(work(Arc::clone(dialogue), began, Arc::clone(&begun), limits));
    }
    let mut tally = Tally::default();
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(part) => tally.add(part),
            Err(error) => {
                tally.add(Tally { failed: 1, why: Some(error.to_string()), ..Tally::default() })
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    tally.times.sort_unstable();
    let times = server.times().since(before, began);
    Row { at_once, seconds, tally, times }
}

/// One login after the other. The first is always begun, the last always ended.
async fn work(
    dialogue: Arc<Dialogue>,
    began: Instant,
    begun: Arc<AtomicUsize>,
    limits: Limits,
) -> Tally {
    let mut tally = Tally::default();
    loop {
        if begun.fetch_add(1, Ordering::Relaxed) >= limits.logins {
            return tally;
        }
        let connect = Instant::now();
        match timeout(limits.timeout, dialogue.run()).await {
            Ok(Ok(())) => tally.times.push(connect.elapsed()),
            Ok(Err(error)) => {
                tally.failed += 1;
                tally.why.get_or_insert_with(|| error.to_string());
                sleep(PAUSE).await;
            }
            Err(_) => tally.timed_out += 1,
        }
        if began.elapsed() >= limits.span {
            return tally;
        }
    }
}

/// What idle connections cost the server.
pub(crate) struct Idle {
    pub(crate) held: usize,
    pub(crate) failed: usize,
    pub(crate) before: Usage,
    pub(crate) during: Usage,
}

impl Idle {
    /// Memory for each connection.
    pub(crate) fn kibibytes(&self) -> f64 {
        let grown = self.during.memory as f64 - self.before.memory as f64;
        grown / 1024.0 / self.held.max(1) as f64
    }
}

/// Opens that many connections, and looks at the server while they are idle.
pub(crate) async fn idle(dialogue: &Arc<Dialogue>, server: &Server, number: usize) -> Idle {
    let before = server.usage();
    let (began, begun) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut openers = JoinSet::new();
    for _ in 0..OPENERS {
        openers.spawn(open(Arc::clone(dialogue), began, Arc::clone(&begun), number));
    }
    let mut held = Vec::new();
    while let Some(ended) = openers.join_next().await {
        held.extend(ended.unwrap_or_default());
    }
    sleep(SETTLE).await;
    let during = server.usage();
    Idle { held: held.len(), failed: number.saturating_sub(held.len()), before, during }
}

async fn open(
    dialogue: Arc<Dialogue>,
    began: Instant,
    begun: Arc<AtomicUsize>,
    number: usize,
) -> Vec<Talk> {
    let mut held = Vec::new();
    while begun.fetch_add(1, Ordering::Relaxed) < number {
        let rest = OPENING.saturating_sub(began.elapsed());
        if let Ok(Ok(connection)) = timeout(rest, dialogue.hold()).await {
            held.push(connection);
        }
    }
    held
}
