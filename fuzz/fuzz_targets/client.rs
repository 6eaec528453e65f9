//! Any octets in any pieces from a server: the session ends or waits, and what it sends are lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth::{
    client::{Config, Envelope, Event, Session},
    sasl::{Channel, client::Credentials},
};

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let config = Config::new("client.example.org").expect("a good name");
    let credentials = Credentials::password("tim", "tanstaaf").expect("good credentials");
    let mut session = Session::new(config, credentials);
    let (mut out, mut pieces, mut sent) = (Vec::new(), pieces.into_iter(), 0);
    loop {
        let Ok(event) = session.next(&mut out) else { break };
        match event {
            Event::NeedInput => match pieces.next() {
                Some(piece) => session.receive(&piece),
                None => break,
            },
            // No mechanism of our own is listed.
            Event::Challenge(ask) => ask.fail(),
            Event::Derive(ask) => ask.run(),
            Event::StartTls => session.tls_started(Channel::tls()),
            Event::AuthFailed(failed) => failed.go_on(),
            Event::Ready(ready) if sent < 3 => {
                sent += 1;
                let to = ["ann@example.org", "bob@example.org"];
                ready.send(Envelope::new(Some("tim@example.org"), to).expect("good addresses"));
            }
            Event::Ready(ready) => ready.quit(),
            Event::Message(body) => {
                body.write(b".dot\r\n", &mut out).expect("good lines");
                body.end(&mut out).expect("good lines");
            }
            Event::Refused(..) | Event::Sent(_) => {}
            Event::Close => break,
        }
    }
    assert!(out.is_empty() || out.ends_with(b"\r\n"));
});
