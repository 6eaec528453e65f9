//! A mail server's connection to the account service.

use std::path::Path;
use std::sync::OnceLock;

use smtp_auth::{
    dovecot::{ClientLine, Data, Request, ServerLine},
    sasl::{
        Channel, Mechanism, SaltedPassword,
        client::{Config, Credentials, Exchange, Step},
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufStream},
    net::UnixStream,
};

use crate::{Result, dialogue::PASSWORD};

/// All accounts have the same keys: PBKDF2 would be most of the tool's work.
static SALTED: OnceLock<SaltedPassword> = OnceLock::new();

pub(super) struct Connection {
    stream: BufStream<UnixStream>,
    exchanges: u32,
}

impl Connection {
    /// Connects, and exchanges the handshakes.
    pub(super) async fn open(socket: &Path) -> Result<Self> {
        let stream = BufStream::new(UnixStream::connect(socket).await?);
        let mut connection = Self { stream, exchanges: 0 };
        while !matches!(ServerLine::parse(&connection.line().await?)?, Some(ServerLine::Done)) {}
        connection.send(&ClientLine::Version { major: 1, minor: 2 }).await?;
        connection.send(&ClientLine::Cpid(std::process::id())).await?;
        Ok(connection)
    }

    async fn send(&mut self, line: &ClientLine) -> Result<()> {
        let mut octets = Vec::new();
        line.write(&mut octets);
        self.stream.write_all(&octets).await?;
        Ok(self.stream.flush().await?)
    }

    async fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await?;
        line.pop().ok_or("the account service has closed the connection")?;
        Ok(line)
    }

    /// Authenticates with SCRAM-SHA-256.
    pub(super) async fn sign_in(&mut self, account: &str) -> Result<()> {
        self.exchanges += 1;
        let id = self.exchanges;
        let mut credentials = Credentials::password(account, PASSWORD)?;
        if let Some(salted) = SALTED.get() {
            credentials = credentials.salted(salted.clone());
        }
        let (config, mechanism) = (Config::default(), Mechanism::ScramSha256);
        let mut exchange = Exchange::new(&config, &Channel::tls(), mechanism, credentials);
        let mut request = Some(Request::new(id, mechanism.name(), "smtp")?.with_tls());
        loop {
            match exchange.step() {
                Step::Derive(derive) => {
                    derive.run();
                    if let Some(salted) = derive.salted() {
                        let _ = SALTED.set(salted.clone());
                    }
                }
                Step::Custom(ask) => ask.fail(),
                Step::Done(outcome) => return Ok(outcome.map(drop)?),
                Step::Response(response) => {
                    let data = response.data().map(Data::new);
                    let line = match request.take() {
                        Some(request) => ClientLine::Auth(Box::new(request), data),
                        None => ClientLine::Cont(id, data.unwrap_or_default()),
                    };
                    self.send(&line).await?;
                    match ServerLine::parse(&self.line().await?)? {
                        Some(ServerLine::Cont(_, data)) => response.challenge(data.expose()),
                        Some(ServerLine::Ok { .. }) => response.success(),
                        _ => response.refused(),
                    }
                }
            }
        }
    }
}
