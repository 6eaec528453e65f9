//! What the exploration asks of either side.

/// A session, and what is known of it without looking into it.
pub(crate) trait World {
    /// What can happen, by number.
    const INPUTS: u8;

    fn new() -> Self;

    /// Has that happen, and looks at what must hold. `false` where it cannot happen here, and nothing
    /// has changed.
    fn apply(&mut self, input: u8) -> bool;

    /// All that can influence what follows.
    fn fingerprint(&self, shown: &mut String);
}
