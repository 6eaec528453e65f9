//! The whole programs of the guide: the server with curl and the project's own clients, the client with a server that refuses
//! and closes. And that the guide's chapters have them as they are.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::setup::{example, present, runs, said};

const PASSWORD: &str = "tanstaaftanstaaf";

/// A folder with a server's certificate and messages.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.path().join("cert.pem"), own.cert.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
    for word in ["One", "Two", "Spam", "Three"] {
        let text = format!("Subject: {word}\r\n\r\nThe message {word}\r\n");
        fs::write(folder.path().join(word), text).unwrap();
    }
    folder
}

/// Runs it with that as its input.
fn fed(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The guide's client sends these messages to these recipients.
fn send(folder: &Path, port: u16, password: &str, recipients: &str, files: &[&str]) -> Output {
    let mut client = Command::new(example("guide_client"));
    client.current_dir(folder).args(["localhost", &port.to_string(), "cert.pem"]);
    client.args(["tim@example.org", recipients]).args(files);
    fed(client, &format!("{password}\n"))
}

/// The guide's server with Tim's account.
struct Server {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start() -> Self {
        let folder = folder();
        let command = || {
            let mut server = Command::new(example("guide_server"));
            server.current_dir(folder.path());
            server
        };
        let mut add = command();
        // The account has one name, however it is written.
        add.args(["add", "Tim@Example.org"]);
        let added = fed(add, &format!("{PASSWORD}\n"));
        assert!(added.status.success(), "{}", said(&added));
        let mut process = command().arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once(':').expect("it listens").1.parse().unwrap();
        Self { process, port, folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// How many times these octets are in the database.
    fn stored(&self, text: &str) -> usize {
        let database = fs::read(self.path().join("mail.db")).unwrap();
        database.windows(text.len()).filter(|octets| *octets == text.as_bytes()).count()
    }

    /// As Ctrl-C does.
    fn interrupt(&mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        self.process.wait().unwrap().code()
    }
}

#[test]
fn the_server_takes_mail_from_the_guides_client_and_ends_at_ctrl_c() {
    let mut server = Server::start();
    let port = server.port;
    let refused = send(server.path(), port, "wrong", "ann@example.net", &["One", "Two"]);
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(said(&refused).contains("535") && said(&refused).contains("check the user name"));
    assert!(!said(&refused).contains("Two"), "the client goes on: {}", said(&refused));

    let sent =
        send(server.path(), port, PASSWORD, "ann@example.net,bob@example.net", &["One", "Two"]);
    assert!(sent.status.success(), "{}", said(&sent));
    let accepted = "accepted: 250 2.0.0 The message is in the queue\n";
    assert_eq!(said(&sent), format!("One: {accepted}Two: {accepted}"));
    assert_eq!(server.interrupt(), Some(0));

    for word in ["One", "Two"] {
        assert_eq!(server.stored(&format!("The message {word}")), 1);
    }
    assert_eq!(server.stored("ann@example.net\nbob@example.net"), 2);
    assert_eq!(server.stored("with ESMTPSA"), 2);
    assert_eq!((server.stored(PASSWORD), server.stored("SCRAM-SHA-256$15000:")), (0, 1));
}

#[test]
fn the_example_client_binds_to_the_connection() {
    let server = Server::start();
    let client = |account: &str, password: &str, from: &str| {
        let mut client = Command::new(example("client"));
        client.current_dir(server.path()).args(["--server", &format!("localhost:{}", server.port)]);
        client.args(["--trace", "--ca", "cert.pem", "--user", account, "--password", password]);
        client.args(["--from", from, "--to", "ann@example.net", "One"]).output().unwrap()
    };
    let tim = "tim@example.org";
    for (account, password) in [(tim, "wrong"), ("nobody@example.org", PASSWORD)] {
        let refused = client(account, password, tim);
        assert!(!refused.status.success(), "{}", said(&refused));
        assert!(said(&refused).contains("S: 535 5.7.8 "), "{}", said(&refused));
    }
    let sent = client(tim, PASSWORD, tim);
    assert!(sent.status.success(), "{}", said(&sent));
    assert!(said(&sent).contains("C: AUTH SCRAM-SHA-256-PLUS ***\n"), "{}", said(&sent));
    // The account is not its own, and the next is, in other letters.
    let another = client(tim, PASSWORD, "ann@example.org");
    assert!(said(&another).contains("S: 553 5.7.1 "), "{}", said(&another));
    assert!(client("TIM@example.org", PASSWORD, "Tim@example.ORG").status.success());
    assert_eq!(server.stored("The message One"), 2);
}

#[test]
fn the_server_takes_mail_from_curl() {
    if !present("curl", runs("curl", &["--version"])) {
        return;
    }
    let server = Server::start();
    let curl = |user: &str, more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.current_dir(server.path()).args(["--silent", "--verbose", "--max-time", "30"]);
        curl.args(["--url", &format!("smtp://localhost:{}", server.port), "--user", user]);
        curl.args(["--mail-from", "tim@example.org", "--mail-rcpt", "ann@example.net"]);
        curl.args(["--upload-file", "One"]).args(more).output().unwrap()
    };
    let tls = ["--ssl-reqd", "--cacert", "cert.pem", "--login-options", "AUTH=PLAIN"];
    let right = format!("tim@example.org:{PASSWORD}");
    let sent = curl(&right, &tls);
    assert!(sent.status.success(), "{}", said(&sent));
    let offer = "250 AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN";
    assert!(said(&sent).contains(offer), "{}", said(&sent));
    for wrong in ["tim@example.org:wrong".to_owned(), format!("nobody@example.org:{PASSWORD}")] {
        let refused = curl(&wrong, &tls);
        assert_eq!(refused.status.code(), Some(67), "{}", said(&refused));
        assert!(said(&refused).contains("< 535 5.7.8"), "{}", said(&refused));
    }
    // Without TLS neither a password nor mail is taken.
    let cleartext = curl(&right, &["--login-options", "AUTH=PLAIN"]);
    assert!(!cleartext.status.success() && !said(&cleartext).contains("> AUTH"));
    assert_eq!(server.stored("The message One"), 1);
}

/// A server that takes any password, and refuses by the recipient's name and by the message. It says to each message how many
/// connections there have been; and hangs up after a message `Two`.
fn refusing(folder: &Path) -> u16 {
    let cert = CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let tls = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![cert], key).unwrap()));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let connections = AtomicUsize::new(0);
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, SeqCst);
                if before_tls(&mut socket).await.is_ok() {
                    let _ = inside_tls(&mut tls.accept(socket).await.unwrap(), &connections).await;
                }
            }
        });
    });
    port
}

async fn before_tls(socket: &mut TcpStream) -> std::io::Result<()> {
    socket.write_all(b"220 localhost ESMTP\r\n").await?;
    let mut octets = [0; 1000];
    let _ = socket.read(&mut octets).await?;
    socket.write_all(b"250-localhost\r\n250 STARTTLS\r\n").await?;
    let _ = socket.read(&mut octets).await?;
    socket.write_all(b"220 Go on\r\n").await
}

async fn inside_tls(
    stream: &mut tokio_rustls::server::TlsStream<TcpStream>,
    connections: &AtomicUsize,
) -> std::io::Result<()> {
    let mut stream = tokio::io::BufReader::new(stream);
    let (mut line, mut message) = (String::new(), None::<String>);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let reply = match (&mut message, line.trim_end()) {
            (Some(text), ".") => {
                let count = connections.load(SeqCst);
                let reply = match text {
                    text if text.contains("Spam") => "554 5.7.1 Spam".to_owned(),
                    text if text.contains("Two") => "250 Taken, and goodbye".to_owned(),
                    _ => format!("250 Taken, connection {count}"),
                };
                message = None;
                reply
            }
            (Some(text), _) => {
                text.push_str(&line);
                continue;
            }
            (None, command) => match command {
                "DATA" => {
                    message = Some(String::new());
                    "354 Go on"
                }
                _ if command.starts_with("EHLO") => "250-localhost\r\n250 AUTH PLAIN",
                _ if command.starts_with("AUTH") => "235 Welcome",
                "RCPT TO:<later@example.net>" => "450 4.2.1 Not now",
                "RCPT TO:<nobody@example.net>" => "550 5.1.1 Nobody",
                _ => "250 OK",
            }
            .to_owned(),
        };
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        stream.flush().await?;
        if reply.ends_with("goodbye") {
            return stream.shutdown().await;
        }
    }
}

#[test]
fn the_client_does_what_each_outcome_asks_for() {
    let folder = folder();
    let port = refusing(folder.path());
    let send = |recipients: &str, files: &[&str]| {
        let output = send(folder.path(), port, PASSWORD, recipients, files);
        (output.status.success(), said(&output))
    };
    // One connection for all, until the server closes it; then another.
    let (ok, said) = send("ann@example.net", &["One", "Spam", "One", "Two", "One"]);
    let expected = "One: accepted: 250 Taken, connection 1\n\
        Spam: not accepted: the server refused the message: 554 5.7.1 Spam\n\
        One: accepted: 250 Taken, connection 1\n\
        Two: accepted: 250 Taken, and goodbye\n\
        One: accepted: 250 Taken, connection 2\n";
    assert!(!ok && said.starts_with(expected), "{said}");
    let (ok, said) = send("ann@example.net", &["One"]);
    assert_eq!((ok, &*said), (true, "One: accepted: 250 Taken, connection 3\n"));

    let (ok, said) =
        send("ann@example.net,later@example.net,nobody@example.net", &["One", "Three"]);
    let partly = "accepted: 250 Taken, connection 4\n\
        not for all: later@example.net: the server refused the recipient: 450 4.2.1 Not now\n\
        not for all: nobody@example.net: the server refused the recipient: 550 5.1.1 Nobody\n";
    let later =
        ["One", "Three"].map(|file| format!("try again later: {file} to later@example.net\n"));
    assert!(
        !ok && said.starts_with(&format!("One: {partly}Three: {partly}{}", later.concat())),
        "{said}"
    );

    let (ok, said) = send("later@example.net", &["One"]);
    assert!(!ok && said.contains("try again later: One to later@example.net\n"), "{said}");
    let (ok, said) = send("nobody@example.net", &["One"]);
    let refused = "One: not accepted: the message was not sent: nobody@example.net: ";
    assert!(!ok && said.starts_with(refused) && !said.contains("later"), "{said}");
}

/// The blocks of a chapter's program, one after the other.
fn program_of(chapter: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide").join(chapter);
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("\n```rust,ignore\n").skip(1);
    let blocks: Vec<_> = blocks.map(|rest| rest.split_once("\n```").unwrap().0).collect();
    blocks.join("\n\n") + "\n"
}

#[test]
fn the_chapters_have_the_programs() {
    for (chapter, program) in [("server.md", "guide_server.rs"), ("client.md", "guide_client.rs")] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(program);
        let program = fs::read_to_string(path).unwrap();
        // Without the first lines, which say how to run it.
        let (_, code) = program.split_once("\n\n").unwrap();
        assert_eq!(program_of(chapter), code, "{chapter}");
    }
}
