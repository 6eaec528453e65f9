//! A mail transaction, from MAIL to the end of what it has begun.

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
    /// Does the transaction of the pending MAIL. The event that is pending afterwards is answered, or for the caller to
    /// look at once it advances.
    ///
    /// # Errors
    /// The stream is broken.
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
                // The transaction is over.
                _ => return Ok(()),
            }
        }
    }

    /// The handler's answer to the pending MAIL, and whether the client has declared SMTPUTF8.
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

    /// Hands the message that is about to come to the handler.
    async fn message(&mut self, transaction: H::Transaction) -> io::Result<()> {
        let Self { server, wire, peer, .. } = self;
        let (limits, course) = (&server.limits, Course::new(&server.limits));
        let body = Body::new(wire, &course, limits, &server.memory);
        let mut report = Report { log: &server.log, peer, course: &course, reply: None };
        let outcome = outcome(server.handler.data(peer, transaction, body), &course).await;
        // The handler's future is dropped by now, whatever has become of it.
        if let Some(error) = wire.broken.take() {
            return Err(error);
        }
        let reply = match (course.stage(), outcome) {
            // The session has said why.
            (Stage::Over, _) => return Ok(()),
            // It has taken longer than a message may.
            (Stage::Coming, None) => {
                wire.say_too_long();
                return Ok(());
            }
            (Stage::TooMuch, _) => Reply::INSUFFICIENT_STORAGE,
            (Stage::Ended, Some(Ok(reply))) => reply,
            // Not having read to the end, it cannot have taken the message.
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
        // With the memory that it holds.
        drop(course);
        swallow(wire, limits, deadline, reply).await
    }
}

/// Tells the observer what became of a message, once it is dropped: where the connection is cut off, too.
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

/// What the handler makes of a message; `None` where that does not come to a good end, or a stage takes too long.
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

/// Drops what is left of a message that is refused, and replies where the session has not done so.
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
