//! What a client must not believe.

use super::*;

/// Where the client's exchange stands after the server has said that.
fn client_after(challenges: &[&str], config: &client::Config) -> Result<(), client::Failure> {
    let credentials = Credentials::password("user", "pencil").unwrap();
    let mechanism = Mechanism::ScramSha256;
    let mut exchange = client::Exchange::new(config, &Channel::tls(), mechanism, credentials);
    for challenge in challenges {
        match exchange.step() {
            client::Step::Response(response) if *challenge == "success" => response.success(),
            client::Step::Response(response) if *challenge == "undecodable" => {
                response.undecodable();
            }
            client::Step::Response(response) => response.challenge(*challenge),
            other @ (client::Step::Derive(_) | client::Step::Custom(_)) => panic!("{other:?}"),
            client::Step::Done(outcome) => return outcome,
        }
        if let client::Step::Derive(derive) = exchange.step() {
            derive.run();
        }
    }
    match exchange.step() {
        client::Step::Done(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_believes_only_a_server_that_proves_itself() {
    let nonce = || Nonce::new("rOprNGfwEbeRWgbNEkqO");
    let config = client::Config::builder().nonces(nonce).build().unwrap();
    let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let last = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    let not_authentic = Err(client::Failure::ServerNotAuthentic);
    for (challenges, expected) in [
        (&[first, last, "success"][..], Ok(())),
        (&[first, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="], not_authentic),
        (&[first, "v="], not_authentic),
        (&[first, "success"], not_authentic),
        (&["success"], not_authentic),
        (
            &[first, "e=invalid-proof"],
            Err(client::Failure::ServerError("the user name or password is wrong")),
        ),
        (
            &[first, "e=other-error"],
            Err(client::Failure::ServerError("the server does not say which error")),
        ),
        (&[first, last, "more"], Err(client::Failure::MalformedServerMessage)),
        (&["r=rOprNGfwEbeRWgbNEkqO,s=c2FsdA==,i=4096"], not_authentic),
        (&["r=another,s=c2FsdA==,i=4096"], not_authentic),
        (
            &["r=rOprNGfwEbeRWgbNEkqO x,s=c2FsdA==,i=4096"],
            Err(client::Failure::MalformedServerMessage),
        ),
        (
            &["r=rOprNGfwEbeRWgbNEkqO\0,s=c2FsdA==,i=4096"],
            Err(client::Failure::MalformedServerMessage),
        ),
        (
            &["r=rOprNGfwEbeRWgbNEkqOé,s=c2FsdA==,i=4096"],
            Err(client::Failure::MalformedServerMessage),
        ),
        (&["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=4095"], Err(client::Failure::Iterations(4095))),
        (
            &["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=600001"],
            Err(client::Failure::Iterations(600_001)),
        ),
        (
            &["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=4294967296"],
            Err(client::Failure::Iterations(u32::MAX)),
        ),
        (&["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=0"], Err(client::Failure::Iterations(0))),
        (&[first, "undecodable"], not_authentic),
        (&[first, "\u{fffd}"], not_authentic),
        (&["undecodable"], Err(client::Failure::MalformedServerMessage)),
        (&["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i="], Err(client::Failure::MalformedServerMessage)),
        (
            &["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=04096"],
            Err(client::Failure::MalformedServerMessage),
        ),
        (&["r=rOprNGfwEbeRWgbNEkqOx,i=4096"], Err(client::Failure::MalformedServerMessage)),
        (
            &["m=x,r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=4096"],
            Err(client::Failure::MalformedServerMessage),
        ),
    ] {
        assert_eq!(client_after(challenges, &config), expected, "{challenges:?}");
        // Or an impostor would get the password by PLAIN.
        assert!(!expected.is_err_and(|failure| failure.may_try_next()), "{challenges:?}");
    }
}

/// The end of an AUTH exchange in which the server says all this, and whether it had its proof to send before
/// the last of it.
fn auth_after(replies: &[String]) -> (auth::client::Failure, bool) {
    let config =
        client::Config::builder().nonces(|| Nonce::new("rOprNGfwEbeRWgbNEkqO")).build().unwrap();
    let credentials = Credentials::password("user", "pencil").unwrap();
    let choice = Mechanism::ScramSha256;
    let mut exchange = auth::client::Exchange::new(&config, &Channel::tls(), choice, credentials);
    let (mut replies, mut owed) = (replies.iter(), false);
    loop {
        match exchange.step(&mut Vec::new()) {
            auth::client::Step::NeedReply(_) => {
                owed = exchange.awaits_proof();
                let auth::client::Step::NeedReply(slot) = exchange.step(&mut Vec::new()) else {
                    panic!()
                };
                slot.reply(ReplyRef::parse(replies.next().unwrap().as_bytes()).unwrap());
            }
            auth::client::Step::Derive(derive) => derive.run(),
            auth::client::Step::Custom(_) => panic!(),
            auth::client::Step::Done(end) => return (end.unwrap_err().clone(), owed),
        }
    }
}

#[test]
fn a_failure_tells_whether_the_password_may_go_by_another_mechanism() {
    let challenge = |text: &str| format!("334 {}\r\n", STANDARD.encode(text));
    let first = challenge(
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    );
    let last = challenge("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    let few = challenge("r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=1");
    for code in ["435", "454", "500", "501", "504", "534", "535", "538", "550"] {
        let refusal = format!("{code} no\r\n");
        let all = |said: &[&String]| said.iter().map(|said| (*said).clone()).collect::<Vec<_>>();
        for (replies, owed, may) in [
            // The command itself.
            (all(&[&refusal]), false, true),
            (all(&[&first, &refusal]), true, false),
            (all(&[&first, &last, &refusal]), false, false),
            (all(&[&few, &refusal]), false, false),
            (all(&[&challenge("x"), &refusal]), false, false),
            (all(&[&"334 x\r\n".to_owned(), &refusal]), false, false),
        ] {
            let (failure, was_owed) = auth_after(&replies);
            assert_eq!((was_owed, failure.may_try_next()), (owed, may), "{replies:?}: {failure:?}");
        }
    }
    // Who closes, and what is out of step.
    for replies in [
        &["421 bye\r\n"][..],
        &["235-ok\r\n504 no\r\n"],
        &["250 ok\r\n"],
        &["235 ok\r\n"],
        &[&few, "235 ok\r\n"],
    ] {
        let replies: Vec<_> = replies.iter().map(|&said| said.to_owned()).collect();
        assert!(!auth_after(&replies).0.may_try_next(), "{replies:?}");
    }
    for said in ["250 ok\r\n", "354 ok\r\n", "235 ok\r\n"] {
        let impostor = auth::client::Failure::FalseSuccess(client::Failure::ServerNotAuthentic);
        assert_eq!(auth_after(&[first.clone(), said.into()]), (impostor, true), "{said}");
    }
}

#[test]
fn a_caller_sets_the_bounds_of_the_iterations() {
    let nonce = || Nonce::new("rOprNGfwEbeRWgbNEkqO");
    let config =
        client::Config::builder().nonces(nonce).scram_iterations(5000, 5001).build().unwrap();
    for (iterations, refused) in [(4999, true), (5000, false), (5001, false), (5002, true)] {
        let first = format!("r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i={iterations}");
        // Behind what is taken, success alone is not believed.
        let expected = match refused {
            true => client::Failure::Iterations(iterations),
            false => client::Failure::ServerNotAuthentic,
        };
        assert_eq!(client_after(&[&first, "success"], &config), Err(expected));
    }
}

#[test]
fn no_nonce_comes_twice() {
    let of_server = Arc::new(
        server::Config::builder("smtp.example.com")
            .mechanisms(Mechanism::COMPILED)
            .build()
            .unwrap(),
    );
    let of_client = client::Config::default();
    let mut nonces = std::collections::HashSet::new();
    for _ in 0..50 {
        let mechanism = Mechanism::CramMd5;
        let mut exchange = server::Exchange::new(&of_server, &Channel::tls(), mechanism, None);
        let server::Step::Challenge(challenge) = exchange.step() else { panic!() };
        let challenge = String::from_utf8(challenge.data().to_vec()).unwrap();
        let nonce = challenge.strip_prefix('<').unwrap().strip_suffix("@smtp.example.com>");
        nonces.insert(nonce.unwrap().to_owned());

        let (first, _) = server_first(&of_server, "user", false);
        nonces.insert(first.split(',').next().unwrap().strip_prefix("r=abc").unwrap().to_owned());

        let credentials = Credentials::password("user", "pencil").unwrap();
        let choice = Mechanism::ScramSha256;
        let mut exchange = client::Exchange::new(&of_client, &Channel::tls(), choice, credentials);
        let first = String::from_utf8(response(&mut exchange).data().unwrap().to_vec()).unwrap();
        nonces.insert(first.rsplit_once(",r=").unwrap().1.to_owned());
    }
    assert_eq!(nonces.len(), 150);
    // 128 bits, as hexadecimal digits.
    assert!(nonces.iter().all(|nonce| nonce.len() == 32), "{nonces:?}");
}
