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

/// How many octets of a message are written at a time.
const BATCH: usize = 64 << 10;

pub(crate) struct Maildir(Arc<maildir::Maildir>);

impl Maildir {
    /// The Maildir there, which is made where it is not yet.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let maildir = maildir::Maildir::from(path.to_owned());
        maildir.create_dirs()?;
        clear_tmp(&maildir)?;
        Ok(Self(Arc::new(maildir)))
    }

    /// A message that is about to come. `head` is written in front of it, and is given the message's name.
    pub(crate) fn draft(&self, head: impl FnOnce(&str) -> String + Send + 'static) -> Spooled {
        let (maildir, head) = (Arc::clone(&self.0), Some(Box::new(head) as Head));
        Spooled(Some(Draft { maildir, head, file: None, pending: Vec::new(), octets: 0 }))
    }
}

type Head = Box<dyn FnOnce(&str) -> String + Send>;

/// A message on its way to the Maildir: a file in `tmp`, which is removed where this goes away before it is stored, and
/// what is not in the file yet. A short message gets its file, its octets and its place in `new` at one go.
struct Draft {
    maildir: Arc<maildir::Maildir>,
    /// Until there is a file.
    head: Option<Head>,
    file: Option<TemporaryMailFile>,
    pending: Vec<u8>,
    /// How many are in the file.
    octets: u64,
}

impl Draft {
    /// Writes what is pending.
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

    /// Moves it to `new`, and sees that it survives a power cut: it is the server's as soon as the reply is sent (RFC 5321
    /// §6.1).
    fn store(&mut self) -> io::Result<()> {
        self.write()?;
        if let Some(file) = self.file.take() {
            // It syncs the file, but not the directory that then has its name.
            self.maildir.move_tmp_to_new(file).map_err(into_io)?;
        }
        if cfg!(unix) {
            File::open(self.maildir.path().join("new"))?.sync_all()?;
        }
        Ok(())
    }
}

/// What names a message in `Received:`: the time, the count and the process, without the name of the machine.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// A draft in the hands of a connection; none once the disk has failed.
pub(crate) struct Spooled(Option<Draft>);

impl Spooled {
    /// Takes the next octets of the message.
    pub(crate) async fn push(&mut self, octets: &[u8]) -> Result<(), Reply> {
        let draft = self.0.as_mut().ok_or(Reply::LOCAL_ERROR)?;
        draft.pending.extend_from_slice(octets);
        if draft.pending.len() < BATCH { Ok(()) } else { self.on_disk(Draft::write).await }
    }

    /// All of the message has come: stores it.
    pub(crate) async fn store(mut self) -> Result<(), Reply> {
        self.on_disk(Draft::store).await
    }

    /// All of the message has come: the file, which stays as long as this does, and its octets.
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
    /// Where the file is only dropped, it is removed on a thread that others need.
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
