use argon2::{
    Argon2,
    password_hash::{PasswordHasher, phc::PasswordHash},
};
use smtp_auth::{
    sasl::{self, Answer, Channel, CheckPassword, Mechanism},
    server::{Config, Event, Session},
};

struct Hashed(PasswordHash);

impl Authenticator for Hashed {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain, Mechanism::Login]
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        assert_ne!(ask.authcid(), "panic", "as a store may");
        crate::argon2_memory::is_right(ask.password().expose().as_bytes(), &self.0).into()
    }
}

/// `None` where the store cannot say.
async fn sign_in(config: Arc<Config>, response: &str, workers: Arc<Workers>) -> Option<bool> {
    let mut session = Session::new(config);
    session.tls_started(Channel::tls());
    session.receive(format!("EHLO x\r\nAUTH PLAIN {response}\r\n").as_bytes());
    let mut out = Vec::new();
    loop {
        match session.next(&mut out) {
            Event::Query(query) => workers.ask(query).await,
            Event::Authenticated(_) => return Some(true),
            Event::AuthFailed(failed) => return failed.why.is_attempt().then_some(false),
            _ => {}
        }
    }
}

fn start() -> Workers {
    let hash = Argon2::default().hash_password(b"tanstaaftanstaaf").unwrap();
    Workers::start(2, Arc::new(Hashed(hash))).unwrap()
}

/// What answers a server's questions.
pub(crate) fn answers() -> impl AsyncFn(Query<'_>) + 'static {
    let workers = start();
    async move |query: Query<'_>| workers.ask(query).await
}

/// So many sign-ins, so many of them at once; every tenth of them meets a panic of the store. The memory
/// that the process has had at most is the output.
pub(crate) fn crowd(number: usize, at_once: usize) {
    let workers = Arc::new(start());
    let sasl = sasl::server::Config::builder("mail.example.org").mechanisms([Mechanism::Plain]);
    let config = Config::builder("mail.example.org").sasl(sasl.build().unwrap());
    let config = Arc::new(config.build().unwrap());
    std::panic::set_hook(Box::new(|_| {}));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let free = Arc::new(tokio::sync::Semaphore::new(at_once));
    let mut clients = Vec::new();
    for n in 0..number {
        let (config, workers, free) =
            (Arc::clone(&config), Arc::clone(&workers), Arc::clone(&free));
        clients.push(runtime.spawn(async move {
            let _place = free.acquire().await.unwrap();
            let (response, expected) = match n % 10 {
                0 => ("AHBhbmljAHdyb25n", None),
                _ => ("AHRpbQB0YW5zdGFhZnRhbnN0YWFm", Some(true)),
            };
            assert_eq!(sign_in(config, response, workers).await, expected);
        }));
    }
    for client in clients {
        runtime.block_on(client).unwrap();
    }
    crate::print_most();
}
