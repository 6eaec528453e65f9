//! The thread that computes argon2, so that the loop that serves never does.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, channel, sync_channel},
    },
    thread,
};

use smtp_auth::sasl::QueryJob;

use crate::store::Store;

/// How many passwords may wait: at some 30 ms each, the last waits for a second.
pub(crate) const QUEUE: usize = 32;

/// One thread, which ends with this. More of them on one queue would use more processors; each takes
/// argon2's 19 MiB while it computes.
pub(crate) struct Worker {
    jobs: SyncSender<(usize, QueryJob)>,
    /// With the number of the connection that asked. A loop around sockets is woken for each.
    pub(crate) done: Receiver<(usize, QueryJob)>,
}

impl Worker {
    pub(crate) fn start(store: Arc<Store>) -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<(usize, QueryJob)>(QUEUE);
        let (answers, done) = channel();
        thread::Builder::new().name("argon2".into()).spawn(move || {
            for (number, mut job) in queue {
                job.query().answer_with(&*store);
                // Where the loop is gone, the queue has come to its end.
                let _ = answers.send((number, job));
            }
        })?;
        Ok(Self { jobs, done })
    }

    /// Whether there is room: if not, nothing is done, as more waiting would help nobody.
    pub(crate) fn take(&self, number: usize, job: QueryJob) -> bool {
        self.jobs.try_send((number, job)).is_ok()
    }
}
