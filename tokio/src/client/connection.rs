//! A connection that is ready for messages, and what it is made of.

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

/// How long the end of a connection may take.
const QUIT: Duration = Duration::from_secs(5);

/// A connection that is ready for messages, one after the other. [`Connector::connect`](super::Connector::connect) makes
/// it. Dropping it closes the connection; [`quit`](Self::quit) tells the server first.
///
/// **A future that is dropped before it is ready leaves the connection unusable**, as half a command or half a message
/// may have been sent. Every later call fails with [`ErrorKind::Unusable`]. If the end of a message had been sent by then,
/// it is not known whether the server has accepted the message; otherwise the server has not.
pub struct Client {
    pub(super) wire: Wire,
}

/// The outcome of a message that the server has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "some of the recipients may have been refused"]
pub struct Sent {
    /// The server's reply to the message.
    pub reply: Reply,
    /// The recipients that the server has refused, each with its [refusal](RecipientOutcome::refusal). The server has
    /// accepted the message for all others. With [`Envelope::every_recipient`] a message is sent to all or to none.
    pub refused: Vec<RecipientOutcome>,
}

impl Client {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire }
    }

    /// Sends a message. Its lines have to end in CRLF; dots that begin a line are doubled here (RFC 5321 §4.5.2).
    ///
    /// Two things are added to the envelope: the message's size; and [`BodyType::EightBitMime`], if the message holds
    /// octets over 127. Such a message is not sent to a server that does not offer 8BITMIME.
    ///
    /// # Errors
    /// The message was accepted for no recipient, or it is not known whether it was: [`Error::delivery`] tells which.
    /// After [`ErrorKind::NotAccepted`] the connection can be used for other messages, unless the server has closed it.
    /// After any other error it cannot.
    pub async fn send(&mut self, envelope: &Envelope, message: &[u8]) -> Result<Sent, Error> {
        self.transfer(&of_message(envelope, message), pin!(message)).await
    }

    /// Sends a message while it is read, from a file for example, so that only some kilobytes of it are in memory.
    /// The caller sets the envelope's [size](Envelope::size) and [body type](Envelope::body): nothing is added here.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), and [`ErrorKind::Read`].
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

    /// Says NOOP, and waits for the reply: this shows whether the connection still works, and keeps servers from closing
    /// an idle connection.
    ///
    /// # Errors
    /// The connection is closed, or broken.
    pub async fn noop(&mut self) -> Result<(), Error> {
        self.wire.ready()?.noop();
        self.wire.advance().await
    }

    /// Says QUIT, and closes the connection, in five seconds at most. Errors are ignored, as each message has had its
    /// outcome.
    pub async fn quit(mut self) {
        if let Ok(ready) = self.wire.ready() {
            ready.quit();
            self.wire.say_last().await;
        }
    }

    /// The extensions that the server offers.
    pub fn extensions(&self) -> &Extensions {
        self.wire.session.extensions()
    }

    /// The mechanism by which the client has authenticated, if it has.
    pub fn mechanism(&self) -> Option<Mechanism> {
        self.wire.session.authenticated()
    }

    /// Whether the connection can be used, as far as can be told at once: the server has not closed it, nor said that it
    /// does.
    pub(super) fn is_open(&mut self) -> bool {
        self.wire.is_open()
    }
}

/// The envelope, with what the message tells.
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
    /// The most time for anything.
    most: Duration,
}

impl Wire {
    pub(super) fn new(session: Session, link: Link, most: Duration) -> Self {
        Self { session, link, replies: Replies::START, most }
    }

    /// How long to wait for what the session waits for.
    pub(super) fn limit(&self) -> Duration {
        self.at_most(self.session.timeout().unwrap_or(self.most))
    }

    /// The most time that anything has, and no more than this.
    pub(super) fn at_most(&self, limit: Duration) -> Duration {
        limit.min(self.most)
    }

    /// The handle to begin something.
    ///
    /// # Errors
    /// [`ErrorKind::Unusable`] where the session is over, or something has been begun that came to no end.
    fn ready(&mut self) -> Result<Ready<'_>, Error> {
        self.session.ready().ok_or_else(|| Error::new(ErrorKind::Unusable))
    }

    /// Moves on until there is something for the caller to see.
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

    /// Sends what is to be sent, and receives something.
    async fn fill(&mut self) -> Result<(), Error> {
        let until = Instant::now() + self.limit();
        let filled = poll_fn(|cx| {
            let Self { session, link, replies, .. } = self;
            let mut inbox = Inbox { session, replies, heard: false };
            let filled = link.poll_both(cx, &mut inbox, until);
            // Octets of a reply that does not end are no reason to wait longer.
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

    /// The error; or none, where the session makes something of the end of the stream. Where the server has said why, its
    /// words are worth more than the system's.
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

    /// The stream is closed where the session is over.
    pub(super) fn ending<T>(&mut self, advanced: Result<T, core::Error>) -> Result<T, Error> {
        if advanced.is_err() {
            self.link.cut_off();
        }
        Ok(advanced?)
    }

    /// Says what has been asked of the session as its last, QUIT, and closes.
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
        // Whatever comes now is no good: the end of the stream, or a reply to nothing.
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
                // The outcome has it, too.
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
            // It has not seen the message's end.
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

/// A session as it receives; and whether a reply has ended.
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

/// Where the server's replies end, for the time that each may take. What they say is for the session to judge.
#[derive(Clone, Copy)]
pub(super) struct Replies {
    /// How many octets of a line have come, as far as its first four.
    column: u8,
    /// Whether the line is one after which others follow: `250-`.
    goes_on: bool,
}

impl Replies {
    const START: Self = Self { column: 0, goes_on: false };

    /// Whether a reply has its end in these octets, which come next.
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
