//! A mail transaction, from MAIL to the reply to the message.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::Poll,
};

use smtp_auth::{
    Advance, AsyncAuthenticator, Reply,
    command::{Command, Rcpt},
    server::Event,
};
use tokio::time::{Instant, sleep_until};

use super::{
    Body, Handler, Limits, Observer, Peer,
    body::{Course, Stage},
    connection::{Connection, refused, within},
    log::Log,
    parameters,
    wire::Wire,
};

impl<A: AsyncAuthenticator + 'static, H: Handler> Connection<A, H> {
    /// Handles the transaction of the pending MAIL. When it returns, the pending event has been answered, or the caller
    /// handles it after the next advance.
    ///
    /// # Errors
    /// Returns an error if the stream is broken.
    pub(super) async fn transaction(&mut self) -> io::Result<()> {
        let Some((mut transaction, smtputf8)) = self.mail().await else { return Ok(()) };
        loop {
            while self.wire.advance() == Advance::NeedInput {
                self.wire.fill(Instant::now() + self.server.limits.idle).await?;
            }
            let Self { server, wire, peer, .. } = self;
            match wire.session.pending() {
                Event::Command(Command::Rcpt(rcpt), ask) => {
                    let rcpt = server.rcpt(peer, &mut transaction, rcpt, smtputf8);
                    ask.reply(match within(server.limits.command, rcpt).await {
                        Ok(()) => Reply::RECIPIENT_OK,
                        Err(refusal) => refused(refusal),
                    });
                }
                Event::Command(..) => self.answer().await,
                Event::StartOfData(_) => return self.message(transaction).await,
                // The transaction has ended.
                _ => return Ok(()),
            }
        }
    }

    /// Asks the handler about the pending MAIL. Returns its transaction, and whether the client has declared SMTPUTF8.
    async fn mail(&mut self) -> Option<(H::Transaction, bool)> {
        let Self { server, wire, peer, .. } = self;
        let Event::Command(Command::Mail(mail), ask) = wire.session.pending() else { return None };
        let work = async {
            parameters::check_mail(&mail, server.config.keywords())?;
            server.handler.mail(peer, mail).await
        };
        match within(server.limits.command, work).await {
            Ok(transaction) => {
                ask.reply(Reply::SENDER_OK);
                Some((transaction, mail.parameters().get("SMTPUTF8").is_some()))
            }
            Err(refusal) => {
                ask.reply(refused(refusal));
                None
            }
        }
    }

    /// Passes the message that is about to arrive to the handler.
    async fn message(&mut self, transaction: H::Transaction) -> io::Result<()> {
        let Self { server, wire, peer, .. } = self;
        let (limits, course) = (&server.limits, Course::new(&server.limits));
        let body = Body::new(wire, &course, limits, &server.memory);
        let mut report = Report { log: &server.log, peer, course: &course, reply: None };
        let outcome = outcome(server.handler.data(peer, transaction, body), &course).await;
        // At this point the handler's future has been dropped.
        if let Some(error) = wire.broken.take() {
            return Err(error);
        }
        let reply = match (course.stage(), outcome) {
            // The session has sent the reason.
            (Stage::Over, _) => return Ok(()),
            // The transfer has exceeded its time limit.
            (Stage::Coming, None) => {
                wire.say_too_long();
                return Ok(());
            }
            (Stage::TooMuch, _) => Reply::INSUFFICIENT_STORAGE,
            (Stage::Ended, Some(Ok(reply))) => reply,
            // A handler that has not read to the end cannot accept the message.
            (_, Some(Ok(reply) | Err(reply))) => refused(reply),
            (_, None) => Reply::LOCAL_ERROR,
        };
        report.reply = Some(reply.clone());
        drop(report);
        match wire.session.pending() {
            Event::StartOfData(permission) => permission.refuse(reply.clone()),
            Event::EndOfData(ask) => {
                ask.reply(reply);
                return Ok(());
            }
            _ => {}
        }
        let deadline = course.deadline().max(Instant::now() + limits.idle).min(wire.end);
        // This releases the memory that is reserved for the message.
        drop(course);
        swallow(wire, limits, deadline, reply).await
    }
}

/// Notifies the observer of a message's outcome when it is dropped, so that a connection that is cut off is also
/// reported.
struct Report<'a> {
    log: &'a Log,
    peer: &'a Peer,
    course: &'a Course,
    reply: Option<Reply>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        self.log.message(self.peer, self.course.octets(), self.reply.as_ref());
    }
}

impl<A, H: Handler> super::Server<A, H> {
    async fn rcpt(
        &self,
        peer: &Peer,
        transaction: &mut H::Transaction,
        rcpt: Rcpt<'_>,
        smtputf8: bool,
    ) -> Result<(), Reply> {
        parameters::check_rcpt(&rcpt, self.config.keywords(), smtputf8)?;
        self.handler.rcpt(peer, transaction, rcpt).await
    }
}

/// Returns the handler's result, or `None` if the message does not arrive in full or a stage takes too long.
async fn outcome<T>(work: impl Future<Output = T>, course: &Course) -> Option<T> {
    let (mut work, mut timer) = (pin!(work), pin!(sleep_until(course.deadline())));
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        if course.is_broken() {
            return Poll::Ready(None);
        }
        let deadline = course.deadline();
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// Discards the rest of a message that is refused, and replies unless the session has replied.
async fn swallow(
    wire: &mut Wire,
    limits: &Limits,
    deadline: Instant,
    reply: Reply,
) -> io::Result<()> {
    loop {
        while wire.advance() == Advance::NeedInput {
            wire.link.restart_timer();
            let now = Instant::now();
            match now < deadline {
                true => wire.fill(deadline.min(now + limits.idle)).await?,
                false => wire.say_too_long(),
            }
        }
        match wire.session.pending() {
            Event::Data(_) => {}
            Event::Command(command, ask) => ask.reply(super::handler::by_default(&command)),
            Event::EndOfData(ask) => {
                ask.reply(reply);
                return Ok(());
            }
            _ => return Ok(()),
        }
    }
}
