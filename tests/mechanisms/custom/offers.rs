//! Names, and what a server offers.

use super::*;

#[test]
fn names() {
    for name in ["A", "9", "-", "_", "SECURID", "X-OWN_2", "ABCDEFGHIJ0123456789", "PLAIN2", "PLAI"]
    {
        let mechanism = Mechanism::custom(name).unwrap();
        assert_eq!((mechanism.name(), mechanism.to_string().as_str()), (name, name));
        assert!(mechanism.is_compiled() && mechanism.needs_tls() && mechanism.reads_challenge());
        assert!(!mechanism.takes_password() && !mechanism.takes_token());
        assert!(!mechanism.binds_channel());
        assert_eq!(Mechanism::from_name(name), None);
        assert_eq!(Mechanism::custom(name), Ok(mechanism));
        assert_eq!(mechanism == OWN, name == OWN.name());
    }
    for name in
        ["", "ABCDEFGHIJ01234567890", "plain", "X-own", "X OWN", "X.OWN", "X\0", "Ä", "X=", "*"]
    {
        assert_eq!(Mechanism::custom(name), Err(ConfigError::MechanismName), "{name:?}");
    }
    // Whether they are compiled in or not.
    for name in [
        "SCRAM-SHA-512-PLUS",
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-512",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "CRAM-MD5",
        "PLAIN",
        "LOGIN",
        "OAUTHBEARER",
        "XOAUTH2",
        "EXTERNAL",
        "ANONYMOUS",
    ] {
        assert!(Mechanism::from_name(name).is_some());
        assert_eq!(Mechanism::custom(name), Err(ConfigError::MechanismName), "{name}");
    }
}

#[test]
fn it_is_offered_only_where_it_is_listed() {
    let tim = accept("tim", None);
    let default = || offering(Mechanism::COMPILED);
    let auth = "EHLO c\r\nAUTH X-OWN_2 eA==\r\n";
    let said = session(default(), Channel::tls(), auth, &tim);
    assert!(
        !said.contains("X-OWN_2")
            && said.ends_with("504 5.5.4 This mechanism is not offered here\r\n")
    );
    let said = session(offering(&[OWN]), Channel::tls(), auth, &tim);
    assert!(said.contains("250 AUTH X-OWN_2\r\n235 2.7.0 "), "{said}");
    let other = Mechanism::custom("X-OTHER").unwrap();
    let said = session(offering(&[other, OWN]), Channel::tls(), "EHLO c\r\nauth x-own_2\r\n", &tim);
    assert!(said.contains("250 AUTH X-OTHER X-OWN_2\r\n235 2.7.0 "), "{said}");
    // It does not bind to the connection.
    let bound = offering(&[OWN, Mechanism::ScramSha256]);
    let said = session(bound.channel_binding(BindingPolicy::Required), Channel::tls(), auth, &tim);
    assert!(!said.contains("X-OWN_2") && said.contains("\r\n504 5.5.4 "), "{said}");

    let begin = |config: sasl::server::Builder, mechanism| {
        let (config, channel) = (Arc::new(config.build().unwrap()), Channel::tls());
        let mut exchange = sasl::server::Exchange::new(&config, &channel, mechanism, None);
        match exchange.step() {
            sasl::server::Step::Done(outcome) => outcome.cloned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(begin(default(), OWN), Err(Failure::Unsupported));
    assert_eq!(begin(offering(&[OWN]), other), Err(Failure::Unsupported));
}

#[test]
fn it_needs_tls_unless_that_is_allowed() {
    let tim = accept("tim", None);
    let auth = "EHLO c\r\nAUTH X-OWN_2 eA==\r\n";
    let said = session(offering(&[OWN]), Channel::cleartext(), auth, &tim);
    assert!(!said.contains("X-OWN_2") && said.contains("\r\n538 5.7.11 "), "{said}");
    let allowed = offering(&[OWN]).allow_cleartext(true);
    let said = session(allowed, Channel::cleartext(), auth, &tim);
    assert!(said.contains(" AUTH X-OWN_2\r\n235 2.7.0 "), "{said}");
}

#[test]
fn who_guesses_is_cut_off() {
    let mut session = server::Session::new(
        server::Config::builder("mail.example.org")
            .sasl(server_config())
            .max_attempts(3)
            .build()
            .unwrap()
            .into(),
    );
    session.tls_started(Channel::tls());
    let mut out = Vec::new();
    session.receive(b"EHLO c\r\n");
    session.receive("AUTH X-OWN_2 eA==\r\n".repeat(4).as_bytes());
    loop {
        match session.next(&mut out) {
            server::Event::Query(query) => query.reject(),
            server::Event::Close => break,
            server::Event::NeedInput => panic!("{}", out.escape_ascii()),
            _ => {}
        }
    }
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.matches("\r\n535 5.7.8 ").count(), 3);
    assert_eq!(out.lines().last().unwrap().get(..9), Some("421 4.7.0"));
}
