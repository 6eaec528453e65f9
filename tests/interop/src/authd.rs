//! smtp-authd, which mail servers ask, and its accounts.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Stdio,
};

use tokio::process::Command;

use crate::{
    Options, Result,
    home::{Home, write},
    log::Log,
    process::{Processes, last_line, run, wait_for},
};

/// The users that Postfix and Exim run as. Each has a socket of its own.
pub(crate) const OWNERS: [&str; 2] = ["postfix", "Debian-exim"];

pub(crate) struct Authd {
    program: PathBuf,
    folder: PathBuf,
    pub(crate) log: Log,
    service: Option<Processes>,
}

impl Authd {
    pub(crate) fn new(options: &Options, home: &Home) -> Result<Self> {
        let folder = home.folder("smtp-authd")?;
        let log = Log(folder.join("log"));
        Ok(Self { program: options.authd.clone(), folder, log, service: None })
    }

    /// The URL of a SQLite database.
    pub(crate) fn sqlite(&self) -> String {
        format!("sqlite:{}", self.folder.join("accounts.db").display())
    }

    /// The socket of the mail server that runs as this user.
    pub(crate) fn socket(&self, owner: &str) -> PathBuf {
        self.folder.join(owner)
    }

    /// Stops the service, if it runs. `limit` is how many failures an account may have.
    pub(crate) fn configure(&mut self, database: &str, limit: u32) -> Result<()> {
        self.service = None;
        let mut text = format!(
            r#"database = "{database}"
query_time_limit_ms = 1000
[accounts]
scram = ["SCRAM-SHA-256", "SCRAM-SHA-1"]
cram_md5 = true
[limits]
network = 1000
account = {limit}
failure_delay_ms = 50
"#
        );
        for owner in OWNERS {
            let path = self.socket(owner);
            let path = path.display();
            text +=
                &format!("[[socket]]\npath = \"{path}\"\nowner = \"{owner}\"\ntrusted = true\n");
        }
        let path = self.configuration();
        write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(|error| error.to_string())
    }

    /// Runs `smtp-authd account …`, and returns what it prints.
    pub(crate) async fn account(&self, arguments: &[&str], input: Stdio) -> Result<String> {
        let mut command = self.command();
        let output = run(command.arg("account").args(arguments).stdin(input)).await?;
        if !output.status.success() {
            return Err(format!("smtp-authd account {arguments:?}: {}", last_line(&output)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Starts the service, and waits until it is ready.
    pub(crate) async fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log.0);
        let log = log.map_err(|error| error.to_string())?;
        let mark = self.log.mark();
        let mut command = self.command();
        command.arg("serve").stdout(Stdio::null()).stderr(Stdio::from(log));
        let service = self.service.insert(Processes::start([command])?);
        let is_ready = || self.log.count(mark, " INFO the service is ready") > 0;
        wait_for(|| is_ready() || service.ended()).await;
        is_ready().then_some(()).ok_or_else(|| "smtp-authd does not start".into())
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("authd.toml")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.configuration()).env_remove("DATABASE_URL");
        command
    }
}
