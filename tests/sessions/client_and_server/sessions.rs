//! Whole sessions.

use super::*;

#[test]
fn sessions() {
    for &mechanism in MECHANISMS {
        for (credentials, who, why, code) in rows(mechanism) {
            for step in [usize::MAX, 1, 7] {
                let mut pair = Pair::inside_tls(
                    only(mechanism),
                    credentials.clone(),
                    server::Config::builder("mail.example.org")
                        .sasl(sasl_config())
                        .build()
                        .unwrap(),
                );
                pair.step = step;
                pair.run(&Users);
                let mut expected = vec!["hello client.example.com".to_owned()];
                if let Some((authcid, authzid)) = who {
                    let acts_as = authzid.unwrap_or(authcid);
                    expected.push(format!("{authcid} signed in as {acts_as}"));
                    assert_eq!(pair.client.authenticated(), Some(mechanism));
                    assert_eq!(pair.server.identity().unwrap().mechanism(), mechanism);
                }
                if let Some(why) = why {
                    assert_eq!(code, 535);
                    expected.push(format!("{why:?}"));
                    let refused = if mechanism.takes_token() {
                        "the access token: it may have expired, lack a scope, or belong to another user"
                    } else {
                        "the user name, password or certificate"
                    };
                    let reply = auth::server::reply_to(why);
                    // It stands where SCRAM's server would have proven itself.
                    let unproven = match mechanism.name().starts_with("SCRAM-") {
                        true => " (this text comes from a server that has not proven its identity)",
                        false => "",
                    };
                    let told = format!("client: the server refused {refused}: {reply}{unproven}");
                    expected.push(told);
                    assert_eq!(pair.client.authenticated(), None);
                    assert_eq!(pair.server.identity(), None);
                }
                expected.push("closes".into());
                assert_eq!(pair.seen, expected);
            }
        }
    }
}

#[test]
fn a_verified_server_has_proven_itself_where_it_refuses_scram() {
    for (channel, is_unproven) in [(channel(), true), (channel().verified(), false)] {
        let wrong = Credentials::password("Ursel", "wrong").unwrap();
        let mut pair = Pair::inside_tls(only(Mechanism::ScramSha256), wrong, server_config());
        pair.client.tls_started(channel);
        pair.run(&Users);
        let told = pair.seen.iter().find(|seen| seen.starts_with("client: ")).unwrap();
        assert_eq!(told.contains("has not proven its identity"), is_unproven, "{told}");
    }
}

#[test]
fn answers_that_are_no_yes_and_no_no() {
    for (answer, why, code) in [
        (Answer::temp_fail(), Failure::TempFail, 454),
        (Answer::too_weak(), Failure::TooWeak, 534),
        (Answer::transition_needed(), Failure::TransitionNeeded, 432),
    ] {
        for &mechanism in MECHANISMS {
            let (why, code) = match mechanism {
                Mechanism::Plain | Mechanism::Login => (why, code),
                _ => (Failure::TempFail, 454),
            };
            let mut pair = Pair::inside_tls(only(mechanism), good(mechanism), server_config());
            pair.run(&Broken(answer.clone()));
            assert_eq!(pair.seen[1], format!("{why:?}"));
            let reply = auth::server::reply_to(why);
            assert_eq!(reply.code(), code);
            assert!(pair.seen[2].ends_with(&format!(": {reply}")), "{}", pair.seen[2]);
        }
    }
    let mut pair = Pair::inside_tls(only(Mechanism::Plain), kurt_as("Ursel"), server_config());
    pair.run(&Broken(Answer::accept(())));
    assert_eq!(pair.seen[1], "TempFail");
}

#[test]
fn starttls_then_two_messages() {
    let first = b".\r\n..\r\n.a dot, \xc3\xa9, \x80\xff\0\r\n\r\n.".to_vec();
    let envelope = |to: &[&str]| client::Envelope::new(Some("tim@example.org"), to.to_vec());
    for step in [usize::MAX, 1, 3] {
        let config = server::Config::builder("mail.example.org")
            .sasl(sasl_config())
            .starttls(StartTls::Offered)
            .build()
            .unwrap();
        let client = client::Config::builder("client.example.com")
            .sasl(sasl_client().build().unwrap())
            .build()
            .unwrap();
        let mut pair = Pair::new(
            client::Session::new(client.into(), tim()),
            server::Session::new(config.into()),
        );
        pair.step = step;
        let submitter = MailAuth::new("e=mc2@example.com").unwrap();
        let two = envelope(&["refused@example.org", "b@example.org"]).unwrap();
        pair.mail = vec![
            (two.body(client::BodyType::EightBitMime).size(40).auth(&submitter), first.clone()),
            (envelope(&["c@example.org"]).unwrap(), b"two\r\n".to_vec()),
            (envelope(&["refused@example.org"]).unwrap(), b"three\r\n".to_vec()),
        ];
        pair.run(&Users);
        let expected = [
            "hello client.example.com",
            "TLS",
            "hello client.example.com",
            "tim signed in as tim",
            "client: refused@example.org: 550",
            &format!("message {}\\r\\n", first.escape_ascii()),
            "client: sent to some",
            "message two\\r\\n",
            "client: sent to all",
            "client: refused@example.org: 550",
            "reset",
            "client: sent to none",
            "closes",
        ];
        assert_eq!(pair.seen, expected);
        assert!(pair.client.channel().is_tls() && pair.server.channel().is_tls());
        assert!(matches!(pair.client.eof(), Ok(())));
    }
}
