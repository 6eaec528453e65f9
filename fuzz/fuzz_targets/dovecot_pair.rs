//! A client of Dovecot's protocol that has several exchanges at once, and a session: in whatever order and pieces their
//! lines come and questions are answered, each exchange comes to its own end, and none with wrong credentials to OK. With
//! a client of version 1.0, a temporary failure closes the connection while no other exchange waits for its answer.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use smtp_auth::{
    dovecot::{
        ClientLine, CloseReason, Cookie, Data, Event, FailCode, Held, Properties, Request,
        ServerLine, Session,
    },
    sasl::{
        Channel, CramSecret, Mechanism, Query, QueryJob, TokenAnswer,
        client::{self, Credentials},
        server,
    },
};
use smtp_auth_fuzz::{ITERATIONS, KEYS, PASSWORD, SALT_KEY, TOKEN, pick};

/// The bits of an exchange's second octet.
const RIGHT: u8 = 1;
const SECURED: u8 = 2;
const CANCELLED: u8 = 4;
const OTHER_ACCOUNT: u8 = 8;
const TEMP_FAIL: u8 = 16;

/// An exchange of the client.
struct Plan {
    mechanism: Mechanism,
    bits: u8,
    exchange: client::Exchange,
    ended: Option<Result<String, ()>>,
    cancelled: bool,
}

fn name(bits: u8) -> &'static str {
    if bits & OTHER_ACCOUNT != 0 { "ann" } else { "tim" }
}

fn plan(mechanism: Mechanism, bits: u8) -> Plan {
    let config = client::Config::builder()
        .mechanisms([mechanism])
        .without(mechanism.plus())
        .scram_iterations(1, 10)
        .allow_cleartext(true);
    let right = bits & RIGHT != 0;
    let credentials = match mechanism {
        Mechanism::Anonymous => Credentials::anonymous("trace"),
        _ if mechanism.takes_token() => {
            Credentials::token(name(bits), if right { TOKEN } else { "no" })
        }
        _ => Credentials::password(name(bits), if right { PASSWORD } else { "no" }),
    };
    let config = config.build().expect("a compiled mechanism");
    let credentials = credentials.expect("a good name");
    let exchange = client::Exchange::new(&config, &Channel::tls(), mechanism, credentials);
    Plan { mechanism, bits, exchange, ended: None, cancelled: false }
}

/// Returns what the client says next.
fn response(exchange: &mut client::Exchange) -> Result<Option<Data>, ()> {
    loop {
        match exchange.step() {
            client::Step::Derive(derive) => derive.run(),
            client::Step::Response(response) => return Ok(response.data().map(Data::new)),
            client::Step::Custom(_) | client::Step::Done(_) => return Err(()),
        }
    }
}

fn answer(bits: u8, query: Query<'_>) {
    match query {
        query if bits & TEMP_FAIL != 0 => query.temp_fail(),
        Query::CheckPassword(ask) => {
            let right = *ask.password() == *PASSWORD;
            ask.answer(right);
        }
        Query::CramSecret(ask) => ask.answer(Some(CramSecret::from_password(PASSWORD))),
        Query::ScramKeys(ask) => {
            ask.answer(KEYS.iter().find(|keys| keys.hash() == ask.hash()).cloned());
        }
        Query::CheckToken(ask) => {
            let whose = ask.authzid().unwrap_or("tim").to_owned();
            let right = *ask.token() == *TOKEN;
            ask.answer(if right { TokenAnswer::Accept(whose) } else { TokenAnswer::Reject });
        }
        Query::CheckAnonymous(ask) => ask.answer(true),
        other => other.reject(),
    }
}

struct Pair {
    session: Session,
    minor: u32,
    closed: bool,
    plans: HashMap<u32, Plan>,
    to_session: Vec<u8>,
    to_client: Vec<u8>,
    jobs: Vec<(u32, QueryJob)>,
    held: Vec<(u32, Held)>,
    reported: HashMap<u32, Result<String, ()>>,
}

impl Pair {
    fn serve(&mut self, choice: u8) {
        loop {
            match self.session.next(&mut self.to_client) {
                Event::NeedInput => return,
                Event::Query(request, query) if choice & 1 == 0 => {
                    answer(self.plans[&request.id()].bits, query);
                }
                Event::Query(request, query) => {
                    self.jobs.extend(query.job().map(|job| (request.id(), job)));
                }
                Event::Authenticated(request, who) => {
                    let ended = self.reported.insert(request.id(), Ok(who.acts_as().into()));
                    assert!(ended.is_none(), "it ends twice");
                }
                Event::AuthFailed(failed) => {
                    let ended = self.reported.insert(failed.request.id(), Err(()));
                    assert!(ended.is_none(), "it ends twice");
                    if choice & 2 != 0 {
                        self.held.push((failed.request.id(), failed.hold()));
                    }
                }
                Event::Close(why) => {
                    assert_eq!((why, self.minor), (CloseReason::TempFail, 0));
                    // The others have ended, or the client has cancelled them.
                    let mut jobs = self.jobs.drain(..);
                    assert!(jobs.all(|(id, _)| self.reported.contains_key(&id)), "one is lost");
                    let mut held = self.held.drain(..);
                    assert!(held.all(|(id, _)| self.plans[&id].cancelled), "one is lost");
                    self.to_session.clear();
                    self.closed = true;
                    return;
                }
            }
        }
    }

    /// The client reads a line.
    fn read(&mut self, line: &[u8]) {
        let (id, ok) = match ServerLine::parse(line).expect("a line").expect("a known line") {
            ServerLine::Cont(id, challenge) => {
                let plan = self.plans.get_mut(&id).expect("an exchange of the client");
                assert!(plan.ended.is_none(), "it goes on after its end");
                if plan.cancelled {
                    return;
                }
                if let client::Step::Response(own) = plan.exchange.step() {
                    own.challenge(challenge.expose());
                }
                match (plan.bits & CANCELLED, response(&mut plan.exchange)) {
                    (0, Ok(Some(response))) => {
                        ClientLine::Cont(id, response).write(&mut self.to_session)
                    }
                    _ => {
                        plan.cancelled = true;
                        ClientLine::Cancel(id).write(&mut self.to_session);
                    }
                }
                return;
            }
            ServerLine::Ok { id, user } => (id, Ok(user.expect("a user").into_owned())),
            ServerLine::Fail { id, code, .. } => {
                let is_alone = self.minor == 0 && self.plans.len() == 1;
                assert!(
                    !is_alone || code != Some(FailCode::TempFail),
                    "the client takes it for final"
                );
                (id, Err(()))
            }
            _ => return,
        };
        let plan = self.plans.get_mut(&id).expect("an exchange of the client");
        assert!(plan.ended.replace(ok).is_none(), "it ends twice");
    }

    fn go_on(&mut self, choice: u8) {
        match choice % 4 {
            0 => {
                let size = usize::from(choice >> 2).min(self.to_session.len());
                let piece: Vec<u8> = self.to_session.drain(..size).collect();
                self.session.receive(&piece);
            }
            1 => {
                let end = self.to_client.iter().position(|&octet| octet == b'\n');
                if let Some(end) = end {
                    let line: Vec<u8> = self.to_client.drain(..=end).collect();
                    self.read(&line[..end]);
                }
            }
            2 if !self.jobs.is_empty() => {
                let place = usize::from(choice >> 2) % self.jobs.len();
                let (id, mut job) = self.jobs.swap_remove(place);
                answer(self.plans[&id].bits, job.query());
                let _ = self.session.answer_from(job);
            }
            3 if !self.held.is_empty() => {
                let (_, held) = self.held.swap_remove(usize::from(choice >> 2) % self.held.len());
                let _ = self.session.release(held);
            }
            _ => {}
        }
        self.serve(choice >> 6);
    }
}

// The input: the number of exchanges and the minor version, two octets for each exchange, and what happens next.
fuzz_target!(|input: &[u8]| {
    let [number, rest @ ..] = input else { return };
    let Some((plans, choices)) = rest.split_at_checked(2 * usize::from(number % 16)) else {
        return;
    };
    let mechanisms: Vec<_> =
        Mechanism::COMPILED.iter().copied().filter(|own| Properties::of(*own).is_some()).collect();
    let config = server::Config::builder("mail.example.org")
        .mechanisms(&mechanisms)
        .salt_key(SALT_KEY)
        .scram_iterations(ITERATIONS)
        .build()
        .expect("what is compiled in");
    let minor = u32::from(number >> 4) % 3;
    let mut pair = Pair {
        session: Session::new(config.into(), 1, 2, Cookie::new([3; 16])),
        minor,
        closed: false,
        plans: HashMap::new(),
        to_session: Vec::new(),
        to_client: Vec::new(),
        jobs: Vec::new(),
        held: Vec::new(),
        reported: HashMap::new(),
    };
    ClientLine::Version { major: 1, minor }.write(&mut pair.to_session);
    ClientLine::Cpid(7).write(&mut pair.to_session);
    for (id, octets) in (0..).zip(plans.chunks_exact(2)) {
        let mut plan = plan(pick(&mechanisms, octets[0]), octets[1]);
        let request = Request::new(id, plan.mechanism.name(), "smtp").expect("good names");
        let secured = plan.bits & SECURED != 0;
        let request = if secured { request.with_tls() } else { request };
        if let Ok(first) = response(&mut plan.exchange) {
            ClientLine::Auth(request.into(), first).write(&mut pair.to_session);
            pair.plans.insert(id, plan);
        }
    }
    choices.iter().for_each(|&choice| pair.go_on(choice));
    // Each comes to its end.
    for _ in 0..10_000 {
        let idle = pair.to_session.is_empty() && pair.to_client.is_empty();
        if idle && pair.jobs.is_empty() && pair.held.is_empty() {
            break;
        }
        for choice in [0xfc & 0x3f, 1, 2, 3] {
            pair.go_on(choice);
        }
    }
    assert_eq!(pair.session.open_exchanges(), 0);
    for (id, plan) in &mut pair.plans {
        let temporary = plan.bits & TEMP_FAIL != 0;
        let Some(reported) = pair.reported.get(id) else {
            assert!(pair.closed && plan.ended.is_none(), "the application knows of its end");
            continue;
        };
        match &plan.ended {
            Some(ended) => assert_eq!(ended, reported),
            // A token mechanism waits for one more response after its failure (RFC 7628 §3.2.3).
            None => {
                let lost = pair.closed && (temporary || plan.mechanism.takes_token());
                assert!((plan.cancelled || lost) && reported.is_err());
            }
        }
        let guest = plan.mechanism == Mechanism::Anonymous;
        let secured = plan.bits & SECURED != 0 || !plan.mechanism.needs_tls();
        let right = (plan.bits & RIGHT != 0 || guest) && secured && !temporary;
        if let Some(Ok(user)) = &plan.ended {
            assert!(right, "authenticated with wrong credentials");
            assert_eq!(user, if guest { "anonymous" } else { name(plan.bits) });
        } else {
            assert!(!right || plan.bits & CANCELLED != 0, "right credentials are refused");
        }
        if let (client::Step::Response(own), Some(Ok(_))) = (plan.exchange.step(), &plan.ended) {
            own.success();
            assert!(
                matches!(plan.exchange.step(), client::Step::Done(Ok(_))),
                "the server proves itself"
            );
        }
    }
});
