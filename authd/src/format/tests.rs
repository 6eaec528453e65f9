//! The formats. `tests/service` exports from one database and imports into another.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use super::*;
use smtp_auth::sasl::prepare_lower_case;

/// Written by `doveadm pw` of Dovecot 2.3, each of the password `tanstaaf`.
const DOVECOT: [&str; 8] = [
    "{BLF-CRYPT}$2y$05$UEeCJ.3mVU0iwitK2olMFuUJ4s6ZUlIKHuQoQTYYgsrFb31FKV0n2",
    "{CRYPT}$2y$05$UEeCJ.3mVU0iwitK2olMFuUJ4s6ZUlIKHuQoQTYYgsrFb31FKV0n2",
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$sscZCxyqCqUWXS90bL9vrA$fv16qF/PP8JrNbYONPmBhmy0jlGrq+zViceHxM+iQiU",
    "{SCRAM-SHA-256}4096,KTREo3okbQ2HdEb3k244Qw==,qn9JXxcA/1jiULQe1u4X4jr8gkNlAXw4hUU0pjt3Z0s=,h7iotWEbtcamNN0b71Yq9aWVgbn4FcUX4ViSWiLognA=",
    "{SCRAM-SHA-1}4096,bnKbWSkoug9vV2fz00CkXw==,j45cYjQJL21xW8dhu4O4i9M1c64=,5frXxARvEb5Plf0049xhIL9G6Hk=",
    "{CRAM-MD5}bc85c9a3cb6b88ebf5a19a22a3604ef939585872c1ade1a2bf44087948a852f4",
    "{SHA512-CRYPT}$6$lVEnC5WrqF5xFdi1$XPwjA1nQepCzJ6EMhOlX0YPcSv4WryHPpbace8SSO54VOAqe4RpWYgQC.Ran8ALEw2wtSg8zmqCXpa3BmaIS50",
    "$6$lVEnC5WrqF5xFdi1$XPwjA1nQepCzJ6EMhOlX0YPcSv4WryHPpbace8SSO54VOAqe4RpWYgQC.Ran8ALEw2wtSg8zmqCXpa3BmaIS50",
];

fn all(format: Format, text: &str) -> Contents {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, Ok(Secret::new(line))));
    read(format, lines, prepare_lower_case)
}

/// The only account of a file.
fn one(format: Format, text: &str) -> Account {
    let mut contents = all(format, text);
    assert_eq!((contents.refused, contents.accounts.len()), (vec![], 1), "{text}");
    contents.accounts.remove(0).1
}

fn credentials(account: &Account) -> Vec<&Credential> {
    account.passwords.iter().flat_map(|own| own.stored.credentials()).collect()
}

fn text(written: &Written) -> String {
    written.lines.iter().map(|line| format!("{}\n", line.expose())).collect()
}

fn lacking(written: &Written) -> Vec<&str> {
    written.lacking.iter().map(|(name, _)| &**name).collect()
}

/// Its passwords are `tanstaaf`.
fn full() -> Account {
    let dovecot = |at: usize| one(Format::Dovecot, &format!("x:{}", DOVECOT[at]));
    let take = |at| credentials(&dovecot(at)).into_iter().next().cloned().unwrap();
    let password = |label: &str, at: &[usize]| Password {
        label: label.into(),
        created: Some(5),
        expires: None,
        last_used: Some(7),
        stored: Stored::Credentials(at.iter().map(|at| take(*at)).collect()),
    };
    Account {
        name: "tim".into(),
        is_enabled: false,
        created: Some(4),
        aliases: vec!["tim@example.org".into()],
        passwords: vec![
            password("", &[3, 4, 5]),
            password("phone", &[2]),
            Password { expires: Some(9), ..password("tablet", &[0]) },
        ],
    }
}

#[test]
fn dovecots_schemes_are_read_and_written_again() {
    for value in DOVECOT {
        let line = format!("tim:{value}:1000:1000::/home/tim::userdb_mail=x\n");
        let mut account = one(Format::Dovecot, &line);
        assert_eq!((&*account.name, account.is_enabled), ("tim", true));
        account.is_enabled = false;
        let own = credentials(&account)[0];
        assert!(own.check_password(&Secret::new("tanstaaf")), "{value}");
        assert!(!own.check_password(&Secret::new("wrong")), "{value}");
        let written = write(Format::Dovecot, &account);
        assert_eq!(lacking(&written), [""; 0]);
        let again = one(Format::Dovecot, &text(&written));
        assert!(!again.is_enabled, "{value}");
        assert_eq!(credentials(&again)[0].value(), own.value(), "{value}");
    }
}

#[test]
fn scram_keys_of_ldap_and_postgresql_are_read_and_written_again() {
    let keys = "SCRAM-SHA-256$4096:KTREo3okbQ2HdEb3k244Qw==$qn9JXxcA/1jiULQe1u4X4jr8gkNlAXw4hUU0pjt3Z0s=:h7iotWEbtcamNN0b71Yq9aWVgbn4FcUX4ViSWiLognA=";
    for (format, separator) in
        [(Format::Rfc5803, ':'), (Format::Postgresql, '|'), (Format::Postgresql, '\t')]
    {
        let account = one(format, &format!("tim{separator}{keys}"));
        let own = credentials(&account)[0];
        assert!(own.check_password(&Secret::new("tanstaaf")));
        let again = one(format, &text(&write(format, &account)));
        assert_eq!(credentials(&again)[0].value(), own.value());
    }
}

#[test]
fn json_keeps_all_of_an_account() {
    let account = full();
    let written = write(Format::Json, &account);
    assert_eq!(lacking(&written), [""; 0]);
    let again = one(Format::Json, &text(&written));
    assert_eq!(format!("{again:?}"), format!("{account:?}"));
    let values = |account: &Account| {
        let all = credentials(account);
        all.into_iter().map(|own| own.value().expose().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&again), values(&account));
}

#[test]
fn a_passwd_file_keeps_aliases_and_application_passwords_and_the_rest_is_listed() {
    let written = write(Format::Dovecot, &full());
    let lines = text(&written);
    let shown: Vec<_> = lines
        .lines()
        .map(|line| (line.split('}').next().unwrap(), line.rsplit(':').next().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            ("tim:{SCRAM-SHA-256", "nologin"),
            ("tim@example.org:{SCRAM-SHA-256", "user=tim nologin"),
            ("tim/phone:{ARGON2ID", "user=tim nologin"),
        ]
    );
    assert_eq!(lacking(&written), ["tim", "tim", "tim/tablet"]);
    // The account's line may come last.
    let turned: String = lines.lines().rev().map(|line| format!("{line}\n")).collect();
    for file in [&lines, &turned] {
        let again = one(Format::Dovecot, file);
        assert_eq!((&*again.name, again.is_enabled), ("tim", false));
        assert_eq!(again.aliases, ["tim@example.org"]);
        let labels: Vec<_> = again.passwords.iter().map(|own| &*own.label).collect();
        assert_eq!(labels, ["", "phone"]);
    }
    let mut expires = full();
    expires.passwords[0].expires = Some(9);
    let written = write(Format::Dovecot, &expires);
    assert!(written.lines.is_empty(), "no reader could find their account");
    let names = ["tim", "tim@example.org", "tim", "tim", "tim/phone", "tim/tablet"];
    assert_eq!(lacking(&written), names);
    let mut colon = full();
    colon.aliases = vec!["a:b".into(), "#c".into()];
    colon.passwords.truncate(1);
    assert_eq!(lacking(&write(Format::Dovecot, &colon)), ["a:b", "#c", "tim", "tim"]);
}

#[test]
fn ldap_keeps_each_scheme_and_postgresql_has_one() {
    let account = Account { is_enabled: true, ..full() };
    let (ldap, postgresql) =
        (write(Format::Rfc5803, &account), write(Format::Postgresql, &account));
    assert_eq!((ldap.lines.len(), postgresql.lines.len()), (2, 1));
    assert_eq!(lacking(&ldap), ["tim@example.org", "tim", "tim/phone", "tim/tablet"]);
    assert_eq!(lacking(&postgresql), ["tim@example.org", "tim", "tim", "tim/phone", "tim/tablet"]);
    let again = one(Format::Rfc5803, &text(&ldap));
    let schemes: Vec<_> = credentials(&again).into_iter().map(Credential::scheme).collect();
    assert_eq!(schemes, [Scheme::ScramSha256, Scheme::ScramSha1]);
    for disabled in [Format::Rfc5803, Format::Postgresql] {
        assert!(write(disabled, &full()).lines.is_empty(), "they would be enabled by the import");
    }
}

#[test]
fn names_and_credentials_that_do_not_fit_their_account_are_refused() {
    let plain = |name: &str, password: &str, extra: &str| {
        format!("{name}:{{PLAIN}}{password}::::::{extra}\n")
    };
    let own = plain("tim", "one", "");
    for (line, expected) in [
        (plain("TIM", "two", ""), LineError::Twice("tim".into())),
        (plain("ann", "two", "user=nobody"), LineError::NoAccount("nobody".into())),
        (plain("t", "one", "user=tim nologin"), LineError::Disabled("tim".into())),
        (plain("t", "two", "user=tim"), LineError::OtherPassword("tim".into())),
        (plain("tim/a/b", "two", "user=tim"), LineError::OtherPassword("tim".into())),
        (plain("a\u{7}b", "two", "user=tim"), LineError::Name("a\u{7}b".into())),
    ] {
        let contents = all(Format::Dovecot, &format!("{own}{line}"));
        assert_eq!((contents.refused, contents.accounts.len()), (vec![(2, expected)], 1));
    }
    let two = format!("tim:{}\ntim:{}\n", DOVECOT[3], DOVECOT[4]);
    let twice = all(Format::Dovecot, &two).refused;
    assert_eq!(twice, [(2, LineError::Twice("tim".into()))], "Dovecot takes the first alone");
    let account = one(Format::Dovecot, &format!("{}{own}", plain("T", "one", "user=Tim")));
    assert_eq!(account.aliases, ["t"]);
    let mut bad = full();
    bad.passwords[1].label = "a/b".into();
    let contents = all(Format::Json, &text(&write(Format::Json, &bad)));
    assert_eq!(contents.refused, [(1, LineError::Label("tim".into()))]);
    let ann = Account { name: "ann".into(), ..full() };
    let contents = all(
        Format::Json,
        &(text(&write(Format::Json, &full())) + &text(&write(Format::Json, &ann))),
    );
    assert_eq!(contents.refused, [(2, LineError::Twice("tim@example.org".into()))], "one alias");
    let mut twice = full();
    twice.passwords[2].label = "phone".into();
    let contents = all(Format::Json, &text(&write(Format::Json, &twice)));
    assert_eq!(contents.refused, [(1, LineError::Twice("tim/phone".into()))], "one label");
    let mut both = full();
    let hash = both.passwords.remove(1).stored;
    if let Stored::Credentials(own) = &mut both.passwords[0].stored {
        own.extend_from_slice(hash.credentials());
    }
    let contents = all(Format::Json, &text(&write(Format::Json, &both)));
    assert_eq!(contents.refused, [(1, LineError::SeveralForms)]);
    if let Stored::Credentials(own) = &mut both.passwords[0].stored {
        own.retain(|own| matches!(own.scheme(), Scheme::Argon2id | Scheme::CramMd5));
    }
    assert_eq!(all(Format::Json, &text(&write(Format::Json, &both))).refused, []);
    if let (Stored::Credentials(own), Stored::Credentials(other)) =
        (both.passwords.remove(0).stored, &mut both.passwords[0].stored)
    {
        other.extend(own);
    }
    let contents = all(Format::Json, &text(&write(Format::Json, &both)));
    assert_eq!(contents.refused, [(1, LineError::SeveralForms)], "two hashes");
}

#[test]
fn what_cannot_be_imported_is_an_error_that_shows_no_password() {
    let cases = [
        (
            "tim:{SSHA256}nMoS3OZ/atFR5kh1SmtYKBcQ6QVrYnXyHSsO7cUn5p3hJAYa",
            "the scheme SSHA256 is not supported",
        ),
        ("tim:hunter2secret", "the scheme CRYPT is supported only for bcrypt (`$2…`) and SHA512"),
        ("tim:{CRYPT}$1$x$hunter2", "the scheme CRYPT is supported only for bcrypt (`$2…`) and"),
        ("tim:{hunter2 secret}x", "the scheme ? is not supported"),
        ("tim:{SCRAM-SHA-256}0,aHVudGVyMg==,hunter2", "the value is not one of the scheme SCRAM-"),
        ("tim:{SCRAM-SHA-3}hunter2", "the scheme SCRAM-SHA-3 is not supported"),
        ("tim:{BLF-CRYPT}hunter2", "the value is not one of the scheme BLF-CRYPT"),
        ("tim:{SHA512-CRYPT}$6$$hunter2", "the value is not one of the scheme SHA512-CRYPT"),
        ("tim:{PLAIN}hunter2::::::allow_nets=192.0.2.0/24", "the extra field `allow_nets`"),
        ("tim:{PLAIN}hunter2::::::userdb_x=y noauthenticate", "the extra field `noauthenticate`"),
        ("tim:{PLAIN}hunter2::::::fail=yes", "the extra field `fail`"),
        ("tim:{PLAIN}hunter2::::::proxy host=192.0.2.1", "the extra field `proxy`"),
        ("tim:{PLAIN}hunter2::::::nopassword", "the extra field `nopassword`"),
        ("tim:{PLAIN}a:b:c:d:e:f:hunter2", "the extra field `?`"),
        ("tim::", "the account has no password"),
        ("tim:{PLAIN}", "the account has no password"),
        ("tim", "the line has no name"),
    ];
    for (text, expected) in cases {
        let error = all(Format::Dovecot, text).refused.remove(0).1.to_string();
        assert!(error.starts_with(expected) && !error.contains("hunter2"), "{error}");
    }
    let harmless = "tim:{PLAIN}hunter2::::::user=tim nodelay userdb_home=/h userdb_fail=yes";
    assert!(one(Format::Dovecot, harmless).is_enabled);
    let wrong = all(Format::Rfc5803, "tim:SCRAM-SHA-1$0:hunter2").refused.remove(0).1.to_string();
    assert_eq!(wrong, "the value is not one of the scheme SCRAM-SHA-1");
    let md5 =
        line(Format::Postgresql, "tim|md59f1b0e2ad1c0e2f0a9a6a1e0a2b5c3d4").unwrap().unwrap_err();
    assert_eq!(md5.to_string(), "the scheme ? is not supported");
    assert!(
        line(Format::Dovecot, "# a comment").is_none() && line(Format::Dovecot, " \n").is_none()
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_name_and_a_name_has_256_octets() {
    let json = text(&write(Format::Json, &full()));
    assert_eq!(one(Format::Json, &format!("\u{feff}{json}")).name, "tim");
    let named = |octets: usize| {
        let name = "x".repeat(octets);
        all(Format::Dovecot, &format!("\u{feff}{name}:{{PLAIN}}tanstaaf"))
    };
    assert_eq!(named(256).accounts.len(), 1);
    let refused = named(257).refused.remove(0).1.to_string();
    assert!(refused.contains("has more than 256 octets"), "{refused}");
}

#[test]
fn passwords_in_the_clear_are_taken_to_be_hashed() {
    let account = one(Format::Dovecot, "tim:{PLAIN}tanstaaf");
    assert!(
        matches!(&account.passwords[0].stored, Stored::PlainText(password) if *password == *"tanstaaf")
    );
}
