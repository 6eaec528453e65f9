//! Dialogues as text files: each one under `tests/dovecot/transcripts` is played against a `Session`, whole, octet by
//! octet, and cut in two at every octet.
//!
//! ```text
//! # a comment, such as the source of the dialogue
//! ! header: value
//! C: what the client sends       ` | ` is a TAB, and an LF is added
//! S: what the session sends
//! ? 1 password tim -> accept     a query of exchange 1, and how it is answered
//! = authenticated 1 tim by PLAIN another event
//! = failed 1 Rejected            a failed exchange, and why
//! = held 1 Rejected              the same, and the answer is held back
//! !answer 1 accept               the query that was left alone is answered, by its copy
//! !release 1                     the answer is released
//! !late 1                        the query or the answer is no longer pending
//! = close TempFail               the session closes the connection
//! ```
//!
//! All that the client sends up to the next line of another kind is sent at once. In it, `\c` at the end of a line says
//! that no LF follows, and `{A*20000}` is a long line.
//!
//! A query is answered by `accept`, `reject`, `found` (the keys of the header `password`), `none`, `tempfail`, `locked`,
//! `alias` (of the account mary), `disabled`, `expired`, `over-quota`, or `wait`, which leaves it alone.
//!
//! Headers: `mechanisms: PLAIN,LOGIN` (by default all), `password: TEXT`, `nonce: TEXT`, `salt: TEXT` and
//! `iterations: N` of SCRAM, `authorize_always: on`, `cleartext: allowed`, `minor: N` (the client's version, 0 by default).
//! Unless the file begins with `S: VERSION`, both handshakes are played silently.

use std::{
    collections::HashMap,
    fs,
    panic::catch_unwind,
    path::Path,
    sync::{Arc, LazyLock, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    dovecot::{Event, Held, Session},
    sasl::{
        Answer, AuthorizeAnswer, CramSecret, Mechanism, Nonce, Query, QueryJob, Refusal,
        RefusalKind, ScramHash, ScramKeys, TokenAnswer,
    },
};

#[derive(Clone, Debug, Default)]
struct Script {
    path: String,
    headers: Vec<(String, String)>,
    lines: Vec<String>,
}

impl Script {
    fn read(path: &Path) -> Self {
        let mut script = Self { path: path.display().to_string(), ..Self::default() };
        for line in fs::read_to_string(path).unwrap().lines() {
            match line.get(..2).unwrap_or(line) {
                "" | "#" | "# " => {}
                "! " => {
                    let (key, value) = line[2..].split_once(": ").unwrap();
                    script.headers.push((key.into(), value.into()));
                }
                _ => script.lines.push(line.into()),
            }
        }
        script
    }

    fn header(&self, key: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == key).map(|(_, value)| &**value)
    }
}

/// The octets that the client sends.
fn octets(line: &str) -> Vec<u8> {
    let (line, lf) = match line.strip_suffix("\\c") {
        Some(line) => (line, ""),
        None => (line, "\n"),
    };
    let line = match line.split_once('{').and_then(|(a, rest)| Some((a, rest.split_once('}')?))) {
        Some((before, (run, after))) => {
            let (text, times) = run.split_once('*').unwrap();
            [before, &text.repeat(times.parse().unwrap()), after].concat()
        }
        None => line.into(),
    };
    [&line.replace(" |", "\t").replace("\t ", "\t"), lf].concat().into_bytes()
}

struct Player<'a> {
    script: &'a Script,
    /// The next line that is expected.
    at: usize,
    session: Session,
    jobs: HashMap<String, QueryJob>,
    held: HashMap<String, Held>,
    out: Vec<u8>,
    closed: bool,
    trace: Arc<Mutex<Vec<String>>>,
}

impl<'a> Player<'a> {
    fn new(script: &'a Script) -> Self {
        let mut config = super::config()
            .authorize_always(script.header("authorize_always").is_some())
            .allow_cleartext(script.header("cleartext").is_some());
        if let Some(names) = script.header("mechanisms") {
            config = config.mechanisms(names.split(',').map(|n| Mechanism::from_name(n).unwrap()));
        }
        if let Some(nonce) = script.header("nonce").map(|nonce| Nonce::new(nonce).unwrap()) {
            config = config.nonces(move || Ok(nonce.clone()));
        }
        let mut session = super::session_of(config.build().unwrap().into());
        if !script.lines[0].starts_with("S: VERSION") {
            let minor = script.header("minor").unwrap_or("0");
            session.receive(format!("VERSION\t1\t{minor}\nCPID\t7\n").as_bytes());
            assert!(matches!(session.next(&mut Vec::new()), Event::NeedInput));
        }
        let trace = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&trace);
        session.trace(move |side, line| lines.lock().unwrap().push(format!("{side}: {line}")));
        let (jobs, held) = (HashMap::new(), HashMap::new());
        Self { script, at: 0, session, jobs, held, out: Vec::new(), closed: false, trace }
    }

    fn line(&self) -> Option<&'a str> {
        self.script.lines.get(self.at).map(|line| &**line)
    }

    /// Compares with the next line.
    fn expect(&mut self, found: &str) {
        assert_eq!(self.line(), Some(found), "{}, line {}", self.script.path, self.at + 1);
        self.at += 1;
    }

    fn said(&mut self) {
        let out = String::from_utf8(std::mem::take(&mut self.out)).unwrap();
        for line in out.split_inclusive('\n') {
            let line = line.strip_suffix('\n').expect("a whole line");
            self.expect(["S: ", &line.replace('\t', " | ")].concat().trim_end());
        }
    }

    /// Moves on until the session needs input, or has closed.
    fn go_on(&mut self) {
        loop {
            let mut out = std::mem::take(&mut self.out);
            let _ = self.session.advance(&mut out);
            self.out = out;
            self.said();
            let Self { script, at, session, jobs, held, .. } = self;
            let line = script.lines.get(*at).cloned().unwrap_or_default();
            let found = match session.pending() {
                Event::NeedInput => return,
                Event::Query(request, query) => {
                    let id = request.id();
                    let asked = format!("? {id} {}", asked(&query));
                    let word =
                        line.strip_prefix(&*asked).and_then(|rest| rest.strip_prefix(" -> "));
                    let word =
                        word.unwrap_or_else(|| panic!("{}: {asked}, not {line}", script.path));
                    if word == "wait" {
                        jobs.insert(id.to_string(), query.job().unwrap());
                    } else {
                        answer(query, word, script);
                    }
                    line
                }
                Event::Authenticated(request, who) => {
                    let by = who.mechanism();
                    format!("= authenticated {} {} by {by}", request.id(), who.acts_as())
                }
                Event::AuthFailed(failed) => {
                    let (id, why) = (failed.request.id(), failed.why);
                    let holds = line.starts_with("= held");
                    if holds {
                        held.insert(id.to_string(), failed.hold());
                    }
                    format!("= {} {id} {why:?}", if holds { "held" } else { "failed" })
                }
                Event::Close(why) => {
                    let found = format!("= close {why:?}");
                    assert_eq!(self.session.open_exchanges(), 0);
                    // It stays so, whatever else comes.
                    if !std::mem::replace(&mut self.closed, true) {
                        self.expect(&found);
                    }
                    return;
                }
            };
            self.expect(&found);
        }
    }

    /// Plays the script, in which each group of the client's lines comes in pieces.
    fn play(mut self, pieces: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> Vec<String> {
        self.go_on();
        while let Some(line) = self.line() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["C:", ..] => {
                    let mut sent = Vec::new();
                    while let Some(line) = self.line().and_then(|line| line.strip_prefix("C: ")) {
                        sent.extend(octets(line));
                        self.at += 1;
                    }
                    for piece in pieces(&sent) {
                        self.session.receive(&piece);
                        self.go_on();
                    }
                }
                ["!answer", id, word] => {
                    self.at += 1;
                    let mut job = self.jobs.remove(id).unwrap();
                    answer(job.query(), word, self.script);
                    assert!(self.session.answer_from(job), "{}: {line}", self.script.path);
                    self.go_on();
                }
                ["!release", id] => {
                    self.at += 1;
                    let held = self.held.remove(id).unwrap();
                    assert!(self.session.release(held), "{}: {line}", self.script.path);
                    self.go_on();
                }
                ["!late", id] => {
                    self.at += 1;
                    assert!(!self.jobs.remove(id).is_some_and(|job| self.session.answer_from(job)));
                    assert!(!self.held.remove(id).is_some_and(|held| self.session.release(held)));
                    self.go_on();
                }
                _ => panic!("{}, line {}: not so: {line}", self.script.path, self.at + 1),
            }
        }
        std::mem::take(&mut *self.trace.lock().unwrap())
    }
}

/// A script is played hundreds of times, and PBKDF2 takes its time.
fn scram_keys(hash: ScramHash, script: &Script) -> ScramKeys {
    static KNOWN: LazyLock<Mutex<HashMap<(ScramHash, String), ScramKeys>>> =
        LazyLock::new(Mutex::default);
    let [password, salt] = ["password", "salt"].map(|key| script.header(key).unwrap_or("salt"));
    let salt = STANDARD.decode(salt).unwrap();
    let iterations = script.header("iterations").map_or(1, |n| n.parse().unwrap());
    let make = || ScramKeys::from_password(hash, password, &salt, iterations).unwrap();
    KNOWN.lock().unwrap().entry((hash, script.path.clone())).or_insert_with(make).clone()
}

fn asked(query: &Query<'_>) -> String {
    match query {
        Query::CheckPassword(ask) => format!("password {}", ask.authcid()),
        Query::CramSecret(ask) => format!("cram {}", ask.authcid()),
        Query::ScramKeys(ask) => format!("scram {}", ask.authcid()),
        Query::CheckToken(ask) => format!("token {}", ask.authzid().unwrap_or("-")),
        Query::CheckAnonymous(ask) => format!("anonymous {}", ask.trace().unwrap_or("-")),
        Query::Authorize(ask) => {
            format!("authorize {} as {}", ask.authcid(), ask.authzid().unwrap_or("-"))
        }
        other => format!("{other:?}"),
    }
}

fn answer(query: Query<'_>, word: &str, script: &Script) {
    let password = script.header("password").unwrap_or_default();
    let refusal = |kind| AuthorizeAnswer::Refuse(Refusal::from(kind));
    match (query, word) {
        (query, "tempfail") => query.temp_fail(),
        (query, "reject" | "none") => query.reject(),
        (Query::CheckPassword(ask), "accept") => ask.answer(true),
        (Query::CheckPassword(ask), "locked") => ask.answer(Answer::reject().lock()),
        (Query::CheckPassword(ask), "alias") => ask.answer(Answer::accept(()).of("mary")),
        (Query::CramSecret(ask), "found") => ask.answer(Some(CramSecret::from_password(password))),
        (Query::ScramKeys(ask), "found") => {
            ask.answer(Some(scram_keys(ask.hash(), script)));
        }
        (Query::CheckToken(ask), "accept") => ask.answer(TokenAnswer::Accept("tim".into())),
        (Query::CheckAnonymous(ask), "accept") => ask.answer(true),
        (Query::Authorize(ask), "accept") => ask.answer(AuthorizeAnswer::Accept),
        (Query::Authorize(ask), "disabled") => ask.answer(refusal(RefusalKind::AccountDisabled)),
        (Query::Authorize(ask), "expired") => ask.answer(AuthorizeAnswer::Refuse(
            Refusal::new(RefusalKind::PasswordExpired, "Set a new one at\nhttps://example.org/")
                .unwrap(),
        )),
        (Query::Authorize(ask), "over-quota") => ask.answer(refusal(RefusalKind::OverQuota)),
        (query, word) => panic!("{}: {query:?} answered by {word}", script.path),
    }
}

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dovecot/transcripts");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 10, "{}", paths.len());
    let failed: Vec<_> = paths.iter().filter(|path| catch_unwind(|| play(path)).is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

fn play(path: &Path) {
    let script = Script::read(path);
    let whole = Player::new(&script).play(|sent| vec![sent.to_vec()]);
    // A line of 20,000 octets is cut more coarsely.
    let sent = script.lines.iter().filter_map(|line| line.strip_prefix("C: "));
    let longest = sent.map(|line| octets(line).len()).max().unwrap();
    let size = if longest > 5000 { 1000 } else { 1 };
    let single = Player::new(&script).play(|sent| sent.chunks(size).map(<[u8]>::to_vec).collect());
    assert_eq!(whole, single, "{}: the trace", script.path);
    for cut in (0..longest * 3).step_by(size) {
        let cut = |sent: &[u8]| {
            let (one, other) = sent.split_at(cut.min(sent.len()));
            vec![one.to_vec(), other.to_vec()]
        };
        assert_eq!(whole, Player::new(&script).play(cut), "{}: the trace", script.path);
    }
    for line in whole {
        for secret in ["tanstaaf", "pencil", "AHRpbQB", "dGFuc3RhYWY", "dj0", "cj0", "biws"] {
            assert!(!line.contains(secret), "{}: {line}", script.path);
        }
    }
}
