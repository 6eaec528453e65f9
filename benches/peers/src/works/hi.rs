//! `Hi()` (RFC 5802 §2.2) with each hash: a password's keys, as a store makes them and as PLAIN is checked with them.

use std::{array, hint::black_box};

use smtp_auth::sasl::{ScramHash, ScramKeys};

use super::{Row, Run, Work};
use crate::inputs::{ITERATIONS, PASSWORD, SALT};

const BARE: &str = "bare compressions";

pub const SHA_1: Work = Work {
    name: "hi-sha-1",
    about: "a password's keys for SCRAM-SHA-1, 4,096 iterations",
    times: 2,
    parts: 1,
    rows: &[
        Row::ours(|| ours(ScramHash::Sha1)),
        Row::peer("pbkdf2", || pbkdf2::<sha1::Sha1, 20>()).note("the salted password alone"),
        Row::yardstick(BARE, || bare([0_u32; 5], sha1::block_api::compress)),
    ],
};

pub const SHA_256: Work = Work {
    name: "hi-sha-256",
    about: "a password's keys for SCRAM-SHA-256, 4,096 iterations",
    times: 2,
    parts: 1,
    rows: &[
        Row::ours(|| ours(ScramHash::Sha256)),
        Row::peer("pbkdf2", || pbkdf2::<sha2::Sha256, 32>()).note("the salted password alone"),
        Row::yardstick(BARE, || bare([0_u32; 8], sha2::block_api::compress256)),
    ],
};

pub const SHA_512: Work = Work {
    name: "hi-sha-512",
    about: "a password's keys for SCRAM-SHA-512, 4,096 iterations",
    times: 2,
    parts: 1,
    rows: &[
        Row::ours(|| ours(ScramHash::Sha512)),
        Row::peer("pbkdf2", || pbkdf2::<sha2::Sha512, 64>()).note("the salted password alone"),
        Row::yardstick(BARE, || bare([0_u64; 8], sha2::block_api::compress512)),
    ],
};

fn ours(hash: ScramHash) -> Run {
    Box::new(move || {
        let (password, salt) = black_box((PASSWORD, SALT));
        black_box(ScramKeys::from_password(hash, password, salt, ITERATIONS).unwrap());
    })
}

fn pbkdf2<D: hmac::EagerHash + 'static, const LENGTH: usize>() -> Run {
    Box::new(|| {
        let (password, salt) = black_box((PASSWORD.as_bytes(), SALT));
        black_box(pbkdf2::pbkdf2_hmac_array::<D, LENGTH>(password, salt, ITERATIONS));
    })
}

/// The compressions that nobody can leave out: two for each iteration, of one block.
fn bare<S: Copy + 'static, const BLOCK: usize>(
    initial: S,
    compress: impl Fn(&mut S, &[[u8; BLOCK]]) + 'static,
) -> Run {
    let block = array::from_fn(|at| at as u8);
    Box::new(move || {
        let mut state = black_box(initial);
        for _ in 0..2 * ITERATIONS {
            compress(&mut state, &[block]);
        }
        black_box(state);
    })
}
