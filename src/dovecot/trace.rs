//! The trace of a connection, with every secret masked.

use alloc::{borrow::Cow, boxed::Box, format, string::String, vec::Vec};
use core::fmt;

use super::{ClientLine, Data, LineError, ServerLine};
use crate::{
    shown::shown,
    trace::{Hook, Side},
};

/// The application's hook, if there is one.
#[derive(Default)]
pub(super) struct Trace(Option<Hook>);

impl Trace {
    pub(super) fn new(hook: impl FnMut(Side, &str) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(hook)))
    }

    /// Traces a line of the client. Malformed lines, and the names of mechanisms that are not `known`, are masked, because
    /// they may contain a password.
    pub(super) fn client(
        &mut self,
        line: &Result<ClientLine, LineError>,
        known: impl Fn(&str) -> bool,
    ) {
        let Some(hook) = &mut self.0 else { return };
        let Ok(line) = line else { return hook(Side::Client, "***") };
        let mut text = Vec::new();
        match line {
            ClientLine::Auth(request, _) if !known(request.mechanism()) => {
                let id = request.id();
                text.extend_from_slice(format!("AUTH\t{id}\t***").as_bytes());
            }
            ClientLine::Auth(request, resp) => {
                ClientLine::Auth(request.clone(), None).write(&mut text);
                mark(&mut text, resp.as_ref().map(|_| "\tresp=***"));
            }
            ClientLine::Cont(id, response) => {
                ClientLine::Cont(*id, Data::default()).write(&mut text);
                mark(&mut text, masked(response));
            }
            line => line.write(&mut text),
        }
        hook(Side::Client, &printable(&text));
    }

    /// Traces a line of the server.
    pub(super) fn server(&mut self, line: &ServerLine<'_>) {
        let Some(hook) = &mut self.0 else { return };
        let mut text = Vec::new();
        match line {
            ServerLine::Cookie(_) => text.extend_from_slice(b"COOKIE\t***"),
            ServerLine::Cont(id, challenge) => {
                ServerLine::Cont(*id, Data::default()).write(&mut text);
                mark(&mut text, masked(challenge));
            }
            ServerLine::Ok { id, user: Some(_) } => {
                ServerLine::Ok { id: *id, user: Some(Cow::Borrowed("***")) }.write(&mut text);
            }
            line => line.write(&mut text),
        }
        hook(Side::Server, &printable(&text));
    }
}

fn masked(data: &Data) -> Option<&'static str> {
    (!data.expose().is_empty()).then_some("***")
}

/// Appends text to a line.
fn mark(line: &mut Vec<u8>, text: Option<&str>) {
    if let Some(text) = text {
        line.truncate(line.len().saturating_sub(1));
        line.extend_from_slice(text.as_bytes());
    }
}

/// Returns the text of a line without its LF. The TABs between the fields are kept.
fn printable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let text = String::from_utf8_lossy(line);
    text.chars().map(|c| if c == '\t' { c } else { shown(c) }).collect()
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Trace(set)" } else { "Trace(none)" })
    }
}
