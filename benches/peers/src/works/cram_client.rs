//! CRAM-MD5 on a client.

use std::hint::black_box;

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    auth,
    reply::ReplyRef,
    sasl::{
        Channel, Mechanism,
        client::{Config, Credentials, Exchange, Step},
    },
};
use smtp_proto::AUTH_CRAM_MD5;

use super::{Row, Run, Work};
use crate::inputs::{AUTH_CRAM, CRAM_CHALLENGE, PASSWORD, USER, text, without_crlf};

pub const WORK: Work = Work {
    name: "cram-client",
    about: "CRAM-MD5 on a client, from the base64 of the challenge to the base64 of the response",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(ours).note("base64 by hand"),
        Row::ours(whole)
            .named("smtp-auth, lines")
            .note("more than the others: writes AUTH, reads 334 and 235"),
        Row::peer("mail-send", mail_send),
    ],
};

fn ours() -> Run {
    let (config, channel) = (Config::default(), Channel::tls());
    let credentials = Credentials::password(USER, PASSWORD).unwrap();
    let choice = || Mechanism::CramMd5;
    let challenge = STANDARD.encode(CRAM_CHALLENGE);
    Box::new(move || {
        let mut exchange = Exchange::new(&config, &channel, choice(), credentials.clone());
        let Step::Response(nothing) = exchange.step() else { panic!() };
        nothing.challenge(STANDARD.decode(black_box(&challenge)).unwrap());
        let Step::Response(response) = exchange.step() else { panic!() };
        let encoded = STANDARD.encode(response.data().unwrap());
        assert_eq!(encoded.as_bytes(), without_crlf(AUTH_CRAM[1]));
        response.success();
        assert!(matches!(exchange.step(), Step::Done(Ok(()))));
    })
}

fn whole() -> Run {
    let (config, channel) = (Config::default(), Channel::tls());
    let credentials = Credentials::password(USER, PASSWORD).unwrap();
    let choice = || Mechanism::CramMd5;
    let challenge = format!("334 {}\r\n", STANDARD.encode(CRAM_CHALLENGE));
    let mut out = Vec::with_capacity(1024);
    Box::new(move || {
        out.clear();
        let replies = [&challenge, "235 2.7.0 Authentication succeeded\r\n"];
        let mut replies = replies.into_iter().map(|reply| black_box(reply).as_bytes());
        let credentials = credentials.clone();
        let mut exchange = auth::client::Exchange::new(&config, &channel, choice(), credentials);
        loop {
            match exchange.step(&mut out) {
                auth::client::Step::NeedReply(slot) => {
                    slot.reply(ReplyRef::parse(replies.next().unwrap()).unwrap());
                }
                auth::client::Step::Done(outcome) => {
                    outcome.unwrap();
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(out.ends_with(AUTH_CRAM[1]));
    })
}

fn mail_send() -> Run {
    let credentials = mail_send::Credentials::new(USER, PASSWORD);
    let challenge = STANDARD.encode(CRAM_CHALLENGE);
    Box::new(move || {
        let response = credentials.encode(AUTH_CRAM_MD5, black_box(&challenge)).unwrap();
        assert_eq!(response, text(without_crlf(AUTH_CRAM[1])));
    })
}
