//! `Hi()` (RFC 5802 §2.2): PBKDF2 (RFC 8018 §5.2) with HMAC and one block of output.
//!
//! After the first, the input of each HMAC is a hash's result, which fits into one block after the padded key. So an
//! iteration is two calls of the compression function, one for the inner hash and one for the outer. Secrets are zeroed
//! once, at the end. The `pbkdf2` crate copies and zeroes two hashers in each iteration instead.

use core::{array, ops::BitXorAssign, slice};

use hmac::{EagerHash, Mac};
use zeroize::{Zeroize, Zeroizing};

use super::hash::{Digest, on};

#[cfg(feature = "scram-sha-1")]
pub(super) fn sha1(password: &[u8], salt: &[u8], iterations: u32) -> Digest {
    /// FIPS 180-4 §5.3.1
    const INITIAL: [u32; 5] = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
    hi::<sha1::Sha1, u32, 5, 64>(sha1::block_api::compress, INITIAL, password, salt, iterations)
}

#[cfg(feature = "scram-sha-256")]
pub(super) fn sha256(password: &[u8], salt: &[u8], iterations: u32) -> Digest {
    /// FIPS 180-4 §5.3.3
    const INITIAL: [u32; 8] = [
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
        0x5be0cd19,
    ];
    hi::<sha2::Sha256, u32, 8, 64>(
        sha2::block_api::compress256,
        INITIAL,
        password,
        salt,
        iterations,
    )
}

#[cfg(feature = "scram-sha-512")]
pub(super) fn sha512(password: &[u8], salt: &[u8], iterations: u32) -> Digest {
    /// FIPS 180-4 §5.3.5
    const INITIAL: [u64; 8] = [
        0x6a09e667f3bcc908,
        0xbb67ae8584caa73b,
        0x3c6ef372fe94f82b,
        0xa54ff53a5f1d36f1,
        0x510e527fade682d1,
        0x9b05688c2b3e6c1f,
        0x1f83d9abfb41bd6b,
        0x5be0cd19137e2179,
    ];
    hi::<sha2::Sha512, u64, 8, 128>(
        sha2::block_api::compress512,
        INITIAL,
        password,
        salt,
        iterations,
    )
}

/// `U1 := HMAC(str, salt + INT(1))`
fn first<D: EagerHash>(password: &[u8], salt: &[u8]) -> Digest {
    let mac = on::keyed::<D>(password).chain_update(salt).chain_update(1u32.to_be_bytes());
    Digest::new(&mac.finalize().into_bytes())
}

/// The key as HMAC pads it: a key longer than a block is hashed first (RFC 2104 §2).
fn key<D: hmac::digest::Digest, const BLOCK: usize>(password: &[u8]) -> Zeroizing<[u8; BLOCK]> {
    let mut key = Zeroizing::new([0; BLOCK]);
    let hashed = (password.len() > BLOCK).then(|| Digest::new(&D::digest(password)));
    let short = hashed.as_ref().map_or(password, Digest::as_slice);
    key.iter_mut().zip(short).for_each(|(to, from)| *to = *from);
    key
}

/// Returns the XOR of `U1` and all `Ui := HMAC(str, Ui-1)`.
fn hi<D: EagerHash + hmac::digest::Digest, W: Word, const STATE: usize, const BLOCK: usize>(
    compress: impl Fn(&mut [W; STATE], &[[u8; BLOCK]]),
    initial: [W; STATE],
    password: &[u8],
    salt: &[u8],
    iterations: u32,
) -> Digest {
    let first = first::<D>(password, salt);
    let key = key::<D, BLOCK>(password);
    let mut block = Zeroizing::new([0; BLOCK]);
    let keyed = Zeroizing::new([0x36, 0x5c].map(|pad| {
        block.iter_mut().zip(key.iter()).for_each(|(to, from)| *to = from ^ pad);
        let mut state = initial;
        compress(&mut state, slice::from_ref(&block));
        state
    }));
    *block = last_block(first.as_slice());
    let mut state = Zeroizing::new(initial);
    let mut sum = Zeroizing::new([W::default(); STATE]);
    for _ in 1..iterations {
        for keyed in keyed.iter() {
            *state = *keyed;
            compress(&mut state, slice::from_ref(&block));
            write(&state, &mut block);
        }
        sum.iter_mut().zip(state.iter()).for_each(|(sum, word)| *sum ^= *word);
    }
    write(&sum, &mut block);
    let rest = Digest::new(block.get(..first.as_slice().len()).unwrap_or_default());
    first.xor(&rest)
}

/// Pads a hash's result as the last of a message's two blocks: with a 1 bit after it, and the message's length in
/// bits (FIPS 180-4 §5.1).
fn last_block<const BLOCK: usize>(result: &[u8]) -> [u8; BLOCK] {
    let bits = 8 * (BLOCK + result.len()) as u64;
    let (ends, from) = (bits.to_be_bytes(), BLOCK - 8);
    array::from_fn(|at| match result.get(at) {
        Some(octet) => *octet,
        None if at == result.len() => 0x80,
        None => at.checked_sub(from).and_then(|at| ends.get(at)).copied().unwrap_or(0),
    })
}

/// Writes the words in big-endian order to the beginning of a block.
fn write<W: Word, const STATE: usize, const BLOCK: usize>(
    words: &[W; STATE],
    block: &mut [u8; BLOCK],
) {
    let octets = block.chunks_exact_mut(size_of::<W>());
    octets.zip(words).for_each(|(octets, word)| word.write(octets));
}

/// A word of a hash's state.
trait Word: Copy + Default + BitXorAssign + Zeroize {
    /// Writes the word in big-endian order. `octets` must have the word's length.
    fn write(self, octets: &mut [u8]);
}

impl Word for u32 {
    fn write(self, octets: &mut [u8]) {
        octets.copy_from_slice(&self.to_be_bytes());
    }
}

impl Word for u64 {
    fn write(self, octets: &mut [u8]) {
        octets.copy_from_slice(&self.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use crate::sasl::ScramHash;

    fn octets(most: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..=most)
    }

    fn pbkdf2(hash: ScramHash, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match hash {
            #[cfg(feature = "scram-sha-1")]
            ScramHash::Sha1 => {
                pbkdf2::pbkdf2_hmac_array::<sha1::Sha1, 20>(password, salt, iterations).to_vec()
            }
            #[cfg(feature = "scram-sha-256")]
            ScramHash::Sha256 => {
                pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(password, salt, iterations).to_vec()
            }
            #[cfg(feature = "scram-sha-512")]
            ScramHash::Sha512 => {
                pbkdf2::pbkdf2_hmac_array::<sha2::Sha512, 64>(password, salt, iterations).to_vec()
            }
        }
    }

    proptest! {
        /// Covers passwords shorter and longer than a block, which has 64 or 128 octets.
        #[test]
        fn is_pbkdf2(password in octets(300), salt in octets(200), iterations in 1..40u32) {
            for &hash in ScramHash::COMPILED {
                let own = hash.hi(&password, &salt, iterations);
                prop_assert_eq!(own.as_slice(), pbkdf2(hash, &password, &salt, iterations), "{:?}", hash);
            }
        }
    }

    /// Covers the lengths around a block, above which the key is hashed.
    #[test]
    fn is_pbkdf2_for_each_length() {
        for length in 0..=260 {
            let password = alloc::vec![b'p'; length];
            for &hash in ScramHash::COMPILED {
                let own = hash.hi(&password, b"salt", 3);
                assert_eq!(
                    own.as_slice(),
                    pbkdf2(hash, &password, b"salt", 3),
                    "{hash:?}, {length}"
                );
            }
        }
    }
}
