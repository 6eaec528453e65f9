//! Both sides at work: `cargo run --example demo` starts a server on a free port, signs in at it by each mechanism, sends
//! a message each time, tries what must fail, and shows the dialogues as a log would have them, with all that is secret
//! masked. `server.rs` is the server, `screen.rs` shows it all.

mod screen;
mod server;

use std::{
    cell::Cell,
    env,
    error::Error,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use rcgen::{CertifiedKey, KeyPair};
use smtp_auth_tokio::{
    client::{self, Config, Connector, Credentials, Envelope, ErrorKind, Sent},
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    },
    smtp_auth::{
        Mechanism,
        client::{AuthError, Error as Session},
        sasl::{BindingPolicy, ConfigError, client::Config as Sasl},
    },
    tls,
};

use crate::screen::Screen;

const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let screen = Screen::new();
    match demo(screen).await {
        Ok(()) => {
            screen.line("\nAll went as it should.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            screen.result(false, error);
            ExitCode::FAILURE
        }
    }
}

async fn demo(screen: Screen) -> Result<(), Box<dyn Error>> {
    let tim = Arc::new(Tim::new()?);
    let maildir = new_directory()?.join("maildir");
    let client = Client::new(&tim, &maildir, BindingPolicy::Preferred, screen).await?;
    screen.line(format_args!("A server for \"tim\" listens on {}.", client.address));

    for &mechanism in Mechanism::COMPILED {
        let guest = mechanism == Mechanism::Anonymous;
        let aim = if guest { "but a guest may send nothing" } else { "and send a message" };
        screen.heading(format_args!("Sign in by {mechanism}, {aim}"));
        let sasl = Sasl::builder().mechanisms([mechanism]).build()?;
        let subject = format!("signed in by {mechanism}");
        let shown = (mechanism == Mechanism::External).then_some(&tim.certificate);
        let outcome = client.send(&subject, sasl, tim.credentials(mechanism)?, shown).await?;
        let refused = fails(&outcome, |why| matches!(why, ErrorKind::NotAccepted(_)));
        screen.verdict(if guest { refused } else { outcome.is_ok() }, &outcome)?;
    }

    screen.heading("Sign in with a wrong password");
    let sasl = Sasl::builder().mechanisms([Mechanism::Plain]).build()?;
    let outcome =
        client.send("a guess", sasl, Credentials::password("tim", "a guess")?, None).await?;
    screen.verdict(fails(&outcome, not_authenticated), &outcome)?;

    screen.heading("Sign in with a wrong token");
    let sasl = Sasl::builder().mechanisms([Mechanism::OauthBearer]).build()?;
    let outcome = client.send("a guess", sasl, Credentials::token("tim", "guess")?, None).await?;
    screen.verdict(fails(&outcome, |why| token_error(why).is_some()), &outcome)?;

    screen.heading("Require channel binding of a server that has none");
    let client = Client::new(&tim, &maildir, BindingPolicy::None, screen).await?;
    let sasl = Sasl::builder().channel_binding(BindingPolicy::Required).build()?;
    let password = tim.credentials(Mechanism::ScramSha256Plus)?;
    let outcome = client.send("not bound", sasl, password, None).await?;
    screen.verdict(fails(&outcome, not_authenticated), &outcome)?;

    screen.heading("Where the messages are");
    let stored = subjects(&maildir.join("new"))?;
    for (path, subject) in &stored {
        screen.line(format_args!("{}\n    {subject}", path.display()));
    }
    // A guest has sent none.
    match stored.len() + 1 == Mechanism::COMPILED.len() {
        true => Ok(()),
        false => Err(format!("{} messages were stored", stored.len()).into()),
    }
}

fn fails(outcome: &Result<Sent, client::Error>, so: impl Fn(&ErrorKind) -> bool) -> bool {
    outcome.as_ref().is_err_and(|error| so(error.kind()))
}

fn not_authenticated(why: &ErrorKind) -> bool {
    matches!(why, ErrorKind::Session(Session::NotAuthenticated(_)))
}

/// What the server says of the token: JSON (RFC 7628 §3.2.2), as it came.
fn token_error(why: &ErrorKind) -> Option<&str> {
    match why {
        ErrorKind::Session(Session::NotAuthenticated(AuthError::TokenRefused {
            token_error: Some(json),
            ..
        })) => Some(json.expose()),
        _ => None,
    }
}

/// The one account, with all that it can sign in by.
struct Tim {
    password: String,
    token: String,
    certificate: CertifiedKey<KeyPair>,
}

impl Tim {
    fn new() -> Result<Self, Box<dyn Error>> {
        let certificate = rcgen::generate_simple_self_signed(["tim".to_owned()])?;
        Ok(Self { password: random_word()?, token: random_word()?, certificate })
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

struct Client {
    address: SocketAddr,
    /// The server's, which it trusts.
    certificate: CertificateDer<'static>,
    screen: Screen,
    /// Whether a dialogue has been shown whole.
    brief: Cell<bool>,
}

impl Client {
    /// Starts a server, too.
    async fn new(
        tim: &Arc<Tim>,
        maildir: &Path,
        binding: BindingPolicy,
        screen: Screen,
    ) -> Result<Self, Box<dyn Error>> {
        let (address, certificate) = server::start(Arc::clone(tim), maildir, binding).await?;
        Ok(Self { address, certificate, screen, brief: Cell::new(false) })
    }

    /// Sends a message, over TLS in which that certificate is shown; the inner result is what the server made of it.
    async fn send(
        &self,
        subject: &str,
        sasl: Sasl,
        credentials: Credentials,
        shown: Option<&CertifiedKey<KeyPair>>,
    ) -> Result<Result<Sent, client::Error>, Box<dyn Error>> {
        let (from, to) = ("tim@example.org", "ann@example.org");
        let message = format!("From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nHello.\r\n");
        let envelope = Envelope::new(Some(from), [to])?;
        let (screen, brief) = (self.screen, self.brief.replace(true));
        let connector = Connector::starttls("localhost")
            .addresses([self.address])
            .trust(self.tls(shown)?)
            .config(Config::builder("demo.example.org").sasl(sasl).build()?)
            .credentials(credentials)
            .time_limit(TIMEOUT)
            .trace(move |side, line| {
                // What every EHLO is answered is shown once.
                if !(brief && line.starts_with("250-")) {
                    screen.dialogue(side, line);
                }
            });
        let mut client = match connector.connect().await {
            Ok(client) => client,
            Err(error) => return Ok(Err(error)),
        };
        let sent = client.send(&envelope, message.as_bytes()).await;
        client.quit().await;
        Ok(sent)
    }

    fn tls(
        &self,
        shown: Option<&CertifiedKey<KeyPair>>,
    ) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(tls::provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        Ok(Arc::new(match shown {
            Some(own) => config.with_client_auth_cert(vec![own.cert.der().clone()], key_of(own))?,
            None => config.with_no_client_auth(),
        }))
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
    let path = env::temp_dir().join(format!("smtp-auth-demo-{}", random_word()?));
    fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Sixteen hexadecimal digits that nobody can guess.
fn random_word() -> Result<String, Box<dyn Error>> {
    let mut octets = [0; 8];
    let random = tls::provider().secure_random.fill(&mut octets);
    random.map_err(|_| "the operating system has no random numbers")?;
    Ok(format!("{:016x}", u64::from_be_bytes(octets)))
}
