//! Who sends a message, and to whom.

use alloc::{string::String, vec::Vec};

use crate::command::{MailAuth, Mailbox};

/// The longest mailbox: a path of 256 octets without its angle brackets (RFC 5321 §4.5.3.1.3).
const MAX_MAILBOX: usize = 254;

/// A message's sender and recipients, and how to send it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Envelope {
    pub(super) from: String,
    pub(super) to: Vec<String>,
    pub(super) size: Option<u64>,
    pub(super) eight_bit: bool,
    pub(super) smtputf8: bool,
    /// Whether the header is why.
    header_utf8: bool,
    pub(super) auth: Option<String>,
    pub(super) every_recipient: bool,
}

/// An address that cannot stand in an envelope; or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The sender is not a mail address.
    #[error("the sender is not a mail address: it needs the form local-part@domain")]
    Sender,
    /// A recipient, by its place, is not a mail address.
    #[error("recipient {} is not a mail address: it needs the form local-part@domain", .0 + 1)]
    Recipient(usize),
    /// There is no recipient.
    #[error("a message needs at least one recipient")]
    NoRecipient,
}

impl Envelope {
    /// Addresses are `local-part@domain` (RFC 5321 §4.1.2) of up to 254 octets, UTF-8 among them
    /// (RFC 6531 §3.3).
    /// `None` is the null sender of bounces.
    ///
    /// # Errors
    /// An address is none, or there is no recipient.
    pub fn new<'a>(
        from: Option<&str>,
        to: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, EnvelopeError> {
        let is_mailbox = |text: &str| text.len() <= MAX_MAILBOX && Mailbox::parse(text).is_ok();
        let from = from.unwrap_or_default();
        if !from.is_empty() && !is_mailbox(from) {
            return Err(EnvelopeError::Sender);
        }
        let check = |(n, to): (usize, &str)| {
            if is_mailbox(to) { Ok(String::from(to)) } else { Err(EnvelopeError::Recipient(n)) }
        };
        let to: Vec<String> = to.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
        if to.is_empty() {
            return Err(EnvelopeError::NoRecipient);
        }
        let smtputf8 = !from.is_ascii() || to.iter().any(|to| !to.is_ascii());
        Ok(Self {
            from: from.into(),
            to,
            size: None,
            eight_bit: false,
            smtputf8,
            header_utf8: false,
            auth: None,
            every_recipient: false,
        })
    }

    /// The sender; `None` for the null sender of bounces.
    pub fn sender(&self) -> Option<&str> {
        (!self.from.is_empty()).then_some(&self.from)
    }

    /// Whether an address has a domain that is not ASCII, and nothing else asks for SMTPUTF8.
    pub(super) fn only_domains_need_utf8(&self) -> bool {
        let is_ascii = |address: &str| {
            address.rsplit_once('@').map_or(address, |(local_part, _)| local_part).is_ascii()
        };
        !self.header_utf8 && is_ascii(&self.from) && self.to.iter().all(|to| is_ascii(to))
    }

    /// The recipients, in order: [`Event::Refused`](super::Event::Refused) counts them from 0.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.to.iter().map(String::as_str)
    }

    /// The message's size in octets, so that a server can refuse it early (RFC 1870).
    pub fn size(mut self, octets: u64) -> Self {
        self.size = Some(octets);
        self
    }

    /// Whether the message holds octets over 127 (RFC 6152). Where 8BITMIME is not
    /// offered the message is sent all the same, as it is.
    pub fn eight_bit(mut self, eight_bit: bool) -> Self {
        self.eight_bit = eight_bit;
        self
    }

    /// Whether the message's header holds UTF-8 (RFC 6532), so that it may only go where SMTPUTF8
    /// is offered. An address that does is seen without this.
    pub fn smtputf8(mut self, smtputf8: bool) -> Self {
        self.smtputf8 |= smtputf8;
        self.header_utf8 |= smtputf8;
        self
    }

    /// Who first handed the message in (RFC 4954 §5), for a relay; sent where AUTH is offered. (Some
    /// servers offer AUTH and answer `555` to this parameter.)
    pub fn auth(mut self, submitter: &MailAuth<'_>) -> Self {
        self.auth = Some(alloc::format!("{submitter}"));
        self
    }

    /// Whether one refused recipient stops the message for all. Off by default: it goes to those
    /// that were taken.
    pub fn every_recipient(mut self, every: bool) -> Self {
        self.every_recipient = every;
        self
    }
}
