//! The message of a mail transaction, sent by DATA, or by BDAT in chunks (RFC 3030).

use alloc::{boxed::Box, vec::Vec};

use super::{After, Session, State, answer};
use crate::{
    message::{Content, DotFinder, Dots, LineEnds, Piece},
    reply::Reply,
};

/// A mail transaction (RFC 5321 §3.3), which begins with an accepted MAIL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transaction {
    pub(super) recipients: u32,
    /// The number of octets of the message so far.
    pub(super) octets: u64,
    /// Whether a BDAT that was not the last one has been accepted.
    pub(super) chunks: bool,
    pub(super) ends: LineEnds,
    /// Whether the message held a bare CR or LF.
    pub(super) bare: bool,
}

impl Transaction {
    pub(super) const NEW: Self =
        Self { recipients: 0, octets: 0, chunks: false, ends: LineEnds::START, bare: false };

    /// Returns the refusal of the message, if the part that has been received cannot be accepted.
    fn fault(&self, max_message: u64) -> Option<Reply> {
        match self {
            Self { bare: true, .. } => Some(Reply::MESSAGE_BAD_LINE_END),
            Self { octets, .. } if *octets > max_message => Some(Reply::MESSAGE_TOO_BIG),
            _ => None,
        }
    }
}

/// How a message's octets are delimited.
#[derive(Debug, Clone, Copy)]
pub(super) enum Framing {
    Dots(Dots),
    Chunk { left: u64, last: bool },
}

impl Framing {
    /// Finds the next piece of the message.
    fn next(&mut self, rest: &[u8], finder: &DotFinder) -> Piece {
        match self {
            Self::Dots(dots) => dots.next(rest, finder),
            Self::Chunk { left: 0, .. } => Piece::End(0),
            Self::Chunk { .. } if rest.is_empty() => Piece::Incomplete,
            Self::Chunk { left, .. } => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= length as u64;
                Piece::Content(Content { skip: 0, length, bad: false })
            }
        }
    }
}

impl Session {
    pub(super) fn ready_for_data(&self, trusted: bool) -> Result<Transaction, Reply> {
        match self.transaction {
            _ if !trusted => Err(Reply::AUTHENTICATION_REQUIRED),
            Some(transaction) if transaction.recipients > 0 => Ok(transaction),
            _ => Err(Reply::BAD_SEQUENCE),
        }
    }

    pub(super) fn permitted(
        &mut self,
        answer: Result<(), Reply>,
        framing: Framing,
        out: &mut Vec<u8>,
    ) -> State {
        match (answer, framing) {
            (Ok(()), Framing::Dots(_)) => {
                Reply::START_MAIL_INPUT.write(out);
                State::Body(framing, None)
            }
            (Ok(()), Framing::Chunk { .. }) => State::Body(framing, None),
            (Err(refusal), Framing::Dots(_)) => self.refuse(refusal, out),
            // The client is already sending the chunk.
            (Err(refusal), Framing::Chunk { .. }) => State::Body(framing, Some(Box::new(refusal))),
        }
    }

    /// Handles the octets of a message that have been received.
    pub(super) fn body(
        &mut self,
        mut framing: Framing,
        refusal: Option<Box<Reply>>,
        out: &mut Vec<u8>,
    ) -> (State, bool) {
        match framing.next(self.lines.rest(), &self.config.dots) {
            Piece::Incomplete => {
                self.lines.give_back();
                (State::Body(framing, refusal), true)
            }
            Piece::End(mark) => {
                self.lines.show_message(0, 0, mark);
                let last = matches!(framing, Framing::Dots(_) | Framing::Chunk { last: true, .. });
                self.end_of_data(last, refusal, out)
            }
            Piece::Content(content) => match self.take(framing, content) && refusal.is_none() {
                true => (State::Data(framing), true),
                false => (State::Body(framing, refusal), false),
            },
        }
    }

    /// Makes the next content of a message pending, if there is some and it can be accepted. The state stays in its
    /// place, because moving it takes longer than handling a short line.
    pub(super) fn shows_content(&mut self) -> bool {
        let (State::Data(framing) | State::Body(framing, None)) = &mut self.state else {
            return false;
        };
        let Piece::Content(content) = framing.next(self.lines.rest(), &self.config.dots) else {
            return false;
        };
        let framing = *framing;
        let good = self.take(framing, content);
        if !good {
            self.state = State::Body(framing, None);
        } else if !matches!(self.state, State::Data(_)) {
            self.state = State::Data(framing);
        }
        good
    }

    /// Counts and checks content, and returns whether the message can still be accepted.
    fn take(&mut self, framing: Framing, Content { skip, length, mut bad }: Content) -> bool {
        self.lines.show_message(skip, length, 0);
        // A chunk that is out of order is not part of the message.
        let Some(transaction) = self.transaction.as_mut().filter(|open| open.recipients > 0) else {
            return true;
        };
        if matches!(framing, Framing::Chunk { .. }) {
            bad = transaction.ends.bad(self.lines.shown());
        }
        transaction.octets += length as u64;
        transaction.bare |= bad;
        transaction.fault(self.config.max_message).is_none()
    }

    /// Handles the end of a message, or of a chunk.
    fn end_of_data(
        &mut self,
        last: bool,
        refusal: Option<Box<Reply>>,
        out: &mut Vec<u8>,
    ) -> (State, bool) {
        let Some(transaction) = self.transaction.as_mut().filter(|open| open.recipients > 0) else {
            // The chunk was out of order.
            let state = answer(refusal.map_or(Reply::BAD_SEQUENCE, |reply| *reply), out);
            return (state, false);
        };
        if last {
            self.trace.message(transaction.octets);
        }
        transaction.bare |= last && transaction.ends.open();
        let fault = transaction.fault(self.config.max_message);
        match refusal.map(|refusal| *refusal).or(fault) {
            Some(refusal) => (self.refuse(refusal, out), true),
            None if last => (State::EndOfData(None), true),
            None => {
                transaction.chunks = true;
                (answer(Reply::OK, out), false)
            }
        }
    }

    /// Refuses a message, which ends the transaction.
    fn refuse(&mut self, refusal: Reply, out: &mut Vec<u8>) -> State {
        self.abandon(match answer(refusal, out) {
            State::Close => After::Close,
            _ => After::Idle,
        })
    }

    /// Ends the transaction without a message.
    pub(super) fn abandon(&mut self, after: After) -> State {
        match self.transaction.take() {
            Some(_) => State::Reset(after),
            None => after.into(),
        }
    }
}
