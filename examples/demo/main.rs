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
    client::{self, Config, Connector, Credentials, Envelope, ErrorKind, Stage},
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
        let server = match mechanism {
            Mechanism::External => &client.as_tim,
            _ => &client.server,
        };
        let signing_in =
            server.clone().config(by(mechanism)?).credentials(tim.credentials(mechanism)?);
        let outcome = client.send(&format!("signed in by {mechanism}"), signing_in).await?;
        let not_accepted =
            |error: &client::Error| matches!(error.kind(), ErrorKind::NotAccepted(_));
        let good = if guest { outcome.as_ref().is_err_and(not_accepted) } else { outcome.is_ok() };
        screen.verdict(good, &outcome)?;
    }

    screen.heading("Sign in with a wrong password");
    let guess = Credentials::password("tim", "a guess")?;
    let guessing = client.server.clone().config(by(Mechanism::Plain)?).credentials(guess);
    let outcome = client.send("a guess", guessing).await?;
    screen.verdict(outcome.as_ref().is_err_and(at_auth), &outcome)?;

    screen.heading("Sign in with a wrong token");
    let guess = Credentials::token("tim", "guess")?;
    let guessing = client.server.clone().config(by(Mechanism::OauthBearer)?).credentials(guess);
    let outcome = client.send("a guess", guessing).await?;
    let refused = outcome.as_ref().is_err_and(|error| error.token_error().is_some());
    screen.verdict(refused, &outcome)?;

    screen.heading("Require channel binding of a server that has none");
    let client = Client::new(&tim, &maildir, BindingPolicy::None, screen).await?;
    let bound = with(Sasl::builder().channel_binding(BindingPolicy::Required))?;
    let password = Credentials::password("tim", tim.password.as_str())?;
    let binding = client.server.clone().config(bound).credentials(password);
    let outcome = client.send("not bound", binding).await?;
    screen.verdict(outcome.as_ref().is_err_and(at_auth), &outcome)?;

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

fn by(mechanism: Mechanism) -> Result<Config, ConfigError> {
    with(Sasl::builder().mechanisms([mechanism]))
}

fn with(sasl: Builder) -> Result<Config, ConfigError> {
    Config::builder("demo.example.org").sasl(sasl.build()?).build()
}

/// What the server made of a message.
type Outcome = Result<String, client::Error>;

fn at_auth(error: &client::Error) -> bool {
    error.stage() == Some(Stage::Auth)
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
    screen: Screen,
    /// Whether a dialogue has been shown whole.
    brief: Cell<bool>,
}

impl Client {
    async fn new(
        tim: &Arc<Tim>,
        maildir: &Path,
        binding: BindingPolicy,
        screen: Screen,
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
        Ok(Self { address, server, as_tim, screen, brief: Cell::new(false) })
    }

    async fn send(&self, subject: &str, server: Connector) -> Result<Outcome, Box<dyn Error>> {
        let (from, to) = ("tim@example.org", "ann@example.org");
        let message = format!("From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nHello.\r\n");
        let envelope = Envelope::new(Some(from), [to])?;
        let (screen, brief) = (self.screen, self.brief.replace(true));
        let server = server.trace(move |side, line| {
            // What every EHLO is answered is shown once.
            if !(brief && line.starts_with("250-")) {
                screen.dialogue(side, line);
            }
        });
        let sent = async {
            let mut client = server.connect().await?;
            let sent = client.send(&envelope, message.as_bytes()).await;
            client.quit().await;
            Ok(format!("the server accepted the message: {}", sent?.reply))
        };
        Ok(sent.await)
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

/// Standard output, in colour where somebody looks at it (<https://no-color.org>).
#[derive(Clone, Copy)]
struct Screen {
    colour: bool,
}

impl Screen {
    fn new() -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: !unwanted && io::stdout().is_terminal() }
    }

    fn heading(self, text: impl Display) {
        self.line(format_args!("\n{}", self.painted("1", text)));
    }

    fn dialogue(self, side: Side, line: &str) {
        let colour = if side == Side::Client { "36" } else { "33" };
        self.line(format_args!("  {}", self.painted(colour, format_args!("{side}: {line}"))));
    }

    fn result(self, good: bool, text: impl Display) {
        let (colour, word) = if good { ("32", "as it should be") } else { ("31", "wrong") };
        self.line(format_args!("{}: {text}", self.painted(colour, word)));
    }

    /// What came of a try: an error where that is not as it should be.
    fn verdict(self, good: bool, outcome: &Outcome) -> Result<(), String> {
        let what = outcome.as_ref().map_or_else(ToString::to_string, String::clone);
        if !good {
            return Err(what);
        }
        self.result(true, what);
        if let Some(json) = outcome.as_ref().err().and_then(client::Error::token_error) {
            self.line(format_args!("The server says of the token: {}", json.expose()));
        }
        Ok(())
    }

    fn painted(self, colour: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Where nobody reads any more, the demo still runs to its end. (`println!` would panic.)
    fn line(self, text: impl Display) {
        let _ = writeln!(io::stdout(), "{text}");
    }
}
