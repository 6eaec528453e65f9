//! Dialogues as text files: each one under `tests/transcripts` is played against a `Session`, whole
//! and cut at every octet.
//!
//! A file has a line for each thing said or seen:
//!
//! ```text
//! # a comment, such as the source of the dialogue
//! ! header: value
//! C: what the client says        (a CRLF is added)
//! S: what the server says
//! ? password tim -> accept       a query, and how it was answered
//! = authenticated tim by PLAIN   another event
//! = failed Rejected              a sign-in that came to nothing, and why
//! + AUTH PLAIN                   the server's reply above has this line
//! - STARTTLS                     and none that begins like this
//! !tls                           TLS begins
//! !close                         the session closes the connection
//! !eof                           the server has closed it (role client)
//! ```
//!
//! One side is the session, the other is played from the file. All that the peer says up to the
//! next line of the session's is sent at once.
//!
//! In what is said, and in the headers' words, `\s` is a space, `\r \n \0 \t \\` are as in Rust,
//! `\x80` is an octet, `{AB*3}` is `ABABAB`, and `\c` at the end of a line says that no CRLF follows.
//!
//! A client's lines, and the server's `334`, are compared to the letter; other replies by their
//! code, and by their enhanced code where the file has one. Queries are compared where the file has
//! any `?` line, other events where it has any `=` line, in their order.
//!
//! A query's line has what the client named, `-` for what it did not, and the answer; never a
//! password or a token:
//!
//! ```text
//! ? password tim -> accept       or reject, tempfail, tooweak, transition
//! ? cram tim -> found            or none, tempfail
//! ? scram tim -> found           the same
//! ? token boss server.example.com 587 -> accept tim    authzid, host, port; or reject, tempfail,
//!                                insufficient-scope
//! ? external laptop-7 boss -> accept tim               the certificate's name, authzid
//! ? anonymous sirhc -> accept    the trace
//! ? authorize tim as boss -> accept
//! ```
//!
//! Headers of both roles: `role: server|client`, `tls: on|none` (on is as of the first octet, and
//! the default), `mechanisms: PLAIN,LOGIN`, `cleartext: allowed`, `hostname: NAME`,
//! `binding: tls-exporter|tls-server-end-point|tls-unique HEX` (repeatable;
//! there is none before TLS),
//! `channel_binding: none|preferred|required`.
//!
//! Headers of `server`: `user: NAME PASSWORD` (repeatable), `token: ACCOUNT TOKEN` (repeatable),
//! `certificate: NAME [ACCOUNT]` (whom the client's certificate names, and the account that has it, by
//! default of the same name), `authorize: AUTHCID AUTHZID` (repeatable; `-` is no other),
//! `authorize_always: on`, `refusal: CODE ENHANCED TEXT` (to who is proven; `\n` separates lines),
//! `answer: tempfail|reject|tooweak|transition|insufficient-scope` (to all queries that can be
//! answered so; guests are let in otherwise), `nonce: TEXT` (repeatable, used in order; none left is
//! a failing source), `salt: BASE64` and `iterations: N` (of the accounts' SCRAM keys),
//! `salt_key: TEXT` (for those that do not exist), `token_error: SCOPE [URL]` (what a client with a
//! bad token is told besides), `starttls: offered|required|unavailable|off`, `unauthenticated: allowed`,
//! `max_attempts: N`, `max_message: N`, `legacy: on`, `message: refuse` (at DATA) or
//! `message: reject` (at its end), `ehlo: none`. The host refuses mailboxes that begin with
//! `refused`. Unless the file has the greeting it is played silently, then EHLO unless the client
//! begins with EHLO or HELO, or `ehlo: none` is given.
//!
//! Headers of `client`: `login: NAME PASSWORD [AUTHZID]`, `token: USER TOKEN [HOST PORT]`,
//! `external: [AUTHZID]` or `anonymous: [TRACE]`, `nonce: TEXT` as above,
//! `starttls: required|if-offered|never`, `initial_response: never`, `challenges: lenient`,
//! `x_exps: read`, `try_next: never|if-unusable|always`, `max_tries: N`, `ehlo: AUTH PLAIN|PIPELINING`
//! (greeting and EHLO are played silently, with these keywords in the reply),
//! `send: FROM TO,TO [PARAMETER,…]`, `send: NOOP` or `send: RSET` (repeatable; `<>` is no sender; `size=N`,
//! `seven-bit`, `eight-bit`, `smtputf8`, `auth=MAILBOX`, `ret=full|headers`, `envid=TEXT`, `require-tls`,
//! `KEYWORD:NAME=VALUE`, `every`; a recipient may have `;notify=never`, `;notify=success+failure+delay`,
//! `;orcpt=TYPE:ADDRESS`, `;KEYWORD:NAME=VALUE`), `verified: yes` (the server's certificate),
//! `message: TEXT`, `then: quit`,
//! `on_failure: quit|go_on|next|retry NAME PASSWORD|retry_token USER TOKEN` (repeatable).

use std::{
    fs, iter,
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use script::{Block, Kind, Script};
use smtp_auth::{Mask, Side};

mod client;
mod lines;
mod script;
mod server;

/// What the session did.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// A line that it said.
    Said(Vec<u8>),
    Event(String),
}

impl Entry {
    fn show(&self) -> String {
        match self {
            Self::Said(line) => format!("says {}", line.escape_ascii()),
            Self::Event(event) => event.clone(),
        }
    }
}

/// A session, and the host around it.
trait Player {
    /// What happens before the file's first line of the peer.
    fn begin(&mut self) -> Vec<Entry>;
    /// What happens when the octets come in these pieces, then perhaps the end of the stream.
    fn play(&mut self, pieces: &[&[u8]], eof: bool) -> Vec<Entry>;
    /// The lines of the trace so far, and `Debug` of the session.
    fn traces(&self) -> (Vec<String>, String);
    /// From here on by `next`, which is `advance` and `pending` in one.
    fn by_next(&mut self);
}

fn player(script: &Script) -> Box<dyn Player> {
    match script.header("role") {
        Some("server") => Box::new(server::Host::new(script)),
        Some("client") => Box::new(client::Host::new(script)),
        role => panic!("{}: no such role: {role:?}", script.path),
    }
}

/// One playing of a script: what happened in each block, and the trace.
struct Run {
    blocks: Vec<Vec<Entry>>,
    trace: Vec<String>,
}

fn run(script: &Script, by_next: bool, cuts: impl Fn(usize, &Block) -> Vec<usize>) -> Run {
    let mut player = player(script);
    if by_next {
        player.by_next();
    }
    let mut blocks = Vec::new();
    for (n, block) in script.blocks.iter().enumerate() {
        blocks.push(if n == 0 {
            player.begin()
        } else {
            let (mut pieces, mut from) = (Vec::new(), 0);
            for cut in cuts(n, block).into_iter().chain([block.octets.len()]) {
                if cut > from {
                    pieces.push(&block.octets[from..cut]);
                    from = cut;
                }
            }
            player.play(&pieces, block.eof)
        });
    }
    let (trace, debug) = player.traces();
    for secret in &script.secrets {
        let seen = trace.iter().find(|line| shows(line, secret));
        assert_eq!(seen, None, "{}: a secret in the trace", script.path);
        assert!(!debug.contains(secret), "{}: a secret in {debug}", script.path);
    }
    Run { blocks, trace }
}

/// Whether a line of a trace has the secret, as it is or in base64.
fn shows(line: &str, secret: &str) -> bool {
    let decoded = line.split(' ').filter_map(|word| STANDARD.decode(word).ok());
    let inside = |octets: Vec<u8>| octets.windows(secret.len()).any(|at| at == secret.as_bytes());
    line.contains(secret) || decoded.into_iter().any(inside)
}

/// Compares a run with what the file says.
fn check(script: &Script, run: &Run) {
    for (block, seen) in script.blocks.iter().zip(&run.blocks) {
        let compared = |entry: &&Entry| match entry {
            Entry::Said(_) => true,
            Entry::Event(event) => script.compares(event),
        };
        let mut seen = seen.iter().filter(compared).peekable();
        let mut reply: Vec<&[u8]> = Vec::new();
        for item in &block.expected {
            let at = format!("{}:{}", script.path, item.line);
            match &item.kind {
                Kind::Has(text) => assert!(
                    reply.iter().any(|line| line.get(4..) == Some(text)),
                    "{at}: the reply lacks that line: {}",
                    reply.concat().escape_ascii()
                ),
                Kind::HasNot(text) => assert!(
                    !reply.iter().any(|line| line.get(4..).unwrap_or(b"").starts_with(text)),
                    "{at}: the reply has such a line: {}",
                    reply.concat().escape_ascii()
                ),
                Kind::Event(expected) => {
                    let found = seen.next().map(Entry::show);
                    assert_eq!(found.as_ref(), Some(expected), "{at}");
                }
                Kind::Says(expected) if script.is_server() => {
                    if expected.get(3) == Some(&b'-') {
                        continue;
                    }
                    reply.clear();
                    while let Some(Entry::Said(line)) =
                        seen.next_if(|e| matches!(e, Entry::Said(_)))
                    {
                        reply.push(line);
                        if line.get(3) != Some(&b'-') {
                            break;
                        }
                    }
                    let found = match reply.last() {
                        Some(last) => last.escape_ascii().to_string(),
                        None => seen.next().map_or("nothing".into(), Entry::show),
                    };
                    let good = reply.last().is_some_and(|last| server::agree(expected, last));
                    assert!(good, "{at}: got {found}");
                }
                Kind::Says(expected) => {
                    let found = seen.next().map_or("nothing".into(), Entry::show);
                    assert_eq!(found, format!("says {}", expected.escape_ascii()), "{at}");
                }
            }
        }
        let rest: Vec<String> = seen.map(Entry::show).collect();
        let empty: [String; 0] = [];
        assert_eq!(rest, empty, "{}:{}: more than is told behind it", script.path, block.last_line);
    }
}

/// Where the session frames lines otherwise, does not look at them, or was greeted silently.
const OTHER_LINES: [&str; 8] = [
    "/line-ends/",
    "/limits/",
    "/unread-",
    "injection",
    "bare-lf",
    "too-long",
    "bad-line",
    "greeting",
];

/// Compares the trace with what a mask shows of the same lines, unless a server has received some together, which
/// the session looks at in another order. The mask has a reply's text masked where it may repeat what was sent,
/// whether it does so or not, and counts the line end that a client's application left out.
fn compare_with_mask(script: &Script, run: &Run) {
    let (peer, own) = if script.is_server() {
        (Side::Client, Side::Server)
    } else {
        (Side::Server, Side::Client)
    };
    let mut mask = Mask::new();
    let mut shown = Vec::new();
    let mut show = |side, line: &[u8]| {
        shown.extend(mask.line(side, line).map(|line| format!("{side}: {line}")));
    };
    for (block, seen) in script.blocks.iter().zip(&run.blocks) {
        block.octets.split_inclusive(|&octet| octet == b'\n').for_each(|line| show(peer, line));
        for entry in seen {
            if let Entry::Said(line) = entry {
                show(own, line);
            }
        }
    }
    // Greeting and EHLO may have been played silently.
    let silent = run.trace.len().saturating_sub(shown.len());
    let expected: Vec<&String> = run.trace.iter().skip(silent).collect();
    let agree = |shown: &String, expected: &str| match shown.strip_suffix("***") {
        Some(start) => expected.starts_with(start),
        None => shown == expected || shown.starts_with("C: [a message of "),
    };
    let all = shown.len() == expected.len()
        && shown.iter().zip(&expected).all(|(shown, expected)| agree(shown, expected));
    let together = script.is_server() && script.blocks.iter().any(|b| b.line_ends.len() > 1);
    let skipped = together || OTHER_LINES.iter().any(|name| script.path.contains(name));
    assert!(all || skipped, "{}: {shown:#?}, and the trace {expected:#?}", script.path);
}

/// Where to cut a block in two. In a block of many octets the middles of its lines are sampled.
fn positions(octets: &[u8]) -> impl Iterator<Item = usize> {
    let near = |at: usize| {
        let around = &octets[at.saturating_sub(24)..(at + 24).min(octets.len())];
        octets.len() < 1024 || at < 64 || around.contains(&b'\n') || at % 509 == 0
    };
    (1..octets.len()).filter(move |&at| near(at))
}

fn play(path: &Path) {
    let script = Script::read(path);
    let whole = run(&script, false, |_, _| Vec::new());
    check(&script, &whole);
    compare_with_mask(&script, &whole);
    let compare = |how: &str, other: Run| {
        for (n, (a, b)) in whole.blocks.iter().zip(&other.blocks).enumerate() {
            let line = script.blocks[n].first_line;
            assert_eq!(a, b, "{}:{line}: differs when the octets come {how}", script.path);
        }
        assert_eq!(whole.trace, other.trace, "{}: the trace, octets {how}", script.path);
    };
    compare("line by line", run(&script, true, |_, block| block.line_ends.clone()));
    compare("one by one", run(&script, true, |_, block| (1..block.octets.len()).collect()));
    for (n, block) in script.blocks.iter().enumerate() {
        for at in positions(&block.octets) {
            let cuts = |m, _: &Block| if m == n { vec![at] } else { Vec::new() };
            compare(&format!("cut at {at}"), run(&script, false, cuts));
        }
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            found.push(path);
        }
    }
}

fn all() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts"), &mut found);
    found.sort();
    assert!(!found.is_empty());
    found
}

#[test]
fn transcripts() {
    let found = all();
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = iter::from_fn(|| found.get(next.fetch_add(1, Ordering::Relaxed)));
        mine.filter(|path| catch_unwind(|| play(path)).is_err()).collect::<Vec<_>>()
    };
    let failed: Vec<_> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), found.len());
}
