//! Dovecot, as a submission server, and as the one that Postfix asks who may sign in.

use std::path::Path;

use tokio::process::Command;

use crate::{
    Result,
    home::{free_port, write},
    servers::{Place, Ports, Start, script},
    sign_in::{PASSWORD, TOKEN, USER},
};

const MECHANISMS: &str =
    "plain login cram-md5 scram-sha-1 scram-sha-256 oauthbearer xoauth2 external anonymous";

/// Takes the messages itself, and hands them to a server that stores them.
pub(crate) fn submission(place: &Place<'_>) -> Result<Start> {
    let relay = Ports::free()?;
    let (home, Ports { plain, tls }) = (place.home, place.ports);
    let own = format!(
        "protocols = submission
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
ssl_ca = <{ca}
ssl_verify_client_cert = yes
ssl_require_crl = no
auth_ssl_username_from_cert = yes
hostname = localhost
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
mail_location = maildir:{folder}/home
service submission-login {{
  inet_listener submission {{
    address = 127.0.0.1
    port = {plain}
  }}
  inet_listener submissions {{
    address = 127.0.0.1
    port = {tls}
    ssl = yes
  }}
}}
",
        cert = home.server.cert.display(),
        key = home.server.key.display(),
        ca = home.ca.display(),
        relay = relay.plain,
        folder = place.folder.display(),
    );
    let mut start = start(place, &own)?;
    start.commands.push(place.script(Path::new("node"), "smtp_server.cjs", relay));
    start.also.push(relay.plain);
    Ok(start)
}

/// Only tells another server who may sign in, by a socket.
pub(crate) fn sasl(place: &Place<'_>) -> Result<Start> {
    let auth = place.path("auth");
    let own = format!(
        "protocols =
ssl = no
service auth {{
  unix_listener {} {{
    mode = 0666
  }}
}}
",
        auth.display(),
    );
    start(place, &own)
}

/// Dovecot, and what it asks about tokens.
fn start(place: &Place<'_>, own: &str) -> Result<Start> {
    let tokens = free_port()?;
    let folder = place.folder.display();
    let password: String = PASSWORD.bytes().map(|octet| format!("{octet:02x}")).collect();
    write(&place.path("passwords"), format!("{USER}:{{PLAIN.HEX}}{password}::::::\n"))?;
    write(&place.path("certificates"), format!("{USER}:::::::nopassword\n"))?;
    write(
        &place.path("tokens"),
        format!(
            "introspection_url = http://127.0.0.1:{tokens}/?token=
introspection_mode = get
force_introspection = yes
username_attribute = username
active_attribute = active
active_value = yes
"
        ),
    )?;
    let conf = format!(
        "base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/dovecot.log
auth_mechanisms = {MECHANISMS}
auth_failure_delay = 0
auth_verbose = yes
disable_plaintext_auth = no
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = {folder}/tokens
}}
passdb {{
  driver = passwd-file
  mechanisms = external
  args = username_format=%u {folder}/certificates
}}
passdb {{
  driver = passwd-file
  mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
  args = username_format=%u {folder}/passwords
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/home
}}
{own}"
    );
    write(&place.path("dovecot.conf"), conf)?;
    let mut dovecot = Command::new("dovecot");
    dovecot.arg("-F").arg("-c").arg(place.path("dovecot.conf"));
    let mut introspection = script(&place.python(), "introspection.py");
    introspection.args([&tokens.to_string(), USER, TOKEN]);
    Ok(Start { commands: vec![dovecot, introspection], also: vec![tokens] })
}
