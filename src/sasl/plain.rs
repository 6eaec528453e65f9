//! PLAIN (RFC 4616): one message, `[authzid] NUL authcid NUL password`.

use alloc::{sync::Arc, vec::Vec};

use super::{
    CheckPassword, Failure,
    client::{self, Password},
    names::Rules,
    query::Authcid,
    server::{Config, Said, State},
};
use crate::secret::SecretBytes;

#[derive(Debug)]
pub(super) struct Server;

impl Server {
    pub(super) fn begin(_: &Config) -> Result<(Vec<u8>, Self), Failure> {
        Ok((Vec::new(), Self))
    }

    #[inline(always)]
    pub(super) fn take(
        &self,
        rules: &Rules,
        _: Said,
        response: SecretBytes,
    ) -> Result<State, Failure> {
        let message = response.into_text().ok_or(Failure::Malformed("it is not UTF-8"))?;
        // The first call returns the length of the authzid, the second the length of the authcid: each counts
        // from the last NUL.
        let mut octets = message.expose().as_bytes().iter();
        let mut field = || octets.position(|octet| *octet == 0);
        let (Some(authzid), Some(authcid), None) = (field(), field(), field()) else {
            return Err(Failure::Malformed("PLAIN takes exactly two NULs"));
        };
        let authcid = authzid + 1..authzid + 1 + authcid;
        let password = authcid.end + 1;
        if password == message.expose().len() {
            return Err(Failure::Malformed("the password is empty"));
        }
        let folded = rules.fold(message.part(authcid.clone()))?;
        let authzid = rules.authzid_if_any(message.part(0..authzid))?;
        let name = Authcid::InFront(authcid);
        let ask = CheckPassword::new(name, folded, authzid, message.behind(password));
        Ok(State::CheckPassword(ask))
    }
}

#[derive(Debug)]
pub(super) struct Client;

impl Client {
    pub(super) fn begin(
        password: Arc<Password>,
        authzid: Option<&str>,
    ) -> Result<(Option<Vec<u8>>, Self), client::Failure> {
        let (authcid, password) = (&*password.authcid, password.password.expose());
        let authzid = authzid.unwrap_or_default();
        let mut message = Vec::with_capacity(authzid.len() + authcid.len() + password.len() + 2);
        for field in [authzid, "\0", authcid, "\0", password] {
            message.extend_from_slice(field.as_bytes());
        }
        Ok((Some(message), Self))
    }

    pub(super) fn take(self, _: &[u8]) -> Result<(Vec<u8>, Self), client::Failure> {
        Err(client::Failure::UnexpectedChallenge)
    }

    pub(super) fn finish(self) -> Result<(), client::Failure> {
        Ok(())
    }
}
