//! Sends messages over blocking sockets and rustls.

use std::{
    error::Error,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use rustls_pki_types::{CertificateDer, ServerName};
use smtp_auth::{
    client::{Config, Envelope, Event, Fate, Session},
    sasl::{Channel, ChannelBinding, Mechanism, client::Credentials},
};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, ProtocolVersion, RootCertStore, SideData,
    StreamOwned, crypto::ring,
};

/// How long to wait for each step. A server may take minutes for a message (RFC 5321 §4.5.3.2); who
/// sends without a queue has somebody waiting.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How much of a message is written at once.
const PART: usize = 16384;

/// An error is a sentence for who wants to send.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A submission server, and how to sign in there.
pub(crate) struct Mailer {
    host: String,
    port: u16,
    roots: RootCertStore,
    credentials: Option<Credentials>,
}

impl Mailer {
    /// Trusts the authorities that browsers trust.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        Self { host: host.to_owned(), port, roots, credentials: None }
    }

    pub(crate) fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Trusts this certificate and what it has signed, and nothing else.
    pub(crate) fn trust_only(mut self, certificate: CertificateDer<'static>) -> Result<Self> {
        self.roots = RootCertStore::empty();
        self.roots.add(certificate)?;
        Ok(self)
    }

    /// Sends one message over a connection of its own. Returns what the server said to it.
    pub(crate) fn send(&self, envelope: &Envelope, message: &[u8]) -> Result<String> {
        let mut connection = self.connect()?;
        let said = connection.send(envelope, message)?;
        connection.quit();
        Ok(said)
    }

    /// Begins TLS and signs in, by the strongest mechanism that both sides have.
    pub(crate) fn connect(&self) -> Result<Connection> {
        let mut socket = dial(&self.host, self.port)
            .map_err(|why| format!("no connection to {}, port {}: {why}", self.host, self.port))?;
        // A client without a name in the DNS says its address (RFC 5321 §4.1.3).
        let config = Config::new(&literal(&socket)?)?;
        let mut session = match &self.credentials {
            Some(credentials) => Session::new(config, credentials.clone()),
            None => Session::without_credentials(config),
        };
        // The session requires TLS, so that nothing else stops it here.
        run(&mut session, &mut socket, &[])?;
        let mut stream = self.begin_tls(socket)?;
        session.tls_started(channel(&stream.conn));
        run(&mut session, &mut stream, &[])?;
        Ok(Connection { session, stream })
    }

    fn begin_tls(&self, mut socket: TcpStream) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone())?;
        let mut tls = ClientConnection::new(Arc::new(config), name)?;
        handshake(&mut tls, &mut socket).map_err(|why| format!("TLS could not begin: {why}"))?;
        Ok(StreamOwned::new(tls, socket))
    }
}

fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(socket) => return limited(socket),
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// The socket, so that it waits for nobody without end.
pub(crate) fn limited(socket: TcpStream) -> io::Result<TcpStream> {
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn literal(socket: &TcpStream) -> io::Result<String> {
    let address = socket.local_addr()?.ip();
    Ok(if address.is_ipv6() { format!("[IPv6:{address}]") } else { format!("[{address}]") })
}

pub(crate) fn handshake<S: SideData>(
    tls: &mut ConnectionCommon<S>,
    socket: &mut TcpStream,
) -> io::Result<()> {
    while tls.is_handshaking() {
        tls.complete_io(socket)?;
    }
    Ok(())
}

/// With what binds the sign-in to this TLS connection (RFC 9266), so that nobody can stand between.
pub(crate) fn channel<S>(tls: &ConnectionCommon<S>) -> Channel {
    let exported = tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""));
    match exported {
        Ok(exported) if tls.protocol_version() == Some(ProtocolVersion::TLSv1_3) => {
            Channel::tls().with_binding(ChannelBinding::tls_exporter(exported))
        }
        _ => Channel::tls(),
    }
}

/// A connection that is signed in, for any number of messages.
pub(crate) struct Connection {
    session: Session,
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Connection {
    /// By which mechanism it is.
    pub(crate) fn signed_in(&self) -> Option<Mechanism> {
        self.session.authenticated()
    }

    /// Sends a message, whose lines end in CRLF, to all recipients or to none. Returns what the server
    /// said to it. After a refusal the next can be sent; after another error the session is over, and
    /// says so again.
    pub(crate) fn send(&mut self, envelope: &Envelope, message: &[u8]) -> Result<String> {
        let envelope = envelope.clone().size(message.len() as u64).every_recipient(true);
        match self.session.next(&mut Vec::new())? {
            Event::Ready(ready) => ready.send(envelope.eight_bit(!message.is_ascii())),
            _ => return Err("the last message is still under way".into()),
        }
        match run(&mut self.session, &mut self.stream, message)? {
            Some(Fate::Accepted(reply)) => Ok(reply.to_string()),
            Some(fate) => Err(fate.to_string().into()),
            None => Err("the message was not sent".into()),
        }
    }

    /// Says goodbye. What comes of it does not matter: each message has had its answer.
    pub(crate) fn quit(mut self) {
        if let Ok(Event::Ready(ready)) = self.session.next(&mut Vec::new()) {
            ready.quit();
        }
        let _ = run(&mut self.session, &mut self.stream, &[]);
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
    }
}

/// Goes on until TLS is to begin, a message is wanted, one has met its fate, or all is over.
fn run(
    session: &mut Session,
    stream: &mut (impl Read + Write),
    message: &[u8],
) -> Result<Option<Fate>> {
    dialogue(session, stream, message).map_err(|why| match why.downcast::<io::Error>() {
        Ok(why) => format!("the connection broke at {}: {}", session.step(), explain(&why)).into(),
        Err(other) => other,
    })
}

/// The loop around the session.
fn dialogue(
    session: &mut Session,
    stream: &mut (impl Read + Write),
    message: &[u8],
) -> Result<Option<Fate>> {
    let (mut out, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match session.next(&mut out)? {
            Event::NeedInput => {
                flush(stream, &mut out)?;
                match stream.read(&mut buffer) {
                    Ok(0) => session.eof()?,
                    Ok(n) => session.receive(buffer.get(..n).unwrap_or_default()),
                    // TLS that ends without a goodbye: replies have an end of their own.
                    Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => session.eof()?,
                    Err(why) => return Err(why.into()),
                }
            }
            Event::StartTls => {
                flush(stream, &mut out)?;
                return Ok(None);
            }
            Event::Derive(ask) => ask.run(),
            // No mechanism of our own is listed.
            Event::Challenge(ask) => ask.fail(),
            Event::AuthFailed(failed) => return Err(failed.error().into()),
            Event::Message(body) => {
                for part in message.chunks(PART) {
                    body.write(part, &mut out)?;
                    flush(stream, &mut out)?;
                }
                body.end(&mut out)?;
            }
            // One refused recipient stops the message, whose fate says so.
            Event::Refused(..) => {}
            Event::Sent(fate) => return Ok(Some(fate.clone())),
            // Shown again, to whom settles it.
            Event::Ready(_) | Event::Close => return Ok(None),
        }
    }
}

pub(crate) fn flush(stream: &mut impl Write, out: &mut Vec<u8>) -> io::Result<()> {
    stream.write_all(out)?;
    out.clear();
    stream.flush()
}

/// The system says of a time that ran out that it was "temporarily unavailable".
fn explain(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer within {} seconds", TIMEOUT.as_secs())
        }
        _ => why.to_string(),
    }
}
