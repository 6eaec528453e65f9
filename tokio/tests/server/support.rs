//! A server to be tested, and a client that types.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use smtp_auth_tokio::{
    BoxStream, Stream, rustls,
    server::{Body, Handler, Limits, Observer, Peer, Server},
    smtp_auth::{
        Answer, Authenticator, CheckPassword, Identity, Mechanism, Reply,
        command::{Mail, Rcpt},
        sasl::{self, Immediate, ScramKeys, ScramKeysFor},
        server::{AuthFailed, Builder, Config},
    },
    tls,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, duplex},
    task::JoinHandle,
    time::sleep,
};

pub(crate) struct Users;

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        const OWN: &[Mechanism] = &[Mechanism::ScramSha256, Mechanism::Plain, Mechanism::External];
        OWN
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        (ask.authcid() == "tim" && ask.password() == "tanstaaftanstaaf").into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let salt = b"a salt of his own";
        let keys = ScramKeys::from_password(ask.hash(), "tanstaaftanstaaf", salt, 4096);
        keys.filter(|_| ask.authcid() == "tim").into()
    }

    fn check_external(&self, ask: &sasl::CheckExternal) -> Answer<String> {
        Some(ask.identity().to_owned()).filter(|name| name == "tim").into()
    }
}

pub(crate) fn config() -> Builder {
    let sasl = sasl::server::Config::builder("localhost").answered_by(&Users);
    Config::builder("localhost").sasl(sasl.allow_cleartext(true).build().unwrap())
}

/// For clients that need not authenticate.
pub(crate) fn open() -> Arc<Config> {
    let config = config().allow_unauthenticated(true).max_message(100_000);
    Arc::new(config.build().unwrap())
}

/// What the handler is to do with a message, and what it has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) what: Mutex<&'static str>,
    pub(crate) begun: AtomicUsize,
    pub(crate) dropped: AtomicUsize,
    pub(crate) whole: AtomicUsize,
    /// One line for each end of an authentication, and of a connection.
    pub(crate) log: Mutex<Vec<String>>,
}

impl Seen {
    pub(crate) fn log(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    /// How many transactions have begun, have been dropped, and were whole, once the server has had its time.
    pub(crate) async fn counts(&self) -> (usize, usize, usize) {
        sleep(Duration::from_millis(50)).await;
        (self.begun.load(SeqCst), self.dropped.load(SeqCst), self.whole.load(SeqCst))
    }
}

/// A handler with every fault.
#[derive(Clone, Default)]
pub(crate) struct Careless(pub(crate) Arc<Seen>);

pub(crate) struct Transaction(Arc<Seen>);

impl Drop for Transaction {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }
}

impl Handler for Careless {
    type Transaction = Transaction;

    async fn mail(&self, _: &Peer, mail: Mail<'_>) -> Result<Transaction, Reply> {
        if mail.from().is_some_and(|from| from.local_part() == "nobody") {
            return Err(Reply::MAILBOX_UNAVAILABLE);
        }
        self.0.begun.fetch_add(1, SeqCst);
        Ok(Transaction(Arc::clone(&self.0)))
    }

    async fn rcpt(&self, _: &Peer, _: &mut Transaction, rcpt: Rcpt<'_>) -> Result<(), Reply> {
        match rcpt.to().local_part() {
            "nobody" => return Err(Reply::MAILBOX_UNAVAILABLE),
            "fool" => return Err(Reply::OK),
            "slow" => sleep(Duration::from_secs(3600)).await,
            "panic" => panic!("as a handler may"),
            _ => {}
        }
        Ok(())
    }

    async fn data(&self, _: &Peer, _own: Transaction, mut body: Body<'_>) -> Result<Reply, Reply> {
        let what = *self.0.what.lock().unwrap();
        match what {
            "refuse" => return Err(Reply::INSUFFICIENT_STORAGE),
            "accept unread" => return Ok(Reply::OK),
            "accept half" => {
                body.next().await;
                return Ok(Reply::OK);
            }
            "refuse half" => {
                body.next().await;
                return Err(Reply::INSUFFICIENT_STORAGE);
            }
            "panic half" => {
                body.next().await;
                panic!("as a handler may");
            }
            "stall unread" => sleep(Duration::from_secs(1_000_000)).await,
            "stall half" => {
                body.next().await;
                sleep(Duration::from_secs(1_000_000)).await;
            }
            "hang" => {
                body.read_all().await;
                sleep(Duration::from_secs(1_000_000)).await;
            }
            "slow" => {
                body.read_all().await;
                sleep(Duration::from_secs(10)).await;
            }
            "copy" => {
                let mut all = Vec::new();
                tokio::io::copy(&mut body, &mut all).await.map_err(|_| Reply::LOCAL_ERROR)?;
                assert_eq!(all, b"Subject: a\r\n\r\n.b\r\n");
            }
            "pieces" => {
                // A reader that takes few octets at a time, and changes its way in between.
                let mut all = Vec::new();
                let mut few = [0; 5];
                let read = tokio::io::AsyncReadExt::read(&mut body, &mut few).await.unwrap();
                all.extend_from_slice(&few[..read]);
                all.extend(body.next().await.unwrap());
                all.extend(body.read_all().await);
                assert_eq!(all, b"Subject: a\r\n\r\n.b\r\n");
                assert!(body.next().await.is_none());
            }
            // As carelessly as can be.
            _ => while let Some(_piece) = body.next().await {},
        }
        self.0.whole.fetch_add(1, SeqCst);
        Ok(Reply::OK)
    }

    async fn connect(&self, _: &Peer) -> Result<(), Reply> {
        match *self.0.what.lock().unwrap() {
            "unwelcome" => Err(Reply::constant("554 5.7.1 Not you")),
            _ => Ok(()),
        }
    }
}

impl Observer for Careless {
    fn authenticated(&self, _: &Peer, who: &Identity) {
        self.0.log(format!("{} by {}", who.acts_as(), who.mechanism()));
    }

    fn auth_failed(&self, _: &Peer, failed: &AuthFailed<'_>, _: bool) {
        self.0.log(format!("not authenticated: {failed}"));
    }

    fn closed(&self, _: &Peer, outcome: Result<(), &std::io::Error>) {
        self.0.log(format!("closed: {:?}", outcome.map_err(std::io::Error::kind)));
    }
}

pub(crate) type Tested = Server<Immediate<Users>, Careless>;

/// A server with such a handler, and without authentication.
pub(crate) fn server(what: &'static str, limits: Limits) -> (Tested, Arc<Seen>) {
    let careless = Careless::default();
    let seen = Arc::clone(&careless.0);
    *seen.what.lock().unwrap() = what;
    let server = Server::new(open(), Immediate(Users), careless.clone());
    (server.limits(limits).observer(careless), seen)
}

/// A client that types.
pub(crate) struct Hand(pub(crate) BufReader<BoxStream>);

impl Hand {
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    /// A connection to that server, in memory, greeted.
    pub(crate) async fn to<A, H>(server: &Server<A, H>) -> (Self, JoinHandle<()>)
    where
        A: smtp_auth_tokio::smtp_auth::AsyncAuthenticator + 'static,
        H: Handler,
    {
        let (own, theirs) = duplex(1 << 16);
        let server = server.clone();
        let serving = tokio::spawn(async move { server.serve_stream(theirs, None).await });
        let mut hand = Self::new(own);
        assert!(hand.hear().await.starts_with("220 localhost"));
        assert!(hand.say("EHLO hand\r\n").await.starts_with("250-localhost"));
        (hand, serving)
    }

    /// One whole reply; nothing at the end.
    pub(crate) async fn hear(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            let read = self.0.read_line(&mut reply).await.unwrap_or_default();
            if read == 0 || reply.as_bytes().get(start + 3) == Some(&b' ') {
                return reply;
            }
        }
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn say(&mut self, text: &str) -> String {
        self.write(text).await;
        self.hear().await
    }

    /// Says that, and hears replies with these codes.
    pub(crate) async fn expect(&mut self, text: &str, codes: &[&str]) {
        self.write(text).await;
        for code in codes {
            let reply = self.hear().await;
            assert!(reply.starts_with(code), "{text:?}: {code} expected: {reply:?}");
        }
    }

    /// As far as the message.
    pub(crate) async fn until_data(&mut self) -> String {
        self.expect("MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n", &["250", "250"]).await;
        self.say("DATA\r\n").await
    }

    /// That nothing is left to hear.
    pub(crate) async fn ends(&mut self) {
        assert_eq!(self.hear().await, "");
    }
}

/// A certificate for localhost, its key, and the configuration of a client that trusts it.
pub(crate) struct Certificate {
    pub(crate) chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    pub(crate) key: rustls::pki_types::PrivateKeyDer<'static>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        Self { chain: vec![own.cert.into()], key: key.into() }
    }

    pub(crate) fn server(&self) -> Arc<rustls::ServerConfig> {
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(tls::provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        Arc::new(config.with_single_cert(self.chain.clone(), self.key.clone_key()).unwrap())
    }

    pub(crate) fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.chain[0].clone()).unwrap();
        roots
    }

    pub(crate) fn client(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<rustls::ClientConfig> {
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(tls::provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots());
        Arc::new(config.with_no_client_auth())
    }
}
