//! The documents' code as whole programs: the server of `server`'s documentation and the guide's stores on loopback, where the documented client, curl and gsasl authenticate; and how
//! much memory the documented server and the guide's threads for argon2 take.
//!
//! The code is taken out of the documents. This folder has what a document leaves to its reader:
//! accounts, and which of it is called. A peer that is not there is skipped, with the reason on stderr;
//! with `SMTP_AUTH_NO_SKIP` set that is a failure.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use crate::setup::{present, runs, said};

/// A module of the program, the document whose code it has, and words of the piece that is meant.
const PIECES: [(&str, &str, &str); 11] = [
    ("client", "src/client.rs", "fn send("),
    ("kept", "src/server.rs", "fn serve("),
    ("users", "src/guide/authenticator.md", "struct Users;"),
    ("argon2_memory", "src/guide/authenticator.md", "fn is_password"),
    ("argon2_workers", "src/guide/authenticator.md", "struct Workers"),
    ("settle", "src/guide/authenticator.md", "fn scram_keys_of"),
    ("event_loop", "src/guide/authenticator.md", "fn look_up"),
    ("auth", "src/guide/porting.md", "auth::server::{Exchange, Step}"),
    ("credentials", "src/guide/credentials.md", "impl Authenticator for"),
    ("migration", "src/guide/migration.md", "impl Authenticator for"),
    ("oauth", "src/guide/oauth.md", "impl Authenticator for"),
];

const PASSWORD: &str = "tanstaaftanstaaf";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The items in the one piece of code of a document that has these words: what a reader sees of it, up
/// to the first statement.
fn items(document: &str, words: &str) -> String {
    let mut text = read(document);
    if document.ends_with(".rs") {
        let lines = text.lines().filter_map(|line| match line {
            _ if line.contains(r#"doc = "```")"#) => Some("```"),
            _ => Some(line.strip_prefix("//!")?).map(|rest| rest.strip_prefix(' ').unwrap_or(rest)),
        });
        text = lines.collect::<Vec<_>>().join("\n");
    }
    let pieces = format!("\n{text}");
    let mut found = pieces.split("\n```").skip(1).step_by(2).filter(|piece| piece.contains(words));
    let piece = found.next().unwrap_or_else(|| panic!("{document} has no {words}"));
    assert!(found.next().is_none(), "{document} has {words} twice");
    let statement =
        |line: &&str| ["let ", "assert", "play("].iter().any(|word| line.starts_with(word));
    let visible = piece.lines().skip(1).filter(|line| *line != "#" && !line.starts_with("# "));
    visible
        .take_while(|line| !statement(line))
        .fold(String::new(), |items, line| items + line + "\n")
}

/// The lines of the manifest that name these dependencies, and its profiles.
fn manifest() -> String {
    let own = read("Cargo.toml");
    let line = |name| {
        let mut found = own.lines().filter(|line| line.starts_with(name));
        found.next().unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    let dependencies = [line("tokio ="), line("argon2 =")];
    let profile = &own[own.find("[profile.dev.package]").unwrap()..];
    format!(
        "[package]\nname = \"samples\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
        smtp-auth = {{ path = {:?} }}\n{}\n{profile}",
        env!("CARGO_MANIFEST_DIR"),
        dependencies.join("\n"),
    )
}

/// Where cargo builds.
fn target() -> PathBuf {
    let own = env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().to_owned()
}

/// The program, built if need be.
fn program() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("samples");
        let source = package.join("src");
        fs::create_dir_all(&source).unwrap();
        // What has not changed is not written, or it would be built anew.
        let write = |path: PathBuf, text: String| {
            if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                fs::write(path, text).unwrap();
            }
        };
        write(package.join("Cargo.toml"), manifest());
        write(package.join("Cargo.lock"), read("Cargo.lock"));
        write(source.join("main.rs"), read("tests/programs/documents/program.rs"));
        for (module, document, words) in PIECES {
            let items = items(document, words);
            let rest = read(&format!("tests/programs/documents/{module}.rs"));
            write(source.join(format!("{module}.rs")), format!("{items}\n{rest}"));
        }
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--target-dir"])
            .arg(target())
            .current_dir(&package)
            .status();
        assert!(built.unwrap().success());
    });
    target().join("debug/samples")
}

/// Ends when it goes out of scope.
struct Server {
    process: Child,
    said: BufReader<ChildStdout>,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(name: &str) -> Self {
        let mut server = Command::new(program());
        let mut process = server.args(["serve", name]).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let port = line.trim_end().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        Self { process, said, port: port.unwrap() }
    }

    /// What the documented client says of its sign-in and its message.
    fn client(&self, mechanism: &str, user: &str, secret: &str) -> String {
        let mut client = Command::new(program());
        let output =
            client.args(["sign-in", &self.port.to_string(), mechanism, user, secret]).output();
        said(&output.unwrap())
    }

    fn curl(&self, login: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--verbose", "--max-time", "30", "--request", "NOOP"]);
        curl.args(["--url", &format!("smtp://127.0.0.1:{}", self.port)])
            .args(login)
            .output()
            .unwrap()
    }

    fn gsasl(&self, mechanism: &str, user: &str, password: &str) -> Output {
        let mut gsasl = Command::new("gsasl");
        gsasl.args(["--smtp", "--no-starttls", "--no-cb", "--mechanism", mechanism, "--connect"]);
        gsasl.arg(format!("127.0.0.1:{}", self.port)).arg(format!("--authentication-id={user}"));
        gsasl.args(["--password", password]).stdin(Stdio::null()).output().unwrap()
    }

    /// The most memory that it has had, in KiB.
    #[cfg(target_os = "linux")]
    fn most(&self) -> usize {
        kib(&fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap())
    }
}

/// The most memory that a process has had, in KiB, as `/proc/…/status` says.
#[cfg(target_os = "linux")]
fn kib(status: &str) -> usize {
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The right secret and a wrong one, by each mechanism and from each peer that has it.
fn check(name: &str, mechanisms: &[&str]) {
    let server = Server::start(name);
    for mechanism in mechanisms {
        let said = server.client(mechanism, "tim", PASSWORD);
        assert!(said.starts_with("authenticated: true\n"), "{name}, {mechanism}: {said}");
        let said = server.client(mechanism, "tim", "wrong");
        assert!(
            said.starts_with("authenticated: false\n") && said.contains("535"),
            "{name}: {said}"
        );
    }
    if present("curl", runs("curl", &["--version"])) {
        for mechanism in mechanisms.iter().filter(|name| !name.starts_with("SCRAM")) {
            curl_signs_in(&server, mechanism);
        }
    }
    if present("gsasl", runs("gsasl", &["--version"])) {
        for mechanism in mechanisms.iter().filter(|name| !name.contains("OAUTH")) {
            let output = server.gsasl(mechanism, "tim", PASSWORD);
            assert!(output.status.success(), "{name}, {mechanism}: {}", self::said(&output));
            let output = server.gsasl(mechanism, "tim", "wrong");
            let said = self::said(&output);
            assert!(!output.status.success() && said.contains("535 5.7.8"), "{name}: {said}");
        }
    }
}

fn curl_signs_in(server: &Server, mechanism: &str) {
    for (secret, expected) in [(PASSWORD, "< 235 2.7.0"), ("wrong", "< 535 5.7.8")] {
        let (options, login) = (format!("AUTH={mechanism}"), format!("tim:{secret}"));
        let password = ["--user", &login, "--login-options", &options];
        let token = ["--user", "tim:", "--oauth2-bearer", secret, "--login-options", &options];
        let login = if mechanism.contains("OAUTH") { &token[..] } else { &password };
        let output = server.curl(login);
        let said = said(&output);
        // Of XOAUTH2 it does not wait for the end.
        let refused = mechanism == "XOAUTH2" && secret == "wrong" && said.contains("< 334 ");
        assert!(said.contains(expected) || refused, "{mechanism}: {said}");
        // It has no leave to go on where it is not authenticated.
        assert_eq!(output.status.code() == Some(67), secret == "wrong", "{mechanism}: {said}");
    }
}

#[test]
fn the_store_of_the_chapter_on_authenticators() {
    check("users", &["PLAIN", "LOGIN"]);
}

/// Answered in an async task, on threads for argon2, and on another thread while an event loop goes on.
#[test]
fn the_answers_that_come_later() {
    check("settle", &["PLAIN", "LOGIN", "SCRAM-SHA-256"]);
    check("argon2", &["PLAIN", "LOGIN"]);
    check("event-loop", &["PLAIN", "LOGIN"]);
}

#[test]
fn the_exchange_in_a_server_with_its_own_parser() {
    check("auth", &["PLAIN", "LOGIN"]);
}

#[test]
fn the_store_of_the_chapter_on_credentials() {
    check("credentials", &["PLAIN", "LOGIN", "SCRAM-SHA-256"]);
}

/// Nobody has keys for SCRAM before a sign-in by PLAIN.
#[test]
fn the_store_of_the_chapter_on_migration() {
    let server = Server::start("migration");
    assert!(server.client("SCRAM-SHA-256", "tim", PASSWORD).starts_with("authenticated: false\n"));
    drop(server);
    check("migration", &["PLAIN", "SCRAM-SHA-256"]);
}

#[test]
fn the_store_of_the_chapter_on_tokens() {
    check("oauth", &["OAUTHBEARER", "XOAUTH2"]);
}

#[test]
fn the_server_that_keeps_messages() {
    check("kept", &["PLAIN", "LOGIN"]);
    let mut server = Server::start("kept");
    let said = server.client("PLAIN", "tim", PASSWORD);
    assert!(said.starts_with("authenticated: true\n") && !said.contains("refused"), "{said}");
    let mut lines = (&mut server.said).lines().map_while(Result::ok);
    assert!(lines.by_ref().take(50).any(|line| line == "stored 1"));
}

/// A client at `127.0.0.N` that says lines by hand.
#[cfg(target_os = "linux")]
struct Client(BufReader<TcpStream>);

#[cfg(target_os = "linux")]
impl Client {
    fn connect(server: &Server, n: u8) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connected = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(([127, 0, 0, n], 0).into())?;
            socket.connect(([127, 0, 0, 1], server.port).into()).await?.into_std()
        });
        let stream = connected.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(BufReader::new(stream))
    }

    /// The code of the next reply; empty where the server has closed.
    fn code(&mut self) -> String {
        let mut line = String::new();
        // A reset is an end, too.
        while self.0.read_line(&mut line).is_ok_and(|n| n > 0) {
            if line.as_bytes()[3] == b' ' {
                return line[..3].to_owned();
            }
            line.clear();
        }
        String::new()
    }

    fn say(&mut self, octets: &[u8]) -> String {
        self.0.get_ref().write_all(octets).unwrap();
        self.code()
    }

    /// Hands in a message of so many octets.
    fn send(&mut self, octets: usize) -> String {
        assert_eq!(self.say(b"MAIL FROM:<tim@example.org>\r\n"), "250");
        assert_eq!(self.say(b"RCPT TO:<ann@example.org>\r\n"), "250");
        assert_eq!(self.say(b"DATA\r\n"), "354");
        let line = ["x".repeat(998), "\r\n".into()].concat();
        self.say(&[line.repeat(octets / line.len()).as_bytes(), b".\r\n"].concat())
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_documented_server_bounds_its_connections() {
    let server = Server::start("kept");
    let greeted = |n| {
        let mut client = Client::connect(&server, n);
        let code = client.code();
        (client, code)
    };
    // 500 in all, 20 from each address.
    let mut inside = Vec::new();
    for n in 1..=25 {
        for _ in 0..20 {
            let (client, code) = greeted(n);
            assert_eq!(code, "220", "{} are inside", inside.len());
            inside.push(client);
        }
        if n == 1 {
            assert_eq!(greeted(n).1, "", "one more from an address");
        }
    }
    assert_eq!(greeted(99).1, "", "one more than all");
    // A place that is free again is taken.
    inside.pop();
    let came = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        greeted(99).1 == "220"
    });
    assert!(came);
}

#[cfg(target_os = "linux")]
#[test]
fn the_server_that_keeps_messages_bounds_them() {
    const MIB: usize = 1 << 20;
    let server = Server::start("kept");
    let authenticated = || {
        let mut client = Client::connect(&server, 1);
        assert_eq!(client.code(), "220");
        assert_eq!(client.say(b"EHLO client.example.org\r\n"), "250");
        assert_eq!(client.say(b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n"), "235");
        client
    };
    let (mut first, mut second) = (authenticated(), authenticated());
    assert_eq!(first.send(40 * MIB), "250");
    // Of what has no room nothing stays, and the client can go on.
    assert_eq!(first.send(40 * MIB), "452");
    assert_eq!(second.send(40 * MIB), "452");
    assert_eq!(second.send(10 * MIB), "250");
    assert_eq!(first.send(20 * MIB), "452");
    assert_eq!(first.send(10 * MIB), "250");
    // A vector that grows has up to twice the memory, and for a moment the old beside the new.
    let most = server.most() / 1024;
    assert!(most < 3 * 64, "{most} MiB");
}

#[cfg(target_os = "linux")]
#[test]
fn argon2_takes_no_more_memory_than_its_threads() {
    // Two threads, with 19 MiB each.
    let crowd = Command::new(program()).args(["crowd", "300", "50"]).output().unwrap();
    assert!(crowd.status.success(), "{}", said(&crowd));
    let most = kib(&said(&crowd)) / 1024;
    assert!(most < 100, "{most} MiB");
}
