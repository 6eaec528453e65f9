//! The server's side of an AUTH exchange.

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

/// How long the text after the verb may be, so that its line is no longer than any other.
const MAX_ARGS: usize = MAX_LINE - "AUTH ".len();

/// What the exchange needs now.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new obligation must break the build of a host that ignores it"
)]
pub enum Step<'a> {
    /// Write out what was appended, read a line, and hand it in.
    NeedLine(NeedLine<'a>),
    /// Answer this.
    Query(Query<'a>),
    /// The exchange is over, and its reply was appended, once; this stays.
    Done(Result<&'a Identity, Failure>),
}

/// The slot for the client's next line. **The exchange waits until it is filled.** Whatever the
/// line says, it is a response and never a command.
#[derive(Debug)]
pub struct NeedLine<'a> {
    challenge: &'a mut Challenge,
    written: &'a mut bool,
}

impl NeedLine<'_> {
    /// The line without its CRLF. `*` cancels; what is not base64, or over [`MAX_LINE`], ends the
    /// exchange.
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

    /// There is no line, as it was too long to hold.
    pub fn too_long(self) {
        *self.written = false;
        self.challenge.too_long();
    }

    /// There is no line, as it held a bare CR, a bare LF or a NUL.
    pub fn undecodable(self) {
        *self.written = false;
        self.challenge.undecodable();
    }
}

/// One AUTH command and what follows it, up to its final reply.
///
/// All else about AUTH is the host's here, as it has the session:
///
/// - `503` before EHLO, behind a success, and within a mail transaction (RFC 4954 §4); `530` to MAIL
///   before a success;
/// - the count of failures that [are attempts](Failure::is_attempt), a [`pause`](crate::server::pause)
///   before the reply to each, and `421` in place of replies once there are too many;
/// - to forget who has signed in when TLS begins (RFC 3207 §4.2);
/// - logs without the lines themselves;
/// - at the end of the stream, to drop the exchange.
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
/// let mut auth = Exchange::new(&config, &Channel::tls(), b"LOGIN"); // the text behind `AUTH `
/// let who = loop {
///     match auth.step(&mut out) {
///         Step::NeedLine(slot) => slot.line(read_line()), // after `out` was sent
///         Step::Query(query) => query.reject(),           // or `query.answer_with(&users)`
///         Step::Done(outcome) => break outcome.cloned(),
///     }
/// };
/// assert!(who.is_err());
/// assert!(out.starts_with(b"334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n535 5.7.8 "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Exchange {
    sasl: sasl::Exchange,
    /// Whether what the step shows stands in the output already.
    written: bool,
    /// Whether [`report`](Self::report) has given the failure.
    reported: bool,
}

impl Exchange {
    /// Begins an exchange with the text after `AUTH `. What does not pass (RFC 4954 §4) ends at
    /// the first [`step`](Self::step), a command longer than [`MAX_LINE`] by [`Failure::TooLong`].
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

    /// The same with the arguments of a command that [`command::parse`] has read.
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

    /// The mechanism, and the initial response decoded.
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

    /// Why the exchange has failed, as soon as that is decided: see
    /// [`sasl`](sasl::Exchange::failure). Where a token is refused that is at a
    /// [`NeedLine`](Step::NeedLine), before [`Done`](Step::Done): count the attempt and pause then, before `out` is
    /// sent, and not once more at the end.
    pub fn failure(&self) -> Option<Failure> {
        self.sasl.failure()
    }

    /// Whom the client of a failed exchange claimed to be: the name, folded, as
    /// [`sasl`](sasl::Exchange::authcid) has it.
    pub fn authcid(&self) -> Option<&str> {
        self.sasl.authcid()
    }

    /// The account of which that name is an alias, as [`sasl`](sasl::Exchange::account) has it.
    pub fn account(&self) -> Option<&str> {
        self.sasl.account()
    }

    /// The application's own refusal, as [`sasl`](sasl::Exchange::refusal) has it.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.sasl.refusal()
    }

    /// The failure, once: when it is decided.
    pub(crate) fn report(&mut self) -> Option<Failure> {
        let failure = self.failure().filter(|_| !self.reported);
        self.reported |= failure.is_some();
        failure
    }

    pub(crate) fn is_over(&self) -> bool {
        self.sasl.is_over()
    }

    /// The question on show, if one is; nothing moves on. Behind an initial response one may be on
    /// show before any step.
    pub fn query(&mut self) -> Option<Query<'_>> {
        self.sasl.query()
    }

    /// What the exchange waits for, as often as wanted: nothing is written, and nothing moves on. `None` where it is to
    /// go on by [`step`](Self::step): something is to be written, or an answer is there. For a server that holds the
    /// exchange between two lines, and has no buffer at hand.
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

    /// What the exchange needs now. Appends `334` or the final reply when it is first shown.
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

    /// Writes the challenge or the final reply, where the exchange has come to one.
    fn write(&mut self, out: &mut Vec<u8>) -> bool {
        match self.sasl.step() {
            sasl::Step::Query(_) => return false,
            sasl::Step::Challenge(challenge) => {
                // The space stands even before an empty challenge (RFC 4954 §4).
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

/// The reply to an AUTH command that cannot be read.
pub(crate) fn refusal(error: command::Error) -> Reply {
    reply_to(failure_of(error))
}

fn failure_of(error: command::Error) -> Failure {
    match error.in_initial_response() {
        true => Failure::InitialResponseEncoding,
        false => Failure::Syntax,
    }
}

/// The reply of an application's own refusal.
fn reply_of(refusal: &Refusal) -> Reply {
    let reply = Reply::new(
        refusal.code(),
        Some(refusal.enhanced_code()),
        alloc::string::String::from(refusal.text()),
    );
    // What a refusal may have, a reply may have.
    reply.unwrap_or(Reply::LOCAL_ERROR)
}

/// The reply to each failure (RFC 4954 §4, §6, RFC 5248). That of a [`Refused`](Failure::Refused) exchange has the
/// kind's text; the exchange writes the application's own.
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
        // One text for all, or it would tell that the password was right, or that there is such an account.
        Failure::Rejected | Failure::Locked | Failure::NoSecret | Failure::NotAuthorized => {
            standard!("535 5.7.8 The user name, password, token or certificate is wrong")
        }
        Failure::Downgrade | Failure::ChannelBinding => {
            standard!("535 5.7.8 The channel binding is not that of this connection")
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
