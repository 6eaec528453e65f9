pub(crate) fn first() -> (Session, Envelope) {
    begin().unwrap()
}
