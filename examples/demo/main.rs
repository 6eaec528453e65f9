//! Both sides at work: `cargo run --example demo` starts a server on a free port, signs in at it by each mechanism, sends
//! a message each time, tries what must fail, and shows the dialogues as a log would have them, with all that is secret
//! masked.

mod server;

use std::{
    cell::Cell,
    env,
    error::Error,
    fmt::Display,
    fs,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use rcgen::{CertifiedKey, KeyPair};
use smtp_auth_tokio::{
    client::{Config, Connector, Credentials, Envelope, Stage},
    rustls::{
        ClientConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        sign::{self, SingleCertAndKey},
    },
    smtp_auth::{
        Mechanism, Side,
        sasl::{
            BindingPolicy, ConfigError, Nonce,
            client::{Builder, Config as Sasl},
        },
    },
    tls,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => {
            line("\nAll went as it should.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            line(format_args!("{}: {error}", painted("31", "wrong")));
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<(), Box<dyn Error>> {
    let tim = Arc::new(Tim::new()?);
    let maildir = new_directory()?.join("maildir");
    let client = Client::new(&tim, &maildir, BindingPolicy::Preferred).await?;
    line(format_args!("A server for \"tim\" listens on {}.", client.address));

    for &mechanism in Mechanism::COMPILED {
        let (aim, refused_at) = match mechanism {
            Mechanism::Anonymous => ("but a guest may send nothing", Some(Stage::Mail)),
            _ => ("and send a message", None),
        };
        heading(format_args!("Sign in by {mechanism}, {aim}"));
        let server = match mechanism {
            Mechanism::External => client.as_tim.clone(),
            _ => client.server.clone(),
        };
        let server = server.config(by(mechanism)?).credentials(tim.credentials(mechanism)?);
        client.send(&format!("signed in by {mechanism}"), server, refused_at).await?;
    }

    heading("Sign in with a wrong password");
    let guess = Credentials::password("tim", "a guess")?;
    let server = client.server.clone().config(by(Mechanism::Plain)?).credentials(guess);
    client.send("a guess", server, Some(Stage::Auth)).await?;

    heading("Sign in with a wrong token");
    let guess = Credentials::token("tim", "guess")?;
    let server = client.server.clone().config(by(Mechanism::OauthBearer)?).credentials(guess);
    client.send("a guess", server, Some(Stage::Auth)).await?;

    heading("Require channel binding of a server that has none");
    let client = Client::new(&tim, &maildir, BindingPolicy::None).await?;
    let bound = with(Sasl::builder().channel_binding(BindingPolicy::Required))?;
    let password = Credentials::password("tim", tim.password.as_str())?;
    let server = client.server.clone().config(bound).credentials(password);
    client.send("not bound", server, Some(Stage::Auth)).await?;

    heading("Where the messages are");
    let stored = subjects(&maildir.join("new"))?;
    for (path, subject) in &stored {
        line(format_args!("{}\n    {subject}", path.display()));
    }
    // A guest has sent none.
    match stored.len() + 1 == Mechanism::COMPILED.len() {
        true => Ok(()),
        false => Err(format!("{} messages were stored", stored.len()).into()),
    }
}

fn by(mechanism: Mechanism) -> Result<Config, ConfigError> {
    with(Sasl::builder().mechanisms([mechanism]))
}

fn with(sasl: Builder) -> Result<Config, ConfigError> {
    Config::builder("demo.example.org").sasl(sasl.build()?).build()
}

/// The one account, with all that it can sign in by.
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

/// A server of our own, and its client.
struct Client {
    address: SocketAddr,
    server: Connector,
    /// The same server, which is shown Tim's certificate.
    as_tim: Connector,
    /// Whether a dialogue has been shown whole.
    brief: Cell<bool>,
}

impl Client {
    async fn new(
        tim: &Arc<Tim>,
        maildir: &Path,
        binding: BindingPolicy,
    ) -> Result<Self, Box<dyn Error>> {
        let (address, certificate) = server::start(Arc::clone(tim), maildir, binding).await?;
        let trusting = tls::trusting([certificate])?;
        let mut showing = ClientConfig::clone(&trusting);
        let own = vec![tim.certificate.cert.der().clone()];
        let own =
            sign::CertifiedKey::from_der(own, key_of(&tim.certificate), showing.crypto_provider())?;
        showing.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(own));
        let connector = Connector::starttls("localhost")
            .addresses([address])
            .time_limit(Duration::from_secs(10));
        let server = connector.clone().trust(trusting);
        let as_tim = connector.trust(Arc::new(showing));
        Ok(Self { address, server, as_tim, brief: Cell::new(false) })
    }

    /// Sends a message, which the server accepts, or does not at that stage.
    async fn send(
        &self,
        subject: &str,
        server: Connector,
        refused_at: Option<Stage>,
    ) -> Result<(), Box<dyn Error>> {
        let (from, to) = ("tim@example.org", "ann@example.org");
        let message = format!("From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nHello.\r\n");
        let envelope = Envelope::new(Some(from), [to])?;
        let brief = self.brief.replace(true);
        let server = server.trace(move |side, text| {
            // What every EHLO is answered is shown once.
            if !(brief && text.starts_with("250-")) {
                dialogue(side, text);
            }
        });
        let sent = async {
            let mut client = server.connect().await?;
            let sent = client.send(&envelope, message.as_bytes()).await;
            client.quit().await;
            sent
        };
        match (sent.await, refused_at) {
            (Ok(sent), None) => {
                good(format_args!("the server accepted the message: {}", sent.reply))
            }
            (Err(error), Some(stage)) if error.stage() == Some(stage) => {
                good(&error);
                if let Some(json) = error.token_error() {
                    line(format_args!("The server says of the token: {}", json.expose()));
                }
            }
            (Ok(sent), Some(_)) => {
                return Err(format!("the message was accepted: {}", sent.reply).into());
            }
            (Err(error), _) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The private key, as rustls has it.
fn key_of(own: &CertifiedKey<KeyPair>) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into()
}

/// The files of a Maildir, the oldest first, and the subjects in them.
fn subjects(new: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(new)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let subject = text.lines().find(|line| line.starts_with("Subject:"));
        found.push((path, subject.unwrap_or_default().to_owned()));
    }
    found.sort();
    Ok(found)
}

/// A directory of our own, under a name that nobody can have taken before.
fn new_directory() -> Result<PathBuf, Box<dyn Error>> {
    let path = env::temp_dir().join(format!("smtp-auth-demo-{}", Nonce::random()?.as_str()));
    fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn heading(text: impl Display) {
    line(format_args!("\n{}", painted("1", text)));
}

fn dialogue(side: Side, text: &str) {
    let colour = if side == Side::Client { "36" } else { "33" };
    line(format_args!("  {}", painted(colour, format_args!("{side}: {text}"))));
}

fn good(text: impl Display) {
    line(format_args!("{}: {text}", painted("32", "as it should be")));
}

/// In colour where somebody looks at it (<https://no-color.org>).
fn painted(colour: &str, text: impl Display) -> String {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match io::stdout().is_terminal() && !unwanted {
        true => format!("\x1b[{colour}m{text}\x1b[0m"),
        false => text.to_string(),
    }
}

/// Where nobody reads any more, the demo still runs to its end. (`println!` would panic.)
fn line(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}
