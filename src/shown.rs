//! Hides characters in a peer's text that end a line, that a terminal obeys, or that change the order in which the text
//! around them is read.

/// Returns whether a character is a control character, a line or paragraph separator, or a direction control (Unicode
/// Standard Annex #9 §2).
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control() || is_mark(c) || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns whether a character is a direction mark. A mark has a direction but does not change that of other
/// characters. Marks occur in Arabic and Hebrew words.
pub(crate) fn is_mark(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
}

/// Returns the character, or `?` in place of one that must not be shown.
pub(crate) fn shown(c: char) -> char {
    if is_hidden(c) { '?' } else { c }
}
