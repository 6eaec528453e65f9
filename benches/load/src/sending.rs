//! Messages, one after the other on each of many connections.

use core::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{io, sync::Arc, time::Instant};

use tokio::{task::JoinSet, time::timeout};

use crate::{
    Result,
    dialogue::{Dialogue, Talk},
    message::{Message, Size},
    process::Times,
    servers::Server,
};

/// Octets of all messages of a row at most: a server may keep them, in memory.
const MOST: usize = 4_000_000_000;

/// What bounds a row.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    /// Each message has a connection of its own, which counts with it.
    pub(crate) connect_each: bool,
    pub(crate) span: Duration,
    pub(crate) messages: usize,
    /// Of a message, and of the first on all connections together.
    pub(crate) timeout: Duration,
}

/// A row of the table: messages that the server has acknowledged, every one.
pub(crate) struct Sent {
    pub(crate) size: Size,
    pub(crate) connections: usize,
    pub(crate) messages: usize,
    /// From the first command to the last reply.
    pub(crate) seconds: f64,
    pub(crate) times: Times,
}

impl Sent {
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// Megabytes, of 1,000,000 octets, a second.
    pub(crate) fn megabytes(&self) -> f64 {
        self.rate() * self.size.octets() as f64 / 1e6
    }

    /// Microseconds for a message, of so many seconds in all.
    pub(crate) fn each(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.messages.max(1) as f64
    }

    /// Nanoseconds for an octet, of so many seconds in all.
    pub(crate) fn octet(&self, seconds: f64) -> f64 {
        self.each(seconds) * 1e3 / self.size.octets() as f64
    }
}

/// Sends to a server that has taken no message yet. Fails if any is not acknowledged, or not kept.
pub(crate) async fn row(
    dialogue: Dialogue,
    server: &Server,
    size: Size,
    limits: Limits,
) -> Result<Sent> {
    let limits = Limits { messages: limits.messages.min(MOST / size.octets()), ..limits };
    let work = Work { dialogue, message: Message::new(size), limits, begun: AtomicUsize::new(0) };
    let (work, connections) = (Arc::new(work), limits.connections);
    let talks = timeout(limits.timeout, open(&work)).await;
    let late = |_| format!("no first message on each connection in {:?}", limits.timeout);
    let talks = talks.map_err(late)??;
    server.keeps(connections, size).await?;

    let (before, began) = (server.times(), Instant::now());
    let mut workers = JoinSet::new();
    for talk in talks {
        workers.spawn(Arc::clone(&work).run(talk, began));
    }
    let (mut messages, mut talks) = (0, Vec::new());
    while let Some(ended) = workers.join_next().await {
        let (sent, talk) = ended??;
        messages += sent;
        // None closes while others send.
        talks.push(talk);
    }
    let seconds = began.elapsed().as_secs_f64();
    // What the server does after its reply, it does for the messages, too.
    server.keeps(connections + messages, size).await?;
    let times = server.times().since(before, began);
    Ok(Sent { size, connections, messages, seconds, times })
}

/// Opens the connections, and sends a message on each: what a server starts for the first one does not
/// count.
async fn open(work: &Arc<Work>) -> Result<Vec<Talk>> {
    let mut openers = JoinSet::new();
    for _ in 0..work.limits.connections {
        openers.spawn(Arc::clone(work).first());
    }
    let mut talks = Vec::new();
    while let Some(opened) = openers.join_next().await {
        talks.push(opened??);
    }
    Ok(talks)
}

/// What the connections of a row have in common.
struct Work {
    dialogue: Dialogue,
    message: Message,
    limits: Limits,
    begun: AtomicUsize,
}

impl Work {
    async fn first(self: Arc<Self>) -> io::Result<Talk> {
        let mut talk = self.dialogue.signed_in().await?;
        talk.submit(&self.message).await?;
        Ok(talk)
    }

    /// One message after the other, the first at once, and how many they were.
    async fn run(self: Arc<Self>, mut talk: Talk, began: Instant) -> Result<(usize, Talk)> {
        let mut sent = 0;
        while self.begun.fetch_add(1, Ordering::Relaxed) < self.limits.messages {
            let limit = self.limits.timeout;
            let late = |_| format!("a message was not acknowledged in {limit:?}");
            timeout(limit, self.one(&mut talk)).await.map_err(late)??;
            sent += 1;
            if began.elapsed() >= self.limits.span {
                break;
            }
        }
        Ok((sent, talk))
    }

    async fn one(self: &Arc<Self>, talk: &mut Talk) -> io::Result<()> {
        match self.limits.connect_each {
            true => Arc::clone(self).first().await?.quit().await,
            false => talk.submit(&self.message).await,
        }
    }
}
