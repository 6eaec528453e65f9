//! Dovecot's authentication protocol (version 1), which Postfix, Exim and other mail servers use to let a separate process
//! authenticate their users.
//!
//! With this module, you can write a service that authenticates the users of an existing mail server. Postfix is
//! configured with `smtpd_sasl_type = dovecot`, and Exim with an authenticator that has `driver = dovecot`. The package
//! `smtp-authd` is a complete service that is built on this module. In this module, a *client* is a mail server, and a
//! *user* is a client of that mail server.
//!
//! A [`Session`] is the service's side of one connection from a client. It does no I/O, and is used like
//! [`server::Session`](crate::server::Session), except that several exchanges can be open on the connection at once:
//!
//! | event | kind |
//! | --- | --- |
//! | [`NeedInput`](Event::NeedInput), [`Close`](Event::Close) | *Pending*. Send the appended octets. After `NeedInput`, read from the connection. After `Close`, close it. |
//! | [`Query`](Event::Query) | *Pending*. The exchange that made the query waits for the answer, and the other exchanges continue. The session returns the event only once. Answer the query immediately, or pass the answer to [`Session::answer_from`] later. |
//! | [`Authenticated`](Event::Authenticated) | A *notification*. The session has appended the answer to the output. |
//! | [`AuthFailed`](Event::AuthFailed) | A *notification*. The session appends the answer to the output when you call [`next`](Session::next) again, unless the application [holds it back](AuthFailed::hold). |
//!
//! Each exchange that has begun ends with one `Authenticated` or one `AuthFailed` event, unless the connection ends first. A
//! malformed request does not begin an exchange.
//!
//! The following service uses one thread for each connection, and answers each query immediately:
//!
#![cfg_attr(all(feature = "getrandom", feature = "plain"), doc = "```")]
#![cfg_attr(not(all(feature = "getrandom", feature = "plain")), doc = "```ignore")]
//! use std::{io::{self, Read, Write}, process, sync::Arc};
//! use smtp_auth::{Authenticator, dovecot::{Cookie, Event, Session}, sasl::server::Config};
//!
//! /// Serves one connection of the socket. `cuid` is a number that no other connection has.
//! fn serve(
//!     socket: &mut (impl Read + Write), config: Arc<Config>, users: &impl Authenticator, cuid: u32,
//! ) -> io::Result<()> {
//!     let cookie = Cookie::random().map_err(io::Error::other)?;
//!     let mut session = Session::new(config, process::id(), cuid, cookie); // one configuration for all
//!     let mut out = Vec::new();
//!     loop {
//!         match session.next(&mut out) {
//!             Event::NeedInput => {
//!                 socket.write_all(&out)?;
//!                 out.clear();
//!                 if session.receive_with(4096, |room| socket.read(room))? == 0 {
//!                     return Ok(());
//!                 }
//!             }
//!             Event::Query(_, query) => query.answer_with(users),
//!             Event::Authenticated(request, who) => {
//!                 println!("{}: {} from {:?}", request.service(), who.authcid(), request.rip());
//!             }
//!             Event::AuthFailed(failed) => println!("{:?}: {failed}", failed.request.rip()),
//!             Event::Close(why) => {
//!                 socket.write_all(&out)?;
//!                 return Err(io::Error::other(why));
//!             }
//!         }
//!     }
//! }
//! # use smtp_auth::{Answer, CheckPassword, Mechanism};
//! # struct Tim;
//! # impl Authenticator for Tim {
//! #     fn mechanisms(&self) -> &[Mechanism] {
//! #         &[Mechanism::Plain]
//! #     }
//! #     fn check_password(&self, ask: &CheckPassword) -> Answer {
//! #         (ask.password() == "tanstaaftanstaaf").into()
//! #     }
//! # }
//! # struct Socket(&'static [u8], Vec<u8>);
//! # impl Read for Socket {
//! #     fn read(&mut self, to: &mut [u8]) -> io::Result<usize> { self.0.read(to) }
//! # }
//! # impl Write for Socket {
//! #     fn write(&mut self, said: &[u8]) -> io::Result<usize> { self.1.write(said) }
//! #     fn flush(&mut self) -> io::Result<()> { Ok(()) }
//! # }
//! # let said = b"VERSION\t1\t0\nCPID\t7\nAUTH\t1\tPLAIN\tservice=smtp\trip=192.0.2.1\tsecured\tresp=AHRpbQB0YW5zdGFhZnRhbnN0YWFm\n\
//! #     AUTH\t2\tPLAIN\tservice=smtp\trip=192.0.2.1\tsecured\tresp=AHRpbQBwZW5jaWw=\n";
//! # let (mut socket, config) = (Socket(said, Vec::new()), Config::builder("mail.example.org").answered_by(&Tim).build()?);
//! # serve(&mut socket, Arc::new(config), &Tim, 1)?;
//! # let out = String::from_utf8(socket.1)?;
//! # assert!(out.starts_with("VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t"), "{out}");
//! # assert!(out.ends_with("\nDONE\nOK\t1\tuser=tim\nFAIL\t2\treason=The user name, password or token is wrong\n"), "{out}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Mechanisms
//!
//! A session offers the mechanisms of its [`Config`](crate::sasl::server::Config), with these exceptions:
//!
//! - EXTERNAL is not offered, because any local process could claim to have verified a certificate for any name.
//! - The -PLUS mechanisms are not offered, because any local process could send any channel binding data.
//! - Custom mechanisms are not offered, because their [`Properties`] are unknown.
//!
//! Mechanisms that require TLS are offered to every client, but a user can use them only if the mail server
//! reports that the user's connection is [secured](Request::is_secured).
//!
//! # Answers
//!
//! | result of the exchange | answer to the client |
//! | --- | --- |
//! | authentication succeeded | an `OK` line with an account name ([`Identity::acts_as`]): the authzid if there is one, and otherwise the name of the user's own account |
//! | the credentials are wrong, the account is locked, the account has no secret for the mechanism, or the authzid is not allowed | `FAIL` without a code, and always with the same reason, so that an attacker cannot tell these cases apart |
//! | a temporary failure | `FAIL` with `code=temp_fail`. If the client uses version 1.0 of the protocol, the session closes the connection instead, unless it is still working on another exchange. Such a client treats every `FAIL` as final. A client that uses version 1.0 of the protocol regards a failure as temporary only if the session closes the connection. |
//! | a [`Refusal`](crate::sasl::Refusal) | `FAIL` with the text of the refusal, and with `code=user_disabled`, `pass_expired` or `authz_fail` |
//! | any other failure, or a malformed request | `FAIL` with a reason |
//! | the client cancelled the exchange | none |
//!
//! Users can see the reason, because Postfix adds it to its `535` reply. The reason never contains anything that the
//! client sent.
//!
//! The session closes the connection if it cannot read an exchange number from a malformed line. It also closes the
//! connection if a request uses the number of an exchange that is still open.
//!
//! # Limits
//!
//! The constants of this module limit the length of a line and the amount of data that a session stores. A session
//! uses most of its memory for open exchanges, of which there are at most [`MAX_EXCHANGES`]. An open exchange can use
//! about three times as much memory as its longest response, up to about 36 KiB. You can lower this limit with
//! [`max_response`](crate::sasl::server::Builder::max_response).
//!
//! # Time limits
//!
//! A session has no clock. Postfix closes the connection if it waits more than ten seconds for a line of an answer.
//! Therefore, the account lookup and the [delay](AuthFailed::hold) before the answer to a failed authentication should
//! together take less than ten seconds.
//!
//! Do not close idle connections. Postfix keeps its connections for days, and most of the time no exchange is in
//! progress. An idle session uses almost no memory.

use core::fmt;

use crate::sasl::{Failure, Identity, Mechanism, Query, server::Exchange};

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

/// The maximum length of a client's line, in octets without its LF. If a line is longer, the session closes the connection.
pub const MAX_LINE: usize = 16_384;

/// The maximum number of exchanges that can be open at once on a connection.
///
/// If the client begins another exchange, the session ends the oldest exchange that is waiting for the client, and
/// sends `FAIL` for it. This is necessary because Postfix does not cancel an exchange when the user disconnects. If
/// none of the open exchanges is waiting for the client, the session keeps them all, and answers the new request with a
/// temporary failure.
pub const MAX_EXCHANGES: usize = 100;

/// The maximum number of parameters in a request, not counting the initial response. A request with more parameters is
/// answered with `FAIL`.
pub const MAX_PARAMETERS: usize = 64;

/// The maximum length of a text parameter in a request, in octets. A request with a longer text parameter is answered
/// with `FAIL`.
pub const MAX_TEXT: usize = 256;

/// Something that the application must do, or something that has happened. The [module's documentation](self) lists the
/// events.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new event must break the build of an application that ignores it"
)]
pub enum Event<'a> {
    /// Pending: send the appended octets to the client. Then read from the client, and call
    /// [`receive`](Session::receive).
    NeedInput,
    /// Pending: answer the query about a user's credentials, immediately or later. **The session returns the event only
    /// once for each query.** The session can then return the events of other exchanges, even before the query is
    /// answered. [`Session::answer_from`] shows how to answer a query later.
    Query(&'a Request, Query<'a>),
    /// Notification: a user has authenticated. The session has appended the answer to the output.
    Authenticated(&'a Request, &'a Identity),
    /// Notification: a user has failed to authenticate. The next call to [`advance`](Session::advance) appends the
    /// answer to the output, unless the client has [cancelled](Failure::Cancelled) the exchange. If a token was
    /// refused, the session first sends the error as a challenge. The client's response to this challenge has no
    /// effect.
    AuthFailed(AuthFailed<'a>),
    /// Pending: send the appended octets to the client, and close the connection. All exchanges have ended, and from
    /// now on, the session returns only this event.
    Close(CloseReason),
}

/// A failed exchange. `Display` writes the reason in a form that is suitable for logs.
#[derive(Debug)]
#[non_exhaustive]
pub struct AuthFailed<'a> {
    /// The reason for the failure.
    pub why: Failure,
    /// The client's request.
    pub request: &'a Request,
    mechanism: Option<Mechanism>,
    exchange: &'a Exchange,
    number: u64,
    held: &'a mut bool,
}

impl<'a> AuthFailed<'a> {
    /// Returns the mechanism, or `None` if the client named one that the session does not offer.
    pub fn mechanism(&self) -> Option<Mechanism> {
        self.mechanism
    }

    /// Returns the account name that the user claims, in its [folded](crate::sasl::server::Builder::fold_names) form. Use
    /// the name for rate limiting, whether or not the account exists. Returns `None` in the same cases as
    /// [`Exchange::authcid`].
    ///
    /// Avoid logging the name, because some people type their password in its place.
    pub fn authcid(&self) -> Option<&'a str> {
        self.exchange.authcid()
    }

    /// If the name is an alias, returns the account that it belongs to, as [`Exchange::account`] does. Rate limiting should
    /// also count failures by this account.
    pub fn account(&self) -> Option<&'a str> {
        self.exchange.account()
    }

    /// Delays the answer to the client until the application [releases](Session::release) it. A delay slows down
    /// brute-force attacks, and does not affect other exchanges. Delays of two seconds are common. Postfix closes the
    /// connection after ten seconds.
    ///
    /// Until the answer is released, the exchange counts as open. If you do not call this method, the next call to
    /// [`advance`](Session::advance) appends the answer.
    pub fn hold(self) -> Held {
        *self.held = true;
        Held(self.number)
    }
}

/// Writes the reason in a form that is suitable for logs.
impl fmt::Display for AuthFailed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

/// A handle for an answer that is [delayed](AuthFailed::hold). [`Session::release`] takes the handle, and ends the
/// delay.
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "the client waits until the answer is released"]
pub struct Held(u64);

/// The reason why a session closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// A temporary failure: the credentials cannot be checked at the moment. If the client uses version 1.0 of the
    /// protocol, the session can report this only by closing the connection.
    #[error(
        "the credentials could not be checked at the moment, and a client that uses version 1.0 of the protocol recognizes this only by a closed connection"
    )]
    TempFail,
    /// The client uses a major version of the protocol other than 1.
    #[error("the client uses version {0} of the protocol instead of version 1")]
    Version(u32),
    /// The client did not begin with the lines `VERSION` and `CPID` in this order, or it sent one of them twice.
    #[error("the client did not begin with VERSION and CPID, or sent one of them twice")]
    Handshake,
    /// The client sent a malformed line, and the session could not read an exchange number from it.
    #[error("the client sent a malformed line: {0}")]
    Malformed(LineError),
    /// The client sent a line that is longer than [`MAX_LINE`].
    #[error("the client sent a line that is longer than {MAX_LINE} octets")]
    TooLong,
    /// The client used the number of an open exchange for a new exchange.
    #[error("the client used the number of an open exchange for a new exchange")]
    RepeatedId,
}
