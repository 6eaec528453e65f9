//! The mail servers, each started with a configuration of its own. What they take, they put into a
//! Maildir.

use core::time::Duration;
use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::{
    Options, Result, dovecot, exim,
    home::{Home, free_port},
    matrix::Fault,
    opensmtpd, postfix,
    process::{Processes, wait_for},
    sign_in::{PASSWORD, TOKEN, Transport, UNNAMED, USER},
};

pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Why it has no such mechanism, or not in that transport.
    pub(crate) lacks: fn(&str, Transport) -> Option<&'static str>,
    /// What it does wrong, and the example client fails for.
    pub(crate) fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Aiosmtpd,
    SmtpServer,
    PostfixDovecot,
    PostfixCyrus,
    Dovecot,
    Exim,
    OpenSmtpd,
}

/// What Dovecot's SASL has, Postfix's EXTERNAL apart.
fn dovecot_lacks(mechanism: &str) -> Option<&'static str> {
    match mechanism {
        "SCRAM-SHA-512" => Some("Dovecot does not support the mechanism"),
        _ if mechanism.ends_with("-PLUS") => Some("Dovecot 2.3 does not support channel binding"),
        _ => None,
    }
}

pub(crate) fn all() -> [Server; 7] {
    [
        Server {
            name: "aiosmtpd",
            kind: Kind::Aiosmtpd,
            lacks: |mechanism, _| match mechanism {
                "PLAIN" | "LOGIN" => None,
                _ => Some("it supports only PLAIN and LOGIN"),
            },
            fault: None,
        },
        Server {
            name: "smtp-server",
            kind: Kind::SmtpServer,
            lacks: |mechanism, _| match mechanism {
                "PLAIN" | "LOGIN" | "CRAM-MD5" | "XOAUTH2" => None,
                _ => Some("it supports only PLAIN, LOGIN, CRAM-MD5 and XOAUTH2"),
            },
            fault: None,
        },
        Server {
            name: "Postfix, Dovecot's SASL",
            kind: Kind::PostfixDovecot,
            lacks: |mechanism, _| match mechanism {
                "EXTERNAL" | UNNAMED => {
                    Some("Postfix does not pass the certificate's name to Dovecot")
                }
                _ => dovecot_lacks(mechanism),
            },
            fault: None,
        },
        Server {
            name: "Postfix, Cyrus SASL",
            kind: Kind::PostfixCyrus,
            lacks: |mechanism, _| match mechanism {
                "OAUTHBEARER" | "XOAUTH2" => {
                    Some("Debian's Cyrus SASL does not support the mechanism")
                }
                "EXTERNAL" | UNNAMED => {
                    Some("Postfix does not pass the certificate's name to Cyrus SASL")
                }
                _ if mechanism.ends_with("-PLUS") => {
                    Some("Postfix does not pass channel binding data to Cyrus SASL")
                }
                _ => None,
            },
            fault: None,
        },
        Server {
            name: "Dovecot's submission",
            kind: Kind::Dovecot,
            lacks: |mechanism, _| match mechanism {
                "ANONYMOUS" => Some("its EHLO reply does not list the mechanism"),
                _ => dovecot_lacks(mechanism),
            },
            fault: None,
        },
        Server {
            name: "Exim",
            kind: Kind::Exim,
            lacks: |mechanism, _| match mechanism {
                "SCRAM-SHA-512" => Some(
                    "Dovecot, which authenticates the clients in this test, does not support the mechanism",
                ),
                _ if mechanism.ends_with("-PLUS") => {
                    Some("it does not pass channel binding data to Dovecot")
                }
                _ => None,
            },
            fault: None,
        },
        Server {
            name: "OpenSMTPD",
            kind: Kind::OpenSmtpd,
            lacks: |mechanism, transport| match (mechanism, transport) {
                ("PLAIN" | "LOGIN", Transport::Cleartext) => {
                    Some("it accepts passwords only over TLS")
                }
                ("PLAIN" | "LOGIN", _) => None,
                _ => Some("it supports only PLAIN and LOGIN"),
            },
            fault: Some(Fault {
                how: "Debian 12's version fails in every TLS handshake, because of OpenSSL 3 (OpenSMTPD #1171)",
                seen: "failed: received fatal alert: InternalError",
            }),
        },
    ]
}

/// One that runs, until it is dropped.
pub(crate) struct Running {
    ports: Ports,
    pub(crate) maildir: PathBuf,
    _processes: Processes,
}

/// Of STARTTLS and cleartext, and of implicit TLS.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    pub(crate) tls: u16,
}

impl Ports {
    pub(crate) fn free() -> Result<Self> {
        Ok(Self { plain: free_port()?, tls: free_port()? })
    }
}

/// How one is started.
pub(crate) struct Start {
    pub(crate) commands: Vec<Command>,
    /// The ports of what it needs beside its own.
    pub(crate) also: Vec<u16>,
}

/// What is needed to say how a server is started.
pub(crate) struct Place<'a> {
    pub(crate) options: &'a Options,
    pub(crate) home: &'a Home,
    /// The server's own.
    pub(crate) folder: PathBuf,
    pub(crate) maildir: PathBuf,
    pub(crate) ports: Ports,
}

impl<'a> Place<'a> {
    /// A new folder, with a Maildir in it, and free ports.
    pub(crate) fn new(name: &str, options: &'a Options, home: &'a Home) -> Result<Self> {
        let folder = home.folder(name)?;
        let maildir = folder.join("mail");
        for name in ["", "cur", "new", "tmp"] {
            fs::create_dir(maildir.join(name)).map_err(|error| error.to_string())?;
        }
        Ok(Self { options, home, folder, maildir, ports: Ports::free()? })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn python(&self) -> PathBuf {
        self.options.peers.join("venv/bin/python")
    }

    /// A script in `peers` that is a server.
    pub(crate) fn script(&self, interpreter: &Path, name: &str, ports: Ports) -> Command {
        let mut command = script(interpreter, name);
        command
            .env("NODE_PATH", self.options.peers.join("node_modules"))
            .args([ports.plain.to_string(), ports.tls.to_string()])
            .args([&self.home.server.cert, &self.home.server.key, &self.maildir]);
        command
    }
}

pub(crate) fn script(interpreter: &Path, name: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(peer_file(name));
    command
}

pub(crate) fn peer_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

impl Kind {
    pub(crate) fn version_command(self, options: &Options) -> Command {
        let mut command;
        match self {
            Kind::Aiosmtpd => {
                command = Command::new(options.peers.join("venv/bin/python"));
                command.args(["-c", "import aiosmtpd; print(aiosmtpd.__version__)"]);
            }
            Kind::SmtpServer => {
                let package = options.peers.join("node_modules/smtp-server/package.json");
                command = Command::new("node");
                command.arg("-p").arg(format!("require({:?}).version", package.to_string_lossy()));
            }
            Kind::PostfixDovecot | Kind::PostfixCyrus => {
                command = Command::new("postconf");
                command.args(["-d", "-h", "mail_version"]);
            }
            Kind::Dovecot => {
                command = Command::new("dovecot");
                command.arg("--version");
            }
            Kind::Exim => {
                command = Command::new("sh");
                command.args(["-c", "\"$0\" -bV | sed 's/^Exim version //'"]).arg(options.exim());
            }
            Kind::OpenSmtpd => {
                command = Command::new("sh");
                command.args(["-c", "\"$0\" -h 2>&1 | sed -n 's/^version: OpenSMTPD //p'"]);
                command.arg(options.opensmtpd());
            }
        }
        command
    }
}

impl Server {
    /// Starts it, and waits for its greeting.
    pub(crate) async fn start(&self, options: &Options, home: &Home) -> Result<Running> {
        let place = Place::new(&self.name.replace([' ', ',', '\''], "-"), options, home)?;
        let start = self.commands(&place).await?;
        Running::start(&place, start).await
    }

    async fn commands(&self, place: &Place<'_>) -> Result<Start> {
        match self.kind {
            Kind::Aiosmtpd => {
                let mut server = place.script(&place.python(), "aiosmtpd_server.py", place.ports);
                server.args([USER, PASSWORD]);
                Ok(Start { commands: vec![server], also: Vec::new() })
            }
            Kind::SmtpServer => {
                let mut server = place.script(Path::new("node"), "smtp_server.cjs", place.ports);
                server.args([USER, PASSWORD, TOKEN]);
                Ok(Start { commands: vec![server], also: Vec::new() })
            }
            Kind::PostfixDovecot => postfix::with_dovecot(place).await,
            Kind::PostfixCyrus => postfix::with_cyrus(place).await,
            Kind::Dovecot => dovecot::submission(place),
            Kind::Exim => exim::with_dovecot(place).await,
            Kind::OpenSmtpd => opensmtpd::opensmtpd(place).await,
        }
    }
}

impl Running {
    /// Waits for the greeting.
    pub(crate) async fn start(place: &Place<'_>, mut start: Start) -> Result<Self> {
        let log = fs::File::create(place.path("log")).map_err(|error| error.to_string())?;
        for command in &mut start.commands {
            let log = log.try_clone().map_err(|error| error.to_string())?;
            command.stdout(Stdio::null()).stderr(Stdio::from(log));
        }
        let mut processes = Processes::start(start.commands)?;
        let (ports, maildir) = (place.ports, place.maildir.clone());
        let mut greeted = false;
        wait_for(|| {
            greeted = greets(ports.plain)
                && listens(ports.tls)
                && start.also.iter().all(|&port| listens(port));
            greeted || processes.ended()
        })
        .await;
        match greeted {
            true => Ok(Self { ports, maildir, _processes: processes }),
            false => Err("it does not start".into()),
        }
    }

    pub(crate) fn port(&self, transport: Transport) -> u16 {
        if transport == Transport::Implicit { self.ports.tls } else { self.ports.plain }
    }
}

fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    Some(stream)
}

fn listens(port: u16) -> bool {
    connect(port).is_some()
}

fn greets(port: u16) -> bool {
    let mut code = [0; 3];
    connect(port).is_some_and(|mut stream| stream.read_exact(&mut code).is_ok()) && code == *b"220"
}
