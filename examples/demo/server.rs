//! The server. Tim can authenticate with every mechanism, and the server stores the messages that he sends in a
//! Maildir.

use std::{error::Error, future::ready, net::SocketAddr, path::Path, sync::Arc};

use maildir::Maildir;
use smtp_auth_tokio::{
    rustls::{
        RootCertStore, ServerConfig, pki_types::CertificateDer, server::WebPkiClientVerifier,
    },
    server::{Message, Server},
    smtp_auth::{
        Answer, Authenticator, CheckPassword, Mechanism, Reply,
        ehlo::Keyword,
        sasl::{
            self, CheckAnonymous, CheckExternal, CheckToken, CramSecret, CramSecretFor, Immediate,
            ScramKeys, ScramKeysFor, TokenAnswer,
        },
        server::Config,
    },
    tls::{self, ClientCertificates},
};
use tokio::net::TcpListener;

use crate::{Tim, key_of};

/// A real server does not store passwords, but hashes and keys that are derived from them.
struct Users(Arc<Tim>);

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        (ask.authcid() == "tim" && ask.password() == self.0.password.as_str()).into()
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        (ask.authcid() == "tim").then(|| CramSecret::from_password(self.0.password.as_str())).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let keys = ScramKeys::generate(ask.hash(), self.0.password.as_str(), 4096);
        keys.filter(|_| ask.authcid() == "tim").into()
    }

    fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        (ask.token() == self.0.token.as_str()).then(|| "tim".to_owned()).into()
    }

    fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        Answer::accept(ask.identity().to_owned())
    }

    /// A guest can authenticate, but is refused at MAIL.
    fn check_anonymous(&self, _: &CheckAnonymous) -> Answer {
        Answer::accept(())
    }
}

/// Starts the server, which runs as long as the program does. Returns its address and its certificate.
pub(crate) async fn start(
    tim: Arc<Tim>,
    maildir: &Path,
) -> Result<(SocketAddr, CertificateDer<'static>), Box<dyn Error>> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let mut clients = RootCertStore::empty();
    clients.add(tim.certificate.cert.der().clone())?;
    let (clients, provider) = (Arc::new(clients), Arc::new(tls::provider()));
    let clients = WebPkiClientVerifier::builder_with_provider(clients, Arc::clone(&provider));
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients.allow_unauthenticated().build()?)
        .with_single_cert(vec![own.cert.der().clone()], key_of(&own))?;
    // The application decides which account a certificate identifies. Here there is one of each.
    let tls = ClientCertificates::new(Arc::new(tls), |_| Some("tim".to_owned()));

    let users = Users(tim);
    let sasl = sasl::server::Config::builder("localhost").answered_by(&users).build()?;
    let config = Config::builder("localhost")
        .sasl(sasl)
        .keywords([Keyword::Pipelining, Keyword::EightBitMime, Keyword::EnhancedStatusCodes])
        .build()?;
    let files = Maildir::from(maildir.to_owned());
    files.create_dirs()?;
    let deliver = move |message: Message| {
        // A server with many clients would write on another thread.
        let field = message.received().to_string();
        let stored = files.store_new(&[field.as_bytes(), &message.octets].concat());
        ready(match stored {
            Ok(_) => Ok(Reply::OK.with_text("Message stored")),
            Err(_) => Err(Reply::INSUFFICIENT_STORAGE),
        })
    };
    let server = Server::new(config, Immediate(users), deliver).tls(tls);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { server.serve(listener).await });
    Ok((address, own.cert.der().clone()))
}
