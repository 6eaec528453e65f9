//! Python: smtplib, scramp, aiosmtpd.

use super::*;

#[test]
fn smtplib_signs_in_and_sends() {
    if !present("python3", runs("python3", &["-c", "import smtplib, ssl"])) {
        return;
    }
    let server = Server::start();
    let file = server.file();
    let smtplib = |mechanism: &str, password: &str| {
        Command::new("python3")
            .arg(script("smtplib_client.py"))
            .args([&server.port.to_string(), mechanism, "ann", password])
            .arg(server.certificate())
            .arg(&file)
            .output()
            .unwrap()
    };
    for mechanism in MECHANISMS {
        let output = smtplib(mechanism, ASCII_PASSWORD);
        assert_eq!(said(&output).trim(), "sent", "{mechanism}");
        server.assert_delivered(mechanism);
        let output = smtplib(mechanism, "wrong");
        assert_eq!(said(&output).trim(), "535 5.7.8", "{mechanism}");
        assert!(server.message().is_none());
    }
}

#[test]
fn scramp_binds_to_the_certificate() {
    let python = match venv() {
        Ok(python) => python,
        Err(reason) => {
            present("scramp", Err(reason));
            return;
        }
    };
    let own = tempfile::tempdir().unwrap();
    let own = server_certificate(own.path(), &rcgen::PKCS_ECDSA_P384_SHA384);
    let (cert, key) = (own.cert.to_str().unwrap(), own.key.to_str().unwrap());
    for options in [&[][..], &["--cert", cert, "--key", key]] {
        let server = Server::start_with(options);
        let trusted = if options.is_empty() { server.certificate() } else { own.cert.clone() };
        let scramp = |version: &str, mechanism: &str, binding: &str, password: &str| {
            let output = Command::new(&python)
                .arg(script("scramp_client.py"))
                .args([&server.port.to_string(), version, mechanism, binding, "ann", password])
                .arg(&trusted)
                .output()
                .unwrap();
            said(&output).trim().to_owned()
        };
        for version in ["TLSv1_2", "TLSv1_3"] {
            for plus in ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS"] {
                let scramp =
                    |binding: &str, password: &str| scramp(version, plus, binding, password);
                assert_eq!(scramp("tls-server-end-point", ASCII_PASSWORD), "signed in", "{plus}");
                let wrong = scramp("tls-server-end-point", "wrong");
                assert!(wrong.starts_with("535 5.7.8 The user name, password"), "{plus}: {wrong}");
                let forged = scramp("forged", ASCII_PASSWORD);
                assert!(forged.starts_with("535 5.7.8 The channel binding"), "{plus}: {forged}");
            }
            let plain = |binding: &str| scramp(version, "SCRAM-SHA-256", binding, ASCII_PASSWORD);
            assert_eq!(plain("none"), "signed in", "{version}");
            // The client says that it has channel binding and has not seen that the server has, too:
            // somebody has struck it out of the server's list.
            let downgraded = plain("tls-server-end-point");
            assert!(downgraded.starts_with("535 5.7.8 The channel binding"), "{downgraded}");
        }
    }
    // Where the server has none, it is the truth.
    let server = Server::start_with(&["--channel-binding", "none"]);
    let output = Command::new(&python)
        .arg(script("scramp_client.py"))
        .args([&server.port.to_string(), "TLSv1_3", "SCRAM-SHA-256", "tls-server-end-point"])
        .args(["ann", ASCII_PASSWORD])
        .arg(server.certificate())
        .output()
        .unwrap();
    assert_eq!(said(&output).trim(), "signed in");
}

/// A certificate for localhost, signed by its own key of this kind.
fn server_certificate(folder: &Path, kind: &'static rcgen::SignatureAlgorithm) -> Pair {
    let key = KeyPair::generate_for(kind).unwrap();
    let parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let pair = Pair { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    fs::write(&pair.cert, parameters.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&pair.key, key.serialize_pem()).unwrap();
    pair
}

#[test]
fn the_client_signs_in_to_aiosmtpd() {
    let Some(server) = Aiosmtpd::start(&[]) else { return };
    for (n, mechanism) in ["PLAIN", "LOGIN"].into_iter().enumerate() {
        let client = |password: &str| server.client(&["--mechanism", mechanism], password);
        let output = client(PASSWORD);
        assert_eq!(output.status.code(), Some(0), "{mechanism}: {}", said(&output));
        assert_eq!(server.message(n + 1), [MESSAGE, b"\r\n"].concat(), "{mechanism}");

        let output = client("wrong");
        assert_eq!(output.status.code(), Some(4), "{mechanism}: {}", said(&output));
        assert!(said(&output).contains("535"), "{mechanism}: {}", said(&output));
    }
    let output = server.client(&["--mechanism", "CRAM-MD5"], PASSWORD);
    assert_eq!(output.status.code(), Some(4), "aiosmtpd has no CRAM-MD5: {}", said(&output));
    let output = server.client(&["--to", "nobody@example.org"], PASSWORD);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("550 5.1.1"), "{}", said(&output));
    let output = server.client(&["--channel-binding", "required"], PASSWORD);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("bound to the TLS connection"), "{}", said(&output));
}

/// The client has no exporter to bind to then.
#[test]
fn the_client_binds_to_the_certificate_under_tls_1_2() {
    let Some(server) = Aiosmtpd::start(&["TLSv1_2"]) else { return };
    let client =
        |password: &str| server.client(&["--channel-binding", "required", "--trace"], password);
    let output = client(PASSWORD);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("C: AUTH SCRAM-SHA-256-PLUS"), "{}", said(&output));
    assert_eq!(server.message(1), [MESSAGE, b"\r\n"].concat());
    let output = client("wrong");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("535"), "{}", said(&output));
}

/// A server of aiosmtpd.
struct Aiosmtpd {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Aiosmtpd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Aiosmtpd {
    /// `None` where it is not there.
    fn start(options: &[&str]) -> Option<Self> {
        let python = match venv() {
            Ok(python) => python,
            Err(reason) => {
                present("aiosmtpd", Err(reason));
                return None;
            }
        };
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("message"), MESSAGE).unwrap();
        let own = server_certificate(folder.path(), &rcgen::PKCS_ECDSA_P256_SHA256);
        let port = free_port();
        let mut process = Command::new(python)
            .arg(script("aiosmtpd_server.py"))
            .arg(port.to_string())
            .args([own.cert, own.key])
            .args(["tim", PASSWORD])
            .arg(folder.path())
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().expect("the server starts").unwrap(), "listening");
        Some(Self { process, port, folder })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The message of that number.
    fn message(&self, number: usize) -> Vec<u8> {
        fs::read(self.file(&format!("{number}.eml"))).unwrap()
    }

    /// The example client sends the message.
    fn client(&self, options: &[&str], password: &str) -> Output {
        let to = if options.contains(&"--to") { &[][..] } else { &["--to", "ann@example.org"] };
        Command::new(example("client"))
            .args(["--server", &format!("localhost:{}", self.port), "--ca"])
            .arg(self.file("cert.pem"))
            .args(["--from", "tim@example.org", "--user", "tim"])
            .args(["--password-env", "PEERS_PASSWORD"])
            .args(to)
            .args(options)
            .env("PEERS_PASSWORD", password)
            .arg(self.file("message"))
            .output()
            .unwrap()
    }
}
