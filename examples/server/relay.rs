//! The next hop: hands a message on with this crate's client.

use core::{error::Error, time::Duration};
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use smtp_auth::{
    client::{self, AuthError, Config, Envelope, Event, NotSent, Outcome, Session, Stage, Tls},
    command::MailAuth,
    reply::Reply,
    sasl::Channel,
};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{self, CryptoProvider, ring},
    },
};

use crate::{
    log,
    transaction::{BATCH, reply},
};

type Failure = Box<dyn Error + Send + Sync>;

/// How long each step may take. RFC 5321 §4.5.3.2 would wait up to ten minutes, but here a client
/// waits behind.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long to listen for what the next hop said before the connection broke.
const LAST_WORDS: Duration = Duration::from_millis(500);

pub(crate) struct Relay {
    next_hop: String,
    client: Arc<Config>,
    tls: TlsConnector,
}

impl Relay {
    pub(crate) fn new(next_hop: &str, hostname: &str) -> Result<Self, Box<dyn Error>> {
        let host_and_port =
            |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
        if !next_hop.rsplit_once(':').is_some_and(host_and_port) {
            return Err("--relay needs HOST:PORT".into());
        }
        let provider = Arc::new(ring::default_provider());
        let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Ok(Self {
            next_hop: next_hop.to_owned(),
            client: Arc::new(Config::builder(hostname).tls(Tls::IfOffered).build()?),
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    /// Hands the message on, and says in a reply what became of it.
    pub(crate) async fn send(
        &self,
        envelope: Envelope,
        submitter: &MailAuth<'_>,
        message: File,
    ) -> Reply {
        let mut mail = Mail {
            envelope: Some(envelope.clone().auth(submitter)),
            without_submitter: Some(envelope),
            message: BufReader::with_capacity(BATCH, message),
        };
        let outcome = match self.hand_over(&mut mail).await {
            Ok(outcome) => outcome,
            Err(error) => {
                log("relay", &error);
                return match error.downcast_ref() {
                    Some(client::Error::Refused(refusal)) if refusal.stage() == Stage::Auth => {
                        not_signed_in(refusal.reply())
                    }
                    Some(client::Error::Refused(refusal)) => pass_on(refusal.reply(), None),
                    Some(client::Error::NotAuthenticated(AuthError::Refused(refusal))) => {
                        not_signed_in(refusal.reply())
                    }
                    _ => next_hop_down(),
                };
            }
        };
        log("relay", &outcome);
        match outcome {
            // For every recipient, as the envelope demands.
            Outcome::Accepted { .. } | Outcome::AcceptedForSome { .. } => {
                Reply::OK.with_text("Message handed on")
            }
            Outcome::Refused { refusal, recipients } => {
                let first = recipients.iter().position(|recipient| recipient.refusal().is_some());
                // A `421` says nothing of a recipient.
                let of_one = refusal.stage() == Stage::Rcpt && refusal.reply().code() != 421;
                let recipient = first.filter(|_| of_one);
                pass_on(refusal.reply(), recipient.map(|place| place + 1))
            }
            Outcome::NotSent { why: NotSent::TooBig(_), .. } => Reply::MESSAGE_TOO_BIG,
            Outcome::NotSent { why: NotSent::NeedsALabels, .. } => no_smtputf8(),
            Outcome::NotSent { why: NotSent::NotOffered(keyword), .. } => match keyword.as_str() {
                "SMTPUTF8" => no_smtputf8(),
                _ => reply(554, (5, 6, 3), "The next hop does not take 8BITMIME"),
            },
            Outcome::NotSent { .. } => next_hop_down(),
        }
    }

    async fn hand_over(&self, mail: &mut Mail) -> Result<Outcome, Failure> {
        let mut socket = timeout(PATIENCE, TcpStream::connect(&self.next_hop)).await??;
        let mut session = Session::without_credentials(Arc::clone(&self.client));
        if let Some(outcome) = mail.drive(&mut session, &mut socket).await? {
            return Ok(outcome);
        }
        let host = self.next_hop.rsplit_once(':').map_or("", |(host, _)| host);
        let host = host.trim_matches(['[', ']']).to_owned();
        // The name is only told to the server: a name that is no DNS name is no reason to stop.
        let name = ServerName::try_from(host).or_else(|_| Ok(socket.peer_addr()?.ip().into()));
        let name = name.map_err(|error: std::io::Error| error)?;
        let mut stream = timeout(PATIENCE, self.tls.connect(name, socket)).await??;
        session.tls_started(Channel::tls());
        let outcome = mail.drive(&mut session, &mut stream).await?;
        outcome.ok_or_else(|| "the session ended without a word on the message".into())
    }
}

struct Mail {
    envelope: Option<Envelope>,
    /// The same without `AUTH=`, for servers that offer AUTH and do not know it (aiosmtpd).
    without_submitter: Option<Envelope>,
    message: BufReader<File>,
}

impl Mail {
    /// Does what the session says until the message has its outcome, or, with `None`, TLS is to
    /// begin.
    async fn drive(
        &mut self,
        session: &mut Session,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Result<Option<Outcome>, Failure> {
        let ended = self.run(session, stream).await;
        let Err(error) = ended else { return ended };
        // The next hop may have said why before the connection broke.
        let mut buffer = [0; 4096];
        if let Ok(Ok(n)) = timeout(LAST_WORDS, stream.read(&mut buffer)).await {
            session.receive(buffer.get(..n).unwrap_or_default());
        }
        match session.eof() {
            Err(refused @ client::Error::Refused(..)) => Err(refused.into()),
            _ => Err(error),
        }
    }

    async fn run(
        &mut self,
        session: &mut Session,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Result<Option<Outcome>, Failure> {
        let (mut out, mut buffer, mut outcome) = (Vec::new(), vec![0; 4096], None);
        loop {
            match session.next(&mut out)? {
                Event::NeedInput => {
                    let sent = send(stream, &mut out).await;
                    // That was QUIT: whether it arrives changes nothing.
                    if outcome.is_some() {
                        return Ok(outcome);
                    }
                    sent?;
                    match timeout(PATIENCE, stream.read(&mut buffer)).await {
                        Err(_) => session.timed_out()?,
                        Ok(Ok(0)) => session.eof()?,
                        Ok(n) => session.receive(buffer.get(..n?).unwrap_or_default()),
                    }
                }
                Event::StartTls => {
                    send(stream, &mut out).await?;
                    return Ok(None);
                }
                // No mechanism of our own is listed.
                Event::Custom(ask) => ask.fail(),
                // There is no password to derive anything of.
                Event::Derive(ask) => ask.run(),
                Event::Ready(ready) => match self.envelope.take() {
                    Some(envelope) => ready.send(envelope),
                    None => ready.quit(),
                },
                Event::Refused { recipient, refusal } => {
                    log("relay", format_args!("{recipient}: {refusal}"));
                }
                Event::Message(body) => {
                    match self.message.read(&mut buffer).await? {
                        0 => body.end(&mut out)?,
                        n => body.write(buffer.get(..n).unwrap_or_default(), &mut out)?,
                    }
                    send(stream, &mut out).await?;
                }
                Event::Sent(Outcome::Refused { refusal, .. })
                    if (refusal.stage(), refusal.reply().code()) == (Stage::Mail, 555)
                        && self.without_submitter.is_some() =>
                {
                    self.envelope = self.without_submitter.take();
                }
                Event::Sent(known) => outcome = Some(known.clone()),
                // There are no credentials to fail.
                Event::NotAuthenticated(failed) => return Err(failed.error().into()),
                Event::Close => return Ok(outcome),
            }
        }
    }
}

async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    out: &mut Vec<u8>,
) -> Result<(), std::io::Error> {
    timeout(PATIENCE, async {
        stream.write_all(out).await?;
        stream.flush().await
    })
    .await??;
    out.clear();
    Ok(())
}

fn no_smtputf8() -> Reply {
    reply(550, (5, 6, 9), "The next hop does not take SMTPUTF8")
}

fn next_hop_down() -> Reply {
    reply(451, (4, 4, 1), "The next hop does not answer, try again later")
}

/// The next hop's refusal as this server's own.
fn pass_on(refusal: &Reply, recipient: Option<usize>) -> Reply {
    if about_sign_in(refusal) {
        return not_signed_in(refusal);
    }
    let which = recipient.map(|n| format!(" of recipient {n}")).unwrap_or_default();
    as_own(refusal, format!("The next hop says{which}: {}", refusal.text()))
}

/// Whether it says how this server is to sign in there (RFC 4954 §6, RFC 5248): the client has signed in
/// here, and would take it for a word about that.
fn about_sign_in(refusal: &Reply) -> bool {
    let detail = refusal.enhanced_code().map(|enhanced| (enhanced.subject(), enhanced.detail()));
    matches!(refusal.code(), 432 | 523..=525 | 530 | 534 | 535 | 538)
        || matches!(detail, Some((7, 8 | 9 | 11 | 12 | 13)))
}

/// The next hop's text is left out: it may repeat what was sent to sign in.
fn not_signed_in(refusal: &Reply) -> Reply {
    as_own(refusal, "The next hop asks this server for TLS, or to sign in".to_owned())
}

/// With the next hop's codes. What has another meaning as a reply to a message, `421` or `530` say, gets
/// the code of its class.
fn as_own(refusal: &Reply, text: String) -> Reply {
    let (code, class) = match refusal.code() {
        code @ 450..=459 => (code, 4),
        code @ 550..=559 => (code, 5),
        500.. => (554, 5),
        _ => (451, 4),
    };
    let enhanced = refusal.enhanced_code().map_or((class, 0, 0), |enhanced| {
        (enhanced.class(), enhanced.subject(), enhanced.detail())
    });
    Reply::new(code, Some(enhanced), text).unwrap_or_else(|_| next_hop_down())
}

/// Takes any certificate. TLS that is used where it is offered protects from those who only listen;
/// who stands between could as well take the offer away (RFC 7435). A relay that has to know its
/// next hop requires TLS, and verifies.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
