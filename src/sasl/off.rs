//! Stands in for a mechanism that is compiled out: no value of its states exists.
#![allow(dead_code, reason = "one file stands in for several mechanisms, each uses a part of it")]

use alloc::vec::Vec;

use super::{
    Answer, CramSecret, Failure,
    client::{self, Credentials},
    server::{Config, State},
};
use crate::secret::SecretBytes;

#[derive(Debug)]
pub(super) enum Server {}

impl Server {
    pub(super) fn begin(_: &Config) -> Result<(Vec<u8>, Self), Failure> {
        Err(Failure::Unsupported)
    }

    pub(super) fn take(self, _: Vec<u8>, _: SecretBytes) -> Result<State, Failure> {
        match self {}
    }
}

pub(super) fn verify(_: Answer<CramSecret>, _: &[u8], _: &[u8; 16]) -> bool {
    false
}

#[derive(Debug)]
pub(super) enum Client {}

impl Client {
    pub(super) fn begin(_: &Credentials) -> Result<(Option<Vec<u8>>, Self), client::Failure> {
        Err(client::Failure::Unsupported)
    }

    pub(super) fn take(
        self,
        _: &Credentials,
        _: &[u8],
    ) -> Result<(Vec<u8>, Self), client::Failure> {
        match self {}
    }

    pub(super) fn finish(self) -> Result<(), client::Failure> {
        match self {}
    }
}
