//! The server that receives the messages. Its only user is Tim, and it accepts the messages that he sends to
//! `example.org`.

use std::{error::Error, sync::Arc};

use smtp_auth_tokio::{
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    },
    server::{Body, Handler, Peer, Server},
    smtp_auth::{
        Answer, Authenticator, Mechanism, Reply,
        command::{Mail, Rcpt},
        sasl::{self, Immediate, ScramHash, ScramKeys, ScramKeysFor},
        server::Config,
    },
    tls,
};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

struct Tim(ScramKeys);

impl Authenticator for Tim {
    /// Offers only a mechanism with channel binding, so successful authentication shows that the client supports it.
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256Plus]
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        (ask.authcid() == "tim").then(|| self.0.clone()).into()
    }
}

struct Inbox(UnboundedSender<Vec<u8>>);

impl Handler for Inbox {
    type Transaction = ();

    async fn mail(&self, _: &Peer, _: Mail<'_>) -> Result<(), Reply> {
        Ok(())
    }

    async fn rcpt(&self, _: &Peer, _: &mut (), rcpt: Rcpt<'_>) -> Result<(), Reply> {
        match rcpt.to().domain() {
            Some("example.org") => Ok(()),
            _ => Err(Reply::MAILBOX_UNAVAILABLE),
        }
    }

    async fn data(&self, _: &Peer, (): (), mut body: Body<'_>) -> Result<Reply, Reply> {
        let message = body.read_all().await;
        self.0.send(message).map(|()| Reply::OK).map_err(|_| Reply::LOCAL_ERROR)
    }
}

/// Starts the server, which runs as long as the program. Returns its port, its certificate, and the receiver of the
/// messages.
pub(crate) async fn start(
    password: &str,
) -> Result<(u16, CertificateDer<'static>, UnboundedReceiver<Vec<u8>>), Box<dyn Error>> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let certificate = own.cert.der().clone();
    let tls = ServerConfig::builder_with_provider(Arc::new(tls::provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    let keys = ScramKeys::generate(ScramHash::Sha256, password, 4096);
    let tim = Tim(keys.ok_or("this password is not valid for SCRAM")?);
    let sasl = sasl::server::Config::builder("localhost").answered_by(&tim).build()?;
    let config = Config::builder("localhost").sasl(sasl).build()?;
    let (arrived, arriving) = unbounded_channel();
    let server = Server::new(config, Immediate(tim), Inbox(arrived)).tls(Arc::new(tls));
    let listener = TcpListener::bind("localhost:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move { server.serve(listener).await });
    Ok((port, certificate, arriving))
}
