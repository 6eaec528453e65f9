//! The connection of a mail server, as a stream of octets.

use core::time::Duration;
use std::io;

use rustix::{
    io::Errno,
    net::{SendFlags, send},
};
use smtp_auth::dovecot::Session;
use tokio::{
    io::Interest,
    net::{UnixStream, unix::pipe},
    task::coop::consume_budget,
    time::{sleep, timeout},
};

/// The most that is read at once.
const READ: usize = 4096;

/// The time in which the mail server has to read a reply.
const WRITE: Duration = Duration::from_secs(30);

/// The pauses after which a mail server that does not read is tried again: each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A stream that waits only for input. A mail server that does not read is rare, and is tried again after a pause.
///
/// tokio's `UnixStream` also waits for room to write. Each time the mail server reads a reply, there is more room, which
/// would wake the service for nothing: a third of its processor time. The reading end of a pipe is a descriptor like any
/// other to tokio, and is waited for by itself.
pub(crate) struct Stream(pipe::Receiver);

impl Stream {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        // It stays in non-blocking mode.
        pipe::Receiver::from_owned_fd_unchecked(stream.into_std()?.into()).map(Self)
    }

    /// Reads what has arrived into the session. Returns false if the mail server has hung up: it then waits for no answer
    /// to what it has sent before.
    pub(crate) async fn read(&self, session: &mut Session) -> io::Result<bool> {
        // A client that sends without a pause must not keep the only thread from the other connections.
        consume_budget().await;
        if self.0.ready(Interest::READABLE).await?.is_read_closed() {
            return Ok(false);
        }
        match session.receive_with(READ, |room| self.0.try_read(room)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            read => read.map(|count| count > 0),
        }
    }

    /// Writes all octets, within the time limit.
    pub(crate) async fn write_all(&self, octets: &[u8]) -> io::Result<()> {
        timeout(WRITE, self.write(octets)).await?
    }

    async fn write(&self, mut octets: &[u8]) -> io::Result<()> {
        let mut pause = FIRST_PAUSE;
        while !octets.is_empty() {
            match send(&self.0, octets, SendFlags::NOSIGNAL) {
                Ok(written) => octets = octets.get(written..).unwrap_or_default(),
                Err(Errno::WOULDBLOCK) => {
                    sleep(pause).await;
                    pause = LONGEST_PAUSE.min(2 * pause);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
