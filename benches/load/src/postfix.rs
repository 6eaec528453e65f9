//! Postfix and Dovecot's SASL, each with a configuration of its own in the run's folder. The system's
//! own instances are not touched.

use core::net::SocketAddr;
use std::{
    fs,
    path::{Path, PathBuf},
};

use smtp_auth::sasl::{Mechanism, ScramHash, ScramKeys};
use tokio::process::Command;

use crate::{
    Result,
    certificate::Certificate,
    dialogue::{ACCOUNT, PASSWORD, SCRAM_ACCOUNT},
    home::Home,
    servers::done,
};

/// Processes, and so connections, at once.
const PROCESSES: usize = 1100;

/// Finds Postfix's `master`. Nothing is installed: these are packages of the system.
pub(crate) async fn master() -> Result<PathBuf> {
    let missing = |error| format!("{error} (Debian: postfix, dovecot-core)");
    if !rustix::process::geteuid().is_root() {
        return Err("Postfix starts as root only".into());
    }
    done(Command::new("dovecot").arg("--version")).await.map_err(missing)?;
    let mut ask = Command::new("postconf");
    let folder = done(ask.args(["-d", "-h", "daemon_directory"])).await.map_err(missing)?;
    Ok(Path::new(&folder).join("master"))
}

pub(crate) async fn version() -> Result<String> {
    let version = done(Command::new("postconf").args(["-d", "-h", "mail_version"])).await?;
    let dovecot = done(Command::new("dovecot").arg("--version")).await?;
    let dovecot = dovecot.split(' ').next().unwrap_or_default();
    Ok(format!("Postfix {version}, Dovecot {dovecot}"))
}

pub(crate) async fn commands(
    master: &Path,
    address: SocketAddr,
    home: &Home,
    certificate: &Certificate,
) -> Result<Vec<Command>> {
    let users = home.path("users");
    let text = format!("{ACCOUNT}:{{PLAIN}}{PASSWORD}::::::\n{}", scram_user(SCRAM_ACCOUNT, 4096)?);
    fs::write(&users, text)?;
    let passdb = format!(
        "driver = passwd-file\n  args = scheme=PLAIN username_format=%u {}",
        users.display()
    );
    Ok(vec![dovecot(home, &passdb)?, alone(master, address, home, certificate).await?])
}

/// Postfix, whose users authenticate by Dovecot's protocol on the socket `auth` of the folder.
pub(crate) async fn alone(
    master: &Path,
    address: SocketAddr,
    home: &Home,
    certificate: &Certificate,
) -> Result<Command> {
    let conf = home.path("postfix");
    for folder in ["postfix", "queue", "data"] {
        fs::create_dir(home.path(folder))?;
    }
    fs::write(conf.join("main.cf"), main_cf(home, certificate))?;
    fs::write(conf.join("master.cf"), master_cf(address))?;
    done(Command::new("chown").arg("postfix").arg(home.path("data"))).await?;
    // Makes the folders of the queue.
    done(Command::new("postfix").arg("-c").arg(&conf).arg("check")).await?;
    let mut postfix = Command::new(master);
    // In the foreground.
    postfix.arg("-c").arg(conf).arg("-d");
    Ok(postfix)
}

/// Dovecot, with the socket `auth` in the folder, and this database of passwords.
pub(crate) fn dovecot(home: &Home, passdb: &str) -> Result<Command> {
    fs::create_dir(home.path("dovecot"))?;
    fs::write(home.path("dovecot.conf"), dovecot_conf(home, passdb))?;
    let mut dovecot = Command::new("dovecot");
    dovecot.arg("-F").arg("-c").arg(home.path("dovecot.conf"));
    Ok(dovecot)
}

/// Whoever sends faster than it delivers is not slowed down (`in_flow_delay`): that is measured.
fn main_cf(home: &Home, certificate: &Certificate) -> String {
    let (queue, data, auth) = (home.path("queue"), home.path("data"), home.path("auth"));
    format!(
        "compatibility_level = 3.6
queue_directory = {}
data_directory = {}
myhostname = localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
mydestination =
default_transport = discard:
message_size_limit = 0
in_flow_delay = 0
default_process_limit = {PROCESSES}
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {}
smtpd_tls_security_level = may
smtpd_tls_chain_files = {}, {}
",
        queue.display(),
        data.display(),
        auth.display(),
        certificate.key.display(),
        certificate.cert.display(),
    )
}

fn master_cf(address: SocketAddr) -> String {
    format!(
        "{address} inet n - n - - smtpd
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
discard unix - - n - - discard
"
    )
}

fn dovecot_conf(home: &Home, passdb: &str) -> String {
    let (own, auth) = (home.path("dovecot"), home.path("auth"));
    let (own, auth) = (own.display(), auth.display());
    format!(
        "base_dir = {own}
state_dir = {own}
log_path = {own}/log
protocols =
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain cram-md5 scram-sha-256
passdb {{
  {passdb}
}}
userdb {{
  driver = static
  args = uid=dovecot gid=dovecot home=/nonexistent
}}
service auth {{
  client_limit = 4096
  unix_listener {auth} {{
    mode = 0666
  }}
}}
"
    )
}

/// A line of Dovecot's passwd-file, with SCRAM's keys of the password: of the password itself, Dovecot would make new
/// ones for each login.
pub(crate) fn scram_user(name: &str, iterations: u32) -> Result<String> {
    let hash = ScramHash::of(Mechanism::ScramSha256).ok_or("SCRAM-SHA-256 is not compiled in")?;
    let keys = ScramKeys::from_password(hash, PASSWORD, b"sixteen octets..", iterations);
    let text = keys.ok_or("no password for SCRAM")?.to_text();
    let (_, values) = text.expose().split_once('$').ok_or("keys without a mechanism")?;
    let values = values.replace([':', '$'], ",");
    Ok(format!("{name}:{{SCRAM-SHA-256}}{values}::::::\n"))
}
