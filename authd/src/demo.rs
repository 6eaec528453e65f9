//! `--demo`: a service that can be tried without a configuration.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write, stdout},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

use crate::{
    clock::now_s,
    commands::CommandError,
    config::{Config, Socket},
    passwords,
    store::{NewPassword, Store},
};

/// The account of the demo.
const NAME: &str = "demo";

/// Postfix's queue directory. Postfix resolves the path of a socket in it, and Debian's smtpd is confined to it.
const SPOOL: &str = "/var/spool/postfix";

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
    for own in [&directory, &path] {
        let owner = fs::symlink_metadata(own).map(|metadata| metadata.uid());
        if owner.is_ok_and(|owner| owner != geteuid().as_raw()) {
            let why = format!(
                "{} belongs to another user, who could read the database: choose another `--directory`",
                own.display()
            );
            return Err(io::Error::other(why).into());
        }
    }
    let is_own = config.database.is_none();
    config.database.get_or_insert_with(|| format!("sqlite:{}", path.display()).into());
    let socket = match socket {
        Some(path) => std::path::absolute(path)?,
        None => directory.join("auth"),
    };
    // Every user of this machine can connect, so the client addresses that come by this socket are not believed.
    config.sockets = vec![Socket {
        path: socket.clone(),
        mode: "0666".into(),
        owner: None,
        group: None,
        trusted: false,
    }];
    let store = Store::open(&config.database()?).await?;
    let mut out = stdout().lock();
    writeln!(
        out,
        "Database: {}",
        if is_own { path.display().to_string() } else { "the configured one".into() }
    )?;
    if store.find(NAME).await?.is_none() {
        let (password, _) = passwords::new(true)?;
        let credentials = passwords::credentials(&config, &password, false)?;
        let created = now_s();
        let new = NewPassword { credentials, created, ..NewPassword::default() };
        store.add_account(NAME, &[], &[new], true, created).await?;
        writeln!(out, "Account:  {NAME}\nPassword: {} (it is shown only now)", password.expose())?;
    } else {
        writeln!(
            out,
            "Account:  {NAME} (it exists: `account passwd {NAME} --generate` gives it a new password)"
        )?;
    }
    store.close().await;
    show(&mut out, &socket)?;
    Ok(config)
}

fn show(out: &mut impl Write, socket: &Path) -> io::Result<()> {
    let for_postfix = socket.strip_prefix(SPOOL).unwrap_or(socket).display();
    writeln!(out, "Socket:   {}", socket.display())?;
    if let Some(closed) = closed(socket) {
        writeln!(
            out,
            "Warning:  not every user may enter {}. If the mail server's user may not, it cannot\n\
             {:10}reach this socket. In this case, start the demo with `--directory` and a directory that\n\
             {:10}every user may enter.",
            closed.display(),
            "",
            ""
        )?;
    }
    let socket = socket.display();
    writeln!(
        out,
        "
Postfix, /etc/postfix/main.cf:
    smtpd_sasl_type = dovecot
    smtpd_sasl_path = {for_postfix}
    smtpd_tls_auth_only = yes

Postfix, /etc/postfix/master.cf:
    submission inet n       -       y       -       -       smtpd
      -o smtpd_sasl_auth_enable=yes

    An smtpd that is confined to a chroot, as Debian's is, reaches only sockets in Postfix's queue directory:
    start this with `--socket {SPOOL}/private/auth`.

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

Serving until Ctrl-C."
    )
}

/// Returns the first directory of the path that other users may not enter. Postfix's queue directory contains some that
/// Postfix may.
fn closed(socket: &Path) -> Option<&Path> {
    let is_closed = |directory: &&Path| {
        fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 == 0)
    };
    socket.ancestors().skip(1).filter(|_| !socket.starts_with(SPOOL)).find(is_closed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_may_not_enter_is_found() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("demo");
        DirBuilder::new().mode(0o711).create(&directory).unwrap();
        let socket = directory.join("auth");
        for (mode, expected) in [(0o750, Some(parent.path())), (0o711, None)] {
            fs::set_permissions(parent.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(closed(&socket), expected);
        }
        assert_eq!(closed(&Path::new(SPOOL).join("private/auth")), None);
    }
}
