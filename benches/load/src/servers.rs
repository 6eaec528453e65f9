//! The servers: what they need, and how each is started on a free port of the loopback interface.

use core::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use clap::ValueEnum;
use tokio::{
    process::Command,
    time::{sleep, timeout},
};

use crate::{
    Result,
    certificate::Certificate,
    dialogue::{ACCOUNT, Dialogue, Mechanism, PASSWORD, SCRAM_ACCOUNT},
    home::Home,
    message::Size,
    options::{Options, Transport},
    postfix,
    process::{Processes, Times, Usage},
    sink,
};

const AIOSMTPD: &str = "1.4.6";
const SMTP_SERVER: &str = "3.21.6";

/// How long a server may take to greet.
const START: Duration = Duration::from_secs(30);

/// Bounds of the example server that no row is to meet.
const MANY: &str = "1000000";

#[derive(Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Kind {
    /// The example server of this crate.
    Example,
    /// aiosmtpd, in Python.
    Aiosmtpd,
    /// smtp-server, for Node.js.
    SmtpServer,
    /// Postfix, with Dovecot's SASL.
    Postfix,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Example => "example server",
            Self::Aiosmtpd => "aiosmtpd",
            Self::SmtpServer => "smtp-server",
            Self::Postfix => "Postfix, Dovecot's SASL",
        }
    }

    pub(crate) fn offers(self, mechanism: Mechanism) -> bool {
        match self {
            Self::Example | Self::Postfix => true,
            Self::SmtpServer => mechanism != Mechanism::ScramSha256,
            Self::Aiosmtpd => matches!(mechanism, Mechanism::None | Mechanism::Plain),
        }
    }

    /// How many idle connections it is asked to hold.
    pub(crate) fn max_idle(self) -> usize {
        match self {
            // A process for each.
            Self::Postfix => 1000,
            Self::Example | Self::Aiosmtpd | Self::SmtpServer => usize::MAX,
        }
    }
}

/// One of the servers that are measured.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    /// Its name in the tables, another one for each.
    pub(crate) label: String,
    /// Its program, if that is given.
    pub(crate) path: Option<PathBuf>,
}

impl Subject {
    /// Whether it is of this crate.
    pub(crate) fn is_own(&self) -> bool {
        self.kind == Kind::Example
    }
}

/// A server that can be started, as often as one likes.
pub(crate) struct Program {
    kind: Kind,
    /// What to run: the example server, Python, Node.js, or Postfix's `master`.
    path: PathBuf,
    /// With its version, if it is of others.
    pub(crate) version: Option<String>,
    /// Where the packages are.
    packages: PathBuf,
    /// Where it has its folder.
    within: PathBuf,
}

impl Program {
    /// Builds or installs what is missing.
    pub(crate) async fn new(subject: &Subject, options: &Options) -> Result<Self> {
        let own = env::current_exe()?;
        let target = own.ancestors().nth(2).ok_or("the tool's own program has no folder")?;
        let packages = target.join("load-peers");
        fs::create_dir_all(&packages)?;
        let path = match (subject.kind, &subject.path) {
            (Kind::Example, Some(path)) => path.clone(),
            (Kind::Example, None) => build_example(target).await?,
            (Kind::Aiosmtpd, _) => install_aiosmtpd(&packages).await?,
            (Kind::SmtpServer, _) => install_smtp_server(&packages).await?,
            (Kind::Postfix, _) => postfix::master().await?,
        };
        let version = match subject.kind {
            Kind::Example => None,
            Kind::Aiosmtpd => Some(format!("aiosmtpd {AIOSMTPD}")),
            Kind::SmtpServer => Some(format!("smtp-server {SMTP_SERVER}")),
            Kind::Postfix => Some(postfix::version().await?),
        };
        let within = options.folder.clone();
        Ok(Self { kind: subject.kind, path, version, packages, within })
    }

    /// Starts it, and waits for its greeting.
    pub(crate) async fn start(&self) -> Result<Server> {
        let home = Home::new(&self.within)?;
        let certificate = Certificate::new(&home)?;
        let address = free_address()?;
        let commands = match self.kind {
            Kind::Example => vec![self.example(address, &home, &certificate)],
            Kind::Aiosmtpd => vec![self.script("aiosmtpd_server.py", address, &certificate)],
            Kind::SmtpServer => vec![self.script("smtp_server.cjs", address, &certificate)],
            Kind::Postfix => postfix::commands(&self.path, address, &home, &certificate).await?,
        };
        let processes = Processes::start(commands)?;
        let mut server = Server { kind: self.kind, address, certificate, processes, home };
        server.wait().await?;
        Ok(server)
    }

    fn example(&self, address: SocketAddr, home: &Home, certificate: &Certificate) -> Command {
        let mut command = Command::new(&self.path);
        command.args(["--listen", &address.to_string(), "--allow-cleartext"]);
        command.args(["--guess-limit", "off", "--max-connections", MANY]);
        command.args(["--max-per-address", MANY, "--maildir"]).arg(home.path("maildir"));
        command.arg("--cert").arg(&certificate.cert).arg("--key").arg(&certificate.key);
        for account in accounts() {
            command.args(["--user", &account]);
        }
        command
    }

    /// A script of ours beside `src`: all take the same arguments.
    fn script(&self, name: &str, address: SocketAddr, certificate: &Certificate) -> Command {
        let mut command = Command::new(&self.path);
        command.env("NODE_PATH", self.packages.join("node_modules"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("servers").join(name));
        command.arg(address.port().to_string()).arg(&certificate.cert).arg(&certificate.key);
        command.args(accounts());
        command
    }
}

/// One that runs, until it is dropped.
pub(crate) struct Server {
    kind: Kind,
    address: SocketAddr,
    certificate: Certificate,
    processes: Processes,
    home: Home,
}

impl Server {
    pub(crate) fn usage(&self) -> Usage {
        self.processes.usage()
    }

    pub(crate) fn times(&self) -> Times {
        Times::now(&self.processes)
    }

    pub(crate) fn dialogue(&self, transport: Transport, mechanism: Mechanism) -> Result<Dialogue> {
        Dialogue::new(self.address, transport, mechanism, self.certificate.connector.clone())
    }

    /// Waits until all is done that it took, and fails if that is not so many messages of that size.
    pub(crate) async fn keeps(&self, messages: usize, size: Size) -> Result<()> {
        sink::keeps(self.kind, &self.home, messages, size).await
    }

    async fn wait(&mut self) -> Result<()> {
        let (began, hello) = (Instant::now(), self.dialogue(Transport::Plain, Mechanism::None)?);
        loop {
            let rest = START.saturating_sub(began.elapsed());
            match timeout(rest, hello.run()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) if self.processes.ended() => return Err("it ended at once".into()),
                Ok(Err(_)) => sleep(Duration::from_millis(20)).await,
                Err(_) => return Err(format!("no greeting in {} seconds", START.as_secs()).into()),
            }
        }
    }
}

fn accounts() -> [String; 2] {
    [ACCOUNT, SCRAM_ACCOUNT].map(|name| format!("{name}:{PASSWORD}"))
}

pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

async fn build_example(target: &Path) -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let mut build = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    build.args(["build", "--quiet", "--release", "--example", "server", "--manifest-path"]);
    done(build.arg(manifest).arg("--target-dir").arg(target)).await?;
    Ok(target.join("release/examples/server"))
}

async fn install_aiosmtpd(packages: &Path) -> Result<PathBuf> {
    let venv = packages.join("venv");
    let python = venv.join("bin/python");
    let package = format!("aiosmtpd=={AIOSMTPD}");
    if done(Command::new(&python).args(["-c", "import aiosmtpd"])).await.is_err() {
        done(Command::new("python3").args(["-m", "venv"]).arg(&venv)).await?;
        done(Command::new(&python).args(["-m", "pip", "install", "--quiet", &package])).await?;
    }
    Ok(python)
}

async fn install_smtp_server(packages: &Path) -> Result<PathBuf> {
    if !packages.join("node_modules/smtp-server").exists() {
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--silent",
            "--no-save",
            "--no-audit",
            "--ignore-scripts",
            "--prefix",
        ]);
        done(npm.arg(packages).arg(format!("smtp-server@{SMTP_SERVER}"))).await?;
    }
    Ok("node".into())
}

/// Runs it to its end, which is to be a good one, and gives what it wrote.
pub(crate) async fn done(command: &mut Command) -> Result<String> {
    let program = command.as_std().get_program().to_owned();
    let program = program.display();
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = run.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.trim().lines().last().unwrap_or_default();
    Err(format!("{program}: {}: {last}", output.status).into())
}
