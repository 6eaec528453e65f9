//! The worker threads on which the store runs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use mio::{Token, Waker};
use smtp_auth::sasl::{Authenticator, QueryJob};

pub(crate) const WORKERS: usize = 4;

/// The maximum number of questions that wait for a worker. A question stays in the queue even if its client has
/// disconnected, so the number of connections does not bound the queue.
const MAX_WAITING: usize = 1000;

/// The worker threads. Each question is sent together with the token of its connection.
pub(crate) struct Workers {
    jobs: SyncSender<(Token, QueryJob)>,
    pub(crate) answers: Receiver<(Token, QueryJob)>,
}

impl Workers {
    /// Starts the threads. They call the waker after each answer.
    pub(crate) fn start<A>(users: A, waker: Waker) -> Self
    where
        A: Authenticator + Send + Sync + 'static,
    {
        let (jobs, queue) = mpsc::sync_channel::<(Token, QueryJob)>(MAX_WAITING);
        let (done, answers) = mpsc::channel();
        let shared = Arc::new((users, waker, Mutex::new(queue)));
        for _ in 0..WORKERS {
            let (shared, done) = (Arc::clone(&shared), done.clone());
            thread::spawn(move || {
                let (users, waker, queue) = &*shared;
                // One thread waits for a question, and the others wait for the lock, which is released at the end of
                // this line. All threads end with the loop.
                while let Some((token, mut job)) = queue.lock().ok().and_then(|q| q.recv().ok()) {
                    // A panic of the store affects only this question: a question without an answer counts as
                    // `TempFail`.
                    let work = || job.query().answer_with(users);
                    let _ = catch_unwind(AssertUnwindSafe(work));
                    if done.send((token, job)).is_err() || waker.wake().is_err() {
                        return;
                    }
                }
            });
        }
        Self { jobs, answers }
    }

    /// Adds the question to the queue without blocking, and returns whether there was room for it.
    pub(crate) fn take(&self, token: Token, job: QueryJob) -> bool {
        self.jobs.try_send((token, job)).is_ok()
    }
}
