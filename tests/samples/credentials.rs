pub(crate) fn store() -> (Arc<server::Config>, crate::Users) {
    let config = server::Config::builder("mail.example.org").sasl(sasl::server::Config::builder("mail.example.org").mechanisms(Mechanism::COMPILED).build().unwrap()).build().unwrap();
    let keys = ScramKeys::generate(ScramHash::Sha256, "tanstaaftanstaaf", 4096).unwrap();
    let accounts = HashMap::from([("tim".to_owned(), keys)]);
    let store = Store { accounts, sasl: Arc::clone(config.sasl()) };
    (Arc::new(config), Box::new(store))
}
