//! The threads on which the store is asked.

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

/// How many questions wait for a worker at most. One whose client went away is still in the queue,
/// so that the number of connections bounds nothing.
const MAX_WAITING: usize = 1000;

/// Each question travels with the token of the connection that asks it.
pub(crate) struct Workers {
    jobs: SyncSender<(Token, QueryJob)>,
    pub(crate) answers: Receiver<(Token, QueryJob)>,
}

impl Workers {
    /// Each answer is followed by a call of the waker.
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
                // One thread waits for a question, the others for the lock, which is let go with the
                // line. All end with the loop.
                while let Some((token, mut job)) = queue.lock().ok().and_then(|q| q.recv().ok()) {
                    // A panic of the store ends this question alone: what got no answer is taken as
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

    /// Whether the question could be taken. Never waits.
    pub(crate) fn take(&self, token: Token, job: QueryJob) -> bool {
        self.jobs.try_send((token, job)).is_ok()
    }
}
