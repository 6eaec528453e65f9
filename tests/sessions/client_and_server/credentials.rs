//! Which credentials go by which mechanism.

use super::*;

#[test]
fn each_kind_of_credentials_has_its_mechanisms() {
    let client = sasl_client().build().unwrap();
    let choose = |credentials: &Credentials, offered: &[Mechanism]| {
        client.choose(credentials, &Channel::tls(), &list(offered.iter().copied()))
    };
    let kind = |of: Mechanism| match of {
        Mechanism::External => "certificate",
        Mechanism::Anonymous => "nothing",
        of if of.takes_token() => "token",
        _ => "password",
    };
    for &mechanism in MECHANISMS.iter().filter(|own| !own.binds_channel()) {
        for &other in MECHANISMS {
            let expected = if kind(mechanism) == kind(other) {
                Ok(mechanism)
            } else {
                Err(NoMechanism::OtherCredentials)
            };
            assert_eq!(choose(&good(other), &[mechanism]), expected, "{mechanism} {other}");
        }
    }
    let token = good(Mechanism::Xoauth2);
    let both = [Mechanism::Xoauth2, Mechanism::OauthBearer];
    assert_eq!(choose(&token, &both), Ok(Mechanism::OauthBearer));
    let cleartext = client.choose(&token, &Channel::cleartext(), &list(MECHANISMS.iter().copied()));
    assert_eq!(cleartext, Err(NoMechanism::WithoutTls));
}

#[test]
fn a_token_goes_with_the_server_that_it_is_for() {
    for (credentials, expected) in [
        (good(Mechanism::OauthBearer), (None, None)),
        (
            good(Mechanism::OauthBearer).for_server("smtp.example.com", 587).unwrap(),
            (Some("smtp.example.com"), Some(587)),
        ),
    ] {
        let (mechanism, config) = (Mechanism::OauthBearer, Arc::new(sasl_config()));
        let mut client = sasl::client::Exchange::new(
            &sasl_client().build().unwrap(),
            &channel(),
            mechanism,
            credentials,
        );
        let initial = response(&mut client).data().map(<[u8]>::to_vec);
        let mut server = sasl::server::Exchange::new(&config, &channel(), mechanism, initial);
        let sasl::server::Step::Query(Query::CheckToken(ask)) = server.step() else { panic!() };
        assert_eq!((ask.host(), ask.port()), expected);
        assert_eq!((ask.authzid(), ask.mechanism()), (Some("tim"), mechanism));
    }
    for bad in ["", "a b", "é"] {
        assert!(good(Mechanism::OauthBearer).for_server(bad, 587).is_err());
    }
    for bad in ["", "=", "a b", "a=b", "a\u{1}b", "é", &"a".repeat(9000)] {
        assert!(Credentials::token("tim", bad).is_err(), "{bad}");
    }
    for bad in ["", "tim\u{1}"] {
        assert!(Credentials::token(bad, "token").is_err());
    }
    // No name makes the message longer than a server has to take.
    let long = Credentials::token("tim", "a".repeat(8600)).unwrap();
    assert!(long.clone().acting_as(&"n".repeat(90)).is_ok());
    assert!(long.acting_as(&"n".repeat(1000)).is_err());
}

#[test]
fn a_guest_is_told_apart() {
    let anonymous = Mechanism::Anonymous;
    let server = || server_config();
    let mut pair = Pair::inside_tls(only(anonymous), good(anonymous), server());
    pair.run(&Users);
    assert!(pair.server.identity().unwrap().is_anonymous());
    // Nor may it send, unless who has not signed in may.
    let open = server::Config::builder("smtp.example.com").sasl(sasl_config());
    let open = open.allow_unauthenticated(true).build().unwrap();
    for (config, sent) in [(server(), "to none"), (open, "to all")] {
        let mut pair = Pair::inside_tls(only(anonymous), good(anonymous), config);
        let envelope = client::Envelope::new(Some("tim@example.org"), ["a@example.org"]).unwrap();
        pair.mail = vec![(envelope, b"hello\r\n".to_vec())];
        pair.run(&Users);
        assert!(pair.seen.contains(&format!("client: sent {sent}")), "{:?}", pair.seen);
    }
    let mut pair = Pair::inside_tls(only(Mechanism::Plain), tim(), server());
    pair.run(&Users);
    assert!(!pair.server.identity().unwrap().is_anonymous());
    for good in ["", "sirhc", "a@example.org", "\"a b\"@example.org", &"x".repeat(255)] {
        assert!(Credentials::anonymous(good).is_ok(), "{good}");
    }
    for bad in ["@", "a@", "@b", "a@b@c", "a b@c", "a\n", "\u{7f}", &"x".repeat(256)] {
        assert!(Credentials::anonymous(bad).is_err(), "{bad}");
    }
    // What does not show has no place in a log.
    for bad in ["\u{202e}", "\u{e000}", "\u{fdd0}", "\u{e0041}", "\u{fffd}", "\u{200d}"] {
        assert!(Credentials::anonymous(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn an_authzid_is_never_dropped() {
    let mut pair = Pair::inside_tls(only(Mechanism::Login), kurt_as("Ursel"), server_config());
    pair.run(&Users);
    assert_eq!(pair.seen[1], format!("client: {}", NoMechanism::ActingAs));
}

#[test]
fn a_broken_nonce_source_is_a_temporary_failure() {
    let sasl = sasl_server().nonces(|| Err(sasl::NonceError)).build().unwrap();
    let mut pair = Pair::inside_tls(
        only(Mechanism::CramMd5),
        tim(),
        server::Config::builder("mail.example.org").sasl(sasl).build().unwrap(),
    );
    pair.run(&Users);
    assert_eq!(pair.seen[1], "TempFail");
}
