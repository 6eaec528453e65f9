//! The example programs against software that others wrote: curl, Python's smtplib, scramp, gsasl and
//! msmtp sign in to the example server, the example client signs in to aiosmtpd. And against each
//! other. All on loopback.
//!
//! A peer that is not there is skipped, with the reason on stderr; with `SMTP_AUTH_NO_SKIP` set
//! that is a failure.

mod client;
mod curl;
mod gsasl;
mod msmtp;
mod python;

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

use crate::setup::{example, present, runs, said};
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

/// A file beside this test.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/peers").join(name)
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
