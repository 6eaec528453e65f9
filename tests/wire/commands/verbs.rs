//! The verbs, and what comes behind them.

use super::*;

#[test]
fn verb() {
    good(&[
        ("XFOO", "XFOO"),
        ("xfoo  some  words ", "xfoo some  words"),
        ("MAILX", "MAILX"),
        ("STARTTLSX", "STARTTLSX"),
        ("A", "A"),
        ("XFOO grüße", "XFOO grüße"),
    ]);
    bad(&[
        (b"", "verb", 0),
        (b" QUIT", "verb", 0),
        (b"\x16\x03\x01", "verb", 0),
        (b"\xff\xff", "verb", 0),
        (b"250 ok", "verb", 0),
        (b"DATA;", "verb", 4),
        (b"DATA\t", "verb", 4),
        (b"MAIL-FOO", "verb", 4),
        (b"GET/ HTTP", "verb", 3),
        (b"X-FOO", "verb", 1),
        (b"QUIT\0", "verb", 4),
        (b"QUIT\r\nQUIT", "verb", 4),
        (b"XFOO \x1b[2J", "text", 5),
        (b"XFOO a\x1b", "end of line", 6),
        (b"XFOO \xff", "UTF-8", 5),
    ]);
}

#[test]
fn verbs_without_arguments() {
    for verb in ["STARTTLS", "DATA", "RSET", "QUIT"] {
        let lower = verb.to_lowercase();
        good(&[(verb, verb), (&lower, verb), (&format!("{verb}  "), verb)]);
        let with_argument = format!("{verb} x");
        bad(&[(with_argument.as_bytes(), "end of line", verb.len())]);
    }
}

#[test]
fn ehlo() {
    good(&[
        ("EHLO client.example.org", "EHLO client.example.org"),
        ("ehlo my_laptop ", "EHLO my_laptop"),
        ("EHLO 192.0.2.1", "EHLO 192.0.2.1"),
        ("EHLO [IPv6:::1]", "EHLO [IPv6:::1]"),
        ("EHLO bücher.example", "EHLO bücher.example"),
        ("HELO  x", "HELO x"),
    ]);
    bad(&[
        (b"EHLO", "SP", 4),
        (b"EHLO  ", "SP", 4),
        (b"EHLO a b", "end of line", 6),
        (b"EHLO a\tb", "end of line", 6),
        (b"HELO \x7f", "ehlo-name", 5),
        (b"EHLO a\xc2\x80", "UTF-8", 6),
        (b"EHLO \xc3\xbca\xc2\x9f", "UTF-8", 8),
        (b"EHLO a\xed\xa0\x80", "UTF-8", 6),
        (b"EHLO a\xc3", "UTF-8", 6),
    ]);
}

#[test]
fn the_first_character_behind_c1_is_taken() {
    good(&[("EHLO a\u{a0}", "EHLO a\u{a0}")]);
}

#[test]
fn auth() {
    good(&[
        ("AUTH PLAIN AGEAYg==", "AUTH PLAIN AGEAYg=="),
        ("auth plain  AGEAYg== ", "AUTH plain AGEAYg=="),
        ("AUTH  SCRAM-SHA-256-PLUS", "AUTH SCRAM-SHA-256-PLUS"),
        ("AUTH X_2 not*base64", "AUTH X_2 not*base64"),
        ("AUTH X_2 not*base64", "AUTH X_2 not*base64"),
        ("AUTH AAAAAAAAAAAAAAAAAAAA", "AUTH AAAAAAAAAAAAAAAAAAAA"),
    ]);
    bad(&[
        (b"AUTH", "SP", 4),
        (b"AUTH *", "sasl-mech", 5),
        (b"AUTH AAAAAAAAAAAAAAAAAAAAA", "sasl-mech", 5),
        (b"AUTH PLAIN+", "end of line", 10),
        (b"AUTH PLAIN a b", "end of line", 12),
        (b"AUTH PLAIN \x01", "initial-response", 11),
        ("AUTH PLAIN \u{fc}".as_bytes(), "initial-response", 11),
        ("AUTH PLAIN AA\u{fc}A".as_bytes(), "initial-response", 13),
        (b"AUTH PLAIN a\x7f", "end of line", 12),
    ]);
    let initial = |line| match parse(line) {
        Ok(Command::Auth(auth)) => auth.initial_response(),
        other => panic!("{other:?}"),
    };
    assert_eq!(initial(b"AUTH PLAIN "), None);
    assert_eq!(initial(b"AUTH PLAIN ="), Some("="));
}

#[test]
fn auth_hides_its_arguments() {
    assert_eq!(format!("{:?}", parse(b"AUTH PLAIN c2VjcmV0")), "Ok(Auth(Auth(***)))");
}

#[test]
fn bdat() {
    assert_eq!(parse(b"BDAT 0"), Ok(Command::Bdat { size: 0, last: false }));
    assert_eq!(parse(b"bdat 007 last "), Ok(Command::Bdat { size: 7, last: true }));
    let line = format!("BDAT {}", u64::MAX);
    assert_eq!(parse(line.as_bytes()), Ok(Command::Bdat { size: u64::MAX, last: false }));
    bad(&[
        (b"BDAT", "SP", 4),
        (b"BDAT LAST", "chunk-size", 5),
        (b"BDAT +1", "chunk-size", 5),
        (b"BDAT -1", "chunk-size", 5),
        (b"BDAT 18446744073709551616", "chunk-size", 5),
        (b"BDAT 1x", "end of line", 6),
        (b"BDAT 1 FIRST", "LAST", 7),
        (b"BDAT 1 LAST x", "end of line", 11),
    ]);
}

#[test]
fn text() {
    good(&[
        ("NOOP", "NOOP"),
        ("noop ", "NOOP"),
        ("NOOP  a  b ", "NOOP a  b"),
        ("HELP", "HELP"),
        ("help mail", "HELP mail"),
        ("VRFY Jörg <j@x>", "VRFY Jörg <j@x>"),
        ("EXPN staff", "EXPN staff"),
    ]);
    bad(&[
        (b"VRFY", "SP", 4),
        (b"EXPN ", "SP", 4),
        (b"NOOP \x00", "text", 5),
        (b"HELP a\tb", "end of line", 6),
        (b"VRFY a\xc2\x9b2J", "UTF-8", 6),
        (b"VRFY \x7f", "text", 5),
    ]);
}

#[test]
fn constructors_refuse_what_would_read_back_as_something_else() {
    fails(EhloName::new(""), "ehlo-name", 0);
    fails(EhloName::new("a b"), "end of line", 1);
    fails(EhloName::new("a\r\nQUIT"), "end of line", 1);
    fails(EhloName::new("a\u{85}"), "UTF-8", 1);
    fails(Text::new(""), "text", 0);
    fails(Text::new(" a"), "text", 0);
    fails(Text::new("a "), "end of line", 1);
    fails(Text::new("a\r\nQUIT"), "end of line", 1);
    fails(Unknown::new("", None), "verb", 0);
    fails(Unknown::new("quit", None), "verb", 0);
    fails(Unknown::new("noop", None), "verb", 0);
    fails(Unknown::new("MAIL", None), "SP", 4);
    fails(Unknown::new("XFOO bar", None), "verb", 0);
    fails(Unknown::new("XFOO ", None), "text", 5);
    fails(Unknown::new("XFOO\r\n", None), "verb", 4);
    fails(Unknown::new("XFOO", Some("")), "text", 0);
    fails(Unknown::new("XFOO", Some("a\r\nQUIT")), "end of line", 1);
    fails(Auth::new("", None), "sasl-mech", 0);
    fails(Auth::new("PLAIN x", None), "end of line", 5);
    fails(Auth::new("PLAIN", Some("")), "initial-response", 0);
    fails(Auth::new("PLAIN", Some("a b")), "end of line", 1);
    fails(Auth::new("PLAIN", Some("a\r\nb")), "end of line", 1);
}

#[test]
fn errors_say_where() {
    let error = parse(b"MAIL FROM:<ann@-example>").unwrap_err();
    assert_eq!(error.to_string(), "syntax error in sub-domain at octet 15");
}
