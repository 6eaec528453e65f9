//! The MAIL and RCPT commands of a message, sent in groups if the server supports PIPELINING (RFC 2920).

use alloc::{boxed::Box, vec::Vec};

use super::{
    Envelope, Extensions, NotSent, Outcome, RecipientOutcome, RecipientStatus, Refusal, Stage,
    limits::Used,
};
use crate::{reply::Reply, sasl::Channel, secret::append};

/// The maximum number of RCPT commands that wait for their replies. Without a limit, both sides could block on full
/// buffers while neither reads.
const RCPT_WINDOW: usize = 50;

/// A message that is being sent: its envelope, and the progress of its recipients.
#[derive(Debug)]
pub(super) struct Sending {
    envelope: Box<Envelope>,
    /// Whether the server has accepted MAIL, once that is known.
    mail: Option<bool>,
    pipelining: bool,
    /// The number of RCPT commands that have been written.
    asked: usize,
    /// The statuses of the recipients so far, in their order.
    answers: Vec<RecipientStatus>,
    /// The first refusal, if there is one.
    refusal: Option<Refusal>,
}

impl Sending {
    /// Writes MAIL, or returns why the message cannot be sent to this server.
    pub(super) fn begin(
        envelope: Box<Envelope>,
        offered: &Extensions,
        channel: &Channel,
        used: &mut Used,
        out: &mut Vec<u8>,
    ) -> Result<Self, Outcome> {
        let why = obstacle(&envelope, offered, channel)
            .map(Err)
            .unwrap_or_else(|| used.check(&envelope, offered.limits()).map_err(NotSent::OverLimit));
        if let Err(why) = why {
            let recipients = outcomes(*envelope, Vec::new(), |_| RecipientStatus::NotSent);
            return Err(Outcome::NotSent { why, recipients });
        }
        used.begin();
        say(out, &[&envelope.line(|keyword| offered.offers(keyword))]);
        let pipelining = offered.offers("PIPELINING");
        Ok(Self { envelope, mail: None, pipelining, asked: 0, answers: Vec::new(), refusal: None })
    }

    /// Writes as many RCPT commands as may wait for replies.
    pub(super) fn ask(&mut self, out: &mut Vec<u8>) {
        let window = if self.pipelining { RCPT_WINDOW } else { 1 };
        let may_ask = self.mail == Some(true) || self.mail.is_none() && self.pipelining;
        if !may_ask || self.ends_early() {
            return;
        }
        let room = window.saturating_sub(self.asked - self.answers.len());
        for to in self.envelope.to.iter().skip(self.asked).take(room) {
            say(out, &[&to.line()]);
            self.asked += 1;
        }
    }

    /// Returns whether the reply to a command is still missing.
    pub(super) fn awaits_reply(&self) -> bool {
        self.mail.is_none() || self.answers.len() < self.asked
    }

    /// Returns whether a refusal stops the whole message.
    fn ends_early(&self) -> bool {
        self.mail == Some(false) || self.refusal.is_some() && self.envelope.every_recipient
    }

    /// Returns whether the message may be sent, once every reply has been received.
    pub(super) fn verdict(&mut self) -> Option<Result<(), Refusal>> {
        let all = self.asked == self.envelope.to.len() || self.ends_early();
        if !all || self.awaits_reply() {
            return None;
        }
        let is_taken = |status: &RecipientStatus| matches!(status, RecipientStatus::Accepted(_));
        if self.answers.iter().any(is_taken) && !self.ends_early() {
            return Some(Ok(()));
        }
        self.refusal.take().map(Err)
    }

    /// Processes the reply to MAIL or to the next RCPT. Returns whether it refuses a recipient, so that the application
    /// gets a notification.
    pub(super) fn answered(&mut self, answer: RecipientStatus) -> bool {
        let refusal = match &answer {
            RecipientStatus::Refused(refusal) => Some(refusal),
            _ => None,
        };
        match self.mail {
            None => {
                self.mail = Some(refusal.is_none());
                self.refusal = refusal.cloned();
                false
            }
            // MAIL was refused, so this reply to a pipelined RCPT is not about the recipient.
            Some(false) => {
                self.answers.push(RecipientStatus::NotSent);
                false
            }
            Some(true) => {
                let refused = refusal.is_some();
                self.refusal = self.refusal.take().or_else(|| refusal.cloned());
                self.answers.push(answer);
                refused
            }
        }
    }

    /// If the last reply refused a recipient, returns this recipient and the refusal.
    pub(super) fn last_refused(&self) -> Option<(&str, &Refusal)> {
        let recipient = self.envelope.to.get(self.answers.len().checked_sub(1)?)?;
        match self.answers.last()? {
            RecipientStatus::Refused(refusal) => Some((recipient.address(), refusal)),
            _ => None,
        }
    }

    /// Returns the first refusal, if there is one.
    pub(super) fn refused(&self) -> Option<Refusal> {
        self.refusal.clone()
    }

    /// Returns the recipients for which RCPT was sent.
    pub(super) fn told(&self) -> impl Iterator<Item = &str> {
        self.envelope.recipients().take(self.asked)
    }

    pub(super) fn stage(&self) -> Stage {
        if self.mail.is_none() { Stage::Mail } else { Stage::Rcpt }
    }

    /// Returns the outcome of a message that the server has accepted.
    pub(super) fn accepted(self, reply: Reply) -> Outcome {
        let status = |answer: Option<_>| answer.unwrap_or(RecipientStatus::NotSent);
        let recipients = outcomes(*self.envelope, self.answers, status);
        match recipients.iter().all(|recipient| recipient.refusal().is_none()) {
            true => Outcome::Accepted { reply, recipients },
            false => Outcome::AcceptedForSome { reply, recipients },
        }
    }

    /// Returns the outcome of a message that the server has refused. The server may have accepted some recipients
    /// earlier.
    pub(super) fn refused_by(self, refusal: Refusal) -> Outcome {
        let one_for_all = refusal.stage() == Stage::Rcpt && !refusal.closes();
        let of_the_message = match one_for_all {
            true => RecipientStatus::NotSent,
            false => RecipientStatus::Refused(refusal.clone().shortened()),
        };
        let status = |answer| match answer {
            Some(own @ RecipientStatus::Refused(_)) => own,
            _ => of_the_message.clone(),
        };
        Outcome::Refused { refusal, recipients: outcomes(*self.envelope, self.answers, status) }
    }
}

/// Returns why the message cannot be sent to a server with these extensions, over this connection.
fn obstacle(envelope: &Envelope, offered: &Extensions, channel: &Channel) -> Option<NotSent> {
    if envelope.require_tls && !channel.is_verified() {
        return Some(NotSent::NotVerified);
    }
    let too_big = || {
        let size = envelope.size?;
        offered.max_size().filter(|limit| size > *limit)
    };
    match envelope.keywords().find(|keyword| !offered.offers(keyword)) {
        Some("SMTPUTF8") if envelope.only_domains_need_utf8() => Some(NotSent::NeedsALabels),
        Some(keyword) => Some(NotSent::NotOffered(keyword.into())),
        None => too_big().map(NotSent::TooBig),
    }
}

/// Returns the outcome for each recipient. `answers` contains the statuses of the first recipients.
fn outcomes(
    envelope: Envelope,
    answers: Vec<RecipientStatus>,
    status: impl Fn(Option<RecipientStatus>) -> RecipientStatus,
) -> Vec<RecipientOutcome> {
    let mut answers = answers.into_iter();
    let to = envelope.to.into_iter();
    to.map(|to| RecipientOutcome::new(to.address, status(answers.next()))).collect()
}

/// Appends a line that consists of these words.
pub(super) fn say(out: &mut Vec<u8>, words: &[&str]) {
    // `append` zeroes memory that it gives up, because the buffer may already contain a line of AUTH.
    words.iter().for_each(|word| append(out, word.as_bytes()));
    append(out, b"\r\n");
}
