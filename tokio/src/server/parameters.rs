//! Checks the parameters of MAIL and RCPT against the extensions that the server offers.

use smtp_auth::{
    Reply,
    command::{Mail, Mailbox, Parameters, Rcpt},
    ehlo::Keyword,
};

const NEEDS_SMTPUTF8: Reply =
    Reply::constant("553 5.6.7 An address that is not ASCII needs SMTPUTF8");

/// The extensions with known parameters: the name of each, its parameters of MAIL, and its parameters of RCPT.
const OF_EXTENSIONS: &[(&str, &[&str], &[&str])] = &[
    ("8BITMIME", &["BODY"], &[]),
    ("BINARYMIME", &["BODY"], &[]),
    ("SMTPUTF8", &["SMTPUTF8"], &[]),
    ("DSN", &["RET", "ENVID"], &["NOTIFY", "ORCPT"]),
    ("DELIVERBY", &["BY"], &[]),
    ("FUTURERELEASE", &["HOLDFOR", "HOLDUNTIL"], &[]),
    ("REQUIRETLS", &["REQUIRETLS"], &[]),
    ("MT-PRIORITY", &["MT-PRIORITY"], &[]),
    ("RRVS", &[], &["RRVS"]),
];

/// Checks that all parameters of MAIL belong to extensions that are offered. The session has already checked SIZE,
/// AUTH, the values of BODY, and that no parameter is repeated.
///
/// # Errors
/// Returns the reply that refuses the command.
pub(super) fn check_mail(mail: &Mail<'_>, offered: &[Keyword<'_>]) -> Result<(), Reply> {
    let known = |name: &str| {
        is(name, "SIZE") || is(name, "AUTH") || offers(offered, name, |(_, of_mail, _)| of_mail)
    };
    check(mail.parameters(), known)?;
    match mail.parameters().get("SMTPUTF8") {
        Some(declared) if declared.value().is_some() => Err(Reply::SYNTAX),
        Some(_) => Ok(()),
        None if mail.from().as_ref().is_none_or(Mailbox::is_ascii) => Ok(()),
        None => Err(NEEDS_SMTPUTF8),
    }
}

/// Checks that all parameters of RCPT belong to extensions that are offered. `smtputf8` is whether the client has
/// declared SMTPUTF8 for the transaction.
///
/// # Errors
/// Returns the reply that refuses the command.
pub(super) fn check_rcpt(
    rcpt: &Rcpt<'_>,
    offered: &[Keyword<'_>],
    smtputf8: bool,
) -> Result<(), Reply> {
    check(rcpt.parameters(), |name| offers(offered, name, |(_, _, of_rcpt)| of_rcpt))?;
    if smtputf8 || rcpt.to().is_ascii() { Ok(()) } else { Err(NEEDS_SMTPUTF8) }
}

fn check(parameters: Parameters<'_>, known: impl Fn(&str) -> bool) -> Result<(), Reply> {
    match parameters.iter().all(|parameter| known(parameter.name())) {
        true => Ok(()),
        false => Err(Reply::PARAMETER_NOT_RECOGNIZED),
    }
}

type Extension = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Returns whether an extension with this parameter is offered. An extension that is not in the table is assumed to
/// have one parameter with the same name.
fn offers(
    offered: &[Keyword<'_>],
    parameter: &str,
    of: impl Fn(&Extension) -> &'static [&'static str],
) -> bool {
    let brings = |extension: &&Extension| of(extension).iter().any(|own| is(own, parameter));
    let listed = |name: &str| offered.iter().any(|keyword| is(keyword.name(), name));
    let is_foreign = OF_EXTENSIONS.iter().all(|(name, ..)| !is(name, parameter));
    OF_EXTENSIONS.iter().filter(brings).any(|(name, ..)| listed(name))
        || is_foreign && listed(parameter)
}

fn is(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use smtp_auth::command::{Command, parse};

    use super::*;

    fn code(line: &str, offered: &[Keyword<'_>], smtputf8: bool) -> u16 {
        let judged = match parse(line.as_bytes()).unwrap() {
            Command::Mail(mail) => check_mail(&mail, offered),
            Command::Rcpt(rcpt) => check_rcpt(&rcpt, offered, smtputf8),
            other => panic!("{other:?}"),
        };
        judged.map_or_else(|refusal| refusal.code(), |()| 250)
    }

    #[test]
    fn parameters_belong_to_what_is_offered() {
        let none = &[];
        let dsn = &[Keyword::Dsn, Keyword::EightBitMime];
        let utf8 = &[Keyword::SmtpUtf8, Keyword::other("requiretls", "").unwrap()];
        let own = &[Keyword::other("X-OWN", "").unwrap()];
        for (line, offered, smtputf8, expected) in [
            ("MAIL FROM:<a@b.c> size=1 auth=<>", &none[..], false, 250),
            ("MAIL FROM:<a@b.c> BODY=8BITMIME", none, false, 555),
            ("MAIL FROM:<a@b.c> BODY=8BITMIME ret=HDRS ENVID=1", dsn, false, 250),
            ("MAIL FROM:<a@b.c> NOTIFY=NEVER", dsn, false, 555),
            ("MAIL FROM:<a@b.c> REQUIRETLS", dsn, false, 555),
            ("MAIL FROM:<a@b.c> REQUIRETLS", utf8, false, 250),
            ("MAIL FROM:<a@b.c> DSN", dsn, false, 555),
            ("MAIL FROM:<\u{e9}@b.c>", utf8, false, 553),
            ("MAIL FROM:<\u{e9}@b.c> SMTPUTF8", utf8, false, 250),
            ("MAIL FROM:<\u{e9}@b.c> SMTPUTF8=1", utf8, false, 501),
            ("MAIL FROM:<>", none, false, 250),
            ("MAIL FROM:<> X-OWN=1", none, false, 555),
            ("MAIL FROM:<> X-OWN=1", own, false, 250),
            ("RCPT TO:<a@b.c> NOTIFY=NEVER", none, false, 555),
            ("RCPT TO:<a@b.c> notify=NEVER ORCPT=rfc822;a", dsn, false, 250),
            ("RCPT TO:<a@b.c> RET=HDRS", dsn, false, 555),
            ("RCPT TO:<\u{e9}@b.c>", utf8, false, 553),
            ("RCPT TO:<\u{e9}@b.c>", utf8, true, 250),
        ] {
            assert_eq!(code(line, offered, smtputf8), expected, "{line}");
        }
    }
}
