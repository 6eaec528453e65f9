//! The answers of a service that has not reached its database yet: every attempt is a temporary failure. Without an
//! answer to its handshake, Postfix would offer no authentication, and its processes would give up.

use std::{io, process, sync::Arc};

use smtp_auth::{
    dovecot::{Cookie, Event, Session},
    sasl::server::Config as Sasl,
};
use tokio::net::UnixStream;

use crate::stream::Stream;

/// Answers every question with a temporary failure.
pub(crate) async fn serve(stream: UnixStream, sasl: Arc<Sasl>) -> io::Result<()> {
    let stream = Stream::new(stream)?;
    let cookie = Cookie::random().map_err(|error| io::Error::other(error.to_string()))?;
    let mut session = Session::new(sasl, process::id(), 0, cookie);
    let mut out = Vec::new();
    loop {
        let is_closed = match session.next(&mut out) {
            Event::Query(_, query) => {
                query.temp_fail();
                continue;
            }
            Event::Authenticated(..) | Event::AuthFailed(_) => continue,
            Event::NeedInput => false,
            Event::Close(_) => true,
        };
        stream.write_all(&out).await?;
        out.clear();
        if is_closed || !stream.read(&mut session).await? {
            return Ok(());
        }
    }
}
