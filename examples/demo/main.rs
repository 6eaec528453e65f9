//! Both sides at work: `cargo run --example demo` starts the example server on a free port, signs
//! in at it with the example client by each mechanism, sends a message each time, tries a wrong
//! password, and shows the dialogues as a log would have them, with all that is secret masked.
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
#[path = "../client/trust.rs"]
mod trust;

// The server.
#[path = "../server/connection.rs"]
mod connection;
#[allow(dead_code, reason = "the demo listens by itself")]
#[path = "../server/options.rs"]
mod options;
#[path = "../server/received.rs"]
mod received;
#[path = "../server/relay.rs"]
mod relay;
#[path = "../server/tls.rs"]
mod tls;
#[path = "../server/transaction.rs"]
mod transaction;
#[path = "../server/users.rs"]
mod users;

use std::{
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
use rustls_pki_types::ServerName;
use smtp_auth::{
    Side,
    client::{Config, Envelope, Session},
    sasl::{
        Mechanism,
        client::{Config as Sasl, Credentials},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsConnector;

use crate::{
    deliver::{Mail, Peer, deliver},
    failure::Failure,
    options::{Host, Options},
};

const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let screen = Screen::new();
    match demo(screen).await {
        Ok(()) => {
            screen.result(true, "all went as it should");
            ExitCode::SUCCESS
        }
        Err(error) => {
            screen.result(false, error);
            ExitCode::FAILURE
        }
    }
}

async fn demo(screen: Screen) -> Result<(), Box<dyn Error>> {
    let directory = new_directory()?;
    let (maildir, certificate) = (directory.join("maildir"), directory.join("certificate.pem"));
    let password = tls::random_password()?;
    let (address, _stop) = start_server(&password, &maildir, &certificate).await?;
    screen.line(format_args!("A server for \"tim\" listens on {address}."));

    let client = Client { address, connector: trust::connector(Some(&certificate))?, screen };
    for &mechanism in Mechanism::COMPILED {
        screen.heading(format_args!("Sign in by {mechanism}, and send a message"));
        match client.send(mechanism, &password).await? {
            Ok(accepted) => screen.result(true, accepted),
            Err(failure) => return Err(failure.why().into()),
        }
    }
    screen.heading("Sign in with a wrong password");
    match client.send(Mechanism::Plain, "a guess").await? {
        Err(Failure::NotAuthenticated(why)) => screen.result(true, why),
        Err(other) => return Err(other.why().into()),
        Ok(_) => return Err("a wrong password was accepted".into()),
    }

    screen.heading("Where the messages are");
    let stored = subjects(&maildir.join("new"))?;
    for (path, subject) in &stored {
        screen.line(format_args!("{}\n    {subject}", path.display()));
    }
    if stored.len() == Mechanism::COMPILED.len() {
        Ok(())
    } else {
        Err(format!("{} messages were stored", stored.len()).into())
    }
}

/// The example server, with the options that a command line would give it. It stops with the
/// sender.
async fn start_server(
    password: &str,
    maildir: &Path,
    certificate: &Path,
) -> Result<(SocketAddr, watch::Sender<bool>), Box<dyn Error>> {
    let user = format!("tim:{password}");
    // A wrong password is answered at once, where a real server takes its time.
    let words = ["server", "--guess-limit", "off", "--user", &user].map(OsStr::new);
    let files =
        ["--maildir".as_ref(), maildir.as_os_str(), "--cert-out".as_ref(), certificate.as_ref()];
    let host = Arc::new(Host::new(&Options::try_parse_from(words.iter().chain(&files))?)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((socket, peer)) = listener.accept().await {
            let served = connection::serve(Arc::clone(&host), socket, peer, false, stopped.clone());
            tokio::spawn(served);
        }
    });
    Ok((address, stop))
}

struct Client {
    address: SocketAddr,
    connector: TlsConnector,
    screen: Screen,
}

impl Client {
    /// Sends a message; the inner result is what the server made of it.
    async fn send(
        &self,
        mechanism: Mechanism,
        password: &str,
    ) -> Result<Result<String, Failure>, Box<dyn Error>> {
        let to = ["ann@example.org".to_owned()];
        let message = format!(
            "From: tim@example.org\r\nTo: {}\r\nSubject: signed in by {mechanism}\r\n\r\nHello.\r\n",
            to.join(", ")
        );
        let envelope = Envelope::new(Some("tim@example.org"), to.iter().map(String::as_str))?
            .size(message.len() as u64);
        let config =
            Config::new("demo.example.org")?.sasl(Sasl::default().mechanisms(&[mechanism])?);
        let mut session = Session::new(config, Credentials::password("tim", password)?);
        let screen = self.screen;
        session.trace(move |side, line| screen.dialogue(side, line));

        let socket = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost")?;
        let peer = Peer { connector: self.connector.clone(), name, implicit: false };
        let mail = Mail { envelope, to: &to, message: message.as_bytes() };
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
        let (colour, word) = if good { ("32", "good") } else { ("31", "wrong") };
        self.line(format_args!("{}: {text}", self.painted(colour, word)));
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
