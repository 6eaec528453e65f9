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

/// The text, without the configuration, which stays, and without the numbers that only grow, of queries and commands,
/// and the numbers and the text of a reply that is kept to be reported. Of recipients, octets and empty lines it counts
/// whether there are any.
pub(crate) fn without_counts(shown: &str) -> impl Iterator<Item = &str> {
    const COUNTS: [&str; 6] = ["serial", "commands", "code", "class", "subject", "detail"];
    const ANY: [&str; 3] = ["recipients", "octets", "empty_lines"];
    let state = shown.split_once("channel: ").map_or(shown, |(_, state)| state);
    state.split(": ").scan("", |before, part| {
        let is_of = |names: &[&str]| names.iter().any(|name| before.ends_with(name));
        let is_text = before.ends_with("text");
        let left_out = is_of(&COUNTS) || is_of(&ANY) && !part.starts_with('0');
        *before = part;
        Some(if is_text {
            part.rsplit('"').next().unwrap_or_default()
        } else if left_out {
            part.trim_start_matches(|c: char| c.is_ascii_digit())
        } else {
            part
        })
    })
}
