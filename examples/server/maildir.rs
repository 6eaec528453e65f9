//! Stores messages in a Maildir. All work that may block on the disk runs on separate threads, so that it delays only
//! its own connection.

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

/// The age at which a file in `tmp` is deleted: 36 hours, by the Maildir convention
/// (<https://cr.yp.to/proto/maildir.html>).
const ABANDONED: Duration = Duration::from_secs(36 * 60 * 60);

/// The number of octets of a message that are written at a time.
const BATCH: usize = 64 << 10;

pub(crate) struct Maildir(Arc<maildir::Maildir>);

impl Maildir {
    /// Opens the Maildir at this path, and creates it if it does not exist.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let maildir = maildir::Maildir::from(path.to_owned());
        maildir.create_dirs()?;
        clear_tmp(&maildir)?;
        Ok(Self(Arc::new(maildir)))
    }

    /// Begins a message. `head` returns the header fields to write in front of it, and is given the message's
    /// identifier.
    pub(crate) fn draft(&self, head: impl FnOnce(&str) -> String + Send + 'static) -> Spooled {
        let (maildir, head) = (Arc::clone(&self.0), Some(Box::new(head) as Head));
        Spooled(Some(Draft { maildir, head, file: None, pending: Vec::new(), octets: 0 }))
    }
}

type Head = Box<dyn FnOnce(&str) -> String + Send>;

/// A message on its way to the Maildir: a file in `tmp`, and the octets that are not in the file yet. The file is
/// deleted if this value is dropped before the message is stored. The file is opened at the first write, so that a short
/// message is opened, written and stored in a single step on a blocking thread.
struct Draft {
    maildir: Arc<maildir::Maildir>,
    /// `None` once the file has been opened.
    head: Option<Head>,
    file: Option<TemporaryMailFile>,
    pending: Vec<u8>,
    /// The number of octets in the file.
    octets: u64,
}

impl Draft {
    /// Writes the pending octets to the file.
    fn write(&mut self) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.maildir.open_file_in_tmp().map_err(into_io)?,
        };
        if let Some(head) = self.head.take() {
            self.pending.splice(..0, head(&name(file.path())).into_bytes());
        }
        file.write_all(&self.pending)?;
        self.octets += self.pending.len() as u64;
        self.pending.clear();
        self.file = Some(file);
        Ok(())
    }

    /// Moves the file to `new`, and syncs it so that it survives a power failure: from the reply on, the server is
    /// responsible for the message (RFC 5321 §6.1).
    fn store(&mut self) -> io::Result<()> {
        self.write()?;
        if let Some(file) = self.file.take() {
            // This syncs the file, but not the directory that now contains its name.
            self.maildir.move_tmp_to_new(file).map_err(into_io)?;
        }
        if cfg!(unix) {
            File::open(self.maildir.path().join("new"))?.sync_all()?;
        }
        Ok(())
    }
}

/// Returns the identifier for `Received:`, formed from the time, the counter and the process, without the name of the
/// machine.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// A message that a connection is receiving. `None` once writing has failed; the file has then been deleted.
pub(crate) struct Spooled(Option<Draft>);

impl Spooled {
    /// Adds the next octets of the message, and writes them to the file once there are enough.
    pub(crate) async fn push(&mut self, octets: &[u8]) -> Result<(), Reply> {
        let pending = self.0.as_ref().map_or(0, |draft| draft.pending.len());
        if pending > 0 && pending + octets.len() > BATCH {
            self.on_disk(Draft::write).await?;
        }
        let draft = self.0.as_mut().ok_or(Reply::LOCAL_ERROR)?;
        draft.pending.extend_from_slice(octets);
        Ok(())
    }

    /// Stores the message, of which all octets have been added.
    pub(crate) async fn store(mut self) -> Result<(), Reply> {
        self.on_disk(Draft::store).await
    }

    /// Writes the rest of the message, and returns the file's path and size. The file exists as long as this value.
    pub(crate) async fn finish(&mut self) -> Result<(PathBuf, u64), Reply> {
        self.on_disk(Draft::write).await?;
        let draft = self.0.as_ref().ok_or(Reply::LOCAL_ERROR)?;
        let path = draft.file.as_ref().map(|file| file.path().to_owned());
        Ok((path.ok_or(Reply::LOCAL_ERROR)?, draft.octets))
    }

    async fn on_disk(&mut self, work: fn(&mut Draft) -> io::Result<()>) -> Result<(), Reply> {
        let mut draft = self.0.take().ok_or(Reply::LOCAL_ERROR)?;
        let draft = on_disk(move || work(&mut draft).map(|()| draft)).await?;
        self.0 = Some(draft);
        Ok(())
    }
}

impl Drop for Spooled {
    /// Deletes the file on a blocking thread, because a plain drop would delete it on a thread of the runtime.
    fn drop(&mut self) {
        let draft = self.0.take().filter(|draft| draft.file.is_some());
        if let (Some(draft), Ok(runtime)) = (draft, Handle::try_current()) {
            runtime.spawn_blocking(move || drop(draft));
        }
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Reply> {
    let done = spawn_blocking(work).await.map_err(io::Error::from);
    done.and_then(|done| done).map_err(|error| refusal(&error))
}

/// Logs an error of the disk, and returns the reply to the client.
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

/// Deletes the files in `tmp` that have been neither written nor read for [`ABANDONED`]; they were left by a server
/// that was killed. Everything else stays: younger files, which another program may be about to deliver, directories,
/// links, and anything outside `tmp`.
fn clear_tmp(maildir: &maildir::Maildir) -> io::Result<()> {
    for entry in fs::read_dir(maildir.path().join("tmp"))? {
        let removed = entry.and_then(|entry| match is_abandoned(&entry)? {
            true => fs::remove_file(entry.path()),
            false => Ok(()),
        });
        match removed {
            // An error does not prevent the server from starting. If the file no longer exists, another program has
            // deleted it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => log("maildir", error),
            _ => {}
        }
    }
    Ok(())
}

fn is_abandoned(entry: &fs::DirEntry) -> io::Result<bool> {
    let file = entry.metadata()?;
    // A time in the future counts as an age of zero.
    let age = |touched: SystemTime| touched.elapsed().unwrap_or_default();
    let ages = [file.modified(), file.accessed()].into_iter().flatten().map(age);
    Ok(file.is_file() && ages.min().is_some_and(|youngest| youngest >= ABANDONED))
}
