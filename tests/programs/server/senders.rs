//! Which addresses an account may send from.

use smtp_auth::command::Mailbox;

use example::Senders;

#[path = "../../../examples/server/senders.rs"]
mod example;

fn senders(given: &[&str]) -> Result<Senders, String> {
    Senders::new(&given.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>())
}

#[track_caller]
fn check(given: &[&str], account: &str, may: &[&str], may_not: &[&str]) {
    let senders = senders(given).unwrap();
    let uses = |from: &&&str| senders.may_use(account, Some(Mailbox::parse(from).unwrap()));
    assert!(senders.may_use(account, None), "the null sender");
    assert_eq!(may.iter().find(|from| !uses(from)), None, "{account} may use it");
    assert_eq!(may_not.iter().find(uses), None, "{account} may not use it");
}

#[test]
fn an_account_has_the_addresses_of_its_name() {
    let others = ["ann@example.org", "tim@tim", "timothy@example.org", "\"t im\"@example.org"];
    check(&[], "tim", &["tim@example.org", "tim@[192.0.2.1]", "TIM@EXAMPLE.org"], &others[..1]);
    check(&[], "tim", &["\"tim\"@example.org", r#""t\im"@example.org"#], &others[2..]);
    check(&[], "Tim", &["tim@example.org"], &others[..1]);
    check(&[], "t im", &["\"t im\"@example.org", r#""t\ im"@example.org"#], &["tim@example.org"]);
}

#[test]
fn an_account_that_is_an_address_has_that_alone() {
    let own = ["Ann@example.org", "ann@EXAMPLE.ORG", "\"ann\"@example.org"];
    let others = ["ann@example.com", "ann@sub.example.org", "tim@example.org"];
    check(&[], "ann@example.org", &own, &others);
    check(&[], "ANN@Example.Org", &own, &others);
    let quoted = r#""ann@example.org"@example.com"#;
    check(&[], "ann@example.org", &[], &[quoted]);
}

#[test]
fn names_are_prepared() {
    let composed = "ren\u{e9}@ex\u{e4}mple.org";
    check(&[], "rene\u{301}", &[composed, "REN\u{c9}@EX\u{c4}MPLE.org"], &["rene@example.org"]);
    check(&["rene\u{301}:ann@example.org"], "ren\u{e9}", &["ann@example.org"], &[composed]);
    // What SASLprep does not allow is itself alone.
    check(&[], "\u{1f600}", &["\u{1f600}@example.org"], &["\u{1f601}@example.org"]);
}

#[test]
fn an_account_has_what_it_is_given_in_place_of_that() {
    let given = ["tim:Sales@example.org,tim@example.org", "TIM:info@example.org", "ann:*"];
    let may = ["sales@example.org", "tim@example.org", "info@EXAMPLE.org"];
    check(&given, "tim", &may, &["tim@example.com", "ann@example.org"]);
    check(&given, "ann", &["ann@example.org", "anyone@example.com"], &[]);
    check(&given, "bob", &["bob@example.org"], &["sales@example.org"]);
    check(&["ann@Example.org:bob@example.org"], "ann@example.org", &["bob@example.org"], &[]);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    for given in ["tim", "tim:", "tim:sales", "tim:a@b,", "tim:a@b, c@d", "tim:@example.org"] {
        assert!(senders(&[given]).is_err(), "{given}");
    }
}
