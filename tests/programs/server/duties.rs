//! What an application owes its users beside the sign-in: nobody sends in another's name, and nobody
//! else on the machine reads the mail.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    process::Command,
    thread,
};

use tempfile::tempdir;

use super::{message, messages, within_a_second};

use crate::{
    example_server::{PASSWORD, Server},
    setup::example,
};

const NOT_YOURS: &str = "553 5.7.1 This account may not send from that address";
const SENDER_OK: &str = "250 2.1.0 Sender OK";

/// What the server replies to `MAIL FROM:` of each, for one account.
fn replies(server: &Server, name: &str, from: &[&str]) -> Vec<String> {
    let mut client = server.client();
    assert!(client.sign_in(name, PASSWORD).starts_with("235 "));
    let reply_to = |from: &&str| {
        let reply = client.say(&format!("MAIL FROM:{from}"));
        assert!(client.say("RSET").starts_with("250 "));
        reply
    };
    from.iter().map(reply_to).collect()
}

#[test]
fn an_account_sends_from_its_own_addresses_alone() {
    let folder = tempdir().unwrap();
    let mail = format!("kim@example.org:{PASSWORD}");
    let server = Server::start(folder.path(), &["--user", &mail]);
    let own = replies(&server, "tim", &["<tim@example.org>", "<TIM@Example.COM>", "<>"]);
    assert_eq!(own, [SENDER_OK; 3]);
    let other = replies(&server, "tim", &["<ann@example.org>", "<tim@x@example.org>"]);
    assert_eq!(other[0], NOT_YOURS);
    assert!(other[1].starts_with("501 "), "{other:?}");
    let from = ["<kim@EXAMPLE.org>", "<>", "<kim@example.com>", "<tim@example.org>"];
    assert_eq!(
        replies(&server, "kim@example.org", &from),
        [SENDER_OK, SENDER_OK, NOT_YOURS, NOT_YOURS]
    );
    // The refusal begins no transaction, and the client can go on.
    let mut client = server.client();
    assert!(client.sign_in("ann", PASSWORD).starts_with("235 "));
    assert_eq!(client.send("Subject: as another\r\n\r\n").unwrap(), NOT_YOURS);
    assert_eq!(client.say("RCPT TO:<tim@example.org>"), "503 5.5.1 Bad sequence of commands");
    assert_eq!(client.say("MAIL FROM:<ann@example.org>"), SENDER_OK);
}

/// The MAIL command of the one transaction that comes to a next hop.
fn mail_at_next_hop(listener: TcpListener) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        let say = |line: &str| (&stream).write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut mail = String::new();
        say("220 next.example.org");
        for line in BufReader::new(&stream).lines().map_while(Result::ok) {
            match &*line {
                "DATA" => say("354 go on"),
                _ if line.starts_with("EHLO") => say("250-next.example.org\r\n250 AUTH PLAIN"),
                _ if line.starts_with("MAIL") => {
                    mail = line;
                    say("250 yes");
                }
                _ if line == "." || line == "QUIT" || line.starts_with("RCPT") => say("250 yes"),
                _ => {}
            }
        }
        mail
    })
}

/// Nor does it name another as the submitter, to a next hop that believes the server (RFC 4954 §5).
#[test]
fn an_account_names_no_other_submitter() {
    for (claimed, expected) in [
        (" AUTH=ann@example.org", "MAIL FROM:<tim@example.org> AUTH=<>"),
        (" AUTH=tim@example.com", "MAIL FROM:<tim@example.org> AUTH=tim@example.com"),
        (" AUTH=<>", "MAIL FROM:<tim@example.org> AUTH=<>"),
        ("", "MAIL FROM:<tim@example.org> AUTH=<>"),
    ] {
        let folder = tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let hop = mail_at_next_hop(listener);
        let server = Server::start(folder.path(), &["--relay", &address]);
        let mut client = server.client();
        assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
        assert_eq!(client.say(&format!("MAIL FROM:<tim@example.org>{claimed}")), SENDER_OK);
        assert!(client.say("RCPT TO:<ann@example.org>").starts_with("250 "));
        assert!(client.say("DATA").starts_with("354 "));
        assert!(client.say("Subject: x\r\n\r\n.").starts_with("250 "));
        assert_eq!(hop.join().unwrap(), expected, "{claimed}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The one file in that folder.
fn only_file(folder: &Path) -> std::path::PathBuf {
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// The server where a shell has set that mask.
fn start_with_umask(umask: &str, maildir: &Path, options: &[&str]) -> Server {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]).arg(example("server"));
    Server::run(shell, maildir, options)
}

#[test]
fn the_mail_is_its_owners_alone_to_read() {
    for umask in ["000", "022", "077"] {
        let folder = tempdir().unwrap();
        let (parent, certificate) = (folder.path().join("var"), folder.path().join("cert.pem"));
        let maildir = parent.join("mail");
        let written = ["--cert-out", certificate.to_str().unwrap()];
        let server = start_with_umask(umask, &maildir, &written);
        for place in [&parent, &maildir] {
            assert_eq!(format!("{:o}", mode(place)), "700", "umask {umask}: {}", place.display());
        }
        for name in ["tmp", "new", "cur"] {
            assert_eq!(format!("{:o}", mode(&maildir.join(name))), "700", "umask {umask}: {name}");
        }
        assert_eq!(format!("{:o}", mode(&certificate)), "600", "umask {umask}");
        let mut client = server.client();
        assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
        client.write("MAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n").unwrap();
        (0..3).for_each(|_| assert!(client.reply().starts_with(['2', '3'])));
        client.write(message("too long for memory alone", 80 << 10)).unwrap();
        assert!(within_a_second(|| messages(&maildir, "tmp").len() == 1));
        let on_its_way = mode(&only_file(&maildir.join("tmp")));
        assert_eq!(format!("{on_its_way:o}"), "600", "umask {umask}, tmp");
        assert!(client.say(".").starts_with("250 "));
        let stored = mode(&only_file(&maildir.join("new")));
        assert_eq!(format!("{stored:o}"), "600", "umask {umask}, new");
    }
}

#[test]
fn what_is_there_already_keeps_its_permissions() {
    let folder = tempdir().unwrap();
    let maildir = folder.path().join("mail");
    let mut directory = fs::DirBuilder::new();
    directory.mode(0o755).create(&maildir).unwrap();
    directory.create(maildir.join("new")).unwrap();
    let (old, certificate) = (maildir.join("new/old"), folder.path().join("cert.pem"));
    for file in [&old, &certificate] {
        File::create(file).unwrap().set_permissions(fs::Permissions::from_mode(0o644)).unwrap();
    }
    let written = ["--cert-out", certificate.to_str().unwrap()];
    let server = start_with_umask("022", &maildir, &written);
    let mut client = server.client();
    assert!(client.sign_in("tim", PASSWORD).starts_with("235 "));
    assert_eq!(client.send("Subject: new\r\n\r\n").unwrap(), "250 2.0.0 Message stored");
    for (path, expected) in [
        (maildir.clone(), 0o755),
        (maildir.join("new"), 0o755),
        (old.clone(), 0o644),
        (certificate, 0o644),
        (maildir.join("cur"), 0o700),
    ] {
        assert_eq!(format!("{:o}", mode(&path)), format!("{expected:o}"), "{}", path.display());
    }
    fs::remove_file(old).unwrap();
    assert_eq!(format!("{:o}", mode(&only_file(&maildir.join("new")))), "600");
}
