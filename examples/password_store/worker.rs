//! The thread that computes argon2, so that the loop that serves never does.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use smtp_auth::{Secret, sasl::CheckPassword};

use crate::store::Store;

/// How many passwords may wait: at some 30 ms each, the last waits for a second.
pub(crate) const QUEUE: usize = 32;

/// One thread, which ends with this. More of them on one queue would use more processors; each takes
/// argon2's 19 MiB while it computes.
pub(crate) struct Worker {
    jobs: SyncSender<Job>,
}

struct Job {
    name: String,
    password: Secret,
    done: Box<dyn FnOnce(bool) + Send>,
}

impl Worker {
    pub(crate) fn start(store: Arc<Store>) -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        thread::Builder::new().name("argon2".into()).spawn(move || {
            for Job { name, password, done } in queue {
                done(store.check_password(&name, password.expose()));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Has the password checked. `done` is called on the worker's thread, and wakes the loop. Returns
    /// whether there is room: if not, nothing is done, as more waiting would help nobody.
    pub(crate) fn check(
        &self,
        ask: &CheckPassword,
        done: impl FnOnce(bool) + Send + 'static,
    ) -> bool {
        let (name, password) = (ask.authcid().to_owned(), ask.password().clone());
        self.jobs.try_send(Job { name, password, done: Box::new(done) }).is_ok()
    }
}
