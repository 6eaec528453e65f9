//! Stores that compute or block, on their own threads.

use alloc::{boxed::Box, collections::VecDeque, string::String, sync::Arc};
use core::{fmt, num::NonZeroUsize, panic::AssertUnwindSafe};
use std::{
    panic::catch_unwind,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use smtp_auth::sasl::{
    Answer, AsyncAuthenticator, Authenticator, Authorize, AuthorizeAnswer, CheckAnonymous,
    CheckExternal, CheckPassword, CheckToken, CramSecret, CramSecretFor, Custom, CustomAnswer,
    Failure, Mechanism, ScramKeys, ScramKeysFor, TokenAnswer,
};
use tokio::sync::oneshot;

/// The default maximum length of the queue. A waiting question uses a few hundred octets of memory, or a few kilobytes
/// if the client sends a password of the maximum length.
const QUEUE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// Turns an [`Authenticator`] that blocks, or computes for a long time, into an [`AsyncAuthenticator`].
///
/// Use it for Argon2, for a synchronous database, or for an asynchronous database combined with Argon2
/// ([below](#an-asynchronous-database-and-argon2)). A store that only queries an asynchronous database does not need
/// `Blocking`, and should implement `AsyncAuthenticator`.
///
/// The store's methods run on a fixed number of dedicated threads. While a method runs, the runtime serves other
/// connections.
///
/// | aspect | behaviour |
/// | --- | --- |
/// | the order of questions | Questions are answered in the order in which they arrive. |
/// | the queue is full | The reply is `454 4.7.0`, and the attempt does not count as failed. The maximum length of the queue bounds memory use and waiting time under heavy load. |
/// | the store panics | The reply is `454 4.7.0`, and the thread continues with the next question. |
/// | the operating system cannot start a thread | If this `Blocking` already has running threads, the question waits in the queue until one of them is free. Otherwise, the reply is `454 4.7.0`. |
/// | the client has disconnected, or a time limit has passed | If the question is still in the queue, it is skipped. If a thread has begun to answer the question, it continues until it has the answer. |
/// | a [`Custom`] question | The question is answered **on the thread that polls the future**, because the state of a custom mechanism cannot be sent to another thread. The steps of a custom mechanism must therefore be quick. |
///
/// Clones share the same threads. The threads are started when they are first needed. When the last clone is dropped,
/// each thread completes its current call to the store, and then ends.
///
/// ```
/// use smtp_auth_tokio::{
///     Blocking,
///     smtp_auth::sasl::{Answer, Authenticator, CheckPassword, Mechanism, server::Config as Sasl},
/// };
///
/// struct Users;
///
/// impl Authenticator for Users {
///     fn mechanisms(&self) -> &[Mechanism] {
///         &[Mechanism::Plain, Mechanism::Login]
///     }
///
///     fn check_password(&self, ask: &CheckPassword) -> Answer {
///         // Your application would use Argon2 here.
///         (ask.authcid() == "tim" && ask.password() == "tanstaaftanstaaf").into()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), smtp_auth_tokio::smtp_auth::ConfigError> {
/// let users = Blocking::new(Users);
/// let sasl = Sasl::builder("mail.example.org").answered_by_async(&users).await.build()?;
/// # Ok(())
/// # }
/// ```
///
/// # An asynchronous database and Argon2
///
/// A store in a `Blocking` can use an asynchronous database, because the store's methods may block their thread until a
/// future completes. The store keeps a [`Handle`](tokio::runtime::Handle) to the runtime, queries the database with
/// [`block_on`](tokio::runtime::Handle::block_on), and then computes the hash:
///
/// ```
/// use argon2::{Argon2, PasswordVerifier, password_hash::phc::PasswordHash}; // argon2 = "0.6"
/// use smtp_auth_tokio::{
///     Blocking,
///     smtp_auth::sasl::{Answer, Authenticator, CheckPassword, Mechanism, server::Config as Sasl},
/// };
/// use tokio::runtime::Handle;
/// # struct Database;
/// # impl Database {
/// #     async fn hash_of(&self, _: &str) -> Result<Option<PasswordHash>, std::io::Error> { tokio::task::yield_now().await; Ok(None) }
/// # }
///
/// struct Users {
///     database: Database,
///     runtime: Handle,
///     /// The hash of an unknown password. It is checked if the account does not exist, so that the check takes the
///     /// same time.
///     dummy: PasswordHash,
/// }
///
/// impl Authenticator for Users {
///     fn mechanisms(&self) -> &[Mechanism] {
///         &[Mechanism::Plain, Mechanism::Login]
///     }
///
///     fn check_password(&self, ask: &CheckPassword) -> Answer {
///         let found = self.runtime.block_on(self.database.hash_of(ask.authcid()));
///         let Ok(found) = found else { return Answer::temp_fail() }; // also log the error
///         let (password, hash) = (ask.password().expose(), found.as_ref().unwrap_or(&self.dummy));
///         let right = Argon2::default().verify_password(password.as_bytes(), hash).is_ok();
///         (right && found.is_some()).into()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = Database;
/// # let dummy = argon2::PasswordHasher::hash_password(&Argon2::default(), b"an unknown password")?;
/// let users = Blocking::new(Users { database, runtime: Handle::current(), dummy });
/// let sasl = Sasl::builder("mail.example.org").answered_by_async(&users).await.build()?;
/// # Ok(())
/// # }
/// ```
///
/// Pass the `Blocking` to `answered_by_async`. Do not pass the store itself to `answered_by`, because that method would
/// call the store on a thread of the runtime, where `block_on` panics.
///
/// # Memory
///
/// **If you use Argon2, keep its memory in a `thread_local!`**, as the [`smtp-auth` guide][guide] shows. The threads
/// are few and long-lived, so they keep only a few blocks of memory. Allocators are poor at reusing blocks of 19 MiB.
/// In a test with glibc, 50 simultaneous clients sent 1,000 passwords in total. A `Blocking` with 2 threads checked the
/// passwords. The process needed 66 MB when each thread reused its memory for the next check, and 435 MB when new
/// memory was allocated for each check, as `verify_password` does. By contrast, tokio's own pool for blocking work can
/// start hundreds of threads, and each of them would keep its own memory.
///
/// [guide]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/authenticator/index.html#later
pub struct Blocking<A>(Arc<Handle<A>>);

impl<A: Authenticator + Send + Sync + 'static> Blocking<A> {
    /// Creates a store with one thread for each available processor, and a queue of up to 1,024 questions.
    pub fn new(users: A) -> Self {
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::with(users, threads, QUEUE)
    }

    /// Creates a store with the given number of threads and the given maximum length of the queue. Questions that are
    /// being answered do not count towards the queue.
    pub fn with(users: A, threads: NonZeroUsize, queue: NonZeroUsize) -> Self {
        let (state, ready) = (Mutex::default(), Condvar::new());
        let pool = Pool { users, threads: threads.get(), queue: queue.get(), state, ready };
        Self(Arc::new(Handle(Arc::new(pool))))
    }

    /// Asks the store on one of its threads. Returns `None` if there is no answer, because the queue is full, the store
    /// panicked, or no thread could be started.
    async fn ask<Q, T>(&self, ask: &Q, method: fn(&A, &Q) -> T) -> Option<T>
    where
        Q: Clone + Send + 'static,
        T: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.0.0.push(Box::new(Question { ask: ask.clone(), method, answer }))?;
        answered.await.ok()
    }
}

impl<A: Authenticator + Send + Sync + 'static> AsyncAuthenticator for Blocking<A> {
    fn mechanisms(&self) -> &[Mechanism] {
        self.0.0.users.mechanisms()
    }

    async fn check_password(&self, ask: &CheckPassword) -> Answer {
        self.ask(ask, A::check_password).await.unwrap_or(Answer::temp_fail())
    }

    async fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        self.ask(ask, A::cram_secret).await.unwrap_or(Answer::temp_fail())
    }

    async fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.ask(ask, A::scram_keys).await.unwrap_or(Answer::temp_fail())
    }

    async fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        self.ask(ask, A::check_token).await.unwrap_or(TokenAnswer::TempFail)
    }

    async fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        self.ask(ask, A::check_external).await.unwrap_or(Answer::temp_fail())
    }

    async fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        self.ask(ask, A::check_anonymous).await.unwrap_or(Answer::temp_fail())
    }

    async fn custom(&self, ask: &mut Custom) -> CustomAnswer {
        catch_unwind(AssertUnwindSafe(|| self.0.0.users.custom(ask)))
            .unwrap_or(CustomAnswer::Fail(Failure::TempFail))
    }

    async fn authorize(&self, ask: &Authorize) -> AuthorizeAnswer {
        self.ask(ask, A::authorize).await.unwrap_or(AuthorizeAnswer::TempFail)
    }
}

/// Returns another handle to the same threads.
impl<A> Clone for Blocking<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A> fmt::Debug for Blocking<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = &self.0.0;
        f.debug_struct("Blocking")
            .field("threads", &pool.threads)
            .field("queue", &pool.queue)
            .field("waiting", &pool.lock().waiting.len())
            .finish_non_exhaustive()
    }
}

/// The state shared by all handles. The threads hold the pool but not this value, so that they end once all handles are
/// dropped.
struct Handle<A>(Arc<Pool<A>>);

impl<A> Drop for Handle<A> {
    fn drop(&mut self) {
        let pool = &self.0;
        let mut state = pool.lock();
        state.is_closed = true;
        // A caller that waits for an answer borrows a handle, so nobody waits for the remaining questions.
        state.waiting.clear();
        drop(state);
        pool.ready.notify_all();
    }
}

struct Pool<A> {
    users: A,
    threads: usize,
    queue: usize,
    state: Mutex<State<A>>,
    /// Signals that a question is waiting, or that the pool is closed.
    ready: Condvar,
}

struct State<A> {
    waiting: VecDeque<Box<dyn Work<A>>>,
    /// The number of threads that have been started.
    started: usize,
    /// The number of threads that are answering a question.
    busy: usize,
    is_closed: bool,
}

impl<A> Default for State<A> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), started: 0, busy: 0, is_closed: false }
    }
}

impl<A> Pool<A> {
    /// Ignores poisoning: no code of the application runs under this lock, so no change is left incomplete.
    fn lock(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next question. Returns `None` once the pool is closed.
    fn next(&self) -> Option<Box<dyn Work<A>>> {
        let mut state = self
            .ready
            .wait_while(self.lock(), |state| state.waiting.is_empty() && !state.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        let question = state.waiting.pop_front()?;
        state.busy += 1;
        Some(question)
    }

    fn work(&self) {
        while let Some(question) = self.next() {
            question.answer_with(&self.users);
            self.lock().busy -= 1;
        }
    }
}

impl<A: Send + Sync + 'static> Pool<A> {
    /// Adds a question to the queue. Returns `None` if the queue is full or there is no thread.
    fn push(self: &Arc<Self>, question: Box<dyn Work<A>>) -> Option<()> {
        let mut state = self.lock();
        if state.waiting.len() >= state.started - state.busy && state.started < self.threads {
            let pool = Arc::clone(self);
            let thread = thread::Builder::new().name("smtp-auth store".into());
            state.started += usize::from(thread.spawn(move || pool.work()).is_ok());
        }
        // A question for a free thread does not wait, so it does not count towards the queue.
        let room = self.queue.saturating_add(state.started - state.busy);
        if state.waiting.len() >= room {
            state.waiting.retain(|question| question.is_awaited());
        }
        if state.started == 0 || state.waiting.len() >= room {
            return None;
        }
        state.waiting.push_back(question);
        drop(state);
        self.ready.notify_one();
        Some(())
    }
}

/// A question of any type in the queue.
trait Work<A>: Send {
    /// Returns whether a caller is still waiting for the answer.
    fn is_awaited(&self) -> bool;

    /// Answers the question if a caller is still waiting for the answer.
    fn answer_with(self: Box<Self>, users: &A);
}

struct Question<A, Q, T> {
    ask: Q,
    method: fn(&A, &Q) -> T,
    answer: oneshot::Sender<T>,
}

impl<A, Q: Send, T: Send> Work<A> for Question<A, Q, T> {
    fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }

    fn answer_with(self: Box<Self>, users: &A) {
        if !self.is_awaited() {
            return;
        }
        let Self { ask, method, answer } = *self;
        // The store is shared by several threads, so it must in any case cope with a panic on one of them.
        if let Ok(given) = catch_unwind(AssertUnwindSafe(|| method(users, &ask))) {
            // This fails if the client has disconnected meanwhile.
            let _ = answer.send(given);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
