//! The demo: one screen by default, and every dialogue on request.

use std::{
    fs,
    process::{Command, Output},
};

use smtp_auth::Mechanism;
use tempfile::TempDir;

use crate::setup::{example, said};

const REFUSED: [&str; 6] = [
    "Guest",
    "Wrong password",
    "Wrong access token",
    "No mechanism in common",
    "No TLS",
    "Untrusted certificate",
];

/// Runs the demo. Its messages are in the folder.
fn demo(option: Option<&str>) -> (Output, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Command::new(example("demo"));
    demo.args(option).env("TMPDIR", folder.path());
    (demo.output().unwrap(), folder)
}

#[test]
fn the_demo_fits_on_one_screen() {
    let (output, folder) = demo(None);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.lines().count() <= 60, "{}: {text}", text.lines().count());
    let is_wide = |line: &&str| line.chars().count() > 100;
    assert_eq!(text.lines().find(is_wide), None);
    assert!(!text.contains('\x1b'), "{text:?}");

    // One dialogue, a row for each mechanism, and the refusals.
    assert_eq!(text.matches("C: QUIT").count(), 1, "{text}");
    let rows: Vec<_> = text.lines().filter(|line| line.ends_with(" ms")).collect();
    assert_eq!(rows.len(), Mechanism::COMPILED.len(), "{text}");
    for (mechanism, row) in Mechanism::COMPILED.iter().zip(rows) {
        assert!(row.trim_start().starts_with(&format!("{mechanism} ")), "{row}");
        assert!(row.contains(" 235 2.7.0 "), "{row}");
        // SCRAM and CRAM-MD5 do not send the password.
        let sends = matches!(mechanism, Mechanism::Plain | Mechanism::Login);
        assert_eq!(row.contains("[password]"), sends, "{row}");
        assert_eq!(row.contains("[token]"), mechanism.takes_token(), "{row}");
    }
    let (_, refusals) = text.split_once("What is refused").unwrap();
    for refused in REFUSED {
        assert!(refusals.contains(&format!("\n  {refused}: ")), "{refused}: {text}");
    }

    let directory = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let stored = fs::read_dir(directory.join("maildir/new")).unwrap().count();
    assert_eq!(stored, Mechanism::COMPILED.len() - 1);
}

#[test]
fn the_demo_prints_every_dialogue_on_request() {
    let (output, _folder) = demo(Some("--all"));
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let (dialogues, _) = text.split_once("Mechanism ").unwrap();
    for mechanism in Mechanism::COMPILED {
        let begin = format!("C: AUTH {mechanism}");
        let mut lines = dialogues.lines().map(str::trim_start);
        let begins = |rest: &str| rest.is_empty() || rest.starts_with(' ');
        let begun = lines.any(|line| line.strip_prefix(&begin).is_some_and(begins));
        assert!(begun, "{mechanism}: {text}");
        let end = lines.find(|line| line.starts_with("S: ") && !line.starts_with("S: 334"));
        assert_eq!(end, Some("S: 235 2.7.0 Authentication succeeded"), "{mechanism}: {text}");
        assert!(lines.any(|line| line == "C: QUIT"), "{mechanism}: {text}");
    }
    assert!(!text.contains('\x1b') && !dialogues.contains('…'), "{text:?}");
    assert!(!dialogues.contains(" | "), "{text}");

    let (output, _folder) = demo(Some("--everything"));
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--all"), "{}", said(&output));
}
