//! What an exchange has sent, for as long as it lasts: a server may repeat it.

use alloc::{vec, vec::Vec};

use zeroize::Zeroizing;

use crate::{
    base64::{decode, encode, encoded},
    secret::SecretBytes,
};

/// So many octets in a row, the same in what was sent and in what is said, are no chance.
const RUN: usize = 8;

/// Whether a line has a run of octets that one of the messages has too, as it is or in base64, as it was
/// sent. The line may be in base64 itself. The time is linear in the length of all.
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

/// Runs by their hash, in a table of which half is free at least.
struct Runs {
    /// `0` is free: no reply has a run of NULs.
    table: Zeroizing<Vec<u64>>,
    shift: u32,
}

impl Runs {
    fn with_room(most: usize) -> Self {
        let bits = (2 * most).next_power_of_two().trailing_zeros().max(1);
        Self { table: Zeroizing::new(vec![0; 1 << bits]), shift: u64::BITS - bits }
    }

    fn add(&mut self, octets: &[u8]) {
        for run in runs(octets) {
            if let Some(place) = self.place(run).and_then(|at| self.table.get_mut(at)) {
                *place = run;
            }
        }
    }

    fn any_of(&self, octets: &[u8]) -> bool {
        let known = |run| self.place(run).and_then(|at| self.table.get(at)) == Some(&run);
        runs(octets).filter(|run| *run != 0).any(known)
    }

    /// Where the run is, or where it would be.
    fn place(&self, run: u64) -> Option<usize> {
        // Fibonacci hashing: all octets weigh on the upper bits of the product.
        let start = (run.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        let mut places = (start..self.table.len()).chain(0..start);
        places.find(|at| self.table.get(*at).is_some_and(|own| *own == 0 || *own == run))
    }
}

fn runs(octets: &[u8]) -> impl Iterator<Item = u64> + '_ {
    octets.windows(RUN).map(|run| u64::from_le_bytes(run.try_into().unwrap_or_default()))
}
