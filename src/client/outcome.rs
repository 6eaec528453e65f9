//! The outcome of a message.

use alloc::{string::String, vec::Vec};
use core::fmt;

use super::{Limit, Refusal};
use crate::{command::Mailbox, reply::Reply};

/// The outcome of a message, as a whole and for each recipient.
///
/// For each recipient, an outcome contains the address and up to 1,000 octets of text from the server's reply.
///
/// ```
/// use smtp_auth::client::Outcome;
///
/// /// Returns the recipients that the server refused with a `4xx`, to whom the message may be sent again later.
/// fn retry_later(outcome: &Outcome) -> Vec<&str> {
///     let refused = outcome.recipients().iter().filter(|recipient| {
///         recipient.refusal().is_some_and(|refusal| refusal.reply().code() < 500)
///     });
///     refused.map(|recipient| recipient.address()).collect()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a caller has to decide what to do in each case")]
pub enum Outcome {
    /// The server has accepted the message for every recipient.
    Accepted {
        /// The server's reply to the message.
        reply: Reply,
        /// The recipients, in the order of the envelope.
        recipients: Vec<RecipientOutcome>,
    },
    /// The server has accepted the message for some recipients and **refused the others**.
    AcceptedForSome {
        /// The server's reply to the message.
        reply: Reply,
        /// The recipients, in the order of the envelope.
        recipients: Vec<RecipientOutcome>,
    },
    /// The server has refused the message for every recipient.
    Refused {
        /// The reply with which the server refused the sender or the message. If the server refused only recipients,
        /// this is the reply to the first recipient that it refused.
        refusal: Refusal,
        /// The recipients, in the order of the envelope.
        recipients: Vec<RecipientOutcome>,
    },
    /// No part of the message was sent, because the server could not accept it.
    NotSent {
        /// The reason.
        why: NotSent,
        /// The recipients, in the order of the envelope.
        recipients: Vec<RecipientOutcome>,
    },
}

/// The outcome of a message for one recipient, with the recipient's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientOutcome {
    address: String,
    status: RecipientStatus,
}

/// The status of a message for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a caller has to decide what to do in each case")]
pub enum RecipientStatus {
    /// The server has accepted the message for this recipient. The field contains the reply to the recipient's RCPT
    /// command, which is usually a `250`.
    Accepted(Reply),
    /// The server has refused the recipient, or the whole message.
    Refused(Refusal),
    /// The server has not refused this recipient, but the message was not sent. Either no part of the message was sent,
    /// or the client did not complete the message because the server had refused another recipient (see
    /// [`every_recipient`](super::Envelope::every_recipient)).
    NotSent,
}

/// The reason why no part of a message was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSent {
    /// The message requires this EHLO keyword, but the server does not list it. The keyword can be `SMTPUTF8` (for
    /// UTF-8 in addresses or in the header), `8BITMIME`, `DSN`, `REQUIRETLS`, or the keyword of another parameter.
    NotOffered(String),
    /// The server does not list SMTPUTF8. The message requires SMTPUTF8 only because some domains in its addresses are
    /// not ASCII. The server would accept these domains in their A-label form (`xn--…`, IDNA, RFC 5890 §2.3.2.1).
    NeedsALabels,
    /// The message requires TLS on every hop (REQUIRETLS, RFC 8689), but the connection does not use TLS, or the
    /// server's certificate was not [verified](crate::sasl::Channel::verified).
    NotVerified,
    /// The message exceeds the maximum size that the server announces (SIZE, RFC 1870). The field contains this
    /// maximum, in octets.
    TooBig(u64),
    /// The message would exceed one of the server's [limits](super::Limits).
    OverLimit(Limit),
}

impl Outcome {
    /// Returns the server's reply that determined the outcome, which is the reply to the message or the first refusal.
    /// Returns `None` if no part of the message was sent.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Accepted { reply, .. } | Self::AcceptedForSome { reply, .. } => Some(reply),
            Self::Refused { refusal, .. } => Some(refusal.reply()),
            Self::NotSent { .. } => None,
        }
    }

    /// Returns the recipients in the order of the envelope, each with the status of the message.
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

    /// Returns the recipient's address, as given in the envelope.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the status of the message for this recipient.
    pub fn status(&self) -> &RecipientStatus {
        &self.status
    }

    /// Returns the server's refusal, or `None` if the status is not [`Refused`](RecipientStatus::Refused).
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.status {
            RecipientStatus::Refused(refusal) => Some(refusal),
            RecipientStatus::Accepted(_) | RecipientStatus::NotSent => None,
        }
    }
}

/// Writes an explanation for the user who wants to send mail. If the server refused only some recipients, the text
/// names these recipients.
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
                    "the message header or an address contains UTF-8 and needs SMTPUTF8, which the server does not offer",
                ),
                "8BITMIME" => f.write_str(
                    "the message contains octets above 127 and needs 8BITMIME, which the server does not offer: encode it as quoted-printable or base64",
                ),
                keyword => {
                    write!(f, "the message needs {keyword}, which the server does not offer")
                }
            },
            Self::NeedsALabels => f.write_str(
                "the domain of an address is not ASCII, and the server does not offer SMTPUTF8: write the domain in its A-label form (IDNA), which begins with xn--",
            ),
            Self::NotVerified => f.write_str(
                "the message requires TLS on every hop (REQUIRETLS), so it can only be sent over TLS to a server whose certificate was verified",
            ),
            Self::TooBig(limit) => {
                write!(f, "the message is larger than the server's limit of {limit} octets")
            }
            Self::OverLimit(limit) => limit.fmt(f),
        }
    }
}
