pub(crate) fn store() -> (Arc<server::Config>, crate::Users) {
    let sasl = sasl::server::Config::builder("mail.example.org").mechanisms(MECHANISMS);
    let config = server::Config::builder("mail.example.org").sasl(sasl.build().unwrap());
    let config = config.build().unwrap();
    let keys = ScramKeys::generate(ScramHash::Sha256, "tanstaaftanstaaf", 4096).unwrap();
    let accounts = HashMap::from([("tim".to_owned(), keys)]);
    let store = Store { accounts, sasl: Arc::clone(config.sasl()) };
    (Arc::new(config), Box::new(store))
}
