//! Whole dialogues, cut off at each octet.

use super::*;

/// A whole dialogue, both sides, cut off when so many octets have passed.
fn dialogue(mechanism: Mechanism, secrets: &Secrets, octets: usize, end: End) -> bool {
    let sasl = client_config(mechanism);
    let config = client::Config::builder("client.example.org").sasl(sasl).build().unwrap();
    let mut client = client::Session::new(config.into(), credentials(mechanism, secrets));
    let mut server = server::Session::new(
        server::Config::builder("mail.example.org").sasl(server_config()).build().unwrap().into(),
    );
    client.tls_started(channel());
    let _ = server.tls_started(channel());
    let (mut to_client, mut to_server, mut sent) = (Vec::new(), Zeroed::default(), 0);
    let (mut passed, mut over) = (0, false);
    while passed < octets && !over {
        loop {
            match server.next(&mut to_client) {
                server::Event::NeedInput => break,
                server::Event::Query(query) => answer(query, secrets),
                server::Event::Close => {
                    over = true;
                    break;
                }
                server::Event::Hello(_) | server::Event::Authenticated(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let left = to_client.len().min(octets - passed);
        client.receive(&to_client[..left]);
        passed += left;
        to_client.clear();
        loop {
            match client.next(&mut to_server.0).unwrap() {
                client::Event::NeedInput | client::Event::Close => break,
                client::Event::Derive(ask) => derive(ask),
                client::Event::Custom(ask) => respond_custom(ask, secrets),
                client::Event::Ready(ready) => ready.quit(),
                other => panic!("{other:?}"),
            }
        }
        let left = (to_server.0.len() - sent).min(octets - passed);
        let said = &to_server.0[sent..sent + left];
        // One way, and the other.
        if octets % 2 == 0 {
            server.receive(said);
        } else if left > 0 {
            let mut rest = said;
            while !rest.is_empty() {
                let read = server.receive_with::<()>(left + 50, |room| {
                    let length = rest.len().min(room.len());
                    room[..length].copy_from_slice(&rest[..length]);
                    // And more than is said to have come.
                    let more = length.min(room.len() - length);
                    room[length..length + more].copy_from_slice(&rest[..more]);
                    Ok(length)
                });
                rest = &rest[read.unwrap()..];
            }
        }
        (passed, sent) = (passed + left, sent + left);
    }
    end.after();
    over
}

#[test]
fn sessions() {
    for length in [16, 33, 250, 1024] {
        let secrets = Secrets::of(length);
        for mechanism in mechanisms() {
            for octets in (0..).step_by(83 + length / 4) {
                let (over, found) = looking(|| dialogue(mechanism, &secrets, octets, End::Dropped));
                assert_eq!(found, 0, "{mechanism} after {octets} octets");
                let found = unwinding(|| {
                    dialogue(mechanism, &secrets, octets, End::Unwound);
                });
                assert_eq!(found, 0, "{mechanism} unwound after {octets} octets");
                if over {
                    break;
                }
                assert!(octets < 20_000, "{mechanism} does not end");
            }
        }
    }
}

/// An AUTH command that is not sent after all, as the server has said something before it.
#[test]
fn a_command_that_is_taken_back() {
    let secrets = Secrets::of(100);
    let ((), found) = looking(|| {
        let sasl = client_config(Mechanism::Plain);
        let config = client::Config::builder("client.example.org").sasl(sasl).build().unwrap();
        let mut client =
            client::Session::new(config.into(), credentials(Mechanism::Plain, &secrets));
        client.tls_started(channel());
        let mut out = Zeroed::default();
        client.receive(b"220 x\r\n");
        let _ = client.next(&mut out.0);
        client.receive(b"250-x\r\n250 AUTH PLAIN\r\n250 x\r\n");
        assert!(client.next(&mut out.0).is_err());
    });
    assert_eq!(found, 0);
}

/// A buffer that still holds a line of AUTH when a message is written to it.
#[test]
fn a_buffer_that_is_never_emptied() {
    let secrets = Secrets::of(100);
    let ((), found) = looking(|| {
        let sasl = client_config(Mechanism::Plain);
        let config = client::Config::builder("client.example.org").sasl(sasl).build().unwrap();
        let mut client =
            client::Session::new(config.into(), credentials(Mechanism::Plain, &secrets));
        client.tls_started(channel());
        let mut out = Zeroed::default();
        let replies = ["220 x", "250-x\r\n250 AUTH PLAIN", "235 x", "250 x", "250 x", "354 x"];
        let mut replies = replies.iter();
        loop {
            match client.next(&mut out.0).unwrap() {
                client::Event::NeedInput => match replies.next() {
                    Some(reply) => client.receive(format!("{reply}\r\n").as_bytes()),
                    None => break,
                },
                client::Event::Ready(ready) => {
                    let envelope = client::Envelope::new(None, ["ann@example.org"]).unwrap();
                    ready.send(envelope);
                }
                client::Event::Message(body) => {
                    body.write(&b".\r\n".repeat(500), &mut out.0).unwrap();
                    body.end(&mut out.0).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(out.0.len() > 2000);
    });
    assert_eq!(found, 0);
}

/// What a server says of a token, and repeats it.
#[test]
fn a_token_that_is_repeated() {
    let secrets = Secrets::of(100);
    // What is not UTF-8 is shown by something longer.
    for junk in [&b""[..], &[0xff; 60]] {
        repeat_token(&secrets, junk);
    }
}

fn repeat_token(secrets: &Secrets, junk: &[u8]) {
    let ((), found) = looking(|| {
        let (choice, mut out) = (Mechanism::OauthBearer, Zeroed::default());
        let credentials = credentials(Mechanism::OauthBearer, secrets);
        let mut client =
            auth::client::Exchange::new(&client_config(choice), &channel(), choice, credentials);
        let mut challenge = Zeroed(Vec::with_capacity(1000));
        challenge.0.extend_from_slice(b"334 ");
        let at = challenge.0.len();
        let said = Zeroed([secrets.token.as_bytes(), junk].concat());
        challenge.0.resize(at + said.0.len().div_ceil(3) * 4, b'=');
        STANDARD.encode_slice(&said.0, &mut challenge.0[at..]).unwrap();
        challenge.0.extend_from_slice(b"\r\n");
        let auth::client::Step::NeedReply(slot) = client.step(&mut out.0) else { panic!() };
        slot.reply(ReplyRef::parse(&challenge.0).unwrap());
        let _ = client.step(&mut out.0);
        assert!(client.token_error().is_some());
    });
    assert_eq!(found, 0);
}

/// A refusal that repeats the password: what it is found by is zeroed, and its text not kept.
#[test]
fn a_password_that_is_repeated() {
    let secrets = Secrets::of(100);
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let ((), found) = looking(|| {
            let (choice, mut out) = (mechanism, Zeroed::default());
            let credentials = credentials(mechanism, &secrets);
            let mut client = auth::client::Exchange::new(
                &client_config(choice),
                &channel(),
                choice,
                credentials,
            );
            let mut refusal = Zeroed(Vec::with_capacity(1000));
            refusal.0.extend_from_slice(b"535 wrong: ");
            refusal.0.extend_from_slice(secrets.password.as_bytes());
            refusal.0.extend_from_slice(b"\r\n");
            let login = [&b"334 \r\n"[..], b"334 \r\n", &refusal.0];
            let replies = if mechanism == Mechanism::Login { &login[..] } else { &login[2..] };
            for reply in replies {
                let auth::client::Step::NeedReply(slot) = client.step(&mut out.0) else { panic!() };
                slot.reply(ReplyRef::parse(reply).unwrap());
            }
            let step = client.step(&mut out.0);
            assert!(matches!(step, auth::client::Step::Done(Err(_))));
        });
        assert_eq!(found, 0, "{mechanism}");
    }
}

/// A server is given this, cut at two places, and looked at after each part; `eager` takes all that it shows before the next.
fn around_a_message(secrets: &Secrets, octets: &[u8], cuts: [usize; 2], eager: bool) {
    let config = server::Config::builder("mail.example.org").sasl(server_config());
    let config = config.build().unwrap();
    let mut server = server::Session::new(config.into());
    let _ = server.tls_started(channel());
    let mut out = Vec::new();
    let (before, after) = octets.split_at(cuts[1]);
    let (before, between) = before.split_at(cuts[0]);
    for part in [before, between, after, b""] {
        let read = server.receive_with::<()>(part.len() + 30, |room| {
            let length = if eager { part.len().min(room.len()) } else { 0 };
            room[..length].copy_from_slice(&part[..length]);
            Ok(length)
        });
        server.receive(&part[read.unwrap()..]);
        let mut left = if eager { usize::MAX } else { 8 };
        while left > 0 {
            match server.next(&mut out) {
                server::Event::NeedInput => break,
                server::Event::Query(query) => answer(query, secrets),
                server::Event::Command(_, ask) | server::Event::EndOfData(ask) => {
                    ask.reply(smtp_auth::reply::Reply::OK);
                }
                server::Event::StartOfData(permission) => permission.accept(),
                _ => {}
            }
            left -= 1;
        }
    }
}

/// A message's octets need not be zeroed, but those in the same buffer before it and after it must.
#[test]
fn what_stands_around_a_message() {
    let secrets = Secrets::of(33);
    let auth =
        format!("AUTH PLAIN {}\r\n", STANDARD.encode(format!("\0tim\0{}", secrets.password)));
    let dots = "DATA\r\none\r\n..two\r\n\r\n..\r\nthree\r\n.\r\n";
    let chunks = "BDAT 5\r\none\r\nBDAT 10 LAST\r\n\r\n.two\r\n\r\n";
    for message in [dots, chunks] {
        let octets = format!(
            "EHLO c\r\n{auth}MAIL FROM:<tim@example.org>\r\nRCPT TO:<ann@example.org>\r\n{message}\
             {auth}{password}\r\nMAIL FROM:<tim@example.org>\r\nRCPT TO:<ann@example.org>\r\n{message}{auth}",
            password = secrets.password,
        );
        for first in 0..octets.len() {
            for second in [first, first + 1, first + 7, first + 60, first + 200, octets.len()] {
                let cuts = [first, second.min(octets.len())];
                for eager in [true, false] {
                    let octets = octets.as_bytes();
                    let run = || around_a_message(&secrets, octets, cuts, eager);
                    let ((), found) = looking(run);
                    assert_eq!(found, 0, "{message:?} cut at {cuts:?}, {eager}");
                }
            }
        }
    }
}
