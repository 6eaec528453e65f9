//! A token that is refused is one attempt.

use super::*;

/// Takes no token.
struct NoToken;

impl Authenticator for NoToken {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::OauthBearer, Mechanism::Xoauth2]
    }

    fn check_token(&self, _: &CheckToken) -> TokenAnswer {
        TokenAnswer::Reject
    }
}

/// It is counted before the client is told why, and once, whatever that then says.
#[test]
fn a_refused_token_is_one_attempt() {
    let server = config(None);
    let responses: [Option<&[u8]>; 4] = [Some(b""), Some(b"\x01"), None, Some(b"something else")];
    for mechanism in [Mechanism::OauthBearer, Mechanism::Xoauth2] {
        for sent in ["abc", ""] {
            for response in responses {
                let seen =
                    token(&server, &NoToken, mechanism, sent, |_| response.map(<[u8]>::to_vec));
                assert_eq!(seen.pauses, [Duration::from_secs(1)], "{mechanism} {seen:?}");
                assert!(seen.why.is_some_and(Failure::is_attempt));
                // XOAUTH2 has no question for an empty one.
                let told = sent.is_empty() && mechanism == Mechanism::Xoauth2;
                assert_eq!(seen.replies.len(), if told { 1 } else { 2 }, "{seen:?}");
            }
            let mut session = Session::new(Arc::clone(&server));
            session.tls_started(Channel::tls());
            let line = match mechanism {
                Mechanism::OauthBearer => format!("n,,\u{1}auth=Bearer {sent}\u{1}\u{1}"),
                _ => format!("user=tim\u{1}auth=Bearer {sent}\u{1}\u{1}"),
            };
            let line = format!("EHLO c\r\nAUTH {mechanism} {}\r\n", STANDARD.encode(line));
            session.receive(line.as_bytes());
            // Before the client has been sent anything, and so before it can hang up.
            let mut out = Vec::new();
            loop {
                match session.next(&mut out) {
                    Event::Query(query) => query.answer_with(&NoToken),
                    Event::AuthFailed(failed) => break assert_eq!(failed.attempts, 1),
                    Event::NeedInput => panic!("{mechanism} {sent:?}: the client is told first"),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn refused_tokens_use_up_a_connections_attempts() {
    let sasl = sasl::server::Config::builder("mail.example.org");
    let sasl = sasl.mechanisms([Mechanism::Xoauth2]).build().unwrap();
    let config = Config::builder("mail.example.org").sasl(sasl).max_attempts(3).build().unwrap();
    let mut session = Session::new(config.into());
    session.tls_started(Channel::tls());
    let first = STANDARD.encode("user=tim\u{1}auth=Bearer abc\u{1}\u{1}");
    session.receive(b"EHLO c\r\n");
    (0..9).for_each(|_| session.receive(format!("AUTH XOAUTH2 {first}\r\n*\r\n").as_bytes()));
    let (mut out, mut attempts) = (Vec::new(), Vec::new());
    loop {
        match session.next(&mut out) {
            Event::Query(query) => query.answer_with(&NoToken),
            Event::AuthFailed(failed) => attempts.push(failed.attempts),
            Event::Close => break,
            Event::NeedInput => panic!("{attempts:?}"),
            _ => {}
        }
    }
    assert_eq!(attempts, [1, 2, 3]);
    let out = String::from_utf8(out).unwrap();
    assert!(out.lines().last().unwrap().starts_with("421 4.7.0 "), "{out}");
}
