//! What goes wrong, in a sentence for a person, and typed for a program.

use std::{
    error,
    fmt::{self, Display as _},
    io,
    time::Duration,
};

use smtp_auth::{
    Reply, Secret,
    client::{AuthError, Error as SessionError, Limit, NotSent, Outcome, Refusal, Stage},
    sasl::ConfigError,
};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

/// Why there is no connection, or a message was not accepted.
///
/// `Display` writes a sentence for the person who sends, with the server's words and what can be done, and with nothing
/// secret. A program decides by these, as in [an example](super#what-to-do-after-an-error):
///
/// | method | answers |
/// | --- | --- |
/// | [`delivery`](Self::delivery) | what is known of the message |
/// | [`is_transient`](Self::is_transient) | whether to try again later |
/// | [`kind`](Self::kind) | what went wrong |
/// | [`stage`](Self::stage) | where in the dialogue |
/// | [`reply`](Self::reply) | with which reply the server refused |
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// Whether the message had been sent to its end.
    ended: bool,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no connection to the server: its name has no address, or none of its addresses answers.
    #[non_exhaustive]
    Unreachable {
        /// The server's name.
        host: Box<str>,
        /// The port.
        port: u16,
        /// Why, as an [`io::Error`]: the operating system's, as a rule.
        why: io::Error,
    },
    /// The TLS handshake failed, most often because of the server's certificate.
    #[non_exhaustive]
    Tls {
        /// The server's name.
        host: Box<str>,
        /// Why, as an [`io::Error`]. It holds a [`rustls::Error`] where rustls has found the fault:
        /// `why.get_ref()?.downcast_ref::<rustls::Error>()`.
        why: io::Error,
    },
    /// There are credentials, and TLS began without a [verified](smtp_auth::Channel::verified) certificate. Nothing was sent
    /// inside it.
    #[non_exhaustive]
    Unverified {
        /// The server's name.
        host: Box<str>,
    },
    /// The connection broke at that stage. The [`io::Error`] says why.
    Broken(Stage, io::Error),
    /// The session is over, and the [`SessionError`](super::SessionError) says why: the server refused to go on or broke
    /// the protocol, authentication failed ([`AuthError`](super::AuthError)), or a reply did not come in time.
    Session(SessionError),
    /// The message was accepted for no recipient. The [`Outcome`](super::Outcome) says why: by a
    /// [`Refusal`](super::Refusal) of the server's, or by [`NotSent`](super::NotSent). The connection can be used again,
    /// unless the server has closed it.
    NotAccepted(Outcome),
    /// The message could not be read from the caller's reader, whose [`io::Error`] this is. The server has not accepted
    /// the part that was sent.
    Read(io::Error),
    /// The connection cannot be used any more: an earlier call has failed, or its future was dropped before it was ready.
    Unusable,
    /// The configuration cannot be used. The [`ConfigError`](super::ConfigError) says why.
    Config(ConfigError),
    /// All connections of the [`Pool`](super::Pool) were in use for that long.
    NoFreeConnection(Duration),
    /// The [`Pool`](super::Pool) has been closed.
    PoolClosed,
}

/// What is known of a message after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to know")]
pub enum Delivery {
    /// The server does not have the message, and has not refused it. The message can be sent again.
    NotSent,
    /// The server has refused the message by a reply. Send the message again only after a
    /// [transient](Error::is_transient) refusal.
    Refused,
    /// All of the message was sent, and no reply came: the server may have accepted it or not. If the message is sent
    /// again, it may arrive twice.
    Unknown,
}

impl Error {
    pub(super) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { kind, ended: false }))
    }

    /// The same, of a message that had been sent to its end, or not.
    pub(super) fn after_end(mut self, ended: bool) -> Self {
        self.0.ended = ended;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// What is known of the message. [`Delivery::NotSent`] if no message was to be sent.
    pub fn delivery(&self) -> Delivery {
        match self.refusal() {
            // It says nothing of the message.
            Some(refusal) if refusal.closes() => Delivery::NotSent,
            Some(refusal) => match refusal.stage() {
                Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Message => Delivery::Refused,
                _ => Delivery::NotSent,
            },
            None if self.0.ended => Delivery::Unknown,
            None => Delivery::NotSent,
        }
    }

    /// The stage of the dialogue at which the error happened.
    ///
    /// | error | stage |
    /// | --- | --- |
    /// | TLS did not begin, or began without a verified certificate: after STARTTLS, and with implicit TLS too, before the greeting | [`Stage::StartTls`] |
    /// | there is no connection to the server: [`ErrorKind::Unreachable`] | `None` |
    /// | no dialogue was under way: [`Unusable`](ErrorKind::Unusable), [`Config`](ErrorKind::Config), [`NoFreeConnection`](ErrorKind::NoFreeConnection), [`PoolClosed`](ErrorKind::PoolClosed) | `None` |
    /// | any other | where in the dialogue it was |
    pub fn stage(&self) -> Option<Stage> {
        match &self.0.kind {
            ErrorKind::Tls { .. } | ErrorKind::Unverified { .. } => Some(Stage::StartTls),
            ErrorKind::Broken(stage, _) => Some(*stage),
            ErrorKind::Session(error) => stage_of(error),
            ErrorKind::NotAccepted(Outcome::Refused { refusal, .. }) => Some(refusal.stage()),
            ErrorKind::NotAccepted(_) => Some(Stage::Mail),
            ErrorKind::Read(_) => Some(Stage::Message),
            ErrorKind::Unreachable { .. }
            | ErrorKind::Unusable
            | ErrorKind::Config(_)
            | ErrorKind::NoFreeConnection(_)
            | ErrorKind::PoolClosed => None,
        }
    }

    /// The server's reply that led to the error, if there was one.
    pub fn reply(&self) -> Option<&Reply> {
        match (&self.0.kind, self.refusal()) {
            (_, Some(refusal)) => Some(refusal.reply()),
            (ErrorKind::Session(SessionError::Closed(reply)), _) => reply.as_ref(),
            (ErrorKind::Session(SessionError::UnexpectedReply(_, reply)), _) => Some(reply),
            (
                ErrorKind::Session(SessionError::NotAuthenticated(
                    AuthError::TokenRefused { reply, .. } | AuthError::Cancelled(_, reply),
                )),
                _,
            ) => reply.as_ref(),
            _ => None,
        }
    }

    /// What the server said of a token that it refused: JSON (RFC 7628 §3.2.2), as it came. The JSON may repeat the token:
    /// it is a [`Secret`], and is in no `Display`. Replace its control characters before you show it on a terminal.
    pub fn token_error(&self) -> Option<&Secret> {
        match &self.0.kind {
            ErrorKind::Session(SessionError::NotAuthenticated(AuthError::TokenRefused {
                token_error,
                ..
            })) => token_error.as_ref(),
            _ => None,
        }
    }

    /// Whether another attempt may succeed later. The first row that fits decides:
    ///
    /// | error | |
    /// | --- | --- |
    /// | the [delivery](Self::delivery) is unknown, so that the message may arrive twice | `false` |
    /// | a certificate, the server's or the client's, is not accepted | `false` |
    /// | authentication failed, and the server closed the connection without a reply to that | `false` |
    /// | the server closed the connection, or it broke, in the TLS handshake too | `true` |
    /// | the server answered out of turn, or with what is not SMTP | `false` |
    /// | the server refused by a reply `4xx`, at any stage | `true` |
    /// | the server refused by a reply `5xx` | `false` |
    /// | a timeout: connecting, the TLS handshake, a reply, a part of a message | `true` |
    /// | no connection: the server's name has no address in the DNS, or no address answers | `true` |
    /// | TLS failed in any other way, or is not on offer | `false` |
    /// | [`ErrorKind::NoFreeConnection`], [`ErrorKind::Unusable`] | `true` |
    /// | the server's [limit](Limit) of messages or domains over one connection | `true` |
    /// | any other, such as no mechanism in common, a message that is too big, [`ErrorKind::PoolClosed`] | `false` |
    pub fn is_transient(&self) -> bool {
        self.delivery() != Delivery::Unknown && self.kind_is_transient()
    }

    fn kind_is_transient(&self) -> bool {
        match (&self.0.kind, self.reply()) {
            (ErrorKind::Session(SessionError::Closed(_)), _) => true,
            (ErrorKind::Session(SessionError::UnexpectedReply(..)), _) => false,
            (_, Some(reply)) => reply.is_transient(),
            (ErrorKind::Broken(_, why), _) => !certificate_is_refused(why),
            (ErrorKind::Unreachable { .. } | ErrorKind::Unusable, _)
            | (ErrorKind::NoFreeConnection(_), _)
            | (
                ErrorKind::Session(SessionError::Disconnected(_) | SessionError::TimedOut { .. }),
                _,
            ) => true,
            (ErrorKind::Tls { why, .. }, _) => matches!(
                why.kind(),
                io::ErrorKind::TimedOut
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            ),
            (ErrorKind::NotAccepted(Outcome::NotSent { why, .. }), _) => is_over_connection(why),
            _ => false,
        }
    }

    /// The refusal of whatever was asked of the server.
    fn refusal(&self) -> Option<&Refusal> {
        match &self.0.kind {
            ErrorKind::Session(
                SessionError::Refused(refusal)
                | SessionError::NotAuthenticated(AuthError::Refused(refusal)),
            )
            | ErrorKind::NotAccepted(Outcome::Refused { refusal, .. }) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the same message can go over another connection, where this one has been used for others before: it was
    /// closed meanwhile, or has no room for more.
    pub(super) fn wants_another_connection(&self) -> bool {
        match &self.0.kind {
            ErrorKind::Session(SessionError::Closed(_)) => true,
            ErrorKind::NotAccepted(Outcome::NotSent { why, .. }) => is_over_connection(why),
            _ => false,
        }
    }

    /// Whether the credentials were refused, or something is wrong with how they were used.
    pub(super) fn is_of_authentication(&self) -> bool {
        matches!(
            &self.0.kind,
            ErrorKind::Session(
                SessionError::NotAuthenticated(_) | SessionError::ServerNotAuthentic
            )
        )
    }
}

fn stage_of(error: &SessionError) -> Option<Stage> {
    match error {
        SessionError::Disconnected(stage)
        | SessionError::TimedOut { stage, .. }
        | SessionError::NotAReply(stage)
        | SessionError::LineEnds(stage)
        | SessionError::Unsolicited(stage)
        | SessionError::UnexpectedReply(stage, _) => Some(*stage),
        SessionError::Refused(refusal) => Some(refusal.stage()),
        SessionError::Closed(_) => Some(Stage::Rest),
        SessionError::TlsNotOffered | SessionError::InjectedBeforeTls => Some(Stage::StartTls),
        SessionError::NotAuthenticated(_)
        | SessionError::EarlySuccess
        | SessionError::ServerNotAuthentic => Some(Stage::Auth),
        SessionError::BareLineEnd | SessionError::MessageEnded => Some(Stage::Message),
        _ => None,
    }
}

/// Whether a limit is that of one connection.
fn is_over_connection(why: &NotSent) -> bool {
    matches!(why, NotSent::OverLimit(Limit::MailMax(_) | Limit::RcptDomainMax(_)))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.delivery() {
            Delivery::Unknown => unknown(&self.0.kind, f),
            _ => self.0.kind.fmt(f),
        }
    }
}

/// The sentence, and what it is made of: a program that ends with an error shows it so.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.0.kind)
    }
}

/// Trying again is not what can be done here.
fn unknown(why: &ErrorKind, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match why {
        ErrorKind::Broken(_, why) => write!(f, "the connection broke ({why})"),
        ErrorKind::Session(SessionError::Disconnected(_)) => {
            f.write_str("the connection was closed")
        }
        ErrorKind::Session(SessionError::TimedOut { .. }) => {
            f.write_str("the server did not answer in time")
        }
        other => write!(f, "{other}, and that was"),
    }?;
    f.write_str(
        " after all of the message had been sent: the server may have accepted it, so find out before you send it again",
    )
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { host, port, why } => {
                write!(f, "there is no connection to {host}, port {port}: {}", in_time(why))?;
                f.write_str("; check both, and the network, or try again later")
            }
            Self::Tls { host, why } => match tls_error(why) {
                _ if certificate_is_refused(why) => {
                    write!(f, "TLS with {host} did not begin: {NOT_TAKEN}")
                }
                Some(why) => write!(f, "TLS with {host} did not begin: {}", explain(why)),
                None => write!(f, "TLS with {host} did not begin: {}", in_time(why)),
            },
            Self::Unverified { host } => write!(
                f,
                "the certificate of {host} was not verified, so that no credentials are sent: trust it (`tls::client`), or \
                 connect without credentials; a `TlsConnect` that does verify has to say so (`Channel::verified`)"
            ),
            // Under TLS 1.3 the server judges this client's certificate once the client is through with the handshake.
            Self::Broken(_, why) if certificate_is_refused(why) => {
                write!(f, "the connection broke: {NOT_TAKEN}")
            }
            Self::Broken(stage, why) => {
                write!(f, "the connection broke at {stage}: {why}; try again later")
            }
            Self::Session(SessionError::BareLineEnd) => write!(
                f,
                "{}: end each of its lines in CRLF, and send it again",
                SessionError::BareLineEnd
            ),
            Self::Session(why @ SessionError::Closed(_)) => {
                write!(f, "{why}; nothing of a message was sent, so open another connection for it")
            }
            Self::Session(why @ SessionError::TimedOut { may_want_tls: false, .. }) => {
                write!(f, "{why}; try again later")
            }
            Self::Session(why) => why.fmt(f),
            Self::NotAccepted(outcome) => not_accepted(outcome, f),
            Self::Read(why) => {
                write!(f, "the message could not be read, and was not sent: {why}")
            }
            Self::Unusable => f.write_str(
                "this connection cannot be used any more, as something before has failed or was broken off: open another",
            ),
            Self::Config(why) => why.fmt(f),
            Self::NoFreeConnection(limit) => write!(
                f,
                "all connections to the server were in use for {} seconds: try again later, or allow more of them",
                limit.as_secs_f32()
            ),
            Self::PoolClosed => {
                f.write_str("the pool of connections has been closed: no more messages are sent")
            }
        }
    }
}

fn not_accepted(outcome: &Outcome, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let recipients = outcome.recipients();
    let refused = || recipients.iter().filter(|recipient| recipient.refusal().is_some());
    match outcome {
        // Each has a refusal of its own, as a rule.
        Outcome::Refused { refusal, .. }
            if refusal.stage() == Stage::Rcpt && refused().next().is_some() =>
        {
            f.write_str("the message was not sent")?;
            let mut separator = ": ";
            refused().try_for_each(|recipient| {
                write!(f, "{separator}{recipient}")?;
                separator = "; ";
                Ok(())
            })
        }
        outcome => outcome.fmt(f),
    }
}

/// The system's words; but for those that the driver has made itself.
fn in_time(why: &io::Error) -> &dyn fmt::Display {
    match (why.kind(), why.get_ref()) {
        (io::ErrorKind::TimedOut, None) => &"the server did not answer in time",
        (io::ErrorKind::UnexpectedEof, _) => {
            &"the server closed the connection; it may not have TLS on this port, or not take this client's certificate"
        }
        _ => why,
    }
}

fn tls_error(why: &io::Error) -> Option<&rustls::Error> {
    why.get_ref().and_then(|inner| inner.downcast_ref())
}

const NOT_TAKEN: &str =
    "the server does not take the certificate that this client shows, or wants one";

/// Whether the server has said that it does not take this client's certificate, or that it wants one.
fn certificate_is_refused(why: &io::Error) -> bool {
    use AlertDescription as Alert;
    let Some(rustls::Error::AlertReceived(alert)) = tls_error(why) else { return false };
    matches!(
        alert,
        Alert::AccessDenied
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate
    )
}

/// What is wrong with TLS, and what can be done.
fn explain(why: &rustls::Error) -> &dyn fmt::Display {
    let rustls::Error::InvalidCertificate(certificate) = why else {
        return match why {
            rustls::Error::InvalidMessage(_) => {
                &"what the server sent is not TLS: it may begin TLS by STARTTLS on this port, or on another port"
            }
            _ => why,
        };
    };
    match certificate {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            &"the server's certificate has expired: ask its operator to renew it, and see whether the clock of this computer is right"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            &"the server's certificate is not valid yet: see whether the clock of this computer is right"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            &"the server's certificate is for another name: connect by the name that its operator gives for it"
        }
        CertificateError::Revoked => &"the server's certificate has been revoked: ask its operator",
        // The signature is bad where a CA's name is known, and its key is another.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            &"the server's certificate is not signed by a CA that this client trusts: if it is signed by one of your own, or by itself, give that certificate to this client as one to trust"
        }
        CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
            &"the server's certificate is not signed by a CA that this client trusts, or cannot be a server's, as it is marked as a CA's: if you made it yourself (`openssl req -x509` marks it so), give it to this client as one to trust, or make one with `basicConstraints=CA:FALSE`"
        }
        _ => why,
    }
}

impl error::Error for Error {}

impl From<SessionError> for Error {
    fn from(why: SessionError) -> Self {
        Self::new(ErrorKind::Session(why))
    }
}

impl From<ConfigError> for Error {
    fn from(why: ConfigError) -> Self {
        Self::new(ErrorKind::Config(why))
    }
}
