//! The accounts, and the threads that look them up.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread,
};

use mio::{Token, Waker};
use smtp_auth::{
    Secret,
    sasl::{Answer, Query, ScramHash, ScramKeys, server::Config},
};

const WORKERS: usize = 4;

/// How many questions wait for a worker at most. One whose client went away is still in the queue,
/// so that the number of connections bounds nothing.
const MAX_WAITING: usize = 1000;

/// What is stored of passwords: the keys of SCRAM, which can check those of PLAIN, too.
pub(crate) struct Store {
    keys: HashMap<&'static str, ScramKeys>,
    config: Arc<Config>,
    /// What ann's look-ups wait for.
    slow: Box<dyn Fn() + Send + Sync>,
}

impl Store {
    pub(crate) fn new(
        accounts: &[(&'static str, &str)],
        config: Arc<Config>,
        slow: impl Fn() + Send + Sync + 'static,
    ) -> Option<Self> {
        let keys = |&(name, password): &(_, &str)| {
            Some((name, ScramKeys::generate(ScramHash::Sha256, password, 4096)?))
        };
        let keys = accounts.iter().map(keys).collect::<Option<_>>()?;
        Some(Self { keys, config, slow: Box::new(slow) })
    }

    fn answer(&self, question: &Question) -> Found {
        match question {
            Question::Password(name, password) => {
                // Where there is no account, the same work is done.
                let keys = self.keys_of(name);
                let keys =
                    keys.unwrap_or_else(|| self.config.keys_of_nobody(ScramHash::Sha256, name));
                Found::Password(keys.check_password(password.expose()))
            }
            Question::Keys(name) => Found::Keys(self.keys_of(name)),
        }
    }

    fn keys_of(&self, name: &str) -> Option<ScramKeys> {
        if name == "ann" {
            (self.slow)();
        }
        self.keys.get(name).cloned()
    }
}

/// What the store needs of a query, as a copy, which outlives it.
pub(crate) enum Question {
    Password(String, Secret),
    Keys(String),
}

impl Question {
    /// `None` for what this store cannot answer.
    pub(crate) fn of(query: &Query<'_>) -> Option<Self> {
        match query {
            Query::CheckPassword(ask) => {
                Some(Self::Password(ask.authcid().to_owned(), ask.password().clone()))
            }
            Query::ScramKeys(ask) => Some(Self::Keys(ask.authcid().to_owned())),
            _ => None,
        }
    }
}

/// What it found.
pub(crate) enum Found {
    Password(bool),
    Keys(Option<ScramKeys>),
}

impl Found {
    pub(crate) fn settle(self, query: Query<'_>) {
        match (query, self) {
            (Query::CheckPassword(ask), Self::Password(right)) => ask.answer(right),
            (Query::ScramKeys(ask), Self::Keys(keys)) => ask.answer(keys),
            // The serial was that of the question, so that this is not reached.
            (query, _) => query.reject(),
        }
    }
}

/// The store cannot say now: `454`.
pub(crate) fn put_off(query: Query<'_>) {
    match query {
        Query::CheckPassword(ask) => ask.answer(Answer::TempFail),
        Query::ScramKeys(ask) => ask.answer(Answer::TempFail),
        query => query.reject(),
    }
}

/// Which query of which connection.
#[derive(Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) token: Token,
    pub(crate) serial: u64,
}

/// The threads, from the loop's side.
pub(crate) struct Workers {
    jobs: SyncSender<(Asker, Question)>,
    pub(crate) done: Receiver<(Asker, Found)>,
}

impl Workers {
    /// Each answer is followed by a call of the waker.
    pub(crate) fn start(store: Store, waker: Waker) -> Self {
        let (jobs, queue) = mpsc::sync_channel(MAX_WAITING);
        let (answers, done) = mpsc::channel();
        let shared = Arc::new((store, waker, Mutex::new(queue)));
        for _ in 0..WORKERS {
            let (shared, answers) = (Arc::clone(&shared), answers.clone());
            thread::spawn(move || {
                let (store, waker, queue) = &*shared;
                work(store, queue, &answers, waker)
            });
        }
        Self { jobs, done }
    }

    /// Whether the question could be taken. Never waits.
    pub(crate) fn ask(&self, asker: Asker, question: Question) -> bool {
        self.jobs.try_send((asker, question)).is_ok()
    }
}

/// Until the loop is gone.
fn work(
    store: &Store,
    queue: &Mutex<Receiver<(Asker, Question)>>,
    answers: &Sender<(Asker, Found)>,
    waker: &Waker,
) {
    loop {
        // One thread waits for a question, the others for the lock, which is let go with the line.
        let Some((asker, question)) = queue.lock().ok().and_then(|queue| queue.recv().ok()) else {
            return;
        };
        let found = store.answer(&question);
        if answers.send((asker, found)).is_err() || waker.wake().is_err() {
            return;
        }
    }
}
