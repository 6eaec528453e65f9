//! GNU SASL.

use super::*;

#[test]
fn gsasl_signs_in() {
    if !present("gsasl", runs("gsasl", &["--version"])) {
        return;
    }
    let server = Server::start();
    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"] {
        // Under TLS it never uses plain SCRAM, unless it is told to do without channel binding.
        let login = ["--no-cb", "--mechanism", mechanism, "--authentication-id=ann", "--password"];
        let output = gsasl(&server, [&login[..], &[ASCII_PASSWORD]].concat());
        assert!(output.status.success(), "{mechanism}: {}", said(&output));
        assert_gsasl_refused(mechanism, &gsasl(&server, [&login[..], &["wrong"]].concat()));
    }
}

fn gsasl<A: AsRef<OsStr>>(server: &Server, login: impl IntoIterator<Item = A>) -> Output {
    Command::new("gsasl")
        // It does not see that STARTTLS is offered where that is in EHLO's last line.
        .args(["--smtp", "--starttls", "--connect", &format!("localhost:{}", server.port)])
        .arg(format!("--x509-ca-file={}", server.certificate().display()))
        .args(login)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The mechanisms on offer inside TLS, as gsasl shows them.
fn offered(output: &Output) -> String {
    let text = said(output);
    text.lines().rfind(|line| line.starts_with("250 AUTH ")).unwrap().to_owned()
}

fn assert_gsasl_refused(by: &str, output: &Output) {
    assert!(!output.status.success(), "{by}");
    assert!(said(output).contains("535 5.7.8"), "{by}: {}", said(output));
}

#[test]
fn gsasl_binds_to_the_channel() {
    if !present("gsasl", runs("gsasl", &["--version"])) {
        return;
    }
    for policy in ["preferred", "required"] {
        let server = Server::start_with(&["--channel-binding", policy]);
        for mechanism in ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"] {
            let login = ["--mechanism", mechanism, "--authentication-id=ann", "--password"];
            let output = gsasl(&server, [&login[..], &[ASCII_PASSWORD]].concat());
            assert!(output.status.success(), "{mechanism}: {}", said(&output));
            // p=tls-exporter,
            assert!(said(&output).contains("\ncD10bHMtZXhwb3J0ZXIs"), "{}", said(&output));
            assert_gsasl_refused(mechanism, &gsasl(&server, [&login[..], &["wrong"]].concat()));
            // Up to TLS 1.2 it binds by `tls-unique`, which rustls does not give.
            let tls_1_2 =
                [&login[..], &[ASCII_PASSWORD, "--priority=NORMAL:-VERS-TLS1.3"]].concat();
            let output = gsasl(&server, tls_1_2);
            assert_gsasl_refused("tls-unique", &output);
            // p=tls-unique,
            assert!(said(&output).contains("\ncD10bHMtdW5pcXVlL"), "{}", said(&output));
        }
    }
    let server = Server::start_with(&["--channel-binding", "none"]);
    let login = ["--mechanism=SCRAM-SHA-1-PLUS", "--authentication-id=ann", "--password=x"];
    let output = gsasl(&server, login);
    assert!(said(&output).contains("504 5.5.4"), "{}", said(&output));
    assert!(!offered(&output).contains("-PLUS"), "{}", said(&output));
}

#[test]
fn gsasl_signs_in_by_its_certificate() {
    if !present("gsasl", runs("gsasl", &["--version"])) {
        return;
    }
    let server = Server::start();
    let gsasl = |Pair { cert, key }: &Pair, more: &[&str]| {
        let files = [
            format!("--x509-cert-file={}", cert.display()),
            format!("--x509-key-file={}", key.display()),
        ];
        let more = more.iter().map(|&more| more.to_owned());
        gsasl(&server, files.into_iter().chain(["--mechanism=EXTERNAL".into()]).chain(more))
    };
    let tim = server.client("tim", &[]);
    for more in [&[][..], &["--authorization-id=tim"]] {
        let output = gsasl(&tim, more);
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("235 2.7.0"), "{}", said(&output));
    }
    assert_gsasl_refused("another account", &gsasl(&tim, &["--authorization-id=ann"]));
    assert_gsasl_refused("no account", &gsasl(&server.client("nobody", &[]), &[]));
    // The server asks for certificates of one CA, so it shows none.
    let output = gsasl(&server.stranger(), &[]);
    assert!(said(&output).contains("504 5.5.4"), "{}", said(&output));
    assert!(!said(&output).contains("235 2.7.0"), "{}", said(&output));
}

#[test]
fn gsasl_comes_in_as_a_guest() {
    if !present("gsasl", runs("gsasl", &["--version"])) {
        return;
    }
    let server = Server::start_with(&["--mechanisms", "anonymous,PLAIN"]);
    let anonymous = "--mechanism=ANONYMOUS";
    let output = gsasl(&server, [anonymous, "--anonymous-token=tim@example.org"]);
    assert!(output.status.success(), "{}", said(&output));
    let output = gsasl(&server, [anonymous, "--anonymous-token=not@an@address"]);
    assert_gsasl_refused("a bad trace", &output);
    // Not offered unless it is asked for.
    let server = Server::start();
    let output = gsasl(&server, [anonymous, "--anonymous-token=tim@example.org"]);
    assert!(said(&output).contains("504 5.5.4"), "{}", said(&output));
    assert!(!offered(&output).contains("ANONYMOUS"), "{}", said(&output));
}
