//! The client asks the application at each step.

use super::*;

/// What a client sends and is asked where its host says these in turn, and how it ends.
#[derive(Debug, PartialEq, Eq)]
struct Talk {
    sent: Vec<String>,
    seen: Vec<Option<String>>,
    end: Result<(), ClientFailure>,
}

struct Host<'a> {
    answers: std::slice::Iter<'a, CustomResponse>,
    seen: Vec<Option<String>>,
}

impl Host<'_> {
    fn answer(&mut self, ask: &mut sasl::client::Custom) {
        assert_eq!(ask.mechanism(), OWN);
        self.seen.push(ask.data().map(|octets| String::from_utf8(octets.to_vec()).unwrap()));
        ask.answer(self.answers.next().unwrap().clone());
    }
}

fn talk(door: Door, answers: &[CustomResponse], replies: &[&str]) -> Talk {
    let mut host = Host { answers: answers.iter(), seen: Vec::new() };
    let mut replies = replies.iter().map(|reply| format!("{reply}\r\n"));
    let (sent, end) = match door {
        Door::Sasl => talk_sasl(&mut host, &mut replies),
        Door::Auth => talk_auth(&mut host, &mut replies),
        Door::Session => talk_session(&mut host, &mut replies),
    };
    assert_eq!(host.answers.next(), None, "{door:?}");
    Talk { sent, seen: host.seen, end }
}

type Replies<'a> = &'a mut dyn Iterator<Item = String>;

fn talk_sasl(
    host: &mut Host<'_>,
    replies: Replies<'_>,
) -> (Vec<String>, Result<(), ClientFailure>) {
    let credentials = Credentials::custom(OWN);
    let mut exchange =
        sasl::client::Exchange::new(&client_config(), &Channel::tls(), OWN, credentials);
    let mut sent = Vec::new();
    loop {
        match exchange.step() {
            sasl::client::Step::Custom(ask) => host.answer(ask),
            sasl::client::Step::Response(response) => {
                // As it would stand on the lines of SMTP.
                let data = response.data().map(base64);
                sent.push(match (sent.is_empty(), data.as_deref()) {
                    (true, None) => format!("AUTH {OWN}"),
                    (true, Some("")) => format!("AUTH {OWN} ="),
                    (true, Some(data)) => format!("AUTH {OWN} {data}"),
                    (false, data) => data.unwrap().to_owned(),
                });
                let reply = replies.next().unwrap();
                match reply.strip_prefix("334 ") {
                    Some(text) => response.challenge(STANDARD.decode(text.trim_end()).unwrap()),
                    None if reply.starts_with("235") => response.success(),
                    None => response.refused(),
                }
            }
            sasl::client::Step::Done(end) => {
                if end.is_err_and(|why| {
                    !matches!(why, ClientFailure::Refused { .. } | ClientFailure::EarlySuccess)
                }) && !sent.is_empty()
                {
                    sent.push("*".into());
                    let _ = replies.next().unwrap();
                }
                return (sent, end);
            }
            sasl::client::Step::Derive(_) => panic!(),
        }
    }
}

fn talk_auth(
    host: &mut Host<'_>,
    replies: Replies<'_>,
) -> (Vec<String>, Result<(), ClientFailure>) {
    let credentials = Credentials::custom(OWN);
    let mut exchange =
        auth::client::Exchange::new(&client_config(), &Channel::tls(), OWN, credentials);
    let mut out = Vec::new();
    let end = loop {
        match exchange.step(&mut out) {
            auth::client::Step::Custom(ask) => host.answer(ask),
            auth::client::Step::NeedReply(slot) => {
                slot.reply(ReplyRef::parse(replies.next().unwrap().as_bytes()).unwrap());
            }
            auth::client::Step::Done(end) => break end.map_err(Clone::clone),
            auth::client::Step::Derive(_) => panic!(),
        }
    };
    let end = end.map_err(|failure| match failure {
        auth::client::Failure::Refused { .. } => ClientFailure::Refused { after_proof: false },
        auth::client::Failure::Cancelled { why, .. }
        | auth::client::Failure::FalseSuccess(why)
        | auth::client::Failure::NotAllowed(why) => why,
        other => panic!("{other}"),
    });
    (lines(&out), end)
}

fn talk_session(
    host: &mut Host<'_>,
    replies: Replies<'_>,
) -> (Vec<String>, Result<(), ClientFailure>) {
    let config = client::Config::builder("c").sasl(client_config()).build().unwrap();
    let mut session = client::Session::new(config.into(), Credentials::custom(OWN));
    session.tls_started(Channel::tls());
    let greeting = ["220 x\r\n".to_owned(), "250-x\r\n250 AUTH X-OWN_2\r\n".to_owned()];
    let mut replies = greeting.into_iter().chain(replies);
    let mut out = Vec::new();
    let end = loop {
        match session.next(&mut out) {
            Err(client::Error::EarlySuccess) => break Err(ClientFailure::EarlySuccess),
            Err(error) => panic!("{error}"),
            Ok(client::Event::NeedInput) => session.receive(replies.next().unwrap().as_bytes()),
            Ok(client::Event::Custom(ask)) => host.answer(ask),
            Ok(client::Event::NotAuthenticated(failed)) => {
                break Err(match failed.reason() {
                    client::AuthError::Refused(_) => ClientFailure::Refused { after_proof: false },
                    client::AuthError::NotBegun(why) | client::AuthError::Cancelled(why, _) => *why,
                    other => panic!("{other}"),
                });
            }
            Ok(client::Event::Ready(_)) => break Ok(()),
            Ok(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(session.authenticated().is_some(), end.is_ok());
    let mut sent = lines(&out);
    assert_eq!(sent.remove(0), "EHLO c");
    (sent, end)
}

/// The same by each door.
#[track_caller]
fn talks(
    answers: &[CustomResponse],
    replies: &[&str],
    sent: &[&str],
    seen: &[Option<&str>],
    end: Result<(), ClientFailure>,
) {
    for door in DOORS {
        let sent = sent.iter().map(|line| (*line).to_owned()).collect();
        let seen = seen.iter().map(|text| text.map(str::to_owned)).collect();
        assert_eq!(talk(door, answers, replies), Talk { sent, seen, end }, "{door:?}");
    }
}

#[test]
fn a_clients_initial_response_is_there_or_not_or_empty() {
    let ok = Ok(());
    talks(&[complete("x")], &["235 ok"], &["AUTH X-OWN_2 eA=="], &[None], ok);
    talks(&[complete("")], &["235 ok"], &["AUTH X-OWN_2 ="], &[None], ok);
    let sent = ["AUTH X-OWN_2", "eA=="];
    talks(
        &[CustomResponse::NoInitialResponse, complete("x")],
        &["334 ", "235 ok"],
        &sent,
        &[None, Some("")],
        ok,
    );
    talks(
        &[complete("x")],
        &["535 no"],
        &["AUTH X-OWN_2 eA=="],
        &[None],
        Err(ClientFailure::Refused { after_proof: false }),
    );
}

#[test]
fn waiting_behind_a_challenge_is_an_empty_response() {
    let answers =
        [CustomResponse::NoInitialResponse, CustomResponse::NoInitialResponse, complete("x")];
    let replies = ["334 b25l", "334 dHdv", "235 ok"];
    let seen = [None, Some("one"), Some("two")];
    talks(&answers, &replies, &["AUTH X-OWN_2", "", "eA=="], &seen, Ok(()));
}

#[test]
fn success_before_the_end_is_none() {
    let early = Err(ClientFailure::EarlySuccess);
    talks(&[respond("x")], &["235 ok"], &["AUTH X-OWN_2 eA=="], &[None], early);
    talks(&[CustomResponse::NoInitialResponse], &["235 ok"], &["AUTH X-OWN_2"], &[None], early);
    let sent = ["AUTH X-OWN_2 eA==", "eQ=="];
    let seen = [None, Some("one")];
    talks(&[respond("x"), respond("y")], &["334 b25l", "235 ok"], &sent, &seen, early);
    // What was the end is no more if a challenge follows.
    talks(&[complete("x"), respond("y")], &["334 b25l", "235 ok"], &sent, &seen, early);
    talks(&[complete("x"), complete("y")], &["334 b25l", "235 ok"], &sent, &seen, Ok(()));
}

#[test]
fn a_client_that_gives_up_cancels() {
    let gave_up = Err(ClientFailure::GaveUp);
    let sent = ["AUTH X-OWN_2 eA==", "*"];
    let seen = [None, Some("one")];
    for reply in ["501 cancelled", "535 no"] {
        let answers = [respond("x"), CustomResponse::Fail];
        talks(&answers, &["334 b25l", reply], &sent, &seen, gave_up);
    }
    // At the beginning nothing has been sent.
    talks(&[CustomResponse::Fail], &[], &[], &[None], gave_up);
}

#[test]
fn a_server_without_end_is_cancelled() {
    let mut replies = vec!["334 b25l"; 21];
    replies.push("501 cancelled");
    for door in DOORS {
        let talk = talk(door, &vec![respond("x"); 21], &replies);
        assert_eq!(talk.end, Err(ClientFailure::UnexpectedChallenge), "{door:?}");
        assert_eq!(talk.sent.len(), 22);
        assert_eq!(talk.sent.last().unwrap(), "*");
    }
    replies[20] = "235 ok";
    let mut answers = vec![respond("x"); 20];
    answers.push(complete("x"));
    for door in DOORS {
        assert_eq!(talk(door, &answers, &replies[..21]).end, Ok(()), "{door:?}");
    }
}

#[test]
fn a_challenge_that_is_none_is_not_shown() {
    for reply in ["334 ?", "334-b25l\r\n334 b25l"] {
        for door in [Door::Auth, Door::Session] {
            let talk = talk(door, &[respond("x")], &[reply, "501 cancelled"]);
            assert_eq!(talk.end, Err(ClientFailure::UnexpectedChallenge));
            assert_eq!((talk.sent[1].as_str(), talk.seen.len()), ("*", 1));
        }
    }
}

#[test]
fn a_long_initial_response_waits_to_be_asked_for() {
    let long = "x".repeat(400);
    for door in [Door::Auth, Door::Session] {
        let talk = talk(door, &[complete(&long)], &["334 ", "235 ok"]);
        assert_eq!(talk.sent, ["AUTH X-OWN_2".to_owned(), base64(&long)], "{door:?}");
        assert_eq!((talk.seen, talk.end), (vec![None], Ok(())));
    }
}

#[test]
fn a_challenge_is_shown_until_it_is_answered() {
    let config = client::Config::builder("c").sasl(client_config()).build().unwrap();
    let mut session = client::Session::new(config.into(), Credentials::custom(OWN));
    session.tls_started(Channel::tls());
    let mut out = Vec::new();
    for reply in ["220 x\r\n", "250-x\r\n250 AUTH X-OWN_2\r\n"] {
        assert!(matches!(session.next(&mut out), Ok(client::Event::NeedInput)));
        session.receive(reply.as_bytes());
    }
    out.clear();
    for _ in 0..3 {
        let Ok(client::Event::Custom(ask)) = session.next(&mut out) else { panic!() };
        let count = ask.state().get_or_insert_with(|| Box::new(0_u8));
        *count.downcast_mut::<u8>().unwrap() += 1;
    }
    assert!(out.is_empty());
    let Ok(client::Event::Custom(ask)) = session.next(&mut out) else { panic!() };
    let count = ask.state().as_ref().and_then(|count| count.downcast_ref());
    assert_eq!(count, Some(&3_u8));
    ask.fail();
    ask.answer(respond("x"));
    assert!(matches!(session.next(&mut out), Ok(client::Event::NeedInput)));
    assert_eq!(lines(&out), ["AUTH X-OWN_2 eA=="]);
    // What comes behind it before its answer is sent is no reply to that.
    session.receive(b"334 b25l\r\n235 ok\r\n");
    let Ok(client::Event::Custom(ask)) = session.next(&mut out) else { panic!() };
    ask.answer(complete("y"));
    let end = session.next(&mut out).map(|_| ());
    assert_eq!(end, Err(client::Error::Unsolicited(client::Stage::Auth)));
}

#[test]
fn the_clients_state_goes_with_the_exchange() {
    let begin = |state: &Arc<()>, answer: CustomResponse| {
        let credentials = Credentials::custom(OWN);
        let mut exchange =
            sasl::client::Exchange::new(&client_config(), &Channel::tls(), OWN, credentials);
        let sasl::client::Step::Custom(ask) = exchange.step() else { panic!() };
        assert!(ask.state().is_none());
        *ask.state() = Some(Box::new(Arc::clone(state)));
        ask.answer(answer);
        exchange
    };
    let state = Arc::new(());
    type Settle = fn(&mut sasl::client::Response);
    let settles: [(Settle, usize); 3] = [
        (|response| response.challenge("y"), 2),
        (|response| response.success(), 1),
        (|response| response.refused(), 1),
    ];
    for (settle, left) in settles {
        let mut exchange = begin(&state, complete("x"));
        let sasl::client::Step::Response(response) = exchange.step() else { panic!() };
        settle(response);
        if let sasl::client::Step::Custom(ask) = exchange.step() {
            assert!(ask.state().as_ref().is_some_and(|state| state.is::<Arc<()>>()));
        }
        assert_eq!(Arc::strong_count(&state), left);
        drop(exchange);
        assert_eq!(Arc::strong_count(&state), 1);
    }
    let mut failed = begin(&state, CustomResponse::Fail);
    let end = failed.step();
    assert!(matches!(end, sasl::client::Step::Done(Err(ClientFailure::GaveUp))));
    assert_eq!(Arc::strong_count(&state), 1);
}

#[test]
fn what_is_secret_is_not_shown() {
    let secret = "tanstaaf";
    let octets = format!("{:?}", secret.as_bytes());
    let forms = [secret, octets.trim_matches(['[', ']']), &base64(secret)].map(str::to_owned);
    let hidden =
        move |shown: &str| assert!(!forms.iter().any(|form| shown.contains(form)), "{shown}");
    for response in [respond(secret), complete(secret)] {
        hidden(&format!("{response:?}"));
        let mut exchange = sasl::client::Exchange::new(
            &client_config(),
            &Channel::tls(),
            OWN,
            Credentials::custom(OWN),
        );
        let sasl::client::Step::Custom(ask) = exchange.step() else { panic!() };
        *ask.state() = Some(Box::new(secret));
        ask.answer(response);
        hidden(&format!("{ask:?}"));
        hidden(&format!("{exchange:?}"));
        let shown = format!("{:?}", exchange.step());
        hidden(&shown);
        hidden(&format!("{exchange:?}"));
    }
    let (_, _) = serve(Door::Sasl, &[Some(secret), Some(secret)], |query| {
        hidden(&format!("{query:?}"));
        let Query::Custom(ask) = query else { panic!() };
        let first = ask.state().replace(Box::new(secret)).is_none();
        hidden(&format!("{ask:?}"));
        ask.answer(if first { challenge("") } else { accept("tim", None) });
    });
    let trace = Arc::new(Mutex::new(String::new()));
    let hook = Arc::clone(&trace);
    let mut session = server::Session::new(
        server::Config::builder("mail.example.org").sasl(server_config()).build().unwrap().into(),
    );
    session.tls_started(Channel::tls());
    session.trace(move |_, line| hook.lock().unwrap().push_str(line));
    let response = base64(secret);
    session.receive(format!("EHLO c\r\nAUTH X-OWN_2 {response}\r\n{response}\r\n").as_bytes());
    let mut answers = vec![accept("tim", None), challenge("more")];
    loop {
        let mut out = Vec::new();
        match session.next(&mut out) {
            server::Event::NeedInput => break,
            server::Event::Query(Query::Custom(ask)) => ask.answer(answers.pop().unwrap()),
            _ => {}
        }
    }
    assert!(session.identity().is_some() && trace.lock().unwrap().contains("AUTH"));
    hidden(&trace.lock().unwrap());
}
