//! Channel binding.

use super::*;

/// A client's exchange against a server's, and what the client begins with.
fn bound(
    (client, of_client): (&sasl::client::Config, &Channel),
    (server, of_server): (sasl::server::Config, &Channel),
    seen: impl Fn(Mechanism) -> bool,
) -> Result<(Mechanism, String, Result<(), Failure>), NoMechanism> {
    let server = Arc::new(server);
    let offered = list(server.offered(of_server).filter(|own| seen(*own)));
    let mechanism = client.choose(&tim(), of_client, &offered)?;
    let mut client = sasl::client::Exchange::new(client, of_client, mechanism, tim());
    let first = response(&mut client).data().unwrap().to_vec();
    let header = String::from_utf8(first.clone()).unwrap();
    let header = header.split(',').next().unwrap().to_owned();
    let mut exchange = sasl::server::Exchange::new(&server, of_server, mechanism, Some(first));
    let outcome = loop {
        match exchange.step() {
            sasl::server::Step::Challenge(challenge) => {
                response(&mut client).challenge(challenge.data());
                challenge.respond(response(&mut client).data().unwrap());
            }
            sasl::server::Step::Query(query) => query.answer_with(&Users),
            sasl::server::Step::Done(outcome) => break outcome.map(|_| ()),
        }
    };
    Ok((mechanism, header, outcome))
}

#[test]
fn channel_binding_by_policy_and_data() {
    use BindingPolicy::{None, Preferred, Required};
    let data = || ChannelBinding::tls_exporter([7; 32]);
    let channels = [Channel::tls(), Channel::tls().with_binding(data())];
    let policies = [None, Preferred, Required];
    for hash in MECHANISMS.iter().filter(|own| own.binds_channel()) {
        let plain = ScramHash::of(*hash).unwrap().mechanism();
        for (on_client, on_server) in policies.iter().flat_map(|a| policies.map(|b| (*a, b))) {
            for (of_client, of_server) in
                channels.iter().flat_map(|a| channels.iter().map(move |b| (a, b)))
            {
                let client = sasl_client().mechanisms([*hash, plain]).channel_binding(on_client);
                let client = client.build().unwrap();
                let server = sasl_server().channel_binding(on_server).build().unwrap();
                let (has, offers) = (
                    on_client != None && !of_client.bindings().is_empty(),
                    on_server != None && !of_server.bindings().is_empty(),
                );
                let expected = if has && offers {
                    Ok((*hash, "p=tls-exporter".to_owned(), Ok(())))
                } else if on_server == Required && !offers {
                    Err(NoMechanism::InCommon)
                } else if on_server == Required || on_client == Required {
                    Err(NoMechanism::WithoutBinding)
                } else {
                    Ok((plain, if has { "y" } else { "n" }.to_owned(), Ok(())))
                };
                let outcome = bound((&client, of_client), (server, of_server), |_| true);
                let case =
                    format!("{hash} {on_client:?} {on_server:?} {of_client:?} {of_server:?}");
                assert_eq!(outcome, expected, "{case}");
            }
        }
    }
}

#[test]
fn channel_binding_by_type() {
    let client = sasl_client().build().unwrap();
    let exporter = ChannelBinding::tls_exporter([7; 32]);
    let end_point = ChannelBinding::tls_server_end_point(&[8; 48]).unwrap();
    let unique = ChannelBinding::tls_unique_with_extended_master_secret(&[9; 12]).unwrap();
    let all = [exporter, end_point, unique];
    let server = all.iter().cloned().fold(Channel::tls(), Channel::with_binding);
    for binding in &all {
        let own = Channel::tls().with_binding(binding.clone());
        let (_, header, outcome) =
            bound((&client, &own), (sasl_config(), &server), |_| true).unwrap();
        assert_eq!((header, outcome), (format!("p={}", binding.name()), Ok(())));
    }
    // The order in which the host gives them is nothing to go by.
    let own = all.iter().rev().cloned().fold(Channel::tls(), Channel::with_binding);
    let (_, header, _) = bound((&client, &own), (sasl_config(), &server), |_| true).unwrap();
    assert_eq!(header, "p=tls-exporter");
    // One that the server has no data for.
    let server = Channel::tls().with_binding(all[1].clone());
    let (_, _, outcome) = bound((&client, &own), (sasl_config(), &server), |_| true).unwrap();
    assert_eq!(outcome, Err(Failure::ChannelBinding));
    // Where the policy forbids it, nobody binds by naming the mechanism.
    let none = sasl_client().channel_binding(BindingPolicy::None).build().unwrap();
    for &plus in MECHANISMS.iter().filter(|mechanism| mechanism.binds_channel()) {
        let mut exchange = sasl::client::Exchange::new(&none, &own, plus, tim());
        let refused = Err(sasl::client::Failure::Unsupported);
        assert!(matches!(exchange.step(), sasl::client::Step::Done(found) if found == refused));
    }
    // In cleartext there is nothing to bind to, and nothing is offered.
    let cleartext = all.iter().cloned().fold(Channel::cleartext(), Channel::with_binding);
    assert_eq!(cleartext.with_identity("tim").unwrap(), Channel::cleartext());
    assert!(ChannelBinding::tls_server_end_point(&[]).is_err());
    assert!(ChannelBinding::tls_unique_with_extended_master_secret(&[]).is_err());
}

#[test]
fn who_stands_between_is_found_out() {
    let client = sasl_client().build().unwrap();
    let own = Channel::tls().with_binding(ChannelBinding::tls_exporter([7; 32]));
    let other = Channel::tls().with_binding(ChannelBinding::tls_exporter([6; 32]));
    // Two connections, and the messages passed on.
    let (mechanism, _, outcome) =
        bound((&client, &own), (sasl_config(), &other), |_| true).unwrap();
    assert!(mechanism.binds_channel());
    assert_eq!(outcome, Err(Failure::ChannelBinding));
    // The -PLUS mechanisms struck out of the list.
    let struck = |own: Mechanism| !own.binds_channel();
    let (mechanism, header, outcome) =
        bound((&client, &own), (sasl_config(), &other), struck).unwrap();
    assert!(!mechanism.binds_channel());
    assert_eq!((header.as_str(), outcome), ("y", Err(Failure::Downgrade)));
    let client = sasl_client().channel_binding(BindingPolicy::Required).build().unwrap();
    let outcome = bound((&client, &own), (sasl_config(), &other), struck);
    assert_eq!(outcome, Err(NoMechanism::WithoutBinding));
}
