//! What `cargo test` leaves out; with `-- --include-ignored` it does not.

use std::{env, process::Command, sync::Mutex};

fn cargo(arguments: &[&str]) {
    // One after the other: some look at the time.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "-p", "smtp-auth"]).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo tells a test of its package: what reads that would be built anew.
    for (name, _) in env::vars_os() {
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        if told.iter().any(|told| name.to_string_lossy().starts_with(told)) {
            cargo.env_remove(name);
        }
    }
    assert!(cargo.env("EXPLORE_DEPTH", "all").status().unwrap().success());
}

#[test]
#[ignore = "minutes, and peers: cargo test --test programs"]
fn programs() {
    cargo(&["--test", "programs"]);
}

#[test]
#[ignore = "minutes: EXPLORE_DEPTH=all cargo test --profile bench --test exploration"]
fn every_state() {
    cargo(&["--profile", "bench", "--test", "exploration"]);
}

#[test]
#[ignore = "another build: cargo test --all-features --test mechanisms serde"]
fn serde() {
    cargo(&["--all-features", "--test", "mechanisms", "serde"]);
}

#[test]
#[ignore = "another build: cargo test --all-features --test dovecot"]
fn dovecot() {
    cargo(&["--all-features", "--test", "dovecot", "--test", "zeroed", "--test", "memory"]);
}
