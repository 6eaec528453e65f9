//! The bounds on time and memory, and hostile clients.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use smtp_auth::sasl::Mechanism;

use crate::support::{Authd, BINARY, Client, Outcome, PASSWORD, get, resident};

/// Each hash takes half a second or so, unless the tests are built with optimizations.
const SLOW: &str = "[accounts]\niterations = 400000\n[limits]\nfailure_delay_ms = 3000\n";

#[test]
fn a_full_queue_is_a_temporary_failure() {
    let mut authd = Authd::new(None, &format!("{SLOW}[hashing]\nthreads = 1\nqueue = 0\n"));
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    let (mut old, mut later) = (authd.connect(), Client::connect(&authd.path("auth"), 2));
    let both = [(); 2].map(|()| later.begin(None, "tim", PASSWORD));
    // The one occupies the only thread, and the other cannot wait.
    let (refused, outcome) = later.end();
    assert_eq!(outcome, Outcome::Code("temp_fail"));
    old.begin(None, "tim", PASSWORD);
    assert_eq!(old.end().1, Outcome::Closed, "Exim would call a FAIL final");
    let (answered, outcome) = later.end();
    assert_eq!(outcome, Outcome::Ok("tim".into()));
    assert!(both.contains(&refused) && both.contains(&answered) && refused != answered);
    // The thread counts as free a moment after its result.
    let begin = Instant::now();
    while later.sign_in(Mechanism::Plain, None, "tim", PASSWORD) != Outcome::Ok("tim".into()) {
        assert!(begin.elapsed() < Duration::from_secs(10), "the thread is not free again");
    }
}

/// Postfix waits for 10 seconds for the reply to a request.
#[test]
fn every_request_has_its_reply_within_eight_seconds() {
    let mut authd = Authd::new(None, &format!("{SLOW}[hashing]\nthreads = 1\nqueue = 1000\n"));
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    let mut client = Client::connect(&authd.path("auth"), 2);
    let begin = Instant::now();
    let guesses = 90;
    (0..guesses).for_each(|_| {
        client.begin(None, "tim", "wrong");
    });
    let outcomes: Vec<_> = (0..guesses).map(|_| client.end().1).collect();
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(8900), "{took:?}");
    let temporary = outcomes.iter().filter(|own| **own == Outcome::Code("temp_fail")).count();
    assert!(temporary > 0, "the queue is too short for this test");
    assert!(outcomes.iter().all(|own| [Outcome::Code("temp_fail"), Outcome::Fail].contains(own)));
}

/// In a longer exchange, the account could have been disabled after it was looked up.
#[test]
fn an_exchange_of_more_than_thirty_seconds_is_a_temporary_failure() {
    let mut authd = Authd::new(None, "");
    authd.done(&["add", "tim"], PASSWORD);
    authd.start();
    let mut client = Client::connect(&authd.path("auth"), 2);
    let mut is_first = true;
    let outcome = client.sign_in_slowly(Mechanism::ScramSha256, None, "tim", PASSWORD, || {
        if std::mem::take(&mut is_first) {
            thread::sleep(Duration::from_secs(31));
        }
    });
    assert_eq!(outcome, Outcome::Code("temp_fail"));
    let outcome = client.sign_in(Mechanism::ScramSha256, None, "tim", PASSWORD);
    assert_eq!(outcome, Outcome::Ok("tim".into()));
}

const HELLO: &str = "VERSION\t1\t0\nCPID\t1\n";

/// Opens connections, each of which sends these octets, and returns them.
fn crowd(authd: &Authd, octets: &[u8], count: usize) -> Vec<UnixStream> {
    let connect = |_| {
        let mut stream = UnixStream::connect(authd.path("auth")).unwrap();
        // The service may close the connection at once.
        let _ = stream.write_all(octets);
        stream
    };
    (0..count).map(connect).collect()
}

#[test]
fn hostile_clients_end_neither_the_service_nor_anothers_exchange_and_memory_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics");
    let metrics = format!("[metrics]\nlisten = \"unix:{}\"\n", path.display());
    let mut authd = Authd::new(None, &format!("[limits]\nfailure_delay_ms = 3000\n{metrics}"));
    authd.done(&["add", "tim"], PASSWORD);
    let pid = authd.start();
    let (mut good, mut held) = (authd.connect(), authd.connect());
    let refused = held.begin(None, "nobody", "wrong");
    authd.wait_for("not authenticated");
    let outcome = good.sign_in_slowly(Mechanism::ScramSha256, None, "tim", PASSWORD, || {
        attack(&authd, pid);
    });
    assert_eq!(outcome, Outcome::Ok("tim".into()), "an exchange that was open all the time");
    assert_eq!(held.end(), (refused, Outcome::Fail));
    let begin = Instant::now();
    // Nothing is left of the clients that have gone.
    while !get(UnixStream::connect(&path).unwrap()).contains("smtp_authd_connections 2\n") {
        assert!(begin.elapsed() < Duration::from_secs(10), "connections are left");
        thread::sleep(Duration::from_millis(20));
    }
    let outcome = authd.connect().sign_in(Mechanism::Plain, None, "tim", PASSWORD);
    assert_eq!(outcome, Outcome::Ok("tim".into()));
}

/// The connections of each kind stay open until all have been made.
fn attack(authd: &Authd, pid: u32) {
    let plain =
        |id: u32| format!("AUTH\t{id}\tPLAIN\tservice=smtp\tsecured\tresp=AG1hbGxvcnkAd3Jvbmc=\n");
    let scram = |id: u32| {
        format!(
            "AUTH\t{id}\tSCRAM-SHA-256\tservice=smtp\tresp=biwsbj1tYWxsb3J5LHI9YWJjZGVmZ2hpams=\n"
        )
    };
    let many: String = (0..300).map(scram).collect();
    let half = format!("AUTH\t1\tPLAIN\tservice=smtp\tresp={}", "A".repeat(16_000));
    let kinds = [
        // Other versions, garbage, commands that do not exist, and handshakes that stop.
        "VERSION\t2\t0\n".to_owned(),
        "\0\u{ff}\n".to_owned(),
        "VERSION".to_owned(),
        format!("{HELLO}WHAT\t1\n"),
        format!("{HELLO}AUTH\tx\n"),
        // A half line as long as a line may be, and half an exchange.
        format!("{HELLO}{half}"),
        format!("{HELLO}{}", scram(1)),
        // Numbers that are open, have been open, or never were.
        format!("{HELLO}{}{}", scram(1), scram(1)),
        format!("{HELLO}{}CANCEL\t1\n{}CANCEL\t1\nCANCEL\t1\n", scram(1), scram(1)),
        format!("{HELLO}CONT\t7\tAAAA\nCANCEL\t8\n"),
        // More exchanges than a connection may have, with replies that nobody reads.
        format!("{HELLO}{many}"),
        // Guesses, whose replies are held back.
        format!("{HELLO}{}{}", plain(1), plain(2)),
    ];
    let (before, each) = (resident(pid), 40);
    let mut all = Vec::new();
    for kind in &kinds {
        all.extend(crowd(authd, kind.as_bytes(), each));
        // These hang up at once.
        drop(crowd(authd, kind.as_bytes(), each));
    }
    for seed in 0..500 {
        let kind = &kinds[usize::try_from(seed).unwrap() % kinds.len()];
        let varied = crowd(authd, &vary(kind.as_bytes(), seed), 1);
        if seed % 2 == 0 {
            all.extend(varied);
        }
    }
    for mut endless in crowd(authd, HELLO.as_bytes(), each) {
        let written = (0..1000).map_while(|_| endless.write_all(&[b'x'; 4096]).ok()).count();
        assert!(written < 1000, "a line without an end is cut off");
    }
    all.extend(cancelling(authd, pid));
    thread::sleep(Duration::from_millis(500));
    let grown = resident(pid).saturating_sub(before) / all.len() as u64;
    eprintln!("{} hostile connections take {grown} octets each", all.len());
    assert!(grown < 128 * 1024, "{grown} octets for each of {} connections", all.len());
}

/// Returns the octets with a few changes, which depend on the seed: an octet is replaced or left out, or a part is repeated.
fn vary(octets: &[u8], seed: u64) -> Vec<u8> {
    let mut varied = octets.to_vec();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = |below: usize| {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap() % below
    };
    for _ in 0..=random(8) {
        let at = random(varied.len());
        match random(3) {
            0 => varied[at] = [b'\t', b'\n', b'=', b'9', 0, 1, 0xff][random(7)],
            1 if varied.len() > 1 => drop(varied.remove(at)),
            _ => {
                let part = varied[at..(at + 1 + random(64)).min(varied.len())].to_vec();
                varied.splice(at..at, part);
            }
        }
    }
    varied
}

/// A client that cancels each of its exchanges may begin others, and the answers to the first are still on their way.
fn cancelling(authd: &Authd, pid: u32) -> Vec<UnixStream> {
    let response = "AG1hbGxvcnkAd3Jvbmc=";
    let one =
        |id| format!("AUTH\t{id}\tPLAIN\tservice=smtp\tsecured\tresp={response}\nCANCEL\t{id}\n");
    let (many, count): (String, _) = ((0..20_000).map(one).collect(), 10);
    let before = resident(pid);
    let mut all = crowd(authd, HELLO.as_bytes(), count);
    for stream in &mut all {
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(stream.write_all(many.as_bytes()).is_err(), "the service goes on reading");
    }
    let grown = resident(pid).saturating_sub(before) / count as u64;
    eprintln!("connections with cancelled exchanges take {grown} octets each");
    assert!(grown < 512 * 1024, "{grown} octets for each of {count} connections");
    all
}

/// Clients that begin exchanges, and never read a reply, hold up neither the others nor a stop.
#[test]
fn clients_that_do_not_read_keep_no_connection_to_the_database() {
    let mut authd = Authd::new(None, "connections = 4\n");
    authd.done(&["add", "tim"], PASSWORD);
    let pid = authd.start();
    let fails: String = (0..240).map(|id| format!("AUTH\t{id}\tXYZ\n")).collect();
    let response = "biwsbj1tYWxsb3J5LHI9YWJjZGVmZ2hpams=";
    let begun =
        |id: u32| format!("AUTH\t{id}\tSCRAM-SHA-256\tservice=smtp\tresp={response}\n{fails}");
    let mut silent = crowd(&authd, HELLO.as_bytes(), 8);
    let many: String = (1000..1200).map(begun).collect();
    for stream in &mut silent {
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(stream.write_all(many.as_bytes()).is_err(), "the service goes on reading");
    }
    let begin = Instant::now();
    for _ in 0..5 {
        let outcome = authd.connect().sign_in(Mechanism::ScramSha256, None, "tim", PASSWORD);
        assert_eq!(outcome, Outcome::Ok("tim".into()));
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    authd.signal(pid, "-TERM");
    assert!(authd.wait());
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    drop(silent);
}

#[test]
fn a_client_that_reads_late_gets_every_reply() {
    let mut authd = Authd::new(None, "[limits]\nfailure_delay_ms = 0\n");
    authd.start();
    let stream = Client::connect_only(&authd.path("auth"));
    let mut out = stream.try_clone().unwrap();
    let many: String = (0..50_000).map(|id| format!("AUTH\t{id}\tXYZ\n")).collect();
    let writing = thread::spawn(move || out.write_all(format!("{HELLO}{many}").as_bytes()));
    thread::sleep(Duration::from_secs(1));
    assert!(!writing.is_finished(), "the service goes on reading");
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let fails = lines.filter(|line| line.starts_with("FAIL\t")).take(50_000);
    let numbers = fails.map(|fail| fail.split('\t').nth(1).unwrap().parse::<u32>().unwrap());
    assert!(numbers.eq(0..50_000));
    writing.join().unwrap().unwrap();
}

fn with_metrics() -> Authd {
    let authd = Authd::new(None, "");
    let path = authd.path("metrics");
    authd.configure(None, &format!("[metrics]\nlisten = \"unix:{}\"\n", path.display()));
    authd
}

#[test]
fn silent_clients_of_the_metrics_delay_no_other() {
    let mut authd = with_metrics();
    authd.start();
    let connect = || UnixStream::connect(authd.path("metrics")).unwrap();
    let silent = [(); 5].map(|()| connect());
    let begin = Instant::now();
    assert!(get(connect()).contains("smtp_authd_connections 0\n"));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    drop(silent);
    // These are more than are served at once, so that another waits until the first are given up.
    let (silent, begin) = ([(); 20].map(|()| connect()), Instant::now());
    assert!(get(connect()).contains("smtp_authd_connections 0\n"));
    assert!(begin.elapsed() > Duration::from_secs(3), "{:?}", begin.elapsed());
    drop(silent);
}

/// Connections, the database and the metrics share the open files that the process may have.
#[test]
fn the_limit_of_open_files_bounds_the_connections_and_leaves_room_for_the_database() {
    let authd = with_metrics();
    authd.done(&["add", "tim"], PASSWORD);
    let log = std::fs::File::options().append(true).create(true).open(authd.path("log")).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 120; exec \"$0\" --config \"$1\"", BINARY])
        .arg(authd.path("authd.toml"))
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let served = std::panic::catch_unwind(|| {
        let bound = "fewer connections than `max_connections` files=120 connections=32";
        authd.wait_for_all(&["service is ready", bound]);
        // More than these 32 wait in the socket's queue, up to the queue's length.
        let many = crowd(&authd, b"", 31);
        let mut last = authd.connect();
        let waiting = crowd(&authd, HELLO.as_bytes(), 100);
        assert_eq!(
            last.sign_in(Mechanism::Plain, None, "tim", PASSWORD),
            Outcome::Ok("tim".into())
        );
        let scraper = UnixStream::connect(authd.path("metrics")).unwrap();
        scraper.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let metrics = get(scraper);
        assert!(metrics.contains("smtp_authd_connections 32\n"), "{metrics}");
        drop((many, waiting));
        let outcome = authd.connect().sign_in(Mechanism::Plain, None, "tim", PASSWORD);
        assert_eq!(outcome, Outcome::Ok("tim".into()));
    });
    child.kill().unwrap();
    child.wait().unwrap();
    served.unwrap_or_else(|_| panic!("{}", authd.log()));
}
