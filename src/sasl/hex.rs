//! Hexadecimal digits, in lower case.

/// Writes two digits for each octet.
pub(super) fn encode<const N: usize>(octets: &[u8; N]) -> [[u8; 2]; N] {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    octets.map(|octet| [digit(octet >> 4), digit(octet & 15)])
}

/// Returns whether the text consists of lower-case hexadecimal digits.
pub(super) fn is_digits(text: &[u8]) -> bool {
    // This has no early return, so that the compiler can check many digits at a time.
    let good = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    text.iter().fold(true, |all, digit| all & good(digit))
}

/// Decodes the text. Returns `None` if it has another length or contains other characters.
pub(super) fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N || !is_digits(text) {
        return None;
    }
    let value = |digit: u8| if digit < b'a' { digit - b'0' } else { digit - b'a' + 10 };
    let mut octets = [0; N];
    for (octet, pair) in octets.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *octet = value(*high) << 4 | value(*low);
    }
    Some(octets)
}
