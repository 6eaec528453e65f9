//! Which addresses an account may send from.

use super::*;

/// A server with these accounts beside `tim`, and these `--senders`.
fn start(maildir: &Path, accounts: &[&str], senders: &[&str]) -> Server {
    let accounts = accounts.iter().map(|name| format!("--user={name}:{PASSWORD}"));
    let senders = senders.iter().map(|given| format!("--senders={given}"));
    let options: Vec<String> = accounts.chain(senders).collect();
    Server::start(maildir, &options.iter().map(String::as_str).collect::<Vec<_>>())
}

#[track_caller]
fn check(server: &Server, account: &str, may: &[&str], may_not: &[&str]) {
    let mut client = server.client();
    assert!(client.sign_in(account, PASSWORD).starts_with("235 "), "{account}");
    for (from, expected) in [("", "250 ")]
        .into_iter()
        .chain(may.iter().map(|&from| (from, "250 ")))
        .chain(may_not.iter().map(|&from| (from, "553 5.7.1 ")))
    {
        let reply = client.say(&format!("MAIL FROM:<{from}> SMTPUTF8"));
        assert!(reply.starts_with(expected), "{account} as {from}: {reply}");
        assert!(client.say("RSET").starts_with("250 "));
    }
}

#[test]
fn an_account_has_the_addresses_of_its_name() {
    let folder = tempdir().unwrap();
    let server = start(folder.path(), &["Tim", "t im"], &[]);
    let others = ["ann@example.org", "timothy@example.org", "\"t im\"@example.org"];
    check(&server, "tim", &["tim@example.org", "tim@[192.0.2.1]", "TIM@EXAMPLE.org"], &others);
    check(&server, "tim", &["\"tim\"@example.org", r#""t\im"@example.org"#], &others);
    check(&server, "Tim", &["tim@example.org"], &others);
    let own = ["\"t im\"@example.org", r#""t\ im"@example.org"#];
    check(&server, "t im", &own, &["tim@example.org"]);
}

#[test]
fn an_account_that_is_an_address_has_that_alone() {
    let folder = tempdir().unwrap();
    let server = start(folder.path(), &["ann@example.org", "ANN@Example.Org"], &[]);
    let own = ["Ann@example.org", "ann@EXAMPLE.ORG", "\"ann\"@example.org"];
    let quoted = r#""ann@example.org"@example.com"#;
    let others = ["ann@example.com", "ann@sub.example.org", "tim@example.org", quoted];
    check(&server, "ann@example.org", &own, &others);
    check(&server, "ANN@Example.Org", &own, &others);
}

#[test]
fn names_are_prepared() {
    let folder = tempdir().unwrap();
    let composed = "ren\u{e9}@ex\u{e4}mple.org";
    let server = start(folder.path(), &["rene\u{301}"], &[]);
    let own = [composed, "REN\u{c9}@EX\u{c4}MPLE.org"];
    check(&server, "rene\u{301}", &own, &["rene@example.org", "\u{1f600}@example.org"]);
    let server = start(folder.path(), &["ren\u{e9}"], &["rene\u{301}:ann@example.org"]);
    check(&server, "ren\u{e9}", &["ann@example.org"], &[composed]);
}

#[test]
fn an_account_has_what_it_is_given_in_place_of_that() {
    let folder = tempdir().unwrap();
    let given = ["tim:Sales@example.org,tim@example.org", "TIM:info@example.org", "ann:*"];
    let given = [&given[..], &["kim@Example.org:bob@example.org"]].concat();
    let server = start(folder.path(), &["bob", "kim@example.org"], &given);
    let may = ["sales@example.org", "tim@example.org", "info@EXAMPLE.org"];
    check(&server, "tim", &may, &["tim@example.com", "ann@example.org"]);
    check(&server, "ann", &["ann@example.org", "anyone@example.com"], &[]);
    check(&server, "bob", &["bob@example.org"], &["sales@example.org"]);
    check(&server, "kim@example.org", &["bob@example.org"], &["kim@example.org"]);
}

#[test]
fn what_cannot_be_read_is_an_error_at_start() {
    let folder = tempdir().unwrap();
    for given in ["tim", "tim:", "tim:sales", "tim:a@b,", "tim:a@b, c@d", "tim:@example.org"] {
        let mut server = Command::new(example("server"));
        let server = server.args(["--listen", "127.0.0.1:0", "--senders", given, "--maildir"]);
        let output = server.arg(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("--senders: "), "{given}: {said}");
    }
}
