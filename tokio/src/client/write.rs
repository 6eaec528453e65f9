//! Sends a message, and reads the server's replies while sending.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use smtp_auth::client::{self as core, Event};
use tokio::{io::AsyncBufRead, time::Instant};

use super::{
    Error, ErrorKind, LONGEST,
    connection::{Inbox, Wire},
};

/// The number of octets of a message that are sent at once.
pub(super) const PART: usize = 16 << 10;

/// Extra room for doubled dots and the end of the message.
const ROOM: usize = 64;

/// The time within which the server must receive each part (RFC 5321 §4.5.3.2.5).
const LIMIT: Duration = Duration::from_secs(180);

/// The reason why writing stopped.
enum Stop {
    /// Everything has been sent, or the server has sent a complete reply.
    Done,
    /// The server has sent part of a reply.
    Part,
    Broken(io::Error),
    /// The message could not be read.
    Read(io::Error),
    Session(core::Error),
}

impl Wire {
    /// Writes the message until its end has been sent or the server sends a reply. Sets `ended` once the end may have
    /// been sent.
    pub(super) async fn write(
        &mut self,
        mut message: Pin<&mut (dyn AsyncBufRead + Send)>,
        ended: &mut bool,
    ) -> Result<(), Error> {
        self.link.restart_timer();
        loop {
            return match poll_fn(|cx| self.poll_write(cx, message.as_mut(), ended)).await {
                Stop::Done => Ok(()),
                // A partial reply does not extend the time limit. The session only checks that the reply is not too
                // long.
                Stop::Part => {
                    let advanced = self.session.advance(&mut self.link.out);
                    let _ = self.ending(advanced)?;
                    continue;
                }
                Stop::Broken(why) => self.broken(why),
                // The server discards a message whose end it has not received.
                Stop::Read(why) => {
                    self.link.cut_off();
                    Err(Error::new(ErrorKind::Read(why)))
                }
                Stop::Session(why) => {
                    self.link.cut_off();
                    Err(why.into())
                }
            };
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        mut message: Pin<&mut (dyn AsyncBufRead + Send)>,
        ended: &mut bool,
    ) -> Poll<Stop> {
        loop {
            if self.link.out.is_empty() {
                if *ended {
                    return Poll::Ready(Stop::Done);
                }
                if let Err(stop) = self.gather(cx, message.as_mut(), ended) {
                    return Poll::Ready(stop);
                }
                self.link.restart_timer();
            }
            let had_some = !self.link.out.is_empty();
            // If nothing is being sent, the message comes slowly from the caller, and the server applies its own time
            // limit.
            let until = Instant::now() + if had_some { self.at_most(LIMIT) } else { LONGEST };
            let Self { session, link, replies, .. } = self;
            let mut inbox = Inbox { session, replies, heard: false };
            match link.poll_both(cx, &mut inbox, until) {
                Poll::Ready(Ok(())) if inbox.heard => return Poll::Ready(Stop::Done),
                Poll::Ready(Ok(())) => return Poll::Ready(Stop::Part),
                Poll::Ready(Err(why)) => return Poll::Ready(Stop::Broken(why)),
                Poll::Pending if !self.link.out.is_empty() || !had_some => return Poll::Pending,
                // This part has been sent.
                Poll::Pending => {}
            }
        }
    }

    /// Takes the next part of the message, or as much of it as is available.
    fn gather(
        &mut self,
        cx: &mut Context<'_>,
        mut message: Pin<&mut (dyn AsyncBufRead + Send)>,
        ended: &mut bool,
    ) -> Result<(), Stop> {
        while !*ended && self.link.out.len() < PART {
            let octets = match message.as_mut().poll_fill_buf(cx) {
                Poll::Ready(octets) => octets.map_err(Stop::Read)?,
                Poll::Pending => break,
            };
            let Event::Message(body) = self.session.pending() else { break };
            let part = octets.get(..PART).unwrap_or(octets);
            if part.is_empty() {
                body.end(&mut self.link.out).map_err(Stop::Session)?;
                *ended = true;
            } else {
                self.link.out.reserve(part.len() + ROOM);
                body.write(part, &mut self.link.out).map_err(Stop::Session)?;
                let length = part.len();
                message.as_mut().consume(length);
            }
        }
        Ok(())
    }
}
