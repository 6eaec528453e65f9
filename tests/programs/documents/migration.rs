fn verify(hash: Option<&str>, password: &str) -> bool {
    hash == Some(&format!("hash of {password}"))
}

pub(crate) fn users() -> crate::Users {
    let account = Account { old_hash: "hash of tanstaaftanstaaf".into(), scram: None };
    Box::new(Store { accounts: Mutex::new(HashMap::from([("tim".into(), account)])) })
}

/// As the application's limit has it: nobody has failed too often here.
fn is_locked(_: &str) -> bool {
    false
}
