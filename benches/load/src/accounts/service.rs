//! The services, and the databases that they read.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

use tokio::{
    net::UnixStream,
    process::Command,
    time::{Duration, sleep},
};

use crate::{Result, home::Home, postfix, process::Processes, servers::done};

/// How long a service may take to open its socket.
const START: Duration = Duration::from_secs(20);

/// The iterations of all accounts' SCRAM keys.
const ITERATIONS: u32 = 15_000;

/// Builds the account service.
pub(super) async fn build() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let own = env::current_exe()?;
    let target = own.ancestors().nth(2).ok_or("the tool's own program has no folder")?;
    let mut build = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    build.args(["build", "--quiet", "--release", "-p", "smtp-authd", "--manifest-path"]);
    done(build.arg(manifest).arg("--target-dir").arg(target)).await?;
    Ok(target.join("release/smtp-authd"))
}

pub(super) async fn postgres_version() -> Result<String> {
    let version = done(Command::new("psql").arg("--version")).await?;
    Ok(version
        .replace("psql (PostgreSQL)", "PostgreSQL")
        .split(" (")
        .next()
        .unwrap_or_default()
        .into())
}

/// Writes the account service's configuration into the folder, in which its socket is `auth`.
pub(super) fn configure(home: &Home, database: &str) -> Result<PathBuf> {
    let file = home.path("authd.toml");
    let socket = home.path("auth");
    fs::write(
        &file,
        format!(
            "database = \"{database}\"\n[log]\nfilter = \"error\"\n[[socket]]\npath = \"{}\"\nmode = \"0666\"\ntrusted = true\n",
            socket.display()
        ),
    )?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Makes accounts with SCRAM keys of the same password.
pub(super) async fn import(
    program: &Path,
    config: &Path,
    home: &Home,
    names: impl Iterator<Item = String>,
) -> Result<()> {
    let line = postfix::scram_user("", ITERATIONS)?;
    let lines: String = names.map(|name| name + &line).collect();
    let file = home.path("accounts");
    fs::write(&file, lines)?;
    let mut import = Command::new(program);
    import.arg("--config").arg(config).args(["account", "import", "dovecot"]).arg(file);
    done(&mut import).await.map(drop)
}

pub(super) fn authd(program: &Path, config: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--config").arg(config);
    command
}

/// Dovecot, on the account service's own tables in SQLite.
pub(super) fn dovecot(home: &Home, database: &Path) -> Result<Command> {
    let file = home.path("dovecot-sql.conf");
    fs::write(
        &file,
        format!(
            "driver = sqlite\nconnect = {}\ndefault_pass_scheme = SCRAM-SHA-256\n\
             password_query = SELECT account.name AS user, \
             replace(replace(substr(value, 15), ':', ','), '$', ',') AS password \
             FROM login JOIN account ON account.name = login.account \
             JOIN credential ON credential.account = login.account AND credential.label = login.label \
             WHERE login.name = '%u' AND account.enabled = 1 AND scheme = 'SCRAM-SHA-256'\n",
            database.display()
        ),
    )?;
    postfix::dovecot(home, &format!("driver = sql\n  args = {}", file.display()))
}

/// Starts a service, and waits for its socket.
pub(super) async fn start(home: &Home, commands: Vec<Command>) -> Result<Processes> {
    let mut processes = Processes::start(commands)?;
    let began = Instant::now();
    while UnixStream::connect(home.path("auth")).await.is_err() {
        if processes.ended() || began.elapsed() > START {
            return Err("a service has not opened its socket".into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(processes)
}
