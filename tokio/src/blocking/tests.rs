use alloc::vec::Vec;
use core::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context, Waker},
    time::Duration,
};
use std::{
    collections::HashSet,
    panic, println,
    sync::{Mutex, mpsc},
    thread::ThreadId,
};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use smtp_auth::{
    Reply,
    sasl::{
        Channel, Immediate, Query, QueryJob, RefusalKind,
        server::{Config, Exchange, Step},
    },
    server,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, duplex, split},
    task::JoinSet,
    time::timeout,
};

use super::*;
use crate::server::{Handler, Message, Server};

const MANY: NonZeroUsize = NonZeroUsize::MAX;

fn number(many: usize) -> NonZeroUsize {
    NonZeroUsize::new(many).unwrap()
}

/// The function that answers a question from its password.
type Act = dyn Fn(&str) -> Answer + Send + Sync;

/// A store that records its threads, and signals when it is dropped.
struct Store {
    act: Box<Act>,
    threads: Mutex<HashSet<ThreadId>>,
    dropped: mpsc::Sender<()>,
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.dropped.send(());
    }
}

impl Store {
    fn new(act: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (Self, mpsc::Receiver<()>) {
        let (dropped, end) = mpsc::channel();
        (Self { act: Box::new(act), threads: Mutex::default(), dropped }, end)
    }
}

impl Authenticator for Store {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain]
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        self.threads.lock().unwrap().insert(thread::current().id());
        (self.act)(ask.password().expose())
    }
}

/// Creates a question with the given password.
fn question(password: &str) -> QueryJob {
    let config = Config::builder("mail.example.org").mechanisms([Mechanism::Plain]);
    let response = ["\0tim\0", password].concat().into_bytes();
    let config = Arc::new(config.build().unwrap());
    let mut exchange = Exchange::new(&config, &Channel::tls(), Mechanism::Plain, Some(response));
    exchange.query().unwrap().job().unwrap()
}

async fn ask(users: &impl AsyncAuthenticator, password: &str) -> Answer {
    match question(password).query() {
        Query::CheckPassword(ask) => {
            timeout(Duration::from_secs(20), users.check_password(ask)).await.expect("no answer")
        }
        other => panic!("{other:?}"),
    }
}

/// A gate at which the store's threads wait until the test lets them pass one by one.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<(usize, usize)>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.0 += 1;
        self.0.1.notify_all();
        let mut state = self.0.1.wait_while(state, |state| state.1 == 0).unwrap();
        state.1 -= 1;
    }

    fn open(&self, many: usize) {
        self.0.0.lock().unwrap().1 += many;
        self.0.1.notify_all();
    }

    /// Waits until the given number of threads in all has arrived.
    fn wait_for(&self, many: usize) {
        let state = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(state, |state| state.0 < many).unwrap());
    }
}

fn gated() -> (Gate, Store, mpsc::Receiver<()>) {
    let gate = Gate::default();
    let passes = gate.clone();
    let (store, end) = Store::new(move |password| {
        passes.pass();
        (password == "right").into()
    });
    (gate, store, end)
}

fn poll<F: Future>(future: core::pin::Pin<&mut F>) -> core::task::Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn answers() {
    let (store, _end) = Store::new(|password| (password == "right").into());
    let users = Blocking::new(store);
    assert_eq!(users.mechanisms(), [Mechanism::Plain]);
    assert_eq!(ask(&users, "right").await, Answer::accept(()));
    assert_eq!(ask(&users.clone(), "wrong").await, Answer::reject());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_number_of_threads_is_fixed() {
    let now = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counted = Arc::clone(&now);
    let (store, _end) = Store::new(move |_| {
        let at_once = counted.0.fetch_add(1, SeqCst) + 1;
        counted.1.fetch_max(at_once, SeqCst);
        thread::sleep(Duration::from_millis(1));
        counted.0.fetch_sub(1, SeqCst);
        Answer::accept(())
    });
    let users = Blocking::with(store, number(3), MANY);
    let mut tasks = JoinSet::new();
    for _ in 0..300 {
        let users = users.clone();
        tasks.spawn(async move { ask(&users, "x").await });
    }
    assert!(tasks.join_all().await.into_iter().all(|answer| answer == Answer::accept(())));
    assert_eq!(now.1.load(SeqCst), 3);
    assert_eq!(users.0.0.users.threads.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let (gate, store, _end) = gated();
    let users = Blocking::with(store, number(2), number(3));
    let mut asked: Vec<_> = (0..5).map(|_| Box::pin(ask(&users, "right"))).collect();
    for asked in &mut asked {
        assert!(poll(asked.as_mut()).is_pending());
    }
    assert_eq!(ask(&users, "right").await, Answer::temp_fail());
    gate.open(5);
    for asked in asked {
        assert_eq!(asked.await, Answer::accept(()));
    }
    gate.open(1);
    assert_eq!(ask(&users, "right").await, Answer::accept(()));
}

#[tokio::test]
async fn a_panic_is_no_answer_and_its_thread_goes_on() {
    let (store, _end) = Store::new(|password| match password {
        // This panic is not printed.
        "panic" => panic::resume_unwind(Box::new("the store's")),
        _ => Answer::accept(()),
    });
    let users = Blocking::with(store, number(1), number(1));
    for _ in 0..10 {
        assert_eq!(ask(&users, "panic").await, Answer::temp_fail());
        assert_eq!(ask(&users, "x").await, Answer::accept(()));
    }
    assert_eq!(users.0.0.users.threads.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_is_skipped() {
    let (gate, store, _end) = gated();
    let users = Blocking::with(store, number(1), number(2));
    let mut first = Box::pin(ask(&users, "right"));
    assert!(poll(first.as_mut()).is_pending());
    gate.wait_for(1);
    {
        let mut dropped: Vec<_> = (0..2).map(|_| Box::pin(ask(&users, "right"))).collect();
        for dropped in &mut dropped {
            assert!(poll(dropped.as_mut()).is_pending());
        }
        assert_eq!(ask(&users, "right").await, Answer::temp_fail());
    }
    // The dropped questions take no room in the queue, and are not answered.
    let mut last = Box::pin(ask(&users, "right"));
    assert!(poll(last.as_mut()).is_pending());
    gate.open(2);
    assert_eq!(first.await, Answer::accept(()));
    assert_eq!(last.await, Answer::accept(()));
    assert_eq!(gate.0.0.lock().unwrap().0, 2);
}

/// If the skipped question were answered, it would use up one opening of the gate, and the last question would wait
/// forever.
#[tokio::test]
async fn a_skipped_question_is_not_answered_when_its_turn_comes() {
    let (gate, store, _end) = gated();
    let users = Blocking::with(store, number(1), number(5));
    let mut first = Box::pin(ask(&users, "right"));
    assert!(poll(first.as_mut()).is_pending());
    gate.wait_for(1);
    {
        let mut dropped = Box::pin(ask(&users, "right"));
        assert!(poll(dropped.as_mut()).is_pending());
    }
    let mut last = Box::pin(ask(&users, "right"));
    assert!(poll(last.as_mut()).is_pending());
    gate.open(2);
    assert_eq!(last.await, Answer::accept(()));
}

#[tokio::test]
async fn questions_are_answered_in_order() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&order);
    let gate = Gate::default();
    let passes = gate.clone();
    let (store, _end) = Store::new(move |password| {
        passes.pass();
        noted.lock().unwrap().push(password.parse::<u32>().unwrap());
        Answer::accept(())
    });
    let users = Blocking::with(store, number(1), number(200));
    let names: Vec<_> = (0..200).map(|n: u32| std::format!("{n}")).collect();
    let mut asked: Vec<_> = names.iter().map(|name| Box::pin(ask(&users, name))).collect();
    assert!(asked.iter_mut().all(|asked| poll(asked.as_mut()).is_pending()));
    gate.open(200);
    // The order does not depend on which is awaited first.
    for asked in asked.into_iter().rev() {
        assert_eq!(asked.await, Answer::accept(()));
    }
    assert!(order.lock().unwrap().iter().copied().eq(0..200));
}

#[test]
fn the_last_handle_ends_the_threads() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (gate, store, end) = gated();
    let users = Blocking::with(store, number(3), MANY);
    let clone = users.clone();
    runtime.block_on(async {
        let mut asked: Vec<_> = (0..3).map(|_| Box::pin(ask(&users, "right"))).collect();
        for asked in &mut asked {
            assert!(poll(asked.as_mut()).is_pending());
        }
        gate.wait_for(3);
    });
    drop(users);
    assert!(end.recv_timeout(Duration::from_millis(50)).is_err());
    drop(clone);
    // The threads are still answering their questions.
    assert!(end.recv_timeout(Duration::from_millis(50)).is_err());
    gate.open(3);
    // The store is dropped by the last of the threads.
    end.recv_timeout(Duration::from_secs(20)).unwrap();

    // No thread has been started.
    let (store, end) = Store::new(|_| Answer::accept(()));
    drop(Blocking::new(store));
    end.recv_timeout(Duration::from_secs(20)).unwrap();
}

const OWN: Mechanism = match Mechanism::custom("X-OWN") {
    Ok(own) => own,
    Err(_) => panic!("not a mechanism's name"),
};

/// A store that answers each type of question in a different way.
pub(crate) struct Each;

impl Authenticator for Each {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain]
    }

    fn check_password(&self, _: &CheckPassword) -> Answer {
        Answer::too_weak()
    }

    fn cram_secret(&self, _: &CramSecretFor) -> Answer<CramSecret> {
        Answer::no_secret().of("cram")
    }

    fn scram_keys(&self, _: &ScramKeysFor) -> Answer<ScramKeys> {
        Answer::no_secret().of("scram")
    }

    fn check_token(&self, _: &CheckToken) -> TokenAnswer {
        TokenAnswer::Accept("token".into())
    }

    fn check_external(&self, _: &CheckExternal) -> Answer<String> {
        Answer::accept("external".into())
    }

    fn check_anonymous(&self, _: &CheckAnonymous) -> Answer {
        Answer::transition_needed()
    }

    fn custom(&self, _: &mut Custom) -> CustomAnswer {
        CustomAnswer::Challenge(b"custom".into())
    }

    fn authorize(&self, _: &Authorize) -> AuthorizeAnswer {
        RefusalKind::OverQuota.into()
    }
}

/// Runs an exchange up to its question.
fn exchange(mechanism: Mechanism, responses: &[&str]) -> Exchange {
    let config = Config::builder("mail.example.org").mechanisms([mechanism]);
    let config = Arc::new(config.authorize_always(true).build().unwrap());
    let channel = Channel::tls().with_identity("tim").unwrap();
    let mut responses = responses.iter().map(|response| response.as_bytes().to_vec());
    let initial = if mechanism == Mechanism::CramMd5 { None } else { responses.next() };
    let mut exchange = Exchange::new(&config, &channel, mechanism, initial);
    if let Step::Challenge(challenge) = exchange.step() {
        challenge.respond(responses.next().unwrap());
    }
    let _ = exchange.step();
    exchange
}

/// Asserts that `users` answers every type of question as [`Each`] does.
pub(crate) async fn assert_forwards(users: &impl AsyncAuthenticator) {
    macro_rules! same {
        ($ask:ident, $method:ident) => {
            assert_eq!(
                std::format!("{:?}", users.$method($ask).await),
                std::format!("{:?}", Immediate(Each).$method($ask).await),
            )
        };
    }
    let digest = ["tim ", &"0".repeat(32)].concat();
    let mut exchanges = [
        exchange(Mechanism::Plain, &["\0tim\0x"]),
        exchange(Mechanism::CramMd5, &[&digest]),
        exchange(Mechanism::ScramSha256, &["n,,n=tim,r=abc"]),
        exchange(Mechanism::OauthBearer, &["n,,\x01auth=Bearer x\x01\x01"]),
        exchange(Mechanism::External, &[""]),
        exchange(Mechanism::Anonymous, &[""]),
        exchange(OWN, &["x"]),
        exchange(Mechanism::Plain, &["ann\0tim\0x"]),
    ];
    if let Some(Query::CheckPassword(ask)) = exchanges[7].query() {
        ask.answer(true);
    }
    let _ = exchanges[7].step();
    let mut seen = Vec::new();
    for exchange in &mut exchanges {
        seen.push(match exchange.query().unwrap() {
            Query::CheckPassword(ask) => (same!(ask, check_password), 0).1,
            Query::CramSecret(ask) => (same!(ask, cram_secret), 1).1,
            Query::ScramKeys(ask) => (same!(ask, scram_keys), 2).1,
            Query::CheckToken(ask) => (same!(ask, check_token), 3).1,
            Query::CheckExternal(ask) => (same!(ask, check_external), 4).1,
            Query::CheckAnonymous(ask) => (same!(ask, check_anonymous), 5).1,
            Query::Custom(ask) => (same!(ask, custom), 6).1,
            Query::Authorize(ask) => (same!(ask, authorize), 7).1,
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(users.mechanisms(), Each.mechanisms());
}

#[tokio::test]
async fn every_question_is_forwarded() {
    assert_forwards(&Blocking::new(Each)).await;
}

/// Returns whether a client that connects to the server can authenticate. The base64 is `\0tim\0right`.
#[cfg(target_os = "linux")]
async fn signs_in<H: Handler>(server: &Server<Blocking<Store>, H>) -> bool {
    let (own, theirs) = duplex(1024);
    let talk = async {
        let (reader, mut writer) = split(own);
        writer.write_all(b"EHLO c\r\nAUTH PLAIN AHRpbQByaWdodA==\r\nQUIT\r\n").await.unwrap();
        let mut lines = BufReader::new(reader).lines();
        let mut is_in = false;
        while let Some(line) = lines.next_line().await.unwrap() {
            is_in |= line.starts_with("235");
        }
        is_in
    };
    tokio::join!(server.serve_stream(theirs, None), talk).1
}

/// Must run in a separate process, because it measures the peak memory of the process: `cargo test -p smtp-auth-tokio
/// --lib -- --ignored --exact blocking::tests::argon2_takes_the_memory_of_its_threads`
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of a minute, and measures its process"]
async fn argon2_takes_the_memory_of_its_threads() {
    /// Keeps the memory with the thread. If it were allocated for each hash, the peak would be 435 MB with glibc.
    fn hash(password: &str) -> [u8; 32] {
        thread_local!(static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) });
        let params = Params::new(19 * 1024, 2, 1, None).unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut output = [0; 32];
        let (password, salt) = (password.as_bytes(), b"a salt of tim's");
        MEMORY.with_borrow_mut(|memory| {
            memory.resize(argon2.params().block_count(), Block::new());
            argon2.hash_password_into_with_memory(password, salt, &mut output, memory).unwrap();
        });
        output
    }
    let right = hash("right");
    let (store, _end) = Store::new(move |password| (hash(password) == right).into());
    let users = Blocking::with(store, number(2), number(50));
    let sasl = Config::builder("localhost").mechanisms([Mechanism::Plain]).allow_cleartext(true);
    let config = server::Config::builder("localhost").sasl(sasl.build().unwrap());
    let deliver = async |_: Message| Ok(Reply::OK);
    let server = Server::new(config.build().unwrap(), users, deliver);
    let turns = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let (server, turns) = (server.clone(), Arc::clone(&turns));
        tasks.spawn(async move {
            let mut right = 0;
            while turns.fetch_add(1, SeqCst) < 1000 {
                right += usize::from(signs_in(&server).await);
            }
            right
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<usize>(), 1000);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    println!("peak: {peak} kB");
    assert!(peak < 150 * 1000, "{peak} kB");
}
