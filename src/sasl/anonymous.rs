//! ANONYMOUS (RFC 4505). The message is `[trace]`, an optional text that identifies the guest without proof.

use alloc::vec::Vec;

use super::{
    CheckAnonymous, Failure, client, is_trace_character,
    names::Rules,
    server::{Config, Said, State},
};
use crate::secret::SecretBytes;

#[derive(Debug)]
pub(super) struct Server;

impl Server {
    pub(super) fn begin(_: &Config) -> Result<(Vec<u8>, Self), Failure> {
        Ok((Vec::new(), Self))
    }

    pub(super) fn take(&self, _: &Rules, _: Said, response: SecretBytes) -> Result<State, Failure> {
        let trace = core::str::from_utf8(response.as_slice())
            .map_err(|_| Failure::Malformed("it is not UTF-8"))?;
        if !is_trace(trace) {
            return Err(Failure::Malformed(
                "the trace is neither a mail address nor a text of up to 255 characters",
            ));
        }
        let trace = Some(trace).filter(|trace| !trace.is_empty());
        Ok(State::CheckAnonymous(CheckAnonymous::new(trace)))
    }
}

/// `message = [email / token]`: a mail address, or up to 255 characters without `@`, which is reserved for
/// addresses (§2). Neither may contain characters that the profile "trace" forbids (§3).
pub(super) fn is_trace(text: &str) -> bool {
    let address = |(local, domain): (&str, &str)| {
        let quoted = local.starts_with('"') && local.ends_with('"') && local.len() > 2;
        let atoms = !local.is_empty() && !local.contains(['@', ' ', '"']);
        (quoted || atoms) && !domain.is_empty() && !domain.contains(['"', ' '])
    };
    text.chars().count() <= 255
        && text.chars().all(is_trace_character)
        && text.rsplit_once('@').is_none_or(address)
}

#[derive(Debug)]
pub(super) struct Client;

impl Client {
    pub(super) fn begin(
        trace: &str,
        _: Option<&str>,
    ) -> Result<(Option<Vec<u8>>, Self), client::Failure> {
        Ok((Some(trace.into()), Self))
    }

    pub(super) fn take(self, _: &[u8]) -> Result<(Vec<u8>, Self), client::Failure> {
        Err(client::Failure::UnexpectedChallenge)
    }

    pub(super) fn finish(self) -> Result<(), client::Failure> {
        Ok(())
    }
}
