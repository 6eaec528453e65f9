//! The grammar of the commands: a table for each rule, and that writing and reading agree.

mod addresses;
mod read_back;
mod verbs;

use proptest::prelude::*;
use smtp_auth::command::{
    Auth, Command, EhloName, Error, Mail, MailAuth, Mailbox, Parameters, Rcpt, Text, Unknown, parse,
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
