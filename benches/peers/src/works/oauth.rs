//! XOAUTH2 and OAUTHBEARER with a token of 1,500 octets: on a server a session with EHLO and QUIT around it, on a
//! client the lines of AUTH.

use std::{hint::black_box, sync::Arc};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use smtp_auth::{
    auth,
    reply::ReplyRef,
    sasl::{self, Channel, Mechanism, Query, client::Credentials},
    server::{Config, Event, Session},
};
use smtp_proto::{AUTH_OAUTHBEARER, AUTH_XOAUTH2};

use super::{Row, Run, Work};
use crate::inputs::USER;

const BASE64: &str = "base64";

pub const XOAUTH2_SERVER: Work = Work {
    name: "xoauth2-server",
    about: "EHLO, XOAUTH2 with a token of 1,500 octets and QUIT, in a session on a server",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(|| server(Some(Mechanism::Xoauth2))),
        Row::ours(|| server(None)).named("without AUTH"),
        Row::yardstick(BASE64, || decoded(Mechanism::Xoauth2)),
    ],
};

pub const OAUTHBEARER_SERVER: Work = Work {
    name: "oauthbearer-server",
    about: "EHLO, OAUTHBEARER with a token of 1,500 octets and QUIT, in a session on a server",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(|| server(Some(Mechanism::OauthBearer))),
        Row::yardstick(BASE64, || decoded(Mechanism::OauthBearer)),
    ],
};

pub const XOAUTH2_CLIENT: Work = Work {
    name: "xoauth2-client",
    about: "XOAUTH2 with a token of 1,500 octets on a client: the lines of AUTH",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(|| client(Mechanism::Xoauth2)),
        Row::yardstick("mail-send", || mail_send(Mechanism::Xoauth2)).note(
            "the response alone, by a base64 of its own, 16 octets at a time; nothing zeroed",
        ),
        Row::yardstick(BASE64, || encoded(Mechanism::Xoauth2)),
    ],
};

pub const OAUTHBEARER_CLIENT: Work = Work {
    name: "oauthbearer-client",
    about: "OAUTHBEARER with a token of 1,500 octets on a client: the lines of AUTH",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(|| client(Mechanism::OauthBearer)),
        Row::yardstick("mail-send", || mail_send(Mechanism::OauthBearer))
            .note("the base64 alone: its caller writes the message"),
        Row::yardstick(BASE64, || encoded(Mechanism::OauthBearer)),
    ],
};

/// Like a signed token of JSON: letters and digits, in three parts.
fn token() -> String {
    let octets = (0..).map(|n: u32| n.wrapping_mul(2_654_435_761)).flat_map(u32::to_be_bytes);
    let part = |length| URL_SAFE_NO_PAD.encode(octets.clone().take(length).collect::<Vec<_>>());
    [part(90), part(777), part(256)].join(".").chars().take(1500).collect()
}

fn message(mechanism: Mechanism) -> String {
    let token = token();
    match mechanism {
        Mechanism::Xoauth2 => format!("user={USER}\x01auth=Bearer {token}\x01\x01"),
        _ => format!("n,a={USER},\x01auth=Bearer {token}\x01\x01"),
    }
}

fn server(mechanism: Option<Mechanism>) -> Run {
    let sasl = sasl::server::Config::builder("mail.example.org").mechanisms(Mechanism::COMPILED);
    let sasl = sasl.allow_cleartext(true).build().unwrap();
    let config = Arc::new(Config::builder("mail.example.org").sasl(sasl).build().unwrap());
    let auth = mechanism.map(|mechanism| {
        format!("AUTH {} {}\r\n", mechanism.name(), STANDARD.encode(message(mechanism)))
    });
    let lines = format!("EHLO client.example.org\r\n{}QUIT\r\n", auth.as_deref().unwrap_or(""));
    let (token, mut out) = (token(), Vec::with_capacity(1024));
    Box::new(move || {
        out.clear();
        let mut session = Session::new(Arc::clone(&config));
        session.receive(black_box(lines.as_bytes()));
        loop {
            match session.next(&mut out) {
                Event::Query(Query::CheckToken(ask)) => {
                    let good = ask.token().expose() == token;
                    ask.answer(good.then(|| USER.to_owned()));
                }
                Event::Hello(_) | Event::Authenticated(_) => {}
                Event::Close => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(session.identity().is_some(), mechanism.is_some());
        black_box(&out);
    })
}

fn decoded(mechanism: Mechanism) -> Run {
    let text = STANDARD.encode(message(mechanism));
    let mut room = vec![0; 2048];
    Box::new(move || {
        black_box(STANDARD.decode_slice(black_box(&text), &mut room).unwrap());
    })
}

fn client(mechanism: Mechanism) -> Run {
    let (config, channel) = (sasl::client::Config::default(), Channel::tls());
    let credentials = Credentials::token(USER, token()).unwrap();
    let mut out = Vec::with_capacity(4096);
    let expected = STANDARD.encode(message(mechanism)) + "\r\n";
    Box::new(move || {
        out.clear();
        let mut replies = ["334 \r\n", "235 2.7.0 Authentication succeeded\r\n"].into_iter();
        let credentials = credentials.clone();
        let mut exchange = auth::client::Exchange::new(&config, &channel, mechanism, credentials);
        loop {
            match exchange.step(&mut out) {
                auth::client::Step::NeedReply(slot) => {
                    slot.reply(
                        ReplyRef::parse(black_box(replies.next().unwrap()).as_bytes()).unwrap(),
                    );
                }
                auth::client::Step::Done(outcome) => break outcome.unwrap(),
                other => panic!("{other:?}"),
            }
        }
        assert!(out.ends_with(expected.as_bytes()));
    })
}

fn encoded(mechanism: Mechanism) -> Run {
    let message = message(mechanism);
    let mut room = vec![0; 4096];
    Box::new(move || {
        black_box(STANDARD.encode_slice(black_box(&message), &mut room).unwrap());
    })
}

fn mail_send(mechanism: Mechanism) -> Run {
    let (number, credentials) = match mechanism {
        Mechanism::Xoauth2 => {
            (AUTH_XOAUTH2, mail_send::Credentials::new_xoauth2(USER.to_owned(), token()))
        }
        _ => (AUTH_OAUTHBEARER, mail_send::Credentials::new_oauth(message(mechanism))),
    };
    let expected = STANDARD.encode(message(mechanism));
    Box::new(move || assert_eq!(credentials.encode(number, black_box("")).unwrap(), expected))
}
