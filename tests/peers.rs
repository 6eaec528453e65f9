//! The example programs against software that others wrote: curl, Python's smtplib, gsasl and msmtp
//! sign in to the example server, the example client signs in to aiosmtpd. All on loopback.
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
    feature = "scram-sha-256"
))]

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

const MECHANISMS: [&str; 3] = ["PLAIN", "LOGIN", "CRAM-MD5"];
const PASSWORD: &str = "pa\"ss wörd";
/// smtplib takes no other.
const ASCII_PASSWORD: &str = "tanstaaf:tanstaaf";

/// Lines that begin with dots, octets over 127, a line of spaces, and no newline at the end.
const MESSAGE: &[u8] = b"From: tim@example.org\r\nTo: ann@example.org\r\nSubject: peers\r\n\
    Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
    .\r\n..\r\n.one dot\r\n  \r\n\r\ncaf\xe9 \xff\xfe\r\nthe end";

/// Ends when it goes out of scope.
struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// The example server, with two accounts.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new(example("server"))
            .args(["--listen", "127.0.0.1:0", "--hostname", "mail.example.org"])
            .args(["--guess-limit", "off", "--user", &format!("tim:{PASSWORD}")])
            .args(["--user", &format!("ann:{ASCII_PASSWORD}")])
            .arg("--maildir")
            .arg(folder.path().join("mail"))
            .arg("--cert-out")
            .arg(folder.path().join("cert.pem"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("the server starts").unwrap();
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.rsplit(':').next().unwrap().parse().unwrap();
            }
        };
        Self { process, port, folder }
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
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
    let file = server.folder.path().join("message");
    fs::write(&file, MESSAGE).unwrap();
    let curl = |mechanism: &str, password: &str, ir: bool| {
        Command::new("curl")
            .args(["--silent", "--verbose", "--ssl-reqd", "--max-time", "30", "--cacert"])
            .arg(server.certificate())
            .args(["--url", &format!("smtp://localhost:{}", server.port), "--upload-file"])
            .arg(&file)
            .args(["--mail-from", "tim@example.org", "--mail-rcpt", "ann@example.org"])
            .args(["--user", &format!("tim:{password}")])
            .args(["--login-options", &format!("AUTH={mechanism}")])
            .args(if ir { &["--sasl-ir"][..] } else { &[] })
            .output()
            .unwrap()
    };
    for mechanism in MECHANISMS {
        for ir in [false, true] {
            let output = curl(mechanism, PASSWORD, ir);
            assert!(output.status.success(), "{mechanism}: {}", said(&output));
            server.assert_delivered(mechanism);
            let output = curl(mechanism, "wrong", ir);
            assert_eq!(output.status.code(), Some(67), "{mechanism}: {}", said(&output));
            assert!(said(&output).contains("< 535 5.7.8"), "{mechanism}: {}", said(&output));
            assert!(server.message().is_none());
        }
    }
}

#[test]
fn smtplib_signs_in_and_sends() {
    if !present("python3", runs("python3", &["-c", "import smtplib, ssl"])) {
        return;
    }
    let server = Server::start();
    let file = server.folder.path().join("message");
    fs::write(&file, MESSAGE).unwrap();
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
    let gsasl = |mechanism: &str, password: &str| {
        Command::new("gsasl")
            // Under TLS it takes plain SCRAM for a downgrade, unless it is told to do without.
            .args(["--smtp", "--quiet", "--no-cb"])
            .args(["--connect", &format!("localhost:{}", server.port)])
            .arg(format!("--x509-ca-file={}", server.certificate().display()))
            .args(["--mechanism", mechanism, "--authentication-id", "ann", "--password", password])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"] {
        let output = gsasl(mechanism, ASCII_PASSWORD);
        assert!(output.status.success(), "{mechanism}: {}", said(&output));
        let output = gsasl(mechanism, "wrong");
        assert!(!output.status.success(), "{mechanism}");
        assert!(said(&output).contains("535 5.7.8"), "{mechanism}: {}", said(&output));
    }
}

#[test]
fn msmtp_signs_in_and_sends() {
    if !present("msmtp", runs("msmtp", &["--version"])) {
        return;
    }
    let server = Server::start();
    let msmtp = |mechanism: &str, password: &str| {
        let mut msmtp = Command::new("msmtp")
            .args(["--file=/dev/null", "--host=localhost", "--from=tim@example.org", "--user=ann"])
            .arg(format!("--port={}", server.port))
            .arg(format!("--auth={mechanism}"))
            .arg(format!("--passwordeval=echo {password}"))
            .args(["--tls=on", "--tls-starttls=on"])
            .arg(format!("--tls-trust-file={}", server.certificate().display()))
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
    };
    for mechanism in ["scram-sha-1", "scram-sha-256", "cram-md5", "plain", "login"] {
        let output = msmtp(mechanism, ASCII_PASSWORD);
        assert!(output.status.success(), "{mechanism}: {}", said(&output));
        server.assert_delivered(mechanism);
        let output = msmtp(mechanism, "wrong");
        assert_eq!(output.status.code(), Some(77), "{mechanism}: {}", said(&output));
        assert!(said(&output).contains("535 5.7.8"), "{mechanism}: {}", said(&output));
    }
}

#[test]
fn the_client_signs_in_to_aiosmtpd() {
    let python = match venv("aiosmtpd==1.4.6") {
        Ok(python) => python,
        Err(reason) => {
            present("aiosmtpd", Err(reason));
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let pair = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    fs::write(file("cert.pem"), pair.cert.pem()).unwrap();
    fs::write(file("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    fs::write(file("message"), MESSAGE).unwrap();
    let port = free_port();
    let process = Command::new(python)
        .arg(script("aiosmtpd_server.py"))
        .arg(port.to_string())
        .args([file("cert.pem"), file("key.pem")])
        .args(["tim", PASSWORD])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Server { process, port, folder };
    let mut lines = BufReader::new(server.process.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().expect("the server starts").unwrap(), "listening");

    let file = |name: &str| server.folder.path().join(name);
    let client = |mechanism: &str, password: &str, to: &str| {
        Command::new(example("client"))
            .args(["--server", &format!("localhost:{port}"), "--ca"])
            .arg(file("cert.pem"))
            .args(["--from", "tim@example.org", "--to", to, "--user", "tim"])
            .args(["--password-env", "PEERS_PASSWORD", "--mechanism", mechanism])
            .env("PEERS_PASSWORD", password)
            .arg(file("message"))
            .output()
            .unwrap()
    };
    for (n, mechanism) in ["PLAIN", "LOGIN"].into_iter().enumerate() {
        let output = client(mechanism, PASSWORD, "ann@example.org");
        assert_eq!(output.status.code(), Some(0), "{mechanism}: {}", said(&output));
        let stored = fs::read(file(&format!("{}.eml", n + 1))).unwrap();
        assert_eq!(stored, [MESSAGE, b"\r\n"].concat(), "{mechanism}");

        let output = client(mechanism, "wrong", "ann@example.org");
        assert_eq!(output.status.code(), Some(4), "{mechanism}: {}", said(&output));
        assert!(said(&output).contains("535"), "{mechanism}: {}", said(&output));
    }
    let output = client("CRAM-MD5", PASSWORD, "ann@example.org");
    assert_eq!(output.status.code(), Some(4), "aiosmtpd has no CRAM-MD5: {}", said(&output));
    let output = client("PLAIN", PASSWORD, "nobody@example.org");
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("550 5.1.1"), "{}", said(&output));
}

/// A file beside this test.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// The Python of a virtual environment that has the package, made if need be.
fn venv(package: &str) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv");
    let python = folder.join("bin/python");
    let path = python.to_str().unwrap();
    let name = package.split('=').next().unwrap();
    if runs(path, &["-c", &format!("import {name}")]).is_ok() {
        return Ok(python);
    }
    runs("python3", &["-m", "venv", folder.to_str().unwrap()])?;
    runs(path, &["-m", "pip", "install", "--quiet", package])?;
    Ok(python)
}

/// A port that nobody listens on, for the moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
