//! One message over one connection: the loop around a [`Session`].

use std::{io, time::Duration};

use rustls_pki_types::ServerName;
use smtp_auth::{
    client::{Envelope, Event, Fate, Session},
    sasl::Channel,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time,
};
use tokio_rustls::TlsConnector;

use crate::failure::{Failure, shown};

/// How much of the message is written at once: each part has the timeout for itself.
const PART: usize = 16384;

/// What a delivery takes along from one stream to the same inside TLS.
pub(crate) struct Delivery<'m> {
    session: Session,
    envelope: Option<Envelope>,
    message: &'m [u8],
    timeout: Duration,
    /// What is to be sent.
    out: Vec<u8>,
    refused: usize,
    outcome: Option<Result<String, Failure>>,
}

/// Why the dialogue stopped.
enum Pause {
    StartTls,
    Closed,
}

impl<'m> Delivery<'m> {
    pub(crate) fn new(
        session: Session,
        envelope: Envelope,
        message: &'m [u8],
        timeout: Duration,
    ) -> Self {
        let (out, envelope) = (Vec::new(), Some(envelope));
        Self { session, envelope, message, timeout, out, refused: 0, outcome: None }
    }

    /// Delivers, over TLS from the start unless `cleartext` comes first. The text of success is the
    /// server's.
    pub(crate) async fn run(
        mut self,
        socket: TcpStream,
        cleartext: bool,
        tls: &TlsConnector,
        server: ServerName<'static>,
    ) -> Result<String, Failure> {
        let ended = self.connection(socket, cleartext, tls, server).await;
        // What comes behind the server's word on the message cannot change it any more: a message
        // that was accepted must not be sent again because QUIT failed.
        match (self.outcome, ended) {
            (Some(outcome), _) => outcome,
            (None, Err(failure)) => Err(failure),
            (None, Ok(())) => Err(Failure::Connection("the session ended too early".into())),
        }
    }

    async fn connection(
        &mut self,
        mut socket: TcpStream,
        cleartext: bool,
        tls: &TlsConnector,
        server: ServerName<'static>,
    ) -> Result<(), Failure> {
        if cleartext {
            match self.dialogue(&mut socket).await? {
                Pause::StartTls => {}
                Pause::Closed => return Ok(()),
            }
        }
        let handshake = tls.connect(server, socket);
        let mut stream = within(self.timeout, "TLS could not begin", handshake).await?;
        self.session.tls_started(Channel::tls());
        match self.dialogue(&mut stream).await? {
            // A session asks for TLS once.
            Pause::StartTls | Pause::Closed => Ok(()),
        }
    }

    /// Runs the dialogue until it is over, or goes on inside TLS.
    async fn dialogue<S>(&mut self, stream: &mut S) -> Result<Pause, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut buffer = [0; 4096];
        loop {
            match self.session.next(&mut self.out)? {
                Event::NeedInput => {
                    send(stream, &mut self.out, self.timeout).await?;
                    match receive(stream, &mut buffer, self.timeout).await? {
                        [] => self.session.eof()?,
                        octets => self.session.receive(octets),
                    }
                }
                Event::StartTls => {
                    send(stream, &mut self.out, self.timeout).await?;
                    return Ok(Pause::StartTls);
                }
                Event::AuthFailed(failed) => {
                    self.outcome = Some(Err(failed.error().into()));
                    failed.quit();
                }
                Event::Ready(ready) => match self.envelope.take() {
                    Some(envelope) => ready.send(envelope),
                    None => ready.quit(),
                },
                Event::Refused(recipient, reply) => {
                    self.refused += 1;
                    let to = self.recipients.get(recipient).map_or("", String::as_str);
                    eprintln!("{}", shown(&format!("the server refused the recipient {to}: {reply}")));
                }
                Event::Message(body) => {
                    for part in self.message.chunks(PART) {
                        body.write(part, &mut self.out)?;
                        send(stream, &mut self.out, self.timeout).await?;
                    }
                    body.end(&mut self.out)?;
                }
                Event::Sent(fate) => self.outcome = Some(outcome(fate, self.refused)),
                Event::Closed => {
                    // Whether the server still hears the goodbye does not matter.
                    let _ = within(self.timeout, "", stream.shutdown()).await;
                    return Ok(Pause::Closed);
                }
            }
        }
    }
}
