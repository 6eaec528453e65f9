//! This crate beside its peers: time, instructions and allocations for the same work.
//!
//! ```sh
//! cargo run --release              # all works; or name some
//! cargo run --release -- readme    # all, into README.md and peers.svg
//! cargo run --release -- check     # this crate alone, against ceilings, without times
//! cargo run --release -- growth    # how its cost grows with a line's length and pieces
//! ```
//!
//! Instructions are counted by valgrind (callgrind), in cargo's default release profile; the lines
//! of commands with fat LTO too, for which a second program is built. valgrind has no SHA extensions:
//! the hashes go the way without them there, while times are with them.

mod check;
mod growth;
mod inputs;
mod mailin;
mod measure;
mod ours;
mod plot;
mod report;
mod rsasl;
mod works;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use report::Result as Results;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match command(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: &[&str]) -> Result<bool, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    match arguments {
        ["check"] => Ok(check::check(&program)? & growth::check(&program)?),
        ["growth"] => growth::check(&program),
        ["readme"] => readme(&measure_all(&program, &[])?).map(|()| true),
        // What valgrind runs.
        ["run", work, who, side, times] => {
            let row = works::find(work, who).ok_or("no such row")?;
            measure::run(row, side, times.parse().map_err(|_| "not a number")?);
            Ok(true)
        }
        names => measure_all(&program, names).map(|_| true),
    }
}

/// Measures the works of these names, or all, and prints each as it is done.
fn measure_all(program: &Path, names: &[&str]) -> Result<Vec<Results>, String> {
    if let Some(name) = names.iter().find(|name| !works::ALL.iter().any(|work| work.name == **name))
    {
        return Err(format!("no work is named {name}"));
    }
    let chosen = works::ALL.iter().filter(|work| names.is_empty() || names.contains(&work.name));
    let with_lto = |work: &works::Work| work.name.starts_with("commands");
    let lto = chosen.clone().any(with_lto).then(|| build_with_lto(program)).transpose()?;
    println!("{}", report::circumstances());
    let measured = chosen.map(|work| {
        let lto = lto.as_deref().filter(|_| with_lto(work));
        let result = Results::of(work, program, lto)?;
        result.print();
        Ok(result)
    });
    measured.collect()
}

/// The same program with fat LTO, in the directory beside this one's.
fn build_with_lto(program: &Path) -> Result<PathBuf, String> {
    let target = program.parent().and_then(Path::parent).ok_or("the program has no directory")?;
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--profile", "lto", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .status();
    if !status.map_err(|error| format!("cargo: {error}"))?.success() {
        return Err("the program with LTO does not build".into());
    }
    Ok(target.join("lto/peers"))
}

fn readme(results: &[Results]) -> Result<(), String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    plot::draw(results, &here.join("peers.svg")).map_err(|error| error.to_string())?;
    let path = here.join("../../README.md");
    let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let text = report::insert(&text, &report::markdown(results))?;
    fs::write(&path, text).map_err(|error| error.to_string())
}
