//! One connection to a server, from connect to close.

use core::net::SocketAddr;
use std::{io, sync::OnceLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::ValueEnum;
use smtp_auth::sasl::{
    Channel, Mechanism as Sasl, SaltedPassword,
    client::{Config, Credentials, Exchange, Step},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::{Result, message::Message, options::Transport};

/// The account for PLAIN and CRAM-MD5.
pub(crate) const ACCOUNT: &str = "load";
/// The account for SCRAM: a store that keeps SCRAM's keys has one form of the password for each
/// account.
pub(crate) const SCRAM_ACCOUNT: &str = "load-scram";
pub(crate) const PASSWORD: &str = "correct horse battery";

const EHLO: &[u8] = b"EHLO load.example\r\n";

/// How to sign in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Mechanism {
    /// Not at all.
    None,
    Plain,
    CramMd5,
    #[value(name = "scram-sha-256")]
    ScramSha256,
}

impl Mechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no login",
            Self::Plain => "PLAIN",
            Self::CramMd5 => "CRAM-MD5",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }
}

/// What all connections of a series have in common.
pub(crate) struct Dialogue {
    pub(crate) server: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) mechanism: Mechanism,
    pub(crate) connector: TlsConnector,
    plain: Vec<u8>,
    config: Config,
    credentials: Credentials,
    /// The first login's, for all that follow: PBKDF2 would be most of the tool's work.
    salted: OnceLock<SaltedPassword>,
}

impl Dialogue {
    pub(crate) fn new(
        server: SocketAddr,
        transport: Transport,
        mechanism: Mechanism,
        connector: TlsConnector,
    ) -> Result<Self> {
        let plain = STANDARD.encode(format!("\0{ACCOUNT}\0{PASSWORD}"));
        let account = if mechanism == Mechanism::ScramSha256 { SCRAM_ACCOUNT } else { ACCOUNT };
        Ok(Self {
            server,
            transport,
            mechanism,
            connector,
            plain: format!("AUTH PLAIN {plain}\r\n").into(),
            config: Config::default(),
            credentials: Credentials::password(account, PASSWORD)?,
            salted: OnceLock::new(),
        })
    }

    /// Connects, signs in, says QUIT, and waits for the server to close.
    pub(crate) async fn run(&self) -> io::Result<()> {
        // Without a login this is to show the handshake alone.
        let talk = match (self.transport, self.mechanism) {
            (Transport::Tls, Mechanism::None) => self.secured().await?,
            _ => self.signed_in().await?,
        };
        talk.quit().await
    }

    /// Connects, and goes as far as the reply to AUTH.
    pub(crate) async fn signed_in(&self) -> io::Result<Talk> {
        let mut talk = self.hold().await?;
        self.sign_in(&mut talk).await?;
        Ok(talk)
    }

    /// Connects, and goes as far as the reply to EHLO.
    pub(crate) async fn hold(&self) -> io::Result<Talk> {
        let mut talk = match self.transport {
            Transport::Plain => self.greeted().await?,
            Transport::Tls => self.secured().await?,
        };
        talk.say(EHLO, b"250").await?;
        Ok(talk)
    }

    async fn greeted(&self) -> io::Result<Talk> {
        let stream = TcpStream::connect(self.server).await?;
        stream.set_nodelay(true)?;
        let mut talk = Talk { stream: Box::new(stream), buffer: Vec::with_capacity(1024) };
        talk.expect(b"220").await?;
        Ok(talk)
    }

    async fn secured(&self) -> io::Result<Talk> {
        let mut talk = self.greeted().await?;
        talk.say(EHLO, b"250").await?;
        talk.say(b"STARTTLS\r\n", b"220").await?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let stream = self.connector.connect(name, talk.stream).await?;
        Ok(Talk { stream: Box::new(stream), buffer: talk.buffer })
    }

    /// Authenticates, up to the reply to AUTH.
    pub(crate) async fn sign_in(&self, talk: &mut Talk) -> io::Result<()> {
        match self.mechanism {
            Mechanism::None => Ok(()),
            Mechanism::Plain => talk.say(&self.plain, b"235").await,
            Mechanism::CramMd5 => self.exchange(talk, Sasl::CramMd5).await,
            Mechanism::ScramSha256 => self.exchange(talk, Sasl::ScramSha256).await,
        }
    }

    async fn exchange(&self, talk: &mut Talk, mechanism: Sasl) -> io::Result<()> {
        let mut credentials = self.credentials.clone();
        if let Some(salted) = self.salted.get() {
            credentials = credentials.salted(salted.clone());
        }
        let channel = match self.transport {
            Transport::Plain => Channel::cleartext(),
            Transport::Tls => Channel::tls(),
        };
        let choice = mechanism;
        let mut exchange = Exchange::new(&self.config, &channel, choice, credentials);
        let mut line = format!("AUTH {}", mechanism.name());
        loop {
            match exchange.step() {
                Step::Response(response) => {
                    if let Some(data) = response.data() {
                        if !line.is_empty() {
                            line.push(' ');
                        }
                        STANDARD.encode_string(data, &mut line);
                    }
                    line.push_str("\r\n");
                    match talk.ask(line.as_bytes()).await? {
                        (b"235", _) => response.success(),
                        (b"334", text) => match STANDARD.decode(text) {
                            Ok(challenge) => response.challenge(challenge),
                            Err(_) => response.undecodable(),
                        },
                        _ => response.refused(),
                    }
                    line.clear();
                }
                Step::Derive(derive) => {
                    derive.run();
                    if let Some(salted) = derive.salted() {
                        let _ = self.salted.set(salted.clone());
                    }
                }
                Step::Custom(ask) => ask.fail(),
                Step::Done(outcome) => return outcome.map_err(io::Error::other),
            }
        }
    }
}

/// TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open connection, and what the server said last.
pub(crate) struct Talk {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Talk {
    /// Hands the message over, command by command as not every server takes them pipelined, and takes
    /// the reply that it is the server's.
    pub(crate) async fn submit(&mut self, message: &Message) -> io::Result<()> {
        self.say(&message.mail, b"250").await?;
        self.say(Message::RCPT, b"250").await?;
        self.say(b"DATA\r\n", b"354").await?;
        self.say(&message.data, b"250").await
    }

    /// Sends the line and takes the reply with that code, or fails.
    async fn say(&mut self, line: &[u8], code: &[u8]) -> io::Result<()> {
        self.send(line).await?;
        self.expect(code).await
    }

    async fn expect(&mut self, code: &[u8]) -> io::Result<()> {
        let (given, text) = self.reply().await?;
        if given == code {
            return Ok(());
        }
        let [code, given, text] = [code, given, text].map(String::from_utf8_lossy);
        Err(io::Error::other(format!("a reply other than {code}: {given} {text}")))
    }

    async fn ask(&mut self, line: &[u8]) -> io::Result<(&[u8], &[u8])> {
        self.send(line).await?;
        self.reply().await
    }

    async fn send(&mut self, line: &[u8]) -> io::Result<()> {
        self.stream.write_all(line).await?;
        self.stream.flush().await
    }

    /// The code and the text of a reply's last line. There is one reply at a time, as nothing is
    /// pipelined: its end is the end of what has come.
    async fn reply(&mut self) -> io::Result<(&[u8], &[u8])> {
        self.buffer.clear();
        while last_line(&self.buffer).is_none() {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        last_line(&self.buffer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    pub(crate) async fn quit(mut self) -> io::Result<()> {
        self.say(b"QUIT\r\n", b"221").await?;
        self.buffer.clear();
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::other("more after the reply to QUIT")),
            // TLS that ends without saying so: the server has said 221 all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The last line's code and text, if it is whole and has a space after its code.
fn last_line(received: &[u8]) -> Option<(&[u8], &[u8])> {
    let lines = received.strip_suffix(b"\r\n")?;
    let start = lines.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    let (code, rest) = lines.get(start..)?.split_at_checked(3)?;
    match rest {
        [] => Some((code, rest)),
        [b' ', text @ ..] => Some((code, text)),
        _ => None,
    }
}
