//! The server asks the application at each step.

use super::*;

#[test]
fn an_initial_response_is_there_or_not_or_empty() {
    for door in DOORS {
        for (initial, expected) in [(Some("tim"), Some("tim")), (None, None), (Some(""), Some(""))]
        {
            let (seen, challenges, outcome) = dialogue(door, &[initial], &[accept("tim", None)]);
            assert_eq!(seen, [expected.map(str::to_owned)], "{door:?}");
            assert!(challenges.is_empty());
            let who = outcome.unwrap();
            assert_eq!((who.authcid(), who.authzid(), who.mechanism()), ("tim", None, OWN));
        }
        // A mechanism in which the client begins asks for what was left out.
        let answers = [challenge(""), accept("tim", None)];
        let (seen, challenges, outcome) = dialogue(door, &[None, Some("tim")], &answers);
        assert_eq!(seen, [None, Some("tim".to_owned())], "{door:?}");
        assert_eq!(challenges, [""]);
        assert!(outcome.is_ok());
        // One in which the server begins refuses what it has not asked for.
        let answers = [CustomAnswer::Fail(Failure::UnexpectedInitialResponse)];
        let (_, _, outcome) = dialogue(door, &[Some("tim")], &answers);
        assert_eq!(outcome, Err(Failure::UnexpectedInitialResponse));
    }
}

#[test]
fn a_second_answer_replaces_the_first() {
    for door in DOORS {
        let (_, outcome) = serve(door, &[None], |query| {
            let Query::Custom(ask) = query else { panic!("{query:?}") };
            ask.answer(accept("tim", None));
            ask.answer(CustomAnswer::Fail(Failure::Rejected));
        });
        assert_eq!(outcome, Err(Failure::Rejected), "{door:?}");
    }
}

#[test]
fn an_application_that_does_not_implement_it_says_so() {
    struct Nobody;
    impl Authenticator for Nobody {
        fn mechanisms(&self) -> &[Mechanism] {
            Mechanism::COMPILED
        }
    }
    for door in DOORS {
        assert_eq!(serve(door, &[None], |query| query.reject()).1, Err(Failure::Rejected));
        assert_eq!(
            serve(door, &[None], |query| query.not_implemented()).1,
            Err(Failure::NotImplemented("X-OWN_2"))
        );
        assert_eq!(
            serve(door, &[None], |query| query.answer_with(&Nobody)).1,
            Err(Failure::NotImplemented("X-OWN_2"))
        );
    }
}

/// A store that takes its time, on a thread of its own: what a question needs goes there with the
/// question's serial, and comes back with it.
struct Store {
    jobs: mpsc::Sender<(u64, String)>,
    results: mpsc::Receiver<(u64, bool)>,
}

impl Store {
    fn new() -> Self {
        let (jobs, taken) = mpsc::channel::<(u64, String)>();
        let (done, results) = mpsc::channel();
        thread::spawn(move || {
            for (serial, code) in taken {
                // A store that is asked again because of a time-out may also answer twice.
                for _ in 0..2 {
                    if done.send((serial, code == "first" || code == "second")).is_err() {
                        return;
                    }
                }
            }
        });
        Self { jobs, results }
    }
}

/// What the host remembers from round to round: how many codes were good.
struct GoodCodes(u8);

fn settle(ask: &mut Custom, good: bool) {
    let count = ask.state().as_mut().and_then(|state| state.downcast_mut::<GoodCodes>()).unwrap();
    count.0 += 1;
    let answer = match (good, count.0) {
        (false, _) => CustomAnswer::Fail(Failure::Rejected),
        (true, 1) => challenge("next"),
        (true, _) => accept("tim", None),
    };
    ask.answer(answer);
}

#[test]
fn an_answer_may_come_later() {
    for door in DOORS {
        for (said, signed_in) in
            [(["first", "second"], true), (["first", "third"], false), (["zeroth", ""], false)]
        {
            let store = Store::new();
            let (mut under_way, mut serials, mut shown) = (None, Vec::new(), 0);
            let (challenges, outcome) = serve(door, &said.map(Some), |query| {
                shown += 1;
                let serial = query.serial();
                let Query::Custom(ask) = query else { panic!("{query:?}") };
                if under_way != Some(serial) {
                    under_way = Some(serial);
                    serials.push(serial);
                    ask.state().get_or_insert_with(|| Box::new(GoodCodes(0)));
                    let code = String::from_utf8(ask.response().unwrap().to_vec()).unwrap();
                    store.jobs.send((serial, code)).unwrap();
                    // Left as it is, the question is shown again.
                    return;
                }
                // A result of a question that is settled is dropped.
                match store.results.recv().unwrap() {
                    (of, good) if of == serial => settle(ask, good),
                    _ => {}
                }
            });
            assert_eq!(outcome.is_ok(), signed_in, "{door:?} {said:?}");
            let rounds = if said[0] == "first" { 2 } else { 1 };
            assert_eq!(challenges.len(), rounds - 1);
            assert_eq!(serials.len(), rounds);
            // Twice in the first round; in the second there is also the late result of the first.
            assert_eq!(shown, [2, 5][rounds - 1], "{door:?} {said:?}");
            assert!(serials.is_sorted() && (rounds == 1 || serials[0] != serials[1]));
        }
    }
}

#[test]
fn each_failure_has_its_reply() {
    for (failure, reply, attempt) in [
        (Failure::Syntax, "501 5.5.4", false),
        (Failure::Unsupported, "504 5.5.4", false),
        (Failure::NeedsTls, "538 5.7.11", false),
        (Failure::UnexpectedInitialResponse, "501 5.7.0", false),
        (Failure::InitialResponseEncoding, "501 5.5.2", false),
        (Failure::Cancelled, "501 5.7.0", true),
        (Failure::Encoding, "501 5.5.2", true),
        (Failure::TooLong, "500 5.5.6", true),
        (Failure::Malformed("what it is"), "535 5.7.8 Malformed credentials: what it is", true),
        (Failure::Rejected, "535 5.7.8", true),
        (Failure::Downgrade, "535 5.7.8", true),
        (Failure::ChannelBinding, "535 5.7.8", true),
        (Failure::NotAuthorized, "535 5.7.8", true),
        (Failure::TempFail, "454 4.7.0", false),
        (Failure::TransitionNeeded, "432 4.7.12", false),
        (Failure::TooWeak, "534 5.7.9", false),
    ] {
        for door in DOORS {
            let answers = [challenge("go on"), CustomAnswer::Fail(failure)];
            let (_, challenges, outcome) = dialogue(door, &[None, Some("x")], &answers);
            assert_eq!((challenges, outcome), (vec!["go on".to_owned()], Err(failure)));
        }
        let said = reply_to(failure).to_string();
        assert!(said.starts_with(reply), "{said}");
        assert_eq!(failure.is_attempt(), attempt, "{said}");
    }
}

#[test]
fn no_words_of_a_failure_break_the_reply() {
    let failure = CustomAnswer::Fail(Failure::Malformed("a\r\n235 2.7.0 b\u{7}"));
    let said = session(offering(&[OWN]), Channel::tls(), "EHLO c\r\nAUTH X-OWN_2\r\n", &failure);
    let reply = "535-5.7.8 Malformed credentials: a?\r\n535 5.7.8 235 2.7.0 b?\r\n";
    assert!(said.ends_with(&format!("250 AUTH X-OWN_2\r\n{reply}")), "{said}");
}

#[test]
fn nobody_has_a_name_with_control_characters() {
    let bad = ["", "t\0m", "tim\r\n", "\ttim", "t\u{7f}m", "t\u{85}m"];
    for door in DOORS {
        for name in bad {
            for answer in [accept(name, None), accept("tim", Some(name)), accept(name, Some(name))]
            {
                let (_, _, outcome) = dialogue(door, &[None], &[answer]);
                assert!(matches!(outcome, Err(Failure::Malformed(_))), "{door:?} {name:?}");
            }
        }
    }
}

#[test]
fn a_mechanism_without_end_is_ended() {
    for door in DOORS {
        let (seen, challenges, outcome) =
            dialogue(door, &[Some("x"); 30], &vec![challenge("more"); 30]);
        assert_eq!((seen.len(), challenges.len()), (21, 21), "{door:?}");
        assert!(matches!(outcome, Err(Failure::Malformed(_))));
        // The last answer counts.
        let mut answers = vec![challenge("more"); 20];
        answers.push(accept("tim", None));
        assert!(dialogue(door, &[Some("x"); 30], &answers).2.is_ok());
    }
}

#[test]
fn the_state_goes_with_the_exchange() {
    let config = server_config();
    let begin = |state: &Arc<()>| {
        let mut exchange = sasl::server::Exchange::new(&config, &Channel::tls(), OWN, None);
        let sasl::server::Step::Query(Query::Custom(ask)) = exchange.step() else { panic!() };
        assert!(ask.state().is_none());
        *ask.state() = Some(Box::new(Arc::clone(state)));
        ask.answer(challenge("x"));
        exchange
    };
    let question = |exchange: &mut sasl::server::Exchange, answer: CustomAnswer| {
        let sasl::server::Step::Challenge(challenge) = exchange.step() else { panic!() };
        challenge.respond("y");
        let sasl::server::Step::Query(Query::Custom(ask)) = exchange.step() else { panic!() };
        assert!(ask.state().as_ref().is_some_and(|state| state.is::<Arc<()>>()));
        ask.answer(answer);
        let _ = exchange.step();
    };
    let state = Arc::new(());
    for (answer, left) in [
        (challenge("z"), 2),
        (accept("tim", None), 1),
        (accept("tim", Some("ann")), 1),
        (CustomAnswer::Fail(Failure::Rejected), 1),
    ] {
        let mut exchange = begin(&state);
        assert_eq!(Arc::strong_count(&state), 2);
        question(&mut exchange, answer);
        assert_eq!(Arc::strong_count(&state), left);
        drop(exchange);
        assert_eq!(Arc::strong_count(&state), 1);
    }
    let mut cancelled = begin(&state);
    let sasl::server::Step::Challenge(challenge) = cancelled.step() else { panic!() };
    challenge.cancel();
    assert!(matches!(cancelled.step(), sasl::server::Step::Done(Err(Failure::Cancelled))));
    assert_eq!(Arc::strong_count(&state), 1);
}

#[test]
fn a_state_of_another_mechanism_is_made_anew() {
    let mut exchange = sasl::server::Exchange::new(&server_config(), &Channel::tls(), OWN, None);
    let sasl::server::Step::Query(Query::Custom(ask)) = exchange.step() else { panic!() };
    *ask.state() = Some(Box::new("another"));
    assert_eq!(ask.step_with(ThreeRounds::default), challenge(""));
    assert!(ask.state().as_ref().is_some_and(|state| state.is::<ThreeRounds>()));
}
