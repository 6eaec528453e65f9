//! A handler that does wrong at one stage, and a client that only notes what it is told.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use smtp_auth_tokio::{
    BoxStream, Stream,
    server::{Body, Handler, Observer, Peer, Server},
    smtp_auth::{
        AsyncAuthenticator, Reply,
        command::{Command, Mail, Rcpt},
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex},
    task::{JoinHandle, yield_now},
};

/// The stages in which a handler is asked something, or has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Never,
    /// At each of the others.
    Each,
    Connect,
    Command,
    Mail,
    Rcpt,
    /// Before the message is read, after its first piece, at its end, and once it is kept.
    Data,
    Half,
    Whole,
    Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Panic,
    Stall,
    /// Returns early, with a yes and with a no.
    Accept,
    Refuse,
    /// Has to be polled again.
    Yield,
}

/// What the handler has seen and kept.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) begun: AtomicUsize,
    pub(crate) dropped: AtomicUsize,
    pub(crate) opened: AtomicUsize,
    pub(crate) closed: AtomicUsize,
    kept: Mutex<Vec<Vec<u8>>>,
}

impl Book {
    pub(crate) fn kept(&self) -> Vec<Vec<u8>> {
        self.kept.lock().unwrap().clone()
    }

    /// That every transaction has ended, and that so many messages are kept, whole and no others.
    pub(crate) fn assert_kept(&self, many: usize, what: impl std::fmt::Debug) {
        assert_eq!(self.begun.load(SeqCst), self.dropped.load(SeqCst), "{what:?}");
        let kept = self.kept();
        assert_eq!(kept.len(), many, "{what:?}");
        assert!(kept.iter().all(|message| message == WHOLE), "{what:?}");
    }
}

#[derive(Clone)]
pub(crate) struct Faulty {
    at: At,
    how: How,
    pub(crate) book: Arc<Book>,
}

pub(crate) struct Begun(Arc<Book>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }
}

impl Faulty {
    pub(crate) fn new(at: At, how: How) -> Self {
        Self { at, how, book: Arc::default() }
    }

    /// What it says too early, if it does.
    async fn fault(&self, at: At) -> Option<Result<Reply, Reply>> {
        if self.at != at && self.at != At::Each {
            return None;
        }
        match self.how {
            // It is not printed.
            How::Panic => std::panic::resume_unwind(Box::new("as a handler may")),
            How::Stall => std::future::pending().await,
            How::Accept => Some(Ok(Reply::OK)),
            How::Refuse => Some(Err(Reply::INSUFFICIENT_STORAGE)),
            How::Yield => {
                yield_now().await;
                None
            }
        }
    }
}

impl Handler for Faulty {
    type Transaction = Begun;

    async fn connect(&self, _: &Peer) -> Result<(), Reply> {
        self.fault(At::Connect).await.unwrap_or(Ok(Reply::OK)).map(drop)
    }

    async fn command(&self, _: &Peer, _: Command<'_>) -> Reply {
        self.fault(At::Command).await.unwrap_or(Ok(Reply::CANNOT_VERIFY)).unwrap_or_else(|no| no)
    }

    async fn mail(&self, _: &Peer, _: Mail<'_>) -> Result<Begun, Reply> {
        self.book.begun.fetch_add(1, SeqCst);
        let begun = Begun(Arc::clone(&self.book));
        self.fault(At::Mail).await.unwrap_or(Ok(Reply::OK)).map(|_| begun)
    }

    async fn rcpt(&self, _: &Peer, _: &mut Begun, _: Rcpt<'_>) -> Result<(), Reply> {
        self.fault(At::Rcpt).await.unwrap_or(Ok(Reply::OK)).map(drop)
    }

    async fn data(&self, _: &Peer, _begun: Begun, mut body: Body<'_>) -> Result<Reply, Reply> {
        if let Some(said) = self.fault(At::Data).await {
            return said;
        }
        let mut all = Vec::new();
        while let Some(piece) = body.next().await {
            all.extend_from_slice(piece);
            if let Some(said) = self.fault(At::Half).await {
                return said;
            }
        }
        if let Some(said) = self.fault(At::Whole).await {
            return said;
        }
        self.book.kept.lock().unwrap().push(all);
        self.fault(At::Kept).await.unwrap_or(Ok(Reply::OK))
    }
}

impl Observer for Faulty {
    fn connected(&self, _: &Peer) {
        self.book.opened.fetch_add(1, SeqCst);
    }

    fn closed(&self, _: &Peer, _: Result<(), &std::io::Error>) {
        self.book.closed.fetch_add(1, SeqCst);
    }
}

/// The message, as it is sent and as it is kept.
pub(crate) const MESSAGE: &str = "Subject: a\r\n\r\n..b\r\nthe end\r\n.\r\n";
pub(crate) const WHOLE: &[u8] = b"Subject: a\r\n\r\n.b\r\nthe end\r\n";

/// One command after the other, each after the reply to the one before.
pub(crate) const DIALOGUE: [&str; 7] = [
    "EHLO c\r\n",
    "VRFY x\r\n",
    "MAIL FROM:<a@b.c>\r\n",
    "RCPT TO:<d@e.f>\r\n",
    "DATA\r\n",
    MESSAGE,
    "QUIT\r\n",
];

/// A client that notes the code of each reply.
pub(crate) struct Listener {
    pub(crate) stream: BufReader<BoxStream>,
    pub(crate) codes: Vec<String>,
}

impl Listener {
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: BufReader::new(Box::new(stream)), codes: Vec::new() }
    }

    /// Notes one more reply; the end of the connection is a `-`, whatever its reason.
    pub(crate) async fn hear(&mut self) -> &str {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.stream.read_line(&mut line).await.unwrap_or_default();
            if read == 0 || !line.ends_with('\n') {
                self.codes.push("-".to_owned());
                break;
            }
            if line.as_bytes().get(3) == Some(&b' ') {
                self.codes.push(line[..3].to_owned());
                break;
            }
        }
        self.codes.last().unwrap()
    }

    /// Whether it could.
    pub(crate) async fn write(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// The greeting and the replies to these, as far as the first refusal or the end.
    pub(crate) async fn say_all(&mut self, lines: &[&str]) -> String {
        let mut lines = lines.iter();
        while !self.hear().await.starts_with(['4', '5', '-']) {
            let Some(line) = lines.next() else { break };
            self.write(line).await;
        }
        self.codes.join(" ")
    }

    /// All that is still said, as far as the end.
    pub(crate) async fn hear_all(&mut self) -> String {
        while self.hear().await != "-" {}
        self.codes.join(" ")
    }
}

/// A server's end of a pipe, which it serves.
pub(crate) fn served<A: AsyncAuthenticator + 'static, H: Handler>(
    server: &Server<A, H>,
    pipe: usize,
) -> (DuplexStream, JoinHandle<()>) {
    let (own, theirs) = duplex(pipe);
    let server = server.clone();
    (own, tokio::spawn(async move { server.serve_stream(theirs, None).await }))
}
