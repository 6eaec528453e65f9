//! The commands that manage accounts.

use crate::support::{Authd, PASSWORD};

#[test]
fn a_file_of_dovecot_is_imported_and_what_cannot_be_is_listed() {
    let authd = Authd::new(None, "");
    let file = "# comment\n\
        bcrypt:{BLF-CRYPT}$2y$05$UEeCJ.3mVU0iwitK2olMFuUJ4s6ZUlIKHuQoQTYYgsrFb31FKV0n2:1:1::/h::userdb_x=y\n\
        SCRAM@example.org:{SCRAM-SHA-256}4096,KTREo3okbQ2HdEb3k244Qw==,qn9JXxcA/1jiULQe1u4X4jr8gkNlAXw4hUU0pjt3Z0s=,h7iotWEbtcamNN0b71Yq9aWVgbn4FcUX4ViSWiLognA=\n\
        off:{PLAIN}tanstaaf::::::nologin\n\
        ssha:{SSHA256}nMoS3OZ/atFR5kh1SmtYKBcQ6QVrYnXyHSsO7cUn5p3hJAYa\n\
        bcrypt:{PLAIN}another\n";
    let dry = authd.account(&["import", "dovecot", "-", "--dry-run"], file);
    assert!(!dry.status.success());
    assert_eq!(authd.done(&["list"], ""), "");
    let output = authd.account(&["import", "dovecot", "-"], file);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("line 5: not imported: the scheme SSHA256 is not supported"), "{said}");
    assert!(
        said.contains("line 6: not imported: bcrypt: the name `bcrypt` is already in use"),
        "{said}"
    );
    assert!(said.contains("3 accounts have been imported"), "{said}");
    let list = authd.done(&["list"], "");
    assert!(list.contains("scram@example.org\tenabled\n\t(own password) SCRAM-SHA-256"), "{list}");
    assert!(list.contains("off\tdisabled\n\t(own password) SCRAM-SHA-256"), "{list}");
    let exported = authd.done(&["export", "dovecot"], "");
    let other = Authd::new(None, "");
    other.done(&["import", "dovecot", "-"], &exported);
    assert_eq!(other.done(&["export", "dovecot"], ""), exported);
    assert_eq!(other.done(&["list"], ""), list);
}

#[test]
fn passwords_come_from_the_standard_input_or_are_generated() {
    let authd = Authd::new(None, "");
    assert_eq!(authd.done(&["add", "tim"], &format!("{PASSWORD}\nrest")), "");
    let generated = authd.done(&["add", "ann", "--generate"], "");
    assert_eq!(generated.trim().len(), 29);
    assert!(!authd.account(&["add", "bob"], "short").status.success());
    assert!(!authd.account(&["add", "tim"], PASSWORD).status.success());
    assert!(!authd.account(&["add", "a\tb"], PASSWORD).status.success());
    assert!(!authd.account(&["passwd", "nobody"], PASSWORD).status.success());
    let help = authd.account(&["add", "--help"], "").stdout;
    assert!(!String::from_utf8(help).unwrap().contains("--password"));
}

#[test]
fn aliases_are_added_and_removed() {
    let authd = Authd::new(None, "");
    authd.done(&["add", "tim"], PASSWORD);
    authd.done(&["alias", "tim", "Tim@Example.org"], "");
    assert!(authd.done(&["list"], "").starts_with("tim\tenabled aliases=tim@example.org\n"));
    assert!(
        !authd.account(&["alias", "tim", "tim", "--remove"], "").status.success(),
        "the own name stays"
    );
    authd.done(&["alias", "tim", "tim@example.org", "--remove"], "");
    assert!(authd.done(&["list"], "").starts_with("tim\tenabled\n"));
}

#[test]
fn without_a_database_or_with_a_wrong_file_the_program_says_what_to_do() {
    let authd = Authd::new(Some("mysql://x"), "");
    let said = authd.account(&["list"], "").stderr;
    assert!(
        String::from_utf8(said).unwrap().contains("neither with `sqlite:` nor with `postgres:`")
    );
}
