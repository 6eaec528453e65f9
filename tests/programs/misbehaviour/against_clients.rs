//! The example server against a scripted client: line × deviation → what is stored. After each, the
//! server serves somebody else.

use std::{
    fmt::Debug,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use super::{
    client::{
        Deviation, Handshake, Heard, Line, Script, THE_END, WITH_TLS, WITHOUT_TLS, Where,
        fail_at_tls, marked, play,
    },
    wire::{BOUND, Cut, Pair, bounded, each},
};
use crate::example_server::{PASSWORD, Server};

/// The example server, and its Maildir.
struct Stage {
    folder: TempDir,
    server: Server,
    tls: TlsConnector,
    served: AtomicUsize,
}

/// What becomes of the scripted message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Yes,
    No,
    /// It came whole, but nobody was there to be told.
    Maybe,
}

/// A client's script, and what has to become of its message.
#[derive(Debug)]
struct Case {
    lines: &'static [Line],
    at: usize,
    deviation: Deviation,
}

impl Case {
    fn line(&self) -> Line {
        self.lines[self.at]
    }
}

impl Stage {
    fn new(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = Pair::new(folder.path(), "localhost", 4000);
        let (cert, key) = (own.cert.to_str().unwrap(), own.key.to_str().unwrap());
        let mut all = vec!["--guess-limit", "off", "--max-per-address", "1000"];
        all.extend(["--senders", "ann:*", "--senders", "tim:*"]);
        all.extend(["--cert", cert, "--key", key].iter().chain(options));
        let server = Server::start(&folder.path().join("mail"), &all);
        Self { server, tls: own.connector(), served: AtomicUsize::new(0), folder }
    }

    /// Plays each, and lets a client that behaves well come next. What was heard is judged at once,
    /// what is stored at the end.
    fn play(mut self, cases: &[Case], judge: impl Fn(&Case, &Heard) + Sync) {
        let numbered: Vec<_> = cases.iter().enumerate().collect();
        let acknowledged: Vec<_> = cases.iter().map(|_| AtomicBool::new(false)).collect();
        each(&numbered, |&(id, case)| {
            let Case { lines, at, deviation } = *case;
            let script = Script { id, lines, tls: &self.tls, at, deviation };
            let heard = bounded(play(self.server.port, &script));
            let heard = heard.unwrap_or_else(|| panic!("{case:?}: more than {BOUND:?}"));
            // All went well up to there.
            let codes = heard.codes.iter().take(heard.at).map(String::as_str);
            assert!(
                codes.eq(lines[..at].iter().filter_map(|line| line.code())),
                "{case:?}: {heard:?}"
            );
            acknowledged[id].store(heard.acknowledged(), Ordering::Relaxed);
            judge(case, &heard);
            self.serves_the_next(case);
        });
        let mut stored = vec![0; cases.len()];
        self.messages().iter().filter_map(|message| marked(message)).for_each(|id| stored[id] += 1);
        for (id, case) in numbered {
            let stored = stored[id];
            let name = format!("{:?} {:?}: stored {stored} times", case.line(), case.deviation);
            match expected(case.line(), case.deviation) {
                Stored::Yes => assert_eq!(stored, 1, "{name}"),
                Stored::No => assert_eq!(stored, 0, "{name}"),
                Stored::Maybe => assert!(stored <= 1, "{name}"),
            }
            let told = acknowledged[id].load(Ordering::Relaxed);
            assert!(!told || stored == 1, "{name}, and acknowledged");
        }
    }

    /// Somebody who behaves well.
    fn serves_the_next(&self, behind: impl Debug) {
        let mut client = self.server.client();
        assert!(client.sign_in("ann", PASSWORD).starts_with("235 "), "behind {behind:?}");
        let reply = client.send(&format!("Subject: next\r\n\r\n{THE_END}")).unwrap();
        assert_eq!(reply, "250 2.0.0 Message stored", "behind {behind:?}");
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    /// The server is there and has not grown, and there are only whole messages: of those that
    /// behaved well each once.
    fn messages(&mut self) -> Vec<Vec<u8>> {
        assert!(self.server.is_running());
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kilobytes: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes < MOST_MEMORY, "{kilobytes} kB");
        let mail = self.folder.path().join("mail");
        assert!(within_seconds(|| files(&mail.join("tmp")).is_empty()), "a part is left");
        let messages = files(&mail.join("new"));
        for message in &messages {
            let whole =
                message.starts_with(b"Return-Path: ") && message.ends_with(THE_END.as_bytes());
            assert!(whole, "{}", message[..message.len().min(1000)].escape_ascii());
        }
        let next = messages.iter().filter(|message| marked(message).is_none()).count();
        assert_eq!(next, self.served.load(Ordering::Relaxed));
        messages
    }
}

/// In kilobytes: what it takes to serve many, and less than a line without an end would add.
const MOST_MEMORY: usize = 20 << 10;

fn files(folder: &Path) -> Vec<Vec<u8>> {
    // What goes while this looks is not there.
    fs::read_dir(folder).unwrap().filter_map(|file| fs::read(file.unwrap().path()).ok()).collect()
}

fn within_seconds(mut condition: impl FnMut() -> bool) -> bool {
    (0..150).any(|_| {
        let holds = condition();
        if !holds {
            thread::sleep(Duration::from_millis(20));
        }
        holds
    })
}

/// Octets that no command may have, and no message either but for NUL.
const BROKEN: [&[u8]; 3] = [b"\0", b"\r", b"\n"];
const UTF_8: &[u8] = "é".as_bytes();
const EIGHT_BIT: [&[u8]; 2] = [b"\xff", UTF_8];
/// Each in TLS or not.
const SESSIONS: [&[Line]; 2] = [&WITH_TLS, &WITHOUT_TLS];

fn deviations() -> Vec<Deviation> {
    let mut all = vec![
        Deviation::Slow(Where::Half),
        Deviation::Slow(Where::Cr),
        Deviation::OctetByOctet,
        Deviation::Twice,
        Deviation::Endless,
        Deviation::Flood,
    ];
    for place in [Where::Before, Where::Half, Where::Cr, Where::Behind] {
        all.extend(Cut::ALL.map(|how| Deviation::Cut(place, how)));
    }
    all.extend(BROKEN.iter().chain(&EIGHT_BIT).map(|&octets| Deviation::Inserted(octets)));
    all
}

fn expected(line: Line, deviation: Deviation) -> Stored {
    match deviation {
        // By then it is stored.
        _ if line == Line::Quit => Stored::Yes,
        Deviation::Slow(_) | Deviation::OctetByOctet => Stored::Yes,
        Deviation::Cut(Where::Behind, _) if line == Line::Dot => Stored::Maybe,
        Deviation::Cut(..) | Deviation::Silence(_) | Deviation::Flood => Stored::No,
        // The second is the response that is asked for, and no good one.
        Deviation::Twice if matches!(line, Line::AuthLogin | Line::Name) => Stored::No,
        Deviation::Twice => Stored::Yes,
        Deviation::Inserted(UTF_8) if line == Line::Ehlo => Stored::Yes,
        Deviation::Inserted(_) | Deviation::Endless => {
            let bare = [&b"\r"[..], b"\n"].map(Deviation::Inserted).contains(&deviation);
            match line {
                // TLS begins without it; and without TLS this server takes the sign-in, too.
                Line::FirstEhlo | Line::StartTls => Stored::Yes,
                Line::Header | Line::Blank | Line::Body if !bare => Stored::Yes,
                _ => Stored::No,
            }
        }
        Deviation::First(command) => first(line, command).1,
    }
}

/// The codes that the line itself may get where it is broken: a command that is none, or a name,
/// address or response that is none (RFC 5321 §4.2.2, RFC 4954 §4).
fn assert_refused(case: &Case, heard: &Heard) {
    let Case { deviation, .. } = *case;
    let broken = matches!(deviation, Deviation::Inserted(_) | Deviation::Endless);
    let hello = [Line::FirstEhlo, Line::Ehlo].contains(&case.line());
    let ends = [Line::Dot, Line::Quit].contains(&case.line());
    if !broken || case.line().code().is_none() || ends {
        return;
    }
    let codes: &[&str] = match deviation {
        Deviation::Inserted(UTF_8) if hello => &["250"],
        // An address in UTF-8 needs SMTPUTF8 (RFC 6531 §3.5).
        Deviation::Inserted(UTF_8) => &["500", "501", "553"],
        _ => &["500", "501"],
    };
    let code = heard.codes.get(heard.at).map_or("", String::as_str);
    assert!(codes.contains(&code), "{case:?}: {heard:?}");
}

#[test]
fn every_line_of_a_session() {
    let mut cases = Vec::new();
    for lines in SESSIONS {
        for at in 0..lines.len() {
            let all = deviations().into_iter();
            cases.extend(all.map(|deviation| Case { lines, at, deviation }));
        }
    }
    Stage::new(&[]).play(&cases, assert_refused);
}

#[test]
fn a_client_that_stops_anywhere_is_sent_away() {
    let mut cases = Vec::new();
    for lines in SESSIONS {
        for at in 0..lines.len() {
            let all = [Where::Before, Where::Cr].map(Deviation::Silence).into_iter();
            cases.extend(all.map(|deviation| Case { lines, at, deviation }));
        }
    }
    Stage::new(&["--idle-time", "2"]).play(&cases, |case, heard| {
        assert_eq!(heard.codes.last().map(String::as_str), Some("421"), "{case:?}: {heard:?}");
    });
}

/// In a session in TLS, before that line: the codes of the reply, and what becomes of the message.
fn first(line: Line, command: &str) -> (&'static [&'static str], Stored) {
    let verb = command.split(' ').next().unwrap_or_default();
    let greeted = !matches!(line, Line::FirstEhlo | Line::Ehlo);
    let signed_in = greeted && line != Line::Auth;
    let in_transaction = matches!(line, Line::Rcpt | Line::Data);
    let unless = |gone: bool| if gone { Stored::No } else { Stored::Yes };
    match verb {
        "EHLO" => (&["250"], unless(in_transaction)),
        // AUTH is an extension, of EHLO's.
        "HELO" => (&["250"], unless(in_transaction || line == Line::Auth)),
        "RSET" => (&["250"], unless(in_transaction)),
        "NOOP" => (&["250"], Stored::Yes),
        "QUIT" => (&["221"], unless(line != Line::Quit)),
        "STARTTLS" => (&["503"], Stored::Yes),
        "AUTH" if line == Line::Auth => (&["504"], Stored::Yes),
        "AUTH" => (&["503"], Stored::Yes),
        "MAIL" if !signed_in => (&["503", "530"], Stored::Yes),
        "MAIL" if in_transaction => (&["503"], Stored::Yes),
        "MAIL" => (&["250"], Stored::Yes),
        "RCPT" | "DATA" if !signed_in => (&["503", "530"], Stored::Yes),
        "RCPT" if in_transaction => (&["250"], Stored::Yes),
        "RCPT" | "DATA" => (&["503"], Stored::Yes),
        _ => (&["500"], Stored::Yes),
    }
}

#[test]
fn commands_out_of_order() {
    const COMMANDS: [&str; 15] = [
        "EHLO again.example.org",
        "HELO again.example.org",
        "RSET",
        "NOOP",
        "QUIT",
        "STARTTLS",
        "AUTH XYZZY",
        "MAIL FROM:<ann@example.org>",
        "RCPT TO:<tim@example.org>",
        "DATA",
        "",
        ".",
        "*",
        "dGlt",
        "XYZZY",
    ];
    let places =
        [Line::FirstEhlo, Line::Ehlo, Line::Auth, Line::Mail, Line::Rcpt, Line::Data, Line::Quit];
    let mut cases = Vec::new();
    for (at, line) in WITH_TLS.iter().enumerate().filter(|(_, line)| places.contains(line)) {
        // There they are in order.
        let fits = |command: &&str| match *command {
            "STARTTLS" => *line != Line::FirstEhlo,
            "DATA" => *line != Line::Data,
            _ => true,
        };
        let all = COMMANDS.into_iter().filter(fits).map(Deviation::First);
        cases.extend(all.map(|deviation| Case { lines: &WITH_TLS, at, deviation }));
    }
    Stage::new(&[]).play(&cases, |case, heard| {
        let Deviation::First(command) = case.deviation else { unreachable!() };
        let code = heard.codes.get(heard.at).map_or("", String::as_str);
        assert!(first(case.line(), command).0.contains(&code), "{case:?}: {heard:?}");
    });
}

#[test]
fn handshakes_that_come_to_nothing() {
    let mut stage = Stage::new(&[]);
    let mut ways = Vec::new();
    for octets in
        [&b"EHLO client.example.org\r\n"[..], &[0; 64], &[0xff; 64], b"\x16\x03\x01\xff\xff"]
    {
        ways.extend([Handshake::Garbage(octets), Handshake::Flood(octets)]);
    }
    // A record's header, and one octet of it; the last is whole.
    for octets in [0, 1, 5, 6, 100, usize::MAX] {
        ways.extend(Cut::ALL.map(|how| Handshake::Cut(octets, how)));
    }
    let both = |&how| [(how, true), (how, false)];
    let cases: Vec<_> = ways.iter().flat_map(both).collect();
    each(&cases, |&(how, starttls)| {
        let port = if starttls { stage.server.port } else { stage.server.tls_port };
        let ended = bounded(fail_at_tls(port, starttls, &stage.tls, how));
        assert!(ended.is_some(), "{how:?}: more than {BOUND:?}");
        stage.serves_the_next(how);
    });
    assert_eq!(stage.messages().len(), cases.len());
}
