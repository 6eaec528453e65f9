//! The state diagrams of DESIGN.md and of the crate's page, drawn from what the sessions do.
//!
//! The worlds of the exploration are walked, with a part of their inputs, until nothing new comes.
//! Each state found is told by what the API shows of it, and each way from one to another is an
//! edge. Where picture and code differ, the test says which edges are new or gone; `STATES=write`
//! has the pictures written anew.

mod client;
mod graph;
mod mermaid;
mod server;
mod svg;
mod walk;

use std::{collections::BTreeSet, fs, path::Path, thread};

use self::{client::Client, graph::Graph, server::Server, walk::walk};

#[test]
fn pictures_show_what_sessions_do() {
    let client = thread::spawn(walk::<Client>);
    let server = Graph::new(&server::FRAME, &walk::<Server>());
    let client = Graph::new(&client::FRAME, &client.join().unwrap());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));

    let design = fs::read_to_string(root.join("DESIGN.md")).unwrap();
    let mut drawn = design.clone();
    for (name, graph) in [("server", &server), ("client", &client)] {
        drawn = with_diagram(&drawn, name, &mermaid::draw(graph));
    }
    compare(&root.join("DESIGN.md"), &design, &drawn);

    let path = root.join("src/states.svg");
    let picture = fs::read_to_string(&path).unwrap_or_default();
    compare(&path, &picture, &svg::draw(&server, &client));
}

/// The text with this diagram between its marks.
fn with_diagram(text: &str, name: &str, diagram: &str) -> String {
    let (begin, end) = (format!("<!-- states:{name} -->\n"), format!("<!-- /states:{name} -->\n"));
    let (before, rest) = text.split_once(&begin).expect("a mark");
    let (_, after) = rest.split_once(&end).expect("an end mark");
    format!("{before}{begin}\n```mermaid\n{diagram}```\n\n{end}{after}")
}

fn compare(path: &Path, found: &str, expected: &str) {
    if found == expected {
        return;
    }
    if std::env::var("STATES").is_ok_and(|what| what == "write") {
        return fs::write(path, expected).unwrap();
    }
    let (old, new): (BTreeSet<_>, BTreeSet<_>) =
        (found.lines().collect(), expected.lines().collect());
    let list = |lines: Vec<&&str>| {
        lines.iter().map(|line| format!("\n  {}", line.trim())).collect::<String>()
    };
    panic!(
        "{} is not what the code does (STATES=write writes it)\nnew:{}\ngone:{}",
        path.display(),
        list(new.difference(&old).collect()),
        list(old.difference(&new).collect()),
    );
}
