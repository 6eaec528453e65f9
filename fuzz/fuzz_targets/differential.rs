//! The grammar of the commands against that of the crate `smtp-proto`: both take a line and read the
//! same in it, or the difference is of a known kind. [`KNOWN`] lists these.
#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use smtp_auth::command::{self, Command, Mail, Mailbox, Parameters};
use smtp_proto::{self as proto, Error, MailFrom, Request};

type Theirs<'a> = Result<Request<Cow<'a, str>>, Error>;
type Ours<'a> = Result<Command<'a>, command::Error>;

/// A line, and what each makes of it.
struct Case<'a> {
    line: &'a [u8],
    ours: Ours<'a>,
    theirs: Theirs<'a>,
}

/// How the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// Only smtp-proto refuses.
    OnlyOurs,
    /// Only smtp-auth refuses.
    OnlyTheirs,
    /// This field is another.
    Field(&'static str),
}

use Difference::{Field, OnlyOurs, OnlyTheirs};

/// A kind of difference that is known, and why it may be.
struct Known {
    reason: &'static str,
    applies: fn(&Case<'_>, Difference) -> bool,
}

const KNOWN: &[Known] = &[
    // What smtp-proto takes beyond the grammar.
    Known {
        reason: "smtp-proto takes text that is not UTF-8, or holds C1 controls, separators of lines or controls \
                 of direction",
        applies: |case, difference| {
            difference == OnlyTheirs && case.rule("UTF-8") || case.is_no_text()
        },
    },
    Known {
        reason: "smtp-proto takes tabs, NUL and other controls as spaces or as text",
        applies: |case, _| case.line.iter().any(u8::is_ascii_control),
    },
    Known {
        reason: "smtp-proto skips spaces before the verb",
        applies: |case, difference| difference == OnlyTheirs && case.line.starts_with(b" "),
    },
    Known {
        reason: "smtp-proto ignores what follows a complete command",
        applies: |case, difference| difference == OnlyTheirs && case.rule("end of line"),
    },
    Known {
        reason: "smtp-proto takes spaces around the colon of FROM and TO",
        applies: |case, difference| {
            difference == OnlyTheirs && (case.rule("FROM:") || case.rule("TO:"))
        },
    },
    Known {
        reason: "smtp-proto has no grammar of domains, atoms, quoted strings and source routes; it \
                 takes spaces in a path, and an empty one for a recipient",
        applies: |case, difference| {
            let rules = [
                "atom",
                "sub-domain",
                "quoted-string",
                "quoted-pair",
                "address-literal",
                "@",
                ":",
                "<",
                ">",
                "<>",
                "Postmaster",
            ];
            difference == OnlyTheirs && case.has_path() && rules.iter().any(|rule| case.rule(rule))
        },
    },
    Known {
        reason: "smtp-proto takes any octet in the value of a parameter that is text to it, and ends \
                 a keyword at any octet that is none of a keyword's",
        applies: |case, difference| {
            let rules = ["esmtp-value", "esmtp-keyword"];
            difference == OnlyTheirs && case.has_path() && rules.iter().any(|rule| case.rule(rule))
        },
    },
    Known {
        reason: "smtp-proto takes any name of a mechanism as one that it does not know",
        applies: |case, difference| difference == OnlyTheirs && case.rule("sasl-mech"),
    },
    Known {
        reason: "smtp-proto takes an initial response that is not ASCII, which no base64 is",
        applies: |case, difference| difference == OnlyTheirs && case.rule("initial-response"),
    },
    Known {
        reason: "smtp-proto knows the 17th letter of a mechanism in upper case alone",
        applies: |case, difference| {
            let lower = |auth: &command::Auth<'_>| {
                auth.mechanism().as_bytes().get(16).is_some_and(u8::is_ascii_lowercase)
            };
            difference == Field("mechanism")
                && matches!(&case.ours, Ok(Command::Auth(auth)) if lower(auth))
        },
    },
    Known {
        reason: "smtp-proto takes LAST with more behind it, and any word without letters in its \
                 place; its sizes wrap around",
        applies: |case, difference| {
            let rule = case.rule("LAST") || case.rule("chunk-size");
            difference == OnlyTheirs && case.is(b"BDAT") && rule
        },
    },
    // What smtp-proto refuses, though the grammar has it.
    Known {
        reason: "smtp-proto takes one space where clients are seen to send more",
        applies: |case, difference| {
            let doubled = case.line.windows(2).any(|octets| octets == b"  ");
            (difference == OnlyOurs || difference == Field("text")) && doubled
        },
    },
    Known {
        reason: "smtp-proto has limits of its own: 255 octets for a host, 256 for an address",
        applies: |case, difference| difference == OnlyOurs && case.line.len() > 255,
    },
    Known {
        reason: "smtp-proto has no address literals",
        applies: |case, difference| {
            let literal = |mailbox: Mailbox<'_>| {
                mailbox.domain().is_some_and(|domain| domain.starts_with('['))
            };
            difference == OnlyOurs && case.mailbox().is_some_and(literal)
        },
    },
    Known {
        reason: "smtp-proto wants angle brackets around an address, where devices are seen to send none",
        applies: |case, difference| {
            let path = case.line.splitn(2, |octet| *octet == b':').nth(1).unwrap_or_default();
            let bare = !path.trim_ascii_start().starts_with(b"<");
            difference == OnlyOurs && case.mailbox().is_some() && bare
        },
    },
    Known {
        reason: "smtp-proto strips the quotes of a local part, and takes the empty one for none; a \
                 backslash before its end confuses it",
        applies: |case, difference| {
            let quoted = |mailbox: Mailbox<'_>| mailbox.local_part().starts_with('"');
            let fits = difference == OnlyOurs || difference == Field("mailbox");
            fits && case.mailbox().is_some_and(quoted)
        },
    },
    Known {
        reason: "smtp-proto reads Postmaster as an empty path",
        applies: |case, difference| {
            let bare = |mailbox: Mailbox<'_>| mailbox.domain().is_none();
            difference == Field("mailbox") && case.mailbox().is_some_and(bare)
        },
    },
    Known {
        reason: "smtp-proto looks into the values of the parameters that it knows, and refuses others; \
                 here that is the host's, but for AUTH and SIZE, which a session refuses too where \
                 they are malformed",
        applies: |case, difference| {
            difference == OnlyOurs
                && match &case.theirs {
                    Err(Error::UnsupportedParameter { .. }) => {
                        !case.parameters().as_str().is_empty()
                    }
                    Err(Error::InvalidParameter { param: "SIZE" }) => case.has_bad_size(),
                    Err(Error::InvalidParameter { param: "AUTH" }) => !case.has_one_good_auth(),
                    Err(Error::InvalidParameter { param: "BODY" }) => {
                        case.body().is_none() || case.is_repeated("BODY")
                    }
                    Err(Error::InvalidParameter { param }) => {
                        case.parameters().get(param).is_some()
                    }
                    // A keyword that begins with what is none of a keyword's.
                    _ => false,
                }
        },
    },
    Known {
        reason: "smtp-proto has SIZE and BDAT in 64 bits, less one, and begins anew above, even \
                 behind a space",
        applies: |case, difference| {
            let large = |digits: &str| digits.parse::<u64>().is_ok_and(|size| size == u64::MAX);
            let chunk = matches!(case.ours, Ok(Command::Bdat { size: u64::MAX, .. }));
            difference == OnlyOurs && (chunk || case.size().is_some_and(large))
                || difference == Field("SIZE")
                    && case
                        .size()
                        .is_some_and(|digits| large(digits) || digits.parse::<u64>().is_err())
        },
    },
    Known {
        reason: "smtp-proto takes the last of a parameter that is given twice",
        applies: |case, difference| match difference {
            Field(name) => case.is_repeated(name),
            _ => false,
        },
    },
    Known {
        reason: "smtp-proto takes any text for xtext, and its octets for Latin-1; a session refuses \
                 it where it is no mailbox",
        applies: |case, difference| {
            let latin = |mail: &Mail<'_>| match mail.auth() {
                Ok(auth) => auth.is_some_and(|auth| !auth.mailbox().unwrap_or_default().is_ascii()),
                Err(_) => true,
            };
            difference == Field("AUTH") && case.mail().is_some_and(|mail| latin(&mail))
        },
    },
    Known {
        reason: "smtp-proto goes on in the next parameter where a + of xtext has no two digits",
        applies: |case, difference| difference != OnlyTheirs && case.has_bad_xtext(),
    },
    Known {
        reason: "smtp-proto takes the first word of a text alone, without its quotes",
        applies: |case, difference| {
            let joined = |text: command::Text<'_>| text.as_str().contains([' ', '"']);
            let text = match case.ours {
                Ok(Command::Noop(text) | Command::Help(text)) => text,
                Ok(Command::Vrfy(text) | Command::Expn(text)) => Some(text),
                _ => None,
            };
            (difference == Field("text") || difference == OnlyOurs) && text.is_some_and(joined)
        },
    },
];

impl<'a> Case<'a> {
    fn rule(&self, rule: &str) -> bool {
        self.ours.as_ref().is_err_and(|error| error.rule() == rule)
    }

    fn is(&self, verb: &[u8]) -> bool {
        self.line.get(..verb.len()).is_some_and(|own| own.eq_ignore_ascii_case(verb))
    }

    fn has_path(&self) -> bool {
        self.is(b"MAIL") || self.is(b"RCPT")
    }

    fn is_no_text(&self) -> bool {
        std::str::from_utf8(self.line).is_err()
    }

    fn mail(&self) -> Option<Mail<'a>> {
        match self.ours {
            Ok(Command::Mail(mail)) => Some(mail),
            _ => None,
        }
    }

    fn mailbox(&self) -> Option<Mailbox<'a>> {
        match self.ours {
            Ok(Command::Mail(mail)) => mail.from(),
            Ok(Command::Rcpt(rcpt)) => Some(rcpt.to()),
            _ => None,
        }
    }

    fn parameters(&self) -> Parameters<'a> {
        match self.ours {
            Ok(Command::Mail(mail)) => mail.parameters(),
            Ok(Command::Rcpt(rcpt)) => rcpt.parameters(),
            _ => Parameters::default(),
        }
    }

    fn size(&self) -> Option<&'a str> {
        self.parameters().get("SIZE")?.value()
    }

    /// Whether a value of SIZE is none, or over the range.
    fn has_bad_size(&self) -> bool {
        let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
        let fits = |text: &str| text.parse().is_ok_and(|size: u64| size < u64::MAX);
        let is_size = |text: &str| digits(text) && fits(text);
        let mut given = self.parameters().iter().filter(|own| is_named(own.name(), "SIZE"));
        given.any(|size| !size.value().is_some_and(is_size))
    }

    fn body(&self) -> Option<u64> {
        body(self.parameters())
    }

    fn has_one_good_auth(&self) -> bool {
        self.mail().is_some_and(|mail| mail.auth().is_ok_and(|auth| auth.is_some()))
    }

    /// Whether a parameter's value is not xtext (RFC 3461 §4), were it one that has to be.
    fn has_bad_xtext(&self) -> bool {
        let good = |part: &str| part.bytes().take_while(u8::is_ascii_hexdigit).count() >= 2;
        self.parameters().iter().any(|own| {
            let value = own.value().unwrap_or_default();
            !value.split('+').skip(1).all(good)
        })
    }

    fn is_repeated(&self, name: &str) -> bool {
        self.parameters().iter().filter(|own| is_named(own.name(), name)).count() > 1
    }

    /// How the two differ, if they do.
    fn difference(&self) -> Option<Difference> {
        match (&self.ours, &self.theirs) {
            (Err(_), Err(_)) => None,
            // A verb that one of them does not know is for the host.
            (Ok(Command::Unknown(_)), Err(Error::UnknownCommand)) => None,
            (Ok(Command::Unknown(unknown)), _) => {
                let more = ["LHLO", "ETRN", "ATRN", "BURL"];
                let known = more.iter().any(|own| is_named(unknown.verb(), own));
                (!known).then_some(Field("verb"))
            }
            (Ok(_), Err(_)) => Some(OnlyOurs),
            (Err(_), Ok(_)) => Some(OnlyTheirs),
            (Ok(ours), Ok(theirs)) => field(ours, theirs).map(Field),
        }
    }
}

fn is_named(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

/// The first field that is another, if one is.
fn field(ours: &Command<'_>, theirs: &Request<Cow<'_, str>>) -> Option<&'static str> {
    let differs = |same: bool, field| (!same).then_some(field);
    match (ours, theirs) {
        (Command::Ehlo(name), Request::Ehlo { host })
        | (Command::Helo(name), Request::Helo { host }) => differs(name.as_str() == host, "text"),
        (Command::Auth(auth), Request::Auth { mechanism, initial_response }) => {
            let same = flag_of(auth.mechanism()) == *mechanism;
            let response = auth.initial_response().unwrap_or_default() == initial_response;
            differs(same, "mechanism").or_else(|| differs(response, "initial response"))
        }
        (Command::Mail(mail), Request::Mail { from }) => mail_field(mail, from),
        (Command::Rcpt(rcpt), Request::Rcpt { to }) => {
            differs(rcpt.to().as_str() == to.address, "mailbox")
        }
        (Command::Bdat { size, last }, Request::Bdat { chunk_size, is_last }) => {
            differs((*size, last) == (*chunk_size as u64, is_last), "chunk")
        }
        (Command::Noop(text), Request::Noop { value })
        | (Command::Help(text), Request::Help { value }) => {
            differs(text.map_or("", |text| text.as_str()) == value, "text")
        }
        (Command::Vrfy(text), Request::Vrfy { value })
        | (Command::Expn(text), Request::Expn { value }) => differs(text.as_str() == value, "text"),
        (Command::Data, Request::Data)
        | (Command::Rset, Request::Rset)
        | (Command::Quit, Request::Quit)
        | (Command::StartTls, Request::StartTls) => None,
        _ => Some("verb"),
    }
}

fn mail_field(ours: &Mail<'_>, theirs: &MailFrom<Cow<'_, str>>) -> Option<&'static str> {
    let given = ours.parameters();
    let mailbox = ours.from().map_or("", |from| from.as_str());
    let size = given.get("SIZE").and_then(|size| size.value());
    let size = size.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let flags = proto::MAIL_BODY_7BIT | proto::MAIL_BODY_8BITMIME | proto::MAIL_BODY_BINARYMIME;
    let utf8 = theirs.flags & proto::MAIL_SMTPUTF8 != 0;
    let auth = ours.auth().ok().flatten();
    let auth = auth.as_ref().map(|auth| auth.mailbox().unwrap_or("<>"));
    [
        (mailbox == theirs.address, "mailbox"),
        (size == theirs.size as u64, "SIZE"),
        (body(given).unwrap_or(0) == theirs.flags & flags, "BODY"),
        (given.get("SMTPUTF8").is_some() == utf8, "SMTPUTF8"),
        (auth == theirs.auth.as_deref(), "AUTH"),
    ]
    .into_iter()
    .find_map(|(same, field)| (!same).then_some(field))
}

fn body(given: Parameters<'_>) -> Option<u64> {
    match given.get("BODY")?.value()?.to_ascii_uppercase().as_str() {
        "7BIT" => Some(proto::MAIL_BODY_7BIT),
        "8BITMIME" => Some(proto::MAIL_BODY_8BITMIME),
        "BINARYMIME" => Some(proto::MAIL_BODY_BINARYMIME),
        _ => None,
    }
}

/// What smtp-proto has for a mechanism; for those that only it knows this says nothing.
fn flag_of(name: &str) -> u64 {
    let known = [
        ("SCRAM-SHA-256-PLUS", proto::AUTH_SCRAM_SHA_256_PLUS),
        ("SCRAM-SHA-256", proto::AUTH_SCRAM_SHA_256),
        ("SCRAM-SHA-1-PLUS", proto::AUTH_SCRAM_SHA_1_PLUS),
        ("SCRAM-SHA-1", proto::AUTH_SCRAM_SHA_1),
        ("OAUTHBEARER", proto::AUTH_OAUTHBEARER),
        ("XOAUTH", proto::AUTH_XOAUTH),
        ("XOAUTH2", proto::AUTH_XOAUTH2),
        ("EXTERNAL", proto::AUTH_EXTERNAL),
        ("CRAM-MD5", proto::AUTH_CRAM_MD5),
        ("DIGEST-MD5", proto::AUTH_DIGEST_MD5),
        ("LOGIN", proto::AUTH_LOGIN),
        ("PLAIN", proto::AUTH_PLAIN),
        ("ANONYMOUS", proto::AUTH_ANONYMOUS),
        ("GSSAPI", proto::AUTH_GSSAPI),
        ("NTLM", proto::AUTH_NTLM),
        ("OTP", proto::AUTH_OTP),
        ("SKEY", proto::AUTH_SKEY),
        ("SPNEGO", proto::AUTH_SPNEGO),
        ("SAML20", proto::AUTH_SAML20),
        ("OPENID20", proto::AUTH_OPENID20),
        ("SECURID", proto::AUTH_SECURID),
    ];
    known.iter().find(|(own, _)| is_named(own, name)).map_or(0, |(_, flag)| *flag)
}

fuzz_target!(|line: &[u8]| {
    // Lines end at CRLF, and hold neither of them elsewhere.
    if line.contains(&b'\r') || line.contains(&b'\n') {
        return;
    }
    let octets = [line, b"\r\n"].concat();
    let case =
        Case { line, ours: command::parse(line), theirs: Request::parse(&mut octets.iter()) };
    let Some(difference) = case.difference() else { return };
    let known = KNOWN.iter().find(|known| (known.applies)(&case, difference));
    if std::env::var_os("SHOW_REASON").is_some() {
        let text = String::from_utf8_lossy(line);
        eprintln!("{text}: {difference:?}, {}", known.map_or("a finding", |known| known.reason));
    }
    assert!(
        known.is_some(),
        "{difference:?} in {:?}: {:?}, smtp-proto {:?}",
        String::from_utf8_lossy(line),
        case.ours,
        case.theirs,
    );
});
