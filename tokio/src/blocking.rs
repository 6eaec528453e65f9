//! Stores that compute or wait, on threads of their own.

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

/// How many questions wait for a thread where the application does not say: some hundred octets each, and some kilobytes where
/// a client sends the longest password there is.
const QUEUE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// Turns an [`Authenticator`] that computes or blocks into an [`AsyncAuthenticator`]: for Argon2, for a synchronous database,
/// and for an asynchronous one whose answer Argon2 then needs ([below](#an-asynchronous-database-and-argon2)). A store that only
/// asks an asynchronous database is an `AsyncAuthenticator` by itself.
///
/// The methods run on a fixed number of threads, which belong to this store alone. Meanwhile the runtime goes on with the other
/// connections.
///
/// | | |
/// | --- | --- |
/// | order | that in which the questions came |
/// | the queue is full | `454 4.7.0`, not counted as an attempt: a crowd cannot take more memory, or wait longer, than the queue allows |
/// | the store panics | `454 4.7.0`; the thread goes on with the next question |
/// | the operating system starts no thread | `454 4.7.0` |
/// | the client is gone, or a time limit has passed | a question that waits is skipped; one that a thread has begun is finished |
/// | a [`Custom`] question | is answered **on the thread that polls the future**, as its state cannot be sent to another: the steps of a mechanism of the application's own must be quick |
///
/// A clone is another handle of the same threads. The threads start when they are first needed. They end when the last handle is
/// dropped, each after the question that it has begun.
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
///         // Argon2 in your application
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
/// Threads of a `Blocking` may wait for futures of the runtime. So a store keeps a [`Handle`](tokio::runtime::Handle) of it, asks
/// the database by [`block_on`](tokio::runtime::Handle::block_on), and computes then:
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
///     /// The hash of a password that nobody knows: an account that does not exist takes as long.
///     nobody: PasswordHash,
/// }
///
/// impl Authenticator for Users {
///     fn mechanisms(&self) -> &[Mechanism] {
///         &[Mechanism::Plain, Mechanism::Login]
///     }
///
///     fn check_password(&self, ask: &CheckPassword) -> Answer {
///         let found = self.runtime.block_on(self.database.hash_of(ask.authcid()));
///         let Ok(found) = found else { return Answer::temp_fail() }; // and a line in the log
///         let (password, hash) = (ask.password().expose(), found.as_ref().unwrap_or(&self.nobody));
///         let right = Argon2::default().verify_password(password.as_bytes(), hash).is_ok();
///         (right && found.is_some()).into()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = Database;
/// # let nobody = argon2::PasswordHasher::hash_password(&Argon2::default(), b"nobody knows this one")?;
/// let users = Blocking::new(Users { database, runtime: Handle::current(), nobody });
/// let sasl = Sasl::builder("mail.example.org").answered_by_async(&users).await.build()?;
/// # Ok(())
/// # }
/// ```
///
/// Give `answered_by_async` the `Blocking`. `answered_by` with the store itself would ask it on a thread of the runtime, where
/// `block_on` panics.
///
/// # Memory
///
/// **With Argon2, keep its memory in a `thread_local!`**, as the [guide of `smtp-auth`][guide] shows: the threads are few and
/// stay, and the allocator does not reuse pieces of 19 MiB well. With 1,000 checks, 50 at once on 2 threads, a process took 66 MB
/// with memory that its threads keep, and 435 MB where each check allocated its own, as `verify_password` does (glibc). Tokio's
/// own pool for blocking work would start hundreds of threads.
///
/// [guide]: https://docs.rs/smtp-auth/latest/smtp_auth/guide/authenticator/index.html#later
pub struct Blocking<A>(Arc<Handle<A>>);

impl<A: Authenticator + Send + Sync + 'static> Blocking<A> {
    /// With as many threads as there are processors, and a queue of 1,024 questions.
    pub fn new(users: A) -> Self {
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::with(users, threads, QUEUE)
    }

    /// With so many threads, and a queue of so many questions. Those that are being answered are not in the queue.
    pub fn with(users: A, threads: NonZeroUsize, queue: NonZeroUsize) -> Self {
        let (state, ready) = (Mutex::default(), Condvar::new());
        let pool = Pool { users, threads: threads.get(), queue: queue.get(), state, ready };
        Self(Arc::new(Handle(Arc::new(pool))))
    }

    /// `None` where there is no answer: the queue is full, the store has panicked, or there is no thread.
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

/// Another handle of the same threads.
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

/// What the handles share. The threads hold the pool and not this, so that they end with the handles.
struct Handle<A>(Arc<Pool<A>>);

impl<A> Drop for Handle<A> {
    fn drop(&mut self) {
        let pool = &self.0;
        let mut state = pool.lock();
        state.is_closed = true;
        // A question borrows a handle for as long as somebody waits for it: nobody waits for these.
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
    /// A question waits, or there will be none any more.
    ready: Condvar,
}

struct State<A> {
    waiting: VecDeque<Box<dyn Work<A>>>,
    /// Threads that have been started.
    started: usize,
    /// Threads that answer a question now.
    busy: usize,
    is_closed: bool,
}

impl<A> Default for State<A> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), started: 0, busy: 0, is_closed: false }
    }
}

impl<A> Pool<A> {
    /// No code of the application runs under this lock, so that nothing is left half done.
    fn lock(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next question; `None` where there will be none.
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
    /// `None` where the queue is full, or there is no thread.
    fn push(self: &Arc<Self>, question: Box<dyn Work<A>>) -> Option<()> {
        let mut state = self.lock();
        if state.waiting.len() >= state.started - state.busy && state.started < self.threads {
            let pool = Arc::clone(self);
            let thread = thread::Builder::new().name("smtp-auth store".into());
            state.started += usize::from(thread.spawn(move || pool.work()).is_ok());
        }
        // A free thread takes one that does not have to wait.
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

/// A question of any kind in the queue.
trait Work<A>: Send {
    /// Whether somebody waits for the answer.
    fn is_awaited(&self) -> bool;

    /// Answers, where somebody waits for it.
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
        // A store has to be ready for other threads that go on after a panic anyhow: it is shared.
        if let Ok(given) = catch_unwind(AssertUnwindSafe(|| method(users, &ask))) {
            // The client may be gone by now.
            let _ = answer.send(given);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
