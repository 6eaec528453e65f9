//! A disk that hangs.

use super::*;

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

/// Clients that may send their messages; more than the server has threads, on most machines.
fn clients_in_data(server: &Server) -> Vec<Client> {
    let mut clients: Vec<_> = (0..16).map(|_| server.client()).collect();
    for client in &mut clients {
        assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
        assert!(client.say("MAIL FROM:<>").starts_with("250 "));
        assert!(client.say("RCPT TO:<ann@example.org>").starts_with("250 "));
        assert!(client.say("DATA").starts_with("354 "));
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
    clients.iter_mut().for_each(|client| client.write("Subject: late\r\n\r\n.\r\n").unwrap());
    assert_others_go_on(&server);
    drop(disk);
    let mut hung = 0;
    for client in &mut clients {
        let reply = client.reply();
        // Or its turn came only when the disk was back.
        if reply != "250 2.0.0 Message stored" {
            hung += 1;
            assert!(reply.starts_with("451 4.3.0 "), "{reply}");
            assert_eq!(client.send("Subject: late\r\n\r\n").unwrap(), "250 2.0.0 Message stored");
        }
    }
    assert_ne!(hung, 0);
    // A second time, and now the server is to end: in order, and at once.
    let _disk = SilentDisk::mount(&tmp).unwrap();
    let mut clients = clients_in_data(&server);
    clients.iter_mut().for_each(|client| client.write("Subject: late\r\n\r\n.\r\n").unwrap());
    assert_others_go_on(&server);
    let began = Instant::now();
    while server.is_running() {
        server.terminate();
        assert!(began.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(100));
    }
}

/// The clients' files in `tmp`, once each has sent more than is kept in memory.
fn files_in_data(maildir: &Path, clients: &mut [Client]) -> Vec<PathBuf> {
    let large = message("large", 80 << 10);
    clients.iter_mut().for_each(|client| client.write(&large).unwrap());
    let files = || {
        let files = fs::read_dir(maildir.join("tmp")).unwrap();
        files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
    };
    assert!(within_a_second(|| files().len() == clients.len()));
    files()
}

#[test]
fn a_disk_that_hangs_in_a_message_holds_up_nobody_else() {
    let large = message("larger", 80 << 10);
    let stored = Some("250 2.0.0 Message stored");
    // Where the disk hangs, what each client says then and afterwards, and the reply. The last leave.
    for (call, then, afterwards, reply) in [
        ("write", &*large, ".\r\n", stored),
        ("fsync", "The end\r\n.\r\n", "", stored),
        ("unlink", "A bare\nline end\r\n.\r\n", "", Some("554 5.6.0 ")),
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
