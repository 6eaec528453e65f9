//! The envelope of a message: its sender, its recipients, and the parameters of MAIL and RCPT.

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

/// The maximum length of a mailbox: a path of 256 octets without its angle brackets (RFC 5321 §4.5.3.1.3).
const MAX_MAILBOX: usize = 254;

/// The envelope of a message: its sender, its recipients, and the parameters of MAIL and RCPT.
///
/// Most parameters require an extension, which the server lists as a keyword in its reply to EHLO. If the keyword is
/// missing, no part of the message is sent. The outcome is then [`Outcome::NotSent`](super::Outcome::NotSent), which
/// contains the keyword. The parameters [`size`](Self::size), [`auth`](Self::auth) and [`BodyType::SevenBit`] are only
/// hints for the server. These parameters are omitted if the server does not list their keywords.
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
/// // Recipients without parameters can be given as addresses.
/// let envelope = Envelope::new(None, ["ann@example.org", "bob@example.org"])?;
/// # Ok::<(), smtp_auth::client::EnvelopeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Envelope {
    pub(super) from: String,
    pub(super) to: Vec<Recipient>,
    pub(super) size: Option<u64>,
    pub(super) body: Option<BodyType>,
    pub(super) smtputf8: bool,
    /// Whether the header needs SMTPUTF8.
    header_utf8: bool,
    pub(super) auth: Option<String>,
    ret: Option<Ret>,
    /// The encoded value of ENVID.
    id: Option<String>,
    pub(super) require_tls: bool,
    needed: Needed,
    pub(super) every_recipient: bool,
}

/// A recipient of a message, with the parameters of the RCPT command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Recipient {
    pub(super) address: String,
    notify: Option<Notify>,
    /// The encoded value of ORCPT.
    original: Option<String>,
    needed: Needed,
}

/// The reason why an [`Envelope`] or a [`Recipient`] is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The sender is not a mail address, or exceeds 254 octets.
    Sender,
    /// A recipient is not a mail address, or exceeds 254 octets. The field contains the recipient's index, counted from
    /// 0. The `Display` text counts recipients from 1.
    #[error("recipient {} is not a mail address: it must have the form local-part@domain", .0 + 1)]
    Recipient(usize),
    /// The address that was passed to [`Recipient::new`] is not a mail address, or exceeds 254 octets.
    Address,
    /// The envelope has no recipients.
    NoRecipient,
    /// The envelope identifier (ENVID) is empty, too long, or not printable ASCII.
    EnvelopeId,
    /// The original recipient (ORCPT) is empty, too long, or not printable ASCII, or its address type is invalid.
    OriginalRecipient,
    /// A parameter's name, value or keyword is malformed or too long.
    Parameter,
    /// The parameter must be set with a dedicated method, not with [`Envelope::parameter`]. For example, SIZE must be
    /// set with [`Envelope::size`].
    TypedParameter,
    /// A parameter was given twice.
    RepeatedParameter,
}

impl EnvelopeError {
    /// Returns the `Display` text as a static string. The text for [`Recipient`](Self::Recipient) omits the recipient's
    /// number.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Sender => {
                "the sender is not a mail address: it must have the form local-part@domain"
            }
            Self::Recipient(_) => {
                "a recipient is not a mail address: it must have the form local-part@domain"
            }
            Self::Address => {
                "the recipient is not a mail address: it must have the form local-part@domain"
            }
            Self::NoRecipient => "a message needs at least one recipient",
            Self::EnvelopeId => {
                "an envelope identifier (ENVID) must be 1 to 100 octets of printable ASCII; `+`, `=` and a space count as three octets each"
            }
            Self::OriginalRecipient => {
                "an original recipient (ORCPT) must be an address type of letters, digits and `-`, and an address of printable ASCII, which together must not exceed 500 octets; `+`, `=` and a space in the address count as three octets each"
            }
            Self::Parameter => {
                "a parameter's keyword and name must be letters, digits and `-`, its value must be visible ASCII without `=`, and the name and the value together must not exceed 1024 octets"
            }
            Self::TypedParameter => {
                "the parameter has its own method and cannot be given by its name"
            }
            Self::RepeatedParameter => {
                "a parameter was given twice, but each parameter can be given only once"
            }
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
    /// Creates a recipient without parameters. The address must have the form `local-part@domain` (RFC 5321 §4.1.2) and
    /// must not exceed 254 octets. It may contain UTF-8 (RFC 6531 §3.3).
    ///
    /// # Errors
    /// Returns [`EnvelopeError::Address`] if the address does not have this form, or is too long.
    pub fn new(address: &str) -> Result<Self, EnvelopeError> {
        if !is_mailbox(address) {
            return Err(EnvelopeError::Address);
        }
        let needed = Needed::default();
        Ok(Self { address: address.into(), notify: None, original: None, needed })
    }

    /// Returns the address, exactly as it was passed to [`new`](Self::new).
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sets which delivery notifications the sender wants (NOTIFY, RFC 3461 §4.1). The server must offer DSN.
    pub fn notify(mut self, notify: Notify) -> Self {
        self.notify = Some(notify);
        self
    }

    /// Sets the original recipient (ORCPT, RFC 3461 §4.2). The server must offer DSN.
    ///
    /// The original recipient is the address to which the message was first sent, before a mailing list or a forwarding
    /// server replaced this address. For a mail address, the address type is `rfc822`.
    ///
    /// # Errors
    /// Returns [`EnvelopeError::OriginalRecipient`] if the address is empty or not printable ASCII, if the address type
    /// is not an atom, or if the type and the address together exceed 500 octets when encoded.
    pub fn original_recipient(
        mut self,
        addr_type: &str,
        address: &str,
    ) -> Result<Self, EnvelopeError> {
        self.original = Some(original_recipient(addr_type, address)?);
        Ok(self)
    }

    /// Adds a parameter to the RCPT command. Use this method for parameters that have no dedicated method.
    /// [`Envelope::parameter`] explains the arguments.
    ///
    /// # Errors
    /// Returns the same errors as [`Envelope::parameter`].
    pub fn parameter(
        mut self,
        keyword: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<Self, EnvelopeError> {
        self.needed.add(keyword, name, value)?;
        Ok(self)
    }

    /// Returns the RCPT command without CRLF.
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
    /// Creates an envelope from a sender and recipients. Each recipient can be a [`Recipient`] or a string that
    /// contains an address. If the sender is `None`, the envelope contains the null sender, which bounces use.
    ///
    /// Addresses must have the form `local-part@domain` (RFC 5321 §4.1.2) and must not exceed 254 octets. Addresses may
    /// contain UTF-8 (RFC 6531 §3.3), but the server must then offer SMTPUTF8.
    ///
    /// # Errors
    /// - [`EnvelopeError::Sender`] or [`EnvelopeError::Recipient`] if an address does not have this form, or is too
    ///   long.
    /// - [`EnvelopeError::NoRecipient`] if there are no recipients.
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

    /// Returns the sender's address, or `None` for the null sender.
    pub fn sender(&self) -> Option<&str> {
        (!self.from.is_empty()).then_some(&self.from)
    }

    /// Returns the recipients' addresses, in order.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.to.iter().map(Recipient::address)
    }

    /// Sets the size of the message in octets (SIZE, RFC 1870), so that the server can refuse an oversized message
    /// before the client sends it.
    ///
    /// The parameter is omitted if the server does not offer SIZE. A message that exceeds the server's limit is not
    /// sent.
    pub fn size(mut self, octets: u64) -> Self {
        self.size = Some(octets);
        self
    }

    /// Sets the encoding of the message (BODY, RFC 6152).
    ///
    /// With [`BodyType::EightBitMime`], the message is sent only if the server offers 8BITMIME, as the standard
    /// requires. If the server does not offer 8BITMIME, the application can encode the message as quoted-printable or
    /// base64. If the application does not set this parameter, the message is sent unchanged, and most servers accept
    /// the message.
    pub fn body(mut self, body: BodyType) -> Self {
        self.body = Some(body);
        self
    }

    /// Sets whether the header of the message contains UTF-8 (RFC 6532). If the header contains UTF-8, the message is
    /// sent only if the server offers SMTPUTF8. An address that contains UTF-8 has the same effect, even if this method
    /// is not called.
    pub fn smtputf8(mut self, smtputf8: bool) -> Self {
        self.smtputf8 |= smtputf8;
        self.header_utf8 |= smtputf8;
        self
    }

    /// Sets the account that first submitted the message (AUTH, RFC 4954 §5). This parameter is intended for relays.
    ///
    /// The parameter is omitted if the server does not offer AUTH, because the server would not recognize the
    /// parameter. Some servers offer AUTH but nevertheless reply `555` to this parameter.
    pub fn auth(mut self, submitter: &MailAuth<'_>) -> Self {
        self.auth = Some(submitter.to_string());
        self
    }

    /// Sets how much of the message a failure notification returns (RET, RFC 3461 §4.3). The server must offer DSN.
    pub fn ret(mut self, ret: Ret) -> Self {
        self.ret = Some(ret);
        self
    }

    /// Sets an identifier for this transmission of the message (ENVID, RFC 3461 §4.4). Notifications about the message
    /// include the identifier. The server must offer DSN.
    ///
    /// # Errors
    /// Returns [`EnvelopeError::EnvelopeId`] if the identifier is empty, not printable ASCII, or longer than 100 octets
    /// when encoded.
    pub fn envelope_id(mut self, id: &str) -> Result<Self, EnvelopeError> {
        self.id = Some(envelope_id(id)?);
        Ok(self)
    }

    /// Requires TLS on every hop to the recipients (REQUIRETLS, RFC 8689).
    ///
    /// The message is sent only over TLS, and only if the server offers REQUIRETLS and the caller has
    /// [verified](crate::sasl::Channel::verified) the server's certificate.
    pub fn require_tls(mut self) -> Self {
        self.require_tls = true;
        self
    }

    /// Adds a parameter to the MAIL command. Use this method for parameters that have no dedicated method. The
    /// arguments are the EHLO keyword with which the server offers the parameter, and the parameter's name and value as
    /// they appear in the command.
    ///
    /// The keyword and the name may differ. For example, the extension with the keyword FUTURERELEASE (RFC 4865)
    /// defines the parameter HOLDFOR.
    ///
    /// # Errors
    /// - [`EnvelopeError::Parameter`] if an argument is malformed (RFC 5321 §4.1.2), is not ASCII, or is too long. The
    ///   keyword must not exceed 1,024 octets. The name and the value together must not exceed 1,024 octets.
    /// - [`EnvelopeError::TypedParameter`] if the parameter has a dedicated method, such as [`size`](Self::size) for
    ///   SIZE.
    /// - [`EnvelopeError::RepeatedParameter`] if the parameter has been given already.
    pub fn parameter(
        mut self,
        keyword: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<Self, EnvelopeError> {
        self.needed.add(keyword, name, value)?;
        Ok(self)
    }

    /// Sets whether one refused recipient stops the message for all recipients. This is off by default, which means
    /// that the message is sent to the recipients that the server has accepted.
    pub fn every_recipient(mut self, every: bool) -> Self {
        self.every_recipient = every;
        self
    }

    /// Returns whether only the domains of addresses need SMTPUTF8.
    pub(super) fn only_domains_need_utf8(&self) -> bool {
        let is_ascii = |address: &str| {
            address.rsplit_once('@').map_or(address, |(local_part, _)| local_part).is_ascii()
        };
        !self.header_utf8 && is_ascii(&self.from) && self.recipients().all(is_ascii)
    }

    /// Returns the keywords that the server has to list.
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

    /// Returns the MAIL command without CRLF, for a server that lists all required keywords. `offers` decides which
    /// optional parameters are included.
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
