//! Exim, run from where its package was unpacked: it cannot be installed beside Postfix. With Dovecot, it
//! leaves only SCRAM and tokens to that service.

use std::{fs, path::Path};

use tokio::process::Command;

use crate::{
    Result, dovecot,
    home::write,
    process::done,
    servers::{Place, Ports, Start},
    sign_in::{PASSWORD, USER},
};

/// Whom the package makes it run as.
const OWNER: &str = "Debian-exim";

const BY_DOVECOT: [&str; 5] =
    ["SCRAM-SHA-1", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2", "ANONYMOUS"];

pub(crate) async fn with_dovecot(place: &Place<'_>) -> Result<Start> {
    let mut start = dovecot::sasl(place)?;
    let others = by_socket(&place.path("auth"), &BY_DOVECOT);
    start.commands.push(exim(place, &(own() + &others)).await?);
    Ok(start)
}

/// With a service that speaks Dovecot's protocol on this socket.
pub(crate) async fn with_socket(
    place: &Place<'_>,
    socket: &Path,
    mechanisms: &[&str],
) -> Result<Command> {
    exim(place, &by_socket(socket, mechanisms)).await
}

async fn exim(place: &Place<'_>, authenticators: &str) -> Result<Command> {
    if !rustix::process::geteuid().is_root() {
        return Err("Exim starts as root only".into());
    }
    for folder in ["spool", "exim-log"] {
        fs::create_dir(place.path(folder)).map_err(|error| error.to_string())?;
    }
    let folders = ["spool", "exim-log", "mail"].map(|name| place.path(name));
    done(Command::new("chown").args(["-R", OWNER]).args(folders)).await?;
    write(&place.path("exim.conf"), configuration(place) + authenticators)?;
    let mut exim = Command::new(place.options.exim());
    // In the foreground.
    exim.arg("-C").arg(place.path("exim.conf")).arg("-bdf");
    Ok(exim)
}

fn configuration(place: &Place<'_>) -> String {
    let (home, folder) = (place.home, place.folder.display());
    let Ports { plain, tls } = place.ports;
    format!(
        r#"primary_hostname = localhost
exim_path = {exim}
spool_directory = {folder}/spool
log_file_path = {folder}/exim-log/%slog
pid_file_path = {folder}/spool/exim.pid
smtp_accept_max = 0
local_interfaces = 127.0.0.1.{plain} : 127.0.0.1.{tls}
tls_on_connect_ports = {tls}
tls_advertise_hosts = *
tls_certificate = {cert}
tls_privatekey = {key}
tls_verify_certificates = {ca}
tls_try_verify_hosts = *
acl_smtp_rcpt = rcpt
host_lookup =
rfc1413_hosts =
keep_environment =
deliver_drop_privilege
begin acl
rcpt:
  accept authenticated = *
  deny
begin routers
all:
  driver = accept
  transport = mail
begin transports
mail:
  driver = appendfile
  maildir_format
  directory = {folder}/mail
begin authenticators
"#,
        exim = place.options.exim().display(),
        cert = home.server.cert.display(),
        key = home.server.key.display(),
        ca = home.ca.display(),
    )
}

/// What Exim checks itself.
fn own() -> String {
    format!(
        r#"plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = <| Username: | Password:
  server_condition = ${{if and{{{{eq{{$auth1}}{{{USER}}}}}{{eq{{$auth2}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{{USER}}}{{{PASSWORD}}}fail}}
  server_set_id = $auth1
external:
  driver = external
  public_name = EXTERNAL
  server_advertise_condition = $tls_in_certificate_verified
  server_param2 = ${{certextract{{subject,CN}}{{$tls_in_peercert}}}}
  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{or{{{{eq{{$auth1}}{{}}}}{{eq{{$auth1}}{{$auth2}}}}}}}}}}}}
  server_set_id = $auth2
"#
    )
}

/// What it leaves to a service that speaks Dovecot's protocol.
fn by_socket(socket: &Path, mechanisms: &[&str]) -> String {
    let socket = socket.display();
    let authenticator = |mechanism: &&str| {
        let name = mechanism.to_ascii_lowercase().replace('-', "_");
        format!(
            "{name}:
  driver = dovecot
  public_name = {mechanism}
  server_socket = {socket}
  server_set_id = $auth1
"
        )
    };
    mechanisms.iter().map(authenticator).collect()
}
