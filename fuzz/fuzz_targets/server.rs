//! Any octets in any pieces: the session answers or waits, and nobody is signed in without a yes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_auth::{
    reply::Reply,
    sasl::{Channel, Query},
    server::{Config, Event, Session},
};

fuzz_target!(|input: (bool, Vec<Vec<u8>>)| {
    let (yes, pieces) = input;
    let mut session = Session::new(Config::try_from("mail.example.org").expect("a good name"));
    let (mut out, mut pieces, mut asked) = (Vec::new(), pieces.into_iter(), false);
    loop {
        match session.next(&mut out) {
            Event::NeedInput => match pieces.next() {
                Some(piece) => session.receive(&piece),
                None => break,
            },
            Event::Query(Query::CheckPassword(ask)) => {
                asked = true;
                ask.answer(yes);
            }
            Event::Query(other) => other.reject(),
            Event::Authenticated(_) => assert!(yes && asked),
            Event::Command(_, ask) | Event::EndOfData(ask) => ask.reply(Reply::OK),
            Event::Message(permission) => permission.accept(),
            Event::StartTls => {
                let _ = session.tls_started(Channel::tls());
                assert!(session.identity().is_none());
            }
            Event::AuthFailed(_) | Event::Hello(_) | Event::Data(_) | Event::Reset => {}
            Event::Close => break,
        }
    }
    assert!(out.is_empty() || out.ends_with(b"\r\n"));
    for line in out.split_inclusive(|&octet| octet == b'\n') {
        assert!(line.len() <= 512 && line.is_ascii());
    }
});
