//! Who is authenticated and who is not.

use std::{
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use smtp_auth::sasl::{Mechanism, ScramHash, ScramKeys};

use crate::{
    postgres::Postgres,
    support::{Authd, Client, Outcome, PASSWORD, get},
};

const SCRAM: Mechanism = Mechanism::ScramSha256;
const FAST: &str = "[limits]\nfailure_delay_ms = 50";

fn ok(account: &str) -> Outcome {
    Outcome::Ok(account.into())
}

/// On SQLite, and on PostgreSQL where that is installed.
pub(crate) fn each(test: impl Fn(Option<&str>)) {
    test(None);
    match Postgres::start() {
        Some(mut postgres) => test(Some(&postgres.database())),
        None => eprintln!("PostgreSQL is not installed: the test is run with SQLite alone"),
    }
}

#[test]
fn passwords_are_checked_by_every_mechanism() {
    each(|database| {
        let mut authd = Authd::new(
            database,
            &format!(
                "[accounts]\ncram_md5 = true\nscram = [\"SCRAM-SHA-256\", \"SCRAM-SHA-1\"]\n{FAST}"
            ),
        );
        authd.done(&["add", "Tim", "--alias", "tim@example.org", "--cram-md5"], PASSWORD);
        authd.done(&["add", "ann"], PASSWORD);
        authd.start();
        let mut client = authd.connect();
        assert_eq!(
            client.mechanisms,
            ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"]
        );
        for mechanism in
            [SCRAM, Mechanism::ScramSha1, Mechanism::CramMd5, Mechanism::Plain, Mechanism::Login]
        {
            for name in ["tim", "TIM", "tim@example.org"] {
                assert_eq!(
                    client.sign_in(mechanism, None, name, PASSWORD),
                    ok("tim"),
                    "{mechanism} {name}"
                );
            }
            for (name, password) in [("tim", "wrong"), ("nobody", PASSWORD)] {
                assert_eq!(
                    client.sign_in(mechanism, None, name, password),
                    Outcome::Fail,
                    "{mechanism} {name}"
                );
            }
        }
        // The setting offers CRAM-MD5, and the states exist only where they were asked for.
        assert_eq!(client.sign_in(Mechanism::CramMd5, None, "ann", PASSWORD), Outcome::Fail);
        assert_eq!(client.sign_in(SCRAM, None, "ann", PASSWORD), ok("ann"));
        assert!(!authd.log().contains("nobody") && !authd.log().contains(PASSWORD));
    });
}

#[test]
fn disabled_and_expired_look_like_a_wrong_password_and_changes_count_at_once() {
    let scram = "scram = [\"SCRAM-SHA-256\", \"SCRAM-SHA-1\"]";
    let mut authd = Authd::new(None, &format!("[accounts]\ncram_md5 = true\n{scram}\n{FAST}"));
    authd.done(&["add", "tim", "--cram-md5"], PASSWORD);
    authd.done(&["add", "old", "--cram-md5", "--expires", "0"], PASSWORD);
    authd.start();
    let mut client = authd.connect();
    for mechanism in
        [SCRAM, Mechanism::ScramSha1, Mechanism::CramMd5, Mechanism::Plain, Mechanism::Login]
    {
        assert_eq!(client.sign_in(mechanism, None, "tim", PASSWORD), ok("tim"));
        assert_eq!(client.sign_in(mechanism, None, "old", PASSWORD), Outcome::Fail);
        authd.done(&["disable", "tim"], "");
        assert_eq!(client.sign_in(mechanism, None, "tim", PASSWORD), Outcome::Fail);
        authd.done(&["enable", "tim"], "");
    }
    authd.done(&["passwd", "tim"], "another password");
    assert_eq!(client.sign_in(SCRAM, None, "tim", PASSWORD), Outcome::Fail);
    assert_eq!(client.sign_in(SCRAM, None, "tim", "another password"), ok("tim"));
    // Only the log says why.
    authd.wait_for_all(&["locked=\"disabled\"", "locked=\"expired\""]);
}

#[test]
fn a_decoy_is_the_same_on_connections_that_began_before_accounts_were_added() {
    let mut authd = Authd::new(None, "");
    authd.done(&["add", "tim"], PASSWORD);
    let pid = authd.start();
    let mut old = authd.connect();
    old.first_challenge("nobody");
    let keys = ScramKeys::from_password(ScramHash::Sha256, "x", b"sixteen octets..", 4096).unwrap();
    let keys = keys.to_text();
    let lines: String = (0..50).map(|n| format!("u{n}:{}\n", keys.expose())).collect();
    std::fs::write(authd.path("keys"), lines).unwrap();
    authd.done(&["import", "rfc5803", authd.path("keys").to_str().unwrap()], "");
    authd.signal(pid, "-HUP");
    authd.wait_for("reloaded");
    let mut new = authd.connect();
    let few = (0..40).map(|n| format!("nobody{n}")).filter(|name| {
        let shown = new.first_challenge(name);
        assert_eq!(old.first_challenge(name), shown, "{name}");
        shown.ends_with(",i=4096")
    });
    assert!(few.count() > 20, "most accounts have 4,096 iterations, and so most decoys have to");
}

#[test]
fn an_application_password_has_a_name_of_its_own() {
    let mut authd = Authd::new(None, FAST);
    authd.done(&["add", "tim"], PASSWORD);
    let app = authd.done(&["passwd", "tim", "--app", "Phone"], "");
    authd.start();
    let mut client = authd.connect();
    for mechanism in [SCRAM, Mechanism::Plain, Mechanism::Login] {
        assert_eq!(
            client.sign_in(mechanism, None, "tim/phone", app.trim()),
            ok("tim"),
            "{mechanism}"
        );
        assert_eq!(
            client.sign_in(mechanism, None, "tim", app.trim()),
            Outcome::Fail,
            "{mechanism}"
        );
    }
    let used = |list: &str| {
        list.lines()
            .filter(|line| line.contains("phone") && !line.contains("last-used=never"))
            .count()
    };
    let begin = Instant::now();
    while used(&authd.done(&["list"], "")) == 0 {
        assert!(begin.elapsed() < Duration::from_secs(5), "the last use is not noted");
    }
    authd.done(&["passwd", "tim", "--app", "phone", "--remove"], "");
    assert_eq!(client.sign_in(SCRAM, None, "tim/phone", app.trim()), Outcome::Fail);
    assert_eq!(client.sign_in(SCRAM, None, "tim", PASSWORD), ok("tim"));
}

#[test]
fn a_foreign_authzid_is_refused() {
    let mut authd = Authd::new(None, FAST);
    authd.done(&["add", "tim"], PASSWORD);
    authd.done(&["add", "ann"], PASSWORD);
    authd.start();
    let mut client = authd.connect();
    for (authzid, expected) in [("ann", Outcome::Fail), ("tim", ok("tim")), ("", ok("tim"))] {
        let response = format!("{authzid}\0tim\0{PASSWORD}");
        client.plain(&response);
        assert_eq!(client.end().1, expected, "{authzid}");
    }
    for (authzid, expected) in [("ann", Outcome::Fail), ("tim", ok("tim"))] {
        client.authzid = Some(authzid);
        assert_eq!(client.sign_in(SCRAM, None, "tim", PASSWORD), expected, "{authzid}");
    }
}

#[test]
fn scram_is_offered_only_while_every_enabled_account_has_its_keys() {
    let mut authd = Authd::new(None, FAST);
    authd.done(&["add", "tim"], PASSWORD);
    let line = "old:{BLF-CRYPT}$2y$05$UEeCJ.3mVU0iwitK2olMFuUJ4s6ZUlIKHuQoQTYYgsrFb31FKV0n2\n";
    authd.done(&["import", "dovecot", "-"], line);
    let pid = authd.start();
    let mut client = authd.connect();
    assert_eq!(client.mechanisms, ["PLAIN", "LOGIN"]);
    assert_eq!(client.sign_in(Mechanism::Plain, None, "old", "tanstaaf"), ok("old"));
    assert_eq!(client.sign_in(Mechanism::Plain, None, "old", "wrong"), Outcome::Fail);
    assert_eq!(client.sign_in(Mechanism::Plain, None, "tim", PASSWORD), ok("tim"));
    assert!(authd.done(&["list", "--without-scram"], "").starts_with("old\tenabled\n"));
    // Keys for another hash than the configured one.
    let keys = "{SCRAM-SHA-1}4096,bnKbWSkoug9vV2fz00CkXw==,j45cYjQJL21xW8dhu4O4i9M1c64=,5frXxARvEb5Plf0049xhIL9G6Hk=";
    authd.done(&["import", "dovecot", "-"], &format!("sha1:{keys}"));
    assert!(authd.done(&["list", "--without-scram"], "").contains("sha1\tenabled\n"));
    assert_eq!(client.sign_in(Mechanism::Plain, None, "sha1", "tanstaaf"), ok("sha1"));
    authd.done(&["disable", "sha1"], "");
    authd.done(&["disable", "old"], "");
    authd.signal(pid, "-HUP");
    authd.wait_for("reloaded");
    assert_eq!(authd.connect().mechanisms, ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
    authd.done(&["enable", "old"], "");
    authd.configure(None, &format!("[accounts]\nscram_always = true\n{FAST}"));
    authd.signal(pid, "-HUP");
    authd.wait_for("reloaded");
    assert_eq!(authd.connect().mechanisms, ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
}

#[test]
fn failures_are_limited_by_account_and_an_owner_is_not_locked_out() {
    each(|database| {
        let mut authd =
            Authd::new(database, "[limits]\nfailure_delay_ms = 10\naccount = 5\nnetwork = 1000");
        authd.done(&["add", "tim"], PASSWORD);
        authd.start();
        let mut client = authd.connect();
        assert_eq!(client.sign_in(SCRAM, Some("192.0.2.1"), "tim", PASSWORD), ok("tim"));
        for guess in 0..5 {
            let from = format!("198.51.100.{guess}");
            assert_eq!(
                client.sign_in(Mechanism::Plain, Some(&from), "tim", "wrong"),
                Outcome::Fail
            );
        }
        for mechanism in [SCRAM, Mechanism::Plain] {
            let limited = client.sign_in(mechanism, Some("198.51.100.9"), "tim", PASSWORD);
            assert_eq!(limited, Outcome::Fail, "{mechanism}: the right password, from elsewhere");
            assert_eq!(
                client.sign_in(mechanism, Some("192.0.2.1"), "tim", PASSWORD),
                ok("tim"),
                "the owner"
            );
        }
    });
}

#[test]
fn a_password_in_the_clear_is_refused_without_tls() {
    let mut authd = Authd::new(None, FAST);
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    let mut client = authd.connect();
    client.is_tls = false;
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        assert_eq!(client.sign_in(mechanism, None, "tim", PASSWORD), Outcome::Fail, "{mechanism}");
    }
    assert_eq!(client.sign_in(SCRAM, None, "tim", PASSWORD), ok("tim"));
}

/// Otherwise an attacker could open many exchanges, and try a password in each after the limit has been reached.
#[test]
fn a_limit_that_is_reached_during_an_exchange_holds_for_it() {
    let mut authd = Authd::new(None, &format!("{FAST}\naccount = 3"));
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    let (mut waiting, mut other) = (authd.connect(), authd.connect());
    let outcome = waiting.sign_in_slowly(SCRAM, Some("192.0.2.1"), "tim", PASSWORD, || {
        for guess in 0..3 {
            let from = format!("198.51.100.{guess}");
            let outcome = other.sign_in(Mechanism::Plain, Some(&from), "tim", "wrong");
            assert_eq!(outcome, Outcome::Fail);
        }
    });
    assert_eq!(outcome, Outcome::Fail);
}

#[test]
fn the_time_of_an_attempt_that_fails_says_nothing_about_the_account() {
    // A hash takes some 0.1 seconds, and more without optimizations.
    let slow = "[accounts]\niterations = 100000\n[limits]\nfailure_delay_ms = 1\naccount = 3\nnetwork = 1000";
    let mut authd = Authd::new(None, slow);
    authd.done(&["add", "tim"], PASSWORD);
    authd.done(&["add", "ann"], PASSWORD);
    authd.done(&["add", "off"], PASSWORD);
    authd.done(&["disable", "off"], "");
    authd.start();
    let mut client = authd.connect();
    let mut time = |name: &str| {
        let begin = Instant::now();
        assert_eq!(client.sign_in(Mechanism::Plain, None, name, "wrong"), Outcome::Fail);
        begin.elapsed()
    };
    for _ in 0..3 {
        time("tim");
    }
    let usual = time("ann");
    for name in ["tim", "off", "nobody"] {
        let took = time(name);
        assert!(took > usual / 3, "{name}, limited, disabled or absent: {took:?}, not {usual:?}");
    }
}

#[test]
fn a_slow_refusal_holds_up_no_other_exchange() {
    let mut authd = Authd::new(None, "[limits]\nfailure_delay_ms = 1500");
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    let mut client = authd.connect();
    let begin = Instant::now();
    let wrong = client.begin(None, "tim", "wrong");
    let right = client.begin(None, "tim", PASSWORD);
    assert_eq!(client.end(), (right, ok("tim")));
    assert!(begin.elapsed() < Duration::from_millis(1400));
    assert_eq!(client.end(), (wrong, Outcome::Fail));
    assert!(begin.elapsed() >= Duration::from_millis(1500));
}

#[test]
fn a_database_that_is_down_is_a_temporary_failure_and_the_service_recovers() {
    let Some(mut postgres) = Postgres::start() else {
        return eprintln!("PostgreSQL is not installed: the test is skipped");
    };
    let mut authd = Authd::new(Some(&postgres.database()), FAST);
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    assert_eq!(authd.connect().sign_in(SCRAM, None, "tim", PASSWORD), ok("tim"));
    postgres.stop();
    for mechanism in [SCRAM, Mechanism::Plain] {
        let begin = Instant::now();
        // Of version 1.0, and later.
        assert_eq!(authd.connect().sign_in(mechanism, None, "tim", PASSWORD), Outcome::Closed);
        let mut later = Client::connect(&authd.path("auth"), 2);
        assert_eq!(later.sign_in(mechanism, None, "tim", PASSWORD), Outcome::Code("temp_fail"));
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    }
    postgres.run();
    let begin = Instant::now();
    while authd.connect().sign_in(SCRAM, None, "tim", PASSWORD) != ok("tim") {
        assert!(begin.elapsed() < Duration::from_secs(10), "the service does not recover");
    }
}

#[test]
fn a_service_that_starts_without_its_database_answers_and_goes_on_when_it_is_there() {
    let Some(mut postgres) = Postgres::start() else {
        return eprintln!("PostgreSQL is not installed: the test is skipped");
    };
    let url = postgres.database();
    let mut authd = Authd::new(Some(&url), FAST);
    let metrics = authd.path("metrics");
    authd.configure(
        Some(&url),
        &format!("{FAST}\n[metrics]\nlisten = \"unix:{}\"\n", metrics.display()),
    );
    authd.done(&["add", "tim"], PASSWORD);
    postgres.stop();
    authd.start_until("waiting for the database");
    let scrape = || get(UnixStream::connect(&metrics).unwrap());
    assert_eq!(scrape(), "The service waits for its database.\n");
    for mechanism in [SCRAM, Mechanism::Plain] {
        let mut later = Client::connect(&authd.path("auth"), 2);
        assert_eq!(later.sign_in(mechanism, None, "tim", PASSWORD), Outcome::Code("temp_fail"));
        assert_eq!(authd.connect().sign_in(mechanism, None, "tim", PASSWORD), Outcome::Closed);
    }
    postgres.run();
    authd.wait_for("service is ready");
    assert_eq!(authd.connect().sign_in(SCRAM, None, "tim", PASSWORD), ok("tim"));
    assert!(scrape().contains("smtp_authd_exchanges_total"));
}

#[test]
fn a_slow_database_is_a_temporary_failure_within_the_time_limit() {
    let Some(mut postgres) = Postgres::start() else {
        return eprintln!("PostgreSQL is not installed: the test is skipped");
    };
    let url = postgres.database();
    let mut authd = Authd::new(Some(&url), FAST);
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    let (mut old, mut later) = (authd.connect(), Client::connect(&authd.path("auth"), 2));
    let mut slow = postgres.slow(&url, "login", 4);
    // `query_time_limit_ms` is 1,000.
    for mechanism in [SCRAM, Mechanism::Plain] {
        let begin = Instant::now();
        assert_eq!(later.sign_in(mechanism, None, "tim", PASSWORD), Outcome::Code("temp_fail"));
        let took = begin.elapsed();
        assert!((900..1900).contains(&took.as_millis()), "{mechanism}: {took:?}");
    }
    assert_eq!(old.sign_in(SCRAM, None, "tim", PASSWORD), Outcome::Closed);
    assert!(slow.wait().unwrap().success());
    assert_eq!(later.sign_in(SCRAM, None, "tim", PASSWORD), ok("tim"));
}

/// Programs such as fail2ban read the log, and would ban an address that any user of the machine can claim.
#[test]
fn the_log_shows_an_address_only_if_the_socket_is_trusted() {
    let mut authd = Authd::new(None, "");
    let other = authd.path("other");
    let more =
        format!("[limits]\nfailure_delay_ms = 10\n[[socket]]\npath = \"{}\"\n", other.display());
    authd.configure(None, &more);
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    for (path, address) in [(authd.path("auth"), "192.0.2.1"), (other, "192.0.2.2")] {
        let mut client = Client::connect(&path, 0);
        let mut sign_in =
            |password| client.sign_in(Mechanism::Plain, Some(address), "tim", password);
        assert_eq!(sign_in(PASSWORD), Outcome::Ok("tim".into()));
        assert_eq!(sign_in("wrong"), Outcome::Fail);
    }
    let log = authd.log();
    assert_eq!(log.matches("authenticated").count(), 4, "{log}");
    assert_eq!(log.matches("address=192.0.2.1").count(), 2, "{log}");
    assert!(!log.contains("192.0.2.2"), "{log}");
}
