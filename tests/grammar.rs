//! The grammar of the commands: a table for each rule, and that writing and reading agree.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use smtp_auth::command::{
    Auth, Command, EhloName, Error, Mail, MailAuth, Mailbox, Parameters, Rcpt, Text, Verb, parse,
};

fn written(command: &Command<'_>) -> String {
    let mut out = Vec::new();
    command.write(&mut out);
    String::from_utf8(out).unwrap()
}

/// The rows: a line, and what is written for what was read.
#[track_caller]
fn good(rows: &[(&str, &str)]) {
    for (line, expected) in rows {
        let command = parse(line.as_bytes()).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert_eq!(written(&command), format!("{expected}\r\n"), "{line:?}");
    }
}

/// The rows: a line, the rule that fails, its offset.
#[track_caller]
fn bad(rows: &[(&[u8], &str, usize)]) {
    for (line, rule, offset) in rows {
        let name = line.escape_ascii();
        let error = parse(line).expect_err(&format!("{name}"));
        assert_eq!((error.rule(), error.offset()), (*rule, *offset), "{name}");
        assert_eq!(error.in_verb(), *rule == "verb", "{name}");
    }
}

#[track_caller]
fn fails<T: core::fmt::Debug>(result: Result<T, Error>, rule: &str, offset: usize) {
    let error = result.expect_err(rule);
    assert_eq!((error.rule(), error.offset()), (rule, offset));
}

fn mail_of(line: &str) -> Mail<'_> {
    match parse(line.as_bytes()) {
        Ok(Command::Mail(mail)) => mail,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn rcpt_of(line: &str) -> Rcpt<'_> {
    match parse(line.as_bytes()) {
        Ok(Command::Rcpt(rcpt)) => rcpt,
        other => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn verb() {
    good(&[
        ("XFOO", "XFOO"),
        ("xfoo  some  words ", "xfoo"),
        ("MAILX", "MAILX"),
        ("STARTTLSX", "STARTTLSX"),
        ("A", "A"),
        ("XFOO grüße", "XFOO"),
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
fn mail() {
    good(&[
        ("MAIL FROM:<>", "MAIL FROM:<>"),
        ("mail from:<a@b>", "MAIL FROM:<a@b>"),
        ("MAIL  FROM:  <a@b>  ", "MAIL FROM:<a@b>"),
        ("MAIL FROM:<a@b>  SIZE=1 BODY=8BITMIME", "MAIL FROM:<a@b> SIZE=1 BODY=8BITMIME"),
        ("MAIL FROM:<@c,@d.e:a@b> X", "MAIL FROM:<a@b> X"),
        ("MAIL FROM:<postmaster@b>", "MAIL FROM:<postmaster@b>"),
    ]);
    bad(&[
        (b"MAIL", "SP", 4),
        (b"MAIL FROM", "FROM:", 5),
        (b"MAIL FROM :<a@b>", "FROM:", 5),
        (b"MAIL TO:<a@b>", "FROM:", 5),
        (b"MAIL FROM:", "<", 10),
        (b"MAIL FROM:< >", "atom", 11),
        (b"MAIL FROM:<a>", "@", 12),
        (b"MAIL FROM:<Postmaster>", "@", 21),
        (b"MAIL FROM:<a@b", ">", 14),
        (b"MAIL FROM:<a@b>x", "end of line", 15),
        (b"MAIL FROM:<a@\xff>", "UTF-8", 13),
        (b"MAIL FROM:<@\xff:a@b>", "UTF-8", 12),
    ]);
    assert_eq!(mail_of("MAIL FROM:<>").from(), None);
}

#[test]
fn rcpt() {
    good(&[
        ("RCPT TO:<a@b>", "RCPT TO:<a@b>"),
        ("rcpt to: <a@b> NOTIFY=NEVER", "RCPT TO:<a@b> NOTIFY=NEVER"),
        ("RCPT TO:<postMaster>", "RCPT TO:<postMaster>"),
        ("RCPT TO:<Postmaster@b>", "RCPT TO:<Postmaster@b>"),
    ]);
    bad(&[
        (b"RCPT FROM:<a@b>", "TO:", 5),
        (b"RCPT TO:<>", "atom", 9),
        (b"RCPT TO:<root>", "@", 13),
        (b"RCPT TO:<Postmaster", "@", 19),
    ]);
    let to = rcpt_of("RCPT TO:<postMaster>").to();
    assert_eq!((to.local_part(), to.domain()), ("postMaster", None));
    let to = rcpt_of("RCPT TO:<@c:x@y>").to();
    assert_eq!((to.as_str(), to.local_part(), to.domain()), ("x@y", "x", Some("y")));
}

/// Devices send addresses so.
#[test]
fn without_angle_brackets() {
    good(&[
        ("MAIL FROM:alice@example.org", "MAIL FROM:<alice@example.org>"),
        ("mail from: a.b+c=d@b  SIZE=1 ", "MAIL FROM:<a.b+c=d@b> SIZE=1"),
        ("MAIL FROM:postmaster@b", "MAIL FROM:<postmaster@b>"),
        (
            "MAIL FROM:gr\u{fc}\u{df}e@b\u{fc}cher.example",
            "MAIL FROM:<gr\u{fc}\u{df}e@b\u{fc}cher.example>",
        ),
        ("RCPT TO:bob@example.org", "RCPT TO:<bob@example.org>"),
        ("RCPT TO: bob@example.org NOTIFY=NEVER", "RCPT TO:<bob@example.org> NOTIFY=NEVER"),
        ("RCPT TO:postMaster", "RCPT TO:<postMaster>"),
        ("RCPT TO:Postmaster@b X", "RCPT TO:<Postmaster@b> X"),
    ]);
    bad(&[
        (b"MAIL FROM:", "<", 10),
        (b"MAIL FROM: ", "<", 10),
        (b"MAIL FROM:postmaster", "@", 20),
        (b"MAIL FROM:a", "@", 11),
        (b"MAIL FROM:@b", "<", 10),
        (b"MAIL FROM:@c:a@b", "<", 10),
        (b"MAIL FROM:a@", "sub-domain", 12),
        (b"MAIL FROM:a@b.", "sub-domain", 14),
        (b"MAIL FROM:a..b@c", "atom", 12),
        (b"MAIL FROM:a@b>", "end of line", 13),
        (b"MAIL FROM:<a@b", ">", 14),
        (b"MAIL FROM:a@b,c@d", "end of line", 13),
        (b"MAIL FROM:a@b@c", "end of line", 13),
        (b"MAIL FROM:a@[192.0.2.1]", "sub-domain", 12),
        (b"MAIL FROM:\"a\"@b", "<", 10),
        (b"MAIL FROM:Ann <a@b>", "@", 13),
        (b"MAIL FROM:a b@c", "@", 11),
        (b"RCPT TO:", "<", 8),
        (b"RCPT TO:bob", "@", 11),
        (b"RCPT TO:Postmasters", "end of line", 18),
        (b"RCPT TO:Postmaster@", "end of line", 18),
        (b"RCPT TO:bob@example.org,ann@example.org", "end of line", 23),
        (b"RCPT TO:a@b <c@d>", "esmtp-keyword", 12),
    ]);
}

#[test]
fn source_route() {
    good(&[("RCPT TO:<@a.b,@c:d@e>", "RCPT TO:<d@e>")]);
    bad(&[
        (b"RCPT TO:<@>", "sub-domain", 10),
        (b"RCPT TO:<@a,b:c@d>", "@", 12),
        (b"RCPT TO:<@a@b>", ":", 11),
        (b"RCPT TO:<@a:>", "atom", 12),
        (b"RCPT TO:<@[192.0.2.1]:a@b>", "sub-domain", 10),
    ]);
}

#[test]
fn mailbox() {
    for (text, local, domain) in [
        ("a@b", "a", "b"),
        ("a.b+c/d=e@x-y.example", "a.b+c/d=e", "x-y.example"),
        ("!#$%&'*+-/=?^_`{|}~@1", "!#$%&'*+-/=?^_`{|}~", "1"),
        (r#""a b"@c"#, r#""a b""#, "c"),
        (r#"""@c"#, r#""""#, "c"),
        (r#""a@b\"\\ "@c"#, r#""a@b\"\\ ""#, "c"),
        ("grüße@bücher.example", "grüße", "bücher.example"),
        (r#""ü"@c"#, r#""ü""#, "c"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ("a@[IPv6:2001:db8::1]", "a", "[IPv6:2001:db8::1]"),
        ("a@[ipv6:::]", "a", "[ipv6:::]"),
        ("a@[x-400:p@q]", "a", "[x-400:p@q]"),
    ] {
        let mailbox = Mailbox::parse(text).expect(text);
        assert_eq!((mailbox.local_part(), mailbox.domain()), (local, Some(domain)), "{text}");
        assert_eq!((mailbox.as_str(), mailbox.to_string().as_str()), (text, text));
        assert_eq!(mailbox.is_ascii(), text.is_ascii());
        let line = format!("RCPT TO:<{text}>");
        assert_eq!(rcpt_of(&line).to(), mailbox);
    }
    for (text, rule, offset) in [
        ("", "atom", 0),
        ("Postmaster", "@", 10),
        ("<a@b>", "atom", 0),
        ("a@b ", "end of line", 3),
        (" a@b", "atom", 0),
        (".a@b", "atom", 0),
        ("a..b@c", "atom", 2),
        ("a.@c", "atom", 2),
        ("a b@c", "@", 1),
        ("@a:b@c", "atom", 0),
        (r#""a"#, "quoted-string", 2),
        (r#""a"b@c"#, "@", 3),
        ("\"a\\\u{7f}\"@c", "quoted-pair", 3),
        (r#""a\ü"@c"#, "quoted-pair", 3),
        ("\"a\r\n\"@c", "quoted-string", 2),
        ("a@", "sub-domain", 2),
        ("a@b..c", "sub-domain", 4),
        ("a@b.", "sub-domain", 4),
        ("a@-b", "sub-domain", 2),
        ("a@b-", "sub-domain", 2),
        ("a@b_c", "end of line", 3),
        ("a@[192.0.2.256]", "address-literal", 3),
        ("a@[192.0.2]", "address-literal", 3),
        ("a@[IPv6:1::2::3]", "address-literal", 3),
        ("a@[]", "address-literal", 3),
        ("a@[x:]", "address-literal", 3),
        ("a@[x-:y]", "address-literal", 3),
        ("a@[:y]", "address-literal", 3),
        ("a@[x_y:z]", "address-literal", 3),
        ("a@[192.0.2.1", "]", 12),
        ("a\u{85}@b", "UTF-8", 1),
    ] {
        let error = Mailbox::parse(text).expect_err(text);
        assert_eq!((error.rule(), error.offset()), (rule, offset), "{text}");
    }
}

#[test]
fn postmaster_receives_and_does_not_send() {
    let rcpt = Rcpt::new(Mailbox::POSTMASTER, Parameters::default());
    assert_eq!(written(&Command::Rcpt(rcpt)), "RCPT TO:<Postmaster>\r\n");
    assert_eq!(rcpt_of("RCPT TO:<Postmaster>").to(), Mailbox::POSTMASTER);
    fails(Mail::new(Some(Mailbox::POSTMASTER), Parameters::default()), "@", 10);
}

#[test]
fn parameters() {
    let parameters = Parameters::parse("SIZE=10 8-x  Body=8BITMIME x=ü").unwrap();
    let pairs: Vec<_> = parameters.into_iter().map(|p| (p.name(), p.value())).collect();
    let body = ("Body", Some("8BITMIME"));
    assert_eq!(pairs, [("SIZE", Some("10")), ("8-x", None), body, ("x", Some("ü"))]);
    assert_eq!(parameters.get("BODY").and_then(|p| p.value()), Some("8BITMIME"));
    assert_eq!(parameters.get("AUTH"), None);
    assert_eq!(Parameters::parse(""), Ok(Parameters::default()));
    assert_eq!(Parameters::default().iter().count(), 0);
    for (text, rule, offset) in [
        (" A", "esmtp-keyword", 0),
        ("A ", "esmtp-keyword", 2),
        ("=1", "esmtp-keyword", 0),
        ("-A", "esmtp-keyword", 0),
        ("A=", "esmtp-value", 2),
        ("A=1=2", "end of line", 3),
        ("A_B", "end of line", 1),
        ("A=1 B=", "esmtp-value", 6),
        ("A=1 ?", "esmtp-keyword", 4),
        ("A=\r\n", "esmtp-value", 2),
        ("A=\u{9b}", "UTF-8", 2),
    ] {
        let error = Parameters::parse(text).expect_err(text);
        assert_eq!((error.rule(), error.offset()), (rule, offset), "{text}");
    }
    bad(&[(b"MAIL FROM:<> ?", "esmtp-keyword", 13), (b"RCPT TO:<a@b> A=", "esmtp-value", 16)]);
}

#[test]
fn mail_auth() {
    let auth = |parameters: &str| {
        let line = format!("MAIL FROM:<> {parameters}");
        let auth = mail_of(&line).auth();
        auth.map(|auth| auth.map(|auth| (auth.mailbox().map(String::from), auth.to_string())))
    };
    let some = |mailbox: &str, xtext: &str| Ok(Some((Some(mailbox.into()), xtext.into())));
    assert_eq!(auth("SIZE=1"), Ok(None));
    assert_eq!(auth("AUTH=<>"), Ok(Some((None, "<>".into()))));
    assert_eq!(auth("auth=a@b"), some("a@b", "a@b"));
    assert_eq!(auth("AUTH=e+3Dmc2@example.com"), some("e=mc2@example.com", "e+3Dmc2@example.com"));
    assert_eq!(auth("AUTH=a+2bb+2Bc@d"), some("a+b+c@d", "a+2Bb+2Bc@d"));
    assert_eq!(auth("AUTH=+22a+20b+22@c"), some("\"a b\"@c", "\"a+20b\"@c"));
    assert_eq!(auth("AUTH=+C3+BC@c"), some("ü@c", "+C3+BC@c"));
    for (parameters, rule, offset) in [
        ("AUTH", "atom", 0),
        ("AUTH=a@b AUTH=a@b", "AUTH", 0),
        ("AUTH=<> auth", "AUTH", 0),
        ("AUTH=a+2@b", "hexchar", 3),
        ("AUTH=a+@b", "hexchar", 2),
        ("AUTH=a++2@b", "hexchar", 2),
        ("AUTH=a+", "hexchar", 2),
        ("AUTH=ü@b", "end of line", 0),
        ("AUTH=<a@b>", "atom", 0),
        ("AUTH=+3C+3E", "atom", 0),
        ("AUTH=a", "@", 0),
        ("AUTH=a+0D+0A@b", "@", 0),
        ("AUTH=a+00@b", "@", 0),
        ("AUTH=+FF@b", "UTF-8", 0),
        ("AUTH=+C2+85@b", "UTF-8", 0),
    ] {
        let error = auth(parameters).expect_err(parameters);
        assert_eq!((error.rule(), error.offset()), (rule, offset), "{parameters}");
    }
    bad(&[(b"MAIL FROM:<> AUTH=", "esmtp-value", 18)]);
    assert_eq!(MailAuth::UNKNOWN.to_string(), "<>");
    assert_eq!(MailAuth::new("a+b@c").map(|auth| auth.to_string()), Ok("a+2Bb@c".into()));
    fails(MailAuth::new("<>"), "atom", 0);
    fails(MailAuth::new(String::from("a\r\n@c")), "@", 1);
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
    fails(Verb::new(""), "verb", 0);
    fails(Verb::new("quit"), "verb", 0);
    fails(Verb::new("noop"), "verb", 0);
    fails(Verb::new("MAIL"), "SP", 4);
    fails(Verb::new("XFOO bar"), "verb", 0);
    fails(Verb::new("XFOO "), "text", 5);
    fails(Verb::new("XFOO\r\n"), "verb", 4);
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

const NAME: &str = "[!-~ü€😀]{1,20}";
const TEXT: &str = "[!-~ü€😀]{1,5}( {1,2}[!-~ü]{1,5}){0,3}";
const ATOM: &str = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~ü-]{1,6}";
const LABEL: &str = "[a-z0-9ü]([a-z0-9-]{0,5}[a-z0-9])?";

fn mailbox_text() -> impl Strategy<Value = String> {
    let local = prop_oneof![
        format!("{ATOM}(\\.{ATOM}){{0,2}}").as_str().prop_map_regex(),
        r#""([ !#-\[\]-~ü]|\\[ -~]){0,8}""#.prop_map_regex(),
    ];
    let domain = prop_oneof![
        format!("{LABEL}(\\.{LABEL}){{0,3}}").as_str().prop_map_regex(),
        r"\[x-y:[!-Z^-~]{1,8}\]".prop_map_regex(),
        any::<[u8; 4]>().prop_map(|ip| format!("[{}]", core::net::Ipv4Addr::from(ip))).boxed(),
        any::<[u8; 16]>()
            .prop_map(|ip| format!("[IPv6:{}]", core::net::Ipv6Addr::from(ip)))
            .boxed(),
    ];
    (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"))
}

fn parameters_text() -> impl Strategy<Value = String> {
    let parameter = "[A-Za-z0-9][A-Za-z0-9-]{0,5}(=[!-<>-~ü]{1,6})?";
    format!("({parameter}( {{1,2}}{parameter}){{0,3}})?").as_str().prop_map_regex()
}

trait Regex {
    fn prop_map_regex(&self) -> BoxedStrategy<String>;
}

impl Regex for str {
    fn prop_map_regex(&self) -> BoxedStrategy<String> {
        proptest::string::string_regex(self).unwrap().boxed()
    }
}

#[track_caller]
fn reads_back(command: Command<'_>) {
    let line = written(&command);
    let line = line.strip_suffix("\r\n").unwrap();
    assert!(!line.contains(['\r', '\n']), "{line:?}");
    assert_eq!(parse(line.as_bytes()), Ok(command), "{line:?}");
}

/// All the text that a command lends.
fn texts<'a>(command: &Command<'a>) -> Vec<&'a str> {
    fn parameters(parameters: Parameters<'_>) -> Vec<&str> {
        let parts = parameters.iter().flat_map(|p| [Some(p.name()), p.value()]).flatten();
        parts.chain([parameters.as_str()]).collect()
    }
    fn mailbox(mailbox: Mailbox<'_>) -> [&str; 3] {
        [mailbox.as_str(), mailbox.local_part(), mailbox.domain().unwrap_or_default()]
    }
    match command {
        Command::Ehlo(name) | Command::Helo(name) => vec![name.as_str()],
        Command::Auth(auth) => {
            [Some(auth.mechanism()), auth.initial_response()].into_iter().flatten().collect()
        }
        Command::Mail(mail) => {
            [mail.from().map(mailbox).unwrap_or_default().to_vec(), parameters(mail.parameters())]
                .concat()
        }
        Command::Rcpt(rcpt) => {
            [mailbox(rcpt.to()).to_vec(), parameters(rcpt.parameters())].concat()
        }
        Command::Noop(text) | Command::Help(text) => {
            text.map(|text| text.as_str()).into_iter().collect()
        }
        Command::Vrfy(text) | Command::Expn(text) => vec![text.as_str()],
        Command::Unknown(verb) => vec![verb.as_str()],
        Command::StartTls
        | Command::Data
        | Command::Bdat { .. }
        | Command::Rset
        | Command::Quit => vec![],
    }
}

fn check_any(line: &[u8]) {
    match parse(line) {
        Ok(command) => {
            for text in texts(&command) {
                assert!(!text.contains(char::is_control), "{text:?}");
            }
            if let Command::Mail(mail) = command {
                if let Ok(Some(auth)) = mail.auth() {
                    assert!(!auth.mailbox().unwrap_or_default().contains(char::is_control));
                }
            }
            reads_back(command);
        }
        Err(error) => {
            assert!(error.offset() <= line.len());
            assert!(!error.rule().is_empty());
        }
    }
}

const LINES: &[&str] = &[
    "EHLO client.example.org",
    "HELO [192.0.2.1]",
    "AUTH PLAIN AGFubgBzZWNyZXQ=",
    "STARTTLS",
    "MAIL FROM:<ann@example.org> SIZE=1000 BODY=8BITMIME AUTH=ann+2Bx@example.org",
    "MAIL FROM:<@a,@b:\"a \\\" b\"@[IPv6:2001:db8::1]>",
    "RCPT TO:<grüße@bücher.example> NOTIFY=NEVER",
    "RCPT TO:<Postmaster>",
    "MAIL FROM:ann@example.org SIZE=1000",
    "RCPT TO: postmaster NOTIFY=NEVER",
    "DATA",
    "BDAT 1000 LAST",
    "NOOP a  b",
    "VRFY ann",
    "HELP",
    "QUIT",
    "XFOO bar",
];

proptest! {
    #[test]
    fn names_and_texts_read_back(name in NAME, text in TEXT, verb in "[A-Za-z]{1,10}") {
        let name = EhloName::new(&name).unwrap();
        let text = Text::new(&text).unwrap();
        reads_back(Command::Ehlo(name));
        reads_back(Command::Helo(name));
        for command in [Command::Noop(None), Command::Help(None), Command::StartTls] {
            reads_back(command);
        }
        for command in [Command::Data, Command::Rset, Command::Quit] {
            reads_back(command);
        }
        reads_back(Command::Noop(Some(text)));
        reads_back(Command::Help(Some(text)));
        reads_back(Command::Vrfy(text));
        reads_back(Command::Expn(text));
        if let Ok(verb) = Verb::new(&verb) {
            reads_back(Command::Unknown(verb));
        }
    }

    #[test]
    fn auth_and_bdat_read_back(
        mechanism in "[A-Za-z0-9_-]{1,20}",
        response in proptest::option::of("[!-~]{1,40}"),
        size: u64,
        last: bool,
    ) {
        reads_back(Command::Auth(Auth::new(&mechanism, response.as_deref()).unwrap()));
        reads_back(Command::Bdat { size, last });
    }

    #[test]
    fn mail_and_rcpt_read_back(mailbox in mailbox_text(), parameters in parameters_text()) {
        let mailbox = Mailbox::parse(&mailbox).unwrap();
        let parameters = Parameters::parse(&parameters).unwrap();
        reads_back(Command::Mail(Mail::new(None, parameters).unwrap()));
        reads_back(Command::Mail(Mail::new(Some(mailbox), parameters).unwrap()));
        reads_back(Command::Rcpt(Rcpt::new(mailbox, parameters)));
        reads_back(Command::Rcpt(Rcpt::new(Mailbox::POSTMASTER, parameters)));
    }

    #[test]
    fn mail_auth_reads_back(mailbox in mailbox_text()) {
        let auth = MailAuth::new(mailbox.as_str()).unwrap();
        let line = format!("MAIL FROM:<> AUTH={auth}");
        prop_assert!(line.is_ascii());
        prop_assert_eq!(mail_of(&line).auth(), Ok(Some(auth)));
    }

    /// Whatever a constructor takes, not just what it is meant for, reads back.
    #[test]
    fn constructors_take_nothing_that_reads_as_something_else(text in "\\PC{0,6}|(?s:.{0,6})") {
        if let Ok(name) = EhloName::new(&text) {
            reads_back(Command::Ehlo(name));
        }
        if let Ok(text) = Text::new(&text) {
            reads_back(Command::Vrfy(text));
        }
        if let Ok(verb) = Verb::new(&text) {
            reads_back(Command::Unknown(verb));
        }
        if let Ok(auth) = Auth::new("PLAIN", Some(&text)) {
            reads_back(Command::Auth(auth));
        }
        if let Ok(auth) = Auth::new(&text, None) {
            reads_back(Command::Auth(auth));
        }
        if let Ok(parameters) = Parameters::parse(&text) {
            reads_back(Command::Rcpt(Rcpt::new(Mailbox::POSTMASTER, parameters)));
        }
    }

    #[test]
    fn any_octets(line: Vec<u8>) {
        check_any(&line);
    }

    #[test]
    fn mutated_lines(
        line in proptest::sample::select(LINES),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 0..4),
    ) {
        let mut line = line.as_bytes().to_vec();
        for (position, octet, edit) in edits {
            let position = position.index(line.len() + 1);
            match edit {
                0 => line.insert(position, octet),
                1 => line.truncate(position),
                2 => line.splice(position..position, *b"\xc2\x85").for_each(drop),
                _ if position < line.len() => line[position] = octet,
                _ => line.push(b' '),
            }
        }
        check_any(&line);
    }
}
