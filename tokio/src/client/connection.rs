//! The connected client, and the session and stream that it consists of.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use smtp_auth::{
    Advance, Mechanism, Reply,
    client::{
        self as core, BodyType, Envelope, Event, Extensions, Outcome, Ready, RecipientOutcome,
        Session,
    },
};
use tokio::{
    io::{AsyncBufRead, AsyncRead, BufReader},
    time::{Instant, timeout},
};

use super::{Error, ErrorKind, write::PART};
use crate::link::{COMMANDS, Link, Receive};

/// The time limit for QUIT and for closing the connection.
const QUIT: Duration = Duration::from_secs(5);

/// A connection to a server, for sending any number of messages one after another.
///
/// [`Connector::connect`](super::Connector::connect) creates a client. Dropping the client closes the connection
/// without informing the server. To end the connection with QUIT, call [`quit`](Self::quit).
///
/// **Dropping a method's future before it completes leaves the connection unusable**, because part of a command or of a
/// message may have been sent. Every later call fails with [`ErrorKind::Unusable`]. If the end of a message had already
/// been sent, it is unknown whether the server has accepted the message. Otherwise, the server has not accepted the
/// message.
pub struct Client {
    pub(super) wire: Wire,
}

/// The result of sending a message that the server has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "some of the recipients may have been refused"]
pub struct Sent {
    /// The server's reply to the message.
    pub reply: Reply,
    /// The recipients that the server refused. For each of these recipients, [`RecipientOutcome::refusal`] returns the
    /// reason. The server has accepted the message for all other recipients. With [`Envelope::every_recipient`], a
    /// message is sent to all recipients or to none.
    pub refused: Vec<RecipientOutcome>,
}

impl Client {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire }
    }

    /// Sends a message. Each line of the message must end in CRLF. The client doubles a dot at the beginning of a line,
    /// as RFC 5321 §4.5.2 requires.
    ///
    /// The client adds the message's size to the envelope, and [`BodyType::EightBitMime`] if the message contains
    /// octets above 127. It does not send an 8-bit message to a server that does not offer 8BITMIME.
    ///
    /// # Errors
    /// Fails if the message was not accepted for any recipient, or if it is unknown whether it was accepted.
    /// [`Error::delivery`] distinguishes these cases. After [`ErrorKind::NotAccepted`], the connection can still be
    /// used, unless the server has closed it. After any other error, the connection can no longer be used.
    pub async fn send(&mut self, envelope: &Envelope, message: &[u8]) -> Result<Sent, Error> {
        self.transfer(&of_message(envelope, message), pin!(message)).await
    }

    /// Sends a message while reading it, for example from a file. Only a few kilobytes of the message are in memory at
    /// a time. The client cannot inspect the message in advance, so the caller must set the envelope's
    /// [size](Envelope::size) and [body type](Envelope::body).
    ///
    /// # Errors
    /// Returns the same errors as [`send`](Self::send), and also [`ErrorKind::Read`] if the message cannot be read.
    pub async fn send_from(
        &mut self,
        envelope: &Envelope,
        message: impl AsyncRead + Send,
    ) -> Result<Sent, Error> {
        self.transfer(envelope, pin!(BufReader::with_capacity(PART, message))).await
    }

    pub(super) async fn transfer(
        &mut self,
        envelope: &Envelope,
        message: Pin<&mut (dyn AsyncBufRead + Send)>,
    ) -> Result<Sent, Error> {
        let mut ended = false;
        let sent = self.wire.transfer(envelope, message, &mut ended).await;
        sent.map_err(|error| error.after_end(ended))
    }

    /// Sends NOOP and waits for the reply. This shows whether the connection still works, and keeps the server from
    /// closing an idle connection.
    ///
    /// # Errors
    /// Fails if the connection is closed or broken.
    pub async fn noop(&mut self) -> Result<(), Error> {
        self.wire.ready()?.noop();
        self.wire.advance().await
    }

    /// Sends QUIT and closes the connection. This takes at most five seconds. Errors are ignored, because the results
    /// of all messages are already known.
    pub async fn quit(mut self) {
        if let Ok(ready) = self.wire.ready() {
            ready.quit();
            self.wire.say_last().await;
        }
    }

    /// Returns the extensions that the server offered in its last reply to EHLO. If the connection uses TLS, this is
    /// the reply that was sent over TLS.
    pub fn extensions(&self) -> &Extensions {
        self.wire.session.extensions()
    }

    /// Returns the mechanism with which the client has authenticated, or `None` if it has not authenticated.
    pub fn mechanism(&self) -> Option<Mechanism> {
        self.wire.session.authenticated()
    }

    /// Returns whether the connection appears to be usable, that is, whether the server has neither closed it nor
    /// announced that it will close it. This method does not wait for the server.
    pub(super) fn is_open(&mut self) -> bool {
        self.wire.is_open()
    }
}

/// Returns the envelope with the size and the body type of the message.
pub(super) fn of_message(envelope: &Envelope, message: &[u8]) -> Envelope {
    let envelope = envelope.clone().size(message.len() as u64);
    match message.is_ascii() {
        true => envelope,
        false => envelope.body(BodyType::EightBitMime),
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mechanism = self.mechanism();
        f.debug_struct("Client").field("mechanism", &mechanism).finish_non_exhaustive()
    }
}

/// A session and its stream.
pub(super) struct Wire {
    pub(super) session: Session,
    pub(super) link: Link,
    pub(super) replies: Replies,
    /// The upper limit of every wait.
    most: Duration,
}

impl Wire {
    pub(super) fn new(session: Session, link: Link, most: Duration) -> Self {
        Self { session, link, replies: Replies::START, most }
    }

    /// Returns how long to wait for the reply that the session expects.
    pub(super) fn limit(&self) -> Duration {
        self.at_most(self.session.timeout().unwrap_or(self.most))
    }

    /// Returns the given limit, or the upper limit of every wait if the latter is shorter.
    pub(super) fn at_most(&self, limit: Duration) -> Duration {
        limit.min(self.most)
    }

    /// Returns the session's handle for starting a command.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Unusable`] if the session is over, or if an earlier command was never completed.
    fn ready(&mut self) -> Result<Ready<'_>, Error> {
        self.session.ready().ok_or_else(|| Error::new(ErrorKind::Unusable))
    }

    /// Sends and receives until the session has an event for the caller.
    pub(super) async fn advance(&mut self) -> Result<(), Error> {
        self.link.restart_timer();
        loop {
            let advanced = self.session.advance(&mut self.link.out);
            if self.ending(advanced)? == Advance::Event {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    /// Sends pending output and receives some input.
    async fn fill(&mut self) -> Result<(), Error> {
        let until = Instant::now() + self.limit();
        let filled = poll_fn(|cx| {
            let Self { session, link, replies, .. } = self;
            let mut inbox = Inbox { session, replies, heard: false };
            let filled = link.poll_both(cx, &mut inbox, until);
            // An incomplete reply does not extend the time limit.
            if inbox.heard {
                link.restart_timer();
            }
            filled
        })
        .await;
        match filled {
            Ok(()) => Ok(()),
            Err(why) => self.broken(why),
        }
    }

    pub(super) async fn send(&mut self) -> Result<(), Error> {
        match self.link.send(self.limit()).await {
            Ok(()) => Ok(()),
            Err(why) => self.broken(why),
        }
    }

    /// Reports the end of the stream, or a timeout, to the session, and returns the resulting error. Returns `Ok` if
    /// the session can use the end of the stream. If the server has sent a reason, the reason is returned instead of
    /// the operating system error.
    pub(super) fn broken(&mut self, why: io::Error) -> Result<(), Error> {
        let ended = match why.kind() {
            io::ErrorKind::TimedOut => self.session.timed_out(),
            _ => self.session.eof(),
        };
        self.link.cut_off();
        match ended {
            Err(core::Error::Disconnected(stage)) if why.kind() != io::ErrorKind::UnexpectedEof => {
                Err(Error::new(ErrorKind::Broken(stage, why)))
            }
            ended => Ok(ended?),
        }
    }

    /// Closes the stream if the session is over.
    pub(super) fn ending<T>(&mut self, advanced: Result<T, core::Error>) -> Result<T, Error> {
        if advanced.is_err() {
            self.link.cut_off();
        }
        Ok(advanced?)
    }

    /// Sends the session's last command, QUIT, and closes the connection.
    pub(super) async fn say_last(&mut self) {
        let limit = self.at_most(QUIT);
        let end = async {
            if self.advance().await.is_ok() {
                let _ = self.link.shutdown().await;
            }
        };
        let _ = timeout(limit, end).await;
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { session, link, replies, .. } = self;
        link.poll_read(cx, &mut Inbox { session, replies, heard: false })
    }

    fn is_open(&mut self) -> bool {
        // Any input at this point means that the connection is unusable: the end of the stream, or a reply to no
        // command.
        let is_silent = self.poll_read(&mut Context::from_waker(Waker::noop())).is_pending();
        is_silent
            && self.session.advance(&mut self.link.out).is_ok()
            && self.session.ready().is_some()
    }

    async fn transfer(
        &mut self,
        envelope: &Envelope,
        mut message: Pin<&mut (dyn AsyncBufRead + Send)>,
        ended: &mut bool,
    ) -> Result<Sent, Error> {
        self.ready()?.send(envelope.clone());
        loop {
            self.advance().await?;
            match self.session.pending() {
                Event::Message(_) => self.write(message.as_mut(), ended).await?,
                Event::Sent(outcome) => {
                    let outcome = outcome.clone();
                    return self.sent(outcome);
                }
                // The outcome also contains this refusal.
                Event::Refused { .. } => {}
                _ => return Err(Error::new(ErrorKind::Unusable)),
            }
        }
    }

    fn sent(&mut self, outcome: Outcome) -> Result<Sent, Error> {
        let all_is_sent = self.link.out.is_empty();
        match outcome {
            Outcome::Accepted { reply, recipients }
            | Outcome::AcceptedForSome { reply, recipients }
                if all_is_sent =>
            {
                let is_refused = |recipient: &RecipientOutcome| recipient.refusal().is_some();
                let refused = recipients.into_iter().filter(is_refused).collect();
                Ok(Sent { reply, refused })
            }
            // The server replied before it could have received the end of the message.
            Outcome::Accepted { .. } | Outcome::AcceptedForSome { .. } => {
                self.link.cut_off();
                Err(core::Error::Unsolicited(core::Stage::Message).into())
            }
            outcome => {
                let closes =
                    matches!(&outcome, Outcome::Refused { refusal, .. } if refusal.closes());
                if closes || !all_is_sent {
                    self.link.cut_off();
                }
                Err(Error::new(ErrorKind::NotAccepted(outcome)))
            }
        }
    }
}

/// A session that receives input, and whether the input completed a reply.
pub(super) struct Inbox<'a> {
    pub(super) session: &'a mut Session,
    pub(super) replies: &'a mut Replies,
    pub(super) heard: bool,
}

impl Receive for Inbox<'_> {
    fn room(&self) -> usize {
        COMMANDS
    }

    fn receive_with<E>(
        &mut self,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let Self { session, replies, heard } = self;
        session.receive_with(room, |room| {
            let read = read(room)?;
            *heard = room.get(..read).is_some_and(|octets| replies.end_in(octets));
            Ok(read)
        })
    }
}

/// Finds the end of each reply, because each reply has its own time limit. The session itself parses the replies.
#[derive(Clone, Copy)]
pub(super) struct Replies {
    /// The number of octets received of the current line, counted up to four.
    column: u8,
    /// Whether more lines follow the current one, as after `250-`.
    goes_on: bool,
}

impl Replies {
    const START: Self = Self { column: 0, goes_on: false };

    /// Processes the next octets, and returns whether a reply ended in them.
    fn end_in(&mut self, octets: &[u8]) -> bool {
        let mut ended = false;
        for octet in octets {
            if *octet == b'\n' {
                ended |= !self.goes_on;
                *self = Self::START;
                continue;
            }
            self.goes_on |= self.column == 3 && *octet == b'-';
            self.column = self.column.saturating_add(1).min(4);
        }
        ended
    }
}
