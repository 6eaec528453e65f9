//! The example client beside the example server.

use super::*;

#[test]
fn the_client_binds_to_the_channel_as_it_is_told() {
    for (ours, theirs, expected) in [
        ("preferred", "preferred", Some("SCRAM-SHA-512-PLUS")),
        ("preferred", "required", Some("SCRAM-SHA-512-PLUS")),
        ("required", "required", Some("SCRAM-SHA-512-PLUS")),
        ("required", "preferred", Some("SCRAM-SHA-512-PLUS")),
        ("none", "none", Some("SCRAM-SHA-512")),
        ("none", "preferred", Some("SCRAM-SHA-512")),
        ("preferred", "none", Some("SCRAM-SHA-512")),
        ("required", "none", None),
        ("none", "required", None),
    ] {
        let server = Server::start_with(&["--channel-binding", theirs]);
        let output = client(&server, TIM.iter().chain(&["--channel-binding", ours]));
        let why = "a sign-in bound to the TLS connection is required";
        match expected {
            Some(mechanism) => assert_sent(&server, mechanism, &output),
            None => assert_fails(&server, 4, why, &output),
        }
        let wrong = ["--user", "tim", "--password", "wrong", "--channel-binding", ours];
        if expected.is_some() {
            let why = "the server refused the user name, password or certificate: 535 5.7.8";
            assert_fails(&server, 4, why, &client(&server, wrong));
        }
    }
}

/// As under STARTTLS.
#[test]
fn implicit_tls_binds_and_shows_certificates_too() {
    let mut server = Server::start_with(&["--listen-tls", "127.0.0.1:0"]);
    // TLS comes first there.
    server.port = server.tls_port.unwrap();
    let bound = ["--tls", "implicit", "--channel-binding", "required"];
    let output = client(&server, TIM.iter().chain(&bound));
    assert_sent(&server, "SCRAM-SHA-512-PLUS", &output);
    let Pair { cert, key } = server.client("tim", &[]);
    let shown = ["--tls", "implicit", "--cert", cert.to_str().unwrap(), "--key"];
    let output = client(&server, shown.into_iter().chain(key.to_str()));
    assert_sent(&server, "EXTERNAL", &output);
}

#[test]
fn the_client_signs_in_by_a_token() {
    let server = Server::start();
    let file = server.folder.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    for source in [
        ["--token", TOKEN],
        ["--token-env", "PEERS_TOKEN"],
        ["--token-file", file.to_str().unwrap()],
    ] {
        let output = client(&server, ["--user", "tim"].into_iter().chain(source));
        assert_sent(&server, "OAUTHBEARER", &output);
        assert!(!said(&output).contains(TOKEN), "{}", said(&output));
    }
    let login = ["--user", "tim", "--mechanism", "XOAUTH2", "--token"];
    assert_sent(&server, "XOAUTH2", &client(&server, [&login[..], &[TOKEN]].concat()));
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        for (user, token, authzid) in [
            ("tim", "wrong", "tim"),
            ("tim", ANNS_TOKEN, "tim"),
            ("ann@example.org", TOKEN, "ann@example.org"),
            ("tim", TOKEN, "ann@example.org"),
        ] {
            let login = ["--user", user, "--token", token, "--authzid", authzid];
            let output = client(&server, login.into_iter().chain(["--mechanism", mechanism]));
            assert_fails(&server, 4, "the server refused the access token", &output);
            let json =
                "\nclient: the server's error for the token: {\"status\":\"invalid_token\"}\n";
            assert!(said(&output).contains(json), "{}", said(&output));
        }
    }
    // Without tokens these are not on offer.
    let server = Server::start_with(&["--mechanisms", "PLAIN"]);
    let output = client(&server, ["--user", "tim", "--token", TOKEN]);
    assert_fails(&server, 4, "the server takes other credentials", &output);
}

#[test]
fn the_client_signs_in_by_its_certificate() {
    let server = Server::start();
    let client = |Pair { cert, key }: &Pair, more: &[&str]| {
        let files = [OsStr::new("--cert"), cert.as_ref(), OsStr::new("--key"), key.as_ref()];
        client(&server, files.into_iter().chain(more.iter().map(OsStr::new)))
    };
    let tim = server.client("tim", &[]);
    let mail = server.client("tim", &["ann@example.org", "tim@example.org"]);
    assert_sent(&server, "EXTERNAL", &client(&tim, &[]));
    assert_sent(&server, "EXTERNAL", &client(&tim, &["--authzid", "tim"]));
    // The first mail address comes before the subject.
    assert_sent(&server, "EXTERNAL", &client(&mail, &["--authzid", "ann@example.org"]));
    // A password is what is signed in by, where there is one.
    assert_sent(&server, "SCRAM-SHA-512-PLUS", &client(&tim, &TIM));

    let refused = "the server refused";
    assert_fails(&server, 4, refused, &client(&mail, &["--authzid", "tim"]));
    assert_fails(&server, 4, refused, &client(&tim, &["--authzid", "ann"]));
    assert_fails(&server, 4, refused, &client(&server.client("nobody", &[]), &[]));
    for no_name in [server.client("", &[]), server.client("a\tb", &[])] {
        assert_fails(&server, 4, "the server takes other credentials", &client(&no_name, &[]));
    }
    let not_taken = "the connection broke: the server refused this client's certificate, or \
        requires one and was sent none\n";
    assert_fails(&server, 3, not_taken, &client(&server.stranger(), &[]));
    let mixed = Pair { cert: tim.cert.clone(), key: mail.key.clone() };
    assert_fails(&server, 2, "the client's certificate and key", &client(&mixed, &[]));
}

#[test]
fn a_guest_may_come_in_and_send_nothing() {
    let server = Server::start_with(&["--mechanisms", "ANONYMOUS,PLAIN"]);
    let anonymous = ["--mechanism", "anonymous"];
    for trace in [&[][..], &["--user", "tim@example.org"], &["--user", "tim"]] {
        let output = client(&server, anonymous.iter().chain(trace));
        assert!(said(&output).contains("S: 235 2.7.0"), "{}", said(&output));
        let why = "the server refused the sender's address (MAIL): 530 5.7.0";
        assert_fails(&server, 5, why, &output);
    }
    // An account may have the name that guests get.
    let account = ["--user", "anonymous", "--password", ASCII_PASSWORD];
    assert_sent(&server, "PLAIN", &client(&server, account));
    // Never unless it is asked for by name.
    let server = Server::start_with(&["--mechanisms", "ANONYMOUS"]);
    let output = client(&server, TIM);
    assert!(!said(&output).contains("C: AUTH"), "{}", said(&output));
    assert_fails(&server, 4, "the server", &output);
    let server = Server::start();
    assert_fails(&server, 4, "the server offers no way to sign in", &client(&server, anonymous));
}

#[test]
fn the_client_wants_one_way_to_sign_in() {
    let server = Server::start();
    let files = ["--cert", "x.pem", "--key", "x.key"];
    for login in [
        &["--user", "tim"][..],
        &["--password", "x"],
        &["--user", "tim", "--password", "x", "--token", "x"],
        &["--user", "tim", "--token", "x", "--token-file", "x"],
        &["--user", "tim", "--token", "no token"],
        &["--user", "tim", "--token", "x", "--mechanism", "PLAIN"],
        &["--user", "tim", "--password", "x", "--mechanism", "XOAUTH2"],
        &["--user", "tim", "--password", "x", "--mechanism", "ANONYMOUS"],
        &["--user", "tim", "--password", "x", "--mechanism", "EXTERNAL"],
        &["--user", "a@b@c", "--mechanism", "ANONYMOUS"],
        &["--user", "tim", "--mechanism", "EXTERNAL"],
        &["--mechanism", "PLAIN"],
        &["--mechanism", "EXTERNAL"],
        &["--authzid", "ann"],
        &["--channel-binding", "perhaps"],
        &["--cert", "x.pem"],
        &["--key", "x.key"],
        &files,
    ] {
        let output = client(&server, login);
        assert_eq!(output.status.code(), Some(2), "{login:?}: {}", said(&output));
        assert!(!said(&output).contains("S: 220"), "{login:?}: {}", said(&output));
    }
}

#[test]
fn the_server_warns_where_nobody_can_sign_in() {
    let (user, token) = (["--user", "tim:x"], ["--token", "tim:x"]);
    let cases: [(&[&str], bool); 18] = [
        (&[], false),
        (&["--no-tls"], false),
        (&["--no-tls", "--mechanisms", "PLAIN"], true),
        (&["--no-tls", "--mechanisms", "PLAIN", "--allow-cleartext"], false),
        (&["--no-tls", "--channel-binding", "required"], true),
        (&["--channel-binding", "required"], false),
        (&["--channel-binding", "required", "--mechanisms", "PLAIN,SCRAM-SHA-256"], false),
        (&["--channel-binding", "none", "--mechanisms", "SCRAM-SHA-256-PLUS"], true),
        (&["--mechanisms", "EXTERNAL"], true),
        (&["--mechanisms", "OAUTHBEARER"], true),
        (&["--mechanisms", "ANONYMOUS"], false),
        (&[token[0], token[1]], false),
        (&[token[0], token[1], "--mechanisms", "PLAIN"], true),
        (&[token[0], token[1], "--channel-binding", "required"], true),
        (&[token[0], token[1], "--no-tls"], true),
        (&[token[0], token[1], "--no-tls", "--allow-cleartext"], false),
        (&[user[0], user[1], "--mechanisms", "XOAUTH2"], true),
        (&[user[0], user[1], token[0], token[1], "--mechanisms", "XOAUTH2"], false),
    ];
    for (options, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new(example("server"))
            .args(["--listen", "127.0.0.1:0", "--maildir"])
            .arg(folder.path())
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("listening on ")), "{options:?}");
        process.kill().unwrap();
        process.wait().unwrap();
        let mut log = String::new();
        process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert_eq!(log.contains("warning: nobody can sign in: "), expected, "{options:?}: {log}");
    }
}
