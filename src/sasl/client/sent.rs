//! The messages that an exchange has sent, which are kept during the exchange to recognize a server that repeats
//! them.

use alloc::{vec, vec::Vec};

use zeroize::Zeroizing;

use crate::{
    base64::{decode, encode, encoded},
    secret::SecretBytes,
};

/// The length of a run of octets that two texts do not share by chance.
const RUN: usize = 8;

/// The maximum distance of a run from its place in the table. By chance, no run gets that far from its place. However,
/// a server that chooses part of what is sent, such as its nonce in SCRAM, can choose runs that all have the same
/// place.
const MAX_PROBES: usize = 256;

/// Returns whether a line and a message contain the same run of octets. The line may contain the run as it is or in
/// base64, the form in which the message was sent. The whole line may also be in base64. The time is linear in the
/// total length.
pub(super) fn repeats<'a>(
    messages: impl Iterator<Item = &'a [u8]> + Clone,
    mut lines: impl Iterator<Item = &'a [u8]>,
) -> bool {
    let most = messages.clone().map(|message| message.len() + encoded(message.len())).sum();
    let mut known = Runs::with_room(most);
    for message in messages {
        known.add(message);
        let mut base64 = Vec::with_capacity(encoded(message.len()));
        encode(message, &mut base64);
        known.add(SecretBytes::new(base64).as_slice());
    }
    lines.any(|line| {
        let decoded = decode(line).map(SecretBytes::new).unwrap_or_default();
        known.any_of(line) || known.any_of(decoded.as_slice())
    })
}

/// Runs in a hash table of which at least half is free.
struct Runs {
    /// `0` marks a free place, because no reply contains a run of NULs.
    table: Zeroizing<Vec<u64>>,
    shift: u32,
    /// A run was too far from its place. The message was constructed to cause that, so every line counts as a
    /// repetition.
    crowded: bool,
}

impl Runs {
    fn with_room(most: usize) -> Self {
        let bits = (2 * most).next_power_of_two().trailing_zeros().max(1);
        let table = Zeroizing::new(vec![0; 1 << bits]);
        Self { table, shift: u64::BITS - bits, crowded: false }
    }

    fn add(&mut self, octets: &[u8]) {
        for run in runs(octets) {
            match self.place(run).and_then(|at| self.table.get_mut(at)) {
                Some(place) => *place = run,
                None => self.crowded = true,
            }
        }
    }

    fn any_of(&self, octets: &[u8]) -> bool {
        let known = |run| self.place(run).and_then(|at| self.table.get(at)) == Some(&run);
        self.crowded || runs(octets).filter(|run| *run != 0).any(known)
    }

    /// Returns the place of the run, or the place where it belongs. Returns `None` if that place is too far away.
    fn place(&self, run: u64) -> Option<usize> {
        // Fibonacci hashing: all octets affect the upper bits of the product.
        let start = (run.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        let mut places = (start..self.table.len()).chain(0..start).take(MAX_PROBES);
        places.find(|at| self.table.get(*at).is_some_and(|own| *own == 0 || *own == run))
    }
}

fn runs(octets: &[u8]) -> impl Iterator<Item = u64> + '_ {
    octets.windows(RUN).map(|run| u64::from_le_bytes(run.try_into().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Picks each octet so that its run has the lowest place in the table.
    fn crowd(length: usize) -> Vec<u8> {
        let mut text = b"fyko+d2l".to_vec();
        while text.len() < length {
            let place = |octet: &u8| {
                let run: Vec<u8> = text[text.len() - 7..].iter().copied().chain([*octet]).collect();
                runs(&run).next().unwrap_or_default().wrapping_mul(0x9e37_79b9_7f4a_7c15)
            };
            text.extend((b'!'..=b'~').filter(|octet| *octet != b',').min_by_key(place));
        }
        text
    }

    #[test]
    fn runs_that_have_one_place_are_not_searched_for() {
        let line = &b"535 5.7.8 The user name, password, token or certificate is wrong"[..];
        let repeats = |message: &[u8]| repeats([message].into_iter(), [line].into_iter());
        assert!(repeats(&crowd(1024)));
        let chance: Vec<u8> = (0..9216u64)
            .map(|n| b'!' + ((n + 1).wrapping_mul(0xd129_0d3b_3b94_5b05) >> 32) as u8 % 90)
            .collect();
        assert!(!repeats(&chance));
        assert!(!repeats(&[b'a'; 9216]));
    }
}
