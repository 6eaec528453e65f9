//! Clients that are many, stall, or take nothing.

use super::*;

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
