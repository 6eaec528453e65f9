//! The smallest server and the smallest client, which stand in the README.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use crate::setup::{example, said};

/// Ends when it goes out of scope.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Once it listens. Its port is always the same, so where another has it, this waits for the end of that.
    fn start(folder: &Path) -> Self {
        for _ in 0..100 {
            let mut server = Command::new(example("minimal_server"));
            server.current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut server = Self(server.spawn().unwrap());
            while server.0.try_wait().unwrap().is_none() {
                let listens = TcpStream::connect("127.0.0.1:2587").is_ok();
                thread::sleep(Duration::from_millis(100));
                if listens && server.0.try_wait().unwrap().is_none() {
                    return server;
                }
            }
        }
        panic!("it does not listen");
    }
}

fn send(folder: &Path, password: &str) -> Output {
    let mut client = Command::new(example("minimal_client"));
    client.current_dir(folder).arg(password).output().unwrap()
}

#[test]
fn a_message_arrives_and_a_wrong_password_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("target")).unwrap();
    let mut server = Server::start(folder.path());

    let refused = send(folder.path(), "wrong");
    assert!(!refused.status.success() && said(&refused).contains("535"), "{}", said(&refused));
    let sent = send(folder.path(), "tanstaaf");
    assert!(sent.status.success(), "{}", said(&sent));
    assert_eq!(said(&sent), "Some(ScramSha256Plus): 250 2.0.0 OK\n");

    // The one message, and nothing of the other client.
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let arrived = r#"Some("tim@example.org") to ann@example.org: 26 octets"#;
    assert_eq!(lines.next().unwrap().unwrap(), arrived);
    drop(server);
    assert!(lines.next().is_none());
}

/// How many lines of code a program has, its imports aside.
fn lines_of_code(program: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(program);
    let text = fs::read_to_string(path).unwrap();
    let mut is_import = false;
    let mut counts = |line: &&str| {
        is_import |= line.starts_with("use ");
        let counts = !is_import && !line.trim().is_empty() && !line.trim().starts_with("//");
        is_import &= !line.ends_with(';');
        counts
    };
    text.lines().filter(|line| counts(line)).count()
}

#[test]
fn they_are_as_small_as_that() {
    let (server, client) = (lines_of_code("minimal_server.rs"), lines_of_code("minimal_client.rs"));
    assert!((15..=25).contains(&server), "the server has {server} lines");
    assert!((8..=12).contains(&client), "the client has {client} lines");
}

#[test]
fn they_stand_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    for name in ["minimal_server.rs", "minimal_client.rs"] {
        let program = fs::read_to_string(root.join("examples").join(name)).unwrap();
        // Without the first line, which says how to run it.
        let (_, code) = program.split_once("\n\n").unwrap();
        assert!(readme.contains(&format!("```rust,ignore\n{code}```\n")), "{name}");
    }
}
