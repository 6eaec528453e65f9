//! What `cargo test` leaves out, as it takes minutes; with `-- --include-ignored` it does not.

use std::process::Command;

fn cargo(command: &mut Command) {
    assert!(command.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
}

#[test]
#[ignore = "the example programs, on loopback: cargo test --test programs"]
fn programs() {
    cargo(Command::new(env!("CARGO")).args(["test", "--test", "programs"]));
}

#[test]
#[ignore = "every state: EXPLORE_DEPTH=all cargo test --profile bench --test exploration"]
fn exploration() {
    let arguments = ["test", "--profile", "bench", "--test", "exploration"];
    cargo(Command::new(env!("CARGO")).args(arguments).env("EXPLORE_DEPTH", "all"));
}
