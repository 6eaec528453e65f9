//! Unix sockets: how they are made, replaced and removed.

use std::{
    env, fs,
    io::{self, ErrorKind},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
            net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, Mode, flock},
    process::umask,
};

use crate::config::{ConfigError, Socket};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("another process serves {}: stop it, or configure another path", .0.display())]
    Live(PathBuf),
    #[error("{} exists and is not a socket: remove it, or configure another path", .0.display())]
    NoSocket(PathBuf),
    #[error("there is no {kind} named `{name}` in {file}")]
    NoSuchName { kind: &'static str, name: String, file: &'static str },
    #[error("the socket {} cannot be made: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("the sockets that the service manager passes cannot be used: {0}")]
    Passed(io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// A socket that accepts connections. One that was made here is removed when it is dropped, unless another process has
/// replaced it.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) listener: UnixListener,
    pub(crate) is_trusted: bool,
    made: Option<(PathBuf, (u64, u64))>,
}

impl Listener {
    /// Removes the socket's file, if it is still this one.
    pub(crate) fn remove(&mut self) {
        let Some((path, own)) = self.made.take() else { return };
        if identity(&path).is_ok_and(|now| now == own) {
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The device and the inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Makes the socket. That of a process that has died is replaced in one step, so that mail servers always find one; a
/// live one never is.
pub(crate) fn bind(socket: &Socket) -> Result<Listener, SocketError> {
    let path = &socket.path;
    let failed = |error| SocketError::Io { path: path.clone(), error };
    let (mode, owner, group) = (
        socket.mode()?,
        id("user", socket.owner.as_deref())?,
        id("group", socket.group.as_deref())?,
    );
    // Two processes that start at once do not both find the old socket dead.
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let lock = fs::File::open(directory).map_err(failed)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NoSocket(path.clone()));
        }
        Ok(_) if is_live(path) => return Err(SocketError::Live(path.clone())),
        _ => {}
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = directory.join(format!(".{name}.{:x}", std::process::id()));
    let _ = fs::remove_file(&new);
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(&new);
    umask(before);
    let listener = bound.map_err(failed)?;
    let prepared = chown(&new, owner, group)
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(mode)))
        .and_then(|()| listener.set_nonblocking(true))
        .and_then(|()| identity(&new))
        .and_then(|own| fs::rename(&new, path).map(|()| own));
    match prepared {
        Ok(own) => {
            Ok(Listener { listener, is_trusted: socket.trusted, made: Some((path.clone(), own)) })
        }
        Err(error) => {
            let _ = fs::remove_file(&new);
            Err(failed(error))
        }
    }
}

/// Returns whether a process listens. An error such as a full queue comes only from a socket that a process has.
fn is_live(path: &Path) -> bool {
    match UnixStream::connect(path) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound),
    }
}

/// Returns the sockets that a service manager passes (`sd_listen_fds(3)`). One is trusted if the configuration trusts a
/// socket of the same path.
pub(crate) fn passed(sockets: &[Socket]) -> Result<Vec<Listener>, SocketError> {
    let mut all = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for place in 0..all.len() {
        let listener = all.take_unix_listener(place).map_err(SocketError::Passed)?;
        let Some(listener) = listener else { continue };
        listener.set_nonblocking(true).map_err(SocketError::Passed)?;
        let address = listener.local_addr().map_err(SocketError::Passed)?;
        let own = |socket: &&Socket| address.as_pathname() == Some(&socket.path);
        let is_trusted = sockets.iter().find(own).is_some_and(|socket| socket.trusted);
        listeners.push(Listener { listener, is_trusted, made: None });
    }
    Ok(listeners)
}

/// Tells the service manager, if there is one, that the service is ready, stopping or reloading (`sd_notify(3)`).
pub(crate) fn notify(state: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    let send = || -> io::Result<()> {
        let address = match path.as_encoded_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
    };
    if let Err(error) = send() {
        tracing::warn!(%error, "the service manager was not notified");
    }
}

/// Looks a user or a group up, by its number or by its name in the local file.
fn id(kind: &'static str, name: Option<&str>) -> Result<Option<u32>, SocketError> {
    let Some(name) = name else { return Ok(None) };
    if let Ok(id) = name.parse() {
        return Ok(Some(id));
    }
    let file = if kind == "user" { "/etc/passwd" } else { "/etc/group" };
    let text = fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        fields.nth(1).filter(|_| is_it)?.parse().ok()
    });
    let missing = || SocketError::NoSuchName { kind, name: name.into(), file };
    found.map(Some).ok_or_else(missing)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    fn socket(path: &Path) -> Socket {
        Socket { path: path.into(), mode: "0620".into(), owner: None, group: None, trusted: true }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_never() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth");
        drop(UnixListener::bind(&path).unwrap());
        let first = bind(&socket(&path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        assert!(matches!(bind(&socket(&path)), Err(SocketError::Live(_))));
        UnixStream::connect(&path).unwrap();
        drop(first);
        assert!(!path.exists() && fs::read_dir(directory.path()).unwrap().count() == 0);
    }

    #[test]
    fn another_processs_socket_and_other_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth");
        fs::write(&path, "mail").unwrap();
        assert!(matches!(bind(&socket(&path)), Err(SocketError::NoSocket(_))));
        fs::remove_file(&path).unwrap();
        let first = bind(&socket(&path)).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = bind(&socket(&path)).unwrap();
        drop(first);
        assert!(path.exists(), "the second's socket");
    }

    #[test]
    fn names_of_users_and_groups_are_looked_up() {
        assert_eq!(id("user", Some("root")).unwrap(), Some(0));
        assert_eq!(id("group", Some("12")).unwrap(), Some(12));
        assert!(matches!(id("group", Some("no such group")), Err(SocketError::NoSuchName { .. })));
    }
}
