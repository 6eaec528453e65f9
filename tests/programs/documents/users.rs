pub(crate) fn users() -> crate::Users {
    Box::new(Users)
}
