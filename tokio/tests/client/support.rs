//! Servers to send to: this package's, and one that follows a script.

use std::{
    fs,
    future::poll_fn,
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use smtp_auth_tokio::{
    Stream,
    client::{Client, Connector, Credentials, Envelope, Error},
    server::{Body, Handler, Observer, Peer, Server},
    smtp_auth::{
        Answer, AsyncAuthenticator, Authenticator, Mechanism, Reply,
        command::{Mail, Rcpt},
        sasl::{self, Immediate, ScramKeys, ScramKeysFor},
        server::Config,
    },
    tls,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex},
    net::TcpListener,
    task::JoinHandle,
    time::{sleep, timeout},
};

pub(crate) const PASSWORD: &str = "tanstaaftanstaaf";

/// A certificate for those names, and its key, in files.
pub(crate) fn certificate(file: &str, parameters: rcgen::CertificateParams) -> [PathBuf; 2] {
    let key = rcgen::KeyPair::generate().unwrap();
    let pems = [parameters.self_signed(&key).unwrap().pem(), key.serialize_pem()];
    let path = |kind| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{file}-{kind}.pem"));
    let paths = [path("cert"), path("key")];
    for (path, pem) in paths.iter().zip(pems) {
        fs::write(path, pem).unwrap();
    }
    paths
}

pub(crate) static LOCALHOST: LazyLock<[PathBuf; 2]> = LazyLock::new(|| {
    certificate("client", rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap())
});

pub(crate) struct Users;

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256]
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let keys = ScramKeys::from_password(ask.hash(), PASSWORD, b"a salt of his own", 4096);
        keys.filter(|_| ask.authcid() == "tim").into()
    }
}

/// What has arrived.
#[derive(Clone, Default)]
pub(crate) struct Inbox(Arc<Seen>);

#[derive(Default)]
struct Seen {
    messages: Mutex<Vec<(Vec<String>, Vec<u8>)>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    orderly: AtomicUsize,
}

impl Inbox {
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        self.0.messages.lock().unwrap().iter().map(|(_, octets)| octets.clone()).collect()
    }

    pub(crate) fn recipients(&self) -> Vec<Vec<String>> {
        self.0.messages.lock().unwrap().iter().map(|(to, _)| to.clone()).collect()
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.0.connections.load(SeqCst)
    }

    /// How many there are.
    pub(crate) fn open(&self) -> usize {
        self.0.open.load(SeqCst)
    }

    /// How many have ended by QUIT.
    pub(crate) fn orderly(&self) -> usize {
        self.0.orderly.load(SeqCst)
    }

    /// How many there have been at once.
    pub(crate) fn most(&self) -> usize {
        self.0.most.load(SeqCst)
    }
}

impl Handler for Inbox {
    type Transaction = Vec<String>;

    async fn connect(&self, _: &Peer) -> Result<(), Reply> {
        self.0.connections.fetch_add(1, SeqCst);
        let open = self.0.open.fetch_add(1, SeqCst) + 1;
        self.0.most.fetch_max(open, SeqCst);
        Ok(())
    }

    async fn mail(&self, _: &Peer, _: Mail<'_>) -> Result<Vec<String>, Reply> {
        Ok(Vec::new())
    }

    async fn rcpt(&self, _: &Peer, to: &mut Vec<String>, rcpt: Rcpt<'_>) -> Result<(), Reply> {
        if rcpt.to().local_part() == "nobody" {
            return Err(Reply::MAILBOX_UNAVAILABLE);
        }
        to.push(rcpt.to().as_str().to_owned());
        Ok(())
    }

    async fn data(&self, _: &Peer, to: Vec<String>, mut body: Body<'_>) -> Result<Reply, Reply> {
        let octets = body.read_all().await;
        if octets.starts_with(b"Subject: Spam") {
            return Err(Reply::constant("554 5.7.1 Spam"));
        }
        self.0.messages.lock().unwrap().push((to, octets));
        Ok(Reply::OK)
    }
}

impl Observer for Inbox {
    fn closed(&self, _: &Peer, outcome: Result<(), &std::io::Error>) {
        self.0.open.fetch_sub(1, SeqCst);
        self.0.orderly.fetch_add(usize::from(outcome.is_ok()), SeqCst);
    }
}

/// A server with STARTTLS and SCRAM.
pub(crate) fn server() -> (Server<Immediate<Users>, Inbox>, Inbox) {
    let inbox = Inbox::default();
    (serving(Immediate(Users), inbox.clone()), inbox)
}

pub(crate) fn serving<A: AsyncAuthenticator + 'static>(users: A, inbox: Inbox) -> Server<A, Inbox> {
    let sasl = sasl::server::Config::builder("localhost").answered_by(&Users).build().unwrap();
    let config = Config::builder("localhost").sasl(sasl).build().unwrap();
    let [cert, key] = &*LOCALHOST;
    Server::new(config, users, inbox.clone()).observer(inbox).tls(tls::server(cert, key).unwrap())
}

/// The same, on loopback.
pub(crate) async fn listening() -> (SocketAddr, Server<Immediate<Users>, Inbox>, Inbox) {
    let (server, inbox) = server();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    (address, server, inbox)
}

/// A pipe to a server.
pub(crate) fn pipe<A: AsyncAuthenticator + 'static>(server: &Server<A, Inbox>) -> DuplexStream {
    let (own, other) = duplex(4096);
    let server = server.clone();
    tokio::spawn(async move { server.serve_stream(other, None).await });
    own
}

pub(crate) fn tim() -> Credentials {
    Credentials::password("tim", PASSWORD).unwrap()
}

pub(crate) fn starttls() -> Connector {
    Connector::starttls("localhost").trust(tls::client(&LOCALHOST[0]).unwrap()).credentials(tim())
}

/// For scripts.
pub(crate) fn cleartext() -> Connector {
    Connector::insecure_cleartext("localhost")
}

pub(crate) fn to(recipients: &[&str]) -> Envelope {
    let address = |local_part: &&str| format!("{local_part}@example.org");
    Envelope::new(Some("tim@example.org"), recipients.iter().map(address)).unwrap()
}

pub(crate) const HELLO: &[u8] = b"Subject: Hello\r\n\r\nHi\r\n.\r\n..\r\nend\r\n";

/// Nothing here takes long.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), work).await.expect("it hangs")
}

/// Polls a future so many times; `None` where it has not come to its end by then, and is dropped.
pub(crate) async fn polled<T>(work: impl Future<Output = T>, times: usize) -> Option<T> {
    let (mut work, mut left) = (pin!(work), times);
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        let polled = work.as_mut().poll(cx).map(Some);
        // Where nothing wakes it any more, this ends all the same.
        if polled.is_pending() && left == 0 {
            cx.waker().wake_by_ref();
        }
        polled
    })
    .await
}

/// The beginning of a script for a client that does not authenticate.
pub(crate) const GREETING: &str = "S: 220 script\nC: EHLO\nS: 250-script\nS: 250 PIPELINING\n";

/// A whole transaction after that, up to the message's end.
pub(crate) const TRANSACTION: &str =
    "C: MAIL\nC: RCPT\nS: 250 ok\nS: 250 ok\nC: DATA\nS: 354 go on\nM:\n";

/// Does what a script says, a line each. At the end the stream is closed. Returns how many messages have been read to
/// their end.
///
/// | step | |
/// | --- | --- |
/// | `S: line` | says this line |
/// | `T: part` | says this part of a line |
/// | `C: begin` | reads a line that begins so |
/// | `M:` | reads a message up to its end |
/// | `R: n` | reads so many octets |
/// | `P: n` | pauses for so many milliseconds |
/// | `WAIT` | does nothing for ever |
pub(crate) async fn play(stream: impl Stream, script: String) -> usize {
    let mut stream = BufReader::new(stream);
    let mut messages = 0;
    for step in script.lines() {
        match step.split_at_checked(2) {
            Some(("S:", say)) => {
                let line = format!("{}\r\n", say.trim_start());
                stream.write_all(line.as_bytes()).await.unwrap();
            }
            Some(("T:", say)) => stream.write_all(say.trim_start().as_bytes()).await.unwrap(),
            Some(("C:", expected)) => {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                assert!(line.starts_with(expected.trim_start()), "{line:?} is not {expected}");
            }
            Some(("M:", _)) => {
                let mut line = Vec::new();
                while line != b".\r\n" {
                    line.clear();
                    assert!(stream.read_until(b'\n', &mut line).await.unwrap() > 0, "the end");
                }
                messages += 1;
            }
            Some(("R:", octets)) => {
                let mut read = vec![0; octets.trim().parse().unwrap()];
                stream.read_exact(&mut read).await.unwrap();
            }
            Some(("P:", pause)) => {
                sleep(Duration::from_millis(pause.trim().parse().unwrap())).await;
            }
            _ => std::future::pending().await,
        }
    }
    messages
}

/// A client that is connected to a script.
pub(crate) async fn scripted(script: &str) -> (Client, JoinHandle<usize>) {
    let (client, playing) = try_scripted(&cleartext(), script).await;
    (client.unwrap(), playing)
}

pub(crate) async fn try_scripted(
    connector: &Connector,
    script: &str,
) -> (Result<Client, Error>, JoinHandle<usize>) {
    let (own, other) = duplex(1024);
    let playing = tokio::spawn(play(other, script.to_owned()));
    (connector.connect_over(own).await, playing)
}

/// Listens on loopback, and plays a script with each connection after the other. Returns the address and what counts
/// connections.
pub(crate) async fn scripts(scripts: &[String]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (scripts, counted) = (scripts.to_vec(), Arc::clone(&count));
    tokio::spawn(async move {
        for script in scripts {
            let (socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, SeqCst);
            socket.set_nodelay(true).unwrap();
            tokio::spawn(play(socket, script));
        }
        std::future::pending::<()>().await;
    });
    (address, count)
}
