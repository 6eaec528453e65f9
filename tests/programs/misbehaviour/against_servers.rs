//! The example client against a scripted server: place × deviation → exit code.

use std::{
    fs,
    io::Read,
    path::PathBuf,
    process::{Child, Command, Stdio},
    slice,
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use smtp_auth::sasl::Mechanism;
use tempfile::TempDir;
use tokio::{net::TcpListener, time::sleep};

use super::{
    server::{
        Deviation, Handshake, PASSWORD, Place, Script, Seen, Step, UNUSUAL, USER, Where, serve,
    },
    wire::{BOUND, Cut, Pair, bounded, each},
};

/// What the client exits with.
const SENT: i32 = 0;
const CONNECTION: i32 = 3;
const NOT_SIGNED_IN: i32 = 4;
const REFUSED: i32 = 5;
const PROTOCOL: i32 = 6;

const MESSAGE: &str = "Subject: scripts\r\n\r\n.one dot\r\nthe end";
const STUFFED: &str = "Subject: scripts\r\n\r\n..one dot\r\nthe end";
const RECIPIENT: &str = "ann@example.org";

/// Stands in lines that are no replies. The client must not repeat it.
const NOT_A_REPLY: [&[u8]; 8] = [
    b"",
    b"SCRIBBLE",
    b"25",
    b"25SCRIBBLE",
    b"2500 SCRIBBLE",
    b" 250 SCRIBBLE",
    b"+OK SCRIBBLE",
    b"\x16\x03\x01SCRIBBLE",
];
/// Codes of every class, those of which a dialogue is made among them; the last are none (RFC 5321
/// §4.2).
const CODES: [&str; 20] = [
    "211", "220", "221", "235", "250", "251", "334", "354", "421", "432", "454", "500", "504",
    "534", "535", "550", "554", "000", "150", "999",
];
/// A byte that breaks a reply, whoever reads it.
const BROKEN: [&[u8]; 4] = [b"\0", b"\r", b"\n", b"\n250 SCRIBBLE"];

/// What the places and the programs share.
struct Stage {
    folder: TempDir,
    client: PathBuf,
    /// The certificate that the client trusts.
    trusted: PathBuf,
    /// A server by the book.
    good: Script,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("message"), MESSAGE).unwrap();
        let own = Pair::new(folder.path(), "localhost", 4000);
        let good = Script {
            tls: own.acceptor(),
            implicit: false,
            handshake: Handshake::Good,
            mechanism: Mechanism::Plain,
            pipelining: false,
            at: 0,
            deviation: Deviation::None,
        };
        // Built here, where no time is taken.
        let client = crate::setup::example("client");
        Self { folder, client, trusted: own.cert, good }
    }

    /// The example client, trusting the stage's own certificate.
    fn client(&self, port: u16, script: &Script) -> Child {
        let silent = matches!(script.deviation, Deviation::Silence(_))
            || script.handshake == Handshake::Silence;
        let patience = if silent { "2" } else { "60" };
        Command::new(&self.client)
            .args(["--server", &format!("localhost:{port}"), "--timeout", patience, "--ca"])
            .arg(&self.trusted)
            .args(["--tls", if script.implicit { "implicit" } else { "starttls" }])
            .args(["--from", "tim@example.org", "--to", RECIPIENT, "--user", USER])
            .args(["--password-env", "SCRIPTED_PASSWORD"])
            .env("SCRIPTED_PASSWORD", PASSWORD)
            .arg(self.folder.path().join("message"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self, script: &Script) -> Run {
        let began = Instant::now();
        let played = bounded(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = Process(self.client(listener.local_addr().unwrap().port(), script));
            let seen = serve(listener, script).await;
            while client.0.try_wait().unwrap().is_none() {
                sleep(Duration::from_millis(2)).await;
            }
            (seen, client.code(), client.stdout(), client.stderr())
        });
        let Script { mechanism, handshake, deviation, at, .. } = script;
        let name = format!("{mechanism} {handshake:?} {deviation:?}");
        let (seen, code, stdout, stderr) =
            played.unwrap_or_else(|| panic!("{name} at {at}: more than {BOUND:?}"));
        let name = format!("{name} {:?}", seen.places.get(*at));
        Run { name, took: began.elapsed(), seen, code, stdout, stderr }
    }
}

/// Ends when it goes out of scope.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn code(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    fn stdout(&mut self) -> String {
        text(self.0.stdout.take().unwrap())
    }

    fn stderr(&mut self) -> String {
        text(self.0.stderr.take().unwrap())
    }
}

fn text(mut pipe: impl Read) -> String {
    let mut octets = Vec::new();
    pipe.read_to_end(&mut octets).unwrap();
    String::from_utf8(octets).expect("the client speaks UTF-8")
}

/// What has become of a run.
#[derive(Debug)]
struct Run {
    name: String,
    took: Duration,
    seen: Seen,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    fn assert(&self, expected: i32) {
        let Self { name, seen, stdout, stderr, .. } = self;
        assert_eq!(self.code, Some(expected), "{name}: {stdout}{stderr}");
        // The one thing that matters most.
        assert_eq!(expected == SENT, seen.acknowledged(), "{name}: {stdout}{stderr}");
        if expected == SENT {
            assert_eq!(seen.message.as_deref(), Some(STUFFED.as_bytes()), "{name}");
            assert_eq!(stderr, "", "{name}");
            self.assert_sentence(stdout, "the server accepted the message: 2");
        } else {
            assert_eq!(stdout, "", "{name}");
            let recipient = format!("client: recipient {RECIPIENT}: ");
            let mut lines: Vec<_> = stderr.lines().collect();
            if lines.len() > 1 && lines[0].starts_with(&recipient) {
                lines.remove(0);
            }
            assert_eq!(lines.len(), 1, "{name}: {stderr}");
            self.assert_sentence(stderr, "client: ");
        }
        assert!(seen.flooded < 16 << 20, "{name}: it took {} octets", seen.flooded);
        assert!(self.took < BOUND, "{name}: {:?}", self.took);
    }

    /// For people, without what is secret, and nothing that a terminal would obey.
    fn assert_sentence(&self, text: &str, start: &str) {
        let name = &self.name;
        assert!(text.starts_with(start) && text.ends_with('\n'), "{name}: {text}");
        // QUIT cannot fail. What is written together is a name out of a program.
        for bad in ["panicked", "RUST_BACKTRACE", "Err(", "Some(", "None", "{", "::", "QUIT"] {
            assert!(!text.contains(bad), "{name}: {text}");
        }
        let camel = |pair: &[u8]| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase();
        assert!(!text.as_bytes().windows(2).any(camel), "{name}: {text}");
        let controls = text.lines().any(|line| line.chars().any(char::is_control));
        assert!(!controls, "{name}: {}", text.escape_debug());
        assert!(!text.contains("SCRIBBLE"), "{name}: {text}");
        let plain = BASE64_STANDARD.encode(format!("\0{USER}\0{PASSWORD}"));
        for secret in [PASSWORD, &BASE64_STANDARD.encode(PASSWORD), &plain] {
            assert!(!text.contains(secret), "{name}: {text}");
        }
    }
}

/// All that a server does wrong in this line.
fn deviations(place: &Place) -> Vec<Deviation> {
    let mut all = vec![Deviation::Slow, Deviation::SlowLf, Deviation::OctetByOctet];
    all.extend([Where::Before, Where::Within].map(Deviation::Silence));
    let places = [Where::Before, Where::Within, Where::Behind];
    // Behind one line is before the next.
    let places = &places[..if place.last { 3 } else { 2 }];
    for cut in Cut::ALL {
        all.extend(places.iter().map(|&place| Deviation::Cut(place, cut)));
    }
    if place.last {
        let again = [Deviation::Twice, Deviation::Ahead, Deviation::Again, Deviation::ThenClosing];
        all.extend(again);
    }
    all.extend(CODES.iter().filter(|&&code| code != place.code).map(|&code| Deviation::Code(code)));
    // An empty line before a reply counts as nothing.
    let not_a_reply = NOT_A_REPLY.into_iter().filter(|line| place.line > 0 || !line.is_empty());
    all.extend(not_a_reply.map(Deviation::Line));
    all.extend(BROKEN.map(Deviation::Inserted));
    all.extend(UNUSUAL.map(Deviation::Inserted));
    all.extend([b"x", &b"250-more\r\n"[..]].map(Deviation::Flood));
    all
}

/// What the client has to exit with. The message's fate is settled by the reply to it: whatever
/// comes then changes nothing.
fn expected(place: &Place, script: &Script) -> i32 {
    let Place { step, last, .. } = *place;
    let deviation = script.deviation;
    let scram = script.mechanism.name().starts_with("SCRAM-");
    let settled = step == Step::Quit;
    match deviation {
        _ if settled => SENT,
        Deviation::None | Deviation::Slow | Deviation::SlowLf | Deviation::OctetByOctet => SENT,
        Deviation::Cut(Where::Behind, _) if step == Step::Message => SENT,
        // The client has sent its proof, and gets none.
        Deviation::Cut(Where::Behind, _) if step == Step::Challenge && scram => PROTOCOL,
        Deviation::Cut(Where::Before | Where::Within, _) if step == Step::Proof => PROTOCOL,
        Deviation::Cut(..) | Deviation::Silence(_) => CONNECTION,
        Deviation::Twice | Deviation::Ahead | Deviation::Again if step == Step::Message => SENT,
        Deviation::ThenClosing => refused_behind(step),
        // What stands between STARTTLS and TLS is not the server's, but of who is in between.
        Deviation::Twice | Deviation::Ahead if step == Step::StartTls => CONNECTION,
        Deviation::Twice | Deviation::Ahead | Deviation::Again => PROTOCOL,
        // The codes of one reply's lines are the same (RFC 5321 §4.2.1), or the last one refuses.
        Deviation::Code(code) if place.line > 0 => match code.as_bytes()[0] {
            b'4' | b'5' if last => refused_at(step),
            _ => PROTOCOL,
        },
        Deviation::Code(code) => expected_for(step, code),
        Deviation::Line(_) | Deviation::Flood(_) => PROTOCOL,
        Deviation::Inserted(octets) if BROKEN.contains(&octets) => PROTOCOL,
        // An extension's name that is not one is not that extension's; a challenge that is not
        // base64 is cancelled. All else is only text.
        Deviation::Inserted(_) => match step {
            Step::Ehlo if last => CONNECTION,
            Step::EhloInTls if last => NOT_SIGNED_IN,
            Step::Challenge => NOT_SIGNED_IN,
            Step::Proof => PROTOCOL,
            _ => SENT,
        },
    }
}

/// By the meaning of the reply's class (RFC 5321 §4.2.1) and of RFC 4954 §4, RFC 3207 §4.
fn expected_for(step: Step, code: &str) -> i32 {
    let class = code.as_bytes()[0];
    match step {
        _ if !(b'2'..=b'5').contains(&class) => PROTOCOL,
        // It has taken nothing, and may have closed the connection long before.
        Step::Mail if code == "421" => CONNECTION,
        _ if class >= b'4' => refused_at(step),
        // Another challenge, where none is due or which cannot be read: cancelled.
        Step::Challenge | Step::Verdict if code == "334" => NOT_SIGNED_IN,
        // A transaction goes on by the first digit.
        Step::Mail | Step::Rcpt | Step::Message if class == b'2' => SENT,
        _ => PROTOCOL,
    }
}

/// What a refusal means there.
fn refused_at(step: Step) -> i32 {
    match step {
        Step::Greeting | Step::Ehlo | Step::StartTls | Step::EhloInTls => CONNECTION,
        Step::Challenge | Step::Proof | Step::Verdict => NOT_SIGNED_IN,
        Step::Mail | Step::Rcpt | Step::Data | Step::Message => REFUSED,
        Step::Quit => SENT,
    }
}

/// What it means that comes in front of the next command.
fn refused_behind(step: Step) -> i32 {
    match step {
        Step::EhloInTls => NOT_SIGNED_IN,
        // Nothing is under way.
        Step::Verdict => CONNECTION,
        Step::Message => SENT,
        same => refused_at(same),
    }
}

/// Goes through the places of this kind in each dialogue, and all deviations at each.
fn everywhere(stage: &Stage, good: &[Script], at: impl Fn(Step) -> bool) {
    let mut cases = Vec::new();
    for good in good {
        let run = stage.run(good);
        run.assert(SENT);
        let places = run.seen.places.into_iter().enumerate();
        for (at, place) in places.filter(|(_, place)| at(place.step)) {
            for deviation in deviations(&place) {
                cases.push((Script { at, deviation, ..good.clone() }, place.clone()));
            }
        }
    }
    assert!(!cases.is_empty());
    each(&cases, |(script, place)| {
        let run = stage.run(script);
        run.assert(expected(place, script));
        assert_eq!(run.seen.places.get(script.at), Some(place), "{}", run.name);
        // A command before the one in front of it was answered.
        assert!(!run.seen.hasty || script.pipelining, "{}", run.name);
    });
}

#[test]
fn every_place_of_a_dialogue() {
    let stage = Stage::new();
    everywhere(&stage, slice::from_ref(&stage.good), |_| true);
}

#[test]
fn a_silent_port_may_want_tls_from_the_start() {
    let stage = Stage::new();
    for implicit in [false, true] {
        let deviation = Deviation::Silence(Where::Before);
        let run = stage.run(&Script { implicit, deviation, ..stage.good.clone() });
        run.assert(CONNECTION);
        assert!(run.stderr.contains("the client waited for the greeting"), "{}", run.stderr);
        assert_eq!(run.stderr.contains("TLS from the start"), !implicit, "{}", run.stderr);
    }
}

#[test]
fn the_greeting_under_implicit_tls() {
    let stage = Stage::new();
    let good = Script { implicit: true, ..stage.good.clone() };
    everywhere(&stage, &[good], |step| step == Step::Greeting);
}

#[test]
fn the_sign_in_by_other_mechanisms() {
    let stage = Stage::new();
    let good = [Mechanism::Login, Mechanism::CramMd5, Mechanism::ScramSha256]
        .map(|mechanism| Script { mechanism, ..stage.good.clone() });
    let sign_in = [Step::Challenge, Step::Proof, Step::Verdict];
    everywhere(&stage, &good, |step| sign_in.contains(&step));
}

#[test]
fn a_transaction_with_pipelining() {
    let stage = Stage::new();
    let good = Script { pipelining: true, ..stage.good.clone() };
    everywhere(&stage, &[good], |step| [Step::Mail, Step::Rcpt, Step::Data].contains(&step));
}

/// The handshake fails, and nothing is said that was to be said inside TLS.
fn assert_no_tls(stage: &Stage, script: &Script, why: &str) {
    let run = stage.run(script);
    run.assert(CONNECTION);
    assert!(run.stderr.contains(why), "{}: {}", run.name, run.stderr);
    let outside = [Step::Greeting, Step::Ehlo, Step::StartTls];
    let inside = run.seen.places.iter().filter(|place| !outside.contains(&place.step));
    assert_eq!(inside.count(), 0, "{}", run.name);
}

#[test]
fn certificates_that_are_not_to_be_trusted() {
    let stage = Stage::new();
    let folder = stage.folder.path();
    let (another, expired, own) = (
        Pair::new(folder, "mail.example.org", 4000),
        Pair::new(folder, "localhost", 2021),
        Pair::new(folder, "localhost", 4000),
    );
    // Each but the last is trusted, were it not for what is wrong.
    for (shown, trusted, why) in [
        (&another, &another, "for another name"),
        (&expired, &expired, "has expired"),
        (&own, &another, "not signed by a CA that this client trusts"),
    ] {
        let stage = Stage { trusted: trusted.cert.clone(), ..Stage::new() };
        for implicit in [false, true] {
            let script = Script { tls: shown.acceptor(), implicit, ..stage.good.clone() };
            assert_no_tls(&stage, &script, why);
        }
    }
}

#[test]
fn handshakes_that_come_to_nothing() {
    let stage = Stage::new();
    let mut ways = vec![Handshake::Silence];
    for octets in [b"220 mail.example.org ESMTP\r\n", &b"SCRIBBLE"[..], &[0; 64], &[0xff; 64]] {
        ways.extend([Handshake::Garbage(octets), Handshake::Flood(octets)]);
    }
    // A record's header, and one octet of it; and with all of it the client believes to be in TLS.
    for octets in [0, 1, 5, 6, 200, usize::MAX] {
        ways.extend(Cut::ALL.map(|how| Handshake::Cut(octets, how)));
    }
    let mut cases: Vec<_> = ways.iter().map(|&handshake| (handshake, false)).collect();
    cases.extend(ways.iter().map(|&handshake| (handshake, true)));
    each(&cases, |&(handshake, implicit)| {
        let script = Script { handshake, implicit, ..stage.good.clone() };
        assert_no_tls(&stage, &script, "");
    });
}
