//! Sets of octets, of which the grammars are made, and the rule for mechanism names, which two modules use.

/// `mech-char = UPPER-ALPHA / DIGIT / HYPHEN / UNDERSCORE` (RFC 4422 §3.1), but in either case.
pub(crate) static MECH_CHAR: Set = Set::of(b"A-Za-z0-9_-");

/// The longest name of a mechanism, in octets (RFC 4422 §3.1).
pub(crate) const MAX_MECHANISM: usize = 20;

/// A set of octets, written as in a bracket expression: `a-z` is a range, and a `-` at the end is the character itself.
///
/// A table costs one load for each octet of a line, where comparisons cost several.
pub(crate) struct Set([bool; 256]);

impl Set {
    pub(crate) const fn of(members: &[u8]) -> Self {
        let mut table = [false; 256];
        let mut rest: &mut [bool] = &mut table;
        let mut octet = 0;
        while let [slot, tail @ ..] = rest {
            *slot = Self::lists(members, octet);
            octet += 1;
            rest = tail;
        }
        Self(table)
    }

    const fn lists(mut members: &[u8], octet: u16) -> bool {
        while let [first, tail @ ..] = members {
            let (last, tail) = match tail {
                [b'-', last, tail @ ..] => (last, tail),
                _ => (first, tail),
            };
            if *first as u16 <= octet && octet <= *last as u16 {
                return true;
            }
            members = tail;
        }
        false
    }

    pub(crate) fn has(&self, octet: u8) -> bool {
        matches!(self.0.get(usize::from(octet)), Some(true))
    }

    /// Returns how many octets at the start are members.
    #[inline]
    pub(crate) fn run(&self, octets: &[u8]) -> usize {
        octets.iter().position(|octet| !self.has(*octet)).unwrap_or(octets.len())
    }
}
