//! PostgreSQL, on a socket in a folder of its own.

use std::{fs, path::PathBuf, process};

use tokio::process::Command;

use crate::{
    Result,
    home::Home,
    process::{Processes, done, wait_for},
};

/// Whom it runs as: it refuses to run as root.
const OWNER: &str = "postgres";

pub(crate) struct Postgres {
    /// Where its programs are.
    programs: PathBuf,
    folder: PathBuf,
    server: Option<Processes>,
}

impl Postgres {
    pub(crate) async fn start(home: &Home) -> Result<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut programs = versions.map(|version| version.path().join("bin"));
        let programs = programs.find(|programs| programs.join("initdb").exists());
        let programs = programs.ok_or("PostgreSQL is not installed")?;
        let folder = home.folder("postgresql")?;
        done(Command::new("chown").arg(OWNER).arg(&folder)).await?;
        let mut postgres = Self { programs, folder, server: None };
        let mut initdb = postgres.command("initdb");
        done(initdb.args(["--username", OWNER, "--auth", "trust", "--no-sync"])).await?;
        postgres.run().await?;
        Ok(postgres)
    }

    /// Runs it, for the first time or again, and waits until it answers.
    pub(crate) async fn run(&mut self) -> Result<()> {
        let mut command = self.command("postgres");
        command.arg("-k").arg(&self.folder).args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        command.stdout(process::Stdio::null()).stderr(process::Stdio::null());
        self.server = Some(Processes::start([command])?);
        let answers = || {
            let mut ask = process::Command::new(self.programs.join("pg_isready"));
            ask.arg("--quiet").arg("--host").arg(&self.folder);
            ask.status().is_ok_and(|status| status.success())
        };
        wait_for(answers).await.then_some(()).ok_or_else(|| "PostgreSQL does not start".into())
    }

    /// Stops it at once, with what its clients are doing. It has shared memory, which outlives it if it is killed.
    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            let mut stop = self.command("pg_ctl").into_std();
            // If that fails, it is killed.
            let _ = stop.args(["stop", "--mode", "immediate", "--silent", "-t", "5"]).status();
            drop(server);
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://{OWNER}@localhost/postgres?host={}", self.folder.display())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", OWNER, "--regid", OWNER, "--clear-groups"])
            .arg(self.programs.join(program))
            .arg("-D")
            .arg(self.folder.join("data"))
            .current_dir(&self.folder);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}
