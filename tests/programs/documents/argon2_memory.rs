pub(crate) fn is_right(password: &[u8], hash: &PasswordHash) -> bool {
    is_password(password, hash).unwrap()
}
