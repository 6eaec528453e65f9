//! Replaces the module of a mechanism that is not compiled in. The types of this module have no values.
#![allow(dead_code, reason = "this file replaces several modules, and each uses a part of it")]

use alloc::vec::Vec;

use super::{
    CramSecret, Failure, client,
    names::{Claim, Rules},
    server::{Said, State},
};
use crate::secret::SecretBytes;

#[derive(Debug)]
pub(super) enum Server {}

impl Server {
    pub(super) fn begin<T>(_: &T) -> Result<(Vec<u8>, Self), Failure> {
        Err(Failure::Unsupported)
    }

    pub(super) fn take(&self, _: &Rules, _: Said, _: SecretBytes) -> Result<State, Failure> {
        match *self {}
    }

    pub(super) fn claim(&self) -> Option<Claim> {
        match *self {}
    }
}

pub(super) fn verify(_: Option<&CramSecret>, _: &[u8], _: &str) -> bool {
    false
}

/// Without ANONYMOUS, no trace can be sent.
pub(super) fn is_trace(_: &str) -> bool {
    false
}

#[derive(Debug)]
pub(super) enum Client {}

impl Client {
    pub(super) fn begin<T>(
        _: T,
        _: Option<&str>,
    ) -> Result<(Option<Vec<u8>>, Self), client::Failure> {
        Err(client::Failure::Unsupported)
    }

    pub(super) fn take(self, _: &[u8]) -> Result<(Vec<u8>, Self), client::Failure> {
        match self {}
    }

    pub(super) fn finish(self) -> Result<(), client::Failure> {
        match self {}
    }
}
