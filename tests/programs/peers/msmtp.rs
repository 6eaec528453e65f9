//! msmtp.

use super::*;

#[test]
fn msmtp_signs_in_and_sends() {
    if !present("msmtp", runs("msmtp", &["--version"])) {
        return;
    }
    let server = Server::start();
    for (mechanism, user, secret) in [
        ("scram-sha-1", "ann", ASCII_PASSWORD),
        ("scram-sha-256", "ann", ASCII_PASSWORD),
        ("cram-md5", "ann", ASCII_PASSWORD),
        ("plain", "ann", ASCII_PASSWORD),
        ("login", "ann", ASCII_PASSWORD),
        ("oauthbearer", "tim", TOKEN),
        ("xoauth2", "tim", TOKEN),
    ] {
        let msmtp = |secret: &str| {
            let secret = format!("--passwordeval=echo {secret}");
            msmtp(&server, &[&format!("--auth={mechanism}"), &format!("--user={user}"), &secret])
        };
        let output = msmtp(secret);
        assert!(output.status.success(), "{mechanism}: {}", said(&output));
        server.assert_delivered(mechanism);
        let output = msmtp("wrong");
        assert_eq!(output.status.code(), Some(77), "{mechanism}: {}", said(&output));
        assert!(said(&output).contains("535 5.7.8"), "{mechanism}: {}", said(&output));
        assert!(server.message().is_none(), "{mechanism}");
    }
}

/// Sends the message, signed in by what the arguments say.
fn msmtp(server: &Server, login: &[&str]) -> Output {
    let mut msmtp = Command::new("msmtp")
        .args(["--file=/dev/null", "--host=localhost", "--from=tim@example.org"])
        .arg(format!("--port={}", server.port))
        .args(["--tls=on", "--tls-starttls=on"])
        .arg(format!("--tls-trust-file={}", server.certificate().display()))
        .args(login)
        .arg("ann@example.org")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It takes lines that end in LF.
    let message: Vec<u8> = MESSAGE.iter().copied().filter(|&octet| octet != b'\r').collect();
    // It may have given up by now.
    let _ = msmtp.stdin.take().unwrap().write_all(&message);
    msmtp.wait_with_output().unwrap()
}

#[test]
fn msmtp_signs_in_by_its_certificate() {
    if !present("msmtp", runs("msmtp", &["--version"])) {
        return;
    }
    let server = Server::start();
    // Without a user it says nothing where it should say that it has nothing to say.
    let msmtp = |user: &str, Pair { cert, key }: &Pair| {
        let (cert, key) = (cert.display(), key.display());
        let files = [format!("--tls-cert-file={cert}"), format!("--tls-key-file={key}")];
        msmtp(&server, &["--auth=external", &format!("--user={user}"), &files[0], &files[1]])
    };
    let tim = server.client("tim", &[]);
    let output = msmtp("tim", &tim);
    assert!(output.status.success(), "{}", said(&output));
    server.assert_delivered("external");
    let nobody = server.client("nobody", &[]);
    for (user, pair) in [("ann", &tim), ("nobody", &nobody), ("tim", &nobody)] {
        let output = msmtp(user, pair);
        assert_eq!(output.status.code(), Some(77), "{user}: {}", said(&output));
        assert!(said(&output).contains("535 5.7.8"), "{user}: {}", said(&output));
    }
    // The server asks for certificates of one CA, so it shows none, and EXTERNAL is not offered.
    let output = msmtp("tim", &server.stranger());
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    assert!(said(&output).contains("EXTERNAL"), "{}", said(&output));
    assert!(server.message().is_none());
}
