//! The example server, as the clients find it.

use core::time::Duration;
use std::{fs, path::PathBuf, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::{
    Options, Result,
    home::Home,
    log::Log,
    message::take_all,
    process::Processes,
    sign_in::{FROM, MECHANISMS, PASSWORD, TOKEN, Transport, USER, wire_name},
};

/// How long it may take to listen.
const START: Duration = Duration::from_secs(10);

pub(crate) struct ExampleServer {
    /// Of STARTTLS and cleartext, and of implicit TLS.
    ports: [u16; 2],
    maildir: PathBuf,
    /// With the dialogues in it.
    pub(crate) log: Log,
    _processes: Processes,
}

impl ExampleServer {
    /// Offers these mechanisms; all, where there are none.
    pub(crate) async fn start(
        options: &Options,
        home: &Home,
        name: &str,
        mechanisms: &[&str],
    ) -> Result<Self> {
        let folder = home.folder(&format!("example-{name}"))?;
        let (maildir, trace) = (folder.join("mail"), folder.join("trace"));
        let log = fs::File::create(&trace).map_err(|error| error.to_string())?;
        let mechanisms = if mechanisms.is_empty() { &MECHANISMS[..] } else { mechanisms };
        let mechanisms: Vec<_> = mechanisms.iter().copied().map(wire_name).collect();
        let mut command = Command::new(&options.server);
        command
            .args(["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--trace"])
            .args(["--allow-cleartext", "--guess-limit", "off"])
            .args(["--user", &format!("{USER}:{PASSWORD}")])
            .args(["--token", &format!("{USER}:{TOKEN}")])
            .args(["--mechanisms", &mechanisms.join(","), "--client-ca"])
            .arg(&home.ca)
            .arg("--cert")
            .arg(&home.server.cert)
            .arg("--key")
            .arg(&home.server.key)
            .arg("--maildir")
            .arg(&maildir)
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log));
        let mut processes = Processes::start([command])?;
        let ports = timeout(START, ports(&mut processes)).await;
        let ports = ports.ok().flatten().ok_or("the example server does not start")?;
        Ok(Self { ports, maildir, log: Log(trace), _processes: processes })
    }

    pub(crate) fn port(&self, transport: Transport) -> u16 {
        let [plain, tls] = self.ports;
        if transport == Transport::Implicit { tls } else { plain }
    }

    /// What it has stored since it was last asked.
    pub(crate) fn take_messages(&self) -> Vec<Vec<u8>> {
        take_all(&self.maildir)
    }
}

/// As it prints them.
async fn ports(processes: &mut Processes) -> Option<[u16; 2]> {
    let mut lines = BufReader::new(processes.first()?.stdout.take()?).lines();
    let mut found = Vec::new();
    while found.len() < 2 {
        let line = lines.next_line().await.ok()??;
        if let Some(address) = line.strip_prefix("listening on ") {
            let port: String =
                address.rsplit_once(':')?.1.chars().take_while(char::is_ascii_digit).collect();
            found.push(port.parse().ok()?);
        }
    }
    found.try_into().ok()
}

/// Takes off what the server puts in front of a message that came signed in: two header fields, of which the second is
/// folded.
pub(crate) fn without_trace(stored: &[u8], transport: Transport) -> Result<&[u8]> {
    let path = format!("Return-Path: <{FROM}>\r\n");
    let rest = stored.strip_prefix(path.as_bytes()).ok_or("stored without its Return-Path")?;
    let ends = |octets: &[u8]| matches!(octets, [b'\r', b'\n', next] if *next != b' ');
    let end = rest.windows(3).position(ends).ok_or("no header field ends")? + 2;
    let (received, message) = rest.split_at_checked(end).ok_or("no line ends")?;
    let received = String::from_utf8_lossy(received);
    let with = if transport.is_tls() { " with ESMTPSA " } else { " with ESMTPA " };
    if !received.starts_with("Received: from ") || !received.contains(with) {
        return Err(format!("no Received line{with}in front: {}", received.trim_end()));
    }
    Ok(message)
}
