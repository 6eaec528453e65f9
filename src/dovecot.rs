//! Dovecot's authentication protocol (version 1), by which Postfix, Exim and other servers ask a separate process to
//! authenticate their clients.
//!
//! With it, a mail server that is already there authenticates against this crate. In Postfix, it is
//! `smtpd_sasl_type = dovecot`; in Exim, an authenticator with `driver = dovecot`. In this module, the *client* is such a
//! mail server, and its own clients are *users*.
//!
//! A [`Session`] is one connection of a client, on the side of the process that it asks. It does no I/O, and works like
//! [`server::Session`](crate::server::Session). The difference is that a connection may have several exchanges at once:
//!
//! | event | kind |
//! | --- | --- |
//! | [`NeedInput`](Event::NeedInput), [`Close`](Event::Close) | *Pending*: send what was appended, then read, or close. |
//! | [`Query`](Event::Query) | *Pending* for its exchange alone, and returned once. Answer it at once, or pass the answer to [`Session::settle`] later. |
//! | [`Authenticated`](Event::Authenticated) | A *notification*. The answer to the client has been appended. |
//! | [`AuthFailed`](Event::AuthFailed) | A *notification*. The following call of [`next`](Session::next) appends the answer to the client, unless it is [held back](AuthFailed::hold). |
//!
//! Each exchange that began ends with one `Authenticated` or one `AuthFailed`, unless the connection ends first. A request
//! that cannot be read begins none.
//!
//! This service answers each query at once. It runs in one thread for each connection:
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
//! A session offers the mechanisms of its [`Config`](crate::sasl::server::Config), except EXTERNAL and the -PLUS
//! mechanisms: any local process could claim the name in a certificate, or the data of a TLS connection. It does not
//! offer custom mechanisms either, because their [`Properties`] are unknown. Mechanisms that need TLS are offered, and
//! may be used in requests that are [secured](Request::is_secured).
//!
//! # Answers
//!
//! | the exchange | the client gets |
//! | --- | --- |
//! | has succeeded | `OK` with the account that the user [acts as](Identity::acts_as) |
//! | has failed by wrong credentials, a locked account, a missing secret, or an authzid that is not allowed | `FAIL`, always with the same reason and without a code, so that an attacker learns nothing |
//! | has failed by a temporary failure | `FAIL` with `code=temp_fail`. A client of version 1.0 takes each `FAIL` for final, and only a lost connection for a temporary failure. So the session closes the connection of such a client, unless another exchange waits for an answer. |
//! | has ended in a [`Refusal`](crate::sasl::Refusal) | `FAIL` with the refusal's text, and `code=user_disabled`, `pass_expired` or `authz_fail` |
//! | has failed for another reason, or its request cannot be read | `FAIL` with a reason |
//! | was cancelled by the client | nothing |
//!
//! A reason is what people read: Postfix puts it after `535`. It repeats nothing that a client sent. If a line cannot be
//! read and does not name its exchange, or begins an exchange with the number of an open one, the session closes the
//! connection.
//!
//! # Limits
//!
//! The constants of this module bound the length of a line and what a session keeps. The responses of open exchanges
//! take up most of the memory, at most [`MAX_EXCHANGES`] times 12 KiB.
//! [`max_response`](crate::sasl::server::Builder::max_response) lowers that.
//!
//! # Time limits
//!
//! The session has no clock. Postfix waits at most ten seconds for each line of an answer, and then drops the connection.
//! So a lookup and the time for which a failure is [held back](AuthFailed::hold) should stay below that together.
//!
//! Postfix keeps connections open for days, and has no exchange on them most of the time. So do not close an idle
//! connection. An idle session holds almost no memory.

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
    /// Pending: send what was appended, read from the client, and call [`receive`](Session::receive).
    NeedInput,
    /// Pending: answer the query about a user's credentials, now or later. **The event comes once for each query**, so
    /// that a slow answer does not hold up the other exchanges. [`Session::settle`] shows how to answer later.
    Query(&'a Request, Query<'a>),
    /// Notification: a user has authenticated. The answer to the client has been appended.
    Authenticated(&'a Request, &'a Identity),
    /// Notification: a user has failed to authenticate. The following [`advance`](Session::advance) appends the answer
    /// to the client, if it has not [cancelled](Failure::Cancelled) the exchange. If the reason is a refused token, the
    /// answer is a challenge at first, and the client's response to that changes nothing.
    AuthFailed(AuthFailed<'a>),
    /// Pending: send what was appended, and close the connection. All exchanges have ended, and no other event follows.
    Close(CloseReason),
}

/// A failed exchange. `Display` gives the reason, for a log.
#[derive(Debug)]
#[non_exhaustive]
pub struct AuthFailed<'a> {
    /// The reason.
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

    /// Returns the account name that the user claims, [folded](crate::sasl::server::Builder::fold_names). Use it for rate
    /// limiting, whether the account exists or not. It is `None` in the cases of [`Exchange::authcid`].
    ///
    /// Think twice before you log the name: some people type their password in its place.
    pub fn authcid(&self) -> Option<&'a str> {
        self.exchange.authcid()
    }

    /// Returns the account of which that name is an alias, as [`Exchange::account`] does. Rate limiting should count this
    /// account as well.
    pub fn account(&self) -> Option<&'a str> {
        self.exchange.account()
    }

    /// Holds back the answer to the client, until it is [released](Session::release). This slows down brute force, and
    /// delays no other exchange. Two seconds are usual. After ten, Postfix drops the connection.
    ///
    /// The exchange counts as open until then. Without a call of this method, the next [`advance`](Session::advance)
    /// appends the answer.
    pub fn hold(self) -> Held {
        *self.held = true;
        Held(self.number)
    }
}

/// Gives the reason, for a log.
impl fmt::Display for AuthFailed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
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
    /// Credentials could not be checked at the moment. To a client of version 1.0, a closed connection is the only sign of
    /// that.
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
