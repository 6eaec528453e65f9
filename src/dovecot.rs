//! Dovecot's authentication protocol, by which Postfix, Exim and others ask a separate process to authenticate their
//! clients: the side of that process, and the lines of both sides.

use crate::sasl::{Failure, Identity, Query, server::Exchange};

mod data;
mod fail;
mod fields;
mod lines;
mod properties;
mod request;
mod session;
mod trace;

pub use data::{Cookie, Data};
pub use lines::{ClientLine, FailCode, LineError, ServerLine};
pub use properties::Properties;
pub use request::Request;
pub use session::Session;

/// The longest line of a client, in octets without its LF. After a longer one, the session closes the connection.
pub const MAX_LINE: usize = 16_384;

/// The most exchanges that may be open at once on a connection.
///
/// When a client begins another one, the oldest exchange that waits for the client is dropped, and its `FAIL` is sent:
/// Postfix does not cancel the exchanges of clients that hang up. If no exchange waits for the client, the new one is
/// answered with a temporary failure.
pub const MAX_EXCHANGES: usize = 100;

/// The most parameters of a request before its initial response. A request with more is answered with `FAIL`.
pub const MAX_PARAMETERS: usize = 64;

/// The longest text of a request's parameter, in octets. A request with a longer one is answered with `FAIL`.
pub const MAX_TEXT: usize = 256;

/// What the session needs from the application, or what has happened.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new event must break the build of an application that ignores it"
)]
pub enum Event<'a> {
    /// Send what was appended, read from the client, and call [`receive`](Session::receive).
    NeedInput,
    /// Answer the query about the credentials of an exchange, now or later. **The event comes once for each query**, so
    /// that a slow answer does not hold up the other exchanges. To answer later, copy the question with
    /// [`Query::job`], and pass the answered copy to [`Session::settle`].
    Query(&'a Request, Query<'a>),
    /// Notification: an exchange has succeeded, and the client is told.
    Authenticated(&'a Request, &'a Identity),
    /// Notification: an exchange has failed, and the client is about to be told. If the client has cancelled the
    /// exchange, it is not told.
    AuthFailed(AuthFailed<'a>),
    /// Send what was appended, and close the connection. The open exchanges have ended, and no other event follows.
    Close(CloseReason),
}

/// A failed exchange. `Display` of [`why`](Self::why) gives the reason, for a log.
#[derive(Debug)]
#[non_exhaustive]
pub struct AuthFailed<'a> {
    /// The reason.
    pub why: Failure,
    /// The client's request.
    pub request: &'a Request,
    exchange: &'a Exchange,
    number: u64,
    held: &'a mut bool,
}

impl<'a> AuthFailed<'a> {
    /// Returns the account name that the client claims, [folded](crate::sasl::server::Builder::fold_names). It is `None`
    /// in the cases of [`Exchange::authcid`].
    pub fn authcid(&self) -> Option<&'a str> {
        self.exchange.authcid()
    }

    /// Returns the account of which that name is an alias, as [`Exchange::account`] does.
    pub fn account(&self) -> Option<&'a str> {
        self.exchange.account()
    }

    /// Holds the answer to the client back, until it is [released](Session::release). This slows down brute force, and
    /// delays no other exchange.
    ///
    /// Without a call of this method, the answer is sent at once.
    pub fn hold(self) -> Held {
        *self.held = true;
        Held(self.number)
    }
}

/// The right to release an answer that is [held back](AuthFailed::hold).
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "the client waits for the answer"]
pub struct Held(u64);

/// The reason why a session closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// Credentials could not be checked at the moment. To a client of version 1.0 without other open exchanges, a closed
    /// connection is the only sign of that.
    #[error(
        "the credentials could not be checked at the moment, which a client of version 1.0 learns from a closed connection"
    )]
    TempFail,
    /// The client speaks another major version of the protocol.
    #[error("the client speaks version {0} of the protocol, and not version 1")]
    Version(u32),
    /// The client's lines `VERSION` and `CPID` do not come first, in this order, and once.
    #[error("the client's handshake is not VERSION and CPID, once and before everything else")]
    Handshake,
    /// A line is malformed, and it is unknown to which exchange it belongs.
    #[error("the client sent a malformed line: {0}")]
    Malformed(LineError),
    /// A line is longer than [`MAX_LINE`].
    #[error("the client sent a line that is longer than {MAX_LINE} octets")]
    TooLong,
    /// The client began an exchange with the number of an open one.
    #[error("the client began an exchange with the number of another that is still open")]
    RepeatedId,
}
