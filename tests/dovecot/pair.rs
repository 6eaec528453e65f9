//! A client that is made of the lines and of the SASL exchanges of this crate talks to a session: with each mechanism
//! that is offered, with all of them at once.

use std::collections::HashMap;

use smtp_auth::{
    dovecot::{ClientLine, Data, Event, Request, ServerLine, Session},
    sasl::{
        self, Answer, Channel, CramSecret, Mechanism, Query, ScramKeys, TokenAnswer,
        client::{self, Credentials},
    },
};

use super::session;

const PASSWORD: &str = "tanstaaf";

fn answer(query: Query<'_>) {
    match query {
        Query::CheckPassword(ask) => {
            let right = *ask.password() == *PASSWORD;
            ask.answer(right);
        }
        Query::CramSecret(ask) => ask.answer(Some(CramSecret::from_password(PASSWORD))),
        Query::ScramKeys(ask) => {
            ask.answer(ScramKeys::from_password(ask.hash(), PASSWORD, b"salt", 1));
        }
        Query::CheckToken(ask) => {
            let right = *ask.token() == *PASSWORD;
            ask.answer(if right { TokenAnswer::Accept("tim".into()) } else { TokenAnswer::Reject });
        }
        Query::CheckAnonymous(ask) => ask.answer(Answer::accept(())),
        other => panic!("{other:?}"),
    }
}

/// The lines that the session sends.
fn exchange(session: &mut Session, sent: &[u8]) -> Vec<u8> {
    session.receive(sent);
    let mut out = Vec::new();
    loop {
        match session.next(&mut out) {
            Event::NeedInput => return out,
            Event::Query(_, query) => answer(query),
            Event::Authenticated(..) | Event::AuthFailed(_) => {}
            Event::Close(why) => panic!("{why}"),
        }
    }
}

/// The next response of a client.
fn response(client: &mut client::Exchange) -> Option<Data> {
    loop {
        match client.step() {
            client::Step::Derive(derive) => derive.run(),
            client::Step::Response(response) => return response.data().map(Data::new),
            client::Step::Custom(_) => panic!(),
            client::Step::Done(outcome) => panic!("{outcome:?}"),
        }
    }
}

fn clients(names: &[String], password: &str) -> HashMap<u32, client::Exchange> {
    let begin = |(n, name): (usize, &String)| {
        let mechanism = Mechanism::from_name(name).unwrap();
        let config = sasl::client::Config::builder().mechanisms([mechanism]);
        let config = config.without(mechanism.plus()).scram_iterations(1, 10).build().unwrap();
        let credentials = match mechanism {
            Mechanism::Anonymous => Credentials::anonymous("trace").unwrap(),
            _ if mechanism.takes_token() => Credentials::token("tim", password).unwrap(),
            _ => Credentials::password("tim", password).unwrap(),
        };
        let exchange = client::Exchange::new(&config, &Channel::tls(), mechanism, credentials);
        (u32::try_from(n).unwrap(), exchange)
    };
    names.iter().enumerate().map(begin).collect()
}

fn offered(out: &[u8]) -> Vec<String> {
    let lines = out.split_inclusive(|&octet| octet == b'\n');
    let names =
        lines.filter_map(|line| match ServerLine::parse(&line[..line.len() - 1]).unwrap() {
            Some(ServerLine::Mech(name, _)) => Some(name.into_owned()),
            _ => None,
        });
    names.collect()
}

#[test]
fn all_mechanisms_at_once() {
    let mut session = session();
    let names = offered(&exchange(&mut session, b""));
    assert_eq!(names.len(), 9);
    let mut hello = Vec::new();
    ClientLine::Version { major: 1, minor: 2 }.write(&mut hello);
    ClientLine::Cpid(7).write(&mut hello);
    assert!(exchange(&mut session, &hello).is_empty());
    for (password, right) in [(PASSWORD, true), ("pencil", false)] {
        let mut clients = clients(&names, password);
        let mut sent = Vec::new();
        for (&id, client) in &mut clients {
            let request = Request::new(id, &names[id as usize], "smtp").unwrap().with_tls();
            ClientLine::Auth(request.into(), response(client)).write(&mut sent);
        }
        let mut ended = HashMap::new();
        while !sent.is_empty() {
            let out = exchange(&mut session, &std::mem::take(&mut sent));
            for line in out.split_inclusive(|&octet| octet == b'\n') {
                match ServerLine::parse(&line[..line.len() - 1]).unwrap().unwrap() {
                    ServerLine::Cont(id, challenge) => {
                        let client = clients.get_mut(&id).unwrap();
                        match client.step() {
                            client::Step::Response(response) => {
                                response.challenge(challenge.expose().to_vec());
                            }
                            other => panic!("{other:?}"),
                        }
                        ClientLine::Cont(id, response(client).unwrap()).write(&mut sent);
                    }
                    ServerLine::Ok { id, user } => {
                        match clients.get_mut(&id).unwrap().step() {
                            client::Step::Response(response) => response.success(),
                            other => panic!("{other:?}"),
                        }
                        let client = clients.get_mut(&id).unwrap();
                        assert!(matches!(client.step(), client::Step::Done(Ok(_))));
                        assert!(ended.insert(id, user.map(|user| user.into_owned())).is_none());
                    }
                    ServerLine::Fail { id, .. } => assert!(ended.insert(id, None).is_none()),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(ended.len(), names.len());
        for (n, name) in names.iter().enumerate() {
            let guest = name == "ANONYMOUS";
            let expected = if guest { Some("anonymous") } else { right.then_some("tim") };
            assert_eq!(ended[&(n as u32)].as_deref(), expected, "{name}");
        }
    }
}
