//! Any octets in any pieces from a client of Dovecot's protocol, and a store that answers each question in any way, now
//! or later: the session answers or waits, what it sends are lines, nobody is authenticated without a yes, each exchange
//! has at most one answer, and none before the application knows of it or while it is held back. Octets in one piece
//! give the same.
#![no_main]

use std::collections::{HashMap, HashSet};

use libfuzzer_sys::fuzz_target;
use smtp_auth::{
    Advance,
    dovecot::{ClientLine, Cookie, Event, Held, MAX_EXCHANGES, ServerLine, Session},
    sasl::{Failure, Nonce, Query, QueryJob, server::Config},
};
use smtp_auth_fuzz::{ITERATIONS, SALT_KEY, mechanisms, store::Says};

/// The bits of the first octet of the input.
const AT_ONCE: u8 = 1;
const CLEARTEXT: u8 = 2;
const ALWAYS: u8 = 4;

fn session(choice: u8) -> Session {
    let config = Config::builder("mail.example.org")
        .mechanisms(mechanisms())
        .nonces(|| Nonce::new("nonce"))
        .salt_key(SALT_KEY)
        .scram_iterations(ITERATIONS)
        .allow_cleartext(choice & CLEARTEXT != 0)
        .authorize_always(choice & ALWAYS != 0);
    let config = config.build().expect("a good name, and what is compiled in");
    Session::new(config.into(), 1, 2, Cookie::new([3; 16]))
}

/// What the application knows of the exchange that has a number.
#[derive(Default)]
struct Known {
    asked: u32,
    yes: u32,
}

struct Run<'a> {
    session: Session,
    answers: std::slice::Iter<'a, u8>,
    /// Whether each question is answered when it comes, and nothing is held back.
    at_once: bool,
    jobs: Vec<(u32, QueryJob)>,
    held: Vec<(u32, Held)>,
    /// The numbers that the client cancels at some time.
    cancelled: HashSet<u32>,
    known: HashMap<u32, Known>,
    out: Vec<u8>,
    events: Vec<String>,
    /// How many lines of the output were looked at.
    looked_at: usize,
    greeted: bool,
}

impl Run<'_> {
    fn octet(&mut self) -> u8 {
        self.answers.next().copied().unwrap_or(Says::YES)
    }

    /// Answers, and returns whether by yes.
    fn answer(octet: u8, query: Query<'_>) -> bool {
        match octet % 4 {
            0 => query.reject(),
            1 => query.temp_fail(),
            _ => Says::by(Says::YES).settle(query),
        }
        octet % 4 >= 2
    }

    /// The answers among the lines that are new in the output.
    fn look(&mut self) {
        let new = &self.out[self.looked_at..];
        assert!(new.is_empty() || new.ends_with(b"\n"));
        for line in new.split_inclusive(|&octet| octet == b'\n') {
            let line = &line[..line.len() - 1];
            match ServerLine::parse(line).expect("a line").expect("a known line") {
                ServerLine::Ok { id, user } => {
                    assert!(user.is_some());
                    let known = self.known.get(&id).expect("nobody was asked about it");
                    assert!(known.asked > 0 && known.asked == known.yes);
                }
                ServerLine::Fail { id, reason, .. } => {
                    assert!(reason.is_some());
                    let held = self.held.iter().any(|(own, _)| *own == id);
                    assert!(!held || self.cancelled.contains(&id), "it is held back");
                }
                ServerLine::Cont(..) => {}
                handshake => assert!(!self.greeted, "{handshake:?}"),
            }
        }
        self.looked_at = self.out.len();
        self.greeted = true;
    }

    /// Returns whether the connection goes on.
    fn go_on(&mut self) -> bool {
        loop {
            let advance = self.session.advance(&mut self.out);
            self.look();
            assert!(self.session.open_exchanges() <= MAX_EXCHANGES);
            let octet = self.octet();
            match self.session.pending() {
                Event::NeedInput => {
                    assert_eq!(advance, Advance::NeedInput);
                    return true;
                }
                Event::Query(request, query) => {
                    let id = request.id();
                    self.events.push(format!("query {id} {octet}"));
                    let known = self.known.entry(id).or_default();
                    known.asked += 1;
                    if octet % 4 == 3 && !self.at_once {
                        self.jobs.push((id, query.job().expect("no custom mechanism is offered")));
                    } else if Self::answer(octet, query) {
                        known.yes += 1;
                    }
                }
                Event::Authenticated(request, who) => {
                    let id = request.id();
                    self.events.push(format!("authenticated {id} {}", who.acts_as()));
                    let known = self.known.remove(&id).expect("nobody was asked about it");
                    assert!(known.asked > 0 && known.asked == known.yes);
                    let line = ServerLine::Ok { id, user: Some(who.acts_as().into()) };
                    let mut ok = Vec::new();
                    line.write(&mut ok);
                    assert!(self.out.ends_with(&ok));
                }
                Event::AuthFailed(failed) => {
                    let id = failed.request.id();
                    self.events.push(format!("failed {id} {:?}", failed.why));
                    // The next exchange of the number begins with nothing.
                    self.known.remove(&id);
                    // That of an exchange that was cancelled, or gave way, is not held back.
                    if octet & 64 != 0 && !self.at_once && failed.why != Failure::Cancelled {
                        self.held.push((id, failed.hold()));
                    }
                }
                Event::Close(why) => {
                    self.events.push(format!("close {why:?}"));
                    assert_eq!(self.session.open_exchanges(), 0);
                    assert!(
                        matches!(self.session.next(&mut self.out), Event::Close(again) if again == why)
                    );
                    return false;
                }
            }
        }
    }

    /// Does what was left for later, by an octet of the input.
    fn later(&mut self) {
        let octet = self.octet();
        if octet & 16 != 0 && !self.jobs.is_empty() {
            let (id, mut job) = self.jobs.swap_remove(usize::from(octet) % self.jobs.len());
            let yes = Self::answer(octet, job.query());
            if self.session.answer_from(job) {
                let known = self.known.entry(id).or_default();
                known.yes += u32::from(yes);
            }
        }
        if octet & 32 != 0 && !self.held.is_empty() {
            let (_, held) = self.held.swap_remove(usize::from(octet) % self.held.len());
            let _ = self.session.release(held);
        }
    }

    fn play(mut self, said: &[u8], size: usize) -> (Vec<u8>, Vec<String>) {
        if self.go_on() {
            for piece in said.chunks(size) {
                self.session.receive(piece);
                if !self.go_on() {
                    break;
                }
                self.later();
            }
        }
        // What is left comes to an end.
        for _ in 0..2 * MAX_EXCHANGES {
            if !self.go_on() {
                break;
            }
            if let Some((_, job)) = self.jobs.pop() {
                let _ = self.session.answer_from(job);
            }
            if let Some((_, held)) = self.held.pop() {
                let _ = self.session.release(held);
            }
        }
        (self.out, self.events)
    }
}

/// What is read as a line is written as one that is read as the same.
fn again(line: &[u8]) {
    let mut out = Vec::new();
    if let Ok(line) = ClientLine::parse(line) {
        line.write(&mut out);
        assert_eq!(out.pop(), Some(b'\n'));
        assert!(!out.contains(&b'\n'));
        assert_eq!(ClientLine::parse(&out), Ok(line));
    }
    out.clear();
    if let Ok(Some(line)) = ServerLine::parse(line) {
        line.write(&mut out);
        assert_eq!(out.pop(), Some(b'\n'));
        assert!(!out.contains(&b'\n'));
        assert_eq!(ServerLine::parse(&out), Ok(Some(line)));
    }
}

// The input: how it is played, the size of the pieces, the number of answers, the answers, what the client says.
fuzz_target!(|input: &[u8]| {
    let [choice, size, number, rest @ ..] = input else { return };
    let Some((answers, said)) = rest.split_at_checked(usize::from(*number)) else { return };
    said.split(|&octet| octet == b'\n').for_each(again);
    let cancelled: HashSet<u32> = said
        .split(|&octet| octet == b'\n')
        .filter_map(|line| match ClientLine::parse(line) {
            Ok(ClientLine::Cancel(id)) => Some(id),
            _ => None,
        })
        .collect();
    let at_once = choice & AT_ONCE != 0;
    let run = || Run {
        session: session(*choice),
        answers: answers.iter(),
        at_once,
        jobs: Vec::new(),
        held: Vec::new(),
        cancelled: cancelled.clone(),
        known: HashMap::new(),
        out: Vec::new(),
        events: Vec::new(),
        looked_at: 0,
        greeted: false,
    };
    let pieces = run().play(said, usize::from(*size).max(1));
    // The answers are taken for each event, and each time that the session needs input.
    if at_once && answers.is_empty() {
        assert_eq!(pieces, run().play(said, usize::MAX));
    }
});
