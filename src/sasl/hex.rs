//! Hexadecimal, in lower case.

/// Two digits for each octet.
pub(super) fn encode(octets: &[u8]) -> impl Iterator<Item = [u8; 2]> {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    octets.iter().map(move |octet| [digit(octet >> 4), digit(octet & 15)])
}

/// `None` where the text is of another length, or has other digits.
pub(super) fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |octet: &u8| match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'a'..=b'f' => Some(octet - b'a' + 10),
        _ => None,
    };
    let mut octets = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (octet, pair) in octets.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *octet = digit(high)? << 4 | digit(low)?;
    }
    Some(octets)
}
