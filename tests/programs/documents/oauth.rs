pub(crate) fn users() -> crate::Users {
    Box::new(Tokens(|token| Claims {
        active: token == "tanstaaftanstaaf",
        audience: "mail.example.org".into(),
        scope: "mail".into(),
        mailbox: "tim".into(),
    }))
}
