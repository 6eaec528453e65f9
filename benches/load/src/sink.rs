//! What happens to the messages that a server has accepted.

use core::time::Duration;
use std::{fs, io, path::Path, time::Instant};

use tokio::time::sleep;

use crate::{Result, home::Home, message::Size, servers::Kind};

/// How long Postfix may take until its queue is empty.
const DELIVERY: Duration = Duration::from_secs(60);

/// How often to look.
const LOOK: Duration = Duration::from_millis(20);

impl Kind {
    /// Where its messages go: for the reader of the table.
    pub(crate) fn sink(self) -> &'static str {
        match self {
            Self::Example => "a Maildir in memory",
            Self::Aiosmtpd => "nothing: discards each whole message",
            Self::SmtpServer => "nothing: discards each piece",
            Self::Postfix => "its queue in memory, then `discard`",
        }
    }
}

/// Waits until the server has delivered what it has taken, and fails if that is not as many messages
/// of that size.
pub(crate) async fn keeps(kind: Kind, home: &Home, messages: usize, size: Size) -> Result<()> {
    match kind {
        Kind::Example => maildir(&home.path("maildir/new"), messages, size),
        Kind::Postfix => queue(&home.path("queue")).await,
        // The scripts look at each message's size before the reply.
        Kind::Aiosmtpd | Kind::SmtpServer => Ok(()),
    }
}

fn maildir(new: &Path, messages: usize, size: Size) -> Result<()> {
    let (mut files, mut octets) = (0, 0);
    let entries = fs::read_dir(new).map_err(|error| format!("{}: {error}", new.display()))?;
    for entry in entries {
        files += 1;
        octets += entry?.metadata()?.len();
    }
    // The server adds lines to each.
    if files == messages && octets > (messages * size.octets()) as u64 {
        return Ok(());
    }
    let all = format!("{messages} messages of {size} were acknowledged");
    Err(format!("{all}, but {files} files of {octets} octets in all are in the Maildir").into())
}

async fn queue(queue: &Path) -> Result<()> {
    let began = Instant::now();
    let count = |name| io::Result::Ok(fs::read_dir(queue.join(name))?.count());
    loop {
        if count("deferred")? > 0 {
            return Err("a message was acknowledged, but its delivery was put off".into());
        }
        match count("incoming")? + count("active")? {
            0 => return Ok(()),
            _ if began.elapsed() < DELIVERY => sleep(LOOK).await,
            left => {
                return Err(format!(
                    "{left} messages were acknowledged, but not delivered {} seconds after",
                    DELIVERY.as_secs()
                )
                .into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::fs;

    use tempfile::TempDir;
    use tokio::time::sleep;

    use super::{maildir, queue};

    #[test]
    fn a_maildir_without_a_message_or_an_octet_is_an_error() {
        let (folder, size) = (TempDir::new().unwrap(), "500".parse().unwrap());
        let file = folder.path().join("1");
        fs::write(&file, [b'x'; 501]).unwrap();
        maildir(folder.path(), 1, size).unwrap();
        maildir(folder.path(), 2, size).unwrap_err();
        maildir(folder.path(), 0, size).unwrap_err();
        fs::write(&file, [b'x'; 499]).unwrap();
        maildir(folder.path(), 1, size).unwrap_err();
        maildir(&folder.path().join("new"), 0, size).unwrap_err();
    }

    #[tokio::test]
    async fn a_queue_is_waited_for_and_nothing_is_deferred_in_it() {
        let folder = TempDir::new().unwrap();
        for name in ["incoming", "active", "deferred"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        queue(folder.path()).await.unwrap();
        let file = folder.path().join("active/1");
        fs::write(&file, "").unwrap();
        let delivered = async {
            sleep(Duration::from_millis(50)).await;
            fs::remove_file(&file).unwrap();
        };
        let waited = async {
            queue(folder.path()).await.unwrap();
            assert!(!file.exists());
        };
        tokio::join!(waited, delivered);
        fs::write(folder.path().join("deferred/1"), "").unwrap();
        queue(folder.path()).await.unwrap_err();
    }
}
