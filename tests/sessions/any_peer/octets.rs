//! No panic, and no reply that breaks the rules.

use super::*;

const LINES: &[&str] = &[
    "EHLO zqxjkv.example.com",
    "HELO zqxjkv",
    "NOOP zqxjkv",
    "RSET",
    "ZQXJKV zqxjkv",
    "VRFY zqxjkv",
    "EXPN zqxjkv",
    "HELP zqxjkv",
    "MAIL FROM:<zqxjkv@example.org>",
    "MAIL FROM:<zqxjkv@example.org> AUTH=<>",
    "MAIL FROM:<zqxjkv@example.org> AUTH=+zqxjkv",
    "MAIL FROM:<zqxjkv@example.org> SIZE=99999999999",
    "RCPT TO:<zqxjkv@example.org>",
    "RCPT TO:<zqxjkv>",
    "DATA",
    "BDAT 6 LAST\r\nzqxjkv",
    "BDAT 6\r\nzqxjkv",
    "BDAT 0 LAST",
    "BDAT zqxjkv",
    "AUTH PLAIN AHRpbQBQYTU1dzByZC16eXh3",
    "AUTH PLAIN VXJzZWwAdGltAFBhNTV3MHJkLXp5eHc=",
    "AUTH PLAIN dGltAHRpbQBQYTU1dzByZC16eXh3",
    "AUTH PLAIN",
    "AUTH PLAIN zqxjkv",
    "AUTH LOGIN",
    "AUTH LOGIN dGlt",
    "AUTH CRAM-MD5",
    "AUTH zqxjkv",
    "AUTH zqxjkv zqxjkv zqxjkv",
    "AHRpbQBQYTU1dzByZC16eXh3",
    "dGlt",
    "UGE1NXcwcmQtenl4dw==",
    "CRAM",
    "d3JvbmcgMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "*",
    "",
    "zqxjkv\nzqxjkv",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_to_a_server(
        pieces in vec(
            prop_oneof![
                vec(any::<u8>(), 0..40),
                select(LINES).prop_map(|line| format!("{line}\r\n").into_bytes()),
                select(vec!["\r", "\n", "\r\n", ".\r\n", "\r\n.\r\n", "\0"])
                    .prop_map(|end| end.as_bytes().to_vec()),
            ],
            0..40,
        ),
        answers in vec(any::<u8>(), 1..8),
        tls in any::<bool>(),
    ) {
        let mut session = server::Session::new(server_config().into());
        if tls {
            session.tls_started(Channel::tls());
        }
        let (mut answers, mut seen) = (Answers::new(answers), Seen::default());
        let (mut octets, mut lines) = (0, 0);
        turn(&mut session, &mut answers, &mut seen);
        for piece in pieces {
            octets += piece.len();
            lines += piece.iter().filter(|octet| **octet == b'\n').count();
            session.receive(&piece);
            turn(&mut session, &mut answers, &mut seen);
            prop_assert!(seen.events <= 10 + 4 * octets + 2 * lines, "{seen:?}");
            // A greeting, and a reply of at most nine short lines to each line.
            prop_assert!(seen.out.len() <= 100 + 300 * lines);
            if seen.closed {
                break;
            }
        }
        // A reply to each line at most, but for the greeting.
        prop_assert!(replies(&seen.out).len() <= lines + 1);
    }

    #[test]
    fn nothing_runs_after_a_bdat_that_cannot_be_read(
        before in select(vec!["", " ", "\t \0", "NOOP\n", "x\r\r ", "\n"]),
        long in select(vec![0, 0, 0, 13_000]),
        verb in "[Bb][Dd][Aa][Tt]",
        after in select(vec!["", " ", " x", " 5 LAST x", " -1", "\t5", " 5\n", " 5\r", " 5\0", "5"]),
        size in select(vec![1, 2, 3, 10, 20_000]),
        tls in any::<bool>(),
    ) {
        let mut session = server::Session::new(server_config().into());
        if tls {
            session.tls_started(Channel::tls());
        }
        let (mut answers, mut seen) = (Answers::new(vec![0]), Seen::default());
        let blanks = " ".repeat(long);
        let line = format!("{before}{blanks}{verb}{after}\r\nNOOP\r\nNOOP\r\n");
        for piece in line.as_bytes().chunks(size) {
            session.receive(piece);
            turn(&mut session, &mut answers, &mut seen);
        }
        prop_assert!(seen.closed, "{}", seen.out.escape_ascii());
        let replies = replies(&seen.out);
        prop_assert!(replies.len() == 2 && replies[1].starts_with("50"), "{replies:?}");
    }

    #[test]
    fn commands_in_any_order(
        lines in vec(prop_oneof![1 => Just("STARTTLS"), 30 => select(LINES)], 0..60),
        answers in vec(any::<u8>(), 1..12),
        tls in any::<bool>(),
    ) {
        let cram = cram_response();
        let (mut octets, mut pipelined) = (Vec::new(), true);
        let start = |answers: &Vec<u8>| {
            let mut session = server::Session::new(server_config().into());
            if tls {
                session.tls_started(Channel::tls());
            }
            let (mut answers, mut seen) = (Answers::new(answers.clone()), Seen::default());
            turn(&mut session, &mut answers, &mut seen);
            (session, answers, seen)
        };
        let (mut session, mut own_answers, mut seen) = start(&answers);
        let (mut all, mut before) = (std::mem::take(&mut seen.out), 0);
        let lines = ["EHLO zqxjkv"].into_iter().chain(lines);
        for line in lines {
            let unit = match (before, line) {
                (354, _) => format!("{MARK}\r\n..{MARK}\r\n.\r\n"),
                (_, "CRAM") => format!("{cram}\r\n"),
                // A chunk has no line end of its own, and has no place in an exchange.
                (334, line) if line.starts_with("BDAT") => "*\r\n".into(),
                (_, line) if line.contains("\r\n") => line.into(),
                (_, line) => format!("{line}\r\n"),
            };
            pipelined &= line != "STARTTLS";
            octets.extend_from_slice(unit.as_bytes());
            session.receive(unit.as_bytes());
            turn(&mut session, &mut own_answers, &mut seen);
            let said = std::mem::take(&mut seen.out);
            let found = replies(&said);
            prop_assert_eq!(found.len(), 1, "to {:?}: {:?}", unit, found);
            prop_assert!(!found[0].contains(MARK), "{}", found[0]);
            before = found[0][..3].parse().unwrap();
            all.extend(said);
            // 235 goes with the event, and the event with the state.
            let identity = session.identity().map(|who| who.authcid().to_owned());
            prop_assert_eq!(&identity, &seen.signed_in);
            if before == 235 {
                prop_assert!(identity.is_some());
            }
            if matches!(before, 221 | 421) {
                prop_assert!(seen.closed);
            }
            if seen.closed {
                break;
            }
        }
        if pipelined {
            // All at once, the same.
            let (mut session, mut own_answers, mut seen) = start(&answers);
            session.receive(&octets);
            turn(&mut session, &mut own_answers, &mut seen);
            prop_assert_eq!(
                seen.out.escape_ascii().to_string(),
                all.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn any_octets_to_a_client(
        pieces in vec(
            prop_oneof![
                1 => vec(any::<u8>(), 0..40),
                4 => "[2-5][0-5][0-9]([- ][ -~]{0,20})?\r\n".prop_map(String::into_bytes),
                12 => select(vec![
                    "220 x\r\n",
                    "250 x\r\n",
                    "250-x\r\n250-PIPELINING\r\n250 AUTH PLAIN LOGIN CRAM-MD5\r\n",
                    "250-x\r\n250 STARTTLS\r\n",
                    "250-x\r\n250-LIMITS RCPTMAX=2 MAILMAX=100\r\n250 PIPELINING\r\n",
                    "334 PDEuMkB4Pg==\r\n",
                    "334 \r\n",
                    "235 2.7.0 x\r\n",
                    "535 5.7.8 x\r\n",
                    "504 x\r\n",
                    "354 x\r\n",
                    "221 x\r\n",
                ])
                .prop_map(|reply| reply.as_bytes().to_vec()),
            ],
            0..40,
        ),
        tls in any::<bool>(),
        go_on in any::<bool>(),
        credentials in any::<bool>(),
        keeps in any::<bool>(),
    ) {
        let mut session = match credentials {
            true => client::Session::new(client_config().into(), tim()),
            false => client::Session::without_credentials(client_config().into()),
        };
        if tls {
            session.tls_started(Channel::tls());
        }
        let (mut out, mut events, mut octets, mut input) = (Vec::new(), 0, 0, Vec::new());
        let (mut replies, mut begun) = (0, 0);
        let mut pieces = pieces.into_iter();
        loop {
            events += 1;
            prop_assert!(events <= 20 + 4 * octets);
            match session.next(&mut out) {
                Ok(client::Event::NeedInput) => {
                    if !session.channel().is_tls() {
                        let said = String::from_utf8(out.clone()).unwrap();
                        let good = ["EHLO client.example.com", "STARTTLS"];
                        prop_assert!(said.lines().all(|line| good.contains(&line)), "{}", said);
                    }
                    let Some(piece) = pieces.next() else { break };
                    octets += piece.len();
                    replies += piece.iter().filter(|octet| **octet == b'\n').count();
                    session.receive(&piece);
                    input.extend(piece);
                }
                Ok(client::Event::StartTls) => session.tls_started(Channel::tls()),
                // No mechanism of our own is listed.
                Ok(client::Event::Custom(ask)) => ask.fail(),
                Ok(client::Event::Derive(ask)) => ask.run(),
                Ok(client::Event::NotAuthenticated(failed)) => {
                    if go_on { failed.go_on() } else { failed.quit() }
                }
                Ok(client::Event::Ready(ready)) => {
                    let to = ["b@example.org", "c@example.org"];
                    match (keeps, begun % 3) {
                        (true, 0) => ready.noop(),
                        (true, 1) => ready.reset(),
                        _ => ready.send(client::Envelope::new(Some("a@example.org"), to).unwrap()),
                    }
                    begun += 1;
                    if session.authenticated().is_some() {
                        prop_assert!(input.windows(3).any(|code| code == b"235"));
                    }
                }
                Ok(client::Event::Message(body)) => {
                    body.write(b".dot\r\n", &mut out).unwrap();
                    body.end(&mut out).unwrap();
                }
                Ok(client::Event::Refused { recipient, refusal }) => {
                    prop_assert!(recipient.ends_with("@example.org"));
                    prop_assert!(refusal.reply().code() >= 400);
                }
                Ok(client::Event::Sent(outcome)) => {
                    prop_assert_eq!(outcome.recipients().len(), 2);
                    let refused =
                        outcome.recipients().iter().filter(|one| one.refusal().is_some()).count();
                    let expected = match outcome {
                        client::Outcome::Accepted { .. } => 0,
                        client::Outcome::AcceptedForSome { .. } => 1,
                        client::Outcome::Refused { .. } => 2,
                        client::Outcome::NotSent { .. } => usize::MAX,
                    };
                    prop_assert_eq!(refused, expected);
                }
                Ok(client::Event::Close) | Err(_) => break,
            }
            prop_assert!(out.len() <= 700 * (replies + 1));
        }
    }
}
