//! Shows a server and a client at work. `cargo run --example demo` starts a server on a free port. A client
//! authenticates with each mechanism in turn and sends a message each time. It then makes attempts that the server or
//! the client must refuse. `cargo run --example demo -- --all` prints every dialogue.

mod print;
mod server;
mod wire;

use std::{
    env,
    error::Error,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use rcgen::{CertifiedKey, KeyPair};
use smtp_auth_tokio::{
    client::{Config, Connector, Credentials, Envelope, Error as Refused, Sent, Stage},
    rustls::{
        ClientConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        sign::{self, SingleCertAndKey},
    },
    smtp_auth::{
        Mechanism,
        sasl::{BindingPolicy, ConfigError, Nonce, client::Config as Sasl},
    },
    tls,
};

use wire::{Line, Tapped};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let all = match env::args_os().nth(1) {
        None => false,
        Some(option) if option == "--all" => true,
        Some(_) => {
            eprintln!("Usage: cargo run --example demo [-- --all]\n\n--all  prints every dialogue");
            return ExitCode::from(2);
        }
    };
    match demo(all).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::failure(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn demo(all: bool) -> Result<(), Box<dyn Error>> {
    let tim = Arc::new(Tim::new()?);
    let folder = new_directory()?.join("maildir");
    let mut demo = Demo::new(&tim, &folder, all).await?;
    let (trust, as_tim) = (Arc::clone(&demo.trust), Arc::clone(&demo.as_tim));

    for &mechanism in Mechanism::COMPILED {
        let (title, refused_at) = match mechanism {
            Mechanism::Anonymous => ("Guest".to_owned(), Some(Stage::Mail)),
            _ => (format!("Sign in by {mechanism} and send a message"), None),
        };
        let trust = if mechanism == Mechanism::External { &as_tim } else { &trust };
        let client = demo.client(mechanism, tim.credentials(mechanism)?)?;
        demo.send(&title, client, trust, refused_at).await?;
    }

    let client = demo.client(Mechanism::Plain, Credentials::password("tim", "a guess")?)?;
    demo.send("Wrong password", client, &trust, Some(Stage::Auth)).await?;

    let client = demo.client(Mechanism::OauthBearer, Credentials::token("tim", "guess")?)?;
    demo.send("Wrong access token", client, &trust, Some(Stage::Auth)).await?;

    // The server offers EXTERNAL only to clients with a certificate.
    let client = demo.client(Mechanism::External, Credentials::external())?;
    demo.send("No mechanism in common", client, &trust, Some(Stage::Auth)).await?;

    let client = Connector::insecure_cleartext("localhost").addresses([demo.address]);
    let client = client.config(by(Mechanism::Plain)?);
    let client = client.credentials(tim.credentials(Mechanism::Plain)?);
    demo.send("No TLS", client, &trust, Some(Stage::Auth)).await?;

    // This simulates a man-in-the-middle: the client gets a certificate other than the one that it trusts.
    let other = tls::trusting([tim.certificate.cert.der().clone()])?;
    let client = demo.client(Mechanism::Plain, tim.credentials(Mechanism::Plain)?)?;
    demo.send("Untrusted certificate", client, &other, Some(Stage::StartTls)).await?;

    print::mechanisms(&demo.attempts, &tim);
    print::refusals(&demo.attempts);
    let stored = fs::read_dir(folder.join("new"))?.count();
    let accepted = demo.attempts.iter().filter(|attempt| attempt.outcome.is_ok()).count();
    match stored == accepted {
        true => print::success(stored, &folder, all),
        false => Err(format!("{accepted} messages were accepted, and {stored} were stored"))?,
    }
    Ok(())
}

fn by(mechanism: Mechanism) -> Result<Config, ConfigError> {
    let binding = match mechanism.binds_channel() {
        true => BindingPolicy::Required,
        // With another policy, the client would use the mechanism's -PLUS form.
        false => BindingPolicy::None,
    };
    let sasl = Sasl::builder().mechanisms([mechanism]).channel_binding(binding);
    Config::builder("demo.example.org").sasl(sasl.build()?).build()
}

/// The only account, with all its credentials.
struct Tim {
    password: Nonce,
    token: Nonce,
    certificate: CertifiedKey<KeyPair>,
}

impl Tim {
    fn new() -> Result<Self, Box<dyn Error>> {
        let certificate = rcgen::generate_simple_self_signed(["tim".to_owned()])?;
        Ok(Self { password: Nonce::random()?, token: Nonce::random()?, certificate })
    }

    fn credentials(&self, mechanism: Mechanism) -> Result<Credentials, ConfigError> {
        match mechanism {
            Mechanism::Anonymous => Credentials::anonymous("tim@example.org"),
            Mechanism::External => Ok(Credentials::external()),
            other if other.takes_token() => Credentials::token("tim", self.token.as_str()),
            _ => Credentials::password("tim", self.password.as_str()),
        }
    }
}

/// The server, and the attempts that clients have made.
struct Demo {
    address: SocketAddr,
    trust: Arc<ClientConfig>,
    /// The same trusted certificates, and Tim's own certificate, which is sent to the server.
    as_tim: Arc<ClientConfig>,
    tim: Arc<Tim>,
    attempts: Vec<Attempt>,
    /// Whether every dialogue is printed.
    all: bool,
}

impl Demo {
    async fn new(tim: &Arc<Tim>, folder: &Path, all: bool) -> Result<Self, Box<dyn Error>> {
        let tim = Arc::clone(tim);
        let (address, certificate) = server::start(Arc::clone(&tim), folder).await?;
        let trust = tls::trusting([certificate])?;
        let mut as_tim = ClientConfig::clone(&trust);
        let own = vec![tim.certificate.cert.der().clone()];
        let key = key_of(&tim.certificate);
        let own = sign::CertifiedKey::from_der(own, key, as_tim.crypto_provider())?;
        as_tim.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(own));
        Ok(Self { address, trust, as_tim: Arc::new(as_tim), tim, attempts: Vec::new(), all })
    }

    fn client(
        &self,
        mechanism: Mechanism,
        credentials: Credentials,
    ) -> Result<Connector, ConfigError> {
        let client = Connector::starttls("localhost").addresses([self.address]);
        Ok(client.config(by(mechanism)?).credentials(credentials))
    }

    /// Sends a message, and checks that it is accepted, or refused at this stage.
    async fn send(
        &mut self,
        title: &str,
        client: Connector,
        trust: &Arc<ClientConfig>,
        refused_at: Option<Stage>,
    ) -> Result<(), Box<dyn Error>> {
        let (from, to) = ("tim@example.org", "ann@example.org");
        let message = format!("From: {from}\r\nTo: {to}\r\nSubject: {title}\r\n\r\nHello.\r\n");
        let envelope = Envelope::new(Some(from), [to])?;
        let tapped = Tapped::new(Arc::clone(trust));
        let client = tapped.record(client).time_limit(Duration::from_secs(10));
        let sent = async {
            let mut client = client.connect().await?;
            let sent = client.send(&envelope, message.as_bytes()).await;
            client.quit().await;
            sent
        };
        let outcome = sent.await;
        let wrong = match (&outcome, refused_at) {
            (Ok(_), None) => None,
            (Err(error), Some(stage)) if error.stage() == Some(stage) => None,
            (Err(error), _) => Some(format!("{title}: {error}")),
            (Ok(sent), _) => Some(format!("{title}: the server accepted it: {}", sent.reply)),
        };
        let attempt = Attempt { title: title.to_owned(), lines: tapped.lines(), outcome };
        let used = attempt.authentication().map(|(mechanism, _)| mechanism);
        if self.all || wrong.is_some() || used == Some(Mechanism::ScramSha256Plus) {
            print::dialogue(&attempt, &self.tim, self.all);
        }
        self.attempts.push(attempt);
        wrong.map_or(Ok(()), |wrong| Err(wrong.into()))
    }
}

/// One connection: what the client attempted, the dialogue, and the outcome.
struct Attempt {
    title: String,
    lines: Vec<Line>,
    outcome: Result<Sent, Refused>,
}

impl Attempt {
    /// Returns the mechanism of the authentication, and the lines from AUTH on.
    fn authentication(&self) -> Option<(Mechanism, &[Line])> {
        let begin = self.lines.iter().position(|line| line.text.starts_with("AUTH "))?;
        let (_, lines) = self.lines.split_at_checked(begin)?;
        let name = lines.first()?.text.split(' ').nth(1)?;
        Some((Mechanism::from_name(name)?, lines))
    }
}

/// Converts the private key for rustls.
fn key_of(own: &CertifiedKey<KeyPair>) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into()
}

/// Creates a directory for the messages. It fails if somebody else has taken the name.
fn new_directory() -> Result<PathBuf, Box<dyn Error>> {
    let nonce = Nonce::random()?;
    let name: String = nonce.as_str().chars().take(8).collect();
    let path = env::temp_dir().join(format!("smtp-auth-demo-{name}"));
    fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}
