//! A disk that is full or fails, and a kill at work.

use super::*;

/// A small file system, while it lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Result<Self, String> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(at);
        mounted(&mut mount).map(|()| Self(at))
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

/// As a full disk does, but without a right to mount one: no file may grow beyond 128 KiB.
#[test]
fn a_failed_write_loses_nothing() {
    let folder = tempdir().unwrap();
    let mut shell = Command::new("sh");
    // A signal that is ignored here stays so, and then write(2) has an error.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 256; exec \"$0\" \"$@\""]).arg(example("server"));
    let server = Server::run(shell, folder.path(), &[]);
    let mut client = server.client();
    assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
    let failed = "451 4.3.0 Local error in processing, try again later";
    let fits = |n: u8| message(&format!("{n}"), 96 << 10);
    assert_eq!(client.send(&fits(1)).unwrap(), "250 2.0.0 Message stored");
    // At the last write of all.
    assert_eq!(client.send(&message("a little too large", 129 << 10)).unwrap(), failed);
    assert_eq!(client.send(&fits(2)).unwrap(), "250 2.0.0 Message stored");
    // In the middle: its file goes at once, and the reply comes at the end.
    let large = message("much too large", 256 << 10);
    let (begin, rest) = large.split_at(80 << 10);
    let (most, rest) = rest.split_at(rest.len() - 64);
    client.write("MAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n").unwrap();
    (0..3).for_each(|_| assert!(client.reply().starts_with(['2', '3'])));
    client.write(begin).unwrap();
    assert!(within_a_second(|| messages(folder.path(), "tmp").len() == 1));
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
        ("250 2.0.0 queued", "250 2.0.0 Message relayed"),
        ("554 5.7.1 no", "554 5.7.1 The next hop replied: no"),
        ("530 5.7.0 Sign in, tim", "554 5.7.0 The next hop requires TLS or authentication"),
        ("554 5.7.8 tim is wrong", "554 5.7.8 The next hop requires TLS or authentication"),
        // Lines that differ in code, permanently in the end.
        ("250-2.0.0 queued\r\n552 5.3.4 no", "552 5.3.4 The next hop replied: no"),
        ("354-go\r\n554 5.7.1 no", "554 5.7.1 The next hop replied: no"),
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
        assert!(within_a_second(|| messages(folder.path(), "tmp").is_empty()));
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
    strace.arg(&calls).arg(example("server"));
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
