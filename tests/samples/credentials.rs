pub(crate) fn store() -> (Arc<server::Config>, crate::Users) {
    let config = server::Config::try_from("mail.example.org").unwrap();
    let keys = ScramKeys::generate(ScramHash::Sha256, "tanstaaftanstaaf", 4096).unwrap();
    let accounts = HashMap::from([("tim".to_owned(), keys)]);
    let store = Store { accounts, sasl: Arc::clone(config.sasl()) };
    (Arc::new(config), Box::new(store))
}
