/// What a session needs after a call to `advance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a session needs input or has an event, and there is no third case"
)]
pub enum Advance {
    /// The session needs octets from the peer. Send the buffer, read from the peer, and pass the octets to the session.
    NeedInput,
    /// The session has a pending event. Call the session's `pending` method to get the event.
    Event,
}
