//! The example server among clients that are broken, many, or malicious, on a disk that fails, and
//! killed at work. All on loopback, which has more than one address on Linux alone.
//!
//! What takes a right that the user has not (to mount a small disk, to trace a program) is skipped,
//! with the reason on stderr.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "a panic is how a test fails, and nothing here is public"
)]
#![cfg(all(
    target_os = "linux",
    feature = "std",
    feature = "getrandom",
    feature = "plain",
    feature = "cram-md5",
    feature = "scram-sha-256"
))]

#[path = "robust/duties.rs"]
mod duties;
#[path = "../examples/server/limits.rs"]
mod limits;
#[path = "robust/peers.rs"]
mod peers;

use std::{
    collections::HashMap,
    fs::{self, File, FileTimes},
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, TcpListener},
    num::NonZeroU32,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use limits::{Connections, Guesses, Limited, MAX_REMEMBERED, Network, WINDOW};
use peers::{Client, PASSWORD, Server, example};
use smtp_auth::sasl::{
    self, Answer, Authenticator, Channel, CheckPassword, Failure, Mechanism,
    server::{Exchange, Step},
};
use tempfile::tempdir;

const WRONG: &str = "535 5.7.8 The user name, password, token or certificate is wrong";
const GUESSED: &str = "421 4.7.0 Too many failed authentication attempts, closing";

/// Says why a test does not run.
fn skip(what: &str, reason: &str) {
    // Past the test runner, which would keep it for itself.
    let _ = writeln!(io::stderr(), "skipped: {what}: {reason}");
}

/// Wrong passwords, each from an address `127.0.0.N` and in a connection of its own.
fn guess(server: &Server, guesses: &[(u8, &str)]) {
    let mut clients: Vec<Client> = guesses.iter().map(|&(n, _)| server.client_from(n)).collect();
    for (client, (_, name)) in clients.iter_mut().zip(guesses) {
        client.ask(name, "wrong");
    }
    for client in &mut clients {
        assert_eq!(client.reply(), WRONG);
    }
}

#[test]
fn an_address_has_so_many_guesses() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "3"]);
    let (mut early, mut inside) = (server.client_from(2), server.client_from(2));
    assert!(inside.sign_in("tim", PASSWORD).starts_with("235 "));
    guess(&server, &[(2, "one"), (2, "two")]);
    assert!(server.client_from(2).sign_in("ann", PASSWORD).starts_with("235 "));
    guess(&server, &[(2, "three")]);
    let mut late = server.connect_from(2);
    assert_eq!((late.reply().as_str(), late.reply().as_str()), (GUESSED, ""));
    assert_eq!(early.sign_in("ann", PASSWORD), GUESSED);
    assert!(early.is_cut_off());
    // Who is signed in has nothing to guess, and others are others.
    assert_eq!(inside.send("Subject: inside\r\n\r\n").unwrap(), "250 2.0.0 Message stored");
    assert!(server.client_from(3).sign_in("ann", PASSWORD).starts_with("235 "));
}

#[test]
fn an_account_has_so_many_guesses() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "2"]);
    guess(&server, &[(2, "tim"), (3, "tim")]);
    // The right password is as wrong as any.
    assert_eq!(server.client_from(4).sign_in("tim", PASSWORD), WRONG);
    assert!(server.client_from(5).sign_in("ann", PASSWORD).starts_with("235 "));
}

#[test]
fn a_sign_in_clears_the_accounts_failures() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "2"]);
    for address in [2, 3] {
        guess(&server, &[(address, "tim")]);
        assert!(server.client_from(4).sign_in("tim", PASSWORD).starts_with("235 "));
    }
}

/// SCRAM asks for the keys before it hears the proof: whoever waits there has not got round.
#[test]
fn exchanges_begun_before_are_no_more_guesses() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "2"]);
    let first = BASE64_STANDARD.encode("n,,n=tim,r=fyko+d2lbbFgONRv9qkxdawL");
    let mut clients: Vec<Client> = (2..6).map(|n| server.client_from(n)).collect();
    for client in &mut clients {
        assert!(client.say(&format!("AUTH SCRAM-SHA-256 {first}")).starts_with("334 "));
    }
    let replies: Vec<_> = clients.iter_mut().map(|client| client.say("AAAA")).collect();
    assert!(replies[..2].iter().all(|reply| reply.starts_with("535 5.7.8 ")), "{replies:?}");
    assert_eq!(replies[2..], [GUESSED; 2]);
}

/// A locked account goes on to show its own salt, or who sees another knows that there is one.
#[test]
fn a_locked_account_shows_its_own_salt() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "2"]);
    let salt = |n: u8, name: &str| {
        let first = BASE64_STANDARD.encode(format!("n,,n={name},r=fyko+d2lbbFgONRv9qkxdawL"));
        let mut client = server.client_from(n);
        let reply = client.say(&format!("AUTH SCRAM-SHA-256 {first}"));
        let challenge = BASE64_STANDARD.decode(reply.strip_prefix("334 ").unwrap()).unwrap();
        let salt = String::from_utf8(challenge).unwrap().split_once(',').unwrap().1.to_owned();
        (salt, client)
    };
    for (n, name) in [(10, "tim"), (20, "nobody")] {
        let (before, _) = salt(n, name);
        guess(&server, &[(n + 1, name), (n + 2, name)]);
        assert_eq!(server.client_from(n + 3).sign_in(name, PASSWORD), WRONG);
        let (locked, mut client) = salt(n + 4, name);
        assert_eq!(locked, before, "{name}");
        assert_eq!(
            client.say("AAAA"),
            "535 5.7.8 Malformed credentials: the final message of SCRAM is malformed"
        );
    }
}

/// Every way to write a name is a guess at the same account.
#[test]
fn guesses_under_other_spellings_count() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "2"]);
    guess(&server, &[(2, "t\u{ad}im"), (3, "\u{ff54}im")]);
    assert_eq!(server.client_from(4).sign_in("tim\u{200d}", PASSWORD), WRONG);
    assert_eq!(server.client_from(5).sign_in("tim", PASSWORD), WRONG);
}

/// Clients hang up as soon as they are told that their token is refused.
#[test]
fn refused_tokens_meet_the_limit_as_passwords_do() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--token", "tim:abc", "--guess-limit", "10"]);
    let wrong = BASE64_STANDARD.encode("user=tim\u{1}auth=Bearer wrong\u{1}\u{1}");
    let mut told = 0;
    for _ in 0..10 {
        let mut clients: Vec<Client> = (0..30).map(|_| server.connect_from(2)).collect();
        for client in &mut clients {
            // Who is over the limit has been sent away already.
            let _ = client.write(format!("EHLO c\r\nAUTH XOAUTH2 {wrong}\r\n"));
        }
        for client in &mut clients {
            let mut reply = client.reply();
            while reply.starts_with("2") {
                reply = client.reply();
            }
            told += u32::from(reply.starts_with("334 "));
            assert!(reply.starts_with("334 ") || reply == GUESSED, "{reply}");
        }
    }
    assert_eq!(told, 10, "of 300");
}

#[test]
fn guessing_is_not_limited_where_that_is_off() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "off"]);
    // More than the ten by default, from one address and at one account.
    for _ in 0..3 {
        let mut client = server.client();
        (0..4).for_each(|_| assert_eq!(client.sign_in("tim", "wrong"), WRONG));
    }
    assert!(server.client().sign_in("tim", PASSWORD).starts_with("235 "));
}

/// How long the replies take to the first two failures of a connection.
fn pauses(options: &[&str]) -> [Duration; 2] {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), options);
    let mut client = server.client();
    [(); 2].map(|()| {
        let began = Instant::now();
        assert_eq!(client.sign_in("tim", "wrong"), WRONG);
        began.elapsed()
    })
}

#[test]
fn each_failure_is_answered_later() {
    let [first, second] = pauses(&[]);
    assert!(first >= Duration::from_secs(1), "{first:?}");
    assert!(second >= Duration::from_secs(2), "{second:?}");
}

#[test]
fn failures_are_answered_at_once_where_guessing_is_not_limited() {
    let pauses = pauses(&["--guess-limit", "off"]);
    assert!(pauses.iter().all(|&pause| pause < Duration::from_secs(1)), "{pauses:?}");
}

fn network(address: &str) -> Network {
    Network::from(address.parse::<IpAddr>().unwrap())
}

const TICK: Duration = Duration::from_millis(1);

#[test]
fn failures_count_for_their_network_and_their_account() {
    let guesses = Guesses::new(NonZeroU32::new(2).unwrap());
    let (now, tim, here) = (Instant::now(), guesses.account("tim"), network("192.0.2.1"));
    let barred = || (guesses.bar_network(here, now), guesses.bar_account(tim, now));
    guesses.failed(here, ["tim"], now);
    assert_eq!(barred(), (false, false));
    guesses.failed(here, [], now);
    assert_eq!(barred(), (true, false));
    guesses.failed(network("192.0.2.2"), ["tim"], now);
    assert_eq!(barred(), (true, true));
    guesses.signed_in(tim);
    assert_eq!(barred(), (true, false));
}

/// Who has an account by ten names has no more guesses at it.
#[test]
fn an_alias_is_locked_with_its_account() {
    struct Users;

    impl Authenticator for Users {
        fn mechanisms(&self) -> &[Mechanism] {
            &[Mechanism::Plain]
        }

        fn check_password(&self, ask: &CheckPassword) -> Answer {
            let right = ask.password().expose() == PASSWORD;
            Answer::from(right).of("tim")
        }
    }

    let config = sasl::server::Config::builder("localhost").mechanisms(Users.mechanisms());
    let config = Arc::new(config.build().unwrap());
    let guesses = Guesses::new(NonZeroU32::new(2).unwrap());
    let sign_in = |name: &str, password: &str| {
        let now = Instant::now();
        let users = Limited { users: &Users, guesses: Some(&guesses), now };
        let response = format!("\0{name}\0{password}").into_bytes();
        let mut exchange =
            Exchange::new(&config, &Channel::tls(), Mechanism::Plain, Some(response));
        exchange.query().unwrap().answer_with(&users);
        let Step::Done(outcome) = exchange.step() else { panic!("it goes on") };
        let why = outcome.err();
        let names = [exchange.authcid(), exchange.account()].into_iter().flatten();
        guesses.failed(network("192.0.2.1"), names, now);
        why
    };
    assert_eq!(sign_in("t.im", "wrong"), Some(Failure::Rejected));
    assert_eq!(sign_in("ti.m", "wrong"), Some(Failure::Rejected));
    assert_eq!(sign_in("t.i.m", PASSWORD), Some(Failure::Locked));
    assert_eq!(sign_in("tim", PASSWORD), Some(Failure::Locked));
}

#[test]
fn failures_are_forgotten_one_by_one() {
    let guesses = Guesses::new(NonZeroU32::new(4).unwrap());
    let (begin, here, leak) = (Instant::now(), network("192.0.2.1"), WINDOW / 4);
    let barred = |now| guesses.bar_network(here, now);
    (0..4).for_each(|_| guesses.failed(here, [], begin));
    assert!(barred(begin + leak - TICK));
    assert!(!barred(begin + leak));
    // Room for one, and no more.
    guesses.failed(here, [], begin + leak);
    assert!(barred(begin + leak * 2 - TICK));
    assert!(!barred(begin + leak * 2));
    // When it has been quiet for the whole time there is room for all.
    for end in [begin + leak + WINDOW, begin + WINDOW * 4] {
        (0..3).for_each(|_| guesses.failed(here, [], end));
        assert!(!barred(end));
        guesses.failed(here, [], end);
        assert!(barred(end));
    }
}

#[test]
fn failures_beyond_the_limit_prolong_nothing() {
    let guesses = Guesses::new(NonZeroU32::new(2).unwrap());
    let (now, here) = (Instant::now(), network("192.0.2.1"));
    (0..50).for_each(|_| guesses.failed(here, [], now));
    assert!(guesses.bar_network(here, now + WINDOW / 2 - TICK));
    assert!(!guesses.bar_network(here, now + WINDOW / 2));
}

/// Where the time of one failure is no whole number of nanoseconds, too.
#[test]
fn every_limit_is_kept_to_the_failure() {
    for limit in [1, 2, 7, 10, 999, 100_003] {
        let guesses = Guesses::new(NonZeroU32::new(limit).unwrap());
        let (now, here) = (Instant::now(), network("192.0.2.1"));
        (1..limit).for_each(|_| guesses.failed(here, [], now));
        assert!(!guesses.bar_network(here, now), "{limit}");
        guesses.failed(here, [], now);
        assert!(guesses.bar_network(here, now), "{limit}");
    }
}

#[test]
fn a_table_of_failures_has_an_end() {
    let guesses = Guesses::new(NonZeroU32::MIN);
    let address = |n: usize| Network::from(IpAddr::from(Ipv4Addr::from(n as u32)));
    let now = Instant::now();
    for n in 0..=MAX_REMEMBERED.get() {
        guesses.failed(address(n), [], now);
    }
    let barred = |n| guesses.bar_network(address(n), now);
    assert_eq!([0, 1, MAX_REMEMBERED.get()].map(barred), [false, true, true]);
}

#[test]
fn an_address_of_ipv6_stands_for_its_64() {
    assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:ffff:ffff:ffff"));
    assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
}

#[test]
fn a_place_is_free_when_its_connection_ends() {
    let connections = Arc::new(Connections::new(2, 1));
    let (here, there) = (network("192.0.2.1"), network("192.0.2.2"));
    let place = connections.enter(here);
    let code = |network| connections.enter(network).map(drop).map_err(|reply| reply.to_string());
    assert!(code(here).unwrap_err().starts_with("421 4.7.0 "));
    let other = connections.enter(there);
    assert!(code(network("192.0.2.3")).unwrap_err().starts_with("421 4.3.2 "));
    drop(place);
    assert_eq!(code(here), Ok(()));
    drop(other);
    assert_eq!(code(there), Ok(()));
}

#[test]
fn who_comes_when_it_is_full_is_told_so() {
    let folder = tempdir().unwrap();
    let options = ["--max-connections", "3", "--max-per-address", "2"];
    let server = Server::start(folder.path(), &options);
    let mut inside = [server.client_from(2), server.client_from(2)];
    let told = |n| {
        let mut client = server.connect_from(n);
        let reply = client.reply();
        // And nothing else.
        assert!(client.is_cut_off());
        reply
    };
    assert_eq!(told(2), "421 4.7.0 Too many connections from your address, try again later");
    let third = server.client_from(3);
    assert_eq!(told(4), "421 4.3.2 Too many connections, try again later");
    // No handshake either: the connection ends without an octet.
    assert!(server.connect_for_tls().is_cut_off());
    assert!(inside.iter_mut().all(|client| client.say("NOOP").starts_with("250 ")));
    drop(third);
    let came = (0..50).any(|_| {
        thread::sleep(Duration::from_millis(20));
        server.connect_from(4).reply().starts_with("220 ")
    });
    assert!(came, "a place that is free again is taken");
}

/// The first half of a ClientHello: a record of 512 octets that never come.
const HALF_A_HANDSHAKE: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[test]
fn who_stalls_holds_up_nobody_else() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    // More of each kind than the server has threads, on most machines.
    let stalled: Vec<_> = (0..6).flat_map(|_| stalled_clients(&server)).collect();
    let began = Instant::now();
    let mut client = server.client();
    assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
    assert_eq!(client.send("Subject: on\r\n\r\n").unwrap(), "250 2.0.0 Message stored");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    drop(stalled);
}

fn stalled_clients(server: &Server) -> [Client; 5] {
    let mut line = server.client();
    line.write("AUTH PLA").unwrap();
    let mut tls = server.connect_for_tls();
    tls.write(HALF_A_HANDSHAKE).unwrap();
    let mut starttls = server.client();
    assert!(starttls.say("STARTTLS").starts_with("220 "));
    starttls.write(HALF_A_HANDSHAKE).unwrap();
    let mut message = server.client();
    assert!(message.sign_in("tim", PASSWORD).starts_with("235 "));
    message.write("MAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nSubject: ha").unwrap();
    // It never reads, so the replies to all this cannot be sent.
    let mut reader = server.client();
    assert!(reader.sign_in("tim", PASSWORD).starts_with("235 "));
    reader.flood(&b"EHLO x\r\n".repeat(1_000));
    [line, tls, starttls, message, reader]
}

#[test]
fn time_runs_out() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--sign-in-time", "1", "--max-time", "4"]);
    let mut inside = server.client();
    assert!(inside.sign_in("tim", PASSWORD).starts_with("235 "));
    let began = Instant::now();
    let mut tls = server.connect_for_tls();
    tls.write(HALF_A_HANDSHAKE).unwrap();
    let mut slow = server.client();
    // It is never idle.
    for _ in 0..8 {
        let _ = slow.write("N");
        thread::sleep(Duration::from_millis(200));
    }
    let over = "421 4.4.2 Connected for too long, closing";
    assert_eq!(slow.reply(), over);
    assert_eq!(tls.try_reply().unwrap_or_default(), "");
    assert!(inside.say("NOOP").starts_with("250 "));
    assert_eq!(inside.reply(), over);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[test]
fn who_says_nothing_is_sent_away() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--idle-time", "1"]);
    let (mut silent, mut inside) = (server.client(), server.client());
    assert!(inside.sign_in("tim", PASSWORD).starts_with("235 "));
    inside.write("MAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nSubject: ha").unwrap();
    (0..3).for_each(|_| assert!(inside.reply().starts_with(['2', '3'])));
    for client in [&mut silent, &mut inside] {
        assert_eq!(client.reply(), "421 4.4.2 Idle for too long, closing");
        assert!(client.is_cut_off());
    }
    // What there was of the message is gone.
    assert!(within_a_second(|| messages(folder.path(), "tmp").is_empty()));
    assert_eq!(messages(folder.path(), "new"), [""; 0]);
}

#[test]
fn who_takes_nothing_is_cut_off() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--idle-time", "1", "--max-connections", "1"]);
    let mut reader = server.client();
    assert!(reader.sign_in("tim", PASSWORD).starts_with("235 "));
    reader.flood(&b"EHLO x\r\n".repeat(1_000));
    let began = Instant::now();
    while !server.connect_from(2).reply().starts_with("220 ") {
        assert!(began.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_does_not_begin_tls_is_cut_off() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--handshake-time", "1"]);
    let (mut tls, mut starttls) = (server.connect_for_tls(), server.client());
    assert!(starttls.say("STARTTLS").starts_with("220 "));
    for client in [&mut tls, &mut starttls] {
        client.write(HALF_A_HANDSHAKE).unwrap();
    }
    assert!(tls.is_cut_off() && starttls.is_cut_off());
}

fn within_a_second(mut condition: impl FnMut() -> bool) -> bool {
    (0..50).any(|_| {
        let holds = condition();
        if !holds {
            thread::sleep(Duration::from_millis(20));
        }
        holds
    })
}

/// The messages in a folder of the Maildir, without the lines that the server adds. What goes while
/// this looks is not there.
fn messages(maildir: &Path, folder: &str) -> Vec<String> {
    let message = |file: io::Result<fs::DirEntry>| match fs::read_to_string(file.unwrap().path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        text => {
            let text = text.unwrap();
            Some(text.find("Subject: ").map_or_else(String::new, |start| text[start..].to_owned()))
        }
    };
    fs::read_dir(maildir.join(folder)).unwrap().filter_map(message).collect()
}

/// A small file system, while it lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Result<Self, String> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(at);
        mounted(&mut mount).map(|()| Self(at))
    }
}

fn mounted(mount: &mut Command) -> Result<(), String> {
    match mount.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let folder = tempdir().unwrap();
    let _disk = match SmallDisk::mount(folder.path()) {
        Ok(disk) => disk,
        Err(reason) => return skip("a small tmpfs", &reason),
    };
    let maildir = folder.path().join("mail");
    let server = Server::start(&maildir, &[]);
    let mut client = server.client();
    assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
    let (small, large) = ("Subject: small\r\n\r\n", "x".repeat(70) + "\r\n");
    let large = format!("Subject: large\r\n\r\n{}", large.repeat(1500));
    let full = "452 4.3.1 Insufficient storage, try again later";
    assert_eq!(client.send(small).unwrap(), "250 2.0.0 Message stored");
    assert_eq!(client.send(&large).unwrap(), full);
    assert_eq!(messages(&maildir, "tmp"), [""; 0]);
    // Room is there again. What is acknowledged stays, until there is no room for one octet.
    let mut stored = 1;
    let refusal = loop {
        let reply = client.send(small).unwrap();
        if reply != "250 2.0.0 Message stored" {
            break reply;
        }
        stored += 1;
    };
    assert_eq!(refusal, full);
    assert!(stored > 1);
    assert_eq!(messages(&maildir, "new"), vec![small; stored]);
}

/// The octets of a message, its first line aside.
fn message(subject: &str, octets: usize) -> String {
    format!("Subject: {subject}\r\n\r\n{}", ("x".repeat(62) + "\r\n").repeat(octets / 64))
}

/// As a full disk does, but without a right to mount one: no file may grow beyond 64 KiB.
#[test]
fn a_failed_write_loses_nothing() {
    let folder = tempdir().unwrap();
    let mut shell = Command::new("sh");
    // A signal that is ignored here stays so, and then write(2) has an error.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\""]).arg(example());
    let server = Server::run(shell, folder.path(), &[]);
    let mut client = server.client();
    assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
    let failed = "451 4.3.0 Local error in processing, try again later";
    let fits = |n: u8| message(&format!("{n}"), 48 << 10);
    assert_eq!(client.send(&fits(1)).unwrap(), "250 2.0.0 Message stored");
    // At the last write of all.
    assert_eq!(client.send(&message("a little too large", 65 << 10)).unwrap(), failed);
    assert_eq!(client.send(&fits(2)).unwrap(), "250 2.0.0 Message stored");
    // In the middle: its file goes at once, and the reply comes at the end.
    let large = message("much too large", 256 << 10);
    let (most, rest) = large.split_at(large.len() - 64);
    client.write("MAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n").unwrap();
    (0..3).for_each(|_| assert!(client.reply().starts_with(['2', '3'])));
    assert_eq!(messages(folder.path(), "tmp").len(), 1);
    client.write(most).unwrap();
    assert!(within_a_second(|| messages(folder.path(), "tmp").is_empty()));
    assert_eq!(client.say(&format!("{rest}.")), failed);
    assert_eq!(client.send(&fits(3)).unwrap(), "250 2.0.0 Message stored");
    let mut stored = messages(folder.path(), "new");
    stored.sort_unstable();
    assert_eq!(stored, [fits(1), fits(2), fits(3)]);
    assert_eq!(messages(folder.path(), "tmp"), [""; 0]);
}

/// A next hop for one message: takes it, or refuses it at its end. It hands over what it got.
fn next_hop(listener: TcpListener, verdict: &'static str) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        let say = |line: &str| (&stream).write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let (mut message, mut in_message) = (String::new(), false);
        say("220 next.example.org");
        for line in BufReader::new(&stream).lines().map_while(Result::ok) {
            match &*line {
                "." => {
                    in_message = false;
                    say(verdict);
                }
                _ if in_message => message += &(line + "\r\n"),
                "DATA" => {
                    in_message = true;
                    say("354 go on");
                }
                _ => say("250 yes"),
            }
        }
        message
    })
}

#[test]
fn what_is_handed_on_is_whole_and_leaves_nothing_behind() {
    // Not a whole number of the server's batches.
    let sent = message("on its way", 100 << 10);
    for (verdict, expected) in [
        ("250 2.0.0 queued", "250 2.0.0 Message handed on"),
        ("554 5.7.1 no", "554 5.7.1 The next hop says: no"),
        (
            "530 5.7.0 Sign in, tim",
            "554 5.7.0 The next hop asks this server for TLS, or to sign in",
        ),
        (
            "554 5.7.8 tim is wrong",
            "554 5.7.8 The next hop asks this server for TLS, or to sign in",
        ),
        // Lines that differ in code, permanently in the end.
        ("250-2.0.0 queued\r\n552 5.3.4 no", "552 5.3.4 The next hop says: no"),
        ("354-go\r\n554 5.7.1 no", "554 5.7.1 The next hop says: no"),
    ] {
        let folder = tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let hop = next_hop(listener, verdict);
        let server = Server::start(folder.path(), &["--relay", &address]);
        let mut client = server.client();
        assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
        assert_eq!(client.send(&sent).unwrap(), expected);
        let got = hop.join().unwrap();
        assert_eq!(got.split_once("Subject: ").unwrap().1, sent.split_once("Subject: ").unwrap().1);
        assert_eq!(messages(folder.path(), "tmp"), [""; 0]);
        assert_eq!(messages(folder.path(), "new"), [""; 0]);
    }
}

#[test]
fn only_what_is_old_is_removed_from_tmp() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let folder = tempdir().unwrap();
    let lay = |place: &str, written: u32, read: u32| {
        let path = folder.path().join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let ago = |hours| SystemTime::now() - HOUR * hours;
        let times = FileTimes::new().set_modified(ago(written)).set_accessed(ago(read));
        File::create(path).unwrap().set_times(times).unwrap();
    };
    lay("tmp/old", 37, 37);
    lay("tmp/young", 35, 35);
    lay("tmp/read", 37, 35);
    lay("tmp/written", 35, 37);
    lay("tmp/folder/old", 37, 37);
    lay("new/old", 37, 37);
    lay("cur/old", 37, 37);
    lay("old", 37, 37);
    let link = folder.path().join("tmp/link");
    symlink(folder.path().join("old"), &link).unwrap();
    let touched = Command::new("touch").args(["-h", "-d", "37 hours ago"]).arg(&link).status();
    assert!(touched.unwrap().success());
    let _server = Server::start(folder.path(), &[]);
    let mut left: Vec<_> = fs::read_dir(folder.path().join("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["folder", "link", "read", "written", "young"]);
    for place in ["tmp/folder/old", "new/old", "cur/old", "old"] {
        assert!(folder.path().join(place).exists(), "{place}");
    }
}

/// A disk that does not answer, while this lives: strace holds the server up at a call for these files.
struct HangingDisk {
    strace: Child,
    /// It writes a line for each new thread, and would end if nobody could read that.
    said: BufReader<ChildStderr>,
}

impl HangingDisk {
    fn of(server: &Server, call: &str, files: &[PathBuf]) -> Result<Self, String> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-p", &server.id().to_string()]);
        strace.args(["-e", &format!("inject={call}:delay_enter=60s")]);
        for file in files {
            strace.arg("-P").arg(file);
        }
        let started = strace.stderr(Stdio::piped()).spawn();
        let mut strace = started.map_err(|error| error.to_string())?;
        let said = BufReader::new(strace.stderr.take().unwrap());
        let mut disk = Self { strace, said };
        // The first line says that it is there, or why it cannot be.
        let mut line = String::new();
        disk.said.read_line(&mut line).unwrap();
        if line.contains("attached") { Ok(disk) } else { Err(line) }
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// A client signs in and has its mailboxes taken, which takes no disk.
fn assert_others_go_on(server: &Server) {
    let began = Instant::now();
    let mut client = server.client();
    assert!(client.sign_in("ann", PASSWORD).starts_with("235 "));
    assert!(client.say("MAIL FROM:<ann@example.org>").starts_with("250 "));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// Clients that have said DATA and are to hear of it; more than the server has threads, on most
/// machines.
fn clients_in_data(server: &Server) -> Vec<Client> {
    let mut clients: Vec<_> = (0..16).map(|_| server.client()).collect();
    for client in &mut clients {
        assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
        assert!(client.say("MAIL FROM:<>").starts_with("250 "));
        assert!(client.say("RCPT TO:<ann@example.org>").starts_with("250 "));
        client.write("DATA\r\n").unwrap();
    }
    clients
}

/// A file system that answers nothing, while it lives: nobody reads what the kernel asks of it.
struct SilentDisk<'a> {
    device: Option<File>,
    at: &'a Path,
}

impl<'a> SilentDisk<'a> {
    fn mount(at: &'a Path) -> Result<Self, String> {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "none"]);
        mounted(mount.arg(at).stdin(device.try_clone().unwrap()))?;
        Ok(Self { device: Some(device), at })
    }
}

impl Drop for SilentDisk<'_> {
    fn drop(&mut self) {
        // What waits has an error then.
        drop(self.device.take());
        let _ = Command::new("umount").args(["-l"]).arg(self.at).status();
    }
}

#[test]
fn a_disk_that_hangs_at_open_holds_up_nobody_else() {
    let folder = tempdir().unwrap();
    let mut server = Server::start(folder.path(), &[]);
    let tmp = folder.path().join("tmp");
    let disk = match SilentDisk::mount(&tmp) {
        Ok(disk) => disk,
        Err(reason) => return skip("a silent disk", &reason),
    };
    let mut clients = clients_in_data(&server);
    assert_others_go_on(&server);
    drop(disk);
    let mut hung = 0;
    for client in &mut clients {
        let reply = client.reply();
        // Or its turn came only when the disk was back.
        if !reply.starts_with("354 ") {
            hung += 1;
            assert!(reply.starts_with("451 4.3.0 "), "{reply}");
            assert!(client.say("MAIL FROM:<>").starts_with("250 "));
            assert!(client.say("RCPT TO:<ann@example.org>").starts_with("250 "));
            assert!(client.say("DATA").starts_with("354 "));
        }
        assert_eq!(client.say("Subject: late\r\n\r\n."), "250 2.0.0 Message stored");
    }
    assert_ne!(hung, 0);
    // A second time, and now the server is to end: in order, and at once.
    let _disk = SilentDisk::mount(&tmp).unwrap();
    let _clients = clients_in_data(&server);
    assert_others_go_on(&server);
    let began = Instant::now();
    while server.is_running() {
        server.terminate();
        assert!(began.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(100));
    }
}

/// The clients' files in `tmp`.
fn files_in_data(maildir: &Path, clients: &mut [Client]) -> Vec<PathBuf> {
    clients.iter_mut().for_each(|client| assert!(client.reply().starts_with("354 ")));
    let files = fs::read_dir(maildir.join("tmp")).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn a_disk_that_hangs_in_a_message_holds_up_nobody_else() {
    let large = message("large", 64 << 10);
    let stored = Some("250 2.0.0 Message stored");
    // Where the disk hangs, what each client says then and afterwards, and the reply. The last leave.
    for (call, then, afterwards, reply) in [
        ("write", &*large, ".\r\n", stored),
        ("fsync", "Subject: small\r\n\r\n.\r\n", "", stored),
        ("unlink", "Subject: bare\n\r\n.\r\n", "", Some("554 5.6.0 ")),
        ("unlink", "", "", None),
    ] {
        let folder = tempdir().unwrap();
        let server = Server::start(folder.path(), &[]);
        let mut clients = clients_in_data(&server);
        let files = files_in_data(folder.path(), &mut clients);
        let disk = match HangingDisk::of(&server, call, &files) {
            Ok(disk) => disk,
            Err(reason) => return skip("strace -p", &reason),
        };
        clients.iter_mut().for_each(|client| client.write(then).unwrap());
        if reply.is_none() {
            clients.clear();
        }
        assert_others_go_on(&server);
        drop(disk);
        for client in &mut clients {
            client.write(afterwards).unwrap();
            assert!(client.reply().starts_with(reply.unwrap()));
        }
        assert!(within_a_second(|| messages(folder.path(), "tmp").is_empty()));
    }
}

#[test]
fn a_broken_maildir_loses_nothing() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let mut client = server.client();
    assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
    let mut send = |subject: &str| client.send(&format!("Subject: {subject}\r\n\r\n")).unwrap();
    assert_eq!(send("first"), "250 2.0.0 Message stored");
    for name in ["tmp", "new"] {
        let (place, aside) = (folder.path().join(name), folder.path().join("aside"));
        fs::rename(&place, &aside).unwrap();
        fs::write(&place, "a file").unwrap();
        assert_eq!(send("lost"), "451 4.3.0 Local error in processing, try again later", "{name}");
        fs::remove_file(&place).unwrap();
        fs::rename(&aside, &place).unwrap();
    }
    assert_eq!(send("last"), "250 2.0.0 Message stored");
    let mut stored = messages(folder.path(), "new");
    stored.sort_unstable();
    assert_eq!(stored, ["Subject: first\r\n\r\n", "Subject: last\r\n\r\n"]);
    assert_eq!(messages(folder.path(), "tmp"), [""; 0]);
}

/// What no test without a power cut sees else: which calls the server makes, and in which order.
#[test]
fn a_message_is_on_the_disk_before_its_reply() {
    if let Err(error) = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output() {
        return skip("strace", &error.to_string());
    }
    let folder = tempdir().unwrap();
    let (maildir, calls) = (folder.path().join("mail"), folder.path().join("calls"));
    let mut strace = Command::new("strace");
    // With -D the server is the process that is started here, and to be ended.
    strace.args(["-D", "-f", "-y", "-s", "80", "-e", "trace=fsync,rename,sendto", "-o"]);
    strace.arg(&calls).arg(example());
    let mut server = Server::run(strace, &maildir, &[]);
    let mut client = server.client();
    assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
    assert_eq!(client.send("Subject: safe\r\n\r\n").unwrap(), "250 2.0.0 Message stored");
    server.kill();
    let traced = (0..100).find_map(|_| {
        thread::sleep(Duration::from_millis(20));
        let calls = fs::read_to_string(&calls).unwrap();
        calls.contains("+++ killed by SIGKILL").then_some(calls)
    });
    let Some(traced) = traced else { return skip("strace", "it has traced nothing") };
    let seen: Vec<&str> = traced
        .lines()
        .filter_map(|line| match line {
            _ if line.contains("fsync(") && line.contains("/mail/tmp/") => Some("the message"),
            _ if line.contains("rename(") => Some("its move"),
            _ if line.contains("fsync(") && line.contains("/mail/new>") => Some("the folder"),
            _ if line.contains("Message stored") => Some("the reply"),
            _ => None,
        })
        .collect();
    assert_eq!(seen, ["the message", "its move", "the folder", "the reply"], "{traced}");
}

const ROUNDS: usize = 5;
const SENDERS: usize = 4;
/// So many messages are acknowledged in a round before the server is killed.
const BEFORE_THE_KILL: usize = 20;

#[test]
fn a_message_that_was_acknowledged_survives_a_kill() {
    let folder = tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut server = Server::start(folder.path(), &[]);
        let (sender, receiver) = mpsc::channel();
        let senders: Vec<_> = (0..SENDERS)
            .map(|n| {
                let (client, sender) = (server.client(), sender.clone());
                thread::spawn(move || send_until_killed(client, &format!("{round}.{n}"), &sender))
            })
            .collect();
        drop(sender);
        acknowledged.extend(receiver.iter().take(BEFORE_THE_KILL));
        server.kill();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        // Those whose reply was on its way.
        acknowledged.extend(receiver.iter());
        assert_stored(folder.path(), &acknowledged);
    }
    assert!(acknowledged.len() >= ROUNDS * BEFORE_THE_KILL);
}

/// Sends messages, and tells which of them were acknowledged.
fn send_until_killed(mut client: Client, name: &str, acknowledged: &mpsc::Sender<String>) {
    assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
    for n in 0.. {
        let subject = format!("Subject: {name}.{n}\r\n");
        // Longer than the server's buffer, so that it is written in pieces.
        let message = format!("{subject}\r\n{}The end\r\n", subject.repeat(4_000));
        match client.send(&message) {
            Ok(reply) if reply == "250 2.0.0 Message stored" => {
                acknowledged.send(message).unwrap();
            }
            // Nothing, or less than a reply.
            Ok(reply) => return assert!(!reply.starts_with(['4', '5']), "{reply}"),
            Err(_) => return,
        }
    }
}

/// Each of these is there once, and nothing that is there is cut off.
fn assert_stored(maildir: &Path, acknowledged: &[String]) {
    let mut stored: HashMap<String, usize> = HashMap::new();
    for message in messages(maildir, "new") {
        assert!(message.ends_with("The end\r\n"));
        *stored.entry(message).or_default() += 1;
    }
    for message in acknowledged {
        let subject = message.lines().next().unwrap();
        assert_eq!(stored.get(message), Some(&1), "{subject}");
    }
}
