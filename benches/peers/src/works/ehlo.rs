//! The reply to EHLO, read.

use std::hint::black_box;

use lettre::transport::smtp::{
    authentication::Mechanism,
    extension::{Extension, ServerInfo},
    response::Response,
};
use smtp_auth::{
    ehlo::{Ehlo, Keyword},
    reply::ReplyRef,
};
use smtp_codec::{parse::response::ehlo_ok_rsp, types::Response as CodecResponse};
use smtp_proto::{AUTH_CRAM_MD5, AUTH_LOGIN, AUTH_PLAIN, EXT_SMTP_UTF8, EhloResponse};

use super::{Row, Run, Work};
use crate::inputs::EHLO;

pub const WORK: Work = Work {
    name: "ehlo",
    about: "a client reads an EHLO reply of ten lines, with extensions, size and mechanisms",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(ours),
        Row::peer("smtp-proto", smtp_proto),
        Row::peer("smtp-codec", smtp_codec),
        Row::peer("lettre", lettre).note("knows four of the extensions"),
    ],
};

fn ours() -> Run {
    let ehlo = Ehlo::new(ReplyRef::parse(EHLO.as_bytes()).unwrap());
    assert_eq!(ehlo.mechanisms().collect::<Vec<_>>(), ["LOGIN", "PLAIN", "CRAM-MD5"]);
    assert!(ehlo.keywords().any(|keyword| keyword == Keyword::Size(Some(35_882_577))));
    Box::new(|| {
        let ehlo = Ehlo::new(ReplyRef::parse(black_box(EHLO.as_bytes())).unwrap());
        let (mut mechanisms, mut size, mut utf8) = (0, None, false);
        for keyword in ehlo.keywords() {
            match keyword {
                Keyword::Auth(names) => mechanisms += names.iter().count(),
                Keyword::Size(octets) => size = octets,
                Keyword::SmtpUtf8 => utf8 = true,
                _ => {}
            }
        }
        assert_eq!((mechanisms, size, utf8), (3, Some(35_882_577), true));
    })
}

fn smtp_proto() -> Run {
    Box::new(|| {
        let ehlo = EhloResponse::parse(&mut black_box(EHLO.as_bytes()).iter()).unwrap();
        assert_eq!(ehlo.auth_mechanisms, AUTH_LOGIN | AUTH_PLAIN | AUTH_CRAM_MD5);
        assert_eq!((ehlo.size, ehlo.capabilities & EXT_SMTP_UTF8), (35_882_577, EXT_SMTP_UTF8));
    })
}

fn smtp_codec() -> Run {
    Box::new(|| {
        let (rest, reply) = ehlo_ok_rsp(black_box(EHLO.as_bytes())).unwrap();
        assert!(rest.is_empty());
        assert!(
            matches!(reply, CodecResponse::Ehlo { capabilities, .. } if capabilities.len() == 9)
        );
    })
}

fn lettre() -> Run {
    Box::new(|| {
        let reply: Response = black_box(EHLO).parse().unwrap();
        let info = ServerInfo::from_response(&reply).unwrap();
        assert!(info.supports_feature(Extension::SmtpUtfEight));
        assert!(info.supports_auth_mechanism(Mechanism::Plain));
    })
}
