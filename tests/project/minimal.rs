//! The minimal programs: as short as promised, and as the README shows them.

const PROGRAMS: [(&str, &str, usize); 2] = [
    ("minimal_server", include_str!("../../examples/minimal_server.rs"), 25),
    ("minimal_client", include_str!("../../examples/minimal_client.rs"), 12),
];

/// Without the first lines, which say how to run it.
fn code(program: &str) -> &str {
    program.split_once("\n\n").unwrap().1
}

#[test]
fn they_are_short() {
    for (name, program, most) in PROGRAMS {
        let (_, after_imports) = code(program).split_once("\n};\n").unwrap();
        let lines = after_imports.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= most, "{name}: {lines}");
    }
}

#[test]
fn they_stand_in_the_readme() {
    let readme = include_str!("../../README.md");
    for (name, program, _) in PROGRAMS {
        assert!(readme.contains(&format!("```rust,ignore\n{}```\n", code(program))), "{name}");
    }
}
