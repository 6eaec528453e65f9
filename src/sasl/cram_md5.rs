//! CRAM-MD5 (RFC 2195): a keyed digest of a fresh challenge.

use alloc::{sync::Arc, vec::Vec};

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use zeroize::Zeroizing;

use super::{
    CramSecret, CramSecretFor, Failure,
    client::{self, Password},
    cram_secret::States,
    hex,
    names::Rules,
    server::{Config, Said, State},
};
use crate::secret::{SecretBytes, apart};

#[derive(Debug)]
pub(super) struct Server;

impl Server {
    pub(super) fn begin(config: &Config) -> Result<(Vec<u8>, Self), Failure> {
        let nonce = config.nonce()?;
        let challenge = ["<", nonce.as_str(), "@", config.hostname(), ">"].concat();
        Ok((challenge.into_bytes(), Self))
    }

    /// `response = user SP digest`. A name may contain spaces, so the last space is the separator.
    pub(super) fn take(
        &self,
        rules: &Rules,
        challenge: Said,
        response: SecretBytes,
    ) -> Result<State, Failure> {
        let text = response.into_text().ok_or(Failure::Malformed("it is not UTF-8"))?;
        let parts = text.expose().as_bytes().split_last_chunk::<32>();
        let Some(([name @ .., b' '], digest)) = parts else {
            return Err(Failure::Malformed("CRAM-MD5 takes a name and a digest of 32 digits"));
        };
        if !hex::is_digits(digest) {
            return Err(Failure::Malformed(
                "the digest is not written in lower-case hexadecimal digits",
            ));
        }
        let length = name.len();
        let folded = rules.fold(text.part(0..length))?;
        let digest = text.behind(length + " ".len());
        Ok(State::CramSecret(CramSecretFor::new(folded, challenge.into_owned().into(), digest)))
    }
}

/// Returns whether the digest, in hexadecimal, is right.
///
/// To prevent a timing attack, an account that does not exist takes the same work: the digest is verified
/// against decoy states, and the result is ignored.
pub(super) fn verify(found: Option<&CramSecret>, challenge: &[u8], digest: &str) -> bool {
    apart(1, || {
        let digest = Zeroizing::new(hex::decode(digest.as_bytes()).unwrap_or_default());
        let (nobody, exists) = (States::default(), found.is_some());
        found.map_or(&nobody, CramSecret::as_states).verifies(challenge, &digest) & exists
    })
}

#[derive(Debug)]
pub(super) enum Client {
    Challenge(Arc<Password>),
    Sent,
}

impl Client {
    pub(super) fn begin(
        password: Arc<Password>,
        _: Option<&str>,
    ) -> Result<(Option<Vec<u8>>, Self), client::Failure> {
        Ok((None, Self::Challenge(password)))
    }

    pub(super) fn take(self, challenge: &[u8]) -> Result<(Vec<u8>, Self), client::Failure> {
        let Self::Challenge(own) = self else {
            return Err(client::Failure::UnexpectedChallenge);
        };
        let Password { authcid, password, .. } = &*own;
        let response = apart(1, || {
            let mut digest = Hmac::<Md5>::new_from_slice(password.expose().as_bytes())
                .map_err(|_| client::Failure::Unsupported)?;
            digest.update(challenge);
            let digest = Zeroizing::new(digest.finalize().into_bytes().into());
            let digest = Zeroizing::new(hex::encode::<16>(&digest));
            let mut response = Vec::with_capacity(authcid.len() + 33);
            response.extend_from_slice(authcid.as_bytes());
            response.push(b' ');
            response.extend_from_slice(digest.as_flattened());
            Ok(response)
        })?;
        Ok((response, Self::Sent))
    }

    pub(super) fn finish(self) -> Result<(), client::Failure> {
        match self {
            Self::Sent => Ok(()),
            Self::Challenge(_) => Err(client::Failure::EarlySuccess),
        }
    }
}
