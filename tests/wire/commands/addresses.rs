//! MAIL and RCPT: paths, addresses and parameters.

use super::*;

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
    let pairs: Vec<_> = parameters.iter().map(|p| (p.name(), p.value())).collect();
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
