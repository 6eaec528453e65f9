//! The example programs against software that others wrote: curl, Python's smtplib, scramp, gsasl and
//! msmtp sign in to the example server, the example client signs in to aiosmtpd. And against each
//! other. All on loopback.
//!
//! A peer that is not there is skipped, with the reason on stderr; with `SMTP_AUTH_NO_SKIP` set
//! that is a failure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a panic is how a test fails"
)]
#![cfg(all(
    feature = "plain",
    feature = "login",
    feature = "cram-md5",
    feature = "scram-sha-1",
    feature = "scram-sha-256",
    feature = "scram-sha-512",
    feature = "oauthbearer",
    feature = "xoauth2",
    feature = "external",
    feature = "anonymous"
))]

use std::{
    ffi::OsStr,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

const MECHANISMS: [&str; 3] = ["PLAIN", "LOGIN", "CRAM-MD5"];
const PASSWORD: &str = "pa\"ss wörd";
/// smtplib takes no other.
const ASCII_PASSWORD: &str = "tanstaaf:tanstaaf";
/// Of tim, and of `ann@example.org`.
const TOKEN: &str = "dGlt.-_~+/==";
const ANNS_TOKEN: &str = "YW5u";

/// Lines that begin with dots, octets over 127, a line of spaces, and no newline at the end.
const MESSAGE: &[u8] = b"From: tim@example.org\r\nTo: ann@example.org\r\nSubject: peers\r\n\
    Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
    .\r\n..\r\n.one dot\r\n  \r\n\r\ncaf\xe9 \xff\xfe\r\nthe end";

/// Ends when it goes out of scope.
struct Server {
    process: Child,
    port: u16,
    tls_port: Option<u16>,
    folder: tempfile::TempDir,
    clients: Clients,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The CA of clients' certificates.
struct Clients(CertifiedIssuer<'static, KeyPair>);

/// Files with a certificate and its key.
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

impl Clients {
    fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate whose subject has this common name, and these mail addresses.
    fn certificate(&self, folder: &Path, common: &str, mail: &[&str]) -> Pair {
        let mut parameters = CertificateParams::new(vec!["client.example.org".into()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, common);
        let mail = mail.iter().map(|&mail| SanType::Rfc822Name(mail.try_into().unwrap()));
        parameters.subject_alt_names.extend(mail);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        let serial = fs::read_dir(folder).unwrap().count();
        let file = |kind: &str| folder.join(format!("{serial}.{kind}.pem"));
        let pair = Pair { cert: file("cert"), key: file("key") };
        fs::write(&pair.cert, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}

impl Server {
    /// The example server, with accounts of all kinds.
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clients = Clients::new("the clients' CA");
        fs::write(folder.path().join("ca.pem"), clients.0.pem()).unwrap();
        let mut process = Command::new(example("server"))
            .args(["--listen", "127.0.0.1:0", "--hostname", "mail.example.org"])
            .args(["--guess-limit", "off", "--user", &format!("tim:{PASSWORD}")])
            .args(["--user", &format!("ann:{ASCII_PASSWORD}")])
            .args(["--user", &format!("anonymous:{ASCII_PASSWORD}")])
            // The message is tim's, whoever sends it.
            .args(["ann", "ann@example.org", "anonymous"].map(|name| format!("--senders={name}:*")))
            .args(["--token", &format!("tim:{TOKEN}")])
            .args(["--token", &format!("ann@example.org:{ANNS_TOKEN}"), "--client-ca"])
            .arg(folder.path().join("ca.pem"))
            .arg("--maildir")
            .arg(folder.path().join("mail"))
            .args(options)
            .args(if options.contains(&"--cert") { &[][..] } else { &["--cert-out"] })
            .args((!options.contains(&"--cert")).then(|| folder.path().join("cert.pem")))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut ports = lines.map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("listening on ")?.rsplit_once(':')?.1.parse().ok()
        });
        let port = ports.next().expect("the server starts");
        let tls_port = options.contains(&"--listen-tls").then(|| ports.next().unwrap());
        Self { process, port, tls_port, folder, clients }
    }

    /// A client's certificate by the CA that the server trusts.
    fn client(&self, common: &str, mail: &[&str]) -> Pair {
        self.clients.certificate(self.folder.path(), common, mail)
    }

    /// A client's certificate by another CA.
    fn stranger(&self) -> Pair {
        Clients::new("another CA").certificate(self.folder.path(), "tim", &[])
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// The message in a file.
    fn file(&self) -> PathBuf {
        let file = self.folder.path().join("message");
        fs::write(&file, MESSAGE).unwrap();
        file
    }

    /// Takes the one message that has arrived: the header lines of the server, and the rest.
    fn message(&self) -> Option<(String, Vec<u8>)> {
        let mut files = fs::read_dir(self.folder.path().join("mail/new")).ok()?;
        let path = files.next()?.unwrap().path();
        assert!(files.next().is_none(), "one message arrives once");
        let stored = fs::read(&path).unwrap();
        fs::remove_file(path).unwrap();
        let start = stored.windows(6).position(|octets| octets == b"From: ").unwrap();
        Some((String::from_utf8(stored[..start].to_vec()).unwrap(), stored[start..].to_vec()))
    }

    fn assert_delivered(&self, by: &str) {
        let (added, message) = self.message().unwrap_or_else(|| panic!("{by}: nothing arrived"));
        assert!(added.starts_with("Return-Path: <tim@example.org>\r\nReceived: "), "{by}: {added}");
        assert!(added.contains("ESMTPSA"), "{by}: {added}");
        let expected = [MESSAGE, b"\r\n"].concat();
        assert_eq!(message.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{by}");
    }
}

/// An example program, built if need be.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", "server", "--example", "client"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success());
    });
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples").join(name)
}

/// Whether the peer is there; if not, says so.
fn present(name: &str, found: Result<(), String>) -> bool {
    if let Err(reason) = &found {
        assert!(std::env::var_os("SMTP_AUTH_NO_SKIP").is_none(), "{name} is missing: {reason}");
        // Past the test runner, which would keep it for itself.
        let _ = writeln!(io::stderr(), "skipped: {name}: {reason}");
    }
    found.is_ok()
}

fn runs(program: &str, args: &[&str]) -> Result<(), String> {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

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

/// The example client sends the message by the example server.
fn client<A: AsRef<OsStr>>(server: &Server, login: impl IntoIterator<Item = A>) -> Output {
    Command::new(example("client"))
        .args(["--server", &format!("localhost:{}", server.port), "--trace", "--ca"])
        .arg(server.certificate())
        .args(["--from", "tim@example.org", "--to", "ann@example.org"])
        .args(login)
        .env("PEERS_TOKEN", TOKEN)
        .arg(server.file())
        .output()
        .unwrap()
}

fn assert_sent(server: &Server, mechanism: &str, output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{mechanism}: {}", said(output));
    assert!(said(output).contains(&format!("C: AUTH {mechanism} ***\n")), "{}", said(output));
    server.assert_delivered(mechanism);
}

fn assert_fails(server: &Server, code: i32, why: &str, output: &Output) {
    assert_eq!(output.status.code(), Some(code), "{why}: {}", said(output));
    assert!(said(output).contains(&format!("client: {why}")), "{why}: {}", said(output));
    assert!(server.message().is_none(), "{why}");
}

const TIM: [&str; 4] = ["--user", "tim", "--password", PASSWORD];

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
            let json = "\nclient: the server says of the token: {\"status\":\"invalid_token\"}\n";
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
    let not_taken = "the connection broke: the server does not take the certificate that this \
        client shows, or wants one\n";
    assert_fails(&server, 3, not_taken, &client(&server.stranger(), &[]));
    let mixed = Pair { cert: tim.cert.clone(), key: mail.key.clone() };
    assert_fails(&server, 2, "the certificate to show and its key", &client(&mixed, &[]));
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

/// A file beside this test.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// The Python of a virtual environment that has aiosmtpd and scramp, made if need be.
fn venv() -> Result<PathBuf, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let make = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv");
        let python = folder.join("bin/python");
        let path = python.to_str().unwrap();
        if runs(path, &["-c", "import aiosmtpd, scramp"]).is_ok() {
            return Ok(python);
        }
        runs("python3", &["-m", "venv", folder.to_str().unwrap()])?;
        let packages = ["aiosmtpd==1.4.6", "scramp==1.4.6"];
        runs(path, &[&["-m", "pip", "install", "--quiet"][..], &packages].concat())?;
        Ok(python)
    };
    MADE.get_or_init(make).clone()
}

/// A port that nobody listens on, for the moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
