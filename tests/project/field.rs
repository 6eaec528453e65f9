//! `tests/field.md`: each place that is said to show something is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The sections, and how many rows each has. The rows of the first have a reply.
const SECTIONS: [(&str, usize); 3] =
    [("Reply codes", 7), ("Quirks and requests", 49), ("Security", 51)];

/// Where headings have an id.
const DOCUMENTS: [&str; 2] = ["DESIGN.md", "SECURITY.md"];

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// The rows of a section, in cells.
fn rows<'a>(text: &'a str, section: &str) -> Vec<Vec<&'a str>> {
    let heading = format!("## {section}");
    text.lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        // The head, and what is below it.
        .skip(2)
        .map(|row| row.split(" | ").collect())
        .collect()
}

/// What stands in backquotes, with nothing but commas between.
fn quoted(cell: &str) -> Option<Vec<&str>> {
    let inside = cell.strip_prefix('`')?.strip_suffix('`')?;
    let places: Vec<&str> = inside.split("`, `").collect();
    let whole = places.iter().all(|place| !place.is_empty() && !place.contains('`'));
    whole.then_some(places)
}

/// What is wrong with that document, a line each.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (section, count) in SECTIONS {
        let rows = rows(text, section);
        if rows.len() != count {
            faults.push(format!("{section}: {} rows", rows.len()));
        }
        for (n, row) in rows.iter().enumerate() {
            let fault = fault_of(row, n + 1, section == SECTIONS[0].0);
            faults.extend(fault.map(|fault| format!("{section}, {}: {fault}", n + 1)));
        }
    }
    faults
}

fn fault_of(row: &[&str], number: usize, has_reply: bool) -> Option<String> {
    let &[first, _, does, shown_by] = row else { return Some("not four cells".into()) };
    if first != number.to_string() {
        return Some(format!("numbered {first}"));
    }
    let Some(places) = quoted(shown_by).filter(|places| places.len() <= 4) else {
        return Some(format!("one to four places are wanted: {shown_by}"));
    };
    let fault = places.iter().find_map(|place| missing(place));
    fault.or_else(|| has_reply.then(|| without_reply(&places, does.trim_matches('`')))?)
}

fn missing(place: &str) -> Option<String> {
    if place.starts_with('[') {
        let headings: Vec<_> = DOCUMENTS.iter().map(|document| read(document).unwrap()).collect();
        let marked = |line: &&str| {
            ["# ", "- **"].iter().any(|mark| line.contains(&format!("{mark}{place} ")))
        };
        let found = headings.iter().flat_map(|text| text.lines()).filter(marked).count();
        return (found != 1).then(|| format!("{found} headings have the id {place}"));
    }
    if place.starts_with("transcripts/") {
        return read(format!("tests/{place}.txt")).is_none().then(|| format!("no file: {place}"));
    }
    let Some((module, name)) = place.rsplit_once("::") else {
        return Some(format!("no kind of place: {place}"));
    };
    let found = sources(module).iter().any(|path| has_test(&read(path).unwrap(), name));
    (!found).then(|| format!("no test: {place}"))
}

/// The file of that module: in `src`, or below `tests`, as its binary is called.
fn sources(module: &str) -> Vec<PathBuf> {
    let files = match module.strip_suffix("::tests") {
        Some(module) => vec![format!("src/{}.rs", module.replace("::", "/"))],
        None => {
            let path = format!("tests/{}", module.replace("::", "/"));
            [".rs", "/mod.rs", "/main.rs"].map(|end| path.clone() + end).into()
        }
    };
    files.into_iter().map(PathBuf::from).filter(|path| read(path).is_some()).collect()
}

/// Whether the text has that function, and `#[test]` in front of it.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let start = format!("fn {name}(");
    lines.iter().enumerate().filter(|(_, line)| line.starts_with(&start)).any(|(n, _)| {
        let before = lines.iter().take(n).rev();
        before.take_while(|line| line.starts_with("#[")).any(|line| *line == "#[test]")
    })
}

/// Each of the dialogues has the reply, and there is one.
fn without_reply(places: &[&str], reply: &str) -> Option<String> {
    let dialogues = places.iter().filter(|place| place.starts_with("transcripts/"));
    if dialogues.clone().next().is_none() {
        return Some("no dialogue".into());
    }
    let says = |place: &str| {
        let text = read(format!("tests/{place}.txt")).unwrap_or_default();
        text.lines().any(|line| line.starts_with(&format!("S: {reply}")))
    };
    let place = dialogues.copied().find(|place| !says(place));
    place.map(|place| format!("{place} has no {reply}"))
}

#[test]
fn each_place_is_there() {
    let text = read("tests/field.md").unwrap();
    let faults = faults(&text);
    assert!(faults.is_empty(), "{faults:#?}");
}

/// What is looked for is found.
#[test]
fn faults_are_seen() {
    let dialogue = "`transcripts/server/cancel/plain`";
    for (places, fault) in [
        (dialogue, None),
        ("`sessions::server::size_is_twenty_digits`", None),
        ("`exploration::server`, `line::tests::memory_stays_bounded`", None),
        ("`reply::received::tests::bounds`", None),
        ("`[D1]`, `[D2]`, `[S1]`", None),
        ("", Some("one to four places are wanted: ")),
        ("by hand", Some("one to four places are wanted: by hand")),
        ("``", Some("one to four places are wanted: ``")),
        ("`a::b`, by hand", Some("one to four places are wanted: `a::b`, by hand")),
        ("`a::b` `c::d`", Some("one to four places are wanted: `a::b` `c::d`")),
        ("`a`, `a`, `a`, `a`, `a`", Some("one to four places are wanted: `a`, `a`, `a`, `a`, `a`")),
        ("`by-hand`", Some("no kind of place: by-hand")),
        ("`transcripts/server/cancel`", Some("no file: transcripts/server/cancel")),
        ("`sessions::server::size_is_twenty`", Some("no test: sessions::server::size_is_twenty")),
        // It is there, and is no test.
        ("`sessions::server::serve_on`", Some("no test: sessions::server::serve_on")),
        ("`line::tests::lines`", Some("no test: line::tests::lines")),
        ("`absent::a`", Some("no test: absent::a")),
        ("`absent::tests::a`", Some("no test: absent::tests::a")),
        ("`[D0]`", Some("0 headings have the id [D0]")),
    ] {
        let found = fault_of(&["1", "a", "b", places], 1, false);
        assert_eq!(found.as_deref(), fault, "{places}");
    }
    let reply = |places, reply| fault_of(&["1", "a", reply, places], 1, true);
    assert_eq!(reply(dialogue, "`501 5.7.0`"), None);
    let lacks = "transcripts/server/cancel/plain has no 501 5.5.2";
    assert_eq!(reply(dialogue, "`501 5.5.2`").as_deref(), Some(lacks));
    assert_eq!(reply("`exploration::server`", "`501 5.7.0`").as_deref(), Some("no dialogue"));
    assert_eq!(fault_of(&["2", "a", "b", dialogue], 1, false).as_deref(), Some("numbered 2"));
    assert_eq!(fault_of(&["1", "a", dialogue], 1, false).as_deref(), Some("not four cells"));
    let none = ["Reply codes: 0 rows", "Quirks and requests: 0 rows", "Security: 0 rows"];
    assert_eq!(faults("# Nothing"), none);
}
