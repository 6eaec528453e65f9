//! Replies and EHLO lists: written and read back, lists of real servers, and arbitrary octets.

use proptest::prelude::*;
use smtp_auth::{
    ehlo::{self, Ehlo, Keyword, MechanismNames},
    reply::{Reply, ReplyRef},
};

fn mechanisms(block: &str) -> Vec<&str> {
    Ehlo::new(ReplyRef::parse(block.as_bytes()).unwrap()).mechanisms().collect()
}

#[test]
fn gmail() {
    let block = "250-smtp.gmail.com at your service, [192.0.2.1]\r\n\
        250-SIZE 35882577\r\n\
        250-8BITMIME\r\n\
        250-AUTH LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH\r\n\
        250-ENHANCEDSTATUSCODES\r\n\
        250-PIPELINING\r\n\
        250-CHUNKING\r\n\
        250 SMTPUTF8\r\n";
    let ehlo = Ehlo::new(ReplyRef::parse(block.as_bytes()).unwrap());
    let auth = MechanismNames::new("LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH");
    assert_eq!(ehlo.domain(), b"smtp.gmail.com");
    assert!(ehlo.keywords().eq([
        Keyword::Size(Some(35_882_577)),
        Keyword::EightBitMime,
        Keyword::Auth(auth.unwrap()),
        Keyword::EnhancedStatusCodes,
        Keyword::Pipelining,
        Keyword::Chunking,
        Keyword::SmtpUtf8,
    ]));
}

#[test]
fn microsoft_365() {
    let block = "250-AM0PR01CA0001.outlook.office365.com Hello [192.0.2.1]\r\n\
        250-SIZE 157286400\r\n\
        250-PIPELINING\r\n\
        250-DSN\r\n\
        250-ENHANCEDSTATUSCODES\r\n\
        250-STARTTLS\r\n\
        250-8BITMIME\r\n\
        250-BINARYMIME\r\n\
        250-CHUNKING\r\n\
        250 SMTPUTF8\r\n";
    let ehlo = Ehlo::new(ReplyRef::parse(block.as_bytes()).unwrap());
    assert!(ehlo.keywords().eq([
        Keyword::Size(Some(157_286_400)),
        Keyword::Pipelining,
        Keyword::Dsn,
        Keyword::EnhancedStatusCodes,
        Keyword::StartTls,
        Keyword::EightBitMime,
        Keyword::other("BINARYMIME", "").unwrap(),
        Keyword::Chunking,
        Keyword::SmtpUtf8,
    ]));
    assert_eq!(ehlo.mechanisms().count(), 0);
}

#[test]
fn all_auth_lines_are_joined() {
    for (block, names) in [
        ("250-x\r\n250-AUTH PLAIN LOGIN\r\n250 AUTH=PLAIN LOGIN\r\n", "PLAIN LOGIN PLAIN LOGIN"),
        ("250-x\r\n250-AUTH=LOGIN PLAIN\r\n250 DSN\r\n", "LOGIN PLAIN"),
        ("250-x\r\n250-AUTH GSSAPI\r\n250-SIZE\r\n250 auth login\r\n", "GSSAPI login"),
        ("250-x\r\n250-AUTH\r\n250-\r\n250-\u{e9}\r\n250 AUTH PLAIN\r\n", "PLAIN"),
        ("250-AUTH LOGIN\r\n250 X-EXPS=LOGIN\r\n", ""),
        ("250 x\r\n", ""),
    ] {
        assert_eq!(mechanisms(block).join(" "), names);
    }
}

#[test]
fn long_text_is_broken_onto_further_lines() {
    let mut out = vec![];
    Reply::new(550, Some((5, 7, 1)), "a".repeat(1_001)).unwrap().write(&mut out);
    let lines: Vec<_> = out.split_inclusive(|&octet| octet == b'\n').map(<[u8]>::len).collect();
    assert_eq!(lines, [512, 512, 13]);
    out.clear();
    Reply::new(250, None, "\n".repeat(1_000)).unwrap().write(&mut out);
    assert_eq!(ReplyRef::parse(&out).unwrap().lines().count(), 128);
}

#[test]
fn a_received_text_is_written_as_ascii() {
    let received = ReplyRef::parse("550 5.1.1 Unzustellbar für \tx\r\n".as_bytes()).unwrap();
    let reply = received.to_reply();
    assert_eq!(reply.text(), "Unzustellbar für ?x");
    let mut out = vec![];
    reply.write(&mut out);
    assert_eq!(out, b"550 5.1.1 Unzustellbar f?r ?x\r\n");
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let text = prop_oneof![
        "([ -~]{0,20}\n){0,5}[ -~]{0,20}",
        "([245]\\.[0-9]{1,4}\\.[0-9]{1,4} ?[ -~]{0,5}\n?){0,5}",
        "[ -~]{0,2000}",
        any::<String>(),
    ];
    let detail = || prop_oneof![0..=9_u16, 0..=999_u16];
    let enhanced = proptest::option::of((detail(), detail()));
    (200..=599_u16, enhanced, text).prop_map(|(code, enhanced, text)| {
        let class = (code / 100) as u8;
        let enhanced = enhanced.filter(|_| class != 3).map(|(s, d)| (class, s, d));
        Reply::new(code, enhanced, text).unwrap()
    })
}

fn any_keyword() -> impl Strategy<Value = (String, String)> {
    let known = "STARTTLS|AUTH|PIPELINING|SIZE|8BITMIME|SMTPUTF8|ENHANCEDSTATUSCODES|CHUNKING|DSN";
    let name = prop_oneof![known, known.prop_map(|name| name.to_lowercase()), "[!-<>-~]{1,10}"];
    let parameters = prop_oneof!["", "[0-9]{1,21}", "[A-Za-z0-9_-]{1,21}( [A-Z!]{1,6}){0,4}"];
    (name, parameters)
}

proptest! {
    #[test]
    fn a_written_reply_is_read_back(reply in any_reply()) {
        let mut out = vec![];
        reply.write(&mut out);
        let read = ReplyRef::parse(&out).unwrap();
        prop_assert!(out.split_inclusive(|&octet| octet == b'\n').all(|line| line.len() <= 512));
        prop_assert!(out.iter().all(|octet| matches!(octet, b' '..=b'~' | b'\r' | b'\n')));
        prop_assert_eq!(read.code(), reply.code());
        prop_assert_eq!(read.enhanced_code(), reply.enhanced_code());
        if reply.text().split('\n').all(|line| line.len() < 490) {
            prop_assert_eq!(read.to_reply(), reply);
        } else {
            prop_assert_eq!(read.to_reply().text().replace('\n', ""), reply.text().replace('\n', ""));
        }
    }

    #[test]
    fn a_received_reply_is_written_and_read_back(
        code in 200..=599_u16,
        lines in proptest::collection::vec("([245]\\.[0-9]\\.[0-9] ?)?[ -~]{0,9}", 1..5),
    ) {
        // Its text is not written.
        prop_assume!(code != 334);
        let (last, others) = lines.split_last().unwrap();
        let mut block: String = others.iter().map(|line| format!("{code}-{line}\r\n")).collect();
        block += &format!("{code} {last}\r\n");
        let reply = ReplyRef::parse(block.as_bytes()).unwrap().to_reply();
        let mut out = vec![];
        reply.write(&mut out);
        prop_assert_eq!(ReplyRef::parse(&out).unwrap().to_reply(), reply);
    }

    #[test]
    fn a_written_keyword_is_read_back((name, parameters) in any_keyword()) {
        let line = format!("{name} {parameters}");
        let keyword = Keyword::parse(line.as_bytes()).unwrap();
        let mut out = vec![];
        keyword.write(&mut out);
        prop_assert_eq!(Keyword::parse(&out), Ok(keyword));
        match Keyword::other(&name, &parameters) {
            Ok(other) => prop_assert_eq!(other, keyword),
            Err(_) => prop_assert!(!matches!(keyword, Keyword::Other { .. }), "{:?}", keyword),
        }
    }

    #[test]
    fn what_other_takes_is_read_back(name: String, parameters in "[ -~]{0,9}|\\PC{0,9}") {
        if let Ok(other) = Keyword::other(&name, &parameters) {
            let mut out = vec![];
            other.write(&mut out);
            prop_assert_eq!(Keyword::parse(&out), Ok(other));
        }
    }

    #[test]
    fn a_written_list_is_read_back(
        hostname in "[!-~]{1,300}",
        keywords in proptest::collection::vec(any_keyword(), 0..20),
    ) {
        let lines: Vec<_> = keywords.iter().map(|(name, params)| format!("{name} {params}")).collect();
        let keywords: Vec<_> =
            lines.iter().map(|line| Keyword::parse(line.as_bytes()).unwrap()).collect();
        let mut out = vec![];
        ehlo::write(&hostname, &keywords, &mut out);
        let reply = Ehlo::new(ReplyRef::parse(&out).unwrap());
        prop_assert_eq!(reply.domain(), &hostname.as_bytes()[..hostname.len().min(255)]);
        prop_assert_eq!(reply.keywords().collect::<Vec<_>>(), keywords);
    }

    #[test]
    fn no_octets_panic(
        block in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..100),
            "(25[0-1][- ]?[ -~\r\n\0é]{0,9}\r?\n){0,6}".prop_map(String::into_bytes),
        ],
        hostname: String,
        text: String,
    ) {
        let _ = Keyword::parse(&block).map(|keyword| keyword.write(&mut vec![]));
        let _ = MechanismNames::new(&text).map(|names| names.iter().count());
        if let Ok(reply) = ReplyRef::parse(&block) {
            let mut out = vec![];
            reply.to_reply().write(&mut out);
            prop_assert_eq!(ReplyRef::parse(&out).unwrap().lines().count(), reply.lines().count());
            prop_assert!(Ehlo::new(reply).mechanisms().count() < block.len());
            let lines: Vec<_> = reply.lines().collect();
            let again = ReplyRef::from_lines(reply.code(), &lines).unwrap();
            prop_assert_eq!(again == reply, !reply.codes_differ());
        }
        let mut out = vec![];
        ehlo::write(&hostname, &[], &mut out);
        prop_assert!(ReplyRef::parse(&out).is_ok());
    }
}
