//! What a client chooses.

use super::*;

/// What a client says to a server that offers these, or why it says nothing.
fn choice(
    sasl: sasl::client::Config,
    credentials: Credentials,
    channel: Channel,
    offered: &str,
) -> Result<String, NoMechanism> {
    let config = client::Config::builder("c").sasl(sasl).tls(client::Tls::Never).build().unwrap();
    let mut session = client::Session::new(config.into(), credentials);
    session.tls_started(channel);
    let mut out = Vec::new();
    for reply in ["220 x\r\n".to_owned(), format!("250-x\r\n250 {offered}\r\n")] {
        assert!(matches!(session.next(&mut out), Ok(client::Event::NeedInput)));
        session.receive(reply.as_bytes());
    }
    loop {
        match session.next(&mut out).unwrap() {
            client::Event::Custom(ask) => ask.answer(complete("x")),
            client::Event::NotAuthenticated(failed) => match failed.reason() {
                client::AuthError::NoMechanism(why) => return Err(*why),
                other => panic!("{other}"),
            },
            _ => return Ok(lines(&out).pop().unwrap()),
        }
    }
}

#[test]
fn a_client_reads_it_from_ehlo() {
    let own = || Credentials::custom(OWN);
    let chosen = Ok("AUTH X-OWN_2 eA==".to_owned());
    for offered in ["AUTH X-OWN_2", "auth PLAIN x-own_2 X-ELSE"] {
        assert_eq!(choice(client_config(), own(), Channel::tls(), offered), chosen);
    }
    let none = choice(client_config(), own(), Channel::tls(), "AUTH PLAIN LOGIN");
    assert_eq!(none, Err(NoMechanism::InCommon));
    // Where it is not listed it is not used.
    let none = choice(Default::default(), own(), Channel::tls(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::InCommon));
    let other = Mechanism::custom("X-OTHER").unwrap();
    let none = choice(client_config(), Credentials::custom(other), Channel::tls(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::OtherCredentials));
    // The name of the other account is the mechanism's own to carry.
    let acting = own().acting_as("ann").unwrap();
    let none = choice(client_config(), acting, Channel::tls(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::ActingAs));
    let bound = own_client().mechanisms([OWN, Mechanism::ScramSha256]);
    let bound = bound.channel_binding(BindingPolicy::Required).build().unwrap();
    let none = choice(bound, own(), Channel::tls(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::WithoutBinding));
}

#[test]
fn a_client_wants_tls_for_it() {
    let none =
        choice(client_config(), Credentials::custom(OWN), Channel::cleartext(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::WithoutTls));
    let config = own_client().allow_cleartext(true).build().unwrap();
    let chosen = choice(config, Credentials::custom(OWN), Channel::cleartext(), "AUTH X-OWN_2");
    assert_eq!(chosen, Ok("AUTH X-OWN_2 eA==".to_owned()));

    let credentials = Credentials::custom(OWN);
    let channel = Channel::cleartext();
    let mut exchange = sasl::client::Exchange::new(&client_config(), &channel, OWN, credentials);
    let end = exchange.step();
    assert!(matches!(end, sasl::client::Step::Done(Err(ClientFailure::NeedsTls))));
}

#[test]
fn a_password_is_not_for_it() {
    let tim = || Credentials::password("tim", "tanstaaf").unwrap();
    let config =
        || sasl::client::Config::builder().mechanisms([OWN, Mechanism::Plain]).build().unwrap();
    let chosen = choice(config(), tim(), Channel::tls(), "AUTH X-OWN_2 PLAIN").unwrap();
    assert!(chosen.starts_with("AUTH PLAIN "), "{chosen}");
    let none = choice(config(), tim(), Channel::tls(), "AUTH X-OWN_2");
    assert_eq!(none, Err(NoMechanism::OtherCredentials));
    // Nor is it tried by name.
    let mut exchange = sasl::client::Exchange::new(&config(), &Channel::tls(), OWN, tim());
    let end = exchange.step();
    assert!(matches!(end, sasl::client::Step::Done(Err(ClientFailure::Unsupported))));
    let own = Credentials::custom(OWN);
    let plain = Mechanism::Plain;
    let mut exchange = sasl::client::Exchange::new(&config(), &Channel::tls(), plain, own);
    let end = exchange.step();
    assert!(matches!(end, sasl::client::Step::Done(Err(ClientFailure::Unsupported))));
}
