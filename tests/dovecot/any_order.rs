//! Several exchanges on one connection: in whatever order and pieces their lines come, in whatever order they are
//! answered and released, each gets its own answer, once. With a client of version 1.0, a temporary failure closes the
//! connection, unless another exchange waits for its answer.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::{collection::vec, prelude::*, sample::select};
use smtp_auth::{
    dovecot::{ClientLine, CloseReason, Data, Event, FailCode, Held, Request, ServerLine, Session},
    sasl::{Query, QueryJob},
};

use super::ready;

/// An exchange of the client.
#[derive(Clone, Debug)]
struct Plan {
    id: u32,
    /// Its responses, the first of them an initial one or not.
    initial: bool,
    login: bool,
    outcome: Outcome,
    /// Whether the question is answered when it comes.
    at_once: bool,
    held: bool,
    /// Whether the client cancels it after the first line.
    cancelled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Right,
    Wrong,
    TempFail,
}

fn plan() -> impl Strategy<Value = Plan> {
    let outcome = select(vec![Outcome::Right, Outcome::Wrong, Outcome::TempFail]);
    let flags = prop::array::uniform4(any::<bool>());
    (any::<u32>(), outcome, flags, 0..4).prop_map(|(id, outcome, flags, n)| {
        let [initial, login, at_once, held] = flags;
        Plan { id, initial, login, outcome, at_once, held, cancelled: n == 0 }
    })
}

/// What remains to be sent of an exchange.
fn lines(plan: &Plan) -> Vec<ClientLine> {
    let name = format!("user{}", plan.id);
    let mut responses = match plan.login {
        true => vec![name, "secret".into()],
        false => vec![format!("\0{name}\0secret")],
    };
    let initial = plan.initial.then(|| Data::new(responses.remove(0)));
    let mechanism = if plan.login { "LOGIN" } else { "PLAIN" };
    let request = Request::new(plan.id, mechanism, "smtp").unwrap().with_tls();
    let mut lines = vec![ClientLine::Auth(request.into(), initial)];
    match plan.cancelled {
        true => lines.push(ClientLine::Cancel(plan.id)),
        false => {
            lines.extend(responses.into_iter().map(|r| ClientLine::Cont(plan.id, Data::new(r))))
        }
    }
    lines
}

struct Run {
    session: Session,
    minor: u32,
    plans: HashMap<u32, Plan>,
    jobs: Vec<(u32, QueryJob)>,
    held: Vec<(u32, Held)>,
    ended: HashMap<u32, Result<String, String>>,
    out: Vec<u8>,
    closed: bool,
}

impl Run {
    fn answer(&self, id: u32, query: Query<'_>) {
        assert_eq!(query.authcid(), Some(&*format!("user{id}")), "another exchange's name");
        match (self.plans[&id].outcome, query) {
            (Outcome::Right, Query::CheckPassword(ask)) => ask.answer(true),
            (Outcome::Wrong, query) => query.reject(),
            (_, query) => query.temp_fail(),
        }
    }

    fn go_on(&mut self) {
        loop {
            let (others_wait, looked_at) = (self.is_waiting(false), self.out.len());
            let _ = self.session.advance(&mut self.out);
            let is_temporary = |line: &ServerLine<'_>| {
                matches!(line, ServerLine::Fail { code: Some(FailCode::TempFail), .. })
            };
            if self.minor == 0 && lines_of(&self.out[looked_at..]).any(|line| is_temporary(&line)) {
                assert!(others_wait, "a client of version 1.0 takes the FAIL for final");
            }
            let (id, job) = match self.session.pending() {
                Event::NeedInput => return,
                Event::Query(request, query) => (request.id(), query.job().unwrap()),
                Event::Authenticated(request, who) => {
                    assert_eq!(who.authcid(), format!("user{}", request.id()));
                    assert!(self.ended.insert(request.id(), Ok(who.authcid().into())).is_none());
                    continue;
                }
                Event::AuthFailed(failed) => {
                    let id = failed.request.id();
                    assert!(self.ended.insert(id, Err(format!("{:?}", failed.why))).is_none());
                    if self.plans[&id].held {
                        self.held.push((id, failed.hold()));
                    }
                    continue;
                }
                Event::Close(why) => {
                    assert_eq!((why, self.minor), (CloseReason::TempFail, 0));
                    assert!(!self.is_waiting(true), "an exchange loses its answer");
                    self.closed = true;
                    return;
                }
            };
            self.jobs.push((id, job));
            if self.plans[&id].at_once {
                self.settle(self.jobs.len() - 1);
            }
        }
    }

    /// Whether another exchange waits for an answer of the application, surely or perhaps: the client may have cancelled
    /// an exchange whose answer is held back.
    fn is_waiting(&self, surely: bool) -> bool {
        self.jobs.iter().any(|(id, _)| !self.ended.contains_key(id))
            || self.held.iter().any(|(id, _)| !surely || !self.plans[id].cancelled)
    }

    fn settle(&mut self, at: usize) {
        let (id, mut job) = self.jobs.swap_remove(at);
        self.answer(id, job.query());
        let settled = self.session.answer_from(job);
        assert!(settled || self.plans[&id].cancelled);
    }
}

fn lines_of(out: &[u8]) -> impl Iterator<Item = ServerLine<'_>> {
    let lines = out.split_inclusive(|&octet| octet == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\n").expect("a whole line"));
    lines.map(|line| ServerLine::parse(line).unwrap().expect("a known line"))
}

/// The final answers to each number.
fn answers(out: &[u8]) -> HashMap<u32, Vec<ServerLine<'_>>> {
    let mut answers: HashMap<_, Vec<_>> = HashMap::new();
    for line in lines_of(out) {
        match &line {
            ServerLine::Ok { id, .. } | ServerLine::Fail { id, .. } => {
                answers.entry(*id).or_default().push(line);
            }
            ServerLine::Cont(..) => {}
            other => panic!("{other:?}"),
        }
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn each_gets_its_own_answer(
        plans in vec(plan(), 1..12),
        choices in vec(any::<u16>(), 0..200),
        sizes in vec(1..40_usize, 1..10),
        minor in 0..3_u32,
    ) {
        let plans: HashMap<u32, Plan> = plans.into_iter().map(|plan| (plan.id, plan)).collect();
        let mut to_send: Vec<(u32, Vec<ClientLine>)> =
            plans.values().map(|plan| (plan.id, lines(plan))).collect();
        to_send.sort_by_key(|(id, _)| *id);
        let mut run = Run {
            session: ready(minor), minor, plans, jobs: Vec::new(), held: Vec::new(),
            ended: HashMap::new(), out: Vec::new(), closed: false,
        };
        let (mut choices, mut sizes) = (choices.into_iter(), sizes.into_iter().cycle());
        // The octets that have yet to arrive.
        let mut under_way = Vec::new();
        while !run.closed {
            let choice = usize::from(choices.next().unwrap_or_default());
            // A client sends its next line once it has been asked for it.
            let asked = |id: u32, out: &[u8]| {
                let cont = format!("CONT\t{id}\t");
                out.split(|&octet| octet == b'\n').filter(|line| line.starts_with(cont.as_bytes())).count()
            };
            let ready: Vec<usize> = (0..to_send.len())
                .filter(|&at| {
                    let (id, rest) = &to_send[at];
                    let plan = &run.plans[id];
                    let sent = lines(plan).len() - rest.len();
                    !rest.is_empty() && (sent == 0 || plan.cancelled || asked(*id, &run.out) >= sent)
                })
                .collect();
            let possible = ready.len() + run.jobs.len() + run.held.len() + usize::from(!under_way.is_empty());
            if possible == 0 {
                break;
            }
            let mut choice = choice % possible;
            if let Some(&at) = ready.get(choice) {
                to_send[at].1.remove(0).write(&mut under_way);
                continue;
            }
            choice -= ready.len();
            if choice < run.jobs.len() {
                run.settle(choice);
            } else if choice - run.jobs.len() < run.held.len() {
                let (_, held) = run.held.swap_remove(choice - run.jobs.len());
                let _ = run.session.release(held);
            } else {
                let size = sizes.next().unwrap().min(under_way.len());
                let piece: Vec<u8> = under_way.drain(..size).collect();
                run.session.receive(&piece);
            }
            run.go_on();
        }
        let (mut answers, mut lost) = (answers(&run.out), 0);
        for (id, plan) in &run.plans {
            let of = answers.remove(id).unwrap_or_default();
            let ended = run.ended.get(id);
            // The end of the connection is the answer to one. The others had not begun, or were waiting for the client.
            if run.closed && of.is_empty() && ended.is_none_or(|end| *end == Err("TempFail".into())) {
                lost += usize::from(ended.is_some() && !plan.cancelled);
                continue;
            }
            if plan.cancelled && ended == Some(&Err("Cancelled".into())) {
                prop_assert!(of.is_empty());
                continue;
            }
            // One that is cancelled after its failure was reported, and before the client was told.
            if plan.cancelled && of.is_empty() {
                prop_assert!(ended.is_some_and(Result::is_err));
                continue;
            }
            let [answer] = &of[..] else { panic!("{of:?}") };
            match (plan.outcome, answer) {
                (Outcome::Right, ServerLine::Ok { user: Some(user), .. }) => {
                    prop_assert_eq!(&**user, format!("user{id}"));
                    prop_assert_eq!(ended, Some(&Ok(user.to_string())));
                }
                (Outcome::Wrong, ServerLine::Fail { code: None, .. }) => {
                    prop_assert_eq!(ended, Some(&Err("Rejected".into())));
                }
                (Outcome::TempFail, ServerLine::Fail { code: Some(FailCode::TempFail), .. }) => {
                    prop_assert_eq!(ended, Some(&Err("TempFail".into())));
                }
                other => panic!("{other:?}"),
            }
        }
        prop_assert!(answers.is_empty());
        prop_assert!(lost <= 1);
        prop_assert_eq!(run.session.open_exchanges(), 0);
        prop_assert!(!String::from_utf8_lossy(&run.out).contains(&STANDARD.encode("secret")));
    }
}
