//! Sends messages over blocking sockets and rustls.

use std::{
    error::Error,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use rustls_pki_types::ServerName;
use smtp_auth::{
    client::{BodyType, Config, Envelope, Event, Outcome, Session},
    sasl::{Channel, ChannelBinding, client::Credentials},
};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, ProtocolVersion, RootCertStore, StreamOwned,
    crypto::ring,
};

/// How long to wait for each step. A server may take minutes for a message (RFC 5321 §4.5.3.2); who
/// sends without a queue has somebody waiting.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An error is a sentence for who wants to send.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A submission server, and how to sign in there.
pub(crate) struct Mailer {
    pub(crate) host: &'static str,
    pub(crate) port: u16,
    /// Whose certificates are trusted.
    pub(crate) roots: RootCertStore,
    pub(crate) credentials: Credentials,
}

impl Mailer {
    /// Begins TLS and signs in, by the strongest mechanism that both sides have.
    pub(crate) fn connect(&self) -> Result<Connection> {
        let mut socket = dial(self.host, self.port)
            .map_err(|why| format!("no connection to {}, port {}: {why}", self.host, self.port))?;
        // A client without a name in the DNS says its address (RFC 5321 §4.1.3).
        let address = socket.local_addr()?.ip();
        let ipv6 = if address.is_ipv6() { "IPv6:" } else { "" };
        let config = Config::builder(&format!("[{ipv6}{address}]")).build()?;
        let mut session = Session::new(Arc::new(config), self.credentials.clone());
        // The session requires TLS, so that nothing else stops it here.
        dialogue(&mut session, &mut socket, &[])?;
        let mut stream = self.begin_tls(socket)?;
        // The handshake would have failed with a certificate that is not trusted.
        session.tls_started(channel(&stream.conn).verified());
        dialogue(&mut session, &mut stream, &[])?;
        Ok(Connection { session, stream })
    }

    fn begin_tls(&self, mut socket: TcpStream) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let name = ServerName::try_from(self.host)?;
        let mut tls = ClientConnection::new(Arc::new(config), name)?;
        // The data that binds the sign-in is there only after the handshake.
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).map_err(|why| format!("TLS could not begin: {why}"))?;
        }
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
    /// Sends a message, whose lines end in CRLF, to all recipients or to none. Returns what the server
    /// said to it. After a refusal the next can be sent; after another error the session is over, and
    /// says so again.
    pub(crate) fn send(&mut self, envelope: &Envelope, message: &[u8]) -> Result<String> {
        let mut sent = envelope.clone().size(message.len() as u64).every_recipient(true);
        if !message.is_ascii() {
            sent = sent.body(BodyType::EightBitMime);
        }
        self.session.ready().ok_or("the last message is still under way")?.send(sent);
        let said = dialogue(&mut self.session, &mut self.stream, message)?;
        said.ok_or("the message was not sent".into())
    }

    /// Says goodbye. What comes of it does not matter: each message has had its answer.
    pub(crate) fn quit(mut self) {
        if let Some(ready) = self.session.ready() {
            ready.quit();
        }
        let _ = dialogue(&mut self.session, &mut self.stream, &[]);
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
    }
}

/// The loop around the session: until TLS is to begin, a message is wanted, one has its outcome, or
/// all is over. Returns what the server said to a message that it took.
fn dialogue(
    session: &mut Session,
    stream: &mut (impl Read + Write),
    message: &[u8],
) -> Result<Option<String>> {
    let (mut out, mut buffer, mut refused) = (Vec::new(), [0; 4096], Vec::new());
    loop {
        match session.next(&mut out)? {
            Event::NeedInput => {
                flush(stream, &mut out)?;
                match stream.read(&mut buffer) {
                    Ok(0) => session.eof()?,
                    Ok(n) => session.receive(buffer.get(..n).unwrap_or_default()),
                    // TLS that ends without a goodbye: replies have an end of their own.
                    Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => session.eof()?,
                    Err(why) if is_timeout(&why) => session.timed_out()?,
                    Err(why) => {
                        return Err(format!("no reply to {}: {why}", session.stage()).into());
                    }
                }
            }
            Event::StartTls => {
                flush(stream, &mut out)?;
                return Ok(None);
            }
            Event::Derive(ask) => ask.run(),
            // No mechanism of our own is listed.
            Event::Custom(ask) => ask.fail(),
            Event::NotAuthenticated(failed) => return Err(failed.error().into()),
            Event::Message(body) => {
                // Not all at once, or it would be in memory twice.
                for part in message.chunks(16384) {
                    body.write(part, &mut out)?;
                    flush(stream, &mut out)?;
                }
                body.end(&mut out)?;
            }
            Event::Refused { recipient, refusal } => {
                refused.push(format!("{recipient}: {refusal}"));
            }
            Event::Sent(Outcome::Accepted { reply, .. }) => return Ok(Some(reply.to_string())),
            Event::Sent(outcome) if refused.is_empty() => return Err(outcome.to_string().into()),
            Event::Sent(_) => return Err(refused.join(", ").into()),
            // Shown again, to whom settles it.
            Event::Ready(_) | Event::Close => return Ok(None),
        }
    }
}

/// Whether the socket's timeout has run out: systems differ in how they say it.
fn is_timeout(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

pub(crate) fn flush(stream: &mut impl Write, out: &mut Vec<u8>) -> io::Result<()> {
    stream.write_all(out)?;
    out.clear();
    stream.flush()
}
