//! Postfix, which asks a service that speaks Dovecot's protocol, or Cyrus SASL. The system's own instance is not touched.

use std::{fs, os::unix::fs::chown, path::Path, process::Stdio};

use tokio::process::Command;

use crate::{
    Result, dovecot,
    home::write,
    process::{done, last_line, run},
    servers::{Place, Ports, Start},
    sign_in::USER,
};

/// As whom it stores messages: nobody, on Debian.
const NOBODY: u32 = 65_534;

pub(crate) async fn with_dovecot(place: &Place<'_>) -> Result<Start> {
    let mut start = dovecot::sasl(place)?;
    start.commands.push(with_socket(place, &place.path("auth"), "").await?);
    Ok(start)
}

/// With a service that speaks Dovecot's protocol on this socket, and with further settings.
pub(crate) async fn with_socket(place: &Place<'_>, socket: &Path, more: &str) -> Result<Command> {
    let socket = socket.display();
    let own = format!("smtpd_sasl_type = dovecot\nsmtpd_sasl_path = {socket}\n{more}");
    postfix(place, &own).await
}

pub(crate) async fn with_cyrus(place: &Place<'_>) -> Result<Start> {
    let folder = place.folder.display();
    let own = format!(
        "smtpd_sasl_type = cyrus\nsmtpd_sasl_path = interop\ncyrus_sasl_config_path = {folder}/postfix/sasl\n\
        smtpd_sasl_local_domain = localhost\n"
    );
    let postfix = postfix(place, &own).await?;
    // Debian's Postfix looks there, whatever it is told.
    let conf = place.path("postfix/sasl");
    fs::create_dir(&conf).map_err(|error| error.to_string())?;
    write(
        &conf.join("interop.conf"),
        format!(
            "pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {folder}/sasldb
mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-512 ANONYMOUS
"
        ),
    )?;
    add_account(&place.path("sasldb"), &place.home.path("password")).await?;
    Ok(Start { commands: vec![postfix], also: Vec::new() })
}

/// Into a `sasldb` that Postfix's user may read.
async fn add_account(database: &Path, password: &Path) -> Result<()> {
    let password = fs::File::open(password).map_err(|error| error.to_string())?;
    let mut saslpasswd2 = Command::new("saslpasswd2");
    saslpasswd2.args(["-p", "-c", "-u", "localhost", "-f"]).arg(database).arg(USER);
    let output = run(saslpasswd2.stdin(Stdio::from(password))).await?;
    if !output.status.success() {
        return Err(format!("saslpasswd2: {}", last_line(&output)));
    }
    done(Command::new("chmod").arg("644").arg(database)).await?;
    Ok(())
}

async fn postfix(place: &Place<'_>, own: &str) -> Result<Command> {
    if !rustix::process::geteuid().is_root() {
        return Err("Postfix starts as root only".into());
    }
    let conf = place.path("postfix");
    for folder in ["postfix", "queue", "data"] {
        fs::create_dir(place.path(folder)).map_err(|error| error.to_string())?;
    }
    for folder in ["", "new", "cur", "tmp"] {
        let chowned = chown(place.maildir.join(folder), Some(NOBODY), Some(NOBODY));
        chowned.map_err(|error| error.to_string())?;
    }
    write(&conf.join("main.cf"), format!("{}{own}", main_cf(place)))?;
    write(&conf.join("master.cf"), master_cf(place.ports))?;
    done(Command::new("chown").arg("postfix").arg(place.path("data"))).await?;
    // Makes the folders of the queue.
    done(Command::new("postfix").arg("-c").arg(&conf).arg("check")).await?;
    let daemons = done(Command::new("postconf").args(["-d", "-h", "daemon_directory"])).await?;
    let mut master = Command::new(Path::new(daemons.trim()).join("master"));
    // In the foreground.
    master.arg("-c").arg(conf).arg("-d");
    Ok(master)
}

fn main_cf(place: &Place<'_>) -> String {
    let (folder, certificate) = (place.folder.display(), &place.home.server);
    format!(
        "compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
myhostname = localhost
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_base = {folder}
virtual_mailbox_maps = static:mail/
virtual_uid_maps = static:{NOBODY}
virtual_gid_maps = static:{NOBODY}
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0s
service_throttle_time = 1s
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
smtpd_sasl_auth_enable = yes
smtpd_sasl_security_options =
smtpd_tls_security_level = may
smtpd_tls_chain_files = {}, {}
",
        certificate.key.display(),
        certificate.cert.display(),
    )
}

fn master_cf(Ports { plain, tls }: Ports) -> String {
    format!(
        "127.0.0.1:{plain} inet n - n - - smtpd
127.0.0.1:{tls} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
"
    )
}
