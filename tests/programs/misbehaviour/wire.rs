//! What both scripted sides need: connections that end badly, certificates, and many scripts at once.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    runtime, time,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client,
    rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring},
    server,
};

/// No script, and no program that it plays with, takes longer: less than a patient client waits for
/// an answer, and enough for a machine that has much else to do.
pub const BOUND: Duration = Duration::from_secs(30);

/// Long enough for a program that waits for an octet to read it; nothing that a script sees tells
/// when it has.
const APART: Duration = Duration::from_millis(1);

/// So many scripts run at a time.
const AT_ONCE: usize = 16;

/// Runs each case, many at a time, and tells of all that failed.
pub fn each<T: Sync>(cases: &[T], run: impl Fn(&T) + Sync) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(case))) {
                        let text = panic.downcast_ref::<String>().cloned();
                        let word = panic.downcast_ref::<&str>().copied().unwrap_or("a panic");
                        failed.lock().unwrap().push(text.unwrap_or_else(|| word.to_owned()));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let some: Vec<_> = failed.iter().take(40).map(String::as_str).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), some.join("\n"));
}

/// Runs it in a runtime of its own, and no longer than [`BOUND`]; `None` is what took longer.
pub fn bounded<T>(work: impl Future<Output = T>) -> Option<T> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { time::timeout(BOUND, work).await.ok() })
}

/// The connection is over, in whatever way.
#[derive(Debug)]
pub struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// How a connection is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// In order; under TLS with its goodbye.
    Goodbye,
    /// By a FIN alone; under TLS that is an attack, or a broken peer.
    Fin,
    /// By a RST.
    Rst,
}

impl Cut {
    pub const ALL: [Self; 3] = [Self::Goodbye, Self::Fin, Self::Rst];
}

/// A connection, in TLS or not.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&mut self) -> &mut TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&mut self) -> &mut TcpStream {
        self
    }
}

impl Stream for client::TlsStream<TcpStream> {
    fn tcp(&mut self) -> &mut TcpStream {
        self.get_mut().0
    }
}

impl Stream for server::TlsStream<TcpStream> {
    fn tcp(&mut self) -> &mut TcpStream {
        self.get_mut().0
    }
}

/// One side of a dialogue in lines.
pub struct Wire<S> {
    pub stream: S,
    /// What has come and was not looked at.
    buffer: Vec<u8>,
}

impl<S: Stream> Wire<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn write(&mut self, octets: &[u8]) -> Result<(), Over> {
        self.stream.write_all(octets).await?;
        Ok(self.stream.flush().await?)
    }

    /// With a pause behind each, so that the other side sees it by itself.
    pub async fn write_octet_by_octet(&mut self, octets: &[u8]) -> Result<(), Over> {
        for octet in octets {
            self.write(&[*octet]).await?;
            time::sleep(APART).await;
        }
        Ok(())
    }

    /// What comes up to this end, without it.
    pub async fn until(&mut self, end: &[u8]) -> Result<Vec<u8>, Over> {
        loop {
            if let Some(n) = self.buffer.windows(end.len()).position(|octets| octets == end) {
                let rest = self.buffer.split_off(n + end.len());
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(n);
                return Ok(line);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Over);
            }
        }
    }

    /// The next line, without CRLF.
    pub async fn line(&mut self) -> Result<String, Over> {
        let line = self.until(b"\r\n").await?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Whether more has come than was looked at.
    pub fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Waits until the other side leaves, saying nothing.
    pub async fn wait_for_the_end(&mut self) {
        while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|n| n > 0) {
            self.buffer.clear();
        }
    }

    /// Writes this again and again until the other side is gone; how many octets it was.
    pub async fn flood(&mut self, octets: &[u8]) -> usize {
        let (octets, mut written) = (octets.repeat((16 << 10) / octets.len()), 0);
        while self.write(&octets).await.is_ok() {
            written += octets.len();
        }
        written
    }

    /// Cuts the connection off; it is over for good when this is dropped.
    pub async fn cut(&mut self, how: Cut) {
        let _ = match how {
            Cut::Goodbye => self.stream.shutdown().await,
            Cut::Fin => self.stream.tcp().shutdown().await,
            Cut::Rst => self.stream.tcp().set_zero_linger(),
        };
    }
}

/// Files with a certificate and its key.
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// For a server of that name, signed by its own key, good until that year.
    pub fn new(folder: &Path, name: &str, until: i32) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(until, 1, 1);
        let serial = fs::read_dir(folder).unwrap().count();
        let file = |kind: &str| folder.join(format!("{serial}.{kind}.pem"));
        let pair = Self { cert: file("cert"), key: file("key") };
        fs::write(&pair.cert, parameters.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.cert).unwrap()
    }

    /// A server that shows it.
    pub fn acceptor(&self) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![self.certificate()],
                PrivateKeyDer::from_pem_file(&self.key).unwrap(),
            );
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }

    /// A client that trusts it alone.
    pub fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}
