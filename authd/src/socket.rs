//! Unix sockets: how they are made, replaced and removed.

use std::{
    env, fs, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{SocketAddr, UnixDatagram, UnixListener},
        },
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid, chownat, flock, open},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    process::umask,
};

use crate::config::{ConfigError, Socket};

/// How long another process may hold the lock while it makes its socket.
const LOCKED: Duration = Duration::from_secs(2);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("another process serves {}: stop it, or configure another path", .0.display())]
    Live(PathBuf),
    #[error("another process holds the lock of the directory {}: use a directory that other users cannot read", .0.display())]
    Locked(PathBuf),
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
    listener: UnixListener,
    pub(crate) is_trusted: bool,
    made: Option<(PathBuf, (u64, u64))>,
}

impl Listener {
    /// Returns another handle of the socket, for tokio.
    pub(crate) fn socket(&self) -> io::Result<tokio::net::UnixListener> {
        self.listener.try_clone().and_then(tokio::net::UnixListener::from_std)
    }

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
    let _lock = lock(directory, path)?;
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
    let listener = bind_with_mode(&new, mode).map_err(failed)?;
    let prepared = listener
        .set_nonblocking(true)
        .and_then(|()| give(&new, owner, group))
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

/// Locks the directory. Every user who can read it can hold the lock, so the wait for it is short.
fn lock(directory: &Path, socket: &Path) -> Result<fs::File, SocketError> {
    let failed = |error| SocketError::Io { path: socket.into(), error };
    let lock = fs::File::open(directory).map_err(failed)?;
    let end = Instant::now() + LOCKED;
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK) if Instant::now() < end => sleep(Duration::from_millis(20)),
            Err(Errno::WOULDBLOCK) => return Err(SocketError::Locked(directory.into())),
            Err(error) => return Err(failed(error.into())),
        }
    }
}

/// Held while the umask differs.
static UMASK: Mutex<()> = Mutex::new(());

/// Makes the socket with this mode, whatever the umask is. A change of the mode after that would follow a link.
///
/// The umask is the whole process's: the service makes its sockets before it starts threads.
fn bind_with_mode(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let _lock = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    let before = umask(Mode::from_bits_truncate(0o777 & !mode));
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

/// Gives the new socket to its owner, and returns its identity.
///
/// The directory often belongs to the mail server's user, who can put a link or another file in the socket's place. So
/// the path is resolved once, without following a link, and nothing but a socket is given away.
fn give(path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<(u64, u64)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::File::from(open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("another process has replaced it"));
    }
    let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
    chownat(&file, "", owner, group, AtFlags::EMPTY_PATH)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Returns whether a process listens. An error such as a full queue comes only from a socket that a process has.
fn is_live(path: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)
    });
    !matches!(connected, Err(Errno::CONNREFUSED | Errno::NOENT))
}

/// Returns the sockets that a service manager passes (`sd_listen_fds(3)`). One is trusted if the configuration trusts a
/// socket of the same path.
pub(crate) fn passed(sockets: &[Socket]) -> Result<Vec<Listener>, SocketError> {
    let mut all = listenfd::ListenFd::from_env();
    let (mut listeners, mut served) = (Vec::new(), Vec::new());
    for place in 0..all.len() {
        let listener = all.take_unix_listener(place).map_err(SocketError::Passed)?;
        let Some(listener) = listener else { continue };
        listener.set_nonblocking(true).map_err(SocketError::Passed)?;
        let address = listener.local_addr().map_err(SocketError::Passed)?;
        let own = |socket: &&Socket| address.as_pathname() == Some(&socket.path);
        let configured = sockets.iter().find(own);
        if configured.is_none() {
            tracing::warn!(
                ?address,
                "no [[socket]] section has the path of this socket: the clients' addresses that come by it are not used"
            );
        }
        served.extend(configured);
        let is_trusted = configured.is_some_and(|socket| socket.trusted);
        listeners.push(Listener { listener, is_trusted, made: None });
    }
    for socket in sockets.iter().filter(|own| !listeners.is_empty() && !served.contains(own)) {
        tracing::warn!(
            path = %socket.path.display(),
            "this socket is not served, because the service manager passes other sockets and not this one"
        );
    }
    Ok(listeners)
}

/// Tells the service manager, if there is one, that the service is ready or stopping (`sd_notify(3)`).
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
    // The largest number means no user or group.
    if let Some(id) = name.parse().ok().filter(|id| *id != u32::MAX) {
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
    use core::sync::atomic::{AtomicBool, Ordering};
    use std::{
        os::unix::{
            fs::{PermissionsExt, symlink},
            net::UnixStream,
        },
        thread,
    };

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
    fn sockets_that_are_made_at_once_wait_for_each_other_but_not_for_long() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth");
        let made = thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| bind(&socket(&path)))).collect();
            all.into_iter().map(|own| own.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(made.iter().filter(|own| own.is_ok()).count(), 1, "{made:?}");
        drop(made);
        let _held = lock(directory.path(), &path).unwrap();
        assert!(matches!(bind(&socket(&path)), Err(SocketError::Locked(_))));
    }

    #[test]
    fn a_socket_whose_queue_is_full_is_live() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth");
        let _listener = UnixListener::bind(&path).unwrap();
        let address = SocketAddrUnix::new(&path).unwrap();
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let mut waiting = Vec::new();
        loop {
            let own = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
            match connect(&own, &address) {
                Ok(()) => waiting.push(own),
                Err(error) => break assert_eq!(error, Errno::AGAIN),
            }
        }
        assert!(matches!(bind(&socket(&path)), Err(SocketError::Live(_))));
    }

    #[test]
    fn the_mode_is_that_of_the_configuration_under_any_umask() {
        let set = |mask| {
            let _lock = UMASK.lock().unwrap();
            umask(Mode::from_bits_truncate(mask))
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth");
        let before = set(0);
        let modes = [0, 0o022, 0o077].map(|mask| {
            ["0600", "0660", "0666"].map(|mode| {
                set(mask);
                let _own = bind(&Socket { mode: mode.into(), ..socket(&path) }).unwrap();
                fs::metadata(&path).unwrap().permissions().mode() & 0o777
            })
        });
        set(before.bits());
        assert_eq!(modes, [[0o600, 0o660, 0o666]; 3]);
    }

    #[test]
    fn only_a_socket_is_given_to_its_owner_and_not_by_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link, own, to_own] =
            ["file", "link", "own", "to-own"].map(|name| directory.path().join(name));
        fs::write(&file, "secret").unwrap();
        let _listener = UnixListener::bind(&own).unwrap();
        symlink(&file, &link).unwrap();
        symlink(&own, &to_own).unwrap();
        let owner = |path| fs::metadata(path).unwrap().uid();
        let before = owner(&file);
        for path in [&file, &link, &to_own] {
            assert!(give(path, Some(1), None).is_err(), "{path:?}");
            assert_eq!(owner(path), before);
        }
        assert_eq!(give(&own, Some(before), None).unwrap(), identity(&own).unwrap());
    }

    /// The owner of the directory, such as Postfix, puts a link in the place of the new socket's name again and again.
    #[test]
    fn a_link_in_the_place_of_the_socket_gives_no_other_file_away() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let (path, victim) = (at("auth"), at("victim"));
        fs::write(&victim, "secret").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        let state = || fs::metadata(&victim).map(|file| (file.uid(), file.gid(), file.mode()));
        let before = state().unwrap();
        // Only root can give a file away. For other users, the mode shows the attack.
        let owner = before.0.eq(&0).then(|| "1".to_owned());
        // With this mode, the umask that others of these tests meet takes nothing away.
        let socket = Socket { owner, mode: "0777".into(), ..socket(&path) };
        let (link, new) = (at("link"), at(&format!(".auth.{:x}", std::process::id())));
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = symlink(&victim, &link);
                    let _ = fs::rename(&link, &new);
                }
            });
            for _ in 0..2000 {
                drop(bind(&socket));
                let _ = fs::remove_file(&path);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(state().unwrap(), before);
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
        for missing in ["no such group", "4294967295"] {
            assert!(matches!(id("group", Some(missing)), Err(SocketError::NoSuchName { .. })));
        }
    }
}
