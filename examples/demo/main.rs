//! Both sides at work: `cargo run --example demo` starts the example server on a free port, signs
//! in at it with the example client by each mechanism, sends a message each time, tries what must
//! fail, and shows the dialogues as a log would have them, with all that is secret masked.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

// The client.
#[path = "../client/deliver.rs"]
mod deliver;
#[allow(dead_code, reason = "the demo has one exit code for all that fails")]
#[path = "../client/failure.rs"]
mod failure;
#[allow(dead_code, reason = "the client's certificate is made here")]
#[path = "../client/trust.rs"]
mod trust;

// Both.
#[path = "../server/binding.rs"]
mod binding;

// The server.
#[path = "../server/connection.rs"]
mod connection;
#[allow(dead_code, reason = "the demo counts no connections")]
#[path = "../server/limits.rs"]
mod limits;
#[allow(dead_code, reason = "the demo listens by itself")]
#[path = "../server/options.rs"]
mod options;
#[path = "../server/received.rs"]
mod received;
#[path = "../server/relay.rs"]
mod relay;
#[path = "../server/senders.rs"]
mod senders;
#[path = "../server/tls.rs"]
mod tls;
#[path = "../server/transaction.rs"]
mod transaction;
#[path = "../server/users.rs"]
mod users;

use std::{
    cell::Cell,
    env,
    error::Error,
    ffi::OsStr,
    fmt::Display,
    fs,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};
use smtp_auth::{
    Side,
    client::{Config, Envelope, Session},
    sasl::{
        BindingPolicy, ConfigError, Mechanism,
        client::{Config as Sasl, Credentials},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    deliver::{Mail, Peer, deliver},
    failure::{Failure, shown},
    options::{Host, Options},
};

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
    let tim = Tim::new(new_directory()?)?;
    let (client, _stop) = tim.start_server("preferred", screen).await?;
    screen.line(format_args!("A server for \"tim\" listens on {}.", client.address));

    for &mechanism in Mechanism::COMPILED {
        let guest = mechanism == Mechanism::Anonymous;
        let aim = if guest { "but a guest may send nothing" } else { "and send a message" };
        screen.heading(format_args!("Sign in by {mechanism}, {aim}"));
        let sasl = Sasl::builder().mechanisms([mechanism]).build()?;
        let shown = (mechanism == Mechanism::External).then(|| tim.certificate()).transpose()?;
        let subject = format!("signed in by {mechanism}");
        let outcome = client.send(&subject, sasl, tim.credentials(mechanism)?, shown).await?;
        let refused = matches!(outcome, Err(Failure::Refused(_)));
        screen.verdict(if guest { refused } else { outcome.is_ok() }, &outcome)?;
    }

    screen.heading("Sign in with a wrong password");
    let sasl = Sasl::builder().mechanisms([Mechanism::Plain]).build()?;
    let outcome =
        client.send("a guess", sasl, Credentials::password("tim", "a guess")?, None).await?;
    screen.verdict(matches!(outcome, Err(Failure::NotAuthenticated(_))), &outcome)?;

    if Mechanism::OauthBearer.is_compiled() {
        screen.heading("Sign in with a wrong token");
        let sasl = Sasl::builder().mechanisms([Mechanism::OauthBearer]).build()?;
        let outcome =
            client.send("a guess", sasl, Credentials::token("tim", "guess")?, None).await?;
        screen.verdict(matches!(outcome, Err(Failure::TokenRefused(..))), &outcome)?;
    }
    if Mechanism::ScramSha256Plus.is_compiled() {
        screen.heading("Require channel binding of a server that has none");
        let (client, _stop) = tim.start_server("none", screen).await?;
        let sasl = Sasl::builder().channel_binding(BindingPolicy::Required).build()?;
        let password = tim.credentials(Mechanism::ScramSha256Plus)?;
        let outcome = client.send("not bound", sasl, password, None).await?;
        screen.verdict(matches!(outcome, Err(Failure::NotAuthenticated(_))), &outcome)?;
    }

    screen.heading("Where the messages are");
    let stored = subjects(&tim.file("maildir").join("new"))?;
    for (path, subject) in &stored {
        screen.line(format_args!("{}\n    {subject}", path.display()));
    }
    let guests = usize::from(Mechanism::Anonymous.is_compiled());
    if stored.len() == Mechanism::COMPILED.len() - guests {
        Ok(())
    } else {
        Err(format!("{} messages were stored", stored.len()).into())
    }
}

/// The one account, with what signs in to it.
struct Tim {
    password: String,
    token: String,
    /// Whom the server trusts to sign its clients' certificates.
    ca: CertifiedIssuer<'static, KeyPair>,
    /// For all files.
    folder: PathBuf,
}

impl Tim {
    fn new(folder: PathBuf) -> Result<Self, Box<dyn Error>> {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "the demo's CA");
        let ca = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        fs::write(folder.join("ca.pem"), ca.pem())?;
        Ok(Self { password: tls::random_password()?, token: tls::random_password()?, ca, folder })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn credentials(&self, mechanism: Mechanism) -> Result<Credentials, ConfigError> {
        if mechanism == Mechanism::Anonymous {
            Credentials::anonymous("tim@example.org")
        } else if mechanism == Mechanism::External {
            Ok(Credentials::external())
        } else if mechanism.takes_token() {
            Credentials::token("tim", self.token.as_str())
        } else {
            Credentials::password("tim", self.password.as_str())
        }
    }

    /// A certificate that names him.
    fn certificate(&self) -> Result<trust::Identity, rcgen::Error> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "tim");
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.ca)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((vec![certificate.der().clone()], key.into()))
    }

    /// The example server, with the options that a command line would give it. It stops with the
    /// sender.
    async fn start_server(
        &self,
        channel_binding: &str,
        screen: Screen,
    ) -> Result<(Client, watch::Sender<bool>), Box<dyn Error>> {
        let mechanisms: Vec<_> = Mechanism::COMPILED.iter().map(|own| own.name()).collect();
        let certificate = self.file(&format!("{channel_binding}.pem"));
        let (user, token) = (format!("tim:{}", self.password), format!("tim:{}", self.token));
        let (mechanisms, maildir, ca) =
            (mechanisms.join(","), self.file("maildir"), self.file("ca.pem"));
        // A wrong password is answered at once, where a real server takes its time.
        let words = ["server", "--guess-limit", "off"].map(OsStr::new);
        let options: [(&str, &OsStr); 7] = [
            ("--user", user.as_ref()),
            ("--token", token.as_ref()),
            ("--client-ca", ca.as_ref()),
            ("--mechanisms", mechanisms.as_ref()),
            ("--channel-binding", channel_binding.as_ref()),
            ("--maildir", maildir.as_ref()),
            ("--cert-out", certificate.as_ref()),
        ];
        let options = options.iter().flat_map(|(name, value)| [name.as_ref(), *value]);
        let host = Host::new(&Options::try_parse_from(words.into_iter().chain(options))?)?;
        let host = Arc::new(host);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((socket, peer)) = listener.accept().await {
                let served =
                    connection::serve(Arc::clone(&host), socket, peer, false, stopped.clone());
                tokio::spawn(served);
            }
        });
        Ok((Client { address, certificate, screen, brief: Cell::new(false) }, stop))
    }
}

/// The example client.
struct Client {
    address: SocketAddr,
    /// The server's, which it trusts.
    certificate: PathBuf,
    screen: Screen,
    /// Whether a dialogue has been shown whole.
    brief: Cell<bool>,
}

impl Client {
    /// Sends a message; the inner result is what the server made of it.
    async fn send(
        &self,
        subject: &str,
        sasl: Sasl,
        credentials: Credentials,
        shown: Option<trust::Identity>,
    ) -> Result<Result<String, Failure>, Box<dyn Error>> {
        let to = ["ann@example.org".to_owned()];
        let message = format!(
            "From: tim@example.org\r\nTo: {}\r\nSubject: {subject}\r\n\r\nHello.\r\n",
            to.join(", ")
        );
        let envelope = Envelope::new(Some("tim@example.org"), to.iter().map(String::as_str))?
            .size(message.len() as u64);
        let mut session = Session::new(
            Arc::new(Config::builder("demo.example.org").sasl(sasl).build()?),
            credentials,
        );
        let screen = self.screen;
        let brief = self.brief.replace(true);
        session.trace(move |side, line| {
            // What every EHLO is answered is shown once.
            if !(brief && line.starts_with("250-")) {
                screen.dialogue(side, line);
            }
        });

        let connector = trust::connector(Some(&self.certificate), shown)?;
        let socket = TcpStream::connect(self.address).await?;
        let peer = Peer { connector, name: ServerName::try_from("localhost")?, implicit: false };
        let mail = Mail { envelope, message: message.as_bytes() };
        Ok(deliver(socket, peer, session, mail, TIMEOUT).await)
    }
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
    let path = env::temp_dir().join(format!("smtp-auth-demo-{}", tls::random_password()?));
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
        let colour = match side {
            Side::Client => "36",
            Side::Server => "33",
        };
        self.line(format_args!("  {}", self.painted(colour, format_args!("{side}: {line}"))));
    }

    fn result(self, good: bool, text: impl Display) {
        let (colour, word) = if good { ("32", "as it should be") } else { ("31", "wrong") };
        self.line(format_args!("{}: {text}", self.painted(colour, word)));
    }

    /// What came of a try: an error where that is not as it should be.
    fn verdict(self, good: bool, outcome: &Result<String, Failure>) -> Result<(), String> {
        let what = outcome.as_ref().map_or_else(Failure::why, String::as_str);
        if !good {
            return Err(what.into());
        }
        self.result(true, shown(what));
        if let Some(json) = outcome.as_ref().err().and_then(Failure::token_error) {
            self.line(format_args!("The server says of the token: {}", shown(json)));
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

/// The server's log. Here the dialogues tell it all.
fn log(_: impl Display, _: impl Display) {}

/// Waits until the server is to stop.
async fn shutdown(stopped: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, and the demo with it.
    let _ = stopped.changed().await;
}
