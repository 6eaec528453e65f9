//! The mechanisms' messages: what a client says arrives, and whatever else arrives signs nobody in.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::select};
use smtp_auth::sasl::{
    Channel, ChannelBinding, Mechanism, Query, ScramKeys, TokenAnswer, as_sent,
    client::{self, Credentials},
    server,
};

fn channel() -> Channel {
    let binding = ChannelBinding::tls_exporter(*b"what binds to this very channel.");
    Channel::tls().with_binding(binding).with_identity("cert@example.org").unwrap()
}

fn config() -> Arc<server::Config> {
    let config = server::Config::builder("smtp.example.com").mechanisms(Mechanism::COMPILED);
    Arc::new(config.fold_names(as_sent).build().unwrap())
}

/// That one and no other: SCRAM without its -PLUS form, where it is not named.
fn client_config(mechanism: Mechanism) -> client::Config {
    client::Config::builder().mechanisms([mechanism]).without(mechanism.plus()).build().unwrap()
}

/// What the client says at first.
fn first(mechanism: Mechanism, credentials: Credentials) -> Vec<u8> {
    let config = client_config(mechanism);
    let mut exchange = client::Exchange::new(&config, &channel(), mechanism, credentials);
    match exchange.step() {
        client::Step::Response(response) => response.data().unwrap().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// What the server asks then, without its number.
fn asked(mechanism: Mechanism, first: Vec<u8>) -> Vec<Option<String>> {
    let mut exchange = server::Exchange::new(&config(), &channel(), mechanism, Some(first));
    let own = |text: Option<&str>| text.map(String::from);
    match exchange.step() {
        server::Step::Query(Query::CheckPassword(ask)) => {
            vec![own(Some(ask.authcid())), own(ask.authzid()), own(Some(ask.password().expose()))]
        }
        server::Step::Query(Query::ScramKeys(ask)) => vec![own(Some(ask.authcid()))],
        server::Step::Query(Query::CheckToken(ask)) => {
            let port = ask.port().map(|port| port.to_string());
            vec![own(ask.authzid()), own(ask.host()), port, own(Some(ask.token().expose()))]
        }
        server::Step::Query(Query::CheckExternal(ask)) => {
            vec![own(Some(ask.identity())), own(ask.authzid())]
        }
        server::Step::Query(Query::CheckAnonymous(ask)) => vec![own(ask.trace())],
        other => panic!("{other:?}"),
    }
}

fn scram_and_plus() -> impl Strategy<Value = Mechanism> {
    let scram = |own: &Mechanism| own.name().starts_with("SCRAM-");
    select(Mechanism::COMPILED.iter().copied().filter(scram).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn a_password_arrives(name in "[^\\pC\\p{Zl}\\p{Zp}]{1,40}", to in "[^\\pC\\p{Zl}\\p{Zp}]{0,40}", word in "[^\0]{1,40}") {
        let mut credentials = Credentials::password(&name, word.as_str()).unwrap();
        if !to.is_empty() {
            credentials = credentials.acting_as(&to).unwrap();
        }
        let found = asked(Mechanism::Plain, first(Mechanism::Plain, credentials));
        prop_assert_eq!(found, [Some(name), Some(to).filter(|to| !to.is_empty()), Some(word)]);
    }

    #[test]
    fn a_scram_name_arrives(mechanism in scram_and_plus(), name in "[ -~]{1,40}", to in "[ -~é,=]{1,40}") {
        let credentials = Credentials::password(&name, "pencil").unwrap().acting_as(&to).unwrap();
        prop_assert_eq!(asked(mechanism, first(mechanism, credentials)), [Some(name)]);
    }

    #[test]
    fn a_token_arrives(
        mechanism in select(vec![Mechanism::OauthBearer, Mechanism::Xoauth2]),
        user in "[^\\pC\\p{Zl}\\p{Zp}]{1,40}",
        token in "[-A-Za-z0-9._~+/]{1,60}={0,2}",
        server in proptest::option::of(("[a-z.]{1,20}", any::<u16>())),
    ) {
        let mut credentials = Credentials::token(&user, token.as_str()).unwrap();
        if let Some((host, port)) = &server {
            credentials = credentials.for_server(host, *port).unwrap();
        }
        let found = asked(mechanism, first(mechanism, credentials));
        let told = server.filter(|_| mechanism == Mechanism::OauthBearer);
        let (host, port) = told.map(|(host, port)| (host, port.to_string())).unzip();
        prop_assert_eq!(found, [Some(user), host, port, Some(token)]);
    }

    #[test]
    fn a_name_to_act_as_and_a_trace_arrive(to in "[^\\pC\\p{Zl}\\p{Zp}]{1,40}", trace in "[ -?A-~]{1,40}") {
        let external = Credentials::external().acting_as(&to).unwrap();
        let found = asked(Mechanism::External, first(Mechanism::External, external));
        prop_assert_eq!(found, [Some("cert@example.org".into()), Some(to)]);
        let guest = Credentials::anonymous(&trace).unwrap();
        let found = asked(Mechanism::Anonymous, first(Mechanism::Anonymous, guest));
        prop_assert_eq!(found, [Some(trace)]);
    }

    /// Messages that are good but for some octets, to a server that knows every account and gives it
    /// keys that no password has, and takes no password and no token.
    #[test]
    fn nothing_else_signs_in(
        mechanism in select(Mechanism::COMPILED.to_vec()),
        messages in vec(
            prop_oneof![
                vec(any::<u8>(), 0..60),
                select(vec![
                    "p=tls-exporter,,n=user,r=abc", "n,,n=user,r=abc", "y,a=x,n=user,r=abc,x=y",
                    "c=biws,r=abc0,p=AAAA", "\0user\0pencil", "user", "",
                    "n,a=u,\x01auth=Bearer t\x01\x01", "user=u\x01auth=Bearer t\x01\x01", "\x01",
                    "user 00000000000000000000000000000000",
                ]).prop_map(|text| text.as_bytes().to_vec()),
            ],
            0..4,
        ),
        cut in any::<usize>(),
    ) {
        let mut messages = messages;
        if let Some(message) = messages.first_mut().filter(|message| !message.is_empty()) {
            let at = cut % message.len();
            if cut % 3 == 0 {
                message[at] = message[at].wrapping_add(1);
            }
        }
        let mut messages = messages.into_iter();
        let initial = messages.next();
        let mut exchange = server::Exchange::new(&config(), &channel(), mechanism, initial);
        loop {
            match exchange.step() {
                server::Step::Challenge(challenge) => match messages.next() {
                    Some(message) => challenge.respond(message),
                    None => challenge.cancel(),
                },
                server::Step::Query(Query::ScramKeys(ask)) => {
                    let keys = ScramKeys::from_password(ask.hash(), "nobody knows", b"salt", 1);
                    ask.answer(keys);
                }
                server::Step::Query(Query::CheckToken(ask)) => ask.answer(TokenAnswer::Reject),
                server::Step::Query(other) => other.reject(),
                server::Step::Done(outcome) => {
                    prop_assert!(outcome.is_err());
                    break;
                }
            }
        }
    }
}

/// Where an exchange stands shows nothing secret, at any of its steps.
#[test]
fn debug_shows_no_secret() {
    const SECRETS: [&str; 3] = ["tanstaaftanstaaf", "token-of-tim", "what binds to this"];
    for &mechanism in Mechanism::COMPILED {
        let credentials = match mechanism {
            Mechanism::External => Credentials::external(),
            Mechanism::Anonymous => Credentials::anonymous("trace").unwrap(),
            _ if mechanism.takes_token() => Credentials::token("tim", "token-of-tim").unwrap(),
            _ => Credentials::password("tim", "tanstaaftanstaaf").unwrap(),
        };
        let mut shown = format!("{credentials:?} {:?}", channel());
        let mut client =
            client::Exchange::new(&client_config(mechanism), &channel(), mechanism, credentials);
        let initial = match client.step() {
            client::Step::Response(response) => response.data().map(<[u8]>::to_vec),
            other => panic!("{other:?}"),
        };
        let mut server = server::Exchange::new(&config(), &channel(), mechanism, initial);
        loop {
            shown.push_str(&format!("{client:?}{server:?}"));
            match server.step() {
                server::Step::Challenge(challenge) => {
                    let client::Step::Response(response) = client.step() else { panic!() };
                    response.challenge(challenge.data());
                    shown.push_str(&format!("{:?}", client.step()));
                    if let client::Step::Derive(derive) = client.step() {
                        derive.run();
                    }
                    let client::Step::Response(response) = client.step() else { panic!() };
                    shown.push_str(&format!("{response:?}"));
                    challenge.respond(response.data().unwrap());
                    shown.push_str(&format!("{challenge:?}"));
                }
                server::Step::Query(Query::ScramKeys(ask)) => {
                    let keys =
                        ScramKeys::from_password(ask.hash(), "tanstaaftanstaaf", b"salt", 4096);
                    ask.answer(keys);
                }
                server::Step::Query(query) => {
                    shown.push_str(&format!("{query:?}"));
                    query.reject();
                }
                server::Step::Done(outcome) => {
                    shown.push_str(&format!("{outcome:?}"));
                    break;
                }
            }
        }
        for secret in SECRETS {
            let octets = format!("{:?}", secret.as_bytes());
            assert!(!shown.contains(secret), "{mechanism}: {shown}");
            assert!(!shown.contains(octets.trim_matches(['[', ']'])), "{mechanism}: {shown}");
        }
    }
}
