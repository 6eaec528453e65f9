//! No secret is shown.

use super::*;

/// The forms in which a secret could be seen.
fn forms(secret: &str) -> Vec<String> {
    let of = |text: &str| {
        let decimals = format!("{:?}", text.as_bytes());
        [text.to_owned(), decimals.trim_matches(['[', ']']).to_owned()]
    };
    of(secret).into_iter().chain(of(&base64(secret.as_bytes()))).collect()
}

#[track_caller]
fn hides(shown: &impl Debug, secrets: &[String]) {
    let (shown, pretty) = (format!("{shown:?}"), format!("{shown:#?}"));
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} in {shown}");
        assert!(!pretty.contains(secret), "{secret} in {pretty}");
    }
}

#[test]
fn no_secret_is_shown_by_a_server() {
    let cram = cram_response();
    assert_eq!(base64(format!("tim {PASSWORD}").as_bytes()), "dGltIFBhNTV3MHJkLXp5eHc=");
    let plain = format!("\0tim\0{PASSWORD}");
    let mut secrets = [forms(PASSWORD), forms(&plain)].concat();
    secrets.push(cram.clone());
    let lines = [
        "EHLO x".to_owned(),
        format!("AUTH PLAIN {}", base64(plain.as_bytes())),
        "AUTH PLAIN".into(),
        base64(plain.as_bytes()),
        "AUTH LOGIN".into(),
        "dGlt".into(),
        base64(PASSWORD.as_bytes()),
        "AUTH CRAM-MD5".into(),
        cram,
        // Out of step: behind what was refused comes what was meant as a response.
        "AUTH PLAIN x y".into(),
        base64(plain.as_bytes()),
        base64(PASSWORD.as_bytes()),
        PASSWORD.into(),
        format!("AUTH PLAIN {PASSWORD} {PASSWORD}"),
        format!("{PASSWORD}\n"),
    ];
    let mut session =
        server::Session::new(server_builder().max_attempts(99).build().unwrap().into());
    session.tls_started(Channel::tls());
    let trace = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&trace);
    session.trace(move |side, line| hook.lock().unwrap().push(format!("{side}: {line}")));
    let mut out = Vec::new();
    for line in lines {
        session.receive(format!("{line}\r\n").as_bytes());
        loop {
            let event = session.next(&mut out);
            hides(&event, &secrets);
            match event {
                server::Event::NeedInput => break,
                server::Event::Query(query) => {
                    let secret = CramSecret::from_password(PASSWORD);
                    hides(&secret, &secrets);
                    match query {
                        Query::CramSecret(ask) => ask.answer(Answer::accept(secret)),
                        other => other.reject(),
                    }
                }
                server::Event::AuthFailed(failure) => {
                    let words = failure.to_string();
                    assert!(!secrets.iter().any(|secret| words.contains(secret)), "{words}");
                }
                server::Event::Command(_, ask) => ask.reply(Reply::UNRECOGNIZED),
                _ => {}
            }
        }
        hides(&session, &secrets);
    }
    assert!(session.identity().is_some());
    let said = String::from_utf8(out).unwrap();
    let trace = trace.lock().unwrap();
    assert!(trace.len() > 30);
    for secret in &secrets {
        assert!(!said.contains(secret));
        let found = trace.iter().find(|line| line.contains(secret));
        assert_eq!(found, None, "{trace:#?}");
    }
}

#[test]
fn no_secret_is_shown_by_a_client() {
    let plain = format!("\0tim\0{PASSWORD}");
    let secrets = [forms(PASSWORD), forms(&plain), vec![cram_response()]].concat();
    let config = Arc::new(client_config());
    let mut session = client::Session::new(Arc::clone(&config), tim());
    session.tls_started(Channel::tls());
    hides(&tim(), &secrets);
    hides(&config, &secrets);
    let trace = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&trace);
    session.trace(move |side, line| hook.lock().unwrap().push(format!("{side}: {line}")));
    let challenge = base64(format!("<{NONCE}@smtp.example.com>").as_bytes());
    let (mut out, mut retried) = (Vec::new(), false);
    for reply in [
        "220 x",
        "250-x\r\n250 AUTH CRAM-MD5 PLAIN LOGIN",
        &format!("334 {challenge}"),
        "534 x",
        "504 x",
        "334 VXNlcm5hbWU6",
        "334 UGFzc3dvcmQ6",
        "535 5.7.8 x",
        "334 !",
        "501 x",
        "235 x",
    ] {
        session.receive(format!("{reply}\r\n").as_bytes());
        loop {
            hides(&session, &secrets);
            let event = session.next(&mut out);
            hides(&event, &secrets);
            match event {
                Ok(client::Event::NeedInput) => break,
                Ok(client::Event::NotAuthenticated(failed)) => {
                    hides(&failed.error(), &secrets);
                    assert!(!std::mem::replace(&mut retried, true));
                    failed.retry(tim());
                }
                Ok(client::Event::Ready(_)) => break,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(session.authenticated().is_some());
    let said = String::from_utf8(out).unwrap();
    assert!(said.contains(&cram_response()) && said.contains(&base64(plain.as_bytes())));
    for secret in &secrets {
        let trace = trace.lock().unwrap();
        let found = trace.iter().find(|line| line.contains(secret));
        assert_eq!(found, None, "{trace:#?}");
    }
}
