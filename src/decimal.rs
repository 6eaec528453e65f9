//! Writes decimal numbers.

use alloc::vec::Vec;

/// Appends the digits of a number, without leading zeros.
pub(crate) fn decimal(number: u64, out: &mut Vec<u8>) {
    if number > 9 {
        decimal(number / 10, out);
    }
    out.push(b'0' + (number % 10) as u8);
}
