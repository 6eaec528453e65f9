//! The disk: a Maildir, and a message on its way there. All that may wait for the disk is done where
//! nobody but its own connection waits with it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use maildir::{MaildirError, TemporaryMailFile};
use smtp_auth_tokio::smtp_auth::Reply;
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::log;

/// How long a file in `tmp` is left alone: the Maildir convention's 36 hours
/// (<https://cr.yp.to/proto/maildir.html>).
const ABANDONED: Duration = Duration::from_secs(36 * 60 * 60);

#[derive(Clone)]
pub(crate) struct Maildir(Arc<maildir::Maildir>);

impl Maildir {
    /// The Maildir there, which is made where it is not yet.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let maildir = maildir::Maildir::from(path.to_owned());
        maildir.create_dirs()?;
        clear_tmp(&maildir)?;
        Ok(Self(Arc::new(maildir)))
    }

    /// A new file in `tmp`.
    pub(crate) async fn open(&self) -> Result<Spooled, Reply> {
        let maildir = Arc::clone(&self.0);
        let file = on_disk(move || maildir.open_file_in_tmp().map_err(into_io)).await?;
        Ok(Spooled { path: file.path().to_owned(), file: Some(file), maildir: self.clone() })
    }
}

/// A message in `tmp`, which is removed where this goes away before it is stored.
pub(crate) struct Spooled {
    pub(crate) path: PathBuf,
    /// `None` once writing has failed, and then the file is gone.
    file: Option<TemporaryMailFile>,
    maildir: Maildir,
}

impl Spooled {
    /// What names it in `Received:`: the time, the count and the process, without the name of the machine.
    pub(crate) fn id(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.split('.').take(2).collect::<Vec<_>>().join(".")
    }

    /// Writes the octets, of which none are left then.
    pub(crate) async fn write(&mut self, octets: &mut Vec<u8>) -> Result<(), Reply> {
        let (mut file, mut taken) = (self.take()?, std::mem::take(octets));
        let write = move || file.write_all(&taken).map(|()| (file, taken));
        let (file, written) = on_disk(write).await?;
        taken = written;
        taken.clear();
        (self.file, *octets) = (Some(file), taken);
        Ok(())
    }

    /// Moves it to `new`, and sees that it survives a power cut: it is the server's as soon as the reply is sent (RFC 5321
    /// §6.1).
    pub(crate) async fn store(mut self) -> Result<(), Reply> {
        let (file, maildir) = (self.take()?, Arc::clone(&self.maildir.0));
        on_disk(move || {
            // It syncs the file, but not the directory that then has its name.
            maildir.move_tmp_to_new(file).map_err(into_io)?;
            if cfg!(unix) {
                File::open(maildir.path().join("new"))?.sync_all()?;
            }
            Ok(())
        })
        .await
    }

    fn take(&mut self) -> Result<TemporaryMailFile, Reply> {
        self.file.take().ok_or(Reply::LOCAL_ERROR)
    }
}

impl Drop for Spooled {
    /// Where the file is only dropped, it is removed on a thread that others need.
    fn drop(&mut self) {
        if let (Some(file), Ok(runtime)) = (self.file.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Reply> {
    let done = spawn_blocking(work).await.map_err(io::Error::from);
    done.and_then(|done| done).map_err(|error| refusal(&error))
}

/// What the client is told of the disk.
pub(crate) fn refusal(error: &io::Error) -> Reply {
    log("maildir", error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reply::INSUFFICIENT_STORAGE,
        _ => Reply::LOCAL_ERROR,
    }
}

fn into_io(error: MaildirError) -> io::Error {
    match error {
        MaildirError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Removes the files in `tmp` that have been neither written nor read for [`ABANDONED`]: what a
/// server left there that was killed. All else stays: younger files, which another program may be
/// about to deliver, directories and links, and whatever lies elsewhere.
fn clear_tmp(maildir: &maildir::Maildir) -> io::Result<()> {
    for entry in fs::read_dir(maildir.path().join("tmp"))? {
        let removed = entry.and_then(|entry| match is_abandoned(&entry)? {
            true => fs::remove_file(entry.path()),
            false => Ok(()),
        });
        match removed {
            // No reason not to start; where it is not there, another program was faster.
            Err(error) if error.kind() != io::ErrorKind::NotFound => log("maildir", error),
            _ => {}
        }
    }
    Ok(())
}

fn is_abandoned(entry: &fs::DirEntry) -> io::Result<bool> {
    let file = entry.metadata()?;
    // A time that is yet to come is no age.
    let age = |touched: SystemTime| touched.elapsed().unwrap_or_default();
    let ages = [file.modified(), file.accessed()].into_iter().flatten().map(age);
    Ok(file.is_file() && ages.min().is_some_and(|youngest| youngest >= ABANDONED))
}
