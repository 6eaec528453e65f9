//! Threads that compute password hashes.

use core::{fmt, num::NonZeroUsize, panic::AssertUnwindSafe};
use std::{
    collections::VecDeque,
    panic::catch_unwind,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::oneshot;

/// A fixed number of threads with a bounded queue, so that a crowd of clients takes neither more memory nor more time
/// than the queue allows, and the runtime's threads never compute a hash. The threads end when the last handle is
/// dropped.
///
/// The driver's `Blocking` answers a whole question on its threads. Here the database is asked first, without a thread,
/// and only the hash is computed on one: a slow database would otherwise occupy all of them.
#[derive(Clone)]
pub(crate) struct Hashing(Arc<Handle>);

/// The queue is full, or the work has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

type Work = Box<dyn FnOnce() + Send>;

impl Hashing {
    /// Starts that many threads. At most `queue` pieces of work wait for a thread.
    ///
    /// # Errors
    /// The operating system starts no thread.
    pub(crate) fn start(threads: NonZeroUsize, queue: usize) -> std::io::Result<Self> {
        let pool = Arc::new(Pool {
            state: Mutex::default(),
            ready: Condvar::new(),
            threads: threads.get(),
            queue,
        });
        let handle = Handle(pool);
        for _ in 0..threads.get() {
            let pool = Arc::clone(&handle.0);
            thread::Builder::new().name("hashing".into()).spawn(move || pool.work())?;
        }
        Ok(Self(Arc::new(handle)))
    }

    /// Runs the work on one of the threads, in the order of the calls.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (done, result) = oneshot::channel();
        self.0.0.push(Box::new(move || {
            // A client that has gone needs no hash.
            if !done.is_closed() {
                let _ = done.send(work());
            }
        }))?;
        result.await.map_err(|_| Busy)
    }

    /// Returns how many pieces of work wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.0.0.lock().waiting.len()
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashing").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

struct Handle(Arc<Pool>);

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        state.waiting.clear();
        drop(state);
        self.0.ready.notify_all();
    }
}

struct Pool {
    state: Mutex<State>,
    /// Work waits, or there will be none any more.
    ready: Condvar,
    threads: usize,
    queue: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    busy: usize,
    is_closed: bool,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, work: Work) -> Result<(), Busy> {
        let mut state = self.lock();
        // A free thread takes one that does not have to wait.
        if state.waiting.len() >= self.queue + (self.threads - state.busy) {
            return Err(Busy);
        }
        state.waiting.push_back(work);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    fn next(&self) -> Option<Work> {
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.is_closed;
        let state = self.ready.wait_while(self.lock(), is_idle);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let work = state.waiting.pop_front()?;
        state.busy += 1;
        Some(work)
    }

    fn work(&self) {
        while let Some(work) = self.next() {
            let _ = catch_unwind(AssertUnwindSafe(work));
            self.lock().busy -= 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_full_queue_and_a_panic_are_busy_and_the_threads_go_on() {
        let hashing = Hashing::start(NonZeroUsize::MIN, 1).unwrap();
        let (begun, has_begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let own = hashing.clone();
        let first = tokio::spawn(async move {
            let work = move || {
                begun.send(()).unwrap();
                released.recv().is_ok()
            };
            own.run(work).await
        });
        tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
        let own = hashing.clone();
        let second = tokio::spawn(async move { own.run(|| 2).await });
        while hashing.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hashing.run(|| 3).await, Err(Busy));
        release.send(()).unwrap();
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(true), Ok(2)));
        assert_eq!(hashing.run(|| -> u8 { panic!("for the test") }).await, Err(Busy));
        assert_eq!(hashing.run(|| 4).await, Ok(4));
    }
}
