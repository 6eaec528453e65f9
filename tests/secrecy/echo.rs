//! A server that repeats what was sent to it: nothing of that in the trace, in errors and in `Debug`.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    auth,
    client::{AuthError, Config, Error, Event, NotAuthenticated, Session},
    reply::{Reply, ReplyRef},
    sasl::{
        self, Channel, Mechanism,
        client::{Credentials, CustomResponse},
    },
};

use crate::forms::{Shown, forms};

const USER: &str = "timothy@example.org";
const PASSWORD: &str = "Qz7rightPasswordXw9";
const TOKEN: &str = "Hd5rightTokenPl8.mn6";
const OWN: &str = "Ub4ofTheOwnMechanism";
const CUSTOM: &str = "X-OWN";

fn mechanisms() -> [Mechanism; 7] {
    use Mechanism::{CramMd5, Login, OauthBearer, Plain, ScramSha256, Xoauth2};
    [Plain, Login, CramMd5, ScramSha256, OauthBearer, Xoauth2, Mechanism::custom(CUSTOM).unwrap()]
}

fn credentials(mechanism: Mechanism) -> Credentials {
    match mechanism {
        Mechanism::Custom(_) => Credentials::custom(mechanism),
        _ if mechanism.takes_token() => Credentials::token(USER, TOKEN).unwrap(),
        _ => Credentials::password(USER, PASSWORD).unwrap(),
    }
}

fn config(mechanism: Mechanism) -> sasl::client::Config {
    let config = sasl::client::Config::builder().mechanisms([mechanism]).without(mechanism.plus());
    config.scram_iterations(1, 1).build().unwrap()
}

/// What a server that plays along says to the line that is the `n`th of an exchange.
fn challenge(mechanism: Mechanism, n: usize, line: &str) -> String {
    let said = match (mechanism, n) {
        (Mechanism::CramMd5, _) => "<1@x>".to_owned(),
        (Mechanism::ScramSha256, 0) => {
            let first = STANDARD.decode(line.rsplit(' ').next().unwrap()).unwrap();
            let first = String::from_utf8(first).unwrap();
            let (_, nonce) = first.rsplit_once("r=").unwrap();
            format!("r={nonce}ofTheServer,s=c2FsdA==,i=1")
        }
        _ => String::new(),
    };
    format!("334 {}\r\n", STANDARD.encode(said))
}

/// What is secret in a line, in every form that a server could have it in.
fn secrets(line: &str) -> Vec<String> {
    let word = line.rsplit(' ').next().unwrap().to_owned();
    let decoded = STANDARD.decode(&word).unwrap_or_default();
    let decoded = String::from_utf8(decoded).unwrap();
    let secret = [PASSWORD, TOKEN, OWN].into_iter().find(|secret| decoded.contains(secret));
    // Of a digest or a proof, the end.
    let secret = secret.map_or(decoded.split([' ', ',']).next_back().unwrap(), |secret| secret);
    // A name is shown elsewhere.
    let mut all = if secret == USER { Vec::new() } else { forms(secret.as_bytes()) };
    all.push(word);
    all.retain(|form| form.len() >= 8);
    all
}

/// The texts by which a server repeats a line.
fn repeats(line: &str) -> Vec<String> {
    let word = line.rsplit(' ').next().unwrap();
    let decoded = STANDARD.decode(word).unwrap_or_default();
    let decoded = String::from_utf8_lossy(&decoded).replace('\0', "\\0");
    vec![
        format!("unknown command \"{line}\""),
        format!("5.5.2 bad: {word}"),
        format!("5.7.8 wrong: {decoded}"),
        format!("no: {}", &decoded[decoded.len() - decoded.len().min(12)..]),
    ]
}

struct Ended {
    error: Error,
    shown: Shown,
    trace: String,
}

/// A session whose server repeats the `n`th line of the exchange in the reply that `reply` makes of
/// the text; what was sent in that line. `None` where there is no such line.
fn session(
    mechanism: Mechanism,
    initial: bool,
    n: usize,
    reply: &dyn Fn(&str) -> String,
    which: usize,
) -> Option<(String, Ended)> {
    let config = Config::builder("client.example.com").sasl(config(mechanism));
    let config = config.initial_response(initial).build().unwrap();
    let mut session = Session::new(config.into(), credentials(mechanism));
    session.tls_started(Channel::tls());
    let (shown, trace) = (Shown::default(), Shown::default());
    let hook = trace.clone();
    session.trace(move |side, line| hook.text(&format!("{side}: {line}")));
    let (mut out, mut lines, mut sent, mut secret) = (Vec::new(), 0, String::new(), String::new());
    session.receive(b"220 x\r\n");
    let error = loop {
        shown.debug(&session);
        let event = match session.next(&mut out) {
            Ok(event) => event,
            Err(error) => break error,
        };
        shown.debug(&event);
        match event {
            Event::NeedInput if out.is_empty() => {
                break session.eof().unwrap_err();
            }
            Event::NeedInput => {
                let line = String::from_utf8(std::mem::take(&mut out)).unwrap();
                let line = line.trim_end().to_owned();
                if line.starts_with("EHLO") {
                    session.receive(format!("250-x\r\n250 AUTH {mechanism}\r\n").as_bytes());
                    continue;
                }
                assert!(sent.is_empty() || line == "*" || line.len() <= 4, "{line}");
                if line.starts_with("AUTH ") && !line["AUTH ".len()..].contains(' ') {
                    session.receive(challenge(mechanism, usize::MAX, "").as_bytes());
                    continue;
                }
                // Of a `*`, or the acknowledgement of a token's error, there is nothing to repeat.
                if line.len() > 4 {
                    secret.clone_from(&line);
                }
                if lines == n && sent.is_empty() {
                    session.receive(reply(&repeats(&secret)[which]).as_bytes());
                    sent.clone_from(&secret);
                } else if sent.is_empty() {
                    session.receive(challenge(mechanism, lines, &line).as_bytes());
                } else {
                    session.receive(reply(&repeats(&sent)[which]).as_bytes());
                }
                lines += 1;
            }
            Event::Derive(ask) => ask.run(),
            Event::Custom(ask) => {
                ask.answer(match ask.data() {
                    None => CustomResponse::Respond(OWN.into()),
                    Some(_) => CustomResponse::Complete(OWN.to_lowercase().into()),
                });
            }
            Event::NotAuthenticated(failed) => break failed.error(),
            Event::Ready(_) => return (!sent.is_empty()).then(|| panic!("signed in by {sent}")),
            other => panic!("{other:?}"),
        }
        if lines > n + 3 {
            return None;
        }
    };
    shown.both(&error);
    shown.debug(&session);
    let trace = trace.0.lock().unwrap().clone();
    shown.text(&trace);
    (!sent.is_empty()).then_some((sent, Ended { error, shown, trace }))
}

fn reply_of(error: &Error) -> Option<&Reply> {
    match error {
        Error::Refused(refusal) | Error::NotAuthenticated(AuthError::Refused(refusal)) => {
            Some(refusal.reply())
        }
        Error::UnexpectedReply(_, reply) => Some(reply),
        Error::NotAuthenticated(AuthError::Cancelled(_, reply)) => reply.as_ref(),
        Error::NotAuthenticated(AuthError::TokenRefused { reply, .. }) => reply.as_ref(),
        _ => None,
    }
}

#[test]
fn of_sessions() {
    let mut met = 0;
    for code in [250, 334, 421, 454, 500, 504, 535, 600] {
        let one = |text: &str| format!("{code} {text}\r\n");
        let first = |text: &str| format!("{code}-{text}\r\n{code} An innocent line\r\n");
        let last = |text: &str| format!("{code}-An innocent line\r\n{code} {text}\r\n");
        let forms: [&dyn Fn(&str) -> String; 3] = [&one, &first, &last];
        for mechanism in mechanisms() {
            for (initial, n) in [(true, 0), (false, 0), (true, 1), (false, 1)] {
                for (reply, which) in forms.iter().flat_map(|reply| (0..4).map(move |n| (reply, n)))
                {
                    let what = format!("{code} to line {n} of {mechanism}, text {which}");
                    let ended = session(mechanism, initial, n, reply, which);
                    let Some((sent, Ended { error, shown, trace })) = ended else { continue };
                    met += 1;
                    shown.has_none_of(&secrets(&sent), &what);
                    assert!(!trace.contains("innocent"), "{what}: {trace}");
                    assert!(!error.to_string().contains("innocent"), "{what}: {error}");
                    assert!(
                        code == 600 || trace.contains(&format!("S: {code}")),
                        "{what}: {trace}"
                    );
                    if let Some(reply) = reply_of(&error) {
                        assert_eq!(reply.code(), code, "{what}");
                        let kept = matches!(code, 500..=504);
                        assert!(reply.text().is_empty() != kept, "{what}: {error}");
                    }
                }
            }
        }
    }
    assert!(met > 700, "{met}");
}

/// The replies before the end of an exchange are kept as they were said, where they repeat nothing.
#[test]
fn what_repeats_nothing_is_shown() {
    for (code, shown) in [(535, true), (454, true), (550, true), (501, false), (504, false)] {
        let config =
            Config::builder("client.example.com").sasl(config(Mechanism::Plain)).build().unwrap();
        let mut session = Session::new(config.into(), credentials(Mechanism::Plain));
        session.tls_started(Channel::tls());
        let trace = Shown::default();
        let hook = trace.clone();
        session.trace(move |side, line| hook.text(&format!("{side}: {line}")));
        session.receive(b"220 x\r\n");
        let _ = session.next(&mut Vec::new());
        session.receive(b"250-x\r\n250 AUTH PLAIN\r\n");
        let _ = session.next(&mut Vec::new());
        let class = code / 100;
        session.receive(
            format!("{code}-{class}.1.2 Something else\r\n{code} {class}.1.2 is wrong\r\n")
                .as_bytes(),
        );
        let Ok(Event::NotAuthenticated(failed)) = session.next(&mut Vec::new()) else {
            panic!("{code}")
        };
        let error = failed.error().to_string();
        assert_eq!(error.contains("Something else is wrong"), shown, "{error}");
        assert_eq!(error.contains("[text withheld]"), !shown, "{error}");
        let reply = reply_of(&failed.error()).unwrap().clone();
        assert_eq!(reply.text(), "Something else\nis wrong");
        let text = trace.0.lock().unwrap().clone();
        assert_eq!(text.contains("Something else"), shown, "{text}");
        let masked = format!("S: {code}-{class}.1.2 ***\nS: {code} {class}.1.2 ***\n");
        assert_eq!(text.ends_with(&masked), !shown, "{text}");
    }
}

/// Lines of another code before a refusal are not the refusal's, and may repeat what was sent as well.
#[test]
fn no_line_of_a_reply_whose_codes_differ_is_in_the_trace() {
    for code in [220, 235, 250, 334, 454, 500, 550] {
        for (initial, text) in (0..4).flat_map(|text| [(true, text), (false, text)]) {
            let reply = |text: &str| format!("{code}-{text}\r\n535 5.7.8 An innocent line\r\n");
            let what = format!("{code}, text {text}");
            let Some((sent, Ended { error, shown, trace })) =
                session(Mechanism::Plain, initial, 0, &reply, text)
            else {
                panic!("{what}")
            };
            shown.has_none_of(&secrets(&sent), &what);
            assert!(trace.contains("S: 535 5.7.8"), "{trace}");
            assert_eq!(reply_of(&error).unwrap().text(), "An innocent line");
        }
    }
}

/// A server that takes a line for a command says so after its reply to the exchange.
#[test]
fn what_comes_unasked_behind_an_exchange() {
    let sent = STANDARD.encode(format!("\0tim\0{PASSWORD}"));
    let ends: [fn(NotAuthenticated<'_>); 3] =
        [|failed| failed.go_on(), |failed| failed.quit(), |failed| failed.try_next()];
    for ((word, end), behind) in
        ["235 ok", "535 no"].into_iter().flat_map(|word| ends.map(|end| (word, end))).flat_map(
            |ends| repeats(&format!("AUTH PLAIN {sent}")).into_iter().map(move |text| (ends, text)),
        )
    {
        for block in [
            format!("500 {behind}\r\n"),
            format!("501-x\r\n501 {behind}\r\n"),
            format!("250-{behind}\r\n550 no\r\n"),
            format!("{behind}\r\n"),
        ] {
            let config = Config::builder("client.example.com").sasl(config(Mechanism::Plain));
            let credentials = Credentials::password("tim", PASSWORD).unwrap();
            let mut session = Session::new(config.build().unwrap().into(), credentials);
            session.tls_started(Channel::tls());
            let shown = Shown::default();
            let hook = shown.clone();
            session.trace(move |side, line| hook.text(&format!("{side}: {line}")));
            let mut error = None;
            for said in ["220 x\r\n", "250-x\r\n250 AUTH PLAIN\r\n", &format!("{word}\r\n{block}")]
            {
                session.receive(said.as_bytes());
                error = loop {
                    match session.next(&mut Vec::new()) {
                        Ok(Event::NeedInput) => break None,
                        Ok(Event::NotAuthenticated(failed)) => end(failed),
                        Ok(Event::Ready(ready)) => ready.quit(),
                        Ok(other) => panic!("{other:?}"),
                        Err(error) => break Some(error),
                    }
                };
            }
            shown.both(&error.unwrap());
            shown.debug(&session);
            shown.has_none_of(&secrets(&sent), &format!("{word}, then {block}"));
        }
    }
}

/// All lines of a challenge, whichever of them has something in it.
#[test]
fn every_line_of_a_challenge_is_masked() {
    let config =
        Config::builder("client.example.com").sasl(config(Mechanism::ScramSha256)).build().unwrap();
    let mut session = Session::new(config.into(), credentials(Mechanism::ScramSha256));
    session.tls_started(Channel::tls());
    let trace = Shown::default();
    let hook = trace.clone();
    session.trace(move |side, line| hook.text(&format!("{side}: {line}")));
    let mut out = Vec::new();
    for replies in ["220 x\r\n", "250-x\r\n250 AUTH SCRAM-SHA-256\r\n", "334-dj1h\r\n334 dj1i\r\n"]
    {
        session.receive(replies.as_bytes());
        let _ = session.next(&mut out);
    }
    let trace = trace.0.lock().unwrap().clone();
    assert!(trace.contains("S: 334-***\nS: 334 ***\n"), "{trace}");
}

/// A reply to an AUTH exchange, and what its failure shows: the same, as it came or as code and lines.
fn exchange(password: &str, block: &[u8]) -> (auth::client::Failure, String) {
    let reply = ReplyRef::parse(block).unwrap();
    let lines: Vec<_> = reply.lines().collect();
    let ended = ended(password, reply);
    assert_eq!(ended, self::ended(password, ReplyRef::from_lines(reply.code(), &lines).unwrap()));
    ended
}

fn ended(password: &str, reply: ReplyRef<'_>) -> (auth::client::Failure, String) {
    let mut exchange = auth::client::Exchange::new(
        &config(Mechanism::Plain),
        &Channel::tls(),
        Mechanism::Plain,
        Credentials::password("tim", password).unwrap(),
    );
    let mut out = Vec::new();
    let auth::client::Step::NeedReply(slot) = exchange.step(&mut out) else { panic!() };
    let shown = Shown::default();
    shown.debug(&reply);
    slot.reply(reply);
    shown.debug(&exchange);
    let auth::client::Step::Done(Err(failure)) = exchange.step(&mut out) else { panic!() };
    shown.both(failure);
    let shown = shown.0.lock().unwrap().clone();
    (failure.clone(), shown)
}

#[test]
fn of_auth_exchanges() {
    for code in [250, 421, 454, 500, 501, 502, 503, 504, 535, 550] {
        for text in
            repeats(&format!("AUTH PLAIN {}", STANDARD.encode(format!("\0tim\0{PASSWORD}"))))
        {
            let (_, shown) = exchange(PASSWORD, format!("{code} {text}\r\n").as_bytes());
            let sent = secrets(&STANDARD.encode(format!("\0tim\0{PASSWORD}")));
            for secret in sent {
                assert!(!shown.contains(&secret), "{code}: {secret} in {shown}");
            }
            assert!(shown.contains(&code.to_string()));
        }
    }
}

/// Eight octets, and not seven; in the place where they are, and not over the ends of two.
#[test]
fn a_run_of_eight() {
    for (text, shown) in
        [("1234567", true), ("12345678", false), ("x23456789x", false), ("1234567-345678", true)]
    {
        let (failure, text_shown) = exchange("123456789", format!("535 {text}\r\n").as_bytes());
        assert_eq!(text_shown.contains(text), shown, "{text}: {text_shown}");
        let auth::client::Failure::Refused { reply, .. } = failure else { panic!("{failure:?}") };
        assert_eq!(reply.text(), if shown { text } else { "" });
    }
    // A shorter password is found by its encoded form alone, and in the replies that repeat a command.
    for (text, shown) in [("AHRpbQBhYmM=", false), ("abc", true)] {
        let (_, text_shown) = exchange("abc", format!("535 no {text}\r\n").as_bytes());
        assert_eq!(text_shown.contains(text), shown, "{text}: {text_shown}");
        let (_, text_shown) = exchange("abc", format!("501 no {text}\r\n").as_bytes());
        assert!(!text_shown.contains(&format!("no {text}")), "{text_shown}");
    }
}

/// The longest reply to the longest response, with every run but the last octet alike.
#[test]
fn the_search_takes_linear_time() {
    let password: String = ('a'..='z').cycle().take(9000).collect();
    let almost: String = "abcdefg-".chars().cycle().take(8000).collect();
    let block: String =
        (0..7).map(|_| format!("535-{almost}\r\n")).chain(["535 x\r\n".into()]).collect();
    let start = Instant::now();
    let (_, shown) = exchange(&password, block.as_bytes());
    assert!(shown.contains("abcdefg-"));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}
