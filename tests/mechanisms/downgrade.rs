//! A man in the middle who changes the list of mechanisms (RFC 5802 §6): client and server support channel
//! binding, and their two TLS connections are not one.

use std::{collections::HashMap, sync::Arc};

use smtp_auth::sasl::{
    BindingPolicy, Channel, ChannelBinding, Failure, Mechanism, Query, ScramHash, ScramKeys,
    client::{self, Credentials, NoMechanism},
    server,
};

const SCRAM: [Mechanism; 6] = [
    Mechanism::ScramSha512Plus,
    Mechanism::ScramSha256Plus,
    Mechanism::ScramSha1Plus,
    Mechanism::ScramSha512,
    Mechanism::ScramSha256,
    Mechanism::ScramSha1,
];

fn channel(of: u8) -> Channel {
    Channel::tls().with_binding(ChannelBinding::tls_exporter([of; 32]))
}

fn tim() -> Credentials {
    Credentials::password("tim", "tanstaaftanstaaf").unwrap()
}

/// Every list of them, but for their order.
fn subsets() -> impl Iterator<Item = Vec<Mechanism>> {
    (0..1 << SCRAM.len()).map(|set: u32| {
        SCRAM
            .iter()
            .enumerate()
            .filter(|(bit, _)| set >> bit & 1 == 1)
            .map(|(_, own)| *own)
            .collect()
    })
}

fn binds(list: &[Mechanism]) -> bool {
    list.iter().any(|own| own.binds_channel())
}

fn others(list: &[Mechanism]) -> Vec<Mechanism> {
    SCRAM.into_iter().filter(|own| !list.contains(own)).collect()
}

/// With just these.
fn client(list: &[Mechanism]) -> client::Builder {
    client::Config::builder().mechanisms(list).without(others(list)).scram_iterations(1, 1)
}

fn server(list: &[Mechanism]) -> Arc<server::Config> {
    let config = server::Config::builder("mail.example.org").mechanisms(list);
    Arc::new(config.without(others(list)).build().unwrap())
}

fn names(list: &[Mechanism]) -> Vec<&'static str> {
    list.iter().map(|own| own.name()).collect()
}

/// What the server's list becomes on its way.
fn rewritings(of: &[Mechanism]) -> Vec<String> {
    let mut lists: Vec<String> = subsets().map(|list| names(&list).join(" ")).collect();
    let all = names(of);
    // In another order, twice, in lower case, and with names that nobody has.
    lists.push(all.iter().rev().copied().collect::<Vec<_>>().join(" "));
    lists.push([&all[..], &all[..]].concat().join(" "));
    lists.push(all.join(" ").to_lowercase());
    lists.push(all.join(" ").replace("SHA-", "SHA3-"));
    lists.push(all.join(" ").replace("-PLUS", "-PLUSX"));
    lists.push(format!("SCRAM-SHA3-512-PLUS {}", all.join(" ").replace("-PLUS", "-MINUS")));
    lists
}

/// What both ends believe when the messages are passed on, under that mechanism's name.
fn both(
    client: &client::Config,
    of_client: &Channel,
    chosen: Mechanism,
    (server, of_server, named): (&Arc<server::Config>, &Channel, Mechanism),
) -> (bool, Result<(), Failure>, String) {
    let mut client = client::Exchange::new(client, of_client, chosen, tim());
    let said = |client: &mut client::Exchange| loop {
        match client.step() {
            client::Step::Derive(derive) => derive.run(),
            client::Step::Response(response) => break response.data().map(<[u8]>::to_vec),
            _ => break None,
        }
    };
    let challenged = |client: &mut client::Exchange, data: &[u8]| {
        if let client::Step::Response(response) = client.step() {
            response.challenge(data);
        }
    };
    let first = said(&mut client).unwrap();
    let flag = String::from_utf8_lossy(first.get(..1).unwrap_or_default()).into_owned();
    let mut server = server::Exchange::new(server, of_server, named, Some(first));
    let outcome = loop {
        match server.step() {
            server::Step::Challenge(challenge) => {
                challenged(&mut client, challenge.data());
                match said(&mut client) {
                    Some(response) => challenge.respond(response),
                    None => challenge.cancel(),
                }
            }
            server::Step::Query(Query::ScramKeys(ask)) => {
                ask.answer(ScramKeys::from_password(ask.hash(), "tanstaaftanstaaf", b"salt", 1));
            }
            server::Step::Query(other) => other.reject(),
            server::Step::Done(outcome) => break outcome.map(|_| ()),
        }
    };
    if let client::Step::Response(response) = client.step() {
        response.success();
    }
    (matches!(client.step(), client::Step::Done(Ok(()))), outcome, flag)
}

/// Every list of a client's that has a -PLUS × every one of a server's × every change of that on its way.
#[test]
fn no_change_of_the_list_goes_unseen() {
    let (own, other) = (channel(7), channel(6));
    let (mut chosen, mut exchanges) = (0_u32, HashMap::new());
    for offered in subsets().filter(|list| binds(list)) {
        let (server, lists) = (server(&offered), rewritings(&offered));
        for list in subsets().filter(|list| binds(list)) {
            let client = client(&list).build().unwrap();
            for seen in &lists {
                let Ok(mechanism) = client.choose(&tim(), &own, seen) else { continue };
                chosen += 1;
                let usable = client.usable(&own, seen).unwrap();
                assert_eq!(usable.first(), Some(&mechanism), "{list:?} sees {seen}");
                let plus = SCRAM.iter().any(|own| {
                    own.binds_channel()
                        && list.contains(own)
                        && seen.split(' ').any(|name| name.eq_ignore_ascii_case(own.name()))
                });
                assert_eq!(mechanism.binds_channel(), plus, "{list:?} sees {seen}");
                // What is passed on may be given the name of the other form.
                let hash = ScramHash::of(mechanism).unwrap();
                for named in SCRAM.into_iter().filter(|own| ScramHash::of(*own) == Some(hash)) {
                    let case = (mechanism, named, names(&offered).join(" "));
                    let (signed_in, outcome, flag) = exchanges.entry(case).or_insert_with(|| {
                        both(&client, &own, mechanism, (&server, &other, named))
                    });
                    assert_ne!(*flag, "n", "{list:?} sees {seen}");
                    assert!(!*signed_in && outcome.is_err(), "{list:?} sees {seen}: {named}");
                }
            }
        }
    }
    assert!(chosen > 100_000 && exchanges.len() > 500, "{chosen} {}", exchanges.len());
}

/// The same ends of one connection, where each mechanism has its -PLUS form beside it.
#[test]
fn nobody_is_refused_where_nothing_was_changed() {
    let own = channel(7);
    let whole = |list: &Vec<Mechanism>| {
        !list.is_empty()
            && list.iter().all(|own| own.binds_channel() || list.contains(&own.plus().unwrap()))
            && list.iter().all(|own| {
                !own.binds_channel() || list.iter().any(|other| other.plus() == Some(*own))
            })
    };
    let mut met = 0;
    for offered in subsets().filter(whole) {
        let (server, seen) = (server(&offered), names(&offered).join(" "));
        for list in subsets().filter(whole) {
            let client = client(&list).build().unwrap();
            let Ok(mechanism) = client.choose(&tim(), &own, &seen) else { continue };
            let (signed_in, outcome, flag) =
                both(&client, &own, mechanism, (&server, &own, mechanism));
            assert!(signed_in && outcome == Ok(()) && flag == "p", "{list:?} {seen} {outcome:?}");
            met += 1;
        }
    }
    assert!(met > 30, "{met}");
}

/// Those that do not support channel binding, to a server that does.
#[test]
fn a_client_without_plus_gets_in_to_an_honest_server() {
    let (server, own) = (server(&SCRAM), channel(7));
    let seen = names(&SCRAM).join(" ");
    for mechanism in SCRAM.into_iter().filter(|own| !own.binds_channel()) {
        let all = [mechanism, mechanism.plus().unwrap()];
        for (config, of_client) in [
            (client(&[mechanism]), own.clone()),
            (client(&all), Channel::tls()),
            (client(&all).channel_binding(BindingPolicy::None), own.clone()),
        ] {
            let config = config.build().unwrap();
            assert_eq!(config.choose(&tim(), &of_client, &seen), Ok(mechanism));
            let (signed_in, outcome, flag) =
                both(&config, &of_client, mechanism, (&server, &own, mechanism));
            assert!(signed_in && outcome == Ok(()) && flag == "n", "{mechanism} {outcome:?}");
        }
    }
    // And one that does, to a server that has nothing to bind to.
    let config = client(&SCRAM).build().unwrap();
    let mechanism = config.choose(&tim(), &own, "AUTH SCRAM-SHA-256 PLAIN").unwrap();
    let (signed_in, outcome, flag) =
        both(&config, &own, mechanism, (&server, &Channel::tls(), mechanism));
    assert!(signed_in && outcome == Ok(()) && flag == "y", "{outcome:?}");
}

/// The text of an AUTH line, as it comes: the last name counts as the others do.
#[test]
fn a_line_end_hides_no_name() {
    let config = client(&SCRAM).build().unwrap();
    for line in ["AUTH {}", "250-AUTH {}\r\n", "AUTH={}\n", "AUTH\t{} ", " {}\r\n"] {
        let line = line.replace("{}", "SCRAM-SHA-256 PLAIN SCRAM-SHA-256-PLUS");
        let mechanism = config.choose(&tim(), &channel(7), &line);
        assert_eq!(mechanism, Ok(Mechanism::ScramSha256Plus), "{line:?}");
    }
}

/// A mechanism that the caller names without the server's list.
#[test]
fn without_the_list_a_client_says_that_it_saw_none() {
    let (server, own) = (server(&SCRAM), channel(7));
    let config = client(&SCRAM).build().unwrap();
    let mechanism = Mechanism::ScramSha256;
    let (signed_in, outcome, flag) = both(&config, &own, mechanism, (&server, &own, mechanism));
    assert!(!signed_in && outcome == Err(Failure::Downgrade) && flag == "y", "{outcome:?}");
}

/// A mechanism that was picked before there were credentials: the exchange with them says the same of the
/// list as one by `choose`.
#[test]
fn what_is_picked_before_the_credentials_binds_as_well() {
    use Mechanism::{OauthBearer, Plain, ScramSha1, ScramSha256, ScramSha256Plus, Xoauth2};
    let (server, own) = (server(&[ScramSha256Plus, ScramSha256]), channel(7));
    let all = [OauthBearer, ScramSha1, Plain, Xoauth2, ScramSha256];
    let config = client::Config::builder().mechanisms(all).scram_iterations(1, 1).build().unwrap();
    for (offered, of_client, found, flag) in [
        // The -PLUS before what else takes a password, and the token where the list has it.
        (
            "XOAUTH2 PLAIN SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-256-PLUS OAUTHBEARER",
            &own,
            &[OauthBearer, ScramSha256Plus, ScramSha1, Plain, Xoauth2, ScramSha256][..],
            "p",
        ),
        // The man in the middle has struck it out.
        ("SCRAM-SHA-256 XOAUTH2", &own, &[Xoauth2, ScramSha256], "y"),
        ("SCRAM-SHA-256-PLUS SCRAM-SHA-256", &Channel::tls(), &[ScramSha256], "n"),
    ] {
        let usable = config.usable(of_client, offered).unwrap();
        assert_eq!(usable, found, "{offered}");
        let picked = usable.into_iter().find(|own| own.takes_password()).unwrap();
        assert_eq!(config.choose(&tim(), of_client, offered), Ok(picked));
        let (signed_in, outcome, said) = both(&config, of_client, picked, (&server, &own, picked));
        assert_eq!(said, flag, "{offered}");
        assert_eq!((signed_in, outcome.is_ok()), (flag != "y", flag != "y"), "{offered}");
        if flag == "y" {
            assert_eq!(outcome, Err(Failure::Downgrade));
        }
    }
}

/// Of those that are usable the first that fits the credentials is the one that is chosen with them.
#[test]
fn what_is_usable_is_what_is_chosen() {
    type Fits = fn(Mechanism) -> bool;
    let kinds: [(Credentials, Fits); 4] = [
        (tim(), Mechanism::takes_password),
        (Credentials::token("tim", "4b1p").unwrap(), Mechanism::takes_token),
        (Credentials::external(), |own| own == Mechanism::External),
        (Credentials::anonymous("").unwrap(), |own| own == Mechanism::Anonymous),
    ];
    let config = client::Config::default();
    for set in 0..1_u32 << Mechanism::COMPILED.len() {
        let all = Mechanism::COMPILED.iter().enumerate();
        let offered = all.filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, own)| own.name());
        let offered = offered.collect::<Vec<_>>().join(" ");
        for channel in [channel(7), Channel::tls(), Channel::cleartext()] {
            let usable = config.usable(&channel, &offered).unwrap_or_default();
            for (credentials, fits) in &kinds {
                let chosen = config.choose(credentials, &channel, &offered).ok();
                let first = usable.iter().copied().find(|own| fits(*own));
                assert_eq!(first, chosen, "{offered} {channel:?}");
            }
        }
    }
    for (offered, channel, why) in [
        ("AUTH NTLM", Channel::tls(), NoMechanism::InCommon),
        ("AUTH PLAIN XOAUTH2 EXTERNAL", Channel::cleartext(), NoMechanism::WithoutTls),
        ("AUTH SCRAM-SHA-256-PLUS", Channel::tls(), NoMechanism::WithoutBinding),
    ] {
        assert_eq!(config.usable(&channel, offered), Err(why));
    }
}
