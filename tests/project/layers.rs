//! Data flows one way: the lower layers know nothing of the upper ones.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The module's file, and all under its folder.
fn files(module: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) =
        (vec![src.join(module).with_extension("rs")], vec![src.join(module)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The crate's own modules that a file's code names by `crate::`, in groups of `use` too.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    let first_word = |text: &str| -> String {
        let word = |c: &char| c.is_alphanumeric() || *c == '_';
        text.trim_start().chars().take_while(word).collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let behind = &code[at + "crate::".len()..];
        let Some(group) = behind.strip_prefix('{') else {
            found.insert(first_word(behind));
            continue;
        };
        let mut depth = 1;
        found.insert(first_word(group));
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => {
                    found.insert(first_word(&group[at + 1..]));
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.remove("");
    found
}

#[test]
fn groups_are_read() {
    let text = "use crate::{\n    auth::{a, b}, // crate::no\n    Line, sasl,\n};\nfn f() { crate::reply::g() }";
    let found = imports(text);
    let expected = ["Line", "auth", "reply", "sasl"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[track_caller]
fn only(module: &str, allowed: &[&str]) {
    for file in files(module) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("super::super"), "{} leads out of it", file.display());
        for import in imports(&text) {
            assert!(
                import == module || allowed.contains(&import.as_str()),
                "{} names crate::{import}",
                file.display()
            );
        }
    }
}

#[track_caller]
fn none_of(module: &str, forbidden: &[&str]) {
    for file in files(module) {
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            assert!(
                !forbidden.contains(&import.as_str()),
                "{} names crate::{import}",
                file.display()
            );
        }
    }
}

#[test]
fn sasl_knows_nothing_of_smtp() {
    assert!(files("sasl").len() > 3);
    only("sasl", &["base64", "decimal", "secret", "shown"]);
}

#[test]
fn dovecots_protocol_knows_nothing_of_smtp() {
    assert!(files("dovecot").len() > 3);
    let lower = ["base64", "decimal", "line", "sasl", "secret", "shown", "trace"];
    only("dovecot", &[&["Advance", "Side"], &lower[..]].concat());
}

#[test]
fn lower_layers_know_nothing_of_authentication() {
    for module in ["line", "command", "reply", "message", "ehlo"] {
        none_of(module, &["auth", "sasl", "server", "client", "dovecot"]);
    }
}

#[test]
fn auth_knows_nothing_of_sessions() {
    none_of("auth", &["server", "client", "line", "message", "ehlo"]);
}
