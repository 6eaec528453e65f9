//! The commands that manage accounts.

use serde_json::Value;
use smtp_auth::sasl::Mechanism;

use crate::{
    postgres::Postgres,
    support::{Authd, Outcome, PASSWORD},
};

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
        said.contains(
            "line 6: not imported: the name `bcrypt` is already in use, by an earlier line"
        ),
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
fn the_fields_that_an_import_leaves_out_are_named() {
    let authd = Authd::new(None, "");
    let mut file = "# users\n\
        tim:{PLAIN}tanstaaf:1000::hunter2:/home/tim::nodelay userdb_hunter2=x\r\n\
        t:{PLAIN}tanstaaf::::::user=tim\n\
        refused:{SSHA256}x:::::/bin/sh:\r\n"
        .to_owned();
    let note = |file: &str| {
        let output = authd.account(&["import", "dovecot", "-"], file);
        let said = String::from_utf8(output.stderr).unwrap();
        let note = said.lines().find(|line| line.starts_with("note: ")).map(str::to_owned);
        (output.status.success(), note)
    };
    let expected = |of: &str| {
        let said = "note: these fields have no equivalent here, and are left out:";
        Some(format!("{said} {of}"))
    };
    let said = note(&file);
    assert_eq!(said, (false, expected("gecos, home, nodelay, uid, userdb_… (lines: 2)")));
    assert_eq!(note("ann:{PLAIN}tanstaaf:::::\r\n"), (true, None));
    assert_eq!(note("bob:{PLAIN}tanstaaf::5\r\n"), (true, expected("gid (lines: 1)")));
    file = (0..12).map(|at| format!("u{at}:{{PLAIN}}tanstaaf:1:1::/h\n")).collect();
    let lines = "gid, home, uid (lines: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more)";
    assert_eq!(note(&file), (true, expected(lines)));
}

#[test]
fn a_line_that_is_not_utf_8_is_listed_and_the_rest_is_imported() {
    let authd = Authd::new(None, "");
    let file = b"tim:{PLAIN}tanstaaf\r\nj\xfcrgen:{PLAIN}hunter2\nann:{PLAIN}tanstaaf";
    let output = authd.account(&["import", "dovecot", "-"], file);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("line 2: not imported: the line is not UTF-8\n"), "{said}");
    assert!(said.contains("2 accounts have been imported"), "{said}");
    let list = authd.done(&["list"], "");
    assert!(list.starts_with("ann\t") && list.contains("\ntim\t"), "{list}");
}

#[test]
fn labels_are_folded_before_they_are_checked() {
    let mut authd = Authd::new(None, "[limits]\nfailure_delay_ms = 10");
    authd.done(&["add", "tim"], PASSWORD);
    let app = authd.done(&["passwd", "Tim", "--app", "Phone"], "");
    let fullwidth = "a\u{ff0f}b";
    for label in ["", "a/b", "a\tb", fullwidth] {
        for more in [&["--generate"][..], &["--remove"]] {
            let output = authd.account(&[&["passwd", "tim", "--app", label], more].concat(), "");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("the label of an application password is"), "{label:?}: {said}");
        }
    }
    let expected = ("tim/phone", app.trim(), Some("tim"));
    check(&mut authd, &[Mechanism::Plain], &[expected]);
    authd.done(&["passwd", "tim", "--app", "PHONE", "--remove"], "");
    let outcome = authd.connect().sign_in(Mechanism::Plain, None, "tim/phone", app.trim());
    assert_eq!(outcome, Outcome::Fail);
    assert!(!authd.done(&["list"], "").contains("phone"));
}

/// An account with all that one can have, a disabled one, and one that expires. Returns the application password.
fn add_all(authd: &Authd) -> String {
    authd.done(&["add", "tim", "--alias", "tim@example.org", "--cram-md5"], PASSWORD);
    authd.done(&["add", "off", "--disabled"], PASSWORD);
    authd.done(&["add", "old", "--expires", "0"], PASSWORD);
    authd.done(&["add", "new", "--expires", "9", "--cram-md5"], PASSWORD);
    authd
        .done(&["passwd", "tim", "--app", "phone", "--expires", "9", "--cram-md5"], "")
        .trim()
        .to_owned()
}

const ALL: &str = "[accounts]\nscram = [\"SCRAM-SHA-256\", \"SCRAM-SHA-1\"]\ncram_md5 = true\nscram_always = true\n\
                   [limits]\nfailure_delay_ms = 10";

/// Authenticates with each of these by each mechanism.
fn check(authd: &mut Authd, mechanisms: &[Mechanism], expected: &[(&str, &str, Option<&str>)]) {
    authd.start();
    let mut client = authd.connect();
    for mechanism in mechanisms {
        for (name, password, account) in expected {
            let expected = account.map_or(Outcome::Fail, |account| Outcome::Ok(account.into()));
            let outcome = client.sign_in(*mechanism, None, name, password);
            assert_eq!(outcome, expected, "{mechanism} {name}");
        }
    }
}

#[test]
fn a_move_to_another_database_loses_nothing() {
    let mut postgres = Postgres::start();
    let other = postgres.as_mut().map(Postgres::database);
    if other.is_none() {
        eprintln!("PostgreSQL is not installed: the test moves to SQLite");
    }
    let (from, mut to) = (Authd::new(None, ALL), Authd::new(other.as_deref(), ALL));
    let app = add_all(&from);
    let exported = from.done(&["export", "json"], "");
    to.done(&["import", "json", "-"], &exported);
    assert_eq!(to.done(&["list"], ""), from.done(&["list"], ""));
    assert_eq!(to.done(&["export", "json"], ""), exported);
    let again = to.account(&["import", "json", "-"], &exported);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(said.contains("line 1: not imported: new: the name `new` is already in use"), "{said}");
    let mechanisms =
        [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::CramMd5];
    let expected = [
        ("tim", PASSWORD, Some("tim")),
        ("tim@example.org", PASSWORD, Some("tim")),
        ("tim/phone", &app, Some("tim")),
        ("new", PASSWORD, Some("new")),
        ("off", PASSWORD, None),
        ("old", PASSWORD, None),
        ("tim", &app, None),
    ];
    check(&mut to, &mechanisms, &expected);
}

#[test]
fn a_backup_keeps_when_accounts_and_passwords_were_created() {
    let authd = [(); 3].map(|()| Authd::new(None, ""));
    authd[0].done(&["add", "tim"], PASSWORD);
    authd[0].done(&["passwd", "tim", "--app", "phone"], "");
    let mut lines: Value = serde_json::from_str(&authd[0].done(&["export", "json"], "")).unwrap();
    let places = ["/created", "/password/created", "/applications/0/password/created"];
    for (place, day) in places.iter().zip(1..) {
        *lines.pointer_mut(place).unwrap() = (day * 86_400).into();
    }
    authd[1].done(&["import", "json", "-"], &lines.to_string());
    let exported: Value = serde_json::from_str(&authd[1].done(&["export", "json"], "")).unwrap();
    assert_eq!(exported, lines);
    let list = authd[1].done(&["list"], "");
    assert!(list.contains("SCRAM-SHA-256 created=1970-01-03 last-used=never"), "{list}");
    assert!(list.contains("phone SCRAM-SHA-256 created=1970-01-04 last-used=never"), "{list}");
    // Without these times, the accounts are created by the import.
    for part in ["", "/password", "/applications/0/password"] {
        lines.pointer_mut(part).unwrap().as_object_mut().unwrap().remove("created");
    }
    authd[2].done(&["import", "json", "-"], &lines.to_string());
    assert_eq!(authd[2].done(&["list"], ""), authd[0].done(&["list"], ""));
}

#[test]
fn a_passwd_file_is_written_as_far_as_it_can_hold_the_accounts() {
    let (from, mut to) = (Authd::new(None, ALL), Authd::new(None, ALL));
    let app = add_all(&from);
    from.done(&["passwd", "tim", "--app", "phone", "--remove"], "");
    let tablet = from.done(&["passwd", "tim", "--app", "tablet"], "");
    let exported = from.account(&["export", "dovecot"], "");
    assert!(!exported.status.success());
    let said = String::from_utf8(exported.stderr).unwrap();
    for line in [
        "tim: not exported: SCRAM-SHA-1, as a name has one scheme in a passwd-file",
        "tim: not exported: CRAM-MD5, as a name has one scheme in a passwd-file",
        "new: not exported: CRAM-MD5, as a name has one scheme in a passwd-file",
        "new: not exported: the password expires, which no field of a passwd-file says",
        "old: not exported: the password expires, which no field of a passwd-file says",
    ] {
        assert!(said.lines().any(|own| own == line), "{line} in {said}");
    }
    to.done(&["import", "dovecot", "-"], &String::from_utf8(exported.stdout).unwrap());
    assert!(to.done(&["list"], "").contains("off\tdisabled"));
    let expected = [
        ("tim", PASSWORD, Some("tim")),
        ("tim@example.org", PASSWORD, Some("tim")),
        ("tim/tablet", tablet.trim(), Some("tim")),
        ("tim/phone", &app, None),
        ("off", PASSWORD, None),
        ("old", PASSWORD, None),
        ("new", PASSWORD, None),
    ];
    check(&mut to, &[Mechanism::Plain, Mechanism::ScramSha256], &expected);
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
fn the_help_says_what_surprises() {
    let authd = Authd::new(None, "");
    for (command, expected) in [
        (
            "passwd",
            "Without this option, the new password never expires, even if the previous one did",
        ),
        ("passwd", "only while the setting `cram_md5` is true"),
        ("import", "SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL"),
    ] {
        let help = String::from_utf8(authd.account(&[command, "--help"], "").stdout).unwrap();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(expected), "{expected} in {help}");
    }
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

#[test]
fn each_line_of_an_account_that_exists_is_listed() {
    let authd = Authd::new(None, "");
    authd.done(&["add", "tim"], PASSWORD);
    let lines = "t:{PLAIN}secret99::::::user=tim\nann:{PLAIN}secret99\ntim:{PLAIN}secret99\n";
    let output = authd.account(&["import", "dovecot", "-"], lines);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for line in ["line 1: not imported: tim", "line 3: not imported: tim", "1 accounts have been"] {
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn a_command_says_why_the_database_cannot_be_reached() {
    let authd = Authd::new(Some("postgres://authd@127.0.0.1:1/mail"), "");
    let begin = std::time::Instant::now();
    let why = authd.refused(&["account", "list"]);
    assert!(why.contains("Connection refused"), "{why}");
    assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
}
