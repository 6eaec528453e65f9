//! What a server does where a peer, or its host, does not keep to the usual course.

use std::sync::Arc;

use smtp_auth::{
    command::{self, Command},
    ehlo::Keyword,
    reply::Reply,
    sasl::{self, Channel, Mechanism, Query},
    server::{self, StartTls},
};

fn config() -> server::Builder {
    let sasl = sasl::server::Config::builder("mail.example.org")
        .mechanisms(Mechanism::COMPILED)
        .allow_cleartext(true)
        .build()
        .unwrap();
    server::Config::builder("mail.example.org").sasl(sasl).allow_unauthenticated(true)
}

/// What the server says and shows to these octets, a line each; every question is answered yes.
fn serve(config: server::Builder, octets: &[u8]) -> Vec<String> {
    let mut session = server::Session::new(config.build().unwrap().into());
    let (mut log, mut out) = (Vec::new(), Vec::new());
    session.receive(octets);
    loop {
        let shown = match session.next(&mut out) {
            server::Event::NeedInput => None,
            server::Event::Query(query) => {
                match query {
                    sasl::Query::CheckPassword(ask) => ask.answer(true),
                    sasl::Query::CheckAnonymous(ask) => ask.answer(true),
                    other => other.reject(),
                }
                continue;
            }
            server::Event::Command(command, ask) => {
                let text = format!("{command:?}");
                ask.reply(match text.as_str() {
                    "Help(None)" => Reply::SHUTTING_DOWN,
                    "Vrfy(Text(\"354\"))" => Reply::START_MAIL_INPUT,
                    "Vrfy(Text(\"bare\"))" => Reply::new(250, None, "bare").unwrap(),
                    _ => Reply::OK,
                });
                continue;
            }
            server::Event::StartOfData(permission) => {
                permission.accept();
                continue;
            }
            server::Event::EndOfData(ask) => {
                ask.reply(Reply::OK);
                Some("message".to_owned())
            }
            server::Event::Hello(_) => Some("hello".to_owned()),
            server::Event::Reset => Some("reset".to_owned()),
            server::Event::Authenticated(_) => Some("authenticated".to_owned()),
            server::Event::AuthFailed(_) => Some("failed".to_owned()),
            server::Event::Data(data) => Some(format!("data {}", data.escape_ascii())),
            server::Event::StartTls => Some("starttls".to_owned()),
            server::Event::Close => Some("close".to_owned()),
        };
        let said = String::from_utf8(core::mem::take(&mut out)).unwrap();
        log.extend(said.lines().map(|line| line.chars().take(9).collect()));
        let Some(shown) = shown else { return log };
        let end = matches!(shown.as_str(), "starttls" | "close");
        log.push(shown);
        if end {
            return log;
        }
    }
}

/// The same behind the greeting and EHLO.
fn serve_on(config: server::Builder, octets: &[u8]) -> Vec<String> {
    let log = serve(config, &[b"EHLO c\r\n", octets].concat());
    let start = log.iter().position(|line| line == "hello").unwrap();
    log[start + 1..].to_vec()
}

#[test]
fn auth_out_of_place_is_503_before_its_syntax_is_looked_at() {
    for line in ["AUTH", "AUTH PLAIN a b", "AUTH ******", "AUTH PLAIN =", "auth X"] {
        let log = serve(config(), format!("{line}\r\n").as_bytes());
        assert_eq!(log, ["220 mail.", "503 5.5.1"], "{line}");
        let log = serve_on(config(), format!("MAIL FROM:<>\r\n{line}\r\n").as_bytes());
        assert_eq!(log, ["250 2.0.0", "503 5.5.1"], "{line}");
        let log = serve_on(config(), format!("AUTH PLAIN AGEAYg==\r\n{line}\r\n").as_bytes());
        assert_eq!(log, ["235 2.7.0", "authenticated", "503 5.5.1"], "{line}");
    }
    let long = format!("AUTH PLAIN {} b\r\n", "a".repeat(3000));
    assert_eq!(serve_on(config(), long.as_bytes()), ["501 5.5.4"]);
}

#[test]
fn auth_after_helo_is_told_what_to_say() {
    let replies = |said: &[u8]| {
        let mut session = server::Session::new(config().build().unwrap().into());
        session.receive(said);
        let mut out = Vec::new();
        loop {
            match session.next(&mut out) {
                server::Event::NeedInput => break String::from_utf8(out).unwrap(),
                server::Event::Command(_, ask) => ask.reply(Reply::OK),
                _ => {}
            }
        }
    };
    let last = |said: &[u8]| replies(said).lines().last().unwrap().to_owned();
    assert_eq!(last(b"HELO c\r\nAUTH PLAIN AGEAYg==\r\n"), "503 5.5.1 Send EHLO first");
    assert_eq!(last(b"AUTH PLAIN a b\r\n"), "503 5.5.1 Send EHLO first");
    let mail = b"EHLO c\r\nMAIL FROM:<>\r\nAUTH PLAIN AGEAYg==\r\n";
    assert_eq!(last(mail), "503 5.5.1 Bad sequence of commands");
}

#[test]
fn who_talks_on_without_a_sign_in_is_sent_away() {
    let closed = || config().allow_unauthenticated(false).max_commands(3);
    let end = ["250 2.0.0", "421 4.7.0", "close"];
    assert_eq!(serve_on(closed(), b"NOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n")[1..], end);
    // What is no command counts too; QUIT is heard.
    let log = serve_on(closed(), b"\r\n\nx\r\nQUIT\r\n");
    assert_eq!(log, ["500 5.5.2", "500 5.5.2", "221 2.0.0", "close"]);
    // The lines of an exchange are no commands, and who has signed in may talk.
    let log = serve_on(closed(), b"AUTH LOGIN\r\nYQ==\r\nYg==\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n");
    assert_eq!(log[log.len() - 2..], ["250 2.0.0", "250 2.0.0"]);
    // So may all where nobody needs to sign in.
    let open = closed().allow_unauthenticated(true);
    assert_eq!(serve_on(open, "NOOP\r\n".repeat(9).as_bytes()), ["250 2.0.0"; 9]);
    let log = serve_on(
        server::Config::builder("x.org").sasl(
            sasl::server::Config::builder("x.org").mechanisms(Mechanism::COMPILED).build().unwrap(),
        ),
        "NOOP\r\n".repeat(60).as_bytes(),
    );
    // EHLO was the first.
    assert_eq!(log.len(), 51);
}

/// To a session a guest is nobody.
#[test]
fn a_guest_talks_on_no_longer_than_somebody_who_has_not_signed_in() {
    let serve = |open: bool| {
        let sasl = sasl::server::Config::builder("mail.example.org")
            .mechanisms([Mechanism::Anonymous])
            .build()
            .unwrap();
        let config = server::Config::builder("mail.example.org")
            .sasl(sasl)
            .max_commands(4)
            .allow_unauthenticated(open);
        serve_on(config, b"AUTH ANONYMOUS =\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n")
    };
    let guest = ["235 2.7.0", "authenticated", "250 2.0.0", "250 2.0.0"];
    assert_eq!(serve(false), [&guest[..], &["421 4.7.0", "close"]].concat());
    assert_eq!(serve(true), [&guest[..], &["250 2.0.0", "250 2.0.0"]].concat());
}

/// In cleartext; the first line of each reply, after that to EHLO, and the lines of that.
fn in_cleartext(config: server::Config, octets: &[u8]) -> (Vec<String>, String) {
    let mut session = server::Session::new(config.into());
    session.receive(b"EHLO c\r\n");
    session.receive(octets);
    let mut out = Vec::new();
    loop {
        match session.next(&mut out) {
            server::Event::NeedInput | server::Event::StartTls | server::Event::Close => break,
            server::Event::Hello(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let said = String::from_utf8(out).unwrap();
    let (ehlo, rest) = said.split_at(said.find("\r\n250 ").unwrap() + 2);
    let (last, rest) = rest.split_once("\r\n").unwrap();
    (rest.lines().map(|line| line[..9].to_owned()).collect(), format!("{ehlo}{last}"))
}

#[test]
fn a_verb_of_the_applications_own_waits_for_tls_and_whatever_is_refused_counts_as_a_command() {
    let required = || config().starttls(StartTls::Required);
    let keyword = Keyword::other("ETRN", "").unwrap();
    let declared = required().verb("ETRN", keyword).build().unwrap();
    let (log, ehlo) = in_cleartext(declared, b"ETRN a\r\nSTARTTLS\r\n");
    assert_eq!(log, ["530 5.7.0", "220 2.0.0"]);
    assert!(ehlo.contains("STARTTLS") && ehlo.contains("ETRN"), "{ehlo}");

    let few = required().allow_unauthenticated(false).max_commands(3).build().unwrap();
    let (log, _) = in_cleartext(few, &b"AUTH PLAIN AGEAYg==\r\n".repeat(4));
    assert_eq!(log, ["530 5.7.0", "530 5.7.0", "421 4.7.0"]);
}

#[test]
fn tls_that_is_required_is_required_where_it_cannot_be_had() {
    let required = || config().starttls(StartTls::Required).build().unwrap();
    for (starttls, reply, offered) in [
        (StartTls::Off, "502 5.5.1", false),
        (StartTls::Unavailable, "454 4.7.0", false),
        (StartTls::Offered, "220 2.0.0", true),
        (StartTls::Required, "220 2.0.0", true),
    ] {
        let said = b"AUTH PLAIN AGEAYg==\r\nMAIL FROM:<>\r\nSTARTTLS\r\n";
        let (log, ehlo) = in_cleartext(required().with_starttls(starttls), said);
        assert_eq!(log, ["530 5.7.0", "530 5.7.0", reply], "{starttls:?}");
        assert_eq!((ehlo.contains("STARTTLS"), ehlo.contains("AUTH")), (offered, false), "{ehlo}");
    }
    // It may come to be required later.
    let later = config().build().unwrap().with_starttls(StartTls::Required);
    assert_eq!(in_cleartext(later, b"MAIL FROM:<>\r\n").0, ["530 5.7.0"]);
}

#[test]
fn a_message_has_so_many_recipients() {
    let rcpt = "RCPT TO:<a@b.c>\r\n";
    let octets = format!("MAIL FROM:<>\r\n{}RSET\r\n", rcpt.repeat(102));
    // Not fewer than RFC 5321 asks for.
    let log = serve_on(config().max_recipients(1), octets.as_bytes());
    assert_eq!(log[..101], ["250 2.0.0"; 101]);
    assert_eq!(log[101..], ["452 4.5.3", "452 4.5.3", "250 2.0.0", "reset"]);
}

#[test]
fn each_attempt_costs_more_than_the_one_before() {
    let mut session = server::Session::new(config().max_attempts(20).build().unwrap().into());
    session.receive(b"EHLO c\r\n");
    session.receive(&b"AUTH PLAIN AGEAYg==\r\nAUTH NONE\r\nAUTH LOGIN\r\n*\r\n".repeat(4));
    let mut seen = Vec::new();
    loop {
        match session.next(&mut Vec::new()) {
            server::Event::Query(query) => query.reject(),
            server::Event::AuthFailed(failed) => {
                seen.push((failed.attempts, failed.pause.as_secs()));
            }
            server::Event::NeedInput => break,
            _ => {}
        }
    }
    let expected = [1, 2, 4, 8, 16, 16, 16, 16]
        .chunks(2)
        .zip([1, 3, 5, 7])
        .flat_map(|(pause, n)| [(n, pause[0]), (n, 0), (n + 1, pause[1])]);
    assert_eq!(seen, expected.collect::<Vec<_>>());
}

#[test]
fn a_response_is_as_long_as_the_configuration_lets_it() {
    for (length, reply) in [(20, "235 2.7.0"), (21, "500 5.5.6")] {
        // Two NULs and a name of one octet beside the password.
        let response = format!("\0a\0{}", "p".repeat(length - 3));
        let response = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, response);
        for (line, place, reply) in [
            ("PLAIN ", 0, reply),
            ("PLAIN\r\n", 1, reply),
            // None is taken, however long.
            ("CRAM-MD5 ", 0, "501 5.7.0"),
        ] {
            let sasl = sasl::server::Config::builder("mail.example.org")
                .mechanisms(Mechanism::COMPILED)
                .allow_cleartext(true)
                .max_response(20)
                .build()
                .unwrap();
            let config = server::Config::builder("mail.example.org").sasl(sasl);
            let log = serve_on(config, format!("AUTH {line}{response}\r\n").as_bytes());
            assert_eq!(log[place], reply, "{line}");
        }
    }
}

/// What the AUTH level replies where it has the text after the verb, read or not, and whether it has
/// asked for the credentials.
fn exchange(args: &str) -> [(String, bool); 2] {
    use smtp_auth::auth::server::{Exchange, Step};
    let config = Arc::new(
        sasl::server::Config::builder("mail.example.org")
            .mechanisms(Mechanism::COMPILED)
            .build()
            .unwrap(),
    );
    let channel = sasl::Channel::tls();
    let line = format!("AUTH {args}");
    let Ok(Command::Auth(auth)) = command::parse(line.as_bytes()) else { panic!("{args}") };
    let new = Exchange::new(&config, &channel, args.as_bytes());
    [new, Exchange::begin(&config, &channel, auth)].map(|mut exchange| {
        let (mut out, mut asked) = (Vec::new(), false);
        loop {
            match exchange.step(&mut out) {
                Step::NeedLine(slot) => slot.too_long(),
                Step::Query(Query::CheckPassword(ask)) => {
                    asked = true;
                    ask.answer(true);
                }
                Step::Query(query) => panic!("{query:?}"),
                Step::Done(_) => break (String::from_utf8_lossy(&out[..9]).into(), asked),
            }
        }
    })
}

#[test]
fn an_auth_command_has_the_bound_of_a_line_at_the_auth_level_too() {
    let message = |password: usize| {
        let message = format!("\0a\0{}", "p".repeat(password));
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, message)
    };
    // `AUTH PLAIN ` and 12,276 octets of base64 have 12,287; four more have 12,291.
    let (longest, longer) = (message(9_204), message(9_205));
    assert_eq!((longest.len(), longer.len()), (12_276, 12_280));
    let taken = ("235 2.7.0".to_owned(), true);
    let refused = ("500 5.5.6".to_owned(), false);
    assert_eq!(exchange(&format!("PLAIN {longest}")), [taken.clone(), taken.clone()]);
    assert_eq!(exchange(&format!("PLAIN  {longest}")), [taken.clone(), taken.clone()]);
    // Of the arguments that have been read, the spaces are gone.
    assert_eq!(exchange(&format!("PLAIN   {longest}")), [refused.clone(), taken]);
    for args in [
        format!("PLAIN {longer}"),
        format!("PLAIN {}", message(1 << 20)),
        format!("LOGIN {}", message(1 << 20)),
        format!("CRAM-MD5 {}", message(1 << 20)),
        format!("NONE {}", message(1 << 20)),
    ] {
        assert_eq!(exchange(&args), [refused.clone(), refused.clone()], "{}", &args[..20]);
    }
}

#[test]
fn whatever_ends_a_transaction_shows_it() {
    let begin = "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n";
    for (line, shown) in [
        ("RSET", &["250 2.0.0", "reset"][..]),
        ("HELO c", &["250 mail.", "reset", "hello"]),
        ("STARTTLS", &["220 2.0.0", "reset", "starttls"]),
        ("DATA\r\na\nb\r\n.", &["354 Send ", "554 5.6.0", "reset"]),
    ] {
        let log = serve_on(config(), format!("{begin}{line}\r\n").as_bytes());
        assert_eq!(log[..2], ["250 2.0.0", "250 2.0.0"]);
        assert_eq!(&log[2..], shown, "{line}");
    }
    let log = serve_on(config(), format!("{begin}EHLO c\r\n").as_bytes());
    assert_eq!(log[log.len() - 2..], ["reset", "hello"]);
}

#[test]
fn a_chunk_out_of_place_does_not_count() {
    let rest = "RCPT TO:<d@e.f>\r\nDATA\r\nx\r\n.\r\n";
    for chunk in ["BDAT 1\r\n\r", "BDAT 20\r\n12345678901234567890"] {
        let log = serve_on(
            config().max_message(20),
            format!("MAIL FROM:<a@b.c>\r\n{chunk}{rest}").as_bytes(),
        );
        let good = ["250 2.0.0", "503 5.5.1", "250 2.0.0", "354 Send ", "data x\\r\\n", "message"];
        assert_eq!(log[..6], good, "{chunk:?}");
    }
    let without = config().keywords([Keyword::Pipelining]);
    let log = serve_on(without, b"MAIL FROM:<>\r\nRCPT TO:<d@e.f>\r\nBDAT 3 LAST\r\nabcNOOP\r\n");
    assert_eq!(log, ["250 2.0.0", "250 2.0.0", "502 5.5.1", "reset", "250 2.0.0"]);
}

#[test]
fn a_chunk_of_unknown_length_ends_the_session() {
    for line in ["BDAT 99999999999999999999 LAST", "BDAT 12 LASTX", "BDAT"] {
        let log = serve_on(config(), format!("{line}\r\nVRFY smuggled\r\n").as_bytes());
        assert_eq!(log, ["501 5.5.4", "close"], "{line}");
    }
}

#[test]
fn size_is_twenty_digits() {
    for (size, reply) in [
        ("100", "250 2.0.0"),
        ("101", "552 5.3.4"),
        ("99999999999999999999", "552 5.3.4"),
        ("000000000000000000000", "501 5.5.4"),
        ("+5", "501 5.5.4"),
        ("x", "501 5.5.4"),
    ] {
        let line = format!("MAIL FROM:<a@b.c> SIZE={size}\r\n");
        assert_eq!(serve_on(config().max_message(100), line.as_bytes()), [reply], "{size}");
    }
}

#[test]
fn binary_messages_are_announced_where_they_are_offered() {
    let offered =
        || config().keywords([Keyword::Chunking, Keyword::other("BINARYMIME", "").unwrap()]);
    let line = b"MAIL FROM:<a@b.c> BODY=BinaryMime\r\n";
    assert_eq!(serve_on(offered(), line), ["250 2.0.0"]);
    assert_eq!(serve_on(config(), line), ["501 5.5.4"]);
}

#[test]
fn the_hosts_replies_keep_the_dialogue_in_step() {
    let log = serve_on(config(), b"VRFY 354\r\nVRFY bare\r\nHELP\r\nNOOP\r\n");
    assert_eq!(log, ["451 4.3.0", "250 2.0.0", "421 4.3.2", "close"]);
}

#[test]
fn an_exchange_does_not_outlive_what_it_began_in() {
    for begun in ["AUTH LOGIN", "AUTH LOGIN YQ==", "AUTH CRAM-MD5", "AUTH PLAIN AGEAYg=="] {
        let mut session = server::Session::new(config().build().unwrap().into());
        session.receive(format!("EHLO c\r\n{begun}\r\n").as_bytes());
        let mut out = Vec::new();
        // Until there is a challenge, or a question to the host.
        while let server::Event::Hello(_) = session.next(&mut out) {}
        assert_eq!(session.tls_started(sasl::Channel::tls()), 0);
        out.clear();
        session.receive(b"YQ==\r\nYg==\r\nAUTH LOGIN\r\nMAIL FROM:<>\r\n");
        assert!(matches!(session.next(&mut out), server::Event::NeedInput), "{begun}");
        let said = String::from_utf8(out).unwrap();
        let codes: Vec<&str> = said.lines().map(|line| &line[..3]).collect();
        assert_eq!(codes, ["500", "500", "503", "503"], "{begun}");
        assert_eq!(session.identity(), None);
    }
}

#[test]
fn a_bad_response_disturbs_no_other_session() {
    let config = Arc::new(config().build().unwrap());
    let mut sessions = [(); 2].map(|()| server::Session::new(Arc::clone(&config)));
    let mut out = [Vec::new(), Vec::new()];
    for (n, line) in [
        (0, "EHLO c"),
        (1, "EHLO c"),
        (0, "AUTH LOGIN YQ=="),
        (1, "AUTH LOGIN YQ=="),
        (1, "Yg=!"),
        (1, "AUTH PLAIN !"),
        (1, "AUTH PLAIN"),
        (0, "Yg=="),
    ] {
        sessions[n].receive(format!("{line}\r\n").as_bytes());
        loop {
            match sessions[n].next(&mut out[n]) {
                server::Event::NeedInput => break,
                server::Event::Query(sasl::Query::CheckPassword(ask)) => ask.answer(n == 0),
                _ => {}
            }
        }
    }
    let ends = out.map(|out| {
        let said = String::from_utf8(out).unwrap();
        said.lines().rev().take(2).map(|line| line[..4].to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(ends, [["235 ", "334 "], ["334 ", "501 "]]);
    assert_eq!(sessions.map(|session| session.identity().is_some()), [true, false]);
}

#[test]
fn commands_of_the_applications_own_come_with_their_arguments() {
    let own = |name| Keyword::other(name, "").unwrap();
    let declared = || {
        config()
            .verb("ETRN", own("ETRN"))
            .verb("XFORWARD", Keyword::other("XFORWARD", "NAME ADDR").unwrap())
            .verb("XNOTE", own("ETRN"))
    };
    let mut session = server::Session::new(declared().build().unwrap().into());
    session.receive(
        b"ETRN early\r\nEHLO c\r\netrn  example.org \r\nXFORWARD NAME=a ADDR=b\r\nXNOTE\r\n",
    );
    session.receive(b"XOTHER\r\nXOTHER \x07\r\nXOTHER \xff\r\nETRN \x07\r\nQUIT\r\n");
    let (mut out, mut seen) = (Vec::new(), Vec::new());
    loop {
        match session.next(&mut out) {
            server::Event::Command(shown @ Command::Unknown(command), ask) => {
                assert_eq!(format!("{shown:?}"), "Unknown(Unknown(***))");
                seen.push((command.verb().to_owned(), command.arguments().map(str::to_owned)));
                ask.reply(Reply::OK);
            }
            server::Event::Hello(_) => {}
            server::Event::Close => break,
            other => panic!("{other:?}"),
        }
    }
    let seen: Vec<_> = seen.iter().map(|(verb, text)| (&**verb, text.as_deref())).collect();
    let expected =
        [("etrn", Some("example.org")), ("XFORWARD", Some("NAME=a ADDR=b")), ("XNOTE", None)];
    assert_eq!(seen, expected);
    let said = String::from_utf8(out).unwrap();
    let ends = [
        "503 5.5.1",
        "250 2.0.0",
        "250 2.0.0",
        "250 2.0.0",
        "500 5.5.2",
        "500 5.5.2",
        "500 5.5.2",
        "501 5.5.4",
        "221 2.0.0",
    ];
    let replies: Vec<_> = said.lines().filter(|line| line.as_bytes()[3] == b' ').collect();
    assert!(
        replies
            .iter()
            .skip(1)
            .filter(|line| !line.starts_with("250 AUTH"))
            .map(|line| &line[..9])
            .eq(ends),
        "{said}"
    );
    assert!(
        said.contains("-XFORWARD NAME ADDR\r\n") && said.matches("-ETRN\r\n").count() == 1,
        "{said}"
    );

    // From a client that is to authenticate, and has not.
    let log = serve_on(declared().allow_unauthenticated(false), b"ETRN a\r\n");
    assert_eq!(log, ["530 5.7.0"]);
    let log =
        serve_on(declared().allow_unauthenticated(false), b"AUTH PLAIN AGEAYg==\r\nETRN a\r\n");
    assert_eq!(log, ["235 2.7.0", "authenticated", "250 2.0.0"]);

    for verb in ["mail", "QUIT", "STARTTLS", "", "X-A", "X A", "XÉ", "X\r\nQUIT", "xclient", "BURL"]
    {
        let built = config().verb(verb, own("XOWN")).build();
        assert_eq!(built.unwrap_err(), sasl::ConfigError::Verb, "{verb:?}");
    }
    // What the session writes by itself, in whatever form, and what would stand there twice.
    for keyword in [Keyword::StartTls, Keyword::other("starttls", "x").unwrap()] {
        let built = config().verb("XOWN", keyword).build();
        assert_eq!(built.unwrap_err(), sasl::ConfigError::Keyword);
    }
    for keyword in [Keyword::other("SIZE", "5 5").unwrap(), Keyword::Chunking] {
        let built = config().keyword(keyword).build();
        assert_eq!(built.unwrap_err(), sasl::ConfigError::Keyword);
    }
    let twice = config().verb("XA", own("XK")).verb("XB", Keyword::other("xk", "2").unwrap());
    assert_eq!(twice.build().unwrap_err(), sasl::ConfigError::Keyword);
    assert!(config().keyword(Keyword::Dsn).build().is_ok());
}

#[test]
fn mail_is_judged_by_who_is_authenticated() {
    let mut session = server::Session::new(config().build().unwrap().into());
    session.tls_started(Channel::tls());
    session.receive(b"EHLO c\r\nMAIL FROM:<a@example.org>\r\nRSET\r\nAUTH PLAIN AGEAYg==\r\n");
    session.receive(
        b"MAIL FROM:<b@example.org>\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n",
    );
    session.receive(b"DATA\r\nHi\r\n.\r\nQUIT\r\n");
    let (mut out, mut seen) = (Vec::new(), Vec::new());
    loop {
        match session.next(&mut out) {
            server::Event::Query(sasl::Query::CheckPassword(ask)) => ask.answer(true),
            server::Event::Command(Command::Mail(mail), ask) => {
                let who = ask.identity().map(|who| who.acts_as().to_owned());
                let own = mail.from().unwrap().local_part();
                let may = who.as_deref().is_none_or(|who| who == own);
                ask.reply(if may { Reply::SENDER_OK } else { Reply::MAILBOX_UNAVAILABLE });
                seen.push(who);
            }
            server::Event::Command(_, ask) | server::Event::EndOfData(ask) => {
                seen.push(ask.identity().map(|who| who.acts_as().to_owned()));
                ask.reply(Reply::OK);
            }
            server::Event::StartOfData(permission) => {
                seen.push(permission.identity().map(|who| who.acts_as().to_owned()));
                permission.accept();
            }
            server::Event::Close => break,
            _ => {}
        }
    }
    let a = || Some("a".to_owned());
    assert_eq!(seen, [None, a(), a(), a(), a(), a()]);
    assert!(
        String::from_utf8(out)
            .unwrap()
            .contains("235 2.7.0 Authentication succeeded\r\n550 5.1.1 ")
    );
}

/// Set after the configuration was built, by a driver that has something of its own to look at once somebody is proven.
#[test]
fn everybody_who_is_proven_is_asked_about_where_that_is_set_later() {
    for always in [false, true] {
        let given = config().build().unwrap();
        let own = given.clone().with_authorize_always(always);
        assert_eq!(
            (given.sasl().authorizes_always(), own.sasl().authorizes_always()),
            (false, always)
        );
        // It is the same in all else: the salts of accounts that do not exist, too.
        let salt = |config: &server::Config| {
            let keys = config.sasl().decoy_keys(sasl::ScramHash::Sha256, "nobody").unwrap();
            keys.parts().salt.to_vec()
        };
        assert_eq!(salt(&given), salt(&own));
        let mut session = server::Session::new(own.into());
        let (mut out, mut asked) = (Vec::new(), false);
        session.receive(b"EHLO c\r\nAUTH PLAIN AHRpbQBwZW5jaWw=\r\n");
        loop {
            match session.next(&mut out) {
                server::Event::Query(Query::CheckPassword(ask)) => ask.answer(true),
                server::Event::Query(Query::Authorize(ask)) => {
                    asked = true;
                    ask.answer(true);
                }
                server::Event::NeedInput => break,
                _ => {}
            }
        }
        let said = String::from_utf8(out).unwrap();
        assert!(said.lines().last().unwrap().starts_with("235 "), "{said}");
        assert_eq!(asked, always);
    }
}
