//! The server side of an AUTH exchange.

use alloc::{sync::Arc, vec::Vec};

use super::MAX_LINE;
use crate::{
    base64::{decode, encode},
    command::{self, Auth},
    reply::{Reply, standard},
    sasl::{
        Channel, Failure, Identity, Mechanism, Query, Refusal,
        server::{self as sasl, Challenge, Config},
    },
    secret::SecretBytes,
};

/// The maximum length of the text after `AUTH `, so that the whole line does not exceed [`MAX_LINE`].
const MAX_ARGS: usize = MAX_LINE - "AUTH ".len();

/// What the application must do next, or the result of the exchange.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new step must break the build of an application that ignores it"
)]
pub enum Step<'a> {
    /// Pending: send the buffer, read the client's line, and pass the line to the exchange.
    NeedLine(NeedLine<'a>),
    /// Pending: the application must answer a query about accounts or credentials.
    Query(Query<'a>),
    /// The exchange is over, and its final reply has been appended to the buffer. Every later call to `step` returns
    /// this step again, without appending the reply again.
    Done(Result<&'a Identity, Failure>),
}

/// The handle that takes the client's next line. **The exchange waits until one of the handle's methods is called.**
///
/// The line is always treated as a response, even if it looks like a command.
#[derive(Debug)]
pub struct NeedLine<'a> {
    challenge: &'a mut Challenge,
    written: &'a mut bool,
}

impl NeedLine<'_> {
    /// Passes in the line, without its CRLF.
    ///
    /// The line `*` cancels the exchange. If a line is not valid base64, or is longer than [`MAX_LINE`], the exchange
    /// fails.
    pub fn line(self, line: &[u8]) {
        *self.written = false;
        if line == b"*" {
            self.challenge.cancel();
        } else if line.len() > MAX_LINE {
            self.challenge.too_long();
        } else {
            match decode(line) {
                Some(response) => self.challenge.respond(response),
                None => self.challenge.undecodable(),
            }
        }
    }

    /// Reports that the client's line was too long to be buffered. The exchange fails with [`Failure::TooLong`].
    pub fn too_long(self) {
        *self.written = false;
        self.challenge.too_long();
    }

    /// Reports that the client's line contained a bare CR, a bare LF or a NUL. The exchange fails with
    /// [`Failure::Encoding`].
    pub fn undecodable(self) {
        *self.written = false;
        self.challenge.undecodable();
    }
}

/// The server side of one AUTH command, up to its final reply.
///
/// An exchange does not see the rest of the SMTP dialogue, so your application must do the following:
///
/// - Answer AUTH with `503` if it comes before EHLO, after a successful AUTH, or within a mail transaction (RFC 4954
///   §4). Answer MAIL with `530` if it comes before a successful AUTH.
/// - To slow down brute-force attacks, count the failures for which [`is_attempt`](Failure::is_attempt) returns `true`,
///   and [`pause`](crate::server::pause) before you reply to each of them. After too many of these failures, answer
///   with `421` instead and close the connection.
/// - Forget the authenticated user when TLS begins (RFC 3207 §4.2).
/// - Keep the lines of the exchange out of logs, for instance with a [`Mask`](crate::Mask).
/// - Drop the exchange when the stream ends.
///
/// ```
/// # use std::sync::Arc;
/// # use smtp_auth::{auth::server::{Exchange, Step}, sasl::{Channel, server::Config}};
/// # let config = Config::builder("mail.example.org").mechanisms([smtp_auth::sasl::Mechanism::Login]);
/// # let config = Arc::new(config.build()?);
/// # let lines: [&[u8]; 2] = [b"dGlt", b"dGFuc3RhYWZ0YW5zdGFhZg=="];
/// # let mut lines = lines.into_iter();
/// # let mut read_line = || lines.next().unwrap();
/// let mut out = Vec::new();
/// let mut auth = Exchange::new(&config, &Channel::tls(), b"LOGIN"); // the text after `AUTH `
/// let result = loop {
///     match auth.step(&mut out) {
///         Step::NeedLine(need) => need.line(read_line()), // send `out` before you read
///         Step::Query(query) => query.reject(),           // or `query.answer_with(&users)`
///         Step::Done(result) => break result.cloned(),
///     }
/// };
/// assert!(result.is_err());
/// assert!(out.starts_with(b"334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n535 5.7.8 "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Exchange {
    sasl: sasl::Exchange,
    /// Whether the output of the current step has been written.
    written: bool,
    /// Whether [`report`](Self::report) has returned the failure.
    reported: bool,
}

impl Exchange {
    /// Begins an exchange with the text that follows `AUTH ` in the command, without CRLF.
    ///
    /// This function never fails. If the command is malformed or the mechanism is not allowed (RFC 4954 §4), the first
    /// [`step`](Self::step) returns the failure. If the command is longer than [`MAX_LINE`], the failure is
    /// [`Failure::TooLong`].
    pub fn new(config: &Arc<Config>, channel: &Channel, args: &[u8]) -> Self {
        if args.len() > MAX_ARGS {
            return Self::refused(Failure::TooLong);
        }
        match command::auth_args(args) {
            Ok(auth) => Self::begin(config, channel, auth),
            Err(error) => Self::refused(failure_of(error)),
        }
    }

    fn refused(failure: Failure) -> Self {
        Self::of(sasl::Exchange::refused(failure))
    }

    /// Begins an exchange with the arguments of a command that [`command::parse`] has parsed. This function never
    /// fails. The first [`step`](Self::step) returns any failure, as it does for an exchange created with
    /// [`new`](Self::new).
    pub fn begin(config: &Arc<Config>, channel: &Channel, auth: Auth<'_>) -> Self {
        let sasl = match Self::judge(config, channel, auth) {
            Ok((mechanism, response)) => {
                sasl::Exchange::admitted(config, channel, mechanism, response)
            }
            Err(failure) => sasl::Exchange::refused(failure),
        };
        Self::of(sasl)
    }

    #[inline(always)]
    fn of(sasl: sasl::Exchange) -> Self {
        Self { sasl, written: false, reported: false }
    }

    /// Returns the mechanism and the decoded initial response, if the configuration allows the mechanism.
    fn judge(
        config: &Config,
        channel: &Channel,
        auth: Auth<'_>,
    ) -> Result<(Mechanism, Option<SecretBytes>), Failure> {
        let (name, initial_response) = auth.octets();
        if name.len() + initial_response.map_or(0, |text| " ".len() + text.len()) > MAX_ARGS {
            return Err(Failure::TooLong);
        }
        let mechanism = config.named(name).ok_or(Failure::Unsupported)?;
        config.admit(mechanism, channel)?;
        let response = match initial_response {
            None => None,
            Some(b"=") => Some(Vec::new()),
            Some(text) => Some(decode(text).ok_or(Failure::InitialResponseEncoding)?),
        };
        Ok((mechanism, response.map(SecretBytes::new)))
    }

    /// Returns the reason why the exchange has failed, as soon as the failure is certain.
    ///
    /// If a token is refused, the failure is certain at a [`NeedLine`](Step::NeedLine) step, before
    /// [`Done`](Step::Done). Count the attempt and pause at the `NeedLine` step, before you send the buffer. Do not
    /// count the attempt again at `Done`. [`sasl::server::Exchange::failure`](sasl::Exchange::failure) explains the
    /// reason.
    pub fn failure(&self) -> Option<Failure> {
        self.sasl.failure()
    }

    /// Returns the account name (authcid) that the client claimed in a failed exchange. The name is in folded form, so
    /// that it can be used for rate limiting. Returns `None` if the exchange ended before a name was known. See
    /// [`sasl::server::Exchange::authcid`](sasl::Exchange::authcid).
    pub fn authcid(&self) -> Option<&str> {
        self.sasl.authcid()
    }

    /// Returns the account that the claimed name is an alias for, or `None` if the name is not an alias. See
    /// [`sasl::server::Exchange::account`](sasl::Exchange::account).
    pub fn account(&self) -> Option<&str> {
        self.sasl.account()
    }

    /// Returns the application's own refusal, if this refusal is the reason for the failure ([`Failure::Refused`]). See
    /// [`sasl::server::Exchange::refusal`](sasl::Exchange::refusal).
    pub fn refusal(&self) -> Option<&Refusal> {
        self.sasl.refusal()
    }

    /// Returns the failure once, as soon as it is certain.
    pub(crate) fn report(&mut self) -> Option<Failure> {
        let failure = self.failure().filter(|_| !self.reported);
        self.reported |= failure.is_some();
        failure
    }

    pub(crate) fn is_over(&self) -> bool {
        self.sasl.is_over()
    }

    /// Returns the pending query, if there is one, without advancing the exchange. If the command contains an initial
    /// response, a query may be pending before the first step.
    pub fn query(&mut self) -> Option<Query<'_>> {
        self.sasl.query()
    }

    /// Returns the step that the exchange is waiting for, without writing anything or advancing the exchange. This
    /// method can be called any number of times.
    ///
    /// Returns `None` if [`step`](Self::step) has to be called first, because there is something to write or an answer
    /// to process. Use this method in a server that stores the exchange between two lines and has no output buffer at
    /// that point.
    pub fn pending(&mut self) -> Option<Step<'_>> {
        match self.sasl.pending() {
            sasl::Step::Query(query) => (!query.is_answered()).then_some(Step::Query(query)),
            _ if !self.written => None,
            sasl::Step::Challenge(challenge) => {
                Some(Step::NeedLine(NeedLine { challenge, written: &mut self.written }))
            }
            sasl::Step::Done(outcome) => Some(Step::Done(outcome)),
        }
    }

    /// Advances the exchange and returns the next step. When this method returns a step for the first time, it appends
    /// the step's output to `out`. The output is a `334` challenge or the final reply, including CRLF.
    pub fn step(&mut self, out: &mut Vec<u8>) -> Step<'_> {
        if !self.written {
            self.written = self.write(out);
        }
        match self.sasl.pending() {
            sasl::Step::Query(query) => Step::Query(query),
            sasl::Step::Challenge(challenge) => {
                Step::NeedLine(NeedLine { challenge, written: &mut self.written })
            }
            sasl::Step::Done(outcome) => Step::Done(outcome),
        }
    }

    /// Writes the challenge or the final reply, if there is one. Returns whether it has written something.
    fn write(&mut self, out: &mut Vec<u8>) -> bool {
        match self.sasl.step() {
            sasl::Step::Query(_) => return false,
            sasl::Step::Challenge(challenge) => {
                // RFC 4954 §4 requires the space even before an empty challenge.
                out.extend_from_slice(b"334 ");
                encode(challenge.data(), out);
                out.extend_from_slice(b"\r\n");
            }
            sasl::Step::Done(Ok(_)) => Reply::AUTHENTICATED.write(out),
            sasl::Step::Done(Err(failure)) => match self.sasl.refusal() {
                Some(refusal) => reply_of(refusal).write(out),
                None => reply_to(failure).write(out),
            },
        }
        true
    }
}

/// Returns the reply to a malformed AUTH command.
pub(crate) fn refusal(error: command::Error) -> Reply {
    reply_to(failure_of(error))
}

fn failure_of(error: command::Error) -> Failure {
    match error.in_initial_response() {
        true => Failure::InitialResponseEncoding,
        false => Failure::Syntax,
    }
}

/// Returns the reply for the application's own refusal.
fn reply_of(refusal: &Refusal) -> Reply {
    let reply = Reply::new(
        refusal.code(),
        Some(refusal.enhanced_code()),
        alloc::string::String::from(refusal.text()),
    );
    // This does not fail: `Refusal` accepts only codes and texts that `Reply` accepts.
    reply.unwrap_or(Reply::LOCAL_ERROR)
}

/// Returns the SMTP reply for a failure (RFC 4954 §4 and §6). The reply contains an enhanced status code from the
/// registry that RFC 5248 defines.
///
/// For [`Failure::Refused`], the reply contains the default text for this kind of refusal. An [`Exchange`] sends the
/// application's own text instead.
pub fn reply_to(failure: Failure) -> Reply {
    match failure {
        Failure::Syntax => standard!("501 5.5.4 Syntax: AUTH mechanism [initial-response]"),
        Failure::Unsupported => standard!("504 5.5.4 This mechanism is not offered here"),
        Failure::NeedsTls => standard!("538 5.7.11 Encryption is required: use TLS first"),
        Failure::UnexpectedInitialResponse => {
            standard!("501 5.7.0 This mechanism takes no initial response")
        }
        Failure::InitialResponseEncoding => {
            standard!("501 5.5.2 The initial response is not valid base64")
        }
        Failure::Cancelled => standard!("501 5.7.0 Authentication cancelled"),
        Failure::Encoding => standard!("501 5.5.2 The response is not valid base64"),
        Failure::TooLong => standard!("500 5.5.6 The response is too long"),
        Failure::Malformed(what) => standard!("535 5.7.8 Malformed credentials")
            .with_text(alloc::format!("Malformed credentials: {what}")),
        // All of these have the same text, which prevents user enumeration and does not reveal a correct password.
        Failure::Rejected | Failure::Locked | Failure::NoSecret | Failure::NotAuthorized => {
            standard!("535 5.7.8 The user name, password, token or certificate is wrong")
        }
        Failure::Downgrade | Failure::ChannelBinding => {
            standard!("535 5.7.8 The channel binding does not match this connection")
        }
        Failure::TempFail | Failure::NotImplemented(_) => {
            standard!("454 4.7.0 Cannot check credentials now, try again later")
        }
        Failure::Refused(kind) => reply_of(&kind.into()),
        Failure::TransitionNeeded => {
            standard!("432 4.7.12 A transition is needed: sign in with another mechanism first")
        }
        Failure::TooWeak => {
            standard!("534 5.7.9 This mechanism is too weak for the account, use another")
        }
    }
}
