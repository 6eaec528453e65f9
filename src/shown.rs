//! Which characters of a peer's text are not shown as they are: those that end a line, that a terminal obeys, or that
//! change the order in which the text around them is read.

/// Whether a character is a control, a line or paragraph separator, or one of the controls of direction
/// (Unicode Standard Annex #9 §2).
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control() || is_mark(c) || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether it is one of the marks, which have a direction and change that of nothing else. They occur in
/// words of Arabic and Hebrew.
pub(crate) fn is_mark(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
}

/// The character as it may be shown.
pub(crate) fn shown(c: char) -> char {
    if is_hidden(c) { '?' } else { c }
}
