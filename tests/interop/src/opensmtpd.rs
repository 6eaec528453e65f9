//! OpenSMTPD, run from where its package was unpacked: it cannot be installed beside Postfix. It hands
//! what it takes to a server that stores it.

use std::{
    fs::{Permissions, set_permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use tokio::process::Command;

use crate::{
    Result,
    home::write,
    process::done,
    servers::{Place, Ports, Start, peer_file},
    sign_in::USER,
};

pub(crate) async fn opensmtpd(place: &Place<'_>) -> Result<Start> {
    if !rustix::process::geteuid().is_root() {
        return Err("OpenSMTPD starts as root only".into());
    }
    let (relay, key) = (Ports::free()?, place.path("key.pem"));
    std::fs::copy(&place.home.server.key, &key).map_err(|error| error.to_string())?;
    // It takes no key that others may read.
    set_permissions(&key, Permissions::from_mode(0o600)).map_err(|error| error.to_string())?;
    let mut openssl = Command::new("openssl");
    openssl.args(["passwd", "-6", "-in"]).arg(place.home.path("password"));
    let hash = done(&mut openssl).await?;
    write(&place.path("smtpd.conf"), configuration(place, &key, hash.trim(), relay.plain))?;
    let mut smtpd = Command::new("unshare");
    smtpd
        .args(["--mount", "--propagation", "private", "sh"])
        .arg(peer_file("opensmtpd.sh"))
        .arg(&place.folder)
        .arg(place.options.opensmtpd());
    let store = place.script(Path::new("node"), "smtp_server.cjs", relay);
    Ok(Start { commands: vec![smtpd, store], also: vec![relay.plain] })
}

fn configuration(place: &Place<'_>, key: &Path, hash: &str, relay: u16) -> String {
    let Ports { plain, tls } = place.ports;
    format!(
        r#"pki localhost cert "{}"
pki localhost key "{}"
table users {{ "{USER}" = "{hash}" }}
listen on 127.0.0.1 port {plain} hostname localhost tls-require pki localhost auth <users>
listen on 127.0.0.1 port {tls} hostname localhost smtps pki localhost auth <users>
action "store" relay host "smtp://127.0.0.1:{relay}"
match auth from any for any action "store"
"#,
        place.home.server.cert.display(),
        key.display(),
    )
}
