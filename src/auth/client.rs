//! The client's side of an AUTH exchange.
//!
//! A server may repeat what it was sent. So the replies in a [`Failure`] have the text of `500` to `504`
//! *withheld*: `Display` and `Debug` show `[text withheld]`, and [`Reply::text`] the text, for who asks. Any
//! other reply with eight octets in a row of what was sent in the exchange, as it was or in base64, has
//! its text taken away. Codes stay. A caller that logs what the server says does so from the failure, and
//! not from the [`ReplyRef`] that it hands in.

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

/// The longest AUTH command that a server must take, with CRLF (RFC 5321 §4.5.3.1.4). With an
/// initial response that makes it longer, the command goes without.
const MAX_COMMAND: usize = 512;

/// What the exchange needs now.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new obligation must break the build of a host that ignores it"
)]
pub enum Step<'a> {
    /// Write out what was appended, read a reply, and hand it in.
    NeedReply(NeedReply<'a>),
    /// Do this work, here or on another thread.
    Derive(&'a mut Derive),
    /// Say what the host's own mechanism says to this.
    Custom(&'a mut Custom),
    /// The exchange is over; this stays.
    Done(Result<(), &'a Failure>),
}

/// Why the client is not signed in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server refused, with this reply.
    #[error("the server answered {reply}{words}", words = if *after_proof { UNPROVEN } else { "" })]
    Refused {
        /// The refusal.
        reply: Reply,
        /// Whether it stands in place of the server's proof of SCRAM: its text is that of a server that has not proven
        /// itself, so that a person should not do what it says.
        after_proof: bool,
        /// As [`may_try_next`](Self::may_try_next) has it.
        may_try_next: bool,
    },
    /// The client cancelled.
    #[error("{why}; the client cancelled")]
    Cancelled {
        /// For this reason.
        why: sasl::Failure,
        /// The server's answer to that, which may be no refusal.
        reply: Reply,
        /// As [`may_try_next`](Self::may_try_next) has it.
        may_try_next: bool,
    },
    /// The server said success before the exchange was complete, or has not proven who it is.
    #[error(transparent)]
    FalseSuccess(sasl::Failure),
    /// The server's reply has no place in an exchange.
    #[error("the server answered out of turn: {0}")]
    UnexpectedReply(Reply),
    /// The configuration does not allow the mechanism, these credentials, or this connection.
    #[error(transparent)]
    NotAllowed(sasl::Failure),
}

/// What a person is told of a text in place of the server's proof.
pub(crate) const UNPROVEN: &str = " (the words of a server that has not proven itself)";

impl Failure {
    /// Whether another mechanism may be tried with the same credentials on the same connection. A caller
    /// that goes on by itself has to hold to it, as a session does.
    ///
    /// Not once SCRAM has begun, as an impostor or a man in the middle would get the password by PLAIN
    /// ([`sasl::client::Failure::may_try_next`](sasl::Failure::may_try_next)); nor where the connection
    /// has come to its end: after `421` (RFC 5321 §3.8), a reply whose
    /// [codes differ](ReplyRef::codes_differ), or one that is out of turn.
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

/// The slot for the server's next reply. **The exchange waits until it is filled.**
#[derive(Debug)]
pub struct NeedReply<'a> {
    exchange: &'a mut Exchange,
}

impl NeedReply<'_> {
    /// The reply, whole: all its lines as they came, by [`ReplyRef::parse`], or as the client's own parser
    /// has read them, by [`ReplyRef::from_lines`]. Where its [codes differ](ReplyRef::codes_differ), the
    /// connection is to be ended, too.
    pub fn reply(self, reply: ReplyRef<'_>) {
        self.exchange.take(reply);
    }
}

/// One AUTH command and what follows it, up to the server's verdict.
#[derive(Debug)]
pub struct Exchange {
    sasl: sasl::Exchange,
    state: State,
    withhold: bool,
    lenient: bool,
}

#[derive(Debug)]
enum State {
    /// The command is to be written.
    Command,
    /// The command went without its initial response: the first challenge asks for it.
    Withheld,
    /// What the mechanism had to say is sent.
    Sent,
    /// A challenge has come: the response to it is to be written.
    Respond,
    /// `*` is sent: the server's answer ends the exchange.
    Cancelled(sasl::Failure),
    Done(Result<(), Failure>),
}

impl Exchange {
    /// Begins an exchange by a mechanism, such as [`choose`](sasl::Config::choose) found. What the configuration does
    /// not allow ends at the first [`step`](Self::step), with nothing sent.
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

    /// Sends no initial response with the command, but waits to be asked for it: for servers that
    /// cannot take one.
    pub fn without_initial_response(mut self) -> Self {
        self.withhold = true;
        self
    }

    /// Takes a challenge that is not base64 as an empty one, for mechanisms that do not read it:
    /// for servers that send their prompts as they are.
    pub fn lenient_challenges(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.sasl.mechanism()
    }

    /// Whether the server is to prove itself next, as [`sasl`](sasl::Exchange::awaits_proof) has it.
    pub fn awaits_proof(&self) -> bool {
        self.sasl.awaits_proof()
    }

    /// What the server said of a token that is no good, as
    /// [`sasl`](sasl::Exchange::token_error) has it.
    pub fn token_error(&self) -> Option<&str> {
        self.sasl.token_error()
    }

    /// What the exchange needs now. Appends the command or the response when it is first shown: what
    /// stands in `out` may be secret from then on. Where it has to grow for that, the memory that it had
    /// is zeroed; to zero `out` itself, once it was sent, is the caller's.
    pub fn step(&mut self, out: &mut Vec<u8>) -> Step<'_> {
        self.write(out);
        match self.state {
            State::Done(Ok(())) => Step::Done(Ok(())),
            State::Done(Err(ref failure)) => Step::Done(Err(failure)),
            State::Command | State::Respond => match self.sasl.step() {
                sasl::Step::Derive(derive) => Step::Derive(derive),
                sasl::Step::Custom(challenge) => Step::Custom(challenge),
                // Not to be met: a response would have been written. Whatever it is, it is no success.
                _ => {
                    static STRAY: Failure = Failure::NotAllowed(sasl::Failure::UnexpectedChallenge);
                    Step::Done(Err(&STRAY))
                }
            },
            _ => Step::NeedReply(NeedReply { exchange: self }),
        }
    }

    /// What the exchange waits for, as often as wanted: nothing is written, and nothing moves on. `None` where it is to
    /// go on by [`step`](Self::step): something is to be written, or an answer is there. For a client that holds the
    /// exchange between two replies, and has no buffer at hand.
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

    /// Whether something is asked of the application.
    pub(crate) fn asks(&self) -> bool {
        self.sasl.asks()
    }

    /// What is asked of the application, whether it is answered or not.
    pub(crate) fn asked(&mut self) -> Option<Step<'_>> {
        match self.sasl.pending() {
            sasl::Step::Derive(derive) => Some(Step::Derive(derive)),
            sasl::Step::Custom(challenge) => Some(Step::Custom(challenge)),
            sasl::Step::Response(_) | sasl::Step::Done(_) => None,
        }
    }

    /// Writes what is to be written in this state.
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

    /// Why the client has cancelled, if it has.
    pub(crate) fn cancelled(&self) -> Option<sasl::Failure> {
        match self.state {
            State::Cancelled(why) => Some(why),
            _ => None,
        }
    }

    /// Whether the reply's text is to be kept out of what is printed. That of `500` to `504` is, as a
    /// server that knows no AUTH, or no end of it, takes its lines for commands, and repeats them; and
    /// any other that has eight octets in a row of what was sent.
    pub(crate) fn hides(&self, reply: ReplyRef<'_>) -> bool {
        takes_for_command(reply) || self.sasl.repeats(reply.lines())
    }

    /// The reply as it may be kept in an error.
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
        // 421 closes the connection.
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
                // It only asks for the initial response.
                Some(_) if withheld => {}
                Some(challenge) => response.challenge(challenge),
                None => response.undecodable(),
            }
        }
        State::Respond
    }
}

/// Whether it is the reply to a command that is not known, or malformed.
pub(crate) fn takes_for_command(reply: ReplyRef<'_>) -> bool {
    matches!(reply.code(), 500..=504)
}

/// Whether the command with that initial response keeps to the limit.
fn fits(mechanism: &str, data: &[u8]) -> bool {
    let line = "AUTH ".len() + mechanism.len() + " ".len() + encoded(data.len()) + "\r\n".len();
    line <= MAX_COMMAND
}
