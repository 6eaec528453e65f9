//! No text of a peer's is shown with characters that end a line, that a terminal obeys, or that change the order
//! in which the text around them is read.

use std::sync::{Arc, Mutex};

use smtp_auth::{
    client,
    command::{Command, EhloName, MailAuth, Mailbox, Text, parse},
    reply::{Reply, ReplyRef},
    sasl::{self, Channel, Failure, Mechanism},
    server,
};

/// The marks of direction, which an address may have.
const MARKS: [char; 3] = ['\u{61c}', '\u{200e}', '\u{200f}'];

/// Separators of lines, and the other controls of direction.
const NEVER: [char; 11] = [
    '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}',
    '\u{2067}', '\u{2068}', '\u{2069}',
];

fn is_hidden(c: char) -> bool {
    c.is_control() || MARKS.contains(&c) || NEVER.contains(&c)
}

#[track_caller]
fn hides(text: &str) {
    assert!(!text.contains(is_hidden), "{text:?}");
}

type Trace = Arc<Mutex<Vec<String>>>;

fn hook(trace: &Trace) -> impl FnMut(smtp_auth::Side, &str) + Send + Sync + 'static {
    let trace = Arc::clone(trace);
    move |_, line| trace.lock().unwrap().push(line.to_owned())
}

/// What a server replies to each of these lines, and its trace.
fn serve(lines: &[String]) -> (Vec<String>, Vec<String>) {
    let config = server::Config::builder("mail.example.org")
        .sasl(
            sasl::server::Config::builder("mail.example.org")
                .mechanisms(Mechanism::COMPILED)
                .build()
                .unwrap(),
        )
        .allow_unauthenticated(true)
        .build()
        .unwrap();
    let mut session = server::Session::new(config.into());
    let (trace, mut out) = (Trace::default(), Vec::new());
    session.trace(hook(&trace));
    for line in lines {
        session.receive(format!("{line}\r\n").as_bytes());
    }
    loop {
        match session.next(&mut out) {
            server::Event::Command(command, ask) => {
                hides(&format!("{command:?}"));
                if let Command::Mail(mail) = command {
                    hides(&mail.from().map(|from| from.to_string()).unwrap_or_default());
                }
                ask.reply(Reply::OK);
            }
            server::Event::Hello(hello) => hides(hello.name),
            server::Event::NeedInput => break,
            _ => {}
        }
    }
    let replies = String::from_utf8(out).unwrap();
    let last = replies.lines().filter(|line| line.get(3..4) == Some(" "));
    let replies = last.skip(1).map(|line| line.chars().take(9).collect()).collect();
    let trace = trace.lock().unwrap().clone();
    (replies, trace)
}

#[test]
fn of_a_clients_commands() {
    for c in MARKS.into_iter().chain(NEVER) {
        let never = NEVER.contains(&c);
        let (replies, trace) = serve(&[
            format!("EHLO a{c}b"),
            "HELO c".into(),
            format!("VRFY a{c}b"),
            format!("MAIL FROM:<a{c}b@example.org>"),
            "RSET".into(),
            format!("MAIL FROM:<\"a {c}b\"@example.org>"),
            "RSET".into(),
            format!("MAIL FROM:<a@example.org> X={c}"),
        ]);
        let (sender, parameter) =
            if never { ("501 5.1.7", "501 5.5.4") } else { ("250 2.0.0", "250 2.0.0") };
        let expected = [
            "501 5.5.4",
            "250 mail.",
            "501 5.5.4",
            sender,
            "250 2.0.0",
            sender,
            "250 2.0.0",
            parameter,
        ];
        assert_eq!(replies, expected, "{c:?}");
        assert_eq!(
            trace.iter().filter(|line| line.starts_with("MAIL")).count(),
            if never { 0 } else { 3 }
        );
        trace.iter().for_each(|line| hides(line));
    }
}

#[test]
fn of_addresses_names_and_texts() {
    for c in NEVER {
        let text = format!("a{c}b");
        assert!(EhloName::new(&text).is_err() && Text::new(&text).is_err(), "{c:?}");
        assert!(Mailbox::parse(&format!("{text}@example.org")).is_err(), "{c:?}");
        assert!(MailAuth::new(format!("{text}@example.org")).is_err(), "{c:?}");
    }
    for c in MARKS {
        let text = format!("a{c}b");
        assert!(EhloName::new(&text).is_err() && Text::new(&text).is_err(), "{c:?}");
        let address = format!("{text}@example.org");
        let line = format!("RCPT TO:<{address}>");
        let Ok(Command::Rcpt(rcpt)) = parse(line.as_bytes()) else { panic!("{c:?} is refused") };
        // It is delivered as it was sent, and shown otherwise.
        assert_eq!((rcpt.to().as_str(), rcpt.to().local_part()), (&*address, &*text));
        let escaped = format!("a\\u{{{:x}}}b@example.org", u32::from(c));
        assert_eq!(rcpt.to().to_string(), escaped);
        hides(&format!("{rcpt:?}"));
        hides(&MailAuth::new(address).unwrap().to_string());
        let mut out = Vec::new();
        Command::Rcpt(rcpt).write(&mut out);
        assert_eq!(out, format!("{line}\r\n").as_bytes());
    }
}

#[test]
fn of_a_servers_replies() {
    for c in MARKS.into_iter().chain(NEVER).chain(['\u{85}', '\u{9b}', '\u{7f}']) {
        let said = format!("550-5.1.1 a{c}b\r\n550 5.1.1 {c}\r\n");
        let reply = ReplyRef::parse(said.as_bytes()).unwrap();
        let owned = reply.to_reply();
        assert_eq!(owned.text(), "a?b\n?", "{c:?}");
        hides(&owned.to_string());
        hides(&format!("{reply:?}{owned:?}"));

        let config = client::Config::builder("client.example.org").build().unwrap();
        let mut session = client::Session::without_credentials(config.into());
        let trace = Trace::default();
        session.trace(hook(&trace));
        session.receive(format!("554 5.3.2 a{c}b\r\n").as_bytes());
        let error = loop {
            if let Err(error) = session.next(&mut Vec::new()) {
                break error;
            }
        };
        hides(&format!("{error} {error:?}"));
        trace.lock().unwrap().iter().for_each(|line| hides(line));
    }
}

/// The names of accounts go to logs and headers.
#[test]
fn of_names_that_sign_in() {
    let config = Arc::new(
        sasl::server::Config::builder("mail.example.org")
            .mechanisms(Mechanism::COMPILED)
            .build()
            .unwrap(),
    );
    for c in MARKS.into_iter().chain(NEVER) {
        for message in [format!("\0t{c}im\0password"), format!("t{c}im\0tim\0password")] {
            let mut exchange = sasl::server::Exchange::new(
                &config,
                &Channel::tls(),
                Mechanism::Plain,
                Some(message.into_bytes()),
            );
            let sasl::server::Step::Done(Err(why)) = exchange.step() else { panic!("{c:?}") };
            assert!(matches!(why, Failure::Malformed(_)), "{c:?}: {why}");
        }
        assert!(Channel::tls().with_identity(&format!("t{c}im")).is_err(), "{c:?}");
    }
}
