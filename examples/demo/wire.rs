//! Records each line of a dialogue as a log shows it, with secrets masked, and as it is sent.

use std::{
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use smtp_auth_tokio::{
    BoxStream, Handshake, TlsConnect, client::Connector, rustls::ClientConfig, smtp_auth::Side,
};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, duplex, split,
};

/// A line of a dialogue.
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) side: Side,
    /// The line as a log shows it: `AUTH PLAIN ***`.
    pub(crate) text: String,
    /// The message of the mechanism that the line carries, decoded from base64.
    pub(crate) message: Option<String>,
}

/// How a client begins TLS, with a tap inside it that records what both sides send.
#[derive(Clone)]
pub(crate) struct Tapped {
    tls: Arc<ClientConfig>,
    logged: Arc<Mutex<Vec<Line>>>,
    /// The lines as they were sent.
    passed: Arc<Mutex<Vec<(Side, String)>>>,
}

impl Tapped {
    pub(crate) fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls, logged: Arc::default(), passed: Arc::default() }
    }

    /// Makes the client begin TLS in this way, and records what it logs.
    pub(crate) fn record(&self, client: Connector) -> Connector {
        let logged = Arc::clone(&self.logged);
        let trace = move |side, text: &str| {
            let (at, text) = (Instant::now(), text.to_owned());
            lock(&logged).push(Line { at, side, text, message: None });
        };
        client.trust(self.clone()).trace(trace)
    }

    /// Returns the lines of the dialogue, with the messages that they carry.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut lines = mem::take(&mut *lock(&self.logged));
        let passed = mem::take(&mut *lock(&self.passed));
        for side in [Side::Client, Side::Server] {
            // The log and the tap have the same lines, until the e-mail is sent: it is a single line in the log.
            let passed = passed.iter().filter(|(whose, _)| *whose == side);
            let logged = lines.iter_mut().filter(|line| line.side == side);
            for (line, (_, passed)) in logged.zip(passed) {
                let begin = line.text.strip_suffix("***").unwrap_or("334 ");
                line.message = passed.strip_prefix(begin).and_then(decoded);
            }
        }
        lines
    }
}

/// Decodes a message from base64. A single equals sign stands for an empty message (RFC 4954 §4).
fn decoded(encoded: &str) -> Option<String> {
    let octets = BASE64_STANDARD.decode(encoded.strip_prefix("=").unwrap_or(encoded)).ok()?;
    Some(String::from_utf8_lossy(&octets).into_owned())
}

impl TlsConnect for Tapped {
    fn connect<'a>(&'a self, host: &'a str, stream: BoxStream) -> Handshake<'a> {
        Box::pin(async move {
            let (stream, channel) = self.tls.connect(host, stream).await?;
            // The lines before TLS held nothing secret, so the log shows them as they were sent.
            let said = |line: &Line| (line.side, line.text.clone());
            *lock(&self.passed) = lock(&self.logged).iter().map(said).collect();
            let (client, tap) = duplex(4096);
            let (from_server, to_server) = split(stream);
            let (from_client, to_client) = split(tap);
            let passed = || Arc::clone(&self.passed);
            tokio::spawn(pass(Side::Client, from_client, to_server, passed()));
            tokio::spawn(pass(Side::Server, from_server, to_client, passed()));
            Ok((Box::new(client) as BoxStream, channel))
        })
    }
}

/// Passes on what one side sends, and records each line.
async fn pass(
    side: Side,
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    passed: Arc<Mutex<Vec<(Side, String)>>>,
) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = String::new();
    while from.read_line(&mut line).await? > 0 {
        lock(&passed).push((side, line.trim_end().to_owned()));
        to.write_all(line.as_bytes()).await?;
        to.flush().await?;
        line.clear();
    }
    to.shutdown().await
}

/// Locks a list. A panic elsewhere cannot have left half a line in it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
