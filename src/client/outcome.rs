//! What has become of a message.

use alloc::{string::String, vec::Vec};
use core::fmt;

use super::{Limit, Refusal};
use crate::{command::Mailbox, reply::Reply};

/// What has become of a message, as a whole and for each recipient.
///
/// It holds each recipient's address, and up to 1,000 octets of the text of the server's reply to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a caller has to say what it does in each case")]
pub enum Outcome {
    /// The server has taken it, for every recipient.
    Accepted {
        /// The reply to the message.
        reply: Reply,
        /// The recipients, in the envelope's order.
        recipients: Vec<RecipientOutcome>,
    },
    /// The server has taken it for some recipients and **refused the others**.
    AcceptedForSome {
        /// The reply to the message.
        reply: Reply,
        /// The recipients, in the envelope's order.
        recipients: Vec<RecipientOutcome>,
    },
    /// The server has refused it, for every recipient.
    Refused {
        /// The refusal: of the sender, or of the message; or the first of a recipient.
        refusal: Refusal,
        /// The recipients, in the envelope's order.
        recipients: Vec<RecipientOutcome>,
    },
    /// Nothing of it was sent, as the server could not take it.
    NotSent {
        /// Why.
        why: NotSent,
        /// The recipients, in the envelope's order.
        recipients: Vec<RecipientOutcome>,
    },
}

/// A recipient of a message, and what has become of the message for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientOutcome {
    address: String,
    status: RecipientStatus,
}

/// What has become of a message for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a caller has to say what it does in each case")]
pub enum RecipientStatus {
    /// The server has taken the message for it. The reply is that to its RCPT, a `250` as a rule.
    Accepted(Reply),
    /// The server has refused it, or the message after it.
    Refused(Refusal),
    /// Nobody has refused it, and the message was not sent to it: the message was not sent at all, or another
    /// recipient stopped it for all ([`every_recipient`](super::Envelope::every_recipient)).
    NotSent,
}

/// Why a message was not sent at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSent {
    /// The server does not list this keyword, which the message needs: `SMTPUTF8` for UTF-8 in addresses or headers,
    /// `8BITMIME`, `DSN`, `REQUIRETLS`, or that of another parameter.
    NotOffered(String),
    /// The server does not list SMTPUTF8, and it is only the domain of an address that is not ASCII: in its A-label
    /// form (`xn--…`, IDNA, RFC 5890 §2.3.2.1) the server would take it.
    NeedsALabels,
    /// The message demands TLS all the way (REQUIRETLS), and the connection is not inside TLS with a server whose
    /// certificate was [verified](crate::sasl::Channel::verified).
    NotVerified,
    /// The server takes at most that many octets.
    TooBig(u64),
    /// It would go over one of the server's [limits](super::Limits).
    OverLimit(Limit),
}

impl Outcome {
    /// The server's reply that decided: to the message, or the first that refused. `None` where nothing was sent.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Accepted { reply, .. } | Self::AcceptedForSome { reply, .. } => Some(reply),
            Self::Refused { refusal, .. } => Some(refusal.reply()),
            Self::NotSent { .. } => None,
        }
    }

    /// The recipients, in the envelope's order, and what has become of the message for each.
    pub fn recipients(&self) -> &[RecipientOutcome] {
        match self {
            Self::Accepted { recipients, .. }
            | Self::AcceptedForSome { recipients, .. }
            | Self::Refused { recipients, .. }
            | Self::NotSent { recipients, .. } => recipients,
        }
    }
}

impl RecipientOutcome {
    pub(super) fn new(address: String, status: RecipientStatus) -> Self {
        Self { address, status }
    }

    /// The address, as it stands in the envelope.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What has become of the message for it.
    pub fn status(&self) -> &RecipientStatus {
        &self.status
    }

    /// The server's refusal, if there is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.status {
            RecipientStatus::Refused(refusal) => Some(refusal),
            RecipientStatus::Accepted(_) | RecipientStatus::NotSent => None,
        }
    }
}

/// In sentences for a person; where recipients were refused and others not, those that were are named.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { reply, .. } => write!(f, "the server accepted the message: {reply}"),
            Self::AcceptedForSome { reply, recipients } => {
                let refused =
                    || recipients.iter().filter(|recipient| recipient.refusal().is_some());
                let (count, all) = (refused().count(), recipients.len());
                write!(
                    f,
                    "the server accepted the message, but refused {count} of {all} recipients: {reply}"
                )?;
                refused().try_for_each(|recipient| write!(f, "; {recipient}"))
            }
            Self::Refused { refusal, .. } => refusal.fmt(f),
            Self::NotSent { why, .. } => why.fmt(f),
        }
    }
}

impl fmt::Display for RecipientOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(address) = Mailbox::parse(&self.address) {
            write!(f, "{address}: ")?;
        }
        self.status.fmt(f)
    }
}

impl fmt::Display for RecipientStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(reply) => write!(f, "the server accepted the message: {reply}"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::NotSent => f.write_str("the message was not sent"),
        }
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOffered(keyword) => match keyword.as_str() {
                "SMTPUTF8" => f.write_str(
                    "the message or an address is in UTF-8 and needs SMTPUTF8, which the server does not offer",
                ),
                "8BITMIME" => f.write_str(
                    "the message has octets over 127 and needs 8BITMIME, which the server does not offer: encode it as quoted-printable or base64",
                ),
                keyword => {
                    write!(f, "the message needs {keyword}, which the server does not offer")
                }
            },
            Self::NeedsALabels => f.write_str(
                "an address has a domain that is not ASCII, and the server does not offer SMTPUTF8: write the domain in its A-label form (IDNA), which begins with xn--",
            ),
            Self::NotVerified => f.write_str(
                "the message demands TLS all the way (REQUIRETLS), and needs a connection inside TLS to a server whose certificate was verified",
            ),
            Self::TooBig(limit) => {
                write!(f, "the message is over the server's limit of {limit} octets")
            }
            Self::OverLimit(limit) => limit.fmt(f),
        }
    }
}
