//! curl.

use super::*;

#[test]
fn curl_signs_in_and_sends() {
    if !present("curl", runs("curl", &["--version"])) {
        return;
    }
    let server = Server::start();
    for mechanism in MECHANISMS {
        for ir in [&[][..], &["--sasl-ir"]] {
            let curl = |password: &str| {
                let login = ["--user", &format!("tim:{password}"), "--login-options"];
                curl(&server, [&login[..], &[&format!("AUTH={mechanism}")], ir].concat())
            };
            let output = curl(PASSWORD);
            assert!(output.status.success(), "{mechanism}: {}", said(&output));
            server.assert_delivered(mechanism);
            assert_curl_refused(&server, mechanism, &curl("wrong"));
        }
    }
}

/// Sends the message, signed in by what the arguments say.
fn curl<A: AsRef<OsStr>>(server: &Server, login: impl IntoIterator<Item = A>) -> Output {
    Command::new("curl")
        .args(["--silent", "--verbose", "--ssl-reqd", "--max-time", "30", "--cacert"])
        .arg(server.certificate())
        .args(["--url", &format!("smtp://localhost:{}", server.port), "--upload-file"])
        .arg(server.file())
        .args(["--mail-from", "tim@example.org", "--mail-rcpt", "ann@example.org"])
        .args(login)
        .output()
        .unwrap()
}

fn assert_curl_refused(server: &Server, by: &str, output: &Output) {
    assert_eq!(output.status.code(), Some(67), "{by}: {}", said(output));
    assert!(said(output).contains("< 535 5.7.8"), "{by}: {}", said(output));
    assert!(server.message().is_none(), "{by}");
}

#[test]
fn curl_signs_in_by_a_token() {
    if !present("curl", runs("curl", &["--version"])) {
        return;
    }
    // With a token it adds to `AUTH=XOAUTH2` what it prefers to that, so it is offered nothing else.
    for (mechanism, options) in
        [("OAUTHBEARER", &[][..]), ("XOAUTH2", &["--mechanisms", "XOAUTH2,PLAIN"])]
    {
        let server = Server::start_with(options);
        for ir in [&[][..], &["--sasl-ir"]] {
            let curl = |user: &str, token: &str| {
                let login = ["--user", user, "--oauth2-bearer", token, "--login-options"];
                curl(&server, [&login[..], &[&format!("AUTH={mechanism}")], ir].concat())
            };
            let output = curl("tim:", TOKEN);
            assert!(output.status.success(), "{mechanism}: {}", said(&output));
            let auth = format!("> AUTH {mechanism}");
            assert!(said(&output).contains(&auth), "{mechanism}: {}", said(&output));
            server.assert_delivered(mechanism);
            // Another's token opens no account but its own.
            for (user, token) in [("tim:", "wrong"), ("tim:", ANNS_TOKEN), ("nobody:", TOKEN)] {
                let output = curl(user, token);
                // {"status":"invalid_token"}
                let error = "< 334 eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=";
                assert!(said(&output).contains(error), "{mechanism}: {}", said(&output));
                assert_eq!(output.status.code(), Some(67), "{mechanism}: {}", said(&output));
                // Of XOAUTH2 it does not wait for the end.
                let whole = said(&output).contains("< 535 5.7.8");
                assert_eq!(whole, mechanism == "OAUTHBEARER", "{}", said(&output));
                assert!(server.message().is_none(), "{mechanism}");
            }
        }
    }
}

#[test]
fn curl_signs_in_by_its_certificate() {
    if !present("curl", runs("curl", &["--version"])) {
        return;
    }
    let server = Server::start();
    let curl = |user: &str, pair: Option<&Pair>| {
        let mut arguments = vec!["--user".into(), user.into()];
        arguments.extend(["--login-options", "AUTH=EXTERNAL", "--sasl-ir"].map(PathBuf::from));
        if let Some(Pair { cert, key }) = pair {
            arguments.extend(["--cert".into(), cert.clone(), "--key".into(), key.clone()]);
        }
        curl(&server, arguments)
    };
    let (tim, mail) = (server.client("tim", &[]), server.client("x", &["ann@example.org"]));
    for (user, pair) in [(":", &tim), ("tim:", &tim), (":", &mail), ("ann@example.org:", &mail)] {
        let output = curl(user, Some(pair));
        assert!(output.status.success(), "{user} {}", said(&output));
        server.assert_delivered("EXTERNAL");
    }
    assert_curl_refused(&server, "another account", &curl("ann:", Some(&tim)));
    let nobody = server.client("nobody", &[]);
    assert_curl_refused(&server, "no account", &curl(":", Some(&nobody)));
    // The handshake ends it.
    let output = curl("tim:", Some(&server.stranger()));
    assert!(said(&output).contains("unknown ca"), "{}", said(&output));
    assert!(server.message().is_none());
    // EXTERNAL is not offered.
    let output = curl("tim:", None);
    assert_eq!(output.status.code(), Some(67), "{}", said(&output));
    assert!(!said(&output).contains("EXTERNAL"), "{}", said(&output));
}
