//! Whatever a caller passes in, each command stays one line, and each reply one reply.

use std::mem;

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::{collection::vec, prelude::*, sample::select};
use smtp_auth::{
    client::{self, BodyType, Envelope, Notify, NotifyOn, Recipient, Ret},
    command::{Command, MailAuth},
    ehlo::Keyword,
    reply::Reply,
    sasl::{
        self, Answer, Channel, CramSecret, CustomAnswer, Mechanism, Nonce, NonceError, Query,
        ScramKeys, TokenAnswer, TokenError,
        client::{Credentials, CustomResponse},
    },
    server,
};

/// Text that a field may take as it is, broken by what may end a line somewhere. U+0D0A and U+760D
/// have the octets of CR and LF in them for who cuts characters down to octets.
fn hostile(good: &'static [&'static str]) -> impl Strategy<Value = String> {
    let ends = select(vec![
        "\r\n",
        "\r",
        "\n",
        "\0",
        "\u{b}",
        "\u{c}",
        "\u{1b}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{d0a}",
        "\u{760d}",
        "\u{760a}",
        "\r\nQUIT\r\n",
        "\r\n250 ok",
        "> SIZE=1",
        "+0D+0A",
        " ",
        "\\r\\n",
        "\"",
        ",",
        "=",
        "\u{1}",
        "é",
    ]);
    let good = select(good);
    prop_oneof![
        2 => good.clone().prop_map(String::from),
        6 => (good, ends, any::<prop::sample::Index>()).prop_map(|(good, end, at)| {
            let mut text = String::from(good);
            let at = at.index(good.len() + 1);
            let at = (at..=good.len()).find(|at| good.is_char_boundary(*at)).unwrap();
            text.insert_str(at, end);
            text
        }),
        1 => any::<String>(),
    ]
}

/// The lines of what was sent at once, each with nothing but text in front of its CRLF.
#[track_caller]
fn lines(sent: &[u8]) -> Vec<String> {
    let sent = std::str::from_utf8(sent).unwrap();
    let lines: Vec<_> = sent.split_inclusive('\n').collect();
    let text = |line: &&str| {
        let text = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("half a line in {sent:?}"));
        assert!(!text.contains(char::is_control), "{sent:?}");
        text.to_owned()
    };
    lines.iter().map(text).collect()
}

/// The lines of one reply, without the code that all have.
#[track_caller]
fn reply(code: &str, sent: &[u8]) -> Vec<String> {
    let lines = lines(sent);
    let (last, others) = lines.split_last().unwrap();
    assert!(others.iter().all(|line| line.starts_with(&format!("{code}-"))), "{lines:?}");
    assert!(*last == code || last.starts_with(&format!("{code} ")), "{lines:?}");
    lines.iter().map(|line| line.get(4..).unwrap_or_default().to_owned()).collect()
}

/// A server that believes everything, and takes no message.
fn server(mechanism: Mechanism) -> server::Session {
    let sasl = sasl::server::Config::builder("smtp.example.com")
        .mechanisms([mechanism])
        .scram_iterations(1)
        .build()
        .unwrap();
    let config = server::Config::builder("smtp.example.com")
        .sasl(sasl)
        .keywords([Keyword::SmtpUtf8, Keyword::EightBitMime, Keyword::Dsn])
        .allow_unauthenticated(true)
        .build()
        .unwrap();
    let mut session = server::Session::new(config.into());
    session.tls_started(Channel::tls().with_identity("cert").unwrap());
    session
}

/// Answers until the server wants input; says whether it has closed.
fn serve(
    session: &mut server::Session,
    password: &str,
    challenge: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    let mut rounds = 0;
    loop {
        match session.next(out) {
            server::Event::NeedInput => return false,
            server::Event::Close => return true,
            server::Event::Query(query) => match query {
                Query::CheckPassword(ask) => ask.answer(true),
                Query::CramSecret(ask) => {
                    ask.answer(Answer::accept(CramSecret::from_password(password)));
                }
                Query::ScramKeys(ask) => {
                    ask.answer(ScramKeys::from_password(ask.hash(), password, b"salt", 1));
                }
                Query::CheckToken(ask) => ask.answer(TokenAnswer::Accept("tim".into())),
                Query::CheckExternal(ask) => ask.answer(Answer::accept("tim".into())),
                Query::CheckAnonymous(ask) => ask.answer(true),
                Query::Custom(ask) if ask.response().is_some_and(|said| said == b"last") => {
                    let authcid = "tim".into();
                    ask.answer(CustomAnswer::Accept { authcid, authzid: None });
                }
                Query::Custom(ask) => ask.answer(CustomAnswer::Challenge(challenge.to_vec())),
                Query::Authorize(ask) => ask.answer(true),
                other => other.reject(),
            },
            server::Event::Command(_, ask) => ask.reply(Reply::OK),
            server::Event::StartOfData(ask) => ask.refuse(Reply::LOCAL_ERROR),
            _ => {}
        }
        rounds += 1;
        assert!(rounds < 20);
    }
}

/// What the client writes at once is one line each time. Says its lines.
fn converse(
    config: client::Builder,
    credentials: Credentials,
    mechanism: Mechanism,
    password: &str,
    (envelope, custom): (&Envelope, &[u8]),
) -> Vec<String> {
    let sasl = sasl::client::Config::builder().mechanisms([mechanism]).scram_iterations(1, 1);
    let config = config.sasl(sasl.build().unwrap()).build().unwrap();
    let mut client = client::Session::new(config.into(), credentials);
    client.tls_started(Channel::tls());
    let mut server = server(mechanism);
    let (mut from_server, mut said, mut sent, mut responses) = (Vec::new(), vec![], false, 0);
    loop {
        let closed = serve(&mut server, password, custom, &mut from_server);
        lines(&from_server);
        client.receive(&mem::take(&mut from_server));
        let mut out = Vec::new();
        loop {
            match client.next(&mut out).unwrap() {
                client::Event::NeedInput | client::Event::Close => break,
                client::Event::Derive(derive) => derive.run(),
                client::Event::Custom(ask) => {
                    responses += 1;
                    ask.answer(match responses {
                        1 => CustomResponse::Respond(custom.to_vec()),
                        2 => CustomResponse::Respond(Vec::new()),
                        _ => CustomResponse::Complete(b"last".to_vec()),
                    });
                }
                // What SCRAM cannot prepare is not sent, and the message is all the same.
                client::Event::NotAuthenticated(failed) => failed.go_on(),
                client::Event::Ready(ready) if !mem::replace(&mut sent, true) => {
                    ready.send(envelope.clone());
                }
                client::Event::Ready(ready) => ready.quit(),
                client::Event::Refused { .. } | client::Event::Sent(_) => {}
                other => panic!("{other:?}"),
            }
        }
        if closed {
            assert!(out.is_empty());
            return said;
        }
        let lines = lines(&out);
        assert_eq!(lines.len(), 1, "{lines:?} behind {said:?}");
        said.extend(lines);
        server.receive(&out);
    }
}

const NAMES: &[&str] = &["tim", "tim@example.org", "Ann B.", "ünal"];
const MAILBOXES: &[&str] =
    &["tim@example.org", "\"a b\"@example.org", "a+b=c@[127.0.0.1]", "ü@exämple.org"];
const HOSTS: &[&str] = &["host.example.org", "[127.0.0.1]", "x", "exämple.org"];
const WORDS: &[&str] = &["X-FIRST", "X_2", "A", "A-NAME-OF-20-LETTERS"];
const TEXTS: &[&str] = &["Hello", "", "2.0.0 of course", "a\nb\n\nc"];
const VALUES: &[&str] = &["60", "a;b,c+3D", "<x@y>"];
const URLS: &[&str] = &["https://example.org/.well-known/openid-configuration", "mail", ""];
const TOKENS: &[&str] = &["abc.def-ghi_~+/==", "t"];
const MECHANISMS: &[Mechanism] = &[
    Mechanism::Plain,
    Mechanism::Login,
    Mechanism::CramMd5,
    Mechanism::ScramSha256,
    Mechanism::OauthBearer,
    Mechanism::Xoauth2,
    Mechanism::External,
    Mechanism::Anonymous,
];

fn user(mechanism: Mechanism, name: &str, secret: &str, token: &str) -> Option<Credentials> {
    match mechanism {
        Mechanism::External => Some(Credentials::external()),
        Mechanism::Anonymous => Credentials::anonymous(name).ok(),
        _ if mechanism.takes_token() => Credentials::token(name, token).ok(),
        _ => Credentials::password(name, secret).ok(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// A value that its constructor refuses is replaced by a good one, so that the others are seen.
    #[test]
    fn a_clients_commands(
        mechanism in select(MECHANISMS),
        (hostname, host) in (hostile(HOSTS), hostile(HOSTS)),
        (name, act_as) in (hostile(NAMES), prop::option::of(hostile(NAMES))),
        (password, token) in (hostile(NAMES), hostile(TOKENS)),
        (from, to) in (hostile(MAILBOXES), vec(hostile(MAILBOXES), 0..3)),
        (size, submitter) in (0..50_000_000u64, hostile(MAILBOXES)),
        (id, original) in (hostile(NAMES), (hostile(WORDS), hostile(MAILBOXES))),
        (parameter, value) in (hostile(WORDS), prop::option::of(hostile(VALUES))),
        initial_response in any::<bool>(),
    ) {
        let config = client::Config::builder(&hostname);
        let good = config.clone().build().is_ok();
        let config = if good { config } else { client::Config::builder("x") };
        let good = || user(mechanism, "tim", "password", "token").unwrap();
        let mut credentials =
            user(mechanism, &name, &password, &token).unwrap_or_else(good);
        credentials = credentials.clone().for_server(&host, 587).unwrap_or(credentials);
        if let Some(act_as) = act_as {
            credentials = credentials.clone().acting_as(&act_as).unwrap_or(credentials);
        }
        let last = Recipient::new("b@example.org").unwrap();
        let to = to.iter().filter_map(|to| Recipient::new(to).ok()).chain([last]).map(|to| {
            let own = to.clone().original_recipient(&original.0, &original.1).unwrap_or(to);
            let own = own.notify(Notify::On(NotifyOn::DELAY | NotifyOn::SUCCESS));
            own.clone().parameter("DSN", &parameter, value.as_deref()).unwrap_or(own)
        });
        let to: Vec<_> = to.collect();
        let mut envelope = Envelope::new(Some(&from), to.clone())
            .unwrap_or_else(|_| Envelope::new(None, to.clone()).unwrap());
        envelope = envelope.size(size).body(BodyType::EightBitMime).ret(Ret::Full);
        envelope = envelope.clone().envelope_id(&id).unwrap_or(envelope);
        let other = envelope.clone().parameter("DSN", &parameter, value.as_deref());
        envelope = other.unwrap_or(envelope);
        if let Ok(submitter) = MailAuth::new(submitter) {
            envelope = envelope.auth(&submitter);
        }
        let config = config.initial_response(initial_response);
        let said = converse(config, credentials, mechanism, &password, (&envelope, b""));
        let verbs = said.iter().map(|line| line.get(..4).unwrap_or_default());
        let first = said.iter().position(|line| line.starts_with("MAIL FROM:<"));
        prop_assert_eq!(said[0].split(' ').count(), 2);
        prop_assert!(said[0].starts_with("EHLO "));
        let behind: Vec<_> = verbs.skip(first.unwrap()).collect();
        let rcpt = vec!["RCPT"; to.len()];
        let expected = [&["MAIL"], &rcpt[..], &["DATA", "RSET", "QUIT"]].concat();
        prop_assert_eq!(behind, expected);
    }

    #[test]
    fn a_name_and_messages_of_the_hosts_own(
        name in hostile(WORDS),
        message in prop_oneof![vec(any::<u8>(), 0..40), Just(b"\r\nQUIT\r\n".to_vec())],
    ) {
        let envelope = Envelope::new(None, ["b@example.org"]).unwrap();
        if let Ok(mechanism) = Mechanism::custom(String::leak(name.clone())) {
            let config = client::Config::builder("x");
            let credentials = Credentials::custom(mechanism);
            let said = converse(config, credentials, mechanism, "", (&envelope, &message));
            prop_assert_eq!(said[1].split(' ').nth(1), Some(&*name));
            prop_assert_eq!(&said[4][..10], "MAIL FROM:");
        } else {
            let good = |octet: u8| octet.is_ascii_uppercase() || octet.is_ascii_digit() || b"-_".contains(&octet);
            prop_assert!(name.is_empty() || name.len() > 20 || !name.bytes().all(good));
        }
    }

    #[test]
    fn a_servers_replies(
        code in 200u16..600,
        text in hostile(TEXTS),
        standard in any::<bool>(),
        own_to_mail in any::<bool>(),
    ) {
        let expected = text.split('\n').count().min(128);
        let own = match standard {
            true => Reply::OK.with_text(text.clone()),
            false => Reply::new(code, None, text.clone()).unwrap(),
        };
        let mut out = Vec::new();
        own.write(&mut out);
        prop_assert_eq!(reply(&own.code().to_string(), &out).len(), expected);
        prop_assert!(!own.to_string().contains(char::is_control));
        // The same where a session says it, to MAIL, at DATA, and where the host closes.
        let mut session = server(Mechanism::Plain);
        session.receive(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n");
        let mut out = Vec::new();
        loop {
            match session.next(&mut out) {
                server::Event::NeedInput | server::Event::Close => break,
                server::Event::Command(Command::Mail(_), ask) if own_to_mail => {
                    ask.reply(own.clone());
                }
                server::Event::Command(_, ask) => ask.reply(Reply::OK),
                server::Event::StartOfData(ask) => ask.refuse(own.clone()),
                _ => {}
            }
        }
        // The greeting, and one to each command, but where it is the last word.
        let expected = if own_to_mail && own.code() == 421 { 3 } else { 5 };
        prop_assert_eq!(replies(&out), expected);
        let mut out = Vec::new();
        session.close(&own, &mut out);
        prop_assert!(replies(&out) <= 1);
    }

    #[test]
    fn a_servers_names(
        host in hostile(HOSTS),
        keywords in vec((hostile(WORDS), hostile(TEXTS)), 0..4),
    ) {
        let mut listed: Vec<Keyword<'static>> = Vec::new();
        for (name, parameters) in keywords {
            let own = ["STARTTLS", "AUTH", "SIZE"].into_iter();
            let mut taken = own.chain(listed.iter().map(Keyword::name));
            if !taken.any(|taken| taken.eq_ignore_ascii_case(&name)) {
                listed.extend(Keyword::other(String::leak(name), String::leak(parameters)));
            }
        }
        let offering = |host: &str| {
            let sasl = sasl::server::Config::builder(host).mechanisms(Mechanism::COMPILED).build()?;
            server::Config::builder(host)
                .sasl(sasl)
                .keywords(listed.clone())
                .starttls(server::StartTls::Off)
                .legacy_auth_line(true)
                .build()
        };
        let config = offering(&host).unwrap_or_else(|_| offering("x").unwrap());
        let name = config.hostname().to_owned();
        let mut session = server::Session::new(config.into());
        session.tls_started(Channel::tls());
        let mut out = Vec::new();
        serve(&mut session, "", b"", &mut out);
        let greeting = reply("220", &out);
        prop_assert_eq!(greeting.len(), 1);
        prop_assert_eq!(greeting[0].split(' ').next(), Some(&*name));
        out.clear();
        session.receive(b"EHLO x\r\n");
        serve(&mut session, "", b"", &mut out);
        // The name, SIZE, AUTH, and the old form of it.
        prop_assert_eq!(reply("250", &out).len(), 4 + listed.len());
        // Where it is written by itself, the name may be anything.
        out.clear();
        smtp_auth::ehlo::write(&host, &listed, &mut out);
        prop_assert_eq!(reply("250", &out).len(), 1 + listed.len());
        out.clear();
        session.receive(b"QUIT\r\n");
        serve(&mut session, "", b"", &mut out);
        prop_assert_eq!(reply("221", &out).len(), 1);
    }

    #[test]
    fn a_servers_challenges(
        nonce in hostile(&["0123456789abcdef", "!\"#$%&'()*+"]),
        scope in hostile(URLS),
        url in hostile(URLS),
    ) {
        let error = TokenError::INSUFFICIENT_SCOPE.scope(&scope).openid_configuration(&url);
        let own = nonce.clone();
        let sasl = sasl::server::Config::builder("smtp.example.com").mechanisms(Mechanism::COMPILED);
        let sasl = sasl.nonces(move || Nonce::new(&own)).token_error(error).build().unwrap();
        let config = server::Config::builder("smtp.example.com").sasl(sasl).build().unwrap();
        let mut session = server::Session::new(config.into());
        session.tls_started(Channel::tls());
        let mut says = |line: &str| {
            let mut out = Vec::new();
            serve(&mut session, "", b"", &mut out);
            out.clear();
            session.receive(format!("{line}\r\n").as_bytes());
            loop {
                match session.next(&mut out) {
                    server::Event::NeedInput => break out,
                    server::Event::Query(query) => query.reject(),
                    _ => {}
                }
            }
        };
        says("EHLO x");
        let refused = Nonce::new(&nonce) == Err(NonceError);
        for (line, plain) in [
            ("AUTH CRAM-MD5", format!("<{nonce}@smtp.example.com>")),
            ("AUTH SCRAM-SHA-256 biwsbj1hLHI9YQ==", format!("r=a{nonce},s=")),
        ] {
            if refused {
                prop_assert_eq!(reply("454", &says(line)).len(), 1);
                continue;
            }
            let challenge = reply("334", &says(line));
            let decoded = String::from_utf8(STANDARD.decode(&challenge[0]).unwrap()).unwrap();
            prop_assert_eq!(challenge.len(), 1);
            prop_assert!(decoded.starts_with(&plain) && !decoded.contains(char::is_control));
            prop_assert_eq!(reply("501", &says("*")).len(), 1);
        }
        let user = STANDARD.encode("user=tim\u{1}auth=Bearer t\u{1}\u{1}");
        let challenge = reply("334", &says(&format!("AUTH XOAUTH2 {user}")));
        prop_assert_eq!(challenge.len(), 1);
        let json = String::from_utf8(STANDARD.decode(&challenge[0]).unwrap()).unwrap();
        let control = |c: char| c < ' ';
        prop_assert!(!json.contains(control), "{}", json);
        prop_assert_eq!(reply("535", &says("")).len(), 1);
    }
}

/// How many replies those lines are; each of them whole.
#[track_caller]
fn replies(sent: &[u8]) -> usize {
    let lines = lines(sent);
    let mut code: Option<&str> = None;
    let mut count = 0;
    for line in &lines {
        assert!(line.len() >= 3 && line.as_bytes()[..3].iter().all(u8::is_ascii_digit), "{line}");
        assert!(code.is_none_or(|code| line.starts_with(code)), "{lines:?}");
        code = line[3..].starts_with('-').then_some(&line[..3]);
        count += usize::from(code.is_none());
    }
    assert_eq!(code, None, "{lines:?}");
    count
}
