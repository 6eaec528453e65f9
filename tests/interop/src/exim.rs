//! Exim, run from where its package was unpacked: it cannot be installed beside Postfix. SCRAM and
//! tokens it leaves to Dovecot.

use std::fs;

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

pub(crate) async fn exim(place: &Place<'_>) -> Result<Start> {
    if !rustix::process::geteuid().is_root() {
        return Err("Exim starts as root only".into());
    }
    for folder in ["spool", "exim-log"] {
        fs::create_dir(place.path(folder)).map_err(|error| error.to_string())?;
    }
    let folders = ["spool", "exim-log", "mail"].map(|name| place.path(name));
    done(Command::new("chown").args(["-R", OWNER]).args(folders)).await?;
    write(&place.path("exim.conf"), configuration(place))?;
    let mut start = dovecot::sasl(place)?;
    let mut exim = Command::new(place.options.exim());
    // In the foreground.
    exim.arg("-C").arg(place.path("exim.conf")).arg("-bdf");
    start.commands.push(exim);
    Ok(start)
}

fn configuration(place: &Place<'_>) -> String {
    let (home, folder) = (place.home, place.folder.display());
    let Ports { plain, tls } = place.ports;
    let authenticators: String = BY_DOVECOT.iter().map(|name| by_dovecot(place, name)).collect();
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
plain:
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
{authenticators}"#,
        exim = place.options.exim().display(),
        cert = home.server.cert.display(),
        key = home.server.key.display(),
        ca = home.ca.display(),
    )
}

fn by_dovecot(place: &Place<'_>, mechanism: &str) -> String {
    format!(
        "{}:
  driver = dovecot
  public_name = {mechanism}
  server_socket = {}
  server_set_id = $auth1
",
        mechanism.to_ascii_lowercase().replace('-', "_"),
        place.path("auth").display(),
    )
}
