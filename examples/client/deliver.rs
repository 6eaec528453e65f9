//! One message over one connection: the loop around a [`Session`].

use std::{io, time::Duration};

use rustls_pki_types::ServerName;
use smtp_auth::client::{Envelope, Error, Event, Outcome, Session};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time,
};
use tokio_rustls::TlsConnector;

use crate::{
    binding,
    failure::{Failure, tell},
    trust,
};

/// How much of the message is written at once: each part has the timeout for itself.
const PART: usize = 16384;

/// How long, and how often, to listen for what the server said before the connection broke.
const LAST_WORDS: Duration = Duration::from_millis(500);
const LAST_READS: usize = 16;

/// What is to be delivered.
#[derive(Debug)]
pub(crate) struct Mail<'m> {
    pub(crate) envelope: Envelope,
    /// The message, its lines ending in CRLF.
    pub(crate) message: &'m [u8],
}

/// The server as TLS sees it.
pub(crate) struct Peer {
    pub(crate) connector: TlsConnector,
    pub(crate) name: ServerName<'static>,
    /// Whether TLS comes first, before the greeting.
    pub(crate) implicit: bool,
}

/// Delivers. The text of success has the server's own words.
pub(crate) async fn deliver(
    socket: TcpStream,
    peer: Peer,
    session: Session,
    mail: Mail<'_>,
    timeout: Duration,
) -> Result<String, Failure> {
    let Mail { envelope, message } = mail;
    let (envelope, out) = (Some(envelope), Vec::new());
    let mut delivery = Delivery { session, envelope, message, timeout, out, outcome: None };
    let ended = delivery.connection(socket, peer).await;
    // What comes behind the server's word on the message cannot change it any more: a message that
    // was accepted must not be sent again because QUIT failed.
    match (delivery.outcome, ended) {
        (Some(outcome), _) => outcome,
        (None, Err(failure)) => Err(failure),
        (None, Ok(())) => Err(Failure::Protocol("the session ended too early".into())),
    }
}

/// What lasts from the first stream to the one inside TLS.
struct Delivery<'m> {
    session: Session,
    envelope: Option<Envelope>,
    message: &'m [u8],
    timeout: Duration,
    /// What is to be sent.
    out: Vec<u8>,
    outcome: Option<Result<String, Failure>>,
}

/// Why the dialogue stopped.
enum Stop {
    StartTls,
    Closed,
}

impl Delivery<'_> {
    async fn connection(&mut self, mut socket: TcpStream, peer: Peer) -> Result<(), Failure> {
        // Each step waits for a reply, so there is nothing to gather before it is sent. Where this
        // cannot be set, all is only slower.
        let _ = socket.set_nodelay(true);
        if !peer.implicit {
            match self.dialogue(&mut socket).await? {
                Stop::StartTls => {}
                Stop::Closed => return Ok(()),
            }
        }
        let Peer { connector, name, .. } = peer;
        let handshake = connector.connect(name, socket);
        let mut stream = within(self.timeout, "TLS could not begin", handshake).await?;
        let tls = stream.get_ref().1;
        let certificate = tls.peer_certificates().and_then(<[_]>::first);
        self.session.tls_started(binding::channel(tls, certificate));
        match self.dialogue(&mut stream).await? {
            // Inside TLS a session does not ask for it.
            Stop::StartTls | Stop::Closed => Ok(()),
        }
    }

    /// Runs the dialogue until it is over, or goes on inside TLS. Where the connection breaks, the
    /// server may have said why, and its words are worth more than the system's.
    async fn dialogue<S>(&mut self, stream: &mut S) -> Result<Stop, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let ended = self.run(stream).await;
        let Err(Failure::Connection(why)) = ended else { return ended };
        let mut buffer = [0; 4096];
        for _ in 0..LAST_READS {
            match time::timeout(LAST_WORDS, stream.read(&mut buffer)).await {
                Ok(Ok(n)) if n > 0 => self.session.receive(buffer.get(..n).unwrap_or_default()),
                _ => break,
            }
        }
        let step = match self.session.eof() {
            Ok(()) => self.session.stage(),
            Err(Error::Disconnected(step)) => step,
            Err(error) => return Err(error.into()),
        };
        if why.contains(&step.to_string()) || why.contains(trust::NOT_TAKEN) {
            return Err(Failure::Connection(why));
        }
        Err(Failure::Connection(format!("{why}, at {step}; try again later")))
    }

    async fn run<S>(&mut self, stream: &mut S) -> Result<Stop, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut buffer = [0; 4096];
        loop {
            match self.session.next(&mut self.out)? {
                Event::NeedInput => {
                    send(stream, &mut self.out, self.timeout).await?;
                    match time::timeout(self.timeout, receive(stream, &mut buffer)).await {
                        Err(_) => self.session.timed_out()?,
                        Ok(octets) => match octets? {
                            [] => self.session.eof()?,
                            octets => self.session.receive(octets),
                        },
                    }
                }
                Event::StartTls => {
                    send(stream, &mut self.out, self.timeout).await?;
                    return Ok(Stop::StartTls);
                }
                // No mechanism of our own is listed.
                Event::Custom(ask) => ask.fail(),
                Event::Derive(ask) => {
                    // Milliseconds of work, which a runtime must not wait for.
                    let job = ask.job();
                    let salted = tokio::task::spawn_blocking(move || job.run()).await;
                    ask.answer(salted.map_err(|error| Failure::Protocol(error.to_string()))?);
                }
                Event::NotAuthenticated(failed) => {
                    self.outcome = Some(Err(failed.error().into()));
                    failed.quit();
                }
                Event::Ready(ready) => match self.envelope.take() {
                    Some(envelope) => ready.send(envelope),
                    None => ready.quit(),
                },
                Event::Refused { recipient, refusal } => {
                    tell(format_args!("client: recipient {recipient}: {refusal}"));
                }
                Event::Message(body) => {
                    for part in self.message.chunks(PART) {
                        body.write(part, &mut self.out)?;
                        send(stream, &mut self.out, self.timeout).await?;
                    }
                    body.end(&mut self.out)?;
                }
                Event::Sent(outcome) => self.outcome = Some(result(outcome)),
                Event::Close => {
                    // Whether the server still hears the end does not matter.
                    let _ = within(self.timeout, "", stream.shutdown()).await;
                    return Ok(Stop::Closed);
                }
            }
        }
    }
}

fn result(outcome: &Outcome) -> Result<String, Failure> {
    match outcome {
        Outcome::Accepted { .. } => Ok(outcome.to_string()),
        Outcome::AcceptedForSome { .. } | Outcome::Refused { .. } | Outcome::NotSent { .. } => {
            Err(Failure::Refused(outcome.to_string()))
        }
    }
}

async fn send<S>(stream: &mut S, out: &mut Vec<u8>, timeout: Duration) -> Result<(), Failure>
where
    S: AsyncWrite + Unpin,
{
    let sending = async {
        stream.write_all(out).await?;
        stream.flush().await
    };
    within(timeout, "the connection broke", sending).await?;
    out.clear();
    Ok(())
}

/// What the server sent; nothing at the end of the stream.
async fn receive<'b, S>(stream: &mut S, buffer: &'b mut [u8]) -> Result<&'b [u8], Failure>
where
    S: AsyncRead + Unpin,
{
    match stream.read(buffer).await {
        Ok(n) => Ok(buffer.get(..n).unwrap_or_default()),
        // TLS that ends without a goodbye. Replies have an end of their own, so that nothing
        // can be cut off unseen.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(&[]),
        Err(error) => Err(broken("the connection broke", error)),
    }
}

fn broken(what: &str, error: io::Error) -> Failure {
    Failure::Connection(format!("{what}: {}", trust::explain(error)))
}

/// Does the work in time; what cannot be done is a failure of the connection.
pub(crate) async fn within<T>(
    timeout: Duration,
    what: &str,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Failure> {
    match time::timeout(timeout, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(broken(what, error)),
        Err(_) => {
            let seconds = timeout.as_secs();
            Err(Failure::Connection(format!("{what}: no answer within {seconds} seconds")))
        }
    }
}
