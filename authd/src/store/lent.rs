//! Connections in constant use.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Any, pool::PoolConnection};

/// A connection that has been idle for longer is tested before it is used: the database may have been restarted.
const FRESH: Duration = Duration::from_secs(1);

/// Connections that were used a moment ago. The pool tests each connection that comes back to it, by a round trip to
/// the database, which would double the cost of a look-up.
#[derive(Clone, Debug)]
pub(super) struct Lent {
    connections: Arc<Mutex<Vec<(Instant, PoolConnection<Any>)>>>,
    /// The others stay in the pool, for queries of other kinds.
    most: usize,
}

impl Lent {
    pub(super) fn new(most: usize) -> Self {
        Self { connections: Arc::default(), most }
    }

    /// Takes a connection that needs no test. Others go back to the pool.
    pub(super) fn take(&self) -> Option<PoolConnection<Any>> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let (last_used, connection) = connections.pop()?;
        if last_used.elapsed() < FRESH {
            return Some(connection);
        }
        connections.clear();
        None
    }

    /// Keeps a connection whose query has been answered.
    pub(super) fn keep(&self, connection: PoolConnection<Any>) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.len() < self.most {
            connections.push((Instant::now(), connection));
        }
    }

    /// Gives all connections back to the pool.
    pub(super) fn clear(&self) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
