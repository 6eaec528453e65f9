//! EXTERNAL (RFC 4422 appendix A). The message is `[authzid]`; the client's identity is in its TLS certificate.

use alloc::{boxed::Box, vec::Vec};

use super::{
    Channel, CheckExternal, Failure, client,
    names::Rules,
    server::{Said, State},
};
use crate::secret::SecretBytes;

#[derive(Debug)]
pub(super) struct Server {
    identity: Box<str>,
}

impl Server {
    pub(super) fn begin(channel: &Channel) -> Result<(Vec<u8>, Self), Failure> {
        let identity = channel.identity().ok_or(Failure::Unsupported)?;
        Ok((Vec::new(), Self { identity: identity.into() }))
    }

    pub(super) fn take(
        &self,
        rules: &Rules,
        _: Said,
        response: SecretBytes,
    ) -> Result<State, Failure> {
        let authzid = core::str::from_utf8(response.as_slice())
            .map_err(|_| Failure::Malformed("it is not UTF-8"))?;
        let authzid = rules.authzid_if_any(authzid)?;
        Ok(State::CheckExternal(CheckExternal::new(&self.identity, authzid)))
    }
}

#[derive(Debug)]
pub(super) struct Client;

impl Client {
    pub(super) fn begin(
        (): (),
        authzid: Option<&str>,
    ) -> Result<(Option<Vec<u8>>, Self), client::Failure> {
        Ok((Some(authzid.unwrap_or_default().into()), Self))
    }

    pub(super) fn take(self, _: &[u8]) -> Result<(Vec<u8>, Self), client::Failure> {
        Err(client::Failure::UnexpectedChallenge)
    }

    pub(super) fn finish(self) -> Result<(), client::Failure> {
        Ok(())
    }
}
