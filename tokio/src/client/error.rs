//! The client's errors, as sentences for people and as types for programs.

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

/// The reason why a connection could not be opened, or why a message was not accepted.
///
/// `Display` writes a sentence that the application can show to the sender of the message. The sentence quotes the
/// server's reply, suggests what to do, and contains no secrets. Instead of parsing the sentence, an application should
/// use these methods, as in [this example](super#what-to-do-after-an-error):
///
/// | method | returns |
/// | --- | --- |
/// | [`delivery`](Self::delivery) | what is known about the delivery of the message |
/// | [`is_transient`](Self::is_transient) | whether another attempt may succeed later |
/// | [`kind`](Self::kind) | what went wrong |
/// | [`stage`](Self::stage) | the stage of the dialogue |
/// | [`reply`](Self::reply) | the server's reply, if a reply caused the error |
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// Whether the end of the message had been sent.
    ended: bool,
}

/// The kind of an [`Error`], as returned by [`Error::kind`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client could not connect to the server, because the server's name has no address, or because none of its
    /// addresses answers.
    #[non_exhaustive]
    Unreachable {
        /// The name of the server.
        host: Box<str>,
        /// The port of the server.
        port: u16,
        /// The cause, which is usually an operating system error.
        why: io::Error,
    },
    /// The TLS handshake failed, most often because of the server's certificate.
    #[non_exhaustive]
    Tls {
        /// The name of the server.
        host: Box<str>,
        /// The cause. If the error comes from rustls, `why.get_ref()?.downcast_ref::<rustls::Error>()` returns the
        /// [`rustls::Error`].
        why: io::Error,
    },
    /// The client has credentials, but the server's certificate was not [verified](smtp_auth::Channel::verified) in the
    /// TLS handshake. The client has sent nothing over TLS.
    #[non_exhaustive]
    Unverified {
        /// The name of the server.
        host: Box<str>,
    },
    /// The connection broke at this [`Stage`] of the dialogue, with this [`io::Error`].
    Broken(Stage, io::Error),
    /// The session has ended with a [`SessionError`](super::SessionError). For example, the server refused to continue,
    /// violated the protocol or did not reply in time, or authentication failed ([`AuthError`](super::AuthError)).
    Session(SessionError),
    /// The message was not accepted for any recipient. The [`Outcome`](super::Outcome) contains the reason, which is
    /// either the server's [`Refusal`](super::Refusal) or a [`NotSent`](super::NotSent). The connection can be used
    /// again, unless the server has closed it.
    NotAccepted(Outcome),
    /// Reading the message from the caller's reader failed with this [`io::Error`]. The client has not sent the whole
    /// message, so the server has not accepted the message.
    Read(io::Error),
    /// The connection is unusable, because an earlier call failed or its future was dropped before it completed.
    Unusable,
    /// The configuration is invalid. The [`ConfigError`](super::ConfigError) contains the reason.
    Config(ConfigError),
    /// The message was not sent, because no connection of the [`Pool`](super::Pool) became free within this time.
    NoFreeConnection(Duration),
    /// The message was not sent, because the [`Pool`](super::Pool) has been [closed](super::Pool::close).
    PoolClosed,
}

/// What is known about the delivery of a message after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to know")]
pub enum Delivery {
    /// The server has neither accepted nor refused the message. The message can safely be sent again.
    NotSent,
    /// The server has refused the message with a reply. Send the message again only if the refusal is
    /// [transient](Error::is_transient).
    Refused,
    /// The whole message was sent, but no valid reply arrived. The server may or may not have accepted it. If you send
    /// the message again, it may arrive twice.
    Unknown,
}

impl Error {
    pub(super) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { kind, ended: false }))
    }

    /// Records whether the end of the message had been sent.
    pub(super) fn after_end(mut self, ended: bool) -> Self {
        self.0.ended = ended;
        self
    }

    /// Returns the kind of the error, with its cause.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Returns what is known about the message, or [`Delivery::NotSent`] if no message was being sent.
    pub fn delivery(&self) -> Delivery {
        match self.refusal() {
            // A reply that closes the connection, such as 421, does not judge the message.
            Some(refusal) if refusal.closes() => Delivery::NotSent,
            Some(refusal) => match refusal.stage() {
                Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Message => Delivery::Refused,
                _ => Delivery::NotSent,
            },
            None if self.0.ended => Delivery::Unknown,
            None => Delivery::NotSent,
        }
    }

    /// Returns the stage of the dialogue at which the error happened.
    ///
    /// | error | stage |
    /// | --- | --- |
    /// | TLS could not be started, or the server's certificate was not verified. This includes implicit TLS, which begins before the greeting. | [`Stage::StartTls`] |
    /// | No dialogue was in progress. This is the case for [`Unreachable`](ErrorKind::Unreachable), [`Unusable`](ErrorKind::Unusable), [`Config`](ErrorKind::Config), [`NoFreeConnection`](ErrorKind::NoFreeConnection) and [`PoolClosed`](ErrorKind::PoolClosed). | `None` |
    /// | Any other error occurred. | the stage that the dialogue had reached |
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

    /// Returns the server's reply that caused the error, or `None` if the error was not caused by a reply.
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

    /// Returns the server's error message for a token that it refused. The message is unparsed JSON (RFC 7628 §3.2.2).
    /// The message may repeat the token, so it is returned as a [`Secret`] and is never part of the `Display` output.
    /// Replace its control characters before you write it to a terminal.
    pub fn token_error(&self) -> Option<&Secret> {
        match &self.0.kind {
            ErrorKind::Session(SessionError::NotAuthenticated(AuthError::TokenRefused {
                token_error,
                ..
            })) => token_error.as_ref(),
            _ => None,
        }
    }

    /// Returns whether another attempt may succeed later. The first row that applies determines the result:
    ///
    /// | error | result |
    /// | --- | --- |
    /// | The [delivery](Self::delivery) is unknown. If the message is sent again, it may arrive twice. | `false` |
    /// | The certificate of the server or of the client was not accepted. | `false` |
    /// | The client had cancelled authentication, the server had refused the token, or the client was waiting for the server's SCRAM proof, and the server closed the connection without a reply to that. | `false` |
    /// | The server closed the connection or the connection broke. This also applies during the TLS handshake. | `true` |
    /// | The server sent an unexpected reply, or something that is not SMTP. | `false` |
    /// | The server refused with a `4xx` reply at any stage. | `true` |
    /// | The server refused with a `5xx` reply. | `false` |
    /// | A timeout occurred while connecting, during the TLS handshake, while waiting for a reply, or while sending part of a message. | `true` |
    /// | The client could not connect, because the server's name has no address in the DNS, or because none of its addresses answers. | `true` |
    /// | TLS failed in any other way, or the server does not offer TLS. | `false` |
    /// | The error is [`ErrorKind::NoFreeConnection`] or [`ErrorKind::Unusable`]. | `true` |
    /// | The server's [limit](Limit) on messages or domains per connection was reached. | `true` |
    /// | Any other error occurred. For example, no mechanism is supported by both sides, the message is too large, or the pool was [closed](ErrorKind::PoolClosed). | `false` |
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

    /// Returns the server's refusal, if the error is one.
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

    /// Returns whether the same message can be sent over another connection. This is the case if a reused connection
    /// was closed in the meantime, or has reached a limit of the server.
    pub(super) fn wants_another_connection(&self) -> bool {
        match &self.0.kind {
            ErrorKind::Session(SessionError::Closed(_)) => true,
            ErrorKind::NotAccepted(Outcome::NotSent { why, .. }) => is_over_connection(why),
            _ => false,
        }
    }

    /// Returns whether authentication failed, on either side.
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

/// Returns whether the limit applies only to one connection.
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

/// Writes the same sentence as `Display`, followed by the error's fields. If `main` returns an error, Rust prints it in
/// this form.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.0.kind)
    }
}

/// Writes an error after which the delivery is unknown, without the advice to try again.
fn unknown(why: &ErrorKind, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match why {
        ErrorKind::Broken(_, why) => write!(f, "the connection broke ({why})"),
        ErrorKind::Session(SessionError::Disconnected(_)) => {
            f.write_str("the connection was closed")
        }
        ErrorKind::Session(SessionError::TimedOut { .. }) => {
            f.write_str("the server did not answer in time")
        }
        other => write!(f, "{other}; this happened"),
    }?;
    f.write_str(
        " after the whole message had been sent: the server may have accepted it, so check before you send it again",
    )
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { host, port, why } => {
                write!(f, "cannot connect to {host}, port {port}: {}", in_time(why))?;
                f.write_str("; check the name, the port and the network, or try again later")
            }
            Self::Tls { host, why } => match tls_error(why) {
                _ if certificate_is_refused(why) => {
                    write!(f, "the TLS handshake with {host} failed: {CERTIFICATE_REFUSED}")
                }
                Some(why) => write!(f, "the TLS handshake with {host} failed: {}", explain(why)),
                None => write!(f, "the TLS handshake with {host} failed: {}", in_time(why)),
            },
            Self::Unverified { host } => write!(
                f,
                "the certificate of {host} was not verified, so no credentials were sent: trust it (`tls::client`), or \
                 connect without credentials; a custom `TlsConnect` that verifies it must mark the channel with `Channel::verified`"
            ),
            // In TLS 1.3 the server checks the client's certificate after the client has completed the handshake.
            Self::Broken(_, why) if certificate_is_refused(why) => {
                write!(f, "the connection broke: {CERTIFICATE_REFUSED}")
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
                write!(f, "{why}; no part of a message was sent, so open another connection for it")
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
                "this connection can no longer be used, because an earlier call failed or was cancelled: open another one",
            ),
            Self::Config(why) => why.fmt(f),
            Self::NoFreeConnection(limit) => write!(
                f,
                "all connections to the server were in use for {} seconds: try again later, or allow more connections",
                limit.as_secs_f32()
            ),
            Self::PoolClosed => {
                f.write_str("the connection pool has been closed and sends no more messages")
            }
        }
    }
}

fn not_accepted(outcome: &Outcome, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let recipients = outcome.recipients();
    let refused = || recipients.iter().filter(|recipient| recipient.refusal().is_some());
    match outcome {
        // Usually each recipient was refused with its own reply.
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

/// Returns the system's error text, or a clearer one for errors that the driver itself created.
fn in_time(why: &io::Error) -> &dyn fmt::Display {
    match (why.kind(), why.get_ref()) {
        (io::ErrorKind::TimedOut, None) => &"the server did not answer in time",
        (io::ErrorKind::UnexpectedEof, _) => {
            &"the server closed the connection; it may not offer TLS on this port, or may have refused this client's certificate"
        }
        _ => why,
    }
}

fn tls_error(why: &io::Error) -> Option<&rustls::Error> {
    why.get_ref().and_then(|inner| inner.downcast_ref())
}

const CERTIFICATE_REFUSED: &str =
    "the server refused this client's certificate, or requires one and was sent none";

/// Returns whether the server reported that it refuses the client's certificate, or that it requires one.
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

/// Returns text that explains the TLS error and what can be done about it.
fn explain(why: &rustls::Error) -> &dyn fmt::Display {
    let rustls::Error::InvalidCertificate(certificate) = why else {
        return match why {
            rustls::Error::InvalidMessage(_) => {
                &"the server did not answer in TLS: it may expect STARTTLS on this port, or offer TLS on another port"
            }
            _ => why,
        };
    };
    match certificate {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            &"the server's certificate has expired: ask its operator to renew it, and check the clock of this computer"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            &"the server's certificate is not valid yet: check the clock of this computer"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            &"the server's certificate is for another name: connect with the name that the server's operator gives"
        }
        CertificateError::Revoked => {
            &"the server's certificate has been revoked: ask the server's operator"
        }
        // The signature is bad if a trusted CA has the same name but another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            &"the server's certificate is not signed by a CA that this client trusts: if it is self-signed, or signed by your own CA, add that certificate to those that this client trusts"
        }
        CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
            &"the server's certificate is not signed by a CA that this client trusts, or cannot be used by a server because it is marked as a CA certificate: if you made it yourself (`openssl req -x509` marks certificates in this way), add it to the certificates that this client trusts, or make one with `basicConstraints=CA:FALSE`"
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
