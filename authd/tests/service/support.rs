//! The service as a process, and a mail server's side of the protocol.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use smtp_auth::{
    dovecot::{ClientLine, Data, Request, ServerLine},
    sasl::{
        Channel, Mechanism,
        client::{Config, Credentials, Exchange, Step},
    },
};
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_smtp-authd");
pub(crate) const PASSWORD: &str = "tanstaaftanstaaf";

/// A configuration in a directory of its own, and the processes that use it.
pub(crate) struct Authd {
    directory: TempDir,
    processes: Vec<Child>,
}

impl Authd {
    /// With a SQLite database, or another one, and further lines of the configuration.
    pub(crate) fn new(database: Option<&str>, more: &str) -> Self {
        let authd = Self { directory: tempfile::tempdir().unwrap(), processes: Vec::new() };
        authd.configure(database, more);
        authd
    }

    pub(crate) fn configure(&self, database: Option<&str>, more: &str) {
        let own = format!("sqlite:{}", self.path("accounts.db").display());
        let text = format!(
            "database = \"{}\"\nquery_time_limit_ms = 1000\n{more}\n\
             [[socket]]\npath = \"{}\"\nmode = \"0660\"\ntrusted = true\n",
            database.unwrap_or(&own),
            self.path("auth").display()
        );
        let path = self.path("authd.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg("--config")
            .arg(self.path("authd.toml"))
            .args(arguments)
            .env_remove("DATABASE_URL");
        command
    }

    /// Runs `account …` with this standard input.
    pub(crate) fn account(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut command = self.command(&["account"]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_ref()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The same, which has to go well. Returns the standard output.
    pub(crate) fn done(&self, arguments: &[&str], input: &str) -> String {
        let output = self.account(arguments, input);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that has to refuse to start, and returns the reason that it gives.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap();
                panic!("{arguments:?} is not refused");
            }
            sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// Starts the service, and waits until it answers.
    pub(crate) fn start(&mut self) -> u32 {
        self.start_until("service is ready")
    }

    /// Starts the service, and waits until its log contains this.
    pub(crate) fn start_until(&mut self, text: &str) -> u32 {
        let log =
            std::fs::File::options().append(true).create(true).open(self.path("log")).unwrap();
        let child = self.command(&["serve"]).stderr(log).spawn().unwrap();
        let pid = child.id();
        self.processes.push(child);
        self.wait_for(text);
        pid
    }

    /// Waits for a line of the log that contains this, and has not been waited for before.
    pub(crate) fn wait_for(&self, text: &str) {
        let begin = Instant::now();
        while !self.log().contains(text) {
            assert!(begin.elapsed() < Duration::from_secs(20), "no `{text}` in {}", self.log());
            sleep(Duration::from_millis(20));
        }
        std::fs::OpenOptions::new().write(true).truncate(true).open(self.path("log")).unwrap();
    }

    /// Waits for lines of the log, and leaves them there.
    pub(crate) fn wait_for_all(&self, texts: &[&str]) {
        let begin = Instant::now();
        while !texts.iter().all(|text| self.log().contains(text)) {
            assert!(begin.elapsed() < Duration::from_secs(20), "not {texts:?} in {}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, pid: u32, signal: &str) {
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
    }

    /// Kills the last process that was started, by -9.
    pub(crate) fn kill(&mut self) {
        let mut child = self.processes.pop().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for the last process that was started to end.
    pub(crate) fn wait(&mut self) -> bool {
        self.processes.pop().unwrap().wait().unwrap().success()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.path("auth"), 0)
    }
}

impl Drop for Authd {
    fn drop(&mut self) {
        for child in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// What became of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The account.
    Ok(String),
    Fail,
    /// `FAIL` with this code.
    Code(&'static str),
    /// The connection is closed.
    Closed,
}

/// A mail server's connection.
pub(crate) struct Client {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    pub(crate) mechanisms: Vec<String>,
    /// The account to act as.
    pub(crate) authzid: Option<&'static str>,
    /// Whether the mail server's clients use TLS.
    pub(crate) is_tls: bool,
    next: u32,
}

impl Client {
    /// Connects, as a mail server that speaks this minor version.
    pub(crate) fn connect(path: &Path, minor: u32) -> Self {
        Self::try_connect(path, minor).expect("a connection with a handshake")
    }

    /// Connects and reads the handshake, and then says nothing.
    pub(crate) fn connect_only(path: &Path) -> UnixStream {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut octets = [0; 16];
        stream.read_exact(&mut octets).unwrap();
        stream
    }

    /// `None` if there is no service, or it ends meanwhile.
    pub(crate) fn try_connect(path: &Path, minor: u32) -> Option<Self> {
        let stream = UnixStream::connect(path).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        let mut client =
            Self { stream, reader, mechanisms: Vec::new(), authzid: None, is_tls: true, next: 1 };
        loop {
            let line = client.line()?;
            match ServerLine::parse(&line).unwrap() {
                Some(ServerLine::Mech(name, _)) => client.mechanisms.push(name.into_owned()),
                Some(ServerLine::Done) => break,
                _ => {}
            }
        }
        client.send(&ClientLine::Version { major: 1, minor });
        client.send(&ClientLine::Cpid(std::process::id()));
        Some(client)
    }

    pub(crate) fn send(&mut self, line: &ClientLine) {
        let mut octets = Vec::new();
        line.write(&mut octets);
        // The service may have closed the connection.
        let _ = self.stream.write_all(&octets);
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        // A killed service resets its connections.
        let read = self.reader.by_ref().take(20_000).read_until(b'\n', &mut line);
        assert!(!matches!(&read, Err(error) if error.kind() == ErrorKind::WouldBlock), "no answer");
        line.pop().filter(|last| *last == b'\n').map(|_| line)
    }

    /// Begins an exchange with PLAIN, and returns its number.
    pub(crate) fn begin(&mut self, rip: Option<&str>, name: &str, password: &str) -> u32 {
        let response = format!("\0{name}\0{password}");
        let request = self.request(Mechanism::Plain, rip);
        let id = request.id();
        self.send(&ClientLine::Auth(Box::new(request), Some(Data::new(response))));
        id
    }

    /// Begins an exchange with PLAIN and this response.
    pub(crate) fn plain(&mut self, response: &str) {
        let request = self.request(Mechanism::Plain, None);
        self.send(&ClientLine::Auth(Box::new(request), Some(Data::new(response))));
    }

    /// Returns the salt and the number of iterations that SCRAM answers with.
    pub(crate) fn first_challenge(&mut self, name: &str) -> String {
        let request = self.request(Mechanism::ScramSha256, None);
        let first = Data::new(format!("n,,n={name},r=abcdefghijkl"));
        self.send(&ClientLine::Auth(Box::new(request), Some(first)));
        match ServerLine::parse(&self.line().unwrap()).unwrap() {
            Some(ServerLine::Cont(_, data)) => {
                let text = String::from_utf8(data.expose().to_vec()).unwrap();
                text.split_once(",s=").unwrap().1.to_owned()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Begins an exchange with a mechanism of this name, and waits for its end.
    pub(crate) fn unknown(&mut self, mechanism: &str) -> Outcome {
        let request = Request::new(self.next, mechanism, "smtp").unwrap();
        self.next += 1;
        self.send(&ClientLine::Auth(Box::new(request), None));
        self.end().1
    }

    fn request(&mut self, mechanism: Mechanism, rip: Option<&str>) -> Request {
        let mut request = Request::new(self.next, mechanism.name(), "smtp").unwrap();
        if self.is_tls {
            request = request.with_tls();
        }
        self.next += 1;
        match rip {
            Some(rip) => request.with_remote(rip.parse().unwrap(), None),
            None => request,
        }
    }

    /// Returns the next end of an exchange, with its number.
    pub(crate) fn end(&mut self) -> (u32, Outcome) {
        let Some(line) = self.line() else { return (0, Outcome::Closed) };
        match ServerLine::parse(&line).unwrap() {
            Some(ServerLine::Ok { id, user }) => (id, Outcome::Ok(user.unwrap().into_owned())),
            Some(ServerLine::Fail { id, code: Some(code), .. }) => {
                (id, Outcome::Code(code.as_str()))
            }
            Some(ServerLine::Fail { id, .. }) => (id, Outcome::Fail),
            other => panic!("{other:?}"),
        }
    }

    /// Authenticates, one exchange at a time.
    pub(crate) fn sign_in(
        &mut self,
        mechanism: Mechanism,
        rip: Option<&str>,
        name: &str,
        password: &str,
    ) -> Outcome {
        self.sign_in_slowly(mechanism, rip, name, password, || {})
    }

    /// Authenticates, and does something after each challenge, before the response to it.
    pub(crate) fn sign_in_slowly(
        &mut self,
        mechanism: Mechanism,
        rip: Option<&str>,
        name: &str,
        password: &str,
        mut meanwhile: impl FnMut(),
    ) -> Outcome {
        let mut credentials = Credentials::password(name, password).unwrap();
        if let Some(authzid) = self.authzid {
            credentials = credentials.acting_as(authzid).unwrap();
        }
        let config = Config::builder().mechanisms([mechanism]).build().unwrap();
        let mut exchange = Exchange::new(&config, &Channel::tls(), mechanism, credentials);
        let request = self.request(mechanism, rip);
        let id = request.id();
        let mut request = Some(request);
        loop {
            match exchange.step() {
                Step::Derive(derive) => derive.run(),
                Step::Custom(custom) => custom.fail(),
                Step::Done(outcome) => panic!("{outcome:?} before the server's end"),
                Step::Response(response) => {
                    let data = response.data().map(Data::new);
                    match request.take() {
                        Some(request) => self.send(&ClientLine::Auth(Box::new(request), data)),
                        None => self.send(&ClientLine::Cont(id, data.unwrap_or_default())),
                    }
                    let Some(line) = self.line() else { return Outcome::Closed };
                    match ServerLine::parse(&line).unwrap() {
                        Some(ServerLine::Cont(own, data)) if own == id => {
                            meanwhile();
                            response.challenge(data.expose())
                        }
                        Some(ServerLine::Ok { user, .. }) => {
                            return Outcome::Ok(user.unwrap().into_owned());
                        }
                        Some(ServerLine::Fail { code: Some(code), .. }) => {
                            return Outcome::Code(code.as_str());
                        }
                        Some(ServerLine::Fail { .. }) => return Outcome::Fail,
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }
}

/// Says what is not tested and why. With `SMTP_AUTH_NO_SKIP` set, this is a failure.
pub(crate) fn skipped(what: &str) {
    assert!(std::env::var_os("SMTP_AUTH_NO_SKIP").is_none(), "{what}");
    // Unlike `eprintln!`, this is shown even if the test passes.
    let _ = writeln!(std::io::stderr(), "skipped: {what}");
}

/// The memory of a process, in octets.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Asks for a page by HTTP, and returns the body.
pub(crate) fn get(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}
