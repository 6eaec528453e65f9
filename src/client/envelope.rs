//! Who sends a message, and to whom.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::convert::Infallible;

use super::{
    BodyType, Notify, Ret,
    parameters::{Needed, envelope_id, original_recipient, write},
};
use crate::command::{MailAuth, Mailbox};

/// The longest mailbox: a path of 256 octets without its angle brackets (RFC 5321 §4.5.3.1.3).
const MAX_MAILBOX: usize = 254;

/// A message's sender and recipients, and how to send it.
///
/// Most of what is asked for here needs a keyword in the server's reply to EHLO. Where it is missing, nothing of the
/// message is sent, and the outcome is [`Outcome::NotSent`](super::Outcome::NotSent), which names the keyword. Three
/// parameters tell the server only what it may use or not, and are left out where their keyword is missing:
/// [`size`](Self::size), [`auth`](Self::auth), and [`BodyType::SevenBit`].
///
/// ```
/// use smtp_auth::client::{BodyType, Envelope, Notify, NotifyOn, Recipient, Ret};
///
/// let ann = Recipient::new("ann@example.org")?
///     .notify(Notify::On(NotifyOn::FAILURE | NotifyOn::DELAY))
///     .original_recipient("rfc822", "list@example.org")?;
/// let envelope = Envelope::new(Some("tim@example.org"), [ann])?
///     .body(BodyType::EightBitMime)
///     .ret(Ret::Headers)
///     .envelope_id("order 4711")?
///     .parameter("FUTURERELEASE", "HOLDFOR", Some("3600"))?;
/// // Where the recipients have no parameters, their addresses will do.
/// let envelope = Envelope::new(None, ["ann@example.org", "bob@example.org"])?;
/// # Ok::<(), smtp_auth::client::EnvelopeError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Envelope {
    pub(super) from: String,
    pub(super) to: Vec<Recipient>,
    pub(super) size: Option<u64>,
    pub(super) body: Option<BodyType>,
    pub(super) smtputf8: bool,
    /// Whether the header is why.
    header_utf8: bool,
    pub(super) auth: Option<String>,
    ret: Option<Ret>,
    /// As it is written.
    id: Option<String>,
    pub(super) require_tls: bool,
    needed: Needed,
    pub(super) every_recipient: bool,
}

/// A recipient, and the parameters of its RCPT.
#[derive(Clone, Debug)]
#[must_use]
pub struct Recipient {
    pub(super) address: String,
    notify: Option<Notify>,
    /// As it is written.
    original: Option<String>,
    needed: Needed,
}

/// What cannot stand in an envelope, or is missing from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The sender is not a mail address.
    Sender,
    /// A recipient, by its place, is not a mail address.
    #[error("recipient {} is not a mail address: it needs the form local-part@domain", .0 + 1)]
    Recipient(usize),
    /// What a [`Recipient`] was made of is not a mail address.
    Address,
    /// There is no recipient.
    NoRecipient,
    /// The envelope identifier cannot be written.
    EnvelopeId,
    /// The original recipient cannot be written.
    OriginalRecipient,
    /// A parameter cannot be written.
    Parameter,
    /// A parameter was given by name that has a method of its own.
    TypedParameter,
    /// A parameter was given twice.
    RepeatedParameter,
}

impl EnvelopeError {
    /// What `Display` says, as a fixed text; of [`Recipient`](Self::Recipient) without the place.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Sender => "the sender is not a mail address: it needs the form local-part@domain",
            Self::Recipient(_) => {
                "a recipient is not a mail address: it needs the form local-part@domain"
            }
            Self::Address => {
                "the recipient is not a mail address: it needs the form local-part@domain"
            }
            Self::NoRecipient => "a message needs at least one recipient",
            Self::EnvelopeId => {
                "an envelope identifier (ENVID) is printable ASCII, of 1 to 100 octets as it is written; `+`, `=` and a space are written as three"
            }
            Self::OriginalRecipient => {
                "an original recipient (ORCPT) is an address type of letters, digits and `-`, and an address of printable ASCII, of up to 500 octets as they are written; `+`, `=` and a space are written as three"
            }
            Self::Parameter => {
                "a parameter's keyword and name are letters, digits and `-`, its value is visible ASCII without `=`, and name and value have up to 1024 octets"
            }
            Self::TypedParameter => {
                "a parameter that has a method of its own cannot be given by its name"
            }
            Self::RepeatedParameter => "each parameter can be given once",
        }
    }
}

impl From<Infallible> for EnvelopeError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn is_mailbox(text: &str) -> bool {
    text.len() <= MAX_MAILBOX && Mailbox::parse(text).is_ok()
}

macro_rules! from_text {
    ($($text:ty),*) => {
        $(impl TryFrom<$text> for Recipient {
            type Error = EnvelopeError;

            fn try_from(address: $text) -> Result<Self, EnvelopeError> {
                Self::new(address.as_ref())
            }
        })*
    };
}

from_text!(&str, &&str, String, &String);

impl Recipient {
    /// A recipient without parameters. The address is `local-part@domain` (RFC 5321 §4.1.2) of up to 254 octets,
    /// UTF-8 among them (RFC 6531 §3.3).
    ///
    /// # Errors
    /// [`EnvelopeError::Address`] where it is something else.
    pub fn new(address: &str) -> Result<Self, EnvelopeError> {
        if !is_mailbox(address) {
            return Err(EnvelopeError::Address);
        }
        let needed = Needed::default();
        Ok(Self { address: address.into(), notify: None, original: None, needed })
    }

    /// The address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Which notifications the sender wants: NOTIFY (RFC 3461 §4.1). Needs DSN.
    pub fn notify(mut self, notify: Notify) -> Self {
        self.notify = Some(notify);
        self
    }

    /// The address to which the message was sent in the first place, as a mailing list or a forwarding server knows
    /// it, and its type, which is `rfc822` for mail: ORCPT (RFC 3461 §4.2). Needs DSN.
    ///
    /// # Errors
    /// [`EnvelopeError::OriginalRecipient`] where it is not printable ASCII, or too long.
    pub fn original_recipient(
        mut self,
        addr_type: &str,
        address: &str,
    ) -> Result<Self, EnvelopeError> {
        self.original = Some(original_recipient(addr_type, address)?);
        Ok(self)
    }

    /// Any other parameter of RCPT, as [`Envelope::parameter`].
    ///
    /// # Errors
    /// As there.
    pub fn parameter(
        mut self,
        keyword: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<Self, EnvelopeError> {
        self.needed.add(keyword, name, value)?;
        Ok(self)
    }

    /// RCPT, without its line end.
    pub(super) fn line(&self) -> String {
        let mut line = ["RCPT TO:<", &self.address, ">"].concat();
        if let Some(notify) = self.notify {
            write(&mut line, "NOTIFY", Some(&notify.to_string()));
        }
        if let Some(original) = &self.original {
            write(&mut line, "ORCPT", Some(original));
        }
        self.needed.write(&mut line);
        line
    }
}

impl Envelope {
    /// A message of that sender to these recipients: a [`Recipient`] each, or its address as text.
    /// Addresses are `local-part@domain` (RFC 5321 §4.1.2) of up to 254 octets, UTF-8 among them (RFC 6531 §3.3).
    /// `None` is the null sender of bounces.
    ///
    /// # Errors
    /// An address is none, or there is no recipient.
    pub fn new<R>(
        from: Option<&str>,
        to: impl IntoIterator<Item = R>,
    ) -> Result<Self, EnvelopeError>
    where
        R: TryInto<Recipient, Error: Into<EnvelopeError>>,
    {
        let from = from.unwrap_or_default();
        if !from.is_empty() && !is_mailbox(from) {
            return Err(EnvelopeError::Sender);
        }
        let recipient = |(n, to): (usize, R)| match to.try_into().map_err(Into::into) {
            Err(EnvelopeError::Address) => Err(EnvelopeError::Recipient(n)),
            other => other,
        };
        let to: Vec<_> = to.into_iter().enumerate().map(recipient).collect::<Result<_, _>>()?;
        if to.is_empty() {
            return Err(EnvelopeError::NoRecipient);
        }
        let smtputf8 = !from.is_ascii() || to.iter().any(|to| !to.address.is_ascii());
        Ok(Self {
            from: from.into(),
            to,
            size: None,
            body: None,
            smtputf8,
            header_utf8: false,
            auth: None,
            ret: None,
            id: None,
            require_tls: false,
            needed: Needed::default(),
            every_recipient: false,
        })
    }

    /// The sender; `None` for the null sender of bounces.
    pub fn sender(&self) -> Option<&str> {
        (!self.from.is_empty()).then_some(&self.from)
    }

    /// The recipients' addresses, in order.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.to.iter().map(Recipient::address)
    }

    /// The message's size in octets: SIZE, so that a server can refuse it early (RFC 1870). It is sent where the
    /// server offers SIZE; a message over the server's limit is not.
    pub fn size(mut self, octets: u64) -> Self {
        self.size = Some(octets);
        self
    }

    /// How the message is encoded: BODY (RFC 6152). With [`BodyType::EightBitMime`] it is sent where the server
    /// offers 8BITMIME, and nowhere else, as the standard has it. There the application can encode it anew (as
    /// quoted-printable or base64), or leave this out: then the message goes as it is, and most servers take it.
    pub fn body(mut self, body: BodyType) -> Self {
        self.body = Some(body);
        self
    }

    /// Whether the message's header holds UTF-8 (RFC 6532), so that it may only go where SMTPUTF8
    /// is offered. An address that does is seen without this.
    pub fn smtputf8(mut self, smtputf8: bool) -> Self {
        self.smtputf8 |= smtputf8;
        self.header_utf8 |= smtputf8;
        self
    }

    /// Who first handed the message in: AUTH (RFC 4954 §5), for a relay. It is sent where the server offers AUTH, and
    /// left out elsewhere, as the server would not know it. (Some servers offer AUTH and answer `555` to this
    /// parameter.)
    pub fn auth(mut self, submitter: &MailAuth<'_>) -> Self {
        self.auth = Some(submitter.to_string());
        self
    }

    /// How much of the message a failed delivery's notification returns: RET (RFC 3461 §4.3). Needs DSN.
    pub fn ret(mut self, ret: Ret) -> Self {
        self.ret = Some(ret);
        self
    }

    /// A name for this sending of the message, which notifications repeat: ENVID (RFC 3461 §4.4). Needs DSN.
    ///
    /// # Errors
    /// [`EnvelopeError::EnvelopeId`] where it is empty, not printable ASCII, or over 100 octets as it is written.
    pub fn envelope_id(mut self, id: &str) -> Result<Self, EnvelopeError> {
        self.id = Some(envelope_id(id)?);
        Ok(self)
    }

    /// Demands TLS all the way to the recipients: REQUIRETLS (RFC 8689). The message is sent where the server offers
    /// REQUIRETLS inside TLS, and the caller has said that the server's certificate was
    /// [verified](crate::sasl::Channel::verified).
    pub fn require_tls(mut self) -> Self {
        self.require_tls = true;
        self
    }

    /// Any other parameter of MAIL: the keyword by which the server offers it, and name and value as they are
    /// written. The keyword is not always the name: FUTURERELEASE (RFC 4865) has HOLDFOR.
    ///
    /// # Errors
    /// [`EnvelopeError::Parameter`] where one of them is malformed (RFC 5321 §4.1.2), not ASCII, or over 1024
    /// octets, [`TypedParameter`](EnvelopeError::TypedParameter) where a method of its own writes it, and
    /// [`RepeatedParameter`](EnvelopeError::RepeatedParameter) where it is there already.
    pub fn parameter(
        mut self,
        keyword: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<Self, EnvelopeError> {
        self.needed.add(keyword, name, value)?;
        Ok(self)
    }

    /// Whether one refused recipient stops the message for all. Off by default: it goes to those
    /// that were taken.
    pub fn every_recipient(mut self, every: bool) -> Self {
        self.every_recipient = every;
        self
    }

    /// Whether an address has a domain that is not ASCII, and nothing else asks for SMTPUTF8.
    pub(super) fn only_domains_need_utf8(&self) -> bool {
        let is_ascii = |address: &str| {
            address.rsplit_once('@').map_or(address, |(local_part, _)| local_part).is_ascii()
        };
        !self.header_utf8 && is_ascii(&self.from) && self.recipients().all(is_ascii)
    }

    /// The keywords that a server has to list.
    pub(super) fn keywords(&self) -> impl Iterator<Item = &str> {
        let dsn = self.ret.is_some()
            || self.id.is_some()
            || self.to.iter().any(|to| to.notify.is_some() || to.original.is_some());
        let typed = [
            (self.smtputf8, "SMTPUTF8"),
            (self.body == Some(BodyType::EightBitMime), "8BITMIME"),
            (self.require_tls, "REQUIRETLS"),
            (dsn, "DSN"),
        ];
        let typed = typed.into_iter().filter_map(|(needed, keyword)| needed.then_some(keyword));
        let others = self.to.iter().flat_map(|to| to.needed.keywords());
        typed.chain(self.needed.keywords()).chain(others)
    }

    /// MAIL, without its line end, for a server that lists all that is needed and offers what is not.
    pub(super) fn line(&self, offers: impl Fn(&str) -> bool) -> String {
        let mut line = ["MAIL FROM:<", &self.from, ">"].concat();
        let body = match self.body {
            Some(BodyType::SevenBit) => Some("7BIT"),
            Some(BodyType::EightBitMime) => Some("8BITMIME"),
            None => None,
        };
        let size = self.size.map(|size| size.to_string());
        let ret = self.ret.map(|ret| match ret {
            Ret::Full => "FULL",
            Ret::Headers => "HDRS",
        });
        for (name, value) in [
            ("SIZE", size.as_deref().filter(|_| offers("SIZE"))),
            ("BODY", body.filter(|_| offers("8BITMIME"))),
            ("AUTH", self.auth.as_deref().filter(|_| offers("AUTH"))),
            ("RET", ret),
            ("ENVID", self.id.as_deref()),
        ] {
            if value.is_some() {
                write(&mut line, name, value);
            }
        }
        for (name, given) in [("SMTPUTF8", self.smtputf8), ("REQUIRETLS", self.require_tls)] {
            if given {
                write(&mut line, name, None);
            }
        }
        self.needed.write(&mut line);
        line
    }
}
