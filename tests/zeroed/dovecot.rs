//! Sessions of Dovecot's protocol, cut off at each octet.

use smtp_auth::dovecot::{ClientLine, Cookie, Data, Event, Request, ServerLine, Session};

use super::*;

fn data(client: &mut sasl::client::Exchange, secrets: &Secrets) -> Option<Data> {
    response(client, secrets).map(Data::new)
}

/// Two exchanges at once, cut off when so many octets have passed.
fn dialogue(mechanism: Mechanism, secrets: &Secrets, octets: usize, end: End) -> bool {
    let mut session = Session::new(server_config(), 1, 2, Cookie::new([3; 16]));
    let config = client_config(mechanism);
    let mut clients = [0, 1].map(|_| {
        let credentials = credentials(mechanism, secrets);
        sasl::client::Exchange::new(&config, &Channel::tls(), mechanism, credentials)
    });
    let mut to_session = Zeroed::default();
    to_session.0.extend_from_slice(b"VERSION\t1\t2\nCPID\t7\n");
    for (id, client) in (0..).zip(&mut clients) {
        let request = Request::new(id, mechanism.name(), "smtp").unwrap().with_tls();
        ClientLine::Auth(request.into(), data(client, secrets)).write(&mut to_session.0);
    }
    let (mut passed, mut sent, mut ended) = (0, 0, 0);
    while passed < octets && ended < 2 {
        let left = (to_session.0.len() - sent).min(octets - passed);
        session.receive(&to_session.0[sent..sent + left]);
        (passed, sent) = (passed + left, sent + left);
        let mut out = Zeroed::default();
        loop {
            match session.next(&mut out.0) {
                Event::NeedInput => break,
                Event::Query(_, query) => answer(query, secrets),
                Event::Authenticated(..) => ended += 1,
                other => panic!("{other:?}"),
            }
        }
        for line in out.0.split_inclusive(|&octet| octet == b'\n') {
            if let Some(ServerLine::Cont(id, challenge)) =
                ServerLine::parse(&line[..line.len() - 1]).unwrap()
            {
                let client = &mut clients[id as usize];
                match client.step() {
                    sasl::client::Step::Response(own) => own.challenge(challenge.expose()),
                    other => panic!("{other:?}"),
                }
                ClientLine::Cont(id, data(client, secrets).unwrap()).write(&mut to_session.0);
            }
        }
    }
    end.after();
    ended == 2
}

#[test]
fn sessions() {
    for length in [16, 33, 250, 1024] {
        let secrets = Secrets::of(length);
        let offered = |own: &&Mechanism| smtp_auth::dovecot::Properties::of(**own).is_some();
        for &mechanism in Mechanism::COMPILED.iter().filter(offered) {
            for octets in (0..).step_by(83 + length / 4) {
                let (over, found) = looking(|| dialogue(mechanism, &secrets, octets, End::Dropped));
                assert_eq!(found, 0, "{mechanism} after {octets} octets");
                let found = unwinding(|| {
                    dialogue(mechanism, &secrets, octets, End::Unwound);
                });
                assert_eq!(found, 0, "{mechanism} unwound after {octets} octets");
                if over {
                    break;
                }
                assert!(octets < 20_000, "{mechanism} does not end");
            }
        }
    }
}
