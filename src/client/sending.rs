//! MAIL and RCPT of a message, in groups where the server takes them so (RFC 2920).

use alloc::{boxed::Box, string::String, vec::Vec};

use super::{Envelope, Extensions, Fate, Refusal, Step};
use crate::secret::append;

/// How many RCPT commands may wait for their replies, so that neither side's buffers fill up while
/// the other does not read.
const RCPT_WINDOW: usize = 50;

/// A message under way: its envelope, and how far its recipients are.
#[derive(Debug)]
pub(super) struct Sending {
    envelope: Box<Envelope>,
    /// Whether MAIL has been taken, once that is known.
    mail: Option<bool>,
    asked: usize,
    answered: usize,
    accepted: usize,
    /// The one that ends it, if it does.
    refusal: Option<Refusal>,
}

impl Sending {
    /// Writes MAIL; or says why the message cannot go to this server.
    pub(super) fn begin(
        envelope: Box<Envelope>,
        offered: &Extensions,
        out: &mut Vec<u8>,
    ) -> Result<Self, Fate> {
        if envelope.smtputf8 && !offered.smtputf8 {
            return Err(match envelope.only_domains_need_utf8() {
                true => Fate::NeedsALabels,
                false => Fate::NeedsSmtpUtf8,
            });
        }
        if let (Some(size), Some(limit)) = (envelope.size, offered.size) {
            if limit > 0 && size > limit {
                return Err(Fate::TooBig(limit));
            }
        }
        let size = match (envelope.size, offered.size) {
            (Some(size), Some(_)) => alloc::format!(" SIZE={size}"),
            _ => String::new(),
        };
        let body = envelope.eight_bit && offered.eight_bit_mime;
        let auth = envelope.auth.as_deref().filter(|_| offered.mechanisms.is_some());
        say(
            out,
            &[
                "MAIL FROM:<",
                &envelope.from,
                ">",
                &size,
                if body { " BODY=8BITMIME" } else { "" },
                if envelope.smtputf8 { " SMTPUTF8" } else { "" },
                if auth.is_some() { " AUTH=" } else { "" },
                auth.unwrap_or_default(),
            ],
        );
        Ok(Self { envelope, mail: None, asked: 0, answered: 0, accepted: 0, refusal: None })
    }

    /// Writes the RCPT commands that may be written now.
    pub(super) fn ask(&mut self, offered: &Extensions, out: &mut Vec<u8>) {
        let window = if offered.pipelining { RCPT_WINDOW } else { 1 };
        let may_ask = self.mail == Some(true) || self.mail.is_none() && offered.pipelining;
        if !may_ask || self.ends_early() {
            return;
        }
        let room = window.saturating_sub(self.asked - self.answered);
        for to in self.envelope.to.iter().skip(self.asked).take(room) {
            say(out, &["RCPT TO:<", to, ">"]);
            self.asked += 1;
        }
    }

    /// Whether the reply to a command is still to come.
    pub(super) fn awaits_reply(&self) -> bool {
        self.mail.is_none() || self.answered < self.asked
    }

    fn ends_early(&self) -> bool {
        self.mail == Some(false) || self.refusal.is_some() && self.envelope.every_recipient
    }

    /// Whether the message may go, once every reply has come.
    pub(super) fn verdict(&mut self) -> Option<Result<(), Refusal>> {
        let all = self.asked == self.envelope.to.len() || self.ends_early();
        if self.mail.is_none() || !all || self.answered < self.asked {
            return None;
        }
        if self.accepted > 0 && !self.ends_early() {
            return Some(Ok(()));
        }
        self.refusal.take().map(Err)
    }

    /// A reply to MAIL, or to the next RCPT, has come. A refused recipient's comes back, to be shown.
    pub(super) fn answered(
        &mut self,
        taken: bool,
        refusal: impl Fn() -> Refusal,
    ) -> Option<Refusal> {
        match self.mail {
            None => {
                self.mail = Some(taken);
                if !taken {
                    self.refusal = Some(refusal());
                }
                None
            }
            Some(mail) => {
                self.answered += 1;
                self.accepted += usize::from(taken && mail);
                if taken || !mail {
                    return None;
                }
                self.refusal.get_or_insert_with(&refusal);
                Some(refusal())
            }
        }
    }

    /// The place of the recipient whose reply came last.
    pub(super) fn last_answered(&self) -> usize {
        self.answered.saturating_sub(1)
    }

    /// The first refusal, if there is one.
    pub(super) fn refused(&self) -> Option<Refusal> {
        self.refusal.clone()
    }

    pub(super) fn step(&self) -> Step {
        if self.mail.is_none() { Step::Mail } else { Step::Rcpt }
    }
}

/// Writes a line.
pub(super) fn say(out: &mut Vec<u8>, words: &[&str]) {
    // What stands there already may be a line of AUTH.
    words.iter().for_each(|word| append(out, word.as_bytes()));
    append(out, b"\r\n");
}
