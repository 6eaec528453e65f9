//! LOGIN (draft-murchison-sasl-login): the server asks for the user name, then for the password.

use alloc::{sync::Arc, vec::Vec};

use super::{
    CheckPassword, Failure,
    client::{self, Password},
    names::{Claim, Folded, Rules},
    query::Authcid,
    server::{Config, Next, Said, State},
};
use crate::secret::{Secret, SecretBytes};

#[derive(Debug)]
pub(super) enum Server {
    UserName,
    Password { authcid: Secret, folded: Folded },
}

impl Server {
    /// Outlook and other clients accept only exactly this prompt, and exactly [`Password:`](Self::take) after
    /// it.
    pub(super) fn begin(_: &Config) -> Result<(&'static [u8], Self), Failure> {
        Ok((b"Username:", Self::UserName))
    }

    pub(super) fn take(
        &mut self,
        rules: &Rules,
        _: Said,
        response: SecretBytes,
    ) -> Result<State, Failure> {
        let text = response.into_text().ok_or(Failure::Malformed("it is not UTF-8"))?;
        match self {
            Self::UserName => {
                let folded = rules.fold(text.expose())?;
                let next = Next::Login(Self::Password { authcid: text, folded });
                Ok(State::challenge(&b"Password:"[..], next))
            }
            Self::Password { authcid, folded } => {
                if text.expose().is_empty() {
                    return Err(Failure::Malformed("the password is empty"));
                }
                if text.expose().contains('\0') {
                    return Err(Failure::Malformed("the password contains NUL"));
                }
                let name = Authcid::Own(authcid.take());
                Ok(State::CheckPassword(CheckPassword::new(name, folded.take(), None, text)))
            }
        }
    }

    /// Returns the name that the client claimed, once it has sent one.
    pub(super) fn claim(&mut self) -> Option<Claim> {
        let Self::Password { authcid, folded } = self else { return None };
        let authcid = folded.take().map_or_else(|| authcid.take_all(), |folded| (*folded).into());
        Some(Claim { authcid, account: None })
    }
}

/// The client counts the prompts and does not read them: some servers translate them, leave them empty, or end
/// them with a NUL.
#[derive(Debug)]
pub(super) enum Client {
    UserName(Arc<Password>),
    Password(Arc<Password>),
    Sent,
}

impl Client {
    /// The client could send the name as an initial response, but not every server accepts one.
    pub(super) fn begin(
        password: Arc<Password>,
        _: Option<&str>,
    ) -> Result<(Option<Vec<u8>>, Self), client::Failure> {
        Ok((None, Self::UserName(password)))
    }

    pub(super) fn take(self, _: &[u8]) -> Result<(Vec<u8>, Self), client::Failure> {
        match self {
            Self::UserName(password) => {
                let name = password.authcid.as_bytes().to_vec();
                Ok((name, Self::Password(password)))
            }
            Self::Password(password) => Ok((password.password.expose().into(), Self::Sent)),
            Self::Sent => Err(client::Failure::UnexpectedChallenge),
        }
    }

    pub(super) fn finish(self) -> Result<(), client::Failure> {
        match self {
            Self::Sent => Ok(()),
            Self::UserName(_) | Self::Password(_) => Err(client::Failure::EarlySuccess),
        }
    }
}
