//! The thread that computes argon2, so that the loop that serves never does.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, channel, sync_channel},
    },
    thread,
};

use smtp_auth::sasl::{Authenticator, QueryJob};

/// How many passwords may wait: at some 30 ms each, the last waits for a second.
pub(crate) const QUEUE: usize = 32;

/// One thread, which ends with this. More of them on one queue would use more processors; each keeps
/// argon2's 19 MiB.
pub(crate) struct Worker {
    jobs: SyncSender<(usize, QueryJob)>,
    /// With the number of the connection that asked. A loop around sockets is woken for each.
    pub(crate) done: Receiver<(usize, QueryJob)>,
}

impl Worker {
    pub(crate) fn start(
        users: Arc<impl Authenticator + Send + Sync + 'static>,
    ) -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<(usize, QueryJob)>(QUEUE);
        let (answers, done) = channel();
        thread::Builder::new().name("argon2".into()).spawn(move || {
            for (number, mut job) in queue {
                // A panic of the store ends this job alone: what got no answer is taken as `TempFail`.
                let work = || job.query().answer_with(&*users);
                let _ = catch_unwind(AssertUnwindSafe(work));
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

/// A store panics over one name, and the thread goes on.
#[test]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]
fn a_panic_is_a_temporary_failure() {
    use smtp_auth::sasl::{
        Answer, Channel, CheckPassword, Failure, Mechanism,
        server::{Config, Exchange, Step},
    };
    use std::time::Duration;

    struct Panics;

    impl Authenticator for Panics {
        fn mechanisms(&self) -> &[Mechanism] {
            &[Mechanism::Plain]
        }

        fn check_password(&self, ask: &CheckPassword) -> Answer {
            assert_ne!(ask.authcid(), "panic", "as a store may");
            Answer::accept(())
        }
    }

    let worker = Worker::start(Arc::new(Panics)).unwrap();
    let config = Config::builder("mail.example.org").answered_by(&Panics);
    let config = Arc::new(config.build().unwrap());
    for (name, expected) in [("panic", Err(Failure::TempFail)), ("tim", Ok(()))] {
        let response = format!("\0{name}\0secret").into_bytes();
        let mut exchange =
            Exchange::new(&config, &Channel::tls(), Mechanism::Plain, Some(response));
        assert!(worker.take(1, exchange.query().unwrap().job().unwrap()));
        let (_, job) = worker.done.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(exchange.query().unwrap().settle(job));
        let Step::Done(outcome) = exchange.step() else { panic!("it goes on") };
        assert_eq!(outcome.map(|_| ()), expected, "{name}");
    }
}
