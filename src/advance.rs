/// What a session has come to by `advance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "there is no third way to go on")]
pub enum Advance {
    /// It needs octets of the peer: send what is to be sent, and receive.
    NeedInput,
    /// An event is pending.
    Event,
}
