//! The client side of an AUTH exchange.
//!
//! A server's reply may echo the client's input, even a password. Therefore, a [`Failure`] hides the text of such a
//! reply and shows only the codes:
//!
//! - The text of a reply with a code from `500` to `504` is *withheld*. `Display` and `Debug` show `[text withheld]`
//!   instead, but [`Reply::text`] still returns the text.
//! - The text of any other reply is removed if it contains eight consecutive octets that the client sent in the
//!   exchange, either unencoded or in base64.
//!
//! To log a server's reply, use the copy in the [`Failure`], not the original [`ReplyRef`].
//!
//! ```
//! # #[cfg(feature = "plain")] {
//! use smtp_auth::{Channel, Credentials, Mechanism, reply::ReplyRef, sasl::client::Config};
//! use smtp_auth::auth::client::{Exchange, Step};
//!
//! # let read_reply = || b"235 2.7.0 Welcome\r\n".to_vec();
//! let credentials = Credentials::password("tim", "tanstaaftanstaaf")?;
//! let mut auth = Exchange::new(&Config::default(), &Channel::tls(), Mechanism::Plain, credentials);
//! let mut out = Vec::new();
//! let authenticated = loop {
//!     match auth.step(&mut out) {
//!         Step::NeedReply(need) => need.reply(ReplyRef::parse(&read_reply())?), // send `out` before you read
//!         Step::Derive(derive) => derive.run(),
//!         Step::Custom(custom) => custom.fail(), // occurs only with a custom mechanism
//!         Step::Done(result) => break result.is_ok(),
//!     }
//! };
//! assert!(authenticated);
//! assert_eq!(out, b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n");
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::vec::Vec;

use crate::{
    base64::{decode, encode, encoded},
    reply::{Reply, ReplyRef},
    sasl::{
        Channel, Mechanism,
        client::{self as sasl, Credentials, Custom, Derive},
    },
    secret::reserve,
};

/// The length up to which every server must accept a command, including CRLF: 512 octets (RFC 5321 §4.5.3.1.4). If an
/// initial response would make the AUTH command longer than this, the command is sent without it.
const MAX_COMMAND: usize = 512;

/// What the application must do next, or the result of the exchange.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new step must break the build of an application that ignores it"
)]
pub enum Step<'a> {
    /// Pending: send the buffer, read the server's reply, and pass the reply to the exchange.
    NeedReply(NeedReply<'a>),
    /// Pending: SCRAM needs the salted hash of the password. Compute it on this thread with `run`, or on another thread
    /// with `job` and `answer`.
    Derive(&'a mut Derive),
    /// Pending: the server has sent a challenge of a custom mechanism. Provide the response.
    Custom(&'a mut Custom),
    /// The exchange is over. Every later call to `step` returns this step again.
    Done(Result<(), &'a Failure>),
}

/// The reason why an AUTH exchange did not authenticate the client.
///
/// A failure may contain the server's reply, but hides any text in the reply that may echo the credentials. See the
/// [module documentation](self).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server refused authentication.
    #[error("the server refused authentication: {reply}{words}", words = if *after_proof { UNPROVEN } else { "" })]
    Refused {
        /// The server's reply.
        reply: Reply,
        /// Whether the server sent this reply instead of its SCRAM proof. If it did, the server has not proven its
        /// identity, and the user should not follow instructions in the text of the reply.
        after_proof: bool,
        /// Whether another mechanism may be tried. See [`may_try_next`](Self::may_try_next).
        may_try_next: bool,
    },
    /// The client cancelled the exchange with a `*` (RFC 4954 §4).
    #[error("{why}, so the client cancelled authentication")]
    Cancelled {
        /// The reason why the client cancelled.
        why: sasl::Failure,
        /// The server's reply to the `*`, which may have any code.
        reply: Reply,
        /// Whether another mechanism may be tried. See [`may_try_next`](Self::may_try_next).
        may_try_next: bool,
    },
    /// The server reported success before the exchange was complete, or without having proven its identity.
    #[error(transparent)]
    FalseSuccess(sasl::Failure),
    /// The server sent a reply at the wrong point in the exchange, or a reply that is not a challenge (`334`), a
    /// success (`235`) or a refusal (`4xx` or `5xx`).
    #[error("the server sent an unexpected reply: {0}")]
    UnexpectedReply(Reply),
    /// The mechanism cannot be used with this configuration, these credentials, or this connection. Nothing was sent.
    #[error(transparent)]
    NotAllowed(sasl::Failure),
}

/// The warning that follows a text that came instead of the server's SCRAM proof.
pub(crate) const UNPROVEN: &str =
    " (this text comes from a server that has not proven its identity)";

impl Failure {
    /// Returns whether another mechanism may be tried with the same credentials on the same connection. A caller that
    /// tries mechanisms automatically must respect this result, as a session does.
    ///
    /// Another mechanism must not be tried in these cases:
    ///
    /// - A SCRAM exchange has failed because of a message from the server, or after the client sent its proof. In this
    ///   case, a downgrade to PLAIN would send the password to an impostor or a man-in-the-middle. See
    ///   [`sasl::client::Failure::may_try_next`](sasl::Failure::may_try_next).
    /// - The server has sent an unexpected reply, a reply in which the [codes of the lines
    ///   differ](ReplyRef::codes_differ), or a `421` reply, which ends the connection (RFC 5321 §3.8).
    pub fn may_try_next(&self) -> bool {
        match self {
            Self::Refused { may_try_next, .. } | Self::Cancelled { may_try_next, .. } => {
                *may_try_next
            }
            Self::NotAllowed(why) => why.may_try_next(),
            Self::FalseSuccess(_) | Self::UnexpectedReply(_) => false,
        }
    }
}

/// The handle that takes the server's next reply. **The exchange waits until [`reply`](Self::reply) is called.**
#[derive(Debug)]
pub struct NeedReply<'a> {
    exchange: &'a mut Exchange,
}

impl NeedReply<'_> {
    /// Passes in the whole reply, with all its lines. Create the reply with [`ReplyRef::parse`] from the received
    /// octets, or with [`ReplyRef::from_lines`] from the output of your own parser.
    ///
    /// If the [codes](ReplyRef::codes_differ) of the lines differ, the caller must also close the connection.
    pub fn reply(self, reply: ReplyRef<'_>) {
        self.exchange.take(reply);
    }
}

/// The client side of one AUTH command, up to the server's final reply. For an example, see the [module
/// documentation](self).
#[derive(Debug)]
pub struct Exchange {
    sasl: sasl::Exchange,
    state: State,
    withhold: bool,
    lenient: bool,
}

#[derive(Debug)]
enum State {
    /// The AUTH command has not been written yet.
    Command,
    /// The command was sent without its initial response, which the server's first challenge requests.
    Withheld,
    /// The mechanism's message was sent.
    Sent,
    /// A challenge has been received, and the response to it has to be written.
    Respond,
    /// `*` was sent. The server's reply ends the exchange.
    Cancelled(sasl::Failure),
    Done(Result<(), Failure>),
}

impl Exchange {
    /// Begins an exchange with a mechanism, for instance the mechanism that [`choose`](sasl::Config::choose) returned.
    ///
    /// This function never fails. If the configuration does not allow the mechanism, the credentials or the connection,
    /// the first [`step`](Self::step) returns [`Failure::NotAllowed`], and nothing is sent.
    pub fn new(
        config: &sasl::Config,
        channel: &Channel,
        mechanism: Mechanism,
        credentials: Credentials,
    ) -> Self {
        let mut sasl = sasl::Exchange::new(config, channel, mechanism, credentials);
        sasl.keep_sent();
        Self { sasl, state: State::Command, withhold: false, lenient: false }
    }

    /// Makes the exchange send the AUTH command without an initial response. The response is sent when the server
    /// requests it. Use this method for servers that cannot handle an initial response.
    pub fn without_initial_response(mut self) -> Self {
        self.withhold = true;
        self
    }

    /// Makes the exchange treat an invalid base64 challenge as empty, if the mechanism does not read the challenge. Use
    /// this method for servers that send their prompts unencoded.
    pub fn lenient_challenges(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// Returns the mechanism of this exchange.
    pub fn mechanism(&self) -> Mechanism {
        self.sasl.mechanism()
    }

    /// Returns whether the client has sent its SCRAM proof and is waiting for the server's proof. If the connection
    /// ends at that point, treat the server as an impostor. See
    /// [`sasl::client::Exchange::awaits_proof`](sasl::Exchange::awaits_proof).
    pub fn awaits_proof(&self) -> bool {
        self.sasl.awaits_proof()
    }

    /// Returns the server's error message about a refused token, as JSON (RFC 7628 §3.2.2). Do not trust this message.
    /// See [`sasl::client::Exchange::token_error`](sasl::Exchange::token_error).
    pub fn token_error(&self) -> Option<&str> {
        self.sasl.token_error()
    }

    /// Advances the exchange and returns the next step. The AUTH command and each response to a challenge are appended
    /// to `out` once.
    ///
    /// After a call, `out` may contain a secret. If this method has to enlarge the buffer, it zeroes the old memory.
    /// The caller is responsible for zeroing `out` after sending it.
    pub fn step(&mut self, out: &mut Vec<u8>) -> Step<'_> {
        self.write(out);
        match self.state {
            State::Done(Ok(())) => Step::Done(Ok(())),
            State::Done(Err(ref failure)) => Step::Done(Err(failure)),
            State::Command | State::Respond => match self.sasl.step() {
                sasl::Step::Derive(derive) => Step::Derive(derive),
                sasl::Step::Custom(challenge) => Step::Custom(challenge),
                // This cannot happen, because `write` has handled the other states. It must not count as a success.
                _ => {
                    static STRAY: Failure = Failure::NotAllowed(sasl::Failure::UnexpectedChallenge);
                    Step::Done(Err(&STRAY))
                }
            },
            _ => Step::NeedReply(NeedReply { exchange: self }),
        }
    }

    /// Returns the step that the exchange is waiting for, without writing anything or advancing the exchange. This
    /// method can be called any number of times.
    ///
    /// Returns `None` if [`step`](Self::step) has to be called first, because there is something to write or an answer
    /// to process. Use this method in a client that stores the exchange between two replies and has no output buffer at
    /// that point.
    pub fn pending(&mut self) -> Option<Step<'_>> {
        match self.state {
            State::Done(Ok(())) => Some(Step::Done(Ok(()))),
            State::Done(Err(ref failure)) => Some(Step::Done(Err(failure))),
            State::Command | State::Respond => self.asked().filter(|asked| match asked {
                Step::Derive(derive) => derive.salted().is_none(),
                Step::Custom(challenge) => !challenge.is_answered(),
                _ => false,
            }),
            State::Withheld | State::Sent | State::Cancelled(_) => {
                Some(Step::NeedReply(NeedReply { exchange: self }))
            }
        }
    }

    /// Returns whether the application has to answer a step.
    pub(crate) fn asks(&self) -> bool {
        self.sasl.asks()
    }

    /// Returns the step that the application has to answer, even if it has been answered already.
    pub(crate) fn asked(&mut self) -> Option<Step<'_>> {
        match self.sasl.pending() {
            sasl::Step::Derive(derive) => Some(Step::Derive(derive)),
            sasl::Step::Custom(challenge) => Some(Step::Custom(challenge)),
            sasl::Step::Response(_) | sasl::Step::Done(_) => None,
        }
    }

    /// Writes the output of the current state, if it has any.
    fn write(&mut self, out: &mut Vec<u8>) {
        let mechanism = self.sasl.mechanism().name();
        let next = match (&self.state, self.sasl.step()) {
            (State::Command, sasl::Step::Done(outcome)) => {
                State::Done(outcome.map_err(Failure::NotAllowed))
            }
            (State::Command, sasl::Step::Response(response)) => {
                let data = response.data();
                let room = data.map_or(0, |data| encoded(data.len())).min(MAX_COMMAND);
                reserve(out, "AUTH  =\r\n".len() + mechanism.len() + room);
                out.extend_from_slice(b"AUTH ");
                out.extend_from_slice(mechanism.as_bytes());
                let next = match data {
                    None => State::Sent,
                    Some([]) if !self.withhold => {
                        out.extend_from_slice(b" =");
                        State::Sent
                    }
                    Some(data) if !self.withhold && fits(mechanism, data) => {
                        out.push(b' ');
                        encode(data, out);
                        State::Sent
                    }
                    Some(_) => State::Withheld,
                };
                out.extend_from_slice(b"\r\n");
                next
            }
            (State::Respond, sasl::Step::Response(response)) => {
                let data = response.data().unwrap_or_default();
                reserve(out, encoded(data.len()) + "\r\n".len());
                encode(data, out);
                out.extend_from_slice(b"\r\n");
                State::Sent
            }
            (State::Respond, sasl::Step::Done(outcome)) => {
                out.extend_from_slice(b"*\r\n");
                State::Cancelled(outcome.err().unwrap_or(sasl::Failure::UnexpectedChallenge))
            }
            (State::Command | State::Respond, sasl::Step::Derive(_) | sasl::Step::Custom(_))
            | (State::Withheld | State::Sent | State::Cancelled(_) | State::Done(_), _) => return,
        };
        self.state = next;
    }

    /// Returns why the client has cancelled, if it has.
    pub(crate) fn cancelled(&self) -> Option<sasl::Failure> {
        match self.state {
            State::Cancelled(why) => Some(why),
            _ => None,
        }
    }

    /// Returns whether the reply's text must not be printed.
    ///
    /// This is the case for `500` to `504`, because a server that does not implement AUTH, or has missed the end of the
    /// exchange, interprets its lines as commands and may repeat them. It is also the case for any other reply that
    /// contains eight consecutive octets of what was sent.
    pub(crate) fn hides(&self, reply: ReplyRef<'_>) -> bool {
        takes_for_command(reply) || self.sasl.repeats(reply.lines())
    }

    /// Returns the reply in the form in which an error may contain it.
    pub(crate) fn kept(&self, reply: ReplyRef<'_>) -> Reply {
        match self.hides(reply) {
            false => reply.to_reply(),
            true if takes_for_command(reply) => reply.to_reply().withheld(),
            true => reply.without_text(),
        }
    }

    fn take(&mut self, reply: ReplyRef<'_>) {
        self.judge(reply);
        if matches!(self.state, State::Done(_)) {
            self.sasl.end();
        }
    }

    fn judge(&mut self, reply: ReplyRef<'_>) {
        let refused = matches!(reply.code(), 400..=599);
        // After a 421, the server closes the connection.
        let goes_on = refused && reply.code() != 421 && !reply.codes_differ();
        self.state = match (&self.state, reply.code()) {
            (State::Withheld | State::Sent, 334) => self.challenged(reply),
            (State::Sent, 235) => {
                if let sasl::Step::Response(response) = self.sasl.step() {
                    response.success();
                }
                match self.sasl.step() {
                    sasl::Step::Done(Ok(())) => State::Done(Ok(())),
                    sasl::Step::Done(Err(failure)) => {
                        State::Done(Err(Failure::FalseSuccess(failure)))
                    }
                    _ => State::Done(Err(Failure::FalseSuccess(sasl::Failure::EarlySuccess))),
                }
            }
            (State::Withheld, 235) => {
                State::Done(Err(Failure::FalseSuccess(sasl::Failure::EarlySuccess)))
            }
            (&State::Cancelled(why), _) => {
                let may_try_next = goes_on && why.may_try_next();
                State::Done(Err(Failure::Cancelled { why, reply: self.kept(reply), may_try_next }))
            }
            (_, _) if refused => {
                let kept = self.kept(reply);
                if let sasl::Step::Response(response) = self.sasl.step() {
                    response.refused();
                }
                let after_proof = match self.sasl.step() {
                    sasl::Step::Done(Err(sasl::Failure::Refused { after_proof })) => after_proof,
                    _ => false,
                };
                let allowed = match self.sasl.step() {
                    sasl::Step::Done(Err(failure)) => failure.may_try_next(),
                    _ => true,
                };
                let may_try_next = goes_on && allowed;
                State::Done(Err(Failure::Refused { reply: kept, after_proof, may_try_next }))
            }
            _ if self.awaits_proof() => {
                State::Done(Err(Failure::FalseSuccess(sasl::Failure::ServerNotAuthentic)))
            }
            _ => State::Done(Err(Failure::UnexpectedReply(self.kept(reply)))),
        };
    }

    fn challenged(&mut self, reply: ReplyRef<'_>) -> State {
        let mut lines = reply.lines();
        let challenge = match (lines.next(), lines.next()) {
            (Some(text), None) => decode(text),
            _ => None,
        };
        let ignorable = self.lenient && !self.mechanism().reads_challenge();
        let challenge = challenge.or(ignorable.then(Vec::new));
        let withheld = matches!(self.state, State::Withheld);
        if let sasl::Step::Response(response) = self.sasl.step() {
            match challenge {
                // This challenge only asks for the initial response.
                Some(_) if withheld => {}
                Some(challenge) => response.challenge(challenge),
                None => response.undecodable(),
            }
        }
        State::Respond
    }
}

/// Returns whether the reply is one to an unknown or malformed command.
pub(crate) fn takes_for_command(reply: ReplyRef<'_>) -> bool {
    matches!(reply.code(), 500..=504)
}

/// Returns whether the command with this initial response is within [`MAX_COMMAND`].
fn fits(mechanism: &str, data: &[u8]) -> bool {
    let line = "AUTH ".len() + mechanism.len() + " ".len() + encoded(data.len()) + "\r\n".len();
    line <= MAX_COMMAND
}
