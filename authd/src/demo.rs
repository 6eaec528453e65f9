//! `--demo`: a service that can be tried without a configuration.

use std::{
    fs::DirBuilder,
    io::{self, Write, stdout},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::{
    clock::now_s,
    commands::CommandError,
    config::{Config, Socket},
    passwords,
    store::{NewPassword, Store},
};

/// The account of the demo.
const NAME: &str = "demo";

/// Makes the directory, the database and the account, and shows how to use them. Returns the configuration to serve.
pub(crate) async fn prepare(
    mut config: Config,
    directory: &Path,
    socket: Option<PathBuf>,
) -> Result<Config, CommandError> {
    // Mail servers have to reach the socket, but not to read the directory.
    DirBuilder::new().recursive(true).mode(0o711).create(directory)?;
    let directory = directory.canonicalize()?;
    let path = directory.join("accounts.db");
    let url = config.database.get_or_insert_with(|| format!("sqlite:{}", path.display()));
    let is_sqlite = url.starts_with("sqlite:");
    let socket = match socket {
        Some(path) => std::path::absolute(path)?,
        None => directory.join("auth"),
    };
    // Every user of this machine can connect, so the client addresses that come by this socket are not believed.
    let own = Socket {
        path: socket.clone(),
        mode: "0666".into(),
        owner: None,
        group: None,
        trusted: false,
    };
    if config.sockets.is_empty() {
        config.sockets.push(own);
    }
    let store = Store::open(&config.database()?).await?;
    let mut out = stdout().lock();
    writeln!(
        out,
        "Database: {}",
        if is_sqlite { path.display().to_string() } else { "that of DATABASE_URL".into() }
    )?;
    if store.find(NAME).await?.is_none() {
        let (password, _) = passwords::new(true)?;
        let credentials = passwords::credentials(&config, &password, false)?;
        let new = NewPassword { credentials, ..NewPassword::default() };
        store.add_account(NAME, &[], &[new], true, now_s()).await?;
        writeln!(out, "Account:  {NAME}\nPassword: {} (it is shown only now)", password.expose())?;
    } else {
        writeln!(out, "Account:  {NAME} (it exists: the password was shown when it was made)")?;
    }
    store.close().await;
    show(&mut out, &socket)?;
    Ok(config)
}

fn show(out: &mut impl Write, socket: &Path) -> io::Result<()> {
    // Postfix resolves the path in its queue directory, in which Debian's smtpd is confined.
    let spool = Path::new("/var/spool/postfix");
    let for_postfix = socket.strip_prefix(spool).unwrap_or(socket).display();
    let socket = socket.display();
    writeln!(
        out,
        "Socket:   {socket}

Postfix, /etc/postfix/main.cf:
    smtpd_sasl_type = dovecot
    smtpd_sasl_path = {for_postfix}
    smtpd_sasl_auth_enable = yes
    smtpd_tls_auth_only = yes

    An smtpd that is confined to a chroot, as Debian's is, reaches only sockets in {spool}:
    start this with `--socket {spool}/private/auth`.

Exim, in the section `begin authenticators`, once for each mechanism:
    smtp_auth_plain:
      driver = dovecot
      public_name = PLAIN
      server_advertise_condition = ${{if def:tls_in_cipher}}
      server_socket = {socket}
      server_set_id = $auth1
    smtp_auth_scram_sha_256:
      driver = dovecot
      public_name = SCRAM-SHA-256
      server_socket = {socket}
      server_set_id = $auth1

Serving until Ctrl-C.",
        spool = spool.display()
    )
}
