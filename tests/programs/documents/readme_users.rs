pub(crate) fn users() -> crate::Users {
    Box::new(OneUser)
}

pub(crate) fn shared() -> Arc<smtp_auth::server::Config> {
    config().unwrap()
}
