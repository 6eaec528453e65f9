//! LOGIN (draft-murchison-sasl-login): the name, then the password, each asked for.

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
    /// Outlook and others take just this prompt, and [the other](Self::take), to the letter.
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
                    return Err(Failure::Malformed("the password holds NUL"));
                }
                let name = Authcid::Own(authcid.take());
                Ok(State::CheckPassword(CheckPassword::new(name, folded.take(), None, text)))
            }
        }
    }

    /// Whom the client claims to be, once it has said so.
    pub(super) fn claim(&mut self) -> Option<Claim> {
        let Self::Password { authcid, folded } = self else { return None };
        let authcid = folded.take().map_or_else(|| authcid.take_all(), |folded| (*folded).into());
        Some(Claim { authcid, account: None })
    }
}

/// The client goes by position: prompts are localized, empty, or end in a NUL.
#[derive(Debug)]
pub(super) enum Client {
    UserName(Arc<Password>),
    Password(Arc<Password>),
    Sent,
}

impl Client {
    /// The name could go along with the command, but not every server takes it there.
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
