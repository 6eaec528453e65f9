//! The example server, and a client that can be as ill-mannered as a test needs.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::setup::example;
use base64::prelude::{BASE64_STANDARD, Engine};
use tokio::{net::TcpSocket, runtime};

pub const PASSWORD: &str = "tanstaaftanstaaf";

/// No wait of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(8);

/// Ends when it goes out of scope.
pub struct Server {
    process: Child,
    pub port: u16,
    pub tls_port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    /// The example server, with the accounts `tim` and `ann`, files in this Maildir.
    pub fn start(maildir: &Path, options: &[&str]) -> Self {
        Self::run(Command::new(example("server")), maildir, options)
    }

    /// The same by a command that runs it.
    pub fn run(mut command: Command, maildir: &Path, options: &[&str]) -> Self {
        let mut process = command
            .args(["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--allow-cleartext"])
            .args(["--user", &format!("tim:{PASSWORD}"), "--user", &format!("ann:{PASSWORD}")])
            .arg("--maildir")
            .arg(maildir)
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut ports = lines.map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("listening on ")?.rsplit_once(':')?.1.parse().ok()
        });
        let mut port = || ports.next().expect("the server starts");
        Self { port: port(), tls_port: port(), process }
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// As Ctrl-C does; the second time ends it at once.
    pub fn terminate(&self) {
        let mut shell = Command::new("sh");
        let _ = shell.args(["-c", "kill -TERM $0", &self.id().to_string()]).status();
    }

    /// A client that has said EHLO.
    pub fn client(&self) -> Client {
        self.client_from(1)
    }

    /// The same from the address `127.0.0.N`.
    pub fn client_from(&self, n: u8) -> Client {
        let mut client = self.connect_from(n);
        assert!(client.reply().starts_with("220 "));
        assert!(client.say("EHLO client.example.org").starts_with("250"));
        client
    }

    /// A client that has said and heard nothing yet.
    pub fn connect_from(&self, n: u8) -> Client {
        Client::connect(n, self.port)
    }

    /// The same where TLS begins at once.
    pub fn connect_for_tls(&self) -> Client {
        Client::connect(1, self.tls_port)
    }
}

pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(n: u8, port: u16) -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connected = runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            // Soon full, for those that do not read.
            socket.set_recv_buffer_size(4096)?;
            socket.bind(SocketAddr::from(([127, 0, 0, n], 0)))?;
            socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?.into_std()
        });
        let stream = connected.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Writes without waiting for a reply.
    pub fn write(&mut self, octets: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_ref().write_all(octets.as_ref())
    }

    /// Writes for as long as the server's side takes it.
    pub fn flood(&mut self, octets: &[u8]) {
        self.stream.get_ref().set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        while self.write(octets).is_ok() {}
    }

    /// The next reply, its lines joined; empty where the server has closed.
    pub fn try_reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            let n = self.stream.read_line(&mut line)?;
            reply += line.trim_end();
            if n == 0 || line.as_bytes().get(3) != Some(&b'-') {
                return Ok(reply);
            }
        }
    }

    pub fn reply(&mut self) -> String {
        self.try_reply().unwrap()
    }

    /// Whether the server closes, in whatever way: with octets unread the system resets.
    pub fn is_cut_off(&mut self) -> bool {
        match self.try_reply() {
            Ok(reply) => reply.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    pub fn say(&mut self, command: &str) -> String {
        self.write(format!("{command}\r\n")).unwrap();
        self.reply()
    }

    /// Asks to be signed in; the reply is for later.
    pub fn ask(&mut self, name: &str, password: &str) {
        let credentials = BASE64_STANDARD.encode(format!("\0{name}\0{password}"));
        self.write(format!("AUTH PLAIN {credentials}\r\n")).unwrap();
    }

    pub fn sign_in(&mut self, name: &str, password: &str) -> String {
        self.ask(name, password);
        self.reply()
    }

    /// Hands in a message, which must not hold a dot at the beginning of a line. The reply is the
    /// one to it, or the refusal that came before.
    pub fn send(&mut self, message: &str) -> io::Result<String> {
        for command in ["MAIL FROM:<tim@example.org>", "RCPT TO:<ann@example.org>", "DATA"] {
            self.write(format!("{command}\r\n"))?;
            let reply = self.try_reply()?;
            if !reply.starts_with(['2', '3']) {
                return Ok(reply);
            }
        }
        self.write(format!("{message}.\r\n"))?;
        self.try_reply()
    }
}
